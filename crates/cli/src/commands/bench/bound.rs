//! What a phase asks of the machine, and which of the machine's roofs is above it.
//!
//! Counts bytes and operations from the model's own list of weights; does not run anything.
use pondera_arch::{Config, Description};
use pondera_engine::Ceiling;
use pondera_ops::{CacheSpec, KvType};
use pondera_quant::{Activation, FORMATS};
use serde::Serialize;

/// What one token costs, on average over a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Bytes of weights and cache read from memory.
    pub bytes_per_token: f64,
    /// Operations on 8-bit integers: products of quantized weights.
    pub int8_operations_per_token: f64,
    /// Operations on floats: products of plain weights, attention.
    pub f32_operations_per_token: f64,
}

impl Work {
    /// All operations.
    pub fn operations(&self) -> f64 {
        self.int8_operations_per_token + self.f32_operations_per_token
    }
}

/// A phase: steps of equal size.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// Rows of a step, which share its weights.
    pub rows: usize,
    /// Rows of the phase; all but the last of several steps are full.
    pub tokens: usize,
    /// Rows whose logits are wanted: one of a prompt, each when decoding.
    pub logits: usize,
    /// Positions that a row sees on average.
    pub seen: f64,
    /// Sequences of a step: each reads a cache of its own.
    pub sequences: usize,
}

/// The work of a phase's tokens. `kv` is the type of the cache.
pub fn work(d: &Description, config: &Config, caches: &[CacheSpec], kv: KvType, p: Phase) -> Work {
    let (tokens, rows) = (p.tokens as f64, p.rows as f64);
    let steps = (tokens / rows).ceil();
    let tables = d.tensors.iter().filter(|t| t.shape == [1, d.vocab_size, d.hidden_size]).count();
    let (mut table, mut bytes, mut int8, mut f32) = (0, 0.0, 0.0, 0.0);
    for t in &d.tensors {
        // Rows that this weight is multiplied with, and how many of them share one reading of it.
        let (mut used, mut sharing) = (tokens, rows);
        if t.shape == [1, d.vocab_size, d.hidden_size] {
            table += 1;
            // The first table is the embedding, of which a row is looked up, unless it is also the head.
            if table < tables {
                bytes += t.bytes as f64 / d.vocab_size as f64 * tokens;
                continue;
            }
            (used, sharing) = (p.logits as f64, (p.logits as f64).min(rows));
        }
        let share = t.active as f64 / t.parameters.max(1) as f64;
        // Of experts, those that are expected to be chosen by any row.
        bytes += t.bytes as f64 * (1.0 - (1.0 - share).powf(sharing)) * (used / sharing).ceil().min(steps);
        if t.shape[1] > 1 {
            let operations = 2.0 * t.active as f64 * used;
            if is_int8(t.format) { int8 += operations } else { f32 += operations }
        }
    }
    let size = |key| config.size_opt(key).ok().flatten();
    for c in caches {
        let seen = c.window.map_or(p.seen, |w| p.seen.min(w as f64));
        bytes += seen * (c.bytes(kv) * p.sequences) as f64 * steps;
        // Scores and sums; a latent's values are its first columns.
        let value = c.v_dim.or_else(|| size("kv_lora_rank")).unwrap_or(c.k_dim);
        let heads = size("num_attention_heads").unwrap_or(c.kv_heads);
        f32 += 2.0 * (heads * (c.k_dim + value)) as f64 * seen * tokens;
    }
    Work {
        bytes_per_token: bytes / tokens,
        int8_operations_per_token: int8 / tokens,
        f32_operations_per_token: f32 / tokens,
    }
}

/// Whether activations are quantized for weights of this format.
fn is_int8(format: &str) -> bool {
    FORMATS.iter().any(|f| f.name == format && matches!(f.activation, Activation::Q8 { .. }))
}

/// The roof above a phase.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// `bytes` or `operations`: what would take longer at the machine's best.
    pub bound: &'static str,
    /// Tokens per second at that best.
    pub ceiling_tps: f64,
    /// Of it, how much was reached.
    pub fraction: f64,
}

impl Bound {
    /// The bound of `work` that was done at `tps` tokens per second.
    pub fn new(work: &Work, ceiling: &Ceiling, tps: f64) -> Bound {
        let reading = work.bytes_per_token / ceiling.read;
        let computing = work.int8_operations_per_token / ceiling.int8() + work.f32_operations_per_token / ceiling.f32;
        let ceiling_tps = 1.0 / reading.max(computing).max(f64::MIN_POSITIVE);
        let bound = if reading >= computing { "bytes" } else { "operations" };
        Bound { bound, ceiling_tps, fraction: tps / ceiling_tps }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use pondera_arch::{Listed, Shape};
    use pondera_engine::Roof;

    pub fn machine() -> Ceiling {
        let int8 = vec![Roof { name: "avx512vnni", per_second: 1e12 }, Roof { name: "amx", per_second: 4e12 }];
        Ceiling { threads: 2, read: 30e9, int8, f32: 3e11 }
    }

    fn listed(name: &str, format: &'static str, shape: [usize; 3], share: f64) -> Listed {
        let parameters: u64 = shape.iter().map(|d| *d as u64).product();
        let active = (parameters as f64 * share) as u64;
        Listed { name: name.into(), shape, format, bytes: parameters, parameters, active }
    }

    fn description(tensors: Vec<Listed>) -> Description {
        Description {
            family: "llama",
            vocab_size: 100,
            hidden_size: 8,
            num_hidden_layers: 1,
            max_position_embeddings: 64,
            experts: None,
            parameters_total: 0,
            parameters_active: 0,
            weight_bytes: 0,
            tensors,
        }
    }

    fn config() -> Config {
        Shape::find("llama-3.2-1b").and_then(|s| s.config(None)).unwrap()
    }

    const DECODE: Phase = Phase { rows: 1, tokens: 1, logits: 1, seen: 0.0, sequences: 1 };

    #[test]
    fn embeddings_are_looked_up_and_idle_experts_not_read() {
        let d = description(vec![
            listed("embed", "F32", [1, 100, 8], 1.0),
            listed("experts", "Q8_0", [4, 8, 8], 0.25),
            listed("head", "BF16", [1, 100, 8], 1.0),
        ]);
        let one = work(&d, &config(), &[], KvType::F16, DECODE);
        assert_eq!(one.bytes_per_token, 8.0 + 64.0 + 800.0);
        assert_eq!((one.int8_operations_per_token, one.f32_operations_per_token), (128.0, 1600.0));
        // Of many rows all experts are chosen, and each row's work stays what it was.
        let many = work(&d, &config(), &[], KvType::F16, Phase { rows: 64, tokens: 64, logits: 64, ..DECODE });
        assert!(many.bytes_per_token * 64.0 > 64.0 * 8.0 + 255.0 + 800.0, "{many:?}");
        assert_eq!(many.operations(), one.operations());
        // A prompt's head is computed for its last row alone, and read once however many steps there are.
        let prompt = work(&d, &config(), &[], KvType::F16, Phase { rows: 64, tokens: 256, logits: 1, ..DECODE });
        assert_eq!(prompt.f32_operations_per_token, 1600.0 / 256.0);
        assert!((prompt.bytes_per_token * 256.0 - (256.0 * 8.0 + 4.0 * 256.0 + 800.0)).abs() < 1.0, "{prompt:?}");
    }

    #[test]
    fn tied_tables_are_read_once_as_the_head() {
        let d = description(vec![listed("embed", "Q6_K", [1, 100, 8], 1.0)]);
        let w = work(&d, &config(), &[], KvType::F16, DECODE);
        assert_eq!((w.bytes_per_token, w.int8_operations_per_token), (800.0, 1600.0));
    }

    #[test]
    fn caches_cost_bytes_per_sequence_and_operations_per_head() {
        let d = description(vec![]);
        let cache = CacheSpec { kv_heads: 8, k_dim: 64, v_dim: Some(64), window: None };
        let at = |c, p| work(&d, &config(), &[c], KvType::F16, p);
        let deep = Phase { seen: 1000.0, ..DECODE };
        let w = at(cache, deep);
        assert_eq!(w.bytes_per_token, 1000.0 * (8 * 128 * 2) as f64);
        // The shape has 32 heads of queries.
        assert_eq!(w.f32_operations_per_token, 2.0 * 32.0 * 128.0 * 1000.0);
        assert_eq!(at(cache, Phase { rows: 4, tokens: 4, sequences: 4, ..deep }), w);
        // The rows of a prompt read the cache together.
        assert_eq!(at(cache, Phase { rows: 4, tokens: 4, ..deep }).bytes_per_token, w.bytes_per_token / 4.0);
        let near = CacheSpec { window: Some(10), ..cache };
        assert_eq!(at(near, deep).bytes_per_token, w.bytes_per_token / 100.0);
    }

    #[test]
    fn the_slower_of_both_is_the_bound() {
        let few = Work { bytes_per_token: 3e9, int8_operations_per_token: 4e9, f32_operations_per_token: 0.0 };
        let b = Bound::new(&few, &machine(), 5.0);
        assert_eq!((b.bound, b.ceiling_tps, b.fraction), ("bytes", 10.0, 0.5));
        let many = Work { int8_operations_per_token: 4e12, f32_operations_per_token: 3e11, ..few };
        let b = Bound::new(&many, &machine(), 0.25);
        assert_eq!((b.bound, b.ceiling_tps, b.fraction), ("operations", 0.5, 0.5));
    }

    #[test]
    fn a_published_model_costs_what_its_card_says() {
        // 1.24 billion weights: a decode step reads them once and computes twice as many operations.
        let config = config();
        let model = pondera_arch::Model::load(&config, &pondera_arch::Source::Describe).unwrap();
        let w = work(model.description(), &config, model.caches(), KvType::F16, DECODE);
        assert!((w.operations() / 2.47e9 - 1.0).abs() < 0.01, "{w:?}");
        assert!((w.bytes_per_token / 2.47e9 - 1.0).abs() < 0.01, "{w:?}");
    }
}
