//! `detokenize`: ids to text, as the vocabulary's own decoder gives it.
use super::tokenize::{json_lines, open, standard_input};
use crate::{
    Context,
    error::{Error, Result},
};

/// Turn token ids into text
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pondera detokenize model.gguf 1,403,407\n  \
    pondera detokenize tokenizer.json --jsonl --skip-special < ids.jsonl")]
pub struct Args {
    /// A model, or a vocabulary alone
    model: String,
    /// The ids, separated by commas or spaces; `-` reads standard input
    #[arg(value_name = "IDS")]
    ids: Vec<String>,
    /// Drop special tokens
    #[arg(long)]
    skip_special: bool,
    /// One JSON array per line on standard input, one JSON string per line on standard output
    #[arg(long, conflicts_with = "ids")]
    jsonl: bool,
}

/// Writes the text.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let tokenizer = open(&args.model, context)?;
    if args.jsonl {
        return json_lines(context, "a JSON array of ids", |ids: Vec<u32>| {
            Ok(tokenizer.decode(&ids, args.skip_special))
        });
    }
    let given = match args.ids.as_slice() {
        [] => standard_input()?,
        [dash] if dash == "-" => standard_input()?,
        ids => ids.join(" "),
    };
    let text = tokenizer.decode(&parse(&given)?, args.skip_special);
    if context.out.json() {
        return context.out.object(&serde_json::json!({ "text": text }));
    }
    context.out.text(&format!("{text}\n"))
}

/// Ids separated by commas, spaces or brackets, as `tokenize` and JSON write them.
fn parse(text: &str) -> Result<Vec<u32>> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|w| !w.is_empty());
    words.map(|w| w.parse().map_err(|_| Error::usage(format!("{w:?}: not a token id")))).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn ids_come_with_commas_spaces_or_brackets() {
        for text in ["1,2,30", "1 2 30", "[1, 2, 30]\n"] {
            assert_eq!(parse(text).ok(), Some(vec![1, 2, 30]), "{text:?}");
        }
        assert!(parse("1,x").is_err());
        assert!(parse("-1").is_err());
    }
}
