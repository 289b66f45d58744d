//! The thread pool: one job at a time, tasks claimed one by one by whoever is free.
//!
//! The caller works too and never waits for a helper that did not come: when all tasks are claimed it closes the job and
//! waits only for those at work. Helpers spin for at most [`SPIN`] after a job, then park, so a shared core is given
//! back; no job allocates. Does not know what a task is.
use std::{
    cell::UnsafeCell,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

/// How long a helper looks for the next job before it parks: longer than the serial gaps of a decode step, short
/// enough to be no burden on a shared core.
pub const SPIN: Duration = Duration::from_micros(40);

/// A task: called with the thread's index (0 is the caller) and the task's.
type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Whether anything is computed: odd within a job, another number after each.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU32);

impl Pulse {
    /// The number now.
    pub fn now(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Whether a job was under way at `number`.
    pub fn is_busy(number: u32) -> bool {
        number % 2 == 1
    }

    /// Written by the pool's own thread alone.
    fn beat(&self) {
        self.0.store(self.now().wrapping_add(1), Relaxed);
    }
}

/// Threads that wait for work.
pub struct Pool {
    /// For those who work while the pool does not.
    pub pulse: Arc<Pulse>,
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// The pool belongs to the thread that made it, which helpers unpark.
    here: PhantomData<*const ()>,
}

struct Shared {
    /// Written while no job is open and nobody is `active`.
    job: UnsafeCell<Option<(*const Task<'static>, usize)>>,
    /// Odd while a job is open.
    epoch: AtomicU32,
    next: AtomicUsize,
    active: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    caller: Thread,
    caller_waits: AtomicBool,
    parked: Box<[AtomicBool]>,
}

// SAFETY: `job` is written by the caller alone, while closed and idle, and read by helpers that are counted in `active`
// after they saw the job open; the task it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads`, the caller's included.
    pub fn new(threads: usize) -> Pool {
        let helpers = threads.saturating_sub(1);
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            epoch: AtomicU32::new(0),
            next: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            caller: thread::current(),
            caller_waits: AtomicBool::new(false),
            parked: (0..helpers).map(|_| AtomicBool::new(false)).collect(),
        });
        let spawn = |i: usize| {
            let shared = shared.clone();
            thread::Builder::new().name(format!("pondera-cpu-{}", i + 1)).spawn(move || shared.help(i)).ok()
        };
        // Where the system grants fewer threads, the rest of the work stays with those that are there.
        let helpers = (0..helpers).map_while(spawn).collect();
        Pool { pulse: Arc::default(), shared, helpers, here: PhantomData }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `task(thread, i)` once for each `i` below `tasks` and returns when all are done. Not to be called from
    /// within a task.
    pub fn run(&self, tasks: usize, task: &Task<'_>) {
        self.pulse.beat();
        let busy = Busy(&self.pulse);
        if tasks <= 1 || self.helpers.is_empty() {
            return (0..tasks).for_each(|i| task(0, i));
        }
        let shared = &*self.shared;
        // SAFETY: no job is open and nobody is active: the last job's guard waited. The lifetime is forgotten until the
        // guard below has waited for all who use it.
        unsafe {
            *shared.job.get() = Some((std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task), tasks));
        }
        shared.next.store(0, SeqCst);
        shared.epoch.fetch_add(1, SeqCst);
        let guard = Close(shared);
        for (helper, parked) in self.helpers.iter().zip(&shared.parked).take(tasks - 1) {
            if parked.load(SeqCst) {
                helper.thread().unpark();
            }
        }
        shared.work(0, task, tasks);
        drop(guard);
        drop(busy);
        assert!(!shared.panicked.swap(false, SeqCst), "a task of the thread pool panicked");
    }
}

impl Shared {
    fn work(&self, thread: usize, task: &Task<'_>, tasks: usize) {
        loop {
            let i = self.next.fetch_add(1, SeqCst);
            if i >= tasks {
                return;
            }
            task(thread, i);
        }
    }

    /// A helper's life.
    fn help(&self, index: usize) {
        let mut done = 0;
        let mut idle = Instant::now();
        while !self.stop.load(SeqCst) {
            let epoch = self.epoch.load(SeqCst);
            if epoch % 2 == 1 && epoch != done {
                done = epoch;
                self.join(index + 1, epoch);
                idle = Instant::now();
            } else if idle.elapsed() < SPIN {
                (0..16).for_each(|_| std::hint::spin_loop());
            } else {
                self.parked[index].store(true, SeqCst);
                if self.epoch.load(SeqCst) == epoch && !self.stop.load(SeqCst) {
                    thread::park();
                }
                self.parked[index].store(false, SeqCst);
                idle = Instant::now();
            }
        }
    }

    /// Takes part in the job of `epoch`, if it is still open.
    fn join(&self, thread: usize, epoch: u32) {
        self.active.fetch_add(1, SeqCst);
        let leave = Leave(self);
        if self.epoch.load(SeqCst) == epoch {
            // SAFETY: the job is open and this thread is counted: the caller neither changes it nor returns.
            if let Some((task, tasks)) = unsafe { *self.job.get() } {
                // SAFETY: as above: the task lives until the caller returns.
                let task = unsafe { &*task };
                let run = std::panic::AssertUnwindSafe(|| self.work(thread, task, tasks));
                if std::panic::catch_unwind(run).is_err() {
                    self.panicked.store(true, SeqCst);
                }
            }
        }
        drop(leave);
    }
}

/// A job under way, also when a task panics.
struct Busy<'a>(&'a Pulse);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.beat();
    }
}

/// A helper's place in a job.
struct Leave<'a>(&'a Shared);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, SeqCst) == 1 && self.0.caller_waits.load(SeqCst) {
            self.0.caller.unpark();
        }
    }
}

/// Closes the job and waits for those at work, also when the caller's own task panics.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        let shared = self.0;
        shared.epoch.fetch_add(1, SeqCst);
        let start = Instant::now();
        while shared.active.load(SeqCst) != 0 && start.elapsed() < SPIN {
            (0..16).for_each(|_| std::hint::spin_loop());
        }
        if shared.active.load(SeqCst) != 0 {
            shared.caller_waits.store(true, SeqCst);
            while shared.active.load(SeqCst) != 0 {
                thread::park();
            }
            shared.caller_waits.store(false, SeqCst);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper catches its tasks' panics; there is nothing to report from its end.
            let _ = helper.join();
        }
    }
}

/// Physical cores that this process may run on: its affinity and its group's quota respected, hardware threads of
/// one core counted once.
pub fn physical_cores() -> usize {
    let allowed = thread::available_parallelism().map_or(1, |n| n.get());
    let read = |p: String| std::fs::read_to_string(p).ok();
    let status = read("/proc/self/status".into()).unwrap_or_default();
    let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap_or("").trim().to_string();
    let mut cores: Vec<String> = cpu_list(&list)
        .filter_map(|cpu| read(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")))
        .collect();
    cores.sort();
    cores.dedup();
    if cores.is_empty() { allowed } else { cores.len().min(allowed) }
}

/// Nodes that have memory, as bits; none where the system does not tell.
#[cfg(target_os = "linux")]
pub fn memory_nodes() -> u64 {
    let list = std::fs::read_to_string("/sys/devices/system/node/has_memory").unwrap_or_default();
    cpu_list(list.trim()).filter(|n| *n < 64).fold(0, |bits, n| bits | 1 << n)
}

/// `0-3,8` as numbers.
fn cpu_list(list: &str) -> impl Iterator<Item = usize> {
    list.split(',')
        .filter_map(|part| {
            let (a, b) = part.split_once('-').unwrap_or((part, part));
            Some(a.trim().parse::<usize>().ok()?..=b.trim().parse::<usize>().ok()?.min(1 << 16))
        })
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_in_every_job() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads);
            for round in 0..2000 {
                let tasks = round % 17;
                let hits: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|thread, i| {
                    assert!(thread < threads);
                    hits[i].fetch_add(1, SeqCst);
                });
                assert!(hits.iter().all(|h| h.load(SeqCst) == 1), "threads {threads} round {round}");
                if round % 500 == 0 {
                    thread::sleep(Duration::from_millis(1)); // helpers park in between
                }
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        for bad in 0..8 {
            let run = std::panic::AssertUnwindSafe(|| pool.run(8, &|_, i| assert!(i != bad, "task {bad}")));
            assert!(std::panic::catch_unwind(run).is_err());
            let n = AtomicUsize::new(0);
            pool.run(8, &|_, _| {
                n.fetch_add(1, SeqCst);
            });
            assert_eq!(n.load(SeqCst), 8);
        }
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpu_list("0-2,5").collect::<Vec<_>>(), [0, 1, 2, 5]);
        assert_eq!(cpu_list("").count(), 0);
        assert!(physical_cores() >= 1);
    }
}
