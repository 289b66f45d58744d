//! One file from the hub to a verified blob: ranged chunks over several connections, tried again where they fail, hashed as
//! a whole before anybody sees them. Does not own: which files, or what names them (`pull`).
use crate::{
    config::Config,
    digest::Digest,
    error::{Error, ErrorKind, Result, quoted},
    http::{Client, Reply, Trouble},
    hub::{self, Tries},
    layout::Layout,
    lock::Lock,
    partial::{self, Partial},
    pull::Watcher,
    reference::Reference,
};
use std::{
    fs::{self, File},
    io::{self, Read},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

/// Bytes that count as progress of a connection that broke off.
pub(crate) const GAIN: u64 = 64 << 10;
/// Bytes a second below which a connection is given up once it had its time.
pub(crate) const SLOW: u64 = 512;
/// Times that the whole file is fetched before a digest that does not hold is final.
const WHOLE_TRIES: usize = 2;

/// A file that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub path: String,
    pub url: String,
    pub size: u64,
    pub digest: Digest,
    /// Whether its bytes are an archive, whose files are what is wanted.
    pub archive: bool,
}

/// What fetching needs to know.
pub(crate) struct Fetch<'a> {
    pub client: &'a Client<'a>,
    pub config: &'a Config,
    pub reference: &'a Reference,
    pub layout: &'a Layout,
    pub watcher: &'a Watcher<'a>,
    /// Hash blobs that are there already.
    pub recheck: bool,
}

/// One try at a file: where its bytes go, and how many of them progress counts, so that they can be taken back.
struct Target<'a> {
    partial: Partial,
    watcher: &'a Watcher<'a>,
    counted: AtomicU64,
}

impl Target<'_> {
    fn add(&self, bytes: u64, fetched: u64) {
        self.counted.fetch_add(bytes, Ordering::Relaxed);
        self.watcher.add(bytes, fetched);
    }

    fn take_back(&self) {
        self.watcher.sub(self.counted.swap(0, Ordering::Relaxed));
    }
}

/// Why a chunk did not come.
enum Stop {
    /// The server gives the whole file whatever range is asked for.
    NoRanges,
    Error(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Stop {
        Stop::Error(e)
    }
}

impl Fetch<'_> {
    /// Whether the blob is there already.
    pub fn present(&self, job: &Job) -> Result<bool> {
        let path = self.layout.blob(job.digest.as_str());
        let whole = fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == job.size);
        if !whole || !self.recheck {
            return Ok(whole);
        }
        let mut file = File::open(&path).map_err(|e| Error::io(&path, &e))?;
        let checked = job.digest.matches(&mut file, job.size, |_| self.watcher.check_io());
        self.watcher.check()?;
        checked.map_err(|e| Error::io(&path, &e))
    }

    /// Makes the blob be there. True where it was fetched by this call; false where it was here, or another process
    /// fetched it meanwhile.
    pub fn obtain(&self, job: &Job, connections: usize) -> Result<bool> {
        if self.present(job)? {
            return Ok(false);
        }
        let lock = Lock::take(&self.layout.blob_lock(&job.digest), self.watcher, || self.watcher.waiting(&job.path))?;
        if self.present(job)? {
            return Ok(false);
        }
        let folder = self.layout.private();
        for _ in 0..WHOLE_TRIES {
            let (partial, marks) =
                Partial::open(&folder, &job.digest, job.size, self.config.chunk_bytes.max(1), lock.works)?;
            let here = marks.iter().enumerate().filter(|(_, m)| **m).map(|(i, _)| span_len(&partial, i)).sum();
            let target = Target { partial, watcher: self.watcher, counted: AtomicU64::new(0) };
            target.add(here, 0);
            let missing = marks.iter().enumerate().filter(|(_, m)| !**m).map(|(i, _)| i).collect();
            self.fill(job, &target, missing, connections).map_err(|e| e.about(&job.path))?;
            let holds = target.partial.finish(&job.digest, |_| self.watcher.check_io());
            self.watcher.check()?;
            if holds? {
                self.layout.publish_blob(target.partial.path(), &job.digest)?;
                partial::remove_dead(&folder, &job.digest, lock.works);
                return Ok(true);
            }
            tracing::warn!("{}: the bytes that came are not those that were promised", quoted(&job.path));
            target.take_back();
            target.partial.discard();
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            format!("{}: not the bytes that were promised ({})", quoted(&job.path), job.digest),
        )
        .hint("they were fetched twice and thrown away: a proxy or mirror on the way changes them"))
    }

    fn fill(&self, job: &Job, target: &Target<'_>, missing: Vec<usize>, connections: usize) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let workers = connections.clamp(1, missing.len());
        let queue = Mutex::new(missing.into_iter());
        let (halt, no_ranges) = (AtomicBool::new(false), AtomicBool::new(false));
        let (first_error, location) = (Mutex::new(None), Mutex::new(None));
        let work = || {
            while !halt.load(Ordering::SeqCst) {
                let Some(i) = queue.lock().unwrap_or_else(PoisonError::into_inner).next() else { return };
                match self.chunk(job, target, i, &location, &halt) {
                    Ok(()) => {}
                    Err(Stop::NoRanges) => {
                        no_ranges.store(true, Ordering::SeqCst);
                        halt.store(true, Ordering::SeqCst);
                    }
                    Err(Stop::Error(e)) => {
                        first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                        halt.store(true, Ordering::SeqCst);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..workers {
                // One that cannot be had is one less.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        if let Some(e) = first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(e);
        }
        if no_ranges.into_inner() { self.whole(job, target) } else { Ok(()) }
    }

    /// One chunk, from wherever the last try broke off.
    fn chunk(
        &self,
        job: &Job,
        target: &Target<'_>,
        i: usize,
        location: &Mutex<Option<String>>,
        halt: &AtomicBool,
    ) -> std::result::Result<(), Stop> {
        let (start, end) = target.partial.span(i);
        let (mut at, mut tries) = (start, Tries::new(self.config));
        while at < end {
            if halt.load(Ordering::SeqCst) {
                return Ok(());
            }
            self.watcher.check()?;
            let known = location.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let url = known.as_deref().unwrap_or(&job.url);
            let range = (at > 0 || end < job.size).then(|| (at, end - 1));
            let before = at;
            let trouble = match self.client.get(url, range) {
                Ok(reply) if reply.status == 200 && at > 0 => return Err(Stop::NoRanges),
                Ok(reply) => {
                    if !reply.home && !self.client.is_home(&reply.url) {
                        // Where the hub sends us holds for the next chunks too.
                        *location.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply.url.clone());
                    }
                    self.receive(reply, target, &mut at, end, range.is_some()).err()
                }
                Err(e) => {
                    // An address that was signed for a while is asked for anew.
                    *location.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    Some(e)
                }
            };
            if at - before >= GAIN {
                tries.progress();
            }
            match trouble {
                None => {}
                Some(Trouble::Passing { error, after }) => tries.again(error, after, self.watcher)?,
                Some(Trouble::Final(e)) => return Err(e.into()),
                Some(Trouble::Refused { status, code, message }) => {
                    return Err(hub::refused(self.config, self.reference, status, &code, &message).into());
                }
            }
        }
        Ok(target.partial.mark(i)?)
    }

    /// The whole file in one answer, for servers that know no ranges. A broken connection begins again.
    fn whole(&self, job: &Job, target: &Target<'_>) -> Result<()> {
        let mut tries = Tries::new(self.config);
        loop {
            target.take_back();
            let mut at = 0;
            let trouble = match self.client.get(&job.url, None) {
                Ok(reply) => match self.receive(reply, target, &mut at, job.size, false) {
                    Ok(()) => break,
                    Err(e) => e,
                },
                Err(e) => e,
            };
            match trouble {
                Trouble::Passing { error, after } => tries.again(error, after, self.watcher)?,
                Trouble::Final(e) => return Err(e),
                Trouble::Refused { status, code, message } => {
                    return Err(hub::refused(self.config, self.reference, status, &code, &message));
                }
            }
        }
        (0..partial::chunks(job.size, self.config.chunk_bytes.max(1))).try_for_each(|i| target.partial.mark(i))
    }

    /// Writes an answer's bytes from `at` on, no further than `end`. `at` says how far it came.
    fn receive(
        &self,
        mut reply: Reply,
        target: &Target<'_>,
        at: &mut u64,
        end: u64,
        ranged: bool,
    ) -> std::result::Result<(), Trouble> {
        let until = check_head(&reply, *at, end, target.partial.size(), ranged)?;
        let whole = reply.status == 200;
        let (begun, from) = (Instant::now(), *at);
        let mut reader = reply.body.as_reader();
        let mut buffer = vec![0u8; 1 << 17];
        while *at < until {
            let room = usize::try_from(until - *at).unwrap_or(usize::MAX).min(buffer.len());
            let piece = match reader.read(buffer.get_mut(..room).unwrap_or(&mut [])) {
                Ok(0) => return Err(Trouble::passing("the connection ended before the file did")),
                Ok(n) => buffer.get(..n).unwrap_or(&[]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Trouble::passing(format!("the connection broke off: {e}"))),
            };
            target.partial.write(piece, *at)?;
            *at += piece.len() as u64;
            target.add(piece.len() as u64, piece.len() as u64);
            self.watcher.check()?;
            let took = begun.elapsed();
            if took > self.config.patience * 2 && (*at - from) / took.as_secs().max(1) < SLOW {
                return Err(Trouble::passing("the connection is too slow to go on with"));
            }
        }
        // An answer that ends here can be read to its end, and its connection be used again.
        let ends = !whole || end == target.partial.size();
        if ends && !matches!(reader.read(buffer.get_mut(..1).unwrap_or(&mut [])), Ok(0) | Err(_)) {
            return Err(wrong_length("more bytes came than the file has"));
        }
        if until < end { Err(Trouble::passing("the server gave less than was asked for")) } else { Ok(()) }
    }
}

fn span_len(partial: &Partial, i: usize) -> u64 {
    let (start, end) = partial.span(i);
    end - start
}

/// A length that is not the promised one: tried again, and in the end an error about the bytes, not the network.
pub(crate) fn wrong_length(what: &str) -> Trouble {
    let error = Error::new(ErrorKind::Corrupt, what).hint("a mirror or proxy on the way changes the file");
    Trouble::Passing { error, after: None }
}

/// Whether the answer holds the bytes from `at` on; where they end, at most at `end`.
pub(crate) fn check_head(
    reply: &Reply,
    at: u64,
    end: u64,
    size: u64,
    ranged: bool,
) -> std::result::Result<u64, Trouble> {
    if reply.header("content-encoding").is_some_and(|e| !e.eq_ignore_ascii_case("identity")) {
        return Err(Trouble::passing("the server compresses what was asked for as it is"));
    }
    let length: Option<u64> = reply.header("content-length").and_then(|v| v.trim().parse().ok());
    match reply.status {
        200 if length.is_some_and(|l| l != size) => Err(wrong_length("the file has another length than was promised")),
        200 => Ok(end),
        206 if ranged => {
            let (first, last, total) = reply
                .header("content-range")
                .and_then(content_range)
                .ok_or_else(|| Trouble::passing("the server does not say which bytes it gives"))?;
            if total.is_some_and(|t| t != size) {
                return Err(wrong_length("the file has another length than was promised"));
            }
            if first != at || last >= end || last < first {
                return Err(Trouble::passing("the server gives other bytes than were asked for"));
            }
            if length.is_some_and(|l| l != last - first + 1) {
                return Err(wrong_length("the answer has another length than it says"));
            }
            Ok(last + 1)
        }
        status => Err(Trouble::passing(format!("the server answers {status} to a request for bytes"))),
    }
}

/// `bytes 0-99/1000` or `bytes 0-99/*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges_are_read() {
        for (text, want) in [
            ("bytes 0-99/1000", Some((0, 99, Some(1000)))),
            ("bytes 5-5/*", Some((5, 5, None))),
            ("bytes */1000", None),
            ("0-99/1000", None),
            ("bytes 0-99/x", None),
            ("bytes -1-2/3", None),
        ] {
            assert_eq!(super::content_range(text), want, "{text}");
        }
    }
}
