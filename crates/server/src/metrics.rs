//! What a model counts, as Prometheus text under the names that dashboards of inference servers know.
use crate::{host::Card, id, models::Resident};
use pondera_engine::{FinishReason, Load, Usage};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Upper ends of the buckets of times, in seconds: 0.15 is what a step may take.
const ENDS: [f64; 15] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// A distribution of times.
#[derive(Debug, Default)]
struct Times {
    buckets: [AtomicU64; ENDS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Times {
    fn add(&self, time: Duration) {
        let s = time.as_secs_f64();
        if let Some(i) = ENDS.iter().position(|end| s <= *end) {
            self.buckets[i].fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum_us.fetch_add(time.as_micros() as u64, Relaxed);
    }

    fn write(&self, name: &str, model: &str, out: &mut String) {
        let mut below = 0;
        for (end, n) in ENDS.iter().zip(&self.buckets) {
            below += n.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{model_name=\"{model}\",le=\"{end}\"}} {below}");
        }
        let count = self.count.load(Relaxed);
        let _ = writeln!(out, "{name}_bucket{{model_name=\"{model}\",le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum{{model_name=\"{model}\"}} {}", self.sum_us.load(Relaxed) as f64 / 1e6);
        let _ = writeln!(out, "{name}_count{{model_name=\"{model}\"}} {count}");
    }
}

/// Whole seconds that a rate is the mean of.
const RECENT: u64 = 5;

/// Tokens read and written in the last seconds; the place of a second is its remainder.
#[derive(Debug, Default)]
struct Recent([(u64, u64, u64); RECENT as usize + 1]);

impl Recent {
    fn add(&mut self, second: u64, read: u64, written: u64) {
        let place = &mut self.0[(second % (RECENT + 1)) as usize];
        if place.0 != second {
            *place = (second, 0, 0);
        }
        place.1 += read;
        place.2 += written;
    }

    /// Per second, over the whole seconds before `now`.
    fn rates(&self, now: u64) -> (f64, f64) {
        let seen = self.0.iter().filter(|(second, ..)| *second < now && *second + RECENT >= now);
        let (read, written) = seen.fold((0, 0), |(r, w), (_, read, written)| (r + read, w + written));
        (read as f64 / RECENT as f64, written as f64 / RECENT as f64)
    }
}

/// What a model does at the moment.
pub struct Now {
    /// As of its last step.
    pub load: Load,
    /// Tokens of prompts computed per second.
    pub read: f64,
    /// Tokens generated per second.
    pub written: f64,
    /// Requests taken.
    pub submitted: u64,
}

/// Counts of one model.
#[derive(Debug, Default)]
pub struct Metrics {
    /// How often the model was opened.
    pub opened: AtomicU64,
    running: AtomicU64,
    submitted: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    /// Ended by: a stop, the length, the client; failed.
    ends: [AtomicU64; 4],
    first: Times,
    between: Times,
    whole: Times,
    steps: Times,
    recent: Mutex<(Recent, Load)>,
}

impl Metrics {
    /// A request was taken.
    pub fn submitted(&self) {
        self.submitted.fetch_add(1, Relaxed);
        self.running.fetch_add(1, Relaxed);
    }

    /// A token came after `time`: the first since submission, another since the one before.
    pub fn token(&self, time: Duration, first: bool) {
        self.generated_tokens.fetch_add(1, Relaxed);
        if first { &self.first } else { &self.between }.add(time);
    }

    /// A request ended.
    pub fn ended(&self, reason: FinishReason, usage: &Usage, time: Duration) {
        self.prompt_tokens.fetch_add(usage.prompt_tokens as u64, Relaxed);
        self.cached_tokens.fetch_add(usage.cached_tokens as u64, Relaxed);
        let i = match reason {
            FinishReason::Stop | FinishReason::StopString(_) => 0,
            FinishReason::Length => 1,
            FinishReason::Cancelled => 2,
        };
        self.ends[i].fetch_add(1, Relaxed);
        self.whole.add(time);
    }

    /// A request failed.
    pub fn failed(&self) {
        self.ends[3].fetch_add(1, Relaxed);
    }

    /// A step took `time`; `under_way` requests are left.
    pub fn step(&self, time: Duration, under_way: usize) {
        self.steps.add(time);
        self.running.store(under_way as u64, Relaxed);
    }

    /// A step read and wrote so many tokens, and left the engine so busy.
    pub fn work(&self, read: usize, written: usize, load: Load) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.0.add(id::now_s(), read as u64, written as u64);
        recent.1 = load;
    }

    /// What it does at the moment.
    pub fn now(&self) -> Now {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, written) = recent.0.rates(id::now_s());
        Now { load: recent.1, read, written, submitted: self.submitted.load(Relaxed) }
    }
}

/// The families of metrics, each once, with a sample for each model.
pub fn text<'a>(models: impl Iterator<Item = (&'a str, &'a Metrics)> + Clone) -> String {
    let mut out = String::new();
    let head = |out: &mut String, name: &str, kind: &str, help: &str| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    };
    type Count = fn(&Metrics) -> &AtomicU64;
    type Gauge = fn(&Load) -> f64;
    let gauges: [(&str, &str, &str, Gauge); 4] = [
        ("vllm:num_requests_running", "gauge", "Requests that take part in steps.", |l| l.running as f64),
        ("vllm:num_requests_waiting", "gauge", "Requests in the queue.", |l| l.waiting as f64),
        ("vllm:kv_cache_usage_perc", "gauge", "Pages of the KV cache that are held, of 1.", |l| {
            l.pages_used as f64 / l.pages.max(1) as f64
        }),
        ("vllm:num_preemptions_total", "counter", "Requests that lost their pages to others.", |l| {
            l.preemptions as f64
        }),
    ];
    for (name, kind, help, value) in gauges {
        head(&mut out, name, kind, help);
        for (model, m) in models.clone() {
            let _ = writeln!(out, "{name}{{model_name=\"{}\"}} {}", escaped(model), value(&m.now().load));
        }
    }
    let counts: [(&str, &str, &str, Count); 5] = [
        ("pondera:requests_under_way", "gauge", "Requests that run or wait.", |m| &m.running),
        ("vllm:prompt_tokens_total", "counter", "Tokens of prompts of ended requests.", |m| &m.prompt_tokens),
        ("vllm:prefix_cache_hits_total", "counter", "Tokens of prompts that were in the cache.", |m| &m.cached_tokens),
        ("vllm:generation_tokens_total", "counter", "Tokens generated.", |m| &m.generated_tokens),
        ("pondera:requests_total", "counter", "Requests taken.", |m| &m.submitted),
    ];
    for (name, kind, help, value) in counts {
        head(&mut out, name, kind, help);
        for (model, m) in models.clone() {
            let _ = writeln!(out, "{name}{{model_name=\"{}\"}} {}", escaped(model), value(m).load(Relaxed));
        }
    }
    let name = "vllm:request_success_total";
    head(&mut out, name, "counter", "Requests by how they ended.");
    for (model, m) in models.clone() {
        for (reason, n) in ["stop", "length", "abort", "error"].iter().zip(&m.ends) {
            let _ = writeln!(
                out,
                "{name}{{model_name=\"{}\",finished_reason=\"{reason}\"}} {}",
                escaped(model),
                n.load(Relaxed)
            );
        }
    }
    type Of = fn(&Metrics) -> &Times;
    let times: [(&str, &str, Of); 4] = [
        ("vllm:time_to_first_token_seconds", "From submission to the first token.", |m| &m.first),
        ("vllm:inter_token_latency_seconds", "From a token to the next.", |m| &m.between),
        ("vllm:e2e_request_latency_seconds", "From submission to the end.", |m| &m.whole),
        ("pondera:step_seconds", "Steps of the engine.", |m| &m.steps),
    ];
    for (name, help, of) in times {
        head(&mut out, name, "histogram", help);
        models.clone().for_each(|(model, m)| of(m).write(name, &escaped(model), &mut out));
    }
    out
}

/// Which models are open, and what they take.
pub fn residents(cards: &[Arc<Card>], open: &[Resident], out: &mut String) {
    let own = || cards.iter().filter(|m| m.parent.is_none());
    let bytes = |m: &Card| open.iter().find(|r| r.card.name == m.name).map_or(0, |r| r.bytes);
    for (name, help, is) in [
        ("pondera:model_open", "Whether the model is open.", true),
        ("pondera:model_bytes", "Bytes that the open model takes at most.", false),
    ] {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for m in own() {
            let value = if is { u64::from(bytes(m) > 0) } else { bytes(m) };
            let _ = writeln!(out, "{name}{{model_name=\"{}\"}} {value}", escaped(&m.name));
        }
    }
    let name = "pondera:model_opened_total";
    let _ = writeln!(out, "# HELP {name} How often the model was opened.\n# TYPE {name} counter");
    for m in own() {
        let _ = writeln!(out, "{name}{{model_name=\"{}\"}} {}", escaped(&m.name), m.metrics.opened.load(Relaxed));
    }
}

/// Responses by their status.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<BTreeMap<u16, u64>>);

impl Statuses {
    /// One more.
    pub fn add(&self, status: u16) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// As a family of metrics.
    pub fn write(&self, out: &mut String) {
        let name = "pondera:http_responses_total";
        let _ = writeln!(out, "# HELP {name} Responses by their status.\n# TYPE {name} counter");
        for (status, n) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "{name}{{status=\"{status}\"}} {n}");
        }
    }
}

/// Lines of the log that nobody read in time, as a family of metrics.
pub fn dropped(lines: u64, out: &mut String) {
    let name = "pondera:log_lines_dropped_total";
    let _ = writeln!(
        out,
        "# HELP {name} Lines of the log that nobody read in time.\n# TYPE {name} counter\n{name} {lines}"
    );
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_whole_seconds() {
        let mut recent = Recent::default();
        recent.add(100, 50, 10);
        assert_eq!(recent.rates(100), (0.0, 0.0));
        assert_eq!(recent.rates(101), (10.0, 2.0));
        recent.add(101, 0, 5);
        assert_eq!(recent.rates(102), (10.0, 3.0));
        recent.add(106, 5, 0);
        assert_eq!(recent.rates(106), (0.0, 1.0));
        assert_eq!(recent.rates(107), (1.0, 0.0));
        assert_eq!(recent.rates(200), (0.0, 0.0));
    }
}
