//! The `model` of a `tokenizer.json`: a word to ids. BPE, WordPiece, WordLevel and Unigram.

use super::raw;
use crate::bpe::{Merge, Merger};
use crate::error::{Error, ErrorKind, Result};
use crate::sentencepiece::{SPACE, crosses_words, words};
use crate::trie::Trie;
use crate::unicode::{BYTE_CHARS, to_byte_chars};
use crate::unigram::{Precision, best_cut};
use crate::vocab::Vocab;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Words whose ids are remembered during one call; text repeats itself.
const CACHE_WORDS: usize = 1 << 15;
/// Longer words are not worth remembering.
const CACHE_BYTES: usize = 48;

#[derive(Debug)]
pub(super) enum Model {
    Bpe(Box<Bpe>),
    WordPiece { unknown: u32, prefix: String, chars_max: usize },
    WordLevel { unknown: Option<u32> },
    Unigram { trie: Trie, scores: Vec<f64>, least: f64, unknown: Option<u32>, bytes: Option<Vec<u32>> },
}

/// A byte-pair model.
#[derive(Debug)]
pub(super) struct Bpe {
    merges: HashMap<(u32, u32), Merge, RandomState>,
    unknown: Option<u32>,
    prefix: String,
    suffix: String,
    fuse_unknown: bool,
    ignore_merges: bool,
    /// Ids of `<0x00>` … where the model falls back to bytes.
    fallback: Option<Vec<Option<u32>>>,
    /// No merge reaches from one `▁` word into the next, so a text can be merged word by word.
    words_apart: bool,
    /// Ids of GPT-2's byte characters.
    byte_ids: Vec<Option<u32>>,
}

/// Buffers of one call.
#[derive(Default)]
pub(super) struct Scratch {
    merger: Merger,
    cache: HashMap<Box<str>, Box<[u32]>, RandomState>,
}

/// Reads the model and fills `vocab`.
pub(super) fn read(raw: raw::Model, vocab: &mut Vocab) -> Result<Model> {
    let kind = raw.kind.clone().unwrap_or_else(|| match &raw.vocab {
        raw::Tokens::Scores(_) => "Unigram".to_string(),
        raw::Tokens::Ids(_) if !raw.merges.0.is_empty() => "BPE".to_string(),
        raw::Tokens::Ids(_) if raw.max_input_chars_per_word.is_some() => "WordPiece".to_string(),
        raw::Tokens::Ids(_) => "WordLevel".to_string(),
    });
    let scores = fill(&raw.vocab, vocab)?;
    let id = |token: &Option<String>| token.as_ref().and_then(|t| vocab.get(t.as_bytes()));
    match kind.as_str() {
        "BPE" => bpe(raw, vocab).map(|bpe| Model::Bpe(Box::new(bpe))),
        "WordPiece" => Ok(Model::WordPiece {
            unknown: id(&Some(raw.unk_token.unwrap_or_else(|| "[UNK]".into())))
                .ok_or_else(|| Error::invalid("model.unk_token: not in the vocabulary"))?,
            prefix: raw.continuing_subword_prefix.unwrap_or_else(|| "##".into()),
            chars_max: raw.max_input_chars_per_word.unwrap_or(100),
        }),
        "WordLevel" => Ok(Model::WordLevel { unknown: id(&raw.unk_token) }),
        "Unigram" => {
            let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
            if raw.unk_id.is_some_and(|id| id as usize >= scores.len()) {
                return Err(Error::invalid("model.unk_id: beyond the vocabulary"));
            }
            let trie = Trie::new((0..scores.len() as u32).map(|id| (id, vocab.token(id).unwrap_or(b""))));
            let bytes = match raw.byte_fallback {
                Some(true) => (0..=255_u8).map(|b| vocab.get(format!("<0x{b:02X}>").as_bytes())).collect(),
                _ => None,
            };
            Ok(Model::Unigram { trie, scores, least, unknown: raw.unk_id, bytes })
        }
        other => Err(Error::unsupported(format!("model.type: unknown type {other:.60}"))),
    }
}

/// Puts the tokens into the table; gives the scores, if they come with scores.
fn fill(tokens: &raw::Tokens, vocab: &mut Vocab) -> Result<Vec<f64>> {
    match tokens {
        raw::Tokens::Ids(entries) => {
            let bytes = entries.iter().map(|e| e.0.len()).sum();
            *vocab = Vocab::with_capacity(entries.len(), bytes);
            // in the order of ids, so that the limit on holes does not depend on the order in the file
            let mut order: Vec<usize> = (0..entries.len()).collect();
            order.sort_by_key(|n| entries[*n].1);
            for n in order {
                vocab.insert(entries[n].1, entries[n].0.as_bytes())?;
            }
            Ok(Vec::new())
        }
        raw::Tokens::Scores(entries) => {
            for (id, (token, score)) in entries.iter().enumerate() {
                if score.is_nan() {
                    return Err(Error::invalid(format!("model.vocab: score of token {id} is not a number")));
                }
                let id = u32::try_from(id).map_err(|_| Error::invalid("model.vocab: too many tokens"))?;
                vocab.insert(id, token.as_bytes())?;
            }
            Ok(entries.iter().map(|e| e.1).collect())
        }
    }
}

fn bpe(raw: raw::Model, vocab: &Vocab) -> Result<Bpe> {
    if raw.dropout.is_some_and(|d| d != 0.0) {
        return Err(Error::unsupported("model.dropout: tokenizing at random is for training only"));
    }
    let prefix = raw.continuing_subword_prefix.unwrap_or_default();
    let mut merges = HashMap::with_capacity_and_hasher(raw.merges.0.len(), RandomState::default());
    let mut whole = Vec::new();
    let mut words_apart = vocab.get(SPACE.as_bytes()).is_some();
    for (rank, (left, right)) in raw.merges.0.iter().enumerate() {
        whole.clear();
        whole.extend_from_slice(left.as_bytes());
        whole.extend_from_slice(right.as_bytes().get(prefix.len()..).unwrap_or(b""));
        let find = |token: &[u8]| {
            vocab.get(token).ok_or_else(|| {
                let token = String::from_utf8_lossy(token);
                Error::invalid(format!("model.merges[{rank}]: {token:.60?} is not in the vocabulary"))
            })
        };
        words_apart &= !std::str::from_utf8(&whole).is_ok_and(crosses_words);
        let rank = u32::try_from(rank).map_err(|_| Error::invalid("model.merges: too many"))?;
        let pair = (find(left.as_bytes())?, find(right.as_bytes())?);
        merges.insert(pair, Merge { rank, id: find(&whole)? });
    }
    let unknown = match &raw.unk_token {
        Some(token) => {
            let missing = || Error::invalid(format!("model.unk_token: {token:.60?} is not in the vocabulary"));
            Some(vocab.get(token.as_bytes()).ok_or_else(missing)?)
        }
        None => None,
    };
    let mut buffer = [0; 4];
    Ok(Bpe {
        merges,
        unknown,
        prefix,
        suffix: raw.end_of_word_suffix.unwrap_or_default(),
        fuse_unknown: raw.fuse_unk.unwrap_or(false),
        ignore_merges: raw.ignore_merges.unwrap_or(false),
        fallback: raw
            .byte_fallback
            .unwrap_or(false)
            .then(|| (0..=255_u8).map(|b| vocab.get(format!("<0x{b:02X}>").as_bytes())).collect()),
        words_apart,
        byte_ids: BYTE_CHARS.iter().map(|c| vocab.get(c.encode_utf8(&mut buffer).as_bytes())).collect(),
    })
}

impl Model {
    /// Appends the ids of a word. `byte_level` says that the word must be written in byte characters first.
    pub(super) fn word(
        &self,
        word: &str,
        byte_level: bool,
        vocab: &Vocab,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        match self {
            Model::Bpe(bpe) if bpe.words_apart && !byte_level && !bpe.ignore_merges && bpe.is_plain() => {
                words(word).for_each(|word| bpe.cached(word, false, vocab, scratch, out));
                Ok(())
            }
            Model::Bpe(bpe) => {
                bpe.cached(word, byte_level, vocab, scratch, out);
                Ok(())
            }
            _ if byte_level => self.word(&to_byte_chars(word.as_bytes()), false, vocab, scratch, out),
            Model::WordPiece { unknown, prefix, chars_max } => {
                if word.chars().nth(*chars_max).is_some() {
                    out.push(*unknown);
                } else {
                    word_piece(word, *unknown, prefix, vocab, out);
                }
                Ok(())
            }
            Model::WordLevel { unknown } => {
                let missing = || Error::new(ErrorKind::Invalid, "model.unk_token: missing, and a word is unknown");
                out.push(vocab.get(word.as_bytes()).or(*unknown).ok_or_else(missing)?);
                Ok(())
            }
            Model::Unigram { .. } => self.unigram(word, vocab, out),
        }
    }

    fn unigram(&self, word: &str, vocab: &Vocab, out: &mut Vec<u32>) -> Result<()> {
        let Model::Unigram { trie, scores, least, unknown, bytes } = self else { return Ok(()) };
        let cut = best_cut(word, trie, least - 10.0, Precision::Double, |t, _| scores.get(t as usize).copied());
        let mut run: Option<(usize, usize)> = None;
        let close = |run: &mut Option<(usize, usize)>, out: &mut Vec<u32>| -> Result<()> {
            let Some((start, end)) = run.take() else { return Ok(()) };
            let text = &word.as_bytes()[start..end];
            if let Some(id) = vocab.get(text) {
                out.push(id); // the unknown token's own text
            } else if let Some(ids) = bytes {
                out.extend(text.iter().filter_map(|b| ids.get(usize::from(*b))));
            } else {
                let missing = || Error::new(ErrorKind::Invalid, "model.unk_id: missing, and a character is unknown");
                out.push(unknown.ok_or_else(missing)?);
            }
            Ok(())
        };
        for (token, start, end) in cut {
            match token.filter(|t| Some(*t) != *unknown) {
                Some(token) => {
                    close(&mut run, out)?;
                    out.push(token);
                }
                // neighbours that no token covers are one unknown stretch
                None => run = Some((run.map_or(start, |r| r.0), end)),
            }
        }
        close(&mut run, out)
    }
}

/// The longest tokens from the left; a word that cannot be covered is unknown as a whole.
pub(crate) fn word_piece(word: &str, unknown: u32, prefix: &str, vocab: &Vocab, out: &mut Vec<u32>) {
    let mark = out.len();
    let mut start = 0;
    let mut candidate = Vec::with_capacity(prefix.len() + word.len());
    while start < word.len() {
        let continued = if start > 0 { prefix } else { "" };
        let mut end = word.len().min(start + vocab.longest());
        let found = loop {
            while !word.is_char_boundary(end) {
                end -= 1;
            }
            if end <= start {
                break None;
            }
            candidate.clear();
            candidate.extend_from_slice(continued.as_bytes());
            candidate.extend_from_slice(&word.as_bytes()[start..end]);
            if let Some(id) = vocab.get(&candidate) {
                break Some(id);
            }
            end -= 1;
        };
        let Some(id) = found else {
            out.truncate(mark);
            out.push(unknown);
            return;
        };
        out.push(id);
        start = end;
    }
}

impl Bpe {
    fn is_plain(&self) -> bool {
        self.prefix.is_empty() && self.suffix.is_empty()
    }

    fn cached(&self, word: &str, byte_level: bool, vocab: &Vocab, scratch: &mut Scratch, out: &mut Vec<u32>) {
        if word.len() > CACHE_BYTES {
            return self.word(word, byte_level, vocab, &mut scratch.merger, out);
        }
        if let Some(ids) = scratch.cache.get(word) {
            return out.extend_from_slice(ids);
        }
        let mark = out.len();
        self.word(word, byte_level, vocab, &mut scratch.merger, out);
        if scratch.cache.len() < CACHE_WORDS {
            scratch.cache.insert(word.into(), out[mark..].into());
        }
    }

    fn word(&self, word: &str, byte_level: bool, vocab: &Vocab, merger: &mut Merger, out: &mut Vec<u32>) {
        if self.ignore_merges {
            let whole = if byte_level {
                vocab.get(to_byte_chars(word.as_bytes()).as_bytes())
            } else {
                vocab.get(word.as_bytes())
            };
            if let Some(id) = whole {
                return out.push(id);
            }
        }
        merger.clear();
        match byte_level && self.is_plain() {
            true => self.start_bytes(word, merger),
            false if byte_level => self.start_chars(&to_byte_chars(word.as_bytes()), vocab, merger),
            false => self.start_chars(word, vocab, merger),
        }
        merger.run(|left, right| self.merges.get(&(left.id, right.id)).copied());
        out.extend(merger.symbols().map(|s| s.id));
    }

    /// One symbol for every byte. A byte without token is unknown, or dropped.
    fn start_bytes(&self, word: &str, merger: &mut Merger) {
        let mut in_unknown = false;
        for (at, byte) in word.bytes().enumerate() {
            match self.byte_ids[usize::from(byte)] {
                Some(id) => merger.push(id, at, at + 1),
                None if self.fuse_unknown && in_unknown => continue,
                None => {
                    if let Some(id) = self.unknown {
                        merger.push(id, at, at + 1);
                    }
                }
            }
            in_unknown = self.byte_ids[usize::from(byte)].is_none();
        }
    }

    fn start_chars(&self, word: &str, vocab: &Vocab, merger: &mut Merger) {
        let mut in_unknown = false;
        let mut token = String::new();
        for (at, c) in word.char_indices() {
            let end = at + c.len_utf8();
            token.clear();
            if at > 0 {
                token.push_str(&self.prefix);
            }
            token.push(c);
            if end == word.len() {
                token.push_str(&self.suffix);
            }
            if let Some(id) = vocab.get(token.as_bytes()) {
                merger.push(id, at, end);
                in_unknown = false;
                continue;
            }
            if let Some(ids) = self
                .fallback
                .as_ref()
                .and_then(|ids| token.bytes().map(|b| ids[usize::from(b)]).collect::<Option<Vec<u32>>>())
            {
                ids.iter().for_each(|id| merger.push(*id, at, end));
                continue;
            }
            if let Some(id) = self.unknown
                && !(self.fuse_unknown && in_unknown)
            {
                merger.push(id, at, end);
            }
            in_unknown = true;
        }
    }
}
