//! Statistics of a stored tensor: extremes, mean, root mean square, zeros and values that are no numbers; of block formats
//! the scales, too.
//!
//! Owns one pass over the bytes at the speed of memory for plain floats and at the speed of decoding for the rest. Work is
//! cut into pieces whose sums are added in order, so that the result does not depend on the number of threads. Judges
//! nothing.
//!
//! ```text
//! tensor = pieces of 2^20 elements (what a thread takes) = runs of 4096 (in f32, eight lanes; then in f64)
//! ```
//! A run that holds a value that is no number, or whose squares leave the range of f32, is added once more in f64, one by
//! one: only odd tensors are slow.
use pondera_quant::{BlockScale, Format, TensorView};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Elements that are summed in f32 before they are added in f64.
pub(crate) const RUN: usize = 4096;
/// Elements that a thread takes at a time.
const PIECE: usize = 1 << 20;
/// Pieces whose sums are held at once.
const BATCH: usize = 4096;
/// Accumulators side by side: two registers of the smallest instruction set.
const LANES: usize = 8;
/// Powers of two that are told apart, from 2^-40 on.
const OCTAVES: usize = 64;
const LOWEST: i32 = -40;

/// What one pass over a tensor says. Values that are no numbers (infinities, NaN) are counted and left out of all others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Elements of the tensor.
    pub elements: usize,
    /// Of these, how many were looked at: all, but for a survey of formats of few bits.
    pub seen: usize,
    /// Values that are infinite or NaN.
    pub non_finite: usize,
    /// The first of them.
    pub first_non_finite: Option<usize>,
    /// Zeros of either sign.
    pub zeros: usize,
    /// The least value.
    pub min: f32,
    /// The greatest value.
    pub max: f32,
    /// The greatest magnitude.
    pub abs_max: f32,
    /// An element that has it.
    pub abs_max_at: usize,
    /// The mean, to about 1e-7 of the root mean square.
    pub mean: f64,
    /// The root mean square, to about 1e-6 of itself.
    pub rms: f64,
    /// The median of the root mean squares of runs of 4096, rounded down to a power of two, runs of zeros left out: what is
    /// usual here, whatever a few values say. 0 where all are zero.
    pub usual: f32,
    /// The scales, of block formats.
    pub scales: Option<ScaleStatistics>,
    /// A checksum of the codes of integers, whose values say nothing; 0 of others.
    pub(crate) mark: u64,
}

impl Statistics {
    /// The share of elements that are zero.
    pub fn share_of_zeros(&self) -> f64 {
        self.zeros as f64 / self.seen.max(1) as f64
    }
}

/// What the scales of a block format's blocks say ([`Format::scales`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScaleStatistics {
    /// Blocks.
    pub blocks: usize,
    /// Blocks all of whose scales are zero, and with them their weights.
    pub zero_blocks: usize,
    /// Blocks with a scale that is infinite or NaN.
    pub non_finite: usize,
    /// The first of them.
    pub first_non_finite: Option<usize>,
    /// The greatest magnitude.
    pub abs_max: f32,
    /// A block that has it.
    pub abs_max_at: usize,
    /// The median of the magnitudes but zeros, rounded down to a power of two; 0 where all are zero.
    pub usual: f32,
}

/// The statistics of one tensor, over all of its elements, with `threads` threads (at least one).
///
/// Any format; of integers and truth values the codes are taken for numbers. The result is the same for any number of threads.
///
/// ```
/// use pondera_audit::tensors::statistics;
/// use pondera_quant::{Format, TensorView};
///
/// let bytes: Vec<u8> = [1.0f32, -3.0, 0.0, f32::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
/// let view = TensorView { format: Format::F32, shape: vec![4], bytes: bytes.into() };
/// let s = statistics(&view, 2);
/// assert_eq!((s.min, s.max, s.abs_max_at, s.zeros), (-3.0, 1.0, 1, 1));
/// assert_eq!((s.non_finite, s.first_non_finite), (1, Some(3)));
/// ```
pub fn statistics(view: &TensorView, threads: usize) -> Statistics {
    let tensor = Work { format: view.format, bytes: view.bytes.as_slice(), stride: 1 };
    let mut found = Statistics::default();
    survey(&[tensor], threads, &|_| {}, &mut |_, s| found = s);
    found
}

/// Gives the values of a tensor in order, decoded to f32, in runs of at most 4096; the closure gets the index of the
/// first. For histograms and whatever else statistics do not say.
pub fn values(view: &TensorView, mut each: impl FnMut(usize, &[f32])) {
    let info = view.format.info();
    let mut buffer = [0f32; RUN];
    for (i, run) in view.bytes.as_slice().chunks(RUN / info.block * info.bytes).enumerate() {
        let n = run.len() / info.bytes * info.block;
        (info.decode)(run, &mut buffer[..n]);
        each(i * RUN, &buffer[..n]);
    }
}

/// A tensor that a survey is to look at.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    /// How its bytes are read.
    pub format: Format,
    /// Row-major.
    pub bytes: &'a [u8],
    /// Of runs that must be decoded, one in so many is. Scales are read whole.
    pub stride: usize,
}

impl Work<'_> {
    fn elements(&self) -> usize {
        let info = self.format.info();
        self.bytes.len() / info.bytes * info.block
    }

    fn pieces(&self) -> usize {
        self.elements().div_ceil(PIECE)
    }

    /// The bytes of piece `p`.
    fn piece(&self, p: usize) -> &[u8] {
        let info = self.format.info();
        let size = PIECE / info.block * info.bytes;
        let start = p.saturating_mul(size).min(self.bytes.len());
        &self.bytes[start..start.saturating_add(size).min(self.bytes.len())]
    }
}

/// Gives `each` the statistics of every tensor, in order. `done` hears how many bytes were looked at since it last did,
/// from any thread.
pub(crate) fn survey(
    tensors: &[Work<'_>],
    threads: usize,
    done: &(dyn Fn(usize) + Sync),
    each: &mut dyn FnMut(usize, Statistics),
) {
    let mut list = tensors.iter().enumerate().flat_map(|(t, w)| (0..w.pieces()).map(move |p| (t, p)));
    let mut sums = Sums::default();
    let mut at = 0;
    loop {
        let batch: Vec<(usize, usize)> = list.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let results = pieces(tensors, &batch, threads, done);
        for ((t, p), piece) in batch.into_iter().zip(results) {
            // Tensors without elements have no pieces.
            while at < t {
                each(at, std::mem::take(&mut sums).finish(&tensors[at]));
                at += 1;
            }
            sums.add(&piece, p);
        }
    }
    while at < tensors.len() {
        each(at, std::mem::take(&mut sums).finish(&tensors[at]));
        at += 1;
    }
}

/// The sums of these pieces, in order.
fn pieces(tensors: &[Work<'_>], batch: &[(usize, usize)], threads: usize, done: &(dyn Fn(usize) + Sync)) -> Vec<Piece> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(vec![Piece::default(); batch.len()]));
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(t, p)) = batch.get(i) else { return };
            let bytes = tensors[t].piece(p);
            let piece = piece(tensors[t].format, bytes, tensors[t].stride);
            results.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[i] = piece;
            done(bytes.len());
        }
    };
    let threads = threads.clamp(1, batch.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            // Without a thread there are fewer; the work is done by those that there are.
            let _ = thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work);
        }
        work();
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Sums of a piece.
#[derive(Clone, Copy)]
struct Piece {
    seen: usize,
    non_finite: usize,
    first_non_finite: Option<usize>,
    zeros: usize,
    min: f32,
    max: f32,
    /// First element of the run with the greatest magnitude.
    extreme_run: usize,
    sum: f64,
    squares: f64,
    /// Runs by the power of two of their root mean square.
    octaves: [u32; OCTAVES],
    mark: u64,
    scales: ScaleSums,
}

#[derive(Clone, Copy)]
struct ScaleSums {
    blocks: usize,
    zero_blocks: usize,
    non_finite: usize,
    first_non_finite: Option<usize>,
    abs_max: f32,
    abs_max_at: usize,
    octaves: [u32; OCTAVES],
}

impl Default for Piece {
    fn default() -> Piece {
        Piece {
            seen: 0,
            non_finite: 0,
            first_non_finite: None,
            zeros: 0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            extreme_run: 0,
            sum: 0.0,
            squares: 0.0,
            octaves: [0; OCTAVES],
            mark: 0,
            scales: ScaleSums::default(),
        }
    }
}

impl Default for ScaleSums {
    fn default() -> ScaleSums {
        ScaleSums {
            blocks: 0,
            zero_blocks: 0,
            non_finite: 0,
            first_non_finite: None,
            abs_max: 0.0,
            abs_max_at: 0,
            octaves: [0; OCTAVES],
        }
    }
}

/// Where magnitude `v` counts.
fn octave(v: f32) -> usize {
    let exponent = (v.to_bits() >> 23 & 0xff) as i32 - 127;
    (exponent - LOWEST).clamp(0, OCTAVES as i32 - 1) as usize
}

/// The power of two that half of those counted do not reach.
fn median(octaves: &[u64; OCTAVES]) -> f32 {
    let total: u64 = octaves.iter().sum();
    let mut seen = 0;
    let at = octaves.iter().position(|n| {
        seen += n;
        total > 0 && 2 * seen >= total
    });
    at.map_or(0.0, |i| 2f32.powi(i as i32 + LOWEST))
}

/// A tensor's sums, piece by piece.
#[derive(Default)]
struct Sums {
    all: Piece,
    octaves: Octaves,
    scale_octaves: Octaves,
}

struct Octaves([u64; OCTAVES]);

impl Default for Octaves {
    fn default() -> Octaves {
        Octaves([0; OCTAVES])
    }
}

impl Octaves {
    fn add(&mut self, more: &[u32; OCTAVES]) {
        self.0.iter_mut().zip(more).for_each(|(n, m)| *n += u64::from(*m));
    }
}

impl Sums {
    /// Adds piece `p`.
    fn add(&mut self, piece: &Piece, p: usize) {
        let (all, first) = (&mut self.all, p * PIECE);
        let magnitude = |p: &Piece| p.max.max(-p.min);
        if all.seen == 0 || magnitude(piece) > magnitude(all) {
            all.extreme_run = first + piece.extreme_run;
        }
        all.first_non_finite = all.first_non_finite.or(piece.first_non_finite.map(|i| first + i));
        all.seen += piece.seen;
        all.non_finite += piece.non_finite;
        all.zeros += piece.zeros;
        all.min = all.min.min(piece.min);
        all.max = all.max.max(piece.max);
        all.sum += piece.sum;
        all.squares += piece.squares;
        all.mark = all.mark.rotate_left(7) ^ piece.mark;
        self.octaves.add(&piece.octaves);
        let (s, more) = (&mut self.all.scales, &piece.scales);
        if more.abs_max > s.abs_max {
            (s.abs_max, s.abs_max_at) = (more.abs_max, s.blocks + more.abs_max_at);
        }
        s.first_non_finite = s.first_non_finite.or(more.first_non_finite.map(|i| s.blocks + i));
        s.blocks += more.blocks;
        s.zero_blocks += more.zero_blocks;
        s.non_finite += more.non_finite;
        self.scale_octaves.add(&more.octaves);
    }

    fn finish(self, tensor: &Work<'_>) -> Statistics {
        let all = self.all;
        let finite = (all.seen - all.non_finite) as f64;
        let (min, max) = if finite > 0.0 { (all.min, all.max) } else { (0.0, 0.0) };
        let abs_max = max.max(-min);
        let s = all.scales;
        Statistics {
            elements: tensor.elements(),
            seen: all.seen,
            non_finite: all.non_finite,
            first_non_finite: all.first_non_finite,
            zeros: all.zeros,
            min,
            max,
            abs_max,
            abs_max_at: find(tensor, all.extreme_run, abs_max),
            mean: all.sum / finite.max(1.0),
            rms: (all.squares / finite.max(1.0)).sqrt(),
            usual: median(&self.octaves.0),
            scales: (s.blocks > 0).then(|| ScaleStatistics {
                blocks: s.blocks,
                zero_blocks: s.zero_blocks,
                non_finite: s.non_finite,
                first_non_finite: s.first_non_finite,
                abs_max: s.abs_max,
                abs_max_at: s.abs_max_at,
                usual: median(&self.scale_octaves.0),
            }),
            mark: all.mark,
        }
    }
}

/// The sum of the squares of a row, and whether all of it is finite.
pub(crate) fn row_sums(values: &[f32]) -> (f64, bool) {
    let mut piece = Piece::default();
    values.chunks(RUN).for_each(|run| piece.run(0, run, f32::to_bits));
    (piece.squares, piece.non_finite == 0)
}

/// The median magnitude of a tensor's values but zeros, rounded down to a power of two.
pub(crate) fn median_magnitude(view: &TensorView) -> f32 {
    let mut octaves = [0u64; OCTAVES];
    values(view, |_, run| {
        run.iter().filter(|v| v.is_finite() && **v != 0.0).for_each(|v| octaves[octave(*v)] += 1);
    });
    median(&octaves)
}

/// The element of the run at `first` whose magnitude is `abs_max`.
fn find(tensor: &Work<'_>, first: usize, abs_max: f32) -> usize {
    let info = tensor.format.info();
    let start = first / info.block * info.bytes;
    let end = (start + RUN / info.block * info.bytes).min(tensor.bytes.len());
    let mut buffer = [0f32; RUN];
    let Some(run) = tensor.bytes.get(start..end) else { return first };
    let values = &mut buffer[..run.len() / info.bytes * info.block];
    (info.decode)(run, values);
    first + values.iter().position(|v| v.abs() == abs_max).unwrap_or(0)
}

/// Integers and truth values, whose codes say nothing by themselves.
pub(crate) fn is_codes(format: Format) -> bool {
    use Format::{Bool, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(format, Bool | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// Looks at the elements of one piece.
fn piece(format: Format, bytes: &[u8], stride: usize) -> Piece {
    let (info, mut p) = (format.info(), Piece::default());
    let size = RUN / info.block * info.bytes;
    scales(format.scales(), info.bytes, bytes, &mut p.scales);
    if is_codes(format) {
        p.mark = mark(bytes);
    }
    let mut buffer = [0f32; RUN];
    for (i, stored) in bytes.chunks(size).enumerate() {
        let first = i * RUN;
        match format {
            Format::F32 => p.run(first, stored.as_chunks().0, u32::from_le_bytes),
            Format::F16 => p.run(first, stored.as_chunks().0, half_bits),
            Format::BF16 => p.run(first, stored.as_chunks().0, |b| u32::from(u16::from_le_bytes(b)) << 16),
            _ if i % stride != 0 => {}
            _ => {
                let values = &mut buffer[..stored.len() / info.bytes * info.block];
                (info.decode)(stored, values);
                p.run(first, values, f32::to_bits);
            }
        }
    }
    p
}

/// The f32 bits of a half, without arithmetic on denormal numbers, which is slow; what is no number stays none.
fn half_bits(b: [u8; 2]) -> u32 {
    let h = u32::from(u16::from_le_bytes(b));
    let magnitude = (h & 0x7fff) << 13;
    let normal = magnitude + (112 << 23);
    // Denormal halves: put in front of a power of two, then that is taken away.
    let small = (f32::from_bits(magnitude + (113 << 23)) - f32::from_bits(113 << 23)).to_bits();
    let special = if magnitude >= 0x7c00 << 13 { 0x7f80_0000 } else { 0 };
    (if magnitude < 0x400 << 13 { small } else { normal }) | special | (h & 0x8000) << 16
}

/// A checksum of bytes: four chains of multiplications, side by side. It tells tensors apart that are to be compared
/// byte by byte where it does not, so that nothing hangs on its strength.
fn mark(bytes: &[u8]) -> u64 {
    let mut lanes = [1u64, 2, 3, 4];
    let step = |h: u64, w: u64| (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    for chunk in words.chunks(4) {
        lanes.iter_mut().zip(chunk).for_each(|(h, w)| *h = step(*h, u64::from_le_bytes(*w)));
    }
    let last = rest.iter().fold(rest.len() as u64, |w, b| w << 8 | u64::from(*b));
    lanes.into_iter().fold(last, step)
}

impl Piece {
    /// Adds a run of at most 4096 elements, the first of which is `first` in this piece. `bits` gives an element as f32.
    fn run<T: Copy>(&mut self, first: usize, elements: &[T], bits: impl Fn(T) -> u32 + Copy) {
        let r = Run::of(elements, bits);
        let magnitude = r.max.max(-r.min);
        // Squares from here on are exact enough in f32; zeros are.
        let usual = magnitude == 0.0 || (1e-15..1e15).contains(&magnitude);
        let r = if r.bad == 0 && usual { r } else { Run::carefully(elements, bits) };
        if r.bad > 0 {
            let at = elements.iter().position(|e| !f32::from_bits(bits(*e)).is_finite());
            self.first_non_finite = self.first_non_finite.or(at.map(|i| first + i));
        }
        let magnitude = r.max.max(-r.min);
        if self.seen == 0 || magnitude > self.max.max(-self.min) {
            self.extreme_run = first;
        }
        self.seen += elements.len();
        self.non_finite += r.bad;
        self.zeros += r.zeros;
        self.min = self.min.min(r.min);
        self.max = self.max.max(r.max);
        self.sum += r.sum;
        self.squares += r.squares;
        let rms = (r.squares / elements.len().max(1) as f64).sqrt() as f32;
        if rms > 0.0 {
            self.octaves[octave(rms)] += 1;
        }
    }
}

/// Sums of a run.
struct Run {
    bad: usize,
    zeros: usize,
    min: f32,
    max: f32,
    sum: f64,
    squares: f64,
}

impl Run {
    /// Eight lanes in f32. Where `bad` is not 0, the other sums mean nothing.
    #[inline(always)]
    fn of<T: Copy>(elements: &[T], bits: impl Fn(T) -> u32) -> Run {
        let (mut bad, mut zeros) = ([0u32; LANES], [0u32; LANES]);
        let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        let (mut sum, mut squares) = ([0f32; LANES], [0f32; LANES]);
        let (chunks, rest) = elements.as_chunks::<LANES>();
        for chunk in chunks {
            for l in 0..LANES {
                let b = bits(chunk[l]);
                let v = f32::from_bits(b);
                bad[l] += u32::from(b & 0x7f80_0000 == 0x7f80_0000);
                zeros[l] += u32::from(b & 0x7fff_ffff == 0);
                min[l] = if v < min[l] { v } else { min[l] };
                max[l] = if v > max[l] { v } else { max[l] };
                sum[l] += v;
                squares[l] += v * v;
            }
        }
        for (l, e) in rest.iter().enumerate() {
            let b = bits(*e);
            let v = f32::from_bits(b);
            bad[l] += u32::from(b & 0x7f80_0000 == 0x7f80_0000);
            zeros[l] += u32::from(b & 0x7fff_ffff == 0);
            min[l] = min[l].min(v);
            max[l] = max[l].max(v);
            sum[l] += v;
            squares[l] += v * v;
        }
        Run {
            bad: bad.iter().sum::<u32>() as usize,
            zeros: zeros.iter().sum::<u32>() as usize,
            min: min.into_iter().fold(f32::INFINITY, f32::min),
            max: max.into_iter().fold(f32::NEG_INFINITY, f32::max),
            sum: sum.into_iter().map(f64::from).sum(),
            squares: squares.into_iter().map(f64::from).sum(),
        }
    }

    /// One by one in f64, without what is no number.
    fn carefully<T: Copy>(elements: &[T], bits: impl Fn(T) -> u32) -> Run {
        let mut r = Run { bad: 0, zeros: 0, min: f32::INFINITY, max: f32::NEG_INFINITY, sum: 0.0, squares: 0.0 };
        for e in elements {
            let v = f32::from_bits(bits(*e));
            if !v.is_finite() {
                r.bad += 1;
                continue;
            }
            r.zeros += usize::from(v == 0.0);
            r.min = r.min.min(v);
            r.max = r.max.max(v);
            r.sum += f64::from(v);
            r.squares += f64::from(v) * f64::from(v);
        }
        r
    }
}

/// Adds the scales of whole blocks of `size` bytes.
fn scales(scales: &[BlockScale], size: usize, bytes: &[u8], sums: &mut ScaleSums) {
    if scales.is_empty() {
        return;
    }
    for (i, block) in bytes.chunks_exact(size).enumerate() {
        let (mut zero, mut bad) = (true, false);
        for s in scales {
            let v = s.read(block).abs();
            zero &= v == 0.0;
            bad |= !v.is_finite();
            if v.is_finite() && v > 0.0 {
                sums.octaves[octave(v)] += 1;
                if v > sums.abs_max {
                    (sums.abs_max, sums.abs_max_at) = (v, sums.blocks + i);
                }
            }
        }
        sums.zero_blocks += usize::from(zero);
        sums.non_finite += usize::from(bad);
        if bad {
            sums.first_non_finite = sums.first_non_finite.or(Some(sums.blocks + i));
        }
    }
    sums.blocks += bytes.len() / size;
}
