//! `license`: what a model's licence is and lets one do, and whether a policy accepts it.
//!
//! Owns the flags and the drawing. Does not own: what licences say (`pondera-audit`).
use crate::{
    Context,
    error::Result,
    model,
    policy::{self, Guard},
    view::Sheet,
};
use pondera_audit::license::{self, Report, terms};

/// Show what the licence of a model is and lets you do
#[derive(clap::Args)]
#[command(after_help = "MODEL may also be a licence text or a model card (.md). This is a reading of facts by a program, \
    no legal advice.\n\nExamples:\n  pondera license Qwen3-0.6B/\n  pondera license LICENSE --json\n  \
    pondera license model.gguf --policy policy.toml")]
pub struct Args {
    /// A model, one of its files, a licence text or a card [default: the built-in model]
    model: Option<String>,
}

/// Writes the report.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let guard = Guard::read(&context.global)?;
    let source = model::resolve(args.model.as_deref(), &context.global)?;
    let (name, mut report) = policy::reported(&source)?;
    report.verdict = guard.as_ref().map(|g| g.policy().judge(&name, &report));
    match context.out.json() {
        true => context.out.object(&report)?,
        false => context.out.page(&draw(&name, &report))?,
    }
    match (&guard, &report.verdict) {
        (Some(guard), Some(verdict)) => guard.refused(&name, &report, verdict),
        _ => Ok(()),
    }
}

fn draw(name: &str, r: &Report) -> String {
    let mut s = Sheet::new(16);
    s.head(name);
    s.line("licence", r.id.as_deref().unwrap_or("none that is known"));
    s.line("title", r.name.as_deref().unwrap_or(""));
    s.line("kind", r.kind.as_deref().unwrap_or(""));
    s.line("confidence", format!("{:.2}", r.confidence));
    s.line("permissions", r.permissions.join(", "));
    s.line("conditions", r.conditions.join(", "));
    s.line("not given", r.limitations.join(", "));
    if !r.facts.is_empty() {
        s.head("Terms");
        for t in &r.facts {
            let what = serde_json::to_value(t.fact.what).ok();
            let what = what.as_ref().and_then(|w| w.as_str()).unwrap_or("").replace('_', " ");
            let value = match &t.fact.value {
                terms::Value::Number(n) => n.to_string(),
                terms::Value::Text(t) => t.clone(),
                terms::Value::List(l) => l.join(", "),
            };
            s.line(&what, format!("{value}  [{} {}]", t.license, t.fact.clause));
        }
    }
    if !r.bases.is_empty() {
        s.head("Made of");
        for b in &r.bases {
            let under = b.id.as_deref().map_or("licence not known here".into(), |id| format!("under {id}"));
            s.line(&b.relation, format!("{}, {under} ({})", b.model, b.file));
        }
    }
    s.head("Read");
    for source in &r.sources {
        let mut text = source.id.clone().unwrap_or_else(|| "no licence that is known".into());
        if let Some(l) = &source.resembles {
            text += &format!("; resembles {} without {} of its words and with {} others", l.id, l.missing_words, l.added_words);
        }
        if !source.contains.is_empty() && source.id.is_none() {
            text += &format!("; holds {}", source.contains.join(", "));
        }
        for rider in source.riders.iter().take(3) {
            text += &format!("; adds: {rider}");
        }
        if let Some(trouble) = &source.trouble {
            text += &format!("; {trouble}");
        }
        s.line(&source.file, text);
    }
    for c in &r.conflicts {
        s.line("contradiction", c);
    }
    if let Some(v) = &r.verdict {
        s.head("Policy");
        s.line(if v.allowed() { "accepted" } else { "refused" }, &v.reason);
        for k in &v.keep {
            s.line("keep", k);
        }
    }
    s.raw(&format!("\n  {}\n", license::NO_ADVICE));
    s.finish()
}
