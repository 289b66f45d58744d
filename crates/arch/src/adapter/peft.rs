//! Adapters as PEFT saves them: `adapter_config.json` beside `adapter_model.safetensors`.
//!
//! Which modules are adapted is said by the tensors; the configuration gives ranks and scales, by patterns if need be, and
//! names the mechanisms, of which those that are not implemented are refused.
use super::{AdapterFile, Lora, Parsed};
use crate::{Config, Error, Result, error::shortened};
use pondera_quant::{Matrix, TensorView};
use regex_lite::Regex;
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest rank, far above any that is of use.
const RANK_MAX: usize = 1 << 16;

/// Mechanisms that change what an adapter means, and the values with which they do not.
const REFUSED: &[(&str, &[&str])] = &[
    ("layer_replication", &["null", "[]"]),
    ("alora_invocation_tokens", &["null"]),
    ("arrow_config", &["null"]),
    ("use_qalora", &["null", "false"]),
    ("use_bdlora", &["null", "false"]),
    ("trainable_token_indices", &["null"]),
    ("velora_config", &["null"]),
    ("kasa_config", &["null"]),
    ("monteclora_config", &["null"]),
];

/// What `adapter_config.json` says.
struct Keys<'a> {
    keys: &'a Value,
    place: String,
    alphas: Vec<(Regex, f64)>,
    ranks: Vec<(Regex, f64)>,
}

/// Tensors of one module.
#[derive(Default)]
struct Tensors {
    a: Option<(String, TensorView)>,
    b: Option<(String, TensorView)>,
    table: bool,
    magnitude: Option<(String, TensorView)>,
    bias: Option<(String, TensorView)>,
}

pub(super) fn parse(file: &AdapterFile<'_>, text: &[u8]) -> Result<Parsed> {
    let broken = |e: serde_json::Error| Error::config("adapter_config.json", e.to_string()).at(&file.place());
    let keys = Config::parse(text).map_err(broken)?;
    let keys = Keys::read(&keys, file.place())?;
    let (mut modules, mut parsed) = (BTreeMap::<String, Tensors>::new(), Parsed::default());
    for info in file.weights.tensors() {
        let view = file.weights.view(info).map_err(|e| Error::tensor(&info.name, e.to_string()))?;
        let name = info.name.strip_prefix("base_model.model.").unwrap_or(&info.name);
        let tensor = (info.name.to_string(), view);
        let Some((module, part)) = split(name) else {
            let name = name.replace(".base_layer.", ".").replace(".modules_to_save.", ".");
            parsed.full.insert(name, tensor);
            continue;
        };
        let t = modules.entry(module.to_string()).or_default();
        t.table |= part.starts_with("lora_embedding");
        let slot = match part {
            "lora_A.weight" | "lora_embedding_A" => &mut t.a,
            "lora_B.weight" | "lora_embedding_B" => &mut t.b,
            "lora_B.bias" => &mut t.bias,
            "lora_magnitude_vector" => &mut t.magnitude,
            _ => return Err(unknown(&tensor.0)),
        };
        if slot.replace(tensor).is_some() {
            return Err(Error::tensor(&info.name, "its module has two such tensors"));
        }
    }
    for (module, t) in modules {
        let lora = keys.lora(&module, t, file.scale)?;
        parsed.lora.insert(module, lora);
    }
    parsed.tied = keys.flag("ensure_weight_tying");
    Ok(parsed)
}

/// The module and what the tensor is to it; none for a tensor of the base that was saved whole.
fn split(name: &str) -> Option<(&str, &'static str)> {
    const PARTS: [&str; 5] = ["lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_embedding_A", "lora_embedding_B"];
    let at =
        [".lora_A.", ".lora_B.", ".lora_embedding_", ".lora_magnitude_vector"].iter().find_map(|p| name.find(p))?;
    let (module, part) = (&name[..at], &name[at + 1..]);
    if part.starts_with("lora_magnitude_vector") {
        return Some((module, "lora_magnitude_vector"));
    }
    let part = part.replace(".default", "");
    Some((module, PARTS.into_iter().find(|p| *p == part).unwrap_or("")))
}

fn unknown(name: &str) -> Error {
    Error::tensor(name, "is no part of an adapter that is known").hint("plain LoRA, rsLoRA and DoRA are")
}

impl<'a> Keys<'a> {
    fn read(keys: &'a Value, place: String) -> Result<Keys<'a>> {
        let wrong = |key: &str, what: String| Error::unsupported(key, what).at(&place);
        let text = |key: &str| keys.get(key).and_then(Value::as_str);
        match text("peft_type") {
            Some("LORA") => {}
            other => {
                let got = other.map_or("nothing".to_string(), |t| shortened(t).to_string());
                return Err(wrong("peft_type", format!("expected LORA, got {got}")));
            }
        }
        for (key, harmless) in REFUSED {
            let value = keys.get(key).map_or("null".to_string(), Value::to_string);
            if !harmless.contains(&value.as_str()) {
                return Err(wrong(key, format!("{} is not implemented", shortened(&value))));
            }
        }
        let patterns = |key: &str| -> Result<Vec<(Regex, f64)>> {
            let Some(map) = keys.get(key).and_then(Value::as_object) else { return Ok(Vec::new()) };
            let one = |(name, value): (&String, &Value)| {
                let bad = || Error::config(key, format!("{}: expected a pattern and a number", shortened(name)));
                let regex = Regex::new(&format!("^(?:.*\\.)?(?:{name})$")).map_err(|_| bad().at(&place))?;
                Ok((regex, value.as_f64().ok_or_else(|| bad().at(&place))?))
            };
            map.iter().map(one).collect()
        };
        let (alphas, ranks) = (patterns("alpha_pattern")?, patterns("rank_pattern")?);
        Ok(Keys { keys, alphas, ranks, place })
    }

    fn flag(&self, key: &str) -> bool {
        self.keys.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn number(&self, key: &str, patterns: &[(Regex, f64)], module: &str) -> Result<f64> {
        let special = patterns.iter().find(|(regex, _)| regex.is_match(module)).map(|p| p.1);
        let value = special.or_else(|| self.keys.get(key).and_then(Value::as_f64)).filter(|v| v.is_finite());
        value.ok_or_else(|| Error::config(key, "expected a number").at(&self.place))
    }

    /// The change of one module.
    fn lora(&self, module: &str, t: Tensors, scale: f32) -> Result<Lora> {
        let missing = |what: &str| {
            let e = Error::tensor(module, format!("{what} is missing, the other is there")).at(&self.place);
            e.hint("the adapter's file is incomplete")
        };
        let (a, b) = (t.a.ok_or_else(|| missing("lora_A"))?, t.b.ok_or_else(|| missing("lora_B"))?);
        let (rank, inp, a) = values(&a)?;
        let (out, columns, b) = values(&b)?;
        if rank != columns || rank == 0 || rank > RANK_MAX {
            let what = format!("expected ranks of 1 to {RANK_MAX} that are equal, got {rank} and {columns}");
            return Err(Error::tensor(module, what).at(&self.place));
        }
        // Stacks of experts hold the ranks of all.
        let told = self.number("r", &self.ranks, module)?;
        let stacked = super::is_stack(module);
        if !stacked && told != rank as f64 {
            let what = format!("the configuration says rank {told}, its tensors {rank}");
            return Err(Error::tensor(module, what).at(&self.place));
        }
        let alpha = self.number("lora_alpha", &self.alphas, module)?;
        let by = if self.flag("use_rslora") { told.sqrt() } else { told };
        let scale = f64::from(scale) * alpha / by;
        let vector = |t: Option<(String, TensorView)>| t.map(|t| values(&t).map(|v| v.2)).transpose();
        let magnitude = vector(t.magnitude)?;
        if self.flag("use_dora") && magnitude.is_none() {
            return Err(Error::tensor(module, "lora_magnitude_vector is missing").at(&self.place));
        }
        let lora = Lora {
            table: t.table,
            rank,
            rank_of_one: if stacked { told as usize } else { rank },
            inp,
            out,
            a,
            b,
            scale,
            magnitude,
            bias: vector(t.bias)?,
        };
        lora.check(module).map_err(|e| e.at(&self.place))?;
        Ok(lora)
    }
}

/// A tensor of one or two dimensions as f32: rows, columns, values. None may be infinite or NaN.
pub(super) fn values((name, view): &(String, TensorView)) -> Result<(usize, usize, Vec<f32>)> {
    crate::params::numeric(name, view)?;
    let shape: Vec<usize> = match view.shape[..] {
        // Magnitudes of older versions are columns.
        [n, 1] if name.contains("magnitude") => vec![n],
        _ => view.shape.clone(),
    };
    let m = Matrix::new(&TensorView { shape, ..view.clone() })
        .ok_or_else(|| Error::tensor(name, format!("expected a matrix, got {} dimensions", view.shape.len())))?;
    // As many as the file has.
    let mut values = vec![0.0; m.out() * m.inp()];
    m.decode_rows(0..m.out(), &mut values);
    if values.iter().any(|v| !v.is_finite()) {
        return Err(Error::tensor(name, "holds values that are not finite"));
    }
    Ok((m.out(), m.inp(), values))
}
