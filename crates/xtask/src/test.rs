//! The test run: everything that must hold before a change lands, with a last line that counts.
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

/// Checks that are one command each; a failure counts as one failed test.
const CHECKS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    ("clippy", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
];

/// Runs all checks and tests; `--quick` leaves clippy out. Prints `N passed, M failed` last.
pub fn run(args: &[String]) -> Result<(), String> {
    let quick = args.iter().any(|a| a == "--quick");
    let (mut passed, mut failed) = (0, 0);
    let mut count = |name: &str, ok: bool| {
        println!("{name}: {}", if ok { "ok" } else { "FAILED" });
        if ok { passed += 1 } else { failed += 1 }
    };
    for (name, args) in CHECKS {
        if !(quick && *name == "clippy") {
            count(name, Command::new("cargo").args(*args).status().is_ok_and(|s| s.success()));
        }
    }
    let tidy = super::tidy::run();
    if let Err(e) = &tidy {
        eprintln!("{e}");
    }
    count("tidy", tidy.is_ok());
    // The dev profile optimises the numeric crates fully (Cargo.toml), so that kernels run as they ship and all builds fast.
    let (p, f) = cargo_test(&["test", "--workspace", "--no-fail-fast"])?;
    passed += p;
    failed += f;
    println!("{passed} passed, {failed} failed");
    if failed == 0 { Ok(()) } else { Err(String::from("the test run failed")) }
}

/// Runs `cargo test`, shows its output, and adds up the result lines of its test programs.
fn cargo_test(args: &[&str]) -> Result<(u64, u64), String> {
    let mut child =
        Command::new("cargo").args(args).stdout(Stdio::piped()).spawn().map_err(|e| format!("cargo: {e}"))?;
    let (mut passed, mut failed) = (0, 0);
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line.map_err(|e| format!("cargo test: {e}"))?;
            println!("{line}");
            if let Some(rest) = line.strip_prefix("test result:") {
                passed += number_before(rest, "passed");
                failed += number_before(rest, "failed");
            }
        }
    }
    let ok = child.wait().map_err(|e| format!("cargo test: {e}"))?.success();
    // A test program that does not build or dies has no result line: still a failure.
    if !ok && failed == 0 {
        failed = 1;
    }
    Ok((passed, failed))
}

fn number_before(line: &str, word: &str) -> u64 {
    let before = line.split(word).next().unwrap_or("");
    before.split_whitespace().next_back().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn result_lines_are_counted() {
        let line = " ok. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!((super::number_before(line, "passed"), super::number_before(line, "failed")), (12, 3));
    }
}
