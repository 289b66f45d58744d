//! What is measured of a pair of tensors in one pass over all their values.
//!
//! Owns: sums, extremes, and what the digits say of how values were once stored. Knows no formats and no models.
use super::values::Values;

/// Elements decoded at a time.
const PIECE: usize = 1 << 15;

/// A float type by the digits it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grid {
    Bf16,
    F16,
    F32,
}

impl Grid {
    /// The coarsest type that holds values whose bits are these when laid over each other.
    fn of(bits: u32, small: bool) -> Grid {
        match bits {
            b if b & 0xffff == 0 => Grid::Bf16,
            // Below the normal range f16 has fewer digits, above it ends.
            b if b & 0x1fff == 0 && !small => Grid::F16,
            _ => Grid::F32,
        }
    }

    /// Half a step, for values from 1 to 2.
    pub fn half_ulp(self) -> f64 {
        match self {
            Grid::Bf16 => 2f64.powi(-8),
            Grid::F16 => 2f64.powi(-11),
            Grid::F32 => 2f64.powi(-24),
        }
    }
}

/// Sums over the elements that are finite on both sides. `d = b - a`.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments {
    pub elements: u64,
    pub aa: f64,
    pub bb: f64,
    pub ab: f64,
    pub dd: f64,
    pub ad: f64,
    pub max: f32,
    /// Elements whose values differ; of those that are no numbers, whose bits do.
    pub differing: u64,
    /// Rows in which some do.
    pub differing_rows: u64,
    pub nonfinite_a: u64,
    pub nonfinite_b: u64,
    bits_a: u32,
    bits_b: u32,
    beyond_f16_a: bool,
    beyond_f16_b: bool,
    /// Sums of squares of the powers of two below the values.
    pub exponents_a: f64,
    pub exponents_b: f64,
    /// The same with f16's smallest normal power for the values below it.
    pub exponents_f16_a: f64,
    pub exponents_f16_b: f64,
    /// Greatest difference in units of the power of two below the greater of both values.
    pub step_max: f32,
    /// The same with f16's smallest normal power.
    pub step_f16_max: f32,
    /// `dd` by group.
    pub groups: Vec<f64>,
    /// Of a third model: `u = c - a`.
    pub third: Option<Third>,
}

/// Sums with a third model.
#[derive(Clone, Debug, Default)]
pub(super) struct Third {
    pub cc: f64,
    pub ac: f64,
    pub uu: f64,
    pub au: f64,
    pub ud: f64,
    /// Of `b - c`.
    pub bc: f64,
}

impl Moments {
    pub fn grid_a(&self) -> Grid {
        Grid::of(self.bits_a, self.beyond_f16_a)
    }

    pub fn grid_b(&self) -> Grid {
        Grid::of(self.bits_b, self.beyond_f16_b)
    }

    pub fn cosine(&self) -> Option<f64> {
        let norm = self.aa.sqrt() * self.bb.sqrt();
        (norm > 0.0).then(|| (self.ab / norm).clamp(-1.0, 1.0))
    }

    /// Norm of the difference over that of `a`; none where `a` is zero and `b` is not.
    pub fn relative(&self) -> Option<f64> {
        match self.dd {
            0.0 => Some(0.0),
            dd => (self.aa > 0.0).then(|| (dd / self.aa).sqrt()),
        }
    }
}

const EXPONENT: u32 = 0x7f80_0000;
/// 2^-14.
const F16_NORMAL: f32 = 6.103_515_6e-5;
const F16_MAX: f32 = 65504.0;

/// Reads both, and a third where there is one, whole.
pub(super) fn measure(
    a: &Values<'_>,
    b: &Values<'_>,
    c: Option<&Values<'_>>,
    mut tick: impl FnMut(u64) -> bool,
) -> Option<Moments> {
    let mut m = Moments { third: c.map(|_| Third::default()), ..Moments::default() };
    let (rows, cols) = (a.rows.min(b.rows), a.cols);
    m.groups = vec![0.0; rows.div_ceil(a.group.max(1)).max(1)];
    let step = (PIECE / cols.max(1)).max(1).min(rows.max(1));
    let mut buffers = [(); 3].map(|_| vec![0f32; step * cols]);
    let mut at = 0;
    while at < rows {
        let n = step.min(rows - at).min(a.group - at % a.group.max(1));
        let [x, y, z] = &mut buffers;
        let (x, y) = (&mut x[..n * cols], &mut y[..n * cols]);
        a.read(at..at + n, x);
        b.read(at..at + n, y);
        let before = m.dd;
        for (x, y) in x.chunks_exact(cols.max(1)).zip(y.chunks_exact(cols.max(1))) {
            m.row(x, y);
        }
        m.groups[at / a.group.max(1)] += m.dd - before;
        if let Some(c) = c {
            let z = &mut z[..n * cols];
            c.read(at..at + n, z);
            m.third.get_or_insert_default().rows(x, y, z);
        }
        at += n;
        if !tick((n * cols) as u64) {
            return None;
        }
    }
    Some(m)
}

impl Moments {
    fn row(&mut self, a: &[f32], b: &[f32]) {
        let sum: f32 = a.iter().chain(b).map(|v| v * 0.0).sum();
        if sum != 0.0 {
            return self.odd_row(a, b);
        }
        self.elements += a.len() as u64;
        let differing = a.iter().zip(b).filter(|(x, y)| x != y).count() as u64;
        self.differing += differing;
        self.differing_rows += u64::from(differing > 0);
        let (mut bits_a, mut bits_b, mut max, mut step, mut step16) = (0u32, 0u32, 0f32, 0f32, 0f32);
        let (mut top_a, mut top_b) = (0f32, 0f32);
        let (mut odd_a, mut odd_b) = (0u32, 0u32);
        let mut sums = [0f64; 9];
        for (&x, &y) in a.iter().zip(b) {
            let (p, q) = (power(x), power(y));
            let (p16, q16) = (p.max(F16_NORMAL), q.max(F16_NORMAL));
            let d = y - x;
            let size = d.abs();
            (bits_a, bits_b) = (bits_a | x.to_bits(), bits_b | y.to_bits());
            (top_a, top_b) = (top_a.max(x.abs()), top_b.max(y.abs()));
            odd_a |= below_f16(x, p);
            odd_b |= below_f16(y, q);
            max = max.max(size);
            step = step.max(size / p.max(q).max(f32::MIN_POSITIVE));
            step16 = step16.max(size / p16.max(q16));
            let [x, y, p, q, p16, q16] = [x, y, p, q, p16, q16].map(f64::from);
            let d = y - x;
            let terms = [x * x, y * y, x * y, d * d, x * d, p * p, q * q, p16 * p16, q16 * q16];
            sums.iter_mut().zip(terms).for_each(|(s, t)| *s += t);
        }
        self.bits_a |= bits_a;
        self.bits_b |= bits_b;
        self.beyond_f16_a |= top_a > F16_MAX || odd_a != 0;
        self.beyond_f16_b |= top_b > F16_MAX || odd_b != 0;
        self.max = self.max.max(max);
        self.step_max = self.step_max.max(step);
        self.step_f16_max = self.step_f16_max.max(step16);
        let into = [
            &mut self.aa,
            &mut self.bb,
            &mut self.ab,
            &mut self.dd,
            &mut self.ad,
            &mut self.exponents_a,
            &mut self.exponents_b,
            &mut self.exponents_f16_a,
            &mut self.exponents_f16_b,
        ];
        into.into_iter().zip(sums).for_each(|(s, t)| *s += t);
    }

    /// A row with values that are no numbers: those elements count as differing where their bits do, and for nothing else.
    fn odd_row(&mut self, a: &[f32], b: &[f32]) {
        let bad = |v: &[f32]| v.iter().filter(|v| !v.is_finite()).count() as u64;
        self.nonfinite_a += bad(a);
        self.nonfinite_b += bad(b);
        let pairs = a.iter().zip(b);
        let odd = |x: f32, y: f32| !x.is_finite() || !y.is_finite();
        let differing = pairs.clone().filter(|(x, y)| odd(**x, **y) && x.to_bits() != y.to_bits()).count() as u64;
        let (x, y): (Vec<f32>, Vec<f32>) = pairs.filter(|(x, y)| !odd(**x, **y)).map(|(x, y)| (*x, *y)).unzip();
        let before = self.differing_rows;
        self.row(&x, &y);
        self.elements += (a.len() - x.len()) as u64;
        self.differing += differing;
        self.differing_rows = before.max(self.differing_rows).max(before + u64::from(differing > 0));
    }
}

/// The power of two below the magnitude.
fn power(v: f32) -> f32 {
    f32::from_bits(v.to_bits() & EXPONENT)
}

/// Whether a value below f16's normal range is no multiple of its smallest step.
fn below_f16(v: f32, power: f32) -> u32 {
    u32::from(power < F16_NORMAL && (v * 16_777_216.0).fract() != 0.0)
}

impl Third {
    fn rows(&mut self, a: &[f32], b: &[f32], c: &[f32]) {
        for ((&x, &y), &z) in a.iter().zip(b).zip(c) {
            let (x, y, z) = (f64::from(x), f64::from(y), f64::from(z));
            let (u, d) = (z - x, y - x);
            if (u * d).is_finite() {
                self.cc += z * z;
                self.ac += x * z;
                self.uu += u * u;
                self.au += x * u;
                self.ud += u * d;
                self.bc += (y - z) * (y - z);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pondera_quant::float::{f16_to_f32, f32_to_bf16, f32_to_f16};

    fn of(a: &[f32], b: &[f32]) -> Moments {
        let mut m = Moments::default();
        m.row(a, b);
        m
    }

    #[test]
    fn digits_tell_how_values_were_stored() {
        let values: Vec<f32> = (1..200).map(|i| (i as f32 * 0.37).sin() * 10f32.powi(i % 6 - 6)).collect();
        let bf16: Vec<f32> = values.iter().map(|v| f32::from_bits(u32::from(f32_to_bf16(*v)) << 16)).collect();
        let f16: Vec<f32> = values.iter().map(|v| f16_to_f32(f32_to_f16(*v))).collect();
        let m = of(&values, &bf16);
        assert_eq!((m.grid_a(), m.grid_b()), (Grid::F32, Grid::Bf16));
        assert!(f64::from(m.step_max) <= Grid::Bf16.half_ulp() && m.step_max > 0.002);
        let m = of(&f16, &values);
        assert_eq!((m.grid_a(), m.grid_b()), (Grid::F16, Grid::F32));
        assert!(f64::from(m.step_f16_max) <= Grid::F16.half_ulp() * 1.0001 && m.step_f16_max > 0.0002);
    }

    #[test]
    fn what_is_no_number_counts_for_itself_only() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let m = of(&[1.0, nan, nan, inf], &[2.0, nan, 3.0, -inf]);
        assert_eq!((m.nonfinite_a, m.nonfinite_b, m.differing, m.differing_rows, m.elements), (3, 2, 3, 1, 4));
        assert_eq!((m.dd, m.aa, m.bb), (1.0, 1.0, 4.0));
        let m = of(&[nan, 1.0], &[nan, 1.0]);
        assert_eq!((m.differing, m.differing_rows, m.relative()), (0, 0, Some(0.0)));
        assert_eq!(of(&[0.0], &[1.0]).relative(), None);
        assert_eq!(of(&[0.0], &[0.0]).cosine(), None);
    }
}
