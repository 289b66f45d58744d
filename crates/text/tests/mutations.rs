//! A short, seeded mutation run over every parser: no panic, and text in parts is text at once.

use pondera_text::fuzz::TARGETS;

/// Sound inputs to start from, by target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts: &[&str] = match target {
        "tokenizer_json" => &[
            r###"{"added_tokens":[{"id":7,"content":"<s>","special":true,"lstrip":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"BertNormalizer"},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"x"}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{L}+|\\s+(?!\\S)"},"behavior":"MergedWithPrevious"},{"type":"Digits"},{"type":"ByteLevel"}]},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","unk_token":"a","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"###,
            r###"{"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"},"decoder":{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":1}]},"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["▁",-1.5],["a",-2],["<0x41>",-3]]}}"###,
            r###"{"pre_tokenizer":{"type":"BertPreTokenizer"},"decoder":{"type":"WordPiece","prefix":"##"},"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"[UNK]":0,"hello":1,"##s":2}}}"###,
        ],
        "tekken" => &[
            r#"{"config":{"pattern":"[^\\r\\n\\p{L}]?\\p{L}+|\\s+","default_vocab_size":6,"default_num_special_tokens":3},"vocab":[{"rank":0,"token_bytes":"YQ=="},{"rank":1,"token_bytes":"YWE="}],"special_tokens":[{"rank":0,"token_str":"<s>"}]}"#,
        ],
        "tiktoken" => &[
            "YQ== 0\nYg== 1\nIA== 2\nYWI= 3\n",
            r"(?i:'s|'t)|[^\r\n\p{L}&&[^a]]?\p{L}++|\p{N}{1,3}+|\s+(?!\S)|(?<=a)b",
        ],
        "vocab_txt" => &["[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\n##s\nworld\n"],
        "template" => &[
            "{%- for m in messages if m.role != 'x' %}{{ loop.index ~ m['content'] | tojson(indent=2) }}{% endfor -%}{{ '%5s' % 1 }}{% macro f(a, b=1) %}{{ a[1:] }}{% endmacro %}{{ f('abc') }}",
            "{% set ns = namespace(x=[]) %}{% set y %}{{ 'a'.split(',') | map('upper') | list }}{% endset %}{{ {'a': 1.5}.items() | list }}{% raw %}{{{% endraw %}",
        ],
        _ => &[],
    };
    let mut seeds: Vec<Vec<u8>> = texts.iter().map(|t| t.as_bytes().to_vec()).collect();
    if target == "sentencepiece" {
        let mut model = Vec::new();
        for (text, kind) in [("<unk>", 2), ("<s>", 3), ("\u{2581}", 1), ("a", 1), ("ab", 5), ("b", 1), ("<x>", 4)] {
            let mut piece = vec![0x0A, text.len() as u8];
            piece.extend(text.as_bytes());
            piece.push(0x15);
            piece.extend((-(text.len() as f32)).to_le_bytes());
            piece.extend([0x18, kind]);
            model.extend([0x0A, piece.len() as u8]);
            model.extend(piece);
        }
        for model_type in 1..=4 {
            seeds.push([&model[..], &[0x12, 2, 0x18, model_type, 0x1A, 4, 0x18, 1, 0x20, 0]].concat());
        }
    }
    seeds
}

#[test]
fn no_mutated_input_panics() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for (name, target) in TARGETS {
        for seed in seeds(name) {
            target(&seed);
            for _ in 0..250 {
                let mut bytes = seed.clone();
                for _ in 0..1 + random(4) {
                    let at = random(bytes.len());
                    match random(6) {
                        0 => bytes[at] ^= 1 << random(8),
                        1 => bytes[at] = random(256) as u8,
                        2 => bytes.truncate(at.max(1)),
                        3 => drop(bytes.drain(at..(at + 1 + random(8)).min(bytes.len()))),
                        4 => {
                            let end = (at + 1 + random(24)).min(bytes.len());
                            let part = bytes[at..end].repeat(1 + random(3));
                            bytes.splice(at..at, part);
                        }
                        _ => drop(bytes.splice(at..at, random(1 << 20).to_string().into_bytes())),
                    }
                    if bytes.is_empty() {
                        break;
                    }
                }
                target(&bytes);
            }
        }
    }
}
