//! A family's tensors by name: the one reader behind loading, listing, counting and random weights.
//!
//! Owns: both names of a tensor side by side, prefixes, shapes, layouts (fused, stacked, transposed, packed) and
//! the record of what was read. Does not own: which tensors there are (families), how bytes decode (`pondera-quant`).
use crate::{
    Config, Error, PositionFactor, Result,
    adapter::{Overlay, Probe, Tied},
    config::Convention,
    error::shortened,
};
use pondera_ops::{CacheId, CacheSpec, Linear, Norm, Rope, StateId, StateSpec, W, Weight};
use pondera_quant::{Bytes, Format, Matrix, Packed, TensorView, packed};
use pondera_weights::Weights;
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

/// The format of a matrix, from its name in a repository and the number of layers.
pub type Mix = fn(name: &str, layers: usize) -> Format;

/// Where weights come from.
pub enum Source<'a> {
    /// Files, named as the configuration's convention says (a model repository's or GGUF's names).
    Files(&'a Weights),
    /// Random weights of this format (where a row is no whole number of its blocks: `Q8_0` or `F32`), for benches.
    Random {
        /// Format of all matrices.
        format: Format,
        /// The same seed gives the same weights.
        seed: u64,
    },
    /// Random weights whose formats depend on their names, as quantizers mix them.
    Mixed {
        /// The rule.
        mix: Mix,
        /// The same seed gives the same weights.
        seed: u64,
    },
    /// No bytes at all: names, shapes, counts and caches. Such a model must not be run.
    Describe,
}

/// A name under the two conventions: the model hub's and GGUF's. `|` separates alternatives, the first found counts.
pub type Name<'a> = (&'a str, &'a str);

/// One weight that a family named.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name in the files, or the first of its names where there are no files.
    pub name: String,
    /// `[groups, out, inp]`; experts are groups.
    pub shape: [usize; 3],
    /// What users call its storage.
    pub format: &'static str,
    /// Stored bytes.
    pub bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Of these, how many take part in one token.
    pub active: u64,
}

/// How an `[out, inp]` matrix lies in a repository's file. GGUF files always have rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[out, inp]`.
    Rows,
    /// `[inp, out]`, as GPT-2's `Conv1D` has it.
    Transposed,
}

/// What a vector is, which says how random weights fill it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    One,
    Zero,
}

/// What is shared by all readers of one load.
pub(crate) struct Core<'a> {
    config: &'a Config,
    source: &'a Source<'a>,
    /// Names as families spell them, to names in the files.
    index: HashMap<String, String>,
    used: RefCell<HashSet<String>>,
    listed: RefCell<Vec<Listed>>,
    caches: RefCell<Vec<CacheSpec>>,
    states: RefCell<Vec<StateSpec>>,
    ropes: RefCell<Vec<Rope>>,
    factors: RefCell<Vec<PositionFactor>>,
    random: RefCell<u64>,
    /// What was listed, in the same order.
    handles: RefCell<Vec<W>>,
    tied: RefCell<Vec<Tied>>,
    /// Tensors in place of the files' own.
    overlay: Option<&'a Overlay>,
    /// Matrices are not read, but know where they are from.
    probe: Option<Probe>,
    /// Every name that was asked for, with the first that repositories have for it; only where somebody wants to know.
    pub(crate) keys: Option<RefCell<HashMap<String, String>>>,
}

/// What a family declared.
pub(crate) struct Declared {
    pub tensors: Vec<Listed>,
    pub caches: Vec<CacheSpec>,
    pub states: Vec<StateSpec>,
    pub ropes: Vec<Rope>,
    pub factors: Vec<PositionFactor>,
    pub handles: Vec<W>,
    pub tied: Vec<Tied>,
    pub probe: Option<Probe>,
}

/// Prefixes that repositories put before a language model's names, and what families call them.
const PREFIXES: &[(&str, &str)] = &[
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("language_model.", "model."),
    ("model.text_model.", "model."),
];

/// Siblings that only a packed weight has.
const SCALES: &[&str] = &["weight_scale_inv", "weight_scale", "qweight", "weight_packed", "weight_scale_2", "blocks"];

/// Parts of names that no family computes with: rotary tables, masks, towers of other modalities, statistics.
const IGNORED: &[&str] = &[
    "rotary_emb.",
    "rope_freqs.",
    ".attn.bias",
    ".attn.masked_bias",
    "vision",
    "pooler.",
    "cls.predictions.",
    "visual.",
    "audio",
    "multi_modal_projector",
    "mm_projector",
    "input_scale",
    "input_activations",
    "k_scale",
    "v_scale",
    "weight_shape",
    ".g_idx",
    // Worked out from the configuration.
    ".slope_rate",
    ".query_decay",
    ".key_decay",
    ".diagonal_decay",
    // Layers that predict further tokens, where they have a tree of their own.
    "mtp.",
];

impl<'a> Core<'a> {
    pub(crate) fn new(config: &'a Config, source: &'a Source<'a>) -> Result<Core<'a>> {
        let names = match source {
            Source::Files(w) => w.names().map(str::to_string).collect(),
            _ => Vec::new(),
        };
        let index = match config.convention() {
            Convention::Gguf => names.into_iter().map(|n| (n.clone(), n)).collect(),
            Convention::Hf => canonical(names, config.family().base),
        };
        Ok(Core {
            config,
            source,
            index,
            used: RefCell::default(),
            listed: RefCell::default(),
            caches: RefCell::default(),
            states: RefCell::default(),
            ropes: RefCell::default(),
            factors: RefCell::default(),
            random: RefCell::new(match source {
                Source::Random { seed, .. } | Source::Mixed { seed, .. } => *seed,
                _ => 0,
            }),
            handles: RefCell::default(),
            tied: RefCell::default(),
            overlay: None,
            probe: None,
            keys: None,
        })
    }

    /// Tensors of the files that were not asked for, sorted.
    pub(crate) fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        let mut left: Vec<String> = self.index.values().filter(|stored| !used.contains(*stored)).cloned().collect();
        left.sort();
        left
    }

    /// With tensors in place of the files' own.
    pub(crate) fn over(self, overlay: &'a Overlay) -> Core<'a> {
        Core { overlay: Some(overlay), ..self }
    }

    /// With matrices that only know where they are from.
    pub(crate) fn probing(self) -> Core<'a> {
        Core { probe: Some(Probe::default()), ..self }
    }

    pub(crate) fn finish(self) -> Declared {
        Declared {
            tensors: self.listed.into_inner(),
            caches: self.caches.into_inner(),
            states: self.states.into_inner(),
            ropes: self.ropes.into_inner(),
            factors: self.factors.into_inner(),
            handles: self.handles.into_inner(),
            tied: self.tied.into_inner(),
            probe: self.probe,
        }
    }

    /// Warnings about tensors that nobody asked for.
    pub(crate) fn unexpected(&self, config: &Config) -> Vec<String> {
        const SHOWN_MAX: usize = 8;
        let used = self.used.borrow();
        let layers = config.num_hidden_layers().unwrap_or(0);
        let mut left: Vec<&String> = self
            .index
            .iter()
            .filter(|(name, stored)| {
                !used.contains(*stored) && !IGNORED.iter().any(|i| name.contains(i)) && !beyond(name, layers)
            })
            .map(|(_, stored)| stored)
            .collect();
        left.sort();
        let more = left.len().saturating_sub(SHOWN_MAX);
        let mut warnings: Vec<String> = left
            .iter()
            .take(SHOWN_MAX)
            .map(|n| format!("{}: not used by {}", shortened(n), config.family().model_type))
            .collect();
        if more > 0 {
            warnings.push(format!("{more} more tensors are not used"));
        }
        warnings
    }

    fn has(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    fn get(&self, name: &str) -> Result<Option<TensorView>> {
        let (Source::Files(w), Some(stored)) = (self.source, self.index.get(name)) else { return Ok(None) };
        let view = w.get(stored).map_err(|e| Error::tensor(stored, e.to_string()))?;
        self.used.borrow_mut().insert(stored.clone());
        Ok(Some(view))
    }

    /// Names the file that a tensor's error is about.
    pub(crate) fn place(&self, e: Error) -> Error {
        let Source::Files(w) = self.source else { return e };
        let info = self.index.get(e.item()).and_then(|stored| w.info(stored));
        match info {
            Some(t) => e.at(&w.path_of(t).display().to_string()),
            None => e,
        }
    }

    /// The matrix that a quantization tool packed as `{base}.…`, if it did.
    fn packed(&self, base: &str, out: usize, inp: usize) -> Result<Option<(String, Matrix)>> {
        if self.overlay.is_some_and(|o| o.has(&format!("{base}.weight"))) {
            return Ok(None);
        }
        let Some(suffix) = SCALES.iter().copied().find(|s| self.has(&format!("{base}.{s}"))) else { return Ok(None) };
        let lookup = |s: &str| self.get(&format!("{base}.{s}"));
        let m = self.unpacked(base, &format!(".{suffix}"), &lookup, out, inp)?;
        Ok(Some((base.to_string(), m)))
    }

    /// The stack of `count` matrices that a quantization tool packed as `{base}_…`, if it did: each part is a stack too.
    pub(crate) fn packed_stack(&self, base: &str, count: usize, out: usize, inp: usize) -> Result<Option<Vec<Matrix>>> {
        let tail = |s: &str| match s.strip_prefix("weight") {
            Some(rest) => rest.to_string(),
            None => format!("_{s}"),
        };
        let Some(suffix) = SCALES.iter().map(|s| tail(s)).find(|t| self.has(&format!("{base}{t}"))) else {
            return Ok(None);
        };
        let one = |e: usize| {
            let lookup = |s: &str| {
                let name = format!("{base}{}", tail(s));
                self.get(&name)?.map(|view| slice(&name, &view, count, e)).transpose()
            };
            self.unpacked(base, &suffix, &lookup, out, inp)
        };
        (0..count).map(one).collect::<Result<Vec<_>>>().map(Some)
    }

    fn unpacked(
        &self,
        base: &str,
        suffix: &str,
        lookup: &dyn Fn(&str) -> Result<Option<TensorView>>,
        out: usize,
        inp: usize,
    ) -> Result<Matrix> {
        let Some(q) = self.config.quantization() else {
            let e = Error::config(
                "quantization_config",
                format!("absent, but {} is quantized ({base}{suffix})", shortened(base)),
            );
            return Err(e.hint("the configuration does not belong to these files"));
        };
        // Rules name modules as the files do.
        let stored = self.index.get(&format!("{base}{suffix}")).map_or(base, String::as_str);
        let module = stored.strip_suffix(suffix).unwrap_or(base);
        let failed = RefCell::new(None);
        let found = |s: &str| {
            lookup(s).unwrap_or_else(|e| {
                failed.borrow_mut().get_or_insert(e);
                None
            })
        };
        let m = packed::from_parts(&q.storage, module, &found, out, inp);
        if let Some(e) = failed.into_inner() {
            return Err(e);
        }
        m.map_err(|e| Error::tensor(&format!("{base}.{}", e.part), format!("expected {}, got {}", e.expected, e.got)))
    }

    fn next_random(&self) -> u64 {
        // splitmix64
        let mut s = self.random.borrow_mut();
        *s = s.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *s;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A matrix without a file: random values, or nothing but its shape.
    fn invented(&self, name: &str, out: usize, inp: usize) -> Result<Option<Matrix>> {
        let wanted = match self.source {
            Source::Files(_) => return Ok(None),
            Source::Describe => return Ok(Some(Matrix::packed(Arc::new(Hollow { out, inp })))),
            Source::Random { format, .. } => *format,
            Source::Mixed { mix, .. } => mix(name, self.config.num_hidden_layers()?),
        };
        let fits = |f: Format| f.row_bytes(inp).is_some();
        let format = [wanted, Format::Q8_0, Format::F32].into_iter().find(|f| fits(*f)).unwrap_or(Format::F32);
        let bytes = self.random_bytes(format, out, inp)?;
        let stride = format.row_bytes(inp).unwrap_or(0);
        Ok(Some(Matrix::Rows { format, out, inp, bytes, stride }))
    }

    /// `count` vectors without a file, all of one value; without bytes where nothing is run.
    fn invented_vectors(&self, count: usize, n: usize, fill: Fill) -> Matrix {
        let value: f32 = if fill == Fill::One { 1.0 } else { 0.0 };
        if matches!(self.source, Source::Describe) {
            return Matrix::packed(Arc::new(Hollow { out: count, inp: n }));
        }
        let bytes = Bytes::from(value.to_le_bytes().repeat(count.saturating_mul(n)));
        Matrix::Rows { format: Format::F32, out: count, inp: n, bytes, stride: n.saturating_mul(4) }
    }

    /// A table of random values as one vector; without bytes where nothing is run.
    fn invented_table(&self, rows: usize, n: usize) -> Result<Matrix> {
        if matches!(self.source, Source::Describe) {
            return Ok(self.invented_vectors(1, rows * n, Fill::Zero));
        }
        let bytes = self.random_bytes(Format::F32, rows, n)?;
        Ok(Matrix::Rows { format: Format::F32, out: 1, inp: rows * n, bytes, stride: rows * n * 4 })
    }

    /// Random rows. Speed does not depend on the values, so what is drawn once is laid out again and again.
    fn random_bytes(&self, format: Format, out: usize, inp: usize) -> Result<Bytes> {
        const DRAWN_MAX: usize = 1 << 22;
        let too_big = || Error::config("num_hidden_layers", "the random weights of this shape do not fit in memory");
        let row = format.row_bytes(inp).ok_or_else(too_big)?;
        let total = row.checked_mul(out).ok_or_else(too_big)?;
        let mut data: Vec<u8> = Vec::new();
        data.try_reserve_exact(total).map_err(|_| too_big())?;
        let drawn = out.min((DRAWN_MAX / row.max(1)).max(1)) * row;
        data.resize(drawn, 0);
        (format.info().random)(&mut || self.next_random(), (inp.max(1) as f32).powf(-0.5), &mut data);
        while data.len() < total {
            let n = drawn.min(total - data.len());
            data.extend_from_within(..n);
        }
        Ok(Bytes::from(data))
    }
}

/// A matrix that has a shape and nothing else.
pub(crate) struct Hollow {
    pub out: usize,
    pub inp: usize,
}

impl Packed for Hollow {
    fn name(&self) -> &'static str {
        "BF16"
    }

    fn out(&self) -> usize {
        self.out
    }

    fn inp(&self) -> usize {
        self.inp
    }

    fn bytes(&self) -> usize {
        0
    }

    fn decode_rows(&self, _: Range<usize>, dst: &mut [f32]) {
        dst.fill(0.0);
    }
}

/// Element `e` of a stack of `count`.
fn slice(name: &str, view: &TensorView, count: usize, e: usize) -> Result<TensorView> {
    let wrong = || Error::tensor(name, format!("expected a stack of {count}, got {} dimensions", view.shape.len()));
    let (first, shape) = view.shape.split_first().filter(|(n, _)| **n == count).ok_or_else(wrong)?;
    let size = view.bytes.len() / first;
    let bytes = view.bytes.slice(e * size..(e + 1) * size).ok_or_else(wrong)?;
    Ok(TensorView { format: view.format, shape: shape.to_vec(), bytes })
}

/// Whether the name is of a layer past the last (layers that predict further tokens).
fn beyond(name: &str, layers: usize) -> bool {
    let number = |s: &str| s.split('.').next().and_then(|n| n.parse::<usize>().ok());
    ["model.layers.", "blk."].iter().filter_map(|p| name.strip_prefix(p)).filter_map(number).any(|n| n >= layers)
}

/// Names in files to names as families spell them: known prefixes replaced, a missing base prefix added.
fn canonical(names: Vec<String>, base: &str) -> HashMap<String, String> {
    let (base, others) = base.split_once('|').unwrap_or((base, ""));
    let base = format!("{base}.");
    let replaced = |n: &str| {
        if let Some(rest) =
            n.strip_prefix(others).and_then(|rest| rest.strip_prefix('.')).filter(|_| !others.is_empty())
        {
            return format!("{base}{rest}");
        }
        PREFIXES
            .iter()
            .find_map(|(from, to)| n.strip_prefix(from).map(|rest| format!("{to}{rest}")))
            .unwrap_or_else(|| n.to_string())
    };
    let mut index: HashMap<String, String> = names.into_iter().map(|n| (replaced(&n), n)).collect();
    if !index.keys().any(|n| n.starts_with(&base)) {
        let bare =
            |n: String| if n.starts_with("lm_head.") || n.starts_with("embed_out.") { n } else { format!("{base}{n}") };
        index = index.into_iter().map(|(n, stored)| (bare(n), stored)).collect();
    }
    index
}

/// What families may call a module that an adapter names as its class does.
pub(crate) fn adapter_names(name: &str, base: &str) -> Vec<String> {
    let first = base.split_once('|').map_or(base, |(first, _)| first);
    // A lone name gets a prefix; one of the body keeps its own.
    let alone = canonical(vec![name.to_string()], base).into_keys();
    let beside =
        canonical(vec![name.to_string(), format!("{first}.")], base).into_keys().filter(|n| *n != format!("{first}."));
    let mut names: Vec<String> = beside.chain(alone).collect();
    names.dedup();
    names
}

/// A reader at a place in the tree of names.
#[derive(Clone)]
pub struct Params<'a> {
    core: &'a Core<'a>,
    hf: Vec<String>,
    gguf: Vec<String>,
}

impl<'a> Params<'a> {
    pub(crate) fn root(core: &'a Core<'a>) -> Params<'a> {
        Params { core, hf: vec![String::new()], gguf: vec![String::new()] }
    }

    /// The reader at `name` below this one.
    pub fn at(&self, name: Name<'_>) -> Params<'a> {
        Params { core: self.core, hf: join(&self.hf, name.0), gguf: join(&self.gguf, name.1) }
    }

    /// The reader at the body of the model (`model` in most repositories, nothing in GGUF).
    pub fn body(&self) -> Params<'a> {
        let base = self.core.config.family().base;
        self.at((base.split_once('|').map_or(base, |(first, _)| first), ""))
    }

    /// The reader at layer `i`, where layers are called `layers`.
    pub fn layer(&self, layers: &str, i: usize) -> Params<'a> {
        self.at((&format!("{layers}.{i}"), &format!("blk.{i}")))
    }

    /// Whether names and values follow GGUF converters.
    pub fn is_gguf(&self) -> bool {
        self.core.config.is_gguf()
    }

    /// Whether a tensor of this full name (its suffix included) is there; without files, whether the repository would
    /// have it: no.
    pub fn has(&self, name: Name<'_>) -> bool {
        self.names(name, "").iter().any(|n| self.core.has(n))
    }

    /// What a GGUF file divides rotary frequencies by (`rope_freqs.weight` and its kin), one per pair, where it has it.
    pub(crate) fn rope_factors(&self, name: &str, pairs: usize) -> Result<Option<Vec<f32>>> {
        let Some(view) = self.core.get(name)?.filter(|_| self.is_gguf()) else { return Ok(None) };
        numeric(name, &view)?;
        let m = Matrix::new(&view)
            .filter(|m| (m.out(), m.inp()) == (1, pairs))
            .ok_or_else(|| wrong_shape(name, &[pairs], &view.shape))?;
        let mut values = vec![0.0; pairs];
        m.decode_rows(0..1, &mut values);
        if values.iter().any(|v| !v.is_finite() || *v <= 0.0) {
            return Err(Error::tensor(name, "expected positive factors"));
        }
        Ok(Some(values))
    }

    /// Declares a cache.
    pub fn cache(&self, spec: CacheSpec) -> CacheId {
        let mut caches = self.core.caches.borrow_mut();
        caches.push(spec);
        caches.len() - 1
    }

    /// Declares what a recurrent layer keeps of a sequence.
    pub fn state(&self, spec: StateSpec) -> StateId {
        let mut states = self.core.states.borrow_mut();
        states.push(spec);
        states.len() - 1
    }

    /// Declares a factor on queries; equal ones share a table.
    pub fn position_factor(&self, factor: PositionFactor) -> usize {
        let mut factors = self.core.factors.borrow_mut();
        let known = factors.iter().position(|f| *f == factor);
        known.unwrap_or_else(|| {
            factors.push(factor);
            factors.len() - 1
        })
    }

    /// Declares a rope; its tables are computed once a step, equal ropes share one.
    pub fn rope(&self, rope: Rope) -> usize {
        let mut ropes = self.core.ropes.borrow_mut();
        let same = |r: &Rope| format!("{r:?}") == format!("{rope:?}");
        if let Some(i) = ropes.iter().position(same) {
            return i;
        }
        ropes.push(rope);
        ropes.len() - 1
    }

    /// `{name}.weight` `[out, inp]` with `{name}.bias` `[out]` if the family has one. GGUF files say by its presence.
    pub fn linear(&self, name: Name<'_>, out: usize, inp: usize, bias: bool) -> Result<Linear> {
        let weight = self.weight(name, out, inp)?;
        Ok(Linear { weight, bias: self.bias(name, out, bias)? })
    }

    /// `{name}.weight` `[out, inp]`.
    pub fn weight(&self, name: Name<'_>, out: usize, inp: usize) -> Result<W> {
        let (name, m) = self.matrix(name, out, inp, Layout::Rows)?;
        self.list(name, vec![m], 1.0)
    }

    /// Several linears of one input stored as one, `{name}.weight` `[sum of outs, inp]`, each part listed as its own.
    pub fn fused(&self, name: Name<'_>, outs: &[usize], inp: usize, layout: Layout, bias: bool) -> Result<Vec<Linear>> {
        let total = outs.iter().try_fold(0usize, |n, o| n.checked_add(*o));
        let total = total.ok_or_else(|| Error::config(name.0, "its size overflows"))?;
        let (stored, m) = self.matrix(name, total, inp, layout)?;
        let mut first = 0;
        let mut parts = Vec::with_capacity(outs.len());
        for out in outs {
            let part = m
                .rows(first, 1, *out)
                .ok_or_else(|| Error::tensor(&stored, "its rows do not cover the fused parts"))?;
            let weight = self.list(stored.clone(), vec![part], 1.0)?;
            let bias = self.bias_part(name, total, first, *out, bias)?;
            parts.push(Linear { weight, bias });
            first += out;
        }
        Ok(parts)
    }

    /// `{name}.weight` `[out, inp]` in another layout than rows.
    pub fn linear_in(&self, name: Name<'_>, out: usize, inp: usize, layout: Layout, bias: bool) -> Result<Linear> {
        let (stored, m) = self.matrix(name, out, inp, layout)?;
        let weight = self.list(stored, vec![m], 1.0)?;
        Ok(Linear { weight, bias: self.bias(name, out, bias)? })
    }

    /// A weight whose groups are rows of one stored matrix `[rows, inp]`: group `g` has rows
    /// `first + g · step ..` of length `out`. Listed by the caller through [`Params::matrix`].
    pub fn groups(&self, name: &str, m: &Matrix, groups: usize, first: usize, step: usize, out: usize) -> Result<W> {
        let part = |g: usize| m.rows(g.checked_mul(step)?.checked_add(first)?, 1, out);
        let parts: Option<Vec<Matrix>> = (0..groups).map(part).collect();
        let parts = parts.ok_or_else(|| Error::tensor(name, "its rows do not cover the groups"))?;
        self.list(name.to_string(), parts, 1.0)
    }

    /// An RMS norm `{name}.weight` `[n]`.
    ///
    /// `one_plus` says that the factor is `1 + w` in a repository; GGUF converters store the sum.
    pub fn rms(&self, name: Name<'_>, n: usize, eps: f32, one_plus: bool) -> Result<Norm> {
        let one_plus = one_plus && !self.is_gguf();
        let weight = Some(self.named(name, ".weight", n, if one_plus { Fill::Zero } else { Fill::One })?);
        Ok(Norm::Rms { weight, eps, one_plus })
    }

    /// A layer norm `{name}.weight`, `{name}.bias` `[n]`.
    pub fn layer_norm(&self, name: Name<'_>, n: usize, eps: f32) -> Result<Norm> {
        let weight = Some(self.named(name, ".weight", n, Fill::One)?);
        let bias = Some(self.named(name, ".bias", n, Fill::Zero)?);
        Ok(Norm::Layer { weight, bias, eps })
    }

    /// A layer norm `{name}.weight` `[n]` that may lack a bias, or both.
    pub fn layer_norm_of(&self, name: Name<'_>, n: usize, eps: f32, (weight, bias): (bool, bool)) -> Result<Norm> {
        let one = |wanted: bool, suffix, fill| wanted.then(|| self.named(name, suffix, n, fill)).transpose();
        Ok(Norm::Layer { weight: one(weight, ".weight", Fill::One)?, bias: one(bias, ".bias", Fill::Zero)?, eps })
    }

    /// Computed values `[n]` in place of the stored ones of `w`, which is listed already.
    pub fn computed(&self, w: &W, f: impl Fn(&[f32]) -> Vec<f32>) -> W {
        if matches!(self.core.source, Source::Describe) {
            return w.clone();
        }
        let values = f(w.vector());
        let made = Weight::from_f32(w.name.clone(), 1, values.len(), &values);
        if let Some(listed) = self.core.handles.borrow_mut().iter_mut().rfind(|h| Arc::ptr_eq(h, w)) {
            *listed = made.clone();
        }
        made
    }

    /// A vector `[n]` of this full name.
    pub fn vector(&self, name: Name<'_>, n: usize) -> Result<W> {
        self.named(name, "", n, Fill::Zero)
    }

    /// A small table of this full name whose shape is `shape` but for dimensions of 1, as one vector in row order.
    pub fn table(&self, name: Name<'_>, shape: &[usize]) -> Result<W> {
        let n = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let n = n.ok_or_else(|| Error::config(name.0, "its size overflows"))?;
        let names = self.names(name, "");
        if self.without_files() {
            let last = shape.last().copied().unwrap_or(1).max(1);
            let m = self.core.invented_table(n / last, last)?;
            return self.list(names.into_iter().next().unwrap_or_default(), vec![m], 1.0);
        }
        let (stored, view) = self.find(&names)?;
        let wide = |d: &[usize]| d.iter().copied().filter(|d| *d != 1).collect::<Vec<_>>();
        if wide(&view.shape) != wide(shape) {
            return Err(wrong_shape(&stored, shape, &view.shape));
        }
        numeric(&stored, &view)?;
        let flat = TensorView { shape: vec![n], ..view };
        let m = Matrix::new(&flat).ok_or_else(|| Error::tensor(&stored, "its bytes do not fit its shape"))?;
        self.list(stored, vec![m], 1.0)
    }

    /// `{name}.bias` `[out]` if the family has one; GGUF files say by its presence.
    pub(crate) fn bias(&self, name: Name<'_>, out: usize, wanted: bool) -> Result<Option<W>> {
        self.bias_part(name, out, 0, out, wanted)
    }

    fn bias_part(&self, name: Name<'_>, total: usize, first: usize, n: usize, wanted: bool) -> Result<Option<W>> {
        let present = self.names(name, ".bias").iter().any(|b| self.core.has(b));
        if !(if self.is_gguf() { present } else { wanted }) {
            return Ok(None);
        }
        let (stored, view) = match self.vector_view(name, ".bias", total)? {
            Ok(found) => found,
            Err(stored) => {
                let m = self.core.invented_vectors(1, n, Fill::Zero);
                return self.list(stored, vec![m], 1.0).map(Some);
            }
        };
        let size = view.format.info().bytes;
        let whole = view.format.info().block == 1;
        let bytes = view.bytes.slice(first * size..(first + n) * size).filter(|_| whole);
        let bytes = bytes
            .ok_or_else(|| Error::tensor(&stored, format!("a bias cannot be stored as {}", view.format.info().name)))?;
        let m = Matrix::Rows { format: view.format, out: 1, inp: n, bytes, stride: n * size };
        self.list(stored, vec![m], 1.0).map(Some)
    }

    fn named(&self, name: Name<'_>, suffix: &str, n: usize, fill: Fill) -> Result<W> {
        match self.vector_view(name, suffix, n)? {
            Ok((stored, view)) => {
                let flat = TensorView { shape: vec![n], ..view };
                let m = Matrix::new(&flat).ok_or_else(|| Error::tensor(&stored, "its bytes do not fit its shape"))?;
                self.list(stored, vec![m], 1.0)
            }
            Err(stored) => {
                let m = self.core.invented_vectors(1, n, fill);
                self.list(stored, vec![m], 1.0)
            }
        }
    }

    /// The vector in the files, or the name it would have where there are none.
    fn vector_view(
        &self,
        name: Name<'_>,
        suffix: &str,
        n: usize,
    ) -> Result<std::result::Result<(String, TensorView), String>> {
        let names = self.names(name, suffix);
        if !matches!(self.core.source, Source::Files(_)) {
            return Ok(Err(names.into_iter().next().unwrap_or_default()));
        }
        let (stored, view) = self.find(&names)?;
        // Some tools store vectors with extra dimensions of 1.
        let flat: Vec<usize> = view.shape.iter().copied().filter(|d| *d != 1).collect();
        // Vectors of several heads may be stored head by head.
        let heads = flat.len() == 2 && flat[0].checked_mul(flat[1]) == Some(n);
        if flat != [n] && !heads && !(n == 1 && flat.is_empty()) {
            return Err(wrong_shape(&stored, &[n], &view.shape));
        }
        numeric(&stored, &view)?;
        Ok(Ok((stored, view)))
    }

    /// `{name}.weight` as a matrix, and its name: plain, or packed by a quantization tool.
    pub fn matrix(&self, name: Name<'_>, out: usize, inp: usize, layout: Layout) -> Result<(String, Matrix)> {
        let (stored, m) = self.stored_matrix(name, out, inp, layout)?;
        Ok((stored, self.probed(name, None, m)))
    }

    /// The matrix, or while names are probed one that knows that it is this module's, or element `element` of its stack.
    pub(crate) fn probed(&self, name: Name<'_>, element: Option<usize>, m: Matrix) -> Matrix {
        match &self.core.probe {
            Some(probe) => probe.module(self.names(name, ""), element, &m),
            None => m,
        }
    }

    fn stored_matrix(&self, name: Name<'_>, out: usize, inp: usize, layout: Layout) -> Result<(String, Matrix)> {
        let names = self.names(name, ".weight");
        let first = names.first().map_or("", String::as_str);
        if let Some(m) = self.core.invented(first, out, inp)? {
            return Ok((first.to_string(), m));
        }
        for base in self.names(name, "") {
            if let Some(found) = self.core.packed(&base, out, inp)? {
                return Ok(found);
            }
        }
        let (stored, view) = self.find(&names)?;
        let transposed = layout == Layout::Transposed && !self.is_gguf();
        let want = if transposed { [inp, out] } else { [out, inp] };
        let m = plain(&stored, &view, want, transposed)?;
        Ok((stored, m))
    }

    /// The first tensor of these names, or an error that names what is missing.
    pub(crate) fn find(&self, names: &[String]) -> Result<(String, TensorView)> {
        if let Some((name, view)) = self.core.overlay.and_then(|o| o.find(names)) {
            return Ok((name, view));
        }
        for n in names {
            if let Some(view) = self.core.get(n)? {
                return Ok((n.clone(), view));
            }
        }
        let first = names.first().map_or("", String::as_str);
        let e = Error::tensor(first, format!("missing, and {} needs it", self.core.config.family().model_type));
        Err(e.hint("the files are incomplete or the configuration is of another model"))
    }

    /// Zero vectors where there are no files.
    pub(crate) fn zeros(&self, count: usize, n: usize) -> Matrix {
        self.core.invented_vectors(count, n, Fill::Zero)
    }

    /// The stack of this full name that a quantization tool packed, if it did.
    pub(crate) fn packed_stack(
        &self,
        name: Name<'_>,
        count: usize,
        out: usize,
        inp: usize,
    ) -> Result<Option<(String, Vec<Matrix>)>> {
        for base in self.names(name, "") {
            if let Some(found) = self.core.packed_stack(&base, count, out, inp)? {
                return Ok(Some((base, found)));
            }
        }
        Ok(None)
    }

    pub(crate) fn without_files(&self) -> bool {
        !matches!(self.core.source, Source::Files(_))
    }

    pub(crate) fn invented(&self, name: &str, out: usize, inp: usize) -> Result<Option<Matrix>> {
        self.core.invented(name, out, inp)
    }

    /// Records a weight and makes its handle. `share` is the part of it that takes part in one token.
    pub(crate) fn list(&self, name: String, groups: Vec<Matrix>, share: f64) -> Result<W> {
        let Some(first) = groups.first() else { return Err(Error::tensor(&name, "has no groups")) };
        let shape = [groups.len(), first.out(), first.inp()];
        let parameters = shape.iter().fold(1u64, |n, d| n.saturating_mul(*d as u64));
        let bytes = match self.core.source {
            Source::Describe => parameters.saturating_mul(2),
            _ => groups.iter().fold(0u64, |n, m| n.saturating_add(m.stored_bytes() as u64)),
        };
        let active = (parameters as f64 * share).round() as u64;
        let format = first.format_name();
        let weight =
            Weight::new(name.clone(), groups).ok_or_else(|| Error::tensor(&name, "its groups differ in shape"))?;
        self.core.handles.borrow_mut().push(weight.clone());
        self.core.listed.borrow_mut().push(Listed { name, shape, format, bytes, parameters, active });
        Ok(weight)
    }

    /// `weight` under another name, where two modules share it; what an adapter stores for one of them is that one's alone.
    pub(crate) fn tied(&self, name: Name<'_>, weight: &W) -> Result<W> {
        let own = self.core.overlay.and_then(|o| o.find(&self.names(name, ".weight")));
        let weight = match own {
            Some((stored, view)) => {
                let m = plain(&stored, &view, [weight.out, weight.inp], false)?;
                Weight::new(stored.clone(), vec![m]).ok_or_else(|| Error::tensor(&stored, "has no groups"))?
            }
            None => weight.clone(),
        };
        self.core.tied.borrow_mut().push(Tied { names: self.names(name, ""), weight: weight.clone() });
        Ok(weight)
    }

    /// All names that `name` may have, in order of preference.
    pub(crate) fn names(&self, name: Name<'_>, suffix: &str) -> Vec<String> {
        let (prefixes, own) = if self.is_gguf() { (&self.gguf, name.1) } else { (&self.hf, name.0) };
        let names: Vec<String> = join(prefixes, own).into_iter().map(|n| format!("{n}{suffix}")).collect();
        if let Some(keys) = &self.core.keys
            && !name.0.is_empty()
            && !own.is_empty()
            && let Some(key) = join(&self.hf, name.0).into_iter().next()
        {
            let mut keys = keys.borrow_mut();
            names.iter().for_each(|n| _ = keys.entry(n.clone()).or_insert_with(|| format!("{key}{suffix}")));
        }
        names
    }
}

/// A stored tensor of shape `want` as a matrix `[out, inp]`.
pub(crate) fn plain(stored: &str, view: &TensorView, want: [usize; 2], transposed: bool) -> Result<Matrix> {
    if view.shape != want {
        return Err(wrong_shape(stored, &want, &view.shape));
    }
    numeric(stored, view)?;
    let m = if transposed { Matrix::transposed(view) } else { Matrix::new(view) };
    m.ok_or_else(|| Error::tensor(stored, format!("its bytes do not fit {:?} of {}", want, view.format.info().name)))
}

pub(crate) fn wrong_shape(stored: &str, want: &[usize], got: &[usize]) -> Error {
    let got = if got.len() > 8 { format!("{} dimensions", got.len()) } else { format!("{got:?}") };
    Error::tensor(stored, format!("expected {want:?}, got {got}"))
        .hint("the files and the configuration are of different models")
}

pub(crate) fn numeric(stored: &str, view: &TensorView) -> Result<()> {
    use Format::{Bool, I8, I16, I32, I64, U8, U16, U32, U64};
    let codes = matches!(view.format, Bool | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64);
    if codes {
        Err(Error::tensor(stored, format!("expected weights, got {}", view.format.info().name)))
    } else {
        Ok(())
    }
}

/// Every prefix with every alternative of `name` behind it.
fn join(prefixes: &[String], name: &str) -> Vec<String> {
    let one = |p: &String, n: &str| match (p.is_empty(), n.is_empty()) {
        (true, _) => n.to_string(),
        (_, true) => p.clone(),
        _ => format!("{p}.{n}"),
    };
    prefixes.iter().flat_map(|p| name.split('|').map(move |n| one(p, n))).collect()
}
