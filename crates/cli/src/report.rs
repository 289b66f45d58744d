//! Files that commands write beside their answer (`--html`, `--sarif`, `--out`): what is there already is written over only
//! where it is an earlier one, so that a slip on the command line costs nobody a model. Does not own: what reports say.
use crate::error::{Error, Result};
use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

/// Bytes at the beginning of a file in which its mark stands.
const HEAD: u64 = 8192;
/// In pages of ours.
pub const PAGE: &str = "<title>pondera ";
/// In SARIF.
pub const SARIF: &str = "/sarif-";
/// In traces: no model has a tensor of this name.
pub const TRACE: &str = "\"logits\"";
/// In bills of materials.
pub const BILLS: [&str; 2] = ["\"bomFormat\"", "\"https://spdx.org/rdf/"];
/// In signatures, whichever member stands first.
pub const SIGNATURES: [&str; 2] = ["sigstore.bundle", "\"dsseEnvelope\""];

/// Whether `file` may be written: it is not there, is empty, is no regular file (a pipe), or holds one of `marks`.
///
/// # Errors
/// Exit 2, naming `flag`, for any other file, and for a link into the hub's cache, whose files have their digests for
/// names. Asked before the work that the report is about.
pub fn free(flag: &str, file: &Path, marks: &[&str]) -> Result<()> {
    let led = fs::canonicalize(file).ok().filter(|_| file.is_symlink());
    if led.as_deref().and_then(Path::parent).is_some_and(|folder| folder.ends_with("blobs")) {
        return Err(Error::usage(format!("{flag} {}: is a link into the hub's cache", file.display()))
            .hint("name a file outside of the cache"));
    }
    if !fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() > 0) || holds(file, marks) {
        return Ok(());
    }
    Err(Error::usage(format!("{flag} {}: is there, and no earlier one", file.display()))
        .hint("name a file that is not there yet, or remove it"))
}

/// Whether one of `marks` stands where `file` begins.
pub fn holds(file: &Path, marks: &[&str]) -> bool {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|f| f.take(HEAD).read_to_end(&mut head));
    let text = String::from_utf8_lossy(&head);
    read.is_ok() && marks.iter().any(|m| text.contains(m))
}
