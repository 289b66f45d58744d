//! Weights that move into packed memory while they are used: equal bits before, during and after, and nothing is taken
//! from a file that changed.
mod common;

use common::{Layer, weight};
use pondera_cpu::{Cpu, Isa, Options};
use pondera_ops::{Act, Batch, Layout, Linear, Ops, Settled};
use pondera_quant::{Bytes, Format, Owner};
use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// A file that can be said to have changed and that hears which bytes may go.
struct File {
    bytes: Vec<u8>,
    changed: Arc<AtomicBool>,
    forgotten: Mutex<Vec<Range<usize>>>,
}

impl Owner for File {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn intact(&self) -> bool {
        !self.changed.load(SeqCst)
    }
    fn forget(&self, range: Range<usize>) {
        self.forgotten.lock().unwrap().push(range);
    }
}

#[derive(Default)]
struct Files {
    changed: Arc<AtomicBool>,
    all: Vec<Arc<File>>,
}

impl Files {
    fn keep(&mut self, bytes: Vec<u8>) -> Bytes {
        let file = Arc::new(File { bytes, changed: self.changed.clone(), forgotten: Mutex::default() });
        self.all.push(file.clone());
        Bytes::new(file)
    }
}

fn cpu(threads: usize, layout: Layout) -> Cpu {
    let cpu = Cpu::new(Options { isa: Isa::detect(), threads }).expect("detected");
    cpu.lay_out(layout);
    cpu
}

fn bits(out: &[f32]) -> Vec<u32> {
    out.iter().map(|v| v.to_bits()).collect()
}

/// Whether there is a packed layout of Q4_K here.
fn packs() -> bool {
    matches!(Isa::detect(), Isa::Avx2 | Isa::Avx512 | Isa::Amx)
}

/// Bits of a prompt of `rows` and of ten steps; between steps goes on what `between` does.
fn layer(cpu: &Cpu, layer: &Layer, rows: u32, between: impl Fn(&Cpu)) -> Vec<Vec<u32>> {
    layer.reserve(cpu);
    let mut out = Vec::new();
    let prompt: Vec<u32> = (0..rows).map(|i| i % 32).collect();
    let steps = (rows..rows + 10).map(|p| Batch::single(&[p % 32], p));
    let batches = std::iter::once(Batch::single(&prompt, 0)).chain(steps);
    batches
        .map(|b| {
            layer.step(cpu, &b, &mut out);
            between(cpu);
            bits(&out)
        })
        .collect()
}

#[test]
fn a_layer_gives_equal_bits_before_during_and_after() {
    for format in [Format::Q4K, Format::Q6K, Format::Q8_0, Format::F32] {
        for rows in [20, 150] {
            let fresh = || Layer::new(format, &mut Bytes::from);
            let want = layer(&cpu(1, Layout::Mapped), &fresh(), rows, |_| {});
            for threads in [1, 3] {
                let auto = cpu(threads, Layout::Auto);
                let little = |c: &Cpu| {
                    c.settle(Duration::from_nanos(1));
                };
                assert_eq!(layer(&auto, &fresh(), rows, little), want, "{format:?}, {rows} rows, {threads} threads");
                let packed = cpu(threads, Layout::Packed);
                assert_eq!(layer(&packed, &fresh(), rows, |_| {}), want, "{format:?} packed at once");
                if packs() && format == Format::Q4K {
                    assert!(packed.settle(Duration::ZERO).packed_bytes > 0);
                }
            }
        }
    }
}

/// A head of more rows than a slice takes, multiplied while it moves.
fn head(o: &dyn Ops, l: &Linear) -> Vec<u32> {
    let x: Vec<f32> = (0..3 * l.weight.inp).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01).collect();
    let x: Act = o.input(3, l.weight.inp, &x);
    let mut out = Vec::new();
    o.read(&o.linear(l, &x), &mut out);
    bits(&out)
}

fn linear(files: &mut Files, out: usize, bias: bool) -> Linear {
    let weight_of = |format, out, inp, files: &mut Files| weight(format, 1, out, inp, &mut |b| files.keep(b));
    let bias = bias.then(|| weight_of(Format::F32, 1, out, &mut Files::default()));
    Linear { weight: weight_of(Format::Q4K, out, 512, files), bias }
}

/// Neither a multiple of a panel nor of a slice.
const ROWS: usize = 10_007;

#[test]
fn a_head_is_taken_from_both_places_while_it_moves() {
    for (threads, bias) in [(1, false), (2, true)] {
        let mut files = Files::default();
        let l = linear(&mut files, ROWS, bias);
        let want = head(&cpu(1, Layout::Mapped), &l);
        let auto = cpu(threads, Layout::Auto);
        let mut seen: Vec<Settled> = Vec::new();
        loop {
            assert_eq!(head(&auto, &l), want, "{threads} threads, {:?}", seen.last());
            seen.push(auto.settle(Duration::from_nanos(1)));
            if seen.last().unwrap().left_bytes == 0 {
                break;
            }
        }
        assert_eq!(head(&auto, &l), want, "{threads} threads, packed");
        if !packs() {
            continue;
        }
        let partly = seen.iter().filter(|s| s.packed_bytes > 0 && s.left_bytes > 0).count();
        assert!(partly > 0 || seen.len() == 1, "never seen on its way: {seen:?}");
        // Every byte of the file may go.
        let mut gone = files.all[0].forgotten.lock().unwrap().clone();
        gone.sort_by_key(|r| r.start);
        let end = gone.iter().fold(0, |end, r| if r.start <= end { end.max(r.end) } else { end });
        assert_eq!(end, files.all[0].bytes.len(), "{gone:?}");
    }
}

#[test]
fn nothing_is_taken_from_a_file_that_changed() {
    let mut files = Files::default();
    let l = linear(&mut files, ROWS, false);
    let want = head(&cpu(1, Layout::Mapped), &l);
    for (layout, rows_before) in [(Layout::Auto, true), (Layout::Auto, false), (Layout::Packed, false)] {
        let mut files = Files::default();
        let l = linear(&mut files, ROWS, false);
        let cpu = cpu(2, layout);
        let before = if rows_before {
            head(&cpu, &l);
            cpu.settle(Duration::from_nanos(1)).packed_bytes
        } else {
            0
        };
        files.changed.store(true, SeqCst);
        assert_eq!(head(&cpu, &l), want, "{layout:?}");
        let s = cpu.settle(Duration::from_secs(1));
        assert!(s.left_bytes == 0 && (s.packed_bytes == before || before > 0), "{layout:?}: {s:?}, {before} before");
        if !rows_before {
            assert_eq!(s.packed_bytes, 0, "{layout:?}: packed from a changed file");
            assert!(files.all[0].forgotten.lock().unwrap().is_empty());
        }
        assert_eq!(head(&cpu, &l), want, "{layout:?}");
    }
}

#[test]
fn weights_are_laid_out_while_nothing_is_computed() {
    let mut files = Files::default();
    let l = linear(&mut files, ROWS, false);
    let auto = cpu(2, Layout::Auto);
    let want = head(&auto, &l);
    let (start, limit) = (Instant::now(), Duration::from_secs(60));
    // A budget of nothing only looks.
    while auto.settle(Duration::ZERO).left_bytes > 0 {
        assert!(start.elapsed() < limit, "the helper does not come");
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(head(&auto, &l), want);
    assert_eq!(auto.settle(Duration::ZERO).packed_bytes > 0, packs());
}
