//! Flags that several commands share: how a model computes and how tokens are chosen.
use crate::error::{Error, Result};
use clap::ValueEnum;
use pondera_engine::{EngineOptions, Isa, KvType, Layout, Sampling};
use serde::Deserialize;
use std::{path::Path, str::FromStr};

/// Type of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kv {
    /// Exact
    F32,
    /// Half the memory
    F16,
    /// A byte a value, and a scale per position and head
    Q8,
}

impl From<Kv> for KvType {
    fn from(kv: Kv) -> KvType {
        match kv {
            Kv::F32 => KvType::F32,
            Kv::F16 => KvType::F16,
            Kv::Q8 => KvType::Q8,
        }
    }
}

/// Instruction sets that can be forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Instructions {
    /// The specification itself, without SIMD
    Scalar,
    /// x86-64 with AVX2 and FMA
    Avx2,
    /// x86-64 with AVX-512
    Avx512,
    /// AVX-512, and AMX for many tokens at once
    Amx,
    /// 64-bit Arm
    Neon,
}

/// Where weights lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Placement {
    /// In the file at first, then tensor by tensor in a faster order
    Auto,
    /// In the file: nothing is copied, other programs share it
    Mapped,
    /// In the faster order before they are used
    Packed,
}

impl From<Placement> for Layout {
    fn from(p: Placement) -> Layout {
        match p {
            Placement::Auto => Layout::Auto,
            Placement::Mapped => Layout::Mapped,
            Placement::Packed => Layout::Packed,
        }
    }
}

/// How a model computes. Only `--kv` changes results.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Compute")]
pub struct Compute {
    /// Most tokens of prompt and answer together [default: what the model was trained for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub ctx: Option<u32>,
    /// Type of the KV cache
    #[arg(long, value_name = "TYPE", value_enum)]
    pub kv: Option<Kv>,
    /// Force an instruction set [default: the best there is]
    #[arg(long, value_enum)]
    pub isa: Option<Instructions>,
    /// Where weights lie in memory [default: auto]
    #[arg(long, value_enum)]
    pub layout: Option<Placement>,
    /// Tokens of the prompt per step
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub chunk: Option<u32>,
}

impl Compute {
    /// The engine's options; `kv` is the command's default.
    pub fn options(&self, threads: Option<u16>, kv: KvType) -> Result<EngineOptions> {
        let mut options = EngineOptions { kv: self.kv.map_or(kv, KvType::from), ..EngineOptions::default() };
        options.threads = threads.map_or(0, usize::from);
        options.ctx = self.ctx.map(|n| n as usize);
        if let Some(chunk) = self.chunk {
            options.chunk = chunk as usize;
            options.max_rows = options.max_rows.max(options.chunk);
        }
        options.layout = self.layout.map_or(options.layout, Layout::from);
        options.isa = self.isa.map(isa).transpose()?;
        Ok(options)
    }
}

fn isa(wanted: Instructions) -> Result<Isa> {
    let name = wanted.to_possible_value().map(|v| v.get_name().to_string()).unwrap_or_default();
    let found = Isa::from_str(&name).ok().filter(|i| i.supported());
    found.ok_or_else(|| {
        Error::usage(format!("--isa {name}: this machine lacks it"))
            .hint("leave --isa out: the best path is chosen at run time")
    })
}

/// How tokens are chosen. Unset values come from the model's `generation_config.json`, then from [`DEFAULTS`].
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Sampling")]
pub struct Choice {
    /// Randomness; 0 always takes the likeliest token [default: 0.7]
    #[arg(long, visible_alias = "temp", value_name = "T")]
    pub temperature: Option<f32>,
    /// Choose among the N likeliest; 0 for all [default: 0]
    #[arg(long, value_name = "N")]
    pub top_k: Option<u32>,
    /// Choose among the likeliest that together reach this probability [default: 0.95]
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Choose among those at least this fraction as likely as the likeliest [default: 0.05]
    #[arg(long, value_name = "P")]
    pub min_p: Option<f32>,
    /// Locally typical sampling up to this probability; 1 for off [default: 1]
    #[arg(long, visible_alias = "typical-p", value_name = "P")]
    pub typical: Option<f32>,
    /// Divide the logits of tokens that were there before [default: 1]
    #[arg(long, visible_alias = "repetition-penalty", value_name = "X")]
    pub repeat_penalty: Option<f32>,
    /// Subtract this per earlier use of a token [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub frequency_penalty: Option<f32>,
    /// Subtract this if a token was used before [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,
    /// Add X to a token's logit, as ID=X; may be repeated
    #[arg(long, value_name = "ID=X", value_parser = bias)]
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text everywhere [default: another each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// What is used where neither the user nor the model says anything.
const DEFAULTS: (f32, u32, f32, f32) = (0.7, 0, 0.95, 0.05);

fn bias(text: &str) -> std::result::Result<(u32, f32), String> {
    let (id, value) = text.split_once(['=', ':']).ok_or("expected ID=X")?;
    let id = id.trim().parse().map_err(|_| format!("{id:?} is no token id"))?;
    Ok((id, value.trim().parse().map_err(|_| format!("{value:?} is no number"))?))
}

/// What a model's publisher recommends. Other keys of the file are not about sampling.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Recommended {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repetition_penalty: Option<f32>,
}

/// Longest `generation_config.json` that is read; published ones have less than a kilobyte.
const RECOMMENDED_BYTES_MAX: u64 = 1 << 20;

impl Recommended {
    /// The `generation_config.json` of a model's folder; nothing where there is none.
    pub fn of(folder: &Path) -> Result<Recommended> {
        let file = folder.join("generation_config.json");
        match std::fs::metadata(&file) {
            Ok(m) if m.is_file() && m.len() <= RECOMMENDED_BYTES_MAX => {}
            _ => return Ok(Recommended::default()),
        }
        let text = std::fs::read(&file).map_err(|e| Error::io(file.display(), &e))?;
        let read: Recommended = serde_json::from_slice(&text).map_err(|e| {
            Error::file(format!("{}: {e}", file.display()))
                .hint("mend or remove the file: it only recommends sampling values")
        })?;
        // Greedy models carry the library's sampling defaults along; they mean nothing there.
        Ok(if read.do_sample == Some(true) { read } else { Recommended::default() })
    }
}

impl Choice {
    /// The values to sample with, and the seed that was drawn or given.
    pub fn sampling(&self, model: &Recommended) -> Sampling {
        self.over(model, DEFAULTS)
    }

    /// The same over other defaults: temperature, `top_k`, `top_p`, `min_p`.
    pub fn over(&self, model: &Recommended, (temperature, top_k, top_p, min_p): (f32, u32, f32, f32)) -> Sampling {
        Sampling {
            temperature: self.temperature.or(model.temperature).unwrap_or(temperature),
            top_k: self.top_k.or(model.top_k).unwrap_or(top_k) as usize,
            top_p: self.top_p.or(model.top_p).unwrap_or(top_p),
            min_p: self.min_p.or(model.min_p).unwrap_or(min_p),
            typical_p: self.typical.or(model.typical_p).unwrap_or(1.0),
            repetition_penalty: self.repeat_penalty.or(model.repetition_penalty).unwrap_or(1.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            logit_bias: self.logit_bias.clone(),
            seed: self.seed.unwrap_or_else(drawn_seed),
        }
    }
}

/// A seed from the clock: small enough to be typed again.
fn drawn_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(20)) % 1_000_000_007
}

/// Token ids as `1,2,3`.
pub fn ids(text: &str) -> std::result::Result<Ids, String> {
    let words = text.split([',', ' ', '\n']).map(str::trim).filter(|w| !w.is_empty());
    let ids =
        words.map(|w| w.parse().map_err(|_| format!("{w:?} is no token id"))).collect::<std::result::Result<_, _>>()?;
    Ok(Ids(ids))
}

/// A list of token ids given as one argument.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids(pub Vec<u32>);

/// An amount of memory as people write it: `12GB`, `8 GiB`, `1.5g`; a number alone counts bytes.
///
/// # Errors
/// What it should be.
pub fn bytes(text: &str) -> std::result::Result<u64, String> {
    let wrong = || format!("expected an amount such as 12GB or 8GiB, got {text:?}");
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number);
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024f64.powi(2),
        "g" | "gib" => 1024f64.powi(3),
        "t" | "tib" => 1024f64.powi(4),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(wrong()),
    };
    let amount = number.parse::<f64>().map_err(|_| wrong())? * power;
    if (1.0..1e18).contains(&amount) { Ok(amount as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn amounts_of_memory_are_read() {
        for (text, want) in [
            ("1024", Some(1024)),
            ("12GB", Some(12_000_000_000)),
            ("8 GiB", Some(8 << 30)),
            ("1.5g", Some(3 << 29)),
            ("0", None),
            ("GB", None),
            ("-1", None),
            ("1e9", None),
            ("5 apples", None),
            ("999999999TB", None),
        ] {
            assert_eq!(super::bytes(text).ok(), want, "{text}");
        }
    }

    use super::*;

    #[test]
    fn ids_and_biases_are_read_or_refused() {
        assert_eq!(ids("1,2, 3").unwrap().0, [1, 2, 3]);
        assert!(ids("1,x").is_err() && ids("-1").is_err() && ids("4294967296").is_err());
        assert_eq!(bias("5=-2.5").unwrap(), (5, -2.5));
        assert!(bias("5").is_err() && bias("a=1").is_err());
    }

    #[test]
    fn flags_win_over_the_model_and_the_model_over_defaults() {
        let model = Recommended { temperature: Some(0.6), top_k: Some(20), ..Recommended::default() };
        let flags = Choice { temperature: Some(0.0), seed: Some(7), ..Choice::default() };
        let s = flags.sampling(&model);
        assert_eq!((s.temperature, s.top_k, s.top_p, s.seed), (0.0, 20, 0.95, 7));
    }
}
