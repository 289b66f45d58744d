//! Adapters against PEFT's values, in mixtures against themselves alone, and broken ones.
use pondera_arch::{AdapterFile, Config, Model, Source};
use pondera_ops::{Adapted, Adapter, Batch, KvType, Ops, PAGE, Reference};
use pondera_quant::{Bytes, Format, TensorView};
use pondera_weights::Weights;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Of the largest logit.
const TOLERANCE: f32 = 1e-4;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens")
}

fn names() -> Vec<String> {
    let folders = fs::read_dir(root().join("lora")).unwrap().map(|e| e.unwrap().path());
    let mut names: Vec<String> = folders
        .filter(|p| p.join("base.txt").exists())
        .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

struct Base {
    config: Config,
    weights: Weights,
    model: Model,
}

fn base(name: &str) -> Base {
    let weights = Weights::open(root().join(name)).unwrap();
    let config = Config::from_json(&fs::read(root().join(name).join("config.json")).unwrap()).unwrap();
    let model = Model::load(&config, &Source::Files(&weights)).unwrap();
    Base { config, weights, model }
}

fn load(b: &Base, weights: &Weights, keys: &[u8]) -> pondera_arch::Result<Adapter> {
    let file = AdapterFile { weights, keys: Some(keys), scale: 1.0 };
    b.model.adapter(&b.config, &Source::Files(&b.weights), &[file])
}

fn golden(name: &str) -> (Base, Adapter, Vec<u32>, Vec<f32>) {
    let folder = root().join("lora").join(name);
    let b = base(fs::read_to_string(folder.join("base.txt")).unwrap().trim());
    let weights = Weights::open(folder.join("adapter_model.safetensors")).unwrap();
    let keys = fs::read(folder.join("adapter_config.json")).unwrap();
    let adapter = load(&b, &weights, &keys).unwrap_or_else(|e| panic!("{name}: {e}"));
    let reference = Weights::open(folder.join("reference.safetensors")).unwrap();
    let ids = reference.get("input_ids").unwrap();
    let ids = ids.bytes.as_slice().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    let t = reference.get("logits").unwrap();
    let mut logits = vec![0.0; t.shape.iter().product()];
    (t.format.info().decode)(t.bytes.as_slice(), &mut logits);
    (b, adapter, ids, logits)
}

/// Logits of `parts`, tokens with an adapter each, in one step.
fn logits(model: &Model, parts: &[(&[u32], Option<&Adapter>)]) -> Vec<Vec<f32>> {
    let ops = Reference::new();
    let pages = |n: usize| n.div_ceil(PAGE);
    ops.reserve(model.caches(), KvType::F32, parts.iter().map(|p| pages(p.0.len())).sum());
    ops.reserve_states(model.states(), parts.len());
    let (mut all, mut page) = (Batch::default(), 0);
    for (i, (ids, adapter)) in parts.iter().enumerate() {
        let b = Batch::single(ids, 0);
        let first = all.len();
        let mut s = b.sequences[0].clone();
        s.rows = first..first + ids.len();
        s.pages = (page..page + pages(ids.len()) as u32).collect();
        s.keep = vec![(ids.len() as u32 - 1, i as u32)];
        s.adapter = adapter.map(|_| i as u32);
        page += pages(ids.len()) as u32;
        all.tokens.extend(&b.tokens);
        all.positions.extend(&b.positions);
        all.logit_rows.extend(first as u32..(first + ids.len()) as u32);
        all.sequences.push(s);
    }
    let adapted = Adapted::new(&ops, &all, |id| parts[id as usize].1);
    let y = model.forward(adapted.as_ref().map_or(&ops as &dyn Ops, |a| a), &all);
    let mut values = Vec::new();
    ops.read(&y, &mut values);
    let mut rows = values.chunks_exact(y.cols);
    parts.iter().map(|p| rows.by_ref().take(p.0.len()).flatten().copied().collect()).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_kind_gives_the_reference_values_and_company_moves_no_bit() {
    assert!(names().len() >= 15);
    for name in names() {
        let (b, adapter, ids, want) = golden(&name);
        let alone = logits(&b.model, &[(&ids, Some(&adapter))]).remove(0);
        let scale = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        let distance = alone.iter().zip(&want).fold(0f32, |m, (g, w)| m.max((g - w).abs())) / scale;
        assert!(distance <= TOLERANCE, "{name}: {distance:e} of the largest logit");
        let bare = logits(&b.model, &[(&ids, None)]).remove(0);
        let other = logits(&b.model, &[(&ids[3..20], Some(&adapter))]).remove(0);
        let mixed =
            logits(&b.model, &[(&ids, None), (&ids[3..20], Some(&adapter)), (&ids, Some(&adapter)), (&ids, None)]);
        for (got, want) in mixed.iter().zip([&bare, &other, &alone, &bare]) {
            assert!(bits(got) == bits(want), "{name}: company moves bits");
        }
    }
}

type Tensor = (String, Vec<usize>, Vec<f32>);

fn adapter_of(tensors: &[Tensor]) -> Weights {
    Weights::from_tensors(tensors.iter().map(|(name, shape, data)| {
        let bytes = Bytes::from(data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        (name.clone(), TensorView { format: Format::F32, shape: shape.clone(), bytes })
    }))
    .unwrap()
}

fn tensor(name: &str, shape: &[usize], value: f32) -> Tensor {
    (format!("base_model.model.{name}"), shape.to_vec(), vec![value; shape.iter().product()])
}

#[test]
fn what_is_broken_is_refused_by_name() {
    let b = base("llama");
    let q = "model.layers.0.self_attn.q_proj";
    let pair = |module: &str, a: &[usize], b: &[usize], value: f32| {
        vec![tensor(&format!("{module}.lora_A.weight"), a, value), tensor(&format!("{module}.lora_B.weight"), b, 0.1)]
    };
    let plain = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4}"#;
    let good = pair(q, &[2, 32], &[32, 2], 0.1);
    assert!(load(&b, &adapter_of(&good), plain.as_bytes()).is_ok());
    let with = |t: Tensor| good.iter().cloned().chain([t]).collect::<Vec<_>>();
    let cases: Vec<(&str, Vec<Tensor>, &str)> = vec![
        (plain, pair(q, &[2, 31], &[32, 2], 0.1), "q_proj"),
        (plain, pair(q, &[2, 32], &[32, 3], 0.1), "ranks"),
        (plain, pair(q, &[3, 32], &[32, 3], 0.1), "says rank 2"),
        (plain, pair(q, &[2, 32], &[32, 2], f32::NAN), "not finite"),
        (plain, good[..1].to_vec(), "lora_B is missing"),
        (plain, pair("model.layers.7.self_attn.q_proj", &[2, 32], &[32, 2], 0.1), "layers.7"),
        (plain, pair("model.layers.0.self_attn.rotary", &[2, 32], &[32, 2], 0.1), "rotary"),
        (plain, with(tensor("lm_head.weight", &[63, 32], 0.1)), "lm_head"),
        (plain, with(tensor("model.score.weight", &[2, 32], 0.1)), "score"),
        (plain, with(tensor(&format!("{q}.lora_C.weight"), &[2, 32], 0.1)), "lora_C"),
        (r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": true}"#, good.clone(), "magnitude"),
        (r#"{"peft_type": "LORA", "r": 2}"#, good.clone(), "lora_alpha"),
        (r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 1e999}"#, good.clone(), "adapter_config"),
        (r#"{"peft_type": "IA3"}"#, good.clone(), "IA3"),
        (r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_qalora": true}"#, good.clone(), "use_qalora"),
        (r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"(": 2}}"#, good.clone(), "rank_pattern"),
        ("[", good.clone(), "adapter_config"),
    ];
    for (keys, tensors, want) in cases {
        let error = load(&b, &adapter_of(&tensors), keys.as_bytes()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(want), "{want}: {error}");
    }
    // Sound, but nothing computes with it that rows could share.
    let b = base("gpt_oss");
    let sinks = [tensor("model.layers.0.self_attn.sinks", &[4], 0.1)];
    let error = load(&b, &adapter_of(&sinks), plain.as_bytes()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("sinks"), "{error}");
}
