//! A mixture of experts that work in a narrower space, or at full width, without gates (Nemotron 3).
use super::{Block, moe::each};
use crate::{Params, Result, Step};
use pondera_ops::{Act, Activation, Experts, Linear, Ops, Point, Route};

/// `up(Σ w_e expert_e(down x)) + shared(x)`; the router sees `x` itself.
pub struct LatentMoe {
    /// For whoever watches the routing.
    pub layer: usize,
    /// `[experts, hidden]`.
    pub router: Linear,
    /// From its logits to experts.
    pub route: Route,
    /// The experts.
    pub experts: Experts,
    /// To the experts' width and back.
    pub latent: Option<[Linear; 2]>,
    /// The expert that every token has.
    pub shared: pondera_ops::Mlp,
}

impl Block for LatentMoe {
    fn forward(&self, ops: &dyn Ops, _: &Step<'_>, x: &Act) -> Act {
        let route = ops.route(&self.route, &ops.linear(&self.router, x));
        ops.observe(Point::Experts(self.layer), &route);
        let y = match &self.latent {
            Some([down, up]) => ops.linear(up, &ops.experts(&self.experts, &route, &ops.linear(down, x), None)),
            None => ops.experts(&self.experts, &route, x, None),
        };
        ops.add(y, &ops.mlp(&self.shared, x))
    }

    fn mixes(&self) -> bool {
        false
    }
}

/// Experts without gates, `[count; inner, width]` and `[count; width, inner]`: one tensor each, or stacks.
pub fn plain_experts(
    p: &Params<'_>,
    (count, top_k): (usize, usize),
    inner: usize,
    width: usize,
    act: Activation,
) -> Result<Experts> {
    let share = top_k as f64 / count.max(1) as f64;
    let part = |name: &str, out: usize, inp: usize| {
        let stack = format!("experts.{name}");
        let found = if p.is_gguf() {
            p.stack(("", if name == "up_proj" { "ffn_up_exps" } else { "ffn_down_exps" }), ".weight", count, out, inp)
        } else if p.has((&stack, "")) {
            p.stack((&stack, ""), "", count, out, inp)
        } else {
            each(&p.at(("experts", "")), name, count, out, inp)
        };
        let (name, groups) = found?;
        p.list(name, groups, share)
    };
    let (up, down) = (part("up_proj", inner, width)?, part("down_proj", width, inner)?);
    Ok(Experts { gate: None, up, down, gate_bias: None, up_bias: None, down_bias: None, act })
}
