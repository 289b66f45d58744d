//! Files whose digests somebody has listed as known to be bad.
//!
//! Owns the list's form and the comparison. Who lists what is the user's: nothing is fetched.
use crate::findings::{Findings, KNOWN_BAD, New, Severity, shown};
use pondera_quant::Owner;
use pondera_weights::{Mapping, Result};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Bytes between two reports of progress.
const STEP: usize = 8 << 20;

/// SHA-256 digests of files that are known to be bad, each with what is known of it.
#[derive(Clone, Debug, Default)]
pub struct KnownBad {
    digests: HashMap<[u8; 32], String>,
}

impl KnownBad {
    /// Reads a list: on each line a digest of 64 hexadecimal digits (`sha256:` may stand before it) and, after white space,
    /// what is known of the file. Empty lines, and what follows `#` at a line's start, say nothing.
    ///
    /// Errors: the number of the first line that is none of these. A list that is not wholly understood protects from nothing.
    pub fn parse(text: &str) -> std::result::Result<KnownBad, String> {
        let mut digests = HashMap::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (digest, note) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
            let bytes = bytes_of(hex).ok_or_else(|| format!("line {}: expected 64 hexadecimal digits", i + 1))?;
            let note = note.trim().trim_start_matches(['#', '*']).trim();
            digests.insert(bytes, shown(note));
        }
        Ok(KnownBad { digests })
    }

    /// Digests in the list.
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }
}

fn bytes_of(hex: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[h, l]| Some((digit(*h)? * 16 + digit(*l)?) as u8)).collect();
    bytes.filter(|_| rest.is_empty())?.try_into().ok()
}

/// Hashes a file, or every file of a folder, and finds those in the list. `done` hears of bytes that were hashed, from any thread.
///
/// Errors: a folder that cannot be read.
pub(crate) fn look(
    root: &Path,
    list: &KnownBad,
    threads: usize,
    done: &(dyn Fn(usize) + Sync),
    findings: &mut Findings,
) -> Result<()> {
    let files = if root.is_dir() { crate::scan::files(root)? } else { vec![root.to_path_buf()] };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.extend(digest(path, done).and_then(|d| Some((path.clone(), d, list.digests.get(&d)?))));
        }
        found
    };
    let mut found: Vec<(PathBuf, [u8; 32], &String)> = thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.clamp(1, files.len().max(1)))
            .filter_map(|_| thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work).ok())
            .collect();
        let mut all = work();
        helpers.into_iter().filter_map(|h| h.join().ok()).for_each(|f| all.extend(f));
        all
    });
    found.sort();
    for (path, digest, note) in found {
        let name =
            path.strip_prefix(root).ok().filter(|p| !p.as_os_str().is_empty()).unwrap_or(&path).display().to_string();
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        let note = if note.is_empty() { String::new() } else { format!(": {note}") };
        let what = format!("its SHA-256 {hex} is in the list of known bad files{note}");
        findings.add(New {
            rule: KNOWN_BAD,
            severity: Severity::Critical,
            file: &name,
            what,
            offset: None,
            name: None,
        });
    }
    Ok(())
}

/// What cannot be read has a finding of the scan's.
fn digest(path: &Path, done: &(dyn Fn(usize) + Sync)) -> Option<[u8; 32]> {
    let mapping = Mapping::open(path).ok()?;
    let mut hash = Sha256::new();
    for part in mapping.bytes().chunks(STEP) {
        hash.update(part);
        done(part.len());
    }
    Some(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_wholly_or_not_at_all() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let text = format!("# bad\n\n{abc}  seen in a model\nsha256:{}\n", abc.to_uppercase().replace("BA", "BB"));
        let list = KnownBad::parse(&text).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list.digests[&bytes_of(abc).unwrap()], "seen in a model");
        let bad = [&abc[1..], "zz", &format!("{abc}00 x"), &format!("sha512:{abc}"), &format!("{}é", &abc[..63])]
            .map(str::to_string);
        for line in bad {
            let error = KnownBad::parse(&format!("#\n{line}")).unwrap_err();
            assert!(error.starts_with("line 2:"), "{line}: {error}");
        }
    }
}
