//! Lightning attention (arXiv 2501.08313): attention without a softmax, whose past fades by a fixed factor per head.
use super::{Block, linears, mamba::STATE_MAX};
use crate::{Error, Params, Result, Step};
use pondera_ops::{Act, Linear, Norm, Ops, Scan, ScanKind, StateSpec, Weight};

/// The stream as it is: the body of a branch that only normalises.
pub struct Same;

impl Block for Same {
    fn forward(&self, _: &dyn Ops, _: &Step<'_>, x: &Act) -> Act {
        x.clone()
    }

    fn mixes(&self) -> bool {
        false
    }
}

/// Lightning attention.
///
/// ```text
/// q, k, v = silu(qkv x);  y = norm(scan(q, k, v)) · sigmoid(gate x);  out(y)
/// ```
pub struct Lightning {
    /// `[heads · 3 · dim, hidden]`: each head's query, key and value.
    pub qkv: Linear,
    /// Width of a head.
    pub head_dim: usize,
    /// The recurrence.
    pub scan: Scan,
    /// Of the whole row.
    pub norm: Norm,
    /// `[heads · dim, hidden]`.
    pub gate: Linear,
    /// `[hidden, heads · dim]`.
    pub out: Linear,
}

/// The epsilon of its norm, whatever the configuration says of others.
const NORM_EPS: f32 = 1e-6;

impl Lightning {
    /// Layer `layer` of `layers`: later ones forget more slowly. Declares its state.
    pub fn load(
        p: &Params<'_>,
        hidden: usize,
        (heads, head_dim): (usize, usize),
        (layer, layers): (usize, usize),
    ) -> Result<Lightning> {
        let values = [head_dim, head_dim].into_iter().try_fold(heads, |n, d| n.checked_mul(d));
        let values = values.filter(|n| *n <= STATE_MAX);
        let values = values.ok_or_else(|| Error::config("head_dim", "the state of a layer is too large"))?;
        let width = heads * head_dim;
        let share = 1.0 - layer as f64 / (layers as f64 - 1.0 + 1e-5) + 1e-5;
        let rate = |head: usize| (-8.0 / heads as f64 * (head + 1) as f64).exp2() * share;
        let decay: Vec<f32> = (0..heads).map(|h| (-rate(h)).exp() as f32).collect();
        let scan = Scan {
            state: p.state(StateSpec { values }),
            kind: ScanKind::Linear { decay: Weight::from_f32("decay", 1, heads, &decay) },
        };
        Ok(Lightning {
            qkv: p.linear(("qkv_proj", ""), 3 * width, hidden, false)?,
            head_dim,
            scan,
            norm: p.rms(("norm", ""), width, NORM_EPS, false)?,
            gate: p.linear(("output_gate", ""), width, hidden, false)?,
            out: p.linear(("out_proj", ""), hidden, width, false)?,
        })
    }
}

impl Block for Lightning {
    fn forward(&self, ops: &dyn Ops, step: &Step<'_>, x: &Act) -> Act {
        let [qkv, gate] = linears(ops, [&self.qkv, &self.gate], x);
        // silu
        let qkv = ops.sigmoid_mul(qkv.clone(), &qkv);
        let d = self.head_dim;
        let part = |i: usize| ops.columns(&qkv, 3 * d, i * d, (i + 1) * d);
        let y = ops.scan(&self.scan, &[&part(0), &part(1), &part(2)], step.batch);
        let y = ops.norm(&self.norm, &y, y.cols);
        ops.linear(&self.out, &ops.sigmoid_mul(y, &gate))
    }
}
