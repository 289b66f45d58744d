//! Convolutions and recurrences: the specification's own functions, compiled for the machine's instructions, a part
//! (a head, or a run of channels) a task. A part's state stays where its thread works on it for all tokens of the step.
use crate::{
    product::{Engine, PerThread, Ptr},
    simd::{Simd, kernel},
};
use pondera_ops::{Batch, Sequence, StateId, StateSpec, reference::recur::Work};
use std::slice;

/// Recurrent states, `slots` of each spec.
pub struct States {
    /// Values of a slot, and the slots, per state. Memory is taken when a slot is first written.
    slots: Vec<(usize, Vec<Vec<f32>>)>,
    threads: PerThread<Buffers>,
}

/// A thread's own memory.
#[derive(Default)]
struct Buffers {
    state: Vec<f32>,
    scratch: Vec<f32>,
}

impl States {
    /// None yet, for a pool of this many threads.
    pub fn new(threads: usize) -> States {
        States { slots: Vec::new(), threads: PerThread::new(threads) }
    }

    /// Forgets all states and makes room for others.
    pub fn reserve(&mut self, states: &[StateSpec], slots: usize) {
        self.slots = states.iter().map(|s| (s.values, vec![Vec::new(); slots])).collect();
    }

    /// Bytes of the slots that were written.
    pub fn held(&self) -> u64 {
        self.slots.iter().flat_map(|(_, slots)| slots).map(|s| size_of_val(&s[..]) as u64).sum()
    }
}

/// Takes `work` along every sequence of `batch`; the result goes to `y`.
pub fn run(engine: &Engine, states: &mut States, id: StateId, work: &Work<'_>, batch: &Batch, y: Ptr<f32>) {
    let (values, slots) = &mut states.slots[id];
    let len = work.state_len();
    assert_eq!(*values, len, "a state is not as long as was declared");
    for (_, slot) in batch.sequences.iter().flat_map(|s| &s.keep) {
        slots[*slot as usize].resize(len, 0.0);
    }
    for slot in batch.sequences.iter().filter_map(|s| s.state) {
        assert_eq!(slots[slot as usize].len(), len, "state slot {slot} is read that was never written");
    }
    let (parts, cols) = (work.parts(), work.cols());
    let (table, threads, level) = (Ptr(slots.as_mut_ptr()), &states.threads, engine.level);
    for s in batch.sequences.iter().filter(|s| !s.rows.is_empty()) {
        // About a value a nanosecond and thread.
        let ns = s.rows.len() * len.max(cols);
        engine.ranges(parts, 1, ns, &|range, thread, _| {
            // SAFETY: the thread's own buffers; a part has its columns of y and its stretch of every state for itself.
            unsafe {
                let b = threads.of(thread);
                if b.scratch.len() < work.scratch() {
                    b.scratch.resize(work.scratch(), 0.0);
                }
                range.for_each(|i| part(level, work, i, s, &table, (&y, cols), b));
            }
        });
    }
}

kernel!(
    /// Part `i` along sequence `s`.
    unsafe fn part(
        work: &Work<'_>,
        i: usize,
        s: &Sequence,
        slots: &Ptr<Vec<f32>>,
        y: (&Ptr<f32>, usize),
        b: &mut Buffers,
    ) = part_body
);

#[inline(always)]
unsafe fn part_body<S: Simd>(
    _: S,
    work: &Work<'_>,
    i: usize,
    s: &Sequence,
    slots: &Ptr<Vec<f32>>,
    (y, cols): (&Ptr<f32>, usize),
    b: &mut Buffers,
) {
    let (range, columns) = (work.state(i), work.columns(i));
    // SAFETY: the slots that are kept were made as long as the state; this part's stretch is touched by this task alone.
    let stretch = |slot: u32| unsafe {
        let values = (*slots.get().add(slot as usize)).as_mut_ptr();
        slice::from_raw_parts_mut(values.add(range.start), range.len())
    };
    // SAFETY: row r, this part's columns.
    let put = |r: usize, from: &[f32]| unsafe {
        let to = slice::from_raw_parts_mut(y.get().add(r * cols + columns.start), from.len());
        to.copy_from_slice(from);
    };
    let last = s.rows.len() as u32 - 1;
    match (s.state, &s.keep[..]) {
        // The usual step: the state changes where it is.
        (Some(from), [(row, to)]) if from == *to && *row == last => {
            work.run(i, s, stretch(from), &mut b.scratch, put, |_, _| {});
        }
        (from, _) => {
            b.state.clear();
            match from {
                Some(slot) => b.state.extend_from_slice(stretch(slot)),
                None => b.state.resize(range.len(), 0.0),
            }
            work.run(i, s, &mut b.state, &mut b.scratch, put, |slot, state| stretch(slot).copy_from_slice(state));
        }
    }
}
