//! Each rule on a case that it is for, and on its honest neighbour: an honest model is changed in one place at a time.
use super::{statistics, statistics::RUN, values};
use crate::{
    KnownBad, Options, audit,
    findings::{Finding, Severity},
};
use pondera_quant::{FORMATS, Format, TensorView, float};
use pondera_weights::{
    TensorSpec,
    gguf::{self, Meta},
    safetensors,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static N: AtomicUsize = AtomicUsize::new(0);
        let name = format!("pondera-tensors-{}-{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut s = seed;
    move || {
        s = s.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = s;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[derive(Clone)]
struct Tensor {
    name: String,
    format: Format,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// Random weights.
    fn new(name: &str, format: Format, shape: &[usize]) -> Tensor {
        let seed = name.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        let mut bytes = vec![0; format.row_bytes(shape.iter().product()).unwrap()];
        (format.info().random)(&mut random(seed), 0.1, &mut bytes);
        Tensor { name: name.into(), format, shape: shape.to_vec(), bytes }
    }

    fn set(&mut self, i: usize, v: f32) {
        self.bytes[4 * i..4 * i + 4].copy_from_slice(&v.to_le_bytes());
    }

    fn map(&mut self, f: impl Fn(f32) -> f32) {
        for b in self.bytes.as_chunks_mut::<4>().0 {
            *b = f(f32::from_le_bytes(*b)).to_le_bytes();
        }
    }
}

/// A model of the Llama family in F32, or what is made of it.
#[derive(Clone)]
struct Model {
    config: Value,
    tensors: Vec<Tensor>,
}

const HIDDEN: usize = 32;
const VOCAB: usize = 300;

impl Model {
    fn honest() -> Model {
        let config = json!({ "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": 64,
            "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 4, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 64, "rope_theta": 10000.0, "tie_word_embeddings": false });
        let f = |name: &str, shape: &[usize]| Tensor::new(name, Format::F32, shape);
        let mut tensors = vec![
            f("model.embed_tokens.weight", &[VOCAB, HIDDEN]),
            f("lm_head.weight", &[VOCAB, HIDDEN]),
            f("model.norm.weight", &[HIDDEN]),
        ];
        for i in 0..6 {
            let at = format!("model.layers.{i}");
            for m in ["q", "k", "v", "o"] {
                tensors.push(f(&format!("{at}.self_attn.{m}_proj.weight"), &[HIDDEN, HIDDEN]));
            }
            for (m, shape) in [("gate", [64, HIDDEN]), ("up", [64, HIDDEN]), ("down", [HIDDEN, 64])] {
                tensors.push(f(&format!("{at}.mlp.{m}_proj.weight"), &shape));
            }
            tensors.push(f(&format!("{at}.input_layernorm.weight"), &[HIDDEN]));
            tensors.push(f(&format!("{at}.post_attention_layernorm.weight"), &[HIDDEN]));
        }
        Model { config, tensors }
    }

    fn t(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name.contains(name)).unwrap()
    }

    fn audit(&self) -> Vec<Finding> {
        let folder = Folder::new();
        folder.write("config.json", self.config.to_string());
        folder.write("model.safetensors", safetensors_of(&self.tensors));
        found(&folder.0)
    }
}

fn safetensors_of(tensors: &[Tensor]) -> Vec<u8> {
    let specs: Vec<TensorSpec> = tensors.iter().map(|t| TensorSpec::new(t.name.clone(), t.format, &t.shape)).collect();
    let mut w = safetensors::Writer::new(Vec::new(), &[], &specs).unwrap();
    tensors.iter().for_each(|t| w.write(&t.bytes).unwrap());
    w.finish().unwrap()
}

fn gguf_of(metadata: &[(&str, Meta)], tensors: &[Tensor]) -> Vec<u8> {
    let specs: Vec<TensorSpec> = tensors.iter().map(|t| TensorSpec::new(t.name.clone(), t.format, &t.shape)).collect();
    let mut w = gguf::Writer::new(Vec::new(), metadata, &specs).unwrap();
    tensors.iter().for_each(|t| w.write(&t.bytes).unwrap());
    w.finish().unwrap()
}

/// Findings but those about licences.
fn found(path: &Path) -> Vec<Finding> {
    let report = audit(path, "x", &Options::default()).unwrap();
    report.findings.into_iter().filter(|f| !f.rule.starts_with("license")).collect()
}

fn brief(findings: &[Finding]) -> Vec<(&'static str, Severity)> {
    findings.iter().map(|f| (f.rule, f.severity)).collect()
}

#[test]
fn an_honest_model_has_no_finding_and_each_change_has_its_own() {
    use Severity::{Info, Low, Medium};
    let honest = Model::honest();
    assert_eq!(honest.audit(), []);
    type Case = (&'static str, fn(&mut Model), &'static [(&'static str, Severity)], &'static str);
    let cases: &[Case] = &[
        ("NaN", |m| m.t("3.self_attn.q").set(5, f32::NAN), &[("non-finite", Medium)], "index 5"),
        ("infinity", |m| m.t("lm_head").set(8000, f32::NEG_INFINITY), &[("non-finite", Medium)], "1 of 9600 values"),
        ("zeros", |m| m.t("2.mlp.up").bytes.fill(0), &[("all-zero", Low)], "all 2048 values"),
        ("a norm of zeros", |m| m.t("4.input_layernorm").bytes.fill(0), &[("all-zero", Info)], "all 32 values"),
        ("most are zero", |m| m.t("lm_head").bytes[..38_000].fill(0), &[("all-zero", Info)], "of 9600 values are zero"),
        (
            "a copied layer",
            |m| m.t("4.mlp.down").bytes = m.t("1.mlp.down").bytes.clone(),
            &[("duplicate-tensor", Low)],
            "model.layers.4.mlp.down_proj.weight = model.layers.1.mlp.down_proj.weight",
        ),
        ("tied ends", |m| m.t("lm_head").bytes = m.t("embed").bytes.clone(), &[("duplicate-tensor", Info)], "lm_head"),
        ("a loud layer", |m| m.t("2.self_attn.k").map(|v| 100.0 * v), &[("outlier-layer", Low)], "of the 6 tensors"),
        ("a faint layer", |m| m.t("2.self_attn.k").map(|v| v / 100.0), &[("outlier-layer", Low)], "of the 6 tensors"),
        ("a huge value", |m| m.t("embed").set(7777, -1e5), &[("outlier-value", Medium)], "index 7777"),
        ("a large value", |m| m.t("embed").set(0, 5000.0), &[("outlier-value", Low)], "index 0"),
        ("a layer too few", |m| m.config["num_hidden_layers"] = 7.into(), &[("config-mismatch", Medium)], "missing"),
        ("a layer too many", |m| m.config["num_hidden_layers"] = 5.into(), &[("config-mismatch", Low)], "files have 6"),
        (
            "another vocabulary",
            |m| m.config["vocab_size"] = 299.into(),
            &[("config-mismatch", Medium)],
            "expected [299",
        ),
        ("another width", |m| m.config["intermediate_size"] = 65.into(), &[("config-mismatch", Medium)], "expected"),
        ("another family", |m| m.config["model_type"] = "nobody".into(), &[("config-unknown", Info)], "nobody"),
        ("a key that is none", |m| m.config["hidden_size"] = "x".into(), &[("config-mismatch", Medium)], "hidden_size"),
        (
            "one more tensor",
            |m| m.tensors.push(Tensor::new("model.layers.0.more.weight", Format::F32, &[8, 8])),
            &[("config-mismatch", Low)],
            "not used by llama",
        ),
    ];
    for (case, change, want, says) in cases {
        let mut changed = honest.clone();
        change(&mut changed);
        let findings = changed.audit();
        assert_eq!(brief(&findings), *want, "{case}: {findings:?}");
        assert!(findings[0].what.contains(says), "{case}: {findings:?}");
    }
}

#[test]
fn neighbours_of_odd_models_are_honest() {
    type Case<'a> = (&'a str, fn(&mut Model));
    let cases: &[Case<'_>] = &[
        ("the largest finite value in a mask", |m| {
            m.tensors.push(Tensor::new("model.layers.0.self_attn.rotary_emb.inv_freq", Format::F32, &[512]));
            let mut copy = m.tensors.last().unwrap().clone();
            copy.name = "model.layers.1.self_attn.rotary_emb.inv_freq".into();
            m.tensors.push(copy);
        }),
        ("norms of ones", |m| {
            m.tensors.iter_mut().filter(|t| t.name.contains("norm")).for_each(|t| t.map(|_| 1.0));
        }),
        ("a layer eight times as loud", |m| m.t("2.self_attn.k").map(|v| 8.0 * v)),
        ("one super weight", |m| m.t("1.mlp.down").set(100, 40.0)),
        ("layers that predict further tokens", |m| {
            m.config["num_hidden_layers"] = 5.into();
            m.config["num_nextn_predict_layers"] = 1.into();
        }),
    ];
    for (case, change) in cases {
        let mut changed = Model::honest();
        change(&mut changed);
        assert_eq!(changed.audit(), [], "{case}");
    }
}

#[test]
fn a_finding_points_at_the_tensor_and_the_byte() {
    let mut m = Model::honest();
    let name = "model.layers.3.self_attn.q_proj.weight";
    m.t(name).set(5, f32::NAN);
    let folder = Folder::new();
    folder.write("config.json", m.config.to_string());
    let path = folder.write("model.safetensors", safetensors_of(&m.tensors));
    let found = found(&folder.0);
    assert_eq!((found[0].name.as_deref(), &*found[0].file), (Some(name), "model.safetensors"));
    let at = found[0].offset.unwrap() as usize;
    assert!(f32::from_le_bytes(fs::read(&path).unwrap()[at..at + 4].try_into().unwrap()).is_nan());
    // Headers alone do not show it.
    let headers = Options { tensors: super::Options { values: false, ..Default::default() }, ..Default::default() };
    let report = audit(&path, "x", &headers).unwrap();
    assert!(report.findings.iter().all(|f| f.rule.starts_with("license")) && !report.tensors.values);
    assert_eq!(report.tensors.tensors, m.tensors.len());
}

/// Changes the f16 scale at the start of block `b` of a Q8_0 tensor.
fn q8_scale(t: &mut Tensor, b: usize, v: f32) {
    t.bytes[34 * b..34 * b + 2].copy_from_slice(&float::f32_to_f16(v).to_le_bytes());
}

#[test]
fn scales_of_blocks_are_read() {
    let one = |change: fn(&mut Tensor)| {
        let mut t = Tensor::new("blk.0.attn_q.weight", Format::Q8_0, &[64, 64]);
        change(&mut t);
        let folder = Folder::new();
        let metadata = [("general.architecture", Meta::from("nothing"))];
        let mut found = found(&folder.write("m.gguf", gguf_of(&metadata, &[t])));
        found.retain(|f| f.rule != "config-unknown");
        found
    };
    assert_eq!(one(|_| {}), []);
    let nan = one(|t| q8_scale(t, 5, f32::NAN));
    assert_eq!(brief(&nan), [("non-finite", Severity::Medium)]);
    assert!(nan[0].what.contains("1 of 128 blocks") && nan[0].what.contains("block 5"), "{nan:?}");
    let absurd = one(|t| q8_scale(t, 77, 300.0));
    assert_eq!(brief(&absurd), [("odd-scale", Severity::Low)]);
    assert!(absurd[0].what.contains("block 77"), "{absurd:?}");
    assert_eq!(brief(&one(|t| (0..40).for_each(|b| q8_scale(t, b, 0.0)))), [("all-zero", Severity::Info)]);
    assert_eq!(one(|t| (0..20).for_each(|b| q8_scale(t, b, 0.0))), []);
    assert_eq!(brief(&one(|t| (0..128).for_each(|b| q8_scale(t, b, 0.0)))), [("all-zero", Severity::Low)]);
}

#[test]
fn every_block_format_with_a_scale_that_is_no_number_is_found() {
    for f in FORMATS.iter().filter(|f| f.block > 1 && f.gguf_id.is_some() && f.format != Format::Nvfp4) {
        let mut t = Tensor::new("blk.0.attn_q.weight", f.format, &[8, 256 * 64]);
        let folder = Folder::new();
        let write = |t: &Tensor| folder.write("m.gguf", gguf_of(&[], std::slice::from_ref(t)));
        let non_finite = |path: &Path| found(path).iter().filter(|f| f.rule == "non-finite").count();
        assert_eq!(non_finite(&write(&t)), 0, "{}", f.name);
        // In the last block, which low-bit formats do not decode.
        let (at, block) = (f.format.scales()[0].at, t.bytes.len() - f.bytes);
        match f.format {
            Format::Iq1M => [1, 3, 5, 7].iter().for_each(|i| t.bytes[block + at + i] |= 0xf0),
            Format::Q8K => t.bytes[block..block + 4].copy_from_slice(&f32::NAN.to_le_bytes()),
            _ => t.bytes[block + at..block + at + 2].fill(0xff),
        }
        assert_eq!(non_finite(&write(&t)), 1, "{}", f.name);
    }
}

#[test]
fn scales_beside_codes_are_read() {
    let one = |change: fn(&mut [Tensor])| {
        let mut tensors = vec![
            Tensor::new("a.weight", Format::F8E4M3, &[64, 64]),
            Tensor::new("a.weight_scale_inv", Format::F32, &[8, 8]),
            Tensor::new("b_blocks", Format::U8, &[8, 8, 16]),
            Tensor::new("b_scales", Format::U8, &[8, 8]),
            // A parameter that happens to be called so.
            Tensor::new("c.weight_scale", Format::F32, &[8, 8]),
        ];
        tensors[1].map(|v| v.abs() + 0.001);
        tensors[3].bytes.fill(120);
        change(&mut tensors);
        let folder = Folder::new();
        found(&folder.write("m.safetensors", safetensors_of(&tensors)))
    };
    assert_eq!(one(|_| {}), []);
    assert_eq!(brief(&one(|t| t[1].set(9, -0.1))), [("odd-scale", Severity::Low)]);
    assert_eq!(brief(&one(|t| t[1].set(9, 1e5))), [("odd-scale", Severity::Low)]);
    assert_eq!(brief(&one(|t| t[1].set(9, f32::NAN))), [("non-finite", Severity::Medium)]);
    assert_eq!(brief(&one(|t| t[3].bytes[7] = 255)), [("non-finite", Severity::Medium)]);
    assert_eq!(brief(&one(|t| t[3].bytes[7] = 140)), [("odd-scale", Severity::Low)]);
    assert_eq!(one(|t| t[4].set(9, -0.1)), []);
}

#[test]
fn an_index_is_held_to_its_shards() {
    let t = |name: &str| Tensor::new(name, Format::F32, &[4, 4]);
    type Change<'a> = &'a dyn Fn(&mut Value, &mut Vec<Tensor>, &mut Vec<Tensor>);
    type Case<'a> = (&'a str, Severity, &'a str, Change<'a>);
    let index = |change: Change<'_>| {
        let (mut one, mut two) = (vec![t("a"), t("b")], vec![t("c"), t("d")]);
        let mut map = json!({ "weight_map": { "a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors", "d": "2.safetensors" } });
        change(&mut map, &mut one, &mut two);
        let folder = Folder::new();
        folder.write("model.safetensors.index.json", map.to_string());
        folder.write("1.safetensors", safetensors_of(&one));
        folder.write("2.safetensors", safetensors_of(&two));
        let mut found = found(&folder.0);
        found.retain(|f| f.rule == "index-mismatch");
        let said = |f: &Finding| (f.severity, f.name.clone().unwrap(), f.what.clone());
        found.iter().map(said).collect::<Vec<_>>()
    };
    assert_eq!(index(&|_, _, _| {}), []);
    let cases: &[Case<'_>] = &[
        ("d", Severity::Medium, "it is in no shard", &|_, _, two| drop(two.pop())),
        ("b", Severity::Medium, "it is in 2.safetensors", &|_, one, two| two.extend(one.pop())),
        ("a", Severity::Low, "they are equal", &|_, one, two| two.push(one[0].clone())),
        ("a", Severity::Medium, "they are not equal", &|_, one, two| {
            two.push(one[0].clone());
            two[2].set(3, 9.0);
        }),
        ("e", Severity::Low, "the index does not name it", &|_, one, _| one.push(t("e"))),
        ("3.safetensors", Severity::Medium, "1 tensors should be in it", &|map, _, _| {
            map["weight_map"]["e"] = "3.safetensors".into();
        }),
    ];
    for (name, severity, says, change) in cases {
        let found = index(*change);
        assert_eq!(found.len(), 1, "{says}: {found:?}");
        assert!(found[0].0 == *severity && found[0].1 == *name && found[0].2.contains(says), "{says}: {found:?}");
    }
    // Many of them are one list with an end.
    let many = index(&|_, one, _| one.extend((0..100).map(|i| t(&format!("x{i}")))));
    assert_eq!(many.len(), 16);
    assert!(many[15].2.contains("84 more"), "{many:?}");
}

struct Adapter {
    config: Value,
    tensors: Vec<Tensor>,
}

impl Adapter {
    fn honest() -> Adapter {
        let config = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"] });
        let mut a = Adapter { config, tensors: Vec::new() };
        (0..3).for_each(|i| {
            ["q_proj", "v_proj"].iter().for_each(|m| a.lora(&format!("model.layers.{i}.self_attn.{m}"), 4))
        });
        a
    }

    fn lora(&mut self, module: &str, rank: usize) {
        for (part, shape) in [("lora_A", [rank, 16]), ("lora_B", [16, rank])] {
            self.tensors.push(Tensor::new(&format!("base_model.model.{module}.{part}.weight"), Format::F32, &shape));
        }
    }

    fn whole(&mut self, name: &str) {
        self.tensors.push(Tensor::new(&format!("base_model.model.{name}"), Format::F32, &[8, 16]));
    }
}

#[test]
fn adapters_are_held_to_what_they_announce() {
    use Severity::{Info, Low, Medium};
    type Case = (&'static str, fn(&mut Adapter), &'static [(&'static str, Severity)], &'static str);
    let cases: &[Case] = &[
        ("honest", |_| {}, &[], ""),
        ("a module more", |a| a.lora("model.layers.1.mlp.down_proj", 4), &[("adapter-extra", Medium)], "1 module that"),
        ("named like one", |a| a.lora("model.layers.1.self_attn.xq_proj", 4), &[("adapter-extra", Medium)], "xq_proj"),
        ("a head unannounced", |a| a.whole("lm_head.weight"), &[("adapter-extra", Medium)], "lm_head"),
        ("a norm unannounced", |a| a.whole("model.norm.weight"), &[("adapter-extra", Medium)], "model.norm"),
        (
            "a bias unannounced",
            |a| a.whole("model.layers.0.self_attn.q_proj.bias"),
            &[("adapter-extra", Medium)],
            "bias",
        ),
        (
            "a bias announced",
            |a| {
                a.config["bias"] = "lora_only".into();
                a.whole("model.layers.0.self_attn.q_proj.bias");
            },
            &[],
            "",
        ),
        (
            "a head announced",
            |a| {
                a.config["modules_to_save"] = json!(["lm_head", "norm"]);
                a.whole("lm_head.weight");
                a.whole("model.layers.0.input_layernorm.weight");
            },
            &[],
            "",
        ),
        (
            "an embedding that is a target, saved beside its change",
            |a| {
                a.config["target_modules"] = json!(["q_proj", "v_proj", "embed_tokens"]);
                a.lora("model.embed_tokens", 4);
                a.whole("model.embed_tokens.base_layer.weight");
            },
            &[],
            "",
        ),
        ("a pattern", |a| a.config["target_modules"] = r".*self_attn\.(q|v)_proj".into(), &[], ""),
        (
            "a narrower pattern",
            |a| a.config["target_modules"] = r".*\.q_proj".into(),
            &[("adapter-extra", Medium)],
            "3 modules",
        ),
        ("no pattern", |a| a.config["target_modules"] = "(".into(), &[("adapter-mismatch", Info)], "is not read"),
        ("all linears", |a| a.config["target_modules"] = "all-linear".into(), &[], ""),
        (
            "all linears are not the head",
            |a| {
                a.config["target_modules"] = "all-linear".into();
                a.lora("lm_head", 4);
            },
            &[("adapter-extra", Medium)],
            "lm_head",
        ),
        (
            "other layers",
            |a| a.config["layers_to_transform"] = json!([0, 1]),
            &[("adapter-extra", Medium)],
            "2 modules",
        ),
        ("these layers", |a| a.config["layers_to_transform"] = json!([0, 1, 2]), &[], ""),
        ("excluded", |a| a.config["exclude_modules"] = json!(["v_proj"]), &[("adapter-extra", Medium)], "3 modules"),
        (
            "announced in vain",
            |a| a.config["target_modules"] = json!(["q_proj", "v_proj", "k_proj"]),
            &[("adapter-mismatch", Info)],
            "k_proj",
        ),
        (
            "another rank",
            |a| a.config["r"] = 8.into(),
            &[("adapter-mismatch", Medium)],
            "rank 4, the configuration says 8",
        ),
        (
            "another rank by a pattern",
            |a| {
                a.config["rank_pattern"] = json!({ "layers.1.self_attn.k_proj": 2 });
                a.config["target_modules"] = json!(["q_proj", "v_proj", "k_proj"]);
                a.lora("model.layers.1.self_attn.k_proj", 2);
            },
            &[],
            "",
        ),
        ("half a pair", |a| drop(a.tensors.pop()), &[("adapter-mismatch", Medium)], "is missing"),
        ("an absurd scale", |a| a.config["lora_alpha"] = 100_000.into(), &[("adapter-scale", Medium)], "over rank 4"),
        ("rsLoRA", |a| (a.config["use_rslora"], a.config["lora_alpha"]) = (true.into(), 160.into()), &[], ""),
        ("a negative scale", |a| a.config["lora_alpha"] = (-8).into(), &[("adapter-scale", Low)], "taken away"),
        ("no scale", |a| a.config["lora_alpha"] = 0.into(), &[("adapter-scale", Info)], "adds nothing"),
        ("no object", |a| a.config = json!([1]), &[("adapter-mismatch", Medium)], "no JSON object"),
        ("untrained", |a| a.tensors[1].bytes.fill(0), &[("all-zero", Info)], "all 64"),
    ];
    for (case, change, want, says) in cases {
        let mut a = Adapter::honest();
        change(&mut a);
        let folder = Folder::new();
        folder.write("adapter_config.json", a.config.to_string());
        folder.write("adapter_model.safetensors", safetensors_of(&a.tensors));
        let found = found(&folder.0);
        assert_eq!(brief(&found), *want, "{case}: {found:?}");
        assert!(found.iter().all(|f| f.what.contains(says)), "{case}: {found:?}");
    }
}

#[test]
fn known_bad_files_are_found_by_their_digests() {
    let folder = Folder::new();
    folder.write("a.txt", "abc");
    folder.write("b.txt", "abcd");
    let list = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  seen in a model\n";
    let bad = KnownBad::parse(list).unwrap();
    let look = |path: &Path| {
        let report = audit(path, "x", &Options { known_bad: Some(&bad), ..Default::default() }).unwrap();
        report.findings.into_iter().filter(|f| f.rule == "known-bad").collect::<Vec<_>>()
    };
    let found = look(&folder.0);
    assert_eq!((found.len(), found[0].severity, &*found[0].file), (1, Severity::Critical, "a.txt"));
    assert!(found[0].what.contains("seen in a model"));
    assert_eq!(look(&folder.0.join("a.txt")).len(), 1);
    assert_eq!(look(&folder.0.join("b.txt")), []);
}

/// Statistics as their words define them, in f64.
fn plainly(view: &TensorView) -> (usize, usize, f32, f32, f64, f64) {
    let (mut bad, mut zeros, mut min, mut max, mut sum, mut squares, mut n) =
        (0, 0, f32::MAX, f32::MIN, 0f64, 0f64, 0f64);
    values(view, |_, run| {
        for v in run {
            if !v.is_finite() {
                bad += 1;
                continue;
            }
            zeros += usize::from(*v == 0.0);
            (min, max) = (min.min(*v), max.max(*v));
            sum += f64::from(*v);
            squares += f64::from(*v) * f64::from(*v);
            n += 1.0;
        }
    });
    (bad, zeros, min, max, sum / n, (squares / n).sqrt())
}

#[test]
fn statistics_are_those_of_the_values_for_any_number_of_threads() {
    for f in &FORMATS {
        for blocks in [1, 3, 40] {
            let n = f.block * blocks * if f.block == 1 { 331 } else { 61 };
            let t = Tensor::new(f.name, f.format, &[n]);
            let view = TensorView { format: f.format, shape: vec![n], bytes: t.bytes.into() };
            let s = statistics(&view, 1);
            let (bad, zeros, min, max, mean, rms) = plainly(&view);
            assert_eq!(
                (s.elements, s.seen, s.non_finite, s.zeros, s.min, s.max),
                (n, n, bad, zeros, min, max),
                "{}",
                f.name
            );
            assert!((s.mean - mean).abs() <= 1e-6 * rms && (s.rms - rms).abs() <= 1e-6 * rms, "{}: {s:?}", f.name);
            assert_eq!(s.scales.map_or(0, |s| s.blocks), if f.block > 1 { n / f.block } else { 0 });
            assert_eq!(statistics(&view, 3), s);
        }
    }
    // Several pieces, and an end within a run.
    let t = Tensor::new("x", Format::BF16, &[3 * (1 << 20) + 1234]);
    let view = TensorView { format: Format::BF16, shape: t.shape, bytes: t.bytes.into() };
    let s = statistics(&view, 1);
    assert!((2..6).all(|threads| statistics(&view, threads) == s));
    let (.., mean, rms) = plainly(&view);
    assert!((s.mean - mean).abs() <= 1e-7 * rms && (s.rms - rms).abs() <= 1e-6 * rms);
}

#[test]
fn statistics_keep_odd_values_apart() {
    let of = |values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        statistics(&TensorView { format: Format::F32, shape: vec![values.len()], bytes: bytes.into() }, 2)
    };
    let mut v = vec![0.5f32; 3 * RUN];
    v[RUN + 3] = f32::NAN;
    v[2 * RUN + 9] = f32::INFINITY;
    v[17] = -0.75;
    v[18] = -0.0;
    let s = of(&v);
    assert_eq!((s.non_finite, s.first_non_finite, s.zeros, s.min, s.max), (2, Some(RUN + 3), 1, -0.75, 0.5));
    assert_eq!((s.abs_max, s.abs_max_at, s.usual), (0.75, 17, 0.25));
    // Squares beyond f32, both ways.
    assert!((of(&[3e30, -3e30, 0.0, 0.0]).rms / 3e30 - 0.5f64.sqrt()).abs() < 1e-6);
    assert!((of(&[3e-30; 8]).rms / 3e-30 - 1.0).abs() < 1e-6);
    let none = of(&[f32::NAN; 3]);
    assert_eq!((none.non_finite, none.min, none.max, none.rms, none.mean), (3, 0.0, 0.0, 0.0, 0.0));
    assert_eq!((of(&[]).elements, of(&[]).abs_max_at, of(&[]).rms), (0, 0, 0.0));
    // Every half, by the same route as runs of them.
    let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let s = statistics(&TensorView { format: Format::F16, shape: vec![1 << 16], bytes: halves.into() }, 1);
    assert_eq!((s.non_finite, s.zeros, s.max, s.min), (2048, 2, 65504.0, -65504.0));
    for h in (0..=u16::MAX).step_by(7) {
        let want = float::f16_to_f32(h);
        let view = TensorView { format: Format::F16, shape: vec![1], bytes: h.to_le_bytes().to_vec().into() };
        let s = statistics(&view, 1);
        assert!(if want.is_finite() { s.max == want } else { s.non_finite == 1 }, "{h:#x}: {s:?}");
    }
}
