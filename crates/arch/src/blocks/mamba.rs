//! Mamba's mixer (arXiv 2312.00752): a short convolution, then a selective scan with a state per channel.
use super::{Block, linears, short_conv::convolution};
use crate::{Config, Error, Layout, Params, Result, Step};
use pondera_ops::{Act, Activation, Conv, Linear, Norm, Ops, Scan, ScanKind, StateSpec, by_runs, math};

/// The numbers of a Mamba mixer.
#[derive(Clone, Copy, Debug)]
pub struct MambaConfig {
    /// Channels.
    pub inner: usize,
    /// Values of state per channel.
    pub state: usize,
    /// Inputs that the convolution sees.
    pub kernel: usize,
    /// Width of what step sizes are made from.
    pub rank: usize,
    /// After the convolution.
    pub act: Activation,
    /// Bias of the convolution.
    pub conv_bias: bool,
    /// Biases of the projections in and out.
    pub bias: bool,
}

impl MambaConfig {
    /// `mamba_*`, `hidden_act`; `bias` names the flag for the projections.
    pub fn read(c: &Config, bias: &str) -> Result<MambaConfig> {
        let hidden = c.hidden_size()?;
        let inner = match c.size_opt("mamba_d_ssm")?.filter(|_| c.is_gguf()) {
            Some(n) => n,
            None => inner_size(c, hidden)?,
        };
        // A word in place of a number: as many as a sixteenth of the width.
        let auto = matches!(c.text("mamba_dt_rank"), Ok(Some("auto")));
        Ok(MambaConfig {
            inner,
            state: c.size_max("mamba_d_state", STATE_MAX / inner)?,
            kernel: c.size_max("mamba_d_conv", KERNEL_MAX)?,
            rank: if auto { hidden.div_ceil(16) } else { c.size("mamba_dt_rank")? },
            act: c.activation("hidden_act")?,
            conv_bias: c.flag("mamba_conv_bias")?,
            bias: c.flag(bias)?,
        })
    }
}

/// No layer keeps more values of a sequence; keeps hostile configurations from costing memory.
pub(super) const STATE_MAX: usize = 1 << 28;
/// No convolution sees more inputs.
pub(super) const KERNEL_MAX: usize = 256;

/// `mamba_expand · hidden_size`.
pub(super) fn inner_size(c: &Config, hidden: usize) -> Result<usize> {
    let inner = (f64::from(c.positive("mamba_expand")?) * hidden as f64) as usize;
    if inner == 0 || inner > STATE_MAX {
        return Err(c.bad("mamba_expand", format!("{inner} channels are not a size")));
    }
    Ok(inner)
}

/// A Mamba mixer.
///
/// ```text
/// x, z = in(h);  x = act(conv(x));  t, B, C = norm(project(x));  y = scan(x, step(t), B, C);  out(y · silu(z))
/// ```
pub struct Mamba {
    /// `[inner, hidden]`: what is scanned, and its gate.
    pub inputs: [Linear; 2],
    /// Over what is scanned.
    pub conv: Conv,
    /// Step sizes `[rank, inner]`, B and C `[state, inner]`.
    pub parts: [Linear; 3],
    /// Of each of them.
    pub norms: Option<[Norm; 3]>,
    /// `[inner, rank]`.
    pub step: Linear,
    /// The recurrence.
    pub scan: Scan,
    /// `[hidden, inner]`.
    pub out: Linear,
}

impl Mamba {
    /// Under the names of Mamba; declares its states. `norms` are those of step sizes, B and C, where a family has them.
    pub fn load(p: &Params<'_>, m: &MambaConfig, hidden: usize, norms: Option<[Norm; 3]>) -> Result<Mamba> {
        let &MambaConfig { inner, state, rank, .. } = m;
        let values = inner.checked_mul(state).ok_or_else(|| Error::config("mamba_d_state", "too large"))?;
        let three =
            |ls: Vec<Linear>| <[Linear; 3]>::try_from(ls).map_err(|_| Error::config("x_proj", "expected 3 parts"));
        let inputs = p.fused(("in_proj", "ssm_in"), &[inner, inner], hidden, Layout::Rows, m.bias)?;
        let logs = p.table(("A_log", "ssm_a"), &[inner, state])?;
        let gguf = p.is_gguf();
        let scan = Scan {
            state: p.state(StateSpec { values }),
            kind: ScanKind::Selective {
                rates: p.computed(&logs, |a| by_runs(&rates(a, gguf), state)),
                step_bias: p.vector(("dt_proj.bias", "ssm_dt.bias"), inner)?,
                d: p.vector(("D", "ssm_d"), inner)?,
            },
        };
        let step = Linear { weight: p.weight(("dt_proj", "ssm_dt"), inner, rank)?, bias: None };
        Ok(Mamba {
            inputs: <[Linear; 2]>::try_from(inputs).map_err(|_| Error::config("in_proj", "expected 2 parts"))?,
            conv: convolution(p, ("conv1d", "ssm_conv1d"), inner, m.kernel, m.conv_bias, Some(m.act))?,
            parts: three(p.fused(("x_proj", "ssm_x"), &[rank, state, state], inner, Layout::Rows, false)?)?,
            norms,
            step,
            scan,
            out: p.linear(("out_proj", "ssm_out"), hidden, inner, m.bias)?,
        })
    }
}

/// Rates from their stored logarithms; GGUF files have the rates themselves.
pub(super) fn rates(stored: &[f32], gguf: bool) -> Vec<f32> {
    stored.iter().map(|a| if gguf { *a } else { -math::exp(*a) }).collect()
}

impl Block for Mamba {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        let [u, z] = linears(ops, [&self.inputs[0], &self.inputs[1]], x);
        let u = ops.conv(&self.conv, &u, step.batch);
        let mut parts = linears(ops, [&self.parts[0], &self.parts[1], &self.parts[2]], &u);
        if let Some(norms) = &self.norms {
            for (part, n) in parts.iter_mut().zip(norms) {
                *part = ops.norm(n, part, part.cols);
            }
        }
        let t = ops.linear(&self.step, &parts[0]);
        let y = ops.scan(&self.scan, &[&u, &t, &parts[1], &parts[2]], step.batch);
        ops.linear(&self.out, &ops.glu(Activation::Silu, z, &y))
    }
}
