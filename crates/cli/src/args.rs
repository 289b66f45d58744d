//! Arguments: the global flags, and how flag, environment and config file make one value.
//!
//! A flag wins over `PONDERA_<FLAG>`, which wins over the file of `--config`, which wins over the default.
//! Commands declare their own flags in their own files.
use crate::{
    commands::Command,
    config::{self, Settings},
    error::Exit,
    log, out,
};
use clap::{
    ArgAction, CommandFactory, FromArgMatches, Parser,
    builder::FalseyValueParser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{ffi::OsString, path::PathBuf, process::ExitCode};

/// Own an open-weight language model: run it exactly, from its real files.
#[derive(Parser)]
#[command(name = "pondera", version, propagate_version = true, arg_required_else_help = true, max_term_width = 100)]
#[command(args_override_self = true)]
#[command(
    after_help = "MODEL is a folder, a file (.gguf, .safetensors, *.index.json), org/name[@revision][:quant] in \
    the hub cache, or nothing for the built-in model."
)]
pub struct Cli {
    /// Global flags.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print one JSON object (JSON lines for streams)
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Log what happens; twice for details
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Use only what is on this machine
    #[arg(long, global = true)]
    pub offline: bool,
    /// Worker threads [default: the machine's cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
    /// Folder of the local store
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Read defaults for flags, and models to serve, from a TOML file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Refuse to fetch, use or convert a model whose licence this policy does not accept (exit 4)
    #[arg(long, global = true, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// How log lines on standard error are written [default: text]
    #[arg(long, global = true, value_name = "FORMAT", value_enum)]
    pub log_format: Option<log::Format>,
}

/// The whole command line, for help, completions and man pages.
pub fn command() -> clap::Command {
    with_environment(Cli::command())
}

/// Parses `argv`; what the file of `--config` says beside flags comes with it. `Err` is how the program ends at once: help,
/// version, or a usage error that has been shown.
pub fn parse(argv: &[OsString]) -> Result<(Cli, Settings), ExitCode> {
    let (mut command, mut settings) = (command(), Settings::default());
    if let Some(file) = config_file(argv) {
        let verb = verb(&command, argv);
        (command, settings) = config::apply(command, &file, verb.as_deref()).map_err(|e| {
            e.print();
            e.exit().code()
        })?;
    }
    let cli = command.try_get_matches_from(argv).and_then(|m| Cli::from_arg_matches(&m));
    cli.map(|cli| (cli, settings.clone())).map_err(|e| ended(&e, argv, &settings))
}

/// Where the file gives the value that `e` is about.
fn place(e: &clap::Error, argv: &[OsString], settings: &Settings) -> Option<String> {
    let Some(ContextValue::String(arg)) = e.get(ContextKind::InvalidArg) else { return None };
    let flag = arg.strip_prefix("--")?.split([' ', '=']).next()?;
    let named = |a: &OsString| a.to_str().and_then(|a| a.strip_prefix("--")?.split('=').next()) == Some(flag);
    let given = argv.iter().any(named);
    let line = settings.lines.get(flag).filter(|_| !given && std::env::var_os(variable(flag)).is_none())?;
    Some(line.clone())
}

fn ended(e: &clap::Error, argv: &[OsString], settings: &Settings) -> ExitCode {
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = e.print();
            return Exit::Ok.code();
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = e.print();
            return Exit::Usage.code();
        }
        _ => {}
    }
    // clap's report has several paragraphs: the first says what is wrong, a `tip:` what was probably meant.
    let text = e.render().to_string();
    let mut parts = text.split("\n\n").map(str::trim);
    let what = parts.next().unwrap_or_default().trim_start_matches("error: ");
    let what = what.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
    let what = match place(e, argv, settings) {
        Some(place) => format!("{place}: {what}"),
        None => what,
    };
    let tip = text.lines().find_map(|l| l.trim().strip_prefix("tip: ")).map(str::to_string);
    let usage = text.lines().find_map(|l| l.trim().strip_prefix("Usage: ")).map(|u| format!("usage: {u}"));
    let hint = tip.or(usage).unwrap_or_else(|| "see pondera --help".into());
    out::error_lines(&what, Some(&hint));
    Exit::Usage.code()
}

/// Every long flag also as an environment variable.
fn with_environment(command: clap::Command) -> clap::Command {
    command
        .mut_args(|a| match a.get_long().map(variable) {
            Some(name) if !matches!(a.get_action(), ArgAction::Help | ArgAction::Version) => {
                let a = if matches!(a.get_action(), ArgAction::SetTrue) {
                    a.value_parser(FalseyValueParser::new())
                } else {
                    a
                };
                a.env(name).hide_env(true)
            }
            _ => a,
        })
        .mut_subcommands(with_environment)
}

fn variable(flag: &str) -> String {
    format!("PONDERA_{}", flag.to_uppercase().replace('-', "_"))
}

/// The file that `--config` or its variable names. Looked up before the rest is parsed, for it changes the defaults.
fn config_file(argv: &[OsString]) -> Option<PathBuf> {
    let mut args = argv.iter().skip(1).take_while(|a| *a != "--");
    while let Some(a) = args.next() {
        if a == "--config" {
            return args.next().map(PathBuf::from);
        }
        if let Some(v) = a.to_str().and_then(|a| a.strip_prefix("--config=")) {
            return Some(v.into());
        }
    }
    std::env::var_os("PONDERA_CONFIG").filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// The verb that `argv` asks for, as far as that can be said before the file's defaults are known.
fn verb(command: &clap::Command, argv: &[OsString]) -> Option<String> {
    let matches = command.clone().ignore_errors(true).try_get_matches_from(argv).ok()?;
    matches.subcommand_name().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_long_flag_has_a_variable() {
        let command = command();
        let mut seen = 0;
        for c in std::iter::once(&command).chain(command.get_subcommands()) {
            for a in c.get_arguments() {
                let Some(long) = a.get_long() else { continue };
                if matches!(a.get_action(), ArgAction::Help | ArgAction::Version) {
                    continue;
                }
                let want = variable(long);
                assert_eq!(a.get_env().and_then(|e| e.to_str()), Some(want.as_str()), "{} --{long}", c.get_name());
                seen += 1;
            }
        }
        assert!(seen > 15, "{seen}");
    }
}
