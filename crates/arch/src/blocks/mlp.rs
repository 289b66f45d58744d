//! Dense feed-forward blocks.
use super::Block;
use crate::{Error, Layout, Params, Result, Step};
use pondera_ops::{Act, Activation, Ops};

/// A feed-forward block: `down(act(gate x) · up x)`, or `down(act(up x))` without a gate.
pub struct Mlp(pub pondera_ops::Mlp);

/// Gated, under the names that most families have.
pub fn gated(p: &Params<'_>, hidden: usize, inner: usize, bias: bool, act: Activation) -> Result<pondera_ops::Mlp> {
    Ok(pondera_ops::Mlp {
        gate: Some(p.linear(("gate_proj", "ffn_gate"), inner, hidden, bias)?),
        up: p.linear(("up_proj", "ffn_up"), inner, hidden, bias)?,
        down: p.linear(("down_proj", "ffn_down"), hidden, inner, bias)?,
        act,
    })
}

/// A whole part of a layer: [`gated`].
pub fn gated_mlp(p: &Params<'_>, hidden: usize, inner: usize, bias: bool, act: Activation) -> Result<Box<dyn Block>> {
    Ok(Box::new(Mlp(gated(p, hidden, inner, bias, act)?)))
}

/// Gated, both matrices in one, the gate's rows first: `gate_up_proj` and `down_proj`.
pub fn fused_mlp(p: &Params<'_>, hidden: usize, inner: usize, act: Activation) -> Result<Box<dyn Block>> {
    let both = p.fused(("gate_up_proj", "ffn_up"), &[inner; 2], hidden, Layout::Rows, false)?;
    let [gate, up] = <[_; 2]>::try_from(both).map_err(|_| Error::tensor("gate_up_proj", "expected two parts"))?;
    let down = p.linear(("down_proj", "ffn_down"), hidden, inner, false)?;
    Ok(Box::new(Mlp(pondera_ops::Mlp { gate: Some(gate), up, down, act })))
}

/// Without a gate, under these names.
pub fn plain_mlp(
    p: &Params<'_>,
    (up, down): (&str, &str),
    (hidden, inner): (usize, usize),
    bias: bool,
    act: Activation,
) -> Result<Box<dyn Block>> {
    let up = p.linear((up, "ffn_up"), inner, hidden, bias)?;
    Ok(Box::new(Mlp(plain(up, p.linear((down, "ffn_down"), hidden, inner, bias)?, act))))
}

/// Without a gate, from its two linears.
pub fn plain(up: pondera_ops::Linear, down: pondera_ops::Linear, act: Activation) -> pondera_ops::Mlp {
    pondera_ops::Mlp { gate: None, up, down, act }
}

impl Block for Mlp {
    fn forward(&self, ops: &dyn Ops, _: &Step<'_>, x: &Act) -> Act {
        ops.mlp(&self.0, x)
    }

    fn mixes(&self) -> bool {
        false
    }
}
