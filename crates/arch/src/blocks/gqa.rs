//! Attention with query heads in groups that share a key/value head (arXiv 2305.13245); one group per head is
//! multi-head attention, one group in all multi-query attention.
use super::{Block, Rotary};
use crate::{Config, Params, Result, Step};
use pondera_ops::{Act, Attention, CacheSpec, Linear, Mask, Norm, Ops, W};

/// The numbers of a grouped-query attention.
#[derive(Clone, Copy, Debug)]
pub struct GqaConfig {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of a value where it is another.
    pub v_head_dim: Option<usize>,
    /// Factor on scores.
    pub scale: f32,
    /// Biases of the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias of the output projection.
    pub o_bias: bool,
    /// What a query sees.
    pub window: Option<usize>,
    /// Bound on scores.
    pub softcap: Option<f32>,
}

impl GqaConfig {
    /// Heads as the configuration says, scores divided by the root of their width, no biases, all in sight.
    pub fn read(c: &Config) -> Result<GqaConfig> {
        let (heads, kv_heads, head_dim) = c.heads()?;
        // GGUF files may name the factor itself; 0 means that they do not.
        let named = c.number_opt("gguf_attention_scale")?.filter(|s| *s != 0.0);
        let scale = named.unwrap_or((head_dim as f64).powf(-0.5)) as f32;
        let v_head_dim = None;
        Ok(GqaConfig {
            heads,
            kv_heads,
            head_dim,
            v_head_dim,
            scale,
            qkv_bias: false,
            o_bias: false,
            window: None,
            softcap: None,
        })
    }
}

/// Where queries, keys and values come from.
pub enum Projection {
    /// Queries `[heads · head_dim, hidden]`, keys and values `[kv_heads · head_dim, hidden]`.
    Three([Linear; 3]),
    /// One matrix `[groups · (q + 2) · head_dim, hidden]`: in each group `q` query heads, then as many heads of keys as
    /// of values. One group in all is queries, keys, values one after another.
    Grouped {
        /// It.
        linear: Linear,
        /// Groups of its rows.
        groups: usize,
    },
    /// As [`Projection::Three`], but each query head `[q | gate]` is twice as wide: its second half gates the output.
    Gated([Linear; 3]),
}

/// Norms of queries and keys.
pub struct QkNorm {
    /// Of queries, of keys.
    pub norms: [Norm; 2],
    /// Over the whole row; otherwise over each head.
    pub whole: bool,
    /// After the rotation; otherwise before it.
    pub after: bool,
}

/// Grouped-query attention.
///
/// ```text
/// q, k, v = clip(project(x));  q, k = rotate(norm(q)), rotate(norm(k));  q = temperature(position) · q
/// y = o(attention(q, k, v) · sigmoid(gate x))
/// ```
pub struct Gqa {
    /// Queries, keys and values.
    pub qkv: Projection,
    /// `[hidden, heads · head_dim]`.
    pub o: Linear,
    /// Bound on queries, keys and values.
    pub clip: Option<f32>,
    /// Queries and keys are bounded after their norms; otherwise before.
    pub clip_last: bool,
    /// Norms of queries and keys.
    pub qk_norm: Option<QkNorm>,
    /// Positions of queries and keys.
    pub rotary: Option<Rotary>,
    /// A factor on queries that grows with the position (from [`Params::position_factor`]).
    pub temperature: Option<usize>,
    /// `[heads · head_dim, hidden]` or `[heads, hidden]`: what attention gives times the sigmoid of this.
    pub gate: Option<Linear>,
    /// The attention itself.
    pub attention: Attention,
}

impl Gqa {
    /// Separate projections under the names that most families have.
    pub fn load(p: &Params<'_>, g: &GqaConfig, hidden: usize, rotary: Option<Rotary>) -> Result<Gqa> {
        let (q, kv) = (g.heads * g.head_dim, g.kv_heads * g.head_dim);
        let v_dim = g.v_head_dim.unwrap_or(g.head_dim);
        let qkv = [
            p.linear(("q_proj", "attn_q"), q, hidden, g.qkv_bias)?,
            p.linear(("k_proj", "attn_k"), kv, hidden, g.qkv_bias)?,
            p.linear(("v_proj", "attn_v"), g.kv_heads * v_dim, hidden, g.qkv_bias)?,
        ];
        let o = p.linear(("o_proj|dense|out_proj", "attn_output"), hidden, g.heads * v_dim, g.o_bias)?;
        Ok(Gqa::new(p, g, Projection::Three(qkv), o, rotary))
    }

    /// [`Gqa::load`] as a part of a layer.
    pub fn boxed(p: &Params<'_>, g: &GqaConfig, hidden: usize, rotary: Option<Rotary>) -> Result<Box<dyn Block>> {
        Ok(Box::new(Gqa::load(p, g, hidden, rotary)?))
    }

    /// Queries, keys and values in one matrix, `groups` groups of rows ([`Projection::Grouped`]), under these names.
    pub fn fused(
        p: &Params<'_>,
        g: &GqaConfig,
        (hidden, groups): (usize, usize),
        (qkv, o): (&str, &str),
        rotary: Option<Rotary>,
    ) -> Result<Gqa> {
        let rows = (g.heads + 2 * g.kv_heads) * g.head_dim;
        let linear = p.linear((qkv, "attn_qkv"), rows, hidden, g.qkv_bias)?;
        // GGUF's converters put the groups' queries together, then the keys, then the values.
        let groups = if p.is_gguf() { 1 } else { groups };
        let o = p.linear((o, "attn_output"), hidden, g.heads * g.head_dim, g.o_bias)?;
        Ok(Gqa::new(p, g, Projection::Grouped { linear, groups }, o, rotary))
    }

    /// From projections loaded already; declares the cache.
    pub fn new(p: &Params<'_>, g: &GqaConfig, qkv: Projection, o: Linear, rotary: Option<Rotary>) -> Gqa {
        let attention = Gqa::attention(p, g);
        Gqa { qkv, o, clip: None, clip_last: false, qk_norm: None, rotary, temperature: None, gate: None, attention }
    }

    /// Declares the cache of a layer and the attention over it.
    pub fn attention(p: &Params<'_>, g: &GqaConfig) -> Attention {
        let &GqaConfig { heads, kv_heads, head_dim, scale, window, softcap, .. } = g;
        let (qk_dim, v_dim) = (head_dim, g.v_head_dim.unwrap_or(head_dim));
        let cache = p.cache(CacheSpec { kv_heads, k_dim: qk_dim, v_dim: Some(v_dim), window });
        let mask = window.map_or(Mask::Causal, Mask::Window);
        Attention { cache, heads, kv_heads, qk_dim, v_dim, scale, mask, softcap, sinks: None, slopes: None }
    }

    /// With norms of each head's queries and keys before they are rotated.
    pub fn with_qk_norm(self, q: Norm, k: Norm) -> Gqa {
        Gqa { qk_norm: Some(QkNorm { norms: [q, k], whole: false, after: false }), ..self }
    }

    /// With norms of the whole rows of queries and keys before they are rotated, `q_norm` and `k_norm`.
    pub fn with_row_norms(self, p: &Params<'_>, eps: f32) -> Result<Gqa> {
        let Attention { heads, kv_heads, qk_dim, .. } = self.attention;
        let norms = [
            p.rms(("q_norm", "attn_q_norm"), heads * qk_dim, eps, false)?,
            p.rms(("k_norm", "attn_k_norm"), kv_heads * qk_dim, eps, false)?,
        ];
        Ok(Gqa { qk_norm: Some(QkNorm { norms, whole: true, after: false }), ..self })
    }

    /// With keys after the query in sight too: all, or those at most `around` away.
    pub fn bidirectional(mut self, around: Option<usize>) -> Gqa {
        self.attention.mask = around.map_or(Mask::Full, Mask::Around);
        self
    }

    /// With a logit per head that takes its share of the softmax.
    pub fn with_sinks(mut self, sinks: W) -> Gqa {
        self.attention.sinks = Some(sinks);
        self
    }

    /// Queries (0), keys (1) or values (2) of `x`, and a gate that came with queries.
    fn project(&self, ops: &dyn Ops, x: &Act, which: std::ops::Range<usize>) -> [Option<Act>; 4] {
        let (d, a) = (self.attention.qk_dim, &self.attention);
        let mut out = [const { None }; 4];
        match &self.qkv {
            Projection::Three(ls) | Projection::Gated(ls) => {
                let wanted: arrayvec::ArrayVec<&Linear, 3> = ls[which.clone()].iter().collect();
                for (i, y) in which.zip(ops.linears(&wanted, x)) {
                    out[i] = Some(y);
                }
                if matches!(self.qkv, Projection::Gated(_))
                    && let Some(q) = out[0].take()
                {
                    out[3] = Some(ops.columns(&q, 2 * d, d, 2 * d));
                    out[0] = Some(ops.columns(&q, 2 * d, 0, d));
                }
            }
            Projection::Grouped { linear, groups } => {
                let y = ops.linear(linear, x);
                let (q, kv) = (a.heads / groups * d, a.kv_heads / groups * d);
                let cuts = [0, q, q + kv, q + 2 * kv];
                for i in which {
                    out[i] = Some(ops.columns(&y, q + 2 * kv, cuts[i], cuts[i + 1]));
                }
            }
        }
        if let Some(limit) = self.clip {
            let first = if self.clip_last { 2 } else { 0 };
            for x in &mut out[first..3] {
                *x = x.take().map(|x| ops.clamp(x, limit));
            }
        }
        out
    }

    /// Queries (0) or keys (1) as attention reads them: normalised and rotated.
    fn placed(&self, ops: &dyn Ops, step: &Step<'_>, x: Act, which: usize) -> Act {
        let width = |whole: bool, x: &Act| if whole { x.cols } else { self.attention.qk_dim };
        match (&self.rotary, &self.qk_norm) {
            (Some(r), Some(n)) if !n.whole && !n.after && !self.clip_last => {
                r.norm_and_rotate(ops, step, x, Some(&n.norms[which]))
            }
            (rotary, Some(n)) => {
                let rotate = |x: Act| rotary.as_ref().map_or(x.clone(), |r| r.rotate(ops, step, x));
                let norm = |x: Act| {
                    let x = ops.norm(&n.norms[which], &x, width(n.whole, &x));
                    self.clip.filter(|_| self.clip_last).map_or(x.clone(), |limit| ops.clamp(x, limit))
                };
                if n.after { norm(rotate(x)) } else { rotate(norm(x)) }
            }
            (Some(r), None) => r.rotate(ops, step, x),
            (None, None) => x,
        }
    }

    /// Keys and values go to the cache.
    fn append(&self, ops: &dyn Ops, step: &Step<'_>, k: Option<Act>, v: Option<Act>) {
        let k = self.placed(ops, step, k.expect("keys were asked for"), 1);
        ops.append(self.attention.cache, &k, v.as_ref(), step.batch);
    }

    /// What the queries of `x`, rows of `step`, find there.
    fn attend(&self, ops: &dyn Ops, step: &Step<'_>, q: Option<Act>, gate: Option<Act>, x: &Act) -> Act {
        let mut q = self.placed(ops, step, q.expect("queries were asked for"), 0);
        if let Some(t) = self.temperature {
            q = ops.mul(q, step.factor(t));
        }
        let mut y = ops.attention(&self.attention, &q, step.batch);
        if let Some(gate) = gate.or_else(|| self.gate.as_ref().map(|l| ops.linear(l, x))) {
            y = ops.sigmoid_mul(y, &gate);
        }
        ops.linear(&self.o, &y)
    }
}

impl Block for Gqa {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        let [q, k, v, gate] = self.project(ops, x, 0..3);
        self.append(ops, step, k, v);
        self.attend(ops, step, q, gate, x)
    }

    fn forward_wanted(&self, ops: &dyn Ops, step: &Step<'_>, wanted: &Step<'_>, x: &Act) -> Act {
        let [_, k, v, _] = self.project(ops, x, 1..3);
        self.append(ops, step, k, v);
        let x = ops.select_rows(x, &step.batch.logit_rows);
        let [q, _, _, gate] = self.project(ops, &x, 0..1);
        self.attend(ops, wanted, q, gate, &x)
    }
}
