//! After warm-up a decode step allocates nothing (a page's first touch apart).
mod common;

use common::Layer;
use pondera_cpu::{Cpu, Isa, Options};
use pondera_ops::{Batch, Layout, Ops};
use pondera_quant::{Bytes, Format};
use std::{
    alloc::{self, GlobalAlloc, System},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: alloc::Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: alloc::Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
    unsafe fn realloc(&self, p: *mut u8, layout: alloc::Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_decode_step_allocates_nothing() {
    for format in [Format::BF16, Format::Q8_0, Format::Q4K] {
        for (threads, layout) in [(1, Layout::Mapped), (3, Layout::Mapped), (1, Layout::Auto), (3, Layout::Auto)] {
            let cpu = Cpu::new(Options { isa: Isa::detect(), threads }).expect("detected");
            let layer = Layer::new(format, &mut Bytes::from);
            cpu.lay_out(layout);
            layer.reserve(&cpu);
            let mut out = Vec::new();
            let prompt: Vec<u32> = (0..20).collect();
            layer.step(&cpu, &Batch::single(&prompt, 0), &mut out);
            while cpu.settle(Duration::from_millis(100)).left_bytes > 0 {}
            let steps: Vec<Batch> = (20..64).map(|p| Batch::single(&[p % 32], p)).collect();
            let step = |b: &Batch, out: &mut Vec<f32>| {
                layer.step(&cpu, b, out);
                cpu.settle(Duration::from_millis(1));
            };
            steps[..8].iter().for_each(|b| step(b, &mut out));
            // A thread that the system starts late allocates once: not in every round.
            let rounds = steps[8..].chunks(12).map(|round| {
                let before = ALLOCATIONS.load(SeqCst);
                round.iter().for_each(|b| step(b, &mut out));
                ALLOCATIONS.load(SeqCst) - before
            });
            assert_eq!(rounds.min(), Some(0), "{format:?}, {threads} threads, {layout:?}");
            assert!(out.iter().all(|v| v.is_finite()));
        }
    }
}
