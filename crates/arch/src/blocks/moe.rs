//! Mixtures of experts: a router, its experts in every layout that files have, and an expert that all tokens share.
use super::Block;
use crate::{
    Error, Params, Result, Step,
    params::{Name, plain, wrong_shape},
};
use pondera_ops::{Act, Activation, Experts, Linear, Ops, Point, Route, Shared, W};
use pondera_quant::{Matrix, TensorView};

/// A sparse feed-forward block: `Σ w_e expert_e(x) (+ shared(x))`.
pub struct Moe {
    /// For whoever watches the routing.
    pub layer: usize,
    /// `[experts, hidden]`.
    pub router: Linear,
    /// From its logits to experts.
    pub route: Route,
    /// The experts.
    pub experts: Experts,
    /// The expert that every token has.
    pub shared: Option<SharedExpert>,
}

/// An expert that every token has.
pub struct SharedExpert {
    /// It.
    pub mlp: pondera_ops::Mlp,
    /// `[1, hidden]`: its output times the sigmoid of this.
    pub gate: Option<Linear>,
}

impl Block for Moe {
    fn forward(&self, ops: &dyn Ops, _: &Step<'_>, x: &Act) -> Act {
        let route = ops.route(&self.route, &ops.linear(&self.router, x));
        ops.observe(Point::Experts(self.layer), &route);
        let Some(s) = &self.shared else { return ops.experts(&self.experts, &route, x, None) };
        let gate = s.gate.as_ref().map(|gate| ops.linear(gate, x));
        ops.experts(&self.experts, &route, x, Some(Shared { mlp: &s.mlp, gate: gate.as_ref() }))
    }

    fn mixes(&self) -> bool {
        false
    }
}

/// What the parts of an expert are called.
#[derive(Clone, Copy, Debug)]
pub struct ExpertNames<'a> {
    /// In `experts.N.…`: gate, up, down.
    pub each: [&'a str; 3],
}

impl ExpertNames<'static> {
    /// The names that most families have.
    pub const USUAL: ExpertNames<'static> = ExpertNames { each: ["gate_proj", "up_proj", "down_proj"] };
}

/// Gate and up of all experts in one tensor; the second name is Granite's, as published.
const STACKED: &str = "experts.gate_up_proj|input_linear.weight";

/// Experts `[count; inner, hidden]`, `[count; hidden, inner]` in any layout: one tensor each, gate and up stacked over
/// each other `[count, 2 · inner, hidden]`, or GGUF's stacks. `top_k` of them take part in one token.
pub fn experts(
    p: &Params<'_>,
    names: ExpertNames<'_>,
    (count, top_k): (usize, usize),
    inner: usize,
    hidden: usize,
    act: Activation,
) -> Result<Experts> {
    let share = top_k as f64 / count.max(1) as f64;
    let parts = if p.is_gguf() {
        gguf(p, count, inner, hidden)?
    } else if p.has((STACKED, "")) || p.has(("experts.gate_up_proj_blocks", "")) {
        stacked(p, count, inner, hidden)?
    } else {
        let at = p.at(("experts", ""));
        let part = |i: usize, out, inp| each(&at, names.each[i], count, out, inp);
        [part(0, inner, hidden)?, part(1, inner, hidden)?, part(2, hidden, inner)?]
    };
    let [gate, up, down] = parts.map(|(name, groups)| p.list(name, groups, share));
    Ok(Experts { gate: Some(gate?), up: up?, down: down?, gate_bias: None, up_bias: None, down_bias: None, act })
}

type Part = (String, Vec<Matrix>);

/// `experts.N.{name}`.
pub(super) fn each(p: &Params<'_>, name: &str, count: usize, out: usize, inp: usize) -> Result<Part> {
    let mut groups = Vec::new();
    for e in 0..count {
        groups.push(p.matrix((&format!("{e}.{name}"), ""), out, inp, crate::params::Layout::Rows)?.1);
    }
    let listed = p.names((&format!("*.{name}"), ""), ".weight").into_iter().next().unwrap_or_default();
    Ok((listed, groups))
}

/// `experts.gate_up_proj`, gate rows first, and `experts.down_proj`.
fn stacked(p: &Params<'_>, count: usize, inner: usize, hidden: usize) -> Result<[Part; 3]> {
    let twice = inner.checked_mul(2).ok_or_else(|| Error::config("moe_intermediate_size", "too large"))?;
    let (name, both) = p.stack((STACKED, ""), "", count, twice, hidden)?;
    let half = |first: usize| both.iter().map(|m| m.rows(first, 1, inner)).collect::<Option<Vec<_>>>();
    let rows = || Error::tensor(&name, "its rows do not cover gate and up");
    let (gate, up) = (half(0).ok_or_else(rows)?, half(inner).ok_or_else(rows)?);
    let down = p.stack(("experts.down_proj|output_linear.weight", ""), "", count, hidden, inner)?;
    Ok([(name.clone(), gate), (name, up), down])
}

/// `ffn_*_exps`, or in old files `ffn_*.N`.
fn gguf(p: &Params<'_>, count: usize, inner: usize, hidden: usize) -> Result<[Part; 3]> {
    let part = |name: &str, out: usize, inp: usize| -> Result<Part> {
        if p.has(("", &format!("{name}.0.weight"))) {
            let one =
                |e: usize| p.matrix(("", &format!("{name}.{e}")), out, inp, crate::params::Layout::Rows).map(|m| m.1);
            let groups = (0..count).map(one).collect::<Result<Vec<_>>>()?;
            return Ok((p.names(("", &format!("{name}.*")), ".weight").into_iter().next().unwrap_or_default(), groups));
        }
        p.stack(("", &format!("{name}_exps")), ".weight", count, out, inp)
    };
    Ok([part("ffn_gate", inner, hidden)?, part("ffn_up", inner, hidden)?, part("ffn_down", hidden, inner)?])
}

impl Params<'_> {
    /// A stack `[count, out, inp]` of this full name as matrices.
    pub(crate) fn stack(&self, name: Name<'_>, suffix: &str, count: usize, out: usize, inp: usize) -> Result<Part> {
        if let Some(found) = self.packed_stack(name, count, out, inp)? {
            return Ok(found);
        }
        let (stored, view) = self.stack_view(name, suffix, &[count, out, inp])?;
        let Some(view) = view else {
            let one = |_| self.invented(&stored, out, inp).map(|m| m.ok_or_else(|| Error::tensor(&stored, "missing")));
            return Ok((stored.clone(), (0..count).map(one).collect::<Result<Result<Vec<_>>>>()??));
        };
        let size = view.bytes.len() / count.max(1);
        let slice = |e: usize| {
            let bytes = view
                .bytes
                .slice(e * size..(e + 1) * size)
                .ok_or_else(|| Error::tensor(&stored, "its bytes do not fit its shape"))?;
            plain(&stored, &TensorView { format: view.format, shape: vec![out, inp], bytes }, [out, inp], false)
        };
        Ok((stored.clone(), (0..count).map(slice).collect::<Result<Vec<_>>>()?))
    }

    /// `{name}.weight` `[groups, out, inp]` as one weight.
    pub(crate) fn stacked(&self, name: Name<'_>, groups: usize, out: usize, inp: usize) -> Result<W> {
        let (name, parts) = self.stack(name, ".weight", groups, out, inp)?;
        self.list(name, parts, 1.0)
    }

    /// The stored stack of exactly this shape; none where there are no files.
    pub(crate) fn stack_view(
        &self,
        name: Name<'_>,
        suffix: &str,
        shape: &[usize],
    ) -> Result<(String, Option<TensorView>)> {
        let first = self.names(name, suffix).into_iter().next().unwrap_or_default();
        if self.without_files() {
            return Ok((first, None));
        }
        let (stored, view) = self.find(&self.names(name, suffix))?;
        if view.shape != shape {
            return Err(wrong_shape(&stored, shape, &view.shape));
        }
        crate::params::numeric(&stored, &view)?;
        Ok((stored, Some(view)))
    }

    /// A bias per expert `[count, n]` of this full name.
    pub(crate) fn expert_bias(&self, name: Name<'_>, count: usize, n: usize, share: f64) -> Result<W> {
        let (stored, view) = self.stack_view(name, "", &[count, n])?;
        let m = match view {
            Some(view) => plain(&stored, &view, [count, n], false)?,
            None => self.zeros(count, n),
        };
        self.list(stored, vec![m], share)
    }
}
