//! A gated delta net (arXiv 2412.06464): a short convolution over queries, keys and values, then a state per value head
//! that forgets by a decay and is corrected towards each value.
use super::{
    Block,
    mamba::{KERNEL_MAX, STATE_MAX, rates},
    short_conv::convolution,
};
use crate::{Config, Params, Result, Step};
use pondera_ops::{Act, Activation, Conv, Linear, Norm, Ops, Scan, ScanKind, StateSpec};

/// The numbers of a gated delta net.
#[derive(Clone, Copy, Debug)]
pub struct DeltaNetConfig {
    /// Key heads.
    pub key_heads: usize,
    /// Value heads; a multiple of the key heads.
    pub heads: usize,
    /// Width of a query and key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Inputs that the convolution sees.
    pub kernel: usize,
    /// After the convolution.
    pub act: Activation,
    /// Of the norm.
    pub eps: f32,
    /// Value heads take turns over the key heads; otherwise consecutive ones share one.
    pub turns: bool,
}

impl DeltaNetConfig {
    /// `linear_*`, `hidden_act`, `rms_norm_eps`.
    pub fn read(c: &Config) -> Result<DeltaNetConfig> {
        let (key_heads, heads) = (c.size("linear_num_key_heads")?, c.size("linear_num_value_heads")?);
        if !heads.is_multiple_of(key_heads) {
            let what = format!("expected a multiple of linear_num_key_heads = {key_heads}, got {heads}");
            return Err(c.bad("linear_num_value_heads", what));
        }
        let (key_dim, value_dim) = (c.size("linear_key_head_dim")?, c.size("linear_value_head_dim")?);
        let values = [key_dim, value_dim].into_iter().try_fold(heads, |n, d| n.checked_mul(d));
        if values.is_none_or(|n| n > STATE_MAX) {
            return Err(c.bad("linear_value_head_dim", "the state of a layer is larger than that of any model"));
        }
        Ok(DeltaNetConfig {
            key_heads,
            heads,
            key_dim,
            value_dim,
            kernel: c.size_max("linear_conv_kernel_dim", KERNEL_MAX)?,
            act: c.activation("hidden_act")?,
            eps: c.eps("rms_norm_eps")?,
            turns: false,
        })
    }

    /// Columns of all keys and of all values.
    pub fn widths(&self) -> (usize, usize) {
        (self.key_heads * self.key_dim, self.heads * self.value_dim)
    }
}

/// Two projections.
pub enum Joined {
    /// Of one matrix: for each key head the first's rows, then the second's.
    Grouped(Linear),
    /// Of one each.
    Apart([Linear; 2]),
}

/// A gated delta net.
///
/// ```text
/// q, k, v = act(conv(project(x)));  y = scan(q, k, v, decay x, beta x);  out(norm(y) · silu(z))
/// ```
pub struct DeltaNet {
    /// Queries, keys and values, and the gate z.
    pub qkvz: Joined,
    /// Betas and decays.
    pub ba: Joined,
    /// Over `[q | k | v]`.
    pub conv: Conv,
    /// The recurrence.
    pub scan: Scan,
    /// Of each value head.
    pub norm: Norm,
    /// `[hidden, heads · value_dim]`.
    pub out: Linear,
    /// Its numbers.
    pub config: DeltaNetConfig,
}

impl DeltaNet {
    /// From its projections; the rest under the names that all have. Declares its states.
    pub fn load(p: &Params<'_>, config: &DeltaNetConfig, hidden: usize, qkvz: Joined, ba: Joined) -> Result<DeltaNet> {
        let &DeltaNetConfig { key_heads, heads, key_dim, value_dim, kernel, act, eps, turns } = config;
        let (keys, values) = config.widths();
        let (logs, gguf) = (p.table(("A_log", "ssm_a"), &[heads])?, p.is_gguf());
        let conv = convolution(p, ("conv1d", "ssm_conv1d"), 2 * keys + values, kernel, false, Some(act))?;
        let scan = Scan {
            state: p.state(StateSpec { values: values * key_dim }),
            kind: ScanKind::Delta {
                rates: p.computed(&logs, |a| rates(a, gguf)),
                step_bias: p.vector(("dt_bias", "ssm_dt.bias"), heads)?,
                key_heads: if turns { heads } else { key_heads },
                heads,
                beta_scale: 1.0,
            },
        };
        let norm = p.rms(("norm", "ssm_norm"), value_dim, eps, false)?;
        let out = p.linear(("out_proj", "ssm_out"), hidden, values, false)?;
        Ok(DeltaNet { qkvz, ba, conv, scan, norm, out, config: *config })
    }

    /// `[q | k | v]` and z.
    fn inputs(&self, ops: &dyn Ops, x: &Act) -> [Act; 2] {
        let l = match &self.qkvz {
            Joined::Apart([qkv, z]) => return [ops.linear(qkv, x), ops.linear(z, x)],
            Joined::Grouped(l) => l,
        };
        let c = &self.config;
        let (y, k, v) = (ops.linear(l, x), c.key_dim, c.heads / c.key_heads * c.value_dim);
        let part = |from: usize, to: usize| ops.columns(&y, 2 * (k + v), from, to);
        let qk = ops.concat_heads(&part(0, k), &part(k, 2 * k), 1);
        [ops.concat_heads(&qk, &part(2 * k, 2 * k + v), 1), part(2 * k + v, 2 * (k + v))]
    }

    /// Betas and decays.
    fn rates(&self, ops: &dyn Ops, x: &Act) -> [Act; 2] {
        match &self.ba {
            Joined::Apart([b, a]) => [ops.linear(b, x), ops.linear(a, x)],
            Joined::Grouped(l) => {
                let (y, n) = (ops.linear(l, x), self.config.heads / self.config.key_heads);
                [ops.columns(&y, 2 * n, 0, n), ops.columns(&y, 2 * n, n, 2 * n)]
            }
        }
    }
}

impl Block for DeltaNet {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        let c = &self.config;
        let ([qkv, z], [beta, decay]) = (self.inputs(ops, x), self.rates(ops, x));
        let qkv = ops.conv(&self.conv, &qkv, step.batch);
        let (keys, values) = c.widths();
        let part = |from: usize, to: usize| ops.columns(&qkv, qkv.cols, from, to);
        // Where value heads take turns, each has a key head of its own once those are repeated.
        let repeats = if c.turns { c.heads / c.key_heads } else { 1 };
        let keys_of = |from: usize| {
            let one = part(from, from + keys);
            (1..repeats).fold(one.clone(), |all, _| ops.concat_heads(&all, &one, 1))
        };
        let (q, k, v) = (keys_of(0), keys_of(keys), part(2 * keys, 2 * keys + values));
        let y = ops.scan(&self.scan, &[&q, &k, &v, &decay, &beta], step.batch);
        let y = ops.norm(&self.norm, &y, c.value_dim);
        ops.linear(&self.out, &ops.glu(Activation::Silu, z, &y))
    }
}
