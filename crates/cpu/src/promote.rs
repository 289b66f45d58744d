//! Promotion: weights that were opened as their files have them move, piece by piece, into packed memory.
//!
//! ```text
//! first product of a weight      it joins the queue; products read the file's bytes
//! between steps, or while idle   a few rows are packed, the file's pages behind them dropped
//! all rows are there             products read the packed bytes: the same numbers
//! ```
//! A big plain linear does not wait for its end: the rows packed so far are multiplied from there, the others from the
//! file, so that no weight lies in memory twice. A product of many rows packs its weight first, at once: that pays within
//! the product. What was read from a file that changed meanwhile is never published.
//!
//! Owns: the queue, the helper that works while nothing is computed, and packed memory ([`Memory`]). Does not own: the
//! layout and its kernels ([`crate::packed`]), when a step ends (`pondera-engine`).
use crate::{
    Isa,
    ceiling::{READ_BYTES, read_sum},
    memory::Memory,
    packed::{self, GROUP},
    pool::Pulse,
    product::{Engine, Ptr, Weights},
};
use pondera_ops::{Layout, Settled, W, Weight};
use pondera_quant::{Bytes, Matrix};
use std::{
    cell::{Cell, RefCell},
    hint::black_box,
    slice,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A product of so many rows gains more than packing its weight costs.
const AT_ONCE_ROWS: usize = 128;
/// Bytes of a task: some tens of microseconds.
const TASK: usize = 128 << 10;
/// Bytes per thread between looks at the clock.
const SLICE: usize = 1 << 20;
/// Bytes of the helper between looks at whether it is alone.
const HELPER_SLICE: usize = 256 << 10;
/// So long must nothing be computed before the helper begins.
const CALM: Duration = Duration::from_millis(10);
/// Rows read from a table whose product is packed, until its pages are dropped again.
const TABLE_ROWS: usize = 512;

/// Packed bytes below which caches may hold them all.
const READ_LEAST: usize = 256 << 20;
/// Bytes that a thread reads at a time to see how fast that goes.
const READ_PIECE: usize = 4 << 20;

/// Runs tasks `0 .. n`.
type Run<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync));

/// Where a weight's groups lie, packed; kept in [`Weight::kept`]. No groups where it stays as it is.
struct Place {
    groups: Box<[Slot]>,
    /// Used by plain linears, which take the packed part of the rows before the rest is there.
    by_rows: bool,
    /// Rows read from the source since its pages were dropped.
    read: AtomicUsize,
    /// What the slots point into.
    memory: Arc<Memory>,
}

#[derive(Default)]
struct Slot {
    /// Null until begun.
    base: AtomicPtr<u8>,
    /// Rows packed. Published after their bytes.
    rows: AtomicUsize,
    /// The others stay as they are.
    stays: AtomicBool,
}

impl Slot {
    /// Whether rows are to be packed yet.
    fn is_open(&self, w: &Weight) -> bool {
        self.rows.load(Relaxed) < w.out && !self.stays.load(Relaxed)
    }
}

impl Place {
    fn of(w: &Weight) -> Option<&Place> {
        w.kept.get()?.downcast_ref()
    }
}

/// What promotes the weights of one backend.
pub struct Promoter {
    layout: Cell<Layout>,
    shared: Arc<Shared>,
    helper: RefCell<Option<JoinHandle<()>>>,
}

struct Shared {
    isa: Isa,
    queue: Mutex<Queue>,
    pulse: Arc<Pulse>,
    stop: AtomicBool,
}

struct Queue {
    memory: Arc<Memory>,
    /// In order of first use.
    weights: Vec<W>,
    /// Weight and group that are next.
    next: (usize, usize),
    settled: Settled,
    /// Nothing more will be packed.
    stopped: bool,
}

impl Promoter {
    /// Promotes nothing until [`Promoter::lay_out`] says so.
    pub fn new(isa: Isa, pulse: Arc<Pulse>) -> Promoter {
        let (memory, settled) = (Arc::new(Memory::default()), Settled::default());
        let queue = Mutex::new(Queue { memory, weights: Vec::new(), next: (0, 0), settled, stopped: false });
        let shared = Arc::new(Shared { isa, queue, pulse, stop: AtomicBool::new(false) });
        Promoter { layout: Cell::default(), shared, helper: RefCell::default() }
    }

    /// The layout from here on.
    pub fn lay_out(&self, layout: Layout) {
        self.layout.set(layout);
    }

    /// Rows of group 0 of `w` that a plain linear of `n` rows takes packed; all or none of any other weight.
    pub fn packed_rows(&self, engine: &Engine, w: &W, n: usize) -> usize {
        let Some(place) = self.place(engine, w, true) else { return 0 };
        if n >= self.at_once() {
            self.finish(engine, w, place, 0);
        }
        place.groups.first().map_or(0, |s| s.rows.load(Acquire))
    }

    /// Products of `n` rows with group `g`, if it is packed.
    pub fn packed(&self, engine: &Engine, w: &W, g: usize, n: usize) -> Option<Weights> {
        let place = self.place(engine, w, false)?;
        let slot = place.groups.get(g)?;
        if n >= self.at_once() {
            self.finish(engine, w, place, g);
        }
        (slot.rows.load(Acquire) == w.out).then(|| self.head(engine, w, g)).flatten()
    }

    /// Products with the packed rows of group `g`, however many they are.
    pub fn head(&self, engine: &Engine, w: &W, g: usize) -> Option<Weights> {
        let base = Place::of(w)?.groups.get(g)?.base.load(Relaxed);
        engine.ran("packed panels", w.groups[g].format_name());
        // SAFETY: the memory lives as long as the weight, which holds it; rows are written before they are published.
        unsafe { engine.packed(&w.groups[g], base) }
    }

    /// Where `w` lies; at its first product it joins the queue.
    fn place<'w>(&self, engine: &Engine, w: &'w W, by_rows: bool) -> Option<&'w Place> {
        if self.layout.get() == Layout::Mapped {
            return None;
        }
        if w.kept.get().is_none() {
            self.register(engine, w, by_rows);
        }
        Place::of(w)
    }

    fn register(&self, engine: &Engine, w: &W, by_rows: bool) {
        // SAFETY: the pointer is not used.
        let fits = |m: &Matrix| unsafe { engine.packed(m, std::ptr::null()) }.and_then(|_| size(m)).is_some();
        let count = if w.groups.iter().all(fits) { w.groups.len() } else { 0 };
        let groups = (0..count).map(|_| Slot::default()).collect();
        let mut queue = self.shared.lock();
        let memory = queue.memory.clone();
        let place = Place { groups, by_rows: by_rows && count == 1, read: AtomicUsize::new(0), memory };
        if w.kept.set(Arc::new(place)).is_ok() && count > 0 && !queue.stopped {
            queue.weights.push(w.clone());
            queue.settled.left_bytes += w.groups.iter().filter_map(size).map(|(all, _)| all as u64).sum::<u64>();
            drop(queue);
            self.wake();
        }
    }

    fn at_once(&self) -> usize {
        match self.layout.get() {
            Layout::Mapped => usize::MAX,
            Layout::Auto => AT_ONCE_ROWS,
            Layout::Packed => 1,
        }
    }

    /// Packs what is left of a group.
    fn finish(&self, engine: &Engine, w: &W, place: &Place, g: usize) {
        let Some(slot) = place.groups.get(g).filter(|s| s.is_open(w)) else { return };
        let start = Instant::now();
        let mut queue = self.shared.lock();
        while slot.is_open(w) && queue.pack(self.shared.isa, w, place, g, usize::MAX, &on(engine)) {}
        queue.settled.seconds += start.elapsed().as_secs_f64();
    }

    /// Goes on for about `budget`; with none it only looks.
    pub fn settle(&self, engine: &Engine, budget: Duration) -> Settled {
        let start = Instant::now();
        let mut queue = self.shared.lock();
        if queue.settled.left_bytes > 0 && !budget.is_zero() {
            let most = SLICE * engine.pool.threads();
            while queue.step(self.shared.isa, most, &on(engine)) && start.elapsed() < budget {}
            queue.settled.seconds += start.elapsed().as_secs_f64();
        }
        queue.settled
    }

    /// Bytes per second at which all threads read packed memory now; none where there is less than [`READ_LEAST`] of it.
    pub fn read_speed(&self, engine: &Engine) -> Option<f64> {
        // Whoever packs holds the queue: nobody writes meanwhile.
        let queue = self.shared.lock();
        let mut pieces = Vec::new();
        for (start, len) in queue.memory.used() {
            for from in (0..len / READ_PIECE).map(|i| i * READ_PIECE) {
                // SAFETY: within the piece, which lives as long as the queue's memory and is not written meanwhile.
                pieces.push(unsafe { slice::from_raw_parts(start.add(from), READ_PIECE) });
            }
        }
        pieces.truncate(READ_BYTES / READ_PIECE);
        let bytes = pieces.len() * READ_PIECE;
        if bytes < READ_LEAST {
            return None;
        }
        let start = Instant::now();
        engine.pool.run(pieces.len(), &|_, i| {
            black_box(read_sum(pieces[i]));
        });
        Some(bytes as f64 / start.elapsed().as_secs_f64())
    }

    /// Rows of `table` are about to be read one by one. Where a packed product stands in for the rest of it, pages that
    /// earlier rows brought back are dropped now and then.
    pub fn reading(&self, table: &Weight, rows: usize) {
        let Some(place) = Place::of(table) else { return };
        let begun = place.groups.iter().any(|s| s.rows.load(Relaxed) > 0);
        if begun && place.read.fetch_add(rows, Relaxed) >= TABLE_ROWS {
            place.read.store(0, Relaxed);
            forget(table, place);
        }
    }

    /// Wakes the helper, which works while nothing is computed.
    fn wake(&self) {
        let mut helper = self.helper.borrow_mut();
        match &*helper {
            Some(h) => h.thread().unpark(),
            None => {
                let shared = self.shared.clone();
                let run = move || shared.help();
                // Without it, weights are packed between steps alone.
                *helper = thread::Builder::new().name("pondera-promote".into()).spawn(run).ok();
            }
        }
    }
}

impl Drop for Promoter {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        if let Some(helper) = self.helper.take() {
            helper.thread().unpark();
            // It has nothing to report.
            let _ = helper.join();
        }
    }
}

/// Tasks on the backend's threads.
fn on(engine: &Engine) -> impl Fn(usize, &(dyn Fn(usize) + Sync)) {
    |tasks, task| engine.pool.run(tasks, &|_, i| task(i))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The helper's life.
    fn help(&self) {
        let mut seen = self.pulse.now();
        while !self.stop.load(SeqCst) {
            if self.lock().settled.left_bytes == 0 {
                thread::park();
                continue;
            }
            let now = self.pulse.now();
            if now != seen || Pulse::is_busy(now) {
                seen = now;
                thread::park_timeout(CALM);
                continue;
            }
            let start = Instant::now();
            let mut queue = self.lock();
            queue.step(self.isa, HELPER_SLICE, &|tasks, task| (0..tasks).for_each(task));
            queue.settled.seconds += start.elapsed().as_secs_f64();
        }
    }
}

impl Queue {
    /// Packs about `most` bytes of what is next. False if there is nothing left.
    fn step(&mut self, isa: Isa, most: usize, run: Run<'_>) -> bool {
        while !self.stopped {
            let (i, g) = self.next;
            let Some(w) = self.weights.get(i).cloned() else { break };
            let Some((place, slot)) = Place::of(&w).and_then(|p| Some((p, p.groups.get(g)?))) else {
                self.next = (i + 1, 0);
                continue;
            };
            if slot.is_open(&w) {
                return self.pack(isa, &w, place, g, most, run);
            }
            self.next.1 += 1;
        }
        false
    }

    /// Packs about `most` bytes of a group, publishes them and drops their source. False if that cannot be.
    fn pack(&mut self, isa: Isa, w: &Weight, place: &Place, g: usize, most: usize, run: Run<'_>) -> bool {
        let (slot, m) = (&place.groups[g], &w.groups[g]);
        let (Some((all, panel)), false) = (size(m), self.stopped) else { return false };
        if slot.base.load(Relaxed).is_null() {
            let Some(base) = place.memory.take(all) else { return self.stop("there is no memory for it") };
            slot.base.store(base, Release);
        }
        let first = slot.rows.load(Relaxed) / GROUP;
        let end = (all / panel).min(first + (most / panel).max(1));
        let per_task = (TASK / panel).max(1);
        let (to, good) = (Ptr(slot.base.load(Relaxed)), AtomicBool::new(true));
        run((end - first).div_ceil(per_task), &|i| {
            let from = first + i * per_task;
            let until = (from + per_task).min(end);
            // SAFETY: panels of memory that was taken for this group; they are this task's alone, and nobody reads them
            // before they are published.
            let dst = unsafe { slice::from_raw_parts_mut(to.get().add(from * panel), (until - from) * panel) };
            if !packed::pack(isa, m, from..until, dst) {
                good.store(false, Relaxed);
            }
        });
        // After all was read: whoever writes to a file changes its time first.
        if !intact(m) {
            return self.stop("its file was changed");
        }
        if !good.load(Relaxed) {
            tracing::debug!("cpu: {} stays as it is: it holds values that the packed kernels do not know", w.name);
            slot.stays.store(true, Relaxed);
            self.settled.left_bytes -= (all - first * panel) as u64;
            if self.settled.left_bytes == 0 {
                self.end();
            }
            return true;
        }
        let rows = (end * GROUP).min(w.out);
        slot.rows.store(rows, Release);
        let moved = ((end - first) * panel) as u64;
        self.settled.packed_bytes += moved;
        self.settled.left_bytes -= moved;
        if place.by_rows {
            forget_rows(m, first * GROUP, rows);
        } else if rows == w.out {
            forget_rows(m, 0, rows);
        }
        if self.settled.left_bytes == 0 {
            self.end();
        }
        true
    }

    /// All is packed. Reading on dropped pages brings their neighbours back: once more they all go.
    fn end(&mut self) {
        for w in self.weights.drain(..) {
            Place::of(&w).iter().for_each(|p| forget(&w, p));
        }
        self.next = (0, 0);
        let Settled { packed_bytes, seconds, .. } = self.settled;
        tracing::debug!("cpu: {} MB of weights packed in {seconds:.2} s of work", packed_bytes >> 20);
    }

    fn stop(&mut self, why: &str) -> bool {
        let left = self.settled.left_bytes >> 20;
        tracing::warn!("cpu: {left} MB of weights stay as they are, which is slower: {why}");
        self.stopped = true;
        self.settled.left_bytes = 0;
        self.weights = Vec::new();
        false
    }
}

/// Bytes of a packed matrix and of its panels of [`GROUP`] rows; none where it has no packed layout.
fn size(m: &Matrix) -> Option<(usize, usize)> {
    let panel = packed::group_bytes_of(m)?;
    Some((m.out().div_ceil(GROUP).checked_mul(panel)?, panel)).filter(|(all, _)| *all > 0)
}

/// Drops the source of all packed groups of a weight.
fn forget(w: &Weight, place: &Place) {
    for (m, slot) in w.groups.iter().zip(&place.groups) {
        let rows = slot.rows.load(Relaxed);
        if place.by_rows || rows == w.out {
            forget_rows(m, 0, rows);
        }
    }
}

/// Whether what `m` is made of is still what it was.
fn intact(m: &Matrix) -> bool {
    match m {
        Matrix::Rows { bytes, .. } | Matrix::Strided { bytes, .. } => bytes.intact(),
        Matrix::Packed { weight, .. } => weight.intact(),
    }
}

/// Drops the pages of some rows, unless other rows lie between them.
fn forget_rows(m: &Matrix, from: usize, to: usize) {
    let Matrix::Rows { format, inp, bytes, stride, .. } = m else {
        if let Matrix::Packed { weight, first, step: 1, .. } = m {
            weight.forget(first + from..first + to);
        }
        return;
    };
    if format.row_bytes(*inp) == Some(*stride) && from < to {
        Bytes::forget(bytes, from * stride..to * stride);
    }
}
