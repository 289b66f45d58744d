//! Speed of packed kernels: `packed [--set Vnni512|Vnni256|Avx2] [--threads N] [--out O] [--inp I] [--mb M]
//! [--tokens 1,4,16,512] [--rounds R] [FORMAT…]`.
//!
//! Prints GB/s of weights and GOPS per format and number of tokens (medians; best in parentheses), the speed of packing,
//! and beside them what a read with prefetches reaches on the same memory in the same run. The weights are more than
//! caches hold; where the system has huge pages they lie in them.
use pondera_cpu::{
    Isa, default_threads,
    dot::{Out, Tokens},
    packed::{self, Floats, GROUP, Scratch, Set, Weights},
    tiled,
};
use pondera_quant::{Activation, Bytes, FORMATS, Format, Matrix, Q8};
use std::{
    hint::black_box,
    sync::{Barrier, Mutex},
    time::Instant,
};

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

fn number(name: &str, or: usize) -> usize {
    option(name).and_then(|v| v.parse().ok()).unwrap_or(or)
}

/// Runs `f(thread)` on all threads at once, as often as `rounds`; seconds of the slowest: median and best.
fn time(threads: usize, rounds: usize, f: &(dyn Fn(usize) + Sync)) -> (f64, f64) {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let barrier = Barrier::new(threads);
        let slowest = std::thread::scope(|s| {
            let handles: Vec<_> = (0..threads)
                .map(|t| {
                    let barrier = &barrier;
                    s.spawn(move || {
                        barrier.wait();
                        let start = Instant::now();
                        f(t);
                        start.elapsed().as_secs_f64()
                    })
                })
                .collect();
            handles.into_iter().map(|h| h.join().expect("no panic")).fold(0.0, f64::max)
        });
        times.push(slowest);
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[0])
}

#[cfg(target_os = "linux")]
fn huge(p: *mut u8, len: usize) {
    unsafe extern "C" {
        fn madvise(p: *mut u8, len: usize, advice: i32) -> i32;
    }
    let skip = p.align_offset(4096);
    // SAFETY: whole pages within memory of ours; advice 14 (huge pages) changes no contents.
    unsafe { madvise(p.add(skip), len.saturating_sub(skip) / 4096 * 4096, 14) };
}

#[cfg(not(target_os = "linux"))]
fn huge(_: *mut u8, _: usize) {}

/// Fresh zeroed memory, in huge pages where there are any.
fn memory(bytes: usize) -> &'static mut [u8] {
    let all = Vec::leak(Vec::<u8>::with_capacity(bytes + 4096));
    let (base, skip) = (all.as_mut_ptr(), all.as_mut_ptr().align_offset(64));
    huge(base, bytes + 4096);
    // SAFETY: within the capacity, which is leaked.
    let part = unsafe { std::slice::from_raw_parts_mut(base.add(skip), bytes) };
    part.fill(0);
    part
}

#[cfg(target_arch = "x86_64")]
fn read(data: &[u64]) -> u64 {
    use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
    let mut sums = [0u64; 32];
    for line in data.as_chunks::<32>().0 {
        for i in 0..4 {
            let p = line.as_ptr().wrapping_add(8 * i).cast::<i8>();
            // SAFETY: a hint at any address.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(1024));
                _mm_prefetch::<_MM_HINT_T1>(p.wrapping_add(4096));
            }
        }
        sums.iter_mut().zip(line).for_each(|(s, v)| *s |= *v);
    }
    sums.iter().fold(0, |a, b| a | b)
}

#[cfg(not(target_arch = "x86_64"))]
fn read(data: &[u64]) -> u64 {
    data.iter().fold(0, |a, b| a | b)
}

fn matrix(format: Format, out: usize, inp: usize) -> Matrix {
    let stride = format.row_bytes(inp).expect("whole blocks");
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state ^ (state >> 29)
    };
    let mut bytes = vec![0; out * stride];
    (format.info().random)(&mut next, 0.02, &mut bytes);
    Matrix::Rows { format, out, inp, bytes: Bytes::from(bytes), stride }
}

/// Pointers that threads share.
#[derive(Clone, Copy)]
struct Shared<T>(T);
// SAFETY: threads write disjoint rows.
unsafe impl<T> Sync for Shared<T> {}
impl<T: Copy> Shared<T> {
    fn get(&self) -> T {
        self.0
    }
}

fn main() {
    let wanted = option("--set");
    let isa = Isa::detect();
    let set = Set::ALL.into_iter().find(|s| wanted.as_ref().map_or(s.supported(), |w| *w == format!("{s:?}")));
    let set = set.filter(|s| s.supported()).expect("a set of this machine");
    let (threads, rounds) = (number("--threads", default_threads()), number("--rounds", 5));
    let (out, inp) = (number("--out", 4096), number("--inp", 2048));
    let total = number("--mb", 384) << 20;
    let tokens: Vec<usize> =
        option("--tokens").unwrap_or("1,4,16,512".into()).split(',').filter_map(|t| t.parse().ok()).collect();
    let named = |name: &str| std::env::args().skip(1).any(|a| a == name);
    let any = FORMATS.iter().any(|f| named(f.name));
    let data = memory(total);
    // SAFETY: aligned to 64 bytes, a multiple of 8.
    let words = unsafe { std::slice::from_raw_parts(data.as_ptr().cast::<u64>(), total / 8) };
    println!("{set:?}, {threads} threads, [{out}, {inp}]");
    for info in FORMATS.iter().filter(|f| if any { named(f.name) } else { packed::layout(f.format).is_some() }) {
        let Some(size) = packed::bytes(info.format, out, inp) else { continue };
        let group_bytes = packed::group_bytes(info.format, inp).expect("whole blocks");
        let m = matrix(info.format, out, inp);
        let copies = (total / size).max(1);
        let target = memory(copies * size);
        let groups = out.div_ceil(GROUP);
        let start = Instant::now();
        for copy in target.chunks_exact_mut(size) {
            assert!(packed::pack(isa, &m, 0..groups, copy));
        }
        println!(
            "{:8} packs at {:.1} GB/s on one thread",
            info.name,
            (copies * size) as f64 / start.elapsed().as_secs_f64() / 1e9
        );
        let scratches: Vec<_> = (0..threads).map(|_| Mutex::new(Scratch::default())).collect();
        for &n in &tokens {
            let x: Vec<f32> = (0..n * inp).map(|i| ((i * 37) % 101) as f32 * 0.01 - 0.5).collect();
            let (mut q, mut d, mut sums) = (vec![0i8; n * inp], vec![0f32; n * inp / 32], vec![0i16; n * inp / 16]);
            if let Activation::Q8 { block } = info.activation {
                d.truncate(n * inp / block);
                Q8::quantize(block, &x, &mut q, &mut d, &mut sums);
            }
            let mut buffer = tiled::Buffer::default();
            let each = |n: usize, f: &(dyn Fn(usize) + Sync)| (0..n).for_each(f);
            // SAFETY: n rows of inp elements.
            let tiled = unsafe { buffer.fill(set.isa(), (x.as_ptr(), inp), n, inp, &each) };
            let floats = Shared(Floats { x: x.as_ptr(), ld: inp, n, inp, tiled: tiled.filter(|_| n >= tiled::MANY) });
            let mut lines = packed::Lines::default();
            // SAFETY: so many bytes.
            let tiles = unsafe {
                let at = lines.at_least(tiled::CodeTiles::bytes(n, inp)).cast();
                let tiles = tiled::CodeTiles::new(at, n, inp);
                (0..n).for_each(|t| tiles.put(t, 0, &q[t * inp..][..inp]));
                Some(tiles).filter(|_| set == Set::Amx && n >= tiled::SIDE && option("--rows").is_none())
            };
            let codes = Shared(Tokens { n, inp, q: &q, d: &d, sums: &sums, tiles });
            let mut y = vec![0f32; n * out];
            let y = Shared(y.as_mut_ptr());
            let uses = if n <= 32 { copies } else { copies.min(4) };
            let base = target.as_ptr() as usize;
            let run = |t: usize| {
                let mut scratch = scratches[t].lock().expect("no panic");
                let from = t * groups / threads * GROUP;
                let to = ((t + 1) * groups / threads * GROUP).min(out);
                for i in 0..uses {
                    let w = Weights { base: (base + i * size) as *const u8, group_bytes };
                    let y = Out { ptr: y.get(), stride: out };
                    // SAFETY: the set is there, the weights and `y` hold these rows, which no other thread writes.
                    unsafe {
                        match set.kernel(info.format) {
                            Some(kernel) => kernel(w, from..to, codes.get(), y, &mut scratch),
                            None => set.float_kernel(info.format).expect("one of the two")(
                                w,
                                from..to,
                                floats.get(),
                                y,
                                &mut scratch,
                            ),
                        }
                    };
                }
            };
            let (median, best) = time(threads, rounds, &run);
            let share = words.len() / threads;
            let (ceiling, _) = time(threads, rounds, &|t| {
                black_box(read(&words[t * share..(t + 1) * share]));
            });
            let gbs = |t: f64| (size * uses) as f64 / t / 1e9;
            let gops = |t: f64| 2.0 * (n * out * inp * uses) as f64 / t / 1e9;
            let ceiling = total as f64 / ceiling / 1e9;
            println!(
                "{:8} x {n:4}: {:5.1} GB/s ({:5.1}), {:7.1} GOPS ({:7.1}); read {ceiling:.1} GB/s, ratio {:.2}",
                info.name,
                gbs(median),
                gbs(best),
                gops(median),
                gops(best),
                gbs(median) / ceiling
            );
        }
    }
}
