//! `pondera models`: the catalogue, its filters, and its short names wherever a model is named.
#[path = "../crates/store/tests/hub/mod.rs"]
mod hub;
mod support;

use hub::{Hub, bytes, repo};
use serde_json::Value;
use std::{fs, path::Path};
use support::{Folder, Ran, command, run, write_repository};

fn models(args: &[&str]) -> Vec<Value> {
    let folder = Folder::new();
    let ran = run(folder.path(), &[&["models", "--json"], args].concat());
    ran.json()["models"].as_array().unwrap().clone()
}

#[test]
fn filters_can_be_combined_and_hold() {
    let all = models(&[]);
    assert!(all.len() > 80, "{}", all.len());
    let text = |m: &Value, key: &str| m[key]["value"].as_str().unwrap_or_default().to_lowercase();
    let permissive = models(&["--license", "permissive"]);
    assert!(!permissive.is_empty() && permissive.len() < all.len());
    assert!(permissive.iter().all(|m| m["license_kind"] == "permissive"));
    assert!(models(&["--license", "Llama-3.2"]).iter().all(|m| text(m, "license") == "llama-3.2"));
    assert!(models(&["--maker", "alibaba"]).iter().all(|m| text(m, "maker").contains("alibaba")));
    assert!(
        models(&["--country", "fr"]).iter().all(|m| m["country"]["value"].as_array().unwrap().contains(&"FR".into()))
    );
    let both = models(&["--moe", "--runs", "--license", "apache-2.0"]);
    assert!(!both.is_empty());
    for m in &both {
        assert!(m["moe"]["value"] == true && m["runs"] == true && text(m, "license") == "apache-2.0", "{m}");
    }
    // An unknown licence is nobody's answer to what is permitted.
    assert!(all.iter().any(|m| m["license"].is_null()));
    assert_eq!(models(&["--license", "nosuch"]), Vec::<Value>::new());
}

#[test]
fn what_fits_is_weights_and_cache() {
    let total = |m: &Value| m["memory"]["total"].as_u64().unwrap();
    let small = models(&["--fits", "2GB"]);
    assert!(small.len() > 3 && small.iter().all(|m| total(m) <= 2_000_000_000));
    let llama = |args: &[&str]| {
        models(args).into_iter().find(|m| m["name"] == "meta-llama/Llama-3.1-8B-Instruct").unwrap()["memory"].clone()
    };
    let m = llama(&["--quant", "bf16", "--ctx", "8192"]);
    // 32 layers, 8 heads of 128, keys and values, two bytes each.
    assert_eq!(m["kv"].as_u64(), Some(32 * 2 * 8 * 128 * 2 * 8192));
    assert_eq!(m["weights"].as_u64(), Some(2 * 8_030_261_248));
    assert_eq!(llama(&["--ctx", "8192", "--kv", "f32"])["kv"].as_u64(), m["kv"].as_u64().map(|n| n * 2));
    let names = |list: &[Value]| list.iter().map(|m| m["name"].as_str().unwrap().to_string()).collect::<Vec<_>>();
    let (short, long) = (models(&["--fits", "6GB"]), models(&["--fits", "6GB", "--ctx", "131072"]));
    assert!(names(&short).contains(&"meta-llama/Llama-3.1-8B-Instruct".to_string()));
    assert!(!names(&long).contains(&"meta-llama/Llama-3.1-8B-Instruct".to_string()));
    let folder = Folder::new();
    let ran = run(folder.path(), &["models", "--quant", "Q9"]);
    assert!(ran.code == 2 && ran.err.contains("Q4_K_M"), "{ran:?}");
    assert_eq!(run(folder.path(), &["models", "--fits", "much"]).code, 2);
    assert_eq!(run(folder.path(), &["models", "--families", "--moe"]).code, 2);
}

#[test]
fn facts_come_with_their_sources_and_gaps_are_said() {
    let all = models(&[]);
    for m in &all {
        for key in ["maker", "country", "license", "model_type", "parameters", "context", "recommended_quant"] {
            let fact = &m[key];
            assert!(fact.is_null() || fact["source"].as_str().is_some_and(|s| !s.is_empty()), "{}: {key}", m["name"]);
        }
    }
    let folder = Folder::new();
    let table = run(folder.path(), &["models"]);
    assert_eq!(table.code, 0, "{table:?}");
    for part in ["llama3.2:1b", "meta-llama/Llama-3.2-1B-Instruct", "unknown", "other: muse-spark-open"] {
        assert!(table.out.contains(part), "{part}");
    }
    let families = run(folder.path(), &["models", "--families", "--json"]).json();
    let known: Vec<&str> =
        families["families"].as_array().unwrap().iter().filter_map(|f| f["model_type"].as_str()).collect();
    for m in &all {
        let runs = m["model_type"]["value"]
            .as_str()
            .is_some_and(|t| known.contains(&t) || known.contains(&&*format!("{t}_text")));
        assert_eq!(m["runs"], runs, "{}", m["name"]);
    }
}

fn from(hub: &Hub, folder: &Folder, args: &[&str]) -> Ran {
    command(folder.path(), args).env("HF_ENDPOINT", &hub.address).output().unwrap().into()
}

#[test]
fn short_names_lead_to_their_repositories() {
    const WHOLE: &str = "meta-llama/Llama-3.2-1B-Instruct";
    let (hub, folder) = (Hub::new(), Folder::new());
    write_repository(&folder, "made");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.join("made")).unwrap().flatten() {
        files.push((entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    }
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    hub.put(WHOLE, repo(&files));
    let use_it = ["run", "llama3.2:1b", "--tokens", "1,2", "-n", "2", "--ignore-eos", "--json"];
    let before = from(&hub, &folder, &use_it);
    assert!(before.code == 3 && before.err.contains(&format!("llama3.2:1b is {WHOLE}")), "{before:?}");
    assert!(before.err.contains(&format!("pondera pull {WHOLE}")), "{before:?}");
    let pulled = from(&hub, &folder, &["pull", "llama3.2:1b", "--json"]);
    assert_eq!(pulled.json()["model"], WHOLE);
    assert!(pulled.err.contains(&format!("llama3.2:1b is {WHOLE}")), "{pulled:?}");
    let ran = from(&hub, &folder, &use_it);
    assert_eq!(ran.json()["tokens"].as_array().unwrap().len(), 2);
    for args in [
        &["license", "Llama3.2:1b", "--json"][..],
        &["inspect", "llama3.2:1b@main", "--json"],
        &["show", "llama3.2:1b"],
    ] {
        assert_eq!(from(&hub, &folder, args).code, 0, "{args:?}");
    }
    // Nothing in it says so, but its name does.
    assert_eq!(from(&hub, &folder, &["license", "llama3.2:1b", "--json"]).json()["id"], "Llama-3.2");
    // A folder of that name is what is meant.
    fs::rename(folder.join("made"), folder.join("llama3.2:1b")).unwrap();
    let own = from(&hub, &folder, &use_it);
    assert!(own.json()["model"].as_str().unwrap().starts_with("llama3.2:1b") && !own.err.contains(WHOLE), "{own:?}");
    assert!(Path::new(&folder.join("llama3.2:1b")).is_dir());
    // Words that are no name stay what they are.
    hub.put("org/m", repo(&[("config.json", b"{}".to_vec()), ("model.safetensors", bytes(1, 9))]));
    assert_eq!(from(&hub, &folder, &["pull", "llama9:1b"]).code, 2);
}
