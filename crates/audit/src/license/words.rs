//! Text to words: what two copies of a licence have in common whatever their line breaks, case, quotes, bullets
//! and spelling.
//!
//! Owns the normal form and its hash, which the recorded texts are made of. Knows no licence.
//! Follows the matching guidelines of the SPDX licence list (Annex B of the specification): white space, case,
//! punctuation, bullets and varieties of spelling do not count; words and numbers do.
use std::ops::Range;

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Hash of its normal form, 31 bits.
    pub hash: u32,
    /// Its normal form.
    pub text: Box<str>,
    /// Where it stands, in bytes.
    pub range: Range<usize>,
}

/// Longest word that is kept whole; the rest of a longer one is another word.
const WORD_BYTES_MAX: usize = 200;
/// Most bytes between a prefix and its word.
const PREFIX_GAP_MAX: usize = 40;

/// The words of `text` in order.
pub fn words(text: &str) -> Vec<Word> {
    let mut found = Vec::new();
    let mut pending: Option<(Box<str>, usize)> = None;
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        if !c.is_alphanumeric() {
            continue;
        }
        let mut word = String::new();
        push(&mut word, c);
        let mut end = start + c.len_utf8();
        let mut last = c;
        while let Some(&(at, c)) = chars.peek() {
            let after = text.get(at + c.len_utf8()..).and_then(|rest| rest.chars().next());
            let inner = match c {
                _ if word.len() >= WORD_BYTES_MAX => false,
                c if c.is_alphanumeric() => true,
                '\'' | '’' | '\u{ad}' => after.is_some_and(char::is_alphabetic) && last.is_alphabetic(),
                '.' | ',' => last.is_ascii_digit() && after.is_some_and(|a| a.is_ascii_digit()),
                _ => false,
            };
            if !inner {
                break;
            }
            chars.next();
            if c.is_alphanumeric() || c == '.' {
                push(&mut word, c);
            }
            last = c;
            end = at + c.len_utf8();
        }
        let next = text.get(end..).unwrap_or("");
        if is_bullet(&word, next) {
            continue;
        }
        let mut start = start;
        if let Some((prefix, at)) = pending.take() {
            word.insert_str(0, &prefix);
            start = at;
        }
        // `non-commercial`, `non commercial` and `noncommercial` are one word.
        let behind = next.trim_start().trim_start_matches(['-', '‑', '‐']).trim_start();
        let near = next.len() - behind.len() <= PREFIX_GAP_MAX && !behind.is_empty();
        let joins = near && behind.starts_with(char::is_alphabetic);
        if matches!(&*word, "non" | "sub" | "re") && joins {
            pending = Some((word.into(), start));
            continue;
        }
        let word = spelling(&word);
        found.push(Word { hash: hash(word), text: word.into(), range: start..end });
    }
    found
}

/// The hash of a word in its normal form.
pub fn hash(word: &str) -> u32 {
    // FNV-1a over 64 bits, folded.
    let h = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    ((h ^ (h >> 31)) & 0x7fff_ffff) as u32
}

fn push(word: &mut String, c: char) {
    word.extend(c.to_lowercase());
}

/// Numbers and letters that count the items of a list: `1.`, `2.1.`, `(a)`, `iv)`.
fn is_bullet(word: &str, after: &str) -> bool {
    let number = word.len() <= 6 && word.split('.').all(|n| n.len() <= 2 && n.bytes().all(|b| b.is_ascii_digit()));
    let letter = word.len() == 1 && word.bytes().all(|b| b.is_ascii_alphabetic());
    let roman = word.len() <= 5 && word.bytes().all(|b| b"ivx".contains(&b));
    if !(number || letter || roman) {
        return false;
    }
    let mut next = after.chars();
    match next.next() {
        Some(')') => true,
        Some('.' | ':') => next.next().is_none_or(|c| c.is_whitespace() || number && c.is_alphabetic()),
        _ => false,
    }
}

/// One spelling for words that only differ by country or by habit.
fn spelling(word: &str) -> &str {
    const SAME: &[(&str, &str)] = &[
        ("licence", "license"),
        ("licences", "licenses"),
        ("licenced", "licensed"),
        ("licencing", "licensing"),
        ("sublicence", "sublicense"),
        ("sublicences", "sublicenses"),
        ("licencee", "licensee"),
        ("licencees", "licensees"),
        ("licencor", "licensor"),
        ("organisation", "organization"),
        ("organisations", "organizations"),
        ("authorised", "authorized"),
        ("unauthorised", "unauthorized"),
        ("authorisation", "authorization"),
        ("recognised", "recognized"),
        ("utilise", "utilize"),
        ("analyse", "analyze"),
        ("behaviour", "behavior"),
        ("favour", "favor"),
        ("honour", "honor"),
        ("judgement", "judgment"),
        ("acknowledgement", "acknowledgment"),
        ("artefact", "artifact"),
        ("artefacts", "artifacts"),
        ("fulfilment", "fulfillment"),
        ("https", "http"),
        ("merchantibility", "merchantability"),
        ("programme", "program"),
        ("whilst", "while"),
    ];
    SAME.iter().find(|s| s.0 == word).map_or(word, |s| s.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        words(text).iter().map(|w| &*w.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn copies_that_mean_the_same_read_the_same() {
        let same: &[&[&str]] = &[
            &["the “Licensor’s” royalty-free LICENCE", "The \"Licensor's\" royalty-\nfree license"],
            &["1. Grant\n(a) to use;\n(ii) to sell", "Grant to use; to sell", "* Grant\n - to use;\n - to sell"],
            &["Non-Commercial use", "noncommercial  use", "NON\u{2011}COMMERCIAL USE", "non commercial use"],
            &["700,000,000 users", "700000000 users"],
            &["see https://x.org/a", "see http://x.org/a"],
        ];
        for group in same {
            for other in &group[1..] {
                assert_eq!(plain(group[0]), plain(other));
            }
        }
        assert_ne!(plain("Version 2.0 of"), plain("Version 2.1 of"));
        assert_ne!(plain("greater than 700 million"), plain("greater than 7 million"));
    }

    #[test]
    fn ranges_are_those_of_the_text() {
        let text = "  Hello, Wörld's end. 3.1 of";
        for w in words(text) {
            assert!(text.get(w.range.clone()).is_some());
        }
        assert_eq!(plain(text), "hello wörlds end 3.1 of");
        assert_eq!(words(&"x".repeat(1000)).len(), 5);
    }
}
