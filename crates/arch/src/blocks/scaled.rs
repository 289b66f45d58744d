//! Constant factors inside a layer, as models that were tuned at a smaller width have them (Falcon-H1).
use super::{Block, linears};
use crate::Step;
use pondera_ops::{Act, Ops};

/// `output · body(input · x)`.
pub struct Multiplied<B> {
    /// Factor on what the body reads.
    pub input: f32,
    /// It.
    pub body: B,
    /// Factor on what it gives.
    pub output: f32,
}

fn times(ops: &dyn Ops, x: Act, factor: f32) -> Act {
    if factor == 1.0 { x } else { ops.scale(x, factor) }
}

impl<B: Block> Block for Multiplied<B> {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        let y = self.body.forward(ops, step, &times(ops, x.clone(), self.input));
        times(ops, y, self.output)
    }

    fn mixes(&self) -> bool {
        self.body.mixes()
    }

    fn forward_wanted(&self, ops: &dyn Ops, step: &Step<'_>, wanted: &Step<'_>, x: &Act) -> Act {
        let y = self.body.forward_wanted(ops, step, wanted, &times(ops, x.clone(), self.input));
        times(ops, y, self.output)
    }
}

/// `output · down(act(factor · gate x) · up x)`.
pub struct ScaledMlp {
    /// The linears, with a gate, and the nonlinearity.
    pub mlp: pondera_ops::Mlp,
    /// Factor on the gate.
    pub gate: f32,
    /// Factor on what it gives.
    pub output: f32,
}

impl Block for ScaledMlp {
    fn forward(&self, ops: &dyn Ops, _: &Step<'_>, x: &Act) -> Act {
        let m = &self.mlp;
        let y = match &m.gate {
            Some(gate) if self.gate != 1.0 => {
                let [g, u] = linears(ops, [gate, &m.up], x);
                ops.linear(&m.down, &ops.glu(m.act, ops.scale(g, self.gate), &u))
            }
            _ => ops.mlp(m, x),
        };
        times(ops, y, self.output)
    }

    fn mixes(&self) -> bool {
        false
    }
}
