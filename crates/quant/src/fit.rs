//! Choosing scales when encoding: a few candidates around the scale that the extremes suggest, each improved by least
//! squares, the one with the least squared error wins. Knows levels and codes, no layout.

/// Steps tried on both sides of the scale that the extreme element suggests, a tenth of a code apart.
const STEPS: i32 = 9;

/// The scale `s` for `w ≈ s · q`, `q` in `-n ..= n - 1`; 0 for zeros.
pub(crate) fn symmetric(w: &[f32], n: i8) -> f32 {
    let n = f32::from(n);
    level_scale(w, n, |v| v.round().clamp(-n, n - 1.0))
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
        let code = |w: f32| ((w - low) * inverse).round().clamp(0.0, top);
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
    v.round().clamp(0.0, f32::from(top)) as u8
}

/// The nearest of the codes `-n ..= n - 1`.
pub(crate) fn signed_code(v: f32, n: i16) -> i8 {
    v.round().clamp(f32::from(-n), f32::from(n - 1)) as i8
}

/// The index of the nearest of ascending levels.
pub(crate) fn nearest_level(levels: &[i8], v: f32) -> usize {
    let above = levels.partition_point(|l| f32::from(*l) < v);
    match (above.checked_sub(1), levels.get(above)) {
        (Some(below), Some(high)) if v - f32::from(levels[below]) < f32::from(*high) - v => below,
        (_, Some(_)) => above,
        _ => levels.len() - 1,
    }
}

/// The E2M1 code nearest to `v`; the sign of `v` even where it rounds to zero.
pub(crate) fn e2m1_code(v: f32) -> u8 {
    let magnitude = nearest_level(&crate::float::E2M1_DOUBLED[..8], 2.0 * v.abs()) as u8;
    magnitude | if v < 0.0 { 8 } else { 0 }
}
