//! What the weights' values are: how they spread, layer by layer, and how far they are from those of another model.
//!
//! Reads every weight once, decoded in pieces. Works on the weights as the family lists them, so that files of any layout,
//! name and storage are compared value by value. Does not own: what a part is ([`super::architecture`]), drawings.
use super::architecture::{Part, layer_of, part_of};
use crate::{
    Context,
    error::{Error, Result},
    progress::Bar,
};
use pondera_arch::Model;
use pondera_quant::Matrix;
use pondera_weights::{TensorInfo, Weights};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Values that are decoded at a time, where rows are not longer.
const PIECE: usize = 1 << 15;
/// Longest row that is decoded: no published weight has one of a hundredth of it.
const ROW_MAX: usize = 1 << 26;
/// Bins of a histogram.
const BINS: usize = 64;
/// Standard deviations that a histogram reaches to on either side.
const REACH: f64 = 4.0;

/// What the values are.
#[derive(Debug, Serialize)]
pub struct Values {
    /// Every weight.
    pub tensors: Vec<TensorValues>,
    /// Where the bins of all histograms begin and end.
    pub edges: [f64; 2],
    /// The matrices of each layer, then of what stands outside of layers.
    pub histograms: Vec<Histogram>,
}

/// One weight's values.
#[derive(Debug, Serialize)]
pub struct TensorValues {
    /// Its name in the files.
    pub name: String,
    /// Its layer.
    pub layer: Option<usize>,
    /// What it is for.
    pub part: Part,
    /// How it is stored.
    #[serde(rename = "type")]
    pub format: &'static str,
    /// Values.
    pub elements: u64,
    /// Least.
    pub min: f32,
    /// Greatest.
    pub max: f32,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
    /// Root of the mean square.
    pub rms: f64,
    /// Values that are zero.
    pub zeros: u64,
    /// Values that are no numbers.
    pub non_finite: u64,
}

/// How the values of a layer's matrices spread.
#[derive(Debug, Serialize)]
pub struct Histogram {
    /// Its layer; none for what stands outside.
    pub layer: Option<usize>,
    /// Values per bin.
    pub counts: Vec<u64>,
    /// Values below the first bin and above the last.
    pub outside: [u64; 2],
}

/// How far a model is from another.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The other, which counts as the original.
    pub against: String,
    /// Root of the squared difference over the squared original, all matrices together.
    pub relative_rms: f64,
    /// Each matrix that both have.
    pub tensors: Vec<TensorError>,
    /// The same by layer; none for what stands outside.
    pub layers: Vec<LayerError>,
    /// Matrices that have no partner of their shape in the other.
    pub unmatched: Vec<String>,
}

/// How far a matrix is from the original.
#[derive(Debug, Serialize)]
pub struct TensorError {
    /// Its name in the files.
    pub name: String,
    /// The original's name in its files.
    pub original: String,
    /// Its layer.
    pub layer: Option<usize>,
    /// What it is for.
    pub part: Part,
    /// How it is stored.
    #[serde(rename = "type")]
    pub format: &'static str,
    /// How the original is stored.
    pub original_type: &'static str,
    /// Root of the squared difference over the squared original.
    pub relative_rms: f64,
    /// Greatest difference.
    pub max_abs: f64,
    /// Whether the rows of heads stand in another order in the original, and were matched so.
    pub reordered: bool,
    #[serde(skip)]
    squares: [f64; 2],
}

/// How far a layer is from the original.
#[derive(Debug, Serialize)]
pub struct LayerError {
    /// Which; none for what stands outside of layers.
    pub layer: Option<usize>,
    /// All its matrices together.
    pub relative_rms: f64,
    /// By part.
    pub parts: BTreeMap<Part, f64>,
}

/// A weight to be read.
pub struct Item<'a> {
    name: String,
    layer: Option<usize>,
    part: Part,
    format: &'static str,
    groups: Vec<Group<'a>>,
}

/// A part of a weight.
enum Group<'a> {
    Matrix(&'a Matrix),
    /// Of a file that belongs to no model: as it lies, whatever its shape.
    Plain(&'a Weights, &'a TensorInfo),
}

/// The weights of a model.
pub fn of_model(model: &Model) -> Vec<Item<'_>> {
    let layers = model.description().num_hidden_layers;
    model
        .listed()
        .map(|(t, w)| {
            let (layer, role) = layer_of(&t.name, layers);
            let part = part_of(&role, t.shape, layer.is_some());
            let groups = w.groups.iter().map(Group::Matrix).collect();
            Item { name: t.name.clone(), layer, part, format: t.format, groups }
        })
        .collect()
}

/// Widths that heads have.
pub fn heads(model: &Model) -> Vec<usize> {
    let widths: BTreeSet<usize> = model.caches().iter().map(|c| c.k_dim).collect();
    // Layers may differ; published models have two kinds.
    widths.into_iter().take(8).collect()
}

/// The tensors of files that make no model.
pub fn of_files(weights: &Weights) -> Vec<Item<'_>> {
    weights
        .tensors()
        .iter()
        .map(|t| {
            let (layer, role) = layer_of(&t.name, usize::MAX);
            let shape = match t.shape[..] {
                [] => [1, 1, 1],
                [n] => [1, 1, n],
                [ref rest @ .., inp] => [1, rest.iter().product(), inp],
            };
            let part = part_of(&role, shape, layer.is_some());
            let groups = vec![Group::Plain(weights, t)];
            Item { name: t.name.to_string(), layer, part, format: t.format.info().name, groups }
        })
        .collect()
}

impl Item<'_> {
    fn is_matrix(&self) -> bool {
        match self.groups.first() {
            Some(Group::Matrix(m)) => m.out() > 1 && m.inp() > 1,
            Some(Group::Plain(_, t)) => t.shape.iter().filter(|d| **d > 1).count() > 1,
            None => false,
        }
    }

    fn elements(&self) -> usize {
        let of = |g: &Group<'_>| match g {
            Group::Matrix(m) => m.out().saturating_mul(m.inp()),
            Group::Plain(_, t) => t.elements(),
        };
        self.groups.iter().map(of).fold(0, usize::saturating_add)
    }

    /// All values in pieces.
    fn each(&self, f: &mut dyn FnMut(&[f32])) -> Result<()> {
        let mut buffer = Vec::new();
        for group in &self.groups {
            match group {
                Group::Matrix(m) => {
                    let step = rows_of(&self.name, m.inp())?;
                    for first in (0..m.out()).step_by(step) {
                        let rows = first..(first + step).min(m.out());
                        buffer.resize(rows.len() * m.inp(), 0.0);
                        m.decode_rows(rows, &mut buffer);
                        f(&buffer);
                    }
                }
                Group::Plain(weights, t) => {
                    let view = weights.view(t)?;
                    let info = t.format.info();
                    let blocks = (PIECE / info.block).max(1);
                    for bytes in view.bytes.as_slice().chunks(blocks * info.bytes) {
                        buffer.resize(bytes.len() / info.bytes * info.block, 0.0);
                        (info.decode)(bytes, &mut buffer);
                        f(&buffer);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Rows that are decoded at a time.
fn rows_of(name: &str, inp: usize) -> Result<usize> {
    if inp > ROW_MAX {
        return Err(Error::file(format!("{name}: a row of {inp} values is too long to be read")));
    }
    Ok((PIECE / inp.max(1)).max(1))
}

/// Values by sign, exponent and five bits of their fraction: one pass finds what any histogram needs to 3 %.
const CELLS: usize = 1 << 14;
/// Layers that get a histogram; a small file may name millions.
const LAYERS_MAX: usize = 512;

struct Seen {
    min: f32,
    max: f32,
    sum: f64,
    squares: f64,
    finite: u64,
    zeros: u64,
    non_finite: u64,
    cells: Vec<u64>,
}

impl Seen {
    fn new() -> Seen {
        let (min, max) = (f32::INFINITY, f32::NEG_INFINITY);
        Seen { min, max, sum: 0.0, squares: 0.0, finite: 0, zeros: 0, non_finite: 0, cells: vec![0; CELLS] }
    }

    fn take(&mut self, values: &[f32]) {
        let (mut sum, mut squares) = (0.0, 0.0);
        for v in values {
            if !v.is_finite() {
                self.non_finite += 1;
                continue;
            }
            self.finite += 1;
            self.zeros += u64::from(*v == 0.0);
            (self.min, self.max) = (self.min.min(*v), self.max.max(*v));
            let wide = f64::from(*v);
            sum += wide;
            squares += wide * wide;
            self.cells[(v.to_bits() >> 18) as usize] += 1;
        }
        self.sum += sum;
        self.squares += squares;
    }
}

/// Reads all `items` on `threads` threads.
pub fn read(items: &[Item<'_>], threads: usize, context: &Context) -> Result<Values> {
    let spectra: BTreeMap<Option<usize>, Mutex<Vec<u64>>> = items
        .iter()
        .filter(|i| i.is_matrix() && i.layer.is_none_or(|l| l < LAYERS_MAX))
        .map(|i| i.layer)
        .map(|l| (l, Mutex::default()))
        .collect();
    let one = |item: &Item<'_>| {
        let mut seen = Seen::new();
        item.each(&mut |values| seen.take(values))?;
        if let Some(sum) = spectra.get(&item.layer).filter(|_| item.is_matrix()) {
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.resize(CELLS, 0);
            sum.iter_mut().zip(&seen.cells).for_each(|(s, n)| *s += n);
        }
        let n = seen.finite.max(1) as f64;
        let (mean, square) = (seen.sum / n, seen.squares / n);
        let bound = |v: f32| if v.is_finite() { v } else { 0.0 };
        Ok(TensorValues {
            name: item.name.clone(),
            layer: item.layer,
            part: item.part,
            format: item.format,
            elements: item.elements() as u64,
            min: bound(seen.min),
            max: bound(seen.max),
            mean,
            std: (square - mean * mean).max(0.0).sqrt(),
            rms: square.sqrt(),
            zeros: seen.zeros,
            non_finite: seen.non_finite,
        })
    };
    let tensors = side_by_side(items, threads, &|i| i.elements(), &one, context)?;
    let matrix: Vec<bool> = items.iter().map(Item::is_matrix).collect();
    let spread = |layer: &Option<usize>| {
        let of = tensors.iter().zip(&matrix).filter(|(t, m)| **m && t.layer == *layer).map(|(t, _)| t);
        let (n, squares) =
            of.fold((0.0, 0.0), |(n, s), t| (n + t.elements as f64, s + t.rms * t.rms * t.elements as f64));
        f64::sqrt(squares / f64::max(n, 1.0))
    };
    let widest = spectra.keys().map(spread).fold(0.0, f64::max);
    let reach = if widest > 0.0 && widest.is_finite() { REACH * widest } else { 1.0 };
    let mut histograms: Vec<Histogram> = spectra
        .into_iter()
        .map(|(layer, cells)| histogram(layer, &cells.into_inner().unwrap_or_else(PoisonError::into_inner), reach))
        .collect();
    // What stands outside comes last.
    histograms.sort_by_key(|h| h.layer.unwrap_or(usize::MAX));
    Ok(Values { tensors, edges: [-reach, reach], histograms })
}

/// Cells in bins: each goes where its middle is.
fn histogram(layer: Option<usize>, cells: &[u64], reach: f64) -> Histogram {
    let (mut counts, mut outside) = (vec![0; BINS], [0, 0]);
    for (cell, n) in cells.iter().enumerate().filter(|(_, n)| **n > 0) {
        let middle = f64::from(f32::from_bits((cell as u32) << 18 | 1 << 17));
        // Zero has a cell of its own with what is too small to tell from it.
        let middle = if cell % (CELLS / 2) == 0 { 0.0 } else { middle };
        let place = (middle + reach) / (2.0 * reach) * BINS as f64;
        match place {
            p if p < 0.0 => outside[0] += n,
            p if p >= BINS as f64 => outside[1] += n,
            p => counts[p as usize] += n,
        }
    }
    Histogram { layer, counts, outside }
}

/// Compares `items` with `originals`, matrix by matrix. `heads`: [`heads`] of either.
pub fn compare(
    items: &[Item<'_>],
    originals: &[Item<'_>],
    heads: &[usize],
    against: String,
    threads: usize,
    context: &Context,
) -> Result<Comparison> {
    let (pairs, unmatched) = pairs(items, originals);
    if pairs.is_empty() {
        return Err(Error::file(format!("{against}: no weight of it has the shape of one here"))
            .hint("--against names the model that this one was quantized from"));
    }
    let one = |pair: &(&Item<'_>, &Item<'_>)| error(pair.0, pair.1, heads);
    let tensors = side_by_side(&pairs, threads, &|p| p.0.elements(), &one, context)?;
    let mut by: BTreeMap<usize, BTreeMap<Part, [f64; 2]>> = BTreeMap::new();
    for t in &tensors {
        let sums = by.entry(t.layer.unwrap_or(usize::MAX)).or_default().entry(t.part).or_default();
        (sums[0], sums[1]) = (sums[0] + t.squares[0], sums[1] + t.squares[1]);
    }
    let all = |sums: &mut dyn Iterator<Item = [f64; 2]>| {
        let [a, b] = sums.fold([0.0, 0.0], |[a, b], s| [a + s[0], b + s[1]]);
        ratio(a, b)
    };
    let layer = |(layer, parts): (usize, BTreeMap<Part, [f64; 2]>)| LayerError {
        layer: Some(layer).filter(|l| *l != usize::MAX),
        relative_rms: all(&mut parts.values().copied()),
        parts: parts.into_iter().map(|(part, [a, b])| (part, ratio(a, b))).collect(),
    };
    Ok(Comparison {
        against,
        relative_rms: all(&mut tensors.iter().map(|t| t.squares)),
        layers: by.into_iter().map(layer).collect(),
        tensors,
        unmatched,
    })
}

fn ratio(difference: f64, original: f64) -> f64 {
    if original > 0.0 { (difference / original).sqrt() } else { difference.sqrt() }
}

/// Matrices by layer, part and place among those, of one shape: names differ between files, the family's order does not.
fn pairs<'a>(items: &'a [Item<'a>], originals: &'a [Item<'a>]) -> (Vec<(&'a Item<'a>, &'a Item<'a>)>, Vec<String>) {
    type Key = (Option<usize>, Part, usize);
    fn keyed<'a>(items: &'a [Item<'a>]) -> Vec<(Key, &'a Item<'a>)> {
        let mut seen: BTreeMap<(Option<usize>, Part), usize> = BTreeMap::new();
        let mut key = |i: &Item<'_>| {
            let n = seen.entry((i.layer, i.part)).or_default();
            *n += 1;
            (i.layer, i.part, *n)
        };
        items.iter().filter(|i| i.is_matrix()).map(|i| (key(i), i)).collect()
    }
    let theirs: BTreeMap<Key, &Item<'_>> = keyed(originals).into_iter().collect();
    let shape = |i: &Item<'_>| {
        let first = i.groups.first().map(|g| match g {
            Group::Matrix(m) => (m.out(), m.inp()),
            Group::Plain(_, t) => (t.elements(), 1),
        });
        (i.groups.len(), first)
    };
    let (mut pairs, mut alone) = (Vec::new(), Vec::new());
    for (key, item) in keyed(items) {
        match theirs.get(&key).filter(|o| shape(o) == shape(item)) {
            Some(original) => pairs.push((item, *original)),
            None => alone.push(item.name.clone()),
        }
    }
    (pairs, alone)
}

fn error(item: &Item<'_>, original: &Item<'_>, heads: &[usize]) -> Result<TensorError> {
    let (mut sums, mut max_abs, mut reordered) = ([0.0f64; 2], 0.0f64, false);
    for (a, b) in item.groups.iter().zip(&original.groups) {
        let (Group::Matrix(a), Group::Matrix(b)) = (a, b) else { continue };
        let order = if item.part == Part::Attention { order(&item.name, a, b, heads)? } else { Order::Same };
        reordered |= order != Order::Same;
        let step = rows_of(&item.name, a.inp())?;
        for first in (0..a.out()).step_by(step) {
            let (more, top) = difference(a, b, first..(first + step).min(a.out()), order);
            (sums[0], sums[1], max_abs) = (sums[0] + more[0], sums[1] + more[1], max_abs.max(top));
        }
    }
    Ok(TensorError {
        name: item.name.clone(),
        original: original.name.clone(),
        layer: item.layer,
        part: item.part,
        format: item.format,
        original_type: original.format,
        relative_rms: ratio(sums[0], sums[1]),
        max_abs,
        reordered,
        squares: sums,
    })
}

/// Which row of the original a row is. llama.cpp's converter lays out the rows of some families anew.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Same,
    /// Heads of so many rows: what is rotated together stands beside one another here, in halves there.
    Pairs(usize),
    /// The other way round.
    Halves(usize),
    /// All queries, all keys, all values here; those of each head of so many rows there.
    Apart(usize),
    /// The other way round.
    Beside(usize),
}

impl Order {
    /// Of `out` rows.
    fn of(self, row: usize, out: usize) -> usize {
        match self {
            Order::Same => row,
            Order::Pairs(d) => row / d * d + row % 2 * (d / 2) + row % d / 2,
            Order::Halves(d) => row / d * d + row % (d / 2) * 2 + row % d / (d / 2),
            Order::Apart(d) => (row / d % (out / 3 / d) * 3 + row / (out / 3)) * d + row % d,
            Order::Beside(d) => (row / d % 3 * (out / 3 / d) + row / (3 * d)) * d + row % d,
        }
    }

    /// All that rows of heads of `d` may stand in.
    fn all(d: usize, out: usize) -> impl Iterator<Item = Order> {
        let rotated = d >= 2 && d.is_multiple_of(2) && out.is_multiple_of(d);
        let fused = d >= 1 && out.is_multiple_of(3 * d);
        let pairs = [Order::Pairs(d), Order::Halves(d)].into_iter().filter(move |_| rotated);
        pairs.chain([Order::Apart(d), Order::Beside(d)].into_iter().filter(move |_| fused))
    }
}

/// The order that is nearest in some rows. Only where rows as they stand are nothing like one another is another tried;
/// `heads` are the widths that heads may have.
fn order(name: &str, a: &Matrix, b: &Matrix, heads: &[usize]) -> Result<Order> {
    const SAMPLE: usize = 256;
    rows_of(name, a.inp())?;
    let step = (a.out() / SAMPLE).max(1) | 1;
    let far = |order: Order| {
        let sums = (0..a.out()).step_by(step).map(|r| difference(a, b, r..r + 1, order).0);
        let [d, o] = sums.fold([0.0, 0.0], |[d, o], s| [d + s[0], o + s[1]]);
        ratio(d, o)
    };
    let same = far(Order::Same);
    if same < 0.5 {
        return Ok(Order::Same);
    }
    let tried = heads.iter().flat_map(|d| Order::all(*d, a.out()));
    let best = tried.map(|o| (far(o), o)).min_by(|x, y| x.0.total_cmp(&y.0));
    Ok(best.filter(|(e, _)| *e < same / 2.0).map_or(Order::Same, |b| b.1))
}

/// Squared difference, squared original, and greatest difference of `rows`.
fn difference(a: &Matrix, b: &Matrix, rows: Range<usize>, order: Order) -> ([f64; 2], f64) {
    let inp = a.inp();
    let (mut x, mut y) = (vec![0.0; rows.len() * inp], vec![0.0; rows.len() * inp]);
    a.decode_rows(rows.clone(), &mut x);
    for (row, y) in rows.zip(y.chunks_exact_mut(inp.max(1))) {
        let at = order.of(row, a.out());
        b.decode_rows(at..at + 1, y);
    }
    let (mut sums, mut top) = ([0.0; 2], 0.0f64);
    for (x, y) in x.iter().zip(&y) {
        let d = f64::from(*x) - f64::from(*y);
        sums[0] += d * d;
        sums[1] += f64::from(*y) * f64::from(*y);
        top = top.max(d.abs());
    }
    (sums, top)
}

/// `f` of every item on `threads` threads, in the order of items; a bar counts their `size`.
fn side_by_side<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    size: &dyn Fn(&T) -> usize,
    f: &(dyn Fn(&T) -> Result<R> + Sync),
    context: &Context,
) -> Result<Vec<R>> {
    let sizes: Vec<u64> = items.iter().map(|i| size(i) as u64).collect();
    let bar = Mutex::new((Bar::new(context, "weights", sizes.iter().sum()), 0u64));
    let next = AtomicUsize::new(0);
    let (done, failed) = (Mutex::new(BTreeMap::new()), Mutex::new(None));
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(i).filter(|_| failed.lock().is_ok_and(|f| f.is_none())) else { return };
            match f(item) {
                Ok(r) => drop(done.lock().unwrap_or_else(PoisonError::into_inner).insert(i, r)),
                Err(e) => drop(failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e)),
            }
            let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
            bar.1 += sizes.get(i).copied().unwrap_or(0);
            let n = bar.1;
            bar.0.set(n);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(items.len()) {
            // One that cannot be had is one less.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e),
        None => Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pondera_quant::{Bytes, Format};

    fn matrix(format: Format, out: usize, inp: usize, values: &[f32]) -> Matrix {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!((format, values.len()), (Format::F32, out * inp));
        Matrix::Rows { format, out, inp, bytes: Bytes::from(bytes), stride: inp * 4 }
    }

    #[test]
    fn bins_hold_what_falls_into_them() {
        let mut seen = Seen::new();
        let values = [0.0, -0.0, 0.5, -0.5, 0.99, -3.0, f32::NAN, f32::INFINITY, 1e-30];
        seen.take(&values);
        assert_eq!((seen.finite, seen.zeros, seen.non_finite), (7, 2, 2));
        assert_eq!((seen.min, seen.max), (-3.0, 0.99));
        let h = histogram(None, &seen.cells, 1.0);
        assert_eq!(h.outside, [1, 0]);
        assert_eq!(h.counts.iter().sum::<u64>(), 6);
        let bin = |v: f64| ((v + 1.0) / 2.0 * BINS as f64) as usize;
        assert_eq!((h.counts[bin(0.0)], h.counts[bin(0.5)], h.counts[bin(0.99)]), (3, 1, 1));
        // Just below -0.5 lies the bin before: a cell goes where its middle is.
        assert_eq!(h.counts[bin(-0.5)] + h.counts[bin(-0.5) - 1], 1);
    }

    #[test]
    fn orders_undo_one_another() {
        for d in [8, 64] {
            let out = 6 * d;
            for row in 0..out {
                assert_eq!(Order::Halves(d).of(Order::Pairs(d).of(row, out), out), row);
                assert_eq!(Order::Beside(d).of(Order::Apart(d).of(row, out), out), row);
            }
        }
        let rows = |o: Order, out: usize| (0..out).map(|r| o.of(r, out)).collect::<Vec<_>>();
        // Of a head of 8: the first rows of its halves stand beside one another.
        assert_eq!(rows(Order::Pairs(8), 8), [0, 4, 1, 5, 2, 6, 3, 7]);
        // Two heads of one row: queries, keys, values here; each head's three there.
        assert_eq!(rows(Order::Apart(1), 6), [0, 3, 1, 4, 2, 5]);
        assert_eq!(Order::all(8, 48).count(), 4);
        assert_eq!((Order::all(8, 32).count(), Order::all(7, 32).count(), Order::all(0, 32).count()), (2, 0, 0));
    }

    #[test]
    fn rows_in_another_order_are_found_and_errors_are_exact() {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let (out, inp) = (64, 16);
        let b: Vec<f32> = (0..out * inp).map(|_| next()).collect();
        let a: Vec<f32> = (0..out).flat_map(|r| b[Order::Pairs(32).of(r, out) * inp..][..inp].to_vec()).collect();
        let (ma, mb) = (matrix(Format::F32, out, inp, &a), matrix(Format::F32, out, inp, &b));
        assert_eq!(order("q", &ma, &mb, &[64, 32]).unwrap(), Order::Pairs(32));
        assert_eq!(order("q", &mb, &ma, &[64, 32]).unwrap(), Order::Halves(32));
        let (sums, top) = difference(&ma, &mb, 0..out, Order::Pairs(32));
        assert_eq!((sums[0], top), (0.0, 0.0));
        let off: Vec<f32> = b.iter().map(|v| v * 1.01).collect();
        let (sums, _) = difference(&matrix(Format::F32, out, inp, &off), &mb, 0..out, Order::Same);
        assert!((ratio(sums[0], sums[1]) - 0.01).abs() < 1e-5);
    }
}
