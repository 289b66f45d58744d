//! Lays a recorded text over another text: anchors first, then what lies between them at the least cost.
//!
//! Owns the alignment and what it says: which words belong to the licence, which are missing, which stand between
//! them. Whether words too many are harmless is `residue`'s.
use super::{
    residue,
    template::{Element, GRAM, Piece, Places, Template},
    words::{self, Word},
};
use std::ops::Range;

/// Cost of a word of the licence that is not there.
const MISSING: u32 = 30;
/// Cost of a word that is not the licence's.
const INSERTED: u32 = 10;
/// Cost of a piece that may be left out and is.
const LEFT_OUT: u32 = 1;
/// Most cells of a table between two anchors.
const CELLS_MAX: usize = 2_000_000;
/// Most words that a line break may have cut one word into.
const JOINED_MAX: usize = 4;
/// Words looked at before the first anchor and behind the last one, beyond twice the length of what is sought.
const MARGIN: usize = 40;

/// A text laid over another.
#[derive(Debug, Default)]
pub(crate) struct Alignment {
    /// First and last word (exclusive) that belong to the licence.
    pub span: Range<usize>,
    /// Words of the licence that are not there.
    pub missing: usize,
    /// Words inside of the span that are not the licence's.
    pub inserted: Vec<Range<usize>>,
    /// Words that are the licence's.
    pub matched: usize,
}

/// Share of the anchors of `t` that the text has.
pub(crate) fn overlap(t: &Template, places: &Places) -> f64 {
    let found = t.grams.iter().filter(|(g, _)| places.contains_key(g)).count();
    found as f64 / t.grams.len().max(1) as f64
}

/// Lays `t` over `text`. `None` where they have no anchor in common.
pub(crate) fn align(t: &Template, text: &[Word], places: &Places) -> Option<Alignment> {
    let chain = chain(t, places);
    let (&(first_element, first_word), &(last_element, last_word)) = (chain.first()?, chain.last()?);
    let mut a = Alignment { span: first_word..first_word, ..Alignment::default() };
    let lead = t.elements.get(..first_element)?;
    let from = first_word.saturating_sub(2 * lead.len() + MARGIN);
    a.fill(lead, text, from..first_word, Ends { free_start: true, free_end: false });
    let (mut element, mut word) = (first_element, first_word);
    for &(e, w) in chain.get(1..)? {
        // Anchors overlap: only what reaches beyond the one before is new.
        if e < element + GRAM && w < word + GRAM && e - element == w - word {
            a.matched += e - element;
        } else if e < element + GRAM || w < word + GRAM {
            continue;
        } else {
            a.matched += GRAM;
            let between = t.elements.get(element + GRAM..e)?;
            a.fill(between, text, word + GRAM..w, Ends::default());
        }
        (element, word) = (e, w);
    }
    debug_assert!(element <= last_element && word <= last_word);
    a.matched += GRAM;
    let tail = t.elements.get(element + GRAM..)?;
    let behind = word + GRAM;
    a.span.end = behind;
    let to = (behind + 2 * tail.len() + MARGIN).min(text.len());
    a.fill(tail, text, behind..to, Ends { free_start: false, free_end: true });
    Some(a)
}

/// The longest chain of anchors that stand in the same order in both, nearest to the text's start.
fn chain(t: &Template, places: &Places) -> Vec<(usize, usize)> {
    let pairs: Vec<(usize, usize)> = t
        .grams
        .iter()
        .flat_map(|&(g, element)| places.get(&g).into_iter().flatten().rev().map(move |&word| (element, word)))
        .collect();
    // Patience: `tails[n]` ends the chain of n + 1 anchors that ends earliest. Places of one anchor come last first,
    // so that a chain takes one of them at most.
    let (mut tails, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), Vec::with_capacity(pairs.len()));
    for (i, &(_, word)) in pairs.iter().enumerate() {
        let n = tails.partition_point(|&p: &usize| pairs[p].1 < word);
        before.push(n.checked_sub(1).map(|n| tails[n]));
        match tails.get_mut(n) {
            Some(tail) => *tail = i,
            None => tails.push(i),
        }
    }
    let mut chain = Vec::with_capacity(tails.len());
    let mut at = tails.last().copied();
    while let Some(i) = at {
        chain.push(pairs[i]);
        at = before[i];
    }
    chain.reverse();
    // A phrase that repeats may stand alone in a wrong place; right ones come in runs.
    let diagonal = |i: usize| chain.get(i).map(|&(e, w)| w as i64 - e as i64);
    let runs = |i: usize| diagonal(i) == diagonal(i + 1) || i > 0 && diagonal(i) == diagonal(i - 1);
    let kept: Vec<(usize, usize)> = (0..chain.len()).filter(|&i| runs(i)).map(|i| chain[i]).collect();
    if kept.is_empty() { chain } else { kept }
}

/// Which ends of a stretch of text cost nothing.
#[derive(Clone, Copy, Default)]
struct Ends {
    free_start: bool,
    free_end: bool,
}

/// How a cell of the table was reached.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Start,
    /// The element took this many words.
    Took(u16),
    /// The element is not there.
    Skipped,
    /// A word too many.
    Inserted,
}

impl Alignment {
    /// Aligns `elements` with `text[range]` at the least cost and adds what that says.
    fn fill(&mut self, elements: &[Element], text: &[Word], range: Range<usize>, ends: Ends) {
        let words = text.get(range.clone()).unwrap_or(&[]);
        if elements.is_empty() {
            if !words.is_empty() && !ends.free_start && !ends.free_end {
                self.inserted.push(range);
            }
            return;
        }
        let columns = words.len() + 1;
        if (elements.len() + 1) * columns > CELLS_MAX {
            self.missing += elements.iter().filter(|e| !e.optional).count();
            if !ends.free_start && !ends.free_end && !words.is_empty() {
                self.inserted.push(range);
            }
            return;
        }
        let table = table(elements, words, ends);
        let row = table.get(elements.len() * columns..).unwrap_or(&[]);
        let last = match ends.free_end {
            true => row.iter().enumerate().min_by_key(|(j, c)| (c.0, *j)).map_or(0, |(j, _)| j),
            false => words.len(),
        };
        self.walk(elements, &table, columns, last, &range, ends);
    }

    /// Follows the steps back from the last cell.
    fn walk(
        &mut self,
        elements: &[Element],
        table: &[(u32, Step)],
        columns: usize,
        last: usize,
        range: &Range<usize>,
        ends: Ends,
    ) {
        let (mut i, mut j) = (elements.len(), last);
        let mut inserted: Vec<usize> = Vec::new();
        let mut start = j;
        while let Some(&(_, step)) = table.get(i * columns + j) {
            match step {
                Step::Start => break,
                Step::Took(n) => {
                    i -= 1;
                    j -= usize::from(n);
                    self.matched += usize::from(n);
                    start = j;
                }
                Step::Skipped => {
                    i -= 1;
                    self.missing += usize::from(!elements.get(i).is_some_and(|e| e.optional));
                }
                Step::Inserted => {
                    j -= 1;
                    inserted.push(j);
                    start = j;
                }
            }
        }
        inserted.reverse();
        for j in inserted {
            let at = range.start + j;
            match self.inserted.last_mut() {
                Some(r) if r.end == at => r.end = at + 1,
                _ => self.inserted.push(at..at + 1),
            }
        }
        if ends.free_start {
            self.span.start = range.start + start;
        }
        if ends.free_end {
            self.span.end = range.start + last;
        }
    }
}

/// Cost and last step of every prefix of the elements against every prefix of the words.
fn table(elements: &[Element], words: &[Word], ends: Ends) -> Vec<(u32, Step)> {
    let columns = words.len() + 1;
    let mut table = vec![(u32::MAX, Step::Start); (elements.len() + 1) * columns];
    for (j, cell) in table.iter_mut().take(columns).enumerate() {
        *cell = match (j, ends.free_start) {
            (0, _) | (_, true) => (0, Step::Start),
            _ => (INSERTED * j as u32, Step::Inserted),
        };
    }
    for (i, e) in elements.iter().enumerate() {
        let (above, here) = ((i * columns), (i + 1) * columns);
        for j in 0..columns {
            let skip = if e.optional { LEFT_OUT } else { MISSING };
            let mut best = match e.piece {
                Piece::Slot(..) => (table[above + j].0, Step::Took(0)),
                _ => (table[above + j].0.saturating_add(skip), Step::Skipped),
            };
            let mut offer = |cost: u32, step: Step| {
                if cost < best.0 {
                    best = (cost, step);
                }
            };
            match &e.piece {
                Piece::Word(w) => {
                    if let Some(n) = taken(*w, words, j) {
                        offer(table[above + j - n].0, Step::Took(n as u16));
                    }
                }
                Piece::Slot(most, usual) => {
                    for n in 1..=usize::from(*most).min(j) {
                        let name = |w: &Word| usual.contains(&w.hash) || !residue::is_normative_name(&w.text);
                        if !words.get(j - n).is_some_and(name) {
                            break;
                        }
                        offer(table[above + j - n].0, Step::Took(n as u16));
                    }
                }
                Piece::Choice(ways) => {
                    for way in ways.iter().filter(|way| way.len() <= j) {
                        let there = words.get(j - way.len()..j).unwrap_or(&[]);
                        if there.iter().map(|w| w.hash).eq(way.iter().copied()) {
                            offer(table[above + j - way.len()].0, Step::Took(way.len() as u16));
                        }
                    }
                }
            }
            if j > 0 {
                offer(table[here + j - 1].0.saturating_add(INSERTED), Step::Inserted);
            }
            table[here + j] = best;
        }
    }
    table
}

/// How many words before `end` make the word `w`: one, or the pieces that a line break left of it.
fn taken(w: u32, words: &[Word], end: usize) -> Option<usize> {
    if words.get(end.checked_sub(1)?)?.hash == w {
        return Some(1);
    }
    (2..=JOINED_MAX.min(end)).find(|n| {
        let pieces = words.get(end - n..end).unwrap_or(&[]);
        // Pieces of one word touch, but for what breaks a line.
        let near = pieces.windows(2).all(|p| p[1].range.start <= p[0].range.end + 8);
        let whole = || pieces.iter().map(|p| &*p.text).collect::<String>();
        near && words::hash(&whole()) == w
    })
}

#[cfg(test)]
mod tests {
    use super::{super::template::places, *};
    use crate::license::template::Kind;

    fn template(text: &str) -> Template {
        let optional = |w: &Word| w.text.starts_with("opt");
        let piece = |w: &Word| match &*w.text {
            "slot" => Piece::Slot(3, vec![]),
            _ => Piece::Word(w.hash),
        };
        let elements = words::words(text).iter().map(|w| Element { piece: piece(w), optional: optional(w) }).collect();
        Template::new("T".into(), Kind::Text, elements)
    }

    fn lay(t: &str, text: &str) -> Alignment {
        let text = words::words(text);
        let hashes: Vec<u32> = text.iter().map(|w| w.hash).collect();
        align(&template(t), &text, &places(&hashes)).unwrap()
    }

    #[test]
    fn every_difference_is_seen() {
        const T: &str = "opta optb use copy and change the work of slot and keep this notice with all copies of it";
        let exact = T.replace("opta optb ", "").replace("slot", "Jane Doe");
        // (text, missing, inserted words)
        let cases: &[(&str, usize, usize)] = &[
            (&exact, 0, 0),
            (&format!("opta optb {exact}"), 0, 0),
            (&format!("some words before {exact} and behind"), 0, 0),
            (&exact.replace("keep this notice", "keep no notice"), 1, 1),
            (&exact.replace("all copies", "all the copies"), 0, 1),
            (&exact.replace("with all ", "with "), 1, 0),
            (&exact.replace("notice", "not-\nice"), 0, 0),
            (&exact.replace("Jane Doe", "Jane Mary Ann Doe"), 0, 1),
            (&exact.replace("Jane Doe", "Jane but not Doe"), 0, 2),
            (&exact.replace(" of it", ""), 2, 0),
            (&exact.replace("use copy", "copy"), 1, 0),
        ];
        for (text, missing, inserted) in cases {
            let a = lay(T, text);
            let n: usize = a.inserted.iter().map(Range::len).sum();
            assert_eq!((a.missing, n), (*missing, *inserted), "{text}: {a:?}");
        }
    }

    #[test]
    fn the_span_is_the_licence_alone() {
        const T: &str = "use copy and change the work and keep this notice";
        let a = lay(T, &format!("first second {T} third fourth"));
        assert_eq!((a.span, a.matched), (2..12, 10));
        let a = lay(T, &format!("{T} between {T}"));
        assert_eq!((a.span, a.missing, a.inserted.len()), (0..10, 0, 0));
    }
}
