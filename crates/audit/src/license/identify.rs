//! Which licences a text is: the recorded ones that it holds whole, and what else it says.
//!
//! Owns the decision. A text is named only where every word of a recorded licence stands in it, in order, and nothing
//! else that could change its meaning; whatever falls short is reported as a resemblance, never as the licence.
use super::{
    align::{Alignment, align, overlap},
    residue,
    template::{Kind, Template, places, templates},
    words::{Word, words},
};
use serde::Serialize;
use std::ops::Range;

/// Longest text that is looked at, in bytes.
pub const TEXT_MAX: usize = 4 << 20;
/// Share of a licence's anchors from which on it is laid over a text.
const OVERLAP_MIN: f64 = 0.5;
/// Share that a text has which is the licence, whatever its line breaks and names cost.
const OVERLAP_SAME: f64 = 0.75;
/// Licences that a text which is none is compared with.
const NEAREST: usize = 3;
/// Share of a licence's words from which on a text resembles it.
const RESEMBLES_MIN: f64 = 0.5;
/// Most licences that one text is searched for.
const PARTS_MAX: usize = 12;
/// Most riders that a report lists.
const RIDERS_MAX: usize = 8;

/// A licence that stands whole in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The licence.
    pub id: String,
    /// Whether it is only the notice that something is under it.
    pub notice: bool,
    /// Where it stands, in bytes.
    pub bytes: Range<usize>,
}

/// A licence that a text looks like without being it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resemblance {
    /// The licence.
    pub id: String,
    /// Share of its words that stand in the text, 0 to 1.
    pub share: f64,
    /// Its words that do not.
    pub missing_words: usize,
    /// Words between them that are not the licence's.
    pub added_words: usize,
    /// What these say, shortened.
    pub changes: Vec<String>,
}

/// What a text is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Identified {
    /// The licences that stand whole in it.
    pub parts: Vec<Part>,
    /// Sentences beside them that allow, forbid or demand something.
    pub riders: Vec<String>,
    /// The nearest licence that it is not.
    pub resembles: Option<Resemblance>,
}

impl Identified {
    /// The licence, or `None` where the text is none that is known or more than that. Several: all apply.
    pub fn id(&self) -> Option<String> {
        if !self.riders.is_empty() {
            return None;
        }
        let mut ids: Vec<&str> = Vec::new();
        for p in &self.parts {
            if !ids.contains(&&*p.id) {
                ids.push(&p.id);
            }
        }
        // The Lesser licence incorporates the General one, which therefore lies beside it.
        if ids.contains(&"LGPL-3.0") {
            ids.retain(|id| *id != "GPL-3.0");
        }
        // A notice says which versions; the text beside it is that of one version.
        let versions = |id: &&str| {
            ids.iter().any(|other| {
                *other != *id && other.strip_prefix(*id).is_some_and(|v| matches!(v, "-only" | "-or-later"))
            })
        };
        let ids: Vec<&str> = ids.iter().copied().filter(|id| !versions(id)).collect();
        (!ids.is_empty()).then(|| ids.join(" AND "))
    }

    /// How sure that is: 1 for whole texts, less for notices, 0 where there is no id.
    pub fn confidence(&self) -> f64 {
        match self.id() {
            None => 0.0,
            Some(_) if self.parts.iter().all(|p| p.notice) => 0.9,
            Some(_) => 1.0,
        }
    }
}

/// Says what `text` is. A text longer than [`TEXT_MAX`] is none.
pub fn identify(text: &str) -> Identified {
    let mut found = Identified::default();
    if text.len() > TEXT_MAX {
        return found;
    }
    let words = words(text);
    let mut hashes: Vec<u32> = words.iter().map(|w| w.hash).collect();
    let mut spans: Vec<Range<usize>> = Vec::new();
    while found.parts.len() < PARTS_MAX {
        let Some((template, a)) = best(text, &words, &hashes, &mut found.resembles) else { break };
        // No recorded word has the upper bit: what is taken matches nothing.
        hashes.get_mut(a.span.clone()).into_iter().flatten().for_each(|h| *h = TAKEN);
        found.parts.push(Part {
            id: template.id.to_string(),
            notice: template.kind == Kind::Notice,
            bytes: bytes(&words, &a.span),
        });
        spans.push(a.span);
    }
    found.parts.sort_by_key(|p| p.bytes.start);
    spans.sort_by_key(|s| s.start);
    if !spans.is_empty() {
        let titles: Vec<String> = found.parts.iter().flat_map(|p| titles(&p.id)).collect();
        found.riders = riders(text, &words, &spans, &titles);
    }
    if found.riders.is_empty() && !found.parts.is_empty() {
        found.resembles = None;
    }
    found
}

const TAKEN: u32 = 0x8000_0000;

fn bytes(words: &[Word], span: &Range<usize>) -> Range<usize> {
    let start = words.get(span.start).map_or(0, |w| w.range.start);
    let end = span.end.checked_sub(1).and_then(|last| words.get(last)).map_or(start, |w| w.range.end);
    start..end.max(start)
}

/// The longest licence that stands whole in what is left of a text. The nearest miss goes to `near`.
fn best(
    text: &str,
    words: &[Word],
    hashes: &[u32],
    near: &mut Option<Resemblance>,
) -> Option<(&'static Template, Alignment)> {
    let places = places(hashes);
    let mut best: Option<(&Template, Alignment)> = None;
    let mut candidates: Vec<(f64, &Template)> =
        templates().iter().map(|t| (overlap(t, &places), t)).filter(|c| c.0 >= OVERLAP_MIN).collect();
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    // A text that has few of a licence's anchors is not it; the nearest are worth a report.
    let near_enough = candidates.partition_point(|c| c.0 >= OVERLAP_SAME);
    for (_, t) in candidates.into_iter().take(near_enough.max(NEAREST)) {
        let Some(a) = align(t, words, &places) else { continue };
        let taken = hashes.get(a.span.clone()).is_none_or(|span| span.contains(&TAKEN));
        let changes: Vec<String> =
            a.inserted.iter().filter_map(|r| residue::between(text, bytes(words, r)).err()).collect();
        if !taken && a.missing == 0 && changes.is_empty() {
            let longer =
                best.as_ref().is_none_or(|(_, b)| (a.matched, b.inserted.len()) > (b.matched, a.inserted.len()));
            if longer {
                best = Some((t, a));
            }
            continue;
        }
        let share = a.matched as f64 / (a.matched + a.missing).max(1) as f64;
        let added: usize = a.inserted.iter().map(Range::len).sum();
        let nearer = near.as_ref().is_none_or(|n| a.missing + added < n.missing_words + n.added_words);
        if !taken && share >= RESEMBLES_MIN && nearer && t.kind == Kind::Text {
            let changes = changes.into_iter().take(RIDERS_MAX).collect();
            *near = Some(Resemblance {
                id: t.id.to_string(),
                share,
                missing_words: a.missing,
                added_words: added,
                changes,
            });
        }
    }
    best
}

/// What headings call a licence.
fn titles(id: &str) -> Vec<String> {
    let listed = spdx::license_id(id).map(|l| residue::title(l.full_name));
    let known = super::terms::of(id).map(|l| residue::title(&l.name));
    listed.into_iter().chain(known).chain([residue::title(id)]).collect()
}

/// What the words outside of all licences say.
fn riders(text: &str, words: &[Word], spans: &[Range<usize>], titles: &[String]) -> Vec<String> {
    let mut outside: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    for s in spans {
        outside.push(at..s.start);
        at = s.end;
    }
    outside.push(at..words.len());
    let said = outside.iter().filter(|r| r.start < r.end).filter_map(|r| {
        let range = bytes(words, r);
        // The line that a licence begins in belongs to it, and what marks the words before it does, too.
        residue::around(text, range, titles).err()
    });
    said.take(RIDERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of the SPDX list, from the test's own dependency.
    fn listed(id: &str) -> &'static str {
        spdx::license_id(id).unwrap_or_else(|| panic!("{id}")).text()
    }

    const IDS: &[&str] = &[
        "0BSD",
        "AFL-3.0",
        "Apache-2.0",
        "Artistic-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSD-3-Clause-Clear",
        "BSD-4-Clause",
        "BSL-1.0",
        "CC-BY-3.0",
        "CC-BY-4.0",
        "CC-BY-NC-4.0",
        "CC-BY-NC-ND-4.0",
        "CC-BY-NC-SA-4.0",
        "CC-BY-ND-4.0",
        "CC-BY-SA-4.0",
        "CC0-1.0",
        "CDLA-Permissive-1.0",
        "CDLA-Permissive-2.0",
        "CDLA-Sharing-1.0",
        "ECL-2.0",
        "EPL-1.0",
        "EPL-2.0",
        "EUPL-1.2",
        "ISC",
        "LPPL-1.3c",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "MS-PL",
        "NCSA",
        "ODbL-1.0",
        "ODC-By-1.0",
        "OFL-1.1",
        "OSL-3.0",
        "PostgreSQL",
        "Unlicense",
        "WTFPL",
        "X11",
        "Zlib",
        "etalab-2.0",
        "C-UDA-1.0",
        "PDDL-1.0",
    ];

    fn reflow(text: &str, width: usize) -> String {
        let mut out = String::new();
        let mut column = 0;
        for word in text.split_whitespace() {
            if column + word.len() > width {
                out.push('\n');
                column = 0;
            }
            out.push_str(word);
            out.push(' ');
            column += word.len() + 1;
        }
        out
    }

    /// Long texts take turns: each is changed in every third way.
    fn turn(text: usize, way: usize, written: &str) -> bool {
        written.len() < 6_000 || way % 3 == text % 3
    }

    #[test]
    fn every_listed_text_is_named_however_it_is_laid_out() {
        let mut wrong = Vec::new();
        for (i, id) in IDS.iter().enumerate() {
            let text = listed(id);
            let ways = [
                ("as it is", text.to_string()),
                ("upper case", text.to_uppercase()),
                ("reflowed", reflow(text, 61)),
                ("CRLF", text.replace('\n', "\r\n")),
                ("quotes", text.replace('"', "”").replace('\'', "’")),
                ("a head", format!("Copyright (c) 2031 Example Labs\nAll rights reserved.\n\n{text}")),
                ("fenced", format!("# License\n\n```\n{text}\n```\n")),
                ("quoted", text.lines().map(|l| format!("> {l}\n")).collect()),
            ];
            for (_, (way, text)) in ways.into_iter().enumerate().filter(|(n, w)| turn(i, *n, &w.1)) {
                let found = identify(&text);
                if found.id().as_deref() != Some(*id) {
                    wrong.push(format!("{id}, {way}: {:?} {:?} {:?}", found.id(), found.riders, found.resembles));
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    /// A changed word, a lost half, a sentence more: no longer the licence.
    #[test]
    fn a_text_that_was_changed_is_not_named() {
        let mut wrong = Vec::new();
        for (i, id) in IDS.iter().enumerate() {
            let text = listed(id);
            let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |c| c.0);
            let cut = text.get(..middle).unwrap_or("");
            let whole: Vec<&str> = text.split_inclusive(' ').collect();
            let half = whole.len() / 2;
            let with = |insert: &str| [&whole[..half].concat(), insert, &whole[half..].concat()].concat();
            let ways = [
                ("first half", cut.to_string()),
                ("second half", text.get(middle..).unwrap_or("").to_string()),
                ("rider behind", format!("{text}\n\nCommercial use requires our written consent.\n")),
                ("rider in front", format!("The following applies to academic institutions only:\n\n{text}")),
                ("a word more", with("not ")),
                ("a sentence more", with("except for military purposes ")),
            ];
            for (_, (way, text)) in ways.into_iter().enumerate().filter(|(n, w)| turn(i, *n, &w.1)) {
                if let Some(id) = identify(&text).id().filter(|found| found == id) {
                    wrong.push(format!("{id} with {way}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn the_meaning_of_one_word_is_enough() {
        let mit = listed("MIT").split_whitespace().collect::<Vec<_>>().join(" ");
        for (from, to) in [
            ("without restriction", "with restriction"),
            ("sell", "rent"),
            ("free of charge", "at a charge"),
            ("shall be included", "may be included"),
            ("any person", "any researcher"),
            ("IN NO EVENT", "IN ANY EVENT"),
        ] {
            let changed = mit.replace(from, to);
            assert_ne!(changed, mit);
            let found = identify(&changed);
            assert_eq!(found.id(), None, "{to}");
            assert_eq!(found.resembles.map(|r| r.id).as_deref(), Some("MIT"), "{to}");
        }
    }

    #[test]
    fn several_in_one_file_all_apply() {
        let both = format!("{}\n\n----\n\n{}", listed("MIT"), listed("Apache-2.0"));
        assert_eq!(identify(&both).id().as_deref(), Some("MIT AND Apache-2.0"));
        let twice = format!("{0}\n\n{0}", listed("ISC"));
        assert_eq!(identify(&twice).id().as_deref(), Some("ISC"));
        assert_eq!(identify("This model may be used freely by nice people."), Identified::default());
    }

    #[test]
    fn hostile_texts_take_no_time() {
        let start = std::time::Instant::now();
        let mit = listed("MIT");
        for text in [mit.repeat(200), "the ".repeat(200_000), "a\u{301}".repeat(100_000), "x".repeat(TEXT_MAX)] {
            identify(&text);
        }
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    }
}
