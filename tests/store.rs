//! The store's commands: what they print, how they end, and that what was pulled runs.
#[path = "../crates/store/tests/hub/mod.rs"]
mod hub;
mod support;

use hub::{Fault, Hub, Registry, Repo, TOKEN, bytes, repo};
use pondera::quant::Format;
use serde_json::json;
use std::fs;
use support::{Folder, Ran, command, write_gguf, write_repository};

/// The binary against this hub, with the folder as home.
fn run(hub: &Hub, folder: &Folder, args: &[&str]) -> Ran {
    let mut c = command(folder.path(), args);
    c.env("HF_ENDPOINT", &hub.address).output().unwrap().into()
}

/// A model that runs, as a GGUF repository and as a folder.
fn models(folder: &Folder) -> (Repo, Repo) {
    let gguf = |name: &str, format| {
        write_gguf(folder, name, format);
        fs::read(folder.join(name)).unwrap()
    };
    let quants = repo(&[("m-F32.gguf", gguf("a.gguf", Format::F32)), ("m-Q8_0.gguf", gguf("b.gguf", Format::Q8_0))]);
    write_repository(folder, "llama");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.join("llama")).unwrap().flatten() {
        files.push((entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    }
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    (quants, repo(&files))
}

#[test]
fn what_was_pulled_runs() {
    let (hub, folder) = (Hub::new(), Folder::new());
    let (quants, dense) = models(&folder);
    hub.put("org/quants", quants);
    hub.put("org/dense", dense);
    for reference in ["org/quants:q8_0", "org/dense", "org/dense@main"] {
        let before = run(&hub, &folder, &["run", reference, "--tokens", "1,2", "-n", "2", "--json"]);
        if reference != "org/dense@main" {
            assert_eq!(before.code, 3, "{before:?}");
            assert!(before.err.contains(&format!("pondera pull {reference}")), "{before:?}");
        }
        let pulled = run(&hub, &folder, &["pull", reference, "--json"]).json();
        for key in ["model", "revision", "commit", "path", "bytes", "fetched_bytes"] {
            assert!(!pulled[key].is_null(), "{key}: {pulled}");
        }
        let file = &pulled["files"][0];
        assert!(file["size"].is_u64() && file["digest"].as_str().unwrap().contains(':'), "{pulled}");
        hub.forget();
        let ran =
            run(&hub, &folder, &["run", reference, "--tokens", "1,2", "-n", "2", "--ignore-eos", "--json"]).json();
        assert_eq!(ran["tokens"].as_array().unwrap().len(), 2);
        assert!(hub.log().is_empty(), "running asks nobody");
        assert_eq!(run(&hub, &folder, &["verify", reference, "--json"]).json()["holds"], true);
    }
    let listed = run(&hub, &folder, &["list", "--json"]).json();
    assert_eq!(listed["models"].as_array().unwrap().len(), 2);
    let table = run(&hub, &folder, &["list"]);
    assert!(table.out.contains("org/quants") && table.out.contains("main"), "{table:?}");
    // The other type is not here, and the error says how to get it.
    let other = run(&hub, &folder, &["run", "org/quants:f32", "x"]);
    assert_eq!(other.code, 3);
    assert!(other.err.contains("pondera pull org/quants:f32"), "{other:?}");
}

#[test]
fn every_kind_of_failure_has_its_exit_code_and_two_lines() {
    let (hub, folder) = (Hub::new(), Folder::new());
    let sound = || repo(&[("config.json", b"{}".to_vec()), ("model.safetensors", bytes(1, 5000))]);
    hub.put("org/m", sound());
    hub.put("org/gated", Repo { gated: true, ..sound() });
    hub.put("org/unsafe", repo(&[("../x", vec![]), ("model.safetensors", bytes(1, 9))]));
    hub.put("org/two", repo(&[("a-Q8_0.gguf", bytes(1, 9)), ("b-Q8_0.gguf", bytes(2, 9))]));
    hub.put("org/bad", sound());
    hub.hook(|r| (r.path.contains("/bad/") && r.away).then_some(Fault::Flip(77)));
    for (args, code, says) in [
        (vec!["pull", "org/gated"], 1, "HF_TOKEN"),
        (vec!["pull", "org/none"], 1, "no such repository"),
        (vec!["pull", "org/m@nope"], 1, "nope"),
        (vec!["pull", "org/bad"], 3, "not the bytes"),
        (vec!["pull", "org/unsafe"], 3, "leaves the folder"),
        (vec!["pull", "org/two"], 2, "a-Q8_0"),
        (vec!["pull", "org/two:Q4_K_M"], 2, "b-Q8_0"),
        (vec!["pull", "../etc"], 2, "org/name"),
        (vec!["pull", "org/m", "--include", "*.onnx"], 2, "model.safetensors"),
        (vec!["pull", "org/m", "--offline"], 1, "--offline"),
        (vec!["show", "org/m"], 3, "pondera pull org/m"),
        (vec!["verify", "org/m"], 3, "pondera pull org/m"),
        (vec!["rm", "org/m"], 3, "not in"),
        (vec!["rm", "nothing"], 3, "nothing"),
        (vec!["run", "ollama:nothing", "x"], 3, "ollama list"),
    ] {
        let ran = run(&hub, &folder, &args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.err.contains(says), "{args:?}: {ran:?}");
        // Beside lines of the log, of tries before the last.
        let error = ran.err.lines().filter(|l| !l.starts_with("warning:")).count();
        assert_eq!(error, 2, "{args:?}: {ran:?}");
        assert!(ran.out.is_empty(), "{args:?}: {ran:?}");
    }
    // A token lets in, and is shown nowhere.
    let mut c = command(folder.path(), &["pull", "org/gated", "-vv"]);
    let ran: Ran = c.env("HF_ENDPOINT", &hub.address).env("HF_TOKEN", TOKEN).output().unwrap().into();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.err.contains(TOKEN) && !ran.out.contains(TOKEN), "{ran:?}");
}

#[test]
fn a_damaged_file_is_named_and_fetched_again() {
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/m", repo(&[("config.json", b"{}".to_vec()), ("model.safetensors", bytes(1, 5000))]));
    let path = run(&hub, &folder, &["pull", "org/m", "--json"]).json()["path"].as_str().unwrap().to_string();
    let blob = fs::canonicalize(format!("{path}/model.safetensors")).unwrap();
    let mut content = fs::read(&blob).unwrap();
    content[2500] ^= 4;
    fs::write(&blob, content).unwrap();
    let found = run(&hub, &folder, &["verify", "org/m"]);
    assert_eq!(found.code, 3);
    assert!(found.err.contains("model.safetensors") && found.err.contains("--recheck"), "{found:?}");
    let object = run(&hub, &folder, &["verify", "org/m", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&object.out).unwrap();
    assert_eq!((object["holds"].clone(), object["bad"][0]["path"].clone()), (false.into(), "model.safetensors".into()));
    assert!(
        run(&hub, &folder, &["pull", "org/m", "--recheck", "--json"]).json()["fetched_bytes"].as_u64().unwrap() > 0
    );
    assert_eq!(run(&hub, &folder, &["verify", "org/m"]).code, 0);
    let freed = run(&hub, &folder, &["rm", "org/m", "--json"]).json();
    assert!(freed["bytes"].as_u64().unwrap() >= 5000);
    assert_eq!(run(&hub, &folder, &["du", "--json"]).json()["bytes"], 0);
}

#[test]
fn a_model_of_ollamas_is_used_where_it_lies() {
    let (hub, folder) = (Hub::new(), Folder::new());
    write_gguf(&folder, "a.gguf", Format::F32);
    let content = fs::read(folder.join("a.gguf")).unwrap();
    let digest = hub::sha256(&content);
    let blob = folder.write(&format!(".ollama/models/blobs/sha256-{digest}"), &content);
    let layer = |kind: &str| {
        format!(
            r#"{{"mediaType": "application/vnd.ollama.image.{kind}", "digest": "sha256:{digest}", "size": {}}}"#,
            content.len()
        )
    };
    let manifest = format!(r#"{{"schemaVersion": 2, "layers": [{}, {}]}}"#, layer("model"), layer("license"));
    folder.write(".ollama/models/manifests/registry.ollama.ai/library/tiny/1b", &manifest);
    folder.write(
        ".ollama/models/manifests/registry.ollama.ai/library/bad/latest",
        r#"{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x", "size": 1}]}"#,
    );
    let listed = run(&hub, &folder, &["list", "--json"]).json();
    assert_eq!(
        (listed["ollama"].as_array().unwrap().len(), listed["ollama"][0]["name"].as_str()),
        (1, Some("ollama:tiny:1b"))
    );
    let go = |name: &str| run(&hub, &folder, &["run", name, "--tokens", "1,2", "-n", "1", "--ignore-eos", "--json"]);
    go("ollama:tiny:1b").json();
    assert_eq!(run(&hub, &folder, &["run", "ollama:bad", "x"]).code, 3);
    assert_eq!(run(&hub, &folder, &["run", "ollama:../bad", "x"]).code, 2);
    run(&hub, &folder, &["pull", "ollama:tiny:1b", "--as", "mine", "--json"]).json();
    go("mine").json();
    assert_eq!(run(&hub, &folder, &["rm", "mine"]).code, 0);
    assert_eq!(go("mine").code, 3);
    // A blob that was changed is not taken.
    let mut bad = content;
    bad[100] ^= 1;
    fs::write(&blob, bad).unwrap();
    assert_eq!(run(&hub, &folder, &["pull", "ollama:tiny:1b"]).code, 3);
}

/// An artefact of an OCI registry: fetched, listed, run, inspected, judged and removed as what comes from a hub.
#[test]
fn an_artefact_of_a_registry_runs() {
    let (hub, folder) = (Hub::new(), Folder::new());
    write_gguf(&folder, "a.gguf", Format::Q8_0);
    let (weights, card) =
        (fs::read(folder.join("a.gguf")).unwrap(), b"# A model that says nothing of its licence\n".to_vec());
    let mut registry = Registry::default();
    let layers: Vec<_> = [("weight", "m.gguf", &weights), ("doc", "README.md", &card)]
        .into_iter()
        .map(|(kind, path, content)| {
            let digest = registry.blob("org/m", content);
            json!({ "mediaType": format!("application/vnd.cncf.model.{kind}.v1.raw"), "digest": digest,
                "size": content.len(), "annotations": { "org.cncf.model.filepath": path } })
        })
        .collect();
    let licensed = br#"{"descriptor":{"licenses":["MIT"]}}"#;
    let config = registry.blob("org/m", licensed);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "layers": layers,
        "config": { "mediaType": "application/vnd.cncf.model.config.v1+json", "digest": config, "size": licensed.len() } });
    let digest = registry.manifest("org/m", &["v1"], kind, manifest.to_string().as_bytes());
    hub.registry(registry);
    let name = format!("oci://{}/org/m", hub.address.trim_start_matches("http://"));
    let (tagged, pinned) = (format!("{name}:v1"), format!("{name}@{digest}"));
    let before = run(&hub, &folder, &["run", &tagged, "--tokens", "1,2", "-n", "2"]);
    assert!(before.code == 3 && before.err.contains(&format!("pondera pull {tagged}")), "{before:?}");
    let offline = run(&hub, &folder, &["--offline", "pull", &tagged]);
    assert!(offline.code == 1 && hub.log().is_empty(), "{offline:?}");
    let seen = run(&hub, &folder, &["inspect", &tagged, "--json"]).json();
    assert!(seen.to_string().contains("llama"), "a look at it takes no pull: {seen}");
    let policy = folder.write("policy.toml", "deny = [\"mit\"]\n");
    let policed = run(&hub, &folder, &["--policy", policy.to_str().unwrap(), "pull", &tagged]);
    assert!(policed.code == 4 && policed.err.contains(&name), "{policed:?}");
    assert_eq!(run(&hub, &folder, &["show", &tagged]).code, 3, "what was refused is not here");
    let pulled = run(&hub, &folder, &["pull", &tagged, "--json"]).json();
    assert_eq!(format!("sha256:{}", pulled["commit"].as_str().unwrap()), digest);
    assert_eq!(pulled["files"].as_array().unwrap().len(), 4, "{pulled}");
    hub.forget();
    for reference in [&tagged, &pinned] {
        let ran =
            run(&hub, &folder, &["run", reference, "--tokens", "1,2", "-n", "2", "--ignore-eos", "--json"]).json();
        assert_eq!(ran["tokens"].as_array().unwrap().len(), 2);
        assert_eq!(run(&hub, &folder, &["verify", reference, "--json"]).json()["good"], 4);
        assert_eq!(run(&hub, &folder, &["inspect", reference, "--json"]).code, 0);
        assert_eq!(run(&hub, &folder, &["license", reference, "--json"]).json()["id"], "MIT");
        assert_eq!(run(&hub, &folder, &["audit", reference]).code, 0);
    }
    let policed = run(&hub, &folder, &["--policy", policy.to_str().unwrap(), "run", &tagged, "hello"]);
    assert!(policed.code == 4 && policed.err.contains(&name), "{policed:?}");
    let shown = run(&hub, &folder, &["show", &name, "--json"]).json();
    assert_eq!(shown["revisions"][0]["names"][0], "v1", "{shown}");
    assert!(run(&hub, &folder, &["list"]).out.contains(&name));
    assert!(hub.log().is_empty(), "what is here asks nobody");
    assert_eq!(run(&hub, &folder, &["rm", &tagged]).code, 0);
    assert!(!run(&hub, &folder, &["list"]).out.contains("oci://"));
}
