//! What a kept file must survive: others on the machine, a process that is killed, a machine that loses power. Folders and files
//! are their owner's alone; what is published under its name is whole; a name that was given stays given.
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

/// Most bytes of a record.
const RECORD_BYTES: u64 = 1 << 20;

/// A folder that nobody else can look into.
pub fn folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        builder.mode(0o700).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    }
    #[cfg(not(unix))]
    builder.create(path)
}

/// How files are opened that nobody else can read.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Gives a file its name, once all of it is on the disk.
pub fn publish(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    settle(to)?;
    if from.parent() == to.parent() { Ok(()) } else { settle(from) }
}

/// Removes a file, if it is there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => settle(path),
    }
}

/// Makes the names of a file's folder durable.
fn settle(path: &Path) -> io::Result<()> {
    match path.parent() {
        #[cfg(unix)]
        Some(folder) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Writes a record whole or not at all, by way of the file `draft`.
pub fn write<T: Serialize>(record: &T, draft: &Path, to: &Path) -> io::Result<()> {
    let mut file = private().write(true).create(true).truncate(true).open(draft)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    drop(file);
    publish(draft, to)
}

/// A record.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut text = Vec::new();
    File::open(path)?.take(RECORD_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
