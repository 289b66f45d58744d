//! Verdicts over a folder of hostile and sound files, where `PONDERA_MATERIAL` names one; nothing without it.
//! `malformed/MANIFEST.json` and `pickles/MANIFEST.json` in it say what is expected of each file.
use pondera_weights::{ErrorKind, Weights, pickle};
use std::{path::PathBuf, time::Instant};

fn material() -> Option<PathBuf> {
    std::env::var_os("PONDERA_MATERIAL").map(PathBuf::from)
}

fn manifest(folder: &str) -> Vec<(PathBuf, serde_json::Value)> {
    let Some(root) = material() else { return vec![] };
    let text = std::fs::read(root.join(folder).join("MANIFEST.json")).unwrap();
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    entries.into_iter().map(|e| (root.join(folder).join(e["file"].as_str().unwrap()), e)).collect()
}

#[test]
fn malformed_files_get_the_verdict_of_the_manifest() {
    let mut wrong = vec![];
    for (path, entry) in manifest("malformed") {
        let start = Instant::now();
        let opened = Weights::open(&path);
        let ms = start.elapsed().as_millis();
        let expect = entry["expect"].as_str().unwrap();
        let verdict = match &opened {
            Ok(w) => format!("accept ({} tensors)", w.tensors().len()),
            Err(e) => format!("reject: {e:#}"),
        };
        println!("{:>4} ms  {expect:<20} {}\n         {}", ms, path.file_name().unwrap().display(), verdict);
        let held = match expect {
            "accept" => opened.is_ok(),
            "reject" => opened.is_err(),
            e if e.starts_with("container ok") => opened.is_ok(),
            _ => true,
        };
        let reference = entry["reference_safetensors"].as_str();
        let same = reference.is_none_or(|r| (r == "accept") == opened.is_ok());
        if !held || !same || ms > 100 {
            wrong.push(path);
        }
    }
    assert_eq!(wrong, Vec::<PathBuf>::new());
}

#[test]
fn pickles_are_refused_or_read_as_the_manifest_says() {
    for (path, entry) in manifest("pickles") {
        let flagged = entry["flag"].as_bool().unwrap();
        let opened = Weights::open(&path);
        println!(
            "{flagged:<5} {}: {:?}",
            path.file_name().unwrap().display(),
            opened.as_ref().map(|w| w.tensors().len())
        );
        if let Err(e) = &opened {
            println!("      {e:#}");
        }
        let torch = path.extension().is_some_and(|e| e == "pt");
        assert_eq!(opened.is_ok(), torch && !flagged, "{}", path.display());
        let unsafe_ = opened.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unsafe);
        let plain = path.extension().is_some_and(|e| e == "pkl");
        assert!(!flagged || unsafe_ || !torch, "{}", path.display());
        if plain {
            let found = pickle::scan(&std::fs::read(&path).unwrap());
            let unknown = found.imports.iter().any(|i| !pickle::is_known(&i.module, &i.name));
            assert_eq!(unknown || !found.extensions.is_empty(), flagged, "{}: {found:?}", path.display());
        }
    }
}

#[test]
fn sound_models_open() {
    let Some(root) = material() else { return };
    let mut folders = vec![root.join("real_model/hf")];
    for group in ["checkpoints", "quantized_hf", "lora", "frontier/checkpoints", "frontier/quantized_hf"] {
        folders.extend(std::fs::read_dir(root.join(group)).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()));
    }
    for group in ["gguf_arch", "gguf", "real_model"] {
        let mut files: Vec<_> = std::fs::read_dir(root.join(group)).unwrap().map(|e| e.unwrap().path()).collect();
        files.retain(|p| p.extension().is_some_and(|e| e == "gguf"));
        folders.extend(files);
    }
    for path in folders {
        let start = Instant::now();
        let w = Weights::open(&path).unwrap_or_else(|e| panic!("{}: {e:#}", path.display()));
        println!("{:>4} ms {w:?}", start.elapsed().as_millis());
        for t in w.tensors() {
            assert_eq!(w.view(t).unwrap().bytes.len(), t.bytes(), "{}", t.name);
        }
        assert!(!w.damaged() && w.check().is_ok());
    }
}
