//! Time per weight of every scalar decoder, encoder and dot product, on one thread:
//! `cargo run --release -p pondera-quant --example decode_speed`.
use pondera_quant::{
    Activation, Bytes, FORMATS, Format, Q8, TensorView,
    packed::{QuantMethod, from_parts},
};
use serde_json::{Value, json};
use std::{hint::black_box, time::Instant};

const OUT: usize = 256;
const INP: usize = 4096;

/// Nanoseconds per weight, the best of a few runs.
fn time(mut work: impl FnMut()) -> f64 {
    let run = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e9 / (OUT * INP) as f64
    };
    (0..5).map(|_| run(&mut work)).fold(f64::INFINITY, f64::min)
}

fn words() -> impl FnMut() -> u64 {
    let mut state = 1u64;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state ^ (state >> 29)
    }
}

fn formats() {
    let mut dst = vec![0.0; OUT * INP];
    let (mut q, mut d, mut sums) = (vec![0; INP], vec![0.0; INP / 32], vec![0; INP / 16]);
    for f in &FORMATS {
        let mut src = vec![0; OUT * INP / f.block * f.bytes];
        let random = time(|| (f.random)(&mut words(), 0.02, &mut src));
        let decode = time(|| (f.decode)(black_box(&src), &mut dst));
        print!("{:8} random {random:6.2} decode {decode:6.2}", f.name);
        if let (Some(dot), Activation::Q8 { block }) = (f.dot, f.activation) {
            d.resize(INP / block, 0.0);
            Q8::quantize(block, &vec![0.5; INP], &mut q, &mut d, &mut sums);
            let x = Q8 { block, q: &q, d: &d, sums: &sums };
            let rows = || src.chunks_exact(INP / block * f.bytes).map(|row| dot(row, x, 0.0)).sum::<f32>();
            print!(
                " dot {:6.2}",
                time(|| {
                    black_box(rows());
                })
            );
        }
        if let (Some(encode), true) = (f.encode, f.block > 1) {
            print!(" encode {:7.1}", time(|| encode(&dst, black_box(&mut src))));
        }
        println!();
    }
}

/// Every layout, its parts filled with a constant byte.
fn layouts() {
    let weights = |kind: &str, bits: u32, group: u32| {
        let strategy = if group == 0 { "channel" } else { "group" };
        let group = if group == 0 { Value::Null } else { json!(group) };
        json!({"type": kind, "num_bits": bits, "strategy": strategy, "group_size": group})
    };
    let ct = |format: &str, weights: Value| json!({"quant_method": "compressed-tensors", "format": format, "config_groups": {"g": {"weights": weights}}});
    let gptq = json!({"quant_method": "gptq", "bits": 4, "group_size": 128});
    let cases: [(Value, bool); 9] = [
        (json!({"quant_method": "fp8"}), false),
        (ct("float-quantized", weights("float", 8, 0)), false),
        (gptq.clone(), false),
        (gptq, true),
        (json!({"quant_method": "awq", "bits": 4, "group_size": 128}), false),
        (json!({"quant_method": "mxfp4"}), false),
        (ct("pack-quantized", weights("int", 4, 128)), false),
        (ct("nvfp4-pack-quantized", weights("float", 4, 16)), false),
        (json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}), false),
    ];
    for (config, act_order) in cases {
        let method = QuantMethod::parse(&config).expect("a configuration of this file");
        let lookup = |suffix: &str| {
            let float = config["format"] == "float-quantized" || method.name() == "fp8";
            let awq = method.name() == "awq";
            let (format, shape) = match suffix {
                "weight" if float => (Format::F8E4M3, vec![OUT, INP]),
                "weight" | "weight_packed" if config.to_string().to_lowercase().contains("nvfp4") => {
                    (Format::U8, vec![OUT, INP / 2])
                }
                "weight_scale_inv" => (Format::F32, vec![OUT / 128, INP / 128]),
                "qweight" if awq => (Format::I32, vec![INP, OUT / 8]),
                "qweight" => (Format::I32, vec![INP / 8, OUT]),
                "qzeros" => (Format::I32, vec![INP / 128, OUT / 8]),
                "scales" if method.name() == "mxfp4" => (Format::U8, vec![OUT, INP / 32]),
                "scales" => (Format::F16, vec![INP / 128, OUT]),
                "g_idx" if act_order => (Format::I32, vec![INP]),
                "blocks" => (Format::U8, vec![OUT, INP / 32, 16]),
                "weight_packed" => (Format::I32, vec![OUT, INP / 8]),
                "weight_scale" if float => (Format::BF16, vec![OUT, 1]),
                "weight_scale" if config["format"] == "pack-quantized" => (Format::BF16, vec![OUT, INP / 128]),
                "weight_scale" => (Format::F8E4M3, vec![OUT, INP / 16]),
                "weight_global_scale" | "weight_scale_2" => (Format::F32, vec![1]),
                _ => return None,
            };
            let count = shape.iter().product::<usize>();
            let bytes = match suffix {
                "g_idx" => (0..count as u32).flat_map(|i| (i * 7 % 32).to_le_bytes()).collect(),
                _ => vec![0x35; count * format.info().bytes],
            };
            Some(TensorView { format, shape, bytes: Bytes::from(bytes) })
        };
        let m = from_parts(&method, "m", &lookup, OUT, INP).expect("parts that fit");
        let mut dst = vec![0.0; 16 * INP];
        let decode = || (0..OUT).step_by(16).for_each(|o| m.decode_rows(o..o + 16, black_box(&mut dst)));
        println!(
            "{:12} {:11} decode {:6.2}",
            m.format_name(),
            if act_order { "(act-order)" } else { "" },
            time(decode)
        );
    }
}

fn main() {
    println!("nanoseconds per weight, one thread");
    formats();
    layouts();
}
