//! Tokens that are found in a text before the model cuts it: added, special and user-defined ones.

use crate::error::{Error, Result};
use crate::unicode::is_word;
use aho_corasick::{AhoCorasick, MatchKind};

/// How one such token is found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Added {
    pub(crate) id: u32,
    pub(crate) text: String,
    /// Only where no letter, digit or underscore stands beside it.
    pub(crate) single_word: bool,
    /// Takes the white space before it.
    pub(crate) lstrip: bool,
    /// Takes the white space behind it.
    pub(crate) rstrip: bool,
}

/// Finds the longest such token at the leftmost place.
#[derive(Clone, Debug)]
pub(crate) struct Finder {
    automaton: Option<AhoCorasick>,
    tokens: Vec<Added>,
}

/// A part of the text: plain (`None`) or a token found.
pub(crate) type Part<'t> = (Option<u32>, &'t str);

impl Finder {
    pub(crate) fn new(tokens: Vec<Added>) -> Result<Self> {
        let tokens: Vec<Added> = tokens.into_iter().filter(|t| !t.text.is_empty()).collect();
        let automaton = match tokens.is_empty() {
            true => None,
            false => Some(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(tokens.iter().map(|t| t.text.as_bytes()))
                    .map_err(|e| Error::invalid(format!("added tokens: {e}")))?,
            ),
        };
        Ok(Finder { automaton, tokens })
    }

    /// Cuts `text` at the tokens found.
    pub(crate) fn split<'t>(&self, text: &'t str, out: &mut Vec<Part<'t>>) {
        let Some(automaton) = &self.automaton else {
            if !text.is_empty() {
                out.push((None, text));
            }
            return;
        };
        let mut from = 0;
        for found in automaton.find_iter(text) {
            let Some(token) = self.tokens.get(found.pattern().as_usize()) else { continue };
            let (mut start, mut end) = (found.start(), found.end());
            if start < from {
                continue; // inside the white space that the token before has taken
            }
            let (before, behind) = (&text[..start], &text[end..]);
            let beside = before.chars().next_back().is_some_and(is_word) || behind.chars().next().is_some_and(is_word);
            if token.single_word && beside {
                continue;
            }
            if token.lstrip {
                start = before.trim_end().len().max(from);
            }
            if token.rstrip {
                end += behind.len() - behind.trim_start().len();
            }
            if start > from {
                out.push((None, &text[from..start]));
            }
            out.push((Some(token.id), &text[start..end]));
            from = end;
        }
        if from < text.len() {
            out.push((None, &text[from..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_decide_what_is_taken() {
        let token = |id, text: &str| Added { id, text: text.into(), ..Added::default() };
        let finder = Finder::new(vec![
            token(1, "<s>"),
            token(2, "<s>x"),
            Added { lstrip: true, rstrip: true, ..token(3, "<m>") },
            Added { single_word: true, ..token(4, "und") },
        ])
        .expect("builds");
        let mut parts = Vec::new();
        finder.split("a<s>x b  <m> <m>c und rund", &mut parts);
        let want: Vec<Part> = vec![
            (None, "a"),
            (Some(2), "<s>x"),
            (None, " b"),
            (Some(3), "  <m> "),
            (Some(3), "<m>"),
            (None, "c "),
            (Some(4), "und"),
            (None, " rund"),
        ];
        assert_eq!(parts, want);
    }
}
