//! The table's promises: every fact has a source, licences are known or said to be unknown, what claims to run does,
//! counts agree with the shapes that the engine computes, and all of it with the surveys that it was made from.
use super::*;
use pondera_arch::{FAMILIES, Model as Graph, SHAPES, Source};
use std::{fs, path::Path};

fn facts() -> Vec<(String, &'static str)> {
    let mut all = Vec::new();
    for f in &catalogue().families {
        let json = serde_json::to_value(f).unwrap();
        walk(&f.name, &json, &mut all);
    }
    all.extend(catalogue().bits.iter().map(|(k, b)| (k.clone(), b.source)));
    all
}

/// Everything that has a value has a source beside it.
fn walk(place: &str, json: &serde_json::Value, all: &mut Vec<(String, &'static str)>) {
    match json {
        serde_json::Value::Object(map) if map.contains_key("value") => {
            let source = map.get("source").and_then(|s| s.as_str()).unwrap_or_default().to_string();
            all.push((place.into(), source.leak()));
        }
        serde_json::Value::Object(map) => map.iter().for_each(|(k, v)| walk(&format!("{place}.{k}"), v, all)),
        serde_json::Value::Array(list) => list.iter().for_each(|v| walk(place, v, all)),
        _ => {}
    }
}

#[test]
fn every_fact_has_a_source() {
    let all = read(TABLE).unwrap();
    assert!(all.families.len() > 50 && all.families.iter().map(|f| f.models.len()).sum::<usize>() > 80);
    let facts = facts();
    assert!(facts.len() > 500, "{}", facts.len());
    for (place, source) in facts {
        assert!(source.len() > 10, "{place}: {source:?}");
    }
    assert!(read(&TABLE.replacen("\"llama-models\"]", "\"hearsay\"]", 1)).unwrap_err().contains("hearsay"));
}

#[test]
fn names_are_told_apart() {
    let (mut names, mut aliases) = (Vec::new(), Vec::new());
    for m in catalogue().families.iter().flat_map(|f| &f.models) {
        assert!(m.name.split('/').count() == 2 && !m.name.contains(' '), "{}", m.name);
        names.push(m.name.to_lowercase());
        for a in &m.aliases {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".:-".contains(c);
            assert!(a.chars().all(plain), "{a}");
            aliases.push(a.clone());
        }
    }
    let (n, a) = (names.len(), aliases.len());
    for list in [&mut names, &mut aliases] {
        list.sort();
        list.dedup();
    }
    assert_eq!((names.len(), aliases.len()), (n, a));
    assert_eq!(alias("Llama3.2:1b").map(|m| &*m.name), Some("meta-llama/Llama-3.2-1B-Instruct"));
    assert!(alias("llama").is_none() && alias("").is_none());
    assert_eq!(model("qwen/qwen3-8b").map(|(f, _)| &*f.name), Some("Qwen3"));
}

#[test]
fn licences_are_known_or_said_not_to_be() {
    for f in &catalogue().families {
        for l in f.models.iter().filter_map(|m| f.license_of(m)) {
            let known = terms::of(&l.value).is_some_and(|t| t.id == l.value);
            assert!(
                known || l.value.starts_with("other: ") && terms::of(&l.value).is_none(),
                "{}: {}",
                f.name,
                l.value
            );
        }
        // Where the table of terms knows a model by its name, it says the same.
        for m in &f.models {
            if let (Some(l), Some(by_name)) = (f.license_of(m), terms::of_model(&m.name)) {
                assert_eq!(l.value, by_name.id, "{}", m.name);
            }
        }
    }
    assert!(license_fits("Apache-2.0", "permissive") && license_fits("Apache-2.0", "apache-2.0"));
    assert!(license_fits("Llama-3.2", "llama3.2") && !license_fits("Llama-3.2", "permissive"));
    assert!(!license_fits("other: muse-spark-open", "permissive"));
}

#[test]
fn what_claims_to_run_is_in_the_table_of_families() {
    let mut claims = 0;
    for f in &catalogue().families {
        let claimed = f.model_type.as_ref().filter(|t| t.source.contains("table of families"));
        if let Some(t) = claimed {
            let family = FAMILIES.iter().find(|x| x.model_type == t.value);
            let family = family.unwrap_or_else(|| panic!("{}: {} is no family", f.name, t.value));
            if let (Some(g), Some((archs, _))) = (&f.gguf, family.gguf) {
                assert!(archs.split('|').any(|a| a == g.value), "{}: {} is none of {archs}", f.name, g.value);
            }
            claims += 1;
        }
    }
    assert!(claims > 12, "{claims}");
}

#[test]
fn counts_agree_with_what_the_engine_computes() {
    let pairs = [
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("llama-3.2-1b", "meta-llama/Llama-3.2-1B-Instruct"),
        ("mistral-7b", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("mixtral-8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("qwen3-0.6b", "Qwen/Qwen3-0.6B"),
        ("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B-Instruct-2507"),
        ("deepseek-v2-lite", "deepseek-ai/DeepSeek-V2-Lite-Chat"),
    ];
    for (shape, name) in pairs {
        let config = SHAPES.iter().find(|s| s.name == shape).unwrap().config(None).unwrap();
        let graph = Graph::load(&config, &Source::Describe).unwrap();
        let (_, m) = model(name).unwrap();
        let near = |a: u64, b: u64| (a as f64 - b as f64).abs() / b as f64;
        let total = graph.description().parameters_total;
        assert!(near(m.parameters.as_ref().unwrap().value, total) < 0.005, "{name}: {total}");
        if let Some(active) = &m.active {
            assert!(near(active.value, graph.description().parameters_active) < 0.01, "{name}");
        }
        if shape != "mistral-7b" {
            // Of the first Mistral the window is another.
            let want = pondera_arch::Description::kv_bytes(graph.caches(), 8192, pondera_ops::KvType::F16);
            assert_eq!(m.kv_bytes(8192, 2.0), Some(want), "{name}");
        }
    }
}

#[test]
fn a_window_bounds_its_layers() {
    let (_, m) = model("google/gemma-3-1b-it").unwrap();
    let [windowed, full] = m.kv.as_ref().unwrap().value[..] else { panic!() };
    assert_eq!(m.kv_bytes(512, 2.0), Some(2 * (windowed[0] + full[0]) * 512 * 512));
    assert_eq!(m.kv_bytes(1024, 2.0), Some(2 * (windowed[0] * 512 * 512 + full[0] * 512 * 1024)));
    assert_eq!(m.weight_bytes(8.0), Some(m.parameters.as_ref().unwrap().value));
}

/// Letters and digits alone: the surveys are punctuated differently.
fn bare(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}

#[test]
fn the_table_agrees_with_the_surveys_where_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference");
    let rows = |name: &str| -> Option<Vec<serde_json::Value>> {
        let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok()?;
        Some(json.get("rows")?.as_array()?.clone())
    };
    let (Some(architectures), Some(licenses)) = (rows("architectures.json"), rows("licenses.json")) else {
        eprintln!("no surveys at {}: nothing is compared", folder.display());
        return;
    };
    let text =
        |row: &serde_json::Value, key: &str| row.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_string();
    let mut compared = 0;
    for row in &architectures {
        let Some(f) = catalogue().families.iter().find(|f| f.name == text(row, "family")) else { continue };
        assert_eq!(f.model_type.as_ref().map(|t| t.value.clone()), Some(text(row, "hf_model_type")), "{}", f.name);
        assert_eq!(f.maker.as_ref().map(|t| t.value.clone()), Some(text(row, "maker")), "{}", f.name);
        if let Some(g) = &f.gguf {
            assert_eq!(g.value, text(row, "gguf_arch"), "{}", f.name);
        }
        compared += 1;
    }
    assert!(compared > 35, "{compared}");
    // Countries come from rows that name what was read, and from no others.
    for f in &catalogue().families {
        let Some(country) = &f.country else { continue };
        let read = |row: &&serde_json::Value| {
            let evidence = bare(&text(row, "evidence"));
            !evidence.is_empty() && bare(country.source).starts_with(&evidence) && text(row, "confidence") == "stored"
        };
        let stored: Vec<String> = licenses.iter().filter(read).map(|row| text(row, "country")).collect();
        assert!(stored.contains(&country.value.join("/")), "{}: {stored:?} {}", f.name, country.source);
    }
}
