//! What stands around and between the words of a licence: names, years and headings change nothing; a sentence that
//! allows, forbids or demands something makes another licence of it.
//!
//! Owns that judgement. It errs to one side: what it does not know as harmless is a rider.
use super::words;
use std::ops::Range;

/// Words that allow, forbid, demand or limit.
const WORDS: &[&str] = &[
    "shall", "must", "may", "not", "no", "cannot", "only", "except", "unless", "agree", "agrees", "agreed", "free",
    "freely", "fee", "fees", "pay", "never", "neither", "nor", "will", "should", "need", "needs", "sell", "sold",
    "use", "used", "uses", "using", "users", "evil", "however", "instead", "without", "limited", "obtain",
];
/// Beginnings of such words.
const STEMS: &[&str] = &[
    "exception",
    "prohibit",
    "restrict",
    "require",
    "permit",
    "permission",
    "grant",
    "consent",
    "condition",
    "commercial",
    "noncommercial",
    "nonproduction",
    "military",
    "weapon",
    "forbid",
    "allow",
    "disallow",
    "limitation",
    "provided",
    "subject",
    "warrant",
    "liab",
    "terminat",
    "royalt",
    "payment",
    "revenue",
    "amend",
    "modified",
    "altered",
    "addition",
    "notwithstanding",
    "supersede",
    "hereby",
    "clause",
    "rider",
    "addendum",
    "exclud",
    "ethical",
    "harm",
    "purposes",
    "academic",
    "research",
    "evaluation",
    "personal",
    "hosted",
    "service",
    "compet",
    "surveillance",
    "train",
    "distill",
    "contact",
    "approval",
    "territory",
    "jurisdiction",
    "attribution",
    "display",
    "promote",
    "endors",
    "nonprofit",
    "unlawful",
    "illegal",
    "employees",
    "compliance",
    "comply",
    "govern",
];
/// What a line of names and years begins with.
const HEADS: &[&str] = &["copyright", "©", "(c)", "portions copyright", "spdx-filecopyrighttext"];
/// Most words of a line of names and years.
const NAMES_WORDS_MAX: usize = 60;

/// Judges the words outside of every licence in `text` at the bytes `range`. `Err` holds what makes it a rider.
///
/// `titles` are the names of the licences in `text`, which a heading may say.
pub(crate) fn around(text: &str, range: Range<usize>, titles: &[String]) -> Result<(), String> {
    let piece = text.get(range).unwrap_or("");
    // A line that goes on is judged as one: a sentence may be broken anywhere.
    let mut after_names = false;
    for line in piece.lines() {
        let line = strip(line);
        if words::words(line).is_empty() {
            after_names = false;
            continue;
        }
        let names = is_names(line);
        if !(names
            || titles.contains(&title(line))
            || is_reserved(line)
            || is_tag(line)
            || after_names && is_name_list(line))
            && normative(line)
        {
            return Err(excerpt(piece));
        }
        after_names = names || after_names;
    }
    Ok(())
}

/// Judges words that stand between those of a licence.
pub(crate) fn between(text: &str, range: Range<usize>) -> Result<(), String> {
    let piece = text.get(range.clone()).unwrap_or("");
    let start = text.get(..range.start).unwrap_or("").rfind('\n').map_or(0, |n| n + 1);
    let line = strip(text.get(start..range.end).unwrap_or(""));
    let n = words::words(piece).len();
    let number = |w: &str| w.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let page = n <= 4 && words::words(piece).iter().all(|w| number(&w.text) || matches!(&*w.text, "page" | "of"));
    let whole_lines = piece.contains('\n')
        || text
            .get(range.end..)
            .is_some_and(|t| t.trim_start_matches([' ', '.', '*', '#', '=', '-']).starts_with(['\n', '\r']));
    let names = (is_names(line) || is_names(strip(piece))) && n <= NAMES_WORDS_MAX && piece.lines().count() <= 12;
    let url = n <= 12 && piece.split_whitespace().all(|w| w.contains("://") || words::words(w).is_empty());
    let reserved = whole_lines && is_reserved(strip(piece));
    if page && whole_lines || names && piece.lines().all(|l| !normative_beside_names(l)) || url || reserved {
        return Ok(());
    }
    Err(excerpt(piece))
}

/// A heading as it compares with others.
pub(crate) fn title(line: &str) -> String {
    let words = words::words(line).into_iter().map(|w| w.text);
    words.filter(|w| !matches!(&**w, "the" | "license" | "version" | "agreement")).collect::<Vec<_>>().join(" ")
}

/// Without what marks quotes, comments, lists and headings.
fn strip(line: &str) -> &str {
    line.trim_matches(|c: char| c.is_whitespace() || "#*>/-=_`|;~<".contains(c))
}

fn starts(line: &str, heads: &[&str]) -> bool {
    let lower = line.to_lowercase();
    heads.iter().any(|h| lower.starts_with(h))
}

/// `Copyright (c) 2031 Jane Doe`.
fn is_names(line: &str) -> bool {
    starts(line, HEADS) && words::words(line).len() <= NAMES_WORDS_MAX && !normative_beside_names(line)
}

/// A line of names and years that goes on.
fn is_name_list(line: &str) -> bool {
    let words = line.split_whitespace();
    line.split_whitespace().count() <= 12
        && words.clone().all(|w| w.starts_with(|c: char| !c.is_lowercase()) || matches!(w, "and" | "by" | "the" | "of"))
        && !normative_beside_names(line)
}

/// Names may be called anything; sentences that limit a use are not names.
fn normative_beside_names(line: &str) -> bool {
    words::words(line).iter().any(|w| is_normative_name(&w.text))
}

/// Whether a word limits something even where names stand.
pub(crate) fn is_normative_name(word: &str) -> bool {
    const PLAIN: &[&str] =
        &["research", "service", "services", "academic", "free", "no", "will", "personal", "limited"];
    !PLAIN.contains(&word) && is_normative(word)
}

/// `All rights reserved.`, and what wags add to it.
fn is_reserved(line: &str) -> bool {
    starts(line, &["all rights", "some rights reserved"]) && !normative_beside_names(line)
}

/// `SPDX-License-Identifier: MIT`.
fn is_tag(line: &str) -> bool {
    starts(line, &["spdx-license-identifier:", "license:", "license-identifier:"]) && words::words(line).len() <= 12
}

fn normative(line: &str) -> bool {
    words::words(line).iter().any(|w| is_normative(&w.text) || w.text.chars().any(|c| c > '\u{24f}'))
}

fn is_normative(word: &str) -> bool {
    WORDS.contains(&word) || STEMS.iter().any(|s| word.starts_with(s))
}

/// What a report quotes of it.
fn excerpt(piece: &str) -> String {
    const SHOWN_MAX: usize = 160;
    let flat: String = piece.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = flat.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
    if flat.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_headings_change_nothing() {
        for text in [
            "Copyright (c) 2031 Example Labs\nAll rights reserved where the licence leaves any.",
            "# License\n\n```",
            "MIT License\n\nCopyright 2020-2024 The Foo Project Developers,\nJane Doe and John Doe",
            "SPDX-License-Identifier: MIT",
            "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT",
            "© 2024 Some Research Institute",
            "=====",
            "All rights",
        ] {
            assert_eq!(around(text, 0..text.len(), &[]), Ok(()), "{text}");
        }
    }

    #[test]
    fn sentences_that_limit_are_riders() {
        for text in [
            "Commercial use is not granted.",
            "Additional terms: see below",
            "The Software shall be used for Good, not Evil.",
            "Modified MIT License",
            "You may not use the\nmodel for war.",
            "Copyright (c) 2031 X. Use by military organisations is prohibited.",
            "Notwithstanding the above, a fee applies",
            "仅供研究使用",
            "All rights reserved. Commercial users must obtain a licence.",
        ] {
            assert!(around(text, 0..text.len(), &[]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_heading_may_say_the_licence_that_stands_there() {
        let titles = [title("MIT No Attribution License")];
        let text = "# The MIT No Attribution License";
        assert_eq!(around(text, 0..text.len(), &titles), Ok(()));
        assert!(around("MIT No Derivatives License", 0..26, &titles).is_err());
    }

    #[test]
    fn between_the_words_only_names_and_pages_are_harmless() {
        let text = "the license\nCopyright 2020 Jane Doe\nPermission is not granted\n12\n";
        let at = |piece: &str| {
            let start = text.find(piece).unwrap();
            between(text, start..start + piece.len())
        };
        assert_eq!(at("2020 Jane Doe"), Ok(()));
        assert_eq!(at("12"), Ok(()));
        assert!(at("not").is_err());
        assert!(at("license").is_err());
    }
}
