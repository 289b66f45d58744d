//! The report as one page that stands alone: no script, nothing fetched, light and dark as the reader's system is.
//!
//! Owns: which plots there are and what they say. Every text from a file is escaped ([`escape`]). Does not own: how plots
//! are drawn ([`plots`]), figures.
mod plots;

use super::{
    ModelFacts, Report, TensorFacts,
    architecture::{Architecture, Block, LayerKind, Part, ranges},
    values::{Comparison, Values},
    view::{figure, percent},
};
use crate::view::{bytes, count, three};
use plots::{Line, Mark};
use pondera_audit::html::escape;
use std::fmt::Write as _;

/// Most rows of the table of tensors: a page of more helps nobody, and `--json` has them all.
const TENSORS_MAX: usize = 5000;
/// Most layers that plots show.
const LAYERS_MAX: usize = 512;

/// The page.
pub fn page(r: &Report) -> String {
    let title = escape(&r.path);
    let mut s = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
        <title>pondera inspect: {title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<main>\n\
        <header><h1>{title}</h1>\n<p class=\"soft\">{}</p></header>\n",
        escape(&subtitle(r))
    );
    cards(&mut s, r);
    if let Some(m) = &r.model {
        section(&mut s, "Architecture", &architecture(&m.architecture));
        section(&mut s, "Where the weights are", &amounts(m));
        section(&mut s, "Memory against context", &memory(m));
    }
    if let Some(v) = &r.values {
        section(&mut s, "Values", &values(v));
    }
    if let Some(c) = &r.comparison {
        section(&mut s, "Difference from the original", &comparison(c));
    }
    details(&mut s, r);
    s + "</main>\n</body>\n</html>\n"
}

fn section(s: &mut String, title: &str, body: &str) {
    let _ = writeln!(s, "<section>\n<h2>{}</h2>\n{body}</section>", escape(title));
}

fn subtitle(r: &Report) -> String {
    let size: u64 = r.files.iter().map(|f| f.bytes).sum();
    let files = if r.files.len() == 1 { "1 file".into() } else { format!("{} files", r.files.len()) };
    let mut text = format!("{}, {files}, {}", r.kind, bytes(size));
    if let Some(f) = &r.remote {
        let commit = f.commit.get(..12).unwrap_or(&f.commit);
        text += &format!("; commit {commit}, of which {} were read", bytes(f.bytes_read));
    }
    text
}

/// The figures that are looked for first.
fn cards(s: &mut String, r: &Report) {
    let mut all: Vec<(&str, String, String)> = Vec::new();
    if let Some(m) = &r.model {
        all.push(("family", m.family.into(), format!("{} layers of width {}", m.num_hidden_layers, m.hidden_size)));
        let active = if m.parameters_active == m.parameters_total {
            "all of them on every token".into()
        } else {
            format!("{} active per token", count(m.parameters_active))
        };
        all.push(("parameters", count(m.parameters_total), active));
        all.push(("weights", bytes(m.weight_bytes), types(r)));
        let kv = bytes(m.memory.kv_bytes_per_token_f16);
        all.push(("cache per token", kv, format!("f16; {} tokens promised", m.max_position_embeddings)));
        all.push(("memory", bytes(m.memory.total_f16), format!("weights and an f16 cache of {} tokens", m.memory.ctx)));
    }
    if let Some(p) = &r.predicted {
        let range = format!("{}–{} tok/s", three(p.decode.tps_min), three(p.decode.tps_max));
        let prefill = format!("prefill {}–{}", three(p.prefill.tps_min), three(p.prefill.tps_max));
        all.push((
            "decode expected here",
            range,
            format!("{prefill}; {} GB/s, {} threads", three(p.gb_per_s), p.threads),
        ));
    }
    if let Some(t) = &r.tokenizer {
        all.push(("tokenizer", format!("{} tokens", t.vocab_size), format!("{}, {} special", t.kind, t.special_count)));
    }
    if let Some(license) = &r.license {
        all.push(("licence", license.clone(), String::new()));
    }
    s.push_str("<div class=\"cards\">\n");
    for (name, value, note) in all {
        let _ = writeln!(
            s,
            "<div class=\"card\"><span class=\"soft\">{}</span><b>{}</b><span class=\"soft\">{}</span></div>",
            escape(name),
            escape(&value),
            escape(&note)
        );
    }
    s.push_str("</div>\n");
    let warnings = r.model.iter().flat_map(|m| &m.warnings).map(String::as_str);
    for w in r.not_runnable.iter().map(String::as_str).chain(warnings) {
        let _ = writeln!(s, "<p class=\"note\">{}</p>", escape(w));
    }
    if let Some(p) = &r.predicted {
        let fits = match (p.fits, p.available_bytes) {
            (Some(false), Some(have)) => format!("It does not fit: {} are free. ", bytes(have)),
            _ => String::new(),
        };
        let _ =
            writeln!(s, "<p class=\"soft\">{}The expected speed assumes: {}.</p>", fits, escape(&p.assumes.join("; ")));
    }
}

fn types(r: &Report) -> String {
    let all = r.tensors.iter().flat_map(|t| &t.types).map(|t| t.name);
    all.take(4).collect::<Vec<_>>().join(", ")
}

fn architecture(a: &Architecture) -> String {
    let total: u64 = a.parts.iter().map(|p| p.amount.parameters).sum();
    let mut s = String::from("<div class=\"flow\">\n<div class=\"end\">tokens</div>\n");
    a.before.iter().for_each(|b| block(&mut s, b, 1, total));
    for kind in a.layer_kinds.iter().take(24) {
        layers(&mut s, kind, total);
    }
    a.after.iter().for_each(|b| block(&mut s, b, 1, total));
    let end = if a.tied_embeddings { "logits, by the table of tokens again" } else { "logits" };
    let _ = writeln!(s, "<div class=\"end\">{end}</div>\n</div>");
    if !a.positions.is_empty() {
        let _ = writeln!(s, "<p class=\"soft\">Positions: {}.</p>", escape(&a.positions));
    }
    s
}

fn layers(s: &mut String, kind: &LayerKind, total: u64) {
    let times = match kind.layers.len() {
        1 => "layer".into(),
        n => format!("{n} × layers"),
    };
    let _ = writeln!(
        s,
        "<div class=\"stack\"><div class=\"stack-head\"><b>{times}</b> <span class=\"soft\">{}</span></div>",
        escape(&ranges(&kind.layers))
    );
    kind.blocks.iter().for_each(|b| block(s, b, kind.layers.len(), total));
    s.push_str("</div>\n");
}

/// A block that stands `times` times in the model, of `total` weights.
fn block(s: &mut String, b: &Block, times: usize, total: u64) {
    let share = 100.0 * b.amount.parameters as f64 * times as f64 / total.max(1) as f64;
    let share = if share < 0.05 { String::new() } else { format!(" · {share:.1} %") };
    let rows: String = b
        .tensors
        .iter()
        .map(|t| {
            let shape = t.shape.iter().skip_while(|d| **d == 1).map(usize::to_string).collect::<Vec<_>>().join(" × ");
            let shape = if shape.is_empty() { "1".into() } else { shape };
            format!("<tr><td>{}</td><td>{shape}</td><td>{}</td></tr>", escape(&t.name), escape(&t.types.join(", ")))
        })
        .collect();
    let _ = writeln!(
        s,
        "<details class=\"block e{}\"><summary><b>{}</b><span>{}</span><span class=\"soft\">{}{share}</span></summary>\
        <table>{rows}</table></details>",
        colour(b.part),
        b.part.name(),
        escape(&b.text),
        count(b.amount.parameters)
    );
}

fn colour(part: Part) -> usize {
    Part::ALL.iter().position(|p| *p == part).unwrap_or(9)
}

fn amounts(m: &ModelFacts) -> String {
    let a = &m.architecture;
    let mark = |value: u64, part: Part, text: String| Mark {
        colour: colour(part),
        value: value as f64,
        title: format!("{}: {text}", part.name()),
    };
    let series: Vec<(usize, String)> = a.parts.iter().map(|p| (colour(p.part), p.part.name().into())).collect();
    let mut s = plots::legend(&series);
    let of = |f: fn(&super::architecture::Amount) -> u64, show: fn(u64) -> String| -> Vec<Mark> {
        a.parts.iter().map(|p| mark(f(&p.amount), p.part, show(f(&p.amount)))).collect()
    };
    s += &format!("<h3>Parameters <span class=\"soft\">{}</span></h3>\n", count(m.parameters_total));
    s += &plots::bar(&of(|a| a.parameters, count), "parameters by part");
    if m.parameters_active != m.parameters_total {
        s += &format!("<h3>Active per token <span class=\"soft\">{}</span></h3>\n", count(m.parameters_active));
        s += &plots::bar(&of(|a| a.active, count), "active parameters by part");
    }
    s += &format!("<h3>Bytes <span class=\"soft\">{}</span></h3>\n", bytes(m.weight_bytes));
    s += &plots::bar(&of(|a| a.bytes, bytes), "bytes by part");
    let unit = |v: f64| bytes(v as u64);
    let by_part: Vec<(usize, Vec<Mark>)> = a
        .layers
        .iter()
        .take(LAYERS_MAX)
        .map(|l| {
            let one = |(part, amount): (&Part, &super::architecture::Amount)| {
                mark(amount.bytes, *part, format!("{} in layer {}", bytes(amount.bytes), l.layer))
            };
            (l.layer, l.parts.iter().map(one).collect())
        })
        .collect();
    s += "<h3>Bytes by layer</h3>\n";
    s += &plots::columns(&by_part, &unit, 1024.0, "bytes by layer and part");
    let mut formats: Vec<&str> = Vec::new();
    for f in a.layers.iter().flat_map(|l| l.types.keys()) {
        if !formats.contains(f) {
            formats.push(f);
        }
    }
    let number = |f: &str| formats.iter().position(|x| *x == f).unwrap_or(0);
    let by_type: Vec<(usize, Vec<Mark>)> = a
        .layers
        .iter()
        .take(LAYERS_MAX)
        .map(|l| {
            let one = |(f, n): (&&'static str, &u64)| Mark {
                colour: number(f),
                value: *n as f64,
                title: format!("{f}: {} in layer {}", bytes(*n), l.layer),
            };
            (l.layer, l.types.iter().map(one).collect())
        })
        .collect();
    s += "<h3>Types by layer</h3>\n";
    s += &plots::legend(&formats.iter().map(|f| (number(f), f.to_string())).collect::<Vec<_>>());
    s + &plots::columns(&by_type, &unit, 1024.0, "bytes by layer and type")
}

fn memory(m: &ModelFacts) -> String {
    let points = &m.architecture.cache;
    let line = |colour: usize, name: &str, of: fn(&super::architecture::CachePoint) -> u64| -> Line {
        (colour, name.into(), points.iter().map(|p| (p.ctx as f64, of(p) as f64)).collect())
    };
    let mut all = vec![line(0, "cache f32", |p| p.f32), line(1, "cache f16", |p| p.f16), line(3, "cache q8", |p| p.q8)];
    let flat = |n: u64| points.iter().map(|p| (p.ctx as f64, n as f64)).collect();
    all.push((8, "weights".into(), flat(m.weight_bytes)));
    if m.memory.states > 0 {
        all.push((2, "states".into(), flat(m.memory.states)));
    }
    let tokens = |v: f64| if v >= 1024.0 { format!("{:.0}k", v / 1024.0) } else { format!("{v:.0}") };
    let mut s = plots::legend(&all.iter().map(|l| (l.0, l.1.clone())).collect::<Vec<_>>());
    s += &plots::lines(&all, &tokens, &|v| bytes(v as u64), "tokens of one sequence");
    let row = |name: &str, v: u64| format!("<tr><td>{name}</td><td>{}</td></tr>", bytes(v));
    let k = &m.memory;
    let states = if k.states > 0 { row("recurrent states", k.states) } else { String::new() };
    let _ = writeln!(
        s,
        "<table><thead><tr><th>at {} tokens</th><th>bytes</th></tr></thead><tbody>{}{}{}{}{states}{}</tbody></table>",
        k.ctx,
        row("weights", k.weights),
        row("cache f32", k.kv_f32),
        row("cache f16", k.kv_f16),
        row("cache q8", k.kv_q8),
        row("weights, f16 cache and states", k.total_f16)
    );
    s
}

fn values(v: &Values) -> String {
    let rows: Vec<plots::Row> = v
        .histograms
        .iter()
        .take(LAYERS_MAX)
        .map(|h| {
            // Square roots, so that tails can be seen.
            let most = h.counts.iter().copied().max().unwrap_or(0).max(1) as f64;
            let name = h.layer.map_or("outside".into(), |l| l.to_string());
            (name, h.counts.iter().map(|n| (*n as f64 / most).sqrt()).collect())
        })
        .collect();
    let mut s = String::from(
        "<p class=\"soft\">The values of each layer's matrices: a row is a layer, the colour the stronger the more values (as square \
        roots, so that tails can be seen).</p>\n",
    );
    s += &plots::map(&rows, v.edges, &figure, "values by layer");
    let odd: u64 = v.tensors.iter().map(|t| t.non_finite).sum();
    if odd > 0 {
        let _ = writeln!(s, "<p class=\"note\">{odd} values are no numbers.</p>");
    }
    s += "<details><summary>Every weight</summary><div class=\"wide\"><table><thead><tr><th>tensor</th><th>type</th>\
        <th>min</th><th>max</th><th>mean</th><th>std</th><th>zeros</th></tr></thead><tbody>\n";
    for t in v.tensors.iter().take(TENSORS_MAX) {
        let [min, max, mean, std] = [f64::from(t.min), f64::from(t.max), t.mean, t.std].map(figure);
        let _ = writeln!(
            s,
            "<tr><td>{}</td><td>{}</td><td>{min}</td><td>{max}</td><td>{mean}</td><td>{std}</td><td>{}</td></tr>",
            escape(&t.name),
            t.format,
            t.zeros
        );
    }
    s + "</tbody></table></div></details>\n"
}

fn comparison(c: &Comparison) -> String {
    let mut s = format!(
        "<p class=\"soft\">Root of the squared difference from {} over its squared values, in all {} matrices: <b>{}</b>.</p>\n",
        escape(&c.against),
        c.tensors.len(),
        percent(c.relative_rms)
    );
    let mut parts: Vec<Part> =
        c.layers.iter().filter(|l| l.layer.is_some()).flat_map(|l| l.parts.keys().copied()).collect();
    parts.sort();
    parts.dedup();
    let name = |p: &Part| (colour(*p), p.name().to_string());
    s += &plots::legend(&parts.iter().map(name).collect::<Vec<_>>());
    // A part has a row of columns of its own: errors do not add up.
    for part in parts {
        let all: Vec<(usize, Vec<Mark>)> = c
            .layers
            .iter()
            .filter_map(|l| Some((l.layer?, *l.parts.get(&part)?)))
            .take(LAYERS_MAX)
            .map(|(layer, e)| {
                let title = format!("{} in layer {layer}: {}", part.name(), percent(e));
                (layer, vec![Mark { colour: colour(part), value: e, title }])
            })
            .collect();
        let _ = writeln!(s, "<h3>{}</h3>", part.name());
        s += &plots::columns(&all, &percent, 10.0, &format!("relative error of {} by layer", part.name()));
    }
    s += "<details><summary>Every matrix</summary><div class=\"wide\"><table><thead><tr><th>tensor</th><th>type</th>\
        <th>original</th><th>relative error</th><th>greatest</th></tr></thead><tbody>\n";
    for t in c.tensors.iter().take(TENSORS_MAX) {
        let _ = writeln!(
            s,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&t.name),
            t.format,
            t.original_type,
            percent(t.relative_rms),
            figure(t.max_abs)
        );
    }
    s + "</tbody></table></div></details>\n"
}

/// What is long: folded.
fn details(s: &mut String, r: &Report) {
    let mut folded = String::new();
    let mut fold = |title: String, body: String| {
        let _ = writeln!(folded, "<details><summary>{}</summary>{body}</details>", escape(&title));
    };
    if let Some(m) = &r.model {
        let rows: String = m
            .config
            .iter()
            .map(|(k, v)| format!("<tr><td>{}</td><td class=\"text\">{}</td></tr>", escape(k), escape(&v.to_string())))
            .collect();
        fold("Configuration".into(), format!("<div class=\"wide\"><table><tbody>{rows}</tbody></table></div>"));
    }
    if let Some(t) = &r.tokenizer {
        let one = |x: &super::SpecialToken| {
            format!("<tr><td>{}</td><td class=\"text\">{}</td></tr>", x.id, escape(&x.text.escape_debug().to_string()))
        };
        let rows: String = t.special.iter().map(one).collect();
        fold(format!("Special tokens ({})", t.special_count), format!("<table><tbody>{rows}</tbody></table>"));
    }
    if let Some(t) = &r.chat_template {
        fold(format!("Chat template ({})", bytes(t.bytes as u64)), format!("<pre>{}</pre>", escape(&t.text)));
    }
    let rows: String =
        r.files.iter().map(|f| format!("<tr><td>{}</td><td>{}</td></tr>", escape(&f.path), bytes(f.bytes))).collect();
    fold(format!("Files ({})", r.files.len()), format!("<table><tbody>{rows}</tbody></table>"));
    if let Some(t) = &r.tensors {
        fold(format!("Tensors ({})", t.count), tensors(t));
    }
    section(s, "Details", &folded);
}

fn tensors(t: &TensorFacts) -> String {
    let row = |l: &super::TensorLine| {
        let shape = l.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        let (name, bytes) = (escape(&l.name), bytes(l.bytes));
        format!("<tr><td>{name}</td><td>{}</td><td>{shape}</td><td>{bytes}</td></tr>\n", l.format)
    };
    let rows: String = t.list.iter().take(TENSORS_MAX).map(row).collect();
    let more = match t.count.saturating_sub(TENSORS_MAX) {
        0 => String::new(),
        n => format!("<p class=\"soft\">{n} more: see --json.</p>"),
    };
    format!(
        "<div class=\"wide\"><table><thead><tr><th>tensor</th><th>type</th><th>shape</th><th>bytes</th></tr></thead>\
        <tbody>{rows}</tbody></table></div>{more}"
    )
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fcfcfa;--raised:#fff;--ink:#1c2024;--soft:#60666c;--line:#dfe3e6;--note:#fff4e5;\
--k0:#0b68cb;--k1:#0d8a6f;--k2:#7a4fd0;--k3:#c2410c;--k4:#b8256e;--k5:#d08700;--k6:#8a6d3b;--k7:#6b7680;--k8:#1d7f9c;--k9:#9aa2a9}
@media (prefers-color-scheme:dark){:root{--ground:#14171a;--raised:#1b1f23;--ink:#eceef0;--soft:#a1a8ae;--line:#333a40;--note:#33270f;\
--k0:#70b8ff;--k1:#4fd0ab;--k2:#b79bff;--k3:#ff9e5c;--k4:#ff8fc0;--k5:#f5c542;--k6:#cbb287;--k7:#98a3ad;--k8:#67cbe6;--k9:#6d767e}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.5rem 0 .75rem;padding-top:1rem;border-top:1px solid var(--line)}h3{font-size:.95rem;margin:1.25rem 0 .35rem}
h3 .soft{font-weight:400}p{margin:.4rem 0}.soft{color:var(--soft)}.note{background:var(--note);padding:.5rem .75rem;border-radius:6px;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(13.5rem,1fr));gap:.75rem;margin:1.25rem 0}
.card{background:var(--raised);border:1px solid var(--line);border-radius:8px;padding:.6rem .8rem;display:flex;flex-direction:column}
.card b{font-size:1.2rem;overflow-wrap:anywhere}.card span{font-size:.82rem}
.flow{max-width:46rem}.end{color:var(--soft);padding:.1rem .9rem}.flow>*{position:relative;margin:0 0 .7rem}
.flow>*:not(:last-child)::after{content:'';position:absolute;left:1.6rem;bottom:-.7rem;height:.7rem;border-left:2px solid var(--line)}
.stack{border:1px solid var(--line);border-radius:10px;padding:.5rem .6rem .6rem;box-shadow:5px 5px 0 -1px var(--ground),5px 5px 0 0 var(--line)}
.stack-head{padding:0 .3rem .35rem}.stack .block{margin-top:.3rem}
.block{background:var(--raised);border:1px solid var(--line);border-left:5px solid;border-radius:6px}
.block summary{display:grid;grid-template-columns:8.2rem 1fr auto;gap:.75rem;padding:.4rem .7rem;cursor:pointer;list-style:none}
.block summary::-webkit-details-marker{display:none}.block table{margin:.2rem .7rem .7rem;width:calc(100% - 1.4rem)}
@media (max-width:40rem){.block summary{grid-template-columns:1fr auto}.block summary span:nth-child(2){grid-column:1/3;grid-row:2}}
svg{width:100%;height:auto;display:block;margin:.3rem 0}text{fill:var(--soft);font-size:12px}.grid{stroke:var(--line);stroke-width:1;fill:none}
.line{fill:none;stroke-width:2}.legend{display:flex;flex-wrap:wrap;gap:.25rem 1rem}.key{font-size:.85rem;color:var(--soft)}
.key i{display:inline-block;width:.75rem;height:.75rem;border-radius:3px;margin-right:.4rem;vertical-align:-1px}
section>details{border-bottom:1px solid var(--line);padding:.5rem 0}section>details>summary{cursor:pointer;font-weight:600}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--raised);border:1px solid var(--line);border-radius:6px;padding:.75rem;font-size:.82rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;margin:.5rem 0}
th,td{padding:.2rem .9rem .2rem 0;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}th{color:var(--soft);font-weight:500}
td.text{white-space:normal;overflow-wrap:anywhere;font-family:ui-monospace,monospace;font-size:.8rem}
.c0{fill:var(--k0)}.c1{fill:var(--k1)}.c2{fill:var(--k2)}.c3{fill:var(--k3)}.c4{fill:var(--k4)}.c5{fill:var(--k5)}.c6{fill:var(--k6)}.c7{fill:var(--k7)}.c8{fill:var(--k8)}.c9{fill:var(--k9)}
.l0{stroke:var(--k0)}.l1{stroke:var(--k1)}.l2{stroke:var(--k2)}.l3{stroke:var(--k3)}.l8{stroke:var(--k8);stroke-dasharray:6 4}
.b0{background:var(--k0)}.b1{background:var(--k1)}.b2{background:var(--k2)}.b3{background:var(--k3)}.b4{background:var(--k4)}.b5{background:var(--k5)}.b6{background:var(--k6)}.b7{background:var(--k7)}.b8{background:var(--k8)}.b9{background:var(--k9)}
.e0{border-left-color:var(--k0)}.e1{border-left-color:var(--k1)}.e2{border-left-color:var(--k2)}.e3{border-left-color:var(--k3)}.e4{border-left-color:var(--k4)}.e5{border-left-color:var(--k5)}.e6{border-left-color:var(--k6)}.e7{border-left-color:var(--k7)}.e8{border-left-color:var(--k8)}.e9{border-left-color:var(--k9)}";
