//! Float activations of many tokens in the order in which tiles of a product read them.
//!
//! ```text
//! rows       x[token][k]
//! tiled      for each CHUNK of k, for each tile of tokens: x[k][token of the tile]
//! ```
//! A tile then reads one stream of a few kilobytes. As rows lie, its tokens are whole rows apart, often a multiple of what
//! the ways of a cache hold: such lines drive each other out. Made once per activation; all rows of weights read it.
//!
//! Int8 codes have tiles of their own for AMX ([`CodeTiles`]), written where they are made.
//!
//! Does not own: the tiles ([`crate::gemm`]), the products that read this ([`crate::packed`]).
use crate::{Isa, gemm, packed::Lines, product::Ptr, simd::Level};

/// Weights of a row that are multiplied before the next rows are.
pub const CHUNK: usize = 128;
/// Tokens from which copying pays.
pub const MANY: usize = 8;

/// Tokens of a tile of codes.
pub const SIDE: usize = 16;
/// Codes of a token in a tile: a line.
pub const STEP: usize = 64;

/// Codes in tiles as AMX reads them: `[tokens / SIDE][inp / STEP][SIDE][STEP]`, whatever stands beyond the last token or
/// code is zero.
#[derive(Clone, Copy, Debug)]
pub struct CodeTiles {
    at: *mut i8,
    inp: usize,
}

impl CodeTiles {
    /// Bytes for `n` tokens of `inp` codes.
    pub fn bytes(n: usize, inp: usize) -> usize {
        n.next_multiple_of(SIDE) * inp.next_multiple_of(STEP)
    }

    /// In memory at `at`, for `n` tokens of `inp` codes. What no token or code is written to is cleared.
    ///
    /// # Safety
    /// [`CodeTiles::bytes`] bytes are valid there.
    pub unsafe fn new(at: *mut i8, n: usize, inp: usize) -> CodeTiles {
        let tile = SIDE * inp.next_multiple_of(STEP);
        let cleared = if inp.is_multiple_of(STEP) { n / SIDE * tile } else { 0 };
        // SAFETY: the caller's promise.
        unsafe { at.add(cleared).write_bytes(0, CodeTiles::bytes(n, inp) - cleared) };
        CodeTiles { at, inp: inp.next_multiple_of(STEP) }
    }

    /// Codes `from ..` of token `t`, a multiple of 32.
    ///
    /// # Safety
    /// They are within what it was made for, and nobody else uses them.
    pub unsafe fn put(&self, t: usize, from: usize, q: &[i8]) {
        for (i, q) in q.chunks(32).enumerate() {
            let at = self.of(t / SIDE, from + 32 * i).wrapping_add(t % SIDE * STEP);
            // SAFETY: the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(q.as_ptr(), at.cast_mut(), q.len()) };
        }
    }

    /// Code `from` (a multiple of 32) of the first token of tile `tile`; tokens are [`STEP`] apart.
    pub fn of(&self, tile: usize, from: usize) -> *const i8 {
        let at = tile * SIDE * self.inp + from / STEP * (SIDE * STEP) + from % STEP;
        self.at.wrapping_add(at)
    }
}

/// Memory of tiled activations, kept between products.
#[derive(Default)]
pub struct Buffer(Lines);

/// Runs tasks `0 .. n`.
pub type Each<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync));

/// Tiled activations.
#[derive(Clone, Copy)]
pub struct Tiled {
    at: *const f32,
    n: usize,
    inp: usize,
    tiles: usize,
    width: usize,
}
// SAFETY: the memory is only read through it; whoever reads promises that it is there.
unsafe impl Sync for Tiled {}

impl Tiled {
    /// Nothing is there: tiles are read from the rows.
    pub(crate) fn none(level: Level, n: usize, inp: usize) -> Tiled {
        let (tiles, width) = gemm::tiles_of(level, n);
        Tiled { at: std::ptr::null(), n, inp, tiles, width }
    }

    /// Number of tiles.
    pub fn tiles(&self) -> usize {
        self.tiles
    }

    /// Most tokens of a tile.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The first token of tile `i`; with the number of tiles, their end.
    pub fn token(&self, i: usize) -> usize {
        i * self.n / self.tiles
    }

    /// Weights `k ..` of a chunk.
    fn chunk(&self, k: usize) -> usize {
        CHUNK.min(self.inp - k)
    }

    /// Where weights `k ..` (the start of a chunk) of tile `i` lie, elements from a token to the next and from a weight to
    /// the next: here, or in the rows at `x`, `ld` elements apart.
    pub fn operand(&self, k: usize, i: usize, x: *const f32, ld: usize) -> (*const f32, usize, usize) {
        if self.at.is_null() {
            (x.wrapping_add(self.token(i) * ld + k), ld, 1)
        } else {
            (self.at.wrapping_add((k * self.tiles + i * self.chunk(k)) * self.width), 1, self.width)
        }
    }
}

impl Buffer {
    /// Lays `n` rows of `inp` elements out for the kernels of `isa`; `each(tasks, task)` runs tasks `0 .. tasks`. `None`
    /// where the machine lacks `isa`.
    ///
    /// # Safety
    /// Row `r` lies at `x + r · ld`. The buffer is not used otherwise while the result is.
    pub unsafe fn fill(
        &mut self,
        isa: Isa,
        (x, ld): (*const f32, usize),
        n: usize,
        inp: usize,
        each: Each<'_>,
    ) -> Option<Tiled> {
        let mut t = Tiled::none(Level::new(isa)?, n, inp);
        let to = Ptr(self.0.at_least(inp * t.tiles * t.width * size_of::<f32>()).cast::<f32>());
        let rows = t;
        t.at = to.get();
        let x = Ptr(x.cast_mut());
        each(t.tiles, &|i| {
            let count = rows.token(i + 1) - rows.token(i);
            for k in (0..inp).step_by(CHUNK) {
                // SAFETY: the caller's rows; tile i is one task's alone.
                unsafe {
                    let from = x.get().add(rows.token(i) * ld + k);
                    let to = to.get().add((k * rows.tiles + i * rows.chunk(k)) * rows.width);
                    interleave(from, ld, count, rows.chunk(k), to, rows.width);
                }
            }
        });
        Some(t)
    }
}

/// `to[k][width]` from `n` rows of `len` elements.
unsafe fn interleave(from: *const f32, ld: usize, n: usize, len: usize, to: *mut f32, width: usize) {
    for k in 0..len {
        for t in 0..n {
            // SAFETY: the caller's promise.
            unsafe { *to.add(k * width + t) = *from.add(t * ld + k) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn codes_are_where_their_tile_says() {
        for (n, inp) in [(1, 32), (16, 64), (17, 96), (40, 288)] {
            let mut memory = vec![77i8; CodeTiles::bytes(n, inp)];
            // SAFETY: so many bytes.
            let tiles = unsafe { CodeTiles::new(memory.as_mut_ptr(), n, inp) };
            let code = |t: usize, k: usize| (t * 7 + k) as i8;
            for t in 0..n {
                let row: Vec<i8> = (0..inp).map(|k| code(t, k)).collect();
                let middle = inp / 64 * 32;
                // SAFETY: token t.
                unsafe {
                    tiles.put(t, 0, &row[..middle]);
                    tiles.put(t, middle, &row[middle..]);
                }
            }
            for t in 0..n.next_multiple_of(SIDE) {
                for k in 0..inp.next_multiple_of(STEP) {
                    let at = tiles.of(t / SIDE, k / 32 * 32).wrapping_add(t % SIDE * STEP + k % 32);
                    let want = if t < n && k < inp { code(t, k) } else { 0 };
                    // SAFETY: within the memory.
                    assert_eq!(unsafe { *at }, want, "{n} {inp} token {t} code {k}");
                }
            }
        }
    }

    #[test]
    fn every_element_is_where_its_operand_says() {
        for isa in [Isa::Scalar, Isa::detect()] {
            let Some(level) = Level::new(isa) else { continue };
            for (n, inp, ld) in
                [(1, 4, 4), (8, 128, 130), (12, 100, 100), (13, 300, 301), (50, 260, 260), (97, 516, 516)]
            {
                let x: Vec<f32> = (0..n * ld).map(|i| i as f32).collect();
                let mut buffer = Buffer::default();
                // SAFETY: n rows, ld apart.
                let tiled = unsafe { buffer.fill(isa, (x.as_ptr(), ld), n, inp, &|n, f| (0..n).for_each(f)) }.unwrap();
                let rows = Tiled::none(level, n, inp);
                for i in 0..tiled.tiles() {
                    assert!(tiled.token(i + 1) - tiled.token(i) <= tiled.width());
                    for t in 0..tiled.token(i + 1) - tiled.token(i) {
                        for k in 0..inp {
                            let of = |o: &Tiled| {
                                let (at, ldx, step) = o.operand(k / CHUNK * CHUNK, i, x.as_ptr(), ld);
                                // SAFETY: where the operand says.
                                unsafe { *at.add(t * ldx + k % CHUNK * step) }
                            };
                            let want = ((tiled.token(i) + t) * ld + k) as f32;
                            assert_eq!(
                                (of(&tiled), of(&rows)),
                                (want, want),
                                "{n} {inp} tile {i} token {t} weight {k}"
                            );
                        }
                    }
                }
            }
        }
    }
}
