//! What two models make of text: vocabularies, merges, special tokens, chat templates.
//!
//! Owns: what is compared of them. Does not own: reading them (`pondera-text`).
use super::{Error, open::Side};
use pondera_text::Tokenizer;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;

/// Tokens and lines that a report lists; more are counted.
const SHOWN: usize = 20;
/// Longest text of a token or line that is shown.
const TEXT_MAX: usize = 120;
/// Longest `tokenizer.json` whose merges are compared.
const JSON_MAX: u64 = 256 << 20;

/// Two vocabularies.
#[derive(Clone, Debug, Serialize)]
pub struct TokenizerDiff {
    /// `same`, `differs`, `only_in_a`, `only_in_b`, `absent`.
    pub status: &'static str,
    /// Tokens of both.
    pub vocab_size: [Option<usize>; 2],
    /// What they are stored as.
    pub kind: [Option<&'static str>; 2],
    /// Ids that stand for something else in B.
    pub changed: usize,
    /// Of these, ids whose token of B has another id in A.
    pub moved: usize,
    /// Ids that are special in one only.
    pub special_changed: usize,
    /// The first of them.
    pub examples: Vec<TokenChange>,
    /// Beginning of a sequence, where it differs.
    pub bos: Option<[Option<u32>; 2]>,
    /// Ends of a generation, where they differ.
    pub stops: Option<[Vec<u32>; 2]>,
    /// Whether merges are equal, in order; `null` where one of both has none that can be compared.
    pub merges_equal: Option<bool>,
}

/// An id that changed.
#[derive(Clone, Debug, Serialize)]
pub struct TokenChange {
    /// It.
    pub id: u32,
    /// Its token in A.
    pub a: Option<String>,
    /// Its token in B.
    pub b: Option<String>,
}

/// Two chat templates.
#[derive(Clone, Debug, Serialize)]
pub struct TemplateDiff {
    /// `same`, `whitespace`, `differs`, `only_in_a`, `only_in_b`, `absent`.
    pub status: &'static str,
    /// Lines that only A has, counted.
    pub removed: usize,
    /// Lines that only B has, counted.
    pub added: usize,
    /// The first of both, with `-` or `+` in front.
    pub lines: Vec<String>,
}

fn status(a: bool, b: bool) -> &'static str {
    match (a, b) {
        (true, true) => "same",
        (true, false) => "only_in_a",
        (false, true) => "only_in_b",
        (false, false) => "absent",
    }
}

pub(super) fn tokenizers(a: &Side, b: &Side) -> Result<TokenizerDiff, Error> {
    let sides = [a.tokenizer.as_ref(), b.tokenizer.as_ref()];
    let mut diff = TokenizerDiff {
        status: status(sides[0].is_some(), sides[1].is_some()),
        vocab_size: sides.map(|t| t.map(Tokenizer::vocab_size)),
        kind: sides.map(|t| t.map(Tokenizer::kind)),
        changed: 0,
        moved: 0,
        special_changed: 0,
        examples: Vec::new(),
        bos: None,
        stops: None,
        merges_equal: None,
    };
    let [Some(x), Some(y)] = sides else { return Ok(diff) };
    let size = |t: &Tokenizer| u32::try_from(t.vocab_size()).unwrap_or(u32::MAX);
    let mut changed = Vec::new();
    for id in 0..size(x).max(size(y)) {
        let (s, t) = (x.token_bytes(id), y.token_bytes(id));
        diff.special_changed += usize::from(s.is_some() && t.is_some() && x.is_special(id) != y.is_special(id));
        if s == t {
            continue;
        }
        if diff.examples.len() < SHOWN {
            let text = |t: Option<Vec<u8>>| t.map(|t| shortened(&String::from_utf8_lossy(&t)));
            diff.examples.push(TokenChange { id, a: text(s), b: text(t.clone()) });
        }
        changed.extend(t);
        diff.changed += 1;
    }
    if !changed.is_empty() {
        let ids: HashMap<Vec<u8>, u32> = (0..size(x)).filter_map(|id| Some((x.token_bytes(id)?, id))).collect();
        diff.moved = changed.iter().filter(|t| !t.is_empty() && ids.contains_key(*t)).count();
    }
    let (bos, stops) = ([x.bos_id(), y.bos_id()], [x.stop_ids().to_vec(), y.stop_ids().to_vec()]);
    diff.bos = (bos[0] != bos[1]).then_some(bos);
    diff.stops = (stops[0] != stops[1]).then_some(stops);
    if let (Some(s), Some(t)) = (merges(a)?, merges(b)?) {
        diff.merges_equal = Some(s == t);
    }
    let same = diff.changed == 0
        && diff.special_changed == 0
        && diff.bos.is_none()
        && diff.stops.is_none()
        && diff.vocab_size[0] == diff.vocab_size[1]
        && diff.merges_equal != Some(false);
    diff.status = if same { "same" } else { "differs" };
    Ok(diff)
}

/// Pairs that are merged, in order; none where the vocabulary does not list them.
fn merges(side: &Side) -> Result<Option<Vec<String>>, Error> {
    if let Some(gguf) = side.weights.gguf() {
        let list = gguf.strings("tokenizer.ggml.merges")?;
        return Ok(list.map(|l| l.into_iter().map(str::to_string).collect()));
    }
    let file = side.weights.folder().join("tokenizer.json");
    let readable = std::fs::metadata(&file).is_ok_and(|m| m.is_file() && m.len() <= JSON_MAX);
    if !readable {
        return Ok(None);
    }
    let broken = |e: &dyn std::fmt::Display| Error::Broken(format!("{}: {e}", file.display()));
    let text = std::fs::read(&file).map_err(|e| broken(&e))?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| broken(&e))?;
    let Some(list) = value.pointer("/model/merges").and_then(Value::as_array) else { return Ok(None) };
    let one = |v: &Value| match v {
        Value::String(s) => Some(s.clone()),
        Value::Array(pair) => Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
        _ => None,
    };
    Ok(list.iter().map(one).collect())
}

pub(super) fn templates(a: &Side, b: &Side) -> TemplateDiff {
    let text = |s: &'_ Side| s.template.as_ref().map(|t| t.source(false).to_string());
    let (x, y) = (text(a), text(b));
    let mut diff = TemplateDiff { status: status(x.is_some(), y.is_some()), removed: 0, added: 0, lines: Vec::new() };
    let (Some(x), Some(y)) = (x, y) else { return diff };
    if x == y {
        return diff;
    }
    let bare = |t: &str| t.split_whitespace().collect::<Vec<_>>().join(" ");
    diff.status = if bare(&x) == bare(&y) { "whitespace" } else { "differs" };
    let count = |t: &'_ str| {
        let mut lines: HashMap<String, i64> = HashMap::new();
        t.lines().for_each(|l| *lines.entry(l.trim_end().to_string()).or_default() += 1);
        lines
    };
    let (mut in_a, mut in_b) = (count(&x), count(&y));
    for (text, sign, other, n) in [(&x, '-', &mut in_b, &mut diff.removed), (&y, '+', &mut in_a, &mut diff.added)] {
        for line in text.lines() {
            let left = other.entry(line.trim_end().to_string()).or_default();
            *left -= 1;
            if *left < 0 {
                *n += 1;
                if *n <= SHOWN {
                    diff.lines.push(format!("{sign} {}", shortened(line)));
                }
            }
        }
    }
    diff
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}
