//! The tokenizer of a model: whatever its vocabulary is stored as, one type that turns text into ids and back.
//! Knows nothing of chat templates or of running models.

use crate::decode::{Decoder, USUAL};
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::GgufVocab;
use crate::hf::HfTokenizer;
use crate::scheme::Scheme;
use crate::sentencepiece::SentencePiece;
use crate::tiktoken::{self, Ranked, Sidecar};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest text that is tokenized in one piece.
const TEXT_MAX: usize = 1 << 30;

/// What to add to a text, and what to look for in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The tokens that stand around a prompt (beginning of sequence and the like).
    pub add_special: bool,
    /// Control tokens written out in the text are found in kinds of vocabularies that take them for text otherwise.
    pub parse_special: bool,
    /// The end-of-sequence token at the end.
    pub add_eos: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions { add_special: true, parse_special: false, add_eos: false }
    }
}

/// A vocabulary with its rules.
#[derive(Debug)]
pub struct Tokenizer {
    scheme: Box<dyn Scheme>,
    kind: &'static str,
    bos: Option<u32>,
    eos: Option<u32>,
    stops: Vec<u32>,
}

impl Tokenizer {
    /// Opens a vocabulary: a model folder, or a file of any known kind, told by its content.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] where there is none, [`ErrorKind::Invalid`] and [`ErrorKind::Unsupported`] with file and
    /// field otherwise.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let meta = std::fs::metadata(path).map_err(|e| Error::io(path, &e))?;
        if !meta.is_dir() {
            return Self::open_file(path);
        }
        match find_in_folder(path)? {
            Some(file) => Self::open_file(&file),
            None => Err(Error::new(ErrorKind::Missing, format!("{}: no vocabulary in this folder", path.display()))
                .with_hint("expected tokenizer.json, a SentencePiece, tekken or tiktoken file, vocab.txt or a GGUF")),
        }
    }

    fn open_file(path: &Path) -> Result<Self> {
        let mut magic = [0; 4];
        let read = std::fs::File::open(path).and_then(|mut f| std::io::Read::read(&mut f, &mut magic));
        if read.map_err(|e| Error::io(path, &e))? == 4 && magic == *b"GGUF" {
            let weights = pondera_weights::Weights::open(path).map_err(|e| Error::invalid(e.to_string()))?;
            let missing = || Error::invalid(format!("{}: no GGUF metadata", path.display()));
            return Self::from_gguf(weights.gguf().ok_or_else(missing)?).map_err(|e| e.within(path.display()));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, &e))?;
        let beside = Beside { folder: path.parent().unwrap_or(Path::new(".")) };
        Self::from_bytes(&bytes, &beside).map_err(|e| e.within(path.display()))
    }

    /// A vocabulary from the bytes of its file; `beside` answers for the files that lie next to it.
    fn from_bytes(bytes: &[u8], beside: &Beside) -> Result<Self> {
        let config = beside.json("tokenizer_config.json")?;
        let (scheme, kind): (Box<dyn Scheme>, _) = match sniff(bytes)? {
            Sniffed::Tekken => (Box::new(Ranked::tekken(bytes)?), "tekken"),
            Sniffed::TokenizerJson(text) => (Box::new(HfTokenizer::read(text)?), "tokenizer.json"),
            Sniffed::SentencePiece => {
                let mut model = SentencePiece::read(bytes)?;
                let flag = |name: &str| config.get(name).and_then(Value::as_bool);
                let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or("");
                model.set_around(flag("add_bos_token"), flag("add_eos_token").or(class.contains("T5").then_some(true)));
                (Box::new(model), "sentencepiece")
            }
            Sniffed::Tiktoken => {
                let ranks = tiktoken::read_ranks(bytes)?;
                let sidecar = beside.tiktoken(ranks.size(), &config)?;
                (Box::new(Ranked::tiktoken(ranks, &sidecar)?), "tiktoken")
            }
            Sniffed::Lines(text) => {
                let lowercase = config.get("do_lower_case").and_then(Value::as_bool).unwrap_or(true);
                (Box::new(HfTokenizer::word_piece(text, lowercase)?), "wordpiece")
            }
        };
        let mut tokenizer = Self::of(scheme, kind);
        tokenizer.configure(&config, beside)?;
        Ok(tokenizer)
    }

    /// The vocabulary inside of a GGUF file.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn from_gguf(gguf: &pondera_weights::Gguf) -> Result<Self> {
        Ok(Self::of(Box::new(GgufVocab::read(gguf)?), "gguf"))
    }

    /// A `tokenizer.json` from its text, without the files that may lie beside it.
    ///
    /// # Errors
    /// As [`Tokenizer::open`].
    pub fn from_tokenizer_json(json: &str) -> Result<Self> {
        Ok(Self::of(Box::new(HfTokenizer::read(json)?), "tokenizer.json"))
    }

    pub(crate) fn of(scheme: Box<dyn Scheme>, kind: &'static str) -> Self {
        let (bos, eos) = scheme.ends();
        let stops = scheme.stops();
        let mut tokenizer = Tokenizer { scheme, kind, bos, eos, stops };
        tokenizer.stops.extend(eos);
        tokenizer.tidy();
        tokenizer
    }

    fn tidy(&mut self) {
        let size = self.vocab_size();
        self.stops.retain(|id| (*id as usize) < size);
        self.stops.sort_unstable();
        self.stops.dedup();
    }

    /// Beginning, end and stops as the configuration files name them.
    fn configure(&mut self, config: &Value, beside: &Beside) -> Result<()> {
        let token = |field: &str| {
            let value = config.get(field)?;
            value.as_str().or_else(|| value.get("content")?.as_str())
        };
        let named = |field: &str| token(field).and_then(|t| self.scheme.id_of(t));
        let (bos, eos) = (named("bos_token"), named("eos_token"));
        let model = beside.json("config.json")?;
        let generation = beside.json("generation_config.json")?;
        let text_model = model.get("text_config").unwrap_or(&Value::Null);
        let ids = |value: &Value, field: &str| -> Vec<u32> {
            let as_id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
            match value.get(field) {
                Some(Value::Array(list)) => list.iter().filter_map(as_id).collect(),
                Some(one) => as_id(one).into_iter().collect(),
                None => Vec::new(),
            }
        };
        let first = |field: &str| {
            [&generation, &model, text_model].into_iter().map(|v| ids(v, field)).find(|ids| !ids.is_empty())
        };
        let stops = first("eos_token_id").unwrap_or_default();
        self.bos = bos.or(self.bos).or_else(|| first("bos_token_id")?.first().copied());
        self.eos = eos.or(self.eos).or(stops.first().copied());
        self.stops.extend(stops);
        self.stops.extend(self.eos);
        self.tidy();
        Ok(())
    }

    /// Ids of a text.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] where the text or the work grows out of bounds; [`ErrorKind::Invalid`] where the
    /// vocabulary cannot express the text and has no unknown token.
    pub fn encode(&self, text: &str, options: &EncodeOptions) -> Result<Vec<u32>> {
        if text.len() > TEXT_MAX {
            let what = format!("text of {} bytes: at most {TEXT_MAX} are tokenized at once", text.len());
            return Err(Error::new(ErrorKind::Limit, what));
        }
        let (front, back) = if options.add_special { self.scheme.around() } else { Default::default() };
        let mut out = front;
        self.scheme.encode(text, options.parse_special, &mut out)?;
        let closed = !back.is_empty() && back.last() == self.eos.as_ref();
        out.extend(back);
        if options.add_eos && !closed {
            out.extend(self.eos);
        }
        Ok(out)
    }

    /// The text of a list of ids, as the vocabulary's own decoder gives it. Ids without token give nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = self.stream(skip_special);
        let mut out = String::new();
        for id in ids {
            stream.push_to(*id, &mut out);
        }
        stream.decoder.finish(&mut out);
        out
    }

    /// Text token by token; see [`Stream`].
    pub fn stream(&self, skip_special: bool) -> Stream<'_> {
        self.stream_but(skip_special, [].into())
    }

    /// As [`Tokenizer::stream`], without skipping any of `shown`.
    pub fn stream_but(&self, skip_special: bool, shown: Arc<[u32]>) -> Stream<'_> {
        Stream {
            scheme: &*self.scheme,
            skip_special,
            shown,
            decoder: Decoder::new(self.scheme.steps()),
            piece: Vec::with_capacity(USUAL),
        }
    }

    /// The bytes that a token stands for inside of a text; may be part of a character.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.scheme.bytes(id)
    }

    /// The id of a token, given as its vocabulary writes it.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.scheme.id_of(token)
    }

    /// One more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.scheme.size()
    }

    /// The beginning-of-sequence id.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence id.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// Every id that ends a generation: end of sequence, of turn, of message; sorted.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stops
    }

    /// Whether a token controls rather than says something.
    pub fn is_special(&self, id: u32) -> bool {
        self.scheme.is_special(id)
    }

    /// What the vocabulary is stored as: `tokenizer.json`, `sentencepiece`, `tekken`, `tiktoken`, `wordpiece`, `gguf`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

/// Text of ids as they come. Never gives part of a character, and everything it gives, together with what
/// [`Stream::finish`] gives, is what [`Tokenizer::decode`] gives for all ids.
#[derive(Clone, Debug)]
pub struct Stream<'t> {
    scheme: &'t dyn Scheme,
    skip_special: bool,
    /// Special tokens that are not skipped all the same.
    shown: Arc<[u32]>,
    decoder: Decoder<'t>,
    /// The token under way, used again for the next.
    piece: Vec<u8>,
}

impl Stream<'_> {
    /// Takes the next id; gives the text that is certain now, maybe none.
    pub fn push(&mut self, id: u32) -> String {
        let mut out = String::new();
        self.push_to(id, &mut out);
        out
    }

    /// The text that was still held back.
    pub fn finish(mut self) -> String {
        let mut out = String::new();
        self.decoder.finish(&mut out);
        out
    }

    /// [`Stream::push`] that appends to `out`.
    pub fn push_to(&mut self, id: u32, out: &mut String) {
        if self.skip_special && self.scheme.is_special(id) && !self.shown.contains(&id) {
            return;
        }
        self.piece.clear();
        if self.scheme.piece(id, &mut self.piece).is_some() {
            self.decoder.push(&self.piece, out);
        }
    }
}

/// The files beside a vocabulary.
struct Beside<'p> {
    folder: &'p Path,
}

impl Beside<'_> {
    /// A JSON file; `null` where it is missing.
    fn json(&self, name: &str) -> Result<Value> {
        let path = self.folder.join(name);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
            Err(error) => Err(Error::io(&path, &error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{}: {e}", path.display()))),
        }
    }

    /// The expression and special tokens of a tiktoken file: from `tiktoken.json`, else what is known of published
    /// files, with the special tokens that `tokenizer_config.json` lists.
    fn tiktoken(&self, ranks: usize, config: &Value) -> Result<Sidecar> {
        let own = self.json("tiktoken.json")?;
        if !own.is_null() {
            return serde_json::from_value(own).map_err(|e| Error::invalid(format!("tiktoken.json: {e}")));
        }
        let mut sidecar = tiktoken::known(ranks).ok_or_else(|| {
            Error::unsupported(format!("a tiktoken file of {ranks} ranks without its expression"))
                .with_hint("put a tiktoken.json with `pat_str` and `special_tokens` beside it")
        })?;
        let listed = config.get("added_tokens_decoder").and_then(Value::as_object);
        for (id, token) in listed.into_iter().flatten() {
            if let (Ok(id), Some(text)) = (id.parse(), token.get("content").and_then(Value::as_str)) {
                sidecar.special_tokens.insert(text.to_string(), id);
            }
        }
        Ok(sidecar)
    }
}

enum Sniffed<'b> {
    Tekken,
    TokenizerJson(&'b str),
    SentencePiece,
    Tiktoken,
    Lines(&'b str),
}

/// Tells the kind of a vocabulary by its bytes.
fn sniff(bytes: &[u8]) -> Result<Sniffed<'_>> {
    let text = || std::str::from_utf8(bytes).map_err(|_| Error::invalid("not UTF-8, and no known binary vocabulary"));
    let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
    if first == Some(&b'{') {
        let head = bytes.get(..bytes.len().min(1 << 16)).unwrap_or(b"");
        let has = |needle: &[u8]| head.windows(needle.len()).any(|w| w == needle);
        return match has(b"\"token_bytes\"") || has(b"\"default_vocab_size\"") {
            true => Ok(Sniffed::Tekken),
            false => text().map(Sniffed::TokenizerJson),
        };
    }
    if SentencePiece::looks_like(bytes) {
        return Ok(Sniffed::SentencePiece);
    }
    if tiktoken::looks_like(bytes) {
        return Ok(Sniffed::Tiktoken);
    }
    let lines = text()?;
    let word_piece = lines.lines().any(|l| l == "[UNK]") && lines.lines().any(|l| l == "[CLS]");
    match word_piece {
        true => Ok(Sniffed::Lines(lines)),
        false => Err(Error::invalid("not a vocabulary of a known kind")
            .with_hint("known: tokenizer.json, SentencePiece, tekken, tiktoken, vocab.txt, GGUF")),
    }
}

/// The vocabulary file of a folder, the most exact kind first.
fn find_in_folder(folder: &Path) -> Result<Option<PathBuf>> {
    const NAMES: [&str; 8] = [
        "tokenizer.json",
        "tekken.json",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tiktoken.model",
        "qwen.tiktoken",
        "vocab.txt",
    ];
    if let Some(name) = NAMES.iter().find(|name| folder.join(name).is_file()) {
        return Ok(Some(folder.join(name)));
    }
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, &e))?;
    let mut found: Vec<(usize, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, &e))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("").to_string();
        let rank = match name.as_str() {
            n if n.starts_with("tekken") && n.ends_with(".json") => 0,
            n if n.ends_with("_tokenizer.json") => 1,
            n if n.contains(".model") && !n.ends_with(".safetensors") && !n.ends_with(".bin") => 2,
            n if n.ends_with(".tiktoken") => 3,
            n if n.ends_with(".gguf") => 4,
            _ => continue,
        };
        found.push((rank, path));
    }
    found.sort();
    Ok(found.into_iter().next().map(|(_, path)| path))
}
