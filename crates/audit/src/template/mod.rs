//! Chat templates: what they can reach, what they cost, what they say that no message said, and what sets them off.
//!
//! Owns which templates a model has for an audit, and how what is found is graded. The language, its sandbox and its
//! meter are `pondera-text`'s; nothing of a template runs outside of them.
mod behaviour;
mod known;
mod sources;
pub(crate) mod texts;

use crate::findings::{
    Findings, New, Severity, TEMPLATE_BROKEN, TEMPLATE_COST, TEMPLATE_DIFFERS, TEMPLATE_KNOWN, TEMPLATE_OWN_TEXT,
    TEMPLATE_REACH, TEMPLATE_REWRITE, TEMPLATE_SEVERAL, TEMPLATE_TEXT, TEMPLATE_TRIGGER, shown,
};
use behaviour::Kind;
use known::Known;
pub use known::digest_lines;
use pondera_text::{ChatTemplate, Condition, ErrorKind, Outline, Reach, outline};
pub(crate) use sources::Source;
use std::path::Path;

/// Most findings of one kind that a template is given.
const EACH_MAX: usize = 20;

/// Looks at every template of `path`, a model's folder or a file.
pub(crate) fn look(path: &Path, findings: &mut Findings) {
    let (found, claims) = sources::find(path, findings);
    for source in &found {
        template(source, &claims, findings);
    }
    // Readers differ in which of several they take.
    let main: Vec<&Source> = found.iter().filter(|s| s.name == "default" && !s.gguf).collect();
    if let Some((first, rest)) = main.split_first() {
        for other in rest.iter().filter(|o| known::normal(&o.text) != known::normal(&first.text)) {
            let what =
                format!("it is another template than that of {}: readers differ in which one they take", first.file);
            let (file, name) = (&*other.file, None);
            findings.add(New { rule: TEMPLATE_SEVERAL, severity: Severity::Low, file, what, offset: None, name });
        }
    }
}

/// Looks at one template.
fn template(source: &Source, claims: &[String], findings: &mut Findings) {
    let file = &*source.file;
    let called =
        if source.name == "default" { String::new() } else { format!("the template {}: ", shown(&source.name)) };
    let mut counts = std::collections::HashMap::new();
    let mut add = |rule: &'static crate::findings::Rule, severity, what: String, name: Option<&str>| {
        let n: &mut usize = counts.entry(rule.id).or_default();
        *n += 1;
        if *n <= EACH_MAX {
            findings.add(New { rule, severity, file, what: format!("{called}{what}"), offset: None, name });
        }
    };
    let found = match outline(&source.text) {
        Ok(found) => found,
        Err(error) => return add(TEMPLATE_BROKEN, Severity::Medium, error.message().to_string(), None),
    };
    for (line, reach) in &found.reaches {
        let (severity, what, name) = match reach {
            Reach::Attribute(name) => (Severity::High, "reaches for the attribute", &**name),
            Reach::Load(name) => (Severity::High, "loads another template by", &**name),
            Reach::Name(name) => (Severity::High, "reaches for Python's", &**name),
            Reach::Function(name) => (Severity::High, "calls a function that no chat template is given:", &**name),
            Reach::Computed => (Severity::Medium, "computes the name of an attribute with", "attr"),
        };
        add(TEMPLATE_REACH, severity, format!("line {line} {what} {}", shown(name)), Some(name));
    }
    for literal in &found.literals {
        for mark in texts::marks(&literal.text) {
            let name = shown(literal.text.trim());
            add(TEMPLATE_TEXT, mark.severity, format!("the text in line {} {}", literal.line, mark.what), Some(&name));
        }
    }
    // Comments and names, too, can be other than they look.
    if let Some((line, mark)) = source.text.lines().enumerate().find_map(|(n, l)| Some((n + 1, texts::hidden(l)?))) {
        add(TEMPLATE_TEXT, mark.severity, format!("line {line} {}", mark.what), None);
    }
    for (line, condition) in &found.conditions {
        let what = match condition {
            Condition::Clock => format!("line {line} decides by the date"),
            Condition::Identity(name) => {
                format!("line {line} decides by `{}`, which is no part of a conversation", shown(name))
            }
        };
        add(TEMPLATE_TRIGGER, Severity::Medium, what, None);
    }
    let chat = ChatTemplate::new(&*source.text).with_tokens(Some("<s>".into()), Some("</s>".into()));
    match chat.check() {
        Ok(()) => {
            // What stands in the source is said with its line.
            let written = found.literals.iter().any(|l| !texts::marks(&l.text).is_empty());
            for act in behaviour::look(&chat, source.text.len(), &found) {
                if act.kind == Kind::Text && written {
                    continue;
                }
                let rule = match act.kind {
                    Kind::Trigger => TEMPLATE_TRIGGER,
                    Kind::Rewrite => TEMPLATE_REWRITE,
                    Kind::Cost => TEMPLATE_COST,
                    Kind::OwnText => TEMPLATE_OWN_TEXT,
                    Kind::Text => TEMPLATE_TEXT,
                    Kind::Broken => TEMPLATE_BROKEN,
                    Kind::Reach => TEMPLATE_REACH,
                };
                let place = act.trigger.as_deref().map_or(String::new(), |t| place(&found, t));
                add(rule, act.severity, format!("{}{place}", act.what), act.trigger.as_deref());
            }
        }
        Err(error) => {
            let (rule, severity) = match error.kind() {
                ErrorKind::Limit => (TEMPLATE_COST, Severity::High),
                _ => (TEMPLATE_BROKEN, Severity::Medium),
            };
            add(rule, severity, error.message().to_string(), None);
        }
    }
    match known::compare(&source.text, claims) {
        Known::Equal(model) => {
            add(TEMPLATE_KNOWN, Severity::Info, format!("equal to the known template of {model}"), None)
        }
        Known::Differs { model, lines } => {
            add(
                TEMPLATE_DIFFERS,
                Severity::Low,
                format!("differs from the known template of {model} in {lines}"),
                None,
            );
        }
        Known::Unknown => {}
    }
}

/// Where a text stands in a template.
fn place(outline: &Outline, text: &str) -> String {
    let exact = outline.literals.iter().find(|l| l.quoted && l.text == text);
    let inside = || outline.literals.iter().find(|l| l.quoted && text.len() > 2 && l.text.contains(text));
    match exact.or_else(inside) {
        Some(literal) => format!(" (line {})", literal.line),
        None => " (put together by the template)".into(),
    }
}
