//! What `quantization_config` says about how weights are packed, as far as configurations go: the storage itself is
//! described by [`pondera_quant::packed`].
use crate::{Error, Result};
use pondera_quant::{ErrorKind, packed::QuantMethod};
use serde_json::Value;

/// A packing that a quantization tool left in `quantization_config` (or `hf_quant_config.json`).
#[derive(Clone, Debug)]
pub struct Quantization {
    /// The tool's name: `fp8`, `gptq`, `awq`, `compressed-tensors`, `modelopt`, `mxfp4`.
    pub method: String,
    /// Which module is stored how.
    pub storage: QuantMethod,
}

impl Quantization {
    /// Reads a configuration, or what lies beside it.
    pub(crate) fn read(config: &Value, beside: Option<&Value>) -> Result<Option<Quantization>> {
        let storage = QuantMethod::from_config(config, beside).map_err(|e| {
            let what = format!("expected {}, got {}", e.expected, e.got);
            match e.kind {
                ErrorKind::Unsupported => Error::unsupported(&e.part, what),
                _ => Error::config(&e.part, what),
            }
        })?;
        Ok(storage.map(|storage| Quantization { method: storage.name().to_string(), storage }))
    }
}
