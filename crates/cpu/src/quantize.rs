//! Activations to int8 codes, equal to [`pondera_quant::Q8::quantize`].
use crate::simd::{MAX_LANES, Simd, kernel};

kernel!(/// [`pondera_quant::Q8::quantize`] of `x` (a multiple of `block` long).
    pub unsafe fn quantize(block: usize, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) = body);

#[inline(always)]
unsafe fn body<S: Simd>(s: S, block: usize, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    assert!(block.is_multiple_of(16) && x.len().is_multiple_of(block) && q.len() == x.len());
    assert!(d.len() == x.len() / block && sums.len() == x.len() / 16);
    for ((x, q), d) in x.chunks_exact(block).zip(q.chunks_exact_mut(block)).zip(d) {
        // SAFETY: a block is a whole number of vectors.
        unsafe {
            let a = magnitude(s, x);
            if !a.is_finite() || a == 0.0 {
                *d = if a == 0.0 { 0.0 } else { f32::NAN };
                q.fill(0);
                continue;
            }
            *d = a / 127.0;
            let inverse = s.splat(127.0 / a);
            if (127.0 / a).is_finite() {
                // Nothing exceeds `a`, so no product rounds to more than 127.
                let mut i = 0;
                while i < block {
                    s.store_i8(q.as_mut_ptr().add(i), s.mul(s.load(x.as_ptr().add(i)), inverse));
                    i += S::LANES;
                }
                continue;
            }
            let (top, bottom) = (s.splat(127.0), s.splat(-127.0));
            let mut i = 0;
            while i < block {
                let v = s.mul(s.load(x.as_ptr().add(i)), inverse);
                let v = s.select(s.ordered(v), s.round(v), s.splat(0.0));
                let v = s.select(s.lt(v, bottom), bottom, v);
                let v = s.select(s.lt(top, v), top, v);
                s.store_i8(q.as_mut_ptr().add(i), v);
                i += S::LANES;
            }
        }
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

/// Greatest magnitude, compared as integers.
#[inline(always)]
unsafe fn magnitude<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut m = s.bits(s.splat(0.0));
    let mut i = 0;
    while i < x.len() {
        // SAFETY: the length is a multiple of the lanes.
        let v = unsafe { s.load(x.as_ptr().add(i)) };
        m = s.umax(m, s.bits(s.abs(v)));
        i += S::LANES;
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

    #[test]
    fn codes_equal_the_scalar_quantizer() {
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
        let x: Vec<f32> = (0..256 * 16).map(value).collect();
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
