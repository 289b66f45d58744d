//! The `normalizer` of a `tokenizer.json`: text to text.

use super::json::{Matcher, Part};
use crate::charsmap::CharsMap;
use crate::decode::replace_pattern;
use crate::error::{Error, Result};
use crate::unicode::{is_chinese, is_mark, is_nonspacing, is_other, to_byte_chars};
use serde_json::Value;
use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

#[derive(Clone, Debug)]
pub(super) enum Normalizer {
    Sequence(Vec<Normalizer>),
    Bert { clean: bool, chinese: bool, accents: bool, lowercase: bool },
    Strip { left: bool, right: bool },
    StripAccents,
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    Nmt,
    Precompiled(CharsMap),
    Replace { from: Matcher, to: String },
    Prepend(String),
    ByteLevel,
}

impl Normalizer {
    pub(super) fn read(value: &Value) -> Result<Self> {
        let part = Part { value, place: "normalizer" };
        Ok(match part.kind()? {
            "Sequence" => {
                Normalizer::Sequence(part.list("normalizers")?.map(|p| Self::read(p.value)).collect::<Result<_>>()?)
            }
            "BertNormalizer" => {
                let lowercase = part.flag("lowercase", true)?;
                Normalizer::Bert {
                    clean: part.flag("clean_text", true)?,
                    chinese: part.flag("handle_chinese_chars", true)?,
                    accents: part.flag("strip_accents", lowercase)?,
                    lowercase,
                }
            }
            "Strip" => {
                Normalizer::Strip { left: part.flag("strip_left", true)?, right: part.flag("strip_right", true)? }
            }
            "StripAccents" => Normalizer::StripAccents,
            "NFC" => Normalizer::Nfc,
            "NFD" => Normalizer::Nfd,
            "NFKC" => Normalizer::Nfkc,
            "NFKD" => Normalizer::Nfkd,
            "Lowercase" => Normalizer::Lowercase,
            "Nmt" => Normalizer::Nmt,
            "ByteLevel" => Normalizer::ByteLevel,
            "Precompiled" => Normalizer::Precompiled(charsmap(&part)?),
            "Replace" => Normalizer::Replace { from: part.matcher()?, to: part.text("content")?.to_string() },
            "Prepend" => Normalizer::Prepend(part.text("prepend")?.to_string()),
            _ => return Err(part.unknown()),
        })
    }

    /// The normalized text.
    pub(super) fn apply<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        match self {
            Normalizer::Sequence(all) => all.iter().fold(text, |text, one| one.apply(text)),
            Normalizer::Bert { clean, chinese, accents, lowercase } => {
                Cow::Owned(bert(&text, *clean, *chinese, *accents, *lowercase))
            }
            Normalizer::Strip { left, right } => {
                let mut rest = text.as_ref();
                if *left {
                    rest = rest.trim_start();
                }
                if *right {
                    rest = rest.trim_end();
                }
                Cow::Owned(rest.to_string())
            }
            Normalizer::StripAccents => Cow::Owned(text.chars().filter(|c| !is_mark(*c)).collect()),
            Normalizer::Nfc if unicode_normalization::is_nfc(&text) => text,
            Normalizer::Nfc => Cow::Owned(text.nfc().collect()),
            Normalizer::Nfd => Cow::Owned(text.nfd().collect()),
            Normalizer::Nfkc => Cow::Owned(text.nfkc().collect()),
            Normalizer::Nfkd => Cow::Owned(text.nfkd().collect()),
            Normalizer::Lowercase => Cow::Owned(lowercase(&text)),
            Normalizer::Nmt => Cow::Owned(text.chars().filter_map(nmt).collect()),
            Normalizer::ByteLevel => Cow::Owned(to_byte_chars(text.as_bytes())),
            Normalizer::Precompiled(map) => Cow::Owned(precompiled(map, &text)),
            Normalizer::Replace { from: Matcher::Text(from), to } => {
                if from.is_empty() || !text.contains(from.as_str()) { text } else { Cow::Owned(text.replace(from, to)) }
            }
            Normalizer::Replace { from: Matcher::Pattern(from), to } => Cow::Owned(replace_pattern(&text, from, to)),
            Normalizer::Prepend(prefix) if text.is_empty() || prefix.is_empty() => text,
            Normalizer::Prepend(prefix) => Cow::Owned(format!("{prefix}{text}")),
        }
    }
}

fn charsmap(part: &Part) -> Result<CharsMap> {
    let base64 = part.value.get("precompiled_charsmap");
    if matches!(base64, None | Some(Value::Null)) {
        return Ok(CharsMap::default());
    }
    let blob = crate::base64::decode(part.text("precompiled_charsmap")?.as_bytes());
    CharsMap::new(&blob.ok_or_else(|| Error::invalid("normalizer.precompiled_charsmap: not base64"))?)
}

/// Lower case character by character, without regard to what stands beside it.
fn lowercase(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

fn bert(text: &str, clean: bool, chinese: bool, accents: bool, lower: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let c = match c {
            '\0' | '\u{FFFD}' if clean => continue,
            c if clean && is_other(c) => continue,
            c if clean && c.is_whitespace() => ' ',
            c => c,
        };
        if chinese && is_chinese(c) {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    if accents && !out.is_ascii() {
        out = out.nfd().filter(|c| !is_nonspacing(*c)).collect();
    }
    if lower { lowercase(&out) } else { out }
}

/// The character map of the neural machine translation rules: controls vanish, odd spaces become spaces.
fn nmt(c: char) -> Option<char> {
    match u32::from(c) {
        0x01..=0x08 | 0x0B | 0x0E..=0x1F | 0x7F | 0x8F | 0x9F => None,
        0x09 | 0x0A | 0x0C | 0x0D | 0x1680 | 0x200B..=0x200F | 0x2028 | 0x2029 | 0x2581 | 0xFEFF | 0xFFFD => Some(' '),
        _ => Some(c),
    }
}

fn precompiled(map: &CharsMap, text: &str) -> String {
    if map.is_empty() {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len());
    let mut buffer = [0; 4];
    for grapheme in text.graphemes(true) {
        if grapheme.len() < 6
            && let Some(replacement) = map.of_chunk(grapheme)
        {
            out.push_str(replacement);
            continue;
        }
        for c in grapheme.chars() {
            match map.of_chunk(c.encode_utf8(&mut buffer)) {
                Some(replacement) => out.push_str(replacement),
                None => out.push(c),
            }
        }
    }
    out
}
