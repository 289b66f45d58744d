//! Bills of materials and signatures on the command line: what is written where, and how it ends.
mod support;

use pondera::quant::Format;
use serde_json::Value;
use std::fs;
use support::{Folder, Ran, command, run, write_gguf, write_repository};

fn folder() -> Folder {
    let folder = Folder::new();
    write_repository(&folder, "llama");
    write_gguf(&folder, "model.gguf", Format::Q8_0);
    for (name, text) in [("key.pem", support::KEY), ("pub.pem", support::PUBLIC_KEY), ("other.pem", support::OTHER_KEY)]
    {
        folder.write(name, text);
    }
    folder
}

fn at(folder: &Folder, args: &[&str], epoch: &str) -> Ran {
    command(folder.path(), args).env("SOURCE_DATE_EPOCH", epoch).output().unwrap().into()
}

#[test]
fn a_bill_has_what_is_known_of_the_model() {
    let folder = folder();
    let d = run(folder.path(), &["bom", "llama", "--json"]).json();
    let component = &d["metadata"]["component"];
    let parameters = &component["modelCard"]["modelParameters"];
    assert_eq!(
        (&parameters["architectureFamily"], &parameters["modelArchitecture"]),
        (&"llama".into(), &"LlamaForCausalLM".into())
    );
    let property = |name: &str| {
        let all = component["properties"].as_array().unwrap();
        all.iter().find(|p| p["name"] == name).unwrap_or_else(|| panic!("{name}"))["value"]
            .as_str()
            .unwrap()
            .to_string()
    };
    let inspected = run(folder.path(), &["inspect", "llama", "--json"]).json();
    assert_eq!(property("pondera:parameters"), inspected["model"]["parameters_total"].to_string());
    assert_eq!(property("pondera:context-length"), inspected["model"]["max_position_embeddings"].to_string());
    assert_eq!(d["components"].as_array().unwrap().len(), 4);
    let d = run(folder.path(), &["bom", "model.gguf", "--format", "spdx", "--json"]).json();
    let graph = d["@graph"].as_array().unwrap();
    let package = graph.iter().find(|e| e["type"] == "ai_AIPackage").unwrap();
    assert_eq!((&package["name"], &package["ai_typeOfModel"][0]), (&"tiny".into(), &"llama".into()));
    let settings = package["ai_hyperparameter"].as_array().unwrap();
    assert!(settings.iter().any(|s| s["key"] == "bytes_Q8_0"), "{settings:?}");
    let file = graph.iter().find(|e| e["type"] == "software_File").unwrap();
    assert_eq!(file["name"], "model.gguf");
}

#[test]
fn the_moment_is_all_that_differs() {
    let folder = folder();
    let bill = |args: &[&str], epoch| at(&folder, &[&["bom", "llama"], args].concat(), epoch);
    for format in ["cyclonedx", "spdx"] {
        let one = bill(&["--format", format], "1782000000");
        assert_eq!((one.code, &one.out), (0, &bill(&["--format", format], "1782000000").out));
        let two = bill(&["--format", format], "1782086400").out;
        assert_eq!(one.out.replace("2026-06-21T", "2026-06-22T"), two);
        let flag = bill(&["--format", format, "--timestamp", "2026-06-22T00:00:00Z"], "1").out;
        assert_eq!(flag, two);
        // A bill among the files is not one of them, however often it is written.
        let file = format!("llama/{format}.json");
        let write = || bill(&["--format", format, "--out", &file, "-q"], "1782000000");
        assert_eq!(write().code, 0);
        let first = fs::read_to_string(folder.join(&file)).unwrap();
        assert_eq!((write().code, first), (0, fs::read_to_string(folder.join(&file)).unwrap()));
        fs::remove_file(folder.join(&file)).unwrap();
    }
    assert_eq!(bill(&["--timestamp", "now"], "1").code, 2);
    assert_eq!(bill(&[], "soon").code, 2);
    assert_eq!(run(folder.path(), &["bom", "nosuch"]).code, 3);
    let before = fs::read(folder.join("llama/model.safetensors")).unwrap();
    let refused = bill(&["--out", "llama/model.safetensors"], "1");
    assert_eq!((refused.code, fs::read(folder.join("llama/model.safetensors")).unwrap()), (2, before));
}

#[test]
fn a_signature_decides_how_an_audit_ends() {
    let folder = folder();
    let audit = |args: &[&str]| run(folder.path(), &[&["audit", "llama"], args].concat());
    assert_eq!(audit(&["--key", "pub.pem"]).code, 4, "unsigned");
    let signed = run(folder.path(), &["sign", "llama", "--key", "key.pem", "--json"]).json();
    assert_eq!((&signed["files"], &signed["signature"]), (&4.into(), &"llama/model.sig".into()));
    let report = audit(&["--key", "pub.pem", "--json"]).json();
    let signature = &report["signature"];
    assert_eq!((&signature["verified"], &signature["files"]), (&true.into(), &4.into()));
    assert_eq!((&signature["signer"]["kind"], &signature["signer"]["name"]), (&"key".into(), &signed["key"]));
    assert!(audit(&["--key", "pub.pem"]).out.contains("holds for 4 files"));
    assert_eq!(audit(&["--key", "other.pem"]).code, 4);
    // The bill and the signature agree on what the files are.
    let bill = run(folder.path(), &["bom", "llama", "--json"]).json();
    let properties = bill["metadata"]["component"]["properties"].as_array().unwrap();
    assert!(properties.iter().any(|p| p["name"] == "pondera:files:sha256" && p["value"] == signed["sha256"]));
    folder.write("llama/new.py", "x");
    let extra = audit(&["--key", "pub.pem"]);
    assert!(extra.code == 4 && extra.err.contains("new.py"), "{extra:?}");
    assert_eq!(audit(&["--key", "pub.pem", "--ignore", "new.py"]).code, 0);
    assert_eq!(audit(&["--key", "pub.pem", "--fail-on", "never"]).code, 0);
    let sarif = |r: Ran| -> Value {
        serde_json::from_str(&fs::read_to_string(folder.join("a.sarif")).unwrap_or(r.err)).unwrap()
    };
    let log = sarif(audit(&["--key", "pub.pem", "--sarif", "a.sarif"]));
    assert!(log["runs"][0]["results"].as_array().unwrap().iter().any(|r| r["ruleId"] == "signed-file-extra"));
    // An unsafe file is worse than a signature that does not hold.
    folder.write("llama/odd.pkl", b"cos\nsystem\n(S'x'\ntR.");
    assert_eq!(audit(&["--key", "pub.pem"]).code, 3);
    fs::remove_file(folder.join("llama/odd.pkl")).unwrap();
    fs::remove_file(folder.join("llama/new.py")).unwrap();
    let mut bytes = fs::read(folder.join("llama/model.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    folder.write("llama/model.safetensors", bytes);
    let changed = audit(&["--key", "pub.pem"]);
    assert!(changed.code == 4 && changed.err.contains("model.safetensors"), "{changed:?}");
}

#[test]
fn what_is_not_said_right_is_a_usage_error() {
    let folder = folder();
    folder.write("empty", "");
    for args in [
        &["audit", "llama", "--signature", "x"][..],
        &["audit", "llama", "--key", "nosuch"],
        &["audit", "llama", "--key", "key.pem"],
        &["audit", "llama", "--key", "pub.pem", "--certificate-root", "empty"],
        &["audit", "llama", "--certificate-root", "empty"],
        &["audit", "llama", "--identity", "me"],
        &["audit", "llama", "--identity", "me", "--issuer", "x", "--trust-root", "empty"],
        &["sign", "llama", "--key", "pub.pem"],
        &["sign", "llama", "--key", "nosuch"],
        &["sign", "llama", "--key", "key.pem", "--certificate", "empty"],
        &["sign", "llama", "--key", "key.pem", "--out", "model.gguf"],
        &["sign", "llama"],
    ] {
        let ran = run(folder.path(), args);
        assert_eq!((ran.code, ran.err.lines().count()), (2, 2), "{args:?} {ran:?}");
    }
    assert!(fs::metadata(folder.join("model.gguf")).unwrap().len() > 1000);
    // A signature may be made again; a file has its own beside it.
    for _ in 0..2 {
        assert_eq!(run(folder.path(), &["sign", "model.gguf", "--key", "key.pem"]).code, 0);
    }
    assert_eq!(run(folder.path(), &["audit", "model.gguf", "--key", "pub.pem"]).code, 0);
    assert_eq!(run(folder.path(), &["audit", "model.gguf", "--signature", "nosuch", "--key", "pub.pem"]).code, 4);
}

#[cfg(unix)]
#[test]
fn a_signature_is_not_written_through_a_link_into_the_cache() {
    let folder = folder();
    assert_eq!(run(folder.path(), &["sign", "llama", "--key", "key.pem"]).code, 0);
    let published = fs::read(folder.join("llama/model.sig")).unwrap();
    folder.write("hub/models--org--m/blobs/abc", &published);
    let snapshot = "hub/models--org--m/snapshots/0123456789012345678901234567890123456789";
    fs::create_dir_all(folder.join(snapshot)).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(folder.join("llama").join(name), folder.join(snapshot).join(name)).unwrap();
    }
    std::os::unix::fs::symlink("../../blobs/abc", folder.join(snapshot).join("model.sig")).unwrap();
    let ran = run(folder.path(), &["sign", snapshot, "--key", "key.pem"]);
    assert!(ran.code == 2 && ran.err.contains("the hub's cache"), "{ran:?}");
    assert!(fs::read(folder.join("hub/models--org--m/blobs/abc")).unwrap() == published);
    assert_eq!(run(folder.path(), &["sign", snapshot, "--key", "key.pem", "--out", "m.sig"]).code, 0);
}
