//! Taking things off the disk: a model, a revision, one quantization; what nobody refers to any more. A name goes before its
//! bytes, so that a kill leaves bytes without a name and never a name without bytes.
use crate::{
    Store,
    choose::{gguf_sets, pick},
    error::{At, Error, Result},
    layout::{Layout, PRIVATE, missing, random, read_small, sync_folder},
    local::{disk_bytes, files_of, names_in, walk},
    lock::Lock,
    partial::is_stale,
    reference::Reference,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What was taken off the disk.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// Files: blobs, copies, leftovers.
    pub files: usize,
    /// Their bytes on the disk.
    pub bytes: u64,
    /// Models that were left alone because another process works on them.
    pub busy: Vec<String>,
}

impl Removed {
    fn file(&mut self, path: &Path) -> Result<()> {
        let bytes = fs::symlink_metadata(path).map_or(0, |m| disk_bytes(&m));
        match fs::remove_file(path) {
            Ok(()) => {
                self.files += 1;
                self.bytes += bytes;
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(path, &e)),
        }
    }

    /// A folder with all that is in it; links go, what they point to stays.
    fn folder(&mut self, path: &Path) -> Result<()> {
        for name in names_in(path)? {
            let at = path.join(name);
            match fs::symlink_metadata(&at) {
                Ok(m) if m.is_dir() => self.folder(&at)?,
                Ok(m) if m.is_symlink() => fs::remove_file(&at).at(&at)?,
                Ok(_) => self.file(&at)?,
                Err(_) => {}
            }
        }
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, &e)),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// Takes a model off the disk: all of it, one revision (`@revision`), or one quantization (`:quant`). Bytes that other
    /// revisions refer to stay. `Missing` where it is not here, `Busy` while a pull of it runs.
    pub fn remove(&self, reference: &Reference) -> Result<Removed> {
        let layout = Layout::new(&self.config().cache, reference);
        let root = layout.root();
        let absent = || {
            missing(format!("{reference}: not in {}", self.config().cache.display()), reference)
                .hint("`pondera list` shows what is there")
        };
        if !root.is_dir() {
            return Err(absent());
        }
        let _alone = Lock::now(&layout.model_lock(), false, &reference.repository())?;
        let mut removed = Removed::default();
        if reference.revision().is_none() && reference.quant().is_none() {
            for folder in ["refs", "snapshots"] {
                put_away(&layout, &root.join(folder))?;
            }
            removed.folder(&root)?;
            if let Some(locks) = layout.model_lock().parent() {
                let _ = fs::remove_dir_all(locks);
            }
            // A pull that came to nothing leaves folders alone.
            return if removed.files > 0 { Ok(removed) } else { Err(absent()) };
        }
        let shown = self.show(reference)?;
        let mut candidates = BTreeSet::new();
        for revision in &shown.revisions {
            candidates.extend(revision.files.iter().filter_map(|f| f.digest.clone()));
            let whole = reference.quant().is_none() || only(&revision.path, reference.quant())?;
            if whole {
                for name in names_of(&root, &revision.commit)? {
                    let at = root.join("refs").join(name);
                    fs::remove_file(&at).at(&at)?;
                }
                put_away(&layout, &revision.path)?;
            } else {
                for file in &revision.files {
                    let at = revision.path.join(&file.path);
                    fs::remove_file(&at).at(&at)?;
                    // An emptied folder of a split set.
                    let _ = at.parent().filter(|p| *p != revision.path).map(fs::remove_dir);
                }
            }
        }
        let kept = referred(&root)?;
        for digest in candidates.iter().filter(|d| !kept.contains(d.as_str())) {
            removed.file(&layout.blob(digest.as_str()))?;
        }
        for name in names_in(&layout.private())?.iter().filter(|n| n.starts_with("trash-")) {
            removed.folder(&layout.private().join(name))?;
        }
        Ok(removed)
    }

    /// Takes off what nobody refers to: unfinished downloads that nobody goes on with, blobs without a snapshot. What a
    /// running pull has is left alone.
    pub fn clean(&self) -> Result<Removed> {
        let mut removed = Removed::default();
        for name in names_in(&self.config().cache)? {
            let Some(reference) = Reference::from_folder(&name) else { continue };
            let layout = Layout::new(&self.config().cache, &reference);
            if !layout.root().is_dir() {
                continue;
            }
            match Lock::attempt(&layout.model_lock(), false)? {
                Some(lock) => clean_model(&layout, &lock, &mut removed)?,
                None => removed.busy.push(reference.repository()),
            }
        }
        Ok(removed)
    }
}

fn clean_model(layout: &Layout, lock: &Lock, removed: &mut Removed) -> Result<()> {
    let root = layout.root();
    for name in names_in(&root.join(PRIVATE))? {
        let at = root.join(PRIVATE).join(name);
        // Where locks exclude nobody, only age tells that its owner is gone.
        if !lock.works && !is_stale(&at) {
            continue;
        }
        if fs::symlink_metadata(&at).is_ok_and(|m| m.is_dir()) { removed.folder(&at)? } else { removed.file(&at)? }
    }
    let kept = referred(&root)?;
    for name in names_in(&root.join("blobs"))? {
        let digest = name.split('.').next().unwrap_or(&name);
        let at = root.join("blobs").join(&name);
        if kept.contains(&name) {
            continue;
        }
        // The hub's client holds this lock from the first byte to the link.
        let Some(held) = Lock::attempt(&layout.blob_lock_named(digest), false)? else { continue };
        if (held.works || is_stale(&at)) && !referred(&root)?.contains(&name) {
            removed.file(&at)?;
        }
    }
    Ok(())
}

/// Moves a folder out of everybody's sight in one step.
fn put_away(layout: &Layout, folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let private = layout.private();
    fs::create_dir_all(&private).at(&private)?;
    let to = private.join(format!("trash-{}", random()));
    fs::rename(folder, &to).at(folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

/// Whether nothing but this quantization and documents is in the snapshot.
fn only(snapshot: &Path, quant: Option<&str>) -> Result<bool> {
    let files = files_of(snapshot)?;
    let paths: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
    let sets = gguf_sets(&paths);
    let picked = quant.and_then(|q| pick(&sets, q).ok()).and_then(|s| s.files().ok()).unwrap_or_default();
    let rest = paths.iter().filter(|p| !picked.iter().any(|f| f == *p));
    Ok(rest.into_iter().all(|p| !p.to_ascii_lowercase().ends_with(".gguf") && *p != "config.json"))
}

/// Branches and tags of a commit.
fn names_of(root: &Path, commit: &str) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    walk(&root.join("refs"), "", 16, &mut all)?;
    let is_it = |n: &String| read_small(&root.join("refs").join(n)).is_some_and(|c| c.trim() == commit);
    Ok(all.into_iter().filter(is_it).map(PathBuf::from).collect())
}

/// Names of blobs that some snapshot links to, whatever they are called.
fn referred(root: &Path) -> Result<BTreeSet<String>> {
    let snapshots = root.join("snapshots");
    let mut files = Vec::new();
    walk(&snapshots, "", 20, &mut files)?;
    let target = |f: &String| fs::read_link(snapshots.join(f)).ok()?.file_name()?.to_str().map(str::to_string);
    Ok(files.iter().filter_map(target).collect())
}
