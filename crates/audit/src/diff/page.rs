//! A comparison as one page of HTML that needs nothing else: figures, reasons, a map of layers and kinds of weights.
use super::{Report, Status, TensorDiff};
use crate::html::escape;
use std::{collections::BTreeSet, fmt::Write as _};

/// Most rows of the table of weights; the rest is in the JSON.
const ROWS_MAX: usize = 5000;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1b1b; --dim: #666; --page: #fff; --line: #ddd; --none: #f0f0f0; --hot: 8 60% 48%; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --dim: #999; --page: #141414; --line: #333; --none: #222; --hot: 12 75% 56%; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.dim { color: var(--dim); } code { font-size: .9em; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: left; padding: .15rem .5rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.map td { border: 1px solid var(--page); padding: 0; width: 1.6rem; min-width: 1.6rem; height: 1.1rem; background: var(--none); }
.map th { border: 0; font-weight: normal; padding: 0 .4rem; } .map thead th { vertical-align: bottom; }
.map thead span { writing-mode: vertical-rl; transform: rotate(180deg); }
.map td.h { background: linear-gradient(hsl(var(--hot) / var(--o)), hsl(var(--hot) / var(--o))), var(--none); }
.key span { display: inline-block; width: 1.6rem; height: .9rem; background: linear-gradient(hsl(var(--hot) / var(--o)), hsl(var(--hot) / var(--o))), var(--none); }
pre { overflow-x: auto; background: var(--none); padding: .6rem; }
";

/// The page.
pub fn page(r: &Report) -> String {
    let mut s = String::new();
    let title = format!("{} and {}", r.a.name, r.b.name);
    let _ = write!(
        s,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>pondera diff: {}</title><style>{STYLE}</style></head><body>\n<h1>{}</h1>\n<p class=\"dim\">B is <code>{}</code>, \
         A is <code>{}</code></p>\n<ul>\n",
        escape(&title),
        escape(&r.verdict.summary),
        escape(&r.b.name),
        escape(&r.a.name)
    );
    for reason in &r.verdict.reasons {
        let _ = writeln!(s, "<li>{}</li>", escape(reason));
    }
    s.push_str("</ul>\n");
    sides(&mut s, r);
    map(&mut s, r);
    words(&mut s, r);
    weights(&mut s, r);
    for what in &r.sampled {
        let _ = writeln!(s, "<p class=\"dim\">Sampled: {}.</p>", escape(what));
    }
    s.push_str("</body></html>\n");
    s
}

fn sides(s: &mut String, r: &Report) {
    s.push_str(
        "<div class=\"wide\"><table><tr><th></th><th>model</th><th>family</th><th class=\"n\">weights</th>\
         <th class=\"n\">layers</th><th>types</th></tr>\n",
    );
    let sides = [("A", Some(&r.a)), ("B", Some(&r.b)), ("C", r.with.as_ref())];
    for (name, side) in sides.into_iter().filter_map(|(n, s)| Some((n, s?))) {
        let types: Vec<&str> = side.types.iter().map(|t| t.0).collect();
        let _ = writeln!(
            s,
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escape(&side.name),
            side.family.unwrap_or("—"),
            side.parameters,
            side.layers,
            types.join(", ")
        );
    }
    s.push_str("</table></div>\n");
}

/// Layers down, kinds across, colour by the decimal logarithm of the relative norm.
fn map(s: &mut String, r: &Report) {
    let mut kinds: Vec<&str> = Vec::new();
    let mut layers: BTreeSet<usize> = BTreeSet::new();
    for t in &r.tensors {
        if let Some(l) = t.layer {
            layers.insert(l);
            if !kinds.contains(&&*t.kind) {
                kinds.push(&t.kind);
            }
        }
    }
    s.push_str("<h2>By layer and kind</h2>\n<p class=\"key dim\">‖B − A‖ ⁄ ‖A‖: none <span style=\"--o:0\"></span>");
    for (text, v) in [("10⁻⁶", 1e-6), ("10⁻⁴", 1e-4), ("10⁻²", 1e-2), ("1", 1.0)] {
        let _ = write!(s, " {text} <span style=\"--o:{:.2}\"></span>", heat(v));
    }
    s.push_str("</p>\n<div class=\"wide\"><table class=\"map\"><thead><tr><th></th>");
    for k in &kinds {
        let _ = write!(s, "<th><span>{}</span></th>", escape(k));
    }
    s.push_str("</tr></thead><tbody>\n");
    let cells: std::collections::HashMap<(usize, &str), &TensorDiff> =
        r.tensors.iter().filter_map(|t| Some(((t.layer?, &*t.kind), t))).collect();
    for l in &layers {
        let _ = write!(s, "<tr><th>{l}</th>");
        kinds.iter().for_each(|k| cell(s, cells.get(&(*l, *k)).copied()));
        s.push_str("</tr>\n");
    }
    for t in r.tensors.iter().filter(|t| t.layer.is_none()) {
        let _ = write!(s, "<tr><th>{}</th>", escape(&t.kind));
        cell(s, Some(t));
        s.push_str("</tr>\n");
    }
    s.push_str("</tbody></table></div>\n");
}

fn cell(s: &mut String, t: Option<&TensorDiff>) {
    let Some(t) = t else { return s.push_str("<td></td>") };
    let tip = format!(
        "{}: {}, ‖B − A‖ ⁄ ‖A‖ {}, cosine {}{}",
        t.name,
        t.status.name(),
        figure(t.relative_norm),
        figure(t.cosine),
        t.rank.as_ref().map_or(String::new(), |r| format!(", rank {}", r.rank))
    );
    let o = match t.status {
        Status::Shape => 1.0,
        _ => t.relative_norm.map_or(1.0, heat),
    };
    let _ = write!(s, "<td class=\"h\" style=\"--o:{o:.2}\" title=\"{}\"></td>", escape(&tip));
}

/// 0 for no difference, 1 for one as large as the weight.
pub(super) fn heat(v: f64) -> f64 {
    if v <= 0.0 { 0.0 } else { ((v.log10() + 7.5) / 7.5).clamp(0.05, 1.0) }
}

fn words(s: &mut String, r: &Report) {
    s.push_str("<h2>Configuration and words</h2>\n");
    if r.config.is_empty() {
        s.push_str("<p>No setting differs.</p>\n");
    } else {
        s.push_str("<div class=\"wide\"><table><tr><th>setting</th><th>A</th><th>B</th></tr>\n");
        for c in &r.config {
            let (a, b) = (escape(&c.a.to_string()), escape(&c.b.to_string()));
            let _ = writeln!(s, "<tr><td>{}</td><td>{a}</td><td>{b}</td></tr>", escape(&c.key));
        }
        s.push_str("</table></div>\n");
    }
    let t = &r.tokenizer;
    let _ = writeln!(
        s,
        "<p>Tokenizer: {} ({} ids changed, {} of their tokens moved). Chat template: {}.</p>",
        t.status.replace('_', " "),
        t.changed,
        t.moved,
        r.chat_template.status.replace('_', " ")
    );
    if !r.chat_template.lines.is_empty() {
        let _ = writeln!(s, "<pre>{}</pre>", escape(&r.chat_template.lines.join("\n")));
    }
}

fn weights(s: &mut String, r: &Report) {
    s.push_str(
        "<h2>Weights</h2>\n<div class=\"wide\"><table><tr><th>name</th><th>A</th><th>B</th><th>what</th>\
         <th class=\"n\">‖B − A‖ ⁄ ‖A‖</th><th class=\"n\">cosine</th><th class=\"n\">rank</th><th class=\"n\">effective</th></tr>\n",
    );
    for t in r.tensors.iter().take(ROWS_MAX) {
        let rank = t.rank.as_ref();
        let _ = writeln!(
            s,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&t.name),
            t.a.format,
            t.b.format,
            t.status.name(),
            figure(t.relative_norm),
            figure(t.cosine),
            rank.map_or(String::new(), |r| format!("{}{}", r.rank, if r.more { "+" } else { "" })),
            rank.map_or(String::new(), |r| format!("{:.1} of {}", r.effective_rank, r.full_rank))
        );
    }
    s.push_str("</table></div>\n");
    if r.tensors.len() > ROWS_MAX {
        let _ = writeln!(s, "<p class=\"dim\">{} more are in the JSON.</p>", r.tensors.len() - ROWS_MAX);
    }
    for (only, which) in [(&r.only_in_a, "A"), (&r.only_in_b, "B")] {
        if !only.is_empty() {
            let names: Vec<&str> = only.iter().take(200).map(|s| &*s.name).collect();
            let _ = writeln!(s, "<p>{} only in {which}: {}</p>", only.len(), escape(&names.join(", ")));
        }
    }
}

fn figure(v: Option<f64>) -> String {
    match v {
        None => "—".into(),
        Some(0.0) => "0".into(),
        Some(v) if v.abs() >= 1e-3 => format!("{v:.5}"),
        Some(v) => format!("{v:.2e}"),
    }
}
