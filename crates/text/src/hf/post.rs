//! The `post_processor` (tokens around a prompt) and the `decoder` of a `tokenizer.json`.

use super::json::{Matcher, Part};
use crate::decode::Step;
use crate::error::Result;
use serde_json::Value;

/// Ids in front of and behind the text.
pub(super) type Around = (Vec<u32>, Vec<u32>);

/// What the post-processor puts around a single text.
pub(super) fn around(value: &Value) -> Result<Around> {
    let part = Part { value, place: "post_processor" };
    match part.kind()? {
        "Sequence" => {
            let (mut front, mut back) = Around::default();
            for inner in part.list("processors")? {
                let (before, behind) = around(inner.value)?;
                front.splice(0..0, before);
                back.extend(behind);
            }
            Ok((front, back))
        }
        "TemplateProcessing" => template(&part),
        "BertProcessing" | "RobertaProcessing" => Ok((vec![pair_id(&part, "cls")?], vec![pair_id(&part, "sep")?])),
        "ByteLevel" => Ok(Around::default()),
        _ => Err(part.unknown()),
    }
}

fn pair_id(part: &Part, field: &str) -> Result<u32> {
    let id = part.value.get(field).and_then(|pair| pair.get(1)).and_then(Value::as_u64);
    id.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| part.wrong(field, "[token, id]"))
}

fn template(part: &Part) -> Result<Around> {
    let (mut front, mut back) = Around::default();
    let mut behind = false;
    for item in part.list("single")? {
        if item.value.get("Sequence").is_some() {
            behind = true;
            continue;
        }
        let name = item.value.get("SpecialToken").and_then(|t| t.get("id")).and_then(Value::as_str);
        let name = name.ok_or_else(|| part.wrong("single", "SpecialToken or Sequence items"))?;
        let ids = part.value.get("special_tokens").and_then(|t| t.get(name)).and_then(|t| t.get("ids"));
        let ids =
            ids.and_then(Value::as_array).ok_or_else(|| part.wrong("special_tokens", "ids of every token used"))?;
        for id in ids {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| part.wrong("special_tokens", "ids of every token used"))?;
            if behind { back.push(id) } else { front.push(id) }
        }
    }
    Ok((front, back))
}

/// The steps of the decoder.
pub(super) fn steps(value: &Value, out: &mut Vec<Step>) -> Result<()> {
    let part = Part { value, place: "decoder" };
    out.push(match part.kind()? {
        "Sequence" => return part.list("decoders")?.try_for_each(|inner| steps(inner.value, out)),
        "ByteLevel" => Step::ByteLevel,
        "Metaspace" => Step::Metaspace {
            replacement: part.character("replacement")?,
            strip_first: match part.value.get("prepend_scheme").and_then(Value::as_str) {
                Some(scheme) => scheme != "never",
                None => part.flag("add_prefix_space", true)?,
            },
        },
        "WordPiece" => {
            Step::WordPiece { prefix: part.text("prefix")?.to_string(), cleanup: part.flag("cleanup", true)? }
        }
        "BPEDecoder" => Step::Suffix { suffix: part.text("suffix")?.to_string() },
        "ByteFallback" => Step::ByteFallback,
        "Fuse" => Step::Fuse,
        "Strip" => Step::Strip {
            content: part.character("content")?,
            start: part.number("start", 0)?,
            stop: part.number("stop", 0)?,
        },
        "Replace" => match part.matcher()? {
            Matcher::Text(from) => Step::Replace { from, to: part.text("content")?.to_string() },
            Matcher::Pattern(from) => Step::ReplacePattern { from, to: part.text("content")?.to_string() },
        },
        "CTC" => Step::Ctc {
            pad: part.text("pad_token")?.to_string(),
            delimiter: part.text("word_delimiter_token")?.to_string(),
            cleanup: part.flag("cleanup", true)?,
        },
        _ => return Err(part.unknown()),
    });
    Ok(())
}
