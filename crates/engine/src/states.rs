//! Slots for the recurrent states of sequences. A model without such states has none, and then nothing here does anything.
//!
//! A sequence has one slot from its first step to its end or until it gives way; zeros are the start, so a sequence of
//! which nothing is cached reads none. What a step leaves after each guess goes to a slot of its own: the one at which the
//! sequence goes on becomes its slot, by a change of numbers.
//!
//! States at the end of a page are kept as snapshots, so that a later sequence begins there: the prompt's last page, the
//! last one of what was generated, and the page up to which a sequence that was there before is alike. A slot that is also
//! a snapshot has two holders and is not written: the next step leaves its states in another.
use crate::{
    kv::{Pages, Prefixes},
    sequence::Sequence,
};
use pondera_ops::{Ops, PAGE, Sequence as Part, StateSpec};

/// Slots beside those of the running sequences, for guesses.
pub(crate) const TRIALS: usize = 16;

/// States after a sequence's first `end` tokens, whole pages of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub end: usize,
    pub slot: u32,
}

/// How many states there are beside those of running sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StateCounts {
    /// After guesses, in one step.
    pub trials: usize,
    /// At the ends of pages.
    pub snapshots: usize,
}

/// Who has which slot.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Pages,
    /// Snapshots that may still be taken.
    snapshots: usize,
    /// For guesses, in one step.
    trials: usize,
    /// For whole passes over one sequence, beside all others; none without states.
    apart: Option<u32>,
}

impl Slots {
    /// One for each sequence, some for guesses and snapshots, and one apart, made on `ops`.
    pub fn new(ops: &dyn Ops, states: &[StateSpec], sequences: usize, counts: StateCounts) -> Slots {
        let StateCounts { trials, snapshots } = counts;
        if states.is_empty() {
            return Slots::default();
        }
        // A step may leave a shared slot for another: for its time, a sequence has both. Only slots in use take memory.
        let count = u32::try_from(2 * sequences + trials + snapshots).unwrap_or(u32::MAX - 1);
        ops.reserve_states(states, count as usize + 1);
        Slots { slots: Pages::new(count as usize), snapshots, trials, apart: Some(count) }
    }

    /// Whether sequences have states at all.
    pub fn any(&self) -> bool {
        self.apart.is_some()
    }

    /// Guesses that may be made in one step, of all sequences: each needs a slot. What else a step takes never touches these:
    /// a sequence has two at most, and a snapshot counts until nobody holds it but a sequence.
    pub fn guesses(&self) -> usize {
        if self.any() { self.trials } else { usize::MAX }
    }

    /// Shares the states of `snapshot` with `s`, which begins behind them.
    pub fn begin(&mut self, s: &mut Sequence, snapshot: Option<Snapshot>) {
        if let Some(snapshot) = snapshot {
            self.slots.share(snapshot.slot);
            s.slot = Some(snapshot.slot);
        }
    }

    /// Fills in where the states of `s` come from and go to, for its rows and the guesses behind them. A snapshot that it
    /// wants in the middle of its rows may take the place of the oldest of `prefixes`.
    pub fn lend(&mut self, s: &mut Sequence, part: &mut Part, prefixes: &mut Prefixes) {
        part.keep.clear();
        part.state = None;
        if !self.any() {
            return;
        }
        part.state = s.slot.filter(|_| s.cached > 0);
        let to = match s.slot {
            Some(slot) if !self.slots.is_shared(slot) => slot,
            _ => self.take(),
        };
        s.left = s.slot.filter(|slot| *slot != to);
        s.slot = Some(to);
        let last = s.cached + s.rows;
        for end in s.marks {
            let taken = s.snapshots.iter().any(|x| x.end == end);
            if end > s.cached && end < last && !taken && self.room(prefixes) {
                let slot = self.take();
                part.keep.push(((end - s.cached) as u32 - 1, slot));
                s.snapshots.push(Snapshot { end, slot });
            }
        }
        part.keep.push((s.rows as u32 - 1, to));
        for row in s.rows..s.rows + s.guess.tokens.len() {
            let trial = self.take();
            s.trials.push(trial);
            part.keep.push((row as u32, trial));
        }
    }

    /// After the step of `s` from position `first`: the states at the position where it goes on are its own, those at the
    /// last end of a page that the step passed a snapshot.
    pub fn settle(&mut self, s: &mut Sequence, first: usize, prefixes: &mut Prefixes) {
        self.release_one(s.left.take());
        let Some(own) = s.slot else { return };
        let certain = first + s.rows;
        let at = |end: usize| end.checked_sub(certain + 1).map_or(Some(own), |i| s.trials.get(i).copied());
        let end = s.cached / PAGE * PAGE;
        // What a prompt passes on its way is of no use to others, but for its marks.
        let wanted = s.marks.contains(&end) || s.missing() <= 1;
        let passed = at(end).filter(|_| wanted && end >= certain && end > first);
        if s.cached > certain {
            s.slot = at(s.cached).or(s.slot);
        }
        if let Some(slot) = passed {
            self.supersede(s);
            // In need, its own shallowest makes room: a later request of this conversation begins at the deepest.
            if self.room(prefixes) || (self.drop_shallowest(s) && self.room(prefixes)) {
                self.slots.share(slot);
                s.snapshots.push(Snapshot { end, slot });
            }
        }
        if s.slot != Some(own) {
            self.release_one(Some(own));
        }
        for trial in s.trials.drain(..) {
            if s.slot != Some(trial) {
                self.release_one(Some(trial));
            }
        }
    }

    /// `s` has no states any more; its snapshots go with `prefixes` or are dropped.
    pub fn release(&mut self, s: &mut Sequence) {
        self.release_one(s.left.take());
        self.release_one(s.slot.take());
        for trial in s.trials.drain(..) {
            self.release_one(Some(trial));
        }
    }

    /// `s` gives way: nothing of it is kept.
    pub fn forget(&mut self, s: &mut Sequence) {
        self.release(s);
        for x in s.snapshots.drain(..) {
            self.drop_snapshot(x.slot);
        }
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

    /// Drops the snapshots of `s` that nobody asked for: a later one takes their place.
    fn supersede(&mut self, s: &mut Sequence) {
        let marks = s.marks;
        s.snapshots.retain(|x| {
            let stays = marks.contains(&x.end);
            if !stays {
                self.drop_snapshot(x.slot);
            }
            stays
        });
    }

    /// False if `s` has none.
    fn drop_shallowest(&mut self, s: &mut Sequence) -> bool {
        let Some(i) = s.snapshots.iter().enumerate().min_by_key(|(_, x)| x.end).map(|(i, _)| i) else { return false };
        let x = s.snapshots.swap_remove(i);
        self.drop_snapshot(x.slot);
        true
    }

    /// Counts a snapshot more, if need be in the place of the oldest that a prefix holds. False if there is none.
    fn room(&mut self, prefixes: &mut Prefixes) -> bool {
        self.reclaim(prefixes);
        if self.snapshots == 0 {
            prefixes.forget_snapshot();
            self.reclaim(prefixes);
        }
        let any = self.snapshots > 0;
        self.snapshots -= usize::from(any);
        any
    }

    /// Takes back the snapshots of prefixes that are gone.
    pub fn reclaim(&mut self, prefixes: &mut Prefixes) {
        while let Some(slot) = prefixes.orphans.pop() {
            self.drop_snapshot(slot);
        }
    }

    fn drop_snapshot(&mut self, slot: u32) {
        self.release_one(Some(slot));
        self.snapshots += 1;
    }

    fn take(&mut self) -> u32 {
        self.slots.take().expect("slots for every sequence, snapshot and guess")
    }

    fn release_one(&mut self, slot: Option<u32>) {
        if let Some(slot) = slot {
            self.slots.release_page(slot);
        }
    }

    /// Whether each slot is held as often as `sequences` and the snapshots `kept` of prefixes say, and snapshots are counted:
    /// `most` in all.
    #[cfg(test)]
    pub fn check(&self, sequences: &[&Sequence], kept: &[u32], most: usize) -> Result<(), String> {
        let snapshots: Vec<u32> = sequences.iter().flat_map(|s| s.snapshots.iter().map(|x| x.slot)).collect();
        if self.any() && self.snapshots + snapshots.len() + kept.len() != most {
            return Err(format!("{} snapshots are left beside {snapshots:?} and {kept:?} of {most}", self.snapshots));
        }
        let own = sequences.iter().flat_map(|s| s.slot.iter().chain(&s.left).chain(&s.trials));
        self.slots.check(own.chain(&snapshots).chain(kept)).map_err(|e| format!("slots: {e}"))
    }

    /// Whether nobody has any.
    #[cfg(test)]
    pub fn all_are_back(&mut self, prefixes: &mut Prefixes) -> bool {
        self.reclaim(prefixes);
        self.slots.free() == self.slots.count()
    }
}
