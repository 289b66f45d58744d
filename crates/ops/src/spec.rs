//! What an operation needs to know besides its inputs: plain data, configuration as numbers.
use crate::W;
use std::borrow::Cow;

/// Which numbers of the batch index a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// Token ids.
    Tokens,
    /// Cache positions, plus this offset (learnt position embeddings).
    Positions(u32),
    /// The same row for all.
    Row(u32),
}

/// A matrix with an optional bias.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[1, out, inp]`.
    pub weight: W,
    /// `[out]`, added once after the product.
    pub bias: Option<W>,
}

/// A normalisation over a group of columns.
#[derive(Clone, Debug)]
pub enum Norm {
    /// `x / sqrt(mean(x²) + eps) · w`.
    Rms {
        /// `[group]`, or a vector for each of several groups, which then take turns; none means 1.
        weight: Option<W>,
        /// Added to the mean square.
        eps: f32,
        /// The factor is `1 + w` (Gemma).
        one_plus: bool,
    },
    /// `(x - mean) / sqrt(var + eps) · w + b`.
    Layer {
        /// `[group]`, or several as above; none means 1.
        weight: Option<W>,
        /// `[group]`, or several as above; none means 0.
        bias: Option<W>,
        /// Added to the variance.
        eps: f32,
    },
}

/// Rotary frequencies.
#[derive(Clone, Debug)]
pub struct Rope {
    /// How they are found.
    pub frequencies: Frequencies,
    /// Factor on cosine and sine (YaRN's attention factor); 1 otherwise.
    pub scale: f32,
}

/// Radians per position, one per pair.
#[derive(Clone, Debug)]
pub enum Frequencies {
    /// The same at every length.
    Fixed(Vec<f64>),
    /// Dynamic NTK: past `max_position` the base grows with the sequence's length.
    Dynamic {
        /// Rotary base.
        theta: f64,
        /// Rotated columns (twice the pairs).
        dims: usize,
        /// Length from which the base grows.
        max_position: u32,
        /// Scaling factor.
        factor: f64,
    },
    /// LongRoPE: one list up to `original`, another past it.
    Long {
        /// Up to `original` positions.
        short: Vec<f64>,
        /// Past it.
        long: Vec<f64>,
        /// The length that the model was first trained at.
        original: u32,
    },
}

impl Rope {
    /// Number of rotated pairs.
    pub fn pairs(&self) -> usize {
        match &self.frequencies {
            Frequencies::Fixed(f) => f.len(),
            Frequencies::Dynamic { dims, .. } => dims / 2,
            Frequencies::Long { short, .. } => short.len(),
        }
    }

    /// Frequencies for a sequence of `length` tokens.
    pub fn at_length(&self, length: u32) -> Cow<'_, [f64]> {
        match &self.frequencies {
            Frequencies::Fixed(f) => Cow::Borrowed(f),
            Frequencies::Long { short, long, original } => Cow::Borrowed(if length > *original { long } else { short }),
            Frequencies::Dynamic { theta, dims, max_position, factor } => {
                let mut base = *theta;
                if length > *max_position {
                    let grown = factor * f64::from(length) / f64::from(*max_position) - (factor - 1.0);
                    base *= libm::pow(grown, *dims as f64 / (*dims as f64 - 2.0));
                }
                Cow::Owned(default_frequencies(base, *dims))
            }
        }
    }

    /// Two lengths with equal epochs have equal frequencies; a sequence that grows into another epoch
    /// must be computed again from its start.
    pub fn epoch(&self, length: u32) -> u32 {
        match &self.frequencies {
            Frequencies::Fixed(_) => 0,
            Frequencies::Long { original, .. } => u32::from(length > *original),
            Frequencies::Dynamic { max_position, .. } => length.saturating_sub(*max_position),
        }
    }
}

/// `theta^(-2i / dims)` for each pair `i`.
pub fn default_frequencies(theta: f64, dims: usize) -> Vec<f64> {
    (0..dims / 2).map(|i| 1.0 / libm::pow(theta, 2.0 * i as f64 / dims as f64)).collect()
}

/// Which columns of a head rotate and how they pair.
#[derive(Clone, Copy, Debug)]
pub struct RopeLayout {
    /// Columns per head.
    pub head_dim: usize,
    /// First rotated column within the head.
    pub offset: usize,
    /// Pairs are `(2i, 2i + 1)`; otherwise `(i, i + pairs)`.
    pub interleaved: bool,
}

/// Index of a cache in the list given to [`crate::Ops::reserve`].
pub type CacheId = usize;

/// What a layer keeps per position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSpec {
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a key.
    pub k_dim: usize,
    /// Width of a value; `None` where values are the first columns of the keys (MLA's latent).
    pub v_dim: Option<usize>,
    /// Positions further back than this are never read again.
    pub window: Option<usize>,
}

impl CacheSpec {
    /// Values stored per position.
    pub fn width(&self) -> usize {
        self.kv_heads * (self.k_dim + self.v_dim.unwrap_or(0))
    }

    /// Vectors stored per position: a key and, unless it holds the value too, a value per head.
    pub fn vectors(&self) -> usize {
        self.kv_heads * (1 + usize::from(self.v_dim.is_some()))
    }

    /// Elements from a value (or, where keys hold the values, a key) to the next position's: whole multiples of
    /// [`CACHE_ROW`].
    pub fn row(&self) -> usize {
        self.v_dim.unwrap_or(self.k_dim).next_multiple_of(CACHE_ROW)
    }

    /// Bytes of a position in a cache of type `kv`: its values and, where the type has them, their scales.
    pub fn bytes(&self, kv: KvType) -> usize {
        let scales = if kv == KvType::Q8 { self.vectors() * size_of::<f32>() } else { 0 };
        let keys = if self.v_dim.is_some() { self.k_dim } else { 0 };
        self.kv_heads * (keys + self.row()) * kv.bytes() + scales
    }
}

/// Rows of a cache begin at whole multiples of as many elements.
pub const CACHE_ROW: usize = 32;

/// Bytes that caches and states have taken so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Pages of all caches that were written.
    pub caches: u64,
    /// Slots of all states that were written.
    pub states: u64,
}

/// Index of a state in the list given to [`crate::Ops::reserve_states`].
pub type StateId = usize;

/// What a recurrent layer keeps of a sequence, however long it is: f32 values, zero before the first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSpec {
    /// Values per sequence.
    pub values: usize,
}

impl StateSpec {
    /// Bytes of one sequence's state.
    pub fn bytes(&self) -> usize {
        self.values * size_of::<f32>()
    }
}

/// Channels of a convolution or selective scan that are computed together; what is stored per channel is laid out run by
/// run ([`by_runs`]).
pub const RUN: usize = 64;

/// `[channels, n]` as operations want it: run by run, in a run `[n][channels of the run]`.
pub fn by_runs(values: &[f32], n: usize) -> Vec<f32> {
    let run = |r: &[f32]| {
        let channels = r.len() / n.max(1);
        (0..n).flat_map(|k| (0..channels).map(move |c| (c, k))).map(|(c, k)| r[c * n + k]).collect::<Vec<_>>()
    };
    values.chunks(RUN * n.max(1)).flat_map(run).collect()
}

/// A causal convolution of each channel with the inputs before it.
#[derive(Clone, Debug)]
pub struct Conv {
    /// The last `kernel - 1` inputs: by runs `[kernel - 1][run]`, the oldest first.
    pub state: StateId,
    /// `[channels, kernel]` by runs, the newest input's weight last.
    pub weight: W,
    /// `[channels]`.
    pub bias: Option<W>,
    /// Inputs that a result sees.
    pub kernel: usize,
    /// Applied to the sum.
    pub act: Option<Activation>,
}

/// A recurrence over the tokens of a sequence (rule 5 of docs/numerics.md): serial in tokens, f32 state.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Where the state is.
    pub state: StateId,
    /// Its equation.
    pub kind: ScanKind,
}

/// The equations of a [`Scan`]. Rates are negative.
#[derive(Clone, Debug)]
pub enum ScanKind {
    /// Mamba's selective scan (arXiv 2312.00752). Inputs: x and step sizes `[rows, channels]`, B and C `[rows, n]`.
    /// State `[channels, n]` by runs:
    /// `t = softplus(step + bias)`, `s = exp(t rate) s + t x B`, `y = s · C + d x`.
    Selective {
        /// `[channels, n]` by runs.
        rates: W,
        /// `[channels]`.
        step_bias: W,
        /// `[channels]`.
        d: W,
    },
    /// Mamba 2 (arXiv 2405.21060): one decay per head. Inputs: x `[rows, heads · dim]`, step sizes `[rows, heads]`, B
    /// and C `[rows, groups · n]`; head `h` uses group `h / (heads / groups)`. State `[heads, n, dim]`:
    /// `t = bound(softplus(step + bias))`, the rest as above.
    Heads {
        /// `[heads]`.
        rates: W,
        /// `[heads]`.
        step_bias: W,
        /// `[heads]`.
        d: W,
        /// Groups of B and C.
        groups: usize,
        /// Bounds on the step size.
        limit: (f32, f32),
    },
    /// The gated delta rule (arXiv 2412.06464). Inputs: q and k `[rows, key heads · dk]`, v `[rows, heads · dv]`, decays
    /// `[rows, heads]` or `[rows, heads · dk]`, betas `[rows, heads]`; consecutive heads share a key head. State
    /// `[heads, dk, dv]`: q and k are scaled to length 1 (`x / √(Σx² + 1e-6)`), q times `dk^-½`, `S = g S`,
    /// `S += k (β (v - kᵀS))ᵀ`, `o = qᵀ S`, `g = exp(rate · softplus(decay + bias))`, `β = scale · sigmoid(beta)`.
    Delta {
        /// `[heads]`.
        rates: W,
        /// As many as decays in a row.
        step_bias: W,
        /// Key heads; divides `heads`.
        key_heads: usize,
        /// Value heads.
        heads: usize,
        /// Factor on betas: 2 lets the state's eigenvalues be negative.
        beta_scale: f32,
    },
    /// Attention without a softmax and with a decay per head (arXiv 2501.08313). Inputs: q, k and v
    /// `[rows, heads · dim]`. State `[heads, dim, dim]`: `S = λ S + k vᵀ`, `o = qᵀ S`.
    Linear {
        /// λ `[heads]`.
        decay: W,
    },
}

impl ScanKind {
    /// What people call it.
    pub fn name(&self) -> &'static str {
        match self {
            ScanKind::Selective { .. } => "selective scan",
            ScanKind::Heads { .. } => "scan by heads",
            ScanKind::Delta { .. } => "gated delta rule",
            ScanKind::Linear { .. } => "lightning attention",
        }
    }
}

/// Type of the values in a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// 4 bytes, exact.
    F32,
    /// 2 bytes, rounded to nearest even.
    F16,
    /// A byte, and an f32 scale per position, head and key or value: the codes of [`pondera_quant::Q8`], a vector a block.
    Q8,
}

impl KvType {
    /// As the flag spells it.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8 => "q8",
        }
    }

    /// Bytes per value, without scales.
    pub fn bytes(self) -> usize {
        match self {
            KvType::F32 => 4,
            KvType::F16 => 2,
            KvType::Q8 => 1,
        }
    }
}

/// Which positions a query at `p` sees among `0 ..= p` (or all).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All up to its own.
    Causal,
    /// The last `w`, its own included.
    Window(usize),
    /// Those of its own chunk of `c` positions, up to its own.
    Chunk(usize),
    /// All that the cache holds, later ones too: a whole sequence comes in one step.
    Full,
    /// Those at most `w` away on either side; as [`Mask::Full`] otherwise.
    Around(usize),
}

impl Mask {
    /// First visible position for a query at `p`.
    pub fn first(self, p: usize) -> usize {
        match self {
            Mask::Causal | Mask::Full => 0,
            Mask::Around(w) => p.saturating_sub(w),
            Mask::Window(w) => (p + 1).saturating_sub(w),
            Mask::Chunk(c) => p / c * c,
        }
    }

    /// The position after the last visible one for a query at `p` of a sequence that is `length` long after the step.
    pub fn end(self, p: usize, length: usize) -> usize {
        match self {
            Mask::Causal | Mask::Window(_) | Mask::Chunk(_) => p + 1,
            Mask::Full => length,
            Mask::Around(w) => length.min(p + w + 1),
        }
    }
}

/// An attention over one cache.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Where keys and values are.
    pub cache: CacheId,
    /// Query heads; each run of `heads / kv_heads` shares a key/value head.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a query and key.
    pub qk_dim: usize,
    /// Width of a value read (at most the key's width where values are its prefix).
    pub v_dim: usize,
    /// Factor on scores.
    pub scale: f32,
    /// What is visible.
    pub mask: Mask,
    /// `cap · tanh(score / cap)` after scaling.
    pub softcap: Option<f32>,
    /// A logit per head `[heads]` that takes its share of the softmax and carries no value.
    pub sinks: Option<W>,
    /// ALiBi (arXiv 2108.12409): per head `[heads]`, times how far back the key is, taken from the score.
    pub slopes: Option<W>,
}

/// Chooses the positions that sparse attention looks at (DeepSeek-V3.2): the best by
/// `Σ_h w_h · max(q_h · k · scale, 0)`, heads ascending.
#[derive(Clone, Copy, Debug)]
pub struct Indexer {
    /// Where its keys are: one head, values a prefix of keys.
    pub cache: CacheId,
    /// Query heads.
    pub heads: usize,
    /// Width of a query and key.
    pub dim: usize,
    /// Factor on scores.
    pub scale: f32,
    /// Positions that are chosen at most.
    pub top_k: usize,
}

impl Indexer {
    /// Positions that any row of `batch` can choose: columns of [`crate::Ops::select`].
    pub fn columns(&self, batch: &crate::Batch) -> usize {
        self.top_k.min(batch.positions.iter().max().map_or(0, |p| *p as usize + 1))
    }
}

/// The nonlinearity of a feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    Relu2,
    /// gpt-oss: `g = min(gate, limit)`, `u = clamp(up, ±limit)`, `(u + 1) · g · sigmoid(alpha · g)`. Needs a gate.
    ClampedSwiglu {
        /// Steepness of the sigmoid.
        alpha: f32,
        /// Bound on gate and up.
        limit: f32,
    },
    /// xIELU (arXiv 2411.13010): `p x² + β x` where `x > 0`, else `n (exp(min(x, ε)) - 1 - x) + β x`.
    Xielu {
        /// `p`.
        positive: f32,
        /// `n`.
        negative: f32,
        /// `β`.
        beta: f32,
        /// `ε`.
        eps: f32,
    },
}

/// A feed-forward block.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// `[inner, dim]`; none: `down(act(up x))`.
    pub gate: Option<Linear>,
    /// `[inner, dim]`.
    pub up: Linear,
    /// `[dim, inner]`.
    pub down: Linear,
    /// Applied to the gate (or to `up` without one).
    pub act: Activation,
}

/// How router logits become scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
    /// Choose by logits, softmax over the chosen.
    SoftmaxOfChosen,
    /// Choose by logits (SparseMixer, arXiv 2409.12136): the weight of one of logit `m` is its softmax over those that are
    /// not chosen before it and whose logit `s` is near: `(m - s) / max(|s|, m)` is at most this.
    Near(f32),
}

/// How a group of experts is scored where only some groups may be chosen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupScore {
    /// Its best expert.
    Max,
    /// The sum of its two best.
    TopTwo,
}

/// How experts are chosen.
#[derive(Clone, Debug)]
pub struct Route {
    /// Experts per token.
    pub top_k: usize,
    /// Logits to scores.
    pub score: Score,
    /// `[experts]`, added to the scores for the choice only.
    pub bias: Option<W>,
    /// `(groups, groups kept, score)`.
    pub groups: Option<(usize, usize, GroupScore)>,
    /// Divide the chosen weights by their sum plus this.
    pub renormalize: Option<f32>,
    /// Factor on the weights.
    pub scale: f32,
}

/// The expert weights of a layer, a group per expert.
#[derive(Clone, Debug)]
pub struct Experts {
    /// `[experts, inner, dim]`; none without a gate.
    pub gate: Option<W>,
    /// `[experts, inner, dim]`.
    pub up: W,
    /// `[experts, dim, inner]`.
    pub down: W,
    /// `[experts, inner]`.
    pub gate_bias: Option<W>,
    /// `[experts, inner]`.
    pub up_bias: Option<W>,
    /// `[experts, dim]`.
    pub down_bias: Option<W>,
    /// As in [`Mlp`].
    pub act: Activation,
}

/// An expert that all rows share.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    /// It.
    pub mlp: &'a Mlp,
    /// `[rows, 1]`: its output times the sigmoid of this.
    pub gate: Option<&'a crate::Act>,
}

/// What becomes of some rows of an activation `[rows, cols]`; `[i, c]` is its column `c` of the `i`-th of these rows. What
/// adapters do to a batch whose other rows they leave alone.
#[derive(Clone, Copy)]
pub enum Patch<'a> {
    /// `y[i, c] = x[i, c]`.
    Put(&'a crate::Act),
    /// `y[i, c] + x[i, c]`.
    Add(&'a crate::Act),
    /// `f[i] · x[i, c] + y[i, c]`, fused.
    AddTimes(&'a crate::Act, &'a [f32]),
    /// `y[i, c] · g[c]`.
    Mul(&'a W),
    /// `y[i, c] + b[c]`.
    Bias(&'a W),
}

/// A place in the forward pass that can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// Input of layer `i`; with `i` = number of layers, the output of the last, before the final norm.
    Hidden(usize),
    /// Result of [`crate::Ops::route`] in layer `i`.
    Experts(usize),
    /// The logits.
    Logits,
}
