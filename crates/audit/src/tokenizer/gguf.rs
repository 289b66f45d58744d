//! What only GGUF metadata can hold of a vocabulary: types of tokens, scores, texts that stand twice.
use super::{NAMES_MAX, Report, is_plain, order};
use crate::{
    findings::{
        Severity, TOKENIZER_BROKEN, TOKENIZER_DUPLICATE, TOKENIZER_ORDER, TOKENIZER_SHADOW, TOKENIZER_UNSEEN, shown,
    },
    template::texts,
};
use pondera_weights::Gguf;
use std::collections::HashMap;

const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Looks at the vocabulary of a file.
pub(super) fn look(gguf: &Gguf, report: &mut Report) {
    let Ok(Some(tokens)) = gguf.byte_strings("tokenizer.ggml.tokens") else { return };
    let types = gguf.i64s("tokenizer.ggml.token_type").ok().flatten().unwrap_or_default();
    for (name, len) in [
        ("token_type", types.len()),
        ("scores", gguf.f32s("tokenizer.ggml.scores").ok().flatten().map_or(0, |s| s.len())),
    ] {
        if len != 0 && len != tokens.len() {
            let what = format!("{len} entries of {name} for {} tokens", tokens.len());
            report.add(TOKENIZER_BROKEN, Severity::Medium, what, None);
        }
    }
    let mut seen: HashMap<&[u8], usize> = HashMap::with_capacity(tokens.len());
    let mut twice: Vec<String> = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        if let Some(other) = seen.insert(token, id).filter(|_| !token.is_empty()) {
            twice.push(format!("{} ({other} and {id})", shown(&String::from_utf8_lossy(token))));
        }
        let kind = types.get(id).copied().unwrap_or(NORMAL);
        let Ok(text) = std::str::from_utf8(token) else { continue };
        if kind == USER_DEFINED && is_plain(text) {
            let what =
                format!("the token {id}, {:?}, is found before all others and is text that people write", shown(text));
            report.add(TOKENIZER_SHADOW, Severity::Medium, what, Some(text));
        }
        if matches!(kind, USER_DEFINED | CONTROL)
            && let Some(mark) = texts::hidden(text)
        {
            report.add(TOKENIZER_UNSEEN, mark.severity, format!("the token {id} {}", mark.what), Some(text));
        }
    }
    if !twice.is_empty() {
        let severity = if twice.len() > 4 { Severity::Low } else { Severity::Medium };
        let what = format!("{} texts stand twice: {}", twice.len(), twice[..twice.len().min(NAMES_MAX)].join(", "));
        report.add(TOKENIZER_DUPLICATE, severity, what, None);
    }
    ranks(gguf, &seen, &tokens, &types, report);
}

/// The order of merges, or of scores, against that of ids.
fn ranks(gguf: &Gguf, ids: &HashMap<&[u8], usize>, tokens: &[&[u8]], types: &[i64], report: &mut Report) {
    let id = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let merges = gguf.strings("tokenizer.ggml.merges").ok().flatten().unwrap_or_default();
    let mut order: Vec<u32> = Vec::new();
    if merges.is_empty() {
        let scores = gguf.f32s("tokenizer.ggml.scores").ok().flatten().unwrap_or_default();
        let llama = gguf.str("tokenizer.ggml.model").ok().flatten() == Some("llama");
        if !llama || scores.len() != tokens.len() || types.len() != tokens.len() {
            return;
        }
        let mut places: Vec<usize> =
            (0..tokens.len()).filter(|n| types[*n] == NORMAL && scores[*n].is_finite()).collect();
        places.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        order.extend(places.into_iter().map(id));
    } else {
        let mut before = std::collections::HashSet::with_capacity(merges.len());
        for merge in merges {
            let Some(space) = merge.bytes().skip(1).position(|b| b == b' ').map(|at| at + 1) else { continue };
            let whole = [&merge[..space], &merge[space + 1..]].concat();
            if let Some(&found) = ids.get(whole.as_bytes())
                && before.insert(found)
            {
                order.push(id(found));
            }
        }
    }
    said(&order, |id| tokens.get(id as usize).map(|t| String::from_utf8_lossy(t).into_owned()), report);
}

/// Reports what stands out of order.
pub(super) fn said(order: &[u32], text: impl Fn(u32) -> Option<String>, report: &mut Report) {
    let mut odd = order::odd(order);
    // Runs of spaces are put in by hand.
    let spaces = |text: &str| text.chars().all(|c| matches!(c, '▁' | 'Ġ' | ' ' | '\t' | '\n' | 'Ċ' | 'ĉ' | 'č' | '\r'));
    odd.retain(|at| !text(order[*at]).is_none_or(|t| spaces(&t)));
    if odd.is_empty() {
        return;
    }
    let names: Vec<String> = odd
        .iter()
        .take(NAMES_MAX)
        .map(|at| format!("{} ({})", shown(&text(order[*at]).unwrap_or_default()), order[*at]))
        .collect();
    let what = format!("{} tokens do not follow the order of all others: {}", odd.len(), names.join(", "));
    report.add(TOKENIZER_ORDER, Severity::Medium, what, None);
}
