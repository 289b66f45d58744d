//! What is refused, and by which name: unknown families and mechanisms, contradictions, hostile sizes, tensors that are
//! missing or of another shape. And what is tolerated: prefixes, extra tensors.
use pondera_arch::{Config, ErrorKind, FAMILIES, Model, Source};
use pondera_ops::{Batch, KvType, Ops, Reference};
use pondera_quant::TensorView;
use pondera_weights::Weights;
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Instant};

fn folder(golden: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(golden)
}

fn config(golden: &str) -> Value {
    serde_json::from_slice(&fs::read(folder(golden).join("config.json")).unwrap()).unwrap()
}

/// The golden's configuration with these keys changed, loaded with the golden's tensors.
fn changed(golden: &str, changes: &Value) -> Result<Model, pondera_arch::Error> {
    let mut c = config(golden);
    c.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let weights = Weights::open(folder(golden)).unwrap();
    Config::from_value(&c).and_then(|c| Model::load(&c, &Source::Files(&weights)))
}

#[test]
fn unknown_mechanisms_are_refused_by_name() {
    use ErrorKind::{Config as Bad, Unsupported};
    let cases: &[(&str, Value, ErrorKind, &str)] = &[
        ("llama", json!({"model_type": "lama"}), Unsupported, "model_type"),
        ("llama", json!({"model_type": 7}), Bad, "model_type"),
        ("llama", json!({"hidden_act": "xielu"}), Unsupported, "hidden_act"),
        ("llama", json!({"rope_parameters": {"rope_type": "spiral"}}), Unsupported, "rope_parameters.rope_type"),
        ("llama", json!({"rope_scaling": {"type": "spiral", "factor": 2.0}}), Unsupported, "rope_parameters.rope_type"),
        ("llama", json!({"partial_rotary_factor": 0.5}), Unsupported, "rope_parameters.partial_rotary_factor"),
        (
            "llama",
            json!({"quantization_config": {"quant_method": "magic"}}),
            Unsupported,
            "quantization_config.quant_method",
        ),
        ("deepseek_v3", json!({"scoring_func": "softmax"}), Unsupported, "scoring_func"),
        ("deepseek_v3", json!({"topk_method": "dice"}), Unsupported, "topk_method"),
        ("deepseek_v2", json!({"topk_method": "dice"}), Unsupported, "topk_method"),
        ("deepseek_v2", json!({"scoring_func": "sigmoid"}), Unsupported, "scoring_func"),
        ("gemma2", json!({"use_bidirectional_attention": true}), Unsupported, "use_bidirectional_attention"),
        (
            "gemma2",
            json!({"layer_types": ["full_attention", "chunked_attention", "full_attention"]}),
            Unsupported,
            "layer_types",
        ),
        ("mistral", json!({"layer_types": ["full_attention", "dilated_attention"]}), Unsupported, "layer_types"),
        ("mpt", json!({"attn_config": {"alibi": false}}), Unsupported, "attn_config.alibi"),
        ("mpt", json!({"attn_config": {"qk_ln": true}}), Unsupported, "attn_config.qk_ln"),
        (
            "bloom",
            json!({"apply_residual_connection_post_layernorm": true}),
            Unsupported,
            "apply_residual_connection_post_layernorm",
        ),
        ("gpt_bigcode", json!({"add_cross_attention": true}), Unsupported, "add_cross_attention"),
        (
            "phi3",
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}),
            Bad,
            "rope_parameters.short_factor",
        ),
        ("gptj", json!({"rotary_dim": null}), Bad, "rotary_dim"),
        ("gpt_oss", json!({"hidden_act": "gelu"}), Unsupported, "hidden_act"),
        ("gpt2", json!({"add_cross_attention": true}), Unsupported, "add_cross_attention"),
        ("gpt2", json!({"activation_function": "tanh"}), Unsupported, "hidden_act"),
        ("gemma2", json!({"hidden_activation": "softsign"}), Unsupported, "hidden_activation"),
        ("olmoe", json!({"hidden_act": "xielu"}), Unsupported, "hidden_act"),
        ("minimax_m2", json!({"scoring_func": "softmax"}), Unsupported, "scoring_func"),
        ("minimax_m2", json!({"qk_norm_type": "per_head"}), Unsupported, "qk_norm_type"),
        ("minimax_m2", json!({"attn_type_list": [1, 0]}), Unsupported, "attn_type_list"),
        ("glm4_moe", json!({"scoring_func": "softmax"}), Unsupported, "scoring_func"),
        ("glm4_moe", json!({"topk_method": "greedy"}), Unsupported, "topk_method"),
        (
            "dots1",
            json!({"layer_types": ["full_attention", "linear_attention", "full_attention"]}),
            Unsupported,
            "layer_types",
        ),
        ("ernie4_5_moe", json!({"moe_norm_min": 0.5}), Unsupported, "moe_norm_min"),
        ("hunyuan_v1_moe", json!({"use_cla": true}), Unsupported, "use_cla"),
        ("granitemoe", json!({"hidden_act": "xielu"}), Unsupported, "hidden_act"),
        (
            "granitemoeshared",
            json!({"rope_parameters": {"rope_type": "spiral"}}),
            Unsupported,
            "rope_parameters.rope_type",
        ),
        (
            "granitemoe_swa",
            json!({"layer_types": ["full_attention", "full_attention", "chunked_attention", "full_attention"]}),
            Unsupported,
            "layer_types",
        ),
        ("hy_v3", json!({"mlp_layer_types": ["dense", "hashed"]}), Unsupported, "mlp_layer_types"),
        ("exaone_moe", json!({"topk_method": "greedy"}), Unsupported, "topk_method"),
        ("solar_open", json!({"scoring_func": "softmax"}), Unsupported, "scoring_func"),
        ("flex_olmo", json!({"hidden_act": "xielu"}), Unsupported, "hidden_act"),
        ("mistral4", json!({"scoring_func": "sigmoid"}), Unsupported, "scoring_func"),
        (
            "llama4_text",
            json!({"layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"]}),
            Unsupported,
            "layer_types",
        ),
        ("beam", json!({"mlp_layer_types": ["dense", "sparse", "sparse", "hashed"]}), Unsupported, "mlp_layer_types"),
        (
            "beam",
            json!({"layer_types": ["sliding_attention", "linear_attention", "full_attention", "full_attention"]}),
            Unsupported,
            "layer_types",
        ),
        ("mamba", json!({"hidden_act": "xielu"}), Unsupported, "hidden_act"),
        ("falcon_mamba", json!({"hidden_act": "xielu"}), Unsupported, "hidden_act"),
        ("mamba2", json!({"hidden_act": "xielu"}), Unsupported, "hidden_act"),
        ("jamba", json!({"hidden_act": "tanh"}), Unsupported, "hidden_act"),
        ("lfm2", json!({"layer_types": ["conv", "full_attention", "mamba"]}), Unsupported, "layer_types"),
        ("lfm2_moe", json!({"layer_types": ["conv", "full_attention", "mamba"]}), Unsupported, "layer_types"),
        ("qwen3_next", json!({"layer_types": ["mamba", "mamba", "full_attention"]}), Unsupported, "layer_types"),
        ("qwen3_5", json!({"layer_types": ["full_attention", "sliding_attention"]}), Unsupported, "layer_types"),
        ("qwen3_5_moe", json!({"layer_types": ["full_attention", "sliding_attention"]}), Unsupported, "layer_types"),
        (
            "nemotron_h",
            json!({"layers_block_type": ["mamba", "moe", "attention", "mlp", "rwkv"]}),
            Unsupported,
            "layer_types",
        ),
        ("nemotron_h-pattern", json!({"hybrid_override_pattern": "M-*X"}), Unsupported, "layer_types"),
        ("bamba", json!({"rope_parameters": {"rope_type": "spiral"}}), Unsupported, "rope_parameters.rope_type"),
        ("granitemoehybrid", json!({"position_embedding_type": "alibi"}), Unsupported, "position_embedding_type"),
        ("falcon_h1", json!({"rope_parameters": {"rope_type": "spiral"}}), Unsupported, "rope_parameters.rope_type"),
        ("minimax", json!({"hidden_act": "gelu"}), Unsupported, "hidden_act"),
    ];
    for (golden, changes, kind, item) in cases {
        let e = changed(golden, changes).err().unwrap_or_else(|| panic!("{golden} {changes} was accepted"));
        assert_eq!((e.kind(), e.item()), (*kind, *item), "{golden} {changes}: {e}");
    }
}

#[test]
fn contradictions_and_hostile_sizes_are_refused_at_once() {
    let huge = 1u64 << 60;
    let cases: &[(&str, Value, &str)] = &[
        ("llama", json!({"num_key_value_heads": 3}), "num_key_value_heads"),
        ("llama", json!({"num_attention_heads": 0}), "num_attention_heads"),
        ("llama", json!({"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": null}), "num_attention_heads"),
        ("llama", json!({"head_dim": 7}), "head_dim"),
        ("llama", json!({"head_dim": 1 << 20}), "head_dim"),
        ("llama", json!({"hidden_size": huge}), "hidden_size"),
        ("llama", json!({"hidden_size": -4}), "hidden_size"),
        ("llama", json!({"hidden_size": "32"}), "hidden_size"),
        ("llama", json!({"vocab_size": 1.5}), "vocab_size"),
        ("llama", json!({"num_hidden_layers": 1_000_000_000}), "num_hidden_layers"),
        ("llama", json!({"rms_norm_eps": -1.0}), "rms_norm_eps"),
        ("llama", json!({"attention_bias": "yes"}), "attention_bias"),
        ("llama", json!({"rope_parameters": {"rope_type": "linear", "factor": 0}}), "rope_parameters.factor"),
        ("llama", json!({"rope_parameters": {"rope_type": "llama3", "factor": 8}}), "rope_parameters.low_freq_factor"),
        ("llama", json!({"rope_parameters": []}), "rope_parameters"),
        ("mixtral", json!({"num_experts_per_tok": 9}), "num_experts_per_tok"),
        ("mixtral", json!({"num_local_experts": huge}), "num_experts"),
        ("deepseek_v3", json!({"n_group": 3}), "n_group"),
        ("deepseek_v3", json!({"topk_group": 5}), "topk_group"),
        ("deepseek_v3", json!({"kv_lora_rank": 0}), "kv_lora_rank"),
        ("gemma2", json!({"layer_types": ["full_attention"]}), "layer_types"),
        ("gemma2", json!({"final_logit_softcapping": -1}), "final_logit_softcapping"),
        (
            "qwen2",
            json!({"layer_types": ["sliding_attention", "full_attention"], "use_sliding_window": false}),
            "layer_types",
        ),
        ("gpt2", json!({"n_head": 3}), "num_attention_heads"),
        ("minimax_m2", json!({"rotary_dim": 16}), "rotary_dim"),
        ("glm4_moe", json!({"n_group": 3}), "n_group"),
        ("hunyuan_v1_moe", json!({"moe_topk": [2]}), "num_experts_per_tok"),
        ("hunyuan_v1_moe", json!({"moe_topk": [2, 9]}), "num_experts_per_tok"),
        ("granitemoe", json!({"residual_multiplier": 0}), "residual_multiplier"),
        ("beam", json!({"mlp_layer_types": ["dense"]}), "mlp_layer_types"),
        ("granitemoe_swa", json!({"layer_rope_theta": [0, 10000.0]}), "layer_rope_theta"),
        ("llama4_text", json!({"no_rope_layers": [1, 0]}), "no_rope_layers"),
        ("llama4_text", json!({"floor_scale": 0}), "floor_scale"),
        ("mimo_v2_flash", json!({"num_key_value_heads": 4}), "num_key_value_heads"),
        (
            "phimoe",
            json!({"rope_scaling": {"type": "longrope", "short_mscale": 1, "long_mscale": 1, "short_factor": [1]}}),
            "rope_parameters.short_factor",
        ),
        (
            "mistral4",
            json!({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}),
            "rope_parameters.llama_4_scaling_beta",
        ),
        ("mamba", json!({"conv_kernel": huge}), "mamba_d_conv"),
        ("mamba", json!({"expand": 0}), "mamba_expand"),
        ("mamba2", json!({"n_groups": 4}), "mamba_n_groups"),
        ("mamba2", json!({"time_step_limit": [0.1]}), "time_step_limit"),
        ("falcon_h1", json!({"mamba_n_heads": 5}), "mamba_d_head"),
        ("qwen3_next", json!({"linear_num_value_heads": 3}), "linear_num_value_heads"),
        ("lfm2", json!({"conv_L_cache": 0}), "conv_L_cache"),
        ("minimax", json!({"layer_types": ["full_attention"]}), "layer_types"),
    ];
    let start = Instant::now();
    for (golden, changes, item) in cases {
        let e = changed(golden, changes).err().unwrap_or_else(|| panic!("{golden} {changes} was accepted"));
        assert_eq!((e.kind(), e.item()), (ErrorKind::Config, *item), "{golden} {changes}: {e}");
    }
    assert!(start.elapsed().as_secs() < 5, "took {:?}", start.elapsed());
}

#[test]
fn large_claims_end_at_the_first_tensor() {
    let large = 1 << 27;
    let keys = [
        "hidden_size",
        "vocab_size",
        "intermediate_size",
        "num_attention_heads",
        "max_position_embeddings",
        "sliding_window",
        "moe_intermediate_size",
        "kv_lora_rank",
        "q_lora_rank",
        "v_head_dim",
        "qk_nope_head_dim",
        "n_shared_experts",
        "shared_expert_intermediate_size",
        "num_hidden_layers",
        "num_experts",
        "first_k_dense_replace",
        "state_size",
        "conv_kernel",
        "time_step_rank",
        "mamba_d_state",
        "mamba_d_conv",
        "mamba_n_heads",
        "mamba_n_groups",
        "mamba_d_ssm",
        "linear_key_head_dim",
        "linear_num_value_heads",
        "conv_L_cache",
    ];
    let start = Instant::now();
    for family in FAMILIES {
        let mut goldens = fs::read_dir(folder("")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let golden = goldens.find(|g| g == family.model_type).unwrap();
        for key in keys {
            for value in [large, 4096, 3] {
                // Some are right by chance, all end.
                let _ = changed(&golden, &json!({ key: value }));
            }
        }
    }
    assert!(start.elapsed().as_secs() < 20, "took {:?}", start.elapsed());
}

/// The golden's tensors after `change`.
fn tensors(golden: &str, change: impl FnMut(&mut Vec<(String, TensorView)>)) -> Weights {
    let mut change = change;
    let stored = Weights::open(folder(golden)).unwrap();
    let mut all: Vec<(String, TensorView)> = stored.names().map(|n| (n.to_string(), stored.get(n).unwrap())).collect();
    change(&mut all);
    Weights::from_tensors(all).unwrap()
}

fn logits(model: &Model) -> Vec<f32> {
    let ops = Reference::new();
    ops.reserve(model.caches(), KvType::F32, 1);
    ops.reserve_states(model.states(), 1);
    let mut out = Vec::new();
    ops.read(&model.forward(&ops, &Batch::single(&[3, 1, 4, 1, 5], 0)), &mut out);
    out
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let c = Config::from_value(&config("llama")).unwrap();
    let name = "model.layers.1.mlp.up_proj.weight";
    let weights = tensors("llama", |all| all.retain(|(n, _)| n != name));
    let e = Model::load(&c, &Source::Files(&weights)).err().unwrap();
    assert_eq!((e.kind(), e.item()), (ErrorKind::Tensor, name));
    assert!(e.to_string().contains("missing"), "{e}");

    let e = changed("llama", &json!({"intermediate_size": 44})).err().unwrap();
    assert_eq!((e.kind(), e.item()), (ErrorKind::Tensor, "model.layers.0.mlp.gate_proj.weight"));
    let text = e.to_string();
    assert!(text.contains("expected [44, 32], got [40, 32]") && text.contains("model.safetensors"), "{text}");

    // Quantized tensors without a word about them in the configuration must not be read as plain numbers.
    let mut c = config("llama-fp8");
    c.as_object_mut().unwrap().remove("quantization_config");
    let weights = Weights::open(folder("llama-fp8")).unwrap();
    let e = Model::load(&Config::from_value(&c).unwrap(), &Source::Files(&weights)).err().unwrap();
    assert_eq!((e.kind(), e.item()), (ErrorKind::Config, "quantization_config"));
}

#[test]
fn extra_tensors_are_named_and_known_ones_passed_over() {
    let c = Config::from_value(&config("llama")).unwrap();
    let weights = tensors("llama", |all| {
        let any = all[0].1.clone();
        for name in
            ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.2.eh_proj.weight", "model.odd.weight"]
        {
            all.push((name.into(), any.clone()));
        }
    });
    let model = Model::load(&c, &Source::Files(&weights)).unwrap();
    assert_eq!(model.warnings(), ["model.odd.weight: not used by llama"]);
}

#[test]
fn prefixes_of_repositories_do_not_matter() {
    let c = Config::from_value(&config("llama")).unwrap();
    let load = |w: &Weights| logits(&Model::load(&c, &Source::Files(w)).unwrap());
    let want = load(&Weights::open(folder("llama")).unwrap());
    type Rename = fn(&str) -> String;
    let renames: &[(&str, Rename)] = &[
        ("bare", |n| n.strip_prefix("model.").unwrap_or(n).to_string()),
        ("language_model", |n| format!("language_model.{n}")),
        ("model.language_model", |n| n.replace("model.", "model.language_model.")),
    ];
    for (what, rename) in renames {
        let weights = tensors("llama", |all| all.iter_mut().for_each(|(n, _)| *n = rename(n)));
        assert!(load(&weights) == want, "{what}");
    }
}

/// The golden's GGUF file with one text in place of another of the same length, everywhere.
fn patched(golden: &str, from: &str, to: &str) -> Result<Model, pondera_arch::Error> {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(folder(golden).join("model.gguf")).unwrap();
    let at: Vec<usize> = (0..bytes.len() - from.len()).filter(|i| bytes[*i..].starts_with(from.as_bytes())).collect();
    assert!(!at.is_empty(), "{golden} has no {from}");
    at.iter().for_each(|i| bytes[*i..*i + to.len()].copy_from_slice(to.as_bytes()));
    let weights = Weights::from_bytes("model.gguf", bytes.into()).unwrap();
    Config::from_gguf(weights.gguf().unwrap()).and_then(|c| Model::load(&c, &Source::Files(&weights)))
}

#[test]
fn gguf_files_that_leave_something_out_are_refused_by_its_name() {
    use ErrorKind::{Config as Bad, Tensor, Unsupported};
    let cases = [
        ("llama", "llama.embedding_length", "llama.embedding_lengtx", Bad, "llama.embedding_length"),
        (
            "llama",
            "llama.attention.layer_norm_rms_epsilon",
            "llama.attention.layer_norm_rms_epsilox",
            Bad,
            "llama.attention.layer_norm_rms_epsilon",
        ),
        ("llama", "llama.vocab_size", "llama.vocab_sizx", Bad, "tokenizer.ggml.tokens"),
        ("llama", "llama", "lamma", Unsupported, "general.architecture"),
        ("llama", "general.architecture", "general.architecturx", Bad, "general.architecture"),
        ("llama", "blk.1.ffn_up", "blk.1.ffn_xp", Tensor, "blk.1.ffn_up.weight"),
        // Without it the file reads as V2, whose scores are a softmax.
        (
            "deepseek_v3",
            "deepseek2.expert_gating_func",
            "deepseek2.expert_gating_funx",
            Bad,
            "deepseek2.expert_gating_func",
        ),
    ];
    for (golden, from, to, kind, item) in cases {
        let e = patched(golden, from, to).err().unwrap_or_else(|| panic!("{golden} without {from} was accepted"));
        assert_eq!((e.kind(), e.item()), (kind, item), "{e}");
    }
}

/// The golden's GGUF file with a key more: `kind` is GGUF's number of the value's type.
fn with_key(golden: &str, key: &str, kind: u32, value: &[u8]) -> Result<Model, pondera_arch::Error> {
    let mut bytes = fs::read(folder(golden).join("model.gguf")).unwrap();
    let entry = |key: &str, kind: u32, value: &[u8]| {
        [&(key.len() as u64).to_le_bytes(), key.as_bytes(), &kind.to_le_bytes(), value].concat()
    };
    let mut more = entry(key, kind, value);
    // A text that keeps the data where its alignment wants it.
    let bare = entry("filler", 8, &0u64.to_le_bytes()).len();
    let fill = (more.len() + bare).next_multiple_of(32) - more.len() - bare;
    let text = [&(fill as u64).to_le_bytes()[..], &vec![b'x'; fill]].concat();
    more.extend(entry("filler", 8, &text));
    let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + 2;
    bytes[16..24].copy_from_slice(&count.to_le_bytes());
    bytes.splice(24..24, more);
    let weights = Weights::from_bytes("model.gguf", bytes.into()).unwrap();
    Config::from_gguf(weights.gguf().unwrap()).and_then(|c| Model::load(&c, &Source::Files(&weights)))
}

#[test]
fn mechanisms_that_gguf_files_add_to_a_known_family_are_refused_by_name() {
    let number = |v: f32| v.to_le_bytes().to_vec();
    // Mistral Large 3 calls itself deepseek2.
    let cases = [
        ("deepseek_v3", "deepseek2.attention.temperature_scale", 6, number(0.1), number(0.0)),
        ("llama", "llama.attention.clamp_kqv", 6, number(8.0), number(0.0)),
        ("llama", "llama.attention.max_alibi_bias", 6, number(8.0), number(0.0)),
        ("llama", "llama.embedding_scale", 6, number(12.0), number(1.0)),
        ("llama", "llama.residual_scale", 6, number(0.2), number(1.0)),
        ("llama", "llama.logit_scale", 6, number(0.1), number(0.0)),
        ("llama", "llama.attention.causal", 7, vec![0], vec![1]),
    ];
    for (golden, key, kind, wrong, neutral) in cases {
        let e = with_key(golden, key, kind, &wrong).err().unwrap_or_else(|| panic!("{key} was passed over"));
        assert_eq!((e.kind(), e.item()), (ErrorKind::Unsupported, key), "{e}");
        assert!(with_key(golden, key, kind, &neutral).is_ok(), "{key}, which does nothing here, was refused");
    }
}

#[test]
fn text_configurations_may_be_nested() {
    let inner = config("llama");
    let c = Config::from_value(&json!({"model_type": "some_vision_wrapper", "text_config": inner})).unwrap();
    assert_eq!(c.family().model_type, "llama");
    assert_eq!(c.hidden_size().unwrap(), 32);
}

#[test]
fn absent_keys_take_the_reference_defaults() {
    let of = |c: Value| Config::from_value(&c).unwrap();
    let llama = of(json!({"model_type": "llama"}));
    assert_eq!((llama.hidden_size().unwrap(), llama.heads().unwrap()), (4096, (32, 32, 128)));
    let mistral = of(json!({"model_type": "mistral"}));
    assert_eq!((mistral.heads().unwrap().1, mistral.size_opt("sliding_window").unwrap()), (8, Some(4096)));
    let windowless = of(json!({"model_type": "mistral", "sliding_window": null}));
    assert_eq!(windowless.size_opt("sliding_window").unwrap(), None);
    let rope = |c: &Config| c.keys()["rope_parameters"]["rope_theta"].as_f64();
    assert_eq!(rope(&of(json!({"model_type": "mixtral"}))), Some(1e6));
    assert_eq!(rope(&of(json!({"model_type": "mixtral", "rope_theta": 5.0}))), Some(5.0));
    let oss = of(json!({"model_type": "gpt_oss"}));
    assert_eq!((rope(&oss), oss.keys()["rope_parameters"]["rope_type"].as_str()), (Some(150000.0), Some("yarn")));
}

#[test]
fn described_and_random_models_have_the_shapes_of_files() {
    for family in FAMILIES {
        let c = Config::from_value(&config(family.model_type)).unwrap();
        let weights = Weights::open(folder(family.model_type)).unwrap();
        let stored = Model::load(&c, &Source::Files(&weights)).unwrap();
        let described = Model::load(&c, &Source::Describe).unwrap();
        let random = Model::load(&c, &Source::Random { format: pondera_quant::Format::Q8_0, seed: 1 }).unwrap();
        for other in [&described, &random] {
            assert_eq!(stored.description().parameters_total, other.description().parameters_total, "{family:?}");
            assert_eq!(stored.description().parameters_active, other.description().parameters_active, "{family:?}");
            assert_eq!(stored.caches(), other.caches(), "{family:?}");
            assert_eq!(stored.states(), other.states(), "{family:?}");
        }
        let values = logits(&random);
        assert!(values.iter().all(|v| v.is_finite()) && values.iter().any(|v| *v != 0.0), "{family:?}: {values:?}");
    }
}
