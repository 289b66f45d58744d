//! Kernels along one row: norms, rotation.
use crate::{
    simd::{Simd, kernel},
    vmath,
};
use pondera_ops::{Norm, RopeLayout};

/// A norm with its vectors at hand.
pub enum NormRow<'a> {
    /// [`Norm::Rms`].
    Rms { weight: Option<&'a [f32]>, eps: f32, one_plus: bool },
    /// [`Norm::Layer`].
    Layer { weight: Option<&'a [f32]>, bias: Option<&'a [f32]>, eps: f32 },
}

impl<'a> NormRow<'a> {
    /// Decodes the vectors once.
    pub fn new(n: &'a Norm) -> NormRow<'a> {
        match n {
            Norm::Rms { weight, eps, one_plus } => {
                NormRow::Rms { weight: weight.as_ref().map(|w| w.vector()), eps: *eps, one_plus: *one_plus }
            }
            Norm::Layer { weight, bias, eps } => NormRow::Layer {
                weight: weight.as_ref().map(|w| w.vector()),
                bias: bias.as_ref().map(|b| b.vector()),
                eps: *eps,
            },
        }
    }

    /// The norm of group `g` of `len` columns: where the vectors are longer, groups take turns.
    pub fn of(&self, g: usize, len: usize) -> NormRow<'a> {
        let part = |w: &Option<&'a [f32]>| {
            w.map(|w| {
                let turns = (w.len() / len.max(1)).max(1);
                &w[g % turns * len..][..len]
            })
        };
        match self {
            NormRow::Rms { weight, eps, one_plus } => {
                NormRow::Rms { weight: part(weight), eps: *eps, one_plus: *one_plus }
            }
            NormRow::Layer { weight, bias, eps } => {
                NormRow::Layer { weight: part(weight), bias: part(bias), eps: *eps }
            }
        }
    }
}

kernel!(/// Normalises `len` values at `x` into `y`, which may be the same place: `reference::row::norm`.
    pub unsafe fn norm(n: &NormRow<'_>, x: *const f32, y: *mut f32, len: usize) = norm_body);
kernel!(/// Rotates every head of a row by a table of cosines, then sines: `reference::row::rope`.
    pub unsafe fn rope(x: &mut [f32], table: &[f32], layout: &RopeLayout) = rope_body);

#[inline(always)]
unsafe fn norm_body<S: Simd>(s: S, n: &NormRow<'_>, x: *const f32, y: *mut f32, len: usize) {
    let size = len as f32;
    // SAFETY: indices below are within x, y and the vectors, which are as long (sliced, so checked). A slice of x ends
    // before y is written.
    unsafe {
        let all = || std::slice::from_raw_parts(x, len);
        match n {
            NormRow::Rms { weight, eps, one_plus } => {
                let inverse = 1.0 / (vmath::lanes::<S, true>(s, all(), 0.0) / size + eps).sqrt();
                let add = if *one_plus { 1.0 } else { 0.0 };
                let weight = weight.map(|w| &w[..len]);
                let mut i = 0;
                while i + S::LANES <= len {
                    let v = s.mul(s.load(x.add(i)), s.splat(inverse));
                    let w = weight.map_or(s.splat(1.0), |w| s.load(w.as_ptr().add(i)));
                    let w = if *one_plus { s.add(s.splat(1.0), w) } else { w };
                    s.store(y.add(i), s.mul(v, w));
                    i += S::LANES;
                }
                for i in i..len {
                    let w = weight.map_or(1.0, |w| w[i]);
                    *y.add(i) = *x.add(i) * inverse * if *one_plus { add + w } else { w };
                }
            }
            NormRow::Layer { weight, bias, eps } => {
                let mean = vmath::lanes::<S, false>(s, all(), 0.0) / size;
                let inverse = 1.0 / (vmath::lanes::<S, true>(s, all(), mean) / size + eps).sqrt();
                let (weight, bias) = (weight.map(|w| &w[..len]), bias.map(|b| &b[..len]));
                let mut i = 0;
                while i + S::LANES <= len {
                    let v = s.mul(s.sub(s.load(x.add(i)), s.splat(mean)), s.splat(inverse));
                    let w = weight.map_or(s.splat(1.0), |w| s.load(w.as_ptr().add(i)));
                    let b = bias.map_or(s.splat(0.0), |b| s.load(b.as_ptr().add(i)));
                    s.store(y.add(i), s.fma(v, w, b));
                    i += S::LANES;
                }
                for i in i..len {
                    let (w, b) = (weight.map_or(1.0, |w| w[i]), bias.map_or(0.0, |b| b[i]));
                    *y.add(i) = ((*x.add(i) - mean) * inverse).mul_add(w, b);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn rope_body<S: Simd>(s: S, x: &mut [f32], table: &[f32], layout: &RopeLayout) {
    let pairs = table.len() / 2;
    let (cos, sin) = table.split_at(pairs);
    for head in x.chunks_exact_mut(layout.head_dim) {
        let head = &mut head[layout.offset..][..2 * pairs];
        let mut i = 0;
        if !layout.interleaved {
            let (low, high) = head.split_at_mut(pairs);
            while i + S::LANES <= pairs {
                // SAFETY: all four slices have `pairs` elements.
                unsafe {
                    let (c, sn) = (s.load(cos.as_ptr().add(i)), s.load(sin.as_ptr().add(i)));
                    let (a, b) = (s.load(low.as_ptr().add(i)), s.load(high.as_ptr().add(i)));
                    s.store(low.as_mut_ptr().add(i), s.fma(a, c, s.neg(s.mul(b, sn))));
                    s.store(high.as_mut_ptr().add(i), s.fma(b, c, s.mul(a, sn)));
                }
                i += S::LANES;
            }
        }
        for i in i..pairs {
            let (c, sn) = (cos[i], sin[i]);
            let (p, q) = if layout.interleaved { (2 * i, 2 * i + 1) } else { (i, i + pairs) };
            let (a, b) = (head[p], head[q]);
            head[p] = a.mul_add(c, -(b * sn));
            head[q] = b.mul_add(c, a * sn);
        }
    }
}
