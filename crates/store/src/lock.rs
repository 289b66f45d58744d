//! Locks between processes, as the hub's client takes them: a file under `.locks`, locked by the operating system.
//!
//! Locks save double work. Nothing relies on them for the right bytes: on some network file systems every process gets
//! every lock, so what is written has private names until it has been verified.
use crate::{
    error::{At, Error, ErrorKind, Result},
    pull::Watcher,
};
use std::{
    fs::{self, File, TryLockError},
    path::Path,
    thread,
    time::Duration,
};

/// Pause between two looks at a lock that another process holds.
const LOOK: Duration = Duration::from_millis(50);

/// A lock that is held until it is dropped, or the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    /// Whether locks exclude anybody here.
    pub works: bool,
}

impl Lock {
    /// Takes it, waiting for whoever has it. `waiting` is called once before the first pause.
    pub fn take(path: &Path, watcher: &Watcher<'_>, mut waiting: impl FnMut()) -> Result<Lock> {
        let mut told = false;
        loop {
            watcher.check()?;
            if let Some(lock) = Lock::attempt(path, false)? {
                return Ok(lock);
            }
            if !std::mem::replace(&mut told, true) {
                waiting();
            }
            thread::sleep(LOOK);
        }
    }

    /// Takes it if nobody has it; shared with others that share it where `shared`.
    pub fn attempt(path: &Path, shared: bool) -> Result<Option<Lock>> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).at(folder)?;
        }
        loop {
            let file = open(path).at(path)?;
            match if shared { file.try_lock_shared() } else { file.try_lock() } {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                // Nowhere to lock: go on without, as the bytes do not rely on it.
                Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
                    return Ok(Some(Lock { file, works: false }));
                }
                Err(TryLockError::Error(e)) => return Err(Error::io(path, &e)),
            }
            if !same(&file, path) {
                continue; // Somebody removed the file between our opening and locking it.
            }
            let works = shared || excludes(path);
            return Ok(Some(Lock { file, works }));
        }
    }

    /// Takes it, or says who is in the way.
    pub fn now(path: &Path, shared: bool, what: &str) -> Result<Lock> {
        Lock::attempt(path, shared)?.ok_or_else(|| {
            Error::new(ErrorKind::Busy, format!("{what}: another process works on it")).hint("wait until it is done")
        })
    }
}

impl Drop for Lock {
    // Closing is not enough while a child that is being started still has a copy of the handle.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// A second handle must not get a lock that the first one has.
fn excludes(path: &Path) -> bool {
    open(path).is_ok_and(|second| matches!(second.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Whether `file` is what `path` still names.
#[cfg(unix)]
fn same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn same(_: &File, path: &Path) -> bool {
    path.exists()
}
