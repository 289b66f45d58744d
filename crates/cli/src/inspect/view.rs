//! The report for a person: one screen for a model, the rest on demand.
use super::{MemoryFacts, ModelFacts, Report, TensorFacts};
use crate::view::{Sheet, Side, Table, bytes, count};
use serde_json::{Map, Value};

/// Configuration keys that change nothing of what a model computes, or that stand in the report anyway. All others are
/// shown, for an engine that ignores one gives other answers.
const SILENT: &[&str] = &[
    "architectures",
    "model_type",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "max_position_embeddings",
    "n_embd",
    "n_layer",
    "n_positions",
    "pretraining_tp",
    "ep_size",
    "init_std",
    "is_decoder",
    "add_cross_attention",
    "time_step_init_scheme",
    "use_mambapy",
    "use_mamba_kernels",
    "use_associative_scan",
    "layerdrop",
    "quantization_config",
    "auto_map",
    "id2label",
    "label2id",
    "_name_or_path",
];

/// Parts of keys that do not either: training, heads of other tasks, ids of the tokenizer.
const SILENT_PARTS: &[&str] = &[
    "_token_id",
    "dropout",
    "pdrop",
    "jitter",
    "aux_loss",
    "output_",
    "initializer",
    "summary_",
    "classifier_",
    "sparse_pred",
    "chunk_size_feed_forward",
];

/// Columns of a value; a longer list is cut, which says how many it has.
const VALUE: usize = 100;

/// Columns of the names on the left.
const NAMES: usize = 15;

/// One screen about a model; with `all`, a line for each tensor.
pub fn draw(r: &Report, all: bool) -> String {
    let mut s = Sheet::new(NAMES);
    s.head(&r.path);
    let size: u64 = r.files.iter().map(|f| f.bytes).sum();
    let files = if r.files.len() == 1 { String::new() } else { format!("{} files, ", r.files.len()) };
    s.line("kind", format!("{} ({files}{})", r.kind, bytes(size)));
    if let Some(m) = &r.model {
        model(&mut s, m);
    }
    if let Some(t) = &r.tokenizer {
        let eos: Vec<String> = t.eos.iter().map(u32::to_string).collect();
        let bos = t.bos.map_or("none".into(), |b| b.to_string());
        let eos = if eos.is_empty() { "none".into() } else { eos.join(", ") };
        s.line("tokenizer", format!("{}, {} tokens, bos {bos}, eos {eos}", t.kind, t.vocab_size));
    }
    if r.model.is_some() || r.chat_template.is_some() {
        s.line("chat template", r.chat_template.as_ref().map_or("none".into(), |t| format!("{} bytes", t.bytes)));
    }
    if let Some(a) = &r.adapter {
        adapter(&mut s, a);
    }
    if let Some(why) = &r.not_runnable {
        s.line("not runnable", why);
    }
    if let Some(m) = &r.model {
        config(&mut s, &m.config);
        memory(&mut s, &m.memory);
        for w in &m.warnings {
            s.line("warning", w);
        }
    }
    if let Some(t) = &r.tensors {
        tensors(&mut s, t);
        if all {
            s.raw("\n");
            s.raw(&list(t));
        }
    }
    s.finish()
}

/// `4096 positions in 16 of 32 layers`, from what the layers do: a configuration may name a window that none uses.
fn windows(windows: &[Option<usize>]) -> Option<String> {
    let least = windows.iter().flatten().min()?;
    let count = windows.iter().flatten().count();
    Some(format!("{least} positions in {count} of {} layers", windows.len()))
}

fn model(s: &mut Sheet, m: &ModelFacts) {
    let packed = m.quantization.as_ref().map_or(String::new(), |q| format!(", packed as {q}"));
    s.line("family", format!("{}{packed}", m.family));
    let active = if m.parameters_active == m.parameters_total {
        String::new()
    } else {
        format!(", {} active per token", count(m.parameters_active))
    };
    s.line("parameters", format!("{}{active}", count(m.parameters_total)));
    s.line("shape", format!("{} layers of width {}", m.num_hidden_layers, m.hidden_size));
    if let Some(e) = &m.experts {
        let share = 100.0 * e.parameters as f64 / m.parameters_total.max(1) as f64;
        s.line("experts", format!("{}, {} per token, {share:.0} % of the weights", e.experts, e.per_token));
    }
    s.line("vocabulary", format!("{} tokens", m.vocab_size));
    s.line("context", format!("{} tokens", m.max_position_embeddings));
    if let Some(text) = windows(&m.windows) {
        s.line("window", text);
    }
}

fn adapter(s: &mut Sheet, a: &Value) {
    for key in ["base_model_name_or_path", "peft_type", "r", "lora_alpha", "target_modules"] {
        s.line(key.trim_end_matches("_name_or_path"), a.get(key).map_or(String::new(), plain));
    }
}

fn config(s: &mut Sheet, keys: &Map<String, Value>) {
    let silent = |k: &str| SILENT.contains(&k) || SILENT_PARTS.iter().any(|part| k.contains(part));
    let set: Vec<(&String, &Value)> = keys.iter().filter(|(k, v)| !silent(k) && !v.is_null()).collect();
    if set.is_empty() {
        return;
    }
    s.head("configuration");
    let width = set.iter().map(|(k, _)| k.len()).max().unwrap_or(0);
    let mut inner = Sheet::new(width);
    for (key, value) in set {
        inner.line(key, plain(value));
    }
    s.raw(&inner.finish());
}

fn plain(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Array(a) => runs(a),
        Value::Object(o) => o.iter().map(|(k, v)| format!("{k} {}", plain(v))).collect::<Vec<_>>().join(", "),
        v => v.to_string(),
    }
}

/// `1 ×3, 0`: what follows itself is said once.
fn runs(list: &[Value]) -> String {
    let parts = list.chunk_by(|a, b| a == b).map(|run| match run {
        [one] => plain(one),
        more => format!("{} ×{}", plain(&more[0]), more.len()),
    });
    let mut text = String::new();
    for part in parts {
        if text.len() + part.len() > VALUE {
            text.push_str(&format!(", … ({} in all)", list.len()));
            break;
        }
        text.push_str(if text.is_empty() { "" } else { ", " });
        text.push_str(&part);
    }
    text
}

fn memory(s: &mut Sheet, m: &MemoryFacts) {
    s.head(&format!("memory at {} tokens", m.ctx));
    let total = m.weights.saturating_add(m.kv_f32).max(1) as f64;
    s.bar("weights", m.weights as f64 / total, &bytes(m.weights));
    s.bar(
        "cache f16",
        m.kv_f16 as f64 / total,
        &format!("{}  ({} a token)", bytes(m.kv_f16), bytes(m.kv_bytes_per_token_f16)),
    );
    s.bar("cache f32", m.kv_f32 as f64 / total, &bytes(m.kv_f32));
    s.bar("cache q8", m.kv_q8 as f64 / total, &bytes(m.kv_q8));
    if m.states > 0 {
        s.bar("states", m.states as f64 / total, &format!("{}  (at any length)", bytes(m.states)));
    }
}

fn tensors(s: &mut Sheet, t: &TensorFacts) {
    s.head(&format!("{} tensors, {}", t.count, bytes(t.bytes)));
    for row in &t.types {
        let share = row.bytes as f64 / t.bytes.max(1) as f64;
        s.bar(
            row.name,
            share,
            &format!(
                "{:>5.1} %  {} in {} tensor{}",
                100.0 * share,
                bytes(row.bytes),
                row.tensors,
                if row.tensors == 1 { "" } else { "s" }
            ),
        );
    }
}

fn list(t: &TensorFacts) -> String {
    let mut table =
        Table::new(&[("tensor", Side::Left), ("type", Side::Left), ("shape", Side::Right), ("bytes", Side::Right)]);
    for line in &t.list {
        let shape = line.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        let name: String = line.name.chars().flat_map(char::escape_debug).collect();
        table.row(vec![name, line.format.into(), shape, bytes(line.bytes)]);
    }
    table.draw()
}
