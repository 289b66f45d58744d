//! The models of a server: which of them are open, which gives way where memory is short, and when one that nobody asks for is
//! closed. A model that is closed keeps its name, its card and its counts; the first request that asks for it opens it again,
//! and the requests behind that one wait for the same opening.
//!
//! One model is opened at a time, in order of arrival. What must give way is what nobody uses, the longest unasked for first;
//! where all are in use, it takes nothing new, ends what it has and closes.
mod entry;

use crate::{
    chat::apart,
    error::{ApiError, Result},
    host::{Card, Model, ModelSpec, Started},
    job::short,
    library::{Held, Library},
    options::Options,
};
use axum::http::StatusCode;
use entry::{Entry, Now, Open};
use std::{
    path::Path,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
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
    /// Those that take nothing new and end what they have: the bytes that will be free, and who tells when.
    closing: Mutex<Vec<(u64, watch::Receiver<()>)>>,
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
    /// Opens every model once, the last first, so that what is wrong with one is said at the start. Those that do not fit beside
    /// the ones before them close again: the first stays open.
    ///
    /// # Errors
    /// What the engine says of a model.
    pub fn open(specs: Vec<ModelSpec>, options: &Options) -> pondera_engine::Result<Models> {
        let models = Models {
            entries: RwLock::default(),
            library: options.library.clone(),
            budget: options.memory,
            keep: options.keep,
            door: tokio::sync::Mutex::default(),
            closing: Mutex::default(),
        };
        let shares = shares(&specs.iter().map(|s| s.bytes).collect::<Vec<_>>(), models.budget);
        for (spec, memory) in specs.into_iter().zip(shares).rev() {
            let bytes = spec.bytes;
            let entry = Arc::new(Entry::new(spec, memory, bytes, false));
            models.entries.write().unwrap_or_else(PoisonError::into_inner).insert(0, entry.clone());
            models.make_room_now(bytes);
            let started = match entry.start() {
                Err(e) if entry.wants_all(&e, models.budget) => {
                    models.make_room_now(u64::MAX);
                    entry.start()?
                }
                started => started?,
            };
            entry.learn(&started);
            models.make_room_now(entry.bytes());
            entry.set_open(started);
        }
        Ok(models)
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The cards of all models that were open at some time, adapters behind their own.
    pub fn cards(&self) -> Vec<Arc<Card>> {
        self.entries().iter().flat_map(|e| e.cards()).collect()
    }

    /// What the library has beside them; nothing, and a line in the log, where it cannot be read.
    pub async fn held(&self) -> Vec<Held> {
        let Some(library) = self.library.clone() else { return Vec::new() };
        let mut held = apart(move || Ok(library.list()?)).await.unwrap_or_else(|e| {
            tracing::warn!("the library: {}", e.message);
            Vec::new()
        });
        let cards = self.cards();
        held.retain(|h| cards.iter().all(|c| c.name != h.name));
        held
    }

    /// Whether clients may call a model by this name that the server was started with.
    pub fn serves(&self, name: &str) -> bool {
        self.entries().iter().any(|e| !e.borrowed && e.place(name).is_some())
    }

    /// Whether a model that the server was started with is opened from what is under `root`.
    pub fn uses(&self, root: &Path) -> bool {
        self.entries().iter().any(|e| !e.borrowed && e.spec.file.as_ref().is_some_and(|f| f.starts_with(root)))
    }

    /// Closes models of the library that are no more.
    pub fn forget(&self, gone: impl Fn(&ModelSpec) -> bool) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let forgotten: Vec<Arc<Entry>> = entries.extract_if(.., |e| e.borrowed && gone(&e.spec)).collect();
        drop(entries);
        forgotten.iter().for_each(|e| drop(self.shut(e)));
    }

    /// The card of the model that clients call `name`; none where it was never open.
    ///
    /// # Errors
    /// 404 by the API's own code.
    pub async fn card(&self, name: &str) -> Result<Option<Arc<Card>>> {
        let (entry, i) = self.find(name).await?;
        Ok(entry.cards().get(i).cloned())
    }

    /// The models that are open, without their adapters.
    pub fn residents(&self) -> Vec<Resident> {
        self.entries().iter().filter_map(|e| e.resident(self.keep)).collect()
    }

    /// Bytes that all models may take together.
    pub fn budget(&self) -> Option<u64> {
        self.budget
    }

    /// The model that clients call `name`, open. `keep` is how long it stays so from now on.
    ///
    /// # Errors
    /// 404 for a name that no model has, 500 for one that cannot be opened.
    pub async fn get(self: &Arc<Self>, name: &str, keep: Option<Keep>) -> Result<Arc<Model>> {
        let (entry, i) = self.find(name).await?;
        let mut opening = match entry.now(keep) {
            Now::Open(started) => return started.models.get(i).cloned().ok_or_else(|| unknown(name)),
            Now::Opening(opening) => opening,
            Now::Closed(tell, opening) => {
                // Goes on when whoever asked is gone: others wait for it.
                tokio::spawn(self.clone().admit(entry.clone(), tell));
                opening
            }
        };
        let told = opening.wait_for(Option::is_some).await.map(|told| told.clone());
        let Some(opened) = told.ok().flatten() else {
            entry.give_up();
            return Err(ApiError::unavailable("the model could not be opened"));
        };
        // What was told holds the model: it is in use until everybody who waited has it.
        let started = opened?;
        entry.touch(keep);
        started.models.get(i).cloned().ok_or_else(|| unknown(name))
    }

    /// Closes models that nobody has asked for in their time, and those whose thread has ended by a bug, for as long as the
    /// server runs.
    pub async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            for entry in self.entries() {
                if self.shut_if(&entry, |open| open.is_over(self.keep)).is_some() {
                    tracing::info!(model = entry.spec.name, "closed: nobody asked for it");
                }
            }
        }
    }

    fn known(&self, name: &str) -> Option<(Arc<Entry>, usize)> {
        self.entries().into_iter().find_map(|e| {
            let place = e.place(name)?;
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
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        // Another may have found it meanwhile, and it may have another name here.
        let same = |e: &&Arc<Entry>| e.spec.name == spec.name || spec.file.is_some() && e.spec.file == spec.file;
        if let Some(entry) = entries.iter().find(same) {
            return Ok((entry.clone(), 0));
        }
        // Its part is the same whatever else is open, and until it is known what it takes, it counts as taking all of it.
        let memory = self.budget.map(|b| (spec.bytes + b.saturating_sub(spec.bytes) / 4).min(b));
        let bytes = memory.unwrap_or(spec.bytes);
        let entry = Arc::new(Entry::new(spec, memory, bytes, true));
        entries.push(entry.clone());
        Ok((entry, 0))
    }

    /// Opens a model when its turn has come, and tells those who wait for it.
    async fn admit(self: Arc<Self>, entry: Arc<Entry>, tell: watch::Sender<Option<Result<Started>>>) {
        let _door = self.door.lock().await;
        let opened = self.make_room_and_start(&entry).await;
        match &opened {
            Ok(started) => entry.set_open(started.clone()),
            Err(e) => entry.set_failed(e.clone()),
        }
        let _ = tell.send(Some(opened));
    }

    async fn make_room_and_start(&self, entry: &Arc<Entry>) -> Result<Started> {
        if let Some(failed) = entry.failed() {
            return Err(failed);
        }
        if self.budget.is_some_and(|b| entry.bytes() > b) {
            return Err(failed("it takes more memory than models may take"));
        }
        self.make_room(entry.bytes()).await;
        let start = |entry: &Arc<Entry>| {
            let entry = entry.clone();
            tokio::task::spawn_blocking(move || entry.start())
        };
        let lost = |_| failed("its thread was lost");
        let mut started = start(entry).await.map_err(lost)?;
        if let Err(e) = &started
            && entry.wants_all(e, self.budget)
        {
            self.make_room(u64::MAX).await;
            started = start(entry).await.map_err(lost)?;
        }
        let started = started.map_err(|e| {
            tracing::error!(model = entry.spec.name, "not opened: {e:#}");
            failed("the server's log says why")
        })?;
        entry.learn(&started);
        // It may take more than was known.
        self.make_room(entry.bytes()).await;
        tracing::info!(model = entry.spec.name, bytes = entry.bytes(), "opened");
        Ok(started)
    }

    async fn make_room(&self, bytes: u64) {
        while let Some(mut gone) = self.wait_for(bytes) {
            // Its requests end first; the sender goes with the thread.
            while gone.changed().await.is_ok() {}
        }
    }

    /// The same before there is anybody else.
    fn make_room_now(&self, bytes: u64) {
        while let Some(gone) = self.wait_for(bytes) {
            while gone.has_changed().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Whose end is to be waited for so that `bytes` more fit: one that closes, made to where that takes it. None where they
    /// fit, or where nobody is left.
    fn wait_for(&self, bytes: u64) -> Option<watch::Receiver<()>> {
        let budget = self.budget?;
        loop {
            let open: Vec<Arc<Entry>> = self.entries().into_iter().filter(|e| e.is_open()).collect();
            let taken = open.iter().fold(bytes, |n, e| n.saturating_add(e.bytes()));
            let (closing, next) = self.closing();
            if taken.saturating_add(closing) <= budget {
                return None;
            }
            if taken <= budget || open.is_empty() {
                return next;
            }
            let victim = open.iter().min_by_key(|e| e.turn())?;
            if let Some(gone) = self.shut(victim) {
                return Some(gone);
            }
        }
    }

    /// Bytes that will be free, and somebody who tells when some are.
    fn closing(&self) -> (u64, Option<watch::Receiver<()>>) {
        let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        closing.retain(|(_, gone)| gone.has_changed().is_ok());
        let bytes = closing.iter().fold(0u64, |n, (bytes, _)| n.saturating_add(*bytes));
        (bytes, closing.first().map(|(_, gone)| gone.clone()))
    }

    fn shut(&self, entry: &Entry) -> Option<watch::Receiver<()>> {
        self.shut_if(entry, |_| true)
    }

    /// Has a model take nothing new. What comes back tells when its memory is free.
    fn shut_if(&self, entry: &Entry, holds: impl FnOnce(&mut Open) -> bool) -> Option<watch::Receiver<()>> {
        let bytes = entry.bytes();
        let gone = entry.take_open(holds)?.started.gone;
        self.closing.lock().unwrap_or_else(PoisonError::into_inner).push((bytes, gone.clone()));
        Some(gone)
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

fn failed(why: &str) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the model cannot be opened: {why}"))
        .code("model_not_opened")
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
