//! The command line: arguments, output, errors, exit codes, and one file per command.
//!
//! Owns: what users type and see, the environment (read here and nowhere else), MODEL resolution, the
//! embedded default model. Does not own: anything that computes; every command is a thin reader of the
//! libraries below.
#![forbid(unsafe_code)]

mod ahead;
mod args;
mod chat;
mod commands;
mod error;
mod flags;
mod hub;
mod inspect;
mod interrupt;
mod load;
mod log;
mod lora;
mod memory;
mod model;
mod out;
mod packed;
mod progress;
mod sentence;
mod served;
mod shelf;
mod view;
mod words;

pub use args::command;
pub use error::{Error, Exit};

use args::{Cli, Global};
use out::Out;
use std::{ffi::OsString, process::ExitCode};

/// What every command gets: the global flags and where to write.
pub(crate) struct Context {
    /// Global flags.
    pub global: Global,
    /// Standard output and error.
    pub out: Out,
}

/// Runs the command line `argv` (with the program's name in front) and says how it ended.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    let argv: Vec<OsString> = argv.into_iter().collect();
    let cli = match args::parse(&argv) {
        Ok(cli) => cli,
        Err(ended) => return ended,
    };
    let Cli { global, command } = cli;
    log::install(global.verbose, global.quiet);
    interrupt::install();
    let out = Out::new(global.json, global.quiet);
    let context = Context { global, out };
    match command.run(&context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            e.print();
            e.exit().code()
        }
    }
}

/// A panic is never the user's doing: says so, with what a report needs, and without a backtrace.
fn report_panic(info: &std::panic::PanicHookInfo<'_>) {
    let place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
    let payload = info.payload();
    let what =
        payload.downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| payload.downcast_ref::<String>().cloned());
    let what = what.unwrap_or_else(|| "no message".into());
    out::error_lines(
        &format!("a bug in pondera {} stopped it at {place}: {what}", env!("CARGO_PKG_VERSION")),
        Some("this is ours to fix: please report the line above with the command and the file that led to it"),
    );
}
