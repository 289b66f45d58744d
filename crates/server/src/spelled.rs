//! Special tokens that people spell out in a message stay text: nobody but the template opens a turn, ends one or answers for
//! the model.
//!
//! A mark is put into every such spelling before the template writes the conversation, which keeps the tokenizer's eyes off it;
//! where the marks are found again the spelling is encoded as plain text.
use aho_corasick::{AhoCorasick, MatchKind};
use pondera_text::{EncodeOptions, Result, Tokenizer};
use serde_json::Value;

/// The spellings of a vocabulary's special tokens.
#[derive(Clone, Debug, Default)]
pub struct Spellings(Option<AhoCorasick>);

/// Characters that no text holds but by intent; one that a conversation does not hold is its mark.
const MARKS: std::ops::RangeInclusive<char> = '\u{10fff0}'..='\u{10fffd}';

impl Spellings {
    /// Of this vocabulary, but for the tokens that a model itself writes in its answers: they come back in its own turns.
    pub fn of(tokenizer: &Tokenizer, own: &[u32]) -> Spellings {
        let size = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
        let special = (0..size).filter(|id| tokenizer.is_special(*id) && !own.contains(id));
        let special = special.map(|id| tokenizer.decode(&[id], false));
        // A single letter cannot be told from itself.
        let all: Vec<String> = special.filter(|text| text.chars().nth(1).is_some()).collect();
        let found = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&all);
        Spellings(found.ok().filter(|_| !all.is_empty()))
    }

    /// Marks what `values` say, in every text of theirs; the mark, if any was needed.
    pub fn mark(&self, values: &mut [&mut Value]) -> Option<char> {
        let finder = self.0.as_ref()?;
        if !values.iter().any(|v| holds(v, &|text| finder.is_match(text))) {
            return None;
        }
        let free = |mark: &char| !values.iter().any(|v| holds(v, &|text| text.contains(*mark)));
        // Whoever uses all of them sees the last one vanish.
        let mark = MARKS.clone().find(free).unwrap_or(*MARKS.end());
        values.iter_mut().for_each(|v| mark_in(v, finder, mark));
        Some(mark)
    }

    /// The tokens of a text whose marks are taken out; and the text.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode(&self, text: &str, mark: char, tokenizer: &Tokenizer) -> Result<(String, Vec<u32>)> {
        let options = |parse_special| EncodeOptions { add_special: false, parse_special, add_eos: false };
        let (plain, finder) = (text.replace(mark, ""), self.0.as_ref());
        // Where the marks were, in the text without them.
        let places = text.match_indices(mark).enumerate().map(|(i, (at, m))| at - i * m.len());
        let (mut out, mut done) = (Vec::new(), 0);
        for place in places {
            let start = plain[..place].char_indices().next_back().map_or(0, |(i, _)| i);
            let spelling = finder.and_then(|f| f.find(&plain[start..]).filter(|m| m.start() == 0));
            let end = start + spelling.map_or(0, |m| m.end());
            if start < done || end <= start {
                continue;
            }
            out.extend(tokenizer.encode(&plain[done..start], &options(true))?);
            // Letter by letter: vocabularies of some kinds find their tokens in any text, but not in parts of one.
            let mut letter = [0; 4];
            for c in plain[start..end].chars() {
                out.extend(tokenizer.encode(c.encode_utf8(&mut letter), &options(false))?);
            }
            done = end;
        }
        out.extend(tokenizer.encode(&plain[done..], &options(true))?);
        Ok((plain, out))
    }
}

/// Whether any text in `value`, names of fields among them, is such.
fn holds(value: &Value, such: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => such(text),
        Value::Array(items) => items.iter().any(|v| holds(v, such)),
        Value::Object(fields) => fields.iter().any(|(k, v)| such(k) || holds(v, such)),
        _ => false,
    }
}

fn mark_in(value: &mut Value, finder: &AhoCorasick, mark: char) {
    match value {
        Value::String(text) if finder.is_match(text.as_str()) => *text = marked(text, finder, mark),
        Value::Array(items) => items.iter_mut().for_each(|v| mark_in(v, finder, mark)),
        Value::Object(fields) => {
            for (key, mut value) in std::mem::take(fields) {
                mark_in(&mut value, finder, mark);
                let key = if finder.is_match(&key) { marked(&key, finder, mark) } else { key };
                fields.insert(key, value);
            }
        }
        _ => {}
    }
}

fn marked(text: &str, finder: &AhoCorasick, mark: char) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    finder.replace_all_with(text, &mut out, |_, spelling, out| {
        let first = spelling.chars().next().map_or(0, char::len_utf8);
        out.push_str(&spelling[..first]);
        out.push(mark);
        out.push_str(&spelling[first..]);
        true
    });
    out
}
