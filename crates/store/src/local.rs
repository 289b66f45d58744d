//! What is on the disk: which models, at which revisions, which of their files, whether their bytes hold. Opens no
//! connection. Does not own: changes (`pull`, `remove`).
use crate::{
    Store,
    choose::{gguf_sets, matching, pick, usual},
    digest::Digest,
    error::{At, Error, Result},
    layout::{Layout, PRIVATE, missing, read_small},
    names::plain,
    pull::{Watch, Watcher},
    reference::Reference,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Deepest folder of a snapshot that is looked into.
const DEPTH_MAX: usize = 16;

/// A model in the cache.
#[derive(Clone, Debug)]
pub struct Model {
    /// `org/name`.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// What is here of it, each commit once.
    pub revisions: Vec<Revision>,
    /// Bytes on the disk; what revisions share counts once.
    pub bytes: u64,
    /// Bytes of downloads that did not end.
    pub unfinished: u64,
}

/// One commit of a model.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The commit.
    pub commit: String,
    /// Branches and tags that it was when it was fetched.
    pub names: Vec<String>,
    /// The snapshot's folder.
    pub path: PathBuf,
    /// Its files by path.
    pub files: Vec<LocalFile>,
}

impl Revision {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).fold(0, u64::saturating_add)
    }
}

/// A file of a snapshot.
#[derive(Clone, Debug)]
pub struct LocalFile {
    /// Path in the repository.
    pub path: String,
    /// Bytes; 0 where the blob is gone.
    pub size: u64,
    /// What it should hash to: the blob's name. None for a file that is no link to a blob.
    pub digest: Option<Digest>,
    /// Whether its bytes are there.
    pub present: bool,
}

/// What [`Store::verify`] found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Files whose bytes hold.
    pub good: usize,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Files whose bytes do not.
    pub bad: Vec<Bad>,
    /// Files without a digest to hold them to.
    pub unknown: Vec<String>,
}

/// A file that does not hold.
#[derive(Clone, Debug)]
pub struct Bad {
    /// The commit it belongs to.
    pub commit: String,
    /// Path in the repository.
    pub path: String,
    /// What is wrong, in a few words.
    pub why: String,
}

impl Store {
    /// All models of the cache, by name. A cache that is not there holds none.
    pub fn list(&self) -> Result<Vec<Model>> {
        let mut models = Vec::new();
        for name in names_in(&self.config().cache)? {
            if let Some(reference) = Reference::from_folder(&name)
                && let Some(model) = self.model(&reference)?
            {
                models.push(model);
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// What is here of one model: the named revision, or all. `Missing` where there is nothing.
    pub fn show(&self, reference: &Reference) -> Result<Model> {
        let absent = || missing(format!("{reference}: not in {}", self.config().cache.display()), reference);
        let mut model = self.model(reference)?.ok_or_else(absent)?;
        if reference.revision().is_some() {
            let commit = self.commit(reference)?;
            model.revisions.retain(|r| r.commit == commit);
        }
        if let Some(quant) = reference.quant() {
            for revision in &mut model.revisions {
                let paths: Vec<&str> = revision.files.iter().map(|f| f.path.as_str()).collect();
                let kept = pick(&gguf_sets(&paths), quant).and_then(|s| s.files()).unwrap_or_default();
                revision.files.retain(|f| kept.contains(&f.path));
            }
            model.revisions.retain(|r| !r.files.is_empty());
        }
        if model.revisions.is_empty() { Err(absent()) } else { Ok(model) }
    }

    /// The path that `reference` stands for: a snapshot's folder, or a GGUF file (the first of a split set). `Missing` with
    /// the command that would fetch it; `Choice` where several GGUF files leave doubt.
    pub fn resolve(&self, reference: &Reference) -> Result<PathBuf> {
        let commit = self.commit(reference)?;
        self.in_snapshot(reference, &Layout::new(&self.config().cache, reference).snapshot(&commit))
    }

    /// The commit of the reference's revision that is here.
    pub(crate) fn commit(&self, reference: &Reference) -> Result<String> {
        let layout = Layout::new(&self.config().cache, reference);
        if !layout.root().is_dir() {
            let what = format!("{reference}: no such path, and not in the hub cache {}", self.config().cache.display());
            return Err(missing(what, reference));
        }
        let revision = reference.revision_or_main();
        if let Some(commit) = layout.commit_of(revision) {
            return Ok(commit);
        }
        let mut all = names_in(&layout.root().join("snapshots"))?;
        // The hub's commits are long; caches that were made by hand may have others.
        all.retain(|c| plain(c));
        if reference.is_tag() {
            all.clear();
        } else if reference.revision().is_some() {
            all.retain(|c| c.starts_with(revision));
        }
        // Without a named revision, a cache with a single snapshot leaves no doubt.
        match all.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err(missing(
                format!("{reference}: revision {revision} is not in {}", layout.root().display()),
                reference,
            )),
        }
    }

    pub(crate) fn in_snapshot(&self, reference: &Reference, snapshot: &Path) -> Result<PathBuf> {
        let mut files = Vec::new();
        walk(snapshot, "", DEPTH_MAX, &mut files)?;
        let paths: Vec<&str> = files.iter().map(String::as_str).collect();
        let sets = gguf_sets(&paths);
        let set = match reference.quant() {
            None if sets.is_empty() || paths.contains(&"config.json") => return Ok(snapshot.to_path_buf()),
            None => usual(&sets),
            Some(quant) if matching(&sets, quant).is_empty() => {
                let what = format!("{reference}: no GGUF file of type {quant} in {}", snapshot.display());
                return Err(missing(what, reference));
            }
            Some(quant) => pick(&sets, quant),
        };
        let set = set.map_err(|e| e.about(&reference.to_string()))?;
        let files = set.files().map_err(|e| missing(e.to_string(), reference))?;
        if let Some(gone) = files.iter().find(|f| !snapshot.join(f).exists()) {
            return Err(missing(format!("{reference}: the bytes of {gone} are gone"), reference));
        }
        set.first().map(|f| snapshot.join(f)).ok_or_else(|| missing(reference.to_string(), reference))
    }

    /// Hashes the files of `reference` again. Reports bad files rather than failing; `watch` hears of progress.
    pub fn verify(&self, reference: &Reference, watch: Watch<'_>) -> Result<Verified> {
        let model = self.show(reference)?;
        let watcher = Watcher::new(watch);
        let files = || model.revisions.iter().flat_map(|r| r.files.iter().map(move |f| (r, f)));
        let unique: BTreeSet<&Digest> = files().filter_map(|(_, f)| f.digest.as_ref()).collect();
        let sizes: BTreeMap<&Digest, u64> = files().filter_map(|(_, f)| Some((f.digest.as_ref()?, f.size))).collect();
        watcher.expect(unique.len(), sizes.values().fold(0, |a, b| a.saturating_add(*b)));
        let mut found: BTreeMap<&Digest, Option<String>> = BTreeMap::new();
        let mut report = Verified::default();
        for (revision, file) in files() {
            let Some(digest) = &file.digest else {
                report.unknown.push(file.path.clone());
                continue;
            };
            if !found.contains_key(digest) {
                watcher.reset(&file.path);
                let why = check(&revision.path.join(&file.path), digest, file, &watcher)?;
                report.bytes += if file.present { file.size } else { 0 };
                watcher.file_done();
                found.insert(digest, why);
            }
            match found.get(digest).and_then(Option::as_ref) {
                None => report.good += 1,
                Some(why) => {
                    report.bad.push(Bad { commit: revision.commit.clone(), path: file.path.clone(), why: why.clone() });
                }
            }
        }
        Ok(report)
    }

    /// One model; None where its folder holds no snapshot and nothing unfinished.
    pub(crate) fn model(&self, reference: &Reference) -> Result<Option<Model>> {
        let layout = Layout::new(&self.config().cache, reference);
        let root = layout.root();
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut references = Vec::new();
        walk(&root.join("refs"), "", DEPTH_MAX, &mut references)?;
        for name in references {
            if let Some(commit) = read_small(&root.join("refs").join(&name)) {
                names.entry(commit.trim().to_string()).or_default().push(name);
            }
        }
        let mut revisions = Vec::new();
        for commit in names_in(&root.join("snapshots"))? {
            if !plain(&commit) || !layout.snapshot(&commit).is_dir() {
                continue;
            }
            let path = layout.snapshot(&commit);
            let names = names.remove(&commit).unwrap_or_default();
            revisions.push(Revision { files: files_of(&path)?, names, path, commit });
        }
        let mut bytes = 0u64;
        for name in names_in(&root.join("blobs"))? {
            bytes = bytes.saturating_add(fs::metadata(root.join("blobs").join(name)).map_or(0, |m| m.len()));
        }
        // Files of a snapshot that are no links count beside the blobs.
        for revision in &revisions {
            let own = revision.files.iter().filter(|f| f.digest.is_none());
            let own = own.filter(|f| fs::read_link(revision.path.join(&f.path)).is_err());
            bytes = own.fold(bytes, |sum, f| sum.saturating_add(f.size));
        }
        let unfinished = names_in(&root.join(PRIVATE))?
            .iter()
            .map(|n| fs::metadata(root.join(PRIVATE).join(n)).map_or(0, |m| disk_bytes(&m)))
            .fold(0, u64::saturating_add);
        if revisions.is_empty() && unfinished == 0 && bytes == 0 {
            return Ok(None);
        }
        Ok(Some(Model { name: reference.repository(), path: root, revisions, bytes, unfinished }))
    }
}

/// What is wrong with a file's bytes, if anything.
fn check(path: &Path, digest: &Digest, file: &LocalFile, watcher: &Watcher<'_>) -> Result<Option<String>> {
    if !file.present {
        return Ok(Some("its blob is gone".into()));
    }
    let holds = File::open(path).and_then(|mut f| {
        digest.matches(&mut f, file.size, |n| {
            watcher.add(n, 0);
            watcher.check_io()
        })
    });
    watcher.check()?;
    match holds {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(format!("its bytes are not {digest}"))),
        Err(e) => Ok(Some(e.to_string())),
    }
}

/// Files of a snapshot, by path.
pub(crate) fn files_of(snapshot: &Path) -> Result<Vec<LocalFile>> {
    let mut paths = Vec::new();
    walk(snapshot, "", DEPTH_MAX, &mut paths)?;
    paths.sort();
    let read = |path: String| {
        let at = snapshot.join(&path);
        let size = fs::metadata(&at).ok().filter(|m| m.is_file()).map(|m| m.len());
        LocalFile { digest: blob_of(&at), size: size.unwrap_or(0), present: size.is_some(), path }
    };
    Ok(paths.into_iter().map(read).collect())
}

/// The digest that a snapshot's link points to.
fn blob_of(link: &Path) -> Option<Digest> {
    let target = fs::read_link(link).ok()?;
    let in_blobs = target.parent().and_then(Path::file_name).is_some_and(|n| n == "blobs");
    Digest::parse(target.file_name()?.to_str()?).filter(|_| in_blobs)
}

/// Files and links below `folder`, as paths with `/`. A folder that is not there has none.
pub(crate) fn walk(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    for name in names_in(folder)? {
        let at = folder.join(&name);
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        match fs::symlink_metadata(&at) {
            Ok(m) if m.is_dir() && depth > 0 => walk(&at, &path, depth - 1, files)?,
            Ok(m) if !m.is_dir() => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// Names in a folder, sorted; those that are no UTF-8 were not made by us. None where there is no folder.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        Err(e) => return Err(Error::io(folder, &e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.at(folder)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Bytes that a file takes on the disk: unfinished files have holes.
#[cfg(unix)]
pub(crate) fn disk_bytes(found: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(found).saturating_mul(512).min(found.len())
}

#[cfg(not(unix))]
pub(crate) fn disk_bytes(found: &fs::Metadata) -> u64 {
    found.len()
}
