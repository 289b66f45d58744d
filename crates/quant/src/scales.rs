//! The scales of block formats, read without decoding a block: where they lie and how they are stored.
//!
//! Owns one table over all block formats, for those who look at files and do not compute with them. What a scale is
//! multiplied with is the format's own file's.
use crate::{Format, float};

/// How a scale is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    F16,
    F32,
    /// MXFP4's exponent.
    Exponent,
    /// NVFP4's E4M3 without a sign.
    Ue4m3,
    /// IQ1_M: nibbles, lowest first, in the tops of four u16.
    Spread,
}

/// One number of a block that its weights are multiplied with, or that is added to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockScale {
    /// Its byte in the block.
    pub at: usize,
    stored: Stored,
}

const fn one(at: usize, stored: Stored) -> BlockScale {
    BlockScale { at, stored }
}

impl BlockScale {
    /// Its value in `block`, infinities and NaN as they are; 0 where the block is too short.
    pub fn read(&self, block: &[u8]) -> f32 {
        let Some(b) = block.get(self.at..) else { return 0.0 };
        match (self.stored, b) {
            (Stored::F16, [x, y, ..]) => float::f16_to_f32(u16::from_le_bytes([*x, *y])),
            (Stored::F32, [w, x, y, z, ..]) => f32::from_le_bytes([*w, *x, *y, *z]),
            (Stored::Exponent, [e, ..]) => 2.0 * crate::mxfp4::half_scale(*e),
            (Stored::Ue4m3, [s, ..]) => crate::nvfp4::scale(*s),
            (Stored::Spread, [_, a, _, b, _, c, _, d, ..]) => {
                let bits = [d, c, b, a].iter().fold(0u16, |bits, top| bits << 4 | u16::from(**top >> 4));
                float::f16_to_f32(bits)
            }
            _ => 0.0,
        }
    }
}

impl Format {
    /// The scales and minima that a block of this format stores as numbers of their own; none for plain elements.
    ///
    /// Sub-block scales of few bits are codes and not among them. Where all of these are zero, so is every weight of the
    /// block; where one is not finite, nearly every weight is not.
    pub fn scales(self) -> &'static [BlockScale] {
        use Stored::{Exponent, F16, F32, Spread, Ue4m3};
        const FIRST: &[BlockScale] = &[one(0, F16)];
        const FIRST_TWO: &[BlockScale] = &[one(0, F16), one(2, F16)];
        match self {
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::Q8_1 | Format::Q1_0 => FIRST,
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => FIRST_TWO,
            Format::Q2K => const { &[one(80, F16), one(82, F16)] },
            Format::Q3K => const { &[one(108, F16)] },
            Format::Q6K => const { &[one(208, F16)] },
            Format::Q8K => const { &[one(0, F32)] },
            Format::Iq2Xxs | Format::Iq2Xs | Format::Iq2S | Format::Iq3Xxs | Format::Iq3S | Format::Iq1S => FIRST,
            Format::Iq4Nl | Format::Iq4Xs => FIRST,
            Format::Iq1M => const { &[one(48, Spread)] },
            Format::Tq1_0 => const { &[one(52, F16)] },
            Format::Tq2_0 => const { &[one(64, F16)] },
            Format::Mxfp4 => const { &[one(0, Exponent)] },
            Format::Nvfp4 => const { &[one(0, Ue4m3), one(1, Ue4m3), one(2, Ue4m3), one(3, Ue4m3)] },
            Format::F64
            | Format::F32
            | Format::F16
            | Format::BF16
            | Format::F8E4M3
            | Format::F8E5M2
            | Format::F8E8M0
            | Format::Bool
            | Format::I8
            | Format::I16
            | Format::I32
            | Format::I64
            | Format::U8
            | Format::U16
            | Format::U32
            | Format::U64 => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FORMATS;

    /// Writes the bits of a scale where the table says that it lies.
    fn put(b: &mut [u8], s: &BlockScale, v: f32) {
        let half = float::f32_to_f16(v);
        match s.stored {
            Stored::F16 => b[s.at..s.at + 2].copy_from_slice(&half.to_le_bytes()),
            Stored::F32 => b[s.at..s.at + 4].copy_from_slice(&v.to_le_bytes()),
            Stored::Ue4m3 => b[s.at] = float::f32_to_e4m3(v),
            Stored::Spread => (0..4).for_each(|i| {
                let top = &mut b[s.at + 1 + 2 * i];
                *top = (*top & 15) | ((half >> (4 * i)) as u8 & 15) << 4;
            }),
            Stored::Exponent => {}
        }
    }

    #[test]
    fn scales_are_what_decoding_multiplies_with() {
        let mut seed = 7u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed ^ seed >> 29
        };
        for f in &FORMATS {
            let scales = f.format.scales();
            assert_eq!(scales.is_empty(), f.block == 1, "{}", f.name);
            let (mut block, mut w) = (vec![0u8; f.bytes], vec![0f32; f.block]);
            (f.random)(&mut next, 0.02, &mut block);
            if scales.is_empty() {
                continue;
            }
            let numeric = |b: &[u8]| scales.iter().all(|s| s.read(b).is_finite() && s.read(b) != 0.0);
            assert!(numeric(&block), "{}", f.name);
            if matches!(f.format, Format::Mxfp4) {
                // Powers of two: one more code doubles every weight and the scale.
                (f.decode)(&block, &mut w);
                let (before, first) = (scales[0].read(&block), w[0]);
                block[0] += 1;
                (f.decode)(&block, &mut w);
                assert_eq!((scales[0].read(&block), w[0]), (2.0 * before, 2.0 * first));
                continue;
            }
            if f.format != Format::Nvfp4 {
                for s in scales {
                    let mut broken = block.clone();
                    put(&mut broken, s, f32::INFINITY);
                    (f.decode)(&broken, &mut w);
                    assert!(s.read(&broken) == f32::INFINITY && w.iter().any(|w| !w.is_finite()), "{}", f.name);
                }
            }
            (f.decode)(&block, &mut w);
            assert!(w.iter().any(|w| *w != 0.0), "{}", f.name);
            scales.iter().for_each(|s| put(&mut block, s, 0.0));
            (f.decode)(&block, &mut w);
            assert!(w.iter().all(|w| *w == 0.0) && scales.iter().all(|s| s.read(&block) == 0.0), "{}", f.name);
        }
        assert_eq!(Format::Q4_0.scales()[0].read(&[0]), 0.0);
    }
}
