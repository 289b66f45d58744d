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
        /// `[group]`; none means 1.
        weight: Option<W>,
        /// Added to the mean square.
        eps: f32,
        /// The factor is `1 + w` (Gemma).
        one_plus: bool,
    },
    /// `(x - mean) / sqrt(var + eps) · w + b`.
    Layer {
        /// `[group]`; none means 1.
        weight: Option<W>,
        /// `[group]`; none means 0.
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

    /// Bytes of a position in a cache of type `kv`: its values and, where the type has them, their scales.
    pub fn bytes(&self, kv: KvType) -> usize {
        let scales = if kv == KvType::Q8 { self.vectors() * size_of::<f32>() } else { 0 };
        self.width() * kv.bytes() + scales
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
}

impl Mask {
    /// First visible position for a query at `p`.
    pub fn first(self, p: usize) -> usize {
        match self {
            Mask::Causal => 0,
            Mask::Window(w) => (p + 1).saturating_sub(w),
            Mask::Chunk(c) => p / c * c,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
    /// Choose by logits, softmax over the chosen.
    SoftmaxOfChosen,
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
