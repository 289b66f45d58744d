//! Probabilities in f64, equal to the bit on every platform: built from IEEE operations and pure-Rust code alone.
//! What the forward pass computes with is `pondera_ops::math`, in f32.

/// Partial sums of [`exp_sum`]: element `k` belongs to lane `k % LANES`.
const LANES: usize = 8;

/// Taylor coefficients of `e^r`, highest power first, for `|r| ≤ ln2 / 2`: the rest is below 1e-17.
const POLY: [f64; 14] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// `e^x` for `x ≤ 0`, relative error below 4e-16; 0 below -708.
pub fn exp(x: f64) -> f64 {
    exp_lanes([x])[0]
}

/// [`exp`] of each lane. Every stage is a loop of its own without branches: so compilers vectorise it.
#[inline(always)]
fn exp_lanes<const N: usize>(x: [f64; N]) -> [f64; N] {
    const LN2_HI: f64 = 6.931_471_803_691_238e-1; // its last 21 bits are zero
    const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52: adding it rounds to an integer in the low bits
    const LEAST: f64 = -708.0;
    let clamped = x.map(|x| if x > LEAST { x } else { LEAST });
    let shifted = clamped.map(|x| x * std::f64::consts::LOG2_E + ROUND);
    let mut r = [0.0; N];
    for i in 0..N {
        let n = shifted[i] - ROUND;
        r[i] = (clamped[i] - n * LN2_HI) - n * LN2_LO;
    }
    let mut p = [POLY[0]; N];
    for c in &POLY[1..] {
        for i in 0..N {
            p[i] = p[i] * r[i] + c;
        }
    }
    for i in 0..N {
        let two_n = f64::from_bits(shifted[i].to_bits().wrapping_add(1023) << 52);
        p[i] = if x[i] < LEAST { 0.0 } else { p[i] * two_n };
    }
    p
}

/// `Σ e^(x - max)` in fixed lanes.
pub fn exp_sum(logits: &[f32], max: f32) -> f64 {
    let mut lanes = [0.0; LANES];
    let max = f64::from(max);
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for c in chunks {
        let e = exp_lanes(c.map(|v| f64::from(v) - max));
        for (lane, e) in lanes.iter_mut().zip(e) {
            *lane += e;
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        *lane += exp(f64::from(*v) - max);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// `ln Σ e^x`, of finite logits.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = greatest(logits).1;
    f64::from(max) + libm::log(exp_sum(logits, max))
}

/// The greatest value and its index, the lowest where several are equal; `(0, -inf)` of nothing.
pub fn greatest(logits: &[f32]) -> (u32, f32) {
    // Two passes: the first vectorises, the second ends early.
    let larger = |m: f32, v: f32| if v > m { v } else { m };
    let (chunks, rest) = logits.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for c in chunks {
        for (m, v) in lanes.iter_mut().zip(c) {
            *m = larger(*m, *v);
        }
    }
    let max = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger);
    let at = logits.iter().position(|&v| v == max).unwrap_or(0);
    (at as u32, max)
}

/// Whether no value is NaN or infinite.
pub fn all_finite(values: &[f32]) -> bool {
    let worst = |v: &[f32]| v.iter().fold(0, |m, v| m.max(v.to_bits() & 0x7f80_0000));
    values.chunks(4096).all(|c| worst(c) < 0x7f80_0000)
}

/// Four random words: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
pub fn philox(key: u64, counter: [u32; 4]) -> [u32; 4] {
    let (mut k0, mut k1) = (key as u32, (key >> 32) as u32);
    let mut c = counter;
    for round in 0..10 {
        if round > 0 {
            k0 = k0.wrapping_add(0x9e37_79b9);
            k1 = k1.wrapping_add(0xbb67_ae85);
        }
        let p0 = u64::from(c[0]) * 0xd251_1f53;
        let p1 = u64::from(c[2]) * 0xcd9e_8d57;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k1, p0 as u32];
    }
    c
}

/// The random number in `[0, 1)` of a token's position: 53 bits that depend on nothing but `seed` and `position`.
pub fn uniform(seed: u64, position: u64) -> f64 {
    let c = philox(seed, [position as u32, (position >> 32) as u32, 0, 0]);
    let bits = (u64::from(c[0]) << 32 | u64::from(c[1])) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_the_documented_error() {
        let mut worst = 0.0f64;
        for i in 0..400_000 {
            let x = -707.9 * (f64::from(i) / 400_000.0).powi(3);
            let want = libm::exp(x);
            worst = worst.max(((exp(x) - want) / want).abs());
        }
        assert!(worst < 4e-16, "{worst:e}");
        assert_eq!((exp(0.0), exp(-709.0), exp(f64::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn log_sum_exp_of_known_rows() {
        assert_eq!(log_sum_exp(&[0.0; 8]), 8f64.ln());
        let row: Vec<f32> = (0..1003).map(|i| ((i * 37) % 101) as f32 / 7.0).collect();
        let want = row.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
        assert!((log_sum_exp(&row) - want).abs() < 1e-12);
    }

    #[test]
    fn ties_go_to_the_lower_id() {
        assert_eq!(greatest(&[1.0, 3.0, 2.0, 3.0]), (1, 3.0));
        assert!(all_finite(&[0.0; 5000]));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = vec![0.0; 5000];
            row[4999] = bad;
            assert!(!all_finite(&row));
        }
    }

    /// Known answers of the authors' own tests (Random123, `kat_vectors`).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox(0, [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox(u64::MAX, [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let key = 0x299f_31d0_a409_3822;
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox(key, counter), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn uniform_covers_the_unit_interval() {
        let n = 20_000;
        let mean = (0..n).map(|p| uniform(7, p)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert_ne!(uniform(1, 5), uniform(2, 5));
        assert!((0..n).all(|p| (0.0..1.0).contains(&uniform(3, p))));
    }
}
