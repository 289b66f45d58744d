//! Templates as publishers gave them out: facts about them (digests of the whole and of each line), never their text.
//!
//! Owns the table and the comparison. `cargo run -p pondera-audit --example known_templates` makes the table.
use sha2::{Digest as _, Sha256};
use std::fmt::Write;

/// `model`, digest of the text, digests of its lines.
const TABLE: &str = include_str!("known.tsv");
/// Hexadecimal digits of a line's digest.
const LINE: usize = 6;
/// Shortest name of a model, without its organisation, that another name is searched for.
const NAME_MIN: usize = 6;

/// What is known of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is the one of this model.
    Equal(String),
    /// The model says that it is this one, whose template is another.
    Differs {
        /// The known model.
        model: String,
        /// Where, in words.
        lines: String,
    },
    /// Nothing is known.
    Unknown,
}

/// A text as it is compared: without carriage returns, spaces at ends of lines, empty lines at the end.
pub(super) fn normal(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// The digest of a template's text and those of its lines, as the table has them.
pub fn digest_lines(text: &str) -> (String, String) {
    let text = normal(text);
    let short = |line: &str| hex(Sha256::digest(line).as_slice())[..LINE].to_string();
    (hex(Sha256::digest(&text).as_slice()), text.split('\n').map(short).collect())
}

/// A name as it is compared: without its organisation, letters and digits alone.
fn bare(name: &str) -> String {
    let name = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase()
}

/// Holds a template against the table; `claims` are names that the model goes by.
pub(super) fn compare(text: &str, claims: &[String]) -> Known {
    let (digest, lines) = digest_lines(text);
    let rows = || TABLE.lines().filter_map(|l| l.split_once('\t').and_then(|(m, r)| Some((m, r.split_once('\t')?))));
    if let Some((model, _)) = rows().find(|(_, (d, _))| *d == digest) {
        return Known::Equal(model.to_string());
    }
    let claims: Vec<String> = claims.iter().map(|c| bare(c)).collect();
    // The longest name says the most.
    let claimed = rows()
        .filter(|(model, _)| {
            let name = bare(model);
            name.len() >= NAME_MIN && claims.iter().any(|c| c.contains(&name))
        })
        .max_by_key(|(model, _)| bare(model).len());
    match claimed {
        Some((model, (_, known))) => Known::Differs { model: model.to_string(), lines: differing(known, &lines) },
        None => Known::Unknown,
    }
}

/// The lines of `found` that stand between the common beginning and the common end.
fn differing(known: &str, found: &str) -> String {
    let cut = |s: &str| s.as_bytes().chunks(LINE).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (known, found) = (cut(known), cut(found));
    let front = known.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let most = known.len().min(found.len()) - front;
    let back = known.iter().rev().zip(found.iter().rev()).take_while(|(a, b)| a == b).count().min(most);
    let (first, last) = (front + 1, found.len() - back);
    match last.checked_sub(first) {
        None => format!("{} lines that are missing before line {first}", known.len() - front - back),
        Some(0) => format!("line {first} of {}", found.len()),
        Some(_) => format!("lines {first} to {last} of {}", found.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_are_named() {
        let lines = |text: &str| digest_lines(text).1;
        let known = lines("a\nb\nc\nd");
        for (text, want) in [
            ("a\nx\nc\nd", "line 2 of 4"),
            ("a\nx\ny\nd", "lines 2 to 3 of 4"),
            ("a\nb\nc\nd\ne", "line 5 of 5"),
            ("a\nd", "2 lines that are missing before line 2"),
        ] {
            assert_eq!(differing(&known, &lines(text)), want);
        }
        assert_eq!(digest_lines("a  \r\nb\n\n"), digest_lines("a\nb"));
    }

    #[test]
    fn the_table_can_be_read() {
        for line in TABLE.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            assert_eq!((fields.len(), fields[1].len(), fields[2].len() % LINE), (3, 64, 0), "{line:.80}");
        }
        assert!(TABLE.lines().count() > 20);
    }
}
