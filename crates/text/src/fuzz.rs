//! One plain function per parser, for fuzzers and for the mutation test: any bytes, no panic, and text that comes in
//! parts is the text that comes at once.
#![doc(hidden)]

use crate::charsmap::CharsMap;
use crate::gguf::GgufVocab;
use crate::hf::HfTokenizer;
use crate::jinja::{self, Clock};
use crate::scheme::Scheme;
use crate::sentencepiece::SentencePiece;
use crate::tiktoken::{Ranked, Sidecar, read_ranks};
use crate::{EncodeOptions, Tokenizer};

const TEXTS: [&str; 4] = ["Hello  world\n 12345 don't", "你好 é\u{301}🦊<s></s>[INST]", "", " \u{2581}a\0\u{FFFD}"];

fn exercise(scheme: impl Scheme + 'static) {
    let tokenizer = Tokenizer::of(Box::new(scheme), "fuzz");
    for text in TEXTS {
        for parse_special in [false, true] {
            let options = EncodeOptions { add_special: true, parse_special, add_eos: true };
            let Ok(ids) = tokenizer.encode(text, &options) else { continue };
            same_in_parts(&tokenizer, &ids);
        }
    }
    let all: Vec<u32> = (0..64).chain([u32::MAX]).collect();
    same_in_parts(&tokenizer, &all);
    all.iter().for_each(|id| drop((tokenizer.token_bytes(*id), tokenizer.is_special(*id))));
}

fn same_in_parts(tokenizer: &Tokenizer, ids: &[u32]) {
    for skip in [false, true] {
        let mut stream = tokenizer.stream(skip);
        let mut text: String = ids.iter().map(|id| stream.push(*id)).collect();
        text += &stream.finish();
        assert_eq!(text, tokenizer.decode(ids, skip));
    }
}

/// `tokenizer.json`.
pub fn fuzz_tokenizer_json(data: &[u8]) {
    if let Some(Ok(tokenizer)) = std::str::from_utf8(data).ok().map(HfTokenizer::read) {
        exercise(tokenizer);
    }
}

/// SentencePiece models and their character maps.
pub fn fuzz_sentencepiece(data: &[u8]) {
    let _ = SentencePiece::looks_like(data);
    if let Ok(model) = SentencePiece::read(data) {
        exercise(model);
    }
    if let Ok(map) = CharsMap::new(data) {
        TEXTS.iter().for_each(|text| assert!(map.longest(text).is_none_or(|(len, _)| len <= text.len())));
    }
}

/// Tekken files.
pub fn fuzz_tekken(data: &[u8]) {
    if let Ok(model) = Ranked::tekken(data) {
        exercise(model);
    }
}

/// tiktoken files: the bytes as ranks, and as an expression over a few ranks.
pub fn fuzz_tiktoken(data: &[u8]) {
    let build = |ranks: &[u8], pattern: &str| {
        let special_tokens = [("<s>".to_string(), 1000)].into();
        Ranked::tiktoken(read_ranks(ranks)?, &Sidecar { pat_str: pattern.into(), special_tokens })
    };
    if let Ok(model) = build(data, r"\S+|\s+(?!\S)|\s+") {
        exercise(model);
    }
    if let Some(Ok(model)) = std::str::from_utf8(data).ok().map(|pattern| build(b"YQ== 0\nIA== 1\n", pattern)) {
        exercise(model);
    }
}

/// `vocab.txt`.
pub fn fuzz_vocab_txt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for lowercase in [false, true] {
        if let Ok(tokenizer) = HfTokenizer::word_piece(text, lowercase) {
            exercise(tokenizer);
        }
    }
}

/// Vocabularies inside of GGUF files.
pub fn fuzz_gguf_vocab(data: &[u8]) {
    let Ok(parsed) = pondera_weights::gguf::parse(pondera_quant::Bytes::from(data.to_vec())) else { return };
    if let Ok(vocab) = GgufVocab::read(&parsed.gguf) {
        exercise(vocab);
    }
    let _ = crate::ChatTemplate::from_gguf(&parsed.gguf);
}

/// Chat templates: any source ends, and within its limits.
pub fn fuzz_template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let messages = serde_json::json!([
        {"role": "user", "content": "a<b"},
        {"role": "assistant", "content": "é", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1.5}}}]}
    ]);
    let mut variables = serde_json::Map::new();
    variables.insert("messages".into(), messages);
    variables.insert("tools".into(), serde_json::Value::Null);
    let _ = jinja::render(source, variables, Clock::from_unix(0));
}

/// A target takes any bytes and does not panic.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("tokenizer_json", fuzz_tokenizer_json),
    ("sentencepiece", fuzz_sentencepiece),
    ("tekken", fuzz_tekken),
    ("tiktoken", fuzz_tiktoken),
    ("vocab_txt", fuzz_vocab_txt),
    ("gguf_vocab", fuzz_gguf_vocab),
    ("template", fuzz_template),
];
