//! Progress on standard error: only for a person at a terminal, and only for work longer than a second.
use crate::{Context, out};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Work shorter than this shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

fn wanted(context: &Context) -> bool {
    !context.out.quiet() && out::stderr_is_terminal()
}

/// A bar over a known amount of work.
pub struct Bar {
    bar: Option<ProgressBar>,
    enabled: bool,
    total: u64,
    what: &'static str,
    bytes: bool,
    start: Instant,
}

impl Bar {
    /// Counts to `total` of `what` (`windows`, `tensors`).
    pub fn new(context: &Context, what: &'static str, total: u64) -> Bar {
        Bar { bar: None, enabled: wanted(context), total, what, bytes: false, start: Instant::now() }
    }

    /// Counts bytes of `what`.
    pub fn bytes(context: &Context, what: &'static str, total: u64) -> Bar {
        let mut bar = Bar::new(context, what, total);
        bar.bytes = true;
        bar
    }

    /// `done` of the total.
    pub fn set(&mut self, done: u64) {
        if !self.enabled || (self.bar.is_none() && self.start.elapsed() < PATIENCE) {
            return;
        }
        let (total, what, bytes, start) = (self.total, self.what, self.bytes, self.start);
        let bar = self.bar.get_or_insert_with(|| {
            let counts = if bytes { "{bytes}/{total_bytes}  {bytes_per_sec}" } else { "{pos}/{len}  {per_sec}" };
            let style = ProgressStyle::with_template(&format!("{{msg}} {{bar:32.cyan/dim}} {counts}  {{eta}} left"));
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.set_message(what);
            bar.with_elapsed(start.elapsed())
        });
        bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A spinner over work that reports nothing until it is done.
pub struct Spinner {
    stop: Option<(mpsc::Sender<()>, thread::JoinHandle<()>)>,
}

impl Spinner {
    /// Says `what` while it lives.
    pub fn new(context: &Context, what: String) -> Spinner {
        if !wanted(context) {
            return Spinner { stop: None };
        }
        let (send, receive) = mpsc::channel::<()>();
        let turn = move || {
            if receive.recv_timeout(PATIENCE) != Err(mpsc::RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_message(what);
            while receive.recv_timeout(Duration::from_millis(100)) == Err(mpsc::RecvTimeoutError::Timeout) {
                bar.tick();
            }
            bar.finish_and_clear();
        };
        // Without a thread there is no spinner; the work goes on.
        let handle = thread::Builder::new().stack_size(256 << 10).spawn(turn).ok();
        Spinner { stop: handle.map(|h| (send, h)) }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some((send, handle)) = self.stop.take() {
            drop(send);
            let _ = handle.join();
        }
    }
}
