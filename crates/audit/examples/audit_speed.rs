//! How fast an audit reads tensors: `cargo run --release -p pondera-audit --example audit_speed -- FOLDER [GB [FORMAT …]]`.
//!
//! Writes a file of random weights for each format to FOLDER (removed afterwards), then audits it whole, all rules over
//! values included, six times with two threads and six times with one. The first time warms the page cache and does not
//! count; the median of the rest is shown in stored bytes per second.
use pondera_audit::{Options, audit, tensors};
use pondera_quant::{FORMATS, FormatInfo};
use pondera_weights::{TensorSpec, gguf};
use std::{error::Error, fs::File, io::BufWriter, path::Path, time::Instant};

const ROWS: usize = 4096;
const COLUMNS: usize = 8192;
const RUNS: usize = 6;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = args.first().ok_or("name a folder to write to")?;
    let bytes = args.get(1).map_or(Ok(1.0), |n| n.parse::<f64>())? * 1e9;
    let wanted = |f: &&FormatInfo| match args.get(2..) {
        None | Some([]) => f.block > 1 || ["F32", "F16", "BF16", "F64"].contains(&f.name),
        Some(names) => names.iter().any(|n| n == f.name),
    };
    println!("{:8} {:>7} {:>10} {:>10}", "format", "GB", "2 threads", "1 thread");
    for f in FORMATS.iter().filter(|f| f.gguf_id.is_some()).filter(wanted) {
        let path = Path::new(folder).join(format!("speed-{}.gguf", f.name));
        let size = write(&path, f, bytes)?;
        let [two, one] = [2, 1].map(|threads| speed(&path, size, threads));
        println!("{:8} {:7.2} {:7.2} GB/s {:5.2} GB/s", f.name, size as f64 / 1e9, two?, one?);
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

/// Tensors of random blocks, each from another place of one pool.
fn write(path: &Path, f: &FormatInfo, bytes: f64) -> Result<usize, Box<dyn Error>> {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed ^ seed >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let size = ROWS * COLUMNS / f.block * f.bytes;
    let count = ((bytes / size as f64).ceil() as usize).max(1);
    let mut pool = vec![0; size];
    (f.random)(&mut next, 0.02, &mut pool);
    let specs: Vec<TensorSpec> =
        (0..count).map(|i| TensorSpec::new(format!("blk.{i}.attn_q.weight"), f.format, &[ROWS, COLUMNS])).collect();
    let mut w = gguf::Writer::new(BufWriter::new(File::create(path)?), &[], &specs)?;
    for i in 0..count {
        let (end, start) = pool.split_at(size / f.bytes * i / count * f.bytes);
        w.write(start)?;
        w.write(end)?;
    }
    w.finish()?;
    Ok(size * count)
}

fn speed(path: &Path, size: usize, threads: usize) -> Result<f64, Box<dyn Error>> {
    let options = Options { tensors: tensors::Options { threads, ..Default::default() }, ..Default::default() };
    let mut seconds = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let report = audit(path, "speed", &options)?;
        seconds.push(start.elapsed().as_secs_f64());
        assert_eq!(report.tensors.bytes, size as u64);
        assert!(!report.findings.iter().any(|f| f.rule == "non-finite"), "{:?}", report.findings);
    }
    let counted = &mut seconds[1..];
    counted.sort_by(f64::total_cmp);
    Ok(size as f64 / counted[counted.len() / 2] / 1e9)
}
