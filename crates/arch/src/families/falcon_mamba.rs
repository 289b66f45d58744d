//! Falcon Mamba: Mamba with norms, without weights, of step sizes, B and C (arXiv 2410.05355).
use super::{
    Family,
    mamba::{DEFAULTS, load, normalises},
};
use pondera_ops::Norm;

pub(super) const FAMILY: Family = Family {
    model_type: "falcon_mamba",
    title: "Falcon Mamba",
    gguf: Some(("mamba", normalises)),
    base: "backbone",
    defaults: DEFAULTS,
    load: |c, p| {
        let norm = Norm::Rms { weight: None, eps: c.eps("mixer_rms_eps")?, one_plus: false };
        load(c, p, Some([norm.clone(), norm.clone(), norm]))
    },
    ..Family::BASE
};
