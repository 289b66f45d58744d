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
mod config;
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
mod policy;
mod progress;
mod report;
mod sentence;
mod served;
mod shelf;
mod telemetry;
mod view;
mod words;

pub use args::command;
pub use error::{Error, Exit};

use args::{Cli, Global};
use commands::Command;
use config::Settings;
use out::Out;
use std::{
    ffi::OsString,
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64},
};

/// What every command gets: the global flags and where to write.
pub(crate) struct Context {
    /// Global flags.
    pub global: Global,
    /// Standard output and error.
    pub out: Out,
    /// What the file of `--config` says beside flags.
    pub settings: Settings,
    /// Log lines that nobody read in time.
    pub lines_dropped: Arc<AtomicU64>,
}

/// Runs the command line `argv` (with the program's name in front) and says how it ended.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    let argv: Vec<OsString> = argv.into_iter().collect();
    let (cli, settings) = match args::parse(&argv) {
        Ok(parsed) => parsed,
        Err(ended) => return ended,
    };
    let Cli { global, command } = cli;
    let format = global.log_format.unwrap_or_default();
    let log = log::install(global.verbose, global.quiet, format, matches!(command, Command::Serve(_)));
    if log.format() == log::Format::Json {
        std::panic::set_hook(Box::new(|info| log::json_line("ERROR", "pondera", &panicked(info), &vec![])));
    }
    interrupt::install();
    let out = Out::new(global.json, global.quiet);
    let context = Context { global, out, settings, lines_dropped: log.dropped() };
    match command.run(&context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log.end(&e);
            e.exit().code()
        }
    }
}

/// A panic is never the user's doing: says so, with what a report needs, and without a backtrace.
fn report_panic(info: &std::panic::PanicHookInfo<'_>) {
    out::error_lines(
        &panicked(info),
        Some("this is ours to fix: please report the line above with the command and the file that led to it"),
    );
}

fn panicked(info: &std::panic::PanicHookInfo<'_>) -> String {
    let place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
    let payload = info.payload();
    let what =
        payload.downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| payload.downcast_ref::<String>().cloned());
    let what = what.unwrap_or_else(|| "no message".into());
    format!("a bug in pondera {} stopped it at {place}: {what}", env!("CARGO_PKG_VERSION"))
}
