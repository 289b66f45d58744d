//! The binary from outside: what users and scripts see of every command.
mod support;

use pondera::quant::Format;
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::Stdio,
};
use support::{BOS, EOS, Folder, command, run, write_gguf, write_repository};

/// A folder with every kind of model that tests ask for.
fn models() -> Folder {
    let folder = Folder::new();
    write_repository(&folder, "llama");
    write_gguf(&folder, "model.gguf", Format::F32);
    write_gguf(&folder, "model-q8_0.gguf", Format::Q8_0);
    folder
}

fn tokens(v: &Value) -> Vec<u64> {
    v.as_array().expect("a list").iter().map(|v| v.as_u64().expect("an id")).collect()
}

const GREEDY: &[&str] = &["--tokens", "256,72,105", "-n", "12", "--temperature", "0", "--ignore-eos", "--json"];

fn greedy(folder: &Path, model: &str, more: &[&str]) -> Vec<u64> {
    let args = [&["run", model], GREEDY, more].concat();
    tokens(&run(folder, &args).json()["tokens"])
}

#[test]
fn exit_codes_and_two_lines_for_every_mistake() {
    let folder = models();
    folder.write("empty.gguf", "");
    folder.write("text.txt", "just a text");
    folder.write("notes.gguf", "GGUF and then nothing sensible follows here");
    folder.write("bad.index.json", r#"{"weight_map": {"w": "../outside.safetensors"}}"#);
    folder.write("bad.toml", "run = [");
    folder.write("odd.toml", "colour = \"red\"");
    let tokens = ["--tokens", "1,2"];
    let cases: &[(&[&str], i32, &str)] = &[
        (&["fly"], 2, "unrecognized subcommand"),
        (&["run", "model.gguf", "--colour", "red"], 2, "--colour"),
        (&["run", "model.gguf", "x", "--temperature", "warm"], 2, "--temperature"),
        (&["run", "model.gguf", "--tokens", "1,x"], 2, "no token id"),
        (&["run", "model.gguf", "--tokens", ""], 2, "empty"),
        (&["run", "model.gguf", "--tokens", "9999"], 2, "9999"),
        (&["run", "model.gguf", "x", "--top-p", "2"], 2, "top_p"),
        (&["run", "model.gguf", "x", "-n", "0"], 2, "max_tokens"),
        (&["run", "model.gguf"], 2, "prompt"),
        (&["run", "nosuch.gguf", "x"], 3, "nosuch.gguf"),
        (&["run", "org/nosuch", "x"], 3, "org/nosuch"),
        (&["run", "empty.gguf", "x"], 3, "empty.gguf"),
        (&["run", "notes.gguf", "x"], 3, "notes.gguf"),
        (&["run", "text.txt", "x"], 3, "text.txt"),
        (&["run", "bad.index.json", "x"], 3, "bad.index.json"),
        (&["run", "llama/tokenizer.json", "x"], 3, "tokenizer.json"),
        (&["inspect", "text.txt"], 3, "text.txt"),
        (&["inspect", "bad.index.json"], 3, "bad.index.json"),
        (&["inspect", "nosuch/"], 3, "nosuch"),
        (&["trace", "model.gguf"], 2, "--tokens"),
        (
            &["trace", "model.gguf", tokens[0], tokens[1], "--out", "no/such/folder.safetensors"],
            1,
            "its folder does not exist",
        ),
        (&["bench", "model.gguf", "--prompt", "0", "--gen", "0"], 2, "nothing to measure"),
        (&["bench", "--shape", "nosuch"], 2, "nosuch"),
        (&["bench", "--shape", "llama-3.2-1b", "--type", "q99"], 2, "q99"),
        (&["perplexity", "model.gguf", "--file", "nosuch.txt"], 3, "nosuch.txt"),
        (&["convert", "model.gguf", "model.gguf", "--type", "f32"], 2, "source itself"),
        (&["convert", "model.gguf", "out", "--type", "q4_k"], 2, "q4_k"),
        (&["--config", "bad.toml", "inspect", "model.gguf"], 2, "bad.toml"),
        (&["--config", "odd.toml", "inspect", "model.gguf"], 2, "colour"),
        (&["inspect", "model.gguf", "--threads", "0"], 2, "--threads"),
    ];
    for (args, code, part) in cases {
        let ran = run(folder.path(), args);
        assert_eq!(ran.code, *code, "{args:?}: {ran:?}");
        assert!(ran.err.contains(part), "{args:?} should speak of {part:?}: {}", ran.err);
        assert!(ran.err.starts_with("error: "), "{args:?}: {}", ran.err);
        assert!(ran.err.contains("\nhint: "), "{args:?} has no second line: {}", ran.err);
        assert!(!ran.err.contains("panicked") && !ran.err.contains("backtrace"), "{args:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{args:?}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_by_every_verb() {
    let folder = models();
    for (name, cuts) in [("model-q8_0.gguf", 40), ("llama/model.safetensors", 40)] {
        let whole = fs::read(folder.join(name)).unwrap();
        let cut = if name.ends_with("gguf") { "cut.gguf" } else { "cut.safetensors" };
        for i in 0..cuts {
            // Denser at the start, where the header is.
            let n = whole.len() * i * i / (cuts * cuts);
            folder.write(cut, &whole[..n]);
            for args in [vec!["inspect", cut], vec!["run", cut, "--tokens", "1", "-n", "1"]] {
                let ran = run(folder.path(), &args);
                assert_eq!(ran.code, 3, "{args:?} with {n} of {} bytes: {ran:?}", whole.len());
                assert!(ran.err.contains(cut), "{}", ran.err);
            }
        }
    }
}

#[test]
fn run_reports_what_it_did() {
    let folder = models();
    let args = [&["run", "model.gguf"], GREEDY].concat();
    let report = run(folder.path(), &args).json();
    assert_eq!(tokens(&report["tokens"]).len(), 12);
    assert_eq!(report["finish_reason"], "length");
    assert_eq!(report["usage"], json!({ "prompt_tokens": 3, "completion_tokens": 12 }));
    for key in ["load_s", "prefill_tps", "decode_tps"] {
        assert!(report["timings"][key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    assert!(report["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(report["text"].is_string());
}

#[test]
fn an_answer_that_the_context_ends_says_so() {
    let folder = models();
    let args =
        ["run", "model.gguf", "--tokens", "256,72,73", "--ctx", "8", "-n", "20", "--ignore-eos", "--temperature", "0"];
    let cut = run(folder.path(), &args);
    assert!(cut.err.contains("the context is full after"), "{}", cut.err);
    let report = run(folder.path(), &[&args[..], &["--json"]].concat()).json();
    assert_eq!((&report["finish_reason"], &report["context_full"]), (&json!("length"), &json!(true)));
    let whole =
        run(folder.path(), &["run", "model.gguf", "--tokens", "256,72,73", "-n", "4", "--ignore-eos", "--json"]).json();
    assert_eq!(whole["context_full"], false);
}

#[test]
fn the_same_tokens_whatever_the_threads_chunks_and_instructions() {
    let folder = models();
    for model in ["llama", "model.gguf", "model-q8_0.gguf"] {
        for kv in ["f32", "f16"] {
            let want = greedy(folder.path(), model, &["--kv", kv]);
            let ways: &[&[&str]] = &[&["--threads", "1"], &["--threads", "3"], &["--chunk", "1"], &["--isa", "scalar"]];
            for more in ways {
                let got = greedy(folder.path(), model, &[&["--kv", kv], *more].concat());
                assert_eq!(got, want, "{model} {kv} {more:?}");
            }
        }
    }
}

#[test]
fn a_seed_means_the_same_text_and_another_seed_another() {
    let folder = models();
    let text =
        |seed: &str| run(folder.path(), &["run", "llama", "--raw", "Once", "-n", "40", "--seed", seed, "-q"]).out;
    assert_eq!(text("7"), text("7"));
    assert_ne!(text("7"), text("8"));
}

#[test]
fn streamed_text_is_the_reported_text() {
    let folder = models();
    let args = ["run", "llama", "--raw", "Hello", "-n", "30", "--seed", "3", "-q"];
    let streamed = run(folder.path(), &args);
    let report = run(folder.path(), &[&args[..], &["--json"]].concat()).json();
    assert_eq!(streamed.out.strip_suffix('\n').unwrap(), report["text"].as_str().unwrap().trim_end_matches('\n'));
    assert_eq!(streamed.err, "");
}

#[test]
fn the_prompt_comes_from_where_it_was_put() {
    let folder = models();
    let count = |args: &[&str], stdin: &str| {
        let mut child = command(folder.path(), args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        report["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let end = ["-n", "1", "--json"];
    // BOS and five bytes, as an argument and from standard input.
    assert_eq!(count(&[&["run", "llama", "--raw", "Hello"], &end[..]].concat(), ""), 6);
    assert_eq!(count(&[&["run", "llama", "--raw"], &end[..]].concat(), "Hello\n"), 6);
    assert_eq!(count(&[&["run", "llama", "-", "--raw"], &end[..]].concat(), "Hello\n"), 6);
    // `<s>[user] Hello\n[assistant]`
    assert_eq!(count(&[&["run", "llama", "Hello"], &end[..]].concat(), ""), 1 + 13 + 11);
    // `[system] S\n` more
    assert_eq!(count(&[&["run", "llama", "Hello", "--system", "S"], &end[..]].concat(), ""), 1 + 13 + 11 + 11);
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let folder = models();
    let args = ["run", "llama", "--raw", "Hello", "-n", "60", "--seed", "5", "--json"];
    let whole = run(folder.path(), &args).json()["text"].as_str().unwrap().to_string();
    let stop: String = whole.chars().filter(|c| *c != '\u{fffd}').nth(20).unwrap().to_string();
    let cut = run(folder.path(), &[&args[..], &["--stop", &stop]].concat()).json();
    assert_eq!(cut["finish_reason"], "stop");
    assert_eq!(cut["text"].as_str().unwrap(), whole.split(&stop).next().unwrap());
}

#[test]
fn a_model_without_vocabulary_runs_on_ids() {
    let folder = models();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::remove_file(folder.join("llama").join(name)).unwrap();
    }
    let args = [&["run", "llama"], GREEDY].concat();
    let report = run(folder.path(), &args).json();
    assert!(report["text"].is_null());
    assert_eq!(tokens(&report["tokens"]).len(), 12);
    let ran = run(folder.path(), &["run", "llama", "Hello"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("no tokenizer") && ran.err.contains("--tokens"));
}

#[test]
fn trace_lays_the_pass_open() {
    let folder = models();
    let args = ["trace", "llama", "--tokens", "256,72,105,33", "--out", "t.safetensors", "--json"];
    let argmax = tokens(&run(folder.path(), &args).json()["argmax"]);
    let w = pondera::weights::Weights::open(folder.join("t.safetensors")).unwrap();
    let shape = |name: &str| w.info(name).unwrap_or_else(|| panic!("no {name}")).shape.to_vec();
    assert_eq!(shape("logits"), [4, 260]);
    for layer in ["hidden.0", "hidden.1", "hidden.2"] {
        assert_eq!(shape(layer), [4, 32]);
    }
    assert!(!w.contains("hidden.3"));
    let logits = w.get("logits").unwrap();
    let rows = logits.bytes.as_slice().chunks_exact(260 * 4);
    let best = rows.map(|r| {
        let values: Vec<f32> = r.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        (0..260).fold(0, |b, i| if values[i] > values[b] { i } else { b }) as u64
    });
    assert_eq!(best.collect::<Vec<_>>(), argmax);
    // What it expects last is what greedy decoding takes first.
    let next = greedy(folder.path(), "llama", &["--kv", "f32", "-n", "1"]);
    let shorter = run(folder.path(), &["trace", "llama", "--tokens", "256,72,105", "--json"]).json();
    assert_eq!(tokens(&shorter["argmax"]).last(), next.first());
    let page = run(folder.path(), &["trace", "llama", "--prompt", "Hi"]).out;
    assert!(page.contains("\"H\"") && page.contains("expected next"), "{page}");
}

#[test]
fn convert_gives_back_what_was_stored() {
    let folder = models();
    let convert =
        |from: &str, to: &str, ty: &str| run(folder.path(), &["convert", from, to, "--type", ty, "--json"]).json();
    assert_eq!(convert("model-q8_0.gguf", "plain.safetensors", "f32")["tensors"], 21);
    let source = pondera::weights::Weights::open(folder.join("model-q8_0.gguf")).unwrap();
    let plain = pondera::weights::Weights::open(folder.join("plain.safetensors")).unwrap();
    for t in source.tensors() {
        let stored = source.view(t).unwrap();
        let info = stored.format.info();
        let mut want = vec![0f32; stored.bytes.len() / info.bytes * info.block];
        (info.decode)(stored.bytes.as_slice(), &mut want);
        let got = plain.get(&t.name).unwrap();
        assert_eq!(got.shape, stored.shape);
        let want: Vec<u8> = want.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(got.bytes.as_slice() == want, "{}", t.name);
    }
    // A folder becomes a folder that runs, and f32 loses nothing.
    convert("llama", "copy", "f32");
    assert_eq!(greedy(folder.path(), "copy", &["--kv", "f32"]), greedy(folder.path(), "llama", &["--kv", "f32"]));
    convert("llama", "half", "bf16");
    let config: Value = serde_json::from_slice(&fs::read(folder.join("half/config.json")).unwrap()).unwrap();
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert!(folder.join("half/tokenizer.json").is_file());
    assert_eq!(run(folder.path(), &["inspect", "half", "--json"]).json()["tensors"]["types"][0]["type"], "BF16");
    // Nothing unfinished is left behind.
    let parts =
        fs::read_dir(folder.path()).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(parts.count(), 0);
}

#[test]
fn perplexity_scores_every_token_once() {
    let folder = models();
    folder.write("text.txt", "The quick brown fox jumps over the lazy dog. ".repeat(8));
    let of = |more: &[&str]| {
        run(folder.path(), &[&["perplexity", "llama", "--file", "text.txt", "--json"], more].concat()).json()
    };
    let report = of(&["--window", "64"]);
    assert_eq!(report["tokens"], 360);
    assert_eq!(report["window_nll"].as_array().unwrap().len(), 6);
    let (nll, ppl) = (report["nll_sum"].as_f64().unwrap(), report["perplexity"].as_f64().unwrap());
    assert!((nll - 360.0 * ppl.ln()).abs() < 1e-6 * nll);
    // BOS in front of the 360 tokens of the text.
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(8);
    let ids = tokens(&run(folder.path(), &["tokenize", "llama", &text, "--json"]).json()["ids"]);
    assert_eq!((ids.len(), ids[0]), (361, u64::from(BOS)));
    // A model against itself agrees with itself, to the bit.
    let same = of(&["--reference", "llama"]);
    assert_eq!((&same["kl_divergence"], &same["kl_standard_error"]), (&json!(0.0), &json!(0.0)));
    assert_eq!((&same["top_token_agreement"], &same["kl_percentiles"]["100"]), (&json!(1.0), &json!(0.0)));
    assert_eq!(same["reference_perplexity"], same["perplexity"]);
    assert!((same["nll_sum"].as_f64().unwrap() - of(&[])["nll_sum"].as_f64().unwrap()).abs() < 1e-6);
    // Against its quantized self it does not; chunks move no bit of the difference.
    let apart = |chunk: &str| of(&["--reference", "model-q8_0.gguf", "--window", "90", "--chunk", chunk]);
    let report = apart("64");
    let of = |at: &str| report["kl_percentiles"][at].as_f64().unwrap();
    let mean = report["kl_divergence"].as_f64().unwrap();
    assert!(0.0 < mean && of("50") <= of("90") && of("90") <= of("99") && mean <= of("100"), "{report}");
    assert!(report["top_token_agreement"].as_f64().unwrap() <= 1.0);
    assert_eq!(report["kl_percentiles"], apart("7")["kl_percentiles"]);
}

#[test]
fn inspect_knows_every_kind_of_file() {
    let folder = models();
    let of = |name: &str| run(folder.path(), &["inspect", name, "--json"]).json();
    let model = of("llama");
    assert_eq!((&model["kind"], &model["model"]["family"]), (&json!("safetensors"), &json!("llama")));
    let parameters = 2 * 260 * 32 + 2 * (32 * 32 * 2 + 16 * 32 * 2 + 3 * 64 * 32) + 5 * 32;
    assert_eq!(model["model"]["parameters_total"], parameters);
    assert_eq!(model["model"]["memory"]["kv_bytes_per_token_f16"], 2 * 2 * 2 * (8 + 32)); // a value takes whole multiples of 32
    assert_eq!(model["tokenizer"]["bos"], BOS);
    assert_eq!(model["tokenizer"]["eos"], json!([EOS]));
    assert_eq!(model["chat_template"]["text"], support::TEMPLATE);
    let gguf = of("model-q8_0.gguf");
    assert_eq!((&gguf["kind"], &gguf["tensors"]["types"][0]["type"]), (&json!("gguf"), &json!("Q8_0")));
    assert_eq!(gguf["metadata"]["general.name"], "tiny");
    assert_eq!(gguf["chat_template"]["text"], support::TEMPLATE);
    assert_eq!(of("llama/tokenizer.json")["kind"], "tokenizer");
    assert_eq!(of("llama/config.json")["kind"], "config");
    assert_eq!(of("llama/config.json")["model"]["parameters_total"], parameters);
    // A bare tensor file is sound and no model.
    fs::copy(folder.join("llama/model.safetensors"), folder.join("bare.safetensors")).unwrap();
    let bare = of("bare.safetensors");
    assert!(bare["model"].is_null() && bare["not_runnable"].is_string());
    assert_eq!(run(folder.path(), &["run", "bare.safetensors", "--tokens", "1"]).code, 3);
    let page = run(folder.path(), &["inspect", "llama", "--tensors", "--ctx", "100"]).out;
    for part in ["llama", "memory at 100 tokens", "model.layers.1.mlp.down_proj.weight", "32 × 64"] {
        assert!(page.contains(part), "no {part:?} in {page}");
    }
    assert!(run(folder.path(), &["models", "--families"]).out.contains("deepseek_v3"));
}

#[test]
fn inspect_shows_the_windows_that_layers_use_not_those_a_configuration_names() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens");
    let windowed = run(&goldens, &["inspect", "gemma2"]).out;
    assert!(windowed.contains("8 positions in 2 of 3 layers"), "{windowed}");
    // Its family's default names a window of 4096 and does not use it.
    let unused = run(&goldens, &["inspect", "../models/pebble/pebble.gguf"]).out;
    assert!(unused.contains("qwen3_moe") && !unused.contains("\n  window "), "{unused}");
    let switch = unused.lines().find(|l| l.contains("use_sliding_window")).unwrap();
    assert!(switch.ends_with(" false"), "{unused}");
}

#[test]
fn bench_measures_what_was_asked() {
    let folder = models();
    let args = [
        "bench",
        "model.gguf",
        "--prompt",
        "32",
        "--gen",
        "8",
        "--depth",
        "64",
        "--batch",
        "1,2",
        "--repeat",
        "2",
        "--html",
        "page.html",
        "--json",
    ];
    let report = run(folder.path(), &args).json();
    let rows = report["rows"].as_array().unwrap();
    let names = ["pp32 @d64", "tg8 @d64", "tg8 @d64 x2"];
    assert_eq!(rows.iter().map(|r| r["test"].as_str().unwrap()).collect::<Vec<_>>(), names);
    let page = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(names.iter().all(|n| page.contains(n)) && page.ends_with("</html>\n"));
    let ceiling = &report["ceiling"];
    assert!(ceiling["gb_per_s"].as_f64().unwrap() > 0.0 && ceiling["int8"][0]["gop_per_s"].as_f64().unwrap() > 0.0);
    for row in rows {
        let tps = |k: &str| row["tps"][k].as_f64().unwrap();
        assert!(0.0 < tps("min") && tps("min") <= tps("median") && tps("median") <= tps("max"), "{row}");
        assert!(row["bytes_per_token"].as_f64().unwrap() > 0.0 && row["gb_per_s"].as_f64().unwrap() > 0.0);
        assert!(row["threads"].as_u64().unwrap() >= 1 && row["isa"].is_string());
        let [ceiling, fraction] = ["ceiling_tps", "fraction"].map(|k| row[k].as_f64().unwrap());
        assert!((ceiling * fraction / tps("median") - 1.0).abs() < 1e-9, "{row}");
        assert!(["bytes", "operations"].contains(&row["bound"].as_str().unwrap()));
    }
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let folder = models();
    folder.write("c.toml", "json = true\nquiet = true\n[run]\nmax-tokens = 3\ntemperature = 0\nignore-eos = true\n");
    let base = ["run", "llama", "--tokens", "1,2"];
    let made = |env: &[(&str, &str)], more: &[&str]| {
        let mut c = command(folder.path(), &[&base[..], more].concat());
        c.env("PONDERA_CONFIG", "c.toml").envs(env.iter().copied());
        let ran = support::Ran::from(c.output().unwrap());
        tokens(&ran.json()["tokens"]).len()
    };
    assert_eq!(made(&[], &[]), 3);
    assert_eq!(made(&[("PONDERA_MAX_TOKENS", "5")], &[]), 5);
    assert_eq!(made(&[("PONDERA_MAX_TOKENS", "5")], &["-n", "7"]), 7);
    // A switch in the environment: 0 and false are off.
    let mut c = command(folder.path(), &[&base[..], &["-n", "2", "-q"]].concat());
    let plain = support::Ran::from(c.env("PONDERA_JSON", "false").output().unwrap());
    assert!(serde_json::from_str::<Value>(&plain.out).is_err(), "{plain:?}");
}

#[test]
fn models_are_found_in_the_hub_cache_and_the_store() {
    let folder = models();
    let repository = "hub/models--org--tiny";
    folder.write(&format!("{repository}/refs/main"), "0123abc");
    folder
        .write(&format!("{repository}/snapshots/0123abc/tiny-F32.gguf"), fs::read(folder.join("model.gguf")).unwrap());
    folder.write(
        &format!("{repository}/snapshots/0123abc/tiny-Q8_0.gguf"),
        fs::read(folder.join("model-q8_0.gguf")).unwrap(),
    );
    let of = |name: &str| {
        support::Ran::from(
            command(folder.path(), &["inspect", name, "--json", "--offline"])
                .env("HF_HOME", folder.path())
                .output()
                .unwrap(),
        )
    };
    assert_eq!(of("org/tiny:q8_0").json()["tensors"]["types"][0]["type"], "Q8_0");
    assert_eq!(of("org/tiny@0123:F32").json()["tensors"]["types"][0]["type"], "F32");
    assert_eq!(of("org/tiny").code, 2, "two files and no choice");
    assert_eq!(of("org/tiny:q2_k").code, 3);
    let store = run(folder.path(), &["inspect", "model", "--store", ".", "--json"]);
    assert_eq!(store.json()["kind"], "gguf");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let folder = models();
    let mut child = command(folder.path(), &["inspect", "llama", "--tensors", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_long_run_with_130() {
    let folder = models();
    let child = command(folder.path(), &["bench", "model.gguf", "--gen", "900", "--repeat", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ran = support::Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 130, "{ran:?}");
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

#[test]
fn completions_and_manual_come_from_the_commands() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = run(folder.path(), &["completions", shell]);
        assert!(ran.code == 0 && ran.out.contains("perplexity"), "{shell}");
    }
    assert!(run(folder.path(), &["man"]).out.contains(".TH pondera 1"));
    assert_eq!(run(folder.path(), &["man", "pages"]).code, 0);
    let page = fs::read_to_string(folder.join("pages/pondera-run.1")).unwrap();
    assert!(page.contains("temperature"), "{page}");
}

#[test]
fn help_lists_what_works_and_nothing_else() {
    let folder = Folder::new();
    let help = run(folder.path(), &["--help"]).out;
    for verb in
        ["run", "serve", "inspect", "bench", "trace", "perplexity", "tokenize", "detokenize", "template", "convert"]
    {
        assert!(help.contains(&format!("\n  {verb}")), "{verb} in {help}");
        let own = run(folder.path(), &[verb, "--help"]);
        assert!(own.code == 0 && own.out.contains("Examples:"), "{verb}: {}", own.out);
    }
    for later in ["quantize", "completions"] {
        assert!(!help.contains(&format!("\n  {later}")), "{later}");
    }
    assert_eq!(run(folder.path(), &[]).code, 2);
}

#[test]
fn names_out_of_files_move_no_cursor_and_forge_no_line() {
    let folder = models();
    let config = fs::read_to_string(folder.join("llama/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["odd\u{7}key\n"] = json!("a\u{8}\r\u{9b}2J\nlicence          MIT\u{202e}");
    folder.write("llama/config.json", config.to_string());
    folder.write("llama/README.md", "---\nlicense: other\nlicense_name: \"x\\nlicence           MIT\\x07\"\n---\n");
    for args in
        [&["inspect", "llama"][..], &["license", "llama"], &["audit", "llama"], &["diff", "llama", "model.gguf"]]
    {
        let ran = run(folder.path(), args);
        let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || c == '\u{202e}';
        assert!(!ran.out.contains(odd) && !ran.err.contains(odd), "{args:?}: {ran:?}");
        let forged = |l: &str| l.trim_start().starts_with("licence") && l.trim_end().ends_with("MIT");
        assert!(!ran.out.lines().any(forged), "{args:?}: {ran:?}");
    }
    let shown = run(folder.path(), &["inspect", "llama"]).out;
    assert!(shown.contains("odd\\u{7}key\\n") && shown.contains("a\\u{8}\\r\\u{9b}2J\\n"), "{shown}");
    // Programs get what is there, byte for byte.
    let exact = run(folder.path(), &["inspect", "llama", "--json"]).json();
    assert_eq!(exact["model"]["config"]["odd\u{7}key\n"], config["odd\u{7}key\n"]);
}

#[test]
fn a_report_is_written_over_an_earlier_one_and_over_nothing_else() {
    let folder = models();
    folder.write("key.pem", support::KEY);
    let small = ["--prompt", "4", "--gen", "1", "--repeat", "1"];
    let writers: [&[&str]; 8] = [
        &["inspect", "llama", "--html"],
        &["diff", "llama", "model.gguf", "--html"],
        &["audit", "llama", "--sarif"],
        &["bom", "llama", "--out"],
        &["bom", "llama", "--format", "spdx", "--out"],
        &["sign", "llama", "--key", "key.pem", "--out"],
        &["trace", "llama", "--tokens", "256,72", "--out"],
        &[&["bench", "model.gguf"][..], &small, &["--html"]].concat(),
    ];
    for (i, writer) in writers.iter().enumerate() {
        let to = |file: &str| run(folder.path(), &[writer, &[file][..]].concat());
        let first = format!("report{i}");
        for _ in 0..2 {
            let ran = to(&first);
            assert_eq!(ran.code, 0, "{ran:?}");
        }
        for kept in ["llama/model.safetensors", "model-q8_0.gguf", "key.pem", "llama/config.json"] {
            let before = fs::read(folder.join(kept)).unwrap();
            let ran = to(kept);
            assert!(ran.code == 2 && ran.err.contains(kept) && ran.err.contains("hint: "), "{writer:?} {ran:?}");
            assert!(before == fs::read(folder.join(kept)).unwrap(), "{writer:?} {kept}");
        }
        // A report of another kind is kept, too; what is empty holds nothing to lose.
        folder.write("empty", "");
        assert_eq!(to("empty").code, 0, "{writer:?}");
        if i > 0 && i != 1 && i != 4 && i != 7 {
            assert_eq!(to(&format!("report{}", i - 1)).code, 2, "{writer:?}");
        }
        fs::remove_file(folder.join("empty")).unwrap();
    }
}
