//! What `quantization_config` says about how weights are packed.
use super::shown;
use crate::{Error, Result, error::shortened};
use serde_json::{Map, Value};

/// A packing that a quantization tool left in `quantization_config` (or `hf_quant_config.json`).
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    /// The tool's name: `fp8`, `gptq`, `awq`, `compressed-tensors`, `modelopt`, `mxfp4`.
    pub method: String,
    /// The whole entry.
    pub keys: Map<String, Value>,
}

/// Methods whose layouts can be read.
const METHODS: &[&str] = &["fp8", "gptq", "awq", "compressed-tensors", "modelopt", "mxfp4"];

impl Quantization {
    /// Reads a `quantization_config`; null is none.
    pub(crate) fn read(value: &Value) -> Result<Option<Quantization>> {
        let keys = match value {
            Value::Null => return Ok(None),
            Value::Object(o) => o.clone(),
            v => return Err(Error::config("quantization_config", format!("expected an object, got {}", shown(v)))),
        };
        let method = keys.get("quant_method").and_then(Value::as_str);
        let method = method.ok_or_else(|| Error::config("quantization_config.quant_method", "absent"))?.to_string();
        Quantization { method, keys }.known().map(Some)
    }

    /// Reads a `hf_quant_config.json`.
    pub(crate) fn read_modelopt(value: &Value) -> Result<Option<Quantization>> {
        let Some(Value::Object(inner)) = value.get("quantization") else { return Ok(None) };
        Ok(Some(Quantization { method: "modelopt".into(), keys: inner.clone() }))
    }

    fn known(self) -> Result<Quantization> {
        if METHODS.contains(&self.method.as_str()) {
            return Ok(self);
        }
        let what = format!("{} is not implemented", shortened(&self.method));
        Err(Error::unsupported("quantization_config.quant_method", what)
            .hint(format!("implemented: {}", METHODS.join(", "))))
    }
}
