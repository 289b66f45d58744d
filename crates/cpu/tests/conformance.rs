//! The backend beside the scalar specification, bit for bit, on every instruction set of this machine and several
//! numbers of threads.
use pondera_cpu::{Cpu, Isa, Options};
use pondera_ops::{
    Ops,
    conformance::{Candidate, exact, run},
};

#[test]
fn every_instruction_set_and_thread_count_equals_the_reference() {
    let sets = [(Isa::Scalar, 1), (Isa::Scalar, 2), (Isa::Avx2, 1), (Isa::Avx2, 2), (Isa::Avx2, 3)];
    let more = [(Isa::Avx512, 1), (Isa::Avx512, 3), (Isa::Amx, 1), (Isa::Amx, 3), (Isa::Neon, 1), (Isa::Neon, 3)];
    type Make = Box<dyn Fn() -> Box<dyn Ops>>;
    let makes: Vec<(String, Make)> = sets
        .into_iter()
        .chain(more)
        .filter(|(isa, _)| isa.supported())
        .map(|(isa, threads)| {
            let make = move || Box::new(Cpu::new(Options { isa, threads }).expect("supported")) as Box<dyn Ops>;
            (format!("{isa}, {threads} threads"), Box::new(make) as Make)
        })
        .collect();
    let candidates: Vec<Candidate<'_>> =
        makes.iter().map(|(name, make)| Candidate { name: name.clone(), make: &**make }).collect();
    let seed = 20;
    let report = run(&candidates, exact, seed);
    assert!(report.failures.is_empty(), "seed {seed}: {:#?}", report.failures);
    assert!(report.checks > 1000 * candidates.len(), "{} checks", report.checks);
}
