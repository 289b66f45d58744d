//! Ranked byte vocabularies: tiktoken's `base64 rank` lines and Mistral's tekken JSON. The rank of a merge is the rank
//! of its result.

use crate::added::{Added, Finder};
use crate::bpe::{Merge, Merger};
use crate::decode::Step;
use crate::error::{Error, Result};
use crate::pattern::{Flavour, Pattern};
use crate::scheme::Scheme;
use crate::vocab::Vocab;
use foldhash::fast::RandomState;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// The expression and special tokens that a rank file does not hold.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Sidecar {
    /// The pattern that cuts a text into words.
    pub(crate) pat_str: String,
    /// Special tokens and their ids.
    #[serde(default)]
    pub(crate) special_tokens: BTreeMap<String, u32>,
}

/// A ranked byte vocabulary.
#[derive(Debug)]
pub(crate) struct Ranked {
    /// Tokens by rank; the id is the rank plus `offset`.
    ranks: Vocab,
    offset: u32,
    pattern: Pattern,
    special: BTreeMap<u32, String>,
    finder: Finder,
    around: (Vec<u32>, Vec<u32>),
    ends: (Option<u32>, Option<u32>),
    steps: Vec<Step>,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";
const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const KIMI: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Number of ranks, pattern, special tokens.
type Known = (u32, &'static str, &'static [(&'static str, u32)]);

/// Published rank files, told by their number of ranks: the pattern, and special tokens where they are fixed.
const KNOWN: [Known; 7] = [
    (50_256, GPT2, &[("<|endoftext|>", 50_256)]),
    (50_280, GPT2, &[("<|endoftext|>", 50_256)]),
    (
        100_256,
        CL100K,
        &[
            ("<|endoftext|>", 100_257),
            ("<|fim_prefix|>", 100_258),
            ("<|fim_middle|>", 100_259),
            ("<|fim_suffix|>", 100_260),
            ("<|endofprompt|>", 100_276),
        ],
    ),
    (
        128_000,
        LLAMA3,
        &[
            ("<|begin_of_text|>", 128_000),
            ("<|end_of_text|>", 128_001),
            ("<|start_header_id|>", 128_006),
            ("<|end_header_id|>", 128_007),
            ("<|eom_id|>", 128_008),
            ("<|eot_id|>", 128_009),
            ("<|python_tag|>", 128_010),
        ],
    ),
    (151_643, QWEN, &[("<|endoftext|>", 151_643), ("<|im_start|>", 151_644), ("<|im_end|>", 151_645)]),
    (163_584, KIMI, &[]),
    (199_998, O200K, &[("<|endoftext|>", 199_999), ("<|endofprompt|>", 200_018)]),
];

/// What is known of a published rank file with so many ranks.
pub(crate) fn known(ranks: usize) -> Option<Sidecar> {
    let (_, pattern, special) = KNOWN.iter().find(|k| k.0 as usize == ranks)?;
    let special_tokens = special.iter().map(|(text, id)| ((*text).to_string(), *id)).collect();
    Some(Sidecar { pat_str: (*pattern).to_string(), special_tokens })
}

/// Whether these bytes are lines of `base64 rank`: the first line tells.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or(b"");
    parse_line(line.strip_suffix(b"\r").unwrap_or(line)).is_some()
}

fn parse_line(line: &[u8]) -> Option<(Vec<u8>, u32)> {
    let space = line.iter().position(|b| *b == b' ')?;
    let rank = std::str::from_utf8(line.get(space + 1..)?).ok()?.parse().ok()?;
    let token = line.get(..space).filter(|t| t.len() % 4 == 0)?;
    Some((crate::base64::decode(token)?, rank))
}

/// The ranks of a tiktoken file.
pub(crate) fn read_ranks(bytes: &[u8]) -> Result<Vocab> {
    let mut ranks = Vocab::with_capacity(bytes.len() / 16, bytes.len() / 2);
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let broken = || Error::invalid(format!("line {}: expected base64, a space and a rank", n + 1));
        let (token, rank) = parse_line(line).ok_or_else(broken)?;
        if token.is_empty() {
            continue; // one published file holds an empty token; it can stand for nothing
        }
        if !ranks.insert(rank, &token)? {
            return Err(Error::invalid(format!("line {}: the token occurs twice", n + 1)));
        }
    }
    Ok(ranks)
}

impl Ranked {
    /// A tiktoken vocabulary from its ranks and what stands beside them.
    pub(crate) fn tiktoken(ranks: Vocab, sidecar: &Sidecar) -> Result<Self> {
        let pattern = Pattern::new(&sidecar.pat_str, Flavour::Fancy).map_err(|e| e.within("pat_str"))?;
        let special: BTreeMap<u32, String> = sidecar.special_tokens.iter().map(|(t, id)| (*id, t.clone())).collect();
        if let Some(id) = special.keys().last().filter(|id| **id as usize > 16 * ranks.size() + (1 << 20)) {
            return Err(Error::invalid(format!("special_tokens: id {id} far beyond the vocabulary")));
        }
        let named = |names: &[&str]| names.iter().find_map(|n| sidecar.special_tokens.get(*n)).copied();
        let bos = named(&["<|begin_of_text|>", "[BOS]"]);
        let eos = named(&["<|end_of_text|>", "[EOS]", "<|endoftext|>"]);
        let around = (bos.filter(|_| special.values().any(|t| t == "<|begin_of_text|>")).into_iter().collect(), vec![]);
        Self::build(ranks, 0, pattern, special, around, (bos, eos))
    }

    /// A tekken vocabulary.
    ///
    /// # Errors
    /// JSON of another shape, sizes that contradict each other, a pattern that is not understood.
    pub(crate) fn tekken(json: &[u8]) -> Result<Self> {
        let file: Tekken = serde_json::from_slice(json).map_err(|e| Error::invalid(format!("{e}")))?;
        let specials = file.config.default_num_special_tokens;
        let inner = file
            .config
            .default_vocab_size
            .checked_sub(specials)
            .ok_or_else(|| Error::invalid("config.default_vocab_size: smaller than default_num_special_tokens"))?;
        if specials as usize > 16 * file.vocab.len() + (1 << 16) {
            return Err(Error::invalid(format!("config.default_num_special_tokens: {specials} is beyond reason")));
        }
        let mut ranks = Vocab::with_capacity(file.vocab.len(), json.len() / 16);
        for entry in file.vocab.iter().take(inner as usize) {
            let token = crate::base64::decode(entry.token_bytes.as_bytes());
            let token =
                token.ok_or_else(|| Error::invalid(format!("vocab[{}].token_bytes: not base64", entry.rank)))?;
            if !ranks.insert(entry.rank, &token)? {
                return Err(Error::invalid(format!("vocab[{}]: the token occurs twice", entry.rank)));
            }
        }
        let mut special: BTreeMap<u32, String> = BTreeMap::new();
        match &file.special_tokens {
            Some(tokens) => special.extend(tokens.iter().map(|t| (t.rank, t.token_str.clone()))),
            None => special.extend((0..specials).zip(TEKKEN_SPECIALS.iter().map(|t| (*t).to_string()))),
        }
        if special.keys().last().is_some_and(|id| *id >= specials) {
            return Err(Error::invalid("special_tokens: a rank beyond default_num_special_tokens"));
        }
        for id in 0..specials {
            special.entry(id).or_insert_with(|| format!("<SPECIAL_{id}>"));
        }
        let pattern = Pattern::new(&file.config.pattern, Flavour::Fancy).map_err(|e| e.within("config.pattern"))?;
        let named = |name: &str| special.iter().find(|(_, text)| *text == name).map(|(id, _)| *id);
        let (bos, eos) = (named("<s>"), named("</s>"));
        Self::build(ranks, specials, pattern, special, (bos.into_iter().collect(), vec![]), (bos, eos))
    }

    fn build(
        ranks: Vocab,
        offset: u32,
        pattern: Pattern,
        special: BTreeMap<u32, String>,
        around: (Vec<u32>, Vec<u32>),
        ends: (Option<u32>, Option<u32>),
    ) -> Result<Self> {
        let tokens = special.iter().map(|(id, text)| Added { id: *id, text: text.clone(), ..Added::default() });
        let finder = Finder::new(tokens.collect())?;
        let steps = vec![Step::Utf8 { each: false }];
        Ok(Ranked { ranks, offset, pattern, special, finder, around, ends, steps })
    }

    fn plain(&self, text: &str, scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<()> {
        for (start, end) in self.pattern.pieces(text)? {
            let word = text.as_bytes().get(start..end).unwrap_or(b"");
            if let Some(rank) = self.ranks.get(word) {
                out.push(rank + self.offset);
                continue;
            }
            if let Some(ids) = scratch.cache.get(word) {
                out.extend_from_slice(ids);
                continue;
            }
            let mark = out.len();
            self.word(word, &mut scratch.merger, out)?;
            if word.len() <= 48 && scratch.cache.len() < 1 << 15 {
                scratch.cache.insert(word.into(), out[mark..].into());
            }
        }
        Ok(())
    }

    fn word(&self, word: &[u8], merger: &mut Merger, out: &mut Vec<u32>) -> Result<()> {
        merger.clear();
        for (at, byte) in word.iter().enumerate() {
            let rank = self.ranks.get(std::slice::from_ref(byte));
            let missing = || Error::invalid(format!("vocabulary: byte 0x{byte:02X} has no token"));
            merger.push(rank.ok_or_else(missing)?, at, at + 1);
        }
        merger.run(|left, right| {
            let rank = self.ranks.get(&word[left.start as usize..right.end as usize])?;
            Some(Merge { rank, id: rank })
        });
        out.extend(merger.symbols().map(|s| s.id + self.offset));
        Ok(())
    }
}

#[derive(Default)]
struct Scratch {
    merger: Merger,
    cache: HashMap<Box<[u8]>, Box<[u32]>, RandomState>,
}

/// Special tokens of tekken files that do not list their own.
const TEKKEN_SPECIALS: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

#[derive(Deserialize)]
struct Tekken<'a> {
    config: TekkenConfig,
    #[serde(borrow)]
    vocab: Vec<TekkenToken<'a>>,
    #[serde(default)]
    special_tokens: Option<Vec<TekkenSpecial>>,
}

#[derive(Deserialize)]
struct TekkenConfig {
    pattern: String,
    default_vocab_size: u32,
    default_num_special_tokens: u32,
}

#[derive(Deserialize)]
struct TekkenToken<'a> {
    rank: u32,
    #[serde(borrow)]
    token_bytes: Cow<'a, str>,
}

#[derive(Deserialize)]
struct TekkenSpecial {
    rank: u32,
    token_str: String,
}

impl Scheme for Ranked {
    fn encode(&self, text: &str, parse_special: bool, out: &mut Vec<u32>) -> Result<()> {
        let mut scratch = Scratch::default();
        if !parse_special {
            return self.plain(text, &mut scratch, out);
        }
        let mut parts = Vec::new();
        self.finder.split(text, &mut parts);
        for (token, part) in parts {
            match token {
                Some(id) => out.push(id),
                None => self.plain(part, &mut scratch, out)?,
            }
        }
        Ok(())
    }

    fn around(&self) -> (Vec<u32>, Vec<u32>) {
        self.around.clone()
    }

    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn piece(&self, id: u32, out: &mut Vec<u8>) -> Option<()> {
        let special = self.special.get(&id).map(|text| text.as_bytes());
        let token = special.or_else(|| self.ranks.token(id.checked_sub(self.offset)?))?;
        out.extend_from_slice(token);
        Some(())
    }

    fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.piece(id, &mut out).map(|()| out)
    }

    fn is_special(&self, id: u32) -> bool {
        self.special.contains_key(&id)
    }

    fn size(&self) -> usize {
        let special = self.special.last_key_value().map_or(0, |(id, _)| *id as usize + 1);
        special.max(self.ranks.size() + self.offset as usize)
    }

    fn id_of(&self, token: &str) -> Option<u32> {
        let special = self.special.iter().find(|(_, text)| *text == token).map(|(id, _)| *id);
        special.or_else(|| self.ranks.get(token.as_bytes()).map(|rank| rank + self.offset))
    }

    fn ends(&self) -> (Option<u32>, Option<u32>) {
        self.ends
    }

    fn stops(&self) -> Vec<u32> {
        let names = ["<|eot_id|>", "<|eom_id|>", "<|im_end|>", "[EOT]", "<|end|>", "<|return|>", "<|call|>"];
        self.special.iter().filter(|(_, text)| names.contains(&text.as_str())).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks() -> Vec<u8> {
        let mut out = String::new();
        for (rank, token) in ["YQ==", "Yg==", "YWI=", "IA==", "YWJhYg=="].iter().enumerate() {
            out.push_str(&format!("{token} {rank}\n"));
        }
        out.into_bytes()
    }

    #[test]
    fn merges_by_the_rank_of_the_result() {
        let sidecar = Sidecar { pat_str: r"\S+|\s".into(), special_tokens: [("<e>".to_string(), 9)].into() };
        let model = Ranked::tiktoken(read_ranks(&ranks()).expect("ranks"), &sidecar).expect("sound");
        let encode = |text: &str, special| {
            let mut out = Vec::new();
            model.encode(text, special, &mut out).map(|()| out)
        };
        assert_eq!(encode("abab aba", false).expect("known"), [4, 3, 2, 0]);
        assert_eq!(encode("ab<e>ab", true).expect("known"), [2, 9, 2]);
        assert!(encode("ab<e>", false).is_err(), "no token for <");
    }

    #[test]
    fn broken_files_are_errors() {
        assert!(looks_like(&ranks()));
        assert!(!looks_like(b"[PAD]\n[UNK]\n"));
        for bad in ["YQ== 0\nYQ== 1\n", "YQ== 0\n!!! 1\n", "YQ== x\n", "YQ== 4294967295\n"] {
            assert!(read_ranks(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in [
            "{}",
            r#"{"config":{"pattern":"a","default_vocab_size":1,"default_num_special_tokens":2},"vocab":[]}"#,
            r#"{"config":{"pattern":"(","default_vocab_size":1,"default_num_special_tokens":0},"vocab":[]}"#,
            r#"{"config":{"pattern":"a","default_vocab_size":4000000000,"default_num_special_tokens":4000000000},"vocab":[]}"#,
            r#"{"config":{"pattern":"a","default_vocab_size":9,"default_num_special_tokens":0},"vocab":[{"rank":4000000000,"token_bytes":"YQ=="}]}"#,
        ] {
            assert!(Ranked::tekken(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
