//! `completions`: a completion script for a shell, generated from the commands themselves.
use crate::{Context, error::Result};
use clap_complete::Shell;

/// Print a shell's completion script
#[derive(clap::Args)]
#[command(hide = true)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Writes the script to standard output.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command(), "pondera", &mut script);
    context.out.data(&script)
}
