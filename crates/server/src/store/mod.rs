//! What clients keep here: files, and batches over them, in the folder of `--data`. Owns: names on the disk, who sees what, how
//! much there may be. Does not own: what is in a file (`batch`), wire types (`api`).
//!
//! `files/{id}.data` and, once it is whole, `files/{id}.json`, which makes it a file; `batches/{id}.json` and, while it runs,
//! `batches/{id}.output` and `.errors`; `drafts/` for what has no name yet. A name is always one that was drawn here.
pub mod disk;
mod records;

pub use records::{BATCH, BATCH_OUTPUT, Batch, Ending, Kept, LineError, Status};

use crate::{
    error::{ApiError, Result},
    id,
};
use axum::http::StatusCode;
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};

/// What a file takes beside its bytes.
const FILE_BYTES: u64 = 4096;
/// Most files, and most batches of which anything is known.
const ENTRIES: usize = 10_000;
/// Most batches that have not ended.
const UNFINISHED: usize = 64;

/// Where files are kept, and how much of them.
#[derive(Clone, Debug)]
pub struct Data {
    /// The folder; it is made where it is missing.
    pub folder: PathBuf,
    /// Most bytes of all files together.
    pub bytes: u64,
    /// Lines of batches that are answered at once.
    pub lines: usize,
}

/// The folder, and what is known of it.
pub struct Store {
    data: Data,
    _lock: File,
    used: Arc<AtomicU64>,
    next: AtomicU64,
    index: Mutex<Index>,
    /// Held by whoever changes records, from reading what is there to the disk.
    changes: Mutex<()>,
    /// Lines of batches in flight.
    pub lines: Arc<Semaphore>,
    /// Files being read as a whole.
    pub scans: Semaphore,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Index {
    files: HashMap<String, Kept>,
    batches: HashMap<String, (Batch, Arc<Notify>)>,
}

/// Bytes that were set aside; given back when it is dropped.
pub struct Room {
    used: Arc<AtomicU64>,
    most: u64,
    bytes: u64,
}

impl Room {
    /// Sets `n` more bytes aside.
    ///
    /// # Errors
    /// 413 where there are none left.
    pub fn grow(&mut self, n: u64) -> Result<()> {
        let fits = |used: u64| used.checked_add(n).filter(|sum| *sum <= self.most);
        if self.used.fetch_update(SeqCst, SeqCst, fits).is_err() {
            let message = "the server keeps as many bytes of files as it may: delete some";
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("storage_quota_exceeded"));
        }
        self.bytes += n;
        Ok(())
    }

    /// Takes `n` bytes into account that are there already.
    pub fn found(&mut self, n: u64) {
        self.used.fetch_add(n, SeqCst);
        self.bytes += n;
    }

    /// They stay taken.
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, SeqCst);
    }
}

/// A failure of the disk: the log says which.
fn failed(e: io::Error) -> ApiError {
    tracing::error!("files could not be kept: {e}");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the file could not be kept; the server's log says why")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the folder, and cleans up after a process that was killed.
    ///
    /// # Errors
    /// What the system says; a folder that another server uses.
    pub fn open(data: Data) -> io::Result<Store> {
        for part in ["files", "batches", "drafts"] {
            disk::folder(&data.folder.join(part))?;
        }
        let lock = disk::private().write(true).create(true).truncate(false).open(data.folder.join("lock"))?;
        lock.try_lock().map_err(|_| {
            let what = format!("{}: another server keeps its files there", data.folder.display());
            io::Error::new(io::ErrorKind::ResourceBusy, what)
        })?;
        for draft in fs::read_dir(data.folder.join("drafts"))? {
            fs::remove_file(draft?.path())?;
        }
        let (stop, _) = watch::channel(false);
        let store = Store {
            lines: Arc::new(Semaphore::new(data.lines)),
            data,
            _lock: lock,
            used: Arc::default(),
            next: AtomicU64::new(1),
            index: Mutex::default(),
            changes: Mutex::default(),
            scans: Semaphore::new(1),
            stop,
            tasks: Mutex::default(),
        };
        store.load()?;
        Ok(store)
    }

    fn load(&self) -> io::Result<()> {
        let mut index = locked(&self.index);
        for kept in self.records::<Kept>("files")? {
            self.next.fetch_max(kept.sequence + 1, SeqCst);
            self.used.fetch_add(kept.bytes + FILE_BYTES, SeqCst);
            index.files.insert(kept.id.clone(), kept);
        }
        for mut batch in self.records::<Batch>("batches")? {
            self.next.fetch_max(batch.sequence + 1, SeqCst);
            batch.restore();
            index.batches.insert(batch.id.clone(), (batch, Arc::default()));
        }
        // Contents whose record was never written, unless a batch is about to write it.
        let coming: Vec<&String> =
            index.batches.values().filter(|(b, _)| !b.status.is_final()).flat_map(|(b, _)| b.results()).collect();
        for entry in fs::read_dir(self.data.folder.join("files"))? {
            let path = entry?.path();
            let id = path.file_stem().and_then(|s| s.to_str()).unwrap_or("").to_string();
            let data = path.extension().is_some_and(|e| e == "data");
            if data && !path.with_extension("json").exists() && !coming.contains(&&id) {
                disk::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Records of a folder; one that cannot be read is left alone.
    fn records<T: serde::de::DeserializeOwned>(&self, part: &str) -> io::Result<Vec<T>> {
        let mut list = Vec::new();
        for entry in fs::read_dir(self.data.folder.join(part))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "json") {
                match disk::read(&path) {
                    Ok(record) => list.push(record),
                    Err(e) => tracing::warn!("{}: not a record: {e}", path.display()),
                }
            }
        }
        Ok(list)
    }

    fn path(&self, part: &str, id: &str, ending: &str) -> PathBuf {
        self.data.folder.join(part).join(format!("{id}.{ending}"))
    }

    /// Where something may be written that has no name yet.
    pub fn draft(&self) -> Draft {
        Draft(self.path("drafts", &id::random("draft-"), "part"))
    }

    /// Where the content of a file is.
    pub fn content(&self, id: &str) -> PathBuf {
        self.path("files", id, "data")
    }

    /// Where a batch that runs writes what came of its lines: answers, and what went wrong.
    pub fn journals(&self, id: &str) -> [PathBuf; 2] {
        ["output", "errors"].map(|ending| self.path("batches", id, ending))
    }

    /// Room for bytes that are to be kept.
    pub fn room(&self) -> Room {
        Room { used: self.used.clone(), most: self.data.bytes, bytes: 0 }
    }

    /// Makes a draft a file, with the room that it takes.
    ///
    /// # Errors
    /// What the disk says; 413 where there is no room for one more.
    pub fn keep(&self, draft: Draft, mut room: Room, owner: &str, filename: String, purpose: &str) -> Result<Kept> {
        room.grow(FILE_BYTES)?;
        let bytes = fs::metadata(&draft.0).map_err(failed)?.len();
        let kept = Kept {
            id: id::random("file-"),
            owner: owner.to_string(),
            sequence: self.next.fetch_add(1, SeqCst),
            bytes,
            created_at: id::now_s(),
            filename,
            purpose: purpose.to_string(),
        };
        let _changes = locked(&self.changes);
        if locked(&self.index).files.len() >= ENTRIES {
            let message = "the server keeps as many files as it may: delete some";
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("storage_quota_exceeded"));
        }
        disk::publish(&draft.0, &self.content(&kept.id)).map_err(failed)?;
        self.record(&kept).map_err(failed)?;
        room.keep();
        Ok(kept)
    }

    /// Writes the record that makes a content a file.
    fn record(&self, kept: &Kept) -> io::Result<()> {
        disk::write(kept, &self.draft().0, &self.path("files", &kept.id, "json"))?;
        locked(&self.index).files.insert(kept.id.clone(), kept.clone());
        Ok(())
    }

    /// A file of `owner`.
    ///
    /// # Errors
    /// 404, also where it is another's.
    pub fn file(&self, owner: &str, id: &str) -> Result<Kept> {
        let found = locked(&self.index).files.get(id).filter(|f| f.owner == owner).cloned();
        found.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "there is no such file").code("file_not_found"))
    }

    /// Files of `owner`, the oldest first.
    pub fn files(&self, owner: &str) -> Vec<Kept> {
        let mut list: Vec<Kept> = locked(&self.index).files.values().filter(|f| f.owner == owner).cloned().collect();
        list.sort_by_key(|f| f.sequence);
        list
    }

    /// Forgets a file.
    ///
    /// # Errors
    /// 404 where there is none; 409 while a batch needs it.
    pub fn delete(&self, owner: &str, id: &str) -> Result<()> {
        let _changes = locked(&self.changes);
        let kept = self.file(owner, id)?;
        let needs =
            |b: &Batch| !b.status.is_final() && (b.input_file_id == kept.id || b.results().any(|r| *r == kept.id));
        if let Some((batch, _)) = locked(&self.index).batches.values().find(|(b, _)| needs(b)) {
            let message = format!("the file is in use by {}: cancel it, or wait for its end", batch.id);
            return Err(ApiError::new(StatusCode::CONFLICT, message).code("file_in_use"));
        }
        disk::remove(&self.path("files", &kept.id, "json")).map_err(failed)?;
        locked(&self.index).files.remove(&kept.id);
        // Without its record nobody finds it; should this fail, the next start removes it.
        disk::remove(&self.content(&kept.id)).map_err(failed)?;
        self.used.fetch_sub(kept.bytes + FILE_BYTES, SeqCst);
        Ok(())
    }

    /// Begins a batch.
    ///
    /// # Errors
    /// 404 where its input is not there; 429 where too many have not ended.
    pub fn begin(&self, mut batch: Batch) -> Result<Batch> {
        let _changes = locked(&self.changes);
        self.file(&batch.owner, &batch.input_file_id)?;
        let (unfinished, oldest, full) = {
            let index = locked(&self.index);
            let unfinished = index.batches.values().filter(|(b, _)| !b.status.is_final()).count();
            let ended =
                index.batches.values().map(|(b, _)| b).filter(|b| b.status.is_final() && b.owner == batch.owner);
            (unfinished, ended.min_by_key(|b| b.sequence).map(|b| b.id.clone()), index.batches.len() >= ENTRIES)
        };
        if unfinished >= UNFINISHED || full && oldest.is_none() {
            return Err(ApiError::busy("too many batches have not ended"));
        }
        // A client cannot delete a batch, so the oldest that ended makes room.
        if let Some(oldest) = oldest.filter(|_| full) {
            disk::remove(&self.path("batches", &oldest, "json")).map_err(failed)?;
            locked(&self.index).batches.remove(&oldest);
        }
        batch.sequence = self.next.fetch_add(1, SeqCst);
        disk::write(&batch, &self.draft().0, &self.path("batches", &batch.id, "json")).map_err(failed)?;
        locked(&self.index).batches.insert(batch.id.clone(), (batch.clone(), Arc::default()));
        Ok(batch)
    }

    /// A batch of `owner`.
    ///
    /// # Errors
    /// 404, also where it is another's.
    pub fn batch(&self, owner: &str, id: &str) -> Result<Batch> {
        let found = locked(&self.index).batches.get(id).map(|(b, _)| b).filter(|b| b.owner == owner).cloned();
        found.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "there is no such batch").code("batch_not_found"))
    }

    /// Batches of `owner`, the oldest first.
    pub fn batches(&self, owner: &str) -> Vec<Batch> {
        let index = locked(&self.index);
        let mut list: Vec<Batch> =
            index.batches.values().map(|(b, _)| b).filter(|b| b.owner == owner).cloned().collect();
        list.sort_by_key(|b| b.sequence);
        list
    }

    /// Names of batches that have not ended, the oldest first.
    pub fn unfinished(&self) -> Vec<String> {
        let index = locked(&self.index);
        let mut list: Vec<&Batch> = index.batches.values().map(|(b, _)| b).filter(|b| !b.status.is_final()).collect();
        list.sort_by_key(|b| b.sequence);
        list.into_iter().map(|b| b.id.clone()).collect()
    }

    /// A batch whoever it is of, and what tells that it changed.
    pub fn watched(&self, id: &str) -> Option<(Batch, Arc<Notify>)> {
        locked(&self.index).batches.get(id).cloned()
    }

    /// Changes a batch, on the disk first.
    ///
    /// # Errors
    /// What the disk says.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Batch)) -> io::Result<Batch> {
        let _changes = locked(&self.changes);
        let (mut batch, notify) = self.watched(id).ok_or(io::ErrorKind::NotFound)?;
        change(&mut batch);
        disk::write(&batch, &self.draft().0, &self.path("batches", id, "json"))?;
        locked(&self.index).batches.insert(id.to_string(), (batch.clone(), notify.clone()));
        notify.notify_waiters();
        Ok(batch)
    }

    /// Asks a batch of `owner` to end.
    ///
    /// # Errors
    /// 404 where there is none; 409 where it ended or is about to.
    pub fn cancel(&self, owner: &str, id: &str) -> Result<Batch> {
        let mut late = false;
        let known = self.batch(owner, id)?;
        let batch = self.change(&known.id, |b| match b.status {
            Status::Validating | Status::InProgress => {
                (b.status, b.cancelling_at) = (Status::Cancelling, Some(id::now_s()));
            }
            Status::Cancelling => {}
            _ => late = true,
        });
        let batch = batch.map_err(failed)?;
        if late {
            let message = format!("a batch that is {} cannot be cancelled", batch.status.name());
            return Err(ApiError::new(StatusCode::CONFLICT, message).code("batch_not_cancellable"));
        }
        Ok(batch)
    }

    /// Makes what a batch wrote files, and ends it. A second try after a process that was killed goes on where that one was.
    ///
    /// # Errors
    /// What the disk says.
    pub fn publish(&self, id: &str) -> io::Result<()> {
        let (batch, _) = self.watched(id).ok_or(io::ErrorKind::NotFound)?;
        let results = [(&batch.output_file_id, "output"), (&batch.error_file_id, "errors")];
        for ((result, what), journal) in results.into_iter().zip(self.journals(id)) {
            let Some(result) = result else {
                disk::remove(&journal)?;
                continue;
            };
            let _changes = locked(&self.changes);
            if journal.exists() {
                disk::publish(&journal, &self.content(result))?;
            }
            if locked(&self.index).files.contains_key(result) {
                continue;
            }
            let bytes = fs::metadata(self.content(result))?.len();
            self.record(&Kept {
                id: result.clone(),
                owner: batch.owner.clone(),
                sequence: self.next.fetch_add(1, SeqCst),
                bytes,
                created_at: id::now_s(),
                filename: format!("{id}_{what}.jsonl"),
                purpose: BATCH_OUTPUT.to_string(),
            })?;
            self.used.fetch_add(bytes + FILE_BYTES, SeqCst);
        }
        self.change(id, Batch::finish)?;
        Ok(())
    }

    /// Whether the server stops.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Runs a batch until it ends or the server stops.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = locked(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Lets batches put down what they have; the next start goes on with them.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *locked(&self.tasks));
        while tasks.join_next().await.is_some() {}
    }
}

/// A file without a name; it is gone with this.
pub struct Draft(PathBuf);

impl Draft {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Most have become something else.
        let _ = fs::remove_file(&self.0);
    }
}
