//! The conformance suite as a program of its own, for machines (or emulators) without a build environment:
//! `conformance [--isa NAME] [--threads N] [--seed S]`; exit status 1 where a bit differs, 2 where the machine lacks the
//! instruction set. Without `--isa`: every one that the machine has.
use pondera_cpu::{Cpu, Isa, Options};
use pondera_ops::{
    Ops,
    conformance::{Candidate, exact, run},
};
use std::process::ExitCode;

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

fn main() -> ExitCode {
    let number = |name: &str, or: u64| option(name).map_or(Ok(or), |v| v.parse());
    let (Ok(threads), Ok(seed)) = (number("--threads", 2), number("--seed", 1)) else {
        eprintln!("--threads and --seed take a number");
        return ExitCode::from(2);
    };
    let sets = match option("--isa").map(|name| name.parse::<Isa>()) {
        None => Isa::ALL.into_iter().filter(|i| i.supported()).collect(),
        Some(Ok(isa)) => vec![isa],
        Some(Err(e)) => {
            eprintln!("{e}");
            return ExitCode::from(2);
        }
    };
    for isa in sets {
        let options = Options { isa, threads: threads as usize };
        if let Err(e) = Cpu::new(options) {
            eprintln!("{e}");
            return ExitCode::from(2);
        }
        let make = || Box::new(Cpu::new(options).expect("made just now")) as Box<dyn Ops>;
        let report = run(&[Candidate { name: isa.to_string(), make: &make }], exact, seed);
        println!("{isa} {:?}: {} results compared, {} differ", isa.extras(), report.checks, report.failures.len());
        report.failures.iter().for_each(|f| println!("  {f}"));
        if !report.failures.is_empty() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
