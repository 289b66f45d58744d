//! How many directions a difference has: its leading singular values, how many of them stand above its own noise.
//!
//! Owns: block subspace iteration (Halko, Martinsson and Tropp, arXiv 0909.4061) and where noise ends. Knows matrices of
//! numbers, nothing of models.

/// Leading singular values that are looked for at first; where all of them stand out, more.
const WIDTHS: [usize; 3] = [32, 96, 192];
/// More are looked for only where those found hold this share of the energy: otherwise there is no low rank.
const SHARES: [f64; 2] = [0.3, 0.6];
/// Rounds of the iteration, by width: what is wide is dear, and asked for only where the values are far above noise.
const ROUNDS: [usize; 3] = [3, 2, 2];
/// Singular values below this share of the largest drown in the rounding of the difference itself.
const RESOLUTION: f64 = 1e-5;
/// A fall between neighbouring singular values that noise does not have.
const GAP: f64 = 3.0;

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Spectrum {
    /// Leading singular values, largest first.
    pub values: Vec<f64>,
    /// Square of the Frobenius norm.
    pub energy: f64,
    /// Singular values that stand above the noise.
    pub spikes: usize,
    /// There may be more of them than were looked for.
    pub more: bool,
    /// The shorter side.
    pub full: usize,
}

impl Spectrum {
    /// Energy outside of the spikes.
    pub fn residual(&self) -> f64 {
        (self.energy - self.values.iter().take(self.spikes).map(|s| s * s).sum::<f64>()).max(0.0)
    }

    /// Energy over that of the strongest direction.
    pub fn stable_rank(&self) -> f64 {
        self.values.first().filter(|s| **s > 0.0).map_or(0.0, |s| self.energy / (s * s))
    }

    /// `(Σ σ²)² / Σ σ⁴`: r where r singular values are equal and the others none. What was not looked for counts as flat.
    pub fn participation(&self) -> f64 {
        let (two, four) = self.values.iter().fold((0.0, 0.0), |(a, b), s| (a + s * s, b + s.powi(4)));
        let rest = (self.energy - two).max(0.0);
        let others = self.full.saturating_sub(self.values.len());
        let four = four + if others > 0 { rest * rest / others as f64 } else { 0.0 };
        if four > 0.0 { self.energy * self.energy / four } else { 0.0 }
    }
}

/// The spectrum of `d` `[rows, cols]`, whose values are finite.
pub(super) fn spectrum(d: &mut [f32], rows: usize, cols: usize) -> Spectrum {
    let full = rows.min(cols);
    let top = d.iter().fold(0f32, |m, v| m.max(v.abs()));
    if top == 0.0 || full == 0 {
        return Spectrum { values: Vec::new(), energy: 0.0, spikes: 0, more: false, full };
    }
    // Squares of squares must not leave the range of f32. A power of two changes no digit.
    let scale = 2f32.powi(-(top.log2().floor() as i32).clamp(-100, 100));
    d.iter_mut().for_each(|v| *v *= scale);
    let (mut row, mut col) = (vec![0f64; rows], vec![0f64; cols]);
    for (r, d) in row.iter_mut().zip(d.chunks_exact(cols)) {
        for (c, v) in col.iter_mut().zip(d) {
            let e = f64::from(*v) * f64::from(*v);
            *c += e;
            *r += e;
        }
    }
    let energy: f64 = row.iter().sum();
    let mut found = None;
    for (i, width) in WIDTHS.iter().enumerate() {
        let width = (*width).min(full);
        let lead = leading(d, rows, cols, width, ROUNDS[i]);
        let spikes = spikes(&lead, &row, &col, full);
        let held: f64 = lead.values.iter().map(|s| s * s).sum::<f64>() / energy;
        let more = spikes == width && width < full;
        let enough = !more || SHARES.get(i).is_none_or(|s| held < *s);
        found = Some((lead, spikes, more));
        if enough {
            break;
        }
    }
    let back = 1.0 / f64::from(scale);
    let (lead, spikes, more) = found.unwrap_or_default();
    let values = lead.values.iter().map(|s| s * back).collect();
    Spectrum { values, energy: energy * back * back, spikes, more, full }
}

/// Leading singular values with what they do in each row and column.
#[derive(Default)]
struct Leading {
    values: Vec<f64>,
    /// `[rows, width]`: left vectors times values.
    left: Vec<f32>,
    /// `[cols, width]`: right vectors.
    right: Vec<f32>,
}

fn leading(d: &[f32], rows: usize, cols: usize, width: usize, rounds: usize) -> Leading {
    let mut v = signs(cols * width);
    orthonormal(&mut v, cols, width);
    for _ in 0..rounds {
        let mut y = product(d, rows, cols, &v, width);
        orthonormal(&mut y, rows, width);
        v = transposed_product(d, rows, cols, &y, width);
        orthonormal(&mut v, cols, width);
    }
    let b = product(d, rows, cols, &v, width);
    let mut gram = vec![0f64; width * width];
    for row in b.chunks_exact(width) {
        for (i, x) in row.iter().enumerate() {
            let x = f64::from(*x);
            row[..=i].iter().zip(&mut gram[i * width..]).for_each(|(y, g)| *g += x * f64::from(*y));
        }
    }
    for i in 0..width {
        for j in 0..i {
            gram[j * width + i] = gram[i * width + j];
        }
    }
    let (squares, turn) = eigen(gram, width);
    let values = squares.iter().map(|s| s.max(0.0).sqrt()).collect();
    Leading { values, left: rotated(&b, &turn, width), right: rotated(&v, &turn, width) }
}

/// How many singular values stand above the noise that is left without them: above what independent entries of the
/// variances left in rows and columns could make (Bandeira and van Handel, arXiv 1408.6185), or before a fall that noise
/// does not have.
fn spikes(lead: &Leading, rows: &[f64], cols: &[f64], full: usize) -> usize {
    let (width, floor) = (lead.values.len(), lead.values.first().copied().unwrap_or(0.0) * RESOLUTION);
    let (mut rows, mut cols) = (rows.to_vec(), cols.to_vec());
    let top = |v: &[f64]| v.iter().copied().fold(0.0, f64::max).sqrt();
    let mut above = width;
    for (k, s) in lead.values.iter().enumerate() {
        if *s <= floor.max(top(&rows) + top(&cols)) {
            above = k;
            break;
        }
        let share = |v: f32| f64::from(v) * f64::from(v);
        rows.iter_mut().zip(lead.left.chunks_exact(width)).for_each(|(r, l)| *r = (*r - share(l[k])).max(0.0));
        cols.iter_mut().zip(lead.right.chunks_exact(width)).for_each(|(c, v)| *c = (*c - s * s * share(v[k])).max(0.0));
    }
    // Of a small matrix the bound above is loose.
    let falls = lead.values.windows(2).enumerate().take(full / 2).filter(|(_, w)| w[0] > floor);
    let fall = falls.map(|(k, w)| (w[0] / w[1].max(floor), k + 1)).fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a });
    if fall.0 >= GAP { above.max(fall.1) } else { above }
}

/// The same signs at every run.
fn signs(n: usize) -> Vec<f32> {
    let mut s = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        if s >> 40 & 1 == 1 { 1.0 } else { -1.0 }
    };
    (0..n).map(|_| next()).collect()
}

/// `d · v`: `[rows, width]`. Four rows at a time share the reading of `v`.
fn product(d: &[f32], rows: usize, cols: usize, v: &[f32], width: usize) -> Vec<f32> {
    let mut y = vec![0f32; rows * width];
    for (d, y) in d.chunks(4 * cols).zip(y.chunks_mut(4 * width)) {
        if d.len() < 4 * cols {
            for (d, y) in d.chunks_exact(cols).zip(y.chunks_exact_mut(width)) {
                for (x, v) in d.iter().zip(v.chunks_exact(width)) {
                    y.iter_mut().zip(v).for_each(|(y, v)| *y += x * v);
                }
            }
            continue;
        }
        let [d0, d1, d2, d3] = [0, 1, 2, 3].map(|i| &d[i * cols..(i + 1) * cols]);
        let (y01, y23) = y.split_at_mut(2 * width);
        let ((y0, y1), (y2, y3)) = (y01.split_at_mut(width), y23.split_at_mut(width));
        for (k, v) in v.chunks_exact(width).enumerate() {
            let (a, b, c, e) = (d0[k], d1[k], d2[k], d3[k]);
            for (j, v) in v.iter().enumerate() {
                y0[j] += a * v;
                y1[j] += b * v;
                y2[j] += c * v;
                y3[j] += e * v;
            }
        }
    }
    y
}

/// `dᵀ · y`: `[cols, width]`.
fn transposed_product(d: &[f32], rows: usize, cols: usize, y: &[f32], width: usize) -> Vec<f32> {
    let mut z = vec![0f32; cols * width];
    for first in (0..rows).step_by(4) {
        let n = (rows - first).min(4);
        let (d, y) = (&d[first * cols..(first + n) * cols], &y[first * width..(first + n) * width]);
        if n < 4 {
            for (d, y) in d.chunks_exact(cols).zip(y.chunks_exact(width)) {
                for (x, z) in d.iter().zip(z.chunks_exact_mut(width)) {
                    z.iter_mut().zip(y).for_each(|(z, y)| *z += x * y);
                }
            }
            continue;
        }
        let [y0, y1, y2, y3] = [0, 1, 2, 3].map(|i| &y[i * width..(i + 1) * width]);
        for (k, z) in z.chunks_exact_mut(width).enumerate() {
            let (a, b, c, e) = (d[k], d[cols + k], d[2 * cols + k], d[3 * cols + k]);
            for (j, z) in z.iter_mut().enumerate() {
                *z += a * y0[j] + b * y1[j] + c * y2[j] + e * y3[j];
            }
        }
    }
    z
}

/// Makes the columns of `m` `[n, width]` orthonormal, by Gram and Schmidt, each twice; what vanishes becomes zero.
fn orthonormal(m: &mut [f32], n: usize, width: usize) {
    let mut columns = vec![0f32; n * width];
    for (i, row) in m.chunks_exact(width).enumerate() {
        row.iter().enumerate().for_each(|(j, v)| columns[j * n + i] = *v);
    }
    for j in 0..width {
        let (done, rest) = columns.split_at_mut(j * n);
        let c = &mut rest[..n];
        let before = dot(c, c).sqrt();
        for _ in 0..2 {
            for q in done.chunks_exact(n) {
                let along = dot(q, c) as f32;
                c.iter_mut().zip(q).for_each(|(c, q)| *c -= along * q);
            }
        }
        let norm = dot(c, c).sqrt();
        let inverse = if norm > before * 1e-6 { (1.0 / norm) as f32 } else { 0.0 };
        c.iter_mut().for_each(|c| *c *= inverse);
    }
    for (i, row) in m.chunks_exact_mut(width).enumerate() {
        row.iter_mut().enumerate().for_each(|(j, v)| *v = columns[j * n + i]);
    }
}

/// In eight chains, summed in f64 by pieces: precise enough for Gram and Schmidt, and no chain waits for itself.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sum = 0f64;
    for (a, b) in a.chunks(1024).zip(b.chunks(1024)) {
        let mut lanes = [0f32; 8];
        let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
        let tail: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
        for (x, y) in a8.zip(b8) {
            for i in 0..8 {
                lanes[i] += x[i] * y[i];
            }
        }
        sum += lanes.iter().map(|l| f64::from(*l)).sum::<f64>() + f64::from(tail);
    }
    sum
}

fn rotated(m: &[f32], turn: &[f64], width: usize) -> Vec<f32> {
    let mut out = vec![0f32; m.len()];
    for (row, out) in m.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        for (x, t) in row.iter().zip(turn.chunks_exact(width)) {
            out.iter_mut().zip(t).for_each(|(o, t)| *o += x * *t as f32);
        }
    }
    out
}

/// Eigenvalues of a symmetric matrix, largest first, and its eigenvectors as columns, by Jacobi's rotations.
fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut v = vec![0f64; n * n];
    (0..n).for_each(|i| v[i * n + i] = 1.0);
    let scale = (0..n).map(|i| a[i * n + i].abs()).fold(f64::MIN_POSITIVE, f64::max);
    for _ in 0..40 {
        let mut largest = 0f64;
        for p in 0..n {
            for q in p + 1..n {
                let apq = a[p * n + q];
                // Relative to its own diagonal: small eigenvalues keep their digits.
                let own = (a[p * n + p] * a[q * n + q]).abs().sqrt().max(scale * 1e-300);
                largest = largest.max(apq.abs() / own);
                if apq.abs() <= own * 1e-14 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..n {
                    let (x, y) = (v[k * n + p], v[k * n + q]);
                    (v[k * n + p], v[k * n + q]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
        if largest <= 1e-12 {
            break;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|x, y| a[y * n + y].total_cmp(&a[x * n + x]));
    let values = order.iter().map(|i| a[i * n + i]).collect();
    let mut vectors = vec![0f64; n * n];
    for (to, from) in order.iter().enumerate() {
        (0..n).for_each(|k| vectors[k * n + to] = v[k * n + from]);
    }
    (values, vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Random(u64);
    impl Random {
        /// About normal.
        fn next(&mut self) -> f32 {
            let mut uniform = || {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (self.0 >> 40) as f32 / (1 << 24) as f32
            };
            (0..6).map(|_| uniform()).sum::<f32>() * std::f32::consts::SQRT_2 - 3.0 * std::f32::consts::SQRT_2
        }
    }

    /// A matrix of this rank whose singular values fall by `decay` each, and noise of this deviation.
    fn low(rows: usize, cols: usize, rank: usize, decay: f32, noise: f32) -> Vec<f32> {
        let mut random = Random(rank as u64 * 77 + rows as u64);
        let mut d: Vec<f32> = (0..rows * cols).map(|_| random.next() * noise).collect();
        for k in 0..rank {
            let u: Vec<f32> = (0..rows).map(|_| random.next()).collect();
            let v: Vec<f32> = (0..cols).map(|_| random.next()).collect();
            for (row, u) in d.chunks_exact_mut(cols).zip(&u) {
                row.iter_mut().zip(&v).for_each(|(d, v)| *d += decay.powi(k as i32) * u * v);
            }
        }
        d
    }

    #[test]
    fn ranks_are_found_with_and_without_noise() {
        for (rows, cols, rank, decay, noise) in [
            (64, 48, 1, 1.0, 0.0),
            (32, 32, 4, 1.0, 0.0),
            (200, 300, 16, 0.8, 0.0),
            (300, 200, 40, 1.0, 0.0),
            (256, 256, 8, 0.9, 1.0),
            (512, 128, 4, 1.0, 3.0),
            (400, 400, 100, 1.0, 1e-3),
        ] {
            let s = spectrum(&mut low(rows, cols, rank, decay, noise), rows, cols);
            assert_eq!((s.spikes, s.more), (rank, false), "{rows}x{cols} of rank {rank}: {:?}", &s.values);
        }
    }

    #[test]
    fn noise_has_no_rank() {
        for (rows, cols) in [(32, 32), (64, 256), (500, 300), (40, 1000)] {
            let s = spectrum(&mut low(rows, cols, 0, 1.0, 0.3), rows, cols);
            assert_eq!(s.spikes, 0, "{rows}x{cols}: {:?}", &s.values[..4]);
            assert!(s.participation() > 0.3 * (rows * cols) as f64 / (rows + cols) as f64, "{}", s.participation());
        }
    }

    #[test]
    fn values_are_those_of_the_matrix() {
        // A diagonal one, at scales whose squares f32 does not hold.
        for scale in [1e-25f32, 1.0, 1e25] {
            let mut d = vec![0f32; 40 * 60];
            (0..40).for_each(|i| d[i * 60 + i] = scale * (40 - i) as f32);
            let s = spectrum(&mut d, 40, 60);
            for (i, v) in s.values.iter().take(8).enumerate() {
                let want = f64::from(scale) * (40 - i) as f64;
                assert!((v / want - 1.0).abs() < 1e-2, "{i}: {v} {want}");
            }
        }
        let s = spectrum(&mut [0.0; 12], 3, 4);
        assert_eq!((s.spikes, s.energy, s.stable_rank(), s.participation()), (0, 0.0, 0.0, 0.0));
    }
}
