//! Mixtures of experts: a router, its experts in every layout that files have, and an expert that all tokens share.
use super::{Block, Mlp, gated};
use crate::{
    Config, Error, Params, Result, Step,
    params::{
        Layout::{self, Rows, Transposed},
        Name, plain, wrong_shape,
    },
};
use pondera_ops::{Act, Activation, Experts, GroupScore, Linear, Ops, Point, Route, Score, Shared, W};
use pondera_quant::{Matrix, TensorView};
use serde_json::Value;

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

/// The numbers of a mixture of experts, and what its parts are called.
#[derive(Clone, Debug)]
pub struct MoeConfig<'a> {
    /// The router.
    pub router: &'a str,
    /// The parts of an expert.
    pub names: ExpertNames<'a>,
    /// Experts.
    pub count: usize,
    /// Columns between an expert's matrices.
    pub inner: usize,
    /// Of the experts.
    pub act: Activation,
    /// How stacked experts lie in a repository's file.
    pub layout: Layout,
    /// From router logits to experts.
    pub route: Route,
}

impl MoeConfig<'static> {
    /// Under the names that most families have, `inner` being the key of an expert's width; scores by softmax over all
    /// experts, renormalised where `norm_topk_prob` says so.
    pub fn read(c: &Config, inner: &str) -> Result<MoeConfig<'static>> {
        let (count, top_k) = c.experts_needed()?;
        let renormalize = c.flag("norm_topk_prob")?.then_some(0.0);
        Ok(MoeConfig {
            router: "gate",
            names: ExpertNames::USUAL,
            count,
            inner: c.size(inner)?,
            act: c.activation("hidden_act")?,
            layout: Rows,
            route: Route { top_k, score: Score::Softmax, bias: None, groups: None, renormalize, scale: 1.0 },
        })
    }
}

impl Moe {
    /// A router without a bias and its experts; none that all tokens share.
    pub fn load(p: &Params<'_>, m: &MoeConfig<'_>, layer: usize, hidden: usize) -> Result<Moe> {
        Ok(Moe {
            layer,
            router: p.linear((m.router, "ffn_gate_inp"), m.count, hidden, false)?,
            route: m.route.clone(),
            experts: experts_in(p, m.names, (m.count, m.route.top_k), m.inner, hidden, m.act, m.layout)?,
            shared: None,
        })
    }
}

/// Experts whose weights act on what goes in, not on what comes out (Llama 4): `Σ expert_e(w_e x) (+ shared(x))`.
pub struct InputScaled {
    moe: Moe,
    /// Gives one expert of weight 1.
    single: Route,
}

impl InputScaled {
    /// The same experts, weighted before.
    pub fn new(moe: Moe) -> InputScaled {
        // The weight over itself; without a weight at all, nothing.
        let single = Route { top_k: 1, renormalize: Some(1e-30), scale: 1.0, ..moe.route.clone() };
        InputScaled { moe, single }
    }
}

impl Block for InputScaled {
    fn forward(&self, ops: &dyn Ops, _: &Step<'_>, x: &Act) -> Act {
        let (moe, k) = (&self.moe, self.moe.route.top_k);
        let logits = ops.linear(&moe.router, x);
        let route = ops.route(&moe.route, &logits);
        ops.observe(Point::Experts(moe.layer), &route);
        let one = ops.columns(&ops.route(&self.single, &logits), 2, 1, 2);
        let mut sum = moe.shared.as_ref().map(|s| ops.mlp(&s.mlp, x));
        for i in 0..k {
            let weight = ops.columns(&route, 2 * k, k + i, k + i + 1);
            let chosen = ops.concat_heads(&ops.columns(&route, 2 * k, i, i + 1), &one, 1);
            let y = ops.experts(&moe.experts, &chosen, &ops.mul(x.clone(), &weight), None);
            sum = Some(match sum {
                Some(sum) => ops.add(sum, &y),
                None => y,
            });
        }
        sum.expect("a token has an expert")
    }

    fn mixes(&self) -> bool {
        false
    }
}

impl SharedExpert {
    /// Gated, called `name` in repositories, `wide` columns between its matrices; always in.
    pub fn load(
        p: &Params<'_>,
        name: &str,
        (hidden, wide): (usize, usize),
        bias: bool,
        act: Activation,
    ) -> Result<SharedExpert> {
        let at = p.at((name, ""));
        let mlp = pondera_ops::Mlp {
            gate: Some(at.linear(("gate_proj", "ffn_gate_shexp"), wide, hidden, bias)?),
            up: at.linear(("up_proj", "ffn_up_shexp"), wide, hidden, bias)?,
            down: at.linear(("down_proj", "ffn_down_shexp"), hidden, wide, bias)?,
            act,
        };
        Ok(SharedExpert { mlp, gate: None })
    }

    /// `n_shared_experts` experts that all tokens share, stored as one wide block; none where there are 0.
    pub fn counted(c: &Config, p: &Params<'_>, bias: bool) -> Result<Option<SharedExpert>> {
        let n = c.count("n_shared_experts")?;
        if n == 0 {
            return Ok(None);
        }
        let wide = c.size("moe_intermediate_size")?.checked_mul(n);
        let wide = wide.ok_or_else(|| c.bad("n_shared_experts", "too large"))?;
        let act = c.activation("hidden_act")?;
        SharedExpert::load(p, "shared_experts|shared_mlp", (c.hidden_size()?, wide), bias, act).map(Some)
    }
}

/// Whether a layer has experts. `mlp_layer_types` says so where it is there; otherwise layers below
/// `first_k_dense_replace` are dense, and of the others those that `moe_layer_freq` leaves out, or all where it is a
/// list with 0 for them.
pub fn is_sparse(c: &Config, layer: usize) -> Result<bool> {
    if let Some(types) = c.words_of_layers("mlp_layer_types", &["dense", "sparse"])? {
        return Ok(types[layer] == "sparse");
    }
    if c.get("moe_layer_freq").is_some_and(Value::is_array) {
        return Ok(c.sizes("moe_layer_freq")?.get(layer).is_some_and(|n| *n > 0));
    }
    let every = c.size_opt("moe_layer_freq")?.unwrap_or(1);
    Ok(layer >= c.count("first_k_dense_replace")? && layer.is_multiple_of(every))
}

/// DeepSeek-V3's routing (arXiv 2412.19437), which many families took over, but for the bias, which is each layer's own:
/// sigmoid scores, from the groups whose two best experts are best.
pub fn deepseek_route(c: &Config) -> Result<Route> {
    let (count, top_k) = c.experts_needed()?;
    let n_group = c.size_opt("n_group")?.unwrap_or(1);
    let groups = match n_group {
        1 => None,
        n => Some((n, c.size("topk_group")?, GroupScore::TopTwo)),
    };
    c.check_groups(count, top_k, groups)?;
    let renormalize = c.flag("norm_topk_prob")?.then_some(1e-20);
    let scale = c.positive_opt("routed_scaling_factor")?.unwrap_or(1.0);
    Ok(Route { top_k, score: Score::Sigmoid, bias: None, groups, renormalize, scale })
}

/// The feed-forward part of DeepSeek-V3: dense in the first layers ([`is_sparse`]), then experts, and those that all
/// tokens share.
pub fn deepseek_ffn(c: &Config, p: &Params<'_>, layer: usize) -> Result<Box<dyn Block>> {
    // dots.llm1 gives the scores the name of the method.
    c.only("scoring_func", &["sigmoid", "noaux_tc"])?;
    c.only("topk_method", &["noaux_tc"])?;
    let route = deepseek_route(c)?;
    let bias = match is_sparse(c, layer)? {
        true => Some(p.vector((CORRECTION, "exp_probs_b.bias"), c.experts_needed()?.0)?),
        false => None,
    };
    routed_ffn(c, p, layer, Route { bias, ..route })
}

/// The bias on the choice, as saved and as published (MiniMax and EXAONE, Hunyuan 3).
const CORRECTION: &str = "gate.e_score_correction_bias|e_score_correction_bias|expert_bias";

/// The same with this routing.
pub fn routed_ffn(c: &Config, p: &Params<'_>, layer: usize, route: Route) -> Result<Box<dyn Block>> {
    let (hidden, bias) = (c.hidden_size()?, c.flag("mlp_bias")?);
    if !is_sparse(c, layer)? {
        let act = c.activation("hidden_act")?;
        return Ok(Box::new(Mlp(gated(p, hidden, c.size("intermediate_size")?, bias, act)?)));
    }
    let moe = MoeConfig { router: "gate|router.gate", route, ..MoeConfig::read(c, "moe_intermediate_size")? };
    let shared = SharedExpert::counted(c, p, bias)?;
    Ok(Box::new(Moe { shared, ..Moe::load(p, &moe, layer, hidden)? }))
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
    /// Mixtral's.
    pub const NUMBERED: ExpertNames<'static> = ExpertNames { each: ["w1|gate_proj", "w3|up_proj", "w2|down_proj"] };
}

/// Gate and up of all experts in one tensor; the second name is Granite's, as published.
const STACKED: Name<'static> = ("experts.gate_up_proj|input_linear.weight", "");
/// Down of all experts.
const STACKED_DOWN: Name<'static> = ("experts.down_proj|output_linear.weight", "");

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
    experts_in(p, names, (count, top_k), inner, hidden, act, Rows)
}

/// The same with stacks of another layout than rows.
fn experts_in(
    p: &Params<'_>,
    names: ExpertNames<'_>,
    (count, top_k): (usize, usize),
    inner: usize,
    hidden: usize,
    act: Activation,
    layout: Layout,
) -> Result<Experts> {
    let share = top_k as f64 / count.max(1) as f64;
    let parts = if p.is_gguf() {
        gguf(p, count, inner, hidden)?
    } else if p.has(STACKED) || p.has(("experts.gate_up_proj_blocks", "")) {
        stacked(p, count, inner, hidden, layout)?
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
        groups.push(p.matrix((&format!("{e}.{name}"), ""), out, inp, Rows)?.1);
    }
    let listed = p.names((&format!("*.{name}"), ""), ".weight").into_iter().next().unwrap_or_default();
    Ok((listed, groups))
}

/// `experts.gate_up_proj`, gate rows first, and `experts.down_proj`.
fn stacked(p: &Params<'_>, count: usize, inner: usize, hidden: usize, layout: Layout) -> Result<[Part; 3]> {
    let twice = inner.checked_mul(2).ok_or_else(|| Error::config("moe_intermediate_size", "too large"))?;
    let (name, both) = p.stack_in(STACKED, count, twice, hidden, layout)?;
    let half = |first: usize| both.iter().map(|m| m.rows(first, 1, inner)).collect::<Option<Vec<_>>>();
    let rows = || Error::tensor(&name, "its rows do not cover gate and up");
    let (gate, up) = (half(0).ok_or_else(rows)?, half(inner).ok_or_else(rows)?);
    let down = p.stack_in(STACKED_DOWN, count, hidden, inner, layout)?;
    Ok([(name.clone(), gate), (name, up), down])
}

/// `ffn_*_exps`, or in old files `ffn_*.N`.
fn gguf(p: &Params<'_>, count: usize, inner: usize, hidden: usize) -> Result<[Part; 3]> {
    let part = |name: &str, out: usize, inp: usize| -> Result<Part> {
        if p.has(("", &format!("{name}.0.weight"))) {
            let one = |e: usize| p.matrix(("", &format!("{name}.{e}")), out, inp, Rows).map(|m| m.1);
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
        let (stored, parts) = self.stored_stack(name, suffix, count, out, inp)?;
        let probed = parts.into_iter().enumerate().map(|(e, m)| self.probed(name, Some(e), m));
        Ok((stored, probed.collect()))
    }

    fn stored_stack(&self, name: Name<'_>, suffix: &str, count: usize, out: usize, inp: usize) -> Result<Part> {
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

    /// A stack of this full name as matrices `[out, inp]`, stored as they are or each transposed.
    pub(crate) fn stack_in(
        &self,
        name: Name<'_>,
        count: usize,
        out: usize,
        inp: usize,
        layout: Layout,
    ) -> Result<Part> {
        let packed = self.packed_stack(name, count, out, inp)?;
        if layout != Transposed || packed.is_some() || self.without_files() {
            return self.stack(name, "", count, out, inp);
        }
        let (stored, view) = self.stack_view(name, "", &[count, inp, out])?;
        let Some(view) = view else { return Err(Error::tensor(&stored, "missing")) };
        let size = view.bytes.len() / count.max(1);
        let one = |e: usize| {
            let bytes = view.bytes.slice(e * size..(e + 1) * size)?;
            Matrix::transposed(&TensorView { format: view.format, shape: vec![inp, out], bytes })
        };
        let all: Option<Vec<Matrix>> = (0..count).map(|e| one(e).map(|m| self.probed(name, Some(e), m))).collect();
        Ok((stored.clone(), all.ok_or_else(|| Error::tensor(&stored, "its bytes do not fit its shape"))?))
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
