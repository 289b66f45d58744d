//! `pondera diff` as its users see it: words, JSON, page, exit statuses.
mod support;

use pondera::quant::Format;
use std::fs;
use support::{Folder, run, write_gguf, write_repository};

fn models() -> Folder {
    let folder = Folder::new();
    write_repository(&folder, "llama");
    write_gguf(&folder, "model.gguf", Format::F32);
    let converted = run(folder.path(), &["convert", "llama", "half", "--type", "bf16"]);
    assert_eq!(converted.code, 0, "{converted:?}");
    folder
}

#[test]
fn reports_say_what_a_model_is_to_another() {
    let folder = models();
    let json = |a: &str, b: &str| run(folder.path(), &["diff", a, b, "--json"]).json();
    let lineage = |a: &str, b: &str| json(a, b)["verdict"]["lineage"].as_str().unwrap().to_string();
    assert_eq!(lineage("llama", "llama"), "identical");
    assert_eq!(lineage("llama", "model.gguf"), "identical");
    assert_eq!(lineage("llama", "half"), "requantized");
    assert_eq!(lineage("half", "model.gguf"), "requantized");
    let report = json("llama", "half");
    assert_eq!(report["tensors"].as_array().unwrap().len(), 21);
    assert_eq!(report["tensors"][0]["b"]["type"], "BF16");
    for key in ["name", "status", "relative_norm", "cosine", "norm_difference", "max_difference", "differing"] {
        assert!(!report["tensors"][0][key].is_null(), "{key}");
    }
    assert_eq!((&report["tokenizer"]["status"], &report["chat_template"]["status"]), (&"same".into(), &"same".into()));
    assert!(report["config"].as_array().unwrap().is_empty(), "{}", report["config"]);
    let words = run(folder.path(), &["diff", "llama", "half", "--tensors"]);
    assert!(words.out.contains("F32 in A, BF16 in B") && words.out.contains("mlp.down_proj"), "{}", words.out);
    assert!(words.err.is_empty(), "{}", words.err);
}

#[test]
fn a_difference_is_no_failure_unless_asked() {
    let folder = models();
    let code = |args: &[&str]| run(folder.path(), args).code;
    assert_eq!(code(&["diff", "llama", "half"]), 0);
    assert_eq!(code(&["diff", "llama", "half", "--exit-code"]), 6);
    assert_eq!(code(&["diff", "llama", "llama", "--exit-code"]), 0);
    let text = fs::read_to_string(folder.join("half/tokenizer_config.json")).unwrap();
    run(folder.path(), &["convert", "llama", "copy", "--type", "f32"]);
    fs::write(folder.join("copy/tokenizer_config.json"), text.replace("[assistant]", "[model]")).unwrap();
    // The weights are the same; the template is not.
    let ran = run(folder.path(), &["diff", "llama", "copy", "--exit-code", "--json"]);
    assert_eq!(ran.code, 6);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["verdict"]["lineage"], "identical", "{report}");
    assert_eq!(report["chat_template"]["status"], "differs");
}

#[test]
fn broken_files_are_exit_3() {
    let folder = models();
    let whole = fs::read(folder.join("model.gguf")).unwrap();
    folder.write("short.gguf", &whole[..whole.len() / 2]);
    folder.write("noise.safetensors", vec![7u8; 5000]);
    folder.write("bad/model.safetensors", fs::read(folder.join("llama/model.safetensors")).unwrap());
    folder.write("bad/config.json", "{");
    for other in ["short.gguf", "noise.safetensors", "bad", "nowhere"] {
        for args in [["diff", "llama", other], ["diff", other, "llama"]] {
            let ran = run(folder.path(), &args);
            assert_eq!(ran.code, 3, "{args:?}: {ran:?}");
            assert_eq!(ran.err.lines().count(), 2, "{ran:?}");
        }
    }
    assert_eq!(run(folder.path(), &["diff", "llama"]).code, 2);
    assert_eq!(run(folder.path(), &["diff", "llama", "half", "--html", "no/such/place.html"]).code, 1);
}

#[test]
fn the_page_is_one_file() {
    let folder = models();
    assert_eq!(run(folder.path(), &["diff", "llama", "half", "--html", "diff.html"]).code, 0);
    let page = fs::read_to_string(folder.join("diff.html")).unwrap();
    assert!(page.contains("<table class=\"map\">") && !page.contains("<script"), "{page}");
}

#[test]
fn bare_tensor_files_are_read_by_the_other_sides_configuration() {
    let folder = models();
    fs::create_dir(folder.join("alone")).unwrap();
    fs::copy(folder.join("half/model.safetensors"), folder.join("alone/weights.safetensors")).unwrap();
    for other in ["model.gguf", "llama"] {
        let report = run(folder.path(), &["diff", other, "alone/weights.safetensors", "--json"]).json();
        assert_eq!(report["verdict"]["lineage"], "requantized", "{other}");
        assert_eq!(report["b"]["family"], "llama");
    }
}
