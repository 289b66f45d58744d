//! Guessing ahead: what a request may ask for, how far a sequence guesses, and guesses from its own text.
//!
//! A step computes a sequence's last token and a few guessed ones after it in one pass. A guess counts if and only if
//! it is the token that is sampled at its place anyway, so nothing but speed depends on guesses (rule 11 of
//! docs/numerics.md). Does not own: the draft model (`draft`), verification (`scheduler`).
use crate::{Error, Result};

/// Guess tokens ahead and verify several in one step. Tokens, text, log probabilities and the reason of the end are
/// the same with and without. Only [`crate::Engine::cancel`] may come a few tokens later, for it acts between steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speculation {
    /// Most tokens guessed per step, `1 ..=` [`SPECULATION_MAX`]; how many it is adapts to how many were right.
    pub tokens: usize,
    /// Guess what followed the last few tokens where they stood before, in the prompt or the completion.
    pub lookup: bool,
    /// Guess with the draft model of [`crate::Engine::set_draft`], where lookup (if asked for) finds nothing.
    pub model: bool,
}

impl Default for Speculation {
    /// Lookup, as far as pays.
    fn default() -> Speculation {
        Speculation { tokens: 8, lookup: true, model: false }
    }
}

/// Most tokens that a step may guess for a sequence.
pub const SPECULATION_MAX: usize = 64;

impl Speculation {
    /// Whether it can be done; `drafts`: whether there is a draft model.
    pub(crate) fn check(&self, drafts: bool) -> Result<()> {
        if !(1..=SPECULATION_MAX).contains(&self.tokens) {
            return Err(Error::invalid(format!(
                "speculation: {} tokens are not within 1 ..= {SPECULATION_MAX}",
                self.tokens
            )));
        }
        if self.model && !drafts {
            return Err(
                Error::invalid("speculation: the engine has no draft model").hint("set one, or use lookup alone")
            );
        }
        Ok(())
    }
}

/// What guessing did for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guesses {
    /// Tokens guessed.
    pub drafted: usize,
    /// Of these, how many were right.
    pub accepted: usize,
    /// Steps that chose tokens after the first one.
    pub steps: usize,
}

impl Guesses {
    /// Right ones per guess; 0 if nothing was guessed.
    pub fn acceptance(&self) -> f64 {
        self.accepted as f64 / self.drafted.max(1) as f64
    }
}

/// Longest run of tokens that is looked up; a longer one tells no more.
const LOOKUP_MAX: usize = 4;
/// Guesses of lookups by the length of what was found, 1 ..= [`LOOKUP_MAX`], and of the model.
const SOURCES: usize = LOOKUP_MAX + 1;
/// Where the draft model's guesses count.
pub(crate) const MODEL: usize = LOOKUP_MAX;
/// How often a guess is right before anything is known.
const PRIOR: [f32; SOURCES] = [0.2, 0.4, 0.6, 0.8, 0.7];
/// A guess pays while it is right at least this often: a row more costs a part of a step, a row of the model too.
const WORTH: [f32; SOURCES] = [0.25, 0.25, 0.25, 0.25, 0.35];
/// Share of the newest outcome in a rate.
const NEWEST: f32 = 0.125;
/// Share of the prior that comes back where a source stays silent, so that it is tried again now and then.
const RETURN: f32 = 1.0 / 64.0;

/// What a sequence guesses in a step, and how well it did so far.
#[derive(Debug)]
pub(crate) struct Guess {
    /// The guesses of the step under way: what may come after the sequence's last token.
    pub tokens: Vec<u32>,
    /// Most guesses of the step under way.
    pub room: usize,
    pub counts: Guesses,
    source: usize,
    /// How often a guess of each source was right lately.
    rates: [f32; SOURCES],
}

impl Guess {
    /// At most `most` guesses a step.
    pub fn new(most: usize) -> Guess {
        Guess { tokens: Vec::with_capacity(most), room: 0, counts: Guesses::default(), source: MODEL, rates: PRIOR }
    }

    /// As many guesses of `source` as pay; 0 for one that was wrong too often lately.
    pub fn width(&mut self, source: usize) -> usize {
        self.source = source;
        let rate = self.rates[source];
        let (mut n, mut right) = (0, rate);
        while n < self.room && right >= WORTH[source] {
            n += 1;
            right *= rate;
        }
        if n == 0 {
            self.rates[source] += RETURN * (PRIOR[source].max(WORTH[source] + 0.01) - rate);
        }
        n
    }

    /// Looks the end of `tokens` up in what stands before it and guesses what followed there.
    pub fn look_up(&mut self, tokens: &[u32]) {
        let Some((length, from)) = longest_match(tokens) else { return };
        // What followed may run into the guesses themselves: a text that repeats goes on repeating.
        for i in 0..self.width(length - 1) {
            let at = from + i;
            self.tokens.push(tokens.get(at).copied().unwrap_or_else(|| self.tokens[at - tokens.len()]));
        }
    }

    /// `right` of the guesses were what was sampled. `untried`: the next one was not wrong, the completion had ended.
    pub fn learn(&mut self, right: usize, untried: bool) {
        self.counts.drafted += if untried { right } else { self.tokens.len() };
        self.counts.accepted += right;
        let rate = &mut self.rates[self.source];
        for _ in 0..right {
            *rate += NEWEST * (1.0 - *rate);
        }
        if right < self.tokens.len() && !untried {
            *rate -= NEWEST * *rate;
        }
    }
}

/// The place after the latest of the longest matches with the end of `tokens`, and the match's length, at most
/// [`LOOKUP_MAX`].
fn longest_match(tokens: &[u32]) -> Option<(usize, usize)> {
    let (last, before) = tokens.split_last()?;
    let mut best = None;
    let mut longest = 0;
    for (i, _) in before.iter().enumerate().rev().filter(|(_, t)| *t == last) {
        let ends = tokens[..=i].iter().rev().zip(tokens.iter().rev());
        let length = ends.take(LOOKUP_MAX).take_while(|(a, b)| a == b).count();
        if length > longest {
            (longest, best) = (length, Some((length, i + 1)));
            if length == LOOKUP_MAX {
                break;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked_up(tokens: &[u32], room: usize) -> Vec<u32> {
        let mut g = Guess { room, rates: [0.99; SOURCES], ..Guess::new(room) };
        g.look_up(tokens);
        g.tokens
    }

    #[test]
    fn the_longest_match_wins_and_of_equals_the_latest() {
        assert_eq!(longest_match(&[]), None);
        assert_eq!(longest_match(&[1, 2, 3]), None);
        assert_eq!(longest_match(&[7, 1, 7, 2, 7]), Some((1, 3)));
        assert_eq!(longest_match(&[5, 7, 1, 8, 7, 2, 5, 7]), Some((2, 2)));
        // Matches longer than the longest that is looked up are equals.
        assert_eq!(longest_match(&[9, 1, 2, 3, 4, 8, 1, 2, 3, 4, 9, 1, 2, 3, 4]), Some((4, 10)));
    }

    #[test]
    fn what_followed_is_guessed_and_repetition_goes_on() {
        assert_eq!(looked_up(&[1, 2, 3, 4, 5, 1, 2], 3), [3, 4, 5]);
        assert_eq!(looked_up(&[1, 2, 3, 1, 2], 7), [3, 1, 2, 3, 1, 2, 3]);
        assert_eq!(looked_up(&[6, 6], 4), [6; 4]);
        assert!(looked_up(&[1, 2, 3], 4).is_empty() && looked_up(&[6, 6], 0).is_empty());
    }

    #[test]
    fn the_width_follows_success() {
        let mut g = Guess { room: 16, ..Guess::new(16) };
        let fresh = g.width(MODEL);
        for _ in 0..20 {
            g.tokens = vec![0; 4];
            g.learn(4, false);
        }
        assert!(g.width(MODEL) > fresh && g.width(MODEL) == 16);
        for _ in 0..40 {
            g.learn(0, false);
        }
        assert_eq!(g.width(MODEL), 0);
        // A silent source is tried again after a while.
        let silent = (0..1000).position(|_| g.width(MODEL) > 0).unwrap();
        assert!((5..200).contains(&silent), "{silent}");
        assert_eq!((g.counts.drafted, g.counts.accepted), (240, 80));
        // Guesses that the end cut off were not wrong.
        let rate = g.rates[MODEL];
        g.learn(0, true);
        assert_eq!(g.rates[MODEL], rate);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let s = Speculation::default();
        assert!(s.check(false).is_ok());
        assert!(Speculation { tokens: 0, ..s }.check(true).is_err());
        assert!(Speculation { tokens: SPECULATION_MAX + 1, ..s }.check(true).is_err());
        let model = Speculation { model: true, ..s };
        assert!(model.check(true).is_ok() && model.check(false).is_err());
    }
}
