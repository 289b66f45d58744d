//! `template`: a chat template rendered over messages, as the reference library renders it.
use crate::{
    Context,
    error::{Error, Result},
};
use std::path::PathBuf;

/// Render a chat template
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pondera template model.gguf --messages chat.json --add-generation-prompt\n  \
    pondera template --template chat_template.jinja --messages chat.json --bos-token '<s>'")]
pub struct Args {
    /// The model whose template it is
    #[arg(required_unless_present = "template", conflicts_with = "template")]
    model: Option<String>,
    /// A list of messages, or an object with `messages`, `tools`, `kwargs`, `continue_final_message`
    #[arg(long, value_name = "FILE")]
    messages: PathBuf,
    /// Open the assistant's turn
    #[arg(long)]
    add_generation_prompt: bool,
    /// A template file in place of MODEL
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// `bos_token` of the template
    #[arg(long, value_name = "TEXT")]
    bos_token: Option<String>,
    /// `eos_token` of the template
    #[arg(long, value_name = "TEXT")]
    eos_token: Option<String>,
    /// The clock's time, as in 2026-07-01 or 2026-07-01T12:00:00
    #[arg(long, value_name = "ISO")]
    now: Option<String>,
}

/// Writes the rendered text.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let _ = context;
    Err(Error::failed(format!("{}: this build has no templates", args.messages.display())))
}
