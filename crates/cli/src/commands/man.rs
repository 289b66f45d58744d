//! `man`: the manual pages, generated from the commands themselves.
use crate::{
    Context,
    error::{Error, Result},
};
use std::path::PathBuf;

/// Write the manual: the main page to standard output, or all pages to a folder
#[derive(clap::Args)]
#[command(hide = true)]
pub struct Args {
    /// Write pondera.1, pondera-run.1, … here
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Writes the pages.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(crate::command()).render(&mut page).map_err(|e| Error::stdout(&e))?;
        return context.out.data(&page);
    };
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder.display(), &e))?;
    clap_mangen::generate_to(crate::command(), folder).map_err(|e| Error::io(folder.display(), &e))
}
