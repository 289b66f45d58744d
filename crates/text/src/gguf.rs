//! Vocabularies inside of GGUF files: SentencePiece-like (`llama`), byte-pair (`gpt2`, `gemma4`), WordPiece (`bert`),
//! unigram (`t5`) and `rwkv`, tokenized as llama.cpp tokenizes them.

mod pre;

use crate::added::{Added, Finder};
use crate::bpe::{Merge, Merger, rank_of_score};
use crate::charsmap::CharsMap;
use crate::decode::Step;
use crate::error::{Error, ErrorKind, Result};
use crate::pattern::{Flavour, Pattern};
use crate::scheme::Scheme;
use crate::sentencepiece::{SPACE, SpmNormalizer, crosses_words, words};
use crate::trie::Trie;
use crate::unicode::{
    byte_token, is_chinese, is_mark, is_other, is_strict_punctuation, push_byte_chars, to_byte_chars,
};
use crate::unigram::{Precision, best_cut};
use crate::vocab::Vocab;
use foldhash::fast::RandomState;
use pondera_weights::Gguf;
use std::collections::HashMap;
use unicode_normalization::char::decompose_canonical;

const NORMAL: u8 = 1;
const UNKNOWN: u8 = 2;
const CONTROL: u8 = 3;
const USER_DEFINED: u8 = 4;
const UNUSED: u8 = 5;
const BYTE: u8 = 6;

/// Tokens that end a generation, told by their text as llama.cpp does.
const STOPS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Tokens that fill in the middle; they control too.
const FILL: [&str; 33] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<|file_sep|>",
];

#[derive(Debug)]
enum Kind {
    Spm { space_prefix: bool, words_apart: bool },
    Bpe(Box<Bpe>),
    WordPiece { lowercase: bool, strip_accents: bool },
    Unigram { trie: Trie, user_defined: Trie, normalizer: SpmNormalizer, unknown_score: f64 },
    Rwkv { trie: Trie },
}

#[derive(Debug)]
struct Bpe {
    /// The tokens, and behind them what only merges name.
    parts: Vocab,
    merges: HashMap<(u32, u32), Merge, RandomState>,
    patterns: Vec<Pattern>,
    ignore_merges: bool,
    raw: bool,
}

/// A vocabulary from GGUF metadata.
#[derive(Debug)]
pub(crate) struct GgufVocab {
    kind: Kind,
    tokens: Vocab,
    scores: Vec<f32>,
    types: Vec<u8>,
    always: Finder,
    special: Finder,
    around: (Vec<u32>, Vec<u32>),
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    stops: Vec<u32>,
    steps: Vec<Step>,
}

fn broken(error: &pondera_weights::Error) -> Error {
    Error::invalid(error.to_string())
}

fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

fn flag(gguf: &Gguf, name: &str) -> Result<Option<bool>> {
    gguf.bool(&key(name)).map_err(|e| broken(&e))
}

/// A token id of the metadata; one beyond the vocabulary counts as absent.
fn id(gguf: &Gguf, name: &str, size: usize, default: Option<u32>) -> Result<Option<u32>> {
    let inside = |id: &u32| (*id as usize) < size;
    let value = gguf.i64(&key(name)).map_err(|e| broken(&e))?;
    let value = value.and_then(|v| u32::try_from(v).ok()).filter(inside);
    Ok(value.or(default.filter(inside)))
}

impl GgufVocab {
    /// Reads the vocabulary of a file.
    ///
    /// # Errors
    /// No vocabulary, arrays of a wrong type or length, an unknown model or pre-tokenizer.
    pub(crate) fn read(gguf: &Gguf) -> Result<Self> {
        let model = gguf.str(&key("model")).map_err(|e| broken(&e))?;
        let model = model
            .filter(|m| !matches!(*m, "none" | "no_vocab"))
            .ok_or_else(|| Error::new(ErrorKind::Missing, "tokenizer.ggml.model: the file holds no vocabulary"))?;
        let words = gguf.byte_strings(&key("tokens")).map_err(|e| broken(&e))?;
        let words = words.ok_or_else(|| Error::new(ErrorKind::Missing, "tokenizer.ggml.tokens: missing"))?;
        let mut tokens = Vocab::with_capacity(words.len(), words.iter().map(|w| w.len()).sum());
        for (n, word) in words.iter().enumerate() {
            let n = u32::try_from(n).map_err(|_| Error::invalid("tokenizer.ggml.tokens: too many"))?;
            if std::str::from_utf8(word).is_err() {
                return Err(Error::invalid(format!("tokenizer.ggml.tokens[{n}]: not UTF-8")));
            }
            match word.is_empty() {
                true => tokens.insert(n, format!("[EMPTY_{n}]").as_bytes())?,
                false => tokens.insert(n, word)?,
            };
        }
        let scores = column(gguf.f32s(&key("scores")), "scores", words.len()).or_else(|_| {
            column(gguf.i64s(&key("scores")), "scores", words.len()).map(|s| s.iter().map(|v| *v as f32).collect())
        })?;
        if scores.iter().any(|s: &f32| s.is_nan()) {
            return Err(Error::invalid("tokenizer.ggml.scores: not a number"));
        }
        let types: Vec<i64> = column(gguf.i64s(&key("token_type")), "token_type", words.len())?;
        let types = match types.is_empty() {
            true => vec![NORMAL; words.len()],
            false => types.iter().map(|t| u8::try_from(*t).unwrap_or(0)).collect(),
        };
        let mut vocab = GgufVocab {
            kind: Kind::Spm { space_prefix: true, words_apart: false },
            tokens,
            scores: if scores.is_empty() { vec![0.0; words.len()] } else { scores },
            types,
            always: Finder::new(Vec::new())?,
            special: Finder::new(Vec::new())?,
            around: (Vec::new(), Vec::new()),
            bos: None,
            eos: None,
            unknown: None,
            stops: Vec::new(),
            steps: vec![Step::Utf8 { each: false }],
        };
        vocab.configure(gguf, model)?;
        Ok(vocab)
    }

    fn configure(&mut self, gguf: &Gguf, model: &str) -> Result<()> {
        let size = self.tokens.size();
        let defaults = match model {
            "llama" => [Some(1), Some(2), Some(0), None],
            "bert" => [Some(101), None, Some(100), Some(102)],
            "gpt2" => [Some(11), Some(11), None, None],
            "t5" => [None, Some(1), Some(2), None],
            _ => [None; 4],
        };
        let [bos, eos, unknown, sep] = defaults;
        self.bos = id(gguf, "bos_token_id", size, bos)?;
        self.eos = id(gguf, "eos_token_id", size, eos)?;
        self.unknown = id(gguf, "unknown_token_id", size, unknown)?;
        let sep = id(gguf, "seperator_token_id", size, sep)?; // the key is spelled so
        let space_prefix = flag(gguf, "add_space_prefix")?;
        let (mut add_bos, mut add_eos, mut add_sep) = (false, false, false);
        match model {
            "llama" => {
                add_bos = true;
                let space_prefix = space_prefix.unwrap_or(true);
                let words_apart = (0..size as u32).all(|id| !crosses_words(self.text(id)));
                self.kind = Kind::Spm { space_prefix, words_apart };
                if space_prefix {
                    self.steps.push(Step::Strip { content: ' ', start: 1, stop: 0 });
                }
            }
            "gpt2" | "gemma4" => {
                let name = match model {
                    "gemma4" => Some("gemma4"),
                    _ => gguf.str(&key("pre")).map_err(|e| broken(&e))?,
                };
                if name.is_none() {
                    tracing::warn!(
                        "tokenizer.ggml.pre is missing: the default pre-tokenizer is taken, which may be wrong"
                    );
                }
                let pre = pre::named(name.unwrap_or("default")).ok_or_else(|| {
                    let name = name.unwrap_or_default();
                    Error::unsupported(format!("tokenizer.ggml.pre: unknown pre-tokenizer {name:.60?}"))
                        .with_hint("a file with tokenizer.json of the same model beside it can be used instead")
                })?;
                (add_bos, add_sep) = (pre.add_bos, pre.add_sep);
                self.kind = Kind::Bpe(Box::new(self.bpe(gguf, pre)?));
            }
            "bert" => {
                (add_bos, add_sep) = (true, true);
                let lowercase = flag(gguf, "normalizer.lowercase")?.unwrap_or(true);
                let strip_accents = flag(gguf, "normalizer.strip_accents")?.unwrap_or(lowercase);
                self.kind = Kind::WordPiece { lowercase, strip_accents };
            }
            "t5" => {
                add_eos = true;
                self.unigram(gguf, space_prefix.unwrap_or(false))?;
            }
            "rwkv" => {
                let words: Vec<Vec<u8>> = (0..size as u32).map(|t| unescape(self.text(t))).collect();
                self.kind = Kind::Rwkv { trie: Trie::new((0..).zip(words.iter().map(Vec::as_slice))) };
            }
            other => {
                return Err(Error::unsupported(format!("tokenizer.ggml.model: unknown vocabulary {other:.60?}")));
            }
        }
        let forced = matches!(&self.kind, Kind::Bpe(bpe) if bpe.raw && add_bos);
        add_bos = forced || flag(gguf, "add_bos_token")?.unwrap_or(add_bos);
        add_eos = flag(gguf, "add_eos_token")?.unwrap_or(add_eos);
        add_sep = flag(gguf, "add_sep_token")?.unwrap_or(add_sep);
        let needed = |add: bool, id: Option<u32>, what: &str| match (add, id) {
            (true, None) => Err(Error::invalid(format!("tokenizer.ggml.{what}: wanted around prompts, but not set"))),
            (true, Some(id)) => Ok(vec![id]),
            _ => Ok(Vec::new()),
        };
        let word_piece = matches!(self.kind, Kind::WordPiece { .. });
        self.around.0 = needed(add_bos || word_piece, self.bos, "bos_token_id")?;
        self.around.1 = match word_piece {
            true => needed(true, sep, "seperator_token_id")?,
            // a byte-pair vocabulary that adds a separator ends with it as its end of sequence
            false => needed(add_eos || (add_sep && self.eos.is_some()), self.eos, "eos_token_id")?,
        };
        self.mark(gguf, size)?;
        self.find(gguf)
    }

    /// Sets the types that llama.cpp tells by a token's text, and collects what ends a generation.
    fn mark(&mut self, gguf: &Gguf, size: usize) -> Result<()> {
        let mut stops: Vec<u32> = STOPS.iter().filter_map(|t| self.tokens.get(t.as_bytes())).collect();
        for name in ["eos_token_id", "eot_token_id", "eom_token_id"] {
            stops.extend(id(gguf, name, size, if name == "eos_token_id" { self.eos } else { None })?);
        }
        let is = |stops: &[u32], name: &str| self.tokens.get(name.as_bytes()).filter(|id| stops.contains(id));
        for id in STOPS.iter().chain(&FILL).filter_map(|t| self.tokens.get(t.as_bytes())) {
            self.types[id as usize] = CONTROL;
        }
        for name in ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"] {
            if let Some(id) = self.tokens.get(name.as_bytes()) {
                self.types[id as usize] = USER_DEFINED;
            }
        }
        let calls = is(&stops, "<|call|>").or(is(&stops, "<|calls|>")).is_some();
        let returns = is(&stops, "<|return|>").is_some() || is(&stops, "<|flush|>").is_some();
        if let Some(end) = is(&stops, "<|end|>").filter(|_| calls && returns) {
            stops.retain(|id| *id != end);
            self.types[end as usize] = USER_DEFINED;
        }
        if let Some(s) = is(&stops, "</s>").filter(|_| is(&stops, "<|tool_response>").is_some()) {
            stops.retain(|id| *id != s);
            self.types[s as usize] = NORMAL;
        }
        stops.sort_unstable();
        stops.dedup();
        self.stops = stops;
        Ok(())
    }

    fn find(&mut self, gguf: &Gguf) -> Result<()> {
        let text_of = |key: &str| gguf.str(key).ok().flatten().unwrap_or("").to_lowercase();
        let (name, pre, arch) = (text_of("general.name"), text_of(&key("pre")), text_of("general.architecture"));
        let phi3 = name.contains("phi-3") || name.contains("phi3");
        let jina = ["jina-v2-de", "jina-v2-es", "jina-v2-code"].iter().any(|n| pre.contains(n));
        let masks = jina || arch.contains("nomic-bert-moe") || arch.contains("jina-bert-v3");
        let (mut always, mut special) = (Vec::new(), Vec::new());
        for (id, kind) in (0..).zip(&self.types) {
            if !matches!(*kind, CONTROL | USER_DEFINED | UNKNOWN) {
                continue;
            }
            let text = self.text(id).to_string();
            let added = Added {
                id,
                single_word: false,
                lstrip: (masks && text == "<mask>") || (name.contains("modern-bert") && text == "[MASK]"),
                rstrip: phi3 && !matches!(text.as_str(), "<unk>" | "<s>" | "<|endoftext|>"),
                text,
            };
            if *kind == USER_DEFINED {
                always.push(added.clone());
            }
            special.push(added);
        }
        self.always = Finder::new(always)?;
        self.special = Finder::new(special)?;
        Ok(())
    }

    fn text(&self, id: u32) -> &str {
        self.tokens.text(id).unwrap_or("")
    }

    fn bpe(&self, gguf: &Gguf, pre: &pre::Pre) -> Result<Bpe> {
        let list = gguf.strings(&key("merges")).map_err(|e| broken(&e))?;
        let list = list.ok_or_else(|| Error::invalid("tokenizer.ggml.merges: missing"))?;
        let mut parts = self.tokens.clone();
        let mut merges = HashMap::with_capacity_and_hasher(list.len(), RandomState::default());
        let mut intern = |text: &str| match parts.get(text.as_bytes()) {
            Some(id) => Ok(id),
            None => {
                let id = u32::try_from(parts.size()).map_err(|_| Error::invalid("tokenizer.ggml.merges: too many"))?;
                parts.insert(id, text.as_bytes()).map(|_| id)
            }
        };
        let mut whole = String::new();
        for (rank, merge) in (0_u32..).zip(list) {
            // a token may begin with a space, so the first byte is no separator
            let Some(space) = merge.bytes().skip(1).position(|b| b == b' ').map(|at| at + 1) else { continue };
            let (left, right) = (&merge[..space], &merge[space + 1..]);
            whole.clear();
            whole.push_str(left);
            whole.push_str(right);
            let pair = (intern(left)?, intern(right)?);
            let id = intern(&whole)?;
            merges.entry(pair).or_insert(Merge { rank, id });
        }
        let patterns = pre.patterns.iter().map(|p| Pattern::new(p, Flavour::Fancy)).collect::<Result<_>>()?;
        Ok(Bpe { parts, merges, patterns, ignore_merges: pre.ignore_merges, raw: pre.raw })
    }

    fn unigram(&mut self, gguf: &Gguf, space_prefix: bool) -> Result<()> {
        let map = gguf.i64s(&key("precompiled_charsmap")).map_err(|e| broken(&e))?.unwrap_or_default();
        let map: Vec<u8> = map.iter().map(|b| (*b & 0xFF) as u8).collect(); // stored as signed or unsigned bytes
        let remove_extra = flag(gguf, "remove_extra_whitespaces")?.unwrap_or(false);
        let of = |kinds: &'static [u8]| {
            (0..).zip(&self.types).filter(|(_, k)| kinds.contains(k)).map(|(id, _)| (id, self.text(id).as_bytes()))
        };
        let normal = (0..).zip(&self.types).filter(|(_, k)| **k == NORMAL).map(|(id, _): (u32, _)| self.score(id));
        let least = normal.fold(f32::MAX, f32::min);
        self.kind = Kind::Unigram {
            trie: Trie::new(of(&[NORMAL, USER_DEFINED, UNUSED])),
            user_defined: Trie::new(of(&[USER_DEFINED])),
            normalizer: SpmNormalizer {
                map: CharsMap::new(&map)?,
                dummy_prefix: space_prefix || remove_extra,
                remove_extra,
                escape: true,
                suffix: false,
            },
            unknown_score: f64::from(least - 10.0),
        };
        if space_prefix || remove_extra {
            self.steps.push(Step::Strip { content: ' ', start: 1, stop: 0 });
        }
        Ok(())
    }

    fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or(0.0)
    }

    fn kind_of(&self, id: u32) -> u8 {
        self.types.get(id as usize).copied().unwrap_or(0)
    }

    fn spm(&self, text: &str, merger: &mut Merger, out: &mut Vec<u32>) {
        const OPEN: u32 = u32::MAX;
        let bytes = text.as_bytes();
        merger.clear();
        for (at, c) in text.char_indices() {
            merger.push(OPEN, at, at + c.len_utf8());
        }
        merger.run(|left, right| {
            let id = self.tokens.get(&bytes[left.start as usize..right.end as usize])?;
            Some(Merge { rank: rank_of_score(self.score(id)), id: OPEN })
        });
        for symbol in merger.symbols() {
            let piece = &bytes[symbol.start as usize..symbol.end as usize];
            match self.tokens.get(piece) {
                Some(id) => out.push(id),
                None => out.extend(piece.iter().filter_map(|b| self.byte(*b))),
            }
        }
    }

    fn byte(&self, byte: u8) -> Option<u32> {
        let hex = self.tokens.get(format!("<0x{byte:02X}>").as_bytes());
        hex.or_else(|| self.tokens.get(&[byte])).or(self.unknown)
    }

    fn word_piece(&self, text: &str, lowercase: bool, strip_accents: bool, out: &mut Vec<u32>) {
        let unknown = self.unknown.unwrap_or(0);
        let mut word = String::new();
        let close = |word: &mut String, out: &mut Vec<u32>| {
            if !word.is_empty() {
                let marked = format!("{SPACE}{word}");
                crate::hf::word_piece(&marked, unknown, "", &self.tokens, out);
                word.clear();
            }
        };
        for c in text.chars() {
            let c = if strip_accents { base_of(c) } else { c };
            if c.is_whitespace() {
                close(&mut word, out);
                continue;
            }
            if matches!(c, '\0' | '\u{FFFD}') || is_other(c) || (strip_accents && is_mark(c)) {
                continue;
            }
            let mut lower = c.to_lowercase();
            let lower = match (lowercase, lower.next(), lower.next()) {
                (true, Some(lower), None) => lower,
                _ => c,
            };
            if is_strict_punctuation(c) || c.is_ascii_punctuation() || is_chinese(c) {
                close(&mut word, out);
                word.push(lower);
                close(&mut word, out);
            } else {
                word.push(lower);
            }
        }
        close(&mut word, out);
    }

    fn plain(&self, text: &str, after_special: bool, scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<()> {
        match &self.kind {
            Kind::Spm { space_prefix, words_apart } => {
                let prefix = if *space_prefix && after_special { SPACE } else { "" };
                let text = format!("{prefix}{}", text.replace(' ', SPACE));
                if !words_apart {
                    self.spm(&text, &mut scratch.merger, out);
                    return Ok(());
                }
                for word in words(&text) {
                    if let Some(ids) = scratch.cache.get(word) {
                        out.extend_from_slice(ids);
                        continue;
                    }
                    let mark = out.len();
                    self.spm(word, &mut scratch.merger, out);
                    if word.len() <= 48 && scratch.cache.len() < 1 << 15 {
                        scratch.cache.insert(word.into(), out[mark..].into());
                    }
                }
            }
            Kind::Bpe(bpe) => bpe.encode(text, self, scratch, out)?,
            Kind::WordPiece { lowercase, strip_accents } => self.word_piece(text, *lowercase, *strip_accents, out),
            Kind::Unigram { trie, user_defined, normalizer, unknown_score } => {
                let text = normalizer.apply(text, user_defined);
                let cut = best_cut(&text, trie, *unknown_score, Precision::Double, |id, _| match self.kind_of(id) {
                    USER_DEFINED => Some(0.0),
                    _ => Some(f64::from(self.score(id))),
                });
                let mut in_unknown = false;
                for (token, _, _) in cut {
                    let token = token.filter(|t| Some(*t) != self.unknown);
                    let repeated = std::mem::replace(&mut in_unknown, token.is_none()) && token.is_none();
                    if !repeated {
                        out.extend(token.or(self.unknown));
                    }
                }
            }
            Kind::Rwkv { trie } => {
                let mut rest = text.as_bytes();
                while !rest.is_empty() {
                    let found = trie.longest(rest);
                    out.extend(found.map(|f| f.1).or(self.unknown));
                    rest = &rest[found.map_or(1, |f| f.0)..];
                }
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Scratch {
    merger: Merger,
    cache: HashMap<Box<str>, Box<[u32]>, RandomState>,
}

impl Bpe {
    fn encode(&self, text: &str, vocab: &GgufVocab, scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<()> {
        let escaped;
        let text = match self.raw {
            true => {
                escaped = text.replace(' ', SPACE);
                escaped.as_str()
            }
            false => text,
        };
        let mut pieces = vec![(0, text.len())];
        for pattern in &self.patterns {
            let mut finer = Vec::with_capacity(pieces.len());
            for (start, end) in pieces {
                let cut = pattern.pieces(&text[start..end])?;
                finer.extend(cut.into_iter().map(|(a, b)| (start + a, start + b)));
            }
            pieces = finer;
        }
        for (start, end) in pieces {
            let piece = &text[start..end];
            if let Some(ids) = scratch.cache.get(piece) {
                out.extend_from_slice(ids);
                continue;
            }
            let mark = out.len();
            match self.raw {
                true => self.word(piece, vocab, &mut scratch.merger, out),
                false => self.word(&to_byte_chars(piece.as_bytes()), vocab, &mut scratch.merger, out),
            }
            if piece.len() <= 48 && scratch.cache.len() < 1 << 15 {
                scratch.cache.insert(piece.into(), out[mark..].into());
            }
        }
        Ok(())
    }

    fn word(&self, word: &str, vocab: &GgufVocab, merger: &mut Merger, out: &mut Vec<u32>) {
        let newlines = self.raw && word.bytes().all(|b| b == b'\n');
        if (self.ignore_merges || newlines)
            && let Some(id) = vocab.tokens.get(word.as_bytes())
        {
            return out.push(id);
        }
        merger.clear();
        for (at, c) in word.char_indices() {
            let end = at + c.len_utf8();
            merger.push(self.parts.get(&word.as_bytes()[at..end]).unwrap_or(u32::MAX), at, end);
        }
        merger.run(|left, right| self.merges.get(&(left.id, right.id)).copied());
        for symbol in merger.symbols() {
            if (symbol.id as usize) < vocab.tokens.size() {
                out.push(symbol.id);
                continue;
            }
            for byte in &word.as_bytes()[symbol.start as usize..symbol.end as usize] {
                out.extend(match self.raw {
                    true => vocab.tokens.get(format!("<0x{byte:02X}>").as_bytes()),
                    false => vocab.tokens.get(&[*byte]),
                });
            }
        }
    }
}

/// An array as long as the vocabulary, or empty where the file has none.
fn column<T>(read: pondera_weights::Result<Option<Vec<T>>>, name: &str, tokens: usize) -> Result<Vec<T>> {
    let values = read.map_err(|e| broken(&e))?.unwrap_or_default();
    if !values.is_empty() && values.len() < tokens {
        return Err(Error::invalid(format!("tokenizer.ggml.{name}: {} values for {tokens} tokens", values.len())));
    }
    Ok(values)
}

/// The first character of the canonical decomposition: llama.cpp keeps only that one, of Hangul too.
fn base_of(c: char) -> char {
    let mut base = None;
    decompose_canonical(c, |part| base = base.or(Some(part)));
    base.unwrap_or(c)
}

/// The bytes of an rwkv token, which is written with Python's escapes.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b't') => out.push(b'\t'),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).unwrap_or(0) as u8;
                out.push(digit(bytes.next()) << 4 | digit(bytes.next()));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

impl Scheme for GgufVocab {
    fn encode(&self, text: &str, parse_special: bool, out: &mut Vec<u32>) -> Result<()> {
        let finder = if parse_special { &self.special } else { &self.always };
        let mut parts = Vec::new();
        finder.split(text, &mut parts);
        let mut scratch = Scratch::default();
        let mut after_special = true;
        for (token, part) in parts {
            match token {
                Some(id) => out.push(id),
                None => self.plain(part, after_special, &mut scratch, out)?,
            }
            after_special = token.is_some();
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
        let text = self.tokens.text(id)?;
        let kind = self.kind_of(id);
        if matches!(kind, CONTROL | USER_DEFINED | UNKNOWN) {
            out.extend_from_slice(text.as_bytes());
            return Some(());
        }
        if kind == BYTE
            && let Some(byte) = byte_token(text)
        {
            out.push(byte);
            return Some(());
        }
        match &self.kind {
            Kind::Bpe(bpe) if !bpe.raw => push_byte_chars(text, out),
            Kind::Rwkv { .. } => out.extend(unescape(text)),
            _ => text.split(SPACE).enumerate().for_each(|(i, part)| {
                out.extend_from_slice(if i > 0 { b" " } else { b"" });
                out.extend_from_slice(part.as_bytes());
            }),
        }
        Some(())
    }

    fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        self.piece(id, &mut out).map(|()| out)
    }

    fn is_special(&self, id: u32) -> bool {
        matches!(self.kind_of(id), CONTROL | UNKNOWN)
    }

    fn size(&self) -> usize {
        self.tokens.size()
    }

    fn id_of(&self, token: &str) -> Option<u32> {
        self.tokens.get(token.as_bytes())
    }

    fn ends(&self) -> (Option<u32>, Option<u32>) {
        (self.bos, self.eos)
    }

    fn stops(&self) -> Vec<u32> {
        self.stops.clone()
    }
}
