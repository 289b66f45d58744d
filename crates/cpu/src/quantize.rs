//! Activations to int8 codes, equal to [`pondera_quant::Q8::quantize`].
use crate::simd::{MAX_LANES, Simd, kernel};

kernel!(/// [`pondera_quant::Q8::quantize`] of `x` (a multiple of `block` long).
    pub unsafe fn quantize(block: usize, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) = body);

#[inline(always)]
unsafe fn body<S: Simd>(s: S, block: usize, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    assert!(block.is_multiple_of(16) && x.len().is_multiple_of(block) && q.len() == x.len());
    assert!(d.len() == x.len() / block && sums.len() == x.len() / 16);
    for ((x, q), d) in x.chunks_exact(block).zip(q.chunks_exact_mut(block)).zip(d) {
        // SAFETY: equal lengths.
        *d = unsafe { codes_body(s, x, q) };
    }
    let whole = q.len() / (4 * S::LANES);
    for i in 0..whole {
        // SAFETY: whole vectors within both.
        unsafe { s.sums(q.as_ptr().add(i * 4 * S::LANES), sums.as_mut_ptr().add(i * S::LANES / 4)) };
    }
    let done = whole * S::LANES / 4;
    for (sum, q) in sums[done..].iter_mut().zip(q[done * 16..].chunks_exact(16)) {
        *sum = q.iter().map(|&v| i16::from(v)).sum();
    }
}

kernel!(/// [`pondera_quant::Q8::codes`] of `x`, a block of any length.
    pub unsafe fn codes(x: &[f32], q: &mut [i8]) -> f32 = codes_body);

#[inline(always)]
unsafe fn codes_body<S: Simd>(s: S, x: &[f32], q: &mut [i8]) -> f32 {
    let a = magnitude(s, x);
    if !a.is_finite() || a == 0.0 {
        q.fill(0);
        return if a == 0.0 { 0.0 } else { f32::NAN };
    }
    let inverse = s.splat(127.0 / a);
    // Nothing exceeds `a`, so no product of a finite inverse rounds to more than 127.
    let plain = (127.0 / a).is_finite();
    let whole = x.len() / S::LANES * S::LANES;
    // SAFETY: whole vectors within both; the tail goes through padded copies.
    unsafe {
        let mut i = 0;
        while i < whole {
            s.store_i8(q.as_mut_ptr().add(i), code(s, s.load(x.as_ptr().add(i)), inverse, plain));
            i += S::LANES;
        }
        if i < x.len() {
            let mut last = [0i8; MAX_LANES];
            s.store_i8(last.as_mut_ptr(), code(s, s.load(tail(x, i).as_ptr()), inverse, plain));
            q[i..].copy_from_slice(&last[..x.len() - i]);
        }
    }
    a / 127.0
}

/// Values as codes, not yet rounded where `plain`.
#[inline(always)]
fn code<S: Simd>(s: S, v: S::F, inverse: S::F, plain: bool) -> S::F {
    let v = s.mul(v, inverse);
    if plain {
        return v;
    }
    let (top, bottom) = (s.splat(127.0), s.splat(-127.0));
    let v = s.select(s.ordered(v), s.round(v), s.splat(0.0));
    let v = s.select(s.lt(v, bottom), bottom, v);
    s.select(s.lt(top, v), top, v)
}

/// What is left of `x` from `i` on, with zeros behind it.
#[inline(always)]
fn tail(x: &[f32], i: usize) -> [f32; MAX_LANES] {
    let mut last = [0.0; MAX_LANES];
    last[..x.len() - i].copy_from_slice(&x[i..]);
    last
}

/// Greatest magnitude, compared as integers.
#[inline(always)]
fn magnitude<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut m = s.bits(s.splat(0.0));
    let whole = x.len() / S::LANES * S::LANES;
    let mut i = 0;
    // SAFETY: whole vectors, the last of a padded copy.
    unsafe {
        while i < whole {
            m = s.umax(m, s.bits(s.abs(s.load(x.as_ptr().add(i)))));
            i += S::LANES;
        }
        if i < x.len() {
            m = s.umax(m, s.bits(s.abs(s.load(tail(x, i).as_ptr()))));
        }
    }
    let mut out = [0.0f32; MAX_LANES];
    // SAFETY: the array holds MAX_LANES values.
    unsafe { s.store(out.as_mut_ptr(), s.floats(m)) };
    f32::from_bits(out.iter().map(|v| v.to_bits()).max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, simd::Level};
    use pondera_quant::Q8;

    /// Runs of 256 of every kind: plain, zero, large, broken, tiny, whole.
    fn values() -> Vec<f32> {
        let value = |i: usize| match i / 256 % 8 {
            0 => (i as f32 * 0.7).sin(),
            1 => 0.0,
            2 => (i as f32).cos() * 1e30,
            3 if i % 256 == 77 => f32::NAN,
            4 if i % 256 == 200 => f32::NEG_INFINITY,
            5 => [0.0, 1e-45, -1e-45, 2e-44][i % 4],
            6 => (i % 255) as f32 - 127.0,
            _ => ((i * 7919) % 1000) as f32 * 1e-3 - 0.5,
        };
        (0..256 * 16).map(value).collect()
    }

    #[test]
    fn blocks_of_any_length_equal_the_scalar_quantizer() {
        let x = values();
        for level in Isa::ALL.into_iter().filter_map(Level::new) {
            for (length, from) in
                [1, 5, 7, 16, 33, 80, 100, 576].into_iter().flat_map(|n| (0..17).map(move |i| (n, i * 200)))
            {
                let x = &x[from..from + length];
                let (mut want, mut got) = (vec![1i8; length], vec![1i8; length]);
                let d = Q8::codes(x, &mut want);
                // SAFETY: equal lengths.
                let e = unsafe { codes(level, x, &mut got) };
                assert_eq!((d.to_bits(), want), (e.to_bits(), got), "{length} from {from}");
            }
        }
    }

    #[test]
    fn codes_equal_the_scalar_quantizer() {
        let x = values();
        for isa in Isa::ALL {
            let Some(level) = Level::new(isa) else { continue };
            for block in [32, 256] {
                let make = || (vec![1i8; x.len()], vec![1f32; x.len() / block], vec![1i16; x.len() / 16]);
                let (mut want, mut got) = (make(), make());
                Q8::quantize(block, &x, &mut want.0, &mut want.1, &mut want.2);
                // SAFETY: matching lengths.
                unsafe { quantize(level, block, &x, &mut got.0, &mut got.1, &mut got.2) };
                let bits = |d: &[f32]| d.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!((want.0, bits(&want.1), want.2), (got.0, bits(&got.1), got.2), "{isa} {block}");
            }
        }
    }
}
