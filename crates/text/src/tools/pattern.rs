//! What a call looks like as text: literals with holes between them, and how text is matched against it.
//!
//! White space between the parts of a call is as models write it, which differs; a value's own is kept.

/// What stands in a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hole {
    /// `{N}`: the function's name.
    Name,
    /// `{A}`: the arguments as one JSON object.
    Arguments,
    /// `{K}`: a parameter's name.
    Key,
    /// `{V}`: a parameter's value: text as it is, anything else as JSON.
    Value,
    /// `{S}`: `true` where the value is text, else `false`.
    IsText,
    /// `{I}`: a number that counts calls.
    Count,
    /// `{R}`: an id that the model makes up.
    Id,
}

const HOLES: [(&str, Hole); 7] = [
    ("{N}", Hole::Name),
    ("{A}", Hole::Arguments),
    ("{K}", Hole::Key),
    ("{V}", Hole::Value),
    ("{S}", Hole::IsText),
    ("{I}", Hole::Count),
    ("{R}", Hole::Id),
];

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(&'static str),
    Hole(Hole),
}

/// The parts of `pattern`.
pub(crate) fn pieces(pattern: &'static str) -> Vec<Piece> {
    let (mut out, mut rest) = (Vec::new(), pattern);
    while !rest.is_empty() {
        let next = HOLES.iter().filter_map(|(mark, hole)| Some((rest.find(mark)?, *mark, *hole))).min_by_key(|n| n.0);
        let Some((at, mark, hole)) = next else {
            out.push(Piece::Text(rest));
            break;
        };
        if at > 0 {
            out.push(Piece::Text(&rest[..at]));
        }
        out.push(Piece::Hole(hole));
        rest = &rest[at + mark.len()..];
    }
    out
}

/// Whether text begins with a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// It does, and the literal takes this many bytes.
    Yes(usize),
    /// More text decides.
    Maybe,
    No,
}

/// Whether `text` begins with `literal`, whatever the white space inside; of white space at the literal's end, what stands there
/// belongs to it and nothing more.
pub(crate) fn begins(text: &str, literal: &str) -> Match {
    let core = literal.trim_end();
    let mut at = 0;
    for wanted in core.chars().filter(|c| !c.is_whitespace()) {
        let space = text[at..].len() - text[at..].trim_start().len();
        at += space;
        match text[at..].chars().next() {
            None => return Match::Maybe,
            Some(c) if c == wanted => at += c.len_utf8(),
            Some(_) => return Match::No,
        }
    }
    let tail = &literal[core.len()..];
    let rest = &text[at..];
    match () {
        () if rest.starts_with(tail) => Match::Yes(at + tail.len()),
        () if tail.starts_with(rest) => Match::Maybe,
        () => Match::Yes(at),
    }
}

/// What can be found of a literal whose white space may differ: its beginning up to the first white space.
pub(crate) fn trigger(literal: &'static str) -> &'static str {
    literal.split_whitespace().next().unwrap_or("")
}

/// How many bytes at the end of `text` may be the beginning of `mark`.
pub(crate) fn partial(text: &str, mark: &str) -> usize {
    (1..mark.len()).rev().filter(|n| mark.is_char_boundary(*n)).find(|n| text.ends_with(&mark[..*n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_texts_and_holes() {
        use Piece::{Hole as H, Text as T};
        assert_eq!(
            pieces("{\"name\": \"{N}\", \"arguments\": {A}}"),
            [T("{\"name\": \""), H(Hole::Name), T("\", \"arguments\": "), H(Hole::Arguments), T("}")]
        );
        assert_eq!(pieces("plain"), [T("plain")]);
    }

    #[test]
    fn literals_are_found_whatever_the_white_space() {
        assert_eq!(begins("<a>\n{\"x\" :", "<a> {\"x\":"), Match::Yes(10));
        assert_eq!(begins("<a>", "<a>\n"), Match::Maybe);
        assert_eq!(begins("<a>\n\nx", "<a>\n"), Match::Yes(4));
        assert_eq!(begins("<a>x", "<a>\n"), Match::Yes(3));
        assert_eq!(begins("<b", "<a>"), Match::No);
        assert_eq!(begins("  ", "<a>"), Match::Maybe);
        assert_eq!(partial("text <tool", "<tool_call>"), 5);
        assert_eq!(partial("text", "<tool_call>"), 0);
    }
}
