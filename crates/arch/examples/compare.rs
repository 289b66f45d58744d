//! Compares a model with reference logits: `compare FOLDER [MODEL] [PREFIX]`.
//!
//! FOLDER holds `reference.safetensors` (`promptN.input_ids`, `promptN.logits`, rows at the end); MODEL is the folder
//! or file to run (FOLDER by default), PREFIX stands before the names of logits.
use pondera_arch::{Config, Model, Source};
use pondera_ops::{Batch, KvType, Ops, Reference};
use pondera_quant::TensorView;
use pondera_weights::Weights;
use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = args.first().ok_or("usage: compare FOLDER [MODEL] [PREFIX]")?;
    let target = args.get(1).unwrap_or(folder);
    let prefix = args.get(2).cloned().unwrap_or_default();
    let weights = Weights::open(target)?;
    let config = match weights.gguf() {
        Some(g) => Config::from_gguf(g)?,
        None => {
            let mut c = Config::from_json(&fs::read(weights.folder().join("config.json"))?)?;
            if let Ok(text) = fs::read(weights.folder().join("hf_quant_config.json")) {
                c = c.with_quantization_file(&text)?;
            }
            c
        }
    };
    let model = Model::load(&config, &Source::Files(&weights)).map_err(|e| format!("{e:#}"))?;
    for w in model.warnings() {
        eprintln!("warning: {w}");
    }
    let reference = Weights::open(Path::new(folder).join("reference.safetensors"))?;
    let (mut worst, mut largest, mut rows_total, mut same) = (0f32, 0f32, 0, 0);
    for n in 0..4 {
        let Ok(ids) = reference.get(&format!("prompt{n}.input_ids")) else { break };
        let Ok(logits) = reference.get(&format!("{prefix}prompt{n}.logits")) else { break };
        let ids = tokens(&ids);
        let (vocab, want) = (logits.shape[1], floats(&logits));
        let rows = want.len() / vocab;
        // Reference rows are the last ones, except where only those of the prompt are stored.
        let lengths: Vec<usize> =
            args.get(3).map(|l| l.split(',').filter_map(|n| n.parse().ok()).collect()).unwrap_or_default();
        let end = lengths.get(n).copied().unwrap_or(ids.len());
        let got = logits_of(&model, &ids[..end]);
        let got = &got[(end - rows) * vocab..];
        for (g, w) in got.chunks(vocab).zip(want.chunks(vocab)) {
            let argmax = |x: &[f32]| (0..x.len()).max_by(|a, b| x[*a].total_cmp(&x[*b]));
            same += usize::from(argmax(g) == argmax(w));
            rows_total += 1;
            for (g, w) in g.iter().zip(w) {
                largest = largest.max(w.abs());
                worst = if g.is_finite() { worst.max((g - w).abs()) } else { f32::INFINITY };
            }
        }
    }
    println!("max|delta| {worst:.2e} of {largest:.1}, argmax {same}/{rows_total}");
    Ok(())
}

fn logits_of(model: &Model, ids: &[u32]) -> Vec<f32> {
    let ops = Reference::new();
    let batch = Batch::single(ids, 0);
    ops.reserve(model.caches(), KvType::F32, batch.sequences[0].pages.len());
    ops.reserve_states(model.states(), 1);
    let mut out = Vec::new();
    ops.read(&model.forward(&ops, &batch), &mut out);
    out
}

fn floats(t: &TensorView) -> Vec<f32> {
    let n = t.shape.iter().product();
    let mut v = vec![0.0; n];
    (t.format.info().decode)(t.bytes.as_slice(), &mut v);
    v
}

fn tokens(t: &TensorView) -> Vec<u32> {
    let size = t.format.info().bytes;
    t.bytes.as_slice().chunks(size).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
