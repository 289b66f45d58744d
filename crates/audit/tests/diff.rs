//! Built pairs of models, one for each thing that a comparison must tell apart.
use pondera_audit::diff::{Lineage, Report, Side, Status, diff, page};
use pondera_quant::{
    Format,
    float::{f16_to_f32, f32_to_bf16, f32_to_f16},
};
use pondera_text::Tokenizer;
use pondera_weights::{
    TensorSpec, Weights,
    gguf::{self, Meta},
    safetensors,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

const HIDDEN: usize = 256;
const INNER: usize = 512;
const VOCAB: usize = 320;
const HEADS: usize = 4;
const KV: usize = 2;
const LAYERS: usize = 2;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("diff-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    /// About normal, of deviation 1.
    fn normal(&mut self) -> f32 {
        ((0..6).map(|_| self.uniform()).sum::<f32>() - 3.0) * 2f32.sqrt()
    }
}

/// A small Llama in memory: name to shape and values.
#[derive(Clone)]
struct Tiny {
    layers: usize,
    tied: bool,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Tiny {
    fn new(seed: u64) -> Tiny {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut t = Tiny { layers: LAYERS, tied: false, tensors: BTreeMap::new() };
        let kv = HIDDEN / HEADS * KV;
        let mut shapes =
            vec![("model.embed_tokens".to_string(), vec![VOCAB, HIDDEN]), ("lm_head".into(), vec![VOCAB, HIDDEN])];
        shapes.push(("model.norm".into(), vec![HIDDEN]));
        for l in 0..LAYERS {
            for (name, shape) in [
                ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
                ("self_attn.k_proj", vec![kv, HIDDEN]),
                ("self_attn.v_proj", vec![kv, HIDDEN]),
                ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
                ("mlp.gate_proj", vec![INNER, HIDDEN]),
                ("mlp.up_proj", vec![INNER, HIDDEN]),
                ("mlp.down_proj", vec![HIDDEN, INNER]),
                ("input_layernorm", vec![HIDDEN]),
                ("post_attention_layernorm", vec![HIDDEN]),
            ] {
                shapes.push((format!("model.layers.{l}.{name}"), shape));
            }
        }
        for (name, shape) in shapes {
            let n = shape.iter().product();
            let vector = shape.len() == 1;
            let values = (0..n).map(|_| if vector { 1.0 + 0.1 * random.normal() } else { random.normal() / 16.0 });
            let values = values.collect();
            t.tensors.insert(format!("{name}.weight"), (shape, values));
        }
        t
    }

    /// Every value changed by `f`, given the tensor's name.
    fn each(&self, mut f: impl FnMut(&str, f32) -> f32) -> Tiny {
        let mut t = self.clone();
        t.tensors.iter_mut().for_each(|(name, (_, values))| values.iter_mut().for_each(|v| *v = f(name, *v)));
        t
    }

    /// Noise of `share` of each matrix's norm.
    fn trained(&self, share: f32, seed: u64) -> Tiny {
        let mut random = Random(seed);
        self.each(|name, v| if name.contains("norm") { v } else { v + random.normal() / 16.0 * share })
    }

    /// A product of `rank` columns and rows added to the matrices whose names contain one of `targets`, `share` of their norm.
    fn adapted(&self, targets: &[&str], rank: usize, share: f32) -> Tiny {
        let (mut t, mut random) = (self.clone(), Random(99));
        for (name, (shape, values)) in &mut t.tensors {
            if !targets.iter().any(|t| name.contains(t)) {
                continue;
            }
            for _ in 0..rank {
                let u: Vec<f32> = (0..shape[0]).map(|_| random.normal()).collect();
                let v: Vec<f32> = (0..shape[1]).map(|_| random.normal()).collect();
                let scale = share / 16.0 / (rank as f32).sqrt();
                for (row, u) in values.chunks_exact_mut(shape[1]).zip(&u) {
                    row.iter_mut().zip(&v).for_each(|(w, v)| *w += scale * u * v);
                }
            }
        }
        t
    }

    /// `f` of the values of both.
    fn with(&self, other: &Tiny, f: impl Fn(f32, f32) -> f32) -> Tiny {
        let mut t = self.clone();
        for (name, (_, values)) in &mut t.tensors {
            values.iter_mut().zip(&other.tensors[name].1).for_each(|(v, o)| *v = f(*v, *o));
        }
        t
    }

    fn rounded(&self, to: Format) -> Tiny {
        self.each(|_, v| match to {
            Format::BF16 => f32::from_bits(u32::from(f32_to_bf16(v)) << 16),
            Format::F16 => f16_to_f32(f32_to_f16(v)),
            _ => v,
        })
    }

    /// A repository.
    fn save(&self, folder: &Folder, name: &str, format: Format) -> PathBuf {
        let path = folder.0.join(name);
        fs::create_dir_all(&path).unwrap();
        let vocab = self.tensors["model.embed_tokens.weight"].0[0];
        let config = json!({ "model_type": "llama", "vocab_size": vocab, "hidden_size": HIDDEN, "intermediate_size": INNER,
            "num_hidden_layers": self.layers, "num_attention_heads": HEADS, "num_key_value_heads": KV,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": self.tied });
        fs::write(path.join("config.json"), config.to_string()).unwrap();
        fs::write(path.join("model.safetensors"), self.file(format)).unwrap();
        path
    }

    fn file(&self, format: Format) -> Vec<u8> {
        let specs: Vec<_> =
            self.tensors.iter().map(|(n, (shape, _))| TensorSpec::new(n.clone(), format, shape)).collect();
        let mut w = safetensors::Writer::new(Vec::new(), &[], &specs).unwrap();
        self.tensors.values().for_each(|(_, values)| w.write(&encoded(values, format)).unwrap());
        w.finish().unwrap()
    }

    /// A GGUF file as llama.cpp's converter makes it: rotary pairs side by side.
    fn save_gguf(&self, folder: &Folder, name: &str, format: Format) -> PathBuf {
        let names = [
            ("model.embed_tokens", "token_embd"),
            ("lm_head", "output"),
            ("model.norm", "output_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
        ];
        let (mut specs, mut data) = (Vec::new(), Vec::new());
        for (name, (shape, values)) in &self.tensors {
            let mut gguf = name.replace("model.layers.", "blk.");
            names.iter().for_each(|(hf, gg)| gguf = gguf.replace(hf, gg));
            let mut values = values.clone();
            let heads = if name.contains("q_proj") { HEADS } else { KV };
            if name.contains("q_proj") || name.contains("k_proj") {
                let d = shape[0] / heads;
                for r in 0..shape[0] {
                    let (h, i, half) = (r / d, r % d % (d / 2), r % d / (d / 2));
                    let to = h * d + 2 * i + half;
                    values[to * shape[1]..(to + 1) * shape[1]]
                        .copy_from_slice(&self.tensors[name].1[r * shape[1]..(r + 1) * shape[1]]);
                }
            }
            let format = if shape.len() == 1 { Format::F32 } else { format };
            specs.push(TensorSpec::new(gguf, format, shape));
            data.push(encoded(&values, format));
        }
        let u = |n: usize| Meta::U32(n as u32);
        let metadata = [
            ("general.architecture", Meta::from("llama")),
            ("llama.block_count", u(self.layers)),
            ("llama.context_length", u(512)),
            ("llama.embedding_length", u(HIDDEN)),
            ("llama.feed_forward_length", u(INNER)),
            ("llama.attention.head_count", u(HEADS)),
            ("llama.attention.head_count_kv", u(KV)),
            ("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-5)),
            ("llama.rope.freq_base", Meta::F32(10000.0)),
            ("llama.vocab_size", u(VOCAB)),
        ];
        let mut w = gguf::Writer::new(Vec::new(), &metadata, &specs).unwrap();
        data.iter().for_each(|d| w.write(d).unwrap());
        let path = folder.0.join(name);
        fs::write(&path, w.finish().unwrap()).unwrap();
        path
    }
}

fn encoded(values: &[f32], format: Format) -> Vec<u8> {
    let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
    (format.info().encode.unwrap())(values, &mut bytes);
    bytes
}

fn side(path: &Path) -> Side {
    let weights = Weights::open(path).unwrap();
    let tokenizer = Tokenizer::open(path).ok();
    Side::new(path.file_name().unwrap().to_string_lossy().into_owned(), weights, tokenizer).unwrap()
}

fn compare(a: &Path, b: &Path) -> Report {
    diff(&mut side(a), &mut side(b), None, 2, &|_| true).unwrap()
}

fn compare_with(a: &Path, b: &Path, c: &Path) -> Report {
    diff(&mut side(a), &mut side(b), Some(&mut side(c)), 2, &|_| true).unwrap()
}

fn shown(r: &Report) -> String {
    let t = |t: &pondera_audit::diff::TensorDiff| {
        let rank = t.rank.as_ref().map(|r| (r.rank, r.more, r.share));
        format!(
            "{} {:?} {:?} {:?} {:?} {:?} {:?}\n",
            t.name, t.status, t.relative_norm, t.cosine, t.expected_noise, rank, t.notes
        )
    };
    format!("{:#?}\n{}", r.verdict, r.tensors.iter().map(t).collect::<String>())
}

#[track_caller]
fn expect(r: &Report, want: Lineage) {
    assert_eq!(r.verdict.lineage, want, "{}", shown(r));
    assert!(!r.verdict.reasons.is_empty() && !r.verdict.summary.is_empty());
}

#[test]
fn identical_models_are_identical() {
    let f = Folder::new();
    let base = Tiny::new(1);
    let (a, b) = (base.save(&f, "a", Format::F32), base.save(&f, "b", Format::F32));
    let r = compare(&a, &b);
    expect(&r, Lineage::Identical);
    assert!(!r.differs);
    assert!(r.tensors.iter().all(|t| t.status == Status::Identical && t.relative_norm == Some(0.0)));
    // One bit of one weight.
    let mut other = base.clone();
    let values = &mut other.tensors.get_mut("model.layers.1.mlp.up_proj.weight").unwrap().1;
    values[77] = f32::from_bits(values[77].to_bits() ^ 1);
    let r = compare(&a, &other.save(&f, "c", Format::F32));
    assert!(r.differs && r.verdict.lineage != Lineage::Identical);
    assert_eq!(r.tensors.iter().map(|t| t.differing).sum::<u64>(), 1);
}

#[test]
fn the_same_values_are_found_through_formats_and_permutations() {
    let f = Folder::new();
    let base = Tiny::new(2);
    let (hf, gguf) = (base.save(&f, "a", Format::F32), base.save_gguf(&f, "b.gguf", Format::F32));
    for (a, b) in [(&hf, &gguf), (&gguf, &hf)] {
        let r = compare(a, b);
        expect(&r, Lineage::SameValues);
        assert!(r.only_in_a.is_empty() && r.only_in_b.is_empty());
        let turned = r.tensors.iter().filter(|t| t.notes.iter().any(|n| n.contains("permuted")));
        assert_eq!(turned.count(), 2 * LAYERS, "{}", shown(&r));
    }
    // Wider and back.
    let half = base.rounded(Format::BF16);
    expect(&compare(&half.save(&f, "c", Format::BF16), &half.save(&f, "d", Format::F32)), Lineage::SameValues);
}

#[test]
fn another_type_is_told_by_its_noise() {
    let f = Folder::new();
    let base = Tiny::new(3);
    let a = base.save(&f, "a", Format::F32);
    for format in [Format::BF16, Format::F16, Format::F8E4M3] {
        let r = compare(&a, &base.save(&f, "plain", format));
        expect(&r, Lineage::Requantized);
        assert!(r.verdict.summary.contains(format.info().name), "{}", r.verdict.summary);
    }
    for format in [Format::Q8_0, Format::Q6K, Format::Q4K, Format::Q4_0, Format::Iq4Xs, Format::Q2K] {
        let r = compare(&a, &base.save_gguf(&f, "b.gguf", format));
        expect(&r, Lineage::Requantized);
        let t = r.tensors.iter().find(|t| t.kind == "mlp.up_proj").unwrap();
        let (found, expected) = (t.relative_norm.unwrap(), t.expected_noise.unwrap());
        assert!((0.6..1.6).contains(&(found / expected)), "{format:?}: {found} {expected}");
        let rank = t.rank.as_ref().unwrap();
        assert!(rank.effective_rank > 0.2 * rank.full_rank as f64, "{format:?}: {rank:?}");
    }
    // Two lossy types of one model, none of them the original.
    let (x, y) = (base.save_gguf(&f, "x.gguf", Format::Q4_0), base.save_gguf(&f, "y.gguf", Format::Q8_0));
    expect(&compare(&x, &y), Lineage::Requantized);
}

#[test]
fn merged_adapters_have_their_rank() {
    let f = Folder::new();
    let base = Tiny::new(4);
    for (rank, share, format) in [
        (1, 0.05, Format::F32),
        (8, 0.01, Format::F32),
        (32, 0.05, Format::F32),
        (8, 0.05, Format::BF16),
        (8, 0.004, Format::BF16),
        (16, 0.02, Format::F16),
    ] {
        let base = base.rounded(format);
        let a = base.save(&f, "a", format);
        let r = compare(&a, &base.adapted(&["q_proj", "v_proj"], rank, share).save(&f, "b", format));
        expect(&r, Lineage::AdapterMerged);
        assert_eq!(r.verdict.rank, Some(rank), "{format:?} {share}: {}", shown(&r));
        let low: Vec<&str> = r.tensors.iter().filter(|t| t.status == Status::LowRank).map(|t| &*t.kind).collect();
        assert_eq!(low.len(), 2 * LAYERS, "{}", shown(&r));
        assert!(low.iter().all(|k| k.contains("q_proj") || k.contains("v_proj")));
    }
    // Merged, then quantized: under the noise of the type.
    let merged = base.adapted(&["proj"], 4, 0.1);
    let r = compare(&base.save(&f, "a", Format::F32), &merged.save_gguf(&f, "b.gguf", Format::Q8_0));
    expect(&r, Lineage::AdapterMerged);
    assert_eq!(r.verdict.rank, Some(4), "{}", shown(&r));
}

#[test]
fn training_is_told_by_how_far_it_went() {
    let f = Folder::new();
    let base = Tiny::new(5);
    let a = base.save(&f, "a", Format::F32);
    expect(&compare(&a, &base.trained(0.01, 7).save(&f, "b", Format::F32)), Lineage::FineTuned);
    expect(&compare(&a, &base.trained(0.3, 7).save(&f, "b", Format::F32)), Lineage::ContinuedPretraining);
    // In bf16 by less than a step of most weights.
    let half = base.rounded(Format::BF16);
    let tuned = half.trained(0.002, 7);
    let r = compare(&half.save(&f, "c", Format::BF16), &tuned.save(&f, "d", Format::BF16));
    expect(&r, Lineage::FineTuned);
    // Only some of it.
    let mut random = Random(3);
    let some =
        base.each(|n, v| if n.contains("layers.1") && n.contains("mlp") { v + random.normal() * 1e-3 } else { v });
    let r = compare(&a, &some.save(&f, "e", Format::F32));
    expect(&r, Lineage::FineTuned);
    assert!(r.verdict.reasons.iter().any(|r| r.contains("not trained")), "{:?}", r.verdict);
    let by = |layer: usize| r.layers.iter().find(|l| l.layer == Some(layer)).unwrap().relative_norm.unwrap();
    assert!(by(0) == 0.0 && by(1) > 0.001);
}

#[test]
fn merges_are_found_with_the_third_model() {
    let f = Folder::new();
    let base = Tiny::new(6);
    let (one, two) = (base.trained(0.02, 1), base.trained(0.02, 2));
    let (a, c) = (one.save(&f, "a", Format::F32), two.save(&f, "c", Format::F32));
    for (y, format) in [(0.5, Format::F32), (0.3, Format::F32), (0.5, Format::BF16)] {
        let merged = one.with(&two, |x, z| (1.0 - y) * x + y * z);
        let r = compare_with(&a, &merged.save(&f, "b", format), &c);
        expect(&r, Lineage::Merged);
        let m = r.verdict.merge.as_ref().unwrap();
        assert_eq!(m.kind, "linear", "{}", shown(&r));
        assert!((m.y.unwrap() - f64::from(y)).abs() < 0.01, "{m:?}");
    }
    // Spherical, between models that are far apart.
    let far = Tiny::new(60);
    let mut sphere = one.clone();
    for (name, (_, values)) in &mut sphere.tensors {
        let other = &far.tensors[name].1;
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum::<f64>();
        let angle = (dot(values, other) / (dot(values, values) * dot(other, other)).sqrt()).acos();
        let (x, y) = ((0.6 * angle).sin() / angle.sin(), (0.4 * angle).sin() / angle.sin());
        values.iter_mut().zip(other).for_each(|(v, o)| *v = (x * f64::from(*v) + y * f64::from(*o)) as f32);
    }
    let r = compare_with(&a, &sphere.save(&f, "b", Format::F32), &far.save(&f, "far", Format::F32));
    expect(&r, Lineage::Merged);
    assert_eq!(r.verdict.merge.as_ref().unwrap().kind, "slerp", "{}", shown(&r));
    // What is no merge is called none.
    let r = compare_with(&a, &one.trained(0.02, 9).save(&f, "b", Format::F32), &c);
    expect(&r, Lineage::FineTuned);
    assert!(r.verdict.reasons.iter().any(|r| r.contains("no combination")), "{:?}", r.verdict);
}

#[test]
fn merges_with_strangers_and_of_layers_need_no_third() {
    let f = Folder::new();
    let base = Tiny::new(7);
    let a = base.save(&f, "a", Format::F32);
    let half = base.with(&Tiny::new(70), |x, y| 0.5 * x + 0.5 * y);
    let r = compare(&a, &half.save(&f, "b", Format::F32));
    expect(&r, Lineage::Merged);
    assert_eq!(r.verdict.merge.as_ref().unwrap().kind, "with_unrelated");

    // Layers 0, 1, 0, 1; and the last alone.
    let stacked = |layers: &[usize]| {
        let mut t = base.clone();
        t.tensors.retain(|n, _| !n.contains(".layers."));
        for (to, from) in layers.iter().enumerate() {
            let old = format!("model.layers.{from}.");
            for (n, v) in base.tensors.iter().filter(|(n, _)| n.starts_with(&old)) {
                t.tensors.insert(n.replace(&old, &format!("model.layers.{to}.")), v.clone());
            }
        }
        t.layers = layers.len();
        t
    };
    let r = compare(&a, &stacked(&[0, 1, 0, 1]).save(&f, "c", Format::F32));
    expect(&r, Lineage::Merged);
    assert_eq!(r.layer_map, Some([0, 1, 0, 1].map(Some).to_vec()));
    let r = compare(&a, &stacked(&[1]).save(&f, "d", Format::F32));
    assert_eq!(r.layer_map, Some(vec![Some(1)]));
    expect(&r, Lineage::Pruned);
}

#[test]
fn strangers_are_strangers() {
    let f = Folder::new();
    let (one, two) = (Tiny::new(8), Tiny::new(80));
    let a = one.save(&f, "a", Format::F32);
    expect(&compare(&a, &two.save(&f, "b", Format::F32)), Lineage::Unrelated);
    expect(&compare(&a, &two.save_gguf(&f, "b.gguf", Format::Q8_0)), Lineage::Unrelated);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/gpt2");
    let r = compare(&a, &golden);
    expect(&r, Lineage::DifferentArchitecture);
    assert!(r.verdict.reasons[0].contains("gpt2"), "{:?}", r.verdict);
}

#[test]
fn grown_vocabularies_and_tied_heads_are_no_strangers() {
    let f = Folder::new();
    let base = Tiny::new(9);
    let a = base.save(&f, "a", Format::F32);
    let mut grown = base.clone();
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let (shape, values) = grown.tensors.get_mut(name).unwrap();
        shape[0] += 8;
        values.extend((0..8 * HIDDEN).map(|i| (i as f32).sin()));
    }
    let r = compare(&a, &grown.save(&f, "b", Format::F32));
    expect(&r, Lineage::Identical);
    assert!(r.differs && r.tensors.iter().filter(|t| t.rows_only == [0, 8]).count() == 2, "{}", shown(&r));

    let mut tied = base.clone();
    tied.tied = true;
    let embedding = tied.tensors["model.embed_tokens.weight"].clone();
    tied.tensors.remove("lm_head.weight");
    let mut untied = base.clone();
    untied.tensors.insert("lm_head.weight".into(), embedding);
    let (t, u) = (tied.save(&f, "t", Format::F32), untied.save(&f, "u", Format::F32));
    for (x, y) in [(&t, &u), (&u, &t)] {
        let r = compare(x, y);
        expect(&r, Lineage::Identical);
        assert!(r.only_in_a.is_empty() && r.only_in_b.is_empty(), "{:?} {:?}", r.only_in_a, r.only_in_b);
        assert!(r.config.iter().any(|c| c.key == "tie_word_embeddings"));
    }
}

/// A vocabulary of `VOCAB` tokens, token `i` called as `name` says.
fn vocabulary(path: &Path, name: impl Fn(usize) -> String) {
    let vocab: serde_json::Map<String, serde_json::Value> = (0..VOCAB).map(|i| (name(i), i.into())).collect();
    let json = json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [] } });
    fs::write(path.join("tokenizer.json"), json.to_string()).unwrap();
}

#[test]
fn rows_follow_their_tokens_where_ids_moved() {
    let f = Folder::new();
    let base = Tiny::new(10);
    let turned = |i: usize| (i + 100) % VOCAB;
    let mut moved = base.clone();
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let old = &base.tensors[name].1;
        let values = &mut moved.tensors.get_mut(name).unwrap().1;
        for i in 0..VOCAB {
            let from = turned(i) * HIDDEN;
            values[i * HIDDEN..(i + 1) * HIDDEN].copy_from_slice(&old[from..from + HIDDEN]);
        }
    }
    let (a, b) = (base.save(&f, "a", Format::F32), moved.save(&f, "b", Format::F32));
    vocabulary(&a, |i| format!("t{i}"));
    vocabulary(&b, |i| format!("t{}", turned(i)));
    let r = compare(&a, &b);
    assert_eq!((r.tokenizer.changed, r.tokenizer.moved), (VOCAB, VOCAB));
    expect(&r, Lineage::SameValues);
    // One token that is new.
    vocabulary(&b, |i| if i == 5 { "new".into() } else { format!("t{}", turned(i)) });
    let r = compare(&a, &b);
    assert_eq!((r.tokenizer.changed, r.tokenizer.moved), (VOCAB, VOCAB - 1));
    assert!(r.tensors.iter().filter(|t| t.rows_only == [1, 1]).count() == 2, "{}", shown(&r));
    fs::write(b.join("chat_template.jinja"), "{{ messages }}\n").unwrap();
    fs::write(a.join("chat_template.jinja"), "{{ messages }}").unwrap();
    assert_eq!(compare(&a, &b).chat_template.status, "whitespace");
}

#[test]
fn hostile_tensors_are_told_and_nothing_panics() {
    let f = Folder::new();
    let file = |name: &str, tensors: &[(&str, Vec<usize>, Vec<f32>)]| {
        let specs: Vec<_> = tensors.iter().map(|(n, shape, _)| TensorSpec::new(*n, Format::F32, shape)).collect();
        let mut w = safetensors::Writer::new(Vec::new(), &[], &specs).unwrap();
        tensors.iter().for_each(|(_, _, v)| w.write(&encoded(v, Format::F32)).unwrap());
        let path = f.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, w.finish().unwrap()).unwrap();
        path
    };
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let a = file(
        "1/a.safetensors",
        &[
            ("nan", vec![2, 2], vec![nan, 1.0, 2.0, 3.0]),
            ("zero", vec![4, 4], vec![0.0; 16]),
            ("empty", vec![0, 8], vec![]),
            ("other", vec![2, 3], vec![1.0; 6]),
            ("scalar", vec![], vec![1.0]),
            ("huge", vec![2, 2], vec![f32::MAX, -f32::MAX, f32::MIN_POSITIVE, 1e-45]),
            ("stack", vec![2, 2, 2], vec![1.0; 8]),
        ],
    );
    let b = file(
        "2/b.safetensors",
        &[
            ("nan", vec![2, 2], vec![nan, inf, 2.0, 4.0]),
            ("zero", vec![4, 4], vec![1.0; 16]),
            ("empty", vec![0, 8], vec![]),
            ("other", vec![3, 2], vec![1.0; 6]),
            ("scalar", vec![], vec![2.0]),
            ("huge", vec![2, 2], vec![-f32::MAX, f32::MAX, 0.0, 0.0]),
            ("stack", vec![3, 2, 2], vec![1.0; 12]),
        ],
    );
    for (x, y) in [(&a, &b), (&b, &a), (&a, &a)] {
        let r = compare(x, y);
        serde_json::to_string(&r).unwrap();
        page(&r);
    }
    let r = compare(&a, &b);
    let of = |name: &str| r.tensors.iter().find(|t| t.name == name).unwrap();
    assert_eq!((of("nan").nonfinite, of("nan").differing), ([1, 2], 2));
    assert_eq!((of("zero").relative_norm, of("zero").cosine), (None, None));
    assert_eq!((of("other").status, of("stack").status), (Status::Shape, Status::Shape));
    assert!(compare(&a, &a).verdict.lineage == Lineage::Identical);
    // A vocabulary of nothing, a configuration of nothing known.
    fs::write(f.0.join("1/config.json"), r#"{"model_type": "nobody-knows", "hidden_size": 7}"#).unwrap();
    assert!(compare(&a, &b).a.note.is_some());
    fs::write(f.0.join("1/config.json"), "{ broken").unwrap();
    assert!(Side::new("a".into(), Weights::open(&a).unwrap(), None).is_err());
}

#[test]
fn progress_counts_everything_and_can_stop_it() {
    let f = Folder::new();
    let base = Tiny::new(11);
    let (a, b) = (base.save(&f, "a", Format::F32), base.trained(0.1, 1).save(&f, "b", Format::F32));
    let done = std::sync::atomic::AtomicU64::new(0);
    let count = |n: u64| {
        done.fetch_add(n, Ordering::Relaxed);
        true
    };
    let (mut x, mut y) = (side(&a), side(&b));
    let total = pondera_audit::diff::elements(&y);
    diff(&mut x, &mut y, None, 2, &count).unwrap();
    assert_eq!(done.into_inner(), total);
    assert!(diff(&mut side(&a), &mut side(&b), None, 2, &|_| false).is_err());
    // Whatever the threads, the figures are the same.
    let of = |threads| {
        serde_json::to_string(&diff(&mut side(&a), &mut side(&b), None, threads, &|_| true).unwrap()).unwrap()
    };
    assert_eq!(of(1), of(3));
}

#[test]
fn the_page_needs_nothing_and_escapes_everything() {
    let f = Folder::new();
    let base = Tiny::new(12);
    let (a, b) = (base.save(&f, "a", Format::F32), base.trained(0.1, 1).save(&f, "<b onload='x'>", Format::F32));
    let html = page(&compare(&a, &b));
    assert!(html.starts_with("<!doctype html>") && html.contains("prefers-color-scheme: dark"));
    for word in ["<script", "http:", "https:", "src=", "<b onload", "@import", "url("] {
        assert!(!html.contains(word), "{word}");
    }
    assert_eq!(html.matches("class=\"h\"").count(), 9 * LAYERS + 3);
}

/// Every golden that is stored in both formats is one model, but for the family whose converter multiplies factors in.
#[test]
fn goldens_in_two_formats_are_one_model() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&goldens).unwrap().flatten() {
        let folder = entry.path();
        let (hf, gguf) = (folder.join("model.safetensors"), folder.join("model.gguf"));
        if !hf.is_file() || !gguf.is_file() || folder.ends_with("falcon_h1") {
            continue;
        }
        seen += 1;
        let r = compare(&folder, &gguf);
        let same = [Lineage::Identical, Lineage::SameValues, Lineage::Requantized].contains(&r.verdict.lineage);
        if !same {
            wrong.push(format!("{}: {}", folder.display(), shown(&r)));
        }
    }
    assert!(wrong.is_empty() && seen >= 15, "{seen}\n{}", wrong.join("\n"));
}
