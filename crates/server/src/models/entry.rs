//! One model: whether it is open, and what is known of it when it is not.
use super::{Keep, Resident};
use crate::{
    error::{ApiError, Result},
    host::{Card, Model, ModelSpec, Room, Started},
    metrics::Metrics,
};
use pondera_engine::ErrorKind;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How long an opening that failed is not tried again: others would close for nothing.
const FAILED: Duration = Duration::from_secs(30);

/// A model, open or not.
pub struct Entry {
    pub spec: Arc<ModelSpec>,
    /// It came from the library.
    pub borrowed: bool,
    metrics: Arc<Metrics>,
    known: Mutex<Known>,
    state: Mutex<State>,
}

struct Known {
    /// What it takes when it is open, as far as is known.
    bytes: u64,
    room: Room,
    /// Its own, then those of its adapters.
    cards: Vec<Arc<Card>>,
    failed: Option<(Instant, ApiError)>,
}

/// What comes of an opening, once it is there.
type Opening = watch::Receiver<Option<Result<Started>>>;

enum State {
    Closed,
    Opening(Opening),
    Open(Open),
}

/// An open model.
pub struct Open {
    pub started: Started,
    /// When it was asked for last.
    asked: Instant,
    /// When it was seen in use last.
    used: Instant,
    keep: Option<Keep>,
}

/// How a model was found that is asked for.
pub enum Now {
    Open(Started),
    /// Somebody opens it.
    Opening(Opening),
    /// Whoever asked opens it, and tells.
    Closed(watch::Sender<Option<Result<Started>>>, Opening),
}

impl Open {
    fn new(started: Started) -> Open {
        let now = Instant::now();
        Open { started, asked: now, used: now, keep: None }
    }

    fn touch(&mut self, keep: Option<Keep>) {
        let now = Instant::now();
        (self.asked, self.used, self.keep) = (now, now, keep.or(self.keep));
    }

    /// Whether its time is over, or its thread has ended.
    pub fn is_over(&mut self, otherwise: Keep) -> bool {
        let busy = self.started.busy();
        if busy {
            self.used = Instant::now();
        }
        !self.started.alive()
            || match self.keep.unwrap_or(otherwise) {
                Keep::Forever => false,
                Keep::For(time) => !busy && self.used.elapsed() >= time,
            }
    }
}

impl Entry {
    /// A closed one, which may take `memory` and counts as taking `bytes` until more is known.
    pub fn new(spec: ModelSpec, memory: Option<u64>, bytes: u64, borrowed: bool) -> Entry {
        let room = Room { memory, ..Room::default() };
        Entry {
            spec: Arc::new(spec),
            borrowed,
            metrics: Arc::default(),
            known: Mutex::new(Known { bytes, room, cards: Vec::new(), failed: None }),
            state: Mutex::new(State::Closed),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom clients mean by `name`: 0 for the model, then its adapters. Ollama's clients name a tag even where there is none.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.spec.place(name).or_else(|| self.spec.place(name.strip_suffix(":latest")?))
    }

    pub fn bytes(&self) -> u64 {
        self.known().bytes
    }

    pub fn cards(&self) -> Vec<Arc<Card>> {
        self.known().cards.clone()
    }

    pub fn is_open(&self) -> bool {
        matches!(&*self.state(), State::Open(_))
    }

    /// Who goes first has the least: those in use last, then by when they were asked for.
    pub fn turn(&self) -> (bool, Instant) {
        match &*self.state() {
            State::Open(open) => (open.started.busy(), open.asked),
            _ => (true, Instant::now()),
        }
    }

    /// Opens it within its room, on this thread until it is open.
    pub fn start(&self) -> pondera_engine::Result<Started> {
        let room = self.known().room;
        Model::start(&self.spec, &room, self.metrics.clone())
    }

    /// Whether it did not fit into its part and may have all: it takes turns with others then.
    pub fn wants_all(&self, e: &pondera_engine::Error, budget: Option<u64>) -> bool {
        let mut known = self.known();
        let wants = matches!(e.kind(), ErrorKind::DoesNotFit { .. }) && known.room.memory != budget;
        if wants {
            known.room.memory = budget;
        }
        wants
    }

    /// What it takes, and what it is, as it was opened: it keeps its context whatever else is open the next time.
    pub fn learn(&self, started: &Started) {
        self.metrics.opened.fetch_add(1, Relaxed);
        let mut known = self.known();
        known.bytes = started.bytes;
        known.room = Room { ctx: Some(started.ctx), kv_tokens: Some(started.kv_tokens), memory: known.room.memory };
        known.cards = started.models.iter().map(|m| m.card.clone()).collect();
        known.failed = None;
    }

    pub fn set_open(&self, started: Started) {
        *self.state() = State::Open(Open::new(started));
    }

    pub fn set_failed(&self, e: ApiError) {
        self.known().failed = Some((Instant::now(), e));
        *self.state() = State::Closed;
    }

    /// Why it could not be opened a short while ago.
    pub fn failed(&self) -> Option<ApiError> {
        self.known().failed.as_ref().filter(|(at, _)| at.elapsed() < FAILED).map(|(_, e)| e.clone())
    }

    /// As it is asked for.
    pub fn now(&self, keep: Option<Keep>) -> Now {
        let mut state = self.state();
        match &mut *state {
            State::Open(open) if open.started.alive() => {
                open.touch(keep);
                Now::Open(open.started.clone())
            }
            State::Opening(opening) => Now::Opening(opening.clone()),
            // One whose thread has ended is gone, and so is its memory.
            State::Open(_) | State::Closed => {
                let (tell, opening) = watch::channel(None);
                *state = State::Opening(opening.clone());
                Now::Closed(tell, opening)
            }
        }
    }

    /// It has just been given to whoever asked.
    pub fn touch(&self, keep: Option<Keep>) {
        if let State::Open(open) = &mut *self.state() {
            open.touch(keep);
        }
    }

    /// An opening has ended without a word: the next one tries again.
    pub fn give_up(&self) {
        let mut state = self.state();
        if let State::Opening(opening) = &*state
            && opening.has_changed().is_err()
        {
            *state = State::Closed;
        }
    }

    /// Closes it if it is open and `holds`.
    pub fn take_open(&self, holds: impl FnOnce(&mut Open) -> bool) -> Option<Open> {
        let mut state = self.state();
        let State::Open(open) = &mut *state else { return None };
        if !holds(open) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Closed) {
            State::Open(open) => Some(open),
            _ => None,
        }
    }

    /// As those who look see it, if it is open.
    pub fn resident(&self, otherwise: Keep) -> Option<Resident> {
        let (bytes, card) = {
            let known = self.known();
            (known.bytes, known.cards.first()?.clone())
        };
        let state = self.state();
        let State::Open(open) = &*state else { return None };
        let expires = match open.keep.unwrap_or(otherwise) {
            Keep::Forever => None,
            Keep::For(time) if open.started.busy() => Some(time),
            Keep::For(time) => Some(time.saturating_sub(open.used.elapsed())),
        };
        Some(Resident { card, bytes, expires, alive: open.started.alive() })
    }
}
