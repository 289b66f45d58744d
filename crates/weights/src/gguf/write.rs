//! Writing GGUF version 3 front to back.
use super::{ALIGNMENT_DEFAULT, MAGIC, ValueType};
use crate::{
    Error, ErrorKind, TensorSpec,
    error::{Result, invalid, unsupported},
};
use std::{collections::HashSet, io::Write};

/// A metadata value to be written.
#[allow(missing_docs)] // the names are the format's own
#[derive(Clone, Debug, PartialEq)]
pub enum Meta {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    U64(u64),
    I64(i64),
    F64(f64),
    String(String),
    Strings(Vec<String>),
    U32s(Vec<u32>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Bools(Vec<bool>),
}

impl From<&str> for Meta {
    fn from(s: &str) -> Meta {
        Meta::String(s.to_string())
    }
}

impl Meta {
    /// Type id and value, as the file holds them.
    fn write(&self, out: &mut Vec<u8>) {
        use ValueType as T;
        match self {
            Meta::U8(v) => plain(out, T::U8, &v.to_le_bytes()),
            Meta::I8(v) => plain(out, T::I8, &v.to_le_bytes()),
            Meta::U16(v) => plain(out, T::U16, &v.to_le_bytes()),
            Meta::I16(v) => plain(out, T::I16, &v.to_le_bytes()),
            Meta::U32(v) => plain(out, T::U32, &v.to_le_bytes()),
            Meta::I32(v) => plain(out, T::I32, &v.to_le_bytes()),
            Meta::F32(v) => plain(out, T::F32, &v.to_le_bytes()),
            Meta::Bool(v) => plain(out, T::Bool, &[u8::from(*v)]),
            Meta::U64(v) => plain(out, T::U64, &v.to_le_bytes()),
            Meta::I64(v) => plain(out, T::I64, &v.to_le_bytes()),
            Meta::F64(v) => plain(out, T::F64, &v.to_le_bytes()),
            Meta::String(v) => {
                plain(out, T::String, &[]);
                text(out, v);
            }
            Meta::Strings(v) => array(out, T::String, v, |out, s| text(out, s)),
            Meta::U32s(v) => array(out, T::U32, v, |out, v| out.extend(v.to_le_bytes())),
            Meta::I32s(v) => array(out, T::I32, v, |out, v| out.extend(v.to_le_bytes())),
            Meta::F32s(v) => array(out, T::F32, v, |out, v| out.extend(v.to_le_bytes())),
            Meta::Bools(v) => array(out, T::Bool, v, |out, v| out.push(u8::from(*v))),
        }
    }
}

fn plain(out: &mut Vec<u8>, kind: ValueType, value: &[u8]) {
    out.extend((kind as u32).to_le_bytes());
    out.extend(value);
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

fn array<T>(out: &mut Vec<u8>, item: ValueType, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    plain(out, ValueType::Array, &(item as u32).to_le_bytes());
    out.extend((items.len() as u64).to_le_bytes());
    items.iter().for_each(|i| write(out, i));
}

/// Writes a GGUF file: metadata and all names first, then each tensor's bytes in the same order.
pub struct Writer<W: Write> {
    out: W,
    /// Bytes of each tensor, last first.
    sizes: Vec<u64>,
    /// Bytes left of the tensor being written, and the padding behind it.
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Writes the header. Data then follows in the order of `tensors`; padding is written by the writer.
    pub fn new(out: W, metadata: &[(&str, Meta)], tensors: &[TensorSpec]) -> Result<Writer<W>> {
        let alignment = u64::from(ALIGNMENT_DEFAULT);
        let mut head = Vec::new();
        head.extend(MAGIC);
        head.extend(3u32.to_le_bytes());
        head.extend((tensors.len() as u64).to_le_bytes());
        head.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            text(&mut head, key);
            value.write(&mut head);
        }
        let (mut at, mut sizes, mut seen) = (0u64, Vec::new(), HashSet::new());
        for t in tensors {
            if !seen.insert(&t.name) {
                return Err(invalid("a file cannot hold this name twice").of(&t.name));
            }
            tensor_info(&mut head, t, at)?;
            let size = t.bytes()? as u64;
            sizes.push(size);
            let next = at.checked_add(size).and_then(|n| n.checked_next_multiple_of(alignment));
            at = next.ok_or_else(|| invalid("total size overflows").of(&t.name))?;
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT_DEFAULT as usize), 0);
        sizes.reverse();
        let mut writer = Writer { out, sizes, left: 0, padding: 0 };
        writer.put(&head)?;
        Ok(writer)
    }

    /// Writes the next bytes: a tensor, a piece of one, or several.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.pad()?;
                let what = || invalid(format!("{} bytes more than were declared", bytes.len()));
                self.left = self.sizes.pop().ok_or_else(what)?;
                self.padding = (self.left.next_multiple_of(u64::from(ALIGNMENT_DEFAULT)) - self.left) as usize;
            }
            let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(n);
            self.put(now)?;
            self.left -= n as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Checks that every tensor is complete, flushes, and gives the output back.
    pub fn finish(mut self) -> Result<W> {
        let missing = self.left + self.sizes.iter().sum::<u64>();
        if missing != 0 {
            return Err(invalid(format!("{missing} declared bytes were not written")));
        }
        self.pad()?;
        self.out.flush().map_err(|e| Error::new(ErrorKind::Io, e.to_string()))?;
        Ok(self.out)
    }

    fn pad(&mut self) -> Result<()> {
        let zeros = [0; ALIGNMENT_DEFAULT as usize];
        let n = std::mem::take(&mut self.padding);
        self.put(&zeros[..n])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::new(ErrorKind::Io, e.to_string()))
    }
}

fn tensor_info(head: &mut Vec<u8>, t: &TensorSpec, at: u64) -> Result<()> {
    let id = t
        .format
        .info()
        .gguf_id
        .ok_or_else(|| unsupported(format!("GGUF has no tensor type for {}", t.format.info().name)).of(&t.name))?;
    let rank = u32::try_from(t.shape.len()).ok().filter(|&r| r <= super::RANK_MAX);
    let rank = rank
        .ok_or_else(|| unsupported(format!("GGUF tensors have at most {} dimensions", super::RANK_MAX)).of(&t.name))?;
    text(head, &t.name);
    head.extend(rank.to_le_bytes());
    // Innermost first.
    t.shape.iter().rev().for_each(|&d| head.extend((d as u64).to_le_bytes()));
    head.extend(id.to_le_bytes());
    head.extend(at.to_le_bytes());
    Ok(())
}
