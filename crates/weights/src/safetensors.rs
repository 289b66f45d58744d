//! The safetensors container: eight bytes of header length, a JSON header, the tensors without gaps.
//!
//! Verdicts are those of the reference reader, and stricter where it is silent: a name that stands twice is an
//! error here. <https://github.com/huggingface/safetensors#format>
use crate::{
    Error, TensorInfo, TensorSpec,
    bounded::{Reader, checked_size, shown},
    error::{Result, invalid, quoted, unsupported},
    tensor::{METADATA_MAX, TENSORS_MAX},
};
use pondera_quant::Format;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{
    collections::HashSet,
    fmt,
    io::{self, Write},
    ops::Range,
};

/// Longest header, as in the reference reader.
pub const HEADER_MAX: u64 = 100_000_000;
/// Most dimensions, as in PyTorch.
const RANK_MAX: usize = 64;
/// Dtypes that the format defines and no engine format holds.
const KNOWN_UNSUPPORTED: [&str; 7] = ["F4", "F6_E2M3", "F6_E3M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64", "C128"];

/// What a safetensors header says.
#[derive(Debug, Default)]
pub struct Header {
    /// `__metadata__`, in the order of the file.
    pub metadata: Vec<(String, String)>,
    /// The tensors in the order of their data; ranges are positions in the file.
    pub tensors: Vec<TensorInfo>,
}

/// Whether `bytes` begin like a safetensors file.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes);
    matches!((r.u64(), r.u8()), (Ok(n), Ok(b'{')) if n <= HEADER_MAX)
}

/// Bytes of length and header, from the first bytes of a file of `file_len` bytes; none where `prefix` is too short to
/// say. Errors where the file cannot hold such a header.
pub fn header_end(prefix: &[u8], file_len: u64) -> Result<Option<u64>> {
    let Some(head) = prefix.first_chunk::<8>() else {
        return match file_len {
            0..8 => Err(invalid(format!("expected 8 bytes of header length, got {file_len} bytes"))),
            _ => Ok(None),
        };
    };
    let n = u64::from_le_bytes(*head);
    if n > HEADER_MAX {
        return Err(invalid(format!("header length: expected at most {HEADER_MAX}, got {n}")));
    }
    if n > file_len.saturating_sub(8) {
        let left = file_len.saturating_sub(8);
        return Err(invalid(format!("header length {n}, but {left} bytes follow: cut off")));
    }
    // Told before a long header is asked for.
    if prefix.get(8).is_some_and(|b| *b != b'{') {
        return Err(invalid("the header does not begin with `{`"));
    }
    Ok(Some(n + 8))
}

/// Reads the header of a whole file's bytes and proves every tensor's extent.
pub fn parse(file: &[u8]) -> Result<Header> {
    let mut r = Reader::new(file);
    let n = r.u64().map_err(|_| invalid(format!("expected 8 bytes of header length, got {} bytes", file.len())))?;
    if n > HEADER_MAX {
        return Err(invalid(format!("header length: expected at most {HEADER_MAX}, got {n}")));
    }
    let left = r.left();
    let header = r.take(n).map_err(|_| invalid(format!("header length {n}, but {left} bytes follow: cut off")))?;
    if header.first() != Some(&b'{') {
        return Err(invalid("the header does not begin with `{`"));
    }
    let mut raw: Raw = serde_json::from_slice(header).map_err(|e| invalid(format!("header: {e}")))?;
    if let Some(e) = raw.refused.take() {
        return Err(e);
    }
    place(raw, r.at(), file.len())
}

/// Turns declared offsets into ranges of the file: in order, without gaps, to the last byte.
fn place(raw: Raw, data: usize, file_len: usize) -> Result<Header> {
    let mut tensors = raw.tensors;
    tensors.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));
    let mut end = 0;
    for t in &mut tensors {
        let Range { start, end: stop } = t.range;
        let size = checked_size(t.format, &t.shape).map_err(|e| e.of(&t.name))?;
        if start != end {
            let fault = if start < end { "overlaps the tensor before it" } else { "leaves a hole before it" };
            return Err(invalid(format!("{fault}: expected data_offsets from {end}, got {start}")).of(&t.name));
        }
        if stop.checked_sub(start) != Some(size) {
            let name = t.format.info().name;
            let what = format!("{name} {} takes {size} bytes, got data_offsets [{start}, {stop}]", shown(&t.shape));
            return Err(invalid(what).of(&t.name));
        }
        end = stop;
        let in_file = |at: usize| data.checked_add(at).filter(|&at| at <= file_len);
        let (Some(from), Some(to)) = (in_file(start), in_file(stop)) else {
            let what = format!("expected {} bytes of data, got {}: the file is cut off", stop, file_len - data);
            return Err(invalid(what).of(&t.name));
        };
        t.range = from..to;
    }
    if data + end != file_len {
        return Err(invalid(format!("expected {end} bytes of data, got {}", file_len - data)));
    }
    let mut names: Vec<&str> = tensors.iter().map(|t| &*t.name).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(invalid("the header names this tensor twice").of(twice[0]));
    }
    Ok(Header { metadata: raw.metadata, tensors })
}

/// The header as JSON gives it; `range` still holds `data_offsets`.
#[derive(Default)]
struct Raw {
    metadata: Vec<(String, String)>,
    tensors: Vec<TensorInfo>,
    /// The first dtype that cannot be read; kept beside serde's errors, which know no kinds.
    refused: Option<Error>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Raw, D::Error> {
        d.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Raw, A::Error> {
        let (mut raw, mut metadata) = (Raw::default(), None);
        while let Some(name) = map.next_key::<Box<str>>()? {
            if &*name == "__metadata__" {
                let m = map.next_value::<Option<Metadata>>()?.unwrap_or_default();
                if metadata.replace(m).is_some() {
                    return Err(A::Error::custom("__metadata__ stands twice"));
                }
                continue;
            }
            if raw.tensors.len() == TENSORS_MAX {
                return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
            }
            let e: Entry = map.next_value().map_err(|e| A::Error::custom(format!("{}: {e}", quoted(&name))))?;
            let format = match format_of(&e.dtype) {
                Ok(format) => format,
                Err(e) => {
                    raw.refused.get_or_insert(e.of(&name));
                    continue;
                }
            };
            raw.tensors.push(TensorInfo {
                name,
                format,
                shape: e.shape,
                file: 0,
                range: e.data_offsets.0..e.data_offsets.1,
                strides: None,
            });
        }
        raw.metadata = metadata.unwrap_or_default().0;
        Ok(raw)
    }
}

fn format_of(dtype: &str) -> Result<Format> {
    Format::from_safetensors(dtype).ok_or_else(|| match KNOWN_UNSUPPORTED.contains(&dtype) {
        true => unsupported(format!("dtype {dtype} is not supported")),
        false => invalid(format!("unknown dtype `{}`", quoted(dtype))),
    })
}

/// One tensor of the header; further fields are ignored, as by the reference reader.
struct Entry {
    dtype: String,
    shape: Box<[usize]>,
    data_offsets: (usize, usize),
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Entry, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            dtype: String,
            shape: Shape,
            data_offsets: (usize, usize),
        }
        let f = Fields::deserialize(d)?;
        Ok(Entry { dtype: f.dtype, shape: f.shape.0, data_offsets: f.data_offsets })
    }
}

struct Shape(Box<[usize]>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Shape, D::Error> {
        struct Dims;
        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Shape, A::Error> {
                let mut dims = Vec::new();
                while let Some(d) = seq.next_element()? {
                    if dims.len() == RANK_MAX {
                        return Err(A::Error::custom(format!("more than {RANK_MAX} dimensions")));
                    }
                    dims.push(d);
                }
                Ok(Shape(dims.into()))
            }
        }
        d.deserialize_seq(Dims)
    }
}

/// `__metadata__`: strings to strings.
#[derive(Default)]
struct Metadata(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Metadata, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Metadata, A::Error> {
                let (mut entries, mut seen) = (Vec::new(), HashSet::new());
                while let Some(key) = map.next_key::<String>()? {
                    if entries.len() == METADATA_MAX {
                        return Err(A::Error::custom(format!("more than {METADATA_MAX} metadata entries")));
                    }
                    if !seen.insert(key.clone()) {
                        map.next_value::<IgnoredAny>()?;
                        return Err(A::Error::custom(format!("metadata key `{}` stands twice", quoted(&key))));
                    }
                    entries.push((key, map.next_value()?));
                }
                Ok(Metadata(entries))
            }
        }
        d.deserialize_map(Strings)
    }
}

/// Writes a safetensors file front to back: all names first, then each tensor's bytes in the same order.
pub struct Writer<W: Write> {
    out: W,
    body: Body,
}

impl<W: Write> Writer<W> {
    /// Writes the header. Data then follows in the order of `tensors`.
    pub fn new(mut out: W, metadata: &[(&str, &str)], tensors: &[TensorSpec]) -> Result<Writer<W>> {
        let header = header_json(metadata, tensors)?;
        let written = |e: io::Error| Error::new(crate::ErrorKind::Io, e.to_string());
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(written)?;
        out.write_all(header.as_bytes()).map_err(written)?;
        Ok(Writer { out, body: Body::new(tensors)? })
    }

    /// Writes the next bytes: a tensor, a piece of one, or several.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.body.take(bytes.len())?;
        self.out.write_all(bytes).map_err(|e| Error::new(crate::ErrorKind::Io, e.to_string()))
    }

    /// Checks that every tensor is complete, flushes, and gives the output back.
    pub fn finish(mut self) -> Result<W> {
        self.body.finish()?;
        self.out.flush().map_err(|e| Error::new(crate::ErrorKind::Io, e.to_string()))?;
        Ok(self.out)
    }
}

fn header_json(metadata: &[(&str, &str)], tensors: &[TensorSpec]) -> Result<String> {
    let text = |s: &str| serde_json::to_string(s).map_err(|e| invalid(e.to_string()));
    let mut json = String::from("{");
    if !metadata.is_empty() {
        let pairs: Result<Vec<String>> =
            metadata.iter().map(|(k, v)| Ok(format!("{}:{}", text(k)?, text(v)?))).collect();
        json += &format!("\"__metadata__\":{{{}}}", pairs?.join(","));
    }
    let mut at = 0usize;
    let mut seen = HashSet::new();
    for t in tensors {
        let end = at.checked_add(t.bytes()?).ok_or_else(|| invalid("total size overflows").of(&t.name))?;
        if !seen.insert(&t.name) || t.name == "__metadata__" {
            return Err(invalid("a file cannot hold this name twice").of(&t.name));
        }
        let dtype = t.format.info().safetensors.ok_or_else(|| {
            unsupported(format!("safetensors has no dtype for {}", t.format.info().name))
                .of(&t.name)
                .hint("convert it to a plain type first")
        })?;
        let comma = if json.len() > 1 { "," } else { "" };
        let (name, shape) = (text(&t.name)?, &t.shape);
        json += &format!("{comma}{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}}");
        at = end;
    }
    json.push('}');
    while json.len() % 8 != 0 {
        json.push(' ');
    }
    Ok(json)
}

/// Keeps a writer's bytes equal to what its header says.
#[derive(Debug)]
pub(crate) struct Body {
    left: u64,
}

impl Body {
    fn new(tensors: &[TensorSpec]) -> Result<Body> {
        let mut left = 0u64;
        for t in tensors {
            left = left.checked_add(t.bytes()? as u64).ok_or_else(|| invalid("total size overflows"))?;
        }
        Ok(Body { left })
    }

    fn take(&mut self, n: usize) -> Result<()> {
        let left = self.left.checked_sub(n as u64);
        self.left = left.ok_or_else(|| invalid(format!("{n} bytes written where {} were declared", self.left)))?;
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        if self.left == 0 { Ok(()) } else { Err(invalid(format!("{} declared bytes were not written", self.left))) }
    }
}

#[cfg(test)]
mod tests {
    use super::header_end;

    #[test]
    fn the_end_of_a_header_is_in_its_first_bytes_or_refused() {
        for (prefix, len, want) in [
            (&[2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}'][..], 10, Some(Some(10))),
            (&[2, 0, 0, 0, 0, 0, 0, 0], 1 << 40, Some(Some(10))),
            (&[2, 0, 0], 10, Some(None)),
            (&[2, 0, 0], 3, None),
            (&[3, 0, 0, 0, 0, 0, 0, 0], 10, None),
            (&[0, 0, 0, 0, 0, 0, 0, 0x80], u64::MAX, None),
            (&[2, 0, 0, 0, 0, 0, 0, 0, 0], 1 << 40, None),
        ] {
            assert_eq!(header_end(prefix, len).ok(), want, "{prefix:?} of {len}");
        }
    }
}
