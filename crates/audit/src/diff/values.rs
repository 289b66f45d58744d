//! The values of a weight row by row, in the order that the other side has them.
//!
//! Owns: permutations between formats' layouts and how they are found, rows matched by token, and constants that
//! converters add. Does not own: decoding (`pondera-quant`).
use super::open::{Entry, Side};
use pondera_ops::RUN;
use pondera_quant::Matrix;
use std::{ops::Range, sync::Arc};

/// Rows that are read to find out how two tensors lie to each other.
const PROBED: usize = 96;
/// To this share what the cosine lacks must fall before values are taken in another order.
const GAIN: f64 = 0.5;

/// A weight as rows of numbers.
#[derive(Clone)]
pub(super) struct Values<'a> {
    groups: &'a [Matrix],
    /// Rows of all groups.
    pub rows: usize,
    pub cols: usize,
    /// Rows of a group.
    pub group: usize,
    /// Which stored row (of a vector: which element) stands where.
    order: Option<Arc<[u32]>>,
    /// Which stored column stands where.
    columns: Option<Arc<[u32]>>,
    /// Added to every value.
    plus: f32,
}

impl<'a> Values<'a> {
    pub fn new(e: &'a Entry) -> Values<'a> {
        let rows = e.groups.len().saturating_mul(e.out);
        Values { groups: &e.groups, rows, cols: e.inp, group: e.out, order: None, columns: None, plus: 0.0 }
    }

    /// The same in another order of rows.
    pub fn ordered(self, order: Arc<[u32]>) -> Values<'a> {
        let rows = if self.rows == 1 { 1 } else { order.len() };
        Values { rows, order: Some(order), ..self }
    }

    /// Only the first rows.
    pub fn cut(self, rows: usize) -> Values<'a> {
        Values { rows: rows.min(self.rows), ..self }
    }

    /// Decodes `rows`: `dst` is `[rows.len(), cols]`.
    pub fn read(&self, rows: Range<usize>, dst: &mut [f32]) {
        match &self.order {
            None => {
                let mut at = rows.start;
                let mut dst = &mut *dst;
                while at < rows.end {
                    let (g, first) = (at / self.group.max(1), at % self.group.max(1));
                    let n = (self.group - first).min(rows.end - at);
                    let (part, rest) = dst.split_at_mut(n * self.cols);
                    self.groups[g].decode_rows(first..first + n, part);
                    (dst, at) = (rest, at + n);
                }
            }
            Some(order) if self.rows == 1 => {
                let mut stored = vec![0f32; self.cols];
                self.groups[0].decode_rows(0..1, &mut stored);
                dst.iter_mut().zip(order.iter()).for_each(|(d, o)| *d = stored[*o as usize]);
            }
            Some(order) => {
                for (at, dst) in rows.zip(dst.chunks_exact_mut(self.cols.max(1))) {
                    let o = order[at] as usize;
                    let (g, first) = (o / self.group.max(1), o % self.group.max(1));
                    self.groups[g].decode_rows(first..first + 1, dst);
                }
            }
        }
        if let Some(columns) = &self.columns {
            let mut stored = vec![0f32; self.cols];
            for dst in dst.chunks_exact_mut(self.cols.max(1)) {
                stored.copy_from_slice(dst);
                dst.iter_mut().zip(columns.iter()).for_each(|(d, c)| *d = stored[*c as usize]);
            }
        }
        if self.plus != 0.0 {
            dst.iter_mut().for_each(|d| *d += self.plus);
        }
    }

    /// Whether both are the same bytes in the same format: equal even where f32 cannot hold the values.
    pub fn same_bytes(&self, other: &Values<'_>) -> bool {
        let plain = |v: &Values<'_>| v.order.is_none() && v.columns.is_none() && v.plus == 0.0;
        let size = |v: &Values<'_>| (v.rows, v.cols, v.groups.len());
        if !plain(self) || !plain(other) || size(self) != size(other) {
            return false;
        }
        // Of one matrix the rows that both have; of a stack all.
        let rows = if self.groups.len() == 1 { self.rows } else { self.group };
        (self.groups.len() == 1 || self.group == other.group)
            && self.groups.iter().zip(other.groups).all(|(a, b)| same_rows(a, b, rows))
    }
}

fn same_rows(a: &Matrix, b: &Matrix, rows: usize) -> bool {
    let format = |m: &Matrix| match m {
        Matrix::Rows { format, .. } => Some(*format),
        _ => None,
    };
    format(a).is_some_and(|f| Some(f) == format(b)) && (0..rows).all(|o| a.row(o).is_some() && a.row(o) == b.row(o))
}

/// How `b` must be read so that it lies as `a` does, and what was done to it in words.
pub(super) fn aligned<'a>(
    (a, b): (&Values<'_>, Values<'a>),
    (ea, eb): (&Entry, &Entry),
    (sa, sb): (&Side, &Side),
) -> (Values<'a>, Option<String>) {
    let gguf = |s: &Side| s.weights.gguf().is_some();
    if gguf(sa) == gguf(sb) || ea.groups.len() != 1 || (a.rows, a.cols) != (b.rows, b.cols) {
        return (b, None);
    }
    if ea.out == 1 && eb.out == 1 {
        // Converters store 1 + w for some norms.
        let sum = |plus: f32| {
            let b = Values { plus, ..b.clone() };
            (distance(a, &b), plus)
        };
        let best = [sum(0.0), sum(1.0), sum(-1.0)].into_iter().min_by(|x, y| x.0.total_cmp(&y.0));
        if let Some((_, plus)) = best.filter(|(d, plus)| *plus != 0.0 && *d < 0.25 * distance(a, &b)) {
            let what = if plus > 0.0 { "1 was subtracted from B" } else { "1 was added in B" };
            return (Values { plus, ..b }, Some(format!("{what} by the converter")));
        }
    }
    let rows = if ea.out == 1 { ea.inp } else { ea.out };
    let same = likeness(a, &b);
    // Scaled weights lie as they are.
    if 1.0 - same < 1e-9 {
        return (b, None);
    }
    let mut best = (same, None);
    for (what, order) in orders(sa, rows) {
        let order: Arc<[u32]> = if gguf(sa) { inverse(&order) } else { order }.into();
        let like = likeness(a, &b.clone().ordered(order.clone()));
        if 1.0 - like < GAIN * (1.0 - best.0) {
            best = (like, Some((what, order)));
        }
    }
    if let Some((what, order)) = best.1 {
        return (b.ordered(order), Some(what.to_string()));
    }
    if ea.out > 1
        && let Some(order) = turned_heads(sa, ea.inp)
    {
        let order = if gguf(sa) { inverse(&order) } else { order };
        let turned = Values { columns: Some(order.into()), ..b.clone() };
        if 1.0 - likeness(a, &turned) < GAIN * (1.0 - same) {
            return (turned, Some("columns of value heads reordered".into()));
        }
    }
    (b, None)
}

/// Value heads of a delta net in turns instead of grouped by key head, where `n` is what belongs to them: one each, their
/// values, or queries, keys and values together (times the kernel of a convolution).
fn turned_heads(side: &Side, n: usize) -> Option<Vec<u32>> {
    let config = side.config.as_ref()?;
    let size = |key: &str| config.size(key).ok().filter(|n| *n > 0);
    let (key_heads, heads) = (size("linear_num_key_heads")?, size("linear_num_value_heads")?);
    let (key_dim, dim) = (size("linear_key_head_dim")?, size("linear_value_head_dim")?);
    let (keys, values) = (key_heads.checked_mul(2 * key_dim)?, heads.checked_mul(dim)?);
    let kernel = size("linear_conv_kernel_dim")?;
    let (before, width) = match n {
        n if n == heads => (0, 1),
        n if n == values => (0, dim),
        n if n == keys + values => (keys, dim),
        n if n == (keys + values).checked_mul(kernel)? => {
            // The taps of a convolution lie run by run of channels, as operations want them.
            let (channels, mut order) = (turned_heads(side, keys + values)?, vec![0; n]);
            let place = |c: usize, k: usize| {
                let first = c / RUN * RUN;
                first * kernel + k * RUN.min(keys + values - first) + (c - first)
            };
            for (c, to) in channels.iter().enumerate() {
                (0..kernel).for_each(|k| order[place(c, k)] = place(*to as usize, k) as u32);
            }
            return Some(order);
        }
        _ => return None,
    };
    let of = |r: usize| {
        let Some(r) = r.checked_sub(before) else { return r as u32 };
        let (head, i, each) = (r / width, r % width, heads / key_heads);
        (before + (head % each * key_heads + head / each) * width + i) as u32
    };
    (heads.is_multiple_of(key_heads) && u32::try_from(n).is_ok()).then(|| (0..n).map(of).collect())
}

/// Orders that converters bring rows into: for each row of a repository's matrix the row of the GGUF file's.
fn orders(side: &Side, rows: usize) -> Vec<(&'static str, Vec<u32>)> {
    let mut found: Vec<(&'static str, Vec<u32>)> =
        turned_heads(side, rows).map(|o| ("value heads reordered", o)).into_iter().collect();
    let Some(config) = side.config.as_ref().filter(|_| u32::try_from(rows).is_ok()) else { return found };
    let Ok((heads, kv_heads, head_dim)) = config.heads() else { return found };
    for heads in [heads, kv_heads] {
        // Rotated halves of a head become neighbours.
        if heads > 0 && rows.is_multiple_of(2 * heads) {
            let (d, half) = (rows / heads, rows / heads / 2);
            let of = |r: usize| (r / d * d + 2 * (r % half) + r % d / half) as u32;
            found.push(("rows permuted within heads (rotary pairs)", (0..rows).map(of).collect()));
        }
    }
    // Queries, keys and values of each group, or all queries, then all keys, then all values.
    if kv_heads > 0 && heads.is_multiple_of(kv_heads) && rows == (heads + 2 * kv_heads) * head_dim {
        let q = heads / kv_heads;
        let of = |r: usize| {
            let (head, i) = (r / head_dim, r % head_dim);
            let (g, within) = (head / (q + 2), head % (q + 2));
            let to = match within.checked_sub(q) {
                None => g * q + within,
                Some(0) => heads + g,
                Some(_) => heads + kv_heads + g,
            };
            (to * head_dim + i) as u32
        };
        found.push(("queries, keys and values regrouped", (0..rows).map(of).collect()));
    }
    found
}

fn inverse(order: &[u32]) -> Vec<u32> {
    let mut back = vec![0; order.len()];
    (0u32..).zip(order).for_each(|(i, o)| back[*o as usize] = i);
    back
}

/// Rows spread over the tensor, of both.
fn probes(a: &Values<'_>, b: &Values<'_>, mut see: impl FnMut(&[f32], &[f32])) {
    let (mut x, mut y) = (vec![0f32; a.cols], vec![0f32; b.cols]);
    let n = a.rows.min(PROBED);
    for i in 0..n {
        let r = (i * a.rows + a.rows / 2) / n;
        a.read(r..r + 1, &mut x);
        b.read(r..r + 1, &mut y);
        see(&x, &y);
    }
}

/// The cosine over some rows.
pub(super) fn likeness(a: &Values<'_>, b: &Values<'_>) -> f64 {
    let (mut aa, mut bb, mut ab) = (0f64, 0f64, 0f64);
    probes(a, b, |x, y| {
        for (x, y) in x.iter().zip(y).map(|(x, y)| (f64::from(*x), f64::from(*y))) {
            if (x * y).is_finite() {
                (aa, bb, ab) = (aa + x * x, bb + y * y, ab + x * y);
            }
        }
    });
    if aa > 0.0 && bb > 0.0 { ab / (aa.sqrt() * bb.sqrt()) } else { 0.0 }
}

fn distance(a: &Values<'_>, b: &Values<'_>) -> f64 {
    let mut sum = 0f64;
    probes(a, b, |x, y| sum += x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>());
    sum
}
