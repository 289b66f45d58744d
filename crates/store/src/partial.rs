//! A file that is still coming: its bytes at their places, and behind them one mark for each chunk that is whole, so that a
//! killed download goes on where it was. Does not own: what the bytes must hash to, or where they come from.
//!
//! ```text
//! 0            size            size + 96
//! | the bytes  | header (text) | one byte per chunk: `.` missing, `x` whole |
//! ```
//! Bytes and marks are one file, so that one rename takes over both. A file of `size` bytes has lost its marks because all
//! chunks are there. Nothing here is trusted: whoever goes on hashes the whole in the end.
use crate::{
    digest::Digest,
    error::{At, Error, ErrorKind, Result},
    layout::random,
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Bytes of the header.
const HEADER: u16 = 96;
/// A file without a write for this long has no owner that will go on: every read ends long before.
const STALE: Duration = Duration::from_secs(3600);
/// Ending of unfinished files.
pub(crate) const ENDING: &str = ".part";

/// An unfinished file that this process alone writes to.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    size: u64,
    chunk: u64,
}

impl Partial {
    /// Goes on with what an earlier process left of `digest` in `folder`, or begins anew. Says which chunks are whole.
    ///
    /// `alone`: the digest's lock is held and locks exclude others here, so owners on this host are dead. What might be
    /// another's is copied and never written to.
    pub fn open(folder: &Path, digest: &Digest, size: u64, chunk: u64, alone: bool) -> Result<(Partial, Vec<bool>)> {
        let mut found: Vec<(PathBuf, Vec<bool>, bool)> = Vec::new();
        for path in leftovers(folder, digest) {
            if let Some(marks) = read_marks(&path, size, chunk) {
                let dead = is_dead(&path, alone);
                found.push((path, marks, dead));
            }
        }
        found.sort_by_key(|(_, marks, dead)| std::cmp::Reverse((marks.iter().filter(|m| **m).count(), *dead)));
        let new = folder.join(new_name(digest));
        if let Some((old, marks, dead)) = found.into_iter().next().filter(|(_, marks, _)| marks.contains(&true)) {
            if dead && fs::rename(&old, &new).is_ok() {
                let file = File::options().read(true).write(true).open(&new).at(&new)?;
                let partial = Partial { path: new, file, size, chunk };
                partial.lay_out(&marks)?;
                return Ok((partial, marks));
            }
            if let Ok(source) = File::open(&old) {
                let partial = Partial::create(new, size, chunk, marks.len())?;
                partial.copy_from(&source, &marks)?;
                return Ok((partial, marks));
            }
        }
        let count = chunks(size, chunk);
        Ok((Partial::create(new, size, chunk, count)?, vec![false; count]))
    }

    fn create(path: PathBuf, size: u64, chunk: u64, count: usize) -> Result<Partial> {
        let file = File::options().read(true).write(true).create_new(true).open(&path).at(&path)?;
        let partial = Partial { path, file, size, chunk };
        partial.lay_out(&vec![false; count])?;
        Ok(partial)
    }

    /// Writes header and marks.
    fn lay_out(&self, marks: &[bool]) -> Result<()> {
        let mut tail = format!("pondera-part 1 {} {}", self.size, self.chunk).into_bytes();
        tail.resize(usize::from(HEADER), b'\n');
        tail.extend(marks.iter().map(|m| if *m { b'x' } else { b'.' }));
        write_all_at(&self.file, &tail, self.size).at(&self.path)
    }

    fn copy_from(&self, source: &File, marks: &[bool]) -> Result<()> {
        let mut buffer = vec![0u8; 1 << 20];
        for i in marks.iter().enumerate().filter(|(_, m)| **m).map(|(i, _)| i) {
            let (mut at, end) = self.span(i);
            while at < end {
                let n = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
                let piece = buffer.get_mut(..n).unwrap_or(&mut []);
                read_exact_at(source, piece, at).at(&self.path)?;
                write_all_at(&self.file, piece, at).at(&self.path)?;
                at += n as u64;
            }
            self.mark(i)?;
        }
        Ok(())
    }

    /// First byte of chunk `i` and the byte behind its last.
    pub fn span(&self, i: usize) -> (u64, u64) {
        let start = (i as u64).saturating_mul(self.chunk).min(self.size);
        (start, start.saturating_add(self.chunk).min(self.size))
    }

    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes bytes of the file at their place. Refuses once another process has taken the file over.
    pub fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.size) {
            return Err(Error::new(ErrorKind::Corrupt, "more bytes came than the file has"));
        }
        if !self.path.exists() {
            let what = format!("{}: taken over by another process", self.path.display());
            return Err(Error::new(ErrorKind::Busy, what).hint("run it again"));
        }
        write_all_at(&self.file, bytes, at).at(&self.path)
    }

    /// Notes that chunk `i` is whole.
    pub fn mark(&self, i: usize) -> Result<()> {
        write_all_at(&self.file, b"x", self.size + u64::from(HEADER) + i as u64).at(&self.path)
    }

    /// Cuts the marks off, waits until the bytes are on the disk, and hashes what is there.
    pub fn finish(&self, digest: &Digest, mut each: impl FnMut(u64) -> io::Result<()>) -> Result<bool> {
        self.file.set_len(self.size).at(&self.path)?;
        self.file.sync_all().at(&self.path)?;
        // By name: the bytes that will be published, not those of a file that is no longer there.
        let mut file = File::open(&self.path).at(&self.path)?;
        digest.matches(&mut file, self.size, &mut each).at(&self.path)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it.
    pub fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Chunks of a file.
pub(crate) fn chunks(size: u64, chunk: u64) -> usize {
    usize::try_from(size.div_ceil(chunk.max(1))).unwrap_or(usize::MAX)
}

/// Bytes of `digest` that an earlier process left in `folder`, in whole chunks.
pub(crate) fn bytes_left(folder: &Path, digest: &Digest, size: u64, chunk: u64) -> u64 {
    let whole = |path: PathBuf| {
        let marks = read_marks(&path, size, chunk)?;
        Some((marks.iter().filter(|m| **m).count() as u64).saturating_mul(chunk).min(size))
    };
    leftovers(folder, digest).into_iter().filter_map(whole).max().unwrap_or(0)
}

/// Removes unfinished files of `digest` that nobody goes on with.
pub(crate) fn remove_dead(folder: &Path, digest: &Digest, alone: bool) {
    for path in leftovers(folder, digest).into_iter().filter(|p| is_dead(p, alone)) {
        let _ = fs::remove_file(&path);
    }
}

/// Whether the process that wrote it is gone: it was on this host and would hold the lock that we hold (`alone`), or has
/// not written for too long.
fn is_dead(path: &Path, alone: bool) -> bool {
    is_stale(path) || alone && owner(path).is_some_and(|host| host == this_host())
}

fn leftovers(folder: &Path, digest: &Digest) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = |e: &fs::DirEntry| {
        let name = e.file_name().to_string_lossy().into_owned();
        name.starts_with(&format!("{}.", digest.as_str())) && name.ends_with(ENDING)
    };
    entries.filter(named).filter(|e| e.file_type().is_ok_and(|t| t.is_file())).map(|e| e.path()).collect()
}

/// Whether nobody wrote to it for longer than anybody waits.
pub(crate) fn is_stale(path: &Path) -> bool {
    let age = fs::symlink_metadata(path).and_then(|m| m.modified()).ok();
    age.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age > STALE)
}

/// Which chunks of a file are whole. None where it is of other bytes, or broken.
fn read_marks(path: &Path, size: u64, chunk: u64) -> Option<Vec<bool>> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let count = chunks(size, chunk);
    if length == size && size > 0 {
        return Some(vec![true; count]);
    }
    // The marks are there, so that a size that somebody only claims costs no memory.
    if length != size.checked_add(HEADER.into())?.checked_add(count as u64)? {
        return None;
    }
    let mut header = [0u8; HEADER as usize];
    read_exact_at(&file, &mut header, size).ok()?;
    let text = std::str::from_utf8(&header).ok()?.trim_end_matches('\n');
    if text != format!("pondera-part 1 {size} {chunk}") {
        return None;
    }
    let mut marks = vec![0u8; count];
    read_exact_at(&file, &mut marks, size + u64::from(HEADER)).ok()?;
    Some(marks.iter().map(|m| *m == b'x').collect())
}

/// The host in a file's name.
fn owner(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.split('.').nth(1)?.to_string())
}

/// What tells this machine, since it was started, from others that share the disk; the same for all where the system does
/// not say.
fn this_host() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    if id.is_empty() { "host".into() } else { id }
}

/// A name that nobody else has: digest, host, chance.
fn new_name(digest: &Digest) -> String {
    format!("{}.{}.{}{ENDING}", digest.as_str(), this_host(), random())
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(n..).unwrap_or(&[]);
        at += n as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = bytes.get_mut(n..).unwrap_or(&mut []);
        at += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let at = std::env::temp_dir().join(format!("pondera-partial-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&at);
        fs::create_dir_all(&at).unwrap();
        at
    }

    fn digest() -> Digest {
        Digest::parse(&"a".repeat(64)).unwrap()
    }

    #[test]
    fn what_is_whole_is_gone_on_with() {
        let at = folder("go-on");
        let (first, marks) = Partial::open(&at, &digest(), 250, 100, true).unwrap();
        assert_eq!((marks, first.span(2)), (vec![false; 3], (200, 250)));
        first.write(&[7; 100], 100).unwrap();
        first.mark(1).unwrap();
        assert_eq!(first.write(&[1; 2], 249).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(bytes_left(&at, &digest(), 250, 100), 100);
        // Alone: the file itself is taken over, and who had it is told.
        let (second, marks) = Partial::open(&at, &digest(), 250, 100, true).unwrap();
        assert_eq!(marks, [false, true, false]);
        assert_eq!(first.write(&[1], 0).unwrap_err().kind(), ErrorKind::Busy);
        // Not alone: what is whole is copied, and the other stays as it was.
        let (third, marks) = Partial::open(&at, &digest(), 250, 100, false).unwrap();
        assert_eq!(marks, [false, true, false]);
        let mut bytes = [0; 100];
        read_exact_at(&third.file, &mut bytes, 100).unwrap();
        assert_eq!(bytes, [7; 100]);
        second.write(&[1], 0).unwrap();
        assert!(third.path() != second.path() && second.path().exists());
        // Another size, another length of chunks: nothing of it counts.
        for (size, chunk) in [(251, 100), (250, 99)] {
            assert!(!Partial::open(&at, &digest(), size, chunk, true).unwrap().1.contains(&true));
        }
        fs::remove_dir_all(&at).unwrap();
    }

    #[test]
    fn broken_marks_are_no_marks() {
        let at = folder("broken");
        let (sound, _) = Partial::open(&at, &digest(), 250, 100, true).unwrap();
        sound.mark(0).unwrap();
        let whole = fs::read(sound.path()).unwrap();
        sound.discard();
        let path = at.join(format!("{}.x.y{ENDING}", digest().as_str()));
        for cut in [0, 1, 249, 251, 300, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read_marks(&path, 250, 100), None, "{cut}");
        }
        for i in 250..250 + HEADER as usize {
            let mut bytes = whole.clone();
            bytes[i] ^= 0x55;
            fs::write(&path, bytes).unwrap();
            assert_eq!(read_marks(&path, 250, 100), None, "{i}");
        }
        fs::write(&path, &whole[..250]).unwrap();
        assert_eq!(read_marks(&path, 250, 100), Some(vec![true; 3]), "whole, with its marks cut off");
        assert_eq!(read_marks(&path, u64::MAX, 1), None);
        fs::remove_dir_all(&at).unwrap();
    }
}
