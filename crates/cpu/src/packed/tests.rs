//! Packed kernels against the formats' scalar `dot`, bit for bit.
use super::*;
use crate::tiled::{self, CodeTiles};
use pondera_quant::{
    Activation, Bytes, FORMATS, FormatInfo, Q8, TensorView,
    packed::{QuantMethod, from_parts},
};
use serde_json::json;

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

fn packed(m: &Matrix) -> (Lines, Weights) {
    let mut lines = Lines::default();
    let group = group_bytes_of(m).expect("whole blocks");
    let size = m.out().div_ceil(GROUP) * group;
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
            let (_lines, w) = packed(&m);
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
            let (_lines, w) = packed(&m);
            for &set in &sets {
                let kernel = set.float_kernel(info.format).expect("every set has every format");
                equals_chains(&format!("{} {set:?} case {case}", info.name), &m, w, (set, kernel), (&x, ld, n));
            }
        }
    }
}

/// A kernel's products equal chains over the decoded weights, with tokens read from rows and from tiles.
fn equals_chains(
    what: &str,
    m: &Matrix,
    w: Weights,
    (set, kernel): (Set, FloatKernel),
    (x, ld, n): (&[f32], usize, usize),
) {
    let (out, inp) = (m.out(), m.inp());
    let mut rows = vec![0f32; out * inp];
    m.decode_rows(0..out, &mut rows);
    let mut y = vec![f32::NAN; n * out];
    let mut scratch = Scratch::default();
    let middle = out.div_ceil(GROUP) / 2 * GROUP;
    let mut buffer = tiled::Buffer::default();
    // SAFETY: n rows, ld apart.
    let tiled = unsafe { buffer.fill(set.isa(), (x.as_ptr(), ld), n, inp, &|n, f| (0..n).for_each(f)) };
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
            assert!(want.to_bits() == got.to_bits(), "{what} row {o} token {t}: {want} {got}");
        }
    }
}

/// A weight whose codes and scales are given, as `config` says.
fn apart(config: serde_json::Value, out: usize, inp: usize, parts: &[(&str, Format, Vec<usize>, Vec<u8>)]) -> Matrix {
    let method = QuantMethod::parse(&config).unwrap();
    let lookup = |suffix: &str| {
        let (_, format, shape, bytes) = parts.iter().find(|p| p.0 == suffix)?;
        Some(TensorView { format: *format, shape: shape.clone(), bytes: bytes.clone().into() })
    };
    from_parts(&method, "model.layers.0.mlp.experts.up_proj", &lookup, out, inp).unwrap()
}

/// FP8 with scales of blocks, rows and the tensor, and MXFP4 in pairs.
#[test]
fn weights_with_scales_apart_equal_the_chain_to_the_bit() {
    let sets: Vec<Set> = Set::ALL.into_iter().filter(|s| s.supported()).collect();
    for (case, (out, inp, n)) in
        [(16, 128, 1), (33, 256, 3), (300, 384, 5), (70, 2176, 2), (129, 640, 50)].into_iter().enumerate()
    {
        let mut next = rng(case as u64 + 71);
        // All codes but NaN, zeros of both signs and the smallest among them.
        let codes: Vec<u8> = (0..out * inp).map(|_| (next() % 254) as u8).map(|c| c + u8::from(c > 126)).collect();
        let fp8 = |name: &str, config, shape: Vec<usize>, scales: Vec<u8>| {
            let parts = [("weight", Format::F8E4M3, vec![out, inp], codes.clone()), (name, Format::F32, shape, scales)];
            apart(config, out, inp, &parts)
        };
        let plain = json!({"quant_method": "fp8", "weight_block_size": null});
        let blocks = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
        let by = [out.div_ceil(128), inp.div_ceil(128)];
        let pairs: Vec<u8> = (0..out * inp / 2).map(|_| next() as u8).collect();
        let exponents: Vec<u8> = (0..out * inp / 32).map(|_| (next() % 255) as u8).collect();
        let mut scales = |n: usize| -> Vec<u8> {
            (0..n).flat_map(|_| ((next() as i32) as f32 * 2f32.powi((next() % 40) as i32 - 50)).to_le_bytes()).collect()
        };
        let all = [
            (Apart::Fp8Blocks, fp8("weight_scale_inv", blocks, by.to_vec(), scales(by[0] * by[1]))),
            (Apart::Fp8Rows, fp8("weight_scale", plain.clone(), vec![out, 1], scales(out))),
            (Apart::Fp8Rows, fp8("weight_scale", plain, vec![], scales(1))),
            (
                Apart::Mxfp4,
                apart(
                    json!({"quant_method": "mxfp4"}),
                    out,
                    inp,
                    &[
                        ("blocks", Format::U8, vec![out, inp / 32, 16], pairs),
                        ("scales", Format::U8, vec![out, inp / 32], exponents),
                    ],
                ),
            ),
        ];
        let x: Vec<f32> = (0..n * inp).map(|i| ((i * 7919) % 1000) as f32 * 1e-3 - 0.5).collect();
        for (kind, m) in all {
            // The last has one block of rows in both directions: scales of blocks are then those of rows.
            let kind = if inp == 128 && kind == Apart::Fp8Blocks { Apart::Fp8Rows } else { kind };
            assert_eq!(Apart::of(&m), Some(kind));
            let (_lines, w) = packed(&m);
            for &set in &sets {
                let kernel = set.apart_kernel(kind).expect("every set has every kind");
                equals_chains(&format!("{kind:?} {set:?} case {case}"), &m, w, (set, kernel), (&x, inp, n));
            }
        }
    }
}

#[test]
fn broken_codes_and_scales_are_not_packed() {
    let (out, inp) = (16, 128);
    let pack_one = |codes: Vec<u8>, scale: f32| {
        let parts = [
            ("weight", Format::F8E4M3, vec![out, inp], codes),
            ("weight_scale", Format::F32, vec![], scale.to_le_bytes().to_vec()),
        ];
        let m = apart(json!({"quant_method": "fp8", "weight_block_size": null}), out, inp, &parts);
        pack(Isa::detect(), &m, 0..1, &mut vec![0; group_bytes_of(&m).unwrap()])
    };
    let sound = vec![0x3c; out * inp];
    assert!(pack_one(sound.clone(), 0.5) && pack_one(sound.clone(), -1e-44));
    for code in [0x7f, 0xff] {
        let mut broken = sound.clone();
        broken[777] = code;
        assert!(!pack_one(broken, 0.5));
    }
    for scale in [f32::NAN, f32::INFINITY, 1e31] {
        assert!(!pack_one(sound.clone(), scale));
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
