//! Recorded licence texts: their words as hashes, what may be left out, what may stand in a place.
//!
//! Owns the form of `texts.bin` and its reader. Does not hold a text: nobody can read a licence out of it, it only
//! tells whether another text is the same. Written by the example `record_licences` (docs/licences.md says from what).
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::OnceLock,
};

/// Consecutive words that make an anchor.
pub(crate) const GRAM: usize = 4;
const MAGIC: u32 = 0x3163_696c;
/// Most bytes that `texts.bin` may unpack to.
const UNPACKED_MAX: usize = 16 << 20;

static TEXTS: &[u8] = include_bytes!("texts.bin");

/// What a recorded text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The licence itself.
    Text,
    /// The few lines that say that a file is under the licence.
    Notice,
}

/// A piece of a recorded text, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A word.
    Word(u32),
    /// Up to the matching `Close` everything may be left out.
    Open,
    /// See `Open`.
    Close,
    /// A name, a year: any words, as many as this at most, that neither allow nor forbid nor demand anything;
    /// those of the list may stand here, too.
    Slot(u16, Vec<u32>),
    /// One of these.
    Choice(Vec<Vec<u32>>),
}

/// A piece of a template as the matcher walks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Word(u32),
    Slot(u16, Vec<u32>),
    Choice(Vec<Vec<u32>>),
}

/// A piece, and whether it may be left out.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub piece: Piece,
    pub optional: bool,
}

/// A recorded text.
#[derive(Debug)]
pub(crate) struct Template {
    /// The licence.
    pub id: Box<str>,
    pub kind: Kind,
    pub elements: Vec<Element>,
    /// Anchors: hashes of `GRAM` words that follow one another and may not be left out, and where they begin.
    pub grams: Vec<(u64, usize)>,
}

const OPEN: u32 = 0x8000_0001;
const CLOSE: u32 = 0x8000_0002;
const SLOT: u32 = 0x9000_0000;
const CHOICE: u32 = 0xa000_0000;
const LOW: u32 = 0xffff;

/// The hash of words that follow one another.
pub(crate) fn gram(words: impl Iterator<Item = u32>) -> u64 {
    words.fold(0x9e37_79b9_7f4a_7c15, |h, w| (h ^ u64::from(w)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23))
}

/// All recorded texts, unpacked once.
pub(crate) fn templates() -> &'static [Template] {
    static ALL: OnceLock<Vec<Template>> = OnceLock::new();
    // The file is part of the program; a test reads it.
    ALL.get_or_init(|| unpack(TEXTS).unwrap_or_default())
}

/// All recorded texts as [`pack`] takes them, so that others can be added.
pub fn recorded() -> Vec<(String, Kind, Vec<Node>)> {
    let nodes = |t: &Template| {
        let mut nodes = Vec::with_capacity(t.elements.len());
        let mut open = false;
        for e in &t.elements {
            if e.optional != open {
                nodes.push(if open { Node::Close } else { Node::Open });
                open = e.optional;
            }
            nodes.push(match &e.piece {
                Piece::Word(w) => Node::Word(*w),
                Piece::Slot(n, usual) => Node::Slot(*n, usual.clone()),
                Piece::Choice(ways) => Node::Choice(ways.clone()),
            });
        }
        if open {
            nodes.push(Node::Close);
        }
        nodes
    };
    templates().iter().map(|t| (t.id.to_string(), t.kind, nodes(t))).collect()
}

/// Packs recorded texts into the bytes of `texts.bin`.
pub fn pack(all: &[(String, Kind, Vec<Node>)]) -> Vec<u8> {
    let mut raw: Vec<u8> = Vec::new();
    let mut put = |n: u32| raw.extend(n.to_le_bytes());
    put(MAGIC);
    put(all.len() as u32);
    for (id, kind, nodes) in all {
        put(id.len() as u32);
        id.bytes().for_each(|b| put(b.into()));
        put(u32::from(*kind == Kind::Notice));
        let mut flat = Vec::new();
        for node in nodes {
            match node {
                Node::Word(w) => flat.push(*w),
                Node::Open => flat.push(OPEN),
                Node::Close => flat.push(CLOSE),
                Node::Slot(n, usual) => {
                    flat.push(SLOT | u32::from(*n));
                    flat.push(usual.len() as u32);
                    flat.extend(usual);
                }
                Node::Choice(ways) => {
                    flat.push(CHOICE | ways.len() as u32);
                    for way in ways {
                        flat.push(way.len() as u32);
                        flat.extend(way);
                    }
                }
            }
        }
        put(flat.len() as u32);
        flat.into_iter().for_each(&mut put);
    }
    miniz_oxide::deflate::compress_to_vec(&raw, 9)
}

fn unpack(packed: &[u8]) -> Option<Vec<Template>> {
    let raw = miniz_oxide::inflate::decompress_to_vec_with_limit(packed, UNPACKED_MAX).ok()?;
    let mut numbers = raw.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let mut next = || numbers.next();
    if next()? != MAGIC {
        return None;
    }
    let mut all = Vec::new();
    for _ in 0..next()? {
        let id: String = (0..next()?).map(|_| next().and_then(char::from_u32)).collect::<Option<_>>()?;
        let kind = if next()? == 1 { Kind::Notice } else { Kind::Text };
        let mut left = next()?;
        let mut take = || {
            left = left.checked_sub(1)?;
            next()
        };
        let (mut elements, mut depth) = (Vec::new(), 0u32);
        while let Some(n) = take() {
            let piece = match n {
                OPEN => {
                    depth += 1;
                    continue;
                }
                CLOSE => {
                    depth = depth.saturating_sub(1);
                    continue;
                }
                n if n < 0x8000_0000 => Piece::Word(n),
                n if n & !LOW == SLOT => {
                    let usual = (0..take()?).map(|_| take()).collect::<Option<_>>()?;
                    Piece::Slot((n & LOW) as u16, usual)
                }
                n if n & !LOW == CHOICE => {
                    let way = |_| (0..take()?).map(|_| take()).collect::<Option<Vec<u32>>>();
                    Piece::Choice((0..n & LOW).map(way).collect::<Option<_>>()?)
                }
                _ => return None,
            };
            elements.push(Element { piece, optional: depth > 0 });
        }
        all.push(Template::new(id.into(), kind, elements));
    }
    Some(all)
}

impl Template {
    pub fn new(id: Box<str>, kind: Kind, elements: Vec<Element>) -> Template {
        let word = |e: &Element| match e.piece {
            Piece::Word(w) if !e.optional => Some(w),
            _ => None,
        };
        let grams = elements.windows(GRAM).enumerate().filter_map(|(i, w)| {
            let words: Option<Vec<u32>> = w.iter().map(word).collect();
            Some((gram(words?.into_iter()), i))
        });
        let grams = grams.collect();
        Template { id, kind, elements, grams }
    }
}

/// Places in a text by anchor.
pub(crate) type Places = HashMap<u64, Vec<usize>, BuildHasherDefault<Mixed>>;

/// Anchors are hashes already.
#[derive(Default)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.0 = self.0.rotate_left(8) ^ u64::from(*b));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n ^ (n >> 29);
    }
}

/// Where each anchor stands in a text, at most `PLACES_MAX` places of each.
pub(crate) fn places(words: &[u32]) -> Places {
    const PLACES_MAX: usize = 4;
    let mut all = Places::default();
    for (at, w) in words.windows(GRAM).enumerate() {
        let here = all.entry(gram(w.iter().copied())).or_default();
        if here.len() < PLACES_MAX {
            here.push(at);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_everything() {
        let nodes = vec![
            Node::Open,
            Node::Word(7),
            Node::Close,
            Node::Word(1),
            Node::Word(2),
            Node::Word(3),
            Node::Word(4),
            Node::Slot(9, vec![3]),
            Node::Choice(vec![vec![5, 6], vec![8]]),
        ];
        let all = unpack(&pack(&[("X-1.0".into(), Kind::Notice, nodes)])).unwrap();
        let t = &all[0];
        assert_eq!((&*t.id, t.kind, t.elements.len(), t.grams.len()), ("X-1.0", Kind::Notice, 7, 1));
        assert!(t.elements[0].optional && !t.elements[1].optional);
        assert_eq!(t.elements[6].piece, Piece::Choice(vec![vec![5, 6], vec![8]]));
        assert!(unpack(b"x").is_none());
    }

    #[test]
    fn what_is_recorded_can_be_packed_again() {
        let again = unpack(&pack(&recorded())).unwrap();
        assert_eq!(again.len(), templates().len());
        for (a, b) in again.iter().zip(templates()) {
            let same = |(x, y): (&Element, &Element)| x.piece == y.piece && x.optional == y.optional;
            let all = a.elements.len() == b.elements.len() && a.elements.iter().zip(&b.elements).all(same);
            assert!(all && a.id == b.id && a.kind == b.kind, "{}", a.id);
        }
    }

    #[test]
    fn the_recorded_texts_can_be_read() {
        assert!(templates().len() > 80, "{}", templates().len());
        for t in templates() {
            let words = t.elements.iter().filter(|e| !e.optional).count();
            assert!(words > 5 && !t.grams.is_empty(), "{} {:?}: {words}", t.id, t.kind);
        }
    }
}
