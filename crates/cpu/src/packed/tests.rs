//! Packed kernels against the formats' scalar `dot`, bit for bit.
use super::*;
use crate::tiled::{self, CodeTiles};
use pondera_quant::{Activation, Bytes, FORMATS, FormatInfo, Q8};

/// SplitMix64.
fn rng(mut s: u64) -> impl FnMut() -> u64 {
    move || {
        s = s.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = s;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Rows of random blocks, unaligned and `stride` apart; every third has all codes and sub-scales at an end.
fn matrix(info: &FormatInfo, out: usize, inp: usize, extra: usize, next: &mut impl FnMut() -> u64) -> Matrix {
    let l = layout(info.format).expect("a layout");
    let row = info.format.row_bytes(inp).expect("whole blocks");
    let stride = row + extra;
    let mut bytes = vec![0u8; out * stride + 1];
    for o in 0..out {
        let dst = &mut bytes[1 + o * stride..][..row];
        (info.random)(&mut *next, 0.02, dst);
        if o % 3 == 2 && info.block > 1 {
            let fill = [0xff, 0x80, 0x7f, 0x00][next() as usize % 4];
            for block in dst.chunks_exact_mut(info.bytes) {
                for (i, b) in block.iter_mut().enumerate() {
                    // The scales of blocks stay finite.
                    if l.scale_byte != Some(i) && !l.halves.iter().any(|&h| i == h || i == h + 1) {
                        *b = fill;
                    }
                }
            }
        }
    }
    let bytes = Bytes::from(bytes).slice(1..out * stride + 1).expect("within");
    Matrix::Rows { format: info.format, out, inp, bytes, stride }
}

fn packed(m: &Matrix, format: Format) -> (Lines, Weights) {
    let mut lines = Lines::default();
    let size = bytes(format, m.out(), m.inp()).expect("whole blocks");
    let group = group_bytes(format, m.inp()).expect("whole blocks");
    let base = lines.at_least(size);
    // SAFETY: the lines hold that many bytes.
    let dst = unsafe { std::slice::from_raw_parts_mut(base, size) };
    let isa = Isa::detect();
    let middle = m.out().div_ceil(GROUP) / 2;
    let (head, tail) = dst.split_at_mut(middle * group);
    assert!(pack(isa, m, 0..middle, head) && pack(isa, m, middle..m.out().div_ceil(GROUP), tail));
    (lines, Weights { base, group_bytes: group })
}

#[test]
fn kernels_equal_the_scalar_dot_to_the_bit() {
    let sets: Vec<Set> = Set::ALL.into_iter().filter(|s| s.supported()).collect();
    for info in &FORMATS {
        let Activation::Q8 { block } = info.activation else { continue };
        let Some(l) = layout(info.format) else { continue };
        let dot = info.dot.expect("a scalar dot");
        let cases = [
            (1, 1, 1),
            (3, 2, 2),
            (16, 1, 3),
            (17, 3, 4),
            (37, 2, 5),
            (48, 9, 7),
            (33, 1, 12),
            (70, 3, 13),
            (48, 2, 16),
            (33, 3, 33),
            (100, 1, 47),
            (17, 41, 101),
        ];
        for (case, (out, blocks, n)) in cases.into_iter().enumerate() {
            let inp = blocks * l.block;
            let mut next = rng(case as u64 + 17);
            let m = matrix(info, out, inp, 3 * (case % 2), &mut next);
            let x: Vec<f32> = (0..n * inp)
                .map(|i| match (i / inp + case) % 4 {
                    0 => (next() as i32) as f32 / 1e9,
                    1 => [1.0, -1.0][next() as usize % 2],
                    2 => [1.0, -1.0][case / 4 % 2],
                    _ => 0.0,
                })
                .collect();
            let (mut q, mut d, mut sums) = (vec![0i8; n * inp], vec![0f32; n * inp / block], vec![0i16; n * inp / 16]);
            Q8::quantize(block, &x, &mut q, &mut d, &mut sums);
            let tokens = Tokens { n, inp, q: &q, d: &d, sums: &sums, tiles: None };
            let mut memory = Lines::default();
            // SAFETY: so many bytes; every token is put once.
            let tiles = unsafe {
                let tiles = CodeTiles::new(memory.at_least(CodeTiles::bytes(n, inp)).cast(), n, inp);
                (0..n).for_each(|t| tiles.put(t, 0, &q[t * inp..][..inp]));
                tiles
            };
            let (_lines, w) = packed(&m, info.format);
            for &set in &sets {
                let kernel = set.kernel(info.format).expect("every set has every format");
                let mut y = vec![f32::NAN; n * out];
                let mut scratch = Scratch::default();
                let middle = out.div_ceil(GROUP) / 2 * GROUP;
                // Codes as rows and as tiles.
                for (range, tiles) in [(0..middle, None), (middle..out, Some(tiles))] {
                    let (tokens, y) = (Tokens { tiles, ..tokens }, Out { ptr: y.as_mut_ptr(), stride: out });
                    // SAFETY: supported; all groups are packed; `y` holds all rows of all tokens.
                    unsafe { kernel(w, range, tokens, y, &mut scratch) };
                }
                let on_the_way = (set == sets[0]).then(|| {
                    let level = Level::new(Isa::detect()).expect("detected");
                    let way = OnTheWay::new(level, Isa::detect(), info.format).expect("a kernel");
                    let Matrix::Rows { bytes, stride, .. } = &m else { unreachable!() };
                    let rows = Rows { bytes: bytes.as_slice(), stride: *stride, inp };
                    let mut y = vec![f32::NAN; n * out];
                    for range in [0..out / 2, out / 2..out] {
                        let y = Out { ptr: y.as_mut_ptr(), stride: out };
                        // SAFETY: as above.
                        unsafe { way.run(rows, range, tokens, y, &mut scratch) };
                    }
                    y
                });
                for t in 0..n {
                    for o in 0..out {
                        let x = Q8 {
                            block,
                            q: &q[t * inp..][..inp],
                            d: &d[t * inp / block..][..inp / block],
                            sums: &sums[t * inp / 16..][..inp / 16],
                        };
                        let want = dot(m.row(o).expect("a row"), x, 0.0);
                        let got = y[t * out + o];
                        assert!(
                            want.to_bits() == got.to_bits(),
                            "{} {set:?} case {case} row {o} token {t}: {want} {got}",
                            info.name
                        );
                        let other = on_the_way.as_ref().map_or(got, |y| y[t * out + o]);
                        assert_eq!(
                            want.to_bits(),
                            other.to_bits(),
                            "{} rows, case {case} row {o} token {t}",
                            info.name
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn kernels_equal_the_chain_of_decoded_weights_to_the_bit() {
    let sets: Vec<Set> = Set::ALL.into_iter().filter(|s| s.supported()).collect();
    for info in FORMATS.iter().filter(|f| f.activation == Activation::F32) {
        let Some(l) = layout(info.format) else { continue };
        let cases = [
            (1, 4, 1),
            (16, 32, 2),
            (17, 36, 3),
            (37, 96, 4),
            (130, 288, 1),
            (33, 260, 5),
            (70, 132, 17),
            (40, 4, 50),
            (250, 300, 130),
        ];
        for (case, (out, inp, n)) in cases.into_iter().enumerate() {
            let inp: usize = inp;
            let inp = inp.next_multiple_of(l.block);
            let mut next = rng(case as u64 + 29);
            let m = matrix(info, out, inp, 3 * (case % 2), &mut next);
            let ld = inp + case % 3;
            let value = |i: usize, r: u64| if i.is_multiple_of(7) { 0.0 } else { (r as i32) as f32 / 1e9 };
            let x: Vec<f32> = (0..n * ld).map(|i| value(i, next())).collect();
            let (_lines, w) = packed(&m, info.format);
            let mut rows = vec![0f32; out * inp];
            m.decode_rows(0..out, &mut rows);
            for &set in &sets {
                let kernel = set.float_kernel(info.format).expect("every set has every format");
                let mut y = vec![f32::NAN; n * out];
                let mut scratch = Scratch::default();
                let middle = out.div_ceil(GROUP) / 2 * GROUP;
                let mut buffer = tiled::Buffer::default();
                // SAFETY: n rows, ld apart.
                let tiled = unsafe { buffer.fill(set.isa(), (x.as_ptr(), ld), n, inp, &|n, f| (0..n).for_each(f)) };
                // Read from the rows and as laid out for tiles.
                for (range, tiled) in [(0..middle, None), (middle..out, tiled)] {
                    let x = Floats { x: x.as_ptr(), ld, n, inp, tiled };
                    let y = Out { ptr: y.as_mut_ptr(), stride: out };
                    // SAFETY: supported; all groups are packed; `x` and `y` hold all tokens.
                    unsafe { kernel(w, range, x, y, &mut scratch) };
                }
                for t in 0..n {
                    for o in 0..out {
                        let pairs = rows[o * inp..][..inp].iter().zip(&x[t * ld..][..inp]);
                        let want = pairs.fold(0f32, |acc, (w, x)| w.mul_add(*x, acc));
                        let got = y[t * out + o];
                        assert!(
                            want.to_bits() == got.to_bits(),
                            "{} {set:?} case {case} row {o} token {t}: {want} {got}",
                            info.name
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn packing_is_the_same_for_every_set_and_keeps_the_size_of_the_file() {
    let mut next = rng(5);
    for info in &FORMATS {
        let Some(l) = layout(info.format) else { continue };
        let m = matrix(info, 37, 3 * l.block, 5, &mut next);
        let size = bytes(info.format, 37, 3 * l.block).expect("whole blocks");
        let row = info.format.row_bytes(3 * l.block).expect("whole blocks");
        assert!(size <= 48 * row + 3 * LINE, "{}", info.name);
        let all: Vec<Vec<u8>> = Isa::ALL
            .into_iter()
            .filter(|isa| isa.supported())
            .map(|isa| {
                let mut dst = vec![0xa5; size];
                assert!(pack(isa, &m, 0..3, &mut dst));
                dst
            })
            .collect();
        assert!(all.windows(2).all(|w| w[0] == w[1]), "{}", info.name);
        let isa = Isa::Scalar;
        assert!(!pack(isa, &m, 0..3, &mut vec![0; size + 1]) && !pack(isa, &m, 1..4, &mut vec![0; size]));
    }
}
