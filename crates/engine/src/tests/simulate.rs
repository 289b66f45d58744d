//! The scheduler, its queue and its cache under thousands of random loads, without a model: a toy computes, of which every
//! value depends on what its sequence's pages and states hold. After each step everything is counted.
//!
//! `PONDERA_SIM_SEEDS` runs so many loads, `PONDERA_SIM_SEED` one of them.
use super::*;
use crate::{ErrorKind, FinishReason, Speculation, scheduler::Scheduler, sequence::Sequence};
use pondera_ops::reference::Reference;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    time::{Duration, Instant},
};

const SEEDS: u64 = 3000;
const VOCAB: usize = 16;
/// A row of this token is not finite.
const BROKEN: u32 = 15;
/// Tokens that the toy generates: few, so that its texts repeat themselves and guesses come right.
const GENERATED: u64 = 3;

fn mix(a: u64, b: u64) -> u64 {
    let x = (a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 29)
}

/// Random numbers of a load.
struct Dice(u64);

impl Dice {
    /// Below `n`.
    fn roll(&mut self, n: usize) -> usize {
        self.0 = mix(self.0, 1).wrapping_add(0x1234_5678_9abc_def1);
        ((self.0 >> 33) % n as u64) as usize
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }
    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.roll(values.len())]
    }
}

/// The value at a position: of its token, the one before, the ends of the pages before and one anywhere, as they are read.
fn value(epoch: u32, position: usize, token: u32, read: impl Fn(usize) -> u64) -> u64 {
    let mut v = mix(u64::from(token) + 1, u64::from(epoch) + 1);
    if position > 0 {
        v = mix(v, read(position - 1));
        v = mix(v, read(mix(position as u64, 77) as usize % position));
        v = (0..position / PAGE).fold(v, |v, page| mix(v, read(page * PAGE + PAGE - 1)));
    }
    v
}

fn epoch_of(dynamic: bool, length: usize) -> u32 {
    if dynamic { length as u32 / 90 } else { 0 }
}

/// A model of one cache and, if it is to have them, one state.
struct Toy {
    memory: Rc<RefCell<Memory>>,
    states: Vec<StateSpec>,
    dynamic: bool,
}

struct Memory {
    pages: Vec<[u64; PAGE]>,
    slots: Vec<u64>,
    most_rows: usize,
    steps: usize,
}

impl Net for Toy {
    fn forward(&self, ops: &dyn Ops, batch: &Batch) -> Act {
        let memory = &mut *self.memory.borrow_mut();
        memory.most_rows = memory.most_rows.max(batch.len());
        memory.steps += 1;
        let mut written = BTreeSet::new();
        let mut chosen = vec![0; batch.len()];
        for s in &batch.sequences {
            let mut state = s.state.map_or(0, |slot| memory.slots[slot as usize]);
            for r in s.rows.clone() {
                let (token, at) = (batch.tokens[r], batch.positions[r] as usize);
                let place = |p: usize| (s.pages[p / PAGE] as usize, p % PAGE);
                assert!(written.insert(place(at)), "two rows of a step write {:?}", place(at));
                let epoch = epoch_of(self.dynamic, s.rope_length as usize);
                let v = value(epoch, at, token, |p| memory.pages[place(p).0][place(p).1]);
                memory.pages[place(at).0][place(at).1] = v;
                state = mix(state, u64::from(token) + 1);
                for (_, to) in s.keep.iter().filter(|(row, _)| s.rows.start + *row as usize == r) {
                    memory.slots[*to as usize] = state;
                }
                chosen[r] = choice(v, if self.states.is_empty() { 0 } else { state });
            }
        }
        let mut logits = vec![0.0; batch.logit_rows.len() * VOCAB];
        for (row, &r) in logits.chunks_exact_mut(VOCAB).zip(&batch.logit_rows) {
            row[chosen[r as usize] as usize] = 1.0;
            if batch.tokens[r as usize] == BROKEN {
                row[0] = f32::NAN;
            }
        }
        ops.input(batch.logit_rows.len(), VOCAB, &logits)
    }
    fn hidden(&self, ops: &dyn Ops, batch: &Batch) -> Act {
        self.forward(ops, batch)
    }
    fn caches(&self) -> &[CacheSpec] {
        &[]
    }
    fn states(&self) -> &[StateSpec] {
        &self.states
    }
    fn rope_epoch(&self, length: u32) -> u32 {
        epoch_of(self.dynamic, length as usize)
    }
    fn copy_page(&self, _: &dyn Ops, from: u32, to: u32) {
        let pages = &mut self.memory.borrow_mut().pages;
        pages[to as usize] = pages[from as usize];
    }
    fn vocab_size(&self) -> usize {
        VOCAB
    }
}

fn choice(value: u64, state: u64) -> u32 {
    ((mix(value, state) >> 20) % GENERATED) as u32
}

/// What a request gives alone.
fn alone(toy: (bool, bool), prompt: &[u32], n: usize) -> Vec<u32> {
    let (dynamic, states) = toy;
    let (mut tokens, mut values, mut epoch, mut state) = (prompt.to_vec(), Vec::new(), 0, 0);
    for _ in 0..n {
        let now = epoch_of(dynamic, tokens.len());
        if now != epoch {
            (epoch, state) = (now, 0);
            values.clear();
        }
        for (at, &token) in tokens.iter().enumerate().skip(values.len()) {
            let v = value(epoch, at, token, |p| values[p]);
            values.push(v);
            state = mix(state, u64::from(token) + 1);
        }
        tokens.push(choice(values[tokens.len() - 1], if states { state } else { 0 }));
    }
    tokens.split_off(prompt.len())
}

/// A request, as it went so far.
struct Asked {
    request: Request,
    tokens: Vec<u32>,
    cancelled: bool,
    ended: bool,
    started: bool,
}

struct Load {
    runner: Runner,
    dice: Dice,
    setup: Setup,
    toy: (bool, bool),
    memory: Rc<RefCell<Memory>>,
    /// Files are damaged: a step fails.
    damaged: Rc<Cell<bool>>,
    now: Rc<Cell<Duration>>,
    start: Instant,
    asked: BTreeMap<RequestId, Asked>,
    /// For the first of each tenant's line: whom it saw start before it.
    passed: BTreeMap<RequestId, BTreeMap<u64, usize>>,
    beginnings: Vec<Vec<u32>>,
    /// Tokens of prompts that were there already.
    reused: usize,
}

impl Load {
    fn new(seed: u64) -> Load {
        let mut dice = Dice(mix(seed, 99));
        let (dynamic, states) = (dice.one_in(4), dice.one_in(3));
        let max_sequences = dice.of(&[1, 2, 3, 6]);
        let pages = dice.of(&[4, 5, 6, 8, 12, 40]);
        let setup = Setup {
            ctx: 4 * PAGE,
            kv_tokens: pages * PAGE,
            chunk: dice.of(&[5, 16, 40, 64, 200]),
            max_rows: dice.of(&[8, 30, 64, 128, 300]),
            max_sequences,
            max_prefixes: dice.of(&[0, 1, 2, 6]),
            max_snapshots: dice.of(&[0, 1, 3, 8]),
            trials: dice.of(&[0, 3, 16]),
            step_time: dice.one_in(4).then_some(Duration::from_secs(3)),
            ..Setup::default()
        };
        let slots = 2 * max_sequences + setup.trials + setup.max_snapshots + 1;
        let memory = Memory { pages: vec![[0; PAGE]; pages], slots: vec![0; slots], most_rows: 0, steps: 0 };
        let memory = Rc::new(RefCell::new(memory));
        let (damaged, now, start) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(Duration::ZERO)), Instant::now());
        let specs = if states { vec![StateSpec { values: 1 }] } else { Vec::new() };
        let hit = damaged.clone();
        let limits = Limits {
            ctx: setup.ctx,
            chunk: setup.chunk,
            max_rows: setup.max_rows,
            max_sequences,
            max_prefixes: setup.max_prefixes,
            states: crate::states::StateCounts { trials: setup.trials, snapshots: setup.max_snapshots },
            step_time: setup.step_time,
        };
        let mut runner = Runner::new(Parts {
            net: Box::new(Toy { memory: memory.clone(), states: specs, dynamic }),
            ops: Box::new(Reference::default()),
            words: None,
            trust: Box::new(move || if hit.take() { Err(Error::new(ErrorKind::File, "damaged")) } else { Ok(()) }),
            limits,
            kv: KvType::F32,
            kv_tokens: setup.kv_tokens,
            max_waiting: 1000,
        });
        // A second for each look at the clock: rows take time, too.
        let told = now.clone();
        runner.scheduler.clock = Box::new(move || {
            told.set(told.get() + Duration::from_secs(1));
            start + told.get()
        });
        let beginnings = (0..3).map(|_| (0..230).map(|_| 3 + dice.roll(12) as u32).collect()).collect();
        let (asked, passed) = (BTreeMap::new(), BTreeMap::new());
        Load {
            runner,
            dice,
            setup,
            toy: (dynamic, states),
            memory,
            damaged,
            now,
            start,
            asked,
            passed,
            beginnings,
            reused: 0,
        }
    }

    /// A request that often begins as others do.
    fn request(&mut self) -> Request {
        let dice = &mut self.dice;
        let begin = &self.beginnings[dice.roll(3)];
        let cut = dice.of(&[0, 10, 63, 64, 65, 128, 150, 200, 230]).min(begin.len());
        let mut prompt = begin[..cut].to_vec();
        let (more, longer) = (1 + dice.roll(20), dice.one_in(4));
        prompt.extend((0..more).map(|_| 3 + dice.roll(12) as u32));
        if longer {
            prompt.extend(begin);
            prompt.truncate(self.setup.ctx - 1);
        }
        if dice.one_in(40) {
            prompt.push(BROKEN);
            prompt.drain(..prompt.len().saturating_sub(self.setup.ctx - 1));
        }
        let deadline =
            dice.one_in(12).then(|| self.start + self.now.get() + Duration::from_secs(dice.roll(150) as u64));
        let speculation = dice.one_in(3).then(|| Speculation { tokens: 1 + dice.roll(9), lookup: true, model: false });
        let most = if dice.one_in(5) { 150 } else { 12 };
        Request {
            prompt,
            max_tokens: Some(1 + dice.roll(most)),
            tenant: dice.roll(3) as u64 * dice.roll(2) as u64,
            deadline,
            speculation,
            ..Request::default()
        }
    }

    fn submit(&mut self) {
        let request = self.request();
        let id = self.runner.submit(request.clone()).expect("a request that fits");
        let asked = Asked { request, tokens: Vec::new(), cancelled: false, ended: false, started: false };
        self.asked.insert(id, asked);
    }

    fn cancel(&mut self) {
        let open: Vec<RequestId> = self.asked.iter().filter(|(_, a)| !a.ended).map(|(id, _)| *id).collect();
        if !open.is_empty() {
            let id = self.dice.of(&open);
            self.runner.cancel(id);
            self.asked.get_mut(&id).unwrap().cancelled = true;
        }
    }

    /// One step and all checks. False at the end.
    fn step(&mut self) -> bool {
        let Load { runner, asked, toy, damaged, start, now, memory, reused, .. } = self;
        let was_damaged = damaged.get();
        let heads = heads(&runner.scheduler);
        let steps = memory.borrow().steps;
        let mut ends = 0;
        let more = runner.step(&mut |id, event| {
            let a = asked.get_mut(&id).expect("events of what was asked");
            assert!(!a.ended, "{id:?} goes on after its end");
            let generated = a.tokens.len();
            match event {
                Event::Prefill { done, total } => assert!(done < total),
                Event::Token { id, .. } => a.tokens.push(id),
                Event::Finished { reason, usage, .. } => {
                    assert_eq!(usage.completion_tokens, generated);
                    *reused += usage.cached_tokens;
                    let cut = a.request.max_tokens == Some(generated) || a.request.prompt.len() + generated == 4 * PAGE;
                    assert_eq!(reason, if cut { FinishReason::Length } else { FinishReason::Cancelled });
                    assert!(cut || a.cancelled);
                    a.ended = true;
                }
                Event::Failed(e) => {
                    match e.kind() {
                        ErrorKind::Late => assert!(a.request.deadline.unwrap() <= *start + now.get()),
                        ErrorKind::File => assert!(was_damaged),
                        ErrorKind::NonFinite { .. } => assert_eq!(a.request.prompt.last(), Some(&BROKEN)),
                        other => panic!("{id:?}: {other:?}"),
                    }
                    a.ended = true;
                }
            }
            if a.ended {
                ends += 1;
                assert_eq!(a.tokens, alone(*toy, &a.request.prompt, a.tokens.len()), "{id:?}: not what it gives alone");
            }
        });
        let computed = memory.borrow().steps > steps;
        assert!(computed || ends > 0 || !more, "a step did nothing");
        self.fair(&heads);
        self.check();
        more
    }

    /// The first of a line that does not wait for another sees at most one of each other tenant start before it.
    fn fair(&mut self, heads: &[(RequestId, u64, bool)]) {
        let Load { runner, asked, passed, .. } = self;
        let still = self::heads(&runner.scheduler);
        let mut started = Vec::new();
        // Who started and gave way in one step has started, too.
        let all = runner.scheduler.running.iter().chain(runner.scheduler.waiting.iter());
        for s in all.filter(|s| s.has_started()) {
            let a = asked.get_mut(&s.id).unwrap();
            if !std::mem::replace(&mut a.started, true) {
                started.push(a.request.tenant);
            }
        }
        passed.retain(|id, _| still.iter().any(|h| h.0 == *id && h.2));
        for (id, tenant, _) in heads.iter().filter(|h| h.2 && still.contains(h)) {
            let seen = passed.entry(*id).or_default();
            for t in started.iter().filter(|t| *t != tenant) {
                *seen.entry(*t).or_default() += 1;
                assert!(seen[t] <= 1, "{id:?} of tenant {tenant} saw two of tenant {t} start before it");
            }
        }
    }

    /// Everything is held as often as it is counted, and what will be written belongs to one alone.
    fn check(&mut self) {
        let s: &mut Scheduler = &mut self.runner.scheduler;
        assert!(s.running.len() <= self.setup.max_sequences, "too many run");
        assert!(self.memory.borrow().most_rows <= self.setup.max_rows, "too many rows");
        let none = |s: &Sequence| s.pages.is_empty() && s.slot.is_none() && s.snapshots.is_empty() && s.cached == 0;
        assert!(s.waiting.iter().all(none), "who waits holds something");
        assert_eq!(s.waiting.iter().count(), s.waiting.len());
        let (pages, kept) = s.prefixes.held();
        let held = s.running.iter().flat_map(|r| &r.pages).chain(&pages);
        s.pages.check(held).unwrap_or_else(|e| panic!("pages: {e}"));
        let sequences: Vec<&Sequence> = s.running.iter().collect();
        let most = if self.toy.1 { self.setup.max_snapshots } else { 0 };
        s.slots.check(&sequences, &kept, most).unwrap_or_else(|e| panic!("{e}"));
        let mut whose = BTreeMap::new();
        for r in &s.running {
            let kin = (r.epoch, r.request.tenant);
            for page in &r.pages {
                assert_eq!(*whose.entry(*page).or_insert(kin), kin, "page {page} is shared by strangers");
            }
            assert!(r.cached <= r.tokens.len() && r.cached <= r.pages.len() * PAGE, "{:?}", r.id);
            let written = &r.pages[r.cached / PAGE..];
            assert!(written.iter().all(|p| !s.pages.is_shared(*p)), "{:?} would write a shared page", r.id);
        }
        assert!(s.running.is_sorted_by(|a, b| a.id < b.id), "in order of arrival");
    }

    fn run(&mut self) {
        let (mut left, burst) = (8 + self.dice.roll(16), self.dice.of(&[1, 2, 5, 12]));
        while left > 0 {
            for _ in 0..self.dice.roll(burst + 1).min(left) {
                self.submit();
                left -= 1;
            }
            if self.dice.one_in(12) {
                self.cancel();
            }
            self.damaged.set(self.dice.one_in(200));
            if self.dice.one_in(150) {
                self.runner.scheduler.preempt_all();
            }
            for _ in 0..1 + self.dice.roll(6) {
                self.step();
            }
        }
        self.damaged.set(false);
        // Nobody starves: each token takes a few rows at most, were it computed again after every step of others.
        let work = self.asked.values().map(|a| a.request.prompt.len() + a.request.max_tokens.unwrap()).sum::<usize>();
        let bound = 50 + 4 * work;
        assert!((0..bound).any(|_| !self.step()), "some request does not end within {bound} steps");
        assert!(self.asked.values().all(|a| a.ended), "a request did not end");
        assert_no_page_is_lost(&mut self.runner);
    }
}

/// The first of each tenant's line, and whether it only waits for room.
fn heads(s: &Scheduler) -> Vec<(RequestId, u64, bool)> {
    let mut seen = BTreeSet::new();
    let firsts = s.waiting.iter().filter(|w| !w.has_started() && seen.insert(w.request.tenant));
    firsts.map(|w| (w.id, w.request.tenant, w.awaits.is_none())).collect()
}

#[test]
fn random_loads_hold_every_promise() {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds = match number("PONDERA_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PONDERA_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let (mut shared, mut preempted) = (0, 0);
    for seed in seeds.clone() {
        let told = std::panic::catch_unwind(|| {
            let mut load = Load::new(seed);
            load.run();
            (load.reused, load.runner.scheduler.preemptions)
        });
        let Ok((s, p)) = told else { panic!("seed {seed}") };
        (shared, preempted) = (shared + s, preempted + p);
    }
    println!("{} loads: {shared} tokens were shared, {preempted} sequences gave way", seeds.count());
}
