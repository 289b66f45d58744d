//! Speed of one linear layer: `products [--isa NAME] [--threads N] [--out O] [--inp I] [--tokens 1,4,512] [FORMAT…]`.
//!
//! Prints GB/s of weights and GFLOPS per format and number of tokens, best and median of several rounds, beside a plain
//! read of the same kind of memory in the same run. The weights are more than the last-level cache holds: as many
//! matrices as make 256 MB, used in turn.
use pondera_cpu::{Cpu, Isa, Options, default_threads};
use pondera_ops::{Linear, Ops, Weight};
use pondera_quant::{Bytes, FORMATS, Format, Matrix};
use std::{hint::black_box, time::Instant};

/// Seconds that this thread has run, where the system tells: other work on the machine is not in them.
fn ran() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<u64>().ok()? as f64 / 1e9)
}

/// A clock: the thread's own time for one thread, the wall's otherwise.
fn seconds(start: Instant, threads: usize) -> f64 {
    ran().filter(|_| threads == 1).unwrap_or_else(|| start.elapsed().as_secs_f64())
}

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

fn number(name: &str, or: usize) -> usize {
    option(name).and_then(|v| v.parse().ok()).unwrap_or(or)
}

/// Best and median of seconds.
fn best_median(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

/// Seconds that `threads` take to read `data` once.
fn stream(data: &[u64], threads: usize) -> f64 {
    let read = |part: &[u64]| {
        let mut sums = [0u64; 16];
        for line in part.as_chunks::<16>().0 {
            sums.iter_mut().zip(line).for_each(|(s, v)| *s = s.wrapping_add(*v));
        }
        black_box(sums);
    };
    let start = Instant::now();
    let before = seconds(start, threads);
    if threads == 1 {
        read(data);
        return seconds(start, threads) - before;
    }
    std::thread::scope(|s| {
        for part in data.chunks(data.len().div_ceil(threads)) {
            s.spawn(move || read(part));
        }
    });
    start.elapsed().as_secs_f64()
}

fn weights(format: Format, out: usize, inp: usize, total: usize) -> Vec<Linear> {
    let stride = format.row_bytes(inp).expect("whole blocks");
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state ^ (state >> 29)
    };
    (0..(total / (out * stride)).max(1))
        .map(|_| {
            let mut bytes = vec![0; out * stride];
            (format.info().random)(&mut next, 0.02, &mut bytes);
            let m = Matrix::Rows { format, out, inp, bytes: Bytes::from(bytes), stride };
            Linear { weight: Weight::new(format.info().name, vec![m]).expect("one matrix"), bias: None }
        })
        .collect()
}

fn main() {
    let isa = option("--isa").map_or(Isa::detect(), |v| v.parse().expect("an instruction set"));
    let threads = number("--threads", default_threads());
    let (out, inp, rounds) = (number("--out", 4096), number("--inp", 2048), number("--rounds", 7));
    let tokens: Vec<usize> =
        option("--tokens").unwrap_or("1,4,128".into()).split(',').filter_map(|t| t.parse().ok()).collect();
    let total = number("--mb", 256) << 20;
    let cpu = Cpu::new(Options { isa, threads }).expect("the machine has it");
    let data = vec![1u64; total / 8];
    println!("{isa} {:?}, {threads} threads, [{out}, {inp}]", isa.extras());
    let named = std::env::args().skip(1).filter(|a| FORMATS.iter().any(|f| f.name == a)).collect::<Vec<_>>();
    let wanted = if named.is_empty() { ["F32", "F16", "BF16", "MXFP4"].map(String::from).to_vec() } else { named };
    for info in FORMATS.iter().filter(|f| wanted.iter().any(|w| w == f.name)) {
        let ls = weights(info.format, out, inp, total);
        let bytes = info.format.row_bytes(inp).expect("whole blocks") * out;
        for &n in &tokens {
            let x: Vec<f32> = (0..n * inp).map(|i| ((i * 37) % 101) as f32 * 0.01 - 0.5).collect();
            let uses = if n <= 8 { ls.len() } else { 2.min(ls.len()) };
            let mut times = Vec::new();
            let mut streams = Vec::new();
            for _ in 0..rounds {
                let x = cpu.input(n, inp, &x);
                let start = Instant::now();
                let before = seconds(start, threads);
                for l in &ls[..uses] {
                    black_box(cpu.linear(l, &x).rows);
                }
                times.push((seconds(start, threads) - before) / uses as f64);
                streams.push(stream(&data, threads));
            }
            let ((best, median), (sb, sm)) = (best_median(times), best_median(streams));
            let (gbs, flops) = (|t: f64| bytes as f64 / t / 1e9, |t: f64| 2.0 * (n * out * inp) as f64 / t / 1e9);
            let read = |t: f64| total as f64 / t / 1e9;
            println!(
                "{:8} x {n:4}: {:6.1} GB/s best {:6.1} median, {:7.1} GFLOPS best {:7.1} median; plain read {:.1} best {:.1} median; ratio {:.2}",
                info.name,
                gbs(best),
                gbs(median),
                flops(best),
                flops(median),
                read(sb),
                read(sm),
                gbs(median) / read(sm)
            );
        }
    }
}
