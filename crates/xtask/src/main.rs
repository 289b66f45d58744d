//! Development tasks: `cargo xtask TASK`. Owns what a contributor runs besides cargo itself.
#![forbid(unsafe_code)]

mod clients;
mod compare;
mod corpus;
mod families;
mod fuzz;
mod page;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask TASK

  test [--quick]   format, tidy, clippy, all tests; the last line says how many passed and failed
  tidy             what the compiler cannot check: who may import whom, unsafe, file heads, dependencies
  families         the table of families (--write: into the README)
  golden [NAME…]   makes goldens with the reference implementation, in an environment of its own
  compare ...      this engine beside others on the same files (cargo xtask compare --help)
  fuzz [SECONDS]   drives every fuzz target on this toolchain (20 seconds each by default)
  clients          the official clients of the served APIs, newest releases, against a server (needs a package index)
  page             the page in a browser, as web/tests has it (installs chromium where there is none)
  corpus ...       the text that pebble is trained on (see models/pebble/README.md)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or(&[]);
    let done = match args.first().map(String::as_str) {
        Some("test") => test::run(rest),
        Some("tidy") => tidy::run(),
        Some("families") => families::run(rest),
        Some("golden") => families::golden(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("compare") => compare::run(rest),
        Some("clients") => clients::run(),
        Some("page") => page::run(),
        Some("corpus") => corpus::run(rest),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
