//! Adapters in GGUF files (llama.cpp): `blk.N.attn_q.weight.lora_a` and `.lora_b`, scaled by `adapter.lora.alpha` over the
//! rank.
use super::{AdapterFile, Lora, Parsed, peft::values};
use crate::{Error, Result};
use pondera_weights::gguf::Gguf;
use std::collections::BTreeMap;

pub(super) fn parse(file: &AdapterFile<'_>, gguf: &Gguf) -> Result<Parsed> {
    let text = |key: &str| gguf.str(key).ok().flatten();
    let expect = |key: &str, want: &str| match text(key) {
        Some(got) if got == want => Ok(()),
        got => Err(Error::unsupported(key, format!("expected {want}, got {}", got.unwrap_or("nothing")))),
    };
    expect("general.type", "adapter").map_err(|e| e.hint("the file is no adapter"))?;
    expect("adapter.type", "lora")?;
    let alpha = gguf.f64("adapter.lora.alpha").ok().flatten().filter(|a| a.is_finite());
    let alpha = alpha.ok_or_else(|| Error::config("adapter.lora.alpha", "expected a number"))?;
    let mut pairs: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    for info in file.weights.tensors() {
        let ends = [".weight.lora_a", ".weight.lora_b"].map(|s| info.name.strip_suffix(s));
        let found = ends.iter().enumerate().find_map(|(i, m)| Some((i, (*m)?)));
        let (i, module) = found.ok_or_else(|| Error::tensor(&info.name, "is no part of an adapter that is known"))?;
        pairs.entry(module).or_default()[i] = Some(&info.name);
    }
    let mut parsed = Parsed::default();
    for (module, pair) in pairs {
        let [Some(a), Some(b)] = pair else {
            return Err(Error::tensor(module, "lora_a or lora_b is missing, the other is there"));
        };
        let read = |name: &str| {
            let view = file.weights.get(name).map_err(|e| Error::tensor(name, e.to_string()))?;
            values(&(name.to_string(), view))
        };
        let ((rank, inp, a), (out, columns, b)) = (read(a)?, read(b)?);
        // llama.cpp's converter stores an embedding's first matrix the other way round.
        let table = module == "token_embd";
        let (rank, inp, a) = if table { (inp, rank, super::transposed(&a, rank, inp)) } else { (rank, inp, a) };
        if rank != columns || rank == 0 {
            return Err(Error::tensor(module, format!("expected equal ranks, got {rank} and {columns}")));
        }
        // llama.cpp: without an alpha, the scale alone.
        let scale = f64::from(file.scale) * if alpha == 0.0 { 1.0 } else { alpha / rank as f64 };
        let lora = Lora { table, rank, rank_of_one: rank, inp, out, a, b, scale, magnitude: None, bias: None };
        parsed.lora.insert(module.to_string(), lora);
    }
    Ok(parsed)
}
