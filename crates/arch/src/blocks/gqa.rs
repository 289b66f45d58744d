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
        Ok(GqaConfig { heads, kv_heads, head_dim, scale, qkv_bias: false, o_bias: false, window: None, softcap: None })
    }
}

/// Grouped-query attention.
pub struct Gqa {
    /// Queries `[heads · head_dim, hidden]`, keys and values `[kv_heads · head_dim, hidden]`.
    pub qkv: [Linear; 3],
    /// `[hidden, heads · head_dim]`.
    pub o: Linear,
    /// Norms of each head's queries and keys.
    pub qk_norm: Option<[Norm; 2]>,
    /// Positions of queries and keys.
    pub rotary: Option<Rotary>,
    /// The attention itself.
    pub attention: Attention,
}

impl Gqa {
    /// Separate projections under the names that most families have.
    pub fn load(p: &Params<'_>, g: &GqaConfig, hidden: usize, rotary: Option<Rotary>) -> Result<Gqa> {
        let (q, kv) = (g.heads * g.head_dim, g.kv_heads * g.head_dim);
        let qkv = [
            p.linear(("q_proj", "attn_q"), q, hidden, g.qkv_bias)?,
            p.linear(("k_proj", "attn_k"), kv, hidden, g.qkv_bias)?,
            p.linear(("v_proj", "attn_v"), kv, hidden, g.qkv_bias)?,
        ];
        let o = p.linear(("o_proj", "attn_output"), hidden, q, g.o_bias)?;
        Ok(Gqa { qkv, o, qk_norm: None, rotary, attention: Gqa::attention(p, g) })
    }

    /// Declares the cache of a layer and the attention over it.
    pub fn attention(p: &Params<'_>, g: &GqaConfig) -> Attention {
        let &GqaConfig { heads, kv_heads, head_dim, scale, window, softcap, .. } = g;
        let cache = p.cache(CacheSpec { kv_heads, k_dim: head_dim, v_dim: Some(head_dim), window });
        let mask = window.map_or(Mask::Causal, Mask::Window);
        Attention { cache, heads, kv_heads, qk_dim: head_dim, v_dim: head_dim, scale, mask, softcap, sinks: None }
    }

    /// With norms of each head's queries and keys before they are rotated.
    pub fn with_qk_norm(self, q: Norm, k: Norm) -> Gqa {
        Gqa { qk_norm: Some([q, k]), ..self }
    }

    /// With a logit per head that takes its share of the softmax.
    pub fn with_sinks(mut self, sinks: W) -> Gqa {
        self.attention.sinks = Some(sinks);
        self
    }

    /// Queries (0) or keys (1) as attention reads them: normalised and rotated.
    fn placed(&self, ops: &dyn Ops, step: &Step<'_>, x: Act, which: usize) -> Act {
        let norm = self.qk_norm.as_ref().map(|n| &n[which]);
        match (&self.rotary, norm) {
            (Some(r), _) => r.norm_and_rotate(ops, step, x, norm),
            (None, Some(n)) => ops.norm(n, &x, self.attention.qk_dim),
            (None, None) => x,
        }
    }

    /// Keys and values go to the cache.
    fn append(&self, ops: &dyn Ops, step: &Step<'_>, k: Act, v: &Act) {
        ops.append(self.attention.cache, &self.placed(ops, step, k, 1), Some(v), step.batch);
    }

    /// What the queries `q` of `step` find there.
    fn attend(&self, ops: &dyn Ops, step: &Step<'_>, q: Act) -> Act {
        let q = self.placed(ops, step, q, 0);
        ops.linear(&self.o, &ops.attention(&self.attention, &q, step.batch))
    }
}

impl Block for Gqa {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        let [wq, wk, wv] = &self.qkv;
        let mut out = ops.linears(&[wq, wk, wv], x).into_iter();
        let (Some(q), Some(k), Some(v)) = (out.next(), out.next(), out.next()) else {
            unreachable!("as many outputs as linears")
        };
        self.append(ops, step, k, &v);
        drop(v);
        self.attend(ops, step, q)
    }

    fn forward_wanted(&self, ops: &dyn Ops, step: &Step<'_>, wanted: &Step<'_>, x: &Act) -> Act {
        let [wq, wk, wv] = &self.qkv;
        let mut out = ops.linears(&[wk, wv], x).into_iter();
        let (Some(k), Some(v)) = (out.next(), out.next()) else { unreachable!("as many outputs as linears") };
        self.append(ops, step, k, &v);
        drop(v);
        self.attend(ops, wanted, ops.linear(wq, &ops.select_rows(x, &step.batch.logit_rows)))
    }
}
