//! Whatever layout a path has, its tensors by name.
//!
//! Owns: which files make a model's weights and in what order they are looked for. Knows nothing of configs.
use crate::{
    Advice, Error, ErrorKind, Gguf, Mapping, TensorInfo,
    bounded::checked_size,
    error::{Result, invalid},
    gguf::{self, ShardName},
    index, safetensors,
    tensor::TENSORS_MAX,
    torch,
};
use pondera_quant::{Bytes, Owner, TensorView};
use std::{
    collections::HashMap,
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The container that the tensors came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One `.safetensors` file or a sharded set.
    Safetensors,
    /// One `.gguf` file or a split set.
    Gguf,
    /// One PyTorch checkpoint (`.bin`, `.pt`, `.pth`) or a sharded set.
    Torch,
    /// Tensors that were made in memory.
    Memory,
}

/// Where a folder's weights are looked for, first match wins; the hub's own libraries look in this order.
const FOLDER: &[&str] = &[
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "consolidated.safetensors",
    "consolidated.safetensors.index.json",
    "consolidated.00.pth",
    "adapter_model.safetensors",
    "adapter_model.bin",
];

/// One file of the set.
struct File {
    path: PathBuf,
    bytes: Bytes,
    /// What `bytes` is cut from, where that is a file.
    mapping: Option<Arc<Mapping>>,
}

/// A set of named tensors, mapped and checked.
pub struct Weights {
    kind: Kind,
    folder: PathBuf,
    files: Vec<File>,
    /// Sorted by name.
    tensors: Vec<TensorInfo>,
    metadata: Vec<(String, String)>,
    gguf: Option<Gguf>,
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, tensors) = (self.files.len(), self.tensors.len());
        write!(f, "Weights({:?}, {files} files, {tensors} tensors, {})", self.kind, self.folder.display())
    }
}

impl Weights {
    /// Opens a folder, a tensor file, the index of a sharded set, or any shard of a split GGUF set.
    ///
    /// All headers are read and every extent is proven; no tensor's data is touched.
    pub fn open(path: impl AsRef<Path>) -> Result<Weights> {
        open(path.as_ref()).map_err(|e| match e.kind() {
            ErrorKind::Invalid => e.hint("the file is damaged or not what its name says: fetch it again"),
            _ => e,
        })
    }

    /// A safetensors or GGUF file whose bytes are in memory already; `name` stands for its path in messages.
    pub fn from_bytes(name: &str, bytes: Bytes) -> Result<Weights> {
        let file = File { path: name.into(), bytes, mapping: None };
        match kind_of(&file.path, file.bytes.as_slice())? {
            Kind::Gguf => open_gguf(file),
            kind => open_files(kind, vec![file], None),
        }
    }

    /// Tensors that were made in memory.
    pub fn from_tensors(tensors: impl IntoIterator<Item = (String, TensorView)>) -> Result<Weights> {
        let (mut files, mut infos) = (Vec::new(), Vec::new());
        for (name, t) in tensors {
            let size = checked_size(t.format, &t.shape).map_err(|e| e.of(&name))?;
            if size != t.bytes.len() {
                return Err(invalid(format!("expected {size} bytes, got {}", t.bytes.len())).of(&name));
            }
            let file = u32::try_from(files.len()).map_err(|_| invalid("too many tensors"))?;
            let (name, shape) = (name.into(), t.shape.into());
            infos.push(TensorInfo { name, format: t.format, shape, file, range: 0..size, strides: None });
            files.push(File { path: "memory".into(), bytes: t.bytes, mapping: None });
        }
        Weights { kind: Kind::Memory, folder: PathBuf::new(), files, tensors: infos, metadata: vec![], gguf: None }
            .sorted()
    }

    /// Sorts the tensors by name and refuses a name that stands twice.
    fn sorted(mut self) -> Result<Weights> {
        self.tensors.sort_by(|a, b| a.name.cmp(&b.name));
        self.tensors.shrink_to_fit();
        let twice = self.tensors.windows(2).find(|w| w[0].name == w[1].name);
        match twice {
            Some([a, b, ..]) => {
                let (path, other) = (self.path_of(b), self.path_of(a));
                let what = match a.file == b.file {
                    true => "stands twice in the file".to_string(),
                    false => format!("stands in two files, also in {}", other.display()),
                };
                Err(invalid(what).of(&b.name).at(path))
            }
            _ => Ok(self),
        }
    }

    /// The container.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The folder that the files lie in: where config and vocabulary are to be looked for.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files, in the order of the set.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|f| &*f.path)
    }

    /// `__metadata__` of a safetensors file (of a set: of its first file). GGUF metadata: [`Weights::gguf`].
    pub fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }

    /// Typed metadata, where the container is GGUF.
    pub fn gguf(&self) -> Option<&Gguf> {
        self.gguf.as_ref()
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|t| &*t.name)
    }

    /// What the header says of `name`.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        let i = self.tensors.binary_search_by(|t| (*t.name).cmp(name)).ok()?;
        self.tensors.get(i)
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.info(name).is_some()
    }

    /// The tensor `name`. Shares the file's bytes; only a strided PyTorch tensor is copied, into row-major order.
    pub fn get(&self, name: &str) -> Result<TensorView> {
        let t = self.info(name).ok_or_else(|| {
            let e = Error::new(ErrorKind::NotFound, "no such tensor").of(name);
            match &self.files[..] {
                [one] => e.at(&one.path),
                _ => e.at(&self.folder),
            }
        })?;
        self.view(t)
    }

    /// The tensor that `t`, one of [`Weights::tensors`], describes.
    pub fn view(&self, t: &TensorInfo) -> Result<TensorView> {
        let file = self.file(t);
        let stored = file.and_then(|f| f.bytes.slice(t.range.clone()));
        let stored = stored.ok_or_else(|| invalid("no tensor of this set").of(&t.name))?;
        let bytes = match &t.strides {
            None => stored,
            Some(strides) => torch::row_major(t, strides, stored.as_slice())?.into(),
        };
        Ok(TensorView { format: t.format, shape: t.shape.to_vec(), bytes })
    }

    fn file(&self, t: &TensorInfo) -> Option<&File> {
        self.files.get(usize::try_from(t.file).ok()?)
    }

    /// The file that holds `t`.
    pub fn path_of(&self, t: &TensorInfo) -> &Path {
        self.file(t).map_or(&self.folder, |f| &f.path)
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes() as u64).sum()
    }

    /// Bytes of all files.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes.len() as u64).sum()
    }

    /// Whether a file changed or shrank while it was mapped, so that what was read may be wrong. One `fstat` a file.
    pub fn damaged(&self) -> bool {
        self.files.iter().any(File::damaged)
    }

    /// [`Weights::damaged`] as an error that names the file.
    pub fn check(&self) -> Result<()> {
        let what = "the file was changed while it was in use";
        match self.files.iter().find(|f| f.damaged()) {
            Some(f) => Err(Error::new(ErrorKind::Damaged, what).at(&f.path).hint("load the model again")),
            None => Ok(()),
        }
    }

    /// Tells the system how all files will be read.
    pub fn advise(&self, advice: Advice) {
        for f in &self.files {
            if let Some(m) = &f.mapping {
                m.advise(0..f.bytes.len(), advice);
            }
        }
    }

    /// Tells the system how the bytes of `t` will be read.
    pub fn advise_tensor(&self, t: &TensorInfo, advice: Advice) {
        if let Some(m) = self.file(t).and_then(|f| f.mapping.as_ref()) {
            m.advise(t.range.clone(), advice);
        }
    }
}

impl File {
    fn map(path: &Path) -> Result<File> {
        let mapping = Arc::new(Mapping::open(path)?);
        let owner: Arc<dyn Owner> = mapping.clone();
        Ok(File { path: path.to_path_buf(), bytes: Bytes::new(owner), mapping: Some(mapping) })
    }

    fn damaged(&self) -> bool {
        self.mapping.as_ref().is_some_and(|m| m.damaged())
    }
}

fn open(path: &Path) -> Result<Weights> {
    let is_folder = fs::metadata(path).map_err(|e| Error::io(path, &e))?.is_dir();
    let found = if is_folder { discover(path)? } else { path.to_path_buf() };
    if found.to_string_lossy().ends_with(".index.json") {
        return open_index(&found);
    }
    let file = File::map(&found)?;
    match kind_of(&found, file.bytes.as_slice())? {
        Kind::Gguf => open_gguf(file),
        kind => open_files(kind, vec![file], None),
    }
}

/// The file or index in `folder` that names its weights.
fn discover(folder: &Path) -> Result<PathBuf> {
    if let Some(found) = FOLDER.iter().map(|name| folder.join(name)).find(|p| p.is_file()) {
        return Ok(found);
    }
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, &e))? {
        names.push(entry.map_err(|e| Error::io(folder, &e))?.path());
    }
    names.sort();
    for extension in ["gguf", "safetensors"] {
        let first_shard = |p: &&PathBuf| ShardName::parse(p).is_none_or(|s| s.number == 0);
        // An image projector lies beside its model, and is none.
        let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let wanted = |p: &&PathBuf| p.extension().is_some_and(|e| e == extension) && !name(p).starts_with("mmproj");
        let of_kind = names.iter().filter(wanted).filter(first_shard);
        match of_kind.collect::<Vec<_>>()[..] {
            [] => {}
            [one] => return Ok(one.clone()),
            [one, other, ..] => {
                let what = format!("several models in one folder: {}, {}", name(one), name(other));
                return Err(invalid(what).at(folder).hint("name one of the files, or the index of the set"));
            }
        }
    }
    Err(Error::new(ErrorKind::NotFound, "no weights in this folder")
        .at(folder)
        .hint(format!("looked for {}, *.gguf, *.safetensors", FOLDER.join(", "))))
}

/// The container of a file, by its first bytes, then by its name.
fn kind_of(path: &Path, bytes: &[u8]) -> Result<Kind> {
    if bytes.starts_with(gguf::MAGIC) {
        return Ok(Kind::Gguf);
    }
    // Before PyTorch: a header of 640 bytes begins like a pickle.
    if safetensors::looks_like(bytes) {
        return Ok(Kind::Safetensors);
    }
    if torch::looks_like(bytes) {
        return Ok(Kind::Torch);
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match &*extension {
        "gguf" => Ok(Kind::Gguf),
        "safetensors" => Ok(Kind::Safetensors),
        "bin" | "pt" | "pth" | "ckpt" | "pkl" => Ok(Kind::Torch),
        _ => Err(Error::new(ErrorKind::Unsupported, "not a safetensors, GGUF or PyTorch file")
            .at(path)
            .hint("name a model's folder, a .safetensors or .gguf file, or an index.json")),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_path_buf()
}

fn open_index(path: &Path) -> Result<Weights> {
    let index = index::parse(&read_bounded(path, index::INDEX_MAX)?).map_err(|e| e.at(path))?;
    let folder = folder_of(path);
    let mut files = Vec::new();
    for name in &index.files {
        let shard = folder.join(name);
        files.push(File::map(&shard).map_err(|e| {
            match e.kind() {
                ErrorKind::NotFound => invalid(format!("the index names the shard `{name}`, which is not there"))
                    .at(path)
                    .hint("download the missing file"),
                _ => e,
            }
        })?);
    }
    let Some(first) = files.first() else { return Err(invalid("the index names no file").at(path)) };
    let kind = kind_of(&first.path, first.bytes.as_slice())?;
    if kind == Kind::Gguf {
        return Err(invalid("an index of GGUF files").at(path));
    }
    let weights = open_files(kind, files, Some(&index)).map_err(|e| e.at(path))?;
    let missing = index.tensors.iter().find(|(name, _)| !weights.contains(name));
    match missing {
        Some((name, file)) => {
            let shard = usize::try_from(*file).ok().and_then(|f| index.files.get(f));
            let what = format!("the index says it is in `{}`, where it is not", shard.map_or("", |s| s));
            Err(invalid(what).of(name).at(path))
        }
        None => Ok(weights),
    }
}

/// Safetensors or PyTorch files that make one set. The index decides between two files that hold the same name.
fn open_files(kind: Kind, files: Vec<File>, index: Option<&index::Index>) -> Result<Weights> {
    let folder = files.first().map(|f| folder_of(&f.path)).unwrap_or_default();
    let mut w = Weights { kind, folder, files: vec![], tensors: vec![], metadata: vec![], gguf: None };
    for (number, file) in files.into_iter().enumerate() {
        let number = u32::try_from(number).map_err(|_| invalid("too many files"))?;
        let (tensors, metadata) = match kind {
            Kind::Torch => torch::parse(&file.bytes).map(|t| (t, vec![])),
            _ => safetensors::parse(file.bytes.as_slice()).map(|h| (h.tensors, h.metadata)),
        }
        .map_err(|e| e.at(&file.path))?;
        let elsewhere = |t: &TensorInfo| index.and_then(|i| i.file_of(&t.name)).is_some_and(|f| f != number);
        let ours = tensors.into_iter().filter(|t| !elsewhere(t)).map(|t| TensorInfo { file: number, ..t });
        w.tensors.extend(ours);
        if w.tensors.len() > TENSORS_MAX {
            return Err(Error::new(ErrorKind::Unsupported, format!("more than {TENSORS_MAX} tensors")));
        }
        if number == 0 {
            w.metadata = metadata;
        }
        w.files.push(file);
    }
    w.sorted()
}

/// A GGUF file, and the rest of its set where it is split.
fn open_gguf(file: File) -> Result<Weights> {
    let path = file.path.clone();
    let (parsed, split) = parse_gguf(&file)?;
    if split.count <= 1 {
        return gguf_set(folder_of(&path), vec![(file, parsed)]);
    }
    let name = ShardName::parse(&path).filter(|s| s.count == split.count && s.number == split.number);
    let name = name.ok_or_else(|| {
        let what = format!("shard {} of {}, but the file name does not say so", split.number + 1, split.count);
        invalid(what).at(&path).hint("give the file its name back: NAME-00001-of-00003.gguf")
    })?;
    let mut opened = HashMap::from([(split.number, (file, parsed))]);
    let mut shards = Vec::new();
    for number in 0..split.count {
        let shard = match opened.remove(&number) {
            Some(shard) => shard,
            None => open_shard(&name, number, &split)?,
        };
        shards.push(shard);
    }
    let total: usize = shards.iter().map(|s| s.1.tensors.len()).sum();
    if split.tensors.is_some_and(|t| t != total as u64) {
        let what = format!("split.tensors.count: expected {}, got {total}", split.tensors.unwrap_or(0));
        return Err(invalid(what).at(&path));
    }
    gguf_set(folder_of(&path), shards)
}

fn open_shard(name: &ShardName, number: u32, of: &Split) -> Result<(File, gguf::Parsed)> {
    let path = name.path(number);
    let file = File::map(&path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => invalid(format!("shard {} of {} is missing", number + 1, of.count))
            .at(&path)
            .hint("download the missing file"),
        _ => e,
    })?;
    let (parsed, split) = parse_gguf(&file)?;
    if (split.number, split.count) != (number, of.count) {
        let what =
            format!("expected shard {} of {}, got {} of {}", number + 1, of.count, split.number + 1, split.count);
        return Err(invalid(what).at(&path));
    }
    Ok((file, parsed))
}

/// What a GGUF file says of its set.
struct Split {
    number: u32,
    count: u32,
    tensors: Option<u64>,
}

fn parse_gguf(file: &File) -> Result<(gguf::Parsed, Split)> {
    let parse = || {
        let parsed = gguf::parse(file.bytes.clone())?;
        let number = |key| -> Result<u32> {
            let n = parsed.gguf.u64(key)?.unwrap_or(0);
            // Five digits of the name hold no more.
            u32::try_from(n).ok().filter(|&n| n < 100_000).ok_or_else(|| invalid(format!("{n} shards")).of(key))
        };
        let (number, count) = (number("split.no")?, number("split.count")?);
        if number >= count.max(1) {
            return Err(invalid(format!("expected less than split.count {count}, got {number}")).of("split.no"));
        }
        let tensors = parsed.gguf.u64("split.tensors.count")?;
        Ok((parsed, Split { number, count, tensors }))
    };
    parse().map_err(|e: Error| e.at(&file.path))
}

fn gguf_set(folder: PathBuf, shards: Vec<(File, gguf::Parsed)>) -> Result<Weights> {
    let mut w = Weights { kind: Kind::Gguf, folder, files: vec![], tensors: vec![], metadata: vec![], gguf: None };
    for (number, (file, parsed)) in shards.into_iter().enumerate() {
        let number = u32::try_from(number).map_err(|_| invalid("too many files"))?;
        w.tensors.extend(parsed.tensors.into_iter().map(|t| TensorInfo { file: number, ..t }));
        w.gguf.get_or_insert(parsed.gguf);
        w.files.push(file);
    }
    w.sorted()
}

/// A small file's bytes; one that is longer than `max` is refused before it is read.
pub(crate) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    let io = |e: std::io::Error| Error::io(path, &e);
    let m = fs::metadata(path).map_err(io)?;
    if !m.is_file() || m.len() > max {
        return Err(invalid(format!("expected a file of at most {max} bytes")).at(path));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(io)?.take(max).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}
