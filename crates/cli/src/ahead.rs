//! Guessing tokens ahead (`--draft`, `--lookup`): the flags, what `--json` says of it, and its rows of `bench`.
//!
//! Does not own: the guessing itself (`pondera-engine`).
use crate::{
    commands::{Spread, spread},
    error::Result,
    interrupt::Listening,
    load::Loaded,
    progress::Bar,
    view::{Side, Table, three},
};
use pondera_engine::{Guesses, Request, SPECULATION_MAX, Speculation};
use serde::Serialize;
use serde_json::{Value, json};

/// How tokens are guessed ahead; several are verified in one step. Changes no result.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Speculation")]
pub struct Ahead {
    /// Guess tokens ahead with a smaller model of the same vocabulary; the answer stays the same
    #[arg(long, value_name = "MODEL")]
    pub draft: Option<String>,
    /// Guess tokens ahead from what followed them earlier in the text; the answer stays the same
    #[arg(long)]
    pub lookup: bool,
    /// Most tokens that --draft and --lookup guess per step [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=SPECULATION_MAX as i64))]
    pub draft_tokens: Option<u32>,
}

impl Ahead {
    /// What a request asks for; nothing without `--draft` and `--lookup`.
    pub fn speculation(&self) -> Option<Speculation> {
        let (lookup, model) = (self.lookup, self.draft.is_some());
        let tokens = self.draft_tokens.map_or(Speculation::default().tokens, |n| n as usize);
        (lookup || model).then_some(Speculation { tokens, lookup, model })
    }

    /// Each way of guessing that is asked for, then all of them together.
    pub fn each(&self) -> Vec<(&'static str, Speculation)> {
        let Some(all) = self.speculation() else { return Vec::new() };
        let ways = [("lookup", true, false), ("draft", false, true), ("lookup + draft", true, true)];
        let asked = ways.into_iter().filter(|(_, l, m)| l <= &all.lookup && m <= &all.model);
        asked.map(|(name, lookup, model)| (name, Speculation { lookup, model, ..all })).collect()
    }
}

/// What guessing did, for `--json`.
pub fn report(g: &Guesses, completion_tokens: usize) -> Value {
    json!({ "drafted": g.drafted, "accepted": g.accepted, "acceptance": g.acceptance(), "steps": g.steps,
        "tokens_per_step": per_step(g, completion_tokens) })
}

/// Tokens per step after the first, which belongs to the prompt; 1 without guesses.
fn per_step(g: &Guesses, completion_tokens: usize) -> f64 {
    if g.steps == 0 { 1.0 } else { (completion_tokens - 1) as f64 / g.steps as f64 }
}

/// A request with and without guesses, as `bench --json` prints it.
#[derive(Debug, Serialize)]
pub struct Row {
    test: String,
    plain_tps: Spread,
    tps: Spread,
    /// The second median over the first.
    gain: f64,
    drafted: usize,
    accepted: usize,
    acceptance: f64,
    steps: usize,
    tokens_per_step: f64,
}

/// Measures `request` with and without guesses, in turn.
pub fn measure(
    loaded: &mut Loaded,
    test: String,
    request: &Request,
    speculation: Speculation,
    repeat: u32,
    listening: &Listening,
    mut bar: Bar,
) -> Result<Row> {
    let mut speeds = [Vec::new(), Vec::new()];
    let (mut guesses, mut made) = (Guesses::default(), 0);
    // The first run of each is not counted.
    for n in 0..=repeat {
        for (i, speculation) in [None, Some(speculation)].into_iter().enumerate() {
            let request = Request { speculation, ..request.clone() };
            let done = loaded.generate(request, listening, &mut |_| Ok(()))?;
            listening.check()?;
            if n > 0 {
                speeds[i].push(done.timings.decode_tps);
            }
            (guesses, made) = (done.guesses, done.usage.completion_tokens);
            bar.set(u64::from(n) * 2 + i as u64 + 1);
        }
    }
    let [plain_tps, tps] = speeds.map(spread);
    Ok(Row {
        test,
        plain_tps,
        tps,
        gain: tps.median / plain_tps.median.max(f64::MIN_POSITIVE),
        drafted: guesses.drafted,
        accepted: guesses.accepted,
        acceptance: guesses.acceptance(),
        steps: guesses.steps,
        tokens_per_step: per_step(&guesses, made),
    })
}

/// The rows for a person.
pub fn draw(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        ("guessing ahead", Side::Left),
        ("tok/s", Side::Right),
        ("without", Side::Right),
        ("gain", Side::Right),
        ("guesses right", Side::Right),
        ("tokens per step", Side::Right),
    ]);
    for r in rows {
        table.row(vec![
            r.test.clone(),
            three(r.tps.median),
            three(r.plain_tps.median),
            format!("{:.2} ×", r.gain),
            format!("{} of {} ({:.0} %)", r.accepted, r.drafted, 100.0 * r.acceptance),
            format!("{:.2}", r.tokens_per_step),
        ]);
    }
    format!("\n{}", table.draw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_that_is_asked_for_is_measured() {
        let names = |draft: Option<&str>, lookup| {
            let a = Ahead { draft: draft.map(Into::into), lookup, draft_tokens: Some(3) };
            assert!(a.each().iter().all(|(_, s)| s.tokens == 3));
            a.each().iter().map(|(n, _)| *n).collect::<Vec<_>>()
        };
        assert!(names(None, false).is_empty());
        assert_eq!(names(None, true), ["lookup"]);
        assert_eq!(names(Some("m"), false), ["draft"]);
        assert_eq!(names(Some("m"), true), ["lookup", "draft", "lookup + draft"]);
    }
}
