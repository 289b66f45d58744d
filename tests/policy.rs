//! A policy is asked wherever a model is fetched, used or converted, and what is written records the terms that it is under.
#[path = "../crates/store/tests/hub/mod.rs"]
mod hub;
mod support;

use hub::{Hub, bytes, repo};
use pondera::{
    quant::Format,
    weights::{
        Weights,
        gguf::{self, Meta},
    },
};
use serde_json::{Value, json};
use std::fs;
use support::{Folder, Ran, command, run, server::Server, write_adapter, write_gguf, write_repository};

const COMMERCIAL: &str = "# for our products\n[use]\ncommercial = true\n";
const CARD: &str = "---\nlicense: cc-by-nc-4.0\n---\n# A model\n";

/// A folder with a policy for commercial use, a model under a licence that excludes it, and one under MIT.
fn models() -> Folder {
    let folder = Folder::new();
    folder.write("policy.toml", COMMERCIAL);
    folder.write("story.txt", "A fox sat by the river.\n".repeat(8));
    for (name, card) in [("closed", CARD), ("open", "---\nlicense: mit\n---\n")] {
        write_repository(&folder, name);
        folder.write(&format!("{name}/README.md"), card);
    }
    folder
}

/// Exit 4, with the model, the licence, its clause and the policy's line in two lines.
fn refused(ran: &Ran, model: &str) {
    assert_eq!(ran.code, 4, "{ran:?}");
    for part in [model, "CC-BY-NC-4.0", "clause 2.a.1", "policy.toml:3", "use.commercial"] {
        assert!(ran.err.contains(part), "{part}: {ran:?}");
    }
    assert_eq!(ran.err.lines().filter(|l| !l.starts_with("warning:")).count(), 2, "{ran:?}");
}

#[test]
fn every_command_that_uses_a_model_asks_the_policy() {
    let folder = models();
    let uses: &[&[&str]] = &[
        &["run", "MODEL", "--tokens", "1,2", "-n", "1"],
        &["trace", "MODEL", "--tokens", "1,2"],
        &["embed", "MODEL", "--tokens", "1,2"],
        &["perplexity", "MODEL", "--file", "story.txt", "--window", "16"],
        &["bench", "MODEL", "--prompt", "4", "--gen", "1", "--repeat", "1"],
        &["convert", "MODEL", "out.safetensors", "--type", "bf16"],
        &["license", "MODEL"],
    ];
    for args in uses {
        for (model, code) in [("closed", 4), ("open", 0)] {
            let named: Vec<&str> = args.iter().map(|a| if *a == "MODEL" { model } else { a }).collect();
            let ran = run(folder.path(), &[&named[..], &["--policy", "policy.toml"]].concat());
            assert_eq!(ran.code, code, "{named:?}: {ran:?}");
            if code == 4 {
                refused(&ran, "closed");
                assert!(!folder.join("out.safetensors").exists(), "nothing is written of what is refused");
            }
        }
        let _ = fs::remove_file(folder.join("out.safetensors"));
    }
    // A server does not begin to listen.
    refused(&run(folder.path(), &["serve", "closed", "--port", "0", "--policy", "policy.toml"]), "closed");
    // What reads words alone, or only looks, is nobody's use of a model.
    for args in [&["tokenize", "closed", "Hello"][..], &["inspect", "closed"], &["models"]] {
        assert_eq!(run(folder.path(), &[args, &["--policy", "policy.toml"]].concat()).code, 0, "{args:?}");
    }
}

#[test]
fn models_beside_the_first_are_asked_about_too() {
    let folder = models();
    write_adapter(&folder, "adapter");
    folder.write("adapter/README.md", CARD);
    let asked = |args: &[&str]| run(folder.path(), &[args, &["--policy", "policy.toml"]].concat());
    let tokens = ["--tokens", "1,2", "-n", "1"];
    refused(&asked(&[&["run", "open", "--draft", "closed"][..], &tokens].concat()), "closed");
    refused(&asked(&[&["run", "open", "--lora", "adapter"][..], &tokens].concat()), "adapter");
    refused(&asked(&["serve", "open", "--port", "0", "--lora", "fox=adapter"]), "adapter");
    refused(&asked(&["serve", "open", "closed", "--port", "0"]), "closed");
    refused(&asked(&["perplexity", "open", "--file", "story.txt", "--reference", "closed"]), "closed");
}

#[test]
fn a_policy_comes_from_the_flag_the_environment_or_the_file() {
    let folder = models();
    let args = ["run", "closed", "--tokens", "1,2", "-n", "1"];
    assert_eq!(run(folder.path(), &args).code, 0);
    let ran: Ran = command(folder.path(), &args).env("PONDERA_POLICY", "policy.toml").output().unwrap().into();
    refused(&ran, "closed");
    // Paths are relative to the file, for all commands or for one.
    folder.write("etc/policy.toml", COMMERCIAL);
    folder.write("etc/all.toml", "policy = \"policy.toml\"\n");
    folder.write("etc/serve.toml", "[serve]\npolicy = \"policy.toml\"\n");
    refused(&run(folder.path(), &[&args[..], &["--config", "etc/all.toml"]].concat()), "closed");
    assert_eq!(run(folder.path(), &[&args[..], &["--config", "etc/serve.toml"]].concat()).code, 0);
    refused(&run(folder.path(), &["serve", "closed", "--port", "0", "--config", "etc/serve.toml"]), "closed");
    for (text, says) in [("alow = []", "alow"), ("[use]\ncommercial = 3", "line 2: ")] {
        folder.write("policy.toml", text);
        let ran = run(folder.path(), &[&args[..], &["--policy", "policy.toml"]].concat());
        assert!(ran.code == 2 && ran.err.contains("policy.toml") && ran.err.contains(says), "{ran:?}");
    }
    assert_eq!(run(folder.path(), &[&args[..], &["--policy", "nosuch.toml"]].concat()).code, 2);
}

#[test]
fn unknown_licences_and_inherited_terms_are_refused_and_exceptions_are_not() {
    let folder = models();
    write_repository(&folder, "bare");
    write_gguf(&folder, "m.gguf", Format::F32);
    let asked = |model: &str, policy: &str| {
        folder.write("policy.toml", policy);
        run(folder.path(), &["run", model, "--tokens", "1,2", "-n", "1", "--policy", "policy.toml"])
    };
    let ran = asked("bare", "[use]\ncommercial = true\n");
    assert!(ran.code == 4 && ran.err.contains("no licence") && ran.err.contains("default of `unknown`"), "{ran:?}");
    assert_eq!(asked("bare", "unknown = \"allow\"\n").code, 0);
    let exception = "[[exception]]\nmodel = \"closed\"\nverdict = \"allow\"\nreason = \"contract 7\"\n";
    assert_eq!(asked("closed", &format!("{COMMERCIAL}{exception}")).code, 0);
    // What the base model's licence says counts, whatever the derivative declares.
    folder.write(
        "closed/README.md",
        "---\nlicense: apache-2.0\nbase_model: mistralai/Mistral-Large-Instruct-2411\n---\n",
    );
    let ran = asked("closed", COMMERCIAL);
    assert_eq!(ran.code, 4, "{ran:?}");
    for part in ["Mistral-Research", "of mistralai/Mistral-Large-Instruct-2411", "clause 3.2", "policy.toml:3"] {
        assert!(ran.err.contains(part), "{part}: {ran:?}");
    }
}

fn from(hub: &Hub, folder: &Folder, args: &[&str]) -> Ran {
    command(folder.path(), args).env("HF_ENDPOINT", &hub.address).output().unwrap().into()
}

#[test]
fn a_model_that_is_refused_is_not_fetched() {
    let (hub, folder) = (Hub::new(), models());
    let large = |seed| bytes(seed, 300_000);
    hub.put(
        "org/closed",
        repo(&[("config.json", b"{}".to_vec()), ("model.safetensors", large(1)), ("README.md", CARD.into())]),
    );
    let open = b"---\nlicense: mit\n---\n".to_vec();
    hub.put("org/open", repo(&[("config.json", b"{}".to_vec()), ("model.safetensors", large(2)), ("README.md", open)]));
    // Nothing but the file of weights says what it is under.
    let mut w = gguf::Writer::new(Vec::new(), &[("general.license", Meta::from("cc-by-nc-4.0"))], &[]).unwrap();
    w.write(&[]).unwrap();
    hub.put("org/quants", repo(&[("m-Q8_0.gguf", w.finish().unwrap())]));
    hub.put("mistralai/Codestral-22B-v0.1", repo(&[("config.json", b"{}".to_vec()), ("model.safetensors", large(3))]));
    let pull = |reference: &str| from(&hub, &folder, &["pull", reference, "--policy", "policy.toml"]);
    refused(&pull("org/closed"), "org/closed");
    assert!(hub.body_bytes() < 50_000, "only documents were fetched: {}", hub.body_bytes());
    refused(&pull("org/quants"), "org/quants");
    // Known by its name alone.
    let ran = pull("mistralai/Codestral-22B-v0.1");
    assert!(ran.code == 4 && ran.err.contains("Mistral-Non-Production") && ran.err.contains("clause 3.2"), "{ran:?}");
    let listed = from(&hub, &folder, &["list", "--json"]).json();
    let shown = |m: &Value| m["revisions"].as_array().is_some_and(|r| !r.is_empty());
    assert!(!listed["models"].as_array().unwrap().iter().any(shown), "{listed}");
    assert_eq!(pull("org/open").code, 0);
    assert_eq!(from(&hub, &folder, &["pull", "org/closed"]).code, 0);
    // What is here already is refused where it is used, by the name of its repository.
    let ran = from(&hub, &folder, &["license", "org/closed", "--policy", "policy.toml"]);
    refused(&ran, "org/closed");
    // What was refused left nothing that a gc does not find.
    assert_eq!(from(&hub, &folder, &["gc", "--json"]).code, 0);
}

#[test]
fn a_server_asks_about_what_it_fetches_and_opens() {
    let (hub, folder) = (Hub::new(), models());
    write_gguf(&folder, "m.gguf", Format::F32);
    let model = fs::read(folder.join("m.gguf")).unwrap();
    hub.put("den/closed", repo(&[("m-F32.gguf", model.clone()), ("README.md", CARD.into())]));
    hub.put("den/open", repo(&[("m-F32.gguf", model), ("README.md", b"---\nlicense: mit\n---\n".to_vec())]));
    hub.put("den/later", hub_copy(&folder));
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let vars = [("HF_ENDPOINT", hub.address.clone()), ("HF_HUB_CACHE", at("cache")), ("PONDERA_STORE", at("named"))];
    let mut fetch = command(folder.path(), &["pull", "den/later"]);
    fetch.envs(vars.iter().map(|(k, v)| (k, v)));
    assert!(fetch.output().unwrap().status.success());
    let s = Server::start_with(&[&at("open"), "--library", "--policy", &at("policy.toml")], &vars);
    let pull = |name: &str| s.post("/api/pull", &json!({ "model": name, "stream": false }));
    let (status, answer) = pull("den/closed");
    let said = answer["error"].as_str().unwrap_or_default().to_string();
    assert!(status == 403 && said.contains("CC-BY-NC-4.0") && said.contains("clause 2.a.1"), "{status} {answer}");
    assert!(!said.contains("policy.toml"), "where the policy lies is nobody's business: {said}");
    assert_eq!(pull("den/open"), (200, json!({ "status": "success" })));
    let ask = |name: &str| {
        let body = json!({ "model": name, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 2 });
        s.post("/v1/chat/completions", &body)
    };
    assert_eq!(ask("den/open").0, 200);
    // It was here before the policy was.
    let (status, answer) = ask("den/later");
    assert!(status == 403 && answer.to_string().contains("CC-BY-NC-4.0"), "{status} {answer}");
    // Another name changes no terms, nor does a name of a name.
    for (from, to) in [("den/later", "a"), ("a", "b"), ("den/open", "c"), ("c", "d")] {
        let copied = s.ask("POST", "/api/copy", "", &json!({ "source": from, "destination": to }).to_string());
        assert_eq!(copied.0, 200, "{from} {to}");
    }
    for name in ["a", "b"] {
        let (status, answer) = ask(name);
        let said = answer.to_string();
        assert!(status == 403 && said.contains("CC-BY-NC-4.0") && !said.contains("blobs"), "{name}: {status} {said}");
    }
    assert_eq!(s.ask("DELETE", "/api/delete", "", &json!({ "model": "c" }).to_string()).0, 200);
    assert_eq!(ask("d").0, 200, "its own name is left");
}

/// The model of [`models`] under the licence that excludes commercial use.
fn hub_copy(folder: &Folder) -> hub::Repo {
    let model = fs::read(folder.join("m.gguf")).unwrap();
    repo(&[("m-F32.gguf", model), ("README.md", CARD.into())])
}

/// What a report says of the licence, and of base models.
fn said(report: &Value) -> Value {
    json!([
        report["id"],
        report["effective"],
        report["permissions"],
        report["conditions"],
        report["limitations"],
        report["facts"]
    ])
}

#[test]
fn what_is_converted_reads_back_as_what_it_was_made_of() {
    let folder = models();
    let license = |path: &str| run(folder.path(), &["license", path, "--json"]).json();
    let text = "Permission is hereby granted to nobody but our friends, who shall not pass it on to others. All that is \
        in here is ours and stays ours; whoever uses it for money pays us a tenth of it each year, in advance, and says so.\n";
    let cases = [
        ("---\nlicense: llama3.1\nbase_model: meta-llama/Llama-3.1-8B\nbase_model_relation: finetune\n---\n", None),
        ("---\nlicense: apache-2.0\nbase_model:\n- Qwen/Qwen2.5-72B\n- org/unheard-of\n---\n", None),
        ("---\nlicense: other\nlicense_name: qwen\n---\n", None),
        ("---\nlicense: mit\n---\n", Some(text)),
    ];
    for (card, own) in cases {
        folder.write("closed/README.md", card);
        if let Some(text) = own {
            folder.write("closed/LICENSE", text);
        }
        let before = license("closed");
        for out in ["made/", "alone/made.safetensors"] {
            fs::create_dir_all(folder.join("alone")).unwrap();
            let ran = run(folder.path(), &["convert", "closed", out.trim_end_matches('/'), "--type", "bf16"]);
            assert_eq!(ran.code, 0, "{ran:?}");
            let after = license(out.trim_end_matches('/'));
            assert_eq!(said(&after), said(&before), "{card} {out}");
            let names = |r: &Value| -> Vec<String> {
                r["bases"].as_array().unwrap().iter().map(|b| format!("{} {}", b["model"], b["relation"])).collect()
            };
            assert_eq!(names(&after), names(&before), "{card} {out}");
        }
        // Made of what was made, it is still the same.
        let again =
            run(folder.path(), &["convert", "alone/made.safetensors", "alone/again.safetensors", "--type", "f32"]);
        assert_eq!(again.code, 0, "{again:?}");
        fs::create_dir_all(folder.join("elsewhere")).unwrap();
        fs::rename(folder.join("alone/again.safetensors"), folder.join("elsewhere/again.safetensors")).unwrap();
        assert_eq!(said(&license("elsewhere/again.safetensors")), said(&before), "{card}");
        assert_eq!(folder.join("made/LICENSE").exists(), own.is_some());
        for gone in ["made", "alone", "elsewhere"] {
            fs::remove_dir_all(folder.join(gone)).unwrap();
        }
    }
    let _ = fs::remove_file(folder.join("closed/LICENSE"));
}

#[test]
fn a_converted_file_names_its_source_and_what_must_be_said() {
    let folder = models();
    folder.write("closed/README.md", "---\nlicense: llama3.2\n---\n");
    assert_eq!(run(folder.path(), &["convert", "closed", "made.safetensors", "--type", "bf16"]).code, 0);
    let made = Weights::open(folder.join("made.safetensors")).unwrap();
    let of = |key: &str| made.metadata().iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()).unwrap_or_default();
    assert_eq!((of("format"), of("license"), of("source")), ("pt".into(), "Llama-3.2".into(), "closed".into()));
    assert!(of("notice").contains("Built with Llama") && of("notice").contains("1.b.i"), "{}", of("notice"));
    let home = folder.path().to_string_lossy().into_owned();
    assert!(made.metadata().iter().all(|(_, v)| !v.contains(&home)), "no path of this machine is recorded");
}

#[cfg(unix)]
#[test]
fn a_link_to_a_file_is_under_the_terms_of_both_places() {
    let folder = models();
    let asked = |model: &str, policy: &str| {
        folder.write("policy.toml", policy);
        run(folder.path(), &["run", model, "--tokens", "1,2", "-n", "1", "--policy", "policy.toml"])
    };
    write_gguf(&folder, "closed/m.gguf", Format::F32);
    write_gguf(&folder, "bare/m.gguf", Format::F32);
    folder.write("cards/README.md", CARD);
    for (to, link) in [("closed/m.gguf", "one.gguf"), ("one.gguf", "two.gguf"), ("../bare/m.gguf", "cards/m.gguf")] {
        std::os::unix::fs::symlink(to, folder.join(link)).unwrap();
    }
    let lax = "unknown = \"allow\"\n\n[use]\ncommercial = true\n";
    for model in ["one.gguf", "two.gguf", "cards/m.gguf"] {
        let ran = asked(model, lax);
        assert!(ran.code == 4 && ran.err.contains("CC-BY-NC-4.0"), "{model}: {ran:?}");
    }
    assert_eq!(asked("bare/m.gguf", lax).code, 0);
    folder.write("closed/README.md", "---\nlicense: mit\n---\n");
    assert_eq!(asked("two.gguf", COMMERCIAL).code, 0);
}
