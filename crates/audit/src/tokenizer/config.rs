//! Configs that speak of tokens: whether the vocabulary has them, at the ids that are named.
//!
//! Owns `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json` and `config.json` beside a vocabulary,
//! and the ids in GGUF metadata.
use super::Report;
use crate::findings::{Severity, TOKENIZER_CONFIG, TOKENIZER_SHADOW, shown};
use pondera_text::Tokenizer;
use pondera_weights::Gguf;
use serde_json::Value;
use std::{fs, path::Path};

/// Longest config that is read.
const FILE_MAX: u64 = 64 << 20;

fn read(folder: &Path, name: &str) -> Value {
    let path = folder.join(name);
    let small = fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= FILE_MAX);
    let text = if small { fs::read(path).ok() } else { None };
    text.and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or(Value::Null)
}

/// A token as a config writes it: a text, or an object with `content`.
fn token(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Ids as a config writes them: one or several.
fn ids(value: Option<&Value>) -> Vec<u64> {
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_u64).collect(),
        Some(one) => one.as_u64().into_iter().collect(),
        None => Vec::new(),
    }
}

/// Looks at the configs beside a vocabulary.
pub(super) fn look(folder: &Path, tokenizer: &Tokenizer, report: &mut Report) {
    let size = tokenizer.vocab_size() as u64;
    let of_tokenizer = read(folder, "tokenizer_config.json");
    let map = read(folder, "special_tokens_map.json");
    let generation = read(folder, "generation_config.json");
    let model = read(folder, "config.json");
    for (name, file) in [("tokenizer_config.json", &of_tokenizer), ("special_tokens_map.json", &map)] {
        for field in ["bos_token", "eos_token", "unk_token", "sep_token", "cls_token", "mask_token", "pad_token"] {
            let Some(text) = file.get(field).and_then(token).filter(|t| !t.is_empty()) else { continue };
            // Some are added when the vocabulary is loaded.
            let added = of_tokenizer.get("added_tokens_decoder").and_then(Value::as_object);
            let comes = added.is_some_and(|a| a.values().any(|v| token(v) == Some(text)));
            if tokenizer.id_of(text).is_none() && !comes {
                let what = format!("{name} names {} as its {field}, which the vocabulary does not have", shown(text));
                report.add(TOKENIZER_CONFIG, Severity::Low, what, Some(text));
            }
        }
    }
    let listed = of_tokenizer.get("added_tokens_decoder").and_then(Value::as_object);
    for (id, value) in listed.into_iter().flatten() {
        let (Ok(id), Some(text)) = (id.parse::<u32>(), token(value)) else { continue };
        match tokenizer.id_of(text) {
            Some(found) if found != id => {
                let what = format!("tokenizer_config.json puts {} at {id}, the vocabulary at {found}", shown(text));
                report.add(TOKENIZER_CONFIG, Severity::Medium, what, Some(text));
            }
            Some(_) => {}
            None => {
                if let Some(bytes) = tokenizer.token_bytes(id) {
                    let there = shown(&String::from_utf8_lossy(&bytes));
                    let what =
                        format!("tokenizer_config.json puts {} at {id}, where the vocabulary has {there}", shown(text));
                    report.add(TOKENIZER_CONFIG, Severity::Medium, what, Some(text));
                } else if super::is_plain(text) {
                    let what = format!("tokenizer_config.json adds {:?}, which is text that people write", shown(text));
                    report.add(TOKENIZER_SHADOW, Severity::Medium, what, Some(text));
                }
            }
        }
    }
    let text_model = model.get("text_config").unwrap_or(&Value::Null);
    let rows = [&model, text_model].iter().find_map(|m| m.get("vocab_size").and_then(Value::as_u64));
    let most = rows.unwrap_or(size).max(size);
    for (name, file) in [("generation_config.json", &generation), ("config.json", &model), ("config.json", text_model)]
    {
        for field in ["bos_token_id", "eos_token_id", "pad_token_id"] {
            for id in ids(file.get(field)).into_iter().filter(|id| *id >= most) {
                let what = format!("{name} has {id} as its {field}, beyond the vocabulary of {most}");
                report.add(TOKENIZER_CONFIG, Severity::Low, what, None);
            }
        }
    }
    if let Some(rows) = rows.filter(|r| *r < size) {
        let what = format!("the vocabulary has {size} ids, the model rows for {rows}");
        report.add(TOKENIZER_CONFIG, Severity::Low, what, None);
    }
    // The end of a turn may be another token than the end of a text; a plain word is neither.
    let ends: Vec<u64> = [&generation, &model, text_model].iter().flat_map(|f| ids(f.get("eos_token_id"))).collect();
    let named = of_tokenizer.get("eos_token").and_then(token).and_then(|t| tokenizer.id_of(t));
    for id in ends {
        let Some(id) = u32::try_from(id).ok().filter(|id| Some(*id) != named) else { continue };
        let Some(text) = tokenizer.token_bytes(id).and_then(|b| String::from_utf8(b).ok()) else { continue };
        if !tokenizer.is_special(id) && super::is_plain(&text) {
            let what = format!("the end of sequence {id} is {:?}, text that people write", shown(&text));
            report.add(TOKENIZER_CONFIG, Severity::Low, what, Some(&text));
        }
    }
}

/// Looks at the ids that GGUF metadata names.
pub(super) fn gguf(metadata: &Gguf, tokenizer: &Tokenizer, report: &mut Report) {
    let size = tokenizer.vocab_size() as u64;
    for name in ["bos", "eos", "eot", "eom", "unknown", "padding", "seperator", "cls", "mask"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Ok(Some(id)) = metadata.u64(&key) else { continue };
        if id >= size && id < u64::from(u32::MAX) {
            let what = format!("{key} is {id}, beyond the vocabulary of {size}");
            report.add(TOKENIZER_CONFIG, Severity::Low, what, None);
        }
    }
}
