//! Small floats to f32 and back: f16, bf16, the 8-bit floats. Pure functions of bits; knows nothing of blocks.

/// IEEE half precision to f32, exact. Infinities and NaN stay what they are.
pub fn f16_to_f32(h: u16) -> f32 {
    // Shifted into place the exponent is 112 too small; the multiplication repairs it for denormals too.
    let magnitude = (f32::from_bits(u32::from(h & 0x7fff) << 13) * f32::from_bits(0x7780_0000)).to_bits();
    let special = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude | special | u32::from(h & 0x8000) << 16)
}

/// f32 to IEEE half precision, to nearest, ties to even; beyond the range infinity, NaN quiet.
pub fn f32_to_f16(v: f32) -> u16 {
    let bits = v.to_bits();
    let (sign, magnitude) = ((bits >> 16 & 0x8000) as u16, bits & 0x7fff_ffff);
    let half = match magnitude {
        0x7f80_0001.. => 0x7e00 | (magnitude >> 13 & 0x3ff),
        0x477f_f000.. => 0x7c00,
        // Below 2^-14: adding 0.5 leaves the denormal's digits, rounded by the hardware, in the lowest bits.
        ..0x3880_0000 => (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits(),
        _ => ((magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13) - (112 << 10),
    };
    sign | half as u16
}

/// bfloat16 to f32, exact.
pub fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

/// f32 to bfloat16, to nearest, ties to even; NaN quiet.
pub fn f32_to_bf16(v: f32) -> u16 {
    let bits = v.to_bits();
    if v.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// F8_E4M3 (OCP `fn` variant: no infinity, 0x7f and 0xff are NaN) to f32, exact.
pub const fn e4m3_to_f32(b: u8) -> f32 {
    let magnitude = f32::from_bits((b as u32 & 0x7f) << 20) * f32::from_bits(0x7b80_0000);
    let special = if b & 0x7f == 0x7f { 0x7fc0_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | (b as u32 & 0x80) << 24)
}

/// All values of F8_E4M3, by code.
pub static E4M3: [f32; 256] = {
    let (mut table, mut i) = ([0.0; 256], 0);
    while i < 256 {
        table[i] = e4m3_to_f32(i as u8);
        i += 1;
    }
    table
};

/// f32 to F8_E4M3, to nearest, ties to even; saturates at ±448.
pub fn f32_to_e4m3(v: f32) -> u8 {
    let sign = (v.to_bits() >> 24 & 0x80) as u8;
    if v.is_nan() {
        return sign | 0x7f;
    }
    let a = v.abs().min(448.0);
    if a < 0.015625 {
        return sign | (a * 512.0 + 8_388_608.0).to_bits() as u8; // denormals: multiples of 2^-9, rounded by the sum
    }
    let bits = a.to_bits();
    sign | (((bits + 0x7_ffff + (bits >> 20 & 1)) >> 20) - (120 << 3)) as u8
}

/// F8_E5M2 to f32, exact: the upper byte of an f16.
pub fn e5m2_to_f32(b: u8) -> f32 {
    f16_to_f32(u16::from(b) << 8)
}

/// F8_E8M0, a bare exponent: 2^(b - 127), NaN for 255.
pub fn e8m0_to_f32(b: u8) -> f32 {
    match b {
        0 => f32::from_bits(0x0040_0000),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(b) << 23),
    }
}

/// The eight magnitudes of E2M1 (bit 3 is the sign), doubled so that they are whole numbers.
pub const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

#[cfg(test)]
mod tests {
    use super::*;

    /// Sign, exponent and mantissa as the formats define them, in f64.
    fn value(code: u32, exponent_bits: u32, mantissa_bits: u32) -> f64 {
        let bias = (1i32 << (exponent_bits - 1)) - 1;
        let mantissa = f64::from(code & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
        let exponent = (code >> mantissa_bits & ((1 << exponent_bits) - 1)) as i32;
        let sign = if code >> (exponent_bits + mantissa_bits) & 1 == 1 { -1.0 } else { 1.0 };
        let (lead, exponent) = if exponent == 0 { (0.0, 1) } else { (1.0, exponent) };
        sign * (lead + mantissa) * 2f64.powi(exponent - bias)
    }

    #[test]
    fn every_half_has_its_value_and_comes_back() {
        for h in 0..=u16::MAX {
            let v = f16_to_f32(h);
            match h & 0x7fff {
                0x7c01.. => assert!(v.is_nan() && f16_to_f32(f32_to_f16(v)).is_nan(), "{h:#x}"),
                0x7c00 => assert!(v.is_infinite() && f32_to_f16(v) == h, "{h:#x}"),
                _ => {
                    assert_eq!(f64::from(v), value(u32::from(h), 5, 10), "{h:#x}");
                    assert_eq!(f32_to_f16(v), h);
                }
            }
        }
    }

    #[test]
    fn halves_round_to_nearest_even() {
        for h in 0..0x7bffu16 {
            let (low, high) = (f16_to_f32(h), f16_to_f32(h + 1));
            let middle = (low + high) / 2.0;
            let even = h + (h & 1);
            assert_eq!(f32_to_f16(middle), even, "{h:#x}");
            assert_eq!(f32_to_f16(-middle), even | 0x8000);
            assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() - 1)), h);
            assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() + 1)), h + 1);
        }
        assert_eq!(f32_to_f16(65519.996), 0x7bff);
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(f32_to_f16(1e-30), 0);
    }

    #[test]
    fn brain_floats_round_to_nearest_even() {
        let cases = [(0x3f80_8000u32, 0x3f80u16), (0x3f81_8000, 0x3f82), (0x3f80_8001, 0x3f81), (0x7f7f_ffff, 0x7f80)];
        for (bits, want) in cases {
            assert_eq!(f32_to_bf16(f32::from_bits(bits)), want, "{bits:#x}");
        }
        assert!(bf16_to_f32(f32_to_bf16(f32::from_bits(0x7f80_0001))).is_nan());
    }

    #[test]
    fn every_small_float_has_its_value() {
        for b in 0..=255u8 {
            let v = e4m3_to_f32(b);
            if b & 0x7f == 0x7f {
                assert!(v.is_nan());
            } else {
                assert_eq!(f64::from(v), value(u32::from(b), 4, 3), "{b:#x}");
                assert_eq!(f32_to_e4m3(v), b);
            }
            let v = e5m2_to_f32(b);
            match b & 0x7f {
                0x7d.. => assert!(v.is_nan()),
                0x7c => assert!(v.is_infinite()),
                _ => assert_eq!(f64::from(v), value(u32::from(b), 5, 2), "{b:#x}"),
            }
            let v = e8m0_to_f32(b);
            assert!(if b == 255 { v.is_nan() } else { f64::from(v) == 2f64.powi(i32::from(b) - 127) });
        }
    }

    #[test]
    fn e4m3_rounds_to_nearest_even_and_saturates() {
        for b in 0..0x7eu8 {
            let middle = (E4M3[usize::from(b)] + E4M3[usize::from(b) + 1]) / 2.0;
            assert_eq!(f32_to_e4m3(middle), b + (b & 1), "{b:#x}");
        }
        assert_eq!(f32_to_e4m3(1e9), 0x7e);
        assert_eq!(f32_to_e4m3(f32::NEG_INFINITY), 0xfe);
        assert_eq!(f32_to_e4m3(f32::NAN), 0x7f);
    }
}
