//! What this machine can do at most: bytes read per second, integer and float operations per second, measured.
//!
//! Small loops that do nothing else, on all threads at once, the best of a few tries: a fraction of a second each. They
//! are the roofs that `bench` holds the engine's kernels against. Does not know a model or a format.
use std::{
    hint::black_box,
    sync::{Barrier, Mutex},
    time::{Duration, Instant},
};

/// What one kind of instruction reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roof {
    /// The instructions.
    pub name: &'static str,
    /// Operations per second; a product and its sum are two.
    pub per_second: f64,
}

/// The roofs of a number of threads together.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    /// Threads that were measured together.
    pub threads: usize,
    /// Bytes read from memory per second.
    pub read: f64,
    /// Operations on 8-bit integers: of the best vector instructions and, where they exist, of tiles.
    pub int8: Vec<Roof>,
    /// Fused multiplications and additions of 32-bit floats, counted as two operations each, per second.
    pub f32: f64,
}

/// What is read, divided among the threads: more than caches hold, where there is so much.
pub const READ_BYTES: usize = 1 << 30;
/// Tries of each loop; the best counts, for others only slow it down.
const TRIES: usize = 4;
/// How long a try of an arithmetic loop takes, roughly.
const TRY: Duration = Duration::from_millis(15);
/// How far ahead of a stream its lines are asked for.
const AHEAD: usize = 4096;
const HUGE: usize = 2 << 20;

impl Ceiling {
    /// Measures `threads` threads with `bytes` of memory, at most [`READ_BYTES`] of use.
    pub fn measure(threads: usize, bytes: usize) -> Ceiling {
        let threads = threads.max(1);
        let int8 = int8_loops().iter().map(|l| Roof { name: l.name, per_second: operations(threads, l) }).collect();
        let f32 = operations(threads, &f32_loop());
        Ceiling { threads, read: read(threads, bytes), int8, f32 }
    }

    /// The highest of [`Ceiling::int8`].
    pub fn int8(&self) -> f64 {
        self.int8.iter().map(|r| r.per_second).fold(0.0, f64::max)
    }
}

/// A loop of arithmetic: `run(n)` does `n` rounds of `operations` each.
struct Loop {
    name: &'static str,
    operations: u64,
    run: fn(u64),
}

/// Runs `task(thread)` on all threads at once and returns the time that the last one took.
fn together(threads: usize, task: &(dyn Fn(usize) + Sync)) -> Duration {
    let barrier = Barrier::new(threads);
    let timed = |t: usize| {
        barrier.wait();
        let start = Instant::now();
        task(t);
        start.elapsed()
    };
    std::thread::scope(|s| {
        let timed = &timed;
        let others: Vec<_> = (1..threads).map(|t| s.spawn(move || timed(t))).collect();
        let own = timed(0);
        others.into_iter().filter_map(|h| h.join().ok()).fold(own, Duration::max)
    })
}

/// Operations per second of a loop on all threads.
fn operations(threads: usize, l: &Loop) -> f64 {
    // As many rounds as fill a try on this machine.
    let mut rounds = 1 << 10;
    loop {
        let start = Instant::now();
        (l.run)(rounds);
        if start.elapsed() > TRY / 4 || rounds > 1 << 40 {
            rounds *= 4;
            break;
        }
        rounds *= 2;
    }
    let best = (0..TRIES).map(|_| together(threads, &|_| (l.run)(rounds))).min().unwrap_or(Duration::MAX);
    (rounds * l.operations * threads as u64) as f64 / best.as_secs_f64()
}

/// Bytes per second that all threads read together, each from its own part.
fn read(threads: usize, bytes: usize) -> f64 {
    // Whole steps of four streams of 256 bytes.
    let part = (bytes.min(READ_BYTES) / threads).next_multiple_of(HUGE);
    let parts: Vec<Mutex<Option<Pages>>> = (0..threads).map(|_| Mutex::new(None)).collect();
    // Each thread writes what it will read: its pages lie near it.
    together(threads, &|t| {
        if let Ok(mut place) = parts[t].lock() {
            *place = Some(Pages::new(part));
        }
    });
    let sum = |t: usize| {
        if let Ok(place) = parts[t].lock() {
            black_box(place.as_ref().map(|p| read_sum(p.bytes())));
        }
    };
    let best = (0..TRIES).map(|_| together(threads, &sum)).min().unwrap_or(Duration::MAX);
    (part * threads) as f64 / best.as_secs_f64()
}

/// Written memory, in huge pages where the system grants them.
struct Pages {
    memory: Vec<u8>,
    start: usize,
}

impl Pages {
    fn new(bytes: usize) -> Pages {
        let mut memory: Vec<u8> = Vec::with_capacity(bytes + HUGE);
        let start = memory.as_ptr().align_offset(HUGE).min(HUGE);
        advise(&mut memory.spare_capacity_mut()[start..]);
        memory.resize(bytes + HUGE, 1);
        Pages { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.memory.len() - HUGE]
    }
}

/// Asks for huge pages; nothing but speed depends on the answer.
fn advise(memory: &mut [std::mem::MaybeUninit<u8>]) {
    #[cfg(target_os = "linux")]
    {
        unsafe extern "C" {
            fn madvise(start: *mut std::ffi::c_void, len: usize, advice: i32) -> i32;
        }
        const MADV_HUGEPAGE: i32 = 14;
        // SAFETY: memory of ours that holds nothing yet; the advice changes no contents.
        unsafe { madvise(memory.as_mut_ptr().cast(), memory.len() / HUGE * HUGE, MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Touches every byte: four streams side by side.
pub(crate) fn read_sum(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has AVX2.
        return unsafe { x86::read(bytes) };
    }
    let quarter = bytes.len() / 4;
    let mut sums = [0u64; 4];
    for i in (0..quarter / 8 * 8).step_by(8) {
        for (s, sum) in sums.iter_mut().enumerate() {
            let at = s * quarter + i;
            *sum |= bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        }
    }
    sums.iter().fold(0, |a, b| a | b)
}

/// The best loop over vectors, then that over tiles where the machine has them.
fn int8_loops() -> Vec<Loop> {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::isa;
        let vectors = |name, operations, run| Loop { name, operations: operations * x86::SUMS, run };
        #[allow(unused_mut)]
        let mut loops = vec![match () {
            () if isa::has_avx512_vnni() => vectors("avx512vnni", 128, x86::avx512_vnni),
            () if isa::has_avx_vnni() => vectors("avxvnni", 64, x86::avx_vnni),
            () if std::arch::is_x86_feature_detected!("avx2") => vectors("avx2", 64, x86::avx2_int8),
            () => Loop { name: "plain", operations: 2 * 32 * 16, run: plain_int8 },
        }];
        #[cfg(target_os = "linux")]
        if x86::amx_allowed() {
            loops.push(Loop { name: "amx", operations: 4 * 2 * 16 * 16 * 64, run: x86::amx });
        }
        loops
    }
    #[cfg(not(target_arch = "x86_64"))]
    vec![Loop { name: "plain", operations: 2 * 32 * 16, run: plain_int8 }]
}

fn f32_loop() -> Loop {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") {
            return Loop { name: "avx512", operations: 32 * x86::SUMS, run: x86::avx512_f32 };
        }
        if has!("avx2") && has!("fma") {
            return Loop { name: "avx2", operations: 16 * x86::SUMS, run: x86::avx2_f32 };
        }
    }
    Loop { name: "plain", operations: 2 * 32 * 16, run: plain_f32 }
}

/// For machines without a loop of their own: as fast as the compiler makes it.
fn plain_int8(rounds: u64) {
    let (a, b) = (black_box([3i8; 32]), black_box([5i8; 32]));
    let mut sums = [0i32; 32];
    for _ in 0..rounds {
        for k in 0..16 {
            for (i, s) in sums.iter_mut().enumerate() {
                *s = s.wrapping_add(i32::from(a[i]) * i32::from(b[(i + k) % 32]));
            }
        }
    }
    black_box(sums);
}

fn plain_f32(rounds: u64) {
    let (a, b) = (black_box([0.5f32; 32]), black_box([0.25f32; 32]));
    let mut sums = [0f32; 32];
    for _ in 0..rounds {
        for _ in 0..16 {
            for (s, (a, b)) in sums.iter_mut().zip(a.iter().zip(&b)) {
                *s = if cfg!(target_arch = "aarch64") { a.mul_add(*b, *s) } else { a * b + *s };
            }
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::AHEAD;
    use std::{arch::x86_64::*, hint::black_box};

    /// Independent sums of a round: enough to hide the latency of two pipes.
    pub(super) const SUMS: u64 = 12;

    /// A loop over [`SUMS`] registers in a function of its own features: `$sum = $op($sum, $a, $b)`.
    macro_rules! rounds {
        ($(#[$doc:meta])* $name:ident, $inner:ident, $features:literal, $zero:expr, $a:expr, |$s:ident, $x:ident| $op:expr) => {
            $(#[$doc])*
            pub(super) fn $name(rounds: u64) {
                // SAFETY: offered only where the machine has these features.
                unsafe { $inner(rounds) }
            }

            #[target_feature(enable = $features)]
            fn $inner(rounds: u64) {
                let mut sums = [$zero; SUMS as usize];
                let $x = black_box($a);
                for _ in 0..rounds {
                    for sum in &mut sums {
                        let $s = *sum;
                        *sum = $op;
                    }
                }
                black_box(sums);
            }
        };
    }

    rounds!(avx512_vnni, avx512_vnni_in, "avx512f,avx512vnni", _mm512_setzero_si512(), _mm512_set1_epi8(3), |s, x| {
        _mm512_dpbusd_epi32(s, x, x)
    });
    rounds!(avx_vnni, avx_vnni_in, "avx2,avxvnni", _mm256_setzero_si256(), _mm256_set1_epi8(3), |s, x| {
        _mm256_dpbusd_avx_epi32(s, x, x)
    });
    rounds!(
        /// Products of magnitudes, pairs, sums: as kernels without VNNI must.
        avx2_int8, avx2_int8_in, "avx2", _mm256_setzero_si256(), _mm256_set1_epi8(3), |s, x| {
            // The operand depends on the sum, or the product would leave the loop.
            let y = _mm256_or_si256(x, _mm256_srli_epi32::<31>(s));
            _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(y, x), _mm256_set1_epi16(1)))
        }
    );
    rounds!(avx512_f32, avx512_f32_in, "avx512f", _mm512_setzero_ps(), _mm512_set1_ps(0.5), |s, x| {
        _mm512_fmadd_ps(x, x, s)
    });
    rounds!(avx2_f32, avx2_f32_in, "avx2,fma", _mm256_setzero_ps(), _mm256_set1_ps(0.5), |s, x| {
        _mm256_fmadd_ps(x, x, s)
    });

    /// The disjunction of all bytes. `bytes` is a multiple of 1024 long.
    #[target_feature(enable = "avx2")]
    pub(super) fn read(bytes: &[u8]) -> u64 {
        let quarter = bytes.len() / 4;
        let streams: [&[u8]; 4] = std::array::from_fn(|s| &bytes[s * quarter..(s + 1) * quarter]);
        let mut sums = [_mm256_setzero_si256(); 4];
        for i in (0..quarter / 256 * 256).step_by(256) {
            for stream in streams {
                let at = stream[i..i + 256].as_ptr();
                for line in 0..4 {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line * 64).cast());
                }
                for (line, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: within the 256 bytes sliced above.
                    let halves = unsafe {
                        let p = at.add(line * 64).cast::<__m256i>();
                        _mm256_or_si256(_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1)))
                    };
                    *sum = _mm256_or_si256(*sum, halves);
                }
            }
        }
        let all = _mm256_or_si256(_mm256_or_si256(sums[0], sums[1]), _mm256_or_si256(sums[2], sums[3]));
        let (low, high) = (_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
        let all = _mm_or_si128(low, high);
        (_mm_cvtsi128_si64(all) | _mm_cvtsi128_si64(_mm_unpackhi_epi64(all, all))) as u64
    }

    /// Whether there are int8 tiles and the system grants this process their state.
    #[cfg(target_os = "linux")]
    pub(super) fn amx_allowed() -> bool {
        unsafe extern "C" {
            fn syscall(number: i64, ...) -> i64;
        }
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
        const XFEATURE_TILE_DATA: i64 = 18;
        const TILES_AND_INT8: u32 = 1 << 24 | 1 << 25;
        let most = __get_cpuid_max(0).0;
        let has = most >= 7 && __cpuid_count(7, 0).edx & TILES_AND_INT8 == TILES_AND_INT8;
        // SAFETY: asks for a permission; an older kernel answers with an error.
        has && unsafe { syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_TILE_DATA) } == 0
    }

    /// Four products of tiles a round, `[16, 64] · [64, 16]` each.
    #[cfg(target_os = "linux")]
    pub(super) fn amx(rounds: u64) {
        /// Palette 1: eight tiles of 16 rows of 64 bytes.
        #[repr(align(64))]
        struct Tiles([u8; 64]);
        let mut tiles = Tiles([0; 64]);
        tiles.0[0] = 1;
        for t in 0..8 {
            tiles.0[16 + 2 * t] = 64;
            tiles.0[48 + t] = 16;
        }
        if rounds == 0 {
            return;
        }
        // SAFETY: offered only where tiles are granted. The block takes the tile registers, which no other code of ours
        // holds a value in, and gives them back empty; it touches no memory but the configuration it reads.
        unsafe {
            std::arch::asm!(
                "ldtilecfg [{tiles}]",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                "tdpbusd tmm0, tmm4, tmm6",
                "tdpbusd tmm1, tmm4, tmm7",
                "tdpbusd tmm2, tmm5, tmm6",
                "tdpbusd tmm3, tmm5, tmm7",
                "dec {n}",
                "jnz 2b",
                "tilerelease",
                tiles = in(reg) tiles.0.as_ptr(),
                n = inout(reg) rounds => _,
                options(nostack, readonly),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roofs_are_plausible() {
        let c = Ceiling::measure(1, 8 << 20);
        for roof in [c.read, c.int8(), c.f32] {
            assert!(roof.is_finite() && (1e7..1e16).contains(&roof), "{c:?}");
        }
        assert_eq!(c.int8.len(), int8_loops().len());
        assert_eq!(c.threads, 1);
    }

    #[test]
    fn every_loop_runs_at_its_ends() {
        for l in int8_loops().into_iter().chain([f32_loop()]) {
            [0, 1, 3].into_iter().for_each(l.run);
        }
    }

    #[test]
    fn every_byte_is_read() {
        let pages = Pages::new(HUGE);
        assert_eq!(pages.bytes().len(), HUGE);
        for place in [0, 1023, HUGE / 4 - 1, HUGE / 4, HUGE / 2 + 300, HUGE - 1] {
            let mut bytes = vec![0u8; HUGE];
            assert_eq!(read_sum(&bytes), 0);
            // The sum folds lines of 64 bytes onto eight: any of them shows.
            bytes[place] = 0x40;
            assert_ne!(read_sum(&bytes), 0, "{place}");
        }
    }
}
