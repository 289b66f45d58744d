//! Guessing ahead from outside: `--draft` and `--lookup` change the speed and nothing else.
mod support;

use pondera::quant::Format;
use serde_json::{Value, json};
use std::{fs, path::Path};
use support::{Folder, run, write_gguf, write_repository};

fn models() -> Folder {
    let folder = Folder::new();
    write_repository(&folder, "llama");
    write_gguf(&folder, "model.gguf", Format::F32);
    write_gguf(&folder, "model-q8_0.gguf", Format::Q8_0);
    folder
}

/// Whether the program brings its default model.
fn built_in(folder: &Path) -> bool {
    run(folder, &["inspect"]).code == 0
}

const GREEDY: &[&str] = &["--temperature", "0", "-n", "60"];
const SEEDED: &[&str] =
    &["--temperature", "0.8", "--top-p", "0.9", "--repeat-penalty", "1.1", "--seed", "5", "-n", "60"];

/// What of `--json` may not depend on guesses.
fn told(report: &Value) -> Value {
    let of = |key: &str| report[key].clone();
    json!([of("text"), of("tokens"), of("finish_reason"), of("context_full"), of("usage")])
}

#[test]
fn the_answer_is_the_same_whoever_guesses() {
    let folder = models();
    let story = "a fox sat by the river, and a fish sat in the river, and a fox sat by the river, and";
    let built_in = built_in(folder.path());
    let targets = ["model-q8_0.gguf", "llama", "pebble"];
    for target in targets.iter().filter(|t| built_in || **t != "pebble") {
        let base = ["run", target, story, "--raw", "--json"];
        for more in [GREEDY, SEEDED, &[SEEDED, &["--stop", "e", "--stop", " the w", "--ignore-eos"]].concat()] {
            let plain = run(folder.path(), &[&base, more].concat()).json();
            assert!(plain.get("speculation").is_none());
            let other = if *target == "pebble" { "pebble" } else { "model.gguf" };
            let ways: [&[&str]; 4] = [
                &["--lookup", "-q"],
                &["--draft", other],
                &["--draft", target, "--draft-tokens", "3"],
                &["--lookup", "--draft", other],
            ];
            for way in ways {
                let report = run(folder.path(), &[&base, more, way].concat()).json();
                assert_eq!(told(&report), told(&plain), "{target} {more:?} {way:?}");
                let s = &report["speculation"];
                let n = |k: &str| s[k].as_f64().unwrap_or_else(|| panic!("{k}: {report}"));
                assert!(n("accepted") <= n("drafted") && n("tokens_per_step") >= 1.0, "{s}");
                if way[..2] == ["--draft", target] {
                    // The model itself is always right: it draws what it would draw.
                    assert_eq!(n("accepted"), n("drafted"), "{target} {more:?}");
                    let made = plain["usage"]["completion_tokens"].as_f64().unwrap();
                    assert!(made < 8.0 || n("steps") <= made / 2.0, "{target} {s}");
                }
            }
        }
    }
}

#[test]
fn a_text_that_repeats_itself_is_looked_up() {
    let folder = models();
    // One token may come, so it comes again and again.
    let bias: Vec<String> = (0..260).filter(|i| *i != 97).map(|i| format!("--logit-bias={i}=-inf")).collect();
    let mut args = vec!["run", "model.gguf", "--tokens", "256,98,97", "-n", "100", "--json", "--lookup"];
    args.extend(bias.iter().map(String::as_str));
    let report = run(folder.path(), &args).json();
    assert_eq!(report["text"], "a".repeat(100));
    assert!(report["speculation"]["steps"].as_u64().unwrap() < 25, "{report}");
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused_by_its_first_token_that_differs() {
    let folder = models();
    write_repository(&folder, "other");
    let file = folder.join("other/tokenizer.json");
    let text = fs::read_to_string(&file).unwrap().replace("<b>", "<c>");
    fs::write(&file, text).unwrap();
    let ran = run(folder.path(), &["run", "llama", "Hello", "--draft", "other"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("token 259 is \"<c>\" (special), in the model \"<b>\" (special)"), "{ran:?}");
    assert!(ran.err.contains("hint: "), "{ran:?}");
    // The same words in another kind of file are the same vocabulary.
    assert_eq!(run(folder.path(), &["run", "llama", "Hello", "--draft", "model.gguf", "-n", "3"]).code, 0);
    assert_eq!(run(folder.path(), &["run", "llama", "Hello", "--draft", "nosuch.gguf"]).code, 3);
    for n in ["0", "65", "x"] {
        assert_eq!(run(folder.path(), &["run", "llama", "Hello", "--lookup", "--draft-tokens", n]).code, 2, "{n}");
    }
}

#[test]
fn bench_tells_acceptance_and_gain_beside_its_rows() {
    let folder = models();
    folder.write("story.txt", "the fox and the fish and the fox and the fish and ".repeat(4));
    let args = ["bench", "model.gguf", "--prompt", "0", "--gen", "12", "--repeat", "2", "--json"];
    assert!(run(folder.path(), &args).json().get("speculation").is_none());
    let more = ["--lookup", "--draft", "model.gguf", "--text", "story.txt"];
    let report = run(folder.path(), &[&args[..], &more].concat()).json();
    assert_eq!(report["rows"].as_array().unwrap().len(), 1, "the other rows are what they were");
    let rows = report["speculation"].as_array().unwrap();
    assert_eq!(
        rows.iter().map(|r| r["test"].as_str().unwrap()).collect::<Vec<_>>(),
        ["tg12 lookup", "tg12 draft", "tg12 lookup + draft"]
    );
    for r in rows {
        let tps = |k: &str| r[k]["median"].as_f64().unwrap();
        let gain = tps("tps") / tps("plain_tps");
        assert!((r["gain"].as_f64().unwrap() - gain).abs() < 1e-9 * gain, "{r}");
        assert!(r["tokens_per_step"].as_f64().unwrap() >= 1.0);
    }
    assert_eq!(rows[1]["acceptance"], 1.0);
    let page = run(folder.path(), &[&args[..8], &more].concat());
    assert!(
        page.code == 0 && page.out.contains("guesses right") && page.out.contains("tg12 lookup + draft"),
        "{page:?}"
    );
}
