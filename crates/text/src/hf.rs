//! `tokenizer.json`: normalizer, pre-tokenizer, model, post-processor, decoder and added tokens, as the `tokenizers`
//! library reads them. Truncation and padding of the file are left aside: they belong to batches, not to a prompt.

mod json;
mod model;
mod normalizer;
mod post;
mod pretokenizer;
mod raw;

pub(crate) use model::word_piece;

use crate::added::{Added, Finder};
use crate::decode::Step;
use crate::error::{Error, Result};
use crate::scheme::Scheme;
use crate::unicode::{byte_of_char, byte_token};
use crate::vocab::Vocab;
use model::{Model, Scratch};
use normalizer::Normalizer;
use pretokenizer::{PreTokenizer, Words};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// A vocabulary read from `tokenizer.json`.
#[derive(Debug)]
pub(crate) struct HfTokenizer {
    vocab: Vocab,
    model: Model,
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<PreTokenizer>,
    /// Added tokens as they decode: normalized, where they are found in normalized text.
    added: BTreeMap<u32, String>,
    /// Added tokens as the file names them.
    names: BTreeMap<String, u32>,
    special: BTreeSet<u32>,
    raw_finder: Finder,
    normalized_finder: Finder,
    around: (Vec<u32>, Vec<u32>),
    steps: Vec<Step>,
}

impl HfTokenizer {
    /// Reads the file's text.
    ///
    /// # Errors
    /// What breaks the format (with the field), and types that are not known.
    pub(crate) fn read(json: &str) -> Result<Self> {
        let file: raw::File = serde_json::from_str(json).map_err(|e| Error::invalid(format!("{e}")))?;
        let mut vocab = Vocab::default();
        let model = model::read(file.model, &mut vocab)?;
        let normalizer = file.normalizer.as_ref().map(Normalizer::read).transpose()?;
        let pre_tokenizer = file.pre_tokenizer.as_ref().map(PreTokenizer::read).transpose()?;
        let around = file.post_processor.as_ref().map(post::around).transpose()?.unwrap_or_default();
        let mut steps = Vec::new();
        match &file.decoder {
            Some(decoder) => post::steps(decoder, &mut steps)?,
            None => steps.push(Step::Join),
        }
        let mut tokenizer = HfTokenizer {
            vocab,
            model,
            normalizer,
            pre_tokenizer,
            added: BTreeMap::new(),
            names: BTreeMap::new(),
            special: BTreeSet::new(),
            raw_finder: Finder::new(Vec::new())?,
            normalized_finder: Finder::new(Vec::new())?,
            around,
            steps,
        };
        tokenizer.add(file.added_tokens)?;
        Ok(tokenizer)
    }

    fn add(&mut self, tokens: Vec<raw::AddedToken>) -> Result<()> {
        let (mut raw, mut normalized) = (Vec::new(), Vec::new());
        for token in tokens {
            if token.content.is_empty() {
                continue;
            }
            let id = self.vocab.get(token.content.as_bytes()).unwrap_or(token.id);
            if id as usize > 16 * self.vocab.size() + (1 << 20) {
                return Err(Error::invalid(format!("added_tokens: id {id} far beyond the vocabulary")));
            }
            let text = match &self.normalizer {
                Some(normalizer) if token.normalized => normalizer.apply(Cow::Borrowed(&token.content)).into_owned(),
                _ => token.content.clone(),
            };
            let (single_word, lstrip, rstrip) = (token.single_word, token.lstrip, token.rstrip);
            let list = if token.normalized { &mut normalized } else { &mut raw };
            list.push(Added { id, text: text.clone(), single_word, lstrip, rstrip });
            if token.special {
                self.special.insert(id);
            }
            self.added.insert(id, text);
            self.names.insert(token.content, id);
        }
        self.raw_finder = Finder::new(raw)?;
        self.normalized_finder = Finder::new(normalized)?;
        Ok(())
    }

    fn stretch(&self, text: &str, at_start: bool, scratch: &mut Scratch, out: &mut Vec<u32>) -> Result<()> {
        let mut words = Words::new(text.to_string(), at_start);
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.apply(&mut words)?;
        }
        for &(start, end) in &words.ranges {
            let word = words.text.get(start..end).unwrap_or("");
            self.model.word(word, words.byte_level, &self.vocab, scratch, out)?;
        }
        Ok(())
    }

    fn token(&self, id: u32) -> Option<&str> {
        self.added.get(&id).map(String::as_str).or_else(|| self.vocab.text(id))
    }
}

impl Scheme for HfTokenizer {
    fn encode(&self, text: &str, _parse_special: bool, out: &mut Vec<u32>) -> Result<()> {
        let mut scratch = Scratch::default();
        let mut parts = Vec::new();
        self.raw_finder.split(text, &mut parts);
        let mut first = true;
        for (token, part) in parts {
            let at_start = std::mem::replace(&mut first, false);
            if let Some(id) = token {
                out.push(id);
                continue;
            }
            let normalized = match &self.normalizer {
                Some(normalizer) => normalizer.apply(Cow::Borrowed(part)),
                None => Cow::Borrowed(part),
            };
            let mut inner = Vec::new();
            self.normalized_finder.split(&normalized, &mut inner);
            for (n, (token, part)) in inner.into_iter().enumerate() {
                match token {
                    Some(id) => out.push(id),
                    None => self.stretch(part, at_start && n == 0, &mut scratch, out)?,
                }
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
        out.extend_from_slice(self.token(id)?.as_bytes());
        Some(())
    }

    fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        if let Some(token) = self.added.get(&id) {
            return Some(token.as_bytes().to_vec());
        }
        let token = self.vocab.text(id)?;
        let byte_level = self.steps.iter().any(|s| matches!(s, Step::ByteLevel));
        if byte_level && let Some(bytes) = token.chars().map(byte_of_char).collect() {
            return Some(bytes);
        }
        if self.steps.iter().any(|s| matches!(s, Step::ByteFallback))
            && let Some(byte) = byte_token(token)
        {
            return Some(vec![byte]);
        }
        let mut text = token.to_string();
        for step in &self.steps {
            match step {
                Step::Replace { from, to } => text = text.replace(from.as_str(), to),
                Step::Metaspace { replacement, .. } => text = text.replace(*replacement, " "),
                Step::WordPiece { prefix, .. } => {
                    text = text.strip_prefix(prefix.as_str()).map_or(format!(" {text}"), str::to_string);
                }
                Step::Suffix { suffix } => text = text.replace(suffix.as_str(), " "),
                _ => {}
            }
        }
        Some(text.into_bytes())
    }

    fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    fn size(&self) -> usize {
        let added = self.added.last_key_value().map_or(0, |(id, _)| *id as usize + 1);
        self.vocab.size().max(added)
    }

    fn id_of(&self, token: &str) -> Option<u32> {
        self.names.get(token).copied().or_else(|| self.vocab.get(token.as_bytes()))
    }
}

impl HfTokenizer {
    /// A `vocab.txt`: one token a line, BERT's rules.
    pub(crate) fn word_piece(lines: &str, lowercase: bool) -> Result<Self> {
        let mut vocab = Vocab::with_capacity(lines.lines().count(), lines.len());
        for (id, line) in lines.split_terminator('\n').enumerate() {
            let id = u32::try_from(id).map_err(|_| Error::invalid("too many tokens"))?;
            vocab.insert(id, line.strip_suffix('\r').unwrap_or(line).as_bytes())?;
        }
        let named = |token: &str| {
            let missing = || Error::invalid(format!("{token} is missing, so this is no WordPiece vocabulary"));
            vocab.get(token.as_bytes()).ok_or_else(missing)
        };
        let (unknown, cls, sep) = (named("[UNK]")?, named("[CLS]")?, named("[SEP]")?);
        let mut added = Vec::new();
        for token in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] {
            if let Some(id) = vocab.get(token.as_bytes()) {
                added.push((id, token));
            }
        }
        let tokens = added.iter().map(|(id, text)| Added { id: *id, text: (*text).into(), ..Added::default() });
        Ok(HfTokenizer {
            model: Model::WordPiece { unknown, prefix: "##".into(), chars_max: 100 },
            normalizer: Some(Normalizer::Bert { clean: true, chinese: true, accents: lowercase, lowercase }),
            pre_tokenizer: Some(PreTokenizer::Bert),
            raw_finder: Finder::new(tokens.collect())?,
            normalized_finder: Finder::new(Vec::new())?,
            special: added.iter().map(|(id, _)| *id).collect(),
            names: added.iter().map(|(id, text)| ((*text).to_string(), *id)).collect(),
            added: added.into_iter().map(|(id, text)| (id, text.to_string())).collect(),
            around: (vec![cls], vec![sep]),
            steps: vec![Step::WordPiece { prefix: "##".into(), cleanup: false }],
            vocab,
        })
    }
}
