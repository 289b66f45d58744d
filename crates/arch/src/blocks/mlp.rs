//! Dense feed-forward blocks.
use super::Block;
use crate::{Params, Result, Step};
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
