//! A gated short convolution in place of attention (LFM2, arXiv 2511.23404), and the convolution that other recurrent
//! mixers begin with.
use super::{Block, linears};
use crate::{Error, Layout, Name, Params, Result, Step};
use pondera_ops::{Act, Activation, Conv, Linear, Ops, StateSpec, by_runs};

/// A causal convolution `{name}.weight` `[channels, kernel]` with `{name}.bias`; declares its state.
pub fn convolution(
    p: &Params<'_>,
    name: Name<'_>,
    channels: usize,
    kernel: usize,
    bias: bool,
    act: Option<Activation>,
) -> Result<Conv> {
    convolution_times(p, name, channels, kernel, (bias, act), |_| 1.0)
}

/// The same with a factor on the inputs of each channel.
pub fn convolution_times(
    p: &Params<'_>,
    name: Name<'_>,
    channels: usize,
    kernel: usize,
    (bias, act): (bool, Option<Activation>),
    factor: impl Fn(usize) -> f32,
) -> Result<Conv> {
    let values = channels.checked_mul(kernel - 1).ok_or_else(|| Error::config(name.0, "its size overflows"))?;
    let (weight, bias_name) = (both(name, ".weight"), both(name, ".bias"));
    let weight = p.table((&weight.0, &weight.1), &[channels, kernel])?;
    // GGUF files say by its presence.
    let bias_name = (bias_name.0.as_str(), bias_name.1.as_str());
    let bias = if p.is_gguf() { p.has(bias_name) } else { bias };
    let times = |w: &[f32]| w.iter().enumerate().map(|(i, w)| w * factor(i / kernel)).collect::<Vec<f32>>();
    Ok(Conv {
        state: p.state(StateSpec { values }),
        weight: p.computed(&weight, |w| by_runs(&times(w), kernel)),
        bias: bias.then(|| p.vector(bias_name, channels)).transpose()?,
        kernel,
        act,
    })
}

fn both(name: Name<'_>, suffix: &str) -> (String, String) {
    (format!("{}{suffix}", name.0), format!("{}{suffix}", name.1))
}

/// A gated short convolution: `B, C, u = in(x);  out(C · conv(B · u))`.
pub struct ShortConv {
    /// `[hidden, hidden]`: the gate before the convolution, the one after it, and what is convolved.
    pub inputs: [Linear; 3],
    /// Between them.
    pub conv: Conv,
    /// `[hidden, hidden]`.
    pub out: Linear,
}

impl ShortConv {
    /// Under LFM2's names; declares its state.
    pub fn load(p: &Params<'_>, hidden: usize, kernel: usize, bias: bool) -> Result<ShortConv> {
        let inputs = p.fused(("in_proj", "shortconv.in_proj"), &[hidden; 3], hidden, Layout::Rows, bias)?;
        Ok(ShortConv {
            inputs: <[Linear; 3]>::try_from(inputs).map_err(|_| Error::config("in_proj", "expected 3 parts"))?,
            conv: convolution(p, ("conv", "shortconv.conv"), hidden, kernel, bias, None)?,
            out: p.linear(("out_proj", "shortconv.out_proj"), hidden, hidden, bias)?,
        })
    }
}

impl Block for ShortConv {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        let [b, c, u] = linears(ops, [&self.inputs[0], &self.inputs[1], &self.inputs[2]], x);
        let y = ops.conv(&self.conv, &ops.mul(u, &b), step.batch);
        ops.linear(&self.out, &ops.mul(y, &c))
    }
}
