//! Every row of the format table: order, golden decodings, random blocks, encoders, dot products.
use pondera_quant::{Activation, FORMATS, Format, FormatInfo, Q8};

/// A small counter-based generator (splitmix64).
fn words(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Weights of a model: bell-shaped, now and then an outlier.
fn weights(seed: u64, n: usize, std: f32) -> Vec<f32> {
    let mut next = words(seed);
    let mut bell = || (0..12).map(|_| (next() >> 40) as f32 / 16777216.0).sum::<f32>() - 6.0;
    (0..n).map(|i| std * bell() * if i % 97 == 0 { 3.0 } else { 1.0 }).collect()
}

fn random_blocks(f: &FormatInfo, seed: u64, elements: usize, std: f32) -> Vec<u8> {
    let mut blocks = vec![0; elements / f.block * f.bytes];
    (f.random)(&mut words(seed), std, &mut blocks);
    blocks
}

fn decoded(f: &FormatInfo, blocks: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; blocks.len() / f.bytes * f.block];
    (f.decode)(blocks, &mut out);
    out
}

#[test]
fn table_is_in_the_order_of_the_enum() {
    for (i, f) in FORMATS.iter().enumerate() {
        assert_eq!(f.format as usize, i, "{}", f.name);
        assert_eq!(f.format.info().name, f.name);
    }
    assert_eq!(Format::Q1_0 as usize, FORMATS.len() - 1, "the last format of the enum");
}

#[test]
fn names_and_ids_are_unique_and_found() {
    for (i, f) in FORMATS.iter().enumerate() {
        for g in &FORMATS[..i] {
            assert_ne!(f.name, g.name);
            assert!(f.gguf_id.is_none() || f.gguf_id != g.gguf_id, "{} and {}", f.name, g.name);
        }
        assert!(f.gguf_id.is_none_or(|id| Format::from_gguf(id) == Some(f.format)));
        assert!(f.safetensors.is_none_or(|name| Format::from_safetensors(name) == Some(f.format)));
        assert_eq!(f.dot.is_some(), f.activation != Activation::F32, "{}", f.name);
        assert_eq!(f.format.row_bytes(f.block * 3), Some(f.bytes * 3));
        assert_eq!(f.format.row_bytes(f.block * 3 + 1).is_none(), f.block > 1);
    }
    assert_eq!(Format::from_gguf(4), None, "Q4_2 is gone");
}

#[test]
fn golden_decodings() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut seen = 0;
    for f in FORMATS.iter().filter(|f| f.block > 1) {
        let file = std::fs::read(folder.join(format!("{}.bin", f.name))).expect(f.name);
        let blocks = file.len() / (f.bytes + 4 * f.block);
        let (raw, values) = file.split_at(blocks * f.bytes);
        assert!(blocks >= 3 && values.len() == blocks * f.block * 4, "{}", f.name);
        for (i, (got, want)) in decoded(f, raw).iter().zip(values.chunks_exact(4)).enumerate() {
            let want = f32::from_le_bytes(want.try_into().unwrap());
            assert_eq!(got.to_bits(), want.to_bits(), "{} element {i}: {got} instead of {want}", f.name);
        }
        seen += 1;
    }
    assert_eq!(seen, 26);
}

#[test]
fn random_blocks_are_finite_and_of_the_wanted_size() {
    let integers = [Format::Bool, Format::I8, Format::I16, Format::I32, Format::I64];
    let integers = [&integers[..], &[Format::U8, Format::U16, Format::U32, Format::U64]].concat();
    for f in FORMATS.iter().filter(|f| !integers.contains(&f.format)) {
        for std in [0.01f32, 0.5] {
            let w = decoded(f, &random_blocks(f, 7, 1 << 16, std));
            assert!(w.iter().all(|w| w.is_finite()), "{}", f.name);
            let rms = (w.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / w.len() as f64).sqrt();
            let ratio = rms / f64::from(std);
            let bound = if matches!(f.format, Format::F8E8M0 | Format::Nvfp4) { 1.6 } else { 1.06 };
            assert!((1.0 / bound..bound).contains(&ratio), "{}: {ratio} of std {std}", f.name);
        }
    }
}

#[test]
fn plain_floats_encode_what_they_decode() {
    for f in FORMATS.iter().filter(|f| f.block == 1 && f.encode.is_some()) {
        let blocks = random_blocks(f, 3, 4096, 0.3);
        let mut again = vec![0; blocks.len()];
        f.encode.unwrap()(&decoded(f, &blocks), &mut again);
        assert!(blocks == again, "{}", f.name);
    }
}

/// Every encoder's root mean square error relative to the standard deviation of the weights. Bounds sit 3 % above what
/// was measured.
#[test]
fn encoders_are_accurate() {
    let bounds = [
        (Format::Q4_0, 0.1028),
        (Format::Q4_1, 0.0877),
        (Format::Q5_0, 0.0504),
        (Format::Q5_1, 0.0425),
        (Format::Q8_0, 0.0064),
        (Format::Q2K, 0.2968),
        (Format::Q3K, 0.1641),
        (Format::Q4K, 0.0807),
        (Format::Q5K, 0.0405),
        (Format::Q6K, 0.0193),
        (Format::Iq4Nl, 0.0839),
        (Format::Iq4Xs, 0.0853),
        (Format::Tq1_0, 0.4981),
        (Format::Tq2_0, 0.4981),
        (Format::Mxfp4, 0.1237),
        (Format::Nvfp4, 0.0895),
        (Format::Q1_0, 0.6616),
    ];
    assert_eq!(bounds.len(), FORMATS.iter().filter(|f| f.block > 1 && f.encode.is_some()).count());
    let w = weights(11, 1 << 14, 1.0);
    for (format, bound) in bounds {
        let f = format.info();
        let mut blocks = vec![0xff; w.len() / f.block * f.bytes];
        f.encode.unwrap()(&w, &mut blocks);
        let squares: f64 = decoded(f, &blocks).iter().zip(&w).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let relative = (squares / w.len() as f64).sqrt();
        assert!((bound * 0.9..bound).contains(&relative), "{}: {relative:.4}", f.name);
    }
}

/// Zeros stay zeros; blocks of one value, of one outlier, of tiny and of great values stay finite and near.
#[test]
fn encoders_at_the_edges() {
    for f in FORMATS.iter().filter(|f| f.block > 1) {
        let Some(encode) = f.encode else { continue };
        let again = |w: &[f32]| {
            let mut blocks = vec![0xff; f.bytes];
            encode(w, &mut blocks);
            decoded(f, &blocks)
        };
        assert!(again(&vec![0.0; f.block]).iter().all(|w| *w == 0.0), "{}", f.name);
        for value in [1.0f32, -1.0, 0.001, -300.0] {
            for (w, value) in again(&vec![value; f.block]).into_iter().zip(std::iter::repeat(value)) {
                assert!((w - value).abs() <= 0.2 * value.abs(), "{}: {w} for {value}", f.name);
            }
            let mut outlier = vec![0.0; f.block];
            outlier[f.block / 2] = value;
            let back = again(&outlier);
            assert!((back[f.block / 2] - value).abs() <= 0.2 * value.abs() || f.format == Format::Q1_0, "{}", f.name);
        }
        for tiny in [1e-30f32, -1e-38, 1e-45] {
            assert!(again(&vec![tiny; f.block]).iter().all(|w| w.abs() < 0.01), "{}: {tiny}", f.name);
        }
    }
}

/// Weights that are on the grid of a format survive encoding: ternary ones, powers of two.
#[test]
fn encoders_keep_what_fits() {
    let ternary: Vec<f32> = (0..512).map(|i| [0.0, 0.75, -0.75, 0.0, 0.75][i * i % 5]).collect();
    for format in [Format::Tq1_0, Format::Tq2_0, Format::Q8_0, Format::Mxfp4, Format::Nvfp4] {
        let f = format.info();
        let mut blocks = vec![0; 512 / f.block * f.bytes];
        f.encode.unwrap()(&ternary, &mut blocks);
        let worst = decoded(f, &blocks).iter().zip(&ternary).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst < 1e-3, "{}: {worst}", f.name);
    }
}

struct Quantized {
    block: usize,
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i16>,
}

impl Quantized {
    fn new(block: usize, x: &[f32]) -> Quantized {
        let (mut q, mut d, mut sums) = (vec![0; x.len()], vec![0.0; x.len() / block], vec![0; x.len() / 16]);
        Q8::quantize(block, x, &mut q, &mut d, &mut sums);
        Quantized { block, q, d, sums }
    }

    fn blocks(&self, range: std::ops::Range<usize>) -> Q8<'_> {
        let (from, to) = (range.start * self.block, range.end * self.block);
        let (q, sums) = (&self.q[from..to], &self.sums[from / 16..to / 16]);
        Q8 { block: self.block, q, d: &self.d[range], sums }
    }
}

#[test]
fn dot_products_equal_exact_arithmetic() {
    for f in FORMATS.iter() {
        let (Some(dot), Activation::Q8 { block }) = (f.dot, f.activation) else { continue };
        assert_eq!(block, f.block, "{}", f.name);
        for (seed, blocks) in (1..40).zip([1, 2, 3, 8].into_iter().cycle()) {
            let src = random_blocks(f, seed, blocks * block, 0.05);
            let x = Quantized::new(block, &weights(seed + 100, blocks * block, 1.0));
            let w = decoded(f, &src);
            let term = |i: usize| f64::from(w[i]) * f64::from(x.d[i / block]) * f64::from(x.q[i]);
            let exact = 0.25 + (0..w.len()).map(term).sum::<f64>();
            let scale = 0.25 + (0..w.len()).map(|i| term(i).abs()).sum::<f64>();
            let got = f64::from(dot(&src, x.blocks(0..blocks), 0.25));
            assert!((got - exact).abs() < 2e-6 * scale, "{} seed {seed}: {got} instead of {exact}", f.name);
        }
    }
}

/// A row cut at any block gives the same bits: the accumulator is the whole state.
#[test]
fn dot_products_chain() {
    for f in FORMATS.iter() {
        let Some(dot) = f.dot else { continue };
        let src = random_blocks(f, 5, 6 * f.block, 0.05);
        let x = Quantized::new(f.block, &weights(6, 6 * f.block, 1.0));
        let whole = dot(&src, x.blocks(0..6), 0.0);
        for cut in 0..=6 {
            let (left, right) = src.split_at(cut * f.bytes);
            let parts = dot(right, x.blocks(cut..6), dot(left, x.blocks(0..cut), 0.0));
            assert_eq!(parts.to_bits(), whole.to_bits(), "{} cut at {cut}", f.name);
        }
    }
}

/// The greatest codes everywhere: sums stay exact (debug builds would panic on overflow).
#[test]
fn dot_products_at_the_edges() {
    for f in FORMATS.iter() {
        let Some(dot) = f.dot else { continue };
        for (byte, x) in [(0x00, 1.0f32), (0x7f, 1.0), (0x80, -1.0), (0xff, 1.0)] {
            let mut src = random_blocks(f, 9, f.block, 1.0);
            let template = src.clone();
            src.fill(byte);
            // Keep finite scales: they lie where two random blocks of different size differ in the f16 fields only.
            let at = match f.format {
                Format::Q2K => 80..84,
                Format::Q3K => 108..110,
                Format::Q6K => 208..210,
                Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => 0..4,
                _ => 0..2,
            };
            src[at.clone()].copy_from_slice(&template[at]);
            let x = Quantized::new(f.block, &vec![x; f.block]);
            let exact: f64 = decoded(f, &src).iter().zip(&x.q).map(|(w, q)| f64::from(*w) * f64::from(*q)).sum();
            let exact = exact * f64::from(x.d[0]);
            let got = f64::from(dot(&src, x.blocks(0..1), 0.0));
            assert!((got - exact).abs() <= 2e-6 * exact.abs().max(1.0) * 16.0, "{} {byte}: {got}, {exact}", f.name);
        }
    }
}

#[test]
fn activations_that_are_not_finite_reach_the_result() {
    for f in FORMATS.iter() {
        let Some(dot) = f.dot else { continue };
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = vec![0.5; 2 * f.block];
            x[f.block + 3] = bad;
            let x = Quantized::new(f.block, &x);
            assert!(dot(&random_blocks(f, 1, 2 * f.block, 1.0), x.blocks(0..2), 0.0).is_nan(), "{}", f.name);
        }
    }
}
