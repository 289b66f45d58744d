//! Two configurations, key by key, in the spelling of `config.json` whatever the format.
use super::open::Side;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Keys that say how files came to be, not what is computed.
const PROVENANCE: &[&str] = &[
    "transformers_version",
    "_name_or_path",
    "torch_dtype",
    "dtype",
    "architectures",
    "quantization_config",
    "auto_map",
];

/// A key that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// `rope_parameters.rope_theta`.
    pub key: String,
    /// Its value in A; `null` where it is absent.
    pub a: Value,
    /// Its value in B.
    pub b: Value,
}

/// Keys that differ. Between formats, only those that both state: a GGUF file has fewer.
pub(super) fn settings(a: &Side, b: &Side) -> Vec<Setting> {
    compare(a.keys(), b.keys(), a.weights.gguf().is_some() == b.weights.gguf().is_some())
}

fn compare(a: &Map<String, Value>, b: &Map<String, Value>, all: bool) -> Vec<Setting> {
    // Nothing beside nothing is no difference of each key.
    if a.is_empty() || b.is_empty() {
        return Vec::new();
    }
    let flat = |keys: &Map<String, Value>| {
        let mut found = BTreeMap::new();
        for (k, v) in keys.iter().filter(|(k, _)| !PROVENANCE.contains(&k.as_str())) {
            match v {
                Value::Object(inner) => {
                    inner.iter().for_each(|(i, v)| _ = found.insert(format!("{k}.{i}"), v.clone()));
                }
                v => _ = found.insert(k.clone(), v.clone()),
            }
        }
        found
    };
    let (a, b) = (flat(a), flat(b));
    let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
    let mut found: Vec<Setting> = keys
        .filter(|k| all || (a.contains_key(*k) && b.contains_key(*k)))
        .map(|k| {
            let of = |m: &BTreeMap<String, Value>| m.get(k).cloned().unwrap_or_default();
            Setting { key: k.clone(), a: of(&a), b: of(&b) }
        })
        .filter(|s| !same(&s.a, &s.b))
        .collect();
    found.sort_by(|x, y| x.key.cmp(&y.key));
    found
}

/// Numbers are equal as f32: GGUF stores them so.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(x), Some(y)) => x as f32 == y as f32,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_compared_as_what_they_mean() {
        let map = |v: Value| v.as_object().cloned().unwrap();
        let a =
            map(json!({"hidden_size": 8, "rms_norm_eps": 1e-5, "rope": {"theta": 1e4}, "dtype": "float32", "only": 1}));
        let b = map(json!({"hidden_size": 8, "rms_norm_eps": 1e-5f32, "rope": {"theta": 1e6}, "dtype": "bfloat16"}));
        let keys = |all| compare(&a, &b, all).into_iter().map(|s| s.key).collect::<Vec<_>>();
        assert_eq!(keys(true), ["only", "rope.theta"]);
        assert_eq!(keys(false), ["rope.theta"]);
        assert!(compare(&a, &Map::new(), true).is_empty());
    }
}
