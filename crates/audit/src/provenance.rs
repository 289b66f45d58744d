//! Where files come from: whether each is still the one that was fetched.
//!
//! Owns the check of files against the digests that a store recorded in its layout: the hub's cache links each file of a
//! snapshot to a blob named by its digest (SHA-256 of large files, git's blob id of others), Ollama names blobs
//! `sha256-…`. Only reads. Does not own: fetching, and what is right to fetch (`pondera-store`).
use crate::findings::{DIGEST_HOLDS, DIGEST_MISMATCH, DIGEST_NONE, Findings, New, Severity};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Files that are looked at, and how deep folders go.
const FILES_MAX: usize = 50_000;
const DEPTH_MAX: usize = 8;

/// A digest that a name records.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Recorded {
    Sha256(String),
    Git(String),
}

impl Recorded {
    /// What the name of a blob records.
    fn of(name: &str) -> Option<Recorded> {
        let hex = |s: &str| s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let bare = name.strip_prefix("sha256-").unwrap_or(name);
        match bare.len() {
            64 if hex(bare) => Some(Recorded::Sha256(bare.into())),
            40 if hex(bare) && bare.len() == name.len() => Some(Recorded::Git(bare.into())),
            _ => None,
        }
    }

    /// The digest of a file, as it is recorded.
    fn found(&self, path: &Path) -> io::Result<Recorded> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut buffer = vec![0u8; 1 << 18];
        let mut sha256 = Sha256::new();
        let mut sha1 = Sha1::new_with_prefix(format!("blob {size}\0"));
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            match self {
                Recorded::Sha256(_) => sha256.update(&buffer[..n]),
                Recorded::Git(_) => sha1.update(&buffer[..n]),
            }
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        Ok(match self {
            Recorded::Sha256(_) => Recorded::Sha256(hex(sha256.finalize().as_slice())),
            Recorded::Git(_) => Recorded::Git(hex(sha1.finalize().as_slice())),
        })
    }

    fn digits(&self) -> &str {
        match self {
            Recorded::Sha256(s) | Recorded::Git(s) => s,
        }
    }
}

/// Looks at a folder or file. A folder that no store laid out has nothing recorded, and no finding.
pub(crate) fn look(path: &Path, findings: &mut Findings) {
    let mut files = Vec::new();
    if path.is_dir() {
        walk(path, DEPTH_MAX, &mut files);
        files.sort();
    } else {
        files.push(path.to_path_buf());
    }
    let snapshot = snapshot(path);
    let (mut held, mut bytes) = (0usize, 0u64);
    for file in &files {
        let name = if file == path {
            path.display().to_string()
        } else {
            file.strip_prefix(path).unwrap_or(file).display().to_string()
        };
        let mut add = |rule, severity, what: String| {
            findings.add(New { rule, severity, file: &name, what, offset: None, name: None });
        };
        let Some(recorded) = recorded(file) else {
            if snapshot {
                add(DIGEST_NONE, Severity::Low, "no digest is recorded of it: the cache did not fetch it".into());
            }
            continue;
        };
        match recorded.found(file) {
            Ok(found) if found == recorded => {
                held += 1;
                bytes += fs::metadata(file).map_or(0, |m| m.len());
            }
            Ok(found) => {
                let what = format!("fetched was {}, here is {}", recorded.digits(), found.digits());
                add(DIGEST_MISMATCH, Severity::High, what);
            }
            Err(e) => add(DIGEST_MISMATCH, Severity::Medium, format!("cannot be read: {e}")),
        }
    }
    if held > 0 {
        let file = path.display().to_string();
        let files = if held == 1 { "1 file".to_string() } else { format!("{held} files") };
        let what = format!("{files} of {bytes} bytes in all are what was fetched");
        findings.add(New { rule: DIGEST_HOLDS, severity: Severity::Info, file: &file, what, offset: None, name: None });
    }
}

/// Whether this is a snapshot of the hub's cache: `models--org--name/snapshots/commit`.
fn snapshot(path: &Path) -> bool {
    let Ok(path) = std::path::absolute(path) else { return false };
    let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let up = |n: usize| path.ancestors().nth(n).map(name).unwrap_or_default();
    up(1) == "snapshots" && up(2).starts_with("models--")
}

/// The digest that the layout records of a file: in the name of the blob that it links to, or in its own.
fn recorded(file: &Path) -> Option<Recorded> {
    let of = |path: &Path| {
        let beside = path.parent().and_then(Path::file_name).is_some_and(|n| n == "blobs");
        path.file_name().and_then(|n| n.to_str()).filter(|_| beside).and_then(Recorded::of)
    };
    match fs::read_link(file) {
        Ok(target) => of(&target),
        Err(_) => of(&std::path::absolute(file).ok()?),
    }
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        if files.len() >= FILES_MAX {
            return;
        }
        if kind.is_dir() && depth > 0 {
            walk(&path, depth - 1, files);
        } else if kind.is_file() || kind.is_symlink() && path.is_file() {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_blobs_record_digests() {
        let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Recorded::of(sha), Some(Recorded::Sha256(sha.into())));
        assert_eq!(Recorded::of(&format!("sha256-{sha}")), Some(Recorded::Sha256(sha.into())));
        let git = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        assert_eq!(Recorded::of(git), Some(Recorded::Git(git.into())));
        for name in ["config.json", &sha[1..], &format!("sha256-{git}"), &sha.to_uppercase()] {
            assert_eq!(Recorded::of(name), None, "{name}");
        }
    }

    #[test]
    fn digests_are_those_of_sha256_and_git() {
        let file = std::env::temp_dir().join(format!("pondera-provenance-{}", std::process::id()));
        fs::write(&file, "hello\n").unwrap();
        let git = Recorded::Git(String::new()).found(&file).unwrap();
        assert_eq!(git.digits(), "ce013625030ba8dba906f756967f9e9ca394464a");
        let sha = Recorded::Sha256(String::new()).found(&file).unwrap();
        assert_eq!(sha.digits(), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        fs::remove_file(&file).unwrap();
    }
}
