//! The table of families. A family is one file here, one line in [`FAMILIES`] and one golden.
use crate::{Config, Error, Graph, Model, Params, Result, SHAPES, Source};
use pondera_ops::{Batch, Count, KvType, Mechanism, Ops};
use serde_json::{Map, Value};

mod apertus;
mod arcee;
mod bamba;
mod beam;
mod bert;
mod bloom;
mod cohere;
mod cohere2;
mod cohere2_moe;
mod deepseek_v2;
mod deepseek_v3;
mod deepseek_v32;
mod dots1;
mod ernie4_5;
mod ernie4_5_moe;
mod exaone4;
mod exaone_moe;
mod falcon;
mod falcon_h1;
mod falcon_mamba;
mod flex_olmo;
mod gemma;
mod gemma2;
mod gemma3_text;
mod glm;
mod glm4;
mod glm4_moe;
mod gpt2;
mod gpt_bigcode;
mod gpt_neox;
mod gpt_oss;
mod gptj;
mod granite;
mod granitemoe;
mod granitemoe_swa;
mod granitemoehybrid;
mod granitemoeshared;
mod hunyuan_v1_dense;
mod hunyuan_v1_moe;
mod hy_v3;
mod jamba;
mod lfm2;
mod lfm2_moe;
mod llama;
mod llama4_text;
mod mamba;
mod mamba2;
mod mimo_v2_flash;
mod minicpm3;
mod minimax;
mod minimax_m2;
mod ministral3;
mod mistral;
mod mistral4;
mod mixtral;
mod modernbert;
mod mpt;
mod nemotron;
mod nemotron_h;
mod nomic_bert;
mod olmo;
mod olmo2;
mod olmo3;
mod olmoe;
mod opt;
mod phi;
mod phi3;
mod phimoe;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_5;
mod qwen3_5_moe;
mod qwen3_moe;
mod qwen3_next;
mod roberta;
mod seed_oss;
mod smollm3;
mod solar_open;
mod stablelm;
mod starcoder2;

/// Whether a GGUF file with these keys is of a family, where several share an architecture name.
pub type GgufTest = fn(&Map<String, Value>) -> bool;

/// One row of [`FAMILIES`].
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Architecture in GGUF files, where converters have one (`|` separates several), and which of its files are this
    /// family's.
    pub gguf: Option<(&'static str, GgufTest)>,
    /// Prefix of the body's tensors in repositories; behind `|` another that it may have.
    pub base: &'static str,
    /// Keys that the reference's configuration class fills in, as JSON.
    pub defaults: &'static str,
    /// Changes keys of a `config.json`, before defaults fill in what is absent: older ways to say the same.
    pub json_keys: Option<fn(&mut Map<String, Value>)>,
    /// Changes keys read from GGUF where a converter means something else by them.
    pub gguf_keys: Option<fn(&mut Map<String, Value>)>,
    /// Mechanisms that `load` implements and that GGUF files of other architectures are refused for: keys of
    /// `config/gguf.rs`'s table `FOREIGN`.
    pub gguf_reads: &'static [&'static str],
    /// Names and checks the tensors, declares ropes and caches.
    pub load: fn(&Config, &Params<'_>) -> Result<Box<dyn Graph>>,
}

/// All families, by model type.
pub static FAMILIES: &[Family] = &[
    apertus::FAMILY,
    arcee::FAMILY,
    bamba::FAMILY,
    beam::FAMILY,
    bert::FAMILY,
    bloom::FAMILY,
    cohere::FAMILY,
    cohere2::FAMILY,
    cohere2_moe::FAMILY,
    deepseek_v2::FAMILY,
    deepseek_v3::FAMILY,
    deepseek_v32::FAMILY,
    dots1::FAMILY,
    ernie4_5::FAMILY,
    ernie4_5_moe::FAMILY,
    exaone4::FAMILY,
    exaone_moe::FAMILY,
    falcon::FAMILY,
    falcon_h1::FAMILY,
    falcon_mamba::FAMILY,
    flex_olmo::FAMILY,
    gemma::FAMILY,
    gemma2::FAMILY,
    gemma3_text::FAMILY,
    glm::FAMILY,
    glm4::FAMILY,
    glm4_moe::FAMILY,
    gpt2::FAMILY,
    gpt_bigcode::FAMILY,
    gpt_neox::FAMILY,
    gpt_oss::FAMILY,
    gptj::FAMILY,
    granite::FAMILY,
    granitemoe::FAMILY,
    granitemoe_swa::FAMILY,
    granitemoehybrid::FAMILY,
    granitemoeshared::FAMILY,
    hunyuan_v1_dense::FAMILY,
    hunyuan_v1_moe::FAMILY,
    hy_v3::FAMILY,
    jamba::FAMILY,
    lfm2::FAMILY,
    lfm2_moe::FAMILY,
    llama::FAMILY,
    llama4_text::FAMILY,
    mamba::FAMILY,
    mamba2::FAMILY,
    mimo_v2_flash::FAMILY,
    minicpm3::FAMILY,
    minimax::FAMILY,
    minimax_m2::FAMILY,
    ministral3::FAMILY,
    mistral::FAMILY,
    mistral4::FAMILY,
    mixtral::FAMILY,
    modernbert::FAMILY,
    mpt::FAMILY,
    nemotron::FAMILY,
    nemotron_h::FAMILY,
    nomic_bert::FAMILY,
    olmo::FAMILY,
    olmo2::FAMILY,
    olmo3::FAMILY,
    olmoe::FAMILY,
    opt::FAMILY,
    phi::FAMILY,
    phi3::FAMILY,
    phimoe::FAMILY,
    qwen2::FAMILY,
    qwen2_moe::FAMILY,
    qwen3::FAMILY,
    qwen3_5::FAMILY,
    qwen3_5_moe::FAMILY,
    qwen3_moe::FAMILY,
    qwen3_next::FAMILY,
    roberta::FAMILY,
    seed_oss::FAMILY,
    smollm3::FAMILY,
    solar_open::FAMILY,
    stablelm::FAMILY,
    starcoder2::FAMILY,
    roberta::XLM,
];

/// Families of which a GGUF file is among the goldens; from `config.json` and safetensors every family has one.
pub const GGUF_VERIFIED: &[&str] = &[
    "deepseek_v2",
    "deepseek_v3",
    "dots1",
    "ernie4_5_moe",
    "falcon_h1",
    "falcon_mamba",
    "gemma",
    "gemma2",
    "glm4_moe",
    "gpt2",
    "gpt_oss",
    "granitemoe",
    "granitemoehybrid",
    "granitemoeshared",
    "hunyuan_v1_moe",
    "jamba",
    "lfm2",
    "lfm2_moe",
    "llama",
    "llama4_text",
    "mamba",
    "mamba2",
    "minimax_m2",
    "mixtral",
    "nemotron_h",
    "olmoe",
    "qwen2_moe",
    "qwen3",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_next",
];

impl Family {
    /// What most rows share; `model_type`, `title`, `defaults` and `load` are every family's own.
    const BASE: Family = Family {
        model_type: "",
        title: "",
        gguf: None,
        base: "model",
        defaults: "{}",
        json_keys: None,
        gguf_keys: None,
        gguf_reads: &[],
        load: |c, _| Err(c.bad("model_type", "its family has no equations")),
    };

    /// The mechanisms of a configuration: what its equations ask a backend for, token by token and in a prompt.
    pub fn mechanisms(config: &Config) -> Result<Vec<Mechanism>> {
        let model = Model::load(config, &Source::Describe)?;
        let count = Count::new();
        count.reserve(model.caches(), KvType::F16, 1);
        count.reserve_states(model.states(), 1);
        drop(model.forward(&count, &Batch::single(&[0], 0)));
        Ok(count.mechanisms())
    }

    /// The formats in which the family was held against the reference implementation.
    pub fn verified(&self) -> Vec<&'static str> {
        let gguf = GGUF_VERIFIED.contains(&self.model_type).then_some("GGUF");
        std::iter::once("config.json").chain(gguf).collect()
    }

    /// A configuration of the family: the reference's defaults, or where those are no whole model one of [`SHAPES`].
    pub fn example(&'static self) -> Result<Config> {
        let whole = |c: &Config| Model::load(c, &Source::Describe).is_ok();
        let default = Config::from_keys(self, Map::new()).and_then(|c| {
            let n = c.num_hidden_layers()?.min(8);
            c.with_layers(n)
        });
        match default {
            Ok(c) if whole(&c) => Ok(c),
            failed => {
                let shape = SHAPES
                    .iter()
                    .filter_map(|s| s.config(None).ok())
                    .find(|c| c.family().model_type == self.model_type);
                shape.map_or(failed, Ok)
            }
        }
    }

    /// The family's default keys.
    pub fn defaults(&self) -> Result<Map<String, Value>> {
        serde_json::from_str(self.defaults)
            .map_err(|e| Error::config(self.model_type, format!("its table of defaults is broken: {e}")))
    }
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.model_type)
    }
}

/// The family of this model type. The language model of a wrapper whose family it is may be called `…_text`.
pub fn find(model_type: &str) -> Option<&'static Family> {
    let exact = |name: &str| FAMILIES.iter().find(|f| f.model_type == name);
    exact(model_type).or_else(|| model_type.strip_suffix("_text").and_then(exact))
}

/// Whether some family is stored under this GGUF architecture.
pub(crate) fn knows_gguf(arch: &str) -> bool {
    FAMILIES.iter().any(|f| f.gguf.is_some_and(|(a, _)| a.split('|').any(|a| a == arch)))
}

/// The family of a GGUF architecture with these keys.
pub(crate) fn find_gguf(arch: &str, keys: &Map<String, Value>) -> Option<&'static Family> {
    let is = |f: &&Family| f.gguf.is_some_and(|(a, when)| a.split('|').any(|a| a == arch) && when(keys));
    FAMILIES.iter().find(is)
}

/// The known model type that is spelled most like this one.
pub fn nearest(model_type: &str) -> Option<&'static str> {
    FAMILIES.iter().map(|f| (edit_distance(model_type, f.model_type), f.model_type)).min().map(|best| best.1)
}

/// Levenshtein's distance; long names are cut, so that a hostile one costs nothing.
fn edit_distance(a: &str, b: &str) -> usize {
    const LENGTH_MAX: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(LENGTH_MAX).collect(), b.chars().take(LENGTH_MAX).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Whether GGUF keys speak of experts.
fn has_experts(keys: &Map<String, Value>) -> bool {
    keys.get("num_experts").and_then(Value::as_u64).is_some_and(|n| n > 0)
}

/// What converters leave out about DeepSeek-V3's routing means no, none and one, not the defaults of a configuration
/// class; `expert_gating_func` 2 is sigmoid, and 0 leaves it to the architecture.
fn deepseek_routing_keys(keys: &mut Map<String, Value>) {
    keys.entry("norm_topk_prob").or_insert(false.into());
    keys.entry("routed_scaling_factor").or_insert(1.into());
    keys.entry("first_k_dense_replace").or_insert(0.into());
    keys.entry("n_shared_experts").or_insert(0.into());
    match keys.get("expert_gating_func").and_then(Value::as_u64) {
        None | Some(0) => {}
        Some(2) => _ = keys.insert("scoring_func".into(), "sigmoid".into()),
        Some(other) => _ = keys.insert("scoring_func".into(), format!("expert_gating_func {other}").into()),
    }
}

/// `layer_types` from the layers that have key/value heads, which GGUF files count per layer: `with` for those, else
/// `without`.
fn layer_types_of_heads(keys: &mut Map<String, Value>, with: &str, without: &str) {
    let word = |has: bool| Value::from(if has { with } else { without });
    let size = |k: &str| keys.get(k).and_then(Value::as_u64).unwrap_or(0);
    let (heads, layers) = (size("num_key_value_heads"), size("num_hidden_layers").min(1 << 13));
    let types = match keys.remove("num_key_value_heads of layers") {
        Some(Value::Array(layers)) => layers.iter().map(|v| word(*v == Value::Bool(true))).collect(),
        _ => (0..layers).map(|_| word(heads > 0)).collect(),
    };
    keys.insert("layer_types".into(), types);
    // Nobody reads it, but it must be a number of heads.
    if let (0, Some(n)) = (heads, keys.get("num_attention_heads").cloned()) {
        keys.insert("num_key_value_heads".into(), n);
    }
}

/// For architectures that mean one family.
fn always(_: &Map<String, Value>) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_their_defaults_are_json() {
        assert!(FAMILIES.is_sorted_by_key(|f| f.model_type));
        for f in FAMILIES {
            assert!(f.defaults().is_ok(), "{f:?}: {:?}", f.defaults());
        }
    }

    #[test]
    fn every_familys_mechanisms_can_be_told() {
        let untold = |f: &&'static Family| {
            let found = f.example().and_then(|c| Family::mechanisms(&c));
            found.is_ok_and(|m| m.len() > 2).then_some(()).is_none()
        };
        let untold: Vec<&str> = FAMILIES.iter().filter(untold).map(|f| f.model_type).collect();
        // Their reference's defaults are no whole model.
        assert_eq!(untold, ["dots1", "glm4_moe"]);
    }

    #[test]
    fn nearest_names_are_found_and_long_ones_cost_nothing() {
        let cases = [("llama4", Some("llama")), ("qwen3moe", Some("qwen3_moe")), ("deepseek_v4", Some("deepseek_v2"))];
        for (typed, want) in cases {
            assert_eq!(nearest(typed), want, "{typed}");
        }
        assert!(nearest(&"x".repeat(1 << 20)).is_some());
    }
}
