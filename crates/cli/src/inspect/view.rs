//! The report for a person: one screen for a model, the rest on demand.
use super::{
    MemoryFacts, ModelFacts, Report, TensorFacts, TokenizerFacts,
    architecture::Part,
    draw,
    predict::{Predicted, Speed},
    values::{Comparison, Values},
};
use crate::view::{Sheet, Side, Table, bytes, count, strip, three};
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
    if let Some(f) = &r.remote {
        let commit = f.commit.get(..12).unwrap_or(&f.commit);
        let how = format!("{} in {} requests, {:.1} s", bytes(f.bytes_read), f.requests, f.seconds);
        s.line("read from", format!("the hub, commit {commit}: {how}"));
    }
    s.line("licence", r.license.as_deref().unwrap_or(""));
    if let Some(m) = &r.model {
        model(&mut s, m);
    }
    if let Some(t) = &r.tokenizer {
        tokenizer(&mut s, t);
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
        let positions = Some(&m.architecture.positions).filter(|p| !p.is_empty());
        s.head(&format!("architecture{}", positions.map_or(String::new(), |p| format!(" ({p})"))));
        s.raw(&draw::architecture(&m.architecture));
        memory(&mut s, &m.memory);
        if let Some(p) = &r.predicted {
            predicted(&mut s, p);
        }
        for w in &m.warnings {
            s.line("warning", w);
        }
    }
    if let Some(v) = &r.values {
        values(&mut s, v, all);
    }
    if let Some(c) = &r.comparison {
        comparison(&mut s, c, all);
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

fn tokenizer(s: &mut Sheet, t: &TokenizerFacts) {
    const SHOWN: usize = 10;
    let eos: Vec<String> = t.eos.iter().map(u32::to_string).collect();
    let bos = t.bos.map_or("none".into(), |b| b.to_string());
    let eos = if eos.is_empty() { "none".into() } else { eos.join(", ") };
    s.line("tokenizer", format!("{}, {} tokens, bos {bos}, eos {eos}", t.kind, t.vocab_size));
    if t.special_count > 0 {
        let shown = |text: &str| text.chars().take(40).flat_map(char::escape_debug).collect::<String>();
        let some: Vec<String> = t.special.iter().take(SHOWN).map(|x| format!("{} {}", x.id, shown(&x.text))).collect();
        let more = if t.special_count > SHOWN { format!(", … ({} in all)", t.special_count) } else { String::new() };
        s.line("special tokens", some.join(", ") + &more);
    }
}

fn predicted(s: &mut Sheet, p: &Predicted) {
    s.head(&format!("speed expected here ({} threads, {} GB/s)", p.threads, three(p.gb_per_s)));
    let range =
        |v: &Speed| format!("{} to {} tokens a second, bound by {}", three(v.tps_min), three(v.tps_max), v.bound);
    s.line("decode", range(&p.decode));
    s.line("decode, full", format!("{}, behind {} tokens", range(&p.decode_at_ctx), p.ctx));
    s.line("prefill", range(&p.prefill));
    if let (Some(have), Some(false)) = (p.available_bytes, p.fits) {
        s.line("does not fit", format!("{} are needed, {} are free", bytes(p.memory_bytes), bytes(have)));
    }
    for (i, text) in p.assumes.iter().enumerate() {
        s.line(if i == 0 { "assumes" } else { "" }, text);
    }
}

/// `layers 0–7`, or `outside of layers`.
fn place(layer: Option<usize>) -> String {
    layer.map_or("other".into(), |l| format!("layer {l}"))
}

fn values(s: &mut Sheet, v: &Values, all: bool) {
    s.head(&format!("values of the matrices, from {} to {}", three(v.edges[0]), three(v.edges[1])));
    for h in &v.histograms {
        // A column holds two bins; heights are square roots, so that tails can be seen.
        let heights: Vec<f32> = h.counts.chunks(2).map(|c| (c.iter().sum::<u64>() as f32).sqrt()).collect();
        let of = |f: &dyn Fn(&super::values::TensorValues) -> f64| {
            v.tensors.iter().filter(|t| t.layer == h.layer).map(f).fold(0.0, f64::max)
        };
        let most = of(&|t| f64::from(t.max.abs().max(t.min.abs())));
        s.line(&place(h.layer), format!("{}  greatest {}", strip(&heights), figure(most)));
    }
    let odd: Vec<_> = v.tensors.iter().filter(|t| t.non_finite > 0).collect();
    for t in &odd {
        s.line("not finite", format!("{} values of {}", t.non_finite, escaped(&t.name)));
    }
    if all {
        let mut table = Table::new(&[
            ("tensor", Side::Left),
            ("min", Side::Right),
            ("max", Side::Right),
            ("mean", Side::Right),
            ("std", Side::Right),
            ("zeros", Side::Right),
        ]);
        for t in &v.tensors {
            let zeros = t.zeros.to_string();
            let cells = [f64::from(t.min), f64::from(t.max), t.mean, t.std].map(figure);
            let [min, max, mean, std] = cells;
            table.row(vec![escaped(&t.name), min, max, mean, std, zeros]);
        }
        s.raw("\n");
        s.raw(&table.draw());
    }
}

fn comparison(s: &mut Sheet, c: &Comparison, all: bool) {
    s.head(&format!("difference from {}: {} relative", c.against, percent(c.relative_rms)));
    let top = c.layers.iter().map(|l| l.relative_rms).fold(f64::MIN_POSITIVE, f64::max);
    for l in &c.layers {
        let parts: Vec<String> =
            l.parts.iter().map(|(p, e): (&Part, &f64)| format!("{} {}", p.name(), percent(*e))).collect();
        s.bar(&place(l.layer), l.relative_rms / top, &format!("{:>7}  {}", percent(l.relative_rms), parts.join(", ")));
    }
    if !c.unmatched.is_empty() {
        let names: Vec<String> = c.unmatched.iter().take(4).map(|n| escaped(n)).collect();
        let more = if c.unmatched.len() > 4 { format!(" and {} more", c.unmatched.len() - 4) } else { String::new() };
        s.line("no partner", names.join(", ") + &more);
    }
    if all {
        let mut table = Table::new(&[
            ("tensor", Side::Left),
            ("type", Side::Left),
            ("original", Side::Left),
            ("relative error", Side::Right),
            ("greatest", Side::Right),
        ]);
        for t in &c.tensors {
            let cells = [t.format.into(), t.original_type.into(), percent(t.relative_rms), figure(t.max_abs)];
            table.row(std::iter::once(escaped(&t.name)).chain(cells).collect());
        }
        s.raw("\n");
        s.raw(&table.draw());
    }
}

/// Three digits of any magnitude.
pub fn figure(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if !(1e-2..1e4).contains(&a) => format!("{v:.2e}"),
        _ => three(v),
    }
}

/// `0.52 %`.
pub fn percent(share: f64) -> String {
    match 100.0 * share {
        0.0 => "0 %".into(),
        p if p < 0.01 => format!("{p:.1e} %"),
        p => format!("{} %", three(p)),
    }
}

/// A name from a file as it may be shown.
fn escaped(name: &str) -> String {
    name.chars().flat_map(char::escape_debug).collect()
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
        table.row(vec![escaped(&line.name), line.format.into(), shape, bytes(line.bytes)]);
    }
    table.draw()
}
