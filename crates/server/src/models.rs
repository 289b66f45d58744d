//! The models of a server: which of them are open, which gives way where memory is short, and when one that nobody asks for is
//! closed. A model that is closed keeps its name, its card and its counts; the first request that asks for it opens it again,
//! and the requests behind that one wait for the same opening.
//!
//! One model is opened at a time, in order of arrival. What must give way is what nobody uses, the longest unused first; where
//! all are in use, the longest unused takes nothing new, ends what it has and closes.
use crate::{
    chat::apart,
    error::{ApiError, Result},
    host::{Card, Model, ModelSpec, Room, Started},
    job::short,
    library::{Held, Library},
    metrics::Metrics,
    options::Options,
};
use axum::http::StatusCode;
use pondera_engine::ErrorKind;
use std::{
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Longest name that a library is asked for.
const NAME_BYTES: usize = 512;
/// How often is looked for models that nobody asks for.
const TICK: Duration = Duration::from_millis(500);

/// How long a model stays open that nobody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Until another needs its room.
    Forever,
    /// This long after its last answer.
    For(Duration),
}

impl FromStr for Keep {
    type Err = String;

    /// A number of seconds, or numbers with units one after the other as Go writes them (`5m`, `1h30m`, `300ms`); below zero,
    /// and what no clock can hold, is for ever.
    fn from_str(text: &str) -> std::result::Result<Keep, String> {
        let wrong = || format!("expected seconds, or a time such as 5m or 1h30m, got {:?}", short(text));
        let seconds = text.parse::<f64>().ok().filter(|s| !s.is_nan()).or_else(|| span(text)).ok_or_else(wrong)?;
        let time = if seconds < 0.0 { None } else { Duration::try_from_secs_f64(seconds).ok() };
        Ok(time.map_or(Keep::Forever, Keep::For))
    }
}

/// Seconds of numbers with units.
fn span(text: &str) -> Option<f64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let (mut all, number) = (0.0, |c: char| c.is_ascii_digit() || c == '.');
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (amount, tail) = rest.split_at(rest.find(|c| !number(c))?);
        let (unit, tail) = tail.split_at(tail.find(number).unwrap_or(tail.len()));
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        all += amount.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    Some(sign * all)
}

/// All models of a server.
pub struct Models {
    /// Those that the server was started with, then those of the library that were asked for.
    entries: RwLock<Vec<Arc<Entry>>>,
    library: Option<Arc<dyn Library>>,
    /// Bytes that all of them may take together; none: whatever they take.
    budget: Option<u64>,
    keep: Keep,
    /// Whoever opens a model holds it.
    door: tokio::sync::Mutex<()>,
}

/// A model, open or not.
pub struct Entry {
    spec: Arc<ModelSpec>,
    /// It came from the library.
    borrowed: bool,
    metrics: Arc<Metrics>,
    /// What it takes when it is open; at least its files before that is known.
    known: Mutex<Known>,
    state: Mutex<State>,
}

#[derive(Clone)]
struct Known {
    bytes: u64,
    room: Room,
    /// Its own, then those of its adapters.
    cards: Vec<Arc<Card>>,
}

enum State {
    Closed,
    Opening(watch::Receiver<Option<Result<()>>>),
    Open(Open),
}

struct Open {
    started: Started,
    used: Instant,
    keep: Option<Keep>,
}

/// A model that is open, for those who look.
pub struct Resident {
    /// Its card.
    pub card: Arc<Card>,
    /// Bytes that it takes.
    pub bytes: u64,
    /// When it closes if nobody asks for it; none: not by itself.
    pub expires: Option<Duration>,
    /// Whether its thread still runs.
    pub alive: bool,
}

impl Models {
    /// Opens every model once, so that what is wrong with one is said at the start; those that do not fit beside the ones
    /// before them are closed again.
    ///
    /// # Errors
    /// What the engine says of a model.
    pub fn open(specs: Vec<ModelSpec>, options: &Options) -> pondera_engine::Result<Models> {
        let (budget, keep) = (options.memory, options.keep);
        let shares = shares(&specs.iter().map(|s| s.bytes).collect::<Vec<_>>(), budget);
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        for (spec, memory) in specs.into_iter().zip(shares) {
            let entry = Entry::new(spec, memory, false);
            let start = |room: &Room| Model::start(&entry.spec, room, entry.metrics.clone());
            let room = entry.known().room;
            let started = match start(&room) {
                // Its part is too small for it: it takes turns with others.
                Err(e) if matches!(e.kind(), ErrorKind::DoesNotFit { .. }) && room.memory != budget => {
                    entry.known().room.memory = budget;
                    start(&Room { memory: budget, ..room })?
                }
                started => started?,
            };
            entry.learn(&started);
            let open: u64 = entries.iter().filter(|e| e.is_open()).map(|e| e.bytes()).sum();
            if budget.is_none_or(|b| open + entry.bytes() <= b) {
                *entry.state() = State::Open(Open::new(started));
            }
            entries.push(Arc::new(entry));
        }
        let (entries, library) = (RwLock::new(entries), options.library.clone());
        Ok(Models { entries, library, budget, keep, door: tokio::sync::Mutex::default() })
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The cards of all models that were open at some time, adapters behind their own.
    pub fn cards(&self) -> Vec<Arc<Card>> {
        self.entries().iter().flat_map(|e| e.known().cards.clone()).collect()
    }

    /// What the library has beside them.
    ///
    /// # Errors
    /// What it says.
    pub async fn held(&self) -> Result<Vec<Held>> {
        let Some(library) = self.library.clone() else { return Ok(Vec::new()) };
        let mut held = apart(move || Ok(library.list()?)).await?;
        let cards = self.cards();
        held.retain(|h| cards.iter().all(|c| c.name != h.name));
        Ok(held)
    }

    /// Whether clients may call a model by this name that the server was started with.
    pub fn serves(&self, name: &str) -> bool {
        self.entries().iter().any(|e| !e.borrowed && e.spec.place(name).is_some())
    }

    /// Closes a model of the library, whose name is about to go.
    ///
    /// # Errors
    /// 400 for one that the server was started with.
    pub fn forget(&self, name: &str) -> Result<()> {
        if self.serves(name) {
            return Err(ApiError::invalid("model", "the server was started with this model"));
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        // What runs ends first; its files stay with it until then.
        entries.extract_if(.., |e| e.spec.place(name).is_some()).for_each(|e| drop(e.shut()));
        Ok(())
    }

    /// The card of the model that clients call `name`. One that was never open is opened for it.
    ///
    /// # Errors
    /// 404 by the API's own code.
    pub async fn card(self: &Arc<Self>, name: &str) -> Result<Arc<Card>> {
        let (entry, i) = self.find(name).await?;
        let known = entry.known().cards.get(i).cloned();
        match known {
            Some(card) => Ok(card),
            None => Ok(self.get(name, None).await?.card.clone()),
        }
    }

    /// The models that are open, without their adapters.
    pub fn residents(&self) -> Vec<Resident> {
        let resident = |e: &Arc<Entry>| {
            let known = e.known().clone();
            let state = e.state();
            let State::Open(open) = &*state else { return None };
            let expires = match open.keep.unwrap_or(self.keep) {
                Keep::Forever => None,
                Keep::For(time) if open.busy() => Some(time),
                Keep::For(time) => Some(time.saturating_sub(open.used.elapsed())),
            };
            let (card, alive) = (known.cards.first()?.clone(), open.started.alive());
            Some(Resident { card, bytes: known.bytes, expires, alive })
        };
        self.entries().iter().filter_map(resident).collect()
    }

    /// Bytes that all models may take together.
    pub fn budget(&self) -> Option<u64> {
        self.budget
    }

    /// The model that clients call `name`, open. `keep` is how long it stays so from now on.
    ///
    /// # Errors
    /// 404 for a name that no model has, 503 for one that cannot be opened any more.
    pub async fn get(self: &Arc<Self>, name: &str, keep: Option<Keep>) -> Result<Arc<Model>> {
        let (entry, i) = self.find(name).await?;
        loop {
            let mut opening = {
                let mut state = entry.state();
                match &mut *state {
                    State::Open(open) => {
                        open.used = Instant::now();
                        open.keep = keep.or(open.keep);
                        return open.started.models.get(i).cloned().ok_or_else(|| unknown(name));
                    }
                    State::Opening(opening) => opening.clone(),
                    State::Closed => {
                        let (tell, opening) = watch::channel(None);
                        *state = State::Opening(opening.clone());
                        // Goes on when whoever asked is gone: others wait for it.
                        let (models, entry) = (self.clone(), entry.clone());
                        tokio::spawn(async move {
                            let done = models.admit(&entry).await;
                            let _ = tell.send(Some(done));
                        });
                        opening
                    }
                }
            };
            let told = opening.wait_for(Option::is_some).await.map(|told| told.clone());
            told.ok().flatten().unwrap_or_else(|| Err(ApiError::unavailable("the model could not be opened")))?;
        }
    }

    /// Closes models that nobody has asked for in their time, for as long as the server runs.
    pub async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            for entry in self.entries() {
                if entry.expired(self.keep) {
                    tracing::info!(model = entry.spec.name, "closed: nobody asked for it");
                    drop(entry.shut());
                }
            }
        }
    }

    fn known(&self, name: &str) -> Option<(Arc<Entry>, usize)> {
        // Ollama's clients name a tag even where there is none.
        let plain = name.strip_suffix(":latest").unwrap_or(name);
        self.entries().into_iter().find_map(|e| {
            let place = e.spec.place(name).or_else(|| e.spec.place(plain))?;
            Some((e, place))
        })
    }

    /// Whom clients mean by `name`, here or in the library.
    async fn find(&self, name: &str) -> Result<(Arc<Entry>, usize)> {
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        let library = self.library.clone().filter(|_| name.len() <= NAME_BYTES);
        let Some(library) = library else { return Err(unknown(name)) };
        let asked = name.to_string();
        let spec = apart(move || Ok(library.find(&asked)?)).await?.ok_or_else(|| unknown(name))?;
        let memory = shares(&[spec.bytes], self.budget)[0];
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        // Another may have found it meanwhile, and it may have another name here.
        let same = |e: &&Arc<Entry>| e.spec.name == spec.name || spec.file.is_some() && e.spec.file == spec.file;
        if let Some(entry) = entries.iter().find(same) {
            return Ok((entry.clone(), 0));
        }
        let entry = Arc::new(Entry::new(spec, memory, true));
        entries.push(entry.clone());
        Ok((entry, 0))
    }

    /// Makes room for a model and opens it.
    async fn admit(&self, entry: &Arc<Entry>) -> Result<()> {
        let _door = self.door.lock().await;
        let opened = self.make_room_and_start(entry).await;
        *entry.state() = match &opened {
            Ok(started) => State::Open(Open::new(started.clone())),
            Err(_) => State::Closed,
        };
        opened.map(|_| ())
    }

    async fn make_room_and_start(&self, entry: &Arc<Entry>) -> Result<Started> {
        while let Some(mut gone) = self.next_to_go(entry.bytes()).and_then(|e| e.shut()) {
            // Its requests end first; the sender goes with the thread.
            while gone.changed().await.is_ok() {}
        }
        let (spec, room, metrics) = (entry.spec.clone(), entry.known().room, entry.metrics.clone());
        let started = tokio::task::spawn_blocking(move || Model::start(&spec, &room, metrics)).await;
        let failed = |e: &dyn std::fmt::Display| {
            tracing::error!(model = entry.spec.name, "not opened: {e:#}");
            ApiError::unavailable("the model could not be opened: the server's log says why")
        };
        let started = started.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        entry.learn(&started);
        tracing::info!(model = entry.spec.name, bytes = entry.bytes(), "opened");
        Ok(started)
    }

    /// Who closes so that `bytes` more fit; none where they do, or where nobody is left.
    fn next_to_go(&self, bytes: u64) -> Option<Arc<Entry>> {
        let open: Vec<Arc<Entry>> = self.entries().into_iter().filter(|e| e.is_open()).collect();
        let taken: u64 = open.iter().map(|e| e.bytes()).sum();
        if self.budget.is_none_or(|b| taken + bytes <= b) {
            return None;
        }
        let turn = |e: &Arc<Entry>| match &*e.state() {
            State::Open(open) => (open.busy(), open.used),
            _ => (true, Instant::now()),
        };
        open.into_iter().min_by_key(turn)
    }
}

impl Entry {
    fn new(spec: ModelSpec, memory: Option<u64>, borrowed: bool) -> Entry {
        let room = Room { memory, ..Room::default() };
        let known = Known { bytes: spec.bytes, room, cards: Vec::new() };
        Entry {
            spec: Arc::new(spec),
            borrowed,
            metrics: Arc::default(),
            known: Mutex::new(known),
            state: Mutex::new(State::Closed),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> u64 {
        self.known().bytes
    }

    fn is_open(&self) -> bool {
        matches!(&*self.state(), State::Open(_))
    }

    /// What it takes, and what it is, as it was opened: it keeps its context whatever else is open the next time.
    fn learn(&self, started: &Started) {
        self.metrics.opened.fetch_add(1, Relaxed);
        let mut known = self.known();
        known.bytes = started.bytes;
        known.room = Room { ctx: Some(started.ctx), kv_tokens: Some(started.kv_tokens), memory: known.room.memory };
        known.cards = started.models.iter().map(|m| m.card.clone()).collect();
    }

    /// Whether its time is over.
    fn expired(&self, otherwise: Keep) -> bool {
        let State::Open(open) = &mut *self.state() else { return false };
        if open.busy() {
            open.used = Instant::now();
        }
        match open.keep.unwrap_or(otherwise) {
            Keep::Forever => false,
            Keep::For(time) => !open.busy() && open.used.elapsed() >= time,
        }
    }

    /// Takes nothing new. What comes back tells when its memory is free.
    fn shut(&self) -> Option<watch::Receiver<()>> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Closed) {
            State::Open(open) => Some(open.started.gone),
            other => {
                *state = other;
                None
            }
        }
    }
}

impl Open {
    fn new(started: Started) -> Open {
        Open { started, used: Instant::now(), keep: None }
    }

    /// Whether somebody holds it, or has a request under way.
    fn busy(&self) -> bool {
        self.started.busy()
    }
}

/// What each model may take: where all files fit together, their own bytes and an equal part of the rest; else each all of it.
fn shares(files: &[u64], budget: Option<u64>) -> Vec<Option<u64>> {
    let all: u64 = files.iter().sum();
    let share = |file: &u64| {
        let budget = budget?;
        // Most of what is left is for caches: files that nearly fill it take turns.
        Some(if all <= budget / 5 * 4 { file + (budget - all) / files.len() as u64 } else { budget })
    };
    files.iter().map(share).collect()
}

fn unknown(name: &str) -> ApiError {
    let message = format!("the model {:?} does not exist", short(name));
    ApiError { param: Some("model".into()), ..ApiError::new(StatusCode::NOT_FOUND, message) }.code("model_not_found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_clients_write_them() {
        let keep = |text: &str| text.parse::<Keep>().ok();
        let ms = |n| Some(Keep::For(Duration::from_millis(n)));
        for (text, want) in [
            ("0", ms(0)),
            ("300", ms(300_000)),
            ("1.5", ms(1500)),
            ("5m", ms(300_000)),
            ("1h30m", ms(5_400_000)),
            ("250ms", ms(250)),
            ("-1", Some(Keep::Forever)),
            ("-1m", Some(Keep::Forever)),
            ("inf", Some(Keep::Forever)),
            ("1e300", Some(Keep::Forever)),
            ("", None),
            ("-", None),
            ("m", None),
            ("5", ms(5000)),
            ("5x", None),
            ("5m3", None),
            ("NaN", None),
            ("true", None),
        ] {
            assert_eq!(keep(text), want, "{text:?}");
        }
    }

    #[test]
    fn rooms_are_shared_where_all_fit_and_whole_where_they_do_not() {
        assert_eq!(shares(&[10, 30], Some(100)), [Some(40), Some(60)]);
        assert_eq!(shares(&[50, 40], Some(100)), [Some(100), Some(100)]);
        assert_eq!(shares(&[50, 40], None), [None, None]);
    }
}
