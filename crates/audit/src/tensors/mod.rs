//! Rules about tensors: their values, what they say beside one another, and whether they are what configurations, indexes
//! and adapters say that they are.
//!
//! Owns which files make a set, the order of the rules, and [`statistics`]. Each rule's file says what it holds for odd.
//! Does not own: whether a file can be read at all (the scan), what a family's tensors are called (`pondera-arch`).
mod across;
mod adapter;
mod config;
mod index;
mod statistics;
#[cfg(test)]
mod tests;
mod tokens;
mod values;

pub use statistics::{ScaleStatistics, Statistics, statistics, values};

use crate::findings::{Findings, New, Rule, STRUCTURE, Severity};
use pondera_quant::{Format, TensorView};
use pondera_weights::{Gguf, Kind, TensorInfo, Weights};
use serde::Serialize;
use statistics::{Work, survey};
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// How tensors are looked at.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Whether their values are read, and not only headers.
    pub values: bool,
    /// Threads that read; 0: as many as the machine runs at once.
    pub threads: usize,
    /// Hears how many bytes of how many were looked at, from any thread.
    pub progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { values: true, threads: 0, progress: None }
    }
}

impl Options<'_> {
    /// Threads to work with, at least one.
    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// Sets of tensors: a file, or the files of an index.
    pub sets: usize,
    /// Tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether their values were read.
    pub values: bool,
}

/// Tensors that belong together, with where findings about them are placed.
pub(crate) struct Set<'a> {
    weights: &'a Weights,
    root: &'a Path,
    /// What a reader of the folder would open: the configuration beside it is its own.
    main: bool,
}

impl Set<'_> {
    /// What findings call a file.
    fn shown(&self, path: &Path) -> String {
        let name = path.strip_prefix(self.root).ok().filter(|p| !p.as_os_str().is_empty());
        name.unwrap_or(path).display().to_string()
    }

    /// The first of its files, for findings about the whole.
    fn first(&self) -> String {
        self.weights.files().next().map_or(String::new(), |p| self.shown(p))
    }

    /// A finding about the whole set, or about `name` in it.
    fn add(&self, findings: &mut Findings, rule: &'static Rule, severity: Severity, name: Option<&str>, what: String) {
        findings.add(New { rule, severity, file: &self.first(), what, offset: None, name });
    }

    /// A finding about tensor `t`, `at` bytes into it.
    fn add_tensor(
        &self,
        findings: &mut Findings,
        (rule, severity): (&'static Rule, Severity),
        t: &TensorInfo,
        at: usize,
        what: String,
    ) {
        let file = self.shown(self.weights.path_of(t));
        let offset = Some(t.range.start + at);
        findings.add(New { rule, severity, file: &file, what, offset, name: Some(&t.name) });
    }
}

/// A tensor whose values were read.
pub(crate) struct Seen<'a> {
    info: &'a TensorInfo,
    view: TensorView,
    /// Of its values; of codes only that they were there.
    stats: Statistics,
}

/// Looks at all tensors of a file or folder.
pub(crate) fn look(root: &Path, options: &Options<'_>, findings: &mut Findings) -> Looked {
    let folder = root.is_dir();
    let candidates = if folder { candidates(root) } else { vec![root.to_path_buf()] };
    let size = |p: &PathBuf| std::fs::metadata(p).map_or(0, |m| m.len());
    let total: u64 = candidates.iter().filter(|p| !is_index(p)).map(size).sum();
    let done = AtomicU64::new(0);
    let mut looked = Looked { values: options.values, ..Looked::default() };
    let mut covered: HashSet<PathBuf> = HashSet::new();
    let mut mains: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
    for path in &candidates {
        if covered.contains(path) {
            continue;
        }
        if is_index(path) {
            index::look(path, root, findings);
        }
        // What cannot be opened has a finding of the scan's; shards of a broken set are looked at one by one.
        let Ok(weights) = Weights::open(path) else { continue };
        covered.extend(weights.files().map(Path::to_path_buf));
        let main = mains.entry(weights.folder().to_path_buf()).or_insert_with(|| main_files(weights.folder()));
        let main = weights.files().eq(main.iter().map(PathBuf::as_path));
        let set = Set { weights: &weights, root: if folder { root } else { Path::new("") }, main };
        looked.sets += 1;
        looked.tensors += weights.tensors().len();
        looked.bytes += weights.total_bytes();
        one(&set, options, &|n| report(options, &done, n as u64, total), findings);
        if let Err(e) = weights.check() {
            set.add(findings, STRUCTURE, Severity::Medium, None, e.to_string());
        }
    }
    looked
}

fn report(options: &Options<'_>, done: &AtomicU64, more: u64, total: u64) {
    let now = done.fetch_add(more, Ordering::Relaxed) + more;
    if let Some(progress) = options.progress {
        progress(now.min(total), total);
    }
}

/// All rules over one set.
fn one(set: &Set<'_>, options: &Options<'_>, done: &(dyn Fn(usize) + Sync), findings: &mut Findings) {
    let adapter = adapter::look(set, findings);
    if !adapter {
        config::look(set, findings);
    }
    if !options.values {
        return;
    }
    let threads = options.threads();
    let seen = read(set, threads, done);
    values::look(set, &seen, findings);
    across::duplicates(set, &seen, findings);
    if !adapter {
        across::layers(set, &seen, findings);
        tokens::look(set, threads, findings);
    }
}

/// Reads the values of all tensors that lie in rows.
fn read<'a>(set: &Set<'a>, threads: usize, done: &(dyn Fn(usize) + Sync)) -> Vec<Seen<'a>> {
    let w = set.weights;
    let rows = w.tensors().iter().filter(|t| t.strides.is_none());
    let mut seen: Vec<Seen> = rows
        .filter_map(|info| {
            let mut view = w.view(info).ok()?;
            view.format = values::read_as(w, info);
            Some(Seen { info, view, stats: Statistics::default() })
        })
        .collect();
    let work: Vec<Work> = seen
        .iter()
        .map(|s| Work { format: s.view.format, bytes: s.view.bytes.as_slice(), stride: stride(s.view.format) })
        .collect();
    let mut stats = Vec::with_capacity(work.len());
    survey(&work, threads, done, &mut |_, s| stats.push(s));
    seen.iter_mut().zip(stats).for_each(|(seen, s)| seen.stats = s);
    seen
}

/// Of the runs of a format that must be decoded, one in so many is: a byte of few bits stands for many weights. The scales of
/// all blocks are read whatever this says.
fn stride(format: Format) -> usize {
    let info = format.info();
    if info.block > 1 && info.bytes * 8 < 4 * info.block { 4 } else { 1 }
}

/// Files of a folder that may hold tensors; indexes first, so that their shards are one set.
fn candidates(root: &Path) -> Vec<PathBuf> {
    let mut files = crate::scan::files(root).unwrap_or_default();
    files.retain(|p| is_index(p) || may_hold_tensors(p));
    files.sort_by_key(|p| !is_index(p));
    files
}

fn is_index(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".index.json")
}

/// Whether a file says by its name or first bytes that it holds tensors.
fn may_hold_tensors(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    if [".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt"].iter().any(|e| name.ends_with(e)) {
        return true;
    }
    let mut head = [0; 9];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut head));
    read.is_ok() && (head.starts_with(b"GGUF") || head[5..] == [0, 0, 0, b'{'])
}

/// The files that a reader of `folder` takes for the model.
fn main_files(folder: &Path) -> Vec<PathBuf> {
    let found = Weights::open(folder).ok().filter(|w| w.kind() != Kind::Gguf);
    found.map_or(Vec::new(), |w| w.files().map(Path::to_path_buf).collect())
}

/// GGUF metadata of a model: of one that says that it is none, nothing.
fn model_metadata(w: &Weights) -> Option<&Gguf> {
    let kind = |g: &Gguf| g.str("general.type").ok().flatten().is_none_or(|t| t == "model");
    w.gguf().filter(|g| kind(g))
}
