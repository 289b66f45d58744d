//! Pages of the KV cache: who holds which, and the beginnings that sequences share with later ones.
use crate::states::Snapshot;
use pondera_ops::PAGE;
use std::collections::VecDeque;

/// Counts the holders of each page. A page with none is free; with several it is shared and must not be written.
#[derive(Debug, Default)]
pub struct Pages {
    holders: Vec<u32>,
    free: Vec<u32>,
}

impl Pages {
    /// `count` free pages; low ids are taken first, so that memory is touched from the front.
    pub fn new(count: usize) -> Pages {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Pages { holders: vec![0; count as usize], free: (0..count).rev().collect() }
    }

    /// Pages in all.
    pub fn count(&self) -> usize {
        self.holders.len()
    }

    /// Pages that nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// A free page, now held once; `None` if there is none.
    pub fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.holders[page as usize] = 1;
        Some(page)
    }

    /// One more holder of a held page (for prefixes that several sequences share).
    pub fn share(&mut self, page: u32) {
        debug_assert!(self.holders[page as usize] > 0, "page {page} is free");
        self.holders[page as usize] += 1;
    }

    /// Whether a page has more than one holder.
    pub fn is_shared(&self, page: u32) -> bool {
        self.holders[page as usize] > 1
    }

    /// One holder less for each page of `held`, which is emptied. Pages without a holder are free again.
    pub fn release(&mut self, held: &mut Vec<u32>) {
        self.release_after(held, 0);
    }

    /// [`Pages::release`] of all but the first `keep`.
    pub fn release_after(&mut self, held: &mut Vec<u32>, keep: usize) {
        // From the back, so that the next sequence gets the same ids in the same order.
        while let Some(page) = (held.len() > keep).then(|| held.pop()).flatten() {
            self.release_page(page);
        }
    }

    /// Whether each page is held as often as `holders` name it, and those that none names are free, once each.
    #[cfg(test)]
    pub fn check<'a>(&self, holders: impl Iterator<Item = &'a u32>) -> Result<(), String> {
        let mut counts = vec![0; self.holders.len()];
        holders.for_each(|p| counts[*p as usize] += 1);
        if counts != self.holders {
            return Err(format!("held {counts:?}, counted as {:?}", self.holders));
        }
        let mut free = self.free.clone();
        free.sort_unstable();
        let unheld = (0..).zip(&counts).filter(|(_, n)| **n == 0).map(|(p, _)| p);
        if free.iter().copied().eq(unheld) { Ok(()) } else { Err(format!("free {free:?} beside {counts:?}")) }
    }

    /// One holder less.
    pub fn release_page(&mut self, page: u32) {
        let n = &mut self.holders[page as usize];
        debug_assert!(*n > 0, "page {page} is released twice");
        *n -= 1;
        if *n == 0 {
            self.free.push(page);
        }
    }
}

/// The beginnings of sequences that have ended, in whole pages. A later sequence that begins alike shares the pages
/// instead of computing them again, and those of sequences that still run: what they hold depends on the tokens before
/// and the rotary epoch alone, so no bit of its results moves.
#[derive(Debug, Default)]
pub struct Prefixes {
    /// Least recently used first.
    kept: VecDeque<Prefix>,
    most: usize,
    /// With recurrent states: a prefix is of use up to a snapshot of them.
    snapshots: bool,
    /// Slots of snapshots that nobody can use any more.
    pub orphans: Vec<u32>,
}

/// Whose beginnings are alike where their tokens are: what is in the cache depends on the rotary epoch and the adapter, and who asks must not
/// learn from the time of an answer what others asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kin {
    pub epoch: u32,
    pub tenant: u64,
    pub adapter: Option<crate::AdapterId>,
}

/// What a sequence leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub tokens: Vec<u32>,
    pub pages: Vec<u32>,
    /// Tokens whose keys and values stand in the pages.
    pub cached: usize,
    pub kin: Kin,
    pub snapshots: Vec<Snapshot>,
}

/// What another sequence may begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning<'a> {
    /// Those whose keys and values stand in the pages.
    pub tokens: &'a [u32],
    pub pages: &'a [u32],
    pub kin: Kin,
    pub snapshots: &'a [Snapshot],
}

/// What a sequence begins with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shared {
    /// Positions that are there already. Where they end within a page, that page is another's: it is to be copied before
    /// anything is written.
    pub positions: usize,
    /// Positions, in whole pages, that are like those of another sequence: more than [`Shared::positions`] where there is no
    /// snapshot at their end.
    pub alike: usize,
    /// The states at their end.
    pub snapshot: Option<Snapshot>,
}

#[derive(Debug)]
struct Prefix {
    /// As many as fill the pages.
    tokens: Vec<u32>,
    pages: Vec<u32>,
    kin: Kin,
    /// Not empty where there are recurrent states; the deepest at the end of the pages.
    snapshots: Vec<Snapshot>,
}

impl Prefix {
    fn beginning(&self) -> Beginning<'_> {
        Beginning { tokens: &self.tokens, pages: &self.pages, kin: self.kin, snapshots: &self.snapshots }
    }
}

/// How many tokens two sequences begin with alike.
pub(crate) fn alike(a: &[u32], b: &[u32]) -> usize {
    // Whole pages at once: prompts are long, and many are compared.
    let pages = a.chunks_exact(PAGE).zip(b.chunks_exact(PAGE)).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[pages * PAGE..], &b[pages * PAGE..]);
    pages * PAGE + a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Prefixes {
    /// Keeps at most `most` prefixes, of sequences with recurrent states or without.
    pub fn new(most: usize, snapshots: bool) -> Prefixes {
        Prefixes { kept: VecDeque::new(), most, snapshots, orphans: Vec::new() }
    }

    /// Keeps the whole pages of the `cached` first tokens, with recurrent states those up to the deepest snapshot; the other
    /// pages are released.
    pub fn keep(&mut self, ended: Ended, pages: &mut Pages) {
        let Ended { mut tokens, pages: mut held, cached, kin, mut snapshots } = ended;
        let mut whole = (cached / PAGE).min(held.len());
        if self.most == 0 {
            whole = 0;
        }
        if self.snapshots {
            let deepest = snapshots.iter().map(|s| s.end / PAGE).filter(|n| *n <= whole).max();
            whole = deepest.unwrap_or(0);
        }
        snapshots.retain(|s| {
            let stays = s.end <= whole * PAGE;
            if !stays {
                self.orphans.push(s.slot);
            }
            stays
        });
        if whole == 0 {
            pages.release(&mut held);
            return;
        }
        let mut rest = held.split_off(whole);
        pages.release(&mut rest);
        tokens.truncate(whole * PAGE);
        self.kept.push_back(Prefix { tokens, pages: held, kin, snapshots });
        while self.kept.len() > self.most {
            self.drop_oldest(pages);
        }
    }

    /// What `b` has for a sequence of `tokens`; never the last token, whose logits are wanted.
    fn offer(&self, b: &Beginning<'_>, tokens: &[u32], kin: Kin) -> Shared {
        if b.kin != kin {
            return Shared::default();
        }
        let same = alike(b.tokens, tokens).min(tokens.len().saturating_sub(1));
        let whole = same / PAGE * PAGE;
        if !self.snapshots {
            return Shared { positions: same, alike: whole, snapshot: None };
        }
        let snapshot = b.snapshots.iter().filter(|s| s.end <= whole).max_by_key(|s| s.end).copied();
        Shared { positions: snapshot.map_or(0, |s| s.end), alike: whole, snapshot }
    }

    /// The best that ended sequences and `others` have for one of `tokens`, and its place among both.
    fn best<'a, 'b: 'a>(
        &'a self,
        tokens: &[u32],
        kin: Kin,
        others: impl Iterator<Item = Beginning<'b>>,
    ) -> (Shared, Option<(usize, Beginning<'a>)>) {
        let (mut best, mut from) = (Shared::default(), None);
        let others = others.map(|b| Beginning::<'a> { ..b });
        for (i, b) in self.kept.iter().map(Prefix::beginning).chain(others).enumerate() {
            let offer = self.offer(&b, tokens, kin);
            let alike = best.alike.max(offer.alike);
            // Of equal ones the most recently used.
            if offer.positions > 0 && offer.positions >= best.positions {
                (best, from) = (offer, Some((i, b)));
            }
            best.alike = alike;
        }
        (best, from)
    }

    /// Positions that [`Prefixes::share`] would find.
    pub fn known<'b>(&self, tokens: &[u32], kin: Kin, others: impl Iterator<Item = Beginning<'b>>) -> usize {
        self.best(tokens, kin, others).0.positions
    }

    /// Shares the pages of the longest beginning that `tokens` have in common with an ended sequence or one of `others`
    /// into `held` (empty before).
    pub fn share<'b>(
        &mut self,
        tokens: &[u32],
        kin: Kin,
        others: impl Iterator<Item = Beginning<'b>>,
        held: &mut Vec<u32>,
        pages: &mut Pages,
    ) -> Shared {
        let (shared, from) = self.best(tokens, kin, others);
        let Some((i, b)) = from else { return shared };
        for page in &b.pages[..shared.positions.div_ceil(PAGE)] {
            pages.share(*page);
            held.push(*page);
        }
        if let Some(used) = self.kept.remove(i) {
            self.kept.push_back(used);
        }
        shared
    }

    /// Makes an orphan of a snapshot of the least recently used prefix that has one: the least deep, for the deepest is
    /// what the prefix is kept for; with it the prefix goes. Its pages go when room is made for others.
    pub fn forget_snapshot(&mut self) {
        if let Some(p) = self.kept.iter_mut().find(|p| !p.snapshots.is_empty()) {
            let least = p.snapshots.iter().enumerate().min_by_key(|(_, s)| s.end).map_or(0, |(i, _)| i);
            self.orphans.push(p.snapshots.remove(least).slot);
        }
    }

    /// Forgets prefixes, the least recently used first, until `wanted` pages are free or none is left.
    pub fn make_free(&mut self, wanted: usize, pages: &mut Pages) {
        while pages.free() < wanted && !self.kept.is_empty() {
            self.drop_oldest(pages);
        }
    }

    /// Every page that a prefix holds, and every snapshot.
    #[cfg(test)]
    pub fn held(&self) -> (Vec<u32>, Vec<u32>) {
        let slots = self.kept.iter().flat_map(|p| p.snapshots.iter().map(|s| s.slot));
        (self.kept.iter().flat_map(|p| p.pages.clone()).collect(), slots.chain(self.orphans.clone()).collect())
    }

    fn drop_oldest(&mut self, pages: &mut Pages) {
        if let Some(mut p) = self.kept.pop_front() {
            pages.release(&mut p.pages);
            self.orphans.extend(p.snapshots.drain(..).map(|s| s.slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_when_their_last_holder_leaves() {
        let mut p = Pages::new(3);
        let mut a: Vec<u32> = (0..3).map(|_| p.take().unwrap()).collect();
        assert_eq!((a.as_slice(), p.take()), ([0, 1, 2].as_slice(), None));
        p.share(1);
        assert!(p.is_shared(1) && !p.is_shared(0));
        let mut b = vec![1];
        p.release(&mut a);
        assert_eq!((p.free(), a.len()), (2, 0));
        p.release(&mut b);
        assert_eq!((p.free(), p.count()), (3, 3));
        let again: Vec<u32> = (0..3).map(|_| p.take().unwrap()).collect();
        assert_eq!(again.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    }
}
