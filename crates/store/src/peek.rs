//! Parts of files on the hub without fetching the files: what it takes to say what is in a model.
//!
//! Owns: ranged reads with their retries, whole small files verified by their digests, many of both at a time. Writes
//! nothing to the disk. Does not own: which bytes of a file make its header (the caller knows formats).
//! Parts cannot be verified, for a digest is that of a whole file: only their place and length are.
use crate::{
    Store,
    blob::{GAIN, SLOW, check_head, wrong_length},
    choose::{Choice, RemoteFile, choose},
    config::Config,
    error::{Error, ErrorKind, Result, quoted},
    http::{Client, Reply, Trouble},
    hub::{self, Tries},
    oci,
    pull::{INDEX_MAX, Watch, Watcher},
    reference::Reference,
};
use std::{
    collections::BTreeMap,
    io::{self, Read},
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

/// A revision on the hub, open for reading parts of its files.
pub struct Peek<'a> {
    config: &'a Config,
    reference: &'a Reference,
    client: Client<'a>,
    watcher: Watcher<'a>,
    commit: String,
    files: Vec<RemoteFile>,
    /// Where the hub sends us for a file, as long as that holds.
    locations: Mutex<BTreeMap<String, String>>,
    /// The shard index, which is read to choose and then wanted again.
    index: Mutex<Option<(String, Vec<u8>)>>,
    requests: AtomicU64,
}

impl Store {
    /// Opens what `reference` names on the hub. Asks for the list of files and nothing else.
    ///
    /// `Offline` where the network is switched off; otherwise errors as those of [`Store::pull`].
    pub fn peek<'a>(&'a self, reference: &'a Reference, watch: Watch<'a>) -> Result<Peek<'a>> {
        let config = self.config();
        let client = Client::new(config, reference)?;
        let watcher = Watcher::new(watch);
        let listing = hub::list(&client, config, reference, &watcher)?;
        if !listing.archives.is_empty() {
            let what = format!("{reference}: its layers are archives, into which only a pull can look");
            return Err(Error::new(ErrorKind::Choice, what).hint(format!("pondera pull {reference}")));
        }
        Ok(Peek {
            config,
            reference,
            client,
            watcher,
            commit: listing.commit,
            files: if reference.registry().is_some() {
                oci::shown(listing.files, &listing.extra)
            } else {
                listing.files
            },
            locations: Mutex::default(),
            index: Mutex::default(),
            requests: AtomicU64::new(1),
        })
    }
}

impl Peek<'_> {
    /// The commit that the revision is at the moment; all reads are of it.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Bytes of files that came so far.
    pub fn fetched(&self) -> u64 {
        self.watcher.fetched()
    }

    /// Requests that were sent so far, redirects not counted.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The files that a pull of the reference would fetch, each with its size, sorted by path.
    pub fn chosen(&mut self) -> Result<Vec<RemoteFile>> {
        let about = |e: Error| e.about(&self.reference.to_string());
        let quant = self.reference.quant();
        let paths = match choose(&self.files, quant, &[], None).map_err(about)? {
            Choice::Files(paths) => paths,
            Choice::Index(path) => {
                let file = self.sized(&path)?;
                let bytes = self.whole(&file, INDEX_MAX)?;
                let chosen = choose(&self.files, quant, &[], Some(&bytes)).map_err(about)?;
                *self.index.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.clone(), bytes));
                match chosen {
                    Choice::Files(paths) => paths,
                    Choice::Index(path) => return Err(Error::new(ErrorKind::Corrupt, format!("{path}: no index"))),
                }
            }
        };
        self.each(&paths, |path| self.sized(path))
    }

    /// The file with its size: mirrors leave it out of their lists.
    fn sized(&self, path: &str) -> Result<RemoteFile> {
        let absent = || Error::new(ErrorKind::Remote, format!("{}: not in the repository", quoted(path)));
        let mut file = self.files.iter().find(|f| f.path == path).cloned().ok_or_else(absent)?;
        if file.size.is_none() {
            self.requests.fetch_add(1, Ordering::Relaxed);
            hub::complete(&self.client, self.config, self.reference, &self.commit, &mut file, &self.watcher)?;
        }
        Ok(file)
    }

    /// All bytes of a file of at most `max`, verified by its digest where the list has one.
    pub fn whole(&self, file: &RemoteFile, max: u64) -> Result<Vec<u8>> {
        if let Some((path, bytes)) = &*self.index.lock().unwrap_or_else(PoisonError::into_inner)
            && *path == file.path
        {
            return Ok(bytes.clone());
        }
        let size = size_of(file)?;
        if size > max {
            let what = format!("{}: {size} bytes, expected at most {max}", quoted(&file.path));
            return Err(Error::new(ErrorKind::Unsafe, what).hint("do not use files from this source"));
        }
        // A second try for bytes that changed on the way.
        for _ in 0..2 {
            let bytes = self.part(file, 0..size)?;
            let holds = |d: &crate::Digest| d.matches(&mut bytes.as_slice(), size, |_| Ok(())).unwrap_or(false);
            if file.digest.as_ref().is_none_or(holds) {
                return Ok(bytes);
            }
        }
        let what = format!("{}: its bytes are not those that were promised", quoted(&file.path));
        Err(Error::new(ErrorKind::Corrupt, what).hint("a mirror or proxy on the way changes the file"))
    }

    /// The bytes `range` of a file, cut where the file ends. A server that gives more is cut off.
    pub fn part(&self, file: &RemoteFile, range: Range<u64>) -> Result<Vec<u8>> {
        let size = size_of(file)?;
        let (start, end) = (range.start.min(size), range.end.min(size));
        let url = hub::file_url(self.config, self.reference, &self.commit, file);
        let (mut bytes, mut tries) = (Vec::new(), Tries::new(self.config));
        loop {
            let at = start + bytes.len() as u64;
            if at >= end {
                return Ok(bytes);
            }
            self.watcher.check()?;
            let known = self.locations.lock().unwrap_or_else(PoisonError::into_inner).get(&file.path).cloned();
            let ranged = at > 0 || end < size;
            self.requests.fetch_add(1, Ordering::Relaxed);
            let reply = self.client.get(known.as_deref().unwrap_or(&url), ranged.then_some((at, end - 1)));
            let mut locations = self.locations.lock().unwrap_or_else(PoisonError::into_inner);
            match &reply {
                Ok(reply) if !reply.home && !self.client.is_home(&reply.url) => {
                    locations.insert(file.path.clone(), reply.url.clone());
                }
                // An address that was signed for a while is asked for anew.
                Err(_) => drop(locations.remove(&file.path)),
                Ok(_) => {}
            }
            drop(locations);
            let span = Span { at, end, size, ranged };
            let got = reply.and_then(|reply| self.receive(reply, &mut bytes, &span));
            if start + bytes.len() as u64 - at >= GAIN {
                tries.progress();
            }
            match got {
                Ok(()) => {}
                Err(Trouble::Passing { error, after }) => tries.again(error.about(&file.path), after, &self.watcher)?,
                Err(Trouble::Final(e)) => return Err(e.about(&file.path)),
                Err(Trouble::Refused { status, code, message }) => {
                    return Err(hub::refused(self.config, self.reference, status, &code, &message));
                }
            }
        }
    }

    /// Appends an answer's bytes, no further than the span's end.
    fn receive(&self, mut reply: Reply, bytes: &mut Vec<u8>, span: &Span) -> std::result::Result<(), Trouble> {
        let until = check_head(&reply, span.at, span.end, span.size, span.ranged)?;
        let whole = reply.status == 200;
        // A server without ranges begins at the file's beginning.
        let mut at = if whole { 0 } else { span.at };
        let (begun, from) = (Instant::now(), at);
        let mut reader = reply.body.as_reader();
        let mut buffer = vec![0u8; 1 << 16];
        while at < until {
            let room = usize::try_from(until - at).unwrap_or(usize::MAX).min(buffer.len());
            let piece = match reader.read(buffer.get_mut(..room).unwrap_or(&mut [])) {
                Ok(0) => return Err(Trouble::passing("the connection ended before the file did")),
                Ok(n) => buffer.get(..n).unwrap_or(&[]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Trouble::passing(format!("the connection broke off: {e}"))),
            };
            let skipped = usize::try_from(span.at.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
            bytes.extend_from_slice(piece.get(skipped..).unwrap_or(&[]));
            at += piece.len() as u64;
            self.watcher.add(piece.len() as u64, piece.len() as u64);
            self.watcher.check()?;
            let took = begun.elapsed();
            if took > self.config.patience * 2 && (at - from) / took.as_secs().max(1) < SLOW {
                return Err(Trouble::passing("the connection is too slow to go on with"));
            }
        }
        // An answer that ends here is read to its end, so that its connection can be used again; any other is cut off.
        let ends = !whole || span.end == span.size;
        if ends && !matches!(reader.read(buffer.get_mut(..1).unwrap_or(&mut [])), Ok(0) | Err(_)) {
            return Err(wrong_length("more bytes came than the file has"));
        }
        Ok(())
    }

    /// `f` of every item, several at a time; the first error where there is one.
    pub fn each<T: Sync, R: Send, E: Send>(
        &self,
        items: &[T],
        f: impl Fn(&T) -> std::result::Result<R, E> + Sync,
    ) -> std::result::Result<Vec<R>, E> {
        let next = Mutex::new(items.iter().enumerate());
        let (done, failed) = (Mutex::new(BTreeMap::new()), Mutex::new(None));
        let work = || {
            loop {
                let item = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((i, item)) = item.filter(|_| failed.lock().is_ok_and(|f| f.is_none())) else { return };
                match f(item) {
                    Ok(r) => drop(done.lock().unwrap_or_else(PoisonError::into_inner).insert(i, r)),
                    Err(e) => {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.config.connections.clamp(1, 64).min(items.len()) {
                // One that cannot be had is one less.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()),
        }
    }
}

/// What of a file is asked for, from where reading has come to.
struct Span {
    at: u64,
    end: u64,
    size: u64,
    ranged: bool,
}

fn size_of(file: &RemoteFile) -> Result<u64> {
    file.size.ok_or_else(|| Error::new(ErrorKind::Remote, format!("{}: its size is not known", quoted(&file.path))))
}
