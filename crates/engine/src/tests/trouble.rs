//! What goes wrong stays with its request, has a type, and leaves the process alive.
use super::*;
use crate::{Engine, EngineOptions, ErrorKind, FinishReason};
use pondera_weights::{TensorSpec, safetensors::Writer};
use std::{fs, path::Path};

fn loaded(value: impl Fn(&str, usize) -> f32) -> Rc<Model> {
    let config = config("llama");
    let w = weights(&config, value);
    Rc::new(Model::load(&config, &Source::Files(&w)).unwrap())
}

#[test]
fn a_row_that_is_not_finite_names_its_layer_and_hurts_nobody() {
    // The embedding of token 5 is broken; 32 is the width of the model.
    let broken = |name: &str, i: usize| match name {
        "model.embed_tokens.weight" if i / 32 == 5 => f32::NAN,
        _ => plausible(name, i),
    };
    let good = sampled(vec![10, 11, 12], 20, 1);
    let want = drain_one(&mut runner(&loaded(plausible), Setup::default()), &good);
    let mut r = runner(&loaded(broken), Setup { chunk: 2, ..Setup::default() });
    let fine = r.submit(Request { sampling: forbid(&good, 5), ..good.clone() }).unwrap();
    let bad = r.submit(sampled(vec![1, 5, 2, 3, 4], 5, 1)).unwrap();
    let mut outcomes = drain(&mut r);
    let e = outcomes.remove(&bad).unwrap().unwrap_err();
    // The embedding was wrong two chunks before the row that is sampled: that one meets it in the first layer's cache.
    assert_eq!(*e.kind(), ErrorKind::NonFinite { layer: Some(0) }, "{e}");
    if !want.tokens.contains(&5) {
        assert_eq!(bits(&outcomes[&fine].as_ref().unwrap().clone()), bits(&want));
    }
    let mut r = runner(&loaded(broken), Setup::default());
    let e = r.generate(sampled(vec![1, 5], 5, 1), &mut |_| std::ops::ControlFlow::Continue(())).unwrap_err();
    assert_eq!(*e.kind(), ErrorKind::NonFinite { layer: None }, "{e}");
}

/// Recurrent states are behind the step when the layer is looked for: nobody else's keys and values may be computed from them.
#[test]
fn a_failed_request_moves_no_bit_of_a_model_with_states() {
    for name in ["lfm2-biased", "qwen3_next", "jamba"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(name);
        let config = Config::from_json(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        let stored = Weights::open(&folder).unwrap();
        let broken = |name: &str| {
            let mut t = stored.get(name).unwrap();
            if name.contains("embed") && t.shape.len() == 2 {
                let (mut bytes, row) = (t.bytes.as_slice().to_vec(), t.bytes.len() / t.shape[0]);
                bytes[5 * row..6 * row].fill(0xff);
                t.bytes = Bytes::from(bytes);
            }
            (name.to_string(), t)
        };
        let w = Weights::from_tensors(stored.names().map(broken)).unwrap();
        let model = Rc::new(Model::load(&config, &Source::Files(&w)).unwrap());
        let good = sampled(vec![10, 11, 12], 40, 1);
        let good = Request { sampling: forbid(&good, 5), ..good };
        let want = drain_one(&mut runner(&model, Setup::default()), &good);
        let mut r = runner(&model, Setup { chunk: 2, ..Setup::default() });
        let fine = r.submit(good).unwrap();
        let bad: Vec<_> = (0..4).map(|i| r.submit(sampled(vec![1, 2, 3, 4, 5 + i], 5, 1)).unwrap()).collect();
        let mut outcomes = drain(&mut r);
        let e = outcomes.remove(&bad[0]).unwrap().unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::NonFinite { .. }), "{name}: {e}");
        assert_eq!(bits(&outcomes[&fine].as_ref().unwrap().clone()), bits(&want), "{name}");
    }
}

/// Pages that held values which are not finite are as good as new.
#[test]
fn pages_of_a_failed_request_harm_no_later_one() {
    let broken = |name: &str, i: usize| match name {
        "model.embed_tokens.weight" if i / 32 == 5 => f32::NAN,
        _ => plausible(name, i),
    };
    let model = loaded(broken);
    for kv in [KvType::F32, KvType::F16, KvType::Q8] {
        // One page in all, so that both use the same.
        let setup = Setup { kv, ctx: 64, kv_tokens: 64, ..Setup::default() };
        let good = sampled(prompt(30, 0).into_iter().filter(|t| *t != 5).collect(), 20, 1);
        let want = drain_one(&mut runner(&model, setup), &good);
        let mut r = runner(&model, setup);
        let bad = r.submit(sampled([prompt(50, 0), vec![5]].concat(), 5, 1)).unwrap();
        assert!(drain(&mut r).remove(&bad).unwrap().is_err());
        assert_eq!(bits(&drain_one(&mut r, &good)), bits(&want), "{kv:?}");
    }
}

fn forbid(r: &Request, id: u32) -> crate::Sampling {
    crate::Sampling { logit_bias: vec![(id, f32::NEG_INFINITY)], ..r.sampling.clone() }
}

fn drain_one(r: &mut Runner, request: &Request) -> Completion {
    let id = r.submit(Request { sampling: forbid(request, 5), ..request.clone() }).unwrap();
    drain(r).remove(&id).unwrap().unwrap()
}

#[test]
fn a_broken_layer_is_named() {
    for (tensor, layer) in [
        ("model.layers.0.self_attn.o_proj.weight", Some(0)),
        ("model.layers.1.mlp.down_proj.weight", Some(1)),
        ("lm_head.weight", None),
    ] {
        let hit = std::cell::Cell::new(false);
        let model = loaded(|name, i| {
            let here = name == tensor;
            hit.set(hit.get() || here);
            if here && i == 7 { f32::INFINITY } else { plausible(name, i) }
        });
        assert!(hit.get(), "{tensor} is not a tensor of the model");
        let mut r = runner(&model, Setup::default());
        r.submit(sampled(prompt(4, 0), 3, 0)).unwrap();
        let e = drain(&mut r).into_values().next().unwrap().unwrap_err();
        assert_eq!(*e.kind(), ErrorKind::NonFinite { layer }, "{tensor}: {e}");
        let e = r.score(&prompt(4, 0), &mut Vec::new()).unwrap_err();
        assert_eq!(*e.kind(), ErrorKind::NonFinite { layer }, "{tensor}: {e}");
    }
}

#[test]
fn forbidding_every_token_fails_alone() {
    let mut r = runner(&random("llama"), Setup::default());
    let all = (0..96).map(|i| (i, f32::NEG_INFINITY)).collect();
    let sampling = crate::Sampling { logit_bias: all, ..Default::default() };
    let bad = r.submit(Request { sampling, ..sampled(prompt(4, 0), 3, 0) }).unwrap();
    let good = r.submit(sampled(prompt(4, 0), 3, 0)).unwrap();
    let outcomes = drain(&mut r);
    assert_eq!(*outcomes[&bad].as_ref().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(outcomes[&good].as_ref().unwrap().tokens.len(), 3);
}

/// A model's folder in the system's place for such things.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("pondera-engine-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let (_, config) = MODELS.iter().find(|(n, _)| *n == "llama").unwrap();
        fs::write(path.join("config.json"), config).unwrap();
        let tensors = tensors(&super::config("llama"), plausible);
        let specs: Vec<TensorSpec> =
            tensors.iter().map(|(n, t)| TensorSpec::new(n.as_str(), t.format, &t.shape)).collect();
        let mut w = Writer::new(Vec::new(), &[], &specs).unwrap();
        tensors.iter().for_each(|(_, t)| w.write(t.bytes.as_slice()).unwrap());
        fs::write(path.join("model.safetensors"), w.finish().unwrap()).unwrap();
        Folder(path)
    }

    fn open(&self) -> Result<Engine> {
        let options = EngineOptions { threads: 2, kv: KvType::F32, ..Default::default() };
        Engine::open(&crate::Source::Path(&self.0), &options, &mut |_| {})
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_cut_while_it_is_mapped_fails_the_request_and_not_the_process() {
    let folder = Folder::new("cut");
    let mut engine = folder.open().unwrap();
    let request = sampled(prompt(6, 0), 40, 3);
    let go_on = &mut |_: &Event<'_>| std::ops::ControlFlow::Continue(());
    assert_eq!(engine.generate(request.clone(), go_on).unwrap().finish_reason, FinishReason::Length);
    engine.submit(request.clone()).unwrap();
    for _ in 0..5 {
        engine.step(&mut |_, e| assert!(!matches!(e, Event::Failed(_))));
    }
    let file = folder.0.join("model.safetensors");
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(4096).unwrap();
    let mut failed = None;
    while engine.step(&mut |_, e| {
        if let Event::Failed(e) = e {
            failed = Some(e.clone());
        }
    }) {}
    let named = |e: &Error| matches!(e.kind(), ErrorKind::Damaged { file: Some(f) } if f == Path::new(&file));
    let e = failed.expect("the request went on with a file that is gone");
    assert!(named(&e) && e.to_string().contains("model.safetensors"), "{e}");
    // It stays so: no later request is answered from zeros.
    assert!(named(&engine.generate(request, go_on).unwrap_err()));
    assert!(named(&engine.trace(&[1, 2, 3], Default::default()).unwrap_err()));
    assert!(named(&engine.score(&[1, 2, 3], &mut Vec::new()).unwrap_err()));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_allocated() {
    let folder = Folder::new("fit");
    let options = EngineOptions { ctx: Some(usize::MAX / 1024), ..Default::default() };
    let e = Engine::open(&crate::Source::Path(&folder.0), &options, &mut |_| {}).err();
    if cfg!(target_os = "linux") {
        assert!(matches!(e.unwrap().kind(), ErrorKind::DoesNotFit { needed, available } if needed > available));
    }
    let engine = folder.open().unwrap();
    assert_eq!(engine.ctx(), 512);
    assert!(engine.plan().total_bytes() > engine.plan().weights_bytes);
    let zero = EngineOptions { chunk: 0, ..Default::default() };
    let e = Engine::open(&crate::Source::Path(&folder.0), &zero, &mut |_| {}).err().unwrap();
    assert_eq!(*e.kind(), ErrorKind::Invalid);
}

#[test]
fn a_folder_without_a_config_is_no_model() {
    let folder = Folder::new("bare");
    fs::remove_file(folder.0.join("config.json")).unwrap();
    let e = folder.open().err().unwrap();
    assert_eq!(*e.kind(), ErrorKind::File);
    assert!(e.to_string().contains("config.json"), "{e}");
    fs::write(folder.0.join("config.json"), "{").unwrap();
    assert_eq!(*folder.open().err().unwrap().kind(), ErrorKind::File);
}
