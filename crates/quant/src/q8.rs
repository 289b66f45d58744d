//! Quantized activations: int8 in blocks with an f32 scale, the right-hand side of every integer dot product.

/// One row of quantized activations, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Q8<'a> {
    /// Elements per block: 32 or 256.
    pub block: usize,
    /// Codes in -127..=127, one per element.
    pub q: &'a [i8],
    /// Scale per block: `x ≈ d · q`. NaN where the block held a non-finite value.
    pub d: &'a [f32],
    /// Sum of the codes of each 16 elements (for formats with a minimum).
    pub sums: &'a [i16],
}

impl Q8<'_> {
    /// Quantizes `x` (a multiple of `block` long) into `q` (`x.len()`), `d` (`x.len() / block`) and `sums` (`x.len() / 16`).
    ///
    /// Per block: `a = max |x|`, `d = a / 127`, `q = round_ties_even(x · (127 / a))`; all zero for `a = 0`.
    /// A block with a non-finite value gets `d = NaN`, so that it cannot become a plausible number.
    pub fn quantize(block: usize, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
        assert!(block.is_multiple_of(16) && x.len().is_multiple_of(block) && q.len() == x.len());
        assert!(d.len() == x.len() / block && sums.len() == x.len() / 16);
        for ((x, q), d) in x.chunks_exact(block).zip(q.chunks_exact_mut(block)).zip(d) {
            *d = Q8::codes(x, q);
        }
        for (s, q) in sums.iter_mut().zip(q.chunks_exact(16)) {
            *s = q.iter().map(|&v| i16::from(v)).sum();
        }
    }

    /// Quantizes one block `x` of any length into `q` (as long) and returns its scale, as [`Q8::quantize`] says.
    pub fn codes(x: &[f32], q: &mut [i8]) -> f32 {
        assert_eq!(x.len(), q.len());
        // Compared as integers, so that a NaN is the greatest magnitude on every instruction set.
        let a = x.iter().map(|v| v.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
        let a = f32::from_bits(a);
        if !a.is_finite() || a == 0.0 {
            q.fill(0);
            return if a == 0.0 { 0.0 } else { f32::NAN };
        }
        let inverse = 127.0 / a;
        for (q, v) in q.iter_mut().zip(x) {
            // A denormal maximum makes `inverse` infinite: the clamp keeps the code in range (0 · inf is NaN, code 0).
            *q = (v * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
        }
        a / 127.0
    }
}
