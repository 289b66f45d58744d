//! Choosing scales when encoding: a few candidates around the scale that the extremes suggest, each improved by least
//! squares, the one with the least squared error wins. Knows levels and codes, no layout.
use crate::float::E2M1_DOUBLED;

/// Steps tried on both sides of the scale that the extreme element suggests, a tenth of a code apart.
const STEPS: i32 = 9;

/// The scale `s` for `w ≈ s · q`, `q` in `-n ..= n - 1`; 0 for zeros.
pub(crate) fn symmetric(w: &[f32], n: i8) -> f32 {
    let n = f32::from(n);
    level_scale(w, n, |v| round(v.clamp(-n, n - 1.0)))
}

/// The scale `s` for `w ≈ s · level`, where `nearest` gives the level for `w / s` and the extreme level is `-top`.
pub(crate) fn level_scale(w: &[f32], top: f32, nearest: impl Fn(f32) -> f32) -> f32 {
    let extreme = crate::block::extreme(w);
    if extreme == 0.0 {
        return 0.0;
    }
    let (mut best, mut gain) = (extreme / -top, f32::NEG_INFINITY);
    // From the sign of the extreme element both ways: the range of codes need not be symmetric.
    for sign in [-1.0, 1.0] {
        for step in -STEPS..=STEPS {
            let inverse = sign * (top + top / 80.0 * step as f32) / extreme;
            let (mut wl, mut ll) = (0.0f32, 0.0f32);
            for &w in w {
                let level = nearest(w * inverse);
                wl += w * level;
                ll += level * level;
            }
            // The squared error with the best scale wl / ll is Σ w² - wl² / ll.
            if ll > 0.0 && wl * wl / ll > gain {
                (best, gain) = (wl / ll, wl * wl / ll);
            }
        }
    }
    best
}

/// Scale `s ≥ 0` and minimum `m ≥ 0` for `w ≈ s · q - m`, `q` in `0 ..= top`.
pub(crate) fn with_minimum(w: &[f32], top: u8) -> (f32, f32) {
    let (low, high) = crate::block::range(w);
    let (low, top) = (low.min(0.0), f32::from(top));
    if high <= low {
        return (0.0, -low);
    }
    let count = w.len() as f32;
    let (mut best, mut least) = (((high - low) / top, -low), f32::INFINITY);
    for step in -10..=10 {
        let inverse = (top + 0.1 * step as f32) / (high - low);
        let code = |w: f32| round(((w - low) * inverse).clamp(0.0, top));
        let (mut q1, mut q2, mut w1, mut qw) = (0.0f32, 0.0f32, 0.0f32, 0.0f32);
        for &w in w {
            let q = code(w);
            (q1, q2, w1, qw) = (q1 + q, q2 + q * q, w1 + w, qw + q * w);
        }
        let determinant = count * q2 - q1 * q1;
        if determinant <= 0.0 {
            continue;
        }
        let mut s = (count * qw - q1 * w1) / determinant;
        let mut m = (q1 * qw - q2 * w1) / determinant;
        if m < 0.0 {
            (s, m) = (qw / q2, 0.0);
        }
        let error: f32 = w.iter().map(|&w| (s * code(w) - m - w).powi(2)).sum();
        if s > 0.0 && error < least {
            (best, least) = ((s, m), error);
        }
    }
    best
}

/// The greatest of some scales, for the scale that all sub-blocks share.
pub(crate) fn greatest<const N: usize>(v: [f32; N]) -> f32 {
    v.into_iter().fold(0.0, f32::max)
}

/// The nearest of the codes `0 ..= top`.
pub(crate) fn code(v: f32, top: u8) -> u8 {
    round(v.clamp(0.0, f32::from(top))) as u8
}

/// The nearest of the codes `-n ..= n - 1`.
pub(crate) fn signed_code(v: f32, n: i16) -> i8 {
    round(v.clamp(f32::from(-n), f32::from(n - 1))) as i8
}

/// To the nearest integer, ties to even, for magnitudes below 2^22; unlike `f32::round` no call on old instruction sets.
pub(crate) fn round(v: f32) -> f32 {
    const INTEGERS: f32 = 12_582_912.0; // 1.5 · 2^23: neighbours are one apart
    (v + INTEGERS) - INTEGERS
}

/// Index of the nearest of ascending whole levels, by half-unit cells from the lowest on: cell `c` reaches from
/// `lowest + c / 2` to the next, and the borders between levels are borders of cells.
pub(crate) const fn cells<const N: usize>(levels: &[i8]) -> [u8; N] {
    let (mut table, mut c, mut index) = ([0; N], 0, 0);
    while c < N {
        while index + 1 < levels.len()
            && c as i32 >= (levels[index] as i32 + levels[index + 1] as i32) - 2 * levels[0] as i32
        {
            index += 1;
        }
        table[c] = index as u8;
        c += 1;
    }
    table
}

/// The index that `cells` has for `v`.
pub(crate) fn nearest<const N: usize>(cells: &[u8; N], lowest: f32, v: f32) -> u8 {
    cells[(2.0 * (v - lowest)).clamp(0.0, (N - 1) as f32) as usize]
}

/// The E2M1 code nearest to `v`; the sign of `v` even where it rounds to zero.
pub(crate) fn e2m1_code(v: f32) -> u8 {
    const CELLS: [u8; 25] = cells(E2M1_DOUBLED.split_at(8).0);
    nearest(&CELLS, 0.0, 2.0 * v.abs()) | if v < 0.0 { 8 } else { 0 }
}
