//! Random weights of published shapes as GGUF files that every engine reads: its speed does not depend on the values.
//!
//! Owns: which tensors a shape has in GGUF and the types that quantizers give them. Does not own the shapes
//! (`pondera-arch`), blocks (`pondera-quant`) or the container (`pondera-weights`).
use pondera_arch::{Config, Shape, more_bits};
use pondera_quant::Format;
use pondera_weights::{
    TensorSpec,
    gguf::{Meta, Writer},
};
use std::{collections::HashMap, fs, io::BufWriter, path::Path};

/// A file of the table.
pub struct Entry {
    /// Its name, without the ending.
    pub name: &'static str,
    shape: &'static str,
    layers: Option<usize>,
    vocab: Option<usize>,
    kind: Kind,
}

/// How a quantizer mixes types: of most matrices, of those that get more bits, of the head.
struct Kind {
    base: Format,
    more: Format,
    head: Format,
    file_type: u32,
}

const Q4_K_M: Kind = Kind { base: Format::Q4K, more: Format::Q6K, head: Format::Q6K, file_type: 15 };
const Q4_0: Kind = Kind { base: Format::Q4_0, more: Format::Q4_0, head: Format::Q6K, file_type: 2 };

const fn plain(f: Format, file_type: u32) -> Kind {
    Kind { base: f, more: f, head: f, file_type }
}

const fn llama(name: &'static str, kind: Kind) -> Entry {
    Entry { name, shape: "llama-3.2-1b", layers: None, vocab: None, kind }
}

const fn cut(name: &'static str, shape: &'static str) -> Entry {
    Entry { name, shape, layers: Some(8), vocab: Some(32_768), kind: Q4_K_M }
}

/// What is compared unless files are named. Models of experts are cut, so that they fit into a small machine.
pub const TABLE: [Entry; 8] = [
    llama("llama-3.2-1b-q4_k_m", Q4_K_M),
    llama("llama-3.2-1b-q4_0", Q4_0),
    llama("llama-3.2-1b-q8_0", plain(Format::Q8_0, 7)),
    llama("llama-3.2-1b-bf16", plain(Format::BF16, 32)),
    llama("llama-3.2-1b-f16", plain(Format::F16, 1)),
    Entry { name: "qwen3-0.6b-q4_k_m", shape: "qwen3-0.6b", layers: None, vocab: None, kind: Q4_K_M },
    cut("qwen3-30b-a3b-8l-q4_k_m", "qwen3-30b-a3b"),
    cut("deepseek-v2-lite-8l-q4_k_m", "deepseek-v2-lite"),
];

type Done<T> = Result<T, String>;

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// Writes the file.
pub fn write(entry: &Entry, path: &Path) -> Done<()> {
    let config = Shape::find(entry.shape).and_then(|s| s.config(entry.layers)).map_err(text)?;
    let mut plan = Plan::new(entry, &config)?;
    plan.tensors()?;
    let meta: Vec<(&str, Meta)> = plan.meta.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    let part = path.with_extension("part");
    let file = fs::File::create(&part).map_err(|e| format!("{}: {e}", part.display()))?;
    let mut writer = Writer::new(BufWriter::with_capacity(1 << 20, file), &meta, &plan.specs).map_err(text)?;
    let mut random = Random::default();
    for spec in &plan.specs {
        let mut left = spec.bytes().map_err(text)?;
        if spec.shape.len() == 1 {
            writer.write(&1f32.to_le_bytes().repeat(left / 4)).map_err(text)?;
            continue;
        }
        let rows = random.rows(spec.format, spec.shape.last().copied().unwrap_or(1))?;
        while left > 0 {
            let n = left.min(rows.len());
            writer.write(&rows[..n]).map_err(text)?;
            left -= n;
        }
    }
    writer.finish().map_err(text)?.into_inner().map_err(|e| text(e.error()))?;
    fs::rename(&part, path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Rows drawn once per format and length, and laid out again and again.
#[derive(Default)]
struct Random {
    drawn: HashMap<(Format, usize), Vec<u8>>,
    state: u64,
}

impl Random {
    /// At least one row, about 4 MiB.
    fn rows(&mut self, format: Format, inp: usize) -> Done<&[u8]> {
        let row = format.row_bytes(inp).ok_or_else(|| format!("{} has no rows of {inp}", format.info().name))?;
        let state = &mut self.state;
        Ok(self.drawn.entry((format, inp)).or_insert_with(|| {
            let mut data = vec![0; row * ((4 << 20) / row).max(1)];
            let mut next = || {
                // SplitMix64
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            };
            (format.info().random)(&mut next, (inp as f32).powf(-0.5), &mut data);
            data
        }))
    }
}

/// A file being planned.
struct Plan<'a> {
    config: &'a Config,
    kind: &'a Kind,
    arch: &'static str,
    vocab: usize,
    meta: Vec<(String, Meta)>,
    specs: Vec<TensorSpec>,
}

/// The width of query latents: a model with another number of layers than the published one needs some.
const Q_LORA_RANK: usize = 1536;

impl<'a> Plan<'a> {
    fn new(entry: &'a Entry, config: &'a Config) -> Done<Plan<'a>> {
        let arch = match config.family().model_type {
            "llama" => "llama",
            "qwen3" => "qwen3",
            "qwen3_moe" => "qwen3moe",
            "deepseek_v2" => "deepseek2",
            other => return Err(format!("{other}: no GGUF names are known here")),
        };
        let vocab = match entry.vocab {
            Some(n) => n,
            None => config.vocab_size().map_err(text)?,
        };
        let meta = vec![
            ("general.architecture".into(), arch.into()),
            ("general.name".into(), entry.name.into()),
            ("general.file_type".into(), Meta::U32(entry.kind.file_type)),
            ("general.quantization_version".into(), Meta::U32(2)),
            ("tokenizer.ggml.model".into(), "no_vocab".into()),
        ];
        Ok(Plan { config, kind: &entry.kind, arch, vocab, meta, specs: Vec::new() })
    }

    fn size(&self, key: &str) -> Done<usize> {
        self.config.size(key).map_err(text)
    }

    fn set(&mut self, key: &str, value: Meta) {
        self.meta.push((format!("{}.{key}", self.arch), value));
    }

    fn set_size(&mut self, key: &str, value: usize) {
        self.set(key, Meta::U32(value as u32));
    }

    /// A matrix, or a stack of them; a row that is no whole number of blocks gets the next type that fits, as
    /// llama.cpp's quantizer chooses it.
    fn matrix(&mut self, name: &str, shape: &[usize], format: Format) {
        let inp = shape.last().copied().unwrap_or(0);
        let format = match format {
            Format::Q4K if inp % 256 != 0 => Format::Q5_0,
            Format::Q6K if inp % 256 != 0 => Format::Q8_0,
            f => f,
        };
        self.specs.push(TensorSpec::new(format!("{name}.weight"), format, shape));
    }

    fn vector(&mut self, name: &str, n: usize) {
        self.specs.push(TensorSpec::new(format!("{name}.weight"), Format::F32, &[n]));
    }

    fn tensors(&mut self) -> Done<()> {
        let c = self.config;
        let (layers, hidden) = (c.num_hidden_layers().map_err(text)?, c.hidden_size().map_err(text)?);
        let inner = self.size("intermediate_size")?;
        self.set_size("block_count", layers);
        self.set_size("context_length", c.max_positions().map_err(text)?);
        self.set_size("embedding_length", hidden);
        self.set_size("feed_forward_length", inner);
        self.set_size("vocab_size", self.vocab);
        self.set("attention.layer_norm_rms_epsilon", Meta::F32(c.eps("rms_norm_eps").map_err(text)?));
        let theta = c.keys().get("rope_parameters").and_then(|r| r.get("rope_theta")).and_then(|v| v.as_f64());
        self.set("rope.freq_base", Meta::F32(theta.unwrap_or(10_000.0) as f32));
        let (base, head) = (self.kind.base, self.kind.head);
        let tied = c.flag("tie_word_embeddings").map_err(text)?;
        self.matrix("token_embd", &[self.vocab, hidden], if tied { head } else { base });
        if !tied {
            self.matrix("output", &[self.vocab, hidden], head);
        }
        self.vector("output_norm", hidden);
        let latent = self.arch == "deepseek2";
        if latent {
            self.mla_meta()?
        } else {
            self.gqa_meta()?
        }
        let experts = c.experts().map_err(text)?;
        if let Some((count, used)) = experts {
            self.set_size("expert_count", count);
            self.set_size("expert_used_count", used);
            self.set_size("expert_feed_forward_length", self.size("moe_intermediate_size")?);
        }
        let dense = if latent { self.size("first_k_dense_replace")? } else { 0 };
        for i in 0..layers {
            let b = format!("blk.{i}");
            let more = if more_bits(i, layers) { self.kind.more } else { base };
            self.vector(&format!("{b}.attn_norm"), hidden);
            self.vector(&format!("{b}.ffn_norm"), hidden);
            if latent {
                self.mla(&b, hidden)?
            } else {
                self.gqa(&b, hidden, more)?
            }
            match experts.filter(|_| i >= dense) {
                Some((count, _)) => self.experts(&b, hidden, count, more)?,
                None => self.mlp(&b, "", hidden, inner, more),
            }
        }
        Ok(())
    }

    fn mlp(&mut self, b: &str, suffix: &str, hidden: usize, inner: usize, more: Format) {
        self.matrix(&format!("{b}.ffn_gate{suffix}"), &[inner, hidden], self.kind.base);
        self.matrix(&format!("{b}.ffn_up{suffix}"), &[inner, hidden], self.kind.base);
        self.matrix(&format!("{b}.ffn_down{suffix}"), &[hidden, inner], more);
    }

    fn experts(&mut self, b: &str, hidden: usize, count: usize, more: Format) -> Done<()> {
        let inner = self.size("moe_intermediate_size")?;
        self.matrix(&format!("{b}.ffn_gate_inp"), &[count, hidden], Format::F32);
        self.matrix(&format!("{b}.ffn_gate_exps"), &[count, inner, hidden], self.kind.base);
        self.matrix(&format!("{b}.ffn_up_exps"), &[count, inner, hidden], self.kind.base);
        self.matrix(&format!("{b}.ffn_down_exps"), &[count, hidden, inner], more);
        if let Some(shared) = self.config.size_opt("n_shared_experts").map_err(text)? {
            self.mlp(b, "_shexp", hidden, inner * shared, more);
        }
        Ok(())
    }

    fn gqa_meta(&mut self) -> Done<()> {
        let (heads, kv, dim) = self.config.heads().map_err(text)?;
        for (key, n) in [
            ("attention.head_count", heads),
            ("attention.head_count_kv", kv),
            ("attention.key_length", dim),
            ("attention.value_length", dim),
            ("rope.dimension_count", dim),
        ] {
            self.set_size(key, n);
        }
        Ok(())
    }

    fn gqa(&mut self, b: &str, hidden: usize, more: Format) -> Done<()> {
        let (heads, kv, dim) = self.config.heads().map_err(text)?;
        let base = self.kind.base;
        self.matrix(&format!("{b}.attn_q"), &[heads * dim, hidden], base);
        self.matrix(&format!("{b}.attn_k"), &[kv * dim, hidden], base);
        self.matrix(&format!("{b}.attn_v"), &[kv * dim, hidden], more);
        self.matrix(&format!("{b}.attn_output"), &[hidden, heads * dim], base);
        if self.arch != "llama" {
            self.vector(&format!("{b}.attn_q_norm"), dim);
            self.vector(&format!("{b}.attn_k_norm"), dim);
        }
        Ok(())
    }

    fn mla_meta(&mut self) -> Done<()> {
        let (rank, rope, nope) =
            (self.size("kv_lora_rank")?, self.size("qk_rope_head_dim")?, self.size("qk_nope_head_dim")?);
        for (key, n) in [
            ("attention.head_count", self.size("num_attention_heads")?),
            ("attention.head_count_kv", 1),
            ("attention.key_length", rank + rope),
            ("attention.value_length", rank),
            ("attention.key_length_mla", nope + rope),
            ("attention.value_length_mla", self.size("v_head_dim")?),
            ("attention.kv_lora_rank", rank),
            ("attention.q_lora_rank", Q_LORA_RANK),
            ("rope.dimension_count", rope),
            ("leading_dense_block_count", self.size("first_k_dense_replace")?),
            ("expert_shared_count", self.size("n_shared_experts")?),
            ("expert_gating_func", 1),
        ] {
            self.set_size(key, n);
        }
        self.set("expert_weights_scale", Meta::F32(1.0));
        self.set("expert_weights_norm", Meta::Bool(false));
        self.set("rope.scaling.type", "yarn".into());
        self.set("rope.scaling.factor", Meta::F32(40.0));
        self.set("rope.scaling.original_context_length", Meta::U32(4096));
        self.set("rope.scaling.yarn_log_multiplier", Meta::F32(0.0707));
        Ok(())
    }

    fn mla(&mut self, b: &str, hidden: usize) -> Done<()> {
        let (rank, rope, nope) =
            (self.size("kv_lora_rank")?, self.size("qk_rope_head_dim")?, self.size("qk_nope_head_dim")?);
        let (heads, value, base) = (self.size("num_attention_heads")?, self.size("v_head_dim")?, self.kind.base);
        self.matrix(&format!("{b}.attn_q_a"), &[Q_LORA_RANK, hidden], base);
        self.vector(&format!("{b}.attn_q_a_norm"), Q_LORA_RANK);
        self.matrix(&format!("{b}.attn_q_b"), &[heads * (nope + rope), Q_LORA_RANK], base);
        self.matrix(&format!("{b}.attn_kv_a_mqa"), &[rank + rope, hidden], base);
        self.vector(&format!("{b}.attn_kv_a_norm"), rank);
        self.matrix(&format!("{b}.attn_k_b"), &[heads, rank, nope], base);
        self.matrix(&format!("{b}.attn_v_b"), &[heads, value, rank], base);
        self.matrix(&format!("{b}.attn_output"), &[hidden, heads * value], base);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pondera_arch::{Model, Source};
    use pondera_weights::Weights;

    /// Every kind of model is written, small, and loads with all that it names and nothing else.
    #[test]
    fn written_models_load() {
        let folder = std::env::temp_dir().join(format!("pondera-compare-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for shape in ["llama-3.2-1b", "qwen3-0.6b", "qwen3-30b-a3b", "deepseek-v2-lite"] {
            let sparse = shape.contains("30b") || shape.contains("lite");
            let entry =
                Entry { name: "small", shape, layers: Some(1 + usize::from(sparse)), vocab: Some(64), kind: Q4_K_M };
            let path = folder.join(format!("{shape}.gguf"));
            let (mut config, layers) = (Shape::find(shape).and_then(|s| s.config(entry.layers)).unwrap(), entry.layers);
            if sparse {
                // Two experts of the published width are enough.
                let mut keys = config.keys().clone();
                keys.insert("num_experts".into(), 2.into());
                keys.insert("n_routed_experts".into(), 2.into());
                keys.insert("num_experts_per_tok".into(), 1.into());
                config = Config::from_keys(config.family(), keys).unwrap();
            }
            let mut plan = Plan::new(&entry, &config).unwrap();
            plan.tensors().unwrap();
            assert!(plan.specs.iter().all(|s| s.bytes().is_ok()), "{shape} {layers:?}");
            if !sparse {
                write(&entry, &path).unwrap();
                let weights = Weights::open(&path).unwrap();
                let config = Config::from_gguf(weights.gguf().unwrap()).unwrap();
                let model = Model::load(&config, &Source::Files(&weights)).unwrap();
                assert!(model.warnings().is_empty(), "{:?}", model.warnings());
                assert_eq!((model.vocab_size(), model.caches().len()), (64, 1));
                fs::remove_file(&path).unwrap();
            }
        }
        fs::remove_dir(&folder).unwrap();
    }
}
