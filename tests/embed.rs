//! `embed` from outside: encoders, decoders, and folders that say how.
mod support;

use serde_json::{Value, json};
use std::{fs, path::Path};
use support::{Folder, run, write_repository};

/// A safetensors file of f32 tensors.
fn bytes_of(tensors: &[(&str, &[usize], Vec<f32>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let from = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [from, data.len()] });
        header.insert((*name).into(), entry);
    }
    let header = Value::from(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// The golden encoder, as a folder of its own.
fn bert(folder: &Folder, name: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/bert");
    fs::create_dir_all(folder.path().join(name)).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden.join(file), folder.path().join(name).join(file)).unwrap();
    }
}

fn vector(v: &Value) -> Vec<f64> {
    v.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn embed(folder: &Folder, model: &str, more: &[&str]) -> Vec<f64> {
    let args = [&["embed", model, "--tokens", "5,9,3,20", "--json"], more].concat();
    vector(&run(folder.path(), &args).json()["embedding"])
}

fn length(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn rows_become_one_in_every_way() {
    let folder = Folder::new();
    bert(&folder, "bert");
    let raw = &["--no-normalize", "--pooling", "none"];
    let args = [&["embed", "bert", "--tokens", "5,9,3,20", "--json"], &raw[..]].concat();
    let rows = run(folder.path(), &args).json()["embedding"].clone();
    let rows: Vec<Vec<f64>> = rows.as_array().unwrap().iter().map(vector).collect();
    assert_eq!((rows.len(), rows[0].len()), (4, 32));
    assert_eq!(embed(&folder, "bert", &["--pooling", "cls", "--no-normalize"]), rows[0]);
    assert_eq!(embed(&folder, "bert", &["--pooling", "last", "--no-normalize"]), rows[3]);
    let mean = embed(&folder, "bert", &["--no-normalize"]);
    for (c, m) in mean.iter().enumerate() {
        assert!((rows.iter().map(|r| r[c]).sum::<f64>() / 4.0 - m).abs() < 1e-6);
    }
    let unit = embed(&folder, "bert", &[]);
    assert!((length(&unit) - 1.0).abs() < 1e-6);
    assert!(unit.iter().zip(&mean).all(|(u, m)| (u * length(&mean) - m).abs() < 1e-6));
    // Neither threads nor instructions move a bit.
    for way in [["--threads", "1"], ["--threads", "3"], ["--isa", "scalar"]] {
        assert_eq!(embed(&folder, "bert", &way), unit, "{way:?}");
    }
}

#[test]
fn a_folder_of_sentence_transformers_says_how() {
    let folder = Folder::new();
    bert(&folder, "st");
    let plain = embed(&folder, "st", &["--pooling", "cls", "--no-normalize"]);
    for name in ["1_Pooling", "2_Dense"] {
        fs::create_dir_all(folder.path().join("st").join(name)).unwrap();
    }
    let kind = |s: &str| format!("sentence_transformers.models.{s}");
    let modules = |last: &str| {
        json!([
            { "idx": 0, "name": "0", "path": "", "type": kind("Transformer") },
            { "idx": 1, "name": "1", "path": "1_Pooling", "type": kind("Pooling") },
            { "idx": 2, "name": "2", "path": "2_Dense", "type": kind("Dense") },
            { "idx": 3, "name": "3", "path": "3_Normalize", "type": kind(last) },
        ])
        .to_string()
    };
    folder.write("st/modules.json", modules("Normalize"));
    folder.write("st/1_Pooling/config.json", r#"{"word_embedding_dimension": 32, "pooling_mode_cls_token": true}"#);
    let dense = r#"{"in_features": 32, "out_features": 2, "bias": true,
        "activation_function": "torch.nn.modules.activation.Tanh"}"#;
    folder.write("st/2_Dense/config.json", dense);
    let weight: Vec<f32> = (0..64).map(|i| 0.01 * i as f32 - 0.3).collect();
    let file = bytes_of(&[("linear.weight", &[2, 32], weight.clone()), ("linear.bias", &[2], vec![0.1, -0.2])]);
    fs::write(folder.path().join("st/2_Dense/model.safetensors"), file).unwrap();
    folder.write("st/sentence_bert_config.json", r#"{"max_seq_length": 6, "do_lower_case": false}"#);
    folder.write("st/config_sentence_transformers.json", r#"{"prompts": {"query": "search: "}}"#);

    let out = |row: usize| {
        let y: f64 = plain.iter().zip(&weight[row * 32..]).map(|(x, w)| x * f64::from(*w)).sum();
        (y + [0.1, -0.2][row]).tanh()
    };
    let want = [out(0), out(1)];
    let got = embed(&folder, "st", &[]);
    assert!((length(&got) - 1.0).abs() < 1e-6);
    assert!(got.iter().zip(&want).all(|(g, w)| (g * length(&want) - w).abs() < 1e-5), "{got:?} {want:?}");

    let seven = run(folder.path(), &["embed", "st", "--tokens", "1,2,3,4,5,6,7"]);
    assert!(seven.code == 1 && seven.err.contains("7 tokens do not fit"), "{}", seven.err);
    let prompt = run(folder.path(), &["embed", "st", "x", "--prompt-name", "title"]);
    assert!(prompt.code == 2 && prompt.err.contains("one of query"), "{}", prompt.err);
    folder.write("st/modules.json", modules("Abracadabra"));
    let unknown = run(folder.path(), &["embed", "st", "--tokens", "1"]);
    assert!(unknown.code == 3 && unknown.err.contains("Abracadabra"), "{}", unknown.err);
    folder.write("st/modules.json", r#"[{"path": "../elsewhere", "type": "sentence_transformers.models.Pooling"}]"#);
    let outside = run(folder.path(), &["embed", "st", "--tokens", "1"]);
    assert!(outside.code == 3 && outside.err.contains("leaves the folder"), "{}", outside.err);
}

#[test]
fn decoders_embed_and_encoders_do_not_generate() {
    let folder = Folder::new();
    bert(&folder, "bert");
    write_repository(&folder, "llama");
    let last = embed(&folder, "llama", &[]);
    assert_eq!(last, embed(&folder, "llama", &["--pooling", "last"]));
    assert_eq!(last, embed(&folder, "llama", &["--chunk", "1"]));
    let text = run(folder.path(), &["embed", "llama", "hello", "--json"]).json();
    assert!((length(&vector(&text["embedding"])) - 1.0).abs() < 1e-6);
    for verb in ["run", "trace"] {
        let refused = run(folder.path(), &[verb, "bert", "--tokens", "1,2,3"]);
        assert!(refused.code == 3 && refused.err.contains("no next token"), "{verb}: {}", refused.err);
    }
    let long: Vec<String> = (0..49).map(|i| (i % 60).to_string()).collect();
    let refused = run(folder.path(), &["embed", "bert", "--tokens", &long.join(",")]);
    assert!(refused.code == 1 && refused.err.contains("49"), "{}", refused.err);
}
