//! One step: admit, schedule, forward, sample, emit. Owns the queue, the running sequences and the pages; does not
//! own what a model computes or how a token is chosen.
//!
//! Earlier requests go before later ones. Where pages run out, the latest gives its own back and waits; it is
//! computed again from its start when there is room, with the same bits, because a row's values depend on its
//! sequence alone.
use crate::{
    Error, Event, FinishReason, RequestId, Result,
    draft::Drafter,
    kv::{Pages, Prefixes},
    math::all_finite,
    net::{Net, Vocabulary},
    pace::Pace,
    queue::Queue,
    sampler::Sampler,
    sequence::{Buffers, Sequence},
    states::{Slots, StateCounts},
};
use pondera_ops::{Batch, KvType, Ops, PAGE, Point, Settled, trace::Watch};
use std::{
    cell::Cell,
    ops::Range,
    time::{Duration, Instant},
};

/// After each step that is followed by another, so long is spent on laying weights out: what is felt by nobody who reads,
/// and enough for a gigabyte in some seconds. A backend goes on by itself while nothing is to do.
pub(crate) const SETTLE: Duration = Duration::from_millis(4);

/// Who hears of events.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(RequestId, Event<'_>);

/// Sizes that bound a step; none of them changes a bit of a result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most tokens of a sequence.
    pub ctx: usize,
    pub chunk: usize,
    pub max_rows: usize,
    pub max_sequences: usize,
    /// Ended sequences whose beginnings are kept for later ones.
    pub max_prefixes: usize,
    pub states: StateCounts,
    /// Longest step while somebody decodes: prompts get fewer rows then.
    pub step_time: Option<Duration>,
}

pub(crate) struct Scheduler {
    pub ops: Box<dyn Ops>,
    pub limits: Limits,
    pub pages: Pages,
    pub prefixes: Prefixes,
    pub slots: Slots,
    pub waiting: Queue,
    /// In order of arrival.
    pub running: Vec<Sequence>,
    /// Guesses for those who ask.
    pub drafter: Option<Drafter>,
    /// How many rows a step has time for.
    pace: Pace,
    /// How often a sequence gave its pages back before it ended.
    pub preemptions: u64,
    /// What time it is.
    pub clock: Box<dyn Fn() -> Instant>,
    step: Step,
}

/// Memory of a step, used again by the next.
#[derive(Default)]
struct Step {
    batch: Batch,
    logits: Vec<f32>,
    sampler: Sampler,
    buffers: Buffers,
    /// Of `running`: who ended in this step.
    ended: Vec<usize>,
    /// Somebody decodes, and must not wait for long.
    hurried: bool,
    /// It has rows of prompts.
    prompts: bool,
    /// Page lists between steps, so that none is freed.
    spare: Vec<pondera_ops::Sequence>,
}

/// Rows of a prompt that are worth waiting for: computing fewer costs as little.
pub(crate) const ROWS_MIN: usize = 16;
/// Rows of prompts that any step may have, however long it takes: they must end some day.
pub(crate) const PROMPT_ROWS_MIN: usize = 4;

/// How long a step waits for all grammars; then the others go on without their sequences.
const PATIENCE: Duration = Duration::from_millis(1);
/// How long a step waits for one where nobody can go on.
const HELD: Duration = Duration::from_millis(5);

/// Whether what was read can be trusted.
pub(crate) type Trust<'a> = &'a dyn Fn() -> Result<()>;

impl Scheduler {
    pub fn new(ops: Box<dyn Ops>, net: &dyn Net, limits: Limits, kv: KvType, kv_tokens: usize) -> Scheduler {
        let pages = Pages::new(kv_tokens.div_ceil(PAGE));
        ops.reserve(net.caches(), kv, pages.count());
        let slots = Slots::new(&*ops, net.states(), limits.max_sequences, limits.states);
        let prefixes = Prefixes::new(limits.max_prefixes, slots.any());
        let (waiting, running) = (Queue::default(), Vec::new());
        Scheduler {
            ops,
            limits,
            pages,
            prefixes,
            slots,
            waiting,
            running,
            drafter: None,
            pace: Pace::default(),
            preemptions: 0,
            clock: Box::new(Instant::now),
            step: Step::default(),
        }
    }

    /// Advances every sequence that fits. False if there is nothing left to do.
    pub fn step(&mut self, net: &dyn Net, words: Option<&dyn Vocabulary>, trust: Trust<'_>, emit: Emit<'_>) -> bool {
        let ends = words.map_or(&[][..], |w| w.ends());
        self.drop_unwanted(emit);
        self.take_held(ends, emit);
        self.admit(net);
        self.schedule(net);
        self.fill_batch();
        if !self.step.batch.is_empty() {
            let start = (self.clock)();
            let logits = net.forward(&*self.ops, &self.step.batch);
            self.step.logits.clear();
            self.ops.read(&logits, &mut self.step.logits);
            drop(logits);
            self.learn((self.clock)().saturating_duration_since(start));
            match trust() {
                Ok(()) => self.sample(net, ends, emit),
                Err(e) => self.fail_all(&e, emit),
            }
            self.return_pages();
            self.remove_ended();
        } else if let Some(s) = self.running.iter_mut().find(|s| s.holds()) {
            // Nobody can go on: this one may soon.
            s.can_choose(HELD);
        }
        let more = !self.running.is_empty() || !self.waiting.is_empty();
        if more {
            self.settle(SETTLE);
        }
        more
    }

    /// Lays out weights for about `budget` each, the draft model's too.
    pub fn settle(&mut self, budget: Duration) -> Settled {
        let (a, b) = (self.ops.settle(budget), self.drafter.as_ref().map_or(Settled::default(), |d| d.settle(budget)));
        Settled {
            packed_bytes: a.packed_bytes + b.packed_bytes,
            left_bytes: a.left_bytes + b.left_bytes,
            seconds: a.seconds + b.seconds,
        }
    }

    /// Ends those that were cancelled and those whose time is over.
    fn drop_unwanted(&mut self, emit: Emit<'_>) {
        let Scheduler { running, waiting, pages, prefixes, slots, step, drafter, clock, .. } = self;
        let now = clock();
        let mut stays = |s: &mut Sequence| {
            let late = s.request.deadline.is_some_and(|d| d <= now);
            if !s.cancelled && !late {
                return true;
            }
            if s.cancelled {
                emit(s.id, s.finish(crate::FinishReason::Cancelled, &mut step.buffers));
            } else {
                emit(s.id, Event::Failed(&Error::late(s.generated())));
            }
            slots.release(s);
            drafter.iter_mut().for_each(|d| d.end(s));
            prefixes.keep(s.take_ended(), pages);
            false
        };
        running.retain_mut(&mut stays);
        waiting.retain_mut(&mut stays);
    }

    /// Decides how many rows each sequence gets and finds the pages for them. Sequences that decode go first, so
    /// that a long prompt never stalls them.
    fn schedule(&mut self, net: &dyn Net) {
        for s in &mut self.running {
            s.rows = 0;
            let epoch = net.rope_epoch(s.tokens.len() as u32);
            if epoch != s.epoch {
                // Its pages may be shared with a prefix of the old epoch, so they are not written again.
                s.epoch = epoch;
                s.forget();
                self.pages.release(&mut s.pages);
                self.slots.forget(s);
            }
        }
        let mut budget = self.limits.max_rows;
        self.give_rows(&mut budget, |s| (s.missing() == 1).then_some(1));
        let decoding = self.limits.max_rows - budget;
        // Who waits for a grammar decodes too.
        self.step.prompts = false;
        self.step.hurried = decoding > 0 || self.running.iter().any(Sequence::holds);
        match self.limits.step_time {
            Some(time) if self.step.hurried => {
                budget = budget.min(self.pace.rows(time).saturating_sub(decoding).max(self.pace.least()));
            }
            // Whoever ends its prompt first would make the others hurry: those that can end together do.
            Some(_) => {
                let before = budget;
                self.share_rows(&mut budget);
                self.step.prompts = budget < before;
            }
            None => {}
        }
        let before = budget;
        self.give_rows(&mut budget, |_| Some(usize::MAX));
        self.step.prompts |= budget < before;
        // Guesses come last: they take what the others leave.
        self.guess(net, budget);
    }

    /// Gives sequences that have no rows yet as many as `most` says, in their order, while there are any.
    fn give_rows(&mut self, budget: &mut usize, most: impl Fn(&Sequence) -> Option<usize>) {
        let mut i = 0;
        while i < self.running.len() && *budget > 0 {
            let s = &self.running[i];
            if let Some(most) = most(s).filter(|_| s.missing() > s.rows) {
                let rows = (s.missing() - s.rows).min(self.limits.chunk - s.rows).min(most).min(*budget);
                if rows > 0 && self.find_pages(i, self.running[i].rows + rows) {
                    self.running[i].rows += rows;
                    *budget -= rows;
                }
            }
            i += 1;
        }
    }

    /// Shares a step between prompts: each gets a part by what it lacks, counted as no more than twice what the shortest
    /// does, so that prompts of like length end together and short ones do not wait for long ones.
    fn share_rows(&mut self, budget: &mut usize) {
        let least = self.running.iter().map(Sequence::missing).filter(|n| *n > 0).min().unwrap_or(0);
        let weight = |s: &Sequence| s.missing().min(2 * least);
        let (all, rows) = (self.running.iter().map(weight).sum::<usize>().max(1), *budget);
        self.give_rows(budget, |s| Some((rows * weight(s)).div_ceil(all)));
    }

    /// What a step took.
    fn learn(&mut self, time: Duration) {
        let Step { batch, hurried, prompts, .. } = &self.step;
        match self.limits.step_time {
            Some(most) if *prompts => self.pace.learn(batch.len(), time, most, *hurried),
            Some(most) => self.pace.learn_alone(time, most),
            None => {}
        }
    }

    /// Guesses for the sequences that decode and ask for them, at most `budget` in all. They take free pages only, and
    /// never cross into another rotary epoch.
    fn guess(&mut self, net: &dyn Net, mut budget: usize) {
        let mut any = false;
        let mut slots = self.slots.guesses();
        for s in &mut self.running {
            s.guess.tokens.clear();
            s.guess.room = 0;
            if s.rows != 1 || s.missing() != 1 {
                continue;
            }
            let length = s.tokens.len();
            let pages = (s.pages.len() + self.pages.free()).saturating_mul(PAGE);
            let mut room = s.guesses_left(self.limits.ctx).min(budget).min(pages.saturating_sub(length)).min(slots);
            while room > 0 && net.rope_epoch((length + room) as u32) != s.epoch {
                room -= 1;
            }
            if room == 0 {
                continue;
            }
            for _ in 0..pages_wanted(s, 1 + room) {
                s.pages.extend(self.pages.take());
            }
            s.guess.room = room;
            if s.request.speculation.is_some_and(|s| s.lookup) {
                s.guess.look_up(&s.tokens);
            }
            budget -= room;
            slots = slots.saturating_sub(room);
            any = true;
        }
        if let Some(d) = self.drafter.as_mut().filter(|_| any) {
            d.draft(&mut self.running, net.vocab_size());
        }
    }

    /// Gives sequence `i` the pages for `rows` more positions, taking them from later sequences if it must. False
    /// if it was itself the latest and had to give way.
    fn find_pages(&mut self, i: usize, rows: usize) -> bool {
        self.prefixes.make_free(pages_wanted(&self.running[i], rows), &mut self.pages);
        while self.pages.free() < pages_wanted(&self.running[i], rows) {
            self.preempt_last();
            if i >= self.running.len() {
                return false;
            }
        }
        let s = &mut self.running[i];
        for _ in 0..pages_wanted(s, rows) {
            s.pages.extend(self.pages.take());
        }
        true
    }

    /// Writes the scheduled rows into the batch. Page lists are lent to it, not copied.
    fn fill_batch(&mut self) {
        let Step { batch, spare, .. } = &mut self.step;
        batch.tokens.clear();
        batch.positions.clear();
        batch.logit_rows.clear();
        for s in self.running.iter_mut().filter(|s| s.rows > 0) {
            let first = batch.tokens.len();
            batch.tokens.extend_from_slice(&s.tokens[s.cached..s.cached + s.rows]);
            batch.tokens.extend_from_slice(&s.guess.tokens);
            let rows = s.rows + s.guess.tokens.len();
            batch.positions.extend(s.cached as u32..(s.cached + rows) as u32);
            let mut part = spare.pop().unwrap_or_default();
            std::mem::swap(&mut part.pages, &mut s.pages);
            part.rows = first..batch.tokens.len();
            part.rope_length = s.tokens.len() as u32;
            part.adapter = s.request.adapter.map(|a| a.0);
            self.slots.lend(s, &mut part, &mut self.prefixes);
            batch.sequences.push(part);
            if s.rows == s.missing() {
                batch.logit_rows.extend((first + s.rows - 1) as u32..batch.tokens.len() as u32);
            }
        }
    }

    /// The page lists go back to their sequences, in the batch's order; pages that only wrong guesses were in are free
    /// again.
    fn return_pages(&mut self) {
        let Step { batch, spare, .. } = &mut self.step;
        let owners = self.running.iter_mut().filter(|s| s.rows > 0);
        for (s, mut part) in owners.zip(batch.sequences.drain(..)) {
            std::mem::swap(&mut part.pages, &mut s.pages);
            self.slots.settle(s, batch.positions[part.rows.start] as usize, &mut self.prefixes);
            spare.push(part);
            if s.guess.room > 0 {
                self.pages.release_after(&mut s.pages, s.cached.div_ceil(PAGE));
            }
        }
    }

    /// Chooses a token for every sequence whose last row was computed, and the next ones while guesses were right.
    fn sample(&mut self, net: &dyn Net, ends: &[u32], emit: Emit<'_>) {
        let vocab = net.vocab_size();
        let (mut row, mut part) = (0, 0);
        let patience = Instant::now() + PATIENCE;
        for i in 0..self.running.len() {
            let s = &mut self.running[i];
            if s.rows == 0 {
                continue;
            }
            s.cached += s.rows;
            part += 1;
            if s.missing() > 0 {
                emit(s.id, Event::Prefill { done: s.cached, total: s.tokens.len() });
                continue;
            }
            let Step { logits, sampler, buffers, batch, ended, .. } = &mut self.step;
            let guesses = s.guess.tokens.len();
            let values = &logits[row * vocab..(row + 1 + guesses) * vocab];
            row += 1 + guesses;
            s.guess.counts.steps += usize::from(s.generated() > 0);
            let (mut right, mut over) = (0, false);
            for values in values.chunks_exact(vocab) {
                if !all_finite(values) {
                    // The rows before it were sampled: they are finite.
                    let batch = alone(batch, part - 1);
                    let end = batch.len() - guesses + right;
                    let error = blame(&*self.ops, net, batch, if right > 0 { end - 1..end } else { 0..end });
                    emit(s.id, Event::Failed(&error));
                    s.cached = 0; // nothing of it is kept
                    over = true;
                    break;
                }
                if !s.can_choose(patience.saturating_duration_since(Instant::now())) {
                    s.hold(values);
                    break;
                }
                let Some(taken) = take_token(s, values, sampler, buffers, (ends, self.limits.ctx), emit) else {
                    over = true;
                    break;
                };
                let foreseen = s.guess.tokens.get(right) == Some(&taken.id);
                right += usize::from(foreseen);
                if let Some(reason) = taken.end {
                    s.guess.learn(right, foreseen);
                    emit(s.id, s.finish(reason, buffers));
                    over = true;
                    break;
                }
                if !foreseen {
                    break;
                }
                s.cached += 1;
            }
            if over {
                ended.push(i);
            } else {
                s.guess.learn(right, false);
            }
            s.shadow.roll_back(s.cached);
        }
    }

    /// Goes on with those whose logits were kept, where their grammars are ready by now.
    fn take_held(&mut self, ends: &[u32], emit: Emit<'_>) {
        let Step { sampler, buffers, ended, .. } = &mut self.step;
        for (i, s) in self.running.iter_mut().enumerate() {
            let Some(row) = s.take_held() else { continue };
            let taken = take_token(s, &row, sampler, buffers, (ends, self.limits.ctx), emit);
            let reason = taken.as_ref().and_then(|t| t.end);
            if let Some(reason) = reason {
                emit(s.id, s.finish(reason, buffers));
            }
            if reason.is_some() || taken.is_none() {
                ended.push(i);
            }
        }
        self.remove_ended();
    }

    /// Nothing that was computed can be trusted: every running sequence ends with `error`.
    fn fail_all(&mut self, error: &Error, emit: Emit<'_>) {
        for (i, s) in self.running.iter_mut().enumerate() {
            emit(s.id, Event::Failed(error));
            s.cached = 0;
            self.step.ended.push(i);
        }
    }

    fn remove_ended(&mut self) {
        while let Some(i) = self.step.ended.pop() {
            let mut s = self.running.remove(i);
            self.drafter.iter_mut().for_each(|d| d.end(&mut s));
            self.slots.release(&mut s);
            self.prefixes.keep(s.take_ended(), &mut self.pages);
        }
    }

    /// Every running sequence gives its pages back and waits; nothing is lost but time.
    pub fn preempt_all(&mut self) {
        while !self.running.is_empty() {
            self.preempt_last();
        }
    }

    fn preempt_last(&mut self) {
        if let Some(mut s) = self.running.pop() {
            self.pages.release(&mut s.pages);
            self.slots.forget(&mut s);
            s.forget();
            self.waiting.push_back(s);
            self.preemptions += 1;
        }
    }
}

/// A token that was chosen.
struct Taken {
    id: u32,
    /// Why its sequence ends with it.
    end: Option<FinishReason>,
}

/// Chooses the token that follows by its row of logits and tells of it; none if there is none and the sequence has failed.
fn take_token(
    s: &mut Sequence,
    row: &[f32],
    sampler: &mut Sampler,
    buffers: &mut Buffers,
    (ends, ctx): (&[u32], usize),
    emit: Emit<'_>,
) -> Option<Taken> {
    let id = match s.choose(row, sampler) {
        Ok(id) => id,
        Err(e) => {
            emit(s.id, Event::Failed(&e));
            return None;
        }
    };
    sampler.top.clear();
    let logprob = s.request.logprobs.map(|n| sampler.logprobs(row, id, n));
    let end = s.accept(id, ends, ctx, buffers);
    emit(s.id, Event::Token { id, text: &buffers.shown, logprob, top: &sampler.top });
    Some(Taken { id, end })
}

/// Pages that `s` lacks for `rows` more positions.
pub(crate) fn pages_wanted(s: &Sequence, rows: usize) -> usize {
    (s.cached + rows).div_ceil(PAGE).saturating_sub(s.pages.len())
}

/// One sequence's part of a step.
fn alone(batch: &Batch, i: usize) -> Batch {
    let mut s = batch.sequences[i].clone();
    let rows = std::mem::replace(&mut s.rows, 0..batch.sequences[i].rows.len());
    Batch {
        tokens: batch.tokens[rows.clone()].to_vec(),
        positions: batch.positions[rows.clone()].to_vec(),
        logit_rows: (0..rows.len() as u32).collect(),
        sequences: vec![s],
    }
}

/// Computes a step of one sequence again, whose values are lost anyway, and looks where those of `rows` stopped being finite.
/// Never of several: recurrent states are behind the step already, so keys and values of others would come out wrong. Of a
/// model with such states it may be a later layer that is named.
pub(crate) fn blame(ops: &dyn Ops, net: &dyn Net, mut batch: Batch, rows: Range<usize>) -> Error {
    let first: Cell<Option<Point>> = Cell::new(None);
    let n = batch.len();
    let watch = Watch {
        inner: ops,
        watch: |point, x: &pondera_ops::Act| {
            if first.get().is_some() || !matches!(point, Point::Hidden(_)) {
                return;
            }
            let data = x.data();
            let part = if x.rows == n { rows.start * x.cols..rows.end * x.cols } else { 0..data.len() };
            if !all_finite(&data[part]) {
                first.set(Some(point));
            }
        },
    };
    batch.sequences.iter_mut().for_each(|s| s.keep.clear());
    net.forward(&watch, &batch);
    match first.get() {
        Some(Point::Hidden(0)) => Error::non_finite("the embedding", None),
        Some(Point::Hidden(i)) => Error::non_finite(&format!("layer {}", i - 1), Some(i - 1)),
        _ => Error::non_finite("the output head", None),
    }
}
