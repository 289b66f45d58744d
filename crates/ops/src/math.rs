//! The elementary functions and reductions of docs/numerics.md, in scalar form: the specification of every
//! vector form. Built from IEEE add, multiply, divide, square root, fused multiply-add and round-to-even
//! alone, so that each instruction set gives equal bits. No platform libm.

pub use pondera_quant::float::{f16_to_f32, f32_to_f16};

/// Lanes of every reduction along a row: element `k` belongs to lane `k % LANES`.
pub const LANES: usize = 16;

/// `log2(e)`.
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// `ln 2`, upper part: its last bits are zero, so that `n · LN2_HI` is exact for the `n` that occur.
pub const LN2_HI: f32 = 355.0 / 512.0;
/// `ln 2`, lower part.
pub const LN2_LO: f32 = -2.121_944_4e-4;
/// Below this the exponential is 0.
pub const EXP_MIN: f32 = -87.0;
/// Above this the exponential is infinite.
pub const EXP_MAX: f32 = 88.0;
/// `1/k!` for k = 7 … 2: on `|r| ≤ ln2 / 2` the rest of the series is below 6e-9.
pub const EXP_POLY: [f32; 6] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5];

/// `e^x`, relative error below 2e-7; 0 below [`EXP_MIN`], infinite above [`EXP_MAX`], NaN for NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let n = (x * LOG2_E).round_ties_even();
    let r = n.mul_add(-LN2_HI, x);
    let r = n.mul_add(-LN2_LO, r);
    let mut p = EXP_POLY[0];
    for c in &EXP_POLY[1..] {
        p = p.mul_add(r, *c);
    }
    p = p.mul_add(r, 1.0);
    p = p.mul_add(r, 1.0);
    if x < EXP_MIN {
        0.0
    } else if x > EXP_MAX {
        f32::INFINITY
    } else {
        // n is within -126 ..= 127 here; for NaN the factor does not matter.
        p * f32::from_bits((((n as i32) + 127) as u32) << 23)
    }
}

/// `e^x - 1` for `x` up to 0 or little above; absolute error below 2e-7, and relative near 0.
pub fn exp_m1(x: f32) -> f32 {
    if x > -0.5 && x < 0.5 {
        // The series of the exponential without its first term.
        let mut p = 1.0 / 40320.0f32;
        for c in EXP_POLY {
            p = p.mul_add(x, c);
        }
        p.mul_add(x, 1.0) * x
    } else {
        exp(x) - 1.0
    }
}

/// Odd coefficients of `2 atanh z` for `z²` from 1 down: `2 / (2k + 1)`, k = 8 … 0.
pub const LN_POLY: [f32; 9] =
    [2.0 / 17.0, 2.0 / 15.0, 2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0];

/// `ln(1 + e^x)` as `max(x, 0) + ln(1 + e^-|x|)`, the logarithm as `2 atanh(e / (2 + e))`; error below 3e-7 of the value
/// or absolute; NaN for NaN.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let e = exp(-x.abs());
    let z = e / (2.0 + e);
    let square = z * z;
    let mut p = LN_POLY[0];
    for c in &LN_POLY[1..] {
        p = p.mul_add(square, *c);
    }
    let above = if x < 0.0 { 0.0 } else { x };
    p.mul_add(z, above)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `tanh x` as `1 - 2 / (e^2|x| + 1)` with the sign of `x`; absolute error below 2e-7.
pub fn tanh(x: f32) -> f32 {
    (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x)
}

/// Factors of the tanh form of GELU: `sqrt(2 / pi)` and the cubic term.
pub const GELU: [f32; 2] = [0.797_884_6, 0.044_715];

/// `x / 2 · (1 + tanh(sqrt(2/pi) (x + 0.044715 x³)))`.
pub fn gelu_tanh(x: f32) -> f32 {
    let inner = (GELU[1] * x * x).mul_add(x, x);
    0.5 * x * (1.0 + tanh(GELU[0] * inner))
}

/// Coefficients of Abramowitz and Stegun 7.1.26, highest power first, then its `p`.
pub const ERF: [f32; 6] = [1.061_405_4, -1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6, 0.327_591_1];

/// The error function, absolute error below 6e-7 (Abramowitz and Stegun 7.1.26).
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / a.mul_add(ERF[5], 1.0);
    let mut p = ERF[0];
    for c in &ERF[1..5] {
        p = p.mul_add(t, *c);
    }
    (1.0 - p * t * exp(-(a * a))).copysign(x)
}

/// `x / 2 · (1 + erf(x / sqrt 2))`.
pub fn gelu_erf(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// Sum of lanes in the fixed tree: halves are added until one is left.
pub fn lane_sum(mut lanes: [f32; LANES]) -> f32 {
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
        n /= 2;
    }
    lanes[0]
}

/// `Σ x`, element `k` added to lane `k % LANES` in ascending order, then [`lane_sum`].
pub fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    for (k, v) in x.iter().enumerate() {
        lanes[k % LANES] += v;
    }
    lane_sum(lanes)
}

/// `Σ (x - c)²` in the order of [`sum`], by fused multiply-add.
pub fn sum_squares(x: &[f32], c: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for (k, v) in x.iter().enumerate() {
        let d = v - c;
        lanes[k % LANES] = d.mul_add(d, lanes[k % LANES]);
    }
    lane_sum(lanes)
}

/// Greatest value; NaN if any is NaN (so that a broken row stays visible).
pub fn max(x: &[f32]) -> f32 {
    x.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m || v.is_nan() { v } else { m })
}

/// The order in which scores are ranked: as [`f32::total_cmp`], but any NaN is the greatest and equal to any other, since
/// the sign of a computed NaN depends on the processor and on the optimizer.
pub fn rank(a: f32, b: f32) -> std::cmp::Ordering {
    let one = |v: f32| if v.is_nan() { f32::NAN.abs() } else { v };
    one(a).total_cmp(&one(b))
}

/// One FMA chain with k ascending from 0: the product of a weight row with an f32 activation row.
pub fn chain(w: &[f32], x: &[f32]) -> f32 {
    w.iter().zip(x).fold(0.0, |acc, (w, x)| w.mul_add(*x, acc))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(f: fn(f32) -> f32, want: fn(f64) -> f64, from: f32, to: f32, relative: bool) -> f64 {
        let n = 200_000;
        (0..=n).fold(0.0, |worst: f64, i| {
            let x = from + (to - from) * i as f32 / n as f32;
            let (got, want) = (f64::from(f(x)), want(f64::from(x)));
            worst.max((got - want).abs() / if relative { want.abs() } else { 1.0 })
        })
    }

    #[test]
    fn functions_meet_their_documented_errors() {
        let softplus_of = |x: f64| if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() };
        assert!(worst(softplus, softplus_of, -30.0, 80.0, false) < 4e-6); // half a unit in the last place at 80
        assert!(worst(softplus, softplus_of, -20.0, 20.0, true) < 4e-7);
        assert!(worst(exp_m1, f64::exp_m1, -0.5, 0.5, true) < 3e-7);
        assert!(worst(exp_m1, f64::exp_m1, -40.0, -0.5, true) < 3e-7);
        assert!(softplus(f32::NAN).is_nan() && exp_m1(f32::NAN).is_nan());
        assert!(worst(exp, f64::exp, -86.9, 87.9, true) < 2e-7);
        assert!(worst(tanh, f64::tanh, -20.0, 20.0, false) < 2e-7);
        assert!(worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -20.0, 20.0, false) < 2e-7);
        assert!(worst(erf, libm::erf, -6.0, 6.0, false) < 6e-7);
        let gelu = |x: f64| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2));
        assert!(worst(gelu_erf, gelu, -6.0, 6.0, false) < 1e-6);
    }

    #[test]
    fn exp_at_the_edges() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(EXP_MAX).is_finite() && exp(EXP_MIN) > 0.0);
        assert_eq!((tanh(1e9), tanh(-1e9)), (1.0, -1.0));
    }

    #[test]
    fn f16_round_trips_and_rounds_to_even() {
        for h in 0..=u16::MAX {
            let v = f16_to_f32(h);
            if v.is_nan() {
                assert!(f16_to_f32(f32_to_f16(v)).is_nan());
            } else {
                assert_eq!(f32_to_f16(v), h, "{v}");
            }
        }
        // Halfway cases between neighbours go to the even one, also across the denormal border and into infinity.
        for h in (0..0x7bffu16).step_by(7) {
            let (a, b) = (f64::from(f16_to_f32(h)), f64::from(f16_to_f32(h + 1)));
            let middle = ((a + b) / 2.0) as f32;
            assert_eq!(f32_to_f16(middle), if h % 2 == 0 { h } else { h + 1 }, "{middle}");
        }
        assert_eq!(f32_to_f16(65519.0), 0x7bff);
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(f32_to_f16(-1e9), 0xfc00);
    }

    #[test]
    fn lanes_add_in_the_documented_tree() {
        let x: Vec<f32> = (0..37).map(|i| (i as f32).sin()).collect();
        let mut lanes = [0.0f32; 16];
        for (k, v) in x.iter().enumerate() {
            lanes[k % 16] += v;
        }
        let eight: Vec<f32> = (0..8).map(|i| lanes[i] + lanes[i + 8]).collect();
        let four: Vec<f32> = (0..4).map(|i| eight[i] + eight[i + 4]).collect();
        assert_eq!(sum(&x), (four[0] + four[2]) + (four[1] + four[3]));
    }
}
