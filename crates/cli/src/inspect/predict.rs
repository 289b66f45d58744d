//! How fast this machine should run a model that was not run: what a token asks of it, over what it was measured to give.
//!
//! The roofs are measured (`pondera_cpu::ceiling`), the work is counted from the weights that the family names. How much of
//! a roof kernels reach is taken from docs/performance.md and stands in the result, for it is what a prediction can err by.
use crate::commands::bound::{Phase, Work, work};
use pondera_arch::{Config, Model};
use pondera_engine::Ceiling;
use pondera_ops::KvType;
use serde::Serialize;

/// Shares of a roof that the project's own kernels reached in docs/performance.md, lowest and highest.
const OF_BYTES: [f64; 2] = [0.65, 0.95];
const OF_FLOATS: [f64; 2] = [0.65, 0.89];
const OF_INT8: [f64; 2] = [0.50, 0.61];
/// The same where tiles (AMX) are the roof.
const OF_TILES: [f64; 2] = [0.09, 0.16];
/// Tokens of the prompt that prefill is predicted for, and that decoding stands behind.
const PROMPT: usize = 512;
/// Memory that is read to measure how fast that goes: more than most caches hold, and soon done.
const READ_BYTES: usize = 256 << 20;

/// What is to be expected of this machine.
#[derive(Debug, Serialize)]
pub struct Predicted {
    /// Threads that compute.
    pub threads: usize,
    /// Bytes read per second, measured.
    pub gb_per_s: f64,
    /// Operations per second on 8-bit integers, measured, in 10^9.
    pub int8_gop_per_s: f64,
    /// Operations per second on floats, measured, in 10^9.
    pub f32_gop_per_s: f64,
    /// One sequence, one token after the other, behind 512 tokens.
    pub decode: Speed,
    /// The same behind `ctx` tokens.
    pub decode_at_ctx: Speed,
    /// A prompt of 512 tokens.
    pub prefill: Speed,
    /// Tokens of context that memory was planned for.
    pub ctx: usize,
    /// Bytes of weights, f16 cache and states.
    pub memory_bytes: u64,
    /// Bytes that are free here at the moment.
    pub available_bytes: Option<u64>,
    /// Whether the former fit the latter.
    pub fits: Option<bool>,
    /// What the figures rest on.
    pub assumes: Vec<String>,
}

/// A range of speeds.
#[derive(Debug, Serialize)]
pub struct Speed {
    /// Tokens per second where kernels reach the least of what they were measured to.
    pub tps_min: f64,
    /// Where they reach the most.
    pub tps_max: f64,
    /// `bytes` or `operations`: what takes longer.
    pub bound: &'static str,
    /// What a token costs.
    #[serde(flatten)]
    pub work: Work,
}

impl Predicted {
    /// Measures this machine's roofs on `threads` threads, about half a second, and holds `model` under them.
    pub fn new(model: &Model, config: &Config, ctx: usize, memory_bytes: u64, threads: Option<u16>) -> Predicted {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let available_bytes = pondera_engine::available_bytes();
        let room = available_bytes.and_then(|n| usize::try_from(n / 4).ok()).unwrap_or(READ_BYTES);
        let ceiling = Ceiling::measure(threads.map_or(cores, usize::from), room.min(READ_BYTES));
        let count = |p: Phase| work(model.description(), config, model.caches(), KvType::F16, p);
        let prompt = PROMPT.min(ctx.max(1));
        let behind = |n: usize| count(Phase { rows: 1, tokens: 1, logits: 1, seen: n as f64, sequences: 1 });
        let prefill = count(Phase { rows: prompt, tokens: prompt, logits: 1, seen: prompt as f64 / 2.0, sequences: 1 });
        let tiles = ceiling.int8.iter().any(|r| r.name == "amx");
        let percent = |[low, high]: [f64; 2]| format!("{:.0} to {:.0} %", 100.0 * low, 100.0 * high);
        Predicted {
            threads: ceiling.threads,
            gb_per_s: ceiling.read / 1e9,
            int8_gop_per_s: ceiling.int8() / 1e9,
            f32_gop_per_s: ceiling.f32 / 1e9,
            decode: speed(behind(prompt), &ceiling),
            decode_at_ctx: speed(behind(ctx), &ceiling),
            prefill: speed(prefill, &ceiling),
            ctx,
            memory_bytes,
            available_bytes,
            fits: available_bytes.map(|have| memory_bytes <= have),
            assumes: vec![
                format!("kernels reach {} of the read bandwidth", percent(OF_BYTES)),
                format!("{} of the int8 peak", percent(if tiles { OF_TILES } else { OF_INT8 })),
                format!("{} of the f32 peak (docs/performance.md)", percent(OF_FLOATS)),
                format!("a prompt of {prompt} tokens, an f16 cache"),
                "all weights are in memory, and nothing else runs".into(),
            ],
        }
    }
}

fn speed(work: Work, ceiling: &Ceiling) -> Speed {
    let tiles = ceiling.int8.iter().any(|r| r.name == "amx");
    let of_int8 = if tiles { OF_TILES } else { OF_INT8 };
    let times = |i: usize| {
        let reading = work.bytes_per_token / (ceiling.read * OF_BYTES[i]);
        let computing = work.int8_operations_per_token / (ceiling.int8() * of_int8[i])
            + work.f32_operations_per_token / (ceiling.f32 * OF_FLOATS[i]);
        (reading, computing)
    };
    let tps = |(reading, computing): (f64, f64)| 1.0 / reading.max(computing).max(f64::MIN_POSITIVE);
    let (slow, fast) = (times(0), times(1));
    let bound = if slow.0 >= slow.1 { "bytes" } else { "operations" };
    Speed { tps_min: tps(slow), tps_max: tps(fast), bound, work }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pondera_engine::Roof;

    #[test]
    fn a_published_measurement_lies_in_its_range() {
        // docs/performance.md: llama-3.2-1b BF16 decodes 10.5 tok/s where memory gives 30 GB/s (2.47 GB a token, 90 %).
        let work = Work { bytes_per_token: 2.57e9, int8_operations_per_token: 0.0, f32_operations_per_token: 2.5e9 };
        let vectors = vec![Roof { name: "avx512vnni", per_second: 1e12 }];
        let machine = Ceiling { threads: 2, read: 30e9, int8: vectors, f32: 3e11 };
        let s = speed(work, &machine);
        assert!(s.tps_min < 10.5 && 10.5 < s.tps_max && s.bound == "bytes", "{s:?}");
        // With tiles less of the peak is reached, so that a prompt is not promised what its kernels never gave.
        let prompt = Work { bytes_per_token: 1e6, int8_operations_per_token: 2.5e9, f32_operations_per_token: 0.0 };
        let tiles = Ceiling { int8: vec![Roof { name: "amx", per_second: 8e12 }], ..machine };
        let s = speed(prompt, &tiles);
        assert!((s.tps_max - 512.0).abs() < 1.0 && s.bound == "operations", "{s:?}");
    }
}
