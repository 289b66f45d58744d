//! Where a GGUF header ends, found from the file's first bytes: for readers that have not got the rest.
//!
//! Walks over lengths and decodes nothing; what it lets pass is proven by [`super::parse`] later.
use super::{DEPTH_MAX, KEY_MAX, MAGIC, RANK_MAX, ValueType};
use crate::{
    bounded::Reader,
    error::{Result, invalid},
    tensor::{METADATA_MAX, TENSORS_MAX},
};

/// The number of bytes in front of the tensors' data (padding not counted), where `prefix`, the first bytes of a file of
/// `file_len` bytes, holds them all; none where the header goes on behind `prefix`.
///
/// Errors where no further bytes could make it a header that fits the file.
pub fn header_end(prefix: &[u8], file_len: u64) -> Result<Option<u64>> {
    let mut walk = Walk { r: Reader::new(prefix), file_len };
    match walk.header() {
        Ok(()) => Ok(Some(walk.r.at() as u64)),
        Err(Stop::More) if prefix.len() as u64 >= file_len => Err(invalid("the header is cut off")),
        Err(Stop::More) => Ok(None),
        Err(Stop::Wrong(what)) => Err(invalid(what)),
    }
}

/// Why a walk ends early.
enum Stop {
    /// The prefix ends.
    More,
    /// No header looks like this.
    Wrong(String),
}

type Step<T> = std::result::Result<T, Stop>;

struct Walk<'a> {
    r: Reader<'a>,
    file_len: u64,
}

impl Walk<'_> {
    fn header(&mut self) -> Step<()> {
        if &self.r.array::<4>().map_err(more)? != MAGIC {
            return Err(Stop::Wrong("expected the magic bytes GGUF".into()));
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(Stop::Wrong(format!("expected GGUF version 2 or 3, got {version}")));
        }
        let (tensors, keys) = (self.u64()?, self.u64()?);
        for (what, count, least, most) in
            [("tensor", tensors, 24, TENSORS_MAX as u64), ("metadata", keys, 13, METADATA_MAX as u64)]
        {
            if count > self.file_len / least || count > most {
                return Err(Stop::Wrong(format!("{what} count {count} in a file of {} bytes", self.file_len)));
            }
        }
        for _ in 0..keys {
            let n = self.u64()?;
            if n == 0 || n > KEY_MAX {
                return Err(Stop::Wrong(format!("metadata key: expected 1 to {KEY_MAX} bytes, got {n}")));
            }
            self.skip(n)?;
            let kind = self.kind()?;
            self.value(kind, 0)?;
        }
        for _ in 0..tensors {
            self.string()?;
            let rank = self.u32()?;
            if rank > RANK_MAX {
                return Err(Stop::Wrong(format!("expected at most {RANK_MAX} dimensions, got {rank}")));
            }
            // Dimensions, type, offset.
            self.skip(u64::from(rank) * 8 + 12)?;
        }
        Ok(())
    }

    fn value(&mut self, kind: ValueType, depth: usize) -> Step<()> {
        match kind {
            ValueType::String => self.string(),
            ValueType::Array if depth == DEPTH_MAX => {
                Err(Stop::Wrong(format!("arrays nested deeper than {DEPTH_MAX}")))
            }
            ValueType::Array => {
                let (item, count) = (self.kind()?, self.u64()?);
                let size = count.checked_mul(item.size_min()).filter(|size| *size <= self.file_len);
                let size = size.ok_or_else(|| {
                    Stop::Wrong(format!("array of {count} values in a file of {} bytes", self.file_len))
                })?;
                match item {
                    // Each takes eight bytes at least, so that a false count ends with the prefix.
                    ValueType::String => (0..count).try_for_each(|_| self.string()),
                    ValueType::Array => (0..count).try_for_each(|_| self.value(item, depth + 1)),
                    _ => self.skip(size),
                }
            }
            plain => self.skip(plain.size_min()),
        }
    }

    fn kind(&mut self) -> Step<ValueType> {
        let mut r = Reader::new(self.r.take(4).map_err(more)?);
        ValueType::read(&mut r).map_err(|e| Stop::Wrong(e.to_string()))
    }

    fn string(&mut self) -> Step<()> {
        let n = self.u64()?;
        self.skip(n)
    }

    fn skip(&mut self, n: u64) -> Step<()> {
        if n > self.file_len {
            return Err(Stop::Wrong(format!("{n} bytes of text in a file of {}", self.file_len)));
        }
        self.r.take(n).map(drop).map_err(more)
    }

    fn u32(&mut self) -> Step<u32> {
        self.r.u32().map_err(more)
    }

    fn u64(&mut self) -> Step<u64> {
        self.r.u64().map_err(more)
    }
}

fn more(_: crate::Error) -> Stop {
    Stop::More
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        TensorSpec,
        gguf::{Meta, Writer, parse},
    };
    use pondera_quant::{Bytes, Format};

    fn sound() -> Vec<u8> {
        let words: Vec<String> = (0..40).map(|i| format!("word{i}")).collect();
        let meta = vec![
            ("general.architecture", Meta::String("llama".into())),
            ("tokenizer.ggml.tokens", Meta::Strings(words)),
            ("llama.block_count", Meta::U32(2)),
        ];
        let specs = [TensorSpec::new("a", Format::F32, &[4, 8]), TensorSpec::new("b.weight", Format::Q8_0, &[2, 32])];
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out, &meta, &specs).unwrap();
        for s in &specs {
            w.write(&vec![0; s.bytes().unwrap()]).unwrap();
        }
        w.finish().unwrap();
        out
    }

    #[test]
    fn the_end_is_found_from_every_prefix_that_holds_it_and_from_no_other() {
        let file = sound();
        let len = file.len() as u64;
        let end = header_end(&file, len).unwrap().unwrap() as usize;
        let data = parse(Bytes::from(file.clone())).unwrap().tensors.iter().map(|t| t.range.start).min().unwrap();
        assert!(end <= data && data - end < 32, "{end} {data}");
        for n in 0..file.len() {
            let found = header_end(&file[..n], len).unwrap();
            assert_eq!(found, (n >= end).then_some(end as u64), "{n}");
        }
        // A file that ends within its header.
        for n in 0..end {
            assert!(header_end(&file[..n], n as u64).is_err(), "{n}");
        }
    }

    #[test]
    fn lies_about_lengths_are_told_at_once() {
        let file = sound();
        let len = file.len() as u64;
        let with = |at: usize, n: u64| {
            let mut f = file.clone();
            f[at..at + 8].copy_from_slice(&n.to_le_bytes());
            f
        };
        for (at, n) in [(8, u64::MAX), (16, 1 << 60), (24, 1 << 63), (24, 0)] {
            assert!(header_end(&with(at, n)[..64], len).is_err(), "{n} at {at}");
        }
        assert!(header_end(b"GGUX", 100).is_err());
        assert!(header_end(b"GGUF\x01\0\0\0", 100).is_err());
        // Any change: an answer, no panic.
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut f = file.clone();
            let at = (state >> 33) as usize % f.len();
            f[at] = (state >> 20) as u8;
            let _ = header_end(&f[..(state >> 40) as usize % f.len()], len);
        }
    }
}
