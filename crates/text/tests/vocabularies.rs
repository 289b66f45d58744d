//! Vocabularies from the outside: what is told by content, what attacks, what must stay linear, and text in parts.

use pondera_text::{EncodeOptions, ErrorKind, Tokenizer};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false, add_eos: false };

/// A byte-level vocabulary of all bytes and a few merges.
fn byte_level() -> Value {
    let mut vocab = serde_json::Map::new();
    let printable = (b'!'..=b'~').chain(0xA1..=0xAC).chain(0xAE..=0xFF).map(char::from);
    let others = (256..324).filter_map(char::from_u32);
    for c in printable.chain(others) {
        let id = vocab.len();
        vocab.insert(c.to_string(), json!(id));
    }
    let merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "Ġ Ġ", "ĠĠ ĠĠ", "a a", "aa aa"];
    for merge in merges {
        let id = vocab.len();
        vocab.insert(merge.replace(' ', ""), json!(id));
    }
    json!({
        "added_tokens": [{"id": 300, "content": "<s>", "special": true}, {"id": 301, "content": "<m>", "lstrip": true, "rstrip": true}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [300]}}},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges}
    })
}

fn read(value: &Value) -> Result<Tokenizer, pondera_text::Error> {
    Tokenizer::from_tokenizer_json(&value.to_string())
}

#[test]
fn merges_follow_the_list_and_special_tokens_are_found() {
    let tokenizer = read(&byte_level()).expect("sound");
    let id = |token: &str| tokenizer.id_of(token).expect(token);
    let cases: [(&str, Vec<u32>); 4] = [
        ("hello", vec![id("hello")]),
        ("hell  w", vec![id("hell"), id("Ġ"), id("Ġw")]),
        ("<s>aaaaa", vec![300, id("aaaa"), id("a")]),
        ("a  <m> b", vec![id("a"), 301, id("b")]),
    ];
    for (text, want) in cases {
        assert_eq!(tokenizer.encode(text, &PLAIN).expect(text), want, "{text}");
    }
    assert_eq!(tokenizer.encode("", &EncodeOptions::default()).expect("empty"), [300]);
    assert!(tokenizer.is_special(300) && !tokenizer.is_special(301));
    assert_eq!(tokenizer.token_bytes(id("Ġw")), Some(b" w".to_vec()));
}

#[test]
fn a_stream_never_gives_half_a_character_and_adds_up() {
    let tokenizer = read(&byte_level()).expect("sound");
    let text = "héllo 你好 🦊 e\u{301} \u{FFFD}";
    let ids = tokenizer.encode(text, &PLAIN).expect("encodes");
    assert!(ids.len() > text.chars().count(), "characters are cut");
    let mut stream = tokenizer.stream(false);
    let parts: Vec<String> = ids.iter().map(|id| stream.push(*id)).collect();
    assert!(
        parts.iter().all(|p| p.chars().filter(|c| *c == '\u{FFFD}').count() == usize::from(p.contains('\u{FFFD}')))
    );
    assert_eq!(parts.concat() + &stream.finish(), tokenizer.decode(&ids, false));
    assert_eq!(tokenizer.decode(&ids, false), "héllo 你好 🦊 é \u{FFFD}");
    let cut = &ids[..2]; // the first half of é
    let mut stream = tokenizer.stream(false);
    assert_eq!(cut.iter().map(|id| stream.push(*id)).collect::<String>(), "h");
    assert_eq!(stream.finish(), "\u{FFFD}");
}

/// Files of the kinds that make the reference library panic, abort or hang.
#[test]
fn hostile_tokenizer_files_are_errors() {
    let with = |path: &str, value: Value| {
        let mut file = byte_level();
        *file.pointer_mut(path).expect(path) = value;
        file.to_string()
    };
    let nested = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    let cases = [
        ("not JSON", "{".to_string()),
        ("nested", nested("[", "]")),
        ("nested sequences", nested(r#"{"model":{"#, "}}")),
        ("no model", r#"{"added_tokens": []}"#.into()),
        ("model of another type", with("/model/type", json!("Magic"))),
        ("vocabulary is a number", with("/model/vocab", json!(3))),
        ("id beyond reason", with("/model/vocab/a", json!(4_000_000_000_u32))),
        ("negative id", with("/model/vocab/a", json!(-1))),
        ("merge of unknown tokens", with("/model/merges", json!(["zz yy"]))),
        ("merge of one token", with("/model/merges", json!(["a"]))),
        ("merge of three tokens", with("/model/merges", json!([["a", "a", "a"]]))),
        ("unknown normalizer", with("/normalizer", json!({"type": "Magic"}))),
        (
            "pattern that cannot be read",
            with("/pre_tokenizer", json!({"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated"})),
        ),
        (
            "pattern of a million repeats",
            with(
                "/pre_tokenizer",
                json!({"type": "Split", "pattern": {"Regex": "((a{1000}){1000}){1000}"}, "behavior": "Isolated"}),
            ),
        ),
        ("replacement of two characters", with("/pre_tokenizer", json!({"type": "Metaspace", "replacement": "ab"}))),
        ("charsmap that is none", with("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}))),
        (
            "charsmap of a wild size",
            with("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="})),
        ),
        ("special token without ids", with("/post_processor/special_tokens", json!({}))),
        ("added id beyond reason", with("/added_tokens/0/id", json!(4_000_000_000_u32))),
        ("unknown decoder", with("/decoder", json!({"type": "Magic"}))),
        ("WordPiece without unknown", json!({"model": {"type": "WordPiece", "vocab": {"a": 0}}}).to_string()),
        (
            "Unigram with a wild unknown",
            json!({"model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", 0.0]]}}).to_string(),
        ),
    ];
    for (what, file) in cases {
        let start = Instant::now();
        let error = Tokenizer::from_tokenizer_json(&file).expect_err(what);
        assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported), "{what}: {error}");
        assert!(start.elapsed() < Duration::from_millis(500), "{what}");
    }
}

#[test]
fn a_pattern_that_backtracks_without_end_is_stopped() {
    let mut file = byte_level();
    file["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated"});
    let tokenizer = read(&file).expect("compiles");
    let start = Instant::now();
    let error = tokenizer.encode(&("a".repeat(5000) + "b"), &PLAIN).expect_err("too much work");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn long_runs_take_linear_time() {
    let tokenizer = read(&byte_level()).expect("sound");
    let mut unigram = byte_level();
    unigram["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["▁", -1.0], ["a", -2.0], ["aa", -2.5], ["aaaaaaaa", -3.0]]});
    unigram["pre_tokenizer"] =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false});
    let unigram = read(&unigram).expect("sound");
    for tokenizer in [&tokenizer, &unigram] {
        for unit in ["a", " ", "你", "\u{301}", "! ", "<s", "\0"] {
            let text = unit.repeat((1 << 20) / unit.len());
            let start = Instant::now();
            tokenizer.encode(&text, &PLAIN).expect(unit);
            // a quadratic step would take a quarter of an hour; the bound leaves room for a busy machine
            let took = start.elapsed();
            assert!(took < Duration::from_secs(20), "{unit:?}: {took:?} for 1 MiB");
        }
    }
}

#[test]
fn kinds_are_told_by_content() {
    let folder = std::env::temp_dir().join(format!("pondera-vocab-{}", std::process::id()));
    let place = |name: &str| -> PathBuf { folder.join(name) };
    std::fs::create_dir_all(place("tok")).expect("folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(place(name), bytes).expect(name);
    write("a.bin", byte_level().to_string().as_bytes());
    write("b.model", b"YQ== 0\nYg== 1\nYWI= 2\n");
    write("tiktoken.json", br#"{"pat_str": "\\S+|\\s", "special_tokens": {"<|end_of_text|>": 9}}"#);
    write("c.vocab", b"[UNK]\n[CLS]\n[SEP]\nhello\n##s\n");
    write(
        "d.json",
        br#"{"config": {"pattern": ".", "default_vocab_size": 5, "default_num_special_tokens": 3},
        "vocab": [{"rank": 0, "token_bytes": "YQ=="}, {"rank": 1, "token_bytes": "Yg=="}]}"#,
    );
    let cases: [(&str, &str, &str, &[u32]); 4] = [
        ("a.bin", "tokenizer.json", "hello", &[259]),
        ("b.model", "tiktoken", "ab", &[2]),
        ("c.vocab", "wordpiece", "Hellos x", &[3, 4, 0]),
        ("d.json", "tekken", "ab", &[3, 4]),
    ];
    for (name, kind, text, want) in cases {
        let tokenizer = Tokenizer::open(place(name)).expect(name);
        assert_eq!(tokenizer.kind(), kind, "{name}");
        assert_eq!(tokenizer.encode(text, &PLAIN).expect(text), want, "{name}");
    }
    write("tok/tokenizer.json", byte_level().to_string().as_bytes());
    write("tok/tokenizer_config.json", br#"{"eos_token": {"content": "<s>"}}"#);
    write("tok/generation_config.json", br#"{"eos_token_id": [5, 300, 99999999]}"#);
    let tokenizer = Tokenizer::open(place("tok")).expect("folder");
    assert_eq!((tokenizer.eos_id(), tokenizer.stop_ids()), (Some(300), &[5, 300][..]));
    let options = EncodeOptions { add_special: false, parse_special: false, add_eos: true };
    assert_eq!(tokenizer.encode("", &options).expect("empty"), [300]);
    write("e.txt", b"just words\n");
    assert_eq!(Tokenizer::open(place("e.txt")).expect_err("none").kind(), ErrorKind::Invalid);
    assert_eq!(Tokenizer::open(place("nothing")).expect_err("none").kind(), ErrorKind::Missing);
    std::fs::remove_dir_all(&folder).expect("clean");
}
