//! The files of a model and their digests: what bills of materials list and signatures cover.
//!
//! Owns which files of a folder count, their names (relative, `/` between parts), and reading them once. Links to
//! files are followed, for the hub's cache is made of them; links to folders are not.
use pondera_weights::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// Most files of a folder.
const FILES_MAX: usize = 50_000;
/// How deep folders go.
const DEPTH_MAX: usize = 32;
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// A SHA-256 digest.
pub type Sha = [u8; 32];

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path relative to the model's folder; a file alone goes by its name.
    pub path: String,
    /// Its size when it was listed.
    pub bytes: u64,
    /// Whether it is a link.
    pub link: bool,
    full: PathBuf,
}

/// The files of a model.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The files, sorted as paths are: part by part.
    pub entries: Vec<Entry>,
    /// What is neither a file nor a folder of its own, or has a name that is no UTF-8, with the reason.
    pub odd: Vec<(String, &'static str)>,
    /// Whether a single file was named.
    pub alone: bool,
}

impl Listing {
    /// What there is at `path`, a folder or a file. `ignored` are paths relative to the folder, which stand for what is
    /// below them, too.
    ///
    /// Errors: a path that cannot be read; more files than any model has.
    pub fn of(path: &Path, ignored: &[String]) -> Result<Listing> {
        let meta = fs::metadata(path).map_err(|e| Error::io(path, &e))?;
        let mut listing = Listing::default();
        if meta.is_dir() {
            listing.walk(path, "", DEPTH_MAX, ignored)?;
            listing.entries.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
            listing.odd.sort();
            return Ok(listing);
        }
        let name = path.file_name().and_then(|n| n.to_str());
        let name = name.ok_or_else(|| Error::new(ErrorKind::Unsupported, "the name is no UTF-8").at(path))?;
        let entry = Entry { path: name.into(), bytes: meta.len(), link: path.is_symlink(), full: path.to_path_buf() };
        Ok(Listing { entries: vec![entry], odd: Vec::new(), alone: true })
    }

    /// These files alone, which lie in one folder.
    pub fn of_files<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<Listing> {
        let mut listing = Listing { alone: true, ..Listing::default() };
        for path in paths {
            listing.entries.extend(Listing::of(path, &[])?.entries);
        }
        Ok(listing)
    }

    fn walk(&mut self, folder: &Path, inside: &str, depth: usize, ignored: &[String]) -> Result<()> {
        for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, &e))? {
            let entry = entry.map_err(|e| Error::io(folder, &e))?;
            let (full, kind) = (entry.path(), entry.file_type().map_err(|e| Error::io(folder, &e))?);
            let name = entry.file_name();
            let path = match inside {
                "" => name.to_string_lossy().into_owned(),
                _ => format!("{inside}/{}", name.to_string_lossy()),
            };
            if ignored.iter().any(|i| under(&path, i)) {
                continue;
            }
            if self.entries.len() + self.odd.len() >= FILES_MAX {
                return Err(Error::new(ErrorKind::Unsupported, format!("more than {FILES_MAX} files")).at(folder));
            }
            if name.to_str().is_none() {
                self.odd.push((path, "the name is no UTF-8"));
            } else if kind.is_dir() {
                match depth.checked_sub(1) {
                    Some(depth) => self.walk(&full, &path, depth, ignored)?,
                    None => self.odd.push((path, "lies deeper than folders of models go")),
                }
            } else {
                match fs::metadata(&full) {
                    Ok(m) if m.is_file() => {
                        self.entries.push(Entry { path, bytes: m.len(), link: kind.is_symlink(), full });
                    }
                    Ok(m) if m.is_dir() => self.odd.push((path, "a link to a folder")),
                    Ok(_) => self.odd.push((path, "neither a file nor a folder")),
                    Err(_) => self.odd.push((path, "a link that leads nowhere")),
                }
            }
        }
        Ok(())
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|e| e.bytes).sum()
    }

    /// The digest of each file, in their order. `seen` is told how many bytes have been read.
    ///
    /// Errors: a file that cannot be read.
    pub fn digests(&self, seen: &mut dyn FnMut(u64)) -> Result<Vec<Sha>> {
        let (mut chunk, mut done) = (vec![0; CHUNK], 0);
        self.entries
            .iter()
            .map(|entry| {
                let at = |e| Error::io(&entry.full, &e);
                let mut file = File::open(&entry.full).map_err(at)?;
                let mut hash = Sha256::new();
                loop {
                    let n = file.read(&mut chunk).map_err(at)?;
                    if n == 0 {
                        return Ok(hash.finalize().into());
                    }
                    hash.update(chunk.get(..n).unwrap_or_default());
                    done += n as u64;
                    seen(done);
                }
            })
            .collect()
    }
}

impl Entry {
    /// Where it lies.
    pub fn full(&self) -> &Path {
        &self.full
    }
}

/// Whether `path` is `folder` or lies below it.
pub fn under(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The one digest that stands for all, in their order: SHA-256 over the digests.
pub fn root<'a>(digests: impl IntoIterator<Item = &'a Sha>) -> Sha {
    let mut hash = Sha256::new();
    digests.into_iter().for_each(|d| hash.update(d));
    hash.finalize().into()
}

/// A digest in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The digest that 64 lower-case hexadecimal digits stand for.
pub fn unhex(text: &str) -> Option<Sha> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut sha = [0; 32];
    for (byte, pair) in sha.iter_mut().zip(digits.chunks(2)) {
        let [high, low] = *pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(sha)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_under_whole_parts_only() {
        for (path, folder, want) in
            [(".git", ".git", true), (".git/config", ".git", true), (".gitignore", ".git", false), ("a", "a/b", false)]
        {
            assert_eq!(under(path, folder), want, "{path} {folder}");
        }
    }

    #[test]
    fn digests_are_read_as_they_are_written() {
        let sha = root([&[7; 32]]);
        assert_eq!(unhex(&hex(&sha)), Some(sha));
        for bad in ["", "0", &"g".repeat(64), &"A".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
