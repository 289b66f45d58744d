//! A sequence's place in its grammar. Which tokens may come next is looked for by threads beside the engine's own, while the
//! step that makes their logits is under way: a grammar whose next step is dear holds its own request up and no other.
use crate::{Error, Result};
use pondera_text::{Grammar, Guide};
use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

/// Threads that look; two, so that one dear grammar does not hold up all others.
const THREADS: usize = 2;

/// A place in a grammar.
pub(crate) struct Place(State, Arc<()>);

enum State {
    /// Nothing was looked for yet.
    Before(Arc<Grammar>),
    /// A thread has it.
    Away(Receiver<Found>),
    /// What may come next is known.
    Here(Box<Guide>),
    Failed(Error),
}

type Found = Result<Box<Guide>>;

struct Task {
    guide: Box<dyn FnOnce() -> Guide + Send>,
    back: Sender<Found>,
    /// Gone when nobody waits for it.
    wanted: Weak<()>,
}

impl Place {
    /// At the beginning of a text.
    pub fn new(grammar: Arc<Grammar>) -> Place {
        Place(State::Before(grammar), Arc::new(()))
    }

    /// The request's work begins.
    pub fn start(&mut self) {
        if let State::Before(grammar) = &self.0 {
            let grammar = grammar.clone();
            self.0 = look(Box::new(move || grammar.begin()), &self.1);
        }
    }

    /// Whether it is known what may come next, now or within `patience`.
    pub fn is_known(&mut self, patience: Duration) -> bool {
        self.start();
        let State::Away(coming) = &self.0 else { return true };
        let found = match coming.recv_timeout(patience) {
            Ok(found) => found,
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => Err(Error::invalid("grammar: its next step was lost")),
        };
        self.0 = found.map_or_else(State::Failed, State::Here);
        true
    }

    /// Which tokens may come next, once that is known.
    ///
    /// # Errors
    /// A step whose cost is beyond the bounds.
    pub fn allowed(&mut self) -> Result<&[u32]> {
        self.is_known(Duration::MAX);
        match &self.0 {
            State::Here(guide) => Ok(guide.found()),
            State::Failed(e) => Err(e.clone()),
            State::Before(_) | State::Away(_) => Err(Error::invalid("grammar: its next step was lost")),
        }
    }

    /// Takes the token that came, and has what follows it looked for. True if nothing can follow.
    pub fn accept(&mut self, token: u32) -> bool {
        let State::Here(guide) = &mut self.0 else { return true };
        // It was allowed, so it fits; a grammar that fails all the same ends the text.
        if guide.accept(token).unwrap_or(true) {
            return true;
        }
        if let State::Here(guide) = std::mem::replace(&mut self.0, State::Failed(Error::invalid("grammar: lost"))) {
            self.0 = look(Box::new(move || *guide), &self.1);
        }
        false
    }
}

/// Has a thread find out what may come next.
fn look(guide: Box<dyn FnOnce() -> Guide + Send>, wanted: &Arc<()>) -> State {
    static TASKS: OnceLock<Sender<Task>> = OnceLock::new();
    let (back, coming) = channel();
    // A thread that could not be started leaves the work to this one.
    if let Err(lost) = TASKS.get_or_init(start).send(Task { guide, back, wanted: Arc::downgrade(wanted) }) {
        find(lost.0);
    }
    State::Away(coming)
}

fn start() -> Sender<Task> {
    let (tasks, coming) = channel();
    let coming = Arc::new(Mutex::new(coming));
    for _ in 0..THREADS {
        let coming: Arc<Mutex<Receiver<Task>>> = coming.clone();
        let work = move || {
            loop {
                let task = coming.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(task) = task else { return };
                find(task);
            }
        };
        if let Err(e) = thread::Builder::new().name("guide".into()).spawn(work) {
            tracing::warn!("no thread for grammars: {e}");
        }
    }
    tasks
}

fn find(task: Task) {
    if task.wanted.strong_count() == 0 {
        return;
    }
    #[cfg(test)]
    thread::sleep(Duration::from_micros(DELAY_US.load(std::sync::atomic::Ordering::Relaxed)));
    let mut guide = Box::new((task.guide)());
    let found = match guide.allowed() {
        Ok(_) => Ok(guide),
        Err(e) => Err(Error::invalid(e.message())),
    };
    // A request that has ended wants nothing.
    let _ = task.back.send(found);
}

/// Makes every grammar dear.
#[cfg(test)]
pub(crate) static DELAY_US: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
