//! SentencePiece `.model` files: the protobuf, the normalizer, and the BPE, unigram, word and char models, as the
//! sentencepiece library runs them.

mod proto;

use crate::added::{Added, Finder};
use crate::bpe::{Merge, Merger, rank_of_score};
use crate::charsmap::CharsMap;
use crate::decode::Step;
use crate::error::{Error, Result};
use crate::scheme::Scheme;
use crate::trie::Trie;
use crate::unicode::byte_token;
use crate::unigram::{Precision, best_cut};
use crate::vocab::Vocab;
use foldhash::fast::RandomState;
use proto::{Kind, ModelProto, ModelType};
use std::collections::HashMap;

/// The mark that stands for a space.
pub(crate) const SPACE: &str = "\u{2581}";

/// A SentencePiece model.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    pieces: Vocab,
    /// Pieces that text can become: normal, user-defined and unused ones.
    findable: Vocab,
    scores: Vec<f32>,
    kinds: Vec<Kind>,
    proto: ModelProto,
    normalizer: SpmNormalizer,
    trie: Trie,
    user_defined: Trie,
    controls: Finder,
    bytes: Option<Vec<u32>>,
    unknown: u32,
    score_range: (f32, f32),
    /// No piece reaches from one word into the next, so words can be merged one by one.
    words_apart: bool,
    around: (Vec<u32>, Vec<u32>),
    steps: Vec<Step>,
}

/// What the normalizer of a SentencePiece model does; shared with GGUF's unigram vocabularies.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpmNormalizer {
    pub(crate) map: CharsMap,
    pub(crate) dummy_prefix: bool,
    pub(crate) remove_extra: bool,
    pub(crate) escape: bool,
    pub(crate) suffix: bool,
}

impl SpmNormalizer {
    /// One step: the longest user-defined token, the longest mapping, or the next character.
    fn prefix<'t>(&'t self, text: &'t str, user_defined: &Trie) -> (&'t str, usize) {
        if let Some((len, _)) = user_defined.longest(text.as_bytes()).filter(|(len, _)| text.is_char_boundary(*len)) {
            return (&text[..len], len);
        }
        if let Some((len, replacement)) = self.map.longest(text) {
            return (replacement, len);
        }
        let len = text.chars().next().map_or(0, char::len_utf8);
        (&text[..len], len)
    }

    /// The normalized text, spaces written as the model's pieces write them.
    pub(crate) fn apply(&self, mut text: &str, user_defined: &Trie) -> String {
        let space = if self.escape { SPACE } else { " " };
        if self.remove_extra {
            while !text.is_empty() {
                let (piece, len) = self.prefix(text, user_defined);
                if piece != " " {
                    break;
                }
                text = &text[len..];
            }
        }
        let mut out = String::with_capacity(text.len() + text.len() / 4 + 3);
        if text.is_empty() {
            return out;
        }
        if !self.suffix && self.dummy_prefix {
            out.push_str(space);
        }
        let mut after_space = self.remove_extra;
        while !text.is_empty() {
            let (piece, len) = self.prefix(text, user_defined);
            let piece = if after_space { piece.trim_start_matches(' ') } else { piece };
            if !piece.is_empty() {
                match self.escape {
                    true => piece.split_inclusive(' ').for_each(|part| match part.strip_suffix(' ') {
                        Some(part) => {
                            out.push_str(part);
                            out.push_str(SPACE);
                        }
                        None => out.push_str(part),
                    }),
                    false => out.push_str(piece),
                }
                after_space = piece.ends_with(' ');
            }
            after_space &= self.remove_extra;
            text = &text[len..];
        }
        if self.remove_extra {
            out.truncate(out.trim_end_matches(space).len());
        }
        if self.suffix && self.dummy_prefix {
            out.push_str(space);
        }
        out
    }
}

impl SentencePiece {
    /// Whether these bytes can be a SentencePiece model: the first field must be a piece.
    pub(crate) fn looks_like(bytes: &[u8]) -> bool {
        bytes.first() == Some(&0x0A) && ModelProto::first_piece_is_sound(bytes)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// What breaks the format, and sizes that the bytes present cannot hold.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let (entries, proto) = ModelProto::read(bytes)?;
        let mut pieces = Vocab::with_capacity(entries.len(), bytes.len());
        let mut findable = Vocab::with_capacity(entries.len(), bytes.len());
        let (mut scores, mut kinds) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        let mut score_range = (f32::INFINITY, f32::NEG_INFINITY);
        let mut unknown = None;
        for (id, piece) in entries.iter().enumerate() {
            let id = u32::try_from(id).map_err(|_| Error::invalid("pieces: too many"))?;
            if piece.text.is_empty() {
                return Err(Error::invalid(format!("pieces[{id}]: empty")));
            }
            if piece.score.is_nan() {
                return Err(Error::invalid(format!("pieces[{id}].score: not a number")));
            }
            let new = pieces.insert(id, piece.text.as_bytes())?;
            match piece.kind {
                Kind::Normal | Kind::UserDefined | Kind::Unused => {
                    if !findable.insert(id, piece.text.as_bytes())? {
                        return Err(Error::invalid(format!("pieces[{id}]: {:.40?} occurs twice", piece.text)));
                    }
                    if piece.kind == Kind::Normal {
                        score_range = (score_range.0.min(piece.score), score_range.1.max(piece.score));
                    }
                }
                Kind::Unknown if unknown.replace(id).is_some() => {
                    return Err(Error::invalid(format!("pieces[{id}]: a second unknown piece")));
                }
                Kind::Byte if byte_token(piece.text).is_none() => {
                    return Err(Error::invalid(format!("pieces[{id}]: {:.40?} is no byte", piece.text)));
                }
                _ if !new && piece.kind == Kind::Byte => {
                    return Err(Error::invalid(format!("pieces[{id}]: {:.40?} occurs twice", piece.text)));
                }
                _ => {}
            }
            scores.push(piece.score);
            kinds.push(piece.kind);
        }
        let unknown = unknown.ok_or_else(|| Error::invalid("pieces: none is of type unknown"))?;
        let of_kind = |wanted: &'static [Kind]| {
            let entries = entries.iter().zip(0_u32..);
            entries.filter(|(piece, _)| wanted.contains(&piece.kind)).map(|(piece, id)| (id, piece.text.as_bytes()))
        };
        let words_apart = entries.iter().all(|piece| !crosses_words(piece.text));
        let user_defined = Trie::new(of_kind(&[Kind::UserDefined]));
        let trie = match proto.model_type {
            ModelType::Unigram => Trie::new(of_kind(&[Kind::Normal, Kind::UserDefined, Kind::Unused])),
            _ => Trie::default(),
        };
        let bytes = proto
            .byte_fallback
            .then(|| (0..=255_u8).map(|b| pieces.get(format!("<0x{b:02X}>").as_bytes())).collect::<Option<Vec<u32>>>());
        let bytes = match bytes {
            Some(None) => return Err(Error::invalid("pieces: byte_fallback without all 256 byte pieces")),
            Some(Some(bytes)) => Some(bytes),
            None => None,
        };
        let controls = entries.iter().zip(0_u32..).filter(|(piece, _)| piece.kind == Kind::Control);
        let controls = controls.map(|(piece, id)| Added { id, text: piece.text.to_string(), ..Added::default() });
        let controls = Finder::new(controls.collect())?;
        let normalizer = SpmNormalizer {
            map: CharsMap::new(&proto.charsmap)?,
            dummy_prefix: proto.add_dummy_prefix,
            remove_extra: proto.remove_extra_whitespaces,
            escape: proto.escape_whitespaces,
            suffix: proto.treat_whitespace_as_suffix,
        };
        let strip = proto.add_dummy_prefix || proto.remove_extra_whitespaces;
        let steps = vec![Step::SentencePiece { strip, strip_all: proto.remove_extra_whitespaces }];
        let mut model = SentencePiece {
            pieces,
            findable,
            scores,
            kinds,
            normalizer,
            trie,
            user_defined,
            controls,
            bytes,
            unknown,
            score_range,
            words_apart,
            around: Default::default(),
            steps,
            proto,
        };
        model.around.0 = model.ends().0.into_iter().collect();
        Ok(model)
    }

    /// Says whether beginning and end of sequence stand around a prompt, where a configuration says so.
    pub(crate) fn set_around(&mut self, bos: Option<bool>, eos: Option<bool>) {
        let (bos_id, eos_id) = self.ends();
        if let Some(bos) = bos {
            self.around.0 = bos_id.filter(|_| bos).into_iter().collect();
        }
        if let Some(eos) = eos {
            self.around.1 = eos_id.filter(|_| eos).into_iter().collect();
        }
    }

    fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Unused)
    }

    fn score(&self, id: u32) -> f32 {
        self.scores.get(id as usize).copied().unwrap_or(0.0)
    }

    fn plain(&self, text: &str, out: &mut Vec<u32>) {
        let text = self.normalizer.apply(text, &self.user_defined);
        let mut in_unknown = false;
        let mut emit = |piece: &str, id: Option<u32>| match id.filter(|id| *id != self.unknown) {
            Some(id) => {
                out.push(id);
                in_unknown = false;
            }
            None => match &self.bytes {
                Some(bytes) => out.extend(piece.bytes().filter_map(|b| bytes.get(usize::from(b)))),
                None => {
                    if !std::mem::replace(&mut in_unknown, true) {
                        out.push(self.unknown);
                    }
                }
            },
        };
        match self.proto.model_type {
            ModelType::Unigram => self.unigram(&text, &mut emit),
            ModelType::Bpe => self.bpe(&text, &mut emit),
            ModelType::Word => {
                let cut = if self.normalizer.suffix { split_suffix(&text) } else { split_prefix(&text) };
                cut.into_iter().for_each(|word| emit(word, self.findable.get(word.as_bytes())));
            }
            ModelType::Char => {
                for (start, end, _) in self.characters(&text) {
                    emit(&text[start..end], self.findable.get(&text.as_bytes()[start..end]));
                }
            }
        }
    }

    fn unigram(&self, text: &str, emit: &mut impl FnMut(&str, Option<u32>)) {
        let (least, most) = (self.score_range.0.min(f32::MAX), self.score_range.1.max(f32::MIN));
        let cut =
            best_cut(text, &self.trie, f64::from(least - 10.0), Precision::Single, |id, len| match self.kind(id) {
                Kind::Unused => None,
                Kind::UserDefined => Some(f64::from(len as f32 * most) - 0.1),
                _ => Some(f64::from(self.score(id))),
            });
        cut.into_iter().for_each(|(token, start, end)| emit(&text[start..end], token));
    }

    /// Characters, or user-defined pieces where they stand; those stay as they are.
    fn characters(&self, text: &str) -> Vec<(usize, usize, bool)> {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let found = self.user_defined.longest(&text.as_bytes()[at..]).filter(|f| text.is_char_boundary(at + f.0));
            let len = found.map_or(c.len_utf8(), |f| f.0);
            out.push((at, at + len, found.is_some()));
            at += len;
        }
        out
    }

    fn bpe(&self, text: &str, emit: &mut impl FnMut(&str, Option<u32>)) {
        let mut merger = Merger::default();
        if !self.words_apart {
            return self.bpe_word(text, &mut merger, emit);
        }
        type Cut = Vec<(u32, u32, Option<u32>)>;
        let mut cache: HashMap<&str, Cut, RandomState> = HashMap::default();
        for word in words(text) {
            if let Some(cut) = cache.get(word) {
                cut.iter().for_each(|(start, end, id)| emit(&word[*start as usize..*end as usize], *id));
                continue;
            }
            let mut cut = Cut::new();
            let mut at = 0;
            self.bpe_word(word, &mut merger, &mut |piece: &str, id| {
                cut.push((at, at + piece.len() as u32, id));
                at += piece.len() as u32;
                emit(piece, id);
            });
            if word.len() <= 48 && cache.len() < 1 << 15 {
                cache.insert(word, cut);
            }
        }
    }

    fn bpe_word(&self, text: &str, merger: &mut Merger, emit: &mut impl FnMut(&str, Option<u32>)) {
        const OPEN: u32 = u32::MAX;
        const FROZEN: u32 = u32::MAX - 1;
        let bytes = text.as_bytes();
        merger.clear();
        for (start, end, frozen) in self.characters(text) {
            merger.push(if frozen { FROZEN } else { OPEN }, start, end);
        }
        // unused pieces are taken apart again as they were put together
        let mut halves: HashMap<(u32, u32), u32> = HashMap::new();
        merger.run(|left, right| {
            if left.id == FROZEN || right.id == FROZEN {
                return None;
            }
            let id = self.findable.get(&bytes[left.start as usize..right.end as usize])?;
            if self.kind(id) == Kind::Unused {
                halves.insert((left.start, right.end), left.end);
            }
            Some(Merge { rank: rank_of_score(self.score(id)), id: OPEN })
        });
        let mut open: Vec<(u32, u32)> = Vec::new();
        for symbol in merger.symbols() {
            open.push((symbol.start, symbol.end));
            while let Some((start, end)) = open.pop() {
                let piece = &text[start as usize..end as usize];
                let id = self.findable.get(piece.as_bytes());
                let unused = id.is_some_and(|id| self.kind(id) == Kind::Unused);
                match halves.get(&(start, end)).filter(|_| unused) {
                    Some(&middle) => open.extend([(middle, end), (start, middle)]),
                    None => emit(piece, id),
                }
            }
        }
    }
}

/// Whether a piece holds the beginning of a second word.
pub(crate) fn crosses_words(piece: &str) -> bool {
    piece.trim_start_matches(SPACE).contains(SPACE)
}

/// Cuts where a word begins: at a `▁` behind something else.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let spaces = rest.len() - rest.trim_start_matches(SPACE).len();
        let end = rest.get(spaces..)?.find(SPACE).map_or(rest.len(), |at| at + spaces);
        let (word, tail) = rest.split_at(end);
        rest = tail;
        (!word.is_empty()).then_some(word)
    })
}

fn split_prefix(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = text.match_indices(SPACE).map(|(at, _)| at).collect();
    if starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    let ends = starts.iter().skip(1).copied().chain(std::iter::once(text.len()));
    starts.iter().copied().zip(ends).map(|(a, b)| &text[a..b]).filter(|w| !w.is_empty()).collect()
}

fn split_suffix(text: &str) -> Vec<&str> {
    text.split_inclusive(SPACE).collect()
}

impl Scheme for SentencePiece {
    fn encode(&self, text: &str, parse_special: bool, out: &mut Vec<u32>) -> Result<()> {
        if !parse_special {
            self.plain(text, out);
            return Ok(());
        }
        let mut parts = Vec::new();
        self.controls.split(text, &mut parts);
        for (token, part) in parts {
            match token {
                Some(id) => out.push(id),
                None => self.plain(part, out),
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
        match self.kinds.get(id as usize)? {
            Kind::Byte => out.extend([0xFF, byte_token(self.pieces.text(id)?)?]),
            Kind::Unknown => out.extend_from_slice(self.proto.unk_surface.as_bytes()),
            _ => out.extend_from_slice(self.pieces.token(id)?),
        }
        Some(())
    }

    fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        let text = self.pieces.text(id)?;
        match self.kind(id) {
            Kind::Byte => byte_token(text).map(|byte| vec![byte]),
            Kind::Unknown => Some(self.proto.unk_surface.clone().into_bytes()),
            Kind::Control => Some(text.as_bytes().to_vec()),
            _ => Some(text.replace(SPACE, " ").into_bytes()),
        }
    }

    fn is_special(&self, id: u32) -> bool {
        matches!(self.kinds.get(id as usize), Some(Kind::Control | Kind::Unknown))
    }

    fn size(&self) -> usize {
        self.kinds.len()
    }

    fn id_of(&self, token: &str) -> Option<u32> {
        self.pieces.get(token.as_bytes())
    }

    fn ends(&self) -> (Option<u32>, Option<u32>) {
        let control = |id: i32, name: &str| {
            let id = u32::try_from(id).ok().filter(|id| self.kinds.get(*id as usize) == Some(&Kind::Control));
            id.or_else(|| self.pieces.get(name.as_bytes()).filter(|id| self.kind(*id) == Kind::Control))
        };
        (
            control(self.proto.bos_id, &self.proto.bos_piece).filter(|_| self.proto.bos_id >= 0),
            control(self.proto.eos_id, &self.proto.eos_piece).filter(|_| self.proto.eos_id >= 0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model file from (piece, score, kind) and a model type.
    pub(crate) fn file(model_type: u8, byte_fallback: bool, pieces: &[(&str, f32, u8)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (text, score, kind) in pieces {
            let mut piece = vec![0x0A, text.len() as u8];
            piece.extend(text.as_bytes());
            piece.push(0x15);
            piece.extend(score.to_le_bytes());
            piece.extend([0x18, *kind]);
            out.extend([0x0A, piece.len() as u8]);
            out.extend(piece);
        }
        out.extend([0x12, 5, 0x18, model_type, 0x98, 0x02, u8::from(byte_fallback)]);
        out
    }

    fn ids(model: &SentencePiece, text: &str) -> Vec<u32> {
        let mut out = Vec::new();
        model.encode(text, false, &mut out).expect("encodes");
        out
    }

    const PIECES: [(&str, f32, u8); 9] = [
        ("<unk>", 0.0, 2),
        ("<s>", 0.0, 3),
        ("</s>", 0.0, 3),
        ("\u{2581}", -1.0, 1),
        ("a", -2.0, 1),
        ("b", -3.0, 1),
        ("ab", -0.5, 1),
        ("\u{2581}ab", -0.25, 5),
        ("<x>", 0.0, 4),
    ];

    #[test]
    fn merges_follow_scores_unused_pieces_fall_apart_and_user_pieces_stay() {
        let model = SentencePiece::read(&file(2, false, &PIECES)).expect("sound");
        assert_eq!(ids(&model, "ab"), [3, 6]);
        assert_eq!(ids(&model, "a  b"), [3, 4, 3, 5]);
        assert_eq!(ids(&model, "a<x>b"), [3, 4, 8, 5]);
        assert_eq!(ids(&model, "你好a"), [3, 0, 4]);
        assert_eq!(ids(&model, ""), Vec::<u32>::new());
        assert_eq!(model.around(), (vec![1], vec![]));
        let unigram = SentencePiece::read(&file(1, false, &PIECES)).expect("sound");
        assert_eq!(ids(&unigram, "ab"), [3, 6]);
    }

    #[test]
    fn broken_models_are_errors() {
        let sound = file(2, false, &PIECES);
        for cut in 1..sound.len() {
            let _ = SentencePiece::read(&sound[..cut]);
        }
        for (what, bytes) in [
            ("no unknown piece", file(2, false, &PIECES[1..])),
            ("twice", file(2, false, &[PIECES[0], PIECES[4], PIECES[4]])),
            ("empty piece", file(2, false, &[PIECES[0], ("", 0.0, 1)])),
            ("score is not a number", file(2, false, &[PIECES[0], ("a", f32::NAN, 1)])),
            ("bytes missing", file(2, true, &PIECES)),
            ("length beyond the file", vec![0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
            ("endless varint", vec![0xFF; 40]),
        ] {
            assert!(SentencePiece::read(&bytes).is_err(), "{what}");
        }
    }
}
