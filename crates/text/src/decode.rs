//! Tokens back to text, token by token: a chain of steps, each with the little state it needs. Decoding a whole list
//! and streaming it are the same code, so that they cannot differ; no step lets half a character through.

use crate::pattern::Pattern;
use crate::unicode::{byte_token, push_byte_chars};

/// One step of a decoder, as vocabularies declare them.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Bytes of the tokens joined, read as UTF-8; `each` writes U+FFFD for every bad byte, else per bad sequence.
    Utf8 { each: bool },
    /// GPT-2's byte characters back to bytes, joined, read as UTF-8.
    ByteLevel,
    /// The replacement character back to a space; those of the first token vanish if `strip_first`.
    Metaspace { replacement: char, strip_first: bool },
    /// `prefix` marks a continuation; other tokens get a space in front.
    WordPiece { prefix: String, cleanup: bool },
    /// `suffix` marks the end of a word.
    Suffix { suffix: String },
    /// `<0xNN>` tokens to bytes; a run that is not UTF-8 becomes U+FFFD for each byte.
    ByteFallback,
    /// All tokens become one.
    Fuse,
    /// Up to `start` times `content` off the front, `stop` times off the back, of every token.
    Strip { content: char, start: usize, stop: usize },
    /// Every occurrence of a text in every token.
    Replace { from: String, to: String },
    /// Every match of a pattern in every token.
    ReplacePattern { from: Pattern, to: String },
    /// Repetitions and padding of CTC output.
    Ctc { pad: String, delimiter: String, cleanup: bool },
    /// A space between tokens.
    Join,
    /// SentencePiece: `▁` to spaces, bytes, and the leading space taken away.
    SentencePiece { strip: bool, strip_all: bool },
}

#[derive(Clone, Debug, Default)]
struct State {
    started: bool,
    held: Vec<u8>,
    held_text: String,
    count: usize,
    /// What the step says, used again for the next token.
    text: String,
}

/// Bytes of a token that is longer than nearly all others: room for it, so that nothing grows from token to token.
pub(crate) const USUAL: usize = 256;

/// A running decoder: tokens go in, text comes out.
#[derive(Clone, Debug)]
pub(crate) struct Decoder<'s> {
    steps: &'s [Step],
    states: Vec<State>,
}

/// Where the text behind step `n` comes from: single tokens, or parts of one fused token.
fn is_fused(steps: &[Step], n: usize) -> bool {
    steps.iter().take(n).any(|s| matches!(s, Step::Fuse | Step::ByteLevel | Step::Utf8 { .. } | Step::Join))
}

impl<'s> Decoder<'s> {
    pub(crate) fn new(steps: &'s [Step]) -> Self {
        let state = || State {
            held: Vec::with_capacity(USUAL),
            held_text: String::with_capacity(USUAL),
            text: String::with_capacity(USUAL),
            ..State::default()
        };
        Decoder { steps, states: steps.iter().map(|_| state()).collect() }
    }

    /// Takes the next token and appends what can be said for certain to `out`.
    pub(crate) fn push(&mut self, token: &[u8], out: &mut String) {
        self.feed(0, token, out);
    }

    /// Appends what was still held back.
    pub(crate) fn finish(&mut self, out: &mut String) {
        for n in 0..self.steps.len() {
            self.close(n, out);
        }
    }

    fn feed(&mut self, n: usize, token: &[u8], out: &mut String) {
        let Some(step) = self.steps.get(n) else {
            out.push_str(&String::from_utf8_lossy(token));
            return;
        };
        if is_fused(self.steps, n) && !matches!(step, Step::Strip { .. } | Step::Fuse) {
            self.states[n].held.extend_from_slice(token); // parts of one token: this step needs all of it
            return;
        }
        let fused = is_fused(self.steps, n);
        self.apply(n, step, token, fused, out);
    }

    fn close(&mut self, n: usize, out: &mut String) {
        let step = &self.steps[n];
        if is_fused(self.steps, n) && !matches!(step, Step::Strip { .. } | Step::Fuse) {
            let all = std::mem::take(&mut self.states[n].held);
            self.apply(n, step, &all, false, out);
        }
        let state = &mut self.states[n];
        let mut text = String::new();
        match step {
            Step::Utf8 { each } => drain_utf8(&mut state.held, *each, true, &mut text),
            Step::ByteLevel => drain_utf8(&mut state.held, false, true, &mut text),
            Step::SentencePiece { .. } => drain_utf8(&mut state.held, true, true, &mut text),
            Step::ByteFallback => {
                for text in close_run(&mut state.held) {
                    self.feed(n + 1, text.as_bytes(), out);
                }
                return;
            }
            Step::Suffix { suffix } if state.started => {
                text = std::mem::take(&mut state.held_text).replace(suffix.as_str(), "");
            }
            Step::Strip { content, stop, .. } if is_fused(self.steps, n) => {
                text = std::mem::take(&mut state.held_text);
                for _ in 0..*stop {
                    if text.ends_with(*content) {
                        text.pop();
                    }
                }
            }
            _ => return,
        }
        if !text.is_empty() {
            self.feed(n + 1, text.as_bytes(), out);
        }
    }

    fn apply(&mut self, n: usize, step: &Step, token: &[u8], fused: bool, out: &mut String) {
        let state = &mut self.states[n];
        let first = !std::mem::replace(&mut state.started, true);
        let as_text = || String::from_utf8_lossy(token);
        let mut text = std::mem::take(&mut state.text);
        text.clear();
        match step {
            Step::Utf8 { each } => {
                state.held.extend_from_slice(token);
                drain_utf8(&mut state.held, *each, false, &mut text);
            }
            Step::ByteLevel => {
                push_byte_chars(&as_text(), &mut state.held);
                drain_utf8(&mut state.held, false, false, &mut text);
            }
            Step::Metaspace { replacement, strip_first } => {
                let with = if first && *strip_first { "" } else { " " };
                push_replaced(&mut text, as_text().split(*replacement), with);
            }
            Step::WordPiece { prefix, cleanup } => {
                let token = as_text();
                if first {
                    text.push_str(&token);
                } else if let Some(rest) = token.strip_prefix(prefix.as_str()) {
                    text.push_str(rest);
                } else {
                    text.push(' ');
                    text.push_str(&token);
                }
                if *cleanup {
                    text = clean_up(&text);
                }
            }
            Step::Suffix { suffix } => {
                let before = std::mem::replace(&mut state.held_text, as_text().into_owned());
                if first {
                    return;
                }
                text = before.replace(suffix.as_str(), " ");
            }
            Step::ByteFallback => {
                let token = as_text();
                if let Some(byte) = byte_token(&token) {
                    state.held.push(byte);
                    return;
                }
                for text in close_run(&mut state.held) {
                    self.feed(n + 1, text.as_bytes(), out);
                }
                text.push_str(&token);
            }
            Step::Fuse => text.push_str(&as_text()),
            Step::Strip { content, start, stop } if fused => {
                for c in as_text().chars() {
                    if state.count < *start && c == *content {
                        state.count += 1;
                        continue;
                    }
                    state.count = usize::MAX;
                    state.held_text.push(c);
                }
                let mut cut = state.held_text.len();
                for c in state.held_text.chars().rev().take(*stop) {
                    cut -= c.len_utf8();
                }
                text.extend(state.held_text.drain(..cut));
            }
            Step::Strip { content, start, stop } => {
                let token = as_text();
                let mut rest = token.as_ref();
                for _ in 0..*start {
                    rest = rest.strip_prefix(*content).unwrap_or(rest);
                }
                for _ in 0..*stop {
                    rest = rest.strip_suffix(*content).unwrap_or(rest);
                }
                text.push_str(rest);
            }
            Step::Replace { from, to } => push_replaced(&mut text, as_text().split(from.as_str()), to),
            Step::ReplacePattern { from, to } => text = replace_pattern(&as_text(), from, to),
            Step::Ctc { pad, delimiter, cleanup } => {
                let token = as_text();
                if !first && state.held_text == token {
                    return;
                }
                state.held_text = token.to_string();
                text = token.replace(pad.as_str(), "");
                if *cleanup {
                    text = clean_up(&text).replace(delimiter.as_str(), " ");
                }
            }
            Step::Join => {
                if !first {
                    text.push(' ');
                }
                text.push_str(&as_text());
            }
            Step::SentencePiece { strip, strip_all } => {
                if let [0xFF, byte] = token {
                    state.held.push(*byte); // the caller marks byte pieces this way: 0xFF begins no text
                    drain_utf8(&mut state.held, true, false, &mut text);
                    state.count |= usize::from(!text.is_empty());
                } else {
                    drain_utf8(&mut state.held, true, true, &mut text);
                    let token = as_text();
                    let at_front = state.count == 0 && text.is_empty();
                    let mut piece = token.as_ref();
                    if *strip
                        && at_front
                        && let Some(rest) = piece.strip_prefix('▁')
                    {
                        piece = rest;
                        state.count |= usize::from(!*strip_all);
                    }
                    push_replaced(&mut text, piece.split('▁'), " ");
                    state.count |= usize::from(!text.is_empty());
                }
            }
        }
        let silent = matches!(step, Step::Utf8 { .. } | Step::ByteLevel) || fused;
        if !(text.is_empty() && silent) {
            self.feed(n + 1, text.as_bytes(), out);
        }
        self.states[n].text = text;
    }
}

/// Appends parts with `to` between them.
fn push_replaced<'a>(out: &mut String, parts: impl Iterator<Item = &'a str>, to: &str) {
    for (i, part) in parts.enumerate() {
        if i > 0 {
            out.push_str(to);
        }
        out.push_str(part);
    }
}

/// Moves whole characters from `held` to `out`; an unfinished one stays, unless this is the end.
fn drain_utf8(held: &mut Vec<u8>, each: bool, end: bool, out: &mut String) {
    let mut at = 0;
    while at < held.len() {
        match std::str::from_utf8(&held[at..]) {
            Ok(text) => {
                out.push_str(text);
                at = held.len();
            }
            Err(error) => {
                let good = at + error.valid_up_to();
                out.push_str(std::str::from_utf8(&held[at..good]).unwrap_or(""));
                at = good;
                let bad = match error.error_len() {
                    Some(bad) => bad,
                    None if end => held.len() - good,
                    None => break,
                };
                let marks = if each { bad } else { 1 };
                out.extend(std::iter::repeat_n('\u{FFFD}', marks));
                at += bad;
            }
        }
    }
    held.drain(..at);
}

fn close_run(held: &mut Vec<u8>) -> Vec<String> {
    if held.is_empty() {
        return Vec::new();
    }
    match String::from_utf8(std::mem::take(held)) {
        Ok(text) => vec![text],
        Err(error) => vec!["\u{FFFD}".to_string(); error.as_bytes().len()],
    }
}

/// The spaces that BERT's decoder takes back before punctuation and contractions.
fn clean_up(text: &str) -> String {
    const PAIRS: [(&str, &str); 11] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    PAIRS.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

/// `text` with every match of `from` replaced; unchanged where the pattern's budget ends.
pub(crate) fn replace_pattern(text: &str, from: &Pattern, to: &str) -> String {
    let Ok(matches) = from.matches(text) else { return text.to_string() };
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (start, end) in matches {
        out.push_str(text.get(at..start).unwrap_or(""));
        out.push_str(to);
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or(""));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(steps: &[Step], tokens: &[&[u8]]) -> String {
        let mut decoder = Decoder::new(steps);
        let mut out = String::new();
        for token in tokens {
            let before = out.len();
            decoder.push(token, &mut out);
            assert!(out.is_char_boundary(before));
        }
        decoder.finish(&mut out);
        out
    }

    #[test]
    fn steps_do_what_their_names_say() {
        let llama = [
            Step::Replace { from: "▁".into(), to: " ".into() },
            Step::ByteFallback,
            Step::Fuse,
            Step::Strip { content: ' ', start: 1, stop: 0 },
        ];
        assert_eq!(decode(&llama, &["▁a".as_bytes(), b"<0xE4>", b"<0xBD>", b"<0xA0>", b"b"]), "a你b");
        assert_eq!(decode(&llama, &["▁▁a".as_bytes(), b"<0xE4>", b"<0xBD>", b"b"]), " a\u{FFFD}\u{FFFD}b");
        let level = [Step::ByteLevel];
        assert_eq!(decode(&level, &["Ġhi".as_bytes(), "ä".as_bytes(), "½ł".as_bytes()]), " hi你");
        assert_eq!(decode(&level, &["ä½".as_bytes()]), "\u{FFFD}");
        let words = [Step::WordPiece { prefix: "##".into(), cleanup: true }];
        assert_eq!(decode(&words, &[b"un", b"##like", b"you", b"."]), "unlike you.");
        assert_eq!(decode(&[Step::Suffix { suffix: "</w>".into() }], &[b"ab", b"c</w>", b"d</w>"]), "abc d");
        assert_eq!(decode(&[Step::Join], &[b"a", b"b"]), "a b");
        let meta = [Step::Metaspace { replacement: '▁', strip_first: true }];
        assert_eq!(decode(&meta, &["▁a".as_bytes(), "▁b".as_bytes()]), "a b");
        let piece = [Step::SentencePiece { strip: true, strip_all: false }];
        assert_eq!(decode(&piece, &["▁".as_bytes(), "▁a".as_bytes(), &[0xFF, 0xC3], &[0xFF, 0xA9]]), " aé");
        assert_eq!(decode(&piece, &[&[0xFF, 0xE4], &[0xFF, 0xBD], b"x"]), "\u{FFFD}\u{FFFD}x");
        let fused_replace = [Step::Fuse, Step::Replace { from: "ab".into(), to: "-".into() }];
        assert_eq!(decode(&fused_replace, &[b"xa", b"bx"]), "x-x");
        let stop = [Step::Fuse, Step::Strip { content: ' ', start: 0, stop: 1 }];
        assert_eq!(decode(&stop, &[b"a ", b" "]), "a ");
    }
}
