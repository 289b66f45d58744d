//! Layers of an OCI artefact that are tar archives: each file of them becomes a blob, and the archive goes once they can be
//! seen. A record in the snapshot (`.oci/layers/<digest>.json`) says what came of it, so that it is not fetched again.
//!
//! Reads POSIX and GNU headers of plain files. Refused are links, devices, sparse files and names that leave the folder;
//! nothing is compressed, so nothing can grow. Does not own: the archive's own digest (`blob` has verified it).
use crate::{
    blob::{Fetch, Job},
    digest::{Digest, hex, sha256},
    error::{At, Error, ErrorKind, Result, quoted},
    layout::{Layout, random},
    local::names_in,
    oci::check_file,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{BufReader, ErrorKind as IoKind, Read, Write},
    path::Path,
};

/// Bytes of a header, and what every file's bytes are filled up to.
const BLOCK: usize = 512;
/// Longest header that says more of the next one.
const MORE_MAX: u64 = 1 << 20;
/// Most files of an archive.
const FILES_MAX: usize = 10_000;
/// Longest record.
const RECORD_MAX: u64 = 16 << 20;

/// A file of an archive, as a record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub path: String,
    pub size: u64,
    sha256: String,
}

impl Member {
    pub fn digest(&self) -> Digest {
        Digest::Sha256(self.sha256.clone())
    }

    /// The same as a file that would be fetched; it has no address of its own.
    fn job(&self) -> Job {
        Job { path: self.path.clone(), url: String::new(), size: self.size, digest: self.digest(), archive: false }
    }
}

/// Where a snapshot records what came of the archive `digest`.
pub(crate) fn record_path(digest: &Digest) -> String {
    format!(".oci/layers/{}.json", digest.as_str())
}

/// What came of an archive earlier, if all of it is still here.
pub(crate) fn known(fetch: &Fetch<'_>, archive: &Digest) -> Result<Option<Vec<Member>>> {
    for commit in names_in(&fetch.layout.root().join("snapshots"))? {
        let at = fetch.layout.snapshot(&commit).join(record_path(archive));
        if !fs::metadata(&at).is_ok_and(|m| m.is_file() && m.len() <= RECORD_MAX) {
            continue;
        }
        let Some(members) = fs::read(&at).ok().and_then(|b| serde_json::from_slice::<Vec<Member>>(&b).ok()) else {
            continue;
        };
        let sound = |m: &Member| Digest::parse(&m.sha256) == Some(m.digest()) && check_file(&m.path).is_ok();
        let mut whole = members.iter().all(sound);
        for member in &members {
            whole = whole && fetch.present(&member.job())?;
        }
        if whole {
            return Ok(Some(members));
        }
    }
    Ok(None)
}

/// Writes the record of an archive as a blob: its size and digest.
pub(crate) fn record(layout: &Layout, members: &[Member]) -> Result<(u64, Digest)> {
    let text = serde_json::to_vec(members).map_err(|e| Error::new(ErrorKind::Io, format!("a record: {e}")))?;
    let digest = Digest::Sha256(sha256(&text));
    let at = layout.private().join(format!("record-{}", random()));
    fs::write(&at, &text).and_then(|()| File::open(&at)?.sync_all()).at(&at)?;
    layout.publish_blob(&at, &digest)?;
    Ok((text.len() as u64, digest))
}

/// Makes blobs of the files of an archive that is here. What another process unpacked meanwhile is taken as it is.
pub(crate) fn unpack(fetch: &Fetch<'_>, job: &Job) -> Result<Vec<Member>> {
    let at = fetch.layout.blob(job.digest.as_str());
    let file = match File::open(&at) {
        Ok(file) => file,
        Err(e) if e.kind() == IoKind::NotFound => {
            return known(fetch, &job.digest)?.ok_or_else(|| Error::io(&at, &e));
        }
        Err(e) => return Err(Error::io(&at, &e)),
    };
    let mut archive = Archive { reader: BufReader::with_capacity(1 << 18, file), path: &at };
    let mut members = Vec::new();
    while let Some((path, size)) = archive.next().map_err(|e| e.about(&job.path))? {
        let path = path.strip_prefix("./").unwrap_or(&path);
        check_file(path).map_err(|e| e.about(&job.path))?;
        if members.len() >= FILES_MAX {
            return Err(hostile(format!("{}: more than {FILES_MAX} files", quoted(&job.path))));
        }
        members.push(member(fetch, &mut archive, path, size).map_err(|e| e.about(&job.path))?);
    }
    Ok(members)
}

/// Copies one file out of the archive.
fn member(fetch: &Fetch<'_>, archive: &mut Archive<'_>, path: &str, size: u64) -> Result<Member> {
    let new = fetch.layout.private().join(format!("member-{}", random()));
    let copied = copy(fetch, archive, &new, size);
    let sha256 = match copied {
        Ok(sha256) => sha256,
        Err(e) => {
            let _ = fs::remove_file(&new);
            return Err(e);
        }
    };
    let member = Member { path: path.into(), size, sha256 };
    fetch.layout.publish_blob(&new, &member.digest())?;
    Ok(member)
}

fn copy(fetch: &Fetch<'_>, archive: &mut Archive<'_>, to: &Path, size: u64) -> Result<String> {
    let mut file = File::create_new(to).at(to)?;
    let (mut hash, mut left, mut buffer) = (Sha256::new(), size, vec![0u8; 1 << 18]);
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..n).unwrap_or(&mut []);
        archive.fill(piece)?;
        hash.update(&*piece);
        file.write_all(piece).at(to)?;
        left -= n as u64;
        fetch.watcher.check()?;
    }
    archive.skip_padding(size)?;
    file.sync_all().at(to)?;
    Ok(hex(&hash.finalize()))
}

fn hostile(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsafe, what).hint("do not use files from this source")
}

struct Archive<'a> {
    reader: BufReader<File>,
    path: &'a Path,
}

impl Archive<'_> {
    fn fill(&mut self, piece: &mut [u8]) -> Result<()> {
        self.reader.read_exact(piece).map_err(|e| match e.kind() {
            IoKind::UnexpectedEof => {
                Error::new(ErrorKind::Corrupt, "the archive ends before its files do").hint("tell its owner")
            }
            _ => Error::io(self.path, &e),
        })
    }

    fn skip_padding(&mut self, size: u64) -> Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        let mut rest = [0u8; BLOCK];
        match over {
            0 => Ok(()),
            over => self.fill(rest.get_mut(over..).unwrap_or(&mut [])),
        }
    }

    /// Text that belongs to the next header.
    fn more(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MORE_MAX {
            return Err(hostile(format!("a header of {size} bytes in the archive")));
        }
        let mut bytes = vec![0u8; usize::try_from(size).unwrap_or(0)];
        self.fill(&mut bytes)?;
        self.skip_padding(size)?;
        Ok(bytes)
    }

    /// Path and size of the next file, its bytes next to be read; none behind the last.
    fn next(&mut self) -> Result<Option<(String, u64)>> {
        let (mut name, mut length) = (None, None);
        loop {
            let mut header = [0u8; BLOCK];
            self.fill(&mut header)?;
            if header.iter().all(|b| *b == 0) {
                return Ok(None);
            }
            let head = Header::read(&header).ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "no header where the archive should have one").hint("tell its owner")
            })?;
            match head.kind {
                b'x' => {
                    let found = attributes(&self.more(head.size)?)?;
                    (name, length) = (found.0.or(name), found.1.or(length));
                }
                b'g' => {
                    if attributes(&self.more(head.size)?)? != (None, None) {
                        return Err(hostile("one path for all files of the archive"));
                    }
                }
                b'L' => {
                    let bytes = self.more(head.size)?;
                    let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
                    name = Some(String::from_utf8(text.to_vec()).map_err(|_| hostile("a name that is no text"))?);
                }
                b'0' | 0 | b'7' => {
                    return Ok(Some((name.map_or_else(|| head.name(), Ok)?, length.unwrap_or(head.size))));
                }
                b'5' if head.size == 0 && length.is_none_or(|l| l == 0) => (name, length) = (None, None),
                kind => {
                    let kind = quoted(&char::from(kind).to_string());
                    return Err(hostile(format!("an entry of type `{kind}` in the archive: neither file nor folder")));
                }
            }
        }
    }
}

struct Header<'a> {
    bytes: &'a [u8; BLOCK],
    kind: u8,
    size: u64,
}

impl<'a> Header<'a> {
    /// None where its sum does not hold.
    fn read(bytes: &'a [u8; BLOCK]) -> Option<Header<'a>> {
        let spaces = |(i, b): (usize, &u8)| if (148..156).contains(&i) { 32u64 } else { u64::from(*b) };
        let sum: u64 = bytes.iter().enumerate().map(spaces).sum();
        (number(bytes.get(148..156)?)? == sum).then_some(())?;
        Some(Header { bytes, kind: *bytes.get(156)?, size: number(bytes.get(124..136)?)? })
    }

    fn name(&self) -> Result<String> {
        let text = |range: std::ops::Range<usize>| {
            let field = self.bytes.get(range).unwrap_or_default().split(|b| *b == 0).next().unwrap_or_default();
            String::from_utf8(field.to_vec()).map_err(|_| hostile("a name that is no text"))
        };
        let name = text(0..100)?;
        // GNU's own format has times where POSIX has the path's beginning.
        let posix = self.bytes.get(257..263) == Some(b"ustar\0");
        let prefix = if posix { text(345..500)? } else { String::new() };
        Ok(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
    }
}

/// A number in octal digits, or big-endian behind a set first bit.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first().map(|(f, r)| (*f, r)) {
        return rest.iter().try_fold(0u64, |n, b| n.checked_mul(256)?.checked_add(u64::from(*b)));
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// Path and size among a header's attributes: `LENGTH KEY=VALUE\n` each.
fn attributes(bytes: &[u8]) -> Result<(Option<String>, Option<u64>)> {
    let wrong = || hostile("attributes in the archive that cannot be read");
    let (mut rest, mut path, mut size) = (std::str::from_utf8(bytes).map_err(|_| wrong())?, None, None);
    while !rest.is_empty() {
        let (length, _) = rest.split_once(' ').ok_or_else(wrong)?;
        let end: usize = length.parse().map_err(|_| wrong())?;
        let one = rest.get(length.len() + 1..end).and_then(|one| one.strip_suffix('\n')).ok_or_else(wrong)?;
        let (key, value) = one.split_once('=').ok_or_else(wrong)?;
        match key {
            "path" => path = Some(value.to_string()),
            "size" => size = Some(value.parse().map_err(|_| wrong())?),
            key if key.starts_with("GNU.sparse") => return Err(hostile("a sparse file in the archive")),
            _ => {}
        }
        rest = rest.get(end..).ok_or_else(wrong)?;
    }
    Ok((path, size))
}
