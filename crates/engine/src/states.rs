//! Slots for the recurrent states of sequences. A model without such states has none, and then nothing here does anything.
//!
//! A sequence has one slot from its first step to its end or until it gives way; zeros are the start, so a sequence of
//! which nothing is cached reads none. What a step leaves after each guess goes to a slot of its own: the one at which the
//! sequence goes on becomes its slot, by a change of numbers.
use crate::sequence::Sequence;
use pondera_ops::{Ops, Sequence as Part, StateSpec};

/// Slots beside those of the running sequences, for guesses.
const TRIALS: usize = 16;

/// The slots that nobody has.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    free: Vec<u32>,
    /// For whole passes over one sequence, beside all others; none without states.
    apart: Option<u32>,
}

impl Slots {
    /// One for each of `sequences`, some for guesses and one apart, made on `ops`.
    pub fn new(ops: &dyn Ops, states: &[StateSpec], sequences: usize) -> Slots {
        if states.is_empty() {
            return Slots::default();
        }
        let count = u32::try_from(sequences + TRIALS).unwrap_or(u32::MAX - 1);
        ops.reserve_states(states, count as usize + 1);
        Slots { free: (0..count).rev().collect(), apart: Some(count) }
    }

    /// Whether sequences have states at all.
    pub fn any(&self) -> bool {
        self.apart.is_some()
    }

    /// Guesses that a sequence with `room` for them may have: each needs a slot, and sequences that start come first.
    pub fn guesses(&self, room: usize, starting: usize) -> usize {
        if self.any() { room.min(self.free.len().saturating_sub(starting)) } else { room }
    }

    /// Fills in where the states of `s` come from and go to, for `rows` rows and the guesses behind them.
    pub fn lend(&mut self, s: &mut Sequence, rows: usize, part: &mut Part) {
        part.keep.clear();
        part.state = None;
        if !self.any() {
            return;
        }
        s.slot = s.slot.or_else(|| self.free.pop());
        let slot = s.slot.expect("as many slots as sequences");
        part.state = (s.cached > 0).then_some(slot);
        part.keep.push((rows as u32 - 1, slot));
        for row in rows..rows + s.guess.tokens.len() {
            let trial = self.free.pop().expect("guesses were bounded by slots");
            s.trials.push(trial);
            part.keep.push((row as u32, trial));
        }
    }

    /// After a step of `rows` rows from position `first`: the states at the position where `s` goes on are its own.
    pub fn settle(&mut self, s: &mut Sequence, first: usize, rows: usize) {
        let right = s.cached.saturating_sub(first + rows);
        if let (Some(slot), Some(trial)) = (&mut s.slot, right.checked_sub(1).and_then(|i| s.trials.get_mut(i))) {
            std::mem::swap(slot, trial);
        }
        self.free.append(&mut s.trials);
    }

    /// `s` has no states any more.
    pub fn release(&mut self, s: &mut Sequence) {
        self.free.append(&mut s.trials);
        self.free.extend(s.slot.take());
    }

    /// Fills in where a pass over one sequence keeps its states, `done` positions in.
    pub fn apart(&self, done: usize, part: &mut Part) {
        part.keep.clear();
        part.state = None;
        if let Some(slot) = self.apart {
            part.state = (done > 0).then_some(slot);
            part.keep.push((part.rows.len() as u32 - 1, slot));
        }
    }

    /// Whether nobody has any.
    #[cfg(test)]
    pub fn all_are_back(&self) -> bool {
        self.free.len() == self.apart.unwrap_or(0) as usize
    }
}
