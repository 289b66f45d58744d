//! Pickles as pure data: their opcodes, a machine with a closed set of constructors, a scan for imports.
//!
//! Nothing in a pickle is ever imported or called. [`ops`] walks the opcodes of all protocols (0 to 5);
//! [`scan`] lists what a pickle would import; [`load`] builds the tensors of a PyTorch checkpoint and refuses
//! everything that is not on the list of [`is_known`].
use crate::{
    bounded::Reader,
    error::{Result, invalid},
};
use std::borrow::Cow;

mod machine;
mod scan;

pub use machine::{Dtype, Loaded, StorageRecord, TensorRecord, ViewRecord, is_known, load};
pub use scan::{Import, Scan, scan};

/// An opcode and its argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Op<'a> {
    /// Pushes a mark.
    Mark,
    /// The end.
    Stop,
    /// Drops the top.
    Pop,
    /// Drops everything down to the mark.
    PopMark,
    /// Pushes the top again.
    Dup,
    /// Pushes `None`.
    None,
    /// Pushes a bool.
    Bool(bool),
    /// Pushes an integer that fits 64 bits.
    Int(i64),
    /// Pushes a longer integer.
    BigInt,
    /// Pushes a float.
    Float(f64),
    /// Pushes text, escapes resolved.
    Text(Cow<'a, str>),
    /// Pushes bytes.
    Bytes(&'a [u8]),
    /// Pushes an empty container.
    Empty(Container),
    /// Makes a container of everything down to the mark.
    Collect(Container),
    /// Makes a tuple of the top one, two or three.
    TupleOf(usize),
    /// Appends the top to the list below.
    Append,
    /// Appends everything down to the mark to the list (or set) below it.
    Extend,
    /// Puts the top two into the dict below.
    SetItem,
    /// Puts pairs down to the mark into the dict below it.
    SetItems,
    /// Copies the top into the memo.
    Put(u64),
    /// Copies the top into the memo, at the next free place.
    Memoize,
    /// Pushes what the memo holds.
    Get(u64),
    /// Pushes `module.name`.
    Global(Cow<'a, str>, Cow<'a, str>),
    /// Pushes what the top two name.
    StackGlobal,
    /// Calls what is below the arguments' tuple.
    Reduce,
    /// Makes an object of a class and arguments (and keywords).
    NewObject {
        /// Whether keywords lie on top.
        keywords: bool,
    },
    /// Calls `module.name` with everything down to the mark.
    Instance(Cow<'a, str>, Cow<'a, str>),
    /// Calls the object above the mark with everything above it.
    Object,
    /// Gives the object below the state on top.
    Build,
    /// Pushes an object from the extension registry.
    Extension(i64),
    /// Pushes an object that lives outside, by this name.
    PersistentText(Cow<'a, str>),
    /// Pushes an object that lives outside, named by the top.
    Persistent,
    /// Pushes an out-of-band buffer.
    Buffer,
    /// Protocol number, frame length, read-only mark: no effect on data.
    Nothing,
}

/// The containers that opcodes make.
#[allow(missing_docs)] // the names are Python's own
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Tuple,
    List,
    Dict,
    Set,
}

/// The opcodes of the pickle at the start of `data`, up to and including `Stop`, each with its position.
///
/// After an error the iterator ends. [`Ops::at`] then says how many bytes belong to the pickle.
pub fn ops(data: &[u8]) -> Ops<'_> {
    Ops { r: Reader::new(data), done: false }
}

/// See [`ops`].
pub struct Ops<'a> {
    r: Reader<'a>,
    done: bool,
}

impl Ops<'_> {
    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.r.at()
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<(usize, Op<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let at = self.r.at();
        let op = op(&mut self.r).map(|op| (at, op));
        self.done = !matches!(&op, Ok((_, op)) if *op != Op::Stop);
        Some(op)
    }
}

fn op<'a>(r: &mut Reader<'a>) -> Result<Op<'a>> {
    let at = r.at();
    Ok(match r.u8()? {
        b'(' => Op::Mark,
        b'.' => Op::Stop,
        b'0' => Op::Pop,
        b'1' => Op::PopMark,
        b'2' => Op::Dup,
        b'N' => Op::None,
        0x88 => Op::Bool(true),
        0x89 => Op::Bool(false),
        b'I' => match r.line()? {
            b"00" => Op::Bool(false),
            b"01" => Op::Bool(true),
            digits => decimal(digits)?,
        },
        b'L' => decimal(r.line()?)?,
        b'J' => Op::Int(r.i32()?.into()),
        b'K' => Op::Int(r.u8()?.into()),
        b'M' => Op::Int(r.u16()?.into()),
        0x8a => {
            let n = r.u8()?;
            long(r.take(n.into())?)
        }
        0x8b => {
            let n = u64::try_from(r.i32()?).map_err(|_| invalid("an integer of negative length"))?;
            long(r.take(n)?)
        }
        b'F' => Op::Float(ascii(r.line()?).trim().parse().map_err(|_| invalid("a float that is none"))?),
        b'G' => Op::Float(f64::from_be_bytes(r.array()?)),
        b'S' => Op::Text(quoted_string(r.line()?)?),
        b'V' => Op::Text(unescape(r.line()?, false)),
        b'T' => {
            let n = u64::try_from(r.i32()?).map_err(|_| invalid("a string of negative length"))?;
            Op::Text(ascii(r.take(n)?))
        }
        b'U' | 0x8c => {
            let n = r.u8()?;
            Op::Text(ascii(r.take(n.into())?))
        }
        b'X' => {
            let n = r.u32()?;
            Op::Text(ascii(r.take(n.into())?))
        }
        0x8d => {
            let n = r.u64()?;
            Op::Text(ascii(r.take(n)?))
        }
        b'C' => {
            let n = r.u8()?;
            Op::Bytes(r.take(n.into())?)
        }
        b'B' => {
            let n = r.u32()?;
            Op::Bytes(r.take(n.into())?)
        }
        0x8e | 0x96 => {
            let n = r.u64()?;
            Op::Bytes(r.take(n)?)
        }
        b')' => Op::Empty(Container::Tuple),
        b']' => Op::Empty(Container::List),
        b'}' => Op::Empty(Container::Dict),
        0x8f => Op::Empty(Container::Set),
        b't' => Op::Collect(Container::Tuple),
        b'l' => Op::Collect(Container::List),
        b'd' => Op::Collect(Container::Dict),
        0x91 => Op::Collect(Container::Set),
        n @ 0x85..=0x87 => Op::TupleOf(usize::from(n - 0x84)),
        b'a' => Op::Append,
        b'e' | 0x90 => Op::Extend,
        b's' => Op::SetItem,
        b'u' => Op::SetItems,
        b'p' => Op::Put(index(r.line()?)?),
        b'q' => Op::Put(r.u8()?.into()),
        b'r' => Op::Put(r.u32()?.into()),
        0x94 => Op::Memoize,
        b'g' => Op::Get(index(r.line()?)?),
        b'h' => Op::Get(r.u8()?.into()),
        b'j' => Op::Get(r.u32()?.into()),
        b'c' => Op::Global(ascii(r.line()?), ascii(r.line()?)),
        0x93 => Op::StackGlobal,
        b'R' => Op::Reduce,
        0x81 => Op::NewObject { keywords: false },
        0x92 => Op::NewObject { keywords: true },
        b'i' => Op::Instance(ascii(r.line()?), ascii(r.line()?)),
        b'o' => Op::Object,
        b'b' => Op::Build,
        0x82 => Op::Extension(r.u8()?.into()),
        0x83 => Op::Extension(r.u16()?.into()),
        0x84 => Op::Extension(r.i32()?.into()),
        b'P' => Op::PersistentText(ascii(r.line()?)),
        b'Q' => Op::Persistent,
        0x97 => Op::Buffer,
        0x98 => Op::Nothing,
        0x80 => match r.u8()? {
            0..=5 => Op::Nothing,
            p => return Err(invalid(format!("pickle protocol {p}"))),
        },
        // A frame is how the writer buffered; its length proves nothing and is not needed.
        0x95 => {
            r.u64()?;
            Op::Nothing
        }
        b => return Err(invalid(format!("unknown pickle opcode 0x{b:02x} at byte {at}"))),
    })
}

fn ascii(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Decimal digits as protocol 0 writes them, with the `L` of Python 2's long integers.
fn decimal(line: &[u8]) -> Result<Op<'static>> {
    let text = ascii(line);
    let text = text.trim();
    let text = text.strip_suffix('L').unwrap_or(text);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    match text.parse() {
        Ok(n) => Ok(Op::Int(n)),
        Err(_) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(Op::BigInt),
        Err(_) => Err(invalid("an integer that is none")),
    }
}

fn index(line: &[u8]) -> Result<u64> {
    ascii(line).trim().parse().map_err(|_| invalid("a memo index that is no number"))
}

/// A little-endian two's complement integer of any length.
fn long(bytes: &[u8]) -> Op<'static> {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    match wide.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Op::Int(i64::from_le_bytes(wide))
        }
        None => Op::BigInt,
    }
}

/// The argument of `STRING`: in quotes, with Python's escapes.
fn quoted_string(line: &[u8]) -> Result<Cow<'_, str>> {
    match line.trim_ascii() {
        [open @ (b'\'' | b'"'), text @ .., close] if open == close => Ok(unescape(text, true)),
        _ => Err(invalid("a string without quotes")),
    }
}

/// Resolves `\uXXXX` and `\UXXXXXXXX`, and with `all` the other escapes of Python's string literals. Other bytes are
/// Latin-1. Escapes must not hide a name from a scan, so nothing that Python resolves is left.
fn unescape(text: &[u8], all: bool) -> Cow<'_, str> {
    if !text.contains(&b'\\') && text.is_ascii() {
        return ascii(text);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((&b, after)) = rest.split_first() {
        let escape = (b == b'\\').then(|| after.split_first()).flatten();
        let number = |digits: &[u8], radix: u32| {
            let n = u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()?;
            Some(char::from_u32(n).unwrap_or(char::REPLACEMENT_CHARACTER))
        };
        let hex = |n: usize| after.get(1..=n).and_then(|d| number(d, 16)).map(|c| (c, n + 1));
        let resolved = match escape.map(|e| *e.0) {
            Some(b'u') if !all => hex(4),
            Some(b'U') if !all => hex(8),
            Some(b'x') if all => hex(2),
            Some(b'0'..=b'7') if all => {
                let n = after.iter().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
                after.get(..n).and_then(|d| number(d, 8)).map(|c| (c, n))
            }
            Some(c) if all => {
                let plain = match c {
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    b'a' => '\x07',
                    b'b' => '\x08',
                    b'f' => '\x0c',
                    b'v' => '\x0b',
                    c => char::from(c),
                };
                Some((plain, 1))
            }
            _ => None,
        };
        let (c, n) = resolved.unwrap_or((char::from(b), 0));
        out.push(c);
        rest = after.get(n..).unwrap_or(&[]);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_hide_nothing() {
        assert_eq!(unescape(br"\u006fs", false), "os");
        assert_eq!(unescape(br"\x6f\163", true), "os");
        assert_eq!(unescape(br"a\\n\'", true), r"a\n'");
        assert_eq!(unescape(br"\u00", false), r"\u00");
        assert_eq!(unescape(&[0xe9], false), "é");
    }

    #[test]
    fn integers_of_every_spelling() {
        let cases: &[(&[u8], Op)] = &[
            (b"I-7\n", Op::Int(-7)),
            (b"I01\n", Op::Bool(true)),
            (b"L12L\n", Op::Int(12)),
            (b"L123456789012345678901234567890L\n", Op::BigInt),
            (b"J\xff\xff\xff\xff", Op::Int(-1)),
            (b"\x8a\x02\xe9\x03", Op::Int(1001)),
            (b"\x8a\x01\xff", Op::Int(-1)),
            (b"\x8a\x00", Op::Int(0)),
            (b"\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01", Op::BigInt),
        ];
        for (bytes, want) in cases {
            assert_eq!(ops(bytes).next().unwrap().unwrap().1, *want, "{bytes:?}");
        }
        for bad in [&b"Ix\n"[..], b"I\n", b"J\0", b"\x8a\x09\0", b"\x8b\xff\xff\xff\xff", b"\xff", b"", b"I1"] {
            assert!(ops(bad).next().unwrap().is_err(), "{bad:?}");
        }
    }
}
