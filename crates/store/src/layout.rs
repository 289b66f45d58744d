//! Where things lie in the cache, and how they get there: `blobs/<digest>`, `snapshots/<commit>/<path>` as relative links
//! to them, `refs/<revision>`; besides those our own `.pondera` for what is not finished.
//!
//! Every change is one rename, after the bytes reached the disk and before its folder does. Does not own: what is worth
//! publishing (`blob` has verified it).
use crate::{
    digest::{Digest, hex},
    error::{At, Error, ErrorKind, Result},
    names::{check_path, plain},
    reference::Reference,
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Folder for what is unfinished, in a model's folder.
pub(crate) const PRIVATE: &str = ".pondera";

/// One model's folder in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    cache: PathBuf,
    folder: String,
}

impl Layout {
    pub fn new(cache: &Path, reference: &Reference) -> Layout {
        Layout { cache: cache.to_path_buf(), folder: reference.folder() }
    }

    /// `models--org--name`.
    pub fn root(&self) -> PathBuf {
        self.cache.join(&self.folder)
    }

    pub fn blob(&self, digest: &str) -> PathBuf {
        self.root().join("blobs").join(digest)
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root().join("snapshots").join(commit)
    }

    /// `refs/<revision>`; the revision's parts are plain names.
    pub fn reference(&self, revision: &str) -> PathBuf {
        revision.split('/').fold(self.root().join("refs"), |path, part| path.join(part))
    }

    pub fn private(&self) -> PathBuf {
        self.root().join(PRIVATE)
    }

    /// The lock of one blob: the one that the hub's client takes.
    pub fn blob_lock(&self, digest: &Digest) -> PathBuf {
        self.blob_lock_named(digest.as_str())
    }

    /// The same for whatever lies among the blobs.
    pub fn blob_lock_named(&self, name: &str) -> PathBuf {
        self.locks().join(format!("{name}.lock"))
    }

    /// Shared by pulls, taken alone by whoever removes.
    pub fn model_lock(&self) -> PathBuf {
        self.locks().join("pondera.lock")
    }

    fn locks(&self) -> PathBuf {
        self.cache.join(".locks").join(&self.folder)
    }

    /// Makes the folders that a pull writes to.
    pub fn prepare(&self) -> Result<()> {
        for folder in [self.root().join("blobs"), self.root().join("snapshots"), self.private()] {
            fs::create_dir_all(&folder).at(&folder)?;
        }
        let tag = self.cache.join("CACHEDIR.TAG");
        if !tag.exists() {
            // Backup programs leave folders with this signature out. Best effort: the cache may be somebody else's.
            let _ = fs::write(&tag, "Signature: 8a477f597d28d172789f06886806bc55\n");
        }
        Ok(())
    }

    /// Gives a verified file its name among the blobs.
    pub fn publish_blob(&self, file: &Path, digest: &Digest) -> Result<()> {
        let to = self.blob(digest.as_str());
        replace(file, &to)
    }

    /// Shows `files` (path and digest) in the snapshot of `commit`: all at once where it is new, else one by one, entry
    /// points last.
    pub fn publish_snapshot(&self, commit: &str, files: &[(String, Digest)]) -> Result<()> {
        let to = self.snapshot(commit);
        if to.is_dir() {
            let mut order: Vec<_> = files.iter().collect();
            order.sort_by_key(|(path, _)| entry_rank(path));
            for (path, digest) in order {
                self.link(&to, path, digest, true)?;
            }
            return Ok(());
        }
        let new = self.private().join(format!("snapshot-{}", random()));
        fs::create_dir_all(&new).at(&new)?;
        for (path, digest) in files {
            self.link(&new, path, digest, false)?;
        }
        sync_folders(&new)?;
        match fs::rename(&new, &to) {
            Ok(()) => sync_folder(&self.root().join("snapshots")),
            Err(e) => {
                let _ = fs::remove_dir_all(&new);
                // Another process was first.
                if to.is_dir() { self.publish_snapshot(commit, files) } else { Err(Error::io(&to, &e)) }
            }
        }
    }

    /// One link of a snapshot, relative, as the hub's client makes them; a copy where there are no links.
    fn link(&self, snapshot: &Path, path: &str, digest: &Digest, sync: bool) -> Result<()> {
        check_path(path)?;
        let at = path.split('/').fold(snapshot.to_path_buf(), |p, part| p.join(part));
        let parent = at.parent().unwrap_or(snapshot);
        fs::create_dir_all(parent).at(parent)?;
        let up = "../".repeat(path.matches('/').count() + 2);
        let target = format!("{up}blobs/{}", digest.as_str());
        if fs::read_link(&at).is_ok_and(|t| t == Path::new(&target)) {
            return Ok(());
        }
        let blob = self.blob(digest.as_str());
        let new = self.private().join(format!("link-{}", random()));
        match symlink(&target, &new) {
            Ok(()) => {}
            Err(e)
                if matches!(e.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
                    && cfg!(windows) =>
            {
                fs::copy(&blob, &new).at(&new)?;
            }
            Err(e) => return Err(Error::io(&new, &e)),
        }
        if let Err(e) = fs::rename(&new, &at) {
            let _ = fs::remove_file(&new);
            return Err(Error::io(&at, &e));
        }
        if sync { sync_folder(parent) } else { Ok(()) }
    }

    /// Writes `refs/<revision>`, the last step of a pull. A commit needs none.
    pub fn publish_reference(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let at = self.reference(revision);
        if fs::read_to_string(&at).is_ok_and(|found| found == commit) {
            return Ok(());
        }
        if let Some(folder) = at.parent() {
            fs::create_dir_all(folder).at(folder)?;
        }
        let new = self.private().join(format!("ref-{}", random()));
        let written = fs::write(&new, commit).and_then(|()| File::open(&new)?.sync_all());
        if let Err(e) = written {
            let _ = fs::remove_file(&new);
            return Err(Error::io(&new, &e));
        }
        replace(&new, &at)
    }

    /// The commit of a revision that is on the disk.
    pub fn commit_of(&self, revision: &str) -> Option<String> {
        let text = read_small(&self.reference(revision))?;
        let commit = text.trim();
        (plain(commit) && self.snapshot(commit).is_dir()).then(|| commit.to_string())
    }
}

/// Readers open these first: they come last, so that whatever they name is there.
fn entry_rank(path: &str) -> u8 {
    let file = path.rsplit('/').next().unwrap_or("");
    let entry = file == "config.json" || file.ends_with(".index.json") || file.contains("-00001-of-");
    u8::from(entry)
}

/// A short text file.
pub(crate) fn read_small(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    (found.is_file() && found.len() <= 1 << 12).then(|| fs::read_to_string(path).ok())?
}

/// Renames onto `to`, and waits until the folder is on the disk.
fn replace(from: &Path, to: &Path) -> Result<()> {
    if let Err(e) = fs::rename(from, to) {
        let _ = fs::remove_file(from);
        return Err(Error::io(to, &e));
    }
    to.parent().map_or(Ok(()), sync_folder)
}

/// Waits until a folder's names are on the disk.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    match File::open(folder).and_then(|f| f.sync_all()) {
        // Some network file systems know no fsync of folders.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        done => done.at(folder),
    }
}

/// Windows writes names through.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

fn sync_folders(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).at(folder)? {
        let entry = entry.at(folder)?;
        if entry.file_type().at(&entry.path())?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(folder)
}

#[cfg(unix)]
pub(crate) fn symlink(target: impl AsRef<Path>, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}

#[cfg(windows)]
pub(crate) fn symlink(target: impl AsRef<Path>, at: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, at)
}

/// Sixteen digits that no other process has.
pub(crate) fn random() -> String {
    let mut bytes = [0u8; 8];
    // Without the system's source: unique enough among processes.
    if getrandom::fill(&mut bytes).is_err() {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs() ^ u64::from(d.subsec_nanos()) << 20);
        bytes = (now ^ (u64::from(std::process::id()) << 32)).to_le_bytes();
    }
    hex(&bytes)
}

/// The error of a model that is not here.
pub(crate) fn missing(what: String, reference: &Reference) -> Error {
    Error::new(ErrorKind::Missing, what).hint(format!("fetch it first: pondera pull {reference}"))
}
