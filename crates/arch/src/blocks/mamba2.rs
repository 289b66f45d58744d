//! Mamba 2's mixer (arXiv 2405.21060): one decay per head, B and C shared by groups of heads, a gated norm at the end.
use super::{
    Block, linears,
    mamba::{KERNEL_MAX, STATE_MAX, inner_size, rates},
    short_conv::convolution_times,
};
use crate::{Config, Error, Layout, Params, Result, Step};
use pondera_ops::{Act, Activation, Conv, Linear, Norm, Ops, Scan, ScanKind, StateSpec};

/// Where the gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateOrder {
    /// `norm(y · silu(z))`.
    BeforeNorm,
    /// `norm(y) · silu(z)`.
    AfterNorm,
    /// `y · silu(z)`, without a norm.
    NoNorm,
}

/// The numbers of a Mamba 2 mixer.
#[derive(Clone, Copy, Debug)]
pub struct Mamba2Config {
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Groups of B and C.
    pub groups: usize,
    /// Rows of a head's state.
    pub state: usize,
    /// Inputs that the convolution sees.
    pub kernel: usize,
    /// After the convolution.
    pub act: Activation,
    /// Bias of the convolution.
    pub conv_bias: bool,
    /// Biases of the projections in and out.
    pub bias: [bool; 2],
    /// Bounds on step sizes.
    pub limit: (f32, f32),
    /// Where the gate stands.
    pub gate: GateOrder,
    /// Of the norm.
    pub eps: f32,
    /// Factors on z, x, B, C and step sizes.
    pub factors: [f32; 5],
}

impl Mamba2Config {
    /// `mamba_*`, `hidden_act`, `time_step_limit`: heads of equal width over `mamba_expand · hidden_size` channels.
    pub fn read(c: &Config, eps: f32) -> Result<Mamba2Config> {
        let inner = match c.size_opt("mamba_d_ssm")? {
            Some(n) => n,
            None => inner_size(c, c.hidden_size()?)?,
        };
        // GGUF files count heads as they count what other models make step sizes from.
        let heads = c.size(if c.is_gguf() { "mamba_dt_rank" } else { "mamba_n_heads" })?;
        let auto = matches!(c.text("mamba_d_head"), Ok(Some("auto") | None)) || c.is_gguf();
        let head_dim = if auto { inner / heads } else { c.size("mamba_d_head")? };
        if heads.checked_mul(head_dim) != Some(inner) {
            return Err(c.bad("mamba_d_head", format!("{heads} heads of {head_dim} are not {inner} channels")));
        }
        let act = c.activation("hidden_act")?;
        Mamba2Config { eps, act, ..Mamba2Config::of_heads(c, heads, head_dim)? }.checked(c)
    }

    /// As many heads as are given, the rest as [`Mamba2Config::read`].
    pub fn of_heads(c: &Config, heads: usize, head_dim: usize) -> Result<Mamba2Config> {
        let bias = c.flag("mamba_proj_bias")?;
        let limit = c.numbers::<2>("time_step_limit")?.unwrap_or([0.0, f64::INFINITY]);
        Mamba2Config {
            heads,
            head_dim,
            groups: c.size("mamba_n_groups")?,
            state: c.size("mamba_d_state")?,
            kernel: c.size_max("mamba_d_conv", KERNEL_MAX)?,
            act: Activation::Silu,
            conv_bias: c.flag("mamba_conv_bias")?,
            bias: [bias; 2],
            limit: (limit[0] as f32, limit[1] as f32),
            gate: GateOrder::BeforeNorm,
            eps: 0.0,
            factors: [1.0; 5],
        }
        .checked(c)
    }

    fn checked(self, c: &Config) -> Result<Mamba2Config> {
        if !self.heads.is_multiple_of(self.groups) {
            let what = format!("expected a divisor of the {} heads, got {}", self.heads, self.groups);
            return Err(c.bad("mamba_n_groups", what));
        }
        let widest = [self.head_dim, self.state].into_iter().try_fold(self.heads, |n, d| n.checked_mul(d));
        if widest.is_none_or(|n| n > STATE_MAX) {
            return Err(c.bad("mamba_d_state", "the state of a layer is larger than that of any model"));
        }
        Ok(self)
    }
}

/// A Mamba 2 mixer.
///
/// ```text
/// z, u, t = in(h);  x, B, C = act(conv(u));  y = scan(x, t, B, C);  out(gated norm(y, z))
/// ```
pub struct Mamba2 {
    /// The gate `[inner, hidden]`, what is convolved `[inner + 2 · groups · state, hidden]`, step sizes `[heads, hidden]`.
    pub inputs: [Linear; 3],
    /// Factors on the gate and on step sizes.
    pub factors: [f32; 2],
    /// Over x, B and C.
    pub conv: Conv,
    /// Columns of x, and of B, which are as many as of C.
    pub cols: (usize, usize),
    /// The recurrence.
    pub scan: Scan,
    /// Of each group.
    pub norm: Option<Norm>,
    /// Columns of such a group.
    pub group: usize,
    /// Whether the gate comes before the norm.
    pub gate_first: bool,
    /// `[hidden, inner]`.
    pub out: Linear,
}

impl Mamba2 {
    /// Under the names of Mamba 2; declares its states.
    pub fn load(p: &Params<'_>, m: &Mamba2Config, hidden: usize) -> Result<Mamba2> {
        let &Mamba2Config { heads, head_dim, groups, state, factors, .. } = m;
        let (inner, shared) = (heads * head_dim, groups * state);
        let channels = inner + 2 * shared;
        let inputs = p.fused(("in_proj", "ssm_in"), &[inner, channels, heads], hidden, Layout::Rows, m.bias[0])?;
        let factor = |channel: usize| match channel {
            i if i < inner => factors[1],
            i if i < inner + shared => factors[2],
            _ => factors[3],
        };
        let (logs, gguf) = (p.table(("A_log", "ssm_a"), &[heads])?, p.is_gguf());
        let conv_of = (m.conv_bias, Some(m.act));
        let conv = convolution_times(p, ("conv1d", "ssm_conv1d"), channels, m.kernel, conv_of, factor)?;
        let scan = Scan {
            state: p.state(StateSpec { values: inner * state }),
            kind: ScanKind::Heads {
                rates: p.computed(&logs, |a| rates(a, gguf)),
                step_bias: p.vector(("dt_bias", "ssm_dt.bias"), heads)?,
                d: p.table(("D", "ssm_d"), &[heads])?,
                groups,
                limit: m.limit,
            },
        };
        let norm = match m.gate {
            GateOrder::NoNorm => None,
            _ => {
                let shape: &[usize] = if gguf { &[groups, inner / groups] } else { &[inner] };
                let weight = Some(p.table(("norm.weight", "ssm_norm.weight"), shape)?);
                Some(Norm::Rms { weight, eps: m.eps, one_plus: false })
            }
        };
        Ok(Mamba2 {
            inputs: <[Linear; 3]>::try_from(inputs).map_err(|_| Error::config("in_proj", "expected 3 parts"))?,
            factors: [factors[0], factors[4]],
            conv,
            cols: (inner, shared),
            scan,
            norm,
            group: inner / groups,
            gate_first: m.gate == GateOrder::BeforeNorm,
            out: p.linear(("out_proj", "ssm_out"), hidden, inner, m.bias[1])?,
        })
    }
}

impl Block for Mamba2 {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        let [z, u, t] = linears(ops, [&self.inputs[0], &self.inputs[1], &self.inputs[2]], x);
        let times = |x: Act, f: f32| if f == 1.0 { x } else { ops.scale(x, f) };
        let (z, t) = (times(z, self.factors[0]), times(t, self.factors[1]));
        let u = ops.conv(&self.conv, &u, step.batch);
        let (inner, shared) = self.cols;
        let part = |from: usize, to: usize| ops.columns(&u, u.cols, from, to);
        let (b, c) = (part(inner, inner + shared), part(inner + shared, inner + 2 * shared));
        let mut y = ops.scan(&self.scan, &[&part(0, inner), &t, &b, &c], step.batch);
        let norm = |y: Act| self.norm.as_ref().map_or(y.clone(), |n| ops.norm(n, &y, self.group));
        if self.gate_first {
            y = norm(ops.glu(Activation::Silu, z, &y));
        } else {
            y = ops.glu(Activation::Silu, z, &norm(y));
        }
        ops.linear(&self.out, &y)
    }
}
