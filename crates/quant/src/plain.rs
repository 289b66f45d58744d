//! Plain elements: one number each, no blocks. f32 is what every value decodes to, so f64 and the wide integers
//! round to nearest even.
use crate::{
    Activation, Format, FormatInfo, Random,
    block::{bell, decode as each, encode as encode_each},
    float,
};

const fn row(
    (format, name): (Format, &'static str),
    gguf_id: Option<u32>,
    safetensors: Option<&'static str>,
    bytes: usize,
    decode: fn(&[u8], &mut [f32]),
    random: Random,
) -> FormatInfo {
    FormatInfo {
        format,
        name,
        gguf_id,
        safetensors,
        block: 1,
        bytes,
        activation: Activation::F32,
        decode,
        dot: None,
        encode: None,
        random,
    }
}

macro_rules! numbers {
    ($($info:ident $format:ident $name:literal $gguf:expr, $safetensors:expr, $type:ty, $value:expr, $random:expr;)*) => {$(
        pub(crate) const $info: FormatInfo = {
            fn decode(src: &[u8], dst: &mut [f32]) {
                each(src, dst, |b, [w]: &mut [f32; 1]| *w = $value(<$type>::from_le_bytes(*b)));
            }
            row((Format::$format, $name), $gguf, $safetensors, size_of::<$type>(), decode, $random)
        };
    )*};
}

numbers! {
    F64 F64 "F64" Some(28), Some("F64"), f64, |v| v as f32, random_f64;
    F32_DECODE F32 "F32" Some(0), Some("F32"), f32, |v| v, random_f32;
    F16_DECODE F16 "F16" Some(1), Some("F16"), u16, float::f16_to_f32, random_f16;
    BF16_DECODE BF16 "BF16" Some(30), Some("BF16"), u16, float::bf16_to_f32, random_bf16;
    F8E4M3_DECODE F8E4M3 "F8_E4M3" None, Some("F8_E4M3"), u8, |v: u8| float::E4M3[usize::from(v)], random_e4m3;
    F8E5M2 F8E5M2 "F8_E5M2" None, Some("F8_E5M2"), u8, float::e5m2_to_f32, random_e5m2;
    F8E8M0 F8E8M0 "F8_E8M0" None, Some("F8_E8M0"), u8, float::e8m0_to_f32, random_e8m0;
    BOOL Bool "BOOL" None, Some("BOOL"), u8, |v| f32::from(v != 0), random_bool;
    I8 I8 "I8" Some(24), Some("I8"), i8, |v| v as f32, random_bytes;
    I16 I16 "I16" Some(25), Some("I16"), i16, |v| v as f32, random_bytes;
    I32 I32 "I32" Some(26), Some("I32"), i32, |v| v as f32, random_bytes;
    I64 I64 "I64" Some(27), Some("I64"), i64, |v| v as f32, random_bytes;
    U8 U8 "U8" None, Some("U8"), u8, |v| v as f32, random_bytes;
    U16 U16 "U16" None, Some("U16"), u16, |v| v as f32, random_bytes;
    U32 U32 "U32" None, Some("U32"), u32, |v| v as f32, random_bytes;
    U64 U64 "U64" None, Some("U64"), u64, |v| v as f32, random_bytes;
}

pub(crate) const F32: FormatInfo = FormatInfo { encode: Some(encode_f32), ..F32_DECODE };
pub(crate) const F16: FormatInfo = FormatInfo { encode: Some(encode_f16), ..F16_DECODE };
pub(crate) const BF16: FormatInfo = FormatInfo { encode: Some(encode_bf16), ..BF16_DECODE };
pub(crate) const F8E4M3: FormatInfo = FormatInfo { encode: Some(encode_e4m3), ..F8E4M3_DECODE };

fn encode_f32(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |[w]: &[f32; 1], b| *b = w.to_le_bytes());
}

fn encode_f16(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |[w]: &[f32; 1], b| *b = float::f32_to_f16(*w).to_le_bytes());
}

fn encode_bf16(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |[w]: &[f32; 1], b| *b = float::f32_to_bf16(*w).to_le_bytes());
}

fn encode_e4m3(src: &[f32], dst: &mut [u8]) {
    encode_each(src, dst, |[w]: &[f32; 1], b| *b = [float::f32_to_e4m3(*w)]);
}

/// Writes bell-shaped numbers through `to`.
fn bells<const N: usize>(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8], to: impl Fn(f32) -> [u8; N]) {
    dst.as_chunks_mut().0.iter_mut().for_each(|b| *b = to(std * bell(next())));
}

fn random_f64(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8]) {
    bells(next, std, dst, |v| f64::from(v).to_le_bytes());
}

fn random_f32(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8]) {
    bells(next, std, dst, f32::to_le_bytes);
}

fn random_f16(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8]) {
    bells(next, std, dst, |v| float::f32_to_f16(v).to_le_bytes());
}

fn random_bf16(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8]) {
    bells(next, std, dst, |v| float::f32_to_bf16(v).to_le_bytes());
}

fn random_e4m3(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8]) {
    bells(next, std, dst, |v| [float::f32_to_e4m3(v)]);
}

fn random_e5m2(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8]) {
    // The upper byte of an f16, halves rounded up: the tie does not matter here, the range does.
    bells(next, std, dst, |v| [((float::f32_to_f16(v.clamp(-57344.0, 57344.0)) + 0x80) >> 8) as u8]);
}

/// Powers of two with root mean square near `std`: the type has no sign and no zero.
fn random_e8m0(next: &mut dyn FnMut() -> u64, std: f32, dst: &mut [u8]) {
    let e = std.log2().floor().clamp(-126.0, 126.0) as i16 + 127;
    dst.iter_mut().for_each(|b| *b = (e + (next() >> 63) as i16) as u8);
}

fn random_bool(next: &mut dyn FnMut() -> u64, _std: f32, dst: &mut [u8]) {
    dst.iter_mut().for_each(|b| *b = (next() >> 63) as u8);
}

/// Integers are indices or codes, not weights: any value, whatever `std` says.
fn random_bytes(next: &mut dyn FnMut() -> u64, _std: f32, dst: &mut [u8]) {
    dst.chunks_mut(8).for_each(|part| part.copy_from_slice(&next().to_le_bytes()[..part.len()]));
}
