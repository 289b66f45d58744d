//! Arguments: the global flags, and how flag, environment and config file make one value.
//!
//! A flag wins over `PONDERA_<FLAG>`, which wins over the file of `--config`, which wins over the default.
//! Commands declare their own flags in their own files.
use crate::{commands::Command, error::Exit, out};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, builder::FalseyValueParser, error::ErrorKind};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

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
    /// Read defaults for flags from a TOML file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The whole command line, for help, completions and man pages.
pub fn command() -> clap::Command {
    with_environment(Cli::command())
}

/// Parses `argv`. `Err` is how the program ends at once: help, version, or a usage error that has been shown.
pub fn parse(argv: &[OsString]) -> Result<Cli, ExitCode> {
    let mut command = command();
    if let Some(file) = config_file(argv) {
        command = with_config(command, &file).map_err(|(what, hint)| {
            out::error_lines(&what, Some(&hint));
            Exit::Usage.code()
        })?;
    }
    command.try_get_matches_from(argv).and_then(|m| Cli::from_arg_matches(&m)).map_err(|e| ended(&e))
}

fn ended(e: &clap::Error) -> ExitCode {
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

/// What is wrong, and what to do.
type Trouble = (String, String);

/// Defaults from a TOML file: `flag = value` for all commands that have the flag, `[verb]` tables for one command.
fn with_config(mut command: clap::Command, file: &Path) -> Result<clap::Command, Trouble> {
    let bad = |what: String, hint: &str| (format!("{} (--config {})", what, file.display()), hint.to_string());
    let text = std::fs::read_to_string(file).map_err(|e| bad(e.to_string(), "name a TOML file that can be read"))?;
    let table: toml::Table = text
        .parse()
        .map_err(|e: toml::de::Error| bad(e.message().to_string(), "see docs/commands.md for the format"))?;
    for (key, value) in &table {
        match value {
            toml::Value::Table(flags) => {
                if command.find_subcommand(key).is_none() {
                    return Err(bad(format!("[{key}]: no such command"), "tables are named after commands"));
                }
                for (flag, value) in flags {
                    let mut found = false;
                    command = command.mut_subcommand(key, |c| set_default(c, flag, value, &mut found));
                    if !found {
                        return Err(bad(
                            format!("{key}.{flag}: no such flag"),
                            "keys are long flags without the dashes",
                        ));
                    }
                }
            }
            value => {
                let mut found = false;
                command = set_default(command, key, value, &mut found);
                command = command.mut_subcommands(|c| set_default(c, key, value, &mut found));
                if !found {
                    return Err(bad(format!("{key}: no such flag"), "keys are long flags without the dashes"));
                }
            }
        }
    }
    Ok(command)
}

fn set_default(command: clap::Command, flag: &str, value: &toml::Value, found: &mut bool) -> clap::Command {
    let values: Vec<String> = match value {
        toml::Value::Array(a) => a.iter().map(plain).collect(),
        v => vec![plain(v)],
    };
    command.mut_args(|a| {
        if a.get_long() == Some(flag) && flag != "config" && flag != "help" && flag != "version" {
            *found = true;
            // `false` is a switch's absence.
            if matches!(a.get_action(), ArgAction::SetTrue) && values == ["false"] {
                return a;
            }
            return a.default_values(values.clone());
        }
        a
    })
}

fn plain(v: &toml::Value) -> String {
    match v {
        toml::Value::String(s) => s.clone(),
        v => v.to_string(),
    }
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
