//! The one bounded reader and the one checked-size function: no length from a file is used before it is proven.
use crate::error::{Result, invalid};
use pondera_quant::Format;

/// A cursor over bytes from a file. Every read is checked against what is left.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

macro_rules! numbers {
    ($($name:ident $t:ty),*) => { $(
        #[doc = concat!("The next little-endian `", stringify!($t), "`.")]
        pub fn $name(&mut self) -> Result<$t> {
            self.array().map(<$t>::from_le_bytes)
        }
    )* };
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Reads from `at` on; past the end nothing is left.
    pub fn starting(bytes: &'a [u8], at: usize) -> Reader<'a> {
        Reader { bytes, at: at.min(bytes.len()) }
    }

    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: u64) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let taken = usize::try_from(n).ok().and_then(|n| rest.get(..n)).ok_or_else(|| self.short(n))?;
        self.at += taken.len();
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let taken = *rest.first_chunk::<N>().ok_or_else(|| self.short(N as u64))?;
        self.at += N;
        Ok(taken)
    }

    /// The bytes up to the next newline, which is consumed and not returned.
    pub fn line(&mut self) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        let n = rest.iter().position(|&b| b == b'\n').ok_or_else(|| invalid("a line without an end"))?;
        self.at += n + 1;
        Ok(&rest[..n])
    }

    numbers!(u8 u8, u16 u16, u32 u32, u64 u64, i32 i32, i64 i64);

    fn short(&self, n: u64) -> crate::Error {
        invalid(format!("expected {n} more bytes at byte {}, got {}: the file is cut off", self.at, self.left()))
    }
}

/// Stored bytes of a tensor: the only place where dimensions are multiplied.
///
/// `shape` is outermost first. Errors where the product overflows or the rows are no whole number of blocks.
pub fn checked_size(format: Format, shape: &[usize]) -> Result<usize> {
    let overflow = || invalid(format!("shape {} overflows", shown(shape)));
    let (&inner, outer) = shape.split_last().unwrap_or((&1, &[]));
    let rows = outer.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(overflow)?;
    rows.checked_mul(inner).ok_or_else(overflow)?;
    let info = format.info();
    if inner % info.block != 0 {
        return Err(invalid(format!(
            "expected rows of whole {} blocks of {}, got shape {}",
            info.name,
            info.block,
            shown(shape)
        )));
    }
    let row = format.row_bytes(inner).ok_or_else(overflow)?;
    row.checked_mul(rows).ok_or_else(overflow)
}

/// A shape as messages show it, cut where it is long.
pub(crate) fn shown(shape: &[usize]) -> String {
    match shape.get(..8) {
        Some(head) if shape.len() > 8 => format!("{head:?} and {} more", shape.len() - 8),
        _ => format!("{shape:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_or_refused() {
        let big = 1usize << 40;
        let cases: &[(Format, &[usize], Option<usize>)] = &[
            (Format::F32, &[], Some(4)),
            (Format::F32, &[0], Some(0)),
            (Format::F32, &[2, 3], Some(24)),
            (Format::Q4_0, &[5, 64], Some(5 * 2 * 18)),
            (Format::Q4_0, &[33], None),
            (Format::Q4_0, &[], None),
            (Format::F32, &[big, big], None),
            (Format::F32, &[big, 1 << 23], None),
            (Format::U8, &[big, big, 0], None),
        ];
        for (format, shape, want) in cases {
            assert_eq!(checked_size(*format, shape).ok(), *want, "{format:?} {shape:?}");
        }
    }

    #[test]
    fn reads_stop_at_the_end() {
        let mut r = Reader::new(&[1, 0, 0, 0, 7]);
        assert_eq!(r.u32().unwrap(), 1);
        assert!(r.u16().is_err());
        assert!(r.take(u64::MAX).is_err());
        assert_eq!(r.take(1).unwrap(), [7]);
        assert_eq!(r.left(), 0);
        assert!(Reader::starting(&[1], 9).u8().is_err());
        assert!(Reader::new(b"no end").line().is_err());
    }
}
