//! Pages of the KV cache: who holds which, and the prefixes that ended sequences leave behind for later ones.
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
    #[cfg(test)]
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
            let n = &mut self.holders[page as usize];
            debug_assert!(*n > 0, "page {page} is released twice");
            *n -= 1;
            if *n == 0 {
                self.free.push(page);
            }
        }
    }
}

/// The beginnings of sequences that have ended, in whole pages. A later sequence that begins alike shares the pages
/// instead of computing them again: what they hold depends on the tokens before and the rotary epoch alone, so no
/// bit of its results moves.
#[derive(Debug, Default)]
pub struct Prefixes {
    /// Least recently used first.
    kept: VecDeque<Prefix>,
    most: usize,
}

#[derive(Debug)]
struct Prefix {
    /// As many as fill the pages.
    tokens: Vec<u32>,
    pages: Vec<u32>,
    epoch: u32,
}

impl Prefixes {
    /// Keeps at most `most` prefixes.
    pub fn new(most: usize) -> Prefixes {
        Prefixes { kept: VecDeque::new(), most }
    }

    /// Keeps the whole pages of the `cached` first tokens; the other pages are released.
    pub fn keep(&mut self, mut tokens: Vec<u32>, mut held: Vec<u32>, cached: usize, epoch: u32, pages: &mut Pages) {
        let whole = (cached / PAGE).min(held.len());
        if self.most == 0 || whole == 0 {
            pages.release(&mut held);
            return;
        }
        let mut rest = held.split_off(whole);
        pages.release(&mut rest);
        tokens.truncate(whole * PAGE);
        self.kept.push_back(Prefix { tokens, pages: held, epoch });
        while self.kept.len() > self.most {
            self.drop_oldest(pages);
        }
    }

    /// Shares the pages of the longest prefix that `tokens` begin with into `held` (empty before), but never those
    /// of the last token, whose logits are wanted. Returns the number of positions that are there already.
    pub fn share(&mut self, tokens: &[u32], epoch: u32, held: &mut Vec<u32>, pages: &mut Pages) -> usize {
        let most = tokens.len().saturating_sub(1) / PAGE;
        let alike = |p: &Prefix| {
            let same = p.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            if p.epoch == epoch { (same / PAGE).min(most) } else { 0 }
        };
        let best = self.kept.iter().map(alike).enumerate().max_by_key(|(_, n)| *n);
        let Some((at, n)) = best.filter(|(_, n)| *n > 0) else { return 0 };
        let Some(prefix) = self.kept.remove(at) else { return 0 };
        for page in &prefix.pages[..n] {
            pages.share(*page);
            held.push(*page);
        }
        self.kept.push_back(prefix);
        n * PAGE
    }

    /// Forgets prefixes, the least recently used first, until `wanted` pages are free or none is left.
    pub fn make_free(&mut self, wanted: usize, pages: &mut Pages) {
        while pages.free() < wanted && !self.kept.is_empty() {
            self.drop_oldest(pages);
        }
    }

    fn drop_oldest(&mut self, pages: &mut Pages) {
        if let Some(mut p) = self.kept.pop_front() {
            pages.release(&mut p.pages);
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
