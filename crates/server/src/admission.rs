//! What is under way at once: requests, tokens of prompts, bytes of bodies. Who does not fit is told so at once.
use crate::{
    error::{ApiError, Result},
    options::Limits,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

/// Counts of what is under way.
#[derive(Debug, Default)]
pub struct Admission {
    requests: AtomicUsize,
    tokens: AtomicUsize,
    bytes: AtomicUsize,
}

/// A place in the counts, given back when it is dropped.
#[derive(Debug, Default)]
pub struct Place {
    counts: Arc<Admission>,
    requests: usize,
    tokens: usize,
    bytes: usize,
}

impl Admission {
    /// A place for a body of `bytes`.
    ///
    /// # Errors
    /// 429 where there is none.
    pub fn enter(self: &Arc<Admission>, bytes: usize, limits: &Limits) -> Result<Place> {
        let mut place = Place { counts: self.clone(), requests: 0, tokens: 0, bytes: 0 };
        if !take(&self.requests, 1, limits.requests) {
            return Err(ApiError::busy("too many requests are under way"));
        }
        place.requests = 1;
        if !take(&self.bytes, bytes, limits.bytes) {
            return Err(ApiError::busy("too many bytes of requests are under way"));
        }
        place.bytes = bytes;
        Ok(place)
    }

    /// A place for what can wait: while others leave half of all places.
    pub fn enter_behind(self: &Arc<Admission>, bytes: usize, limits: &Limits) -> Option<Place> {
        let half = Limits { requests: limits.requests.div_ceil(2), bytes: (limits.bytes / 2).max(bytes), ..*limits };
        self.enter(bytes, &half).ok()
    }

    /// Requests under way.
    pub fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

impl Place {
    /// Takes `n` more requests and `tokens` more tokens into account.
    ///
    /// # Errors
    /// 429 where there is no room for them.
    pub fn grow(&mut self, n: usize, tokens: usize, limits: &Limits) -> Result<()> {
        if !take(&self.counts.requests, n, limits.requests) {
            return Err(ApiError::busy("too many requests are under way"));
        }
        self.requests += n;
        if !take(&self.counts.tokens, tokens, limits.tokens) {
            return Err(ApiError::busy("too many tokens of prompts are under way"));
        }
        self.tokens += tokens;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.requests.fetch_sub(self.requests, SeqCst);
        self.counts.tokens.fetch_sub(self.tokens, SeqCst);
        self.counts.bytes.fetch_sub(self.bytes, SeqCst);
    }
}

fn take(count: &AtomicUsize, n: usize, most: usize) -> bool {
    count.fetch_update(SeqCst, SeqCst, |now| now.checked_add(n).filter(|sum| *sum <= most)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back() {
        let (counts, limits) =
            (Arc::new(Admission::default()), Limits { requests: 3, tokens: 10, bytes: 5, ..Limits::default() });
        let mut a = counts.enter(3, &limits).unwrap();
        assert!(counts.enter(3, &limits).is_err());
        assert_eq!(counts.requests(), 1);
        a.grow(1, 10, &limits).unwrap();
        assert!(a.grow(2, 0, &limits).is_err() && a.grow(0, 1, &limits).is_err());
        assert_eq!(counts.requests(), 2);
        drop(a);
        assert_eq!(counts.requests(), 0);
        let mut b = counts.enter(5, &limits).unwrap();
        b.grow(2, 10, &limits).unwrap();
        assert_eq!(counts.enter(0, &limits).unwrap_err().status.as_u16(), 429);
    }
}
