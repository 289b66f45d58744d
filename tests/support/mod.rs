//! A tiny model of our own, written by the project's writers, and a way to run the binary on it.
#![allow(dead_code)] // each test program uses a part of it
pub mod server;

use pondera::{
    quant::Format,
    weights::{
        TensorSpec,
        gguf::{self, Meta},
        safetensors,
    },
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Tokens: 256 bytes, then these.
pub const BOS: u32 = 256;
pub const EOS: u32 = 257;
const VOCAB: usize = 260;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;

/// How large a model is.
#[derive(Clone, Copy)]
pub struct Size {
    pub hidden: usize,
    pub inner: usize,
    pub layers: usize,
}

/// Small enough for debug builds.
pub const TINY: Size = Size { hidden: 32, inner: 64, layers: 2 };
/// Long, so that an answer can be stopped before it ends.
const CONTEXT: usize = 1 << 16;

pub const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
    {% if add_generation_prompt %}[assistant]{% endif %}";

/// A key made for these tests, which signs nothing else; its public key, and that of another.
pub const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVyP2VNqDfqjQRYRJ
kHpYXHxPa8CpjXKT8FNkWeUXqa6hRANCAATwO5uFC7uRdcyQVUeCIJQrc554wm2A
kWIUMVldJiN5gk+wtC2nrI8GSeXsxMS1V+uq1b3RnP2vKSXP/By+ohQ5
-----END PRIVATE KEY-----
";
pub const PUBLIC_KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8DubhQu7kXXMkFVHgiCUK3OeeMJt
gJFiFDFZXSYjeYJPsLQtp6yPBknl7MTEtVfrqtW90Zz9ryklz/wcvqIUOQ==
-----END PUBLIC KEY-----
";
pub const OTHER_KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEynLlKYT6NZJQ8zIbqLbXzOBImG7incEk
q//19inCKvf6zV5tdMNMwynS3buOBcgHdT8Wq+bhrnx1ErwCptI+xR7ctj/TmbFA
EiwjVZxUBLsMt4eV7dsmGeKTLn+KZLtV
-----END PUBLIC KEY-----
";

/// A folder that is removed when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The binary with these arguments, in this folder, with an environment that holds nothing of the user's.
pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_pondera"));
    c.args(args).current_dir(folder).stdin(Stdio::null()).env_clear();
    c.env("HOME", folder).env("NO_COLOR", "1").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    c
}

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(o: Output) -> Ran {
        let text = |b: Vec<u8>| String::from_utf8(b).expect("output is UTF-8");
        Ran { code: o.status.code().unwrap_or(-1), out: text(o.stdout), err: text(o.stderr) }
    }
}

/// Runs it to its end.
pub fn run(folder: &Path, args: &[&str]) -> Ran {
    command(folder, args).output().unwrap().into()
}

/// Random numbers that are the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 11
    }

    fn values(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| ((self.next() % 20001) as f32 / 10000.0 - 1.0) * scale).collect()
    }
}

/// Every matrix: its name in repositories, its name in GGUF files, its shape.
fn matrices(size: Size) -> Vec<(String, String, [usize; 2])> {
    let Size { hidden, inner, layers } = size;
    let head = hidden / HEADS;
    let mut all = vec![
        ("model.embed_tokens".to_string(), "token_embd".to_string(), [VOCAB, hidden]),
        ("lm_head".into(), "output".into(), [VOCAB, hidden]),
    ];
    for i in 0..layers {
        let (hf, gg) = (format!("model.layers.{i}"), format!("blk.{i}"));
        all.push((format!("{hf}.self_attn.q_proj"), format!("{gg}.attn_q"), [hidden, hidden]));
        all.push((format!("{hf}.self_attn.k_proj"), format!("{gg}.attn_k"), [KV_HEADS * head, hidden]));
        all.push((format!("{hf}.self_attn.v_proj"), format!("{gg}.attn_v"), [KV_HEADS * head, hidden]));
        all.push((format!("{hf}.self_attn.o_proj"), format!("{gg}.attn_output"), [hidden, hidden]));
        all.push((format!("{hf}.mlp.gate_proj"), format!("{gg}.ffn_gate"), [inner, hidden]));
        all.push((format!("{hf}.mlp.up_proj"), format!("{gg}.ffn_up"), [inner, hidden]));
        all.push((format!("{hf}.mlp.down_proj"), format!("{gg}.ffn_down"), [hidden, inner]));
    }
    all
}

fn norms(layers: usize) -> Vec<(String, String)> {
    let mut all = vec![("model.norm".to_string(), "output_norm".to_string())];
    for i in 0..layers {
        all.push((format!("model.layers.{i}.input_layernorm"), format!("blk.{i}.attn_norm")));
        all.push((format!("model.layers.{i}.post_attention_layernorm"), format!("blk.{i}.ffn_norm")));
    }
    all
}

/// Tensors as specs and bytes; matrices in `format`.
fn tensors(size: Size, format: Format, gguf: bool) -> Vec<(TensorSpec, Vec<u8>)> {
    let mut random = Random(7);
    let mut all = Vec::new();
    for (hf, gg, shape) in matrices(size) {
        let name = format!("{}.weight", if gguf { gg } else { hf });
        let spec = TensorSpec::new(name, format, &shape);
        let mut bytes = vec![0; spec.bytes().unwrap()];
        let scale = 2.0 / (shape[1] as f32).sqrt();
        match format {
            Format::F32 => {
                let values = random.values(shape[0] * shape[1], scale);
                bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            }
            _ => (format.info().random)(&mut || random.next().wrapping_mul(0x9e37_79b9_7f4a_7c15), scale, &mut bytes),
        }
        all.push((spec, bytes));
    }
    for (hf, gg) in norms(size.layers) {
        let name = format!("{}.weight", if gguf { gg } else { hf });
        let values: Vec<f32> = random.values(size.hidden, 0.2).iter().map(|v| v + 1.0).collect();
        all.push((
            TensorSpec::new(name, Format::F32, &[size.hidden]),
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ));
    }
    all
}

/// A repository's folder `name`: a small Llama with a byte vocabulary and a chat template.
pub fn write_repository(folder: &Folder, name: &str) {
    let config = json!({ "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCAB,
        "hidden_size": TINY.hidden, "intermediate_size": TINY.inner, "num_hidden_layers": TINY.layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "torch_dtype": "float32",
        "rope_theta": 10000.0, "tie_word_embeddings": false, "bos_token_id": BOS, "eos_token_id": EOS });
    folder.write(&format!("{name}/config.json"), config.to_string());
    folder.write(&format!("{name}/tokenizer.json"), tokenizer().to_string());
    let words = json!({ "bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE });
    folder.write(&format!("{name}/tokenizer_config.json"), words.to_string());
    let all = tensors(TINY, Format::F32, false);
    let specs: Vec<TensorSpec> = all.iter().map(|t| t.0.clone()).collect();
    let mut w = safetensors::Writer::new(Vec::new(), &[("format", "pt")], &specs).unwrap();
    all.iter().for_each(|t| w.write(&t.1).unwrap());
    folder.write(&format!("{name}/model.safetensors"), w.finish().unwrap());
}

/// An adapter of rank 2 for the queries of the first layer of a repository of [`write_repository`].
#[allow(dead_code)]
pub fn write_adapter(folder: &Folder, name: &str) {
    let config = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"] });
    folder.write(&format!("{name}/adapter_config.json"), config.to_string());
    let module = "base_model.model.model.layers.0.self_attn.q_proj";
    let shapes = [("lora_A", [2, TINY.hidden]), ("lora_B", [TINY.hidden, 2])];
    let specs = shapes.map(|(part, shape)| TensorSpec::new(format!("{module}.{part}.weight"), Format::F32, &shape));
    let mut w = safetensors::Writer::new(Vec::new(), &[("format", "pt")], &specs).unwrap();
    (0..2).for_each(|_| w.write(&0.1f32.to_le_bytes().repeat(2 * TINY.hidden)).unwrap());
    folder.write(&format!("{name}/adapter_model.safetensors"), w.finish().unwrap());
}

/// A GGUF file `name` of the same shape, matrices in `format`, with vocabulary and template.
pub fn write_gguf(folder: &Folder, name: &str, format: Format) {
    write_gguf_of(TINY, folder, name, format);
}

/// One of another size.
pub fn write_gguf_of(size: Size, folder: &Folder, name: &str, format: Format) {
    let words: Vec<String> = vocabulary();
    let types = (0..VOCAB as i32).map(|i| if i < 256 { 1 } else { 3 }).collect();
    let u = |n: usize| Meta::U32(n as u32);
    let metadata = [
        ("general.architecture", Meta::from("llama")),
        ("general.name", Meta::from("tiny")),
        ("llama.block_count", u(size.layers)),
        ("llama.context_length", u(CONTEXT)),
        ("llama.embedding_length", u(size.hidden)),
        ("llama.feed_forward_length", u(size.inner)),
        ("llama.attention.head_count", u(HEADS)),
        ("llama.attention.head_count_kv", u(KV_HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-5)),
        ("llama.rope.freq_base", Meta::F32(10000.0)),
        ("llama.vocab_size", u(VOCAB)),
        ("tokenizer.ggml.model", Meta::from("gpt2")),
        ("tokenizer.ggml.pre", Meta::from("gpt-2")),
        ("tokenizer.ggml.tokens", Meta::Strings(words)),
        ("tokenizer.ggml.token_type", Meta::I32s(types)),
        ("tokenizer.ggml.merges", Meta::Strings(Vec::new())),
        ("tokenizer.ggml.bos_token_id", Meta::U32(BOS)),
        ("tokenizer.ggml.eos_token_id", Meta::U32(EOS)),
        ("tokenizer.ggml.add_bos_token", Meta::Bool(true)),
        ("tokenizer.chat_template", Meta::from(TEMPLATE)),
    ];
    let all = tensors(size, format, true);
    let specs: Vec<TensorSpec> = all.iter().map(|t| t.0.clone()).collect();
    let mut w = gguf::Writer::new(Vec::new(), &metadata, &specs).unwrap();
    all.iter().for_each(|t| w.write(&t.1).unwrap());
    folder.write(name, w.finish().unwrap());
}

/// Bytes as GPT-2 spells them in vocabularies, then the special tokens.
fn vocabulary() -> Vec<String> {
    let plain = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    let mut next = 256;
    let mut words: Vec<String> = (0..256u32)
        .map(|b| {
            let c = if plain(b) {
                b
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(c).unwrap().to_string()
        })
        .collect();
    words.extend(["<s>", "</s>", "<a>", "<b>"].map(str::to_string));
    words
}

fn tokenizer() -> Value {
    let words = vocabulary();
    let vocab: serde_json::Map<String, Value> =
        words.iter().take(256).enumerate().map(|(i, w)| (w.clone(), i.into())).collect();
    let added = |(i, w): (usize, &String)| {
        json!({ "id": i, "content": w, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true })
    };
    let added: Vec<Value> = words.iter().enumerate().skip(256).map(added).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [BOS], "tokens": ["<s>"] } } },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [] }
    })
}
