//! Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), absorbed: the cache holds one latent row per token,
//! and the up-projections of keys and values move to the query and the output. It then is attention with one
//! key/value head whose values are a prefix of its keys.
//!
//! ```text
//! c = n(Wkva x)[..lora]          k = [c | rope(Wkva x)[lora..]]                     cached
//! q = Wqb n(Wqa x)               q'_h = [Wuk_hᵀ q_h[..nope] | rope(q_h[nope..])]
//! y_h = Wuv_h Σ softmax(q'_h · k / √(nope + rope)) c
//! ```
use super::{Block, Rotary};
use crate::{Config, Error, Params, Result, Step, params::Layout};
use pondera_ops::{Act, Attention, CacheSpec, Indexer, Linear, Mask, Norm, Ops, W};

/// The numbers of a latent attention.
#[derive(Clone, Copy, Debug)]
pub struct MlaConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Width of the query's latent; none: queries come from one projection.
    pub q_lora_rank: Option<usize>,
    /// Width of the keys' and values' latent.
    pub kv_lora_rank: usize,
    /// Columns of a head that are not rotated.
    pub qk_nope_head_dim: usize,
    /// Columns of a head that are.
    pub qk_rope_head_dim: usize,
    /// Width of a value.
    pub v_head_dim: usize,
    /// Of the norms of both latents.
    pub eps: f32,
    /// Factor on scores.
    pub scale: f32,
    /// Biases of the down- and output projections.
    pub bias: bool,
}

impl MlaConfig {
    /// The published keys. Scores are divided by the root of the whole width of a head.
    pub fn read(c: &Config, eps: f32) -> Result<MlaConfig> {
        let (qk_nope_head_dim, qk_rope_head_dim) = (c.size("qk_nope_head_dim")?, c.size("qk_rope_head_dim")?);
        Ok(MlaConfig {
            hidden: c.hidden_size()?,
            heads: c.size("num_attention_heads")?,
            q_lora_rank: c.size_opt("q_lora_rank")?,
            kv_lora_rank: c.size("kv_lora_rank")?,
            qk_nope_head_dim,
            qk_rope_head_dim,
            v_head_dim: c.size("v_head_dim")?,
            eps,
            scale: ((qk_nope_head_dim + qk_rope_head_dim) as f64).powf(-0.5) as f32,
            bias: c.flag("attention_bias")?,
        })
    }

    /// Width of a query.
    pub fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }
}

enum Query {
    Whole(Linear),
    Latent { down: Linear, norm: Norm, up: Linear },
}

/// Latent attention.
pub struct Mla {
    query: Query,
    kv_a: Linear,
    kv_norm: Norm,
    /// `[heads; nope, lora]`, or `[heads; lora, nope]` where the file stores it the other way round.
    w_uk: W,
    uk_is_transposed: bool,
    /// `[heads; v, lora]`.
    w_uv: W,
    o: Linear,
    q_rotary: Rotary,
    k_rotary: Rotary,
    attention: Attention,
    nope: usize,
    temperature: Option<usize>,
    indexer: Option<LightningIndexer>,
}

/// Chooses the positions that a query looks at (DeepSeek-V3.2, arXiv 2512.02556): queries from the latent of the queries,
/// one key for all of its heads, in a cache of its own.
struct LightningIndexer {
    q: Linear,
    k: Linear,
    k_norm: Norm,
    weights: Linear,
    rotary: Rotary,
    indexer: Indexer,
}

impl LightningIndexer {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act, q_latent: &Act) -> Act {
        let k = ops.linear(&self.k, x);
        let k = self.rotary.rotate(ops, step, ops.norm(&self.k_norm, &k, k.cols));
        ops.append(self.indexer.cache, &k, None, step.batch);
        let q = self.rotary.rotate(ops, step, ops.linear(&self.q, q_latent));
        let weights = ops.scale(ops.linear(&self.weights, x), (1.0 / (self.indexer.heads as f64).sqrt()) as f32);
        ops.select(&self.indexer, &q, &weights, step.batch)
    }
}

impl Mla {
    /// `rotary` says how the rotated columns pair; its place within keys and queries is set here.
    pub fn load(p: &Params<'_>, m: &MlaConfig, rotary: Rotary) -> Result<Mla> {
        let (lora, nope, rope, v) = (m.kv_lora_rank, m.qk_nope_head_dim, m.qk_rope_head_dim, m.v_head_dim);
        let wide = |a: usize, b: usize| {
            a.checked_mul(b)
                .ok_or_else(|| Error::config("num_attention_heads", "its product with a head's width overflows"))
        };
        let queries = wide(m.heads, m.qk_head_dim())?;
        let query = match m.q_lora_rank {
            None => Query::Whole(p.linear(("q_proj", "attn_q"), queries, m.hidden, false)?),
            Some(rank) => Query::Latent {
                down: p.linear(("q_a_proj", "attn_q_a"), rank, m.hidden, m.bias)?,
                norm: p.rms(("q_a_layernorm", "attn_q_a_norm"), rank, m.eps, false)?,
                up: p.linear(("q_b_proj", "attn_q_b"), queries, rank, false)?,
            },
        };
        let kv_a = p.linear(("kv_a_proj_with_mqa", "attn_kv_a_mqa"), lora + rope, m.hidden, m.bias)?;
        let kv_norm = p.rms(("kv_a_layernorm", "attn_kv_a_norm"), lora, m.eps, false)?;
        let (w_uk, uk_is_transposed, w_uv) = Mla::up(p, m)?;
        let cache = p.cache(CacheSpec { kv_heads: 1, k_dim: lora + rope, v_dim: None, window: None });
        Ok(Mla {
            query,
            kv_a,
            kv_norm,
            w_uk,
            uk_is_transposed,
            w_uv,
            o: p.linear(("o_proj", "attn_output"), m.hidden, wide(m.heads, v)?, m.bias)?,
            q_rotary: rotary.placed(m.qk_head_dim(), nope),
            k_rotary: rotary.placed(rope, 0),
            attention: Attention {
                cache,
                heads: m.heads,
                kv_heads: 1,
                qk_dim: lora + rope,
                v_dim: lora,
                scale: m.scale,
                mask: Mask::Causal,
                softcap: None,
                sinks: None,
                slopes: None,
            },
            nope,
            temperature: None,
            indexer: None,
        })
    }

    /// With an indexer under `indexer` that lets each query look at its `index_topk` best positions. `rotary` acts on the
    /// first columns of its heads.
    pub fn with_indexer(self, c: &Config, p: &Params<'_>, m: &MlaConfig, rotary: Rotary) -> Result<Mla> {
        let rank =
            m.q_lora_rank.ok_or_else(|| c.bad("q_lora_rank", "absent: the indexer reads the queries' latent"))?;
        let (heads, dim) = (c.size("index_n_heads")?, c.size("index_head_dim")?);
        if dim < m.qk_rope_head_dim {
            return Err(c.bad("index_head_dim", format!("expected at least qk_rope_head_dim = {}", m.qk_rope_head_dim)));
        }
        let p = p.at(("indexer", ""));
        let cache = p.cache(CacheSpec { kv_heads: 1, k_dim: dim, v_dim: None, window: None });
        let indexer = LightningIndexer {
            q: p.linear(("wq_b", "indexer.attn_q_b"), heads.saturating_mul(dim), rank, false)?,
            k: p.linear(("wk", "indexer.attn_k"), dim, m.hidden, false)?,
            k_norm: p.layer_norm(("k_norm", "indexer.k_norm"), dim, 1e-6)?,
            weights: p.linear(("weights_proj", "indexer.proj"), heads, m.hidden, false)?,
            rotary: rotary.placed(dim, 0),
            indexer: Indexer {
                cache,
                heads,
                dim,
                scale: (1.0 / (dim as f64).sqrt()) as f32,
                top_k: c.size("index_topk")?,
            },
        };
        Ok(Mla { indexer: Some(indexer), ..self })
    }

    /// With a factor on queries that grows with the position (from [`Params::position_factor`]).
    pub fn with_temperature(self, factor: usize) -> Mla {
        Mla { temperature: Some(factor), ..self }
    }

    /// The up-projections of keys and values: rows of one matrix, or (newer GGUF files) a stack for each.
    fn up(p: &Params<'_>, m: &MlaConfig) -> Result<(W, bool, W)> {
        let (lora, nope, v) = (m.kv_lora_rank, m.qk_nope_head_dim, m.v_head_dim);
        if p.is_gguf() && p.has(("", "attn_k_b.weight")) {
            let k = p.stacked(("", "attn_k_b"), m.heads, lora, nope)?;
            let v = p.stacked(("", "attn_v_b"), m.heads, v, lora)?;
            return Ok((k, true, v));
        }
        let rows = (nope + v)
            .checked_mul(m.heads)
            .ok_or_else(|| Error::config("v_head_dim", "its product with the heads overflows"))?;
        let (name, both) = p.matrix(("kv_b_proj", "attn_kv_b"), rows, lora, Layout::Rows)?;
        let k = p.groups(&name, &both, m.heads, 0, nope + v, nope)?;
        let v = p.groups(&name, &both, m.heads, nope, nope + v, v)?;
        Ok((k, false, v))
    }
}

impl Block for Mla {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        let (lora, width) = (self.attention.v_dim, self.attention.qk_dim);
        let head = self.nope + width - lora;

        let mut selected = None;
        let q = match &self.query {
            Query::Whole(w) => ops.linear(w, x),
            Query::Latent { down, norm, up } => {
                let latent = ops.linear(down, x);
                let latent = ops.norm(norm, &latent, latent.cols);
                selected = self.indexer.as_ref().map(|i| i.forward(ops, step, x, &latent));
                ops.linear(up, &latent)
            }
        };
        let mut q = self.q_rotary.rotate(ops, step, q);
        if let Some(t) = self.temperature {
            q = ops.mul(q, step.factor(t));
        }
        let q_latent = ops.linear_heads(&self.w_uk, &ops.columns(&q, head, 0, self.nope), !self.uk_is_transposed);
        let q = ops.concat_heads(&q_latent, &ops.columns(&q, head, self.nope, head), self.attention.heads);

        let kv = ops.linear(&self.kv_a, x);
        let latent = ops.norm(&self.kv_norm, &ops.columns(&kv, width, 0, lora), lora);
        let k_rope = self.k_rotary.rotate(ops, step, ops.columns(&kv, width, lora, width));
        ops.append(self.attention.cache, &ops.concat_heads(&latent, &k_rope, 1), None, step.batch);

        let y = match &selected {
            Some(chosen) => ops.attention_over(&self.attention, &q, chosen, step.batch),
            None => ops.attention(&self.attention, &q, step.batch),
        };
        ops.linear(&self.o, &ops.linear_heads(&self.w_uv, &y, false))
    }
}
