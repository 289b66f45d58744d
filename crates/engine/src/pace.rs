//! How many rows a step has time for: learnt from the steps before, because it depends on the machine, on what else runs there,
//! and on how long the sequences are.
use crate::scheduler::{PROMPT_ROWS_MIN, ROWS_MIN};
use std::time::Duration;

/// Of the time that a step may take, the part that is planned for: some steps take longer than those before them.
const PLANNED: f64 = 0.85;

/// Rows that fit, as the last steps tell.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    rows: Option<f64>,
    /// A step took longer than it may that had no rows of prompts.
    slow: bool,
}

impl Pace {
    /// Rows that fit into a step of `most`; before anything is known, few.
    pub fn rows(&self, most: Duration) -> usize {
        let unknown = if most.is_zero() { 0.0 } else { UNKNOWN };
        self.rows.unwrap_or(unknown) as usize
    }

    /// Rows of prompts that any step may have: they must end some day. Where a token alone takes longer than a step may, some
    /// more cost little.
    pub fn least(&self) -> usize {
        if self.slow { ROWS_MIN } else { PROMPT_ROWS_MIN }
    }

    /// A step without rows of prompts took `time`, of `most`.
    pub fn learn_alone(&mut self, time: Duration, most: Duration) {
        self.slow = time > most;
    }

    /// A step of so many rows took `time`, of `most`; `hurried`: it was one that had to be done in time. Part of a step's time
    /// does not depend on its rows, so that more rows take less than in proportion: a greater number that follows is safe, and
    /// it may double from step to step. A smaller one comes at once, but from a large step that nobody waited for it would be
    /// too great, so such a step tells only where nothing is known.
    pub fn learn(&mut self, rows: usize, time: Duration, most: Duration, hurried: bool) {
        let fit = rows as f64 * PLANNED * most.as_secs_f64() / time.as_secs_f64().max(1e-9);
        self.rows = match self.rows {
            Some(before) if hurried => Some(fit.min(2.0 * before.max(1.0))),
            Some(before) => Some(before),
            None => Some(fit),
        };
    }
}

/// Rows of the first step.
const UNKNOWN: f64 = 32.0;

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_millis(150);

    /// A machine on which a step takes `base` and `row` for each row, in milliseconds.
    fn run(pace: &mut Pace, base: f64, row: f64, steps: usize) -> f64 {
        let mut last = 0.0;
        for _ in 0..steps {
            let rows = pace.rows(MOST).max(1);
            last = base + row * rows as f64;
            pace.learn(rows, Duration::from_secs_f64(last / 1000.0), MOST, true);
        }
        last
    }

    #[test]
    fn steps_come_near_their_time_and_stay_within() {
        for (base, row) in [(60.0, 5.0), (10.0, 0.2), (33.0, 8.0), (0.0, 1.0)] {
            let mut pace = Pace::default();
            // A prompt alone came first.
            let alone = Duration::from_secs_f64((base + 512.0 * row) / 1000.0);
            pace.learn(512, alone, MOST, false);
            run(&mut pace, base, row, 2);
            pace.learn(512, alone, MOST, false);
            for _ in 0..20 {
                let took = run(&mut pace, base, row, 1);
                assert!(took <= 150.0, "{base} {row}: {took}");
            }
            let took = run(&mut pace, base, row, 1);
            assert!(took > 100.0, "{base} {row}: {took}");
        }
    }

    #[test]
    fn what_slows_down_is_followed_at_once_and_back() {
        let mut pace = Pace::default();
        run(&mut pace, 20.0, 2.0, 20);
        let quick = pace.rows(MOST);
        assert!(run(&mut pace, 40.0, 4.0, 2) <= 150.0);
        run(&mut pace, 20.0, 2.0, 8);
        assert!(pace.rows(MOST).abs_diff(quick) <= 1, "{} {quick}", pace.rows(MOST));
    }

    #[test]
    fn a_step_too_slow_for_any_row_says_so() {
        let mut pace = Pace::default();
        run(&mut pace, 400.0, 50.0, 5);
        assert!(pace.rows(MOST) <= 1);
        assert_eq!(Pace::default().rows(Duration::ZERO), 0);
    }
}
