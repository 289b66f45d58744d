//! The backend beside the scalar specification, bit for bit, on every instruction set of this machine and several
//! numbers of threads.
use pondera_cpu::{Cpu, Isa, Options};
use pondera_ops::conformance::{exact, run};

fn conforms(isa: Isa, threads: usize, seed: u64) {
    if !isa.supported() {
        return;
    }
    let report = run(&|| Box::new(Cpu::new(Options { isa, threads }).expect("supported")), exact, seed);
    assert!(report.failures.is_empty(), "{isa}, {threads} threads, seed {seed}: {:#?}", report.failures);
    assert!(report.checks > 1000, "{} checks", report.checks);
}

#[test]
fn scalar_lanes() {
    conforms(Isa::Scalar, 1, 1);
    conforms(Isa::Scalar, 2, 2);
}

#[test]
fn avx2() {
    (1..=3).for_each(|threads| conforms(Isa::Avx2, threads, threads as u64));
}

#[test]
fn avx512() {
    (1..=3).for_each(|threads| conforms(Isa::Avx512, threads, threads as u64));
}

#[test]
fn neon() {
    (1..=3).for_each(|threads| conforms(Isa::Neon, threads, threads as u64));
}
