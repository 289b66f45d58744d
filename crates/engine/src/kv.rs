//! Pages of the KV cache: who holds which. Knows nothing of what stands in them.

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
    #[cfg_attr(not(test), expect(dead_code, reason = "no sequence shares a prefix yet"))]
    pub fn share(&mut self, page: u32) {
        debug_assert!(self.holders[page as usize] > 0, "page {page} is free");
        self.holders[page as usize] += 1;
    }

    /// Whether a page has more than one holder.
    #[cfg_attr(not(test), expect(dead_code, reason = "no sequence shares a prefix yet"))]
    pub fn is_shared(&self, page: u32) -> bool {
        self.holders[page as usize] > 1
    }

    /// One holder less for each page of `held`, which is emptied. Pages without a holder are free again.
    pub fn release(&mut self, held: &mut Vec<u32>) {
        // From the back, so that the next sequence gets the same ids in the same order.
        while let Some(page) = held.pop() {
            let n = &mut self.holders[page as usize];
            debug_assert!(*n > 0, "page {page} is released twice");
            *n -= 1;
            if *n == 0 {
                self.free.push(page);
            }
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
