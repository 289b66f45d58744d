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
use pondera_ops::{Act, Attention, CacheSpec, Linear, Mask, Norm, Ops, W};

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
        })
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

        let q = match &self.query {
            Query::Whole(w) => ops.linear(w, x),
            Query::Latent { down, norm, up } => {
                let latent = ops.linear(down, x);
                ops.linear(up, &ops.norm(norm, &latent, latent.cols))
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

        let y = ops.attention(&self.attention, &q, step.batch);
        ops.linear(&self.o, &ops.linear_heads(&self.w_uv, &y, false))
    }
}
