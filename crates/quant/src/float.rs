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
        return sign | (a * 512.0).round_ties_even() as u8; // denormals: multiples of 2^-9
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
