//! Every golden against the reference implementation's values, and against itself in every way a step can be cut.
use pondera_arch::{Config, FAMILIES, Model, Source};
use pondera_ops::{Batch, KvType, Ops, PAGE, Point, Reference, Sequence, trace::Watch};
use pondera_quant::TensorView;
use pondera_weights::Weights;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Of the largest logit or hidden value.
const TOLERANCE: f32 = 1e-4;
/// How many tokens at the end of a golden's ids are greedy.
const GREEDY: usize = 6;

fn goldens() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let mut found: Vec<PathBuf> =
        fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.join("config.json").exists()).collect();
    found.sort();
    found
}

/// The golden's checkpoint, and its GGUF file where it has one.
fn models(folder: &Path) -> Vec<(String, Model)> {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let weights = Weights::open(folder).unwrap();
    let config = Config::from_json(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let mut models = vec![(name.clone(), load(&name, &config, &weights))];
    let file = folder.join("model.gguf");
    if file.exists() {
        let weights = Weights::open(&file).unwrap();
        let config = Config::from_gguf(weights.gguf().unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let name = format!("{name}/model.gguf");
        models.push((name.clone(), load(&name, &config, &weights)));
    }
    models
}

fn load(name: &str, config: &Config, weights: &Weights) -> Model {
    let model = Model::load(config, &Source::Files(weights)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(model.warnings().is_empty(), "{name}: {:?}", model.warnings());
    model
}

struct Golden {
    ids: Vec<u32>,
    logits: Vec<f32>,
    hidden: Vec<f32>,
}

fn golden(folder: &Path) -> Golden {
    let w = Weights::open(folder.join("reference.safetensors")).unwrap();
    let floats = |name: &str| decode(&w.get(name).unwrap());
    let ids = w.get("input_ids").unwrap();
    let ids = ids.bytes.as_slice().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    Golden { ids, logits: floats("logits"), hidden: floats("hidden") }
}

fn decode(t: &TensorView) -> Vec<f32> {
    let mut v = vec![0.0; t.shape.iter().product()];
    (t.format.info().decode)(t.bytes.as_slice(), &mut v);
    v
}

fn distance(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(0f32, |m, v| m.max(v.abs()));
    let delta = got.iter().zip(want).map(|(g, w)| if g.is_finite() { (g - w).abs() } else { f32::INFINITY });
    delta.fold(0f32, f32::max) / scale
}

fn reserve(ops: &dyn Ops, model: &Model, pages: usize) {
    ops.reserve(model.caches(), KvType::F32, pages);
    ops.reserve_states(model.states(), pages);
}

fn step(ops: &dyn Ops, model: &Model, batch: &Batch) -> Vec<f32> {
    let mut out = Vec::new();
    ops.read(&model.forward(ops, batch), &mut out);
    out
}

fn argmax(row: &[f32]) -> u32 {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32
}

#[test]
fn every_family_has_a_golden() {
    let all: Vec<&str> = goldens().iter().flat_map(|g| models(g)).map(|(_, m)| m.description().family).collect();
    for family in FAMILIES {
        assert!(all.contains(&family.model_type), "{family:?} has no golden");
    }
}

#[test]
fn families_verified_from_gguf_are_those_with_a_golden_of_it() {
    let with_file = goldens().into_iter().filter(|g| g.join("model.gguf").exists());
    let mut found: Vec<&str> = with_file.map(|g| models(&g)[0].1.description().family).collect();
    found.sort();
    found.dedup();
    assert_eq!(found, pondera_arch::families::GGUF_VERIFIED);
}

#[test]
fn logits_and_hidden_states_are_the_references() {
    for folder in goldens() {
        let want = golden(&folder);
        for (name, model) in models(&folder) {
            let (ops, seen) = (Reference::new(), RefCell::new(BTreeMap::new()));
            let watched = Watch {
                inner: &ops,
                watch: |point, x: &pondera_ops::Act| {
                    if let Point::Hidden(_) = point {
                        seen.borrow_mut().insert(point, x.data().clone());
                    }
                },
            };
            let batch = Batch::single(&want.ids, 0);
            reserve(&watched, &model, 1);
            let logits = step(&watched, &model, &batch);
            let hidden: Vec<f32> = seen.into_inner().into_values().flatten().collect();

            let (l, h) = (distance(&logits, &want.logits), distance(&hidden, &want.hidden));
            assert!(l < TOLERANCE, "{name}: logits differ by {l:e} of the largest");
            assert!(h < TOLERANCE, "{name}: hidden states differ by {h:e} of the largest");
            let greedy = if model.is_encoder() { 0 } else { GREEDY };
            let vocab = want.logits.len() / want.ids.len();
            for t in want.ids.len() - greedy..want.ids.len() {
                let row = (t - 1) * vocab..t * vocab;
                assert_eq!(argmax(&logits[row.clone()]), argmax(&want.logits[row]), "{name}: greedy token {t}");
            }
        }
    }
}

/// The rows `from .. to` of one sequence in the pages given, rotary frequencies for its whole length.
fn part(ids: &[u32], from: usize, to: usize, pages: &[u32]) -> Batch {
    let mut batch = Batch::single(&ids[from..to], from as u32);
    let slot = pages[0];
    batch.sequences[0] = Sequence {
        adapter: None,
        rows: 0..to - from,
        pages: pages.to_vec(),
        rope_length: ids.len() as u32,
        state: (from > 0).then_some(slot),
        keep: vec![((to - from) as u32 - 1, slot)],
    };
    batch
}

/// Two parts of two sequences in one step.
fn together(a: Batch, b: Batch) -> Batch {
    let n = a.len();
    let mut all = a;
    all.tokens.extend(&b.tokens);
    all.positions.extend(&b.positions);
    all.logit_rows.extend(b.logit_rows.iter().map(|r| r + n as u32));
    let s = &b.sequences[0];
    all.sequences.push(Sequence { rows: n..n + b.len(), ..s.clone() });
    all
}

#[test]
fn prefill_is_token_by_token_is_chunked_is_ragged_to_the_bit() {
    for folder in goldens() {
        let ids = golden(&folder).ids;
        for (name, model) in models(&folder) {
            let ops = Reference::new();
            // Longer than a page where the model's positions allow it.
            let n = (PAGE + 9).min(model.positions_end().unwrap_or(model.max_positions()).max(ids.len()));
            let long: Vec<u32> = ids.iter().cycle().take(n).copied().collect();
            let short: Vec<u32> = long.iter().rev().take(11).copied().collect();
            let pages = [3, 0];

            reserve(&ops, &model, 5);
            let whole = step(&ops, &model, &part(&long, 0, n, &pages));
            let alone = step(&ops, &model, &part(&short, 0, short.len(), &[2]));

            // An encoder's sequences come whole.
            let sizes: &[usize] = if model.is_encoder() { &[] } else { &[1, 7] };
            for &size in sizes {
                reserve(&ops, &model, 5);
                let cut: Vec<f32> = (0..n)
                    .step_by(size)
                    .flat_map(|i| step(&ops, &model, &part(&long, i, (i + size).min(n), &pages)))
                    .collect();
                assert!(cut == whole, "{name}: pieces of {size} differ from the whole");
            }

            let (vocab, middle) = (whole.len() / n, n / 2);
            if model.is_encoder() {
                reserve(&ops, &model, 5);
                let both = step(&ops, &model, &together(part(&short, 0, short.len(), &[2]), part(&long, 0, n, &pages)));
                assert!(both == [alone, whole].concat(), "{name}: rows differ in a ragged batch");
                continue;
            }
            reserve(&ops, &model, 5);
            let first = step(&ops, &model, &together(part(&short, 0, 4, &[2]), part(&long, 0, middle, &pages)));
            let second =
                step(&ops, &model, &together(part(&long, middle, n, &pages), part(&short, 4, short.len(), &[2])));
            let ragged: Vec<f32> = first[4 * vocab..].iter().chain(&second[..(n - middle) * vocab]).copied().collect();
            assert!(ragged == whole, "{name}: the long sequence differs in a ragged batch");
            let ragged: Vec<f32> = first[..4 * vocab].iter().chain(&second[(n - middle) * vocab..]).copied().collect();
            assert!(ragged == alone, "{name}: the short sequence differs in a ragged batch");

            // Wanting fewer logits changes none.
            reserve(&ops, &model, 5);
            let mut batch = part(&long, 0, n, &pages);
            batch.logit_rows = vec![1, n as u32 - 1];
            let some = step(&ops, &model, &batch);
            assert!(
                some[vocab..] == whole[(n - 1) * vocab..] && some[..vocab] == whole[vocab..2 * vocab],
                "{name}: selected rows differ"
            );
        }
    }
}

#[test]
fn mistral_has_windows_in_the_layers_that_layer_types_names() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/mistral");
    let (weights, ids) = (Weights::open(&folder).unwrap(), golden(&folder).ids);
    let logits = |changes: &[(&str, serde_json::Value)]| {
        let mut c: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        c.as_object_mut().unwrap().extend(changes.iter().map(|(k, v)| (k.to_string(), v.clone())));
        let model = load("mistral", &Config::from_value(&c).unwrap(), &weights);
        let ops = Reference::new();
        reserve(&ops, &model, 1);
        step(&ops, &model, &Batch::single(&ids, 0))
    };
    let (full, sliding) = ("full_attention", "sliding_attention");
    let types = |of: [&str; 2]| logits(&[("layer_types", serde_json::json!(of))]);

    let windowless = logits(&[("sliding_window", serde_json::Value::Null)]);
    assert_eq!(types([full, full]), windowless);
    assert_eq!(types([sliding, sliding]), logits(&[]));
    let mixed = types([sliding, full]);
    assert!(mixed != windowless && mixed != logits(&[]) && mixed != types([full, sliding]));
}
