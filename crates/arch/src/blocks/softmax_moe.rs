//! Mixtures whose experts are scored by a softmax over all of them, and an expert behind a gate beside them.
use super::{ExpertNames, Moe, SharedExpert, experts};
use crate::{Config, Params, Result};
use pondera_ops::{Route, Score};

/// What is called how, and what becomes of the chosen scores.
#[derive(Clone, Copy)]
pub struct SoftmaxMoe<'a> {
    /// The router.
    pub router: &'a str,
    /// The parts of an expert.
    pub names: ExpertNames<'a>,
    /// The key of an expert's width.
    pub inner: &'a str,
    /// The chosen scores are divided by their sum.
    pub renormalize: bool,
}

/// Experts by softmax, none that all tokens share.
pub fn softmax_moe(c: &Config, p: &Params<'_>, layer: usize, m: SoftmaxMoe<'_>) -> Result<Moe> {
    let (hidden, (count, top_k)) = (c.hidden_size()?, c.experts_needed()?);
    let (inner, act) = (c.size(m.inner)?, c.activation("hidden_act")?);
    let renormalize = m.renormalize.then_some(0.0);
    Ok(Moe {
        layer,
        router: p.linear((m.router, "ffn_gate_inp"), count, hidden, false)?,
        route: Route { top_k, score: Score::Softmax, bias: None, groups: None, renormalize, scale: 1.0 },
        experts: experts(p, m.names, (count, top_k), inner, hidden, act)?,
        shared: None,
    })
}

/// An expert that all tokens share, behind a gate, under Qwen's names.
pub fn gated_shared(c: &Config, p: &Params<'_>) -> Result<SharedExpert> {
    let (hidden, wide) = (c.hidden_size()?, c.size("shared_expert_intermediate_size")?);
    let gate = p.linear(("shared_expert_gate", "ffn_gate_inp_shexp"), 1, hidden, false)?;
    let at = p.at(("shared_expert", ""));
    let mlp = pondera_ops::Mlp {
        gate: Some(at.linear(("gate_proj", "ffn_gate_shexp"), wide, hidden, false)?),
        up: at.linear(("up_proj", "ffn_up_shexp"), wide, hidden, false)?,
        down: at.linear(("down_proj", "ffn_down_shexp"), hidden, wide, false)?,
        act: c.activation("hidden_act")?,
    };
    Ok(SharedExpert { mlp, gate: Some(gate) })
}
