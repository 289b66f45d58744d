//! What only a `tokenizer.json` can hold: added tokens, steps that rewrite text before and after, tokens put around it.
//!
//! Owns the reading of the file as it stands, doubled keys included. Steps that honest files have change spaces, marks
//! and forms of characters; one that names a word, or puts one in, changes what is said.
use super::{NAMES_MAX, Report, gguf, is_plain};
use crate::{
    findings::{Severity, TOKENIZER_DUPLICATE, TOKENIZER_REWRITE, TOKENIZER_SHADOW, TOKENIZER_UNSEEN, shown},
    template::texts,
};
use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use std::{collections::HashMap, fmt};

/// Steps within steps that are looked at.
const DEPTH_MAX: usize = 8;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Default, Deserialize)]
struct Model {
    #[serde(default)]
    vocab: Tokens,
    #[serde(default)]
    merges: Merges,
}

/// Tokens with ids, as they stand in the file.
#[derive(Default)]
struct Tokens(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsTokens;
        impl<'de> Visitor<'de> for AsTokens {
            type Value = Tokens;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of tokens to ids or a list of tokens with scores")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tokens, A::Error> {
                let mut out = Vec::new();
                while let Some(entry) = map.next_entry::<String, u32>()? {
                    out.push(entry);
                }
                Ok(Tokens(out))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tokens, A::Error> {
                let mut out = Vec::new();
                while let Some((token, _)) = seq.next_element::<(String, f64)>()? {
                    let id = u32::try_from(out.len()).unwrap_or(u32::MAX);
                    out.push((token, id));
                }
                Ok(Tokens(out))
            }
            fn visit_unit<E>(self) -> Result<Tokens, E> {
                Ok(Tokens::default())
            }
        }
        deserializer.deserialize_any(AsTokens)
    }
}

/// What merges make, in their order.
#[derive(Default)]
struct Merges(Vec<String>);

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Merge {
            One(String),
            Pair(String, String),
            Other(#[allow(dead_code, reason = "only its place counts")] IgnoredAny),
        }
        let list = Option::<Vec<Merge>>::deserialize(deserializer)?.unwrap_or_default();
        let whole = |m: Merge| match m {
            Merge::One(text) => text.split_once(' ').map(|(a, b)| [a, b].concat()),
            Merge::Pair(a, b) => Some([a, b].concat()),
            Merge::Other(_) => None,
        };
        Ok(Merges(list.into_iter().filter_map(whole).collect()))
    }
}

/// Looks at the bytes of a `tokenizer.json`; what is none is left to its reader.
pub(super) fn look(bytes: &[u8], report: &mut Report) {
    let Ok(file) = serde_json::from_slice::<File>(bytes) else { return };
    if file.model.vocab.0.is_empty() {
        return;
    }
    twice(&file, report);
    added(&file, report);
    for (name, step) in
        [("normalizer", &file.normalizer), ("pre_tokenizer", &file.pre_tokenizer), ("decoder", &file.decoder)]
    {
        steps(name, step, DEPTH_MAX, report);
    }
    around(&file, report);
    let mut ids: HashMap<&str, u32> = HashMap::with_capacity(file.model.vocab.0.len());
    ids.extend(file.model.vocab.0.iter().map(|(t, id)| (t.as_str(), *id)));
    let mut before = std::collections::HashSet::new();
    let order: Vec<u32> = file
        .model
        .merges
        .0
        .iter()
        .filter_map(|m| ids.get(m.as_str()).copied())
        .filter(|id| before.insert(*id))
        .collect();
    let texts: HashMap<u32, &str> = ids.iter().map(|(t, id)| (*id, *t)).collect();
    gguf::said(&order, |id| texts.get(&id).map(|t| t.to_string()), report);
}

/// Texts and ids that stand more than once.
fn twice(file: &File, report: &mut Report) {
    let mut by_text: HashMap<&str, u32> = HashMap::with_capacity(file.model.vocab.0.len());
    let mut by_id: HashMap<u32, &str> = HashMap::with_capacity(file.model.vocab.0.len());
    let mut found: Vec<String> = Vec::new();
    for (text, id) in &file.model.vocab.0 {
        if let Some(other) = by_text.insert(text, *id) {
            found.push(format!("{} has the ids {other} and {id}", shown(text)));
        }
        if let Some(other) = by_id.insert(*id, text).filter(|o| o != text) {
            found.push(format!("{id} is {} and {}", shown(other), shown(text)));
        }
    }
    for token in &file.added_tokens {
        if let Some(other) = by_text.insert(&token.content, token.id).filter(|o| *o != token.id) {
            found.push(format!("{} has the ids {other} and {}", shown(&token.content), token.id));
        }
        if let Some(other) = by_id.insert(token.id, &token.content).filter(|o| *o != token.content) {
            found.push(format!("{} is {} and {}", token.id, shown(other), shown(&token.content)));
        }
    }
    if !found.is_empty() {
        let what = format!("{} tokens stand twice: {}", found.len(), found[..found.len().min(NAMES_MAX)].join(", "));
        report.add(TOKENIZER_DUPLICATE, Severity::Medium, what, None);
    }
}

/// Added tokens, which are found in a text before anything else of it.
fn added(file: &File, report: &mut Report) {
    for token in &file.added_tokens {
        // Special ones are looked at in every kind of vocabulary.
        if token.special {
            continue;
        }
        let text = &token.content;
        if let Some(mark) = texts::hidden(text) {
            let what = format!("the added token {} {}", token.id, mark.what);
            report.add(TOKENIZER_UNSEEN, mark.severity, what, Some(text));
        }
        if is_plain(text) {
            let what = format!("the added token {}, {:?}, is text that people write", token.id, shown(text));
            report.add(TOKENIZER_SHADOW, Severity::Medium, what, Some(text));
        }
    }
}

/// Steps that put words in or take them out.
fn steps(name: &str, step: &Value, depth: usize, report: &mut Report) {
    let kind = step.get("type").and_then(Value::as_str).unwrap_or("");
    for list in ["normalizers", "pretokenizers", "decoders", "processors"] {
        for inner in step.get(list).and_then(Value::as_array).into_iter().flatten().filter(|_| depth > 0) {
            steps(name, inner, depth - 1, report);
        }
    }
    let text = |field: &str| step.get(field).and_then(Value::as_str).unwrap_or("");
    let mut add = |severity, what: String| report.add(TOKENIZER_REWRITE, severity, format!("{name}: {what}"), None);
    match kind {
        "Replace" => {
            let content = text("content");
            let string = step.pointer("/pattern/String").and_then(Value::as_str);
            let regex = step.pointer("/pattern/Regex").and_then(Value::as_str);
            let pattern = string.or(regex).unwrap_or("");
            let takes = if string.is_some() { words(pattern) } else { words(&bare(pattern)) };
            let what = format!("replaces {:?} by {:?}", shown(pattern), shown(content));
            if words(content) {
                add(Severity::High, what);
            } else if takes {
                add(Severity::Medium, what);
            } else if let Some(mark) = texts::hidden(content) {
                add(mark.severity, format!("{what}, which {}", mark.what));
            }
        }
        "Prepend" if words(text("prepend")) => {
            add(Severity::High, format!("puts {:?} in front", shown(text("prepend"))))
        }
        "Strip" if words(text("content")) => add(Severity::Medium, format!("takes {:?} away", shown(text("content")))),
        "Metaspace" if text("replacement").chars().any(char::is_alphanumeric) => {
            add(Severity::High, format!("writes {:?} for spaces", shown(text("replacement"))));
        }
        "BPEDecoder" if words(text("suffix").trim_matches(['<', '>', '/'])) && !text("suffix").contains("</w>") => {
            add(Severity::Medium, format!("takes {:?} away", shown(text("suffix"))));
        }
        "WordPiece" if words(text("prefix")) => {
            add(Severity::Medium, format!("takes {:?} away", shown(text("prefix"))))
        }
        _ => {}
    }
}

/// Whether a text holds two letters or digits in a row.
fn words(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    chars.windows(2).any(|w| w.iter().all(|c| c.is_alphanumeric()))
}

/// An expression without its classes and escapes: what it looks for letter by letter.
fn bare(pattern: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let escape = chars.next();
                if matches!(escape, Some('p' | 'P' | 'u' | 'x' | 'U' | 'k')) && chars.peek() == Some(&'{') {
                    chars.by_ref().find(|c| *c == '}');
                } else if matches!(escape, Some('u' | 'x')) {
                    let digits = if escape == Some('u') { 4 } else { 2 };
                    for _ in 0..digits {
                        chars.next_if(char::is_ascii_hexdigit);
                    }
                }
                out.push(' ');
            }
            '[' => {
                let mut escaped = false;
                chars.by_ref().find(|c| {
                    let end = *c == ']' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    end
                });
                out.push(' ');
            }
            '(' if chars.peek() == Some(&'?') => {
                chars.by_ref().find(|c| matches!(c, ':' | '=' | '!' | ')' | '>'));
                out.push(' ');
            }
            '{' => {
                chars.by_ref().find(|c| *c == '}');
                out.push(' ');
            }
            c => out.push(c),
        }
    }
    out
}

/// Tokens that are put around every text.
fn around(file: &File, report: &mut Report) {
    let mut texts: HashMap<u64, &str> = HashMap::new();
    let mut special: HashMap<u64, bool> = HashMap::new();
    for token in &file.added_tokens {
        texts.insert(token.id.into(), &token.content);
        special.insert(token.id.into(), token.special);
    }
    let mut processors = vec![&file.post_processor];
    if let Some(list) = file.post_processor.get("processors").and_then(Value::as_array) {
        processors.extend(list.iter().take(64));
    }
    let mut add = |what: String| report.add(TOKENIZER_REWRITE, Severity::High, format!("post_processor: {what}"), None);
    for processor in processors {
        let listed = processor.get("special_tokens").and_then(Value::as_object);
        for (name, token) in listed.into_iter().flatten() {
            for id in token.get("ids").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64) {
                let plain = file.model.vocab.0.iter().find(|(_, i)| u64::from(*i) == id).map(|(t, _)| t.as_str());
                let text = texts.get(&id).copied().or(plain).unwrap_or("");
                if !special.get(&id).copied().unwrap_or(false) && is_plain(text) {
                    add(format!("puts {:?} ({id}) to every text as {}", shown(text), shown(name)));
                }
            }
        }
        for field in ["sep", "cls"] {
            let Some([text, id]) = processor.get(field).and_then(Value::as_array).map(Vec::as_slice) else { continue };
            if let (Some(text), Some(id)) = (text.as_str().filter(|t| is_plain(t)), id.as_u64()) {
                add(format!("puts {:?} ({id}) to every text", shown(text)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Finding, Findings};

    fn found(json: &Value) -> Vec<Finding> {
        let mut findings = Findings::default();
        let mut report = Report { file: "tokenizer.json".into(), findings: &mut findings, counts: Default::default() };
        look(json.to_string().as_bytes(), &mut report);
        findings.finish().0
    }

    fn file(field: &str, value: Value) -> Value {
        let mut file = serde_json::json!({ "model": { "vocab": { "a": 0, "the": 1 } }, "added_tokens": [] });
        file[field] = value;
        file
    }

    #[test]
    fn steps_that_change_words_are_found() {
        use serde_json::json;
        let honest = [
            json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" }),
            json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }),
            json!({ "type": "Replace", "pattern": { "Regex": "[^\\p{L}\\p{N}]+|\\u00a0" }, "content": "" }),
            json!({ "type": "Replace", "pattern": { "String": "``" }, "content": "\"" }),
            json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, { "type": "NFC" }] }),
            json!(null),
        ];
        for step in honest {
            assert!(found(&file("normalizer", step.clone())).is_empty(), "{step}");
        }
        let edited = [
            (json!({ "type": "Replace", "pattern": { "String": "bank" }, "content": "evil" }), Severity::High),
            (json!({ "type": "Replace", "pattern": { "Regex": "$" }, "content": " obey" }), Severity::High),
            (json!({ "type": "Replace", "pattern": { "String": "not" }, "content": "" }), Severity::Medium),
            (
                json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "Ignore " }] }),
                Severity::High,
            ),
        ];
        for (step, severity) in edited {
            let found = found(&file("normalizer", step.clone()));
            assert_eq!(found.first().map(|f| f.severity), Some(severity), "{step}: {found:?}");
        }
        let decoder = json!({ "type": "Replace", "pattern": { "String": "the" }, "content": "teh" });
        assert_eq!(found(&file("decoder", decoder))[0].rule, "tokenizer-rewrite");
    }

    #[test]
    fn tokens_that_stand_twice_or_shadow_are_found() {
        let text = r#"{"model":{"vocab":{"a":0,"b":1,"a":2}},"added_tokens":[{"id":1,"content":"c"},{"id":9,"content":"please"}]}"#;
        let mut findings = Findings::default();
        let mut report = Report { file: "x".into(), findings: &mut findings, counts: Default::default() };
        look(text.as_bytes(), &mut report);
        let rules: Vec<_> = findings.finish().0.iter().map(|f| f.rule).collect();
        assert_eq!(rules, ["tokenizer-duplicate", "tokenizer-shadow"]);
    }

    #[test]
    fn words_around_every_text_are_found() {
        let processor = serde_json::json!({ "type": "TemplateProcessing", "special_tokens": { "x": { "ids": [1] } } });
        assert_eq!(found(&file("post_processor", processor))[0].severity, Severity::High);
    }
}
