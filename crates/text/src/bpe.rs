//! Merging neighbours by rank: the one loop behind every byte-pair vocabulary (merge lists, ranked bytes, scored
//! pieces). Short words are scanned, long ones go through a heap, so time is n log n at worst.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Words up to this many symbols are scanned for the lowest rank: below it the scan beats the heap.
const SCAN_MAX: usize = 48;

const NONE: u32 = u32::MAX;

/// A piece of the word: its token id and its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    pub(crate) id: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    prev: u32,
    next: u32,
}

/// What two neighbours become: the lower `rank` goes first, equal ones from the left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merge {
    pub(crate) rank: u32,
    pub(crate) id: u32,
}

/// A possible merge in the heap, best first: rank, place, and what it would join.
type Candidate = Reverse<(u32, u32, u32, u32, u32)>;

/// Buffers that words share.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Candidate>,
    pairs: Vec<Option<Merge>>,
}

impl Merger {
    pub(crate) fn clear(&mut self) {
        self.symbols.clear();
    }

    /// Adds the next symbol of the word.
    pub(crate) fn push(&mut self, id: u32, start: usize, end: usize) {
        let (start, end) = (start as u32, end as u32); // the caller bounds texts to 2 GiB
        self.symbols.push(Symbol { id, start, end, prev: NONE, next: NONE });
    }

    /// Merges until no rule applies; `rule` says what two neighbours become.
    pub(crate) fn run(&mut self, rule: impl FnMut(&Symbol, &Symbol) -> Option<Merge>) {
        match self.symbols.len() {
            0 | 1 => {}
            n if n <= SCAN_MAX => self.scan(rule),
            _ => self.heap(rule),
        }
    }

    /// The symbols of the word, in order.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|s| s.next != DEAD)
    }

    fn scan(&mut self, mut rule: impl FnMut(&Symbol, &Symbol) -> Option<Merge>) {
        let symbols = &mut self.symbols;
        self.pairs.clear();
        self.pairs.extend(symbols.windows(2).map(|pair| rule(&pair[0], &pair[1])));
        loop {
            let mut best: Option<(usize, Merge)> = None;
            for (at, pair) in self.pairs.iter().enumerate() {
                if let Some(merge) = pair
                    && best.is_none_or(|(_, b)| merge.rank < b.rank)
                {
                    best = Some((at, *merge));
                }
            }
            let Some((at, merge)) = best else { return };
            symbols[at].id = merge.id;
            symbols[at].end = symbols[at + 1].end;
            symbols.remove(at + 1);
            self.pairs.remove(at);
            if at + 1 < symbols.len() {
                self.pairs[at] = rule(&symbols[at], &symbols[at + 1]);
            }
            if at > 0 {
                self.pairs[at - 1] = rule(&symbols[at - 1], &symbols[at]);
            }
        }
    }

    fn heap(&mut self, mut rule: impl FnMut(&Symbol, &Symbol) -> Option<Merge>) {
        let count = self.symbols.len() as u32;
        for (at, symbol) in self.symbols.iter_mut().enumerate() {
            let at = at as u32;
            symbol.prev = at.checked_sub(1).unwrap_or(NONE);
            symbol.next = if at + 1 < count { at + 1 } else { NONE };
        }
        self.heap.clear();
        for left in 0..count - 1 {
            self.offer(left, left + 1, &mut rule);
        }
        while let Some(Reverse((_, left, right, end, id))) = self.heap.pop() {
            let (l, r) = (self.symbols[left as usize], self.symbols[right as usize]);
            if l.next != right || r.end != end || r.next == DEAD {
                continue; // one of the two has changed since
            }
            self.symbols[right as usize].next = DEAD;
            let merged = &mut self.symbols[left as usize];
            (merged.id, merged.end, merged.next) = (id, r.end, r.next);
            let prev = merged.prev;
            if r.next != NONE {
                self.symbols[r.next as usize].prev = left;
                self.offer(left, r.next, &mut rule);
            }
            if prev != NONE {
                self.offer(prev, left, &mut rule);
            }
        }
    }

    fn offer(&mut self, left: u32, right: u32, rule: &mut impl FnMut(&Symbol, &Symbol) -> Option<Merge>) {
        let (l, r) = (&self.symbols[left as usize], &self.symbols[right as usize]);
        if let Some(merge) = rule(l, r) {
            self.heap.push(Reverse((merge.rank, left, right, r.end, merge.id)));
        }
    }
}

/// Marks a symbol that was merged into its left neighbour.
const DEAD: u32 = u32::MAX - 1;

/// A score as a rank: the higher the score, the lower the rank.
pub(crate) fn rank_of_score(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges digits of equal value into the next value, the lower values first.
    fn merged(word: &[u32], merger: &mut Merger) -> Vec<u32> {
        merger.clear();
        for (at, id) in word.iter().enumerate() {
            merger.push(*id, at, at + 1);
        }
        merger.run(|l, r| (l.id == r.id).then_some(Merge { rank: l.id, id: l.id + 1 }));
        merger.symbols().map(|s| s.id).collect()
    }

    #[test]
    fn heap_and_scan_agree() {
        let mut merger = Merger::default();
        let mut state = 7_u32;
        for len in 2..SCAN_MAX {
            let word: Vec<u32> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state >> 30
                })
                .collect();
            let scanned = merged(&word, &mut merger);
            merger.clear();
            word.iter().enumerate().for_each(|(at, id)| merger.push(*id, at, at + 1));
            merger.heap(|l, r| (l.id == r.id).then_some(Merge { rank: l.id, id: l.id + 1 }));
            let heaped: Vec<u32> = merger.symbols().map(|s| s.id).collect();
            assert_eq!(scanned, heaped, "{word:?}");
        }
    }

    #[test]
    fn a_long_run_merges_quickly() {
        let word = vec![0; 1 << 20];
        assert_eq!(merged(&word, &mut Merger::default()), [20]);
    }

    #[test]
    fn ranks_follow_scores() {
        let scores = [f32::INFINITY, 3.0, 0.0, -0.5, -1e6, f32::NEG_INFINITY];
        assert!(scores.windows(2).all(|w| rank_of_score(w[0]) < rank_of_score(w[1])));
        assert_eq!(rank_of_score(0.0), rank_of_score(-0.0));
    }
}
