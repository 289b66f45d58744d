//! The scan for code: files and folders, by content and not by name, looked into as deep as they go.
//!
//! Owns what a file is taken for and the budget of a scan. The rules of pickles, archives and NumPy files are their
//! modules'. Nothing is executed; memory follows the bytes of the files.
mod archive;
mod extent;
mod npy;
mod pickle;

use crate::findings::{
    Findings, NPY_BROKEN, New, OPAQUE, PICKLE_HIDDEN, POLYGLOT, PYTHON_FILE, REMOTE_CODE, STRUCTURE, Severity, TRAILING,
};
use pickle::Place;
use pondera_quant::Owner;
use pondera_weights::{Error, ErrorKind, Mapping, Result, Weights};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files of a folder that are looked at, and how deep folders go.
const FILES_MAX: usize = 50_000;
const DEPTH_MAX: usize = 8;
/// Archives in archives.
const NESTED_MAX: usize = 4;
/// Bytes that members may unpack to, beyond twice the file.
const UNPACKED_MIN: usize = 16 << 20;
/// Pickles in one file, one behind another.
const PICKLES_MAX: usize = 1000;
/// A file without any mark of a pickle is tried as one up to this size.
const TRIED_MAX: usize = 64 << 20;

/// What a scan of one file may still spend.
pub(crate) struct Budget {
    /// Bytes that may still be unpacked.
    bytes: usize,
    /// Archives that may still be opened inside of this one.
    depth: usize,
}

/// Looks at a file, or at every file of a folder. `findings` name files relative to a folder.
///
/// Errors: a path that cannot be read; a single file's trouble in a folder is a finding.
pub fn scan(path: &Path, findings: &mut Findings) -> Result<usize> {
    let meta = fs::metadata(path).map_err(|e| Error::io(path, &e))?;
    if !meta.is_dir() {
        one(path, &path.display().to_string(), findings)?;
        return Ok(1);
    }
    let files = files(path)?;
    for file in &files {
        let name = file.strip_prefix(path).unwrap_or(file).display().to_string();
        if let Err(e) = one(file, &name, findings) {
            findings.add(New {
                rule: STRUCTURE,
                severity: Severity::Medium,
                file: &name,
                what: e.to_string(),
                offset: None,
                name: None,
            });
        }
    }
    Ok(files.len())
}

/// The files of a folder that are looked at, in order.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    walk(folder, DEPTH_MAX, &mut files)?;
    files.sort();
    Ok(files)
}

/// All files below a folder. Links to files are followed (the hub's cache is made of them), links to folders are not.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, &e))? {
        let entry = entry.map_err(|e| Error::io(folder, &e))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(|e| Error::io(folder, &e))?);
        if kind.is_dir() && depth > 0 {
            walk(&path, depth - 1, files)?;
        } else if kind.is_file() || kind.is_symlink() && path.is_file() {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            let what = format!("more than {FILES_MAX} files");
            return Err(Error::new(ErrorKind::Unsupported, what).at(folder).hint("audit its folders one by one"));
        }
    }
    Ok(())
}

fn one(path: &Path, name: &str, findings: &mut Findings) -> Result<()> {
    if fs::metadata(path).map_err(|e| Error::io(path, &e))?.len() == 0 {
        if is_weights_name(name) {
            let what = "the file is empty".into();
            findings.add(New { rule: STRUCTURE, severity: Severity::High, file: name, what, offset: None, name: None });
        }
        return Ok(());
    }
    let mapping = Mapping::open(path)?;
    let data = mapping.bytes();
    let mut budget = Budget { bytes: UNPACKED_MIN + 2 * data.len(), depth: NESTED_MAX };
    content(data, name, name, &mut budget, findings);
    let container =
        data.starts_with(b"GGUF") || is_safetensors(data) || name.ends_with(".gguf") || name.ends_with(".safetensors");
    if container || name.ends_with(".index.json") {
        // What the tensors hold is looked at once per set, not per file.
        match Weights::open(path) {
            Ok(w) => extent::look(&w, path, data, name, findings),
            Err(e) => {
                let severity = if e.kind() == ErrorKind::Unsupported { Severity::Medium } else { Severity::High };
                findings.add(New {
                    rule: STRUCTURE,
                    severity,
                    file: name,
                    what: e.to_string(),
                    offset: None,
                    name: e.item(),
                });
            }
        }
    }
    match mapping.damaged() {
        true => Err(Error::new(ErrorKind::Damaged, "the file was changed while it was looked at").at(path)),
        false => Ok(()),
    }
}

fn is_safetensors(data: &[u8]) -> bool {
    data.get(8) == Some(&b'{') && data.get(5..8) == Some(&[0, 0, 0])
}

fn is_weights_name(name: &str) -> bool {
    [".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npy", ".npz"].iter().any(|e| name.ends_with(e))
}

fn is_pickle_name(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    [".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".p", ".dat", ".data", ".model"]
        .iter()
        .any(|e| name.ends_with(e))
}

/// Looks at bytes called `name`; findings call them `path`.
pub(crate) fn content(data: &[u8], name: &str, path: &str, budget: &mut Budget, findings: &mut Findings) {
    let mut add = |rule, severity, what: &str, offset| {
        findings.add(New { rule, severity, file: path, what: what.into(), offset, name: None });
    };
    let tensors = data.starts_with(b"GGUF") || is_safetensors(data);
    let zip = archive::looks_like(data) || archive::end_record(data).is_some();
    if zip {
        if !archive::looks_like(data) {
            let severity = if tensors || matches!(data, [0x80, 2..=5, ..]) { Severity::High } else { Severity::Medium };
            add(POLYGLOT, severity, "an archive ends the file that begins as something else", None);
        }
        match budget.depth.checked_sub(1) {
            None => add(OPAQUE, Severity::High, "archives in archives, deeper than is looked into", None),
            Some(depth) => {
                budget.depth = depth;
                archive::scan(data, path, budget, findings);
                budget.depth += 1;
            }
        }
        // A reader of pickles starts at the first byte, whatever stands at the end.
        if !archive::looks_like(data) && !tensors && pickle::looks_like(data) {
            pickles(data, name, path, findings);
        }
        return;
    }
    if tensors {
        return;
    }
    if data.starts_with(npy::MAGIC) {
        return npy::scan(data, path, findings);
    }
    if name.ends_with(".npy") {
        add(NPY_BROKEN, Severity::Low, "named as a NumPy file, and none", None);
    }
    match data {
        [0x1f, 0x8b, ..] => return gzip(data, name, path, budget, findings),
        [b'B', b'Z', b'h', ..]
        | [0xfd, b'7', b'z', b'X', b'Z', 0, ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..]
        | [0x04, 0x22, 0x4d, 0x18, ..]
        | [b'7', b'z', 0xbc, 0xaf, ..]
        | [b'R', b'a', b'r', b'!', ..] => {
            let severity = if is_pickle_name(name) { Severity::High } else { Severity::Medium };
            return add(OPAQUE, severity, "compressed: what it holds was not looked at", None);
        }
        _ => {}
    }
    let marked = matches!(data, [0x80, 0..=5, ..]);
    if marked && is_pickle_name(name) || data.len() <= TRIED_MAX && pickle::looks_like(data) {
        return pickles(data, name, path, findings);
    }
    if is_pickle_name(name) && [".pkl", ".pickle", ".joblib"].iter().any(|e| name.to_lowercase().ends_with(e)) {
        // It says that it is a pickle: whatever a reader makes of it is looked at.
        return pickles(data, name, path, findings);
    }
    texts(data, name, path, findings);
}

/// Pickles, one behind another, as the oldest checkpoints are; then whatever follows.
fn pickles(data: &[u8], name: &str, path: &str, findings: &mut Findings) {
    if !is_pickle_name(name) {
        let what = "a pickle lies under this name".into();
        findings.add(New {
            rule: PICKLE_HIDDEN,
            severity: Severity::Medium,
            file: path,
            what,
            offset: Some(0),
            name: None,
        });
    }
    // `LONG1`, ten bytes: the first pickle of a torch file before 1.6, whose fourth one holds the storages' ids.
    let legacy = data.starts_with(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.");
    let mut at = 0;
    for n in 0..PICKLES_MAX {
        let rest = data.get(at..).unwrap_or(&[]);
        if rest.is_empty() || n > 0 && !(legacy && n < 5 || pickle::looks_like(rest)) {
            break;
        }
        let place = if legacy && n == 3 { Place::Checkpoint } else { Place::Alone };
        let end = pickle::scan(rest, path, place, at, findings);
        at += end.max(1);
        if n > 0 && !legacy {
            let what = format!("another pickle follows, up to byte {at}");
            findings.add(New {
                rule: TRAILING,
                severity: Severity::Low,
                file: path,
                what,
                offset: Some(at - end),
                name: None,
            });
        }
    }
    let left = data.len().saturating_sub(at);
    if left > 0 && !legacy {
        let what = format!("{left} bytes lie behind the pickle");
        findings.add(New {
            rule: TRAILING,
            severity: Severity::Medium,
            file: path,
            what,
            offset: Some(at),
            name: None,
        });
    }
}

/// What gzip packs is looked at within the budget.
fn gzip(data: &[u8], name: &str, path: &str, budget: &mut Budget, findings: &mut Findings) {
    let mut add = |severity, what: &str| {
        findings.add(New { rule: OPAQUE, severity, file: path, what: what.into(), offset: None, name: None });
    };
    let Some(body) = gzip_body(data).filter(|_| budget.depth > 0) else {
        return add(Severity::High, "packed with gzip and not to be looked into");
    };
    let bytes = match miniz_oxide::inflate::decompress_to_vec_with_limit(body, budget.bytes) {
        Ok(bytes) => bytes,
        Err(e) => {
            add(Severity::High, "packed with gzip, broken or too large to be looked at as a whole");
            e.output
        }
    };
    budget.bytes = budget.bytes.saturating_sub(bytes.len());
    budget.depth -= 1;
    let inner = name.strip_suffix(".gz").unwrap_or(name);
    content(&bytes, inner, path, budget, findings);
    budget.depth += 1;
}

/// The deflated bytes behind a gzip header (RFC 1952).
fn gzip_body(data: &[u8]) -> Option<&[u8]> {
    let flags = *data.get(3)?;
    let mut at = 10usize;
    if flags & 4 != 0 {
        at += 2 + usize::from(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            at += data.get(at..)?.iter().position(|&b| b == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    data.get(at..)
}

/// Code beside a model, and configs that name it.
fn texts(data: &[u8], name: &str, path: &str, findings: &mut Findings) {
    let file = name.rsplit('/').next().unwrap_or(name);
    if file.ends_with(".py") || file.ends_with(".pyc") || file.ends_with(".so") || file.ends_with(".pyd") {
        let severity = if file.ends_with(".py") { Severity::Low } else { Severity::High };
        let what = "code that nothing of a model's format needs".into();
        findings.add(New { rule: PYTHON_FILE, severity, file: path, what, offset: None, name: None });
    }
    if !file.ends_with(".json") || data.len() > TRIED_MAX {
        return;
    }
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    if let Some(map) = json.get("auto_map").and_then(|m| m.as_object()) {
        for (key, value) in map.iter().take(20) {
            let target = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            // `other/repository--module.Class` is fetched from elsewhere.
            let elsewhere = target.contains("--");
            let severity = if elsewhere { Severity::High } else { Severity::Medium };
            let from = if elsewhere { "another repository" } else { "this repository" };
            let what = format!("auto_map: {key} is loaded as code of {from}");
            findings.add(New { rule: REMOTE_CODE, severity, file: path, what, offset: None, name: Some(&target) });
        }
    }
    if let Some(code) = json.get("custom_pipelines").filter(|c| c.is_object()) {
        let what = "custom_pipelines name code of this repository".into();
        findings.add(New {
            rule: REMOTE_CODE,
            severity: Severity::Medium,
            file: path,
            what,
            offset: None,
            name: Some(&code.to_string()),
        });
    }
}
