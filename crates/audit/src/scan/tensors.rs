//! Values of tensors that no model should have: not finite, or nothing but zeros.
//!
//! Owns the statistics of plain formats, one pass over the bytes at the speed of memory. Block formats are not read.
use crate::findings::{ALL_ZERO, Findings, NON_FINITE, New, Severity};
use pondera_quant::Format;
use pondera_weights::Weights;
use std::path::Path;

/// What a pass over a tensor's bytes says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    elements: usize,
    non_finite: usize,
    /// Whether any element is not zero.
    any: bool,
}

/// Looks at the tensors that lie in the file `path`; findings call it `file`.
pub(crate) fn look(w: &Weights, path: &Path, file: &str, findings: &mut Findings) {
    for t in w.tensors().iter().filter(|t| t.strides.is_none() && w.path_of(t) == path) {
        let Ok(view) = w.view(t) else { continue };
        let Some(sums) = sums(t.format, view.bytes.as_slice()) else { continue };
        let mut add = |rule, severity, what: String| {
            findings.add(New { rule, severity, file, what, offset: Some(t.range.start), name: Some(&t.name) });
        };
        if sums.non_finite > 0 {
            let what = format!("{} of {} values are not finite", sums.non_finite, sums.elements);
            add(NON_FINITE, Severity::Medium, what);
        }
        // Biases begin at zero, and many stay there.
        if !sums.any && sums.elements > 1 && !t.name.ends_with("bias") {
            add(ALL_ZERO, Severity::Low, format!("all {} values are zero", sums.elements));
        }
    }
}

/// The sums of a plain format; `None` for others.
fn sums(format: Format, bytes: &[u8]) -> Option<Sums> {
    Some(match format {
        Format::F32 => pass::<4>(bytes, |b| u32::from_le_bytes(b).into(), 0x7f80_0000, 0x7fff_ffff),
        Format::F16 => pass::<2>(bytes, |b| u16::from_le_bytes(b).into(), 0x7c00, 0x7fff),
        Format::BF16 => pass::<2>(bytes, |b| u16::from_le_bytes(b).into(), 0x7f80, 0x7fff),
        Format::F64 => pass::<8>(bytes, u64::from_le_bytes, 0x7ff0_0000_0000_0000, 0x7fff_ffff_ffff_ffff),
        _ => return None,
    })
}

/// Counts elements whose exponent is all ones, and ors all that is not the sign.
fn pass<const N: usize>(bytes: &[u8], bits: impl Fn([u8; N]) -> u64, exponent: u64, magnitude: u64) -> Sums {
    let (elements, _) = bytes.as_chunks::<N>();
    let (mut non_finite, mut any) = (0usize, 0u64);
    for e in elements {
        let b = bits(*e);
        non_finite += usize::from(b & exponent == exponent);
        any |= b & magnitude;
    }
    Sums { elements: elements.len(), non_finite, any: any != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_none_are_counted() {
        let f32s = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let s = |v: &[f32]| sums(Format::F32, &f32s(v)).unwrap();
        assert_eq!(s(&[1.0, f32::NAN, f32::INFINITY, -f32::INFINITY]), Sums { elements: 4, non_finite: 3, any: true });
        assert_eq!(s(&[0.0, -0.0]), Sums { elements: 2, non_finite: 0, any: false });
        assert_eq!(s(&[f32::MAX, f32::MIN_POSITIVE]).non_finite, 0);
        let bf16 = [0x80, 0x7f, 0x80, 0x3f];
        assert_eq!(sums(Format::BF16, &bf16), Some(Sums { elements: 2, non_finite: 1, any: true }));
        let f16 = [0x00, 0x7c, 0x00, 0x80];
        assert_eq!(sums(Format::F16, &f16), Some(Sums { elements: 2, non_finite: 1, any: true }));
        assert_eq!(sums(Format::Q8_0, &[0; 34]), None);
    }
}
