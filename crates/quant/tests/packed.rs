//! Weights in several tensors against references written straight from the layouts' descriptions; configurations;
//! parts that do not fit.
use pondera_quant::{
    ErrorKind, Format, Matrix, TensorView,
    float::{E4M3, f16_to_f32, f32_to_f16},
    packed::{Grain, QuantMethod, Scheme, from_parts},
};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Sibling tensors by suffix.
#[derive(Clone, Default)]
struct Parts(HashMap<String, TensorView>);

impl Parts {
    fn with(mut self, suffix: &str, format: Format, shape: &[usize], bytes: Vec<u8>) -> Parts {
        self.0.insert(suffix.into(), TensorView { format, shape: shape.to_vec(), bytes: bytes.into() });
        self
    }

    fn without(mut self, suffix: &str) -> Parts {
        self.0.remove(suffix);
        self
    }

    fn load(&self, config: &Value, out: usize, inp: usize) -> pondera_quant::Result<Matrix> {
        from_parts(&QuantMethod::parse(config)?, "model.layers.0.mlp.up_proj", &|s| self.0.get(s).cloned(), out, inp)
    }

    fn error(&self, config: &Value, out: usize, inp: usize) -> (ErrorKind, String) {
        let e = self.load(config, out, inp).err().unwrap_or_else(|| panic!("accepted with {config}"));
        (e.kind, e.to_string())
    }
}

/// Numbers 0 … n - 1, the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    fn codes(&mut self, count: usize, n: u64) -> Vec<u64> {
        (0..count).map(|_| self.roll(n)).collect()
    }

    fn halves(&mut self, count: usize) -> Vec<u16> {
        (0..count).map(|_| f32_to_f16(0.001 + self.roll(1000) as f32 / 4096.0)).collect()
    }

    fn e4m3(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| [0x00, 0x80][self.roll(2) as usize] | self.roll(0x7f) as u8).collect()
    }
}

fn half_bytes(v: &[u16]) -> Vec<u8> {
    v.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn float_bytes(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Codes as one stream of bits, lowest first, in i32 words.
fn stream(codes: &[u64], bits: usize) -> Vec<u32> {
    let mut words = vec![0u32; (codes.len() * bits).div_ceil(32)];
    for (i, code) in codes.iter().enumerate() {
        for b in 0..bits {
            words[(i * bits + b) / 32] |= ((code >> b & 1) as u32) << ((i * bits + b) % 32);
        }
    }
    words
}

fn word_bytes(v: &[u32]) -> Vec<u8> {
    v.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// `[rows, columns]` to `[columns, rows]`.
fn transposed<T: Copy>(v: &[T], columns: usize) -> Vec<T> {
    (0..columns).flat_map(|c| v.chunks(columns).map(move |row| row[c])).collect()
}

/// All rows, a range in the middle, single rows and interleaved rows decode to `want`, bit for bit.
fn check(m: &Matrix, name: &str, want: &[f32]) {
    assert_eq!(m.format_name(), name);
    let (out, inp) = (m.out(), m.inp());
    let decoded = |m: &Matrix, rows: std::ops::Range<usize>| {
        let mut dst = vec![f32::NAN; rows.len() * inp];
        m.decode_rows(rows, &mut dst);
        dst
    };
    let same = |got: &[f32], want: &[f32], what: &str| {
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert_eq!(
                g.to_bits(),
                w.to_bits(),
                "{name} {what}: row {} column {}: {g} instead of {w}",
                i / inp,
                i % inp
            );
        }
    };
    same(&decoded(m, 0..out), want, "all");
    for (from, to) in [(1, out), (out / 3, out / 3 + 1), (3, out - 2), (out, out)] {
        same(&decoded(m, from..to), &want[from * inp..to * inp], "a range");
    }
    let odd = m.rows(1, 2, out / 2).expect("every other row");
    let want_odd: Vec<f32> = want.chunks(inp).skip(1).step_by(2).flatten().copied().collect();
    same(&decoded(&odd, 0..out / 2), &want_odd, "every other");
    assert!(m.stored_bytes() > 0);
}

fn fp8(block: Value) -> Value {
    json!({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": block})
}

#[test]
fn fp8_blocks_with_ragged_edges() {
    let (out, inp, rows, columns) = (20, 37, 8, 16);
    let mut dice = Dice(1);
    let codes = dice.e4m3(out * inp);
    let scales: Vec<f32> = (0..3 * 3).map(|_| 0.01 + dice.roll(100) as f32).collect();
    let parts = Parts::default().with("weight", Format::F8E4M3, &[out, inp], codes.clone());
    let parts = parts.with("weight_scale_inv", Format::F32, &[3, 3], float_bytes(&scales));
    let want = |i: usize| E4M3[usize::from(codes[i])] * scales[i / inp / rows * 3 + i % inp / columns];
    let want: Vec<f32> = (0..out * inp).map(want).collect();
    check(&parts.load(&fp8(json!([rows, columns])), out, inp).unwrap(), "FP8 block", &want);
    // Without a size in the configuration blocks are 128 by 128.
    let one = parts.clone().with("weight_scale_inv", Format::F32, &[1, 1], float_bytes(&[2.0]));
    let want: Vec<f32> = codes.iter().map(|c| E4M3[usize::from(*c)] * 2.0).collect();
    check(&one.load(&json!({"quant_method": "fp8"}), out, inp).unwrap(), "FP8 block", &want);
    let (kind, text) = parts.error(&fp8(json!([8, 8])), out, inp);
    assert_eq!((kind, text.contains("weight_scale_inv: expected [3, 5]")), (ErrorKind::Shape, true), "{text}");
    assert_eq!(parts.clone().without("weight_scale_inv").error(&fp8(json!([8, 16])), out, inp).0, ErrorKind::Missing);
    assert_eq!(parts.error(&fp8(json!([8, 0])), out, inp).0, ErrorKind::Config);
    assert_eq!(parts.error(&fp8(json!([8])), out, inp).0, ErrorKind::Config);
    assert_eq!(parts.error(&fp8(json!([8, 16])), out, inp + 1).0, ErrorKind::Shape);
    let cut = parts.with("weight", Format::F8E4M3, &[out, inp], codes[1..].to_vec());
    assert_eq!(cut.error(&fp8(json!([8, 16])), out, inp).0, ErrorKind::Shape);
}

fn compressed(format: &str, weights: Value) -> Value {
    json!({"quant_method": "compressed-tensors", "format": format, "ignore": ["lm_head"],
           "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}})
}

#[test]
fn eight_bits_with_a_scale_per_channel_tensor_or_group() {
    let (out, inp) = (10, 24);
    let mut dice = Dice(2);
    let float = dice.e4m3(out * inp);
    let int: Vec<u8> = dice.codes(out * inp, 256).iter().map(|c| *c as u8).collect();
    // What shares a scale, its shape, the index of the scale of an element.
    type Case = (Value, Vec<usize>, fn(usize) -> usize, [&'static str; 2]);
    let cases: [Case; 4] = [
        (json!({"strategy": "channel"}), vec![10, 1], |i| i / 24, ["FP8 channel", "INT8 channel"]),
        (json!({"strategy": "channel"}), vec![10], |i| i / 24, ["FP8 channel", "INT8 channel"]),
        (json!({"strategy": "tensor"}), vec![1], |_| 0, ["FP8 tensor", "INT8 tensor"]),
        (
            json!({"strategy": "group", "group_size": 8}),
            vec![10, 3],
            |i| i / 24 * 3 + i % 24 / 8,
            ["FP8 group", "INT8 group"],
        ),
    ];
    for (strategy, shape, of, names) in cases {
        let scales = dice.halves(shape.iter().product());
        for (kind, format, stored, codes, name) in [
            ("float", "float-quantized", Format::F8E4M3, &float, names[0]),
            ("int", "int-quantized", Format::I8, &int, names[1]),
        ] {
            let mut weights = strategy.clone();
            weights["type"] = json!(kind);
            weights["num_bits"] = json!(8);
            let parts = Parts::default().with("weight", stored, &[out, inp], codes.clone());
            let parts = parts.with("weight_scale", Format::F16, &shape, half_bytes(&scales));
            let value = |c: u8| if kind == "int" { f32::from(c as i8) } else { E4M3[usize::from(c)] };
            let want = codes.iter().enumerate().map(|(i, c)| value(*c) * f16_to_f32(scales[of(i)]));
            check(
                &parts.load(&compressed(format, weights.clone()), out, inp).unwrap(),
                name,
                &want.collect::<Vec<_>>(),
            );
            let wrong = parts.clone().with("weight_scale", Format::F16, &[2, 1], half_bytes(&scales[..1].repeat(2)));
            assert_eq!(wrong.error(&compressed(format, weights.clone()), out, inp).0, ErrorKind::Shape);
            let wrong = parts.with("weight_scale", Format::I16, &shape, half_bytes(&scales));
            assert_eq!(wrong.error(&compressed(format, weights), out, inp).0, ErrorKind::Format);
        }
    }
}

#[test]
fn int8_with_zero_points() {
    let (out, inp) = (8, 12);
    let mut dice = Dice(3);
    let codes: Vec<u8> = dice.codes(out * inp, 256).iter().map(|c| *c as u8).collect();
    let (scales, zeros) = (dice.halves(out), dice.codes(out, 256).iter().map(|c| *c as u8).collect::<Vec<_>>());
    let config =
        compressed("int-quantized", json!({"type": "int", "num_bits": 8, "strategy": "channel", "symmetric": false}));
    let parts = Parts::default().with("weight", Format::I8, &[out, inp], codes.clone());
    let parts = parts.with("weight_scale", Format::F16, &[out, 1], half_bytes(&scales));
    assert_eq!(parts.error(&config, out, inp).0, ErrorKind::Missing);
    let parts = parts.with("weight_zero_point", Format::I8, &[out, 1], zeros.clone());
    let want = |i: usize| (f32::from(codes[i] as i8) - f32::from(zeros[i / inp] as i8)) * f16_to_f32(scales[i / inp]);
    check(&parts.load(&config, out, inp).unwrap(), "INT8 channel", &(0..out * inp).map(want).collect::<Vec<_>>());
}

#[test]
fn model_opt_fp8() {
    let (out, inp) = (6, 16);
    let codes = Dice(4).e4m3(out * inp);
    let config = json!({"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]});
    let parts = Parts::default().with("weight", Format::F8E4M3, &[out, inp], codes.clone());
    let parts = parts.with("weight_scale", Format::F32, &[], float_bytes(&[0.375]));
    let want: Vec<f32> = codes.iter().map(|c| E4M3[usize::from(*c)] * 0.375).collect();
    check(&parts.load(&config, out, inp).unwrap(), "FP8 tensor", &want);
}

#[test]
fn mxfp4_blocks_of_one_expert() {
    let (experts, out, inp) = (3, 6, 64);
    let mut dice = Dice(5);
    let codes = dice.codes(experts * out * inp, 16);
    let scales: Vec<u8> = dice.codes(experts * out * inp / 32, 255).iter().map(|e| *e as u8).collect();
    let bytes: Vec<u8> = codes.chunks(2).map(|p| (p[0] | p[1] << 4) as u8).collect();
    let view =
        |shape: &[usize], b: &[u8]| TensorView { format: Format::U8, shape: shape.to_vec(), bytes: b.to_vec().into() };
    let (blocks, exponents) = (view(&[experts, out, inp / 32, 16], &bytes), view(&[experts, out, inp / 32], &scales));
    let method = QuantMethod::parse(&json!({"quant_method": "mxfp4"})).unwrap();
    for e in 0..experts {
        let lookup = |s: &str| match s {
            "blocks" => blocks.index(e),
            "scales" => exponents.index(e),
            _ => None,
        };
        let m = from_parts(&method, "model.layers.0.mlp.experts.gate_up_proj", &lookup, out, inp).unwrap();
        let want = (e * out * inp..(e + 1) * out * inp).map(|i| {
            let magnitude = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][codes[i] as usize & 7];
            let value = magnitude * 2f64.powi(i32::from(scales[i / 32]) - 127);
            (if codes[i] > 7 { -value } else { value }) as f32
        });
        check(&m, "MXFP4", &want.collect::<Vec<_>>());
    }
    assert!(blocks.index(experts).is_none());
    let nan = Parts::default().with("blocks", Format::U8, &[out, 1, 16], vec![0x22; out * 16]);
    let nan = nan.with("scales", Format::U8, &[out, 1], vec![255; out]);
    let mut row = [0.0; 32];
    nan.load(&json!({"quant_method": "mxfp4"}), out, 32).unwrap().decode_rows(2..3, &mut row);
    assert!(row.iter().all(|w| w.is_nan()));
    assert_eq!(nan.error(&json!({"quant_method": "mxfp4"}), out, 48).0, ErrorKind::Shape);
    assert_eq!(nan.error(&json!({"quant_method": "mxfp4"}), out + 1, 32).0, ErrorKind::Shape);
}

struct Gptq {
    bits: usize,
    group: usize,
    v2: bool,
    act_order: bool,
}

#[test]
fn gptq_in_all_widths_orders_and_versions() {
    let mut cases = Vec::new();
    for bits in [2, 3, 4, 8] {
        for (group, v2, act_order) in
            [(32, false, false), (32, true, true), (16, false, true), (64, true, false), (2, true, true)]
        {
            cases.push(Gptq { bits, group, v2, act_order });
        }
    }
    for (seed, case) in cases.iter().enumerate() {
        // 144 groups are more than the decoder keeps at once.
        let (out, inp) = (32, if case.group == 2 { 288 } else { 64 });
        let (bits, groups, levels) = (case.bits, inp / case.group, 1u64 << case.bits);
        let mut dice = Dice(seed as u64 + 10);
        let codes = dice.codes(out * inp, levels); // [out, inp]
        let zeros = dice.codes(groups * out, levels);
        let scales = dice.halves(groups * out);
        let mut index: Vec<u32> = (0..inp).map(|i| (i / case.group) as u32).collect();
        if case.act_order {
            (1..inp).rev().for_each(|i| index.swap(i, dice.roll(i as u64 + 1) as usize));
        }
        let columns: Vec<u32> = codes.chunks(inp).flat_map(|row| stream(row, bits)).collect();
        let stored_zeros: Vec<u64> =
            zeros.iter().map(|z| if case.v2 { *z } else { (z + levels - 1) % levels }).collect();
        let zero_words: Vec<u32> = stored_zeros.chunks(out).flat_map(|row| stream(row, bits)).collect();
        let parts = Parts::default()
            .with("qweight", Format::I32, &[inp * bits / 32, out], word_bytes(&transposed(&columns, inp * bits / 32)))
            .with("qzeros", Format::I32, &[groups, out * bits / 32], word_bytes(&zero_words))
            .with("scales", Format::F16, &[groups, out], half_bytes(&scales))
            .with("g_idx", Format::I32, &[inp], word_bytes(&index));
        let format = if case.v2 { "gptq_v2" } else { "gptq" };
        let config = json!({"quant_method": "gptq", "bits": bits, "group_size": case.group, "desc_act": case.act_order,
                            "sym": false, "checkpoint_format": format});
        let want = |i: usize| {
            let at = index[i % inp] as usize * out + i / inp;
            (codes[i] as f32 - zeros[at] as f32) * f16_to_f32(scales[at])
        };
        let want: Vec<f32> = (0..out * inp).map(want).collect();
        let name = format!("GPTQ INT{bits}");
        check(&parts.load(&config, out, inp).unwrap(), &name, &want);
        if !case.act_order {
            check(&parts.clone().without("g_idx").load(&config, out, inp).unwrap(), &name, &want);
        }
        let mut overridden = config.clone();
        overridden["dynamic"] = json!({"+:.*up_proj.*": {"bits": bits, "group_size": case.group}});
        (overridden["bits"], overridden["group_size"]) = (json!(4), json!(128));
        check(&parts.load(&overridden, out, inp).unwrap(), &name, &want);

        index[5] = groups as u32;
        let (kind, text) =
            parts.clone().with("g_idx", Format::I32, &[inp], word_bytes(&index)).error(&config, out, inp);
        assert_eq!(kind, ErrorKind::Value, "{text}");
        index[5] = u32::MAX;
        let negative = parts.clone().with("g_idx", Format::I32, &[inp], word_bytes(&index));
        assert_eq!(negative.error(&config, out, inp).0, ErrorKind::Value);
        assert_eq!(parts.clone().without("qzeros").error(&config, out, inp).0, ErrorKind::Missing);
        assert_eq!(parts.error(&config, out - 1, inp).0, ErrorKind::Shape);
        assert_eq!(parts.error(&config, out, inp * 2).0, ErrorKind::Shape);
    }
}

#[test]
fn awq_gemm() {
    let (out, inp, group) = (24, 48, 16);
    let mut dice = Dice(40);
    let (codes, zeros) = (dice.codes(out * inp, 16), dice.codes(inp / group * out, 16));
    let scales = dice.halves(inp / group * out);
    // Nibble n of a word holds output ORDER[n].
    let pack = |row: &[u64]| -> Vec<u32> {
        const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
        row.chunks(8).map(|w| (0..8).fold(0, |word, n| word | (w[ORDER[n]] as u32) << (4 * n))).collect()
    };
    let words: Vec<u32> = transposed(&codes, inp).chunks(out).flat_map(pack).collect();
    let zero_words: Vec<u32> = zeros.chunks(out).flat_map(pack).collect();
    let parts = Parts::default()
        .with("qweight", Format::I32, &[inp, out / 8], word_bytes(&words))
        .with("qzeros", Format::I32, &[inp / group, out / 8], word_bytes(&zero_words))
        .with("scales", Format::F16, &[inp / group, out], half_bytes(&scales));
    let want = |i: usize| {
        let at = i % inp / group * out + i / inp;
        (codes[i] as f32 - zeros[at] as f32) * f16_to_f32(scales[at])
    };
    let want: Vec<f32> = (0..out * inp).map(want).collect();
    let mut config =
        json!({"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": true});
    check(&parts.load(&config, out, inp).unwrap(), "AWQ INT4", &want);
    assert_eq!(parts.error(&config, out + 4, inp).0, ErrorKind::Shape);
    config["group_size"] = json!(32);
    assert_eq!(parts.error(&config, out, inp).0, ErrorKind::Shape);
    config["version"] = json!("gemv");
    let (kind, text) = parts.error(&config, out, inp);
    assert_eq!(
        (kind, text.as_str()),
        (ErrorKind::Unsupported, "quantization_config.version: expected gemm, got \"gemv\"")
    );
}

#[test]
fn packed_integers_with_groups_channels_and_zero_points() {
    for (seed, (bits, inp, group)) in
        [(4usize, 64usize, 32usize), (8, 64, 32), (4, 44, 16), (4, 40, 40), (3, 40, 20)].into_iter().enumerate()
    {
        let out = 13;
        let (per_word, groups, levels) = (32 / bits, inp.div_ceil(group), 1u64 << bits);
        let mut dice = Dice(seed as u64 + 50);
        let (codes, zeros) = (dice.codes(out * inp, levels), dice.codes(out * groups, levels));
        let scales = dice.halves(out * groups);
        let pack = |row: &[u64]| -> Vec<u32> {
            row.chunks(per_word)
                .map(|w| w.iter().enumerate().fold(0, |v, (i, c)| v | (*c as u32) << (i * bits)))
                .collect()
        };
        let words: Vec<u32> = codes.chunks(inp).flat_map(pack).collect();
        let zero_columns: Vec<u32> = transposed(&zeros, groups).chunks(out).flat_map(pack).collect();
        let zero_words = transposed(&zero_columns, out.div_ceil(per_word));
        let shape: Vec<u8> = [out as u64, inp as u64].iter().flat_map(|v| v.to_le_bytes()).collect();
        let parts = Parts::default()
            .with("weight_packed", Format::I32, &[out, inp.div_ceil(per_word)], word_bytes(&words))
            .with("weight_scale", Format::F16, &[out, groups], half_bytes(&scales))
            .with("weight_shape", Format::I64, &[2], shape.clone());
        let mut weights =
            json!({"type": "int", "num_bits": bits, "strategy": "group", "group_size": group, "symmetric": true});
        if group == inp {
            (weights["strategy"], weights["group_size"]) = (json!("channel"), Value::Null);
        }
        let bias = (levels / 2) as f32;
        let name = format!("packed INT{bits}");
        let scale = |i: usize| f16_to_f32(scales[i / inp * groups + i % inp / group]);
        let want: Vec<f32> = (0..out * inp).map(|i| (codes[i] as f32 - bias) * scale(i)).collect();
        let config = compressed("pack-quantized", weights.clone());
        check(&parts.load(&config, out, inp).unwrap(), &name, &want);

        weights["symmetric"] = json!(false);
        let config = compressed("pack-quantized", weights);
        assert_eq!(parts.error(&config, out, inp).0, ErrorKind::Missing);
        let zero = |i: usize| zeros[i / inp * groups + i % inp / group] as f32;
        let want: Vec<f32> = (0..out * inp).map(|i| (codes[i] as f32 - zero(i)) * scale(i)).collect();
        let packed_shape = [out.div_ceil(per_word), groups];
        let with = parts.clone().with("weight_zero_point", Format::I32, &packed_shape, word_bytes(&zero_words));
        check(&with.load(&config, out, inp).unwrap(), &name, &want);
        let plain: Vec<u8> = zeros.iter().map(|z| (*z as i64 - bias as i64) as u8).collect();
        let with = parts.clone().with("weight_zero_point", Format::I8, &[out, groups], plain);
        check(&with.load(&config, out, inp).unwrap(), &name, &want);

        let lie = with.clone().with("weight_shape", Format::I64, &[2], [&shape[8..], &shape[..8]].concat());
        assert_eq!(lie.error(&config, out, inp).0, ErrorKind::Value);
        let short = with.with("weight_packed", Format::I32, &[out, 1], vec![0; 4 * out]);
        assert_eq!(short.error(&config, out, inp).0, ErrorKind::Shape);
    }
}

#[test]
fn packed_integers_in_act_order() {
    let (out, inp, groups) = (9, 32, 4);
    let mut dice = Dice(70);
    let codes = dice.codes(out * inp, 16);
    let scales = dice.halves(out * groups);
    let index: Vec<u32> = (0..inp as u32).map(|i| i * 5 % groups as u32).collect();
    let words: Vec<u32> = codes.chunks(inp).flat_map(|row| stream(row, 4)).collect();
    let parts = Parts::default()
        .with("weight_packed", Format::I32, &[out, inp / 8], word_bytes(&words))
        .with("weight_scale", Format::F16, &[out, groups], half_bytes(&scales))
        .with("weight_g_idx", Format::I32, &[inp], word_bytes(&index));
    let weights = json!({"type": "int", "num_bits": 4, "strategy": "group", "group_size": 8, "actorder": "group"});
    let want = |i: usize| (codes[i] as f32 - 8.0) * f16_to_f32(scales[i / inp * groups + index[i % inp] as usize]);
    let want: Vec<f32> = (0..out * inp).map(want).collect();
    check(&parts.load(&compressed("pack-quantized", weights), out, inp).unwrap(), "packed INT4", &want);
}

#[test]
fn nvfp4_of_both_tools() {
    let (out, inp) = (7, 48);
    let mut dice = Dice(80);
    let codes = dice.codes(out * inp, 16);
    let bytes: Vec<u8> = codes.chunks(2).map(|p| (p[0] | p[1] << 4) as u8).collect();
    let scales: Vec<u8> = dice.codes(out * inp / 16, 0x7f).iter().map(|c| *c as u8).collect();
    let value = |i: usize| {
        [0.0f32, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][codes[i] as usize & 7] * if codes[i] > 7 { -1.0 } else { 1.0 }
    };
    let parts = Parts::default().with("weight_scale", Format::F8E4M3, &[out, inp / 16], scales.clone());

    let ct = parts.clone().with("weight_packed", Format::U8, &[out, inp / 2], bytes.clone());
    let ct = ct.with("weight_global_scale", Format::F32, &[1], float_bytes(&[1234.5]));
    let config = compressed(
        "nvfp4-pack-quantized",
        json!({"type": "float", "num_bits": 4, "strategy": "tensor_group", "group_size": 16}),
    );
    let want = |i: usize| value(i) * (E4M3[usize::from(scales[i / 16])] / 1234.5);
    check(&ct.load(&config, out, inp).unwrap(), "NVFP4", &(0..out * inp).map(want).collect::<Vec<_>>());
    assert_eq!(ct.error(&config, out, inp + 8).0, ErrorKind::Shape);
    let zero = ct.with("weight_global_scale", Format::F32, &[1], float_bytes(&[0.0]));
    assert_eq!(zero.error(&config, out, inp).0, ErrorKind::Value);

    let opt = parts.with("weight", Format::U8, &[out, inp / 2], bytes);
    let opt = opt.with("weight_scale_2", Format::F32, &[], float_bytes(&[0.0123]));
    let config = json!({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16});
    let want = |i: usize| value(i) * (E4M3[usize::from(scales[i / 16])] * 0.0123);
    check(&opt.load(&config, out, inp).unwrap(), "NVFP4", &(0..out * inp).map(want).collect::<Vec<_>>());
    assert_eq!(opt.clone().without("weight_scale_2").error(&config, out, inp).0, ErrorKind::Missing);
    let smoothed = opt.with("pre_quant_scale", Format::F32, &[inp], vec![0; 4 * inp]);
    assert_eq!(smoothed.error(&config, out, inp).0, ErrorKind::Unsupported);
}

#[test]
fn modules_that_were_left_alone() {
    let parts = Parts::default().with("weight", Format::BF16, &[2, 3], [0x80, 0x3f].repeat(6));
    for config in [
        fp8(json!([128, 128])),
        json!({"quant_method": "gptq", "bits": 4, "group_size": 128}),
        json!({"quant_method": "mxfp4"}),
    ] {
        let m = parts.load(&config, 2, 3).unwrap();
        assert_eq!(m.format_name(), "BF16");
        assert_eq!(parts.error(&config, 3, 3).1, "weight: expected [3, 3], got [2, 3]");
    }
    assert_eq!(parts.error(&fp8(json!([128, 128])), 0, 3).0, ErrorKind::Shape);
}

#[test]
fn configurations_that_are_not_supported_name_what_they_are() {
    let weights = |v: Value| compressed("pack-quantized", v);
    let cases = [
        (json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), "\"bitsandbytes\""),
        (json!({"bits": 4}), "quant_method"),
        (json!([]), "an object"),
        (json!({"quant_method": 7}), "a string"),
        (json!({"quant_method": "gptq", "bits": 5, "group_size": 128}), "bits"),
        (json!({"quant_method": "gptq", "bits": -4, "group_size": 128}), "-4"),
        (json!({"quant_method": "gptq", "bits": 4, "group_size": 0}), "group_size"),
        (json!({"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "marlin"}), "\"marlin\""),
        (json!({"quant_method": "awq", "bits": 8, "group_size": 128}), "bits"),
        (json!({"quant_method": "fp8", "fmt": "e5m2"}), "\"e5m2\""),
        (json!({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}), "\"W4A8_AWQ\""),
        (compressed("marlin-24", json!({"num_bits": 4, "type": "int", "strategy": "channel"})), "\"marlin-24\""),
        (weights(json!({"num_bits": 9, "type": "int", "strategy": "channel"})), "9 bits"),
        (weights(json!({"num_bits": 0, "type": "int", "strategy": "channel"})), "0 bits"),
        (weights(json!({"num_bits": 4, "type": "float", "strategy": "channel"})), "float"),
        (weights(json!({"num_bits": 4, "type": "int", "strategy": "token"})), "\"token\""),
        (weights(json!({"num_bits": 4, "type": "int", "strategy": "group"})), "group_size"),
        (weights(Value::Null), "config_groups"),
        (compressed("nvfp4-pack-quantized", json!({"num_bits": 4, "type": "float", "group_size": 32})), "group_size"),
    ];
    for (config, named) in cases {
        let e = QuantMethod::parse(&config).expect_err(&config.to_string());
        assert!(e.to_string().contains(named), "{e} should name {named}");
    }
    let mut sparse = weights(json!({"num_bits": 4, "type": "int", "strategy": "channel"}));
    sparse["sparsity_config"] = json!({"format": "sparse-24-bitmask"});
    assert!(QuantMethod::parse(&sparse).unwrap_err().to_string().contains("sparse-24-bitmask"));
    sparse["sparsity_config"] = json!({});
    assert!(QuantMethod::parse(&sparse).is_ok());
}

#[test]
fn where_configurations_are_found() {
    let method = |c: Value, h: Option<Value>| QuantMethod::from_config(&c, h.as_ref()).unwrap().map(|m| m.name());
    assert_eq!(method(json!({"model_type": "llama"}), None), None);
    assert_eq!(method(json!({"quantization_config": {"quant_method": "fp8"}}), None), Some("fp8"));
    assert_eq!(method(json!({"text_config": {"quantization_config": {"quant_method": "awq"}}}), None), Some("awq"));
    let own = json!({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]}});
    assert_eq!(method(json!({}), Some(own)), Some("modelopt"));
    assert_eq!(method(json!({}), Some(json!({"quantization": {"quant_algo": null}}))), None);
}

#[test]
fn targets_and_exceptions() {
    let config = json!({
        "quant_method": "compressed-tensors", "format": "mixed-precision",
        "ignore": ["lm_head", "re:.*self_attn.*", "re:(?!never).*"],
        "config_groups": {
            "a": {"targets": ["Linear"], "format": "float-quantized", "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}},
            "b": {"targets": ["re:.*experts\\.\\d+\\..*"], "format": "pack-quantized",
                  "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}},
            "c": {"targets": ["Linear"], "weights": null},
        },
    });
    let method = QuantMethod::parse(&config).unwrap();
    let scheme = |m: &str| method.scheme(m).unwrap().clone();
    assert_eq!(
        scheme("model.layers.3.mlp.experts.7.up_proj"),
        Scheme::PackQuantized { bits: 4, grain: Grain::Group(32), symmetric: true }
    );
    assert_eq!(
        scheme("model.layers.3.mlp.shared_experts.up_proj"),
        Scheme::Scaled { float: true, grain: Grain::Channel, symmetric: true }
    );
    assert!(method.ignores("model.layers.0.self_attn.q_proj") && method.ignores("lm_head"));
    assert!(!method.ignores("model.layers.0.mlp.up_proj"));
    let suffixes = method.suffixes();
    assert!(suffixes.contains(&"weight_packed") && suffixes.contains(&"weight_scale") && suffixes.is_sorted());

    let config =
        json!({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head", "gate"]});
    let method = QuantMethod::parse(&config).unwrap();
    assert!(method.ignores("model.layers.11.self_attn.q_proj") && method.ignores("lm_head"));
    assert!(method.ignores("model.layers.2.mlp.gate") && !method.ignores("model.layers.2.mlp.gate_proj"));

    let mixed = json!({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
        "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4", "group_size": 16},
        "model.layers.0.mlp.down_proj": {"quant_algo": "FP8"}}});
    let method = QuantMethod::parse(&mixed).unwrap();
    assert_eq!(method.scheme("model.layers.0.mlp.up_proj").unwrap(), &Scheme::ModelOptNvfp4);
    assert_eq!(method.scheme("model.layers.0.mlp.down_proj").unwrap(), &Scheme::ModelOptFp8 { grain: Grain::Tensor });
    assert_eq!(method.scheme("model.layers.0.mlp.gate_proj").unwrap_err().kind, ErrorKind::Config);
}

/// Whatever one part claims to be, the answer is an error or a matrix that decodes; never a panic.
#[test]
fn every_part_mutated() {
    let mut dice = Dice(90);
    let (out, inp) = (32, 64);
    let int = |n: usize| vec![0x11u8; 4 * n];
    let gptq = Parts::default()
        .with("qweight", Format::I32, &[8, 32], int(256))
        .with("qzeros", Format::I32, &[2, 4], int(8))
        .with("scales", Format::F16, &[2, 32], vec![0; 128])
        .with("g_idx", Format::I32, &[64], vec![0; 256]);
    let pack = Parts::default()
        .with("weight_packed", Format::I32, &[32, 8], int(256))
        .with("weight_scale", Format::BF16, &[32, 2], vec![0; 128])
        .with("weight_zero_point", Format::I32, &[4, 2], int(8))
        .with("weight_shape", Format::I64, &[2], [[32u64, 64].map(u64::to_le_bytes)].as_flattened().concat());
    let scaled = Parts::default().with("weight", Format::F8E4M3, &[32, 64], vec![0; 2048]).with(
        "weight_scale_inv",
        Format::F32,
        &[2, 4],
        vec![0; 32],
    );
    let weights = json!({"type": "int", "num_bits": 4, "strategy": "group", "group_size": 32, "symmetric": false});
    let cases = [
        (gptq, json!({"quant_method": "gptq", "bits": 4, "group_size": 32})),
        (pack, compressed("pack-quantized", weights)),
        (scaled, fp8(json!([16, 16]))),
    ];
    let formats =
        [Format::I32, Format::I8, Format::U8, Format::F16, Format::F32, Format::F8E4M3, Format::Q4_0, Format::Bool];
    for (parts, config) in cases {
        parts.load(&config, out, inp).unwrap();
        let names: Vec<String> = parts.0.keys().cloned().collect();
        for _ in 0..2000 {
            let mut parts = parts.clone();
            let name = &names[dice.roll(names.len() as u64) as usize];
            let part = parts.0.get_mut(name).unwrap();
            match dice.roll(4) {
                0 => part.format = formats[dice.roll(formats.len() as u64) as usize],
                1 => {
                    let axes = part.shape.len() as u64;
                    let values = [0, 1, 2, 3, 7, 8, 31, 32, 33, 64, 1 << 31, usize::MAX / 2, usize::MAX];
                    part.shape[dice.roll(axes) as usize] = values[dice.roll(values.len() as u64) as usize];
                }
                2 => part.bytes = part.bytes.slice(0..dice.roll(part.bytes.len() as u64 + 1) as usize).unwrap(),
                _ => part.shape = (0..dice.roll(4)).map(|_| dice.roll(70) as usize).collect(),
            }
            if let Ok(m) = parts.load(&config, out, inp) {
                m.decode_rows(0..out, &mut vec![0.0; out * inp]);
            }
        }
        for size in [0, 1, 7, usize::MAX / 2, usize::MAX] {
            assert!(parts.load(&config, size, inp).is_err() && parts.load(&config, out, size).is_err());
        }
    }
}
