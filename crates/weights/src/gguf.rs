//! The GGUF container, versions 2 and 3, little-endian: typed metadata, then tensor infos, then aligned data.
//!
//! Metadata stays where it is: a key holds the place of its value in the mapping, and a value is decoded when it
//! is asked for, so that a vocabulary of 256k strings costs one walk over its lengths.
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>
use crate::{
    TensorInfo,
    bounded::{Reader, checked_size, shown},
    error::{Error, ErrorKind, Result, invalid, quoted, unsupported},
    tensor::{METADATA_MAX, TENSORS_MAX},
};
use pondera_quant::{Bytes, Format};
use std::fmt;

mod extent;
mod split;
mod write;

pub use extent::header_end;
pub use split::ShardName;
pub use write::{Meta, Writer};

pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// Longest key, as the specification bounds it.
const KEY_MAX: u64 = 65_535;
/// Most dimensions of a tensor, as in ggml.
const RANK_MAX: u32 = 4;
/// Arrays may hold arrays; deeper nesting than this has no use.
const DEPTH_MAX: usize = 4;
const ALIGNMENT_DEFAULT: u32 = 32;
const ALIGNMENT_MAX: u32 = 1 << 24;

/// The type of a metadata value.
#[allow(missing_docs)] // the names are the format's own
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    const ALL: [ValueType; 13] = {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
    };

    fn read(r: &mut Reader) -> Result<ValueType> {
        let id = r.u32()?;
        let known = usize::try_from(id).ok().and_then(|id| Self::ALL.get(id));
        known.copied().ok_or_else(|| invalid(format!("unknown metadata value type {id}")))
    }

    /// Fewest bytes that a value of this type takes.
    fn size_min(self) -> u64 {
        use ValueType::*;
        match self {
            U8 | I8 | Bool => 1,
            U16 | I16 => 2,
            U32 | I32 | F32 => 4,
            U64 | I64 | F64 | String => 8,
            Array => 12,
        }
    }
}

/// A metadata value, decoded.
#[allow(missing_docs)] // the names are the format's own
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Text, not yet proven to be UTF-8.
    String(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    fn read(kind: ValueType, r: &mut Reader<'a>, depth: usize) -> Result<Value<'a>> {
        Ok(match kind {
            ValueType::U8 => Value::U8(r.u8()?),
            ValueType::I8 => Value::I8(i8::from_le_bytes(r.array()?)),
            ValueType::U16 => Value::U16(r.u16()?),
            ValueType::I16 => Value::I16(i16::from_le_bytes(r.array()?)),
            ValueType::U32 => Value::U32(r.u32()?),
            ValueType::I32 => Value::I32(r.i32()?),
            ValueType::F32 => Value::F32(f32::from_le_bytes(r.array()?)),
            ValueType::Bool => match r.u8()? {
                b @ 0..=1 => Value::Bool(b == 1),
                b => return Err(invalid(format!("expected a bool of 0 or 1, got {b}"))),
            },
            ValueType::String => Value::String(string(r)?),
            ValueType::Array => Value::Array(Array::read(r, depth)?),
            ValueType::U64 => Value::U64(r.u64()?),
            ValueType::I64 => Value::I64(r.i64()?),
            ValueType::F64 => Value::F64(f64::from_le_bytes(r.array()?)),
        })
    }

    /// Its type.
    pub fn kind(&self) -> ValueType {
        use ValueType::*;
        match self {
            Value::U8(_) => U8,
            Value::I8(_) => I8,
            Value::U16(_) => U16,
            Value::I16(_) => I16,
            Value::U32(_) => U32,
            Value::I32(_) => I32,
            Value::F32(_) => F32,
            Value::Bool(_) => Bool,
            Value::String(_) => String,
            Value::Array(_) => Array,
            Value::U64(_) => U64,
            Value::I64(_) => I64,
            Value::F64(_) => F64,
        }
    }

    /// An integer of any width.
    pub fn as_i128(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// A float of either width.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => None,
        }
    }
}

fn string<'a>(r: &mut Reader<'a>) -> Result<&'a [u8]> {
    let n = r.u64()?;
    r.take(n)
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| invalid(format!("not UTF-8 after {} bytes", e.valid_up_to())))
}

/// An array of metadata values, decoded item by item.
#[derive(Clone, Copy)]
pub struct Array<'a> {
    item: ValueType,
    len: usize,
    bytes: &'a [u8],
    depth: usize,
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}; {}]", self.item, self.len)
    }
}

impl<'a> Array<'a> {
    fn read(r: &mut Reader<'a>, depth: usize) -> Result<Array<'a>> {
        if depth == DEPTH_MAX {
            return Err(unsupported(format!("arrays nested deeper than {DEPTH_MAX}")));
        }
        let item = ValueType::read(r)?;
        let count = r.u64()?;
        let all = (r.left() as u64) / item.size_min();
        let len = usize::try_from(count).ok().filter(|_| count <= all);
        let len = len.ok_or_else(|| invalid(format!("array of {count} values, but at most {all} fit in the file")))?;
        let rest = r.clone();
        match item {
            ValueType::String => (0..len).try_for_each(|_| string(r).map(drop))?,
            ValueType::Array => (0..len).try_for_each(|_| Array::read(r, depth + 1).map(drop))?,
            _ => drop(r.take(count * item.size_min())?),
        }
        let bytes = rest.clone().take((r.at() - rest.at()) as u64)?;
        Ok(Array { item, len, bytes, depth })
    }

    /// Type of its items.
    pub fn item(&self) -> ValueType {
        self.item
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>>> + use<'a> {
        let (item, depth) = (self.item, self.depth);
        let mut r = Reader::new(self.bytes);
        (0..self.len).map(move |_| Value::read(item, &mut r, depth + 1))
    }
}

/// Where a key's value lies.
#[derive(Debug)]
struct Entry {
    key: Box<str>,
    kind: ValueType,
    at: usize,
}

/// The metadata of a GGUF file (of a split set: of its first shard).
#[derive(Debug)]
pub struct Gguf {
    file: Bytes,
    version: u32,
    alignment: usize,
    /// Where the tensors' data begin.
    data: usize,
    /// Sorted by key.
    entries: Vec<Entry>,
}

/// A parsed file: metadata, and the tensors in the order of the file, with ranges in the file.
#[derive(Debug)]
pub struct Parsed {
    /// The metadata.
    pub gguf: Gguf,
    /// The tensors.
    pub tensors: Vec<TensorInfo>,
}

/// Reads a whole file's bytes and proves every tensor's extent.
pub fn parse(file: Bytes) -> Result<Parsed> {
    let shared = file.clone();
    let mut r = Reader::new(shared.as_slice());
    let (version, tensor_count, key_count) = head(&mut r)?;
    let mut gguf = Gguf { file, version, alignment: 0, data: 0, entries: entries(&mut r, key_count)? };
    gguf.alignment = gguf.read_alignment()?;
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(tensor(&mut r)?);
    }
    gguf.data = place(&mut tensors, r.at(), gguf.alignment, shared.len())?;
    Ok(Parsed { gguf, tensors })
}

/// Magic, version and counts.
fn head(r: &mut Reader) -> Result<(u32, u64, u64)> {
    let magic: [u8; 4] = r.array()?;
    if &magic != MAGIC {
        return Err(invalid(format!("expected the magic bytes GGUF, got {}", magic.escape_ascii())));
    }
    let version = r.u32()?;
    match version {
        2 | 3 => {}
        1 => return Err(unsupported("GGUF version 1 is not supported").hint("convert the model again")),
        v if v & 0xffff == 0 && v != 0 => {
            return Err(unsupported("big-endian GGUF is not supported").hint("convert the model for little-endian"));
        }
        v => return Err(invalid(format!("expected GGUF version 2 or 3, got {v}"))),
    }
    let (tensors, keys) = (r.u64()?, r.u64()?);
    // A tensor info takes 24 bytes at least, a key 13: counts beyond that are lies, told before anything is read.
    for (what, count, least, most) in [("tensor", tensors, 24, TENSORS_MAX), ("metadata", keys, 13, METADATA_MAX)] {
        if count > (r.left() as u64) / least {
            return Err(invalid(format!("{what} count {count}, but only {} bytes follow", r.left())));
        }
        if count > most as u64 {
            return Err(unsupported(format!("{what} count: expected at most {most}, got {count}")));
        }
    }
    Ok((version, tensors, keys))
}

fn entries(r: &mut Reader, count: u64) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let n = r.u64()?;
        if n == 0 || n > KEY_MAX {
            return Err(invalid(format!("metadata key: expected 1 to {KEY_MAX} bytes, got {n}")));
        }
        let key = utf8(r.take(n)?).map_err(|e| invalid(format!("metadata key: {e}")))?;
        let kind = ValueType::read(r).map_err(|e| e.of(key))?;
        let at = r.at();
        Value::read(kind, r, 0).map_err(|e| e.of(key))?;
        entries.push(Entry { key: key.into(), kind, at });
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    match entries.windows(2).find(|w| w[0].key == w[1].key) {
        Some(twice) => Err(invalid("metadata key stands twice").of(&twice[0].key)),
        None => Ok(entries),
    }
}

/// One tensor info; `range.start` is still relative to the data.
fn tensor(r: &mut Reader) -> Result<TensorInfo> {
    let name = utf8(string(r)?).map_err(|e| invalid(format!("tensor name: {e}")))?;
    let parse = |r: &mut Reader| {
        let rank = r.u32()?;
        if rank > RANK_MAX {
            return Err(invalid(format!("expected at most {RANK_MAX} dimensions, got {rank}")));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            let d = r.u64()?;
            let dim = usize::try_from(d).ok().filter(|_| d <= i64::MAX as u64);
            shape.push(dim.ok_or_else(|| invalid(format!("dimension {d} is out of range")))?);
        }
        // Stored innermost first.
        shape.reverse();
        let id = r.u32()?;
        let format = Format::from_gguf(id).ok_or_else(|| unknown_type(id))?;
        let offset = r.u64()?;
        let size = checked_size(format, &shape)?;
        let start = usize::try_from(offset).map_err(|_| invalid(format!("offset {offset} is out of range")))?;
        let end = start.checked_add(size).ok_or_else(|| invalid(format!("offset {offset} overflows")))?;
        let (name, shape) = (name.into(), shape.into());
        Ok(TensorInfo { name, format, shape, file: 0, range: start..end, strides: None })
    };
    parse(r).map_err(|e| e.of(name))
}

fn unknown_type(id: u32) -> Error {
    match id {
        4 | 5 | 31..=33 | 36..=38 => unsupported(format!("tensor type {id} was removed from the format"))
            .hint("convert the model again with a type that is still in use"),
        _ => invalid(format!("unknown tensor type {id}")),
    }
}

/// Turns offsets into ranges of the file: aligned, inside, disjoint, each name once. Gives where the data begin.
fn place(tensors: &mut [TensorInfo], infos_end: usize, alignment: usize, file_len: usize) -> Result<usize> {
    let data = infos_end.checked_next_multiple_of(alignment).ok_or_else(|| invalid("the header is too long"))?;
    for t in tensors.iter_mut() {
        if t.range.start % alignment != 0 {
            let what = format!("expected an offset that is a multiple of {alignment}, got {}", t.range.start);
            return Err(invalid(what).of(&t.name));
        }
        let range = data.checked_add(t.range.start).zip(data.checked_add(t.range.end));
        let (start, end) = range.filter(|r| r.1 <= file_len).ok_or_else(|| {
            let have = file_len.saturating_sub(data);
            let (from, to) = (t.range.start, t.range.end);
            let what = format!("{} lies at [{from}, {to}) of {have} bytes of data: cut off", shown(&t.shape));
            invalid(what).of(&t.name)
        })?;
        t.range = start..end;
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| (t.range.start, t.range.end));
    if let Some(w) = order.windows(2).find(|w| w[1].range.start < w[0].range.end) {
        return Err(invalid(format!("overlaps the tensor {}", quoted(&w[0].name))).of(&w[1].name));
    }
    order.sort_by_key(|t| &t.name);
    match order.windows(2).find(|w| w[0].name == w[1].name) {
        Some(twice) => Err(invalid("the file names this tensor twice").of(&twice[0].name)),
        None => Ok(data),
    }
}

impl Gguf {
    /// Version of the container: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of the tensors' data in bytes.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// The byte of the file that the tensors' data begin at.
    pub fn data_start(&self) -> usize {
        self.data
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| &*e.key)
    }

    /// Whether `key` is there.
    pub fn contains(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        let i = self.entries.binary_search_by(|e| (*e.key).cmp(key)).ok()?;
        self.entries.get(i)
    }

    /// The value of `key`, or `None` where the file has no such key.
    ///
    /// Errors only where the file changed since it was opened, or a bool is neither 0 nor 1.
    pub fn value(&self, key: &str) -> Result<Option<Value<'_>>> {
        let Some(e) = self.entry(key) else { return Ok(None) };
        let mut r = Reader::starting(self.file.as_slice(), e.at);
        Value::read(e.kind, &mut r, 0).map(Some).map_err(|e| e.of(key))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(Value<'a>) -> Option<Result<T>>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key)? else { return Ok(None) };
        let converted = convert(value).unwrap_or_else(|| Err(mismatch(expected, value)));
        converted.map(Some).map_err(|e| e.of(key))
    }

    /// Text, or `None` where the key is absent. Errors name the key and the type that was found.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |v| if let Value::String(s) = v { Some(utf8(s)) } else { None })
    }

    /// A non-negative integer of any stored width.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a non-negative integer", |v| Some(Ok(u64::try_from(v.as_i128()?).ok()?)))
    }

    /// An integer of any stored width.
    pub fn i64(&self, key: &str) -> Result<Option<i64>> {
        self.typed(key, "an integer", |v| Some(Ok(i64::try_from(v.as_i128()?).ok()?)))
    }

    /// A float of either stored width (narrowed where it is wider).
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a float", |v| Some(Ok(v.as_f64()? as f32)))
    }

    /// A float of either stored width.
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a float", |v| Some(Ok(v.as_f64()?)))
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", |v| if let Value::Bool(b) = v { Some(Ok(b)) } else { None })
    }

    /// An array, its items not yet decoded.
    pub fn array(&self, key: &str) -> Result<Option<Array<'_>>> {
        self.typed(key, "an array", |v| if let Value::Array(a) = v { Some(Ok(a)) } else { None })
    }

    /// An array of texts.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.items(key, "an array of strings", |v| if let Value::String(s) = v { Some(utf8(s)) } else { None })
    }

    /// An array of strings that may not be UTF-8.
    pub fn byte_strings(&self, key: &str) -> Result<Option<Vec<&[u8]>>> {
        self.items(key, "an array of strings", |v| if let Value::String(s) = v { Some(Ok(s)) } else { None })
    }

    /// An array of non-negative integers; a single integer counts as an array of one.
    pub fn u64s(&self, key: &str) -> Result<Option<Vec<u64>>> {
        self.items(key, "an array of non-negative integers", |v| Some(Ok(u64::try_from(v.as_i128()?).ok()?)))
    }

    /// An array of integers; a single integer counts as an array of one.
    pub fn i64s(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.items(key, "an array of integers", |v| Some(Ok(i64::try_from(v.as_i128()?).ok()?)))
    }

    /// An array of floats; a single float counts as an array of one.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.items(key, "an array of floats", |v| Some(Ok(v.as_f64()? as f32)))
    }

    /// An array of bools; a single bool counts as an array of one.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.items(key, "an array of bools", |v| if let Value::Bool(b) = v { Some(Ok(b)) } else { None })
    }

    fn items<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(Value<'a>) -> Option<Result<T>>,
    ) -> Result<Option<Vec<T>>> {
        self.typed(key, expected, |v| {
            let Value::Array(array) = v else { return convert(v).map(|one| Ok(vec![one?])) };
            let item = |(i, v): (usize, Result<Value<'a>>)| {
                let v = v?;
                let converted = convert(v).unwrap_or_else(|| Err(mismatch(expected, v)));
                converted.map_err(|e| invalid(format!("item {i}: {e}")))
            };
            Some(array.iter().enumerate().map(item).collect())
        })
    }

    fn read_alignment(&self) -> Result<usize> {
        const KEY: &str = "general.alignment";
        let alignment = match self.value(KEY)? {
            None => ALIGNMENT_DEFAULT,
            Some(Value::U32(a)) => a,
            Some(v) => return Err(mismatch("a U32", v).of(KEY)),
        };
        if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
            let what = format!("expected a power of two up to {ALIGNMENT_MAX}, got {alignment}");
            return Err(invalid(what).of(KEY));
        }
        usize::try_from(alignment).map_err(|_| invalid("alignment is out of range").of(KEY))
    }
}

fn mismatch(expected: &str, found: Value<'_>) -> Error {
    let found = match found {
        Value::String(s) => format!("the string `{}`", quoted(&String::from_utf8_lossy(s))),
        v => format!("{v:?}"),
    };
    Error::new(ErrorKind::Invalid, format!("expected {expected}, got {found}"))
}
