//! The `pre_tokenizer` of a `tokenizer.json`: text to words.

use super::json::{Matcher, Part};
use crate::error::Result;
use crate::pattern::{Flavour, Pattern};
use crate::unicode::{is_punctuation, to_byte_chars};
use serde_json::Value;

/// GPT-2's pattern, which `ByteLevel` cuts by.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// What becomes of a separator.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behavior {
    Removed,
    Isolated,
    WithPrevious,
    WithNext,
    Contiguous,
}

#[derive(Clone, Debug)]
pub(super) enum PreTokenizer {
    Sequence(Vec<PreTokenizer>),
    ByteLevel { prefix_space: bool, pattern: Option<Pattern> },
    Split { matcher: Matcher, behavior: Behavior, invert: bool },
    Metaspace { replacement: char, prepend: Prepend, split: bool },
    WhitespaceSplit,
    Punctuation(Behavior),
    Digits { individual: bool },
    Bert,
    Delimiter(char),
    FixedLength(usize),
}

/// When `Metaspace` puts its mark in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prepend {
    Always,
    First,
    Never,
}

/// Words of one stretch of text: the text as it stands now, and the ranges of the words in it.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) text: String,
    pub(super) ranges: Vec<(usize, usize)>,
    /// The stretch begins where the whole text begins.
    pub(super) at_start: bool,
    /// The text must still be written in byte characters; put off, as a byte-pair model can do without.
    pub(super) byte_level: bool,
}

impl PreTokenizer {
    pub(super) fn read(value: &Value) -> Result<Self> {
        let part = Part { value, place: "pre_tokenizer" };
        Ok(match part.kind()? {
            "Sequence" => {
                let all = part.list("pretokenizers")?.map(|p| Self::read(p.value)).collect::<Result<_>>()?;
                PreTokenizer::Sequence(all)
            }
            "ByteLevel" => PreTokenizer::ByteLevel {
                prefix_space: part.flag("add_prefix_space", true)?,
                pattern: match part.flag("use_regex", true)? {
                    true => Some(Pattern::new(GPT2, Flavour::Fancy)?),
                    false => None,
                },
            },
            "Split" => PreTokenizer::Split {
                matcher: part.matcher()?,
                behavior: behavior(&part, None)?,
                invert: part.flag("invert", false)?,
            },
            "Metaspace" => PreTokenizer::Metaspace {
                replacement: part.character("replacement")?,
                prepend: prepend(&part)?,
                split: part.flag("split", true)?,
            },
            "Whitespace" => PreTokenizer::Split {
                matcher: Matcher::Pattern(Pattern::new(r"\w+|[^\w\s]+", Flavour::Fancy)?),
                behavior: Behavior::Removed,
                invert: true,
            },
            "WhitespaceSplit" => PreTokenizer::WhitespaceSplit,
            "Punctuation" => PreTokenizer::Punctuation(behavior(&part, Some(Behavior::Isolated))?),
            "Digits" => PreTokenizer::Digits { individual: part.flag("individual_digits", false)? },
            "BertPreTokenizer" => PreTokenizer::Bert,
            "CharDelimiterSplit" => PreTokenizer::Delimiter(part.character("delimiter")?),
            "FixedLength" => PreTokenizer::FixedLength(part.number("length", 5)?.max(1)),
            _ => return Err(part.unknown()),
        })
    }

    /// Cuts the words further.
    pub(super) fn apply(&self, words: &mut Words) -> Result<()> {
        if words.byte_level {
            words.write_bytes(); // a step behind ByteLevel sees byte characters
        }
        match self {
            PreTokenizer::Sequence(all) => all.iter().try_for_each(|one| one.apply(words))?,
            PreTokenizer::ByteLevel { prefix_space, pattern } => {
                if *prefix_space {
                    words.rewrite(|_, word| match word.starts_with(' ') {
                        true => word.to_string(),
                        false => format!(" {word}"),
                    });
                }
                if let Some(pattern) = pattern {
                    words.cut(|word| pattern.pieces(word))?;
                }
                words.byte_level = true;
            }
            PreTokenizer::Split { matcher, behavior, invert } => {
                words.cut(|word| Ok(separate(word, matcher.find(word)?, *behavior, *invert)))?;
            }
            PreTokenizer::Metaspace { replacement, prepend, split } => {
                words.metaspace(*replacement, *prepend, *split)?
            }
            PreTokenizer::WhitespaceSplit => words.by_char(char::is_whitespace, Behavior::Removed)?,
            PreTokenizer::Punctuation(behavior) => words.by_char(is_punctuation, *behavior)?,
            PreTokenizer::Digits { individual } => {
                let behavior = if *individual { Behavior::Isolated } else { Behavior::Contiguous };
                words.by_char(char::is_numeric, behavior)?;
            }
            PreTokenizer::Bert => {
                words.by_char(char::is_whitespace, Behavior::Removed)?;
                words.by_char(is_punctuation, Behavior::Isolated)?;
            }
            PreTokenizer::Delimiter(delimiter) => words.by_char(|c| c == *delimiter, Behavior::Removed)?,
            PreTokenizer::FixedLength(length) => words.cut(|word| Ok(fixed(word, *length)))?,
        }
        Ok(())
    }
}

fn prepend(part: &Part) -> Result<Prepend> {
    if part.value.get("prepend_scheme").is_none_or(Value::is_null) {
        return Ok(if part.flag("add_prefix_space", true)? { Prepend::Always } else { Prepend::Never });
    }
    match part.text("prepend_scheme")? {
        "always" => Ok(Prepend::Always),
        "first" => Ok(Prepend::First),
        "never" => Ok(Prepend::Never),
        _ => Err(part.wrong("prepend_scheme", "always, first or never")),
    }
}

fn behavior(part: &Part, default: Option<Behavior>) -> Result<Behavior> {
    if let (None, Some(default)) = (part.value.get("behavior"), default) {
        return Ok(default);
    }
    Ok(match part.text("behavior")?.to_ascii_lowercase().replace('_', "").as_str() {
        "removed" => Behavior::Removed,
        "isolated" => Behavior::Isolated,
        "mergedwithprevious" => Behavior::WithPrevious,
        "mergedwithnext" => Behavior::WithNext,
        "contiguous" => Behavior::Contiguous,
        _ => return Err(part.wrong("behavior", "one of the five behaviours")),
    })
}

fn fixed(word: &str, length: usize) -> Vec<(usize, usize)> {
    let starts: Vec<usize> = word.char_indices().map(|(at, _)| at).step_by(length).collect();
    let ends = starts.iter().skip(1).copied().chain(std::iter::once(word.len()));
    starts.iter().copied().zip(ends).collect()
}

/// Cuts by separators (`found`) as `behavior` says; `invert` takes what lies between for the separators.
fn separate(word: &str, found: Vec<(usize, usize)>, behavior: Behavior, invert: bool) -> Vec<(usize, usize)> {
    let mut parts: Vec<(usize, usize, bool)> = Vec::with_capacity(2 * found.len() + 1);
    let mut at = 0;
    for (start, end) in found {
        if start > at {
            parts.push((at, start, invert));
        }
        parts.push((start, end, !invert));
        at = end;
    }
    if at < word.len() {
        parts.push((at, word.len(), invert));
    }
    let mut out: Vec<(usize, usize)> = Vec::with_capacity(parts.len());
    let mut last = false;
    match behavior {
        Behavior::Isolated => out.extend(parts.iter().map(|p| (p.0, p.1))),
        Behavior::Removed => out.extend(parts.iter().filter(|p| !p.2).map(|p| (p.0, p.1))),
        Behavior::Contiguous => {
            for (start, end, separator) in parts {
                match out.last_mut() {
                    Some(previous) if separator == last => previous.1 = end,
                    _ => out.push((start, end)),
                }
                last = separator;
            }
        }
        Behavior::WithPrevious => {
            for (start, end, separator) in parts {
                match out.last_mut() {
                    Some(previous) if separator && !last => previous.1 = end,
                    _ => out.push((start, end)),
                }
                last = separator;
            }
        }
        Behavior::WithNext => {
            for (start, end, separator) in parts.into_iter().rev() {
                match out.last_mut() {
                    Some(next) if separator && !last => next.0 = start,
                    _ => out.push((start, end)),
                }
                last = separator;
            }
            out.reverse();
        }
    }
    out.retain(|(start, end)| end > start);
    out
}

impl Words {
    pub(super) fn new(text: String, at_start: bool) -> Self {
        let ranges = if text.is_empty() { Vec::new() } else { vec![(0, text.len())] };
        Words { text, ranges, at_start, byte_level: false }
    }

    fn cut(&mut self, cut: impl Fn(&str) -> Result<Vec<(usize, usize)>>) -> Result<()> {
        let mut ranges = Vec::with_capacity(self.ranges.len());
        for &(start, end) in &self.ranges {
            let word = self.text.get(start..end).unwrap_or("");
            ranges.extend(cut(word)?.into_iter().map(|(a, b)| (start + a, start + b)));
        }
        self.ranges = ranges;
        Ok(())
    }

    fn by_char(&mut self, is: impl Fn(char) -> bool, behavior: Behavior) -> Result<()> {
        self.cut(|word| {
            let found = word.char_indices().filter(|(_, c)| is(*c)).map(|(at, c)| (at, at + c.len_utf8())).collect();
            Ok(separate(word, found, behavior, false))
        })
    }

    fn rewrite(&mut self, new: impl Fn(usize, &str) -> String) {
        let mut text = String::with_capacity(self.text.len() + self.ranges.len());
        for (n, range) in self.ranges.iter_mut().enumerate() {
            let start = text.len();
            text.push_str(&new(n, self.text.get(range.0..range.1).unwrap_or("")));
            *range = (start, text.len());
        }
        self.text = text;
    }

    /// Writes the words in byte characters now.
    pub(super) fn write_bytes(&mut self) {
        self.rewrite(|_, word| to_byte_chars(word.as_bytes()));
        self.byte_level = false;
    }

    fn metaspace(&mut self, replacement: char, prepend: Prepend, split: bool) -> Result<()> {
        let at_start = self.at_start && self.ranges.first().is_some_and(|r| r.0 == 0);
        self.rewrite(|n, word| {
            let mut new = word.replace(' ', replacement.encode_utf8(&mut [0; 4]));
            let wanted = prepend == Prepend::Always || (prepend == Prepend::First && n == 0 && at_start);
            if wanted && !new.starts_with(replacement) {
                new.insert(0, replacement);
            }
            new
        });
        if split { self.by_char(|c| c == replacement, Behavior::WithNext) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaviours_cut_as_the_reference_library_does() {
        let found = vec![(2, 3), (3, 4), (6, 7)]; // "the" reference example: a word with separators
        let cut = |behavior| {
            let text = "ab--cd-e";
            separate(text, found.clone(), behavior, false).iter().map(|&(a, b)| &text[a..b]).collect::<Vec<_>>()
        };
        assert_eq!(cut(Behavior::Removed), ["ab", "cd", "e"]);
        assert_eq!(cut(Behavior::Isolated), ["ab", "-", "-", "cd", "-", "e"]);
        assert_eq!(cut(Behavior::WithPrevious), ["ab-", "-", "cd-", "e"]);
        assert_eq!(cut(Behavior::WithNext), ["ab", "-", "-cd", "-e"]);
        assert_eq!(cut(Behavior::Contiguous), ["ab", "--", "cd", "-", "e"]);
    }
}
