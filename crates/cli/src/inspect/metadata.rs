//! GGUF metadata values as JSON.
use super::short;
use pondera_weights::gguf::Value;
use serde_json::json;

/// A metadata value as JSON: long texts and arrays by their length.
pub fn json(value: &Value<'_>) -> serde_json::Value {
    const SHOWN_MAX: usize = 16;
    match value {
        Value::Bool(b) => json!(b),
        Value::String(s) => match std::str::from_utf8(s) {
            Ok(s) => short(s),
            Err(_) => json!(format!("{} bytes", s.len())),
        },
        Value::Array(a) if a.len() <= SHOWN_MAX => {
            a.iter().map(|v| v.map_or(serde_json::Value::Null, |v| json(&v))).collect()
        }
        Value::Array(a) => json!(format!("array of {}", a.len())),
        v => match (v.as_i128(), v.as_f64()) {
            (Some(n), _) => {
                i64::try_from(n).map(|n| json!(n)).or_else(|_| u64::try_from(n).map(|n| json!(n))).unwrap_or_default()
            }
            (_, Some(f)) => json!(f),
            _ => serde_json::Value::Null,
        },
    }
}
