//! `pull`: a reference to files on the disk. Lists, chooses, fetches, publishes, in this order; each step in its own file.
use crate::{
    Store,
    blob::{Fetch, Job},
    choose::{Choice, RemoteFile, choose, says_what_it_is},
    digest::Digest,
    error::{At, Error, ErrorKind, Result},
    http::Client,
    hub,
    layout::Layout,
    lock::Lock,
    oci, partial,
    reference::Reference,
    unpack::{self, Member},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Times a second that the callback is called.
const CALLS: Duration = Duration::from_millis(50);
/// Longest index that is read, in bytes.
pub(crate) const INDEX_MAX: u64 = 100_000_000;
/// Longest document that is fetched before the rest.
const EARLY_MAX: u64 = 4 << 20;

/// How far a call is.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The file that moved last.
    pub file: &'a str,
    /// Files that are whole.
    pub files_done: usize,
    /// Files in all.
    pub files: usize,
    /// Bytes that are on the disk, those of earlier calls included.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes that came over the network in this call.
    pub fetched: u64,
    /// Another process fetches the file, and this one waits for it.
    pub waiting: bool,
}

/// Hears of progress up to twenty times a second, from any thread; says whether to go on.
pub type Watch<'a> = &'a (dyn Fn(&Progress<'_>) -> ControlFlow<()> + Sync);

/// What there is of a model before it can be seen, as [`Approve`] gets it.
#[derive(Clone, Debug)]
pub struct Early {
    /// Files that are here and verified: their paths in the repository, and where they lie.
    pub files: Vec<(String, PathBuf)>,
    /// Whether these are all of them; else documents and configurations alone, before anything larger is fetched.
    pub whole: bool,
}

/// Says whether a model is wanted: once its documents are here, before anything larger is fetched, and once all of it is
/// here, before it can be seen. An error ends the pull.
pub type Approve<'a> = &'a (dyn Fn(&Early) -> Result<()> + Sync);

/// What a pull may be told.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Patterns of files: they add to a quantization, and choose alone where none is named.
    pub include: Vec<String>,
    /// Hash files that are here already, and fetch those that do not hold.
    pub recheck: bool,
}

/// What a pull made sure of.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The commit that the revision was.
    pub commit: String,
    /// What a MODEL argument would be: the snapshot's folder, or the GGUF file.
    pub path: PathBuf,
    /// Each file.
    pub files: Vec<PulledFile>,
    /// Bytes that came over the network.
    pub fetched: u64,
}

/// A file that is here and verified.
#[derive(Clone, Debug)]
pub struct PulledFile {
    /// Path in the repository.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// What it hashes to.
    pub digest: Digest,
    /// Whether this call fetched it.
    pub fetched: bool,
}

/// Counts, and the callback behind a clock.
pub(crate) struct Watcher<'a> {
    watch: Watch<'a>,
    state: Mutex<(Instant, String)>,
    files_done: AtomicUsize,
    files: AtomicUsize,
    done: AtomicU64,
    total: AtomicU64,
    fetched: AtomicU64,
    waiting: AtomicBool,
    stopped: AtomicBool,
}

impl<'a> Watcher<'a> {
    pub fn new(watch: Watch<'a>) -> Watcher<'a> {
        Watcher {
            watch,
            state: Mutex::new((Instant::now(), String::new())),
            files_done: AtomicUsize::new(0),
            files: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    pub fn expect(&self, files: usize, bytes: u64) {
        self.files.store(files, Ordering::Relaxed);
        self.total.store(bytes, Ordering::Relaxed);
    }

    pub fn add(&self, bytes: u64, fetched: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.fetched.fetch_add(fetched, Ordering::Relaxed);
        if fetched > 0 {
            self.waiting.store(false, Ordering::Relaxed);
        }
    }

    pub fn sub(&self, bytes: u64) {
        let _ = self.done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(bytes)));
    }

    /// Names the file that moves now.
    pub fn reset(&self, path: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = path.into();
    }

    pub fn file_done(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Another process has the file.
    pub fn waiting(&self, path: &str) {
        self.waiting.store(true, Ordering::Relaxed);
        self.reset(path);
    }

    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Tells the callback where its time has come. An error once it said stop.
    pub fn check(&self) -> Result<()> {
        if let Ok(mut state) = self.state.try_lock()
            && state.0.elapsed() >= CALLS
        {
            state.0 = Instant::now();
            self.call(&state.1);
        }
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Stopped, "stopped").hint("run it again: what has come stays")),
            false => Ok(()),
        }
    }

    /// The same where an error of the operating system is wanted.
    pub fn check_io(&self) -> io::Result<()> {
        self.check().map_err(|_| io::Error::other("stopped"))
    }

    fn call(&self, file: &str) {
        let progress = Progress {
            file,
            files_done: self.files_done.load(Ordering::Relaxed),
            files: self.files.load(Ordering::Relaxed),
            bytes_done: self.done.load(Ordering::Relaxed),
            bytes: self.total.load(Ordering::Relaxed),
            fetched: self.fetched.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        };
        if (self.watch)(&progress).is_break() {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }
}

impl Store {
    /// Fetches what `reference` names, verified, and shows it in the cache. What is here already stays and is not
    /// fetched; what an earlier call left unfinished is gone on with. Safe beside other processes that do the same.
    ///
    /// `Choice` where the repository leaves doubt, `Denied` and `Remote` for what the hub says, `Network` after all tries,
    /// `Corrupt` where bytes do not hold twice, `Unsafe` for names that leave the folder, `Full`, `Io`, `Stopped`.
    pub fn pull(&self, reference: &Reference, options: &PullOptions, watch: Watch<'_>) -> Result<Pulled> {
        self.pull_approved(reference, options, watch, &|_| Ok(()))
    }

    /// The same for who wants to see cards and licences before anything larger is fetched, and all of it before it is shown in
    /// the cache. What has come of a model that is not wanted stays unfinished: a `gc` removes it.
    ///
    /// # Errors
    /// As [`Store::pull`], and those of `approve`.
    pub fn pull_approved(
        &self,
        reference: &Reference,
        options: &PullOptions,
        watch: Watch<'_>,
        approve: Approve<'_>,
    ) -> Result<Pulled> {
        let config = self.config();
        let client = Client::new(config, reference)?;
        let watcher = Watcher::new(watch);
        let layout = Layout::new(&config.cache, reference);
        let mut listing = hub::list(&client, config, reference, &watcher)?;
        let _shared = loop {
            // Whoever removes holds it for a moment.
            match Lock::attempt(&layout.model_lock(), true)? {
                Some(lock) => break lock,
                None => thread::sleep(CALLS),
            }
            watcher.check()?;
        };
        layout.prepare()?;
        let fetch =
            Fetch { client: &client, config, reference, layout: &layout, watcher: &watcher, recheck: options.recheck };
        let about = |e: Error| e.about(&reference.to_string());
        let chosen = match reference.registry() {
            Some(_) => oci::choose(&listing, &options.include),
            None => choose(&listing.files, reference.quant(), &options.include, None),
        };
        let paths = match chosen.map_err(about)? {
            Choice::Files(paths) => paths,
            Choice::Index(path) => {
                let index = index(&fetch, &listing.commit, &mut listing.files, &path)?;
                match choose(&listing.files, reference.quant(), &options.include, Some(&index)).map_err(about)? {
                    Choice::Files(paths) => paths,
                    Choice::Index(path) => return Err(Error::new(ErrorKind::Corrupt, format!("{path}: no index"))),
                }
            }
        };
        let mut jobs = Vec::with_capacity(paths.len());
        for path in &paths {
            let mut job = job(&fetch, &listing.commit, &mut listing.files, path)?;
            job.archive = listing.archives.contains(path);
            jobs.push(job);
        }
        let archives = Archives::new(&fetch, &jobs)?;
        let needed: Vec<Job> = jobs.iter().filter(|j| !archives.known(j)).cloned().collect();
        let early = || approve(&Early { files: archives.held(&jobs, &is_early)?, whole: false });
        let fetched = fetch_all(&fetch, &needed, &early)?;
        approve(&Early { files: archives.held(&jobs, &|_| true)?, whole: true })?;
        let files = archives.files(jobs.clone(), &fetched)?;
        let links: Vec<(String, Digest)> = files.iter().map(|f| (f.path.clone(), f.digest.clone())).collect();
        layout.publish_snapshot(&listing.commit, &links)?;
        layout.publish_reference(reference.revision_or_main(), &listing.commit)?;
        watcher.call("");
        let snapshot = layout.snapshot(&listing.commit);
        let path = self.in_snapshot(reference, &snapshot).unwrap_or(snapshot);
        archives.put_away(&jobs, &files);
        Ok(Pulled { commit: listing.commit, path, files, fetched: watcher.fetched() })
    }
}

/// What came of the archives of a pull, by their digests.
struct Archives<'a> {
    fetch: &'a Fetch<'a>,
    unpacked: Mutex<BTreeMap<Digest, Vec<Member>>>,
}

impl<'a> Archives<'a> {
    /// With those that an earlier pull unpacked.
    fn new(fetch: &'a Fetch<'a>, jobs: &[Job]) -> Result<Archives<'a>> {
        let mut unpacked = BTreeMap::new();
        for job in jobs.iter().filter(|j| j.archive) {
            if let Some(members) = unpack::known(fetch, &job.digest)? {
                unpacked.insert(job.digest.clone(), members);
            }
        }
        Ok(Archives { fetch, unpacked: Mutex::new(unpacked) })
    }

    fn known(&self, job: &Job) -> bool {
        self.unpacked.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&job.digest)
    }

    /// The files of an archive that is here.
    fn members(&self, job: &Job) -> Result<Vec<Member>> {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(members) = unpacked.get(&job.digest) {
            return Ok(members.clone());
        }
        let members = unpack::unpack(self.fetch, job)?;
        unpacked.insert(job.digest.clone(), members.clone());
        Ok(members)
    }

    /// Paths and places of the files that came of those jobs that are `wanted`.
    fn held(&self, jobs: &[Job], wanted: &dyn Fn(&Job) -> bool) -> Result<Vec<(String, PathBuf)>> {
        let mut held = Vec::new();
        let place = |digest: &Digest| self.fetch.layout.blob(digest.as_str());
        for job in jobs.iter().filter(|j| wanted(j)) {
            match job.archive {
                true => held
                    .extend(self.members(job)?.into_iter().map(|m| (place(&m.digest()), m.path)).map(|(p, m)| (m, p))),
                false => held.push((job.path.clone(), place(&job.digest))),
            }
        }
        Ok(held)
    }

    /// All that the snapshot shows: files, those of archives, and a record of each archive.
    fn files(&self, jobs: Vec<Job>, came: &BTreeSet<String>) -> Result<Vec<PulledFile>> {
        let mut files = Vec::with_capacity(jobs.len());
        let unpacks = jobs.iter().any(|j| j.archive);
        for job in jobs {
            let fetched = came.contains(&job.path);
            if !job.archive {
                files.push(PulledFile { path: job.path, size: job.size, digest: job.digest, fetched });
                continue;
            }
            let members = self.members(&job)?;
            let (size, digest) = unpack::record(self.fetch.layout, &members)?;
            files.push(PulledFile { path: unpack::record_path(&job.digest), size, digest, fetched });
            let file = |m: Member| PulledFile { digest: m.digest(), path: m.path, size: m.size, fetched };
            files.extend(members.into_iter().map(file));
        }
        if unpacks {
            files.sort_by(|a, b| a.path.cmp(&b.path));
            oci::apart(&files.iter().map(|f| (f.path.as_str(), f.size, &f.digest)).collect::<Vec<_>>())?;
        }
        Ok(files)
    }

    /// Takes the archives off the disk: their files are there. What cannot be taken off is left to `gc`.
    fn put_away(&self, jobs: &[Job], files: &[PulledFile]) {
        // One that is also a file of the model stays.
        let spent = |j: &&Job| j.archive && !files.iter().any(|f| f.digest == j.digest);
        for job in jobs.iter().filter(spent) {
            let _ = fs::remove_file(self.fetch.layout.blob(job.digest.as_str()));
        }
    }
}

/// What to fetch for `path`, with size and digest.
fn job(fetch: &Fetch<'_>, commit: &str, files: &mut [RemoteFile], path: &str) -> Result<Job> {
    let absent = || Error::new(ErrorKind::Remote, format!("{path}: not in the repository"));
    let file = files.iter_mut().find(|f| f.path == path).ok_or_else(absent)?;
    if file.digest.is_none() || file.size.is_none() {
        hub::complete(fetch.client, fetch.config, fetch.reference, commit, file, fetch.watcher)?;
    }
    let (Some(size), Some(digest)) = (file.size, file.digest.clone()) else { return Err(absent()) };
    Ok(Job {
        path: path.into(),
        url: hub::file_url(fetch.config, fetch.reference, commit, file),
        size,
        digest,
        archive: false,
    })
}

/// Fetches the shard index and reads it.
fn index(fetch: &Fetch<'_>, commit: &str, files: &mut [RemoteFile], path: &str) -> Result<Vec<u8>> {
    let job = job(fetch, commit, files, path)?;
    if job.size > INDEX_MAX {
        let what = format!("{path}: {} bytes are no shard index", job.size);
        return Err(Error::new(ErrorKind::Unsafe, what).hint("do not use files from this source"));
    }
    fetch.obtain(&job, 1)?;
    let blob = fetch.layout.blob(job.digest.as_str());
    fs::read(&blob).at(&blob)
}

/// Whether a file says what a model is and is small: what is looked at before the rest is fetched.
fn is_early(job: &Job) -> bool {
    job.size <= EARLY_MAX && says_what_it_is(&job.path)
}

/// Fetches all blobs: those that say what the model is first, then, if these are `approved`, the others; small ones side by
/// side, large ones one after another over all connections. Paths of those that came.
fn fetch_all(fetch: &Fetch<'_>, jobs: &[Job], approved: &dyn Fn() -> Result<()>) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let unique: Vec<&Job> = jobs.iter().filter(|j| seen.insert(&j.digest)).collect();
    fetch.watcher.expect(unique.len(), unique.iter().map(|j| j.size).fold(0, u64::saturating_add));
    let mut needed = Vec::new();
    for job in unique {
        if fetch.present(job)? {
            fetch.watcher.add(job.size, 0);
            fetch.watcher.file_done();
        } else {
            needed.push(job);
        }
    }
    room(fetch, &needed)?;
    // Of several files of the same bytes any may be the one that says something.
    let early: BTreeSet<&Digest> = jobs.iter().filter(|j| is_early(j)).map(|j| &j.digest).collect();
    let (early, needed): (Vec<&Job>, Vec<&Job>) = needed.into_iter().partition(|j| early.contains(&j.digest));
    let (small, large): (Vec<&Job>, Vec<&Job>) = needed.into_iter().partition(|j| j.size <= fetch.config.chunk_bytes);
    let connections = fetch.config.connections.clamp(1, 64);
    let came = Mutex::new(BTreeSet::new());
    let one = |job: &Job, connections: usize| -> Result<()> {
        fetch.watcher.reset(&job.path);
        if fetch.obtain(job, connections)? {
            came.lock().unwrap_or_else(PoisonError::into_inner).insert(job.path.clone());
        } else {
            // Another process fetched it: all of it is here now.
            fetch.watcher.add(job.size, 0);
        }
        fetch.watcher.file_done();
        Ok(())
    };
    side_by_side(&early, connections, &one)?;
    approved()?;
    side_by_side(&small, connections, &one)?;
    for job in large {
        one(job, connections)?;
    }
    Ok(came.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Fetches small files over several connections, one for each.
fn side_by_side(jobs: &[&Job], connections: usize, one: &(dyn Fn(&Job, usize) -> Result<()> + Sync)) -> Result<()> {
    let (queue, failed) = (Mutex::new(jobs.iter()), Mutex::new(None));
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(job) = next.filter(|_| failed.lock().is_ok_and(|f| f.is_none())) else { return };
            if let Err(e) = one(job, 1) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..connections.min(jobs.len()) {
            // One that cannot be had is one less.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Refuses what the disk cannot hold, before anything is fetched.
fn room(fetch: &Fetch<'_>, needed: &[&Job]) -> Result<()> {
    let folder = fetch.layout.private();
    // The files of an archive are beside it until it goes.
    let beside = |j: &&Job| if j.archive { j.size } else { 0 };
    let left = |j: &&Job| {
        j.size.saturating_add(beside(j)).saturating_sub(partial::bytes_left(
            &folder,
            &j.digest,
            j.size,
            fetch.config.chunk_bytes.max(1),
        ))
    };
    let wanted = needed.iter().map(left).fold(0, u64::saturating_add);
    match available(&folder) {
        Some(free) if free < wanted => {
            let what = format!("{}: {} more bytes are needed, {free} are free", fetch.config.cache.display(), wanted);
            Err(Error::new(ErrorKind::Full, what).hint("free space, or name another place with HF_HUB_CACHE"))
        }
        _ => Ok(()),
    }
}

/// Bytes that may still be written below `folder`.
#[cfg(unix)]
fn available(folder: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    #[allow(clippy::useless_conversion)] // the widths differ between systems
    u64::from(found.blocks_available()).checked_mul(found.fragment_size().into())
}

#[cfg(not(unix))]
fn available(_: &Path) -> Option<u64> {
    None
}
