//! `template`: a chat template rendered over messages, as the reference library renders it.
use crate::{
    Context,
    error::{Error, Result},
    model::{self, Source},
    words,
};
use pondera_text::{ChatInput, ChatTemplate, parse_time};
use std::{
    fs,
    path::{Path, PathBuf},
};

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
    let template = match (&args.template, &args.model) {
        (Some(file), _) => ChatTemplate::new(read(file)?),
        (None, Some(model)) => of_model(model, context)?,
        (None, None) => return Err(Error::usage("neither MODEL nor --template was given")),
    };
    let messages = serde_json::from_str(&read(&args.messages)?)
        .map_err(|e| Error::file(format!("{}: {e}", args.messages.display())))?;
    let mut input = ChatInput::from_json(messages).map_err(|e| e.within(args.messages.display()))?;
    input.add_generation_prompt |= args.add_generation_prompt;
    input.bos_token = args.bos_token.clone();
    input.eos_token = args.eos_token.clone();
    let time = |now: &String| {
        let wrong = || Error::usage(format!("--now {now}: not a time")).hint("as in 2026-07-01T12:00:00");
        parse_time(now).ok_or_else(wrong)
    };
    input.now = args.now.as_ref().map(time).transpose()?;
    let text = template.render(&input)?;
    if context.out.json() {
        return context.out.object(&serde_json::json!({ "text": text }));
    }
    context.out.text(&text)
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|e| Error::io(path.display(), &e))?;
    String::from_utf8(bytes).map_err(|_| Error::file(format!("{}: not UTF-8", path.display())))
}

/// The model's own template: in its GGUF metadata, or beside its other files.
fn of_model(model: &str, context: &Context) -> Result<ChatTemplate> {
    let source = model::resolve(Some(model), &context.global)?;
    let beside = || source.folder().map(ChatTemplate::open).transpose().map(Option::flatten);
    let inside = || source.weights().map_err(Error::from).and_then(|weights| words::template(&weights));
    let is_folder = matches!(&source, Source::Path(path) if path.is_dir());
    // A folder's template lies in files of its own; a GGUF file carries one, whatever lies beside it.
    let found = match is_folder {
        true => beside()?.map_or_else(inside, |template| Ok(Some(template)))?,
        false => inside()?.map_or_else(beside, |template| Ok(Some(template)))?,
    };
    found.ok_or_else(|| {
        Error::file(format!("{}: no chat template", source.name())).hint("give one with --template FILE")
    })
}
