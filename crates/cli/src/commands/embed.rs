//! `embed`: texts to vectors.
use super::tokenize::{json_lines, standard_input};
use crate::{
    Context,
    error::{Error, Result},
    flags::{self, Compute, Ids},
    load::Loaded,
    lora::Lora,
    model::{self, Source},
    policy,
    sentence::Recipe,
};
use clap::ValueEnum;
use pondera_engine::{KvType, Pooling, normalize};
use serde_json::{Value, json};
use std::cell::RefCell;

/// Turn text into an embedding
#[derive(clap::Args)]
#[command(after_help = "A Sentence-Transformers folder says how: pooling, dense layers, normalization, prompts. Otherwise \
    an encoder's rows are averaged, a decoder's last row is taken, and the result has length 1.\n\nExamples:\n  \
    pondera embed model.gguf \"A fox in the snow\"\n  pondera embed bge/ \"A fox in the snow\" --pooling cls --json\n  \
    pondera embed nomic/ --prompt-name query --jsonl < questions.jsonl")]
pub struct Args {
    /// The model
    model: String,
    /// The text; `-` reads standard input
    #[arg(required_unless_present_any = ["tokens", "jsonl"])]
    text: Option<String>,
    /// The text as token ids
    #[arg(long, value_name = "1,2,3", value_parser = flags::ids, conflicts_with = "text")]
    tokens: Option<Ids>,
    /// One JSON string per line on standard input, one JSON array per line on standard output
    #[arg(long, conflicts_with_all = ["text", "tokens"])]
    jsonl: bool,
    /// How the rows of a text become one [default: as the model's folder says]
    #[arg(long, value_enum)]
    pooling: Option<Way>,
    /// Leave the vector's length as it is
    #[arg(long)]
    no_normalize: bool,
    /// Put the words before the text that the model's folder has under this name
    #[arg(long, value_name = "NAME", conflicts_with = "tokens")]
    prompt_name: Option<String>,
    #[command(flatten)]
    lora: Lora,
    #[command(flatten)]
    compute: Compute,
}

/// `--pooling`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// The mean of all rows
    Mean,
    /// The first row
    Cls,
    /// The last row
    Last,
    /// All rows
    None,
}

impl From<Way> for Pooling {
    fn from(way: Way) -> Pooling {
        match way {
            Way::Mean => Pooling::Mean,
            Way::Cls => Pooling::Cls,
            Way::Last => Pooling::Last,
            Way::None => Pooling::None,
        }
    }
}

/// Writes the vector, or one for each line.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let mut source = model::resolve(Some(&args.model), &context.global)?;
    policy::check(&source, &context.global)?;
    let recipe = match &source {
        Source::Path(path) => Recipe::read(path)?,
        Source::Embedded(_) => Recipe::default(),
    };
    if let Some(model) = &recipe.model {
        source = Source::Path(model.clone());
    }
    let mut compute = args.compute.clone();
    // A text finds its own room; a long default context would only take memory.
    compute.ctx.get_or_insert(1);
    let mut loaded = Loaded::open_part(&source, &compute, KvType::F32, context)?;
    loaded.open_lora(&args.lora, context)?;
    let mut maker = Maker { loaded, recipe, args };
    if args.jsonl {
        let maker = RefCell::new(maker);
        return json_lines(context, "a JSON string", |text: String| maker.borrow_mut().of_text(&text));
    }
    let embedding = match (&args.tokens, args.text.as_deref()) {
        (Some(Ids(ids)), _) => maker.of_tokens(ids)?,
        (None, None | Some("-")) => maker.of_text(&standard_input()?)?,
        (None, Some(text)) => maker.of_text(text)?,
    };
    if context.out.json() {
        return context.out.object(&json!({ "embedding": embedding, "model": maker.loaded.name }));
    }
    context.out.data(format!("{embedding}\n").as_bytes())
}

/// A model, and how it makes vectors.
struct Maker<'a> {
    loaded: Loaded,
    recipe: Recipe,
    args: &'a Args,
}

impl Maker<'_> {
    fn of_text(&mut self, text: &str) -> Result<Value> {
        let mut text = format!("{}{text}", self.recipe.prompt(self.args.prompt_name.as_deref())?);
        if self.recipe.lower_case {
            text = text.to_lowercase();
        }
        let ids = self.loaded.tokenize(&text)?;
        self.of_tokens(&ids)
    }

    fn of_tokens(&mut self, ids: &[u32]) -> Result<Value> {
        if let Some(most) = self.recipe.max_tokens.filter(|most| ids.len() > *most) {
            return Err(Error::failed(format!("{} tokens do not fit: the model was made for {most}", ids.len()))
                .hint("shorten the text: it is never cut in silence"));
        }
        let otherwise = if self.loaded.engine.model().is_encoder() { Pooling::Mean } else { Pooling::Last };
        let asked = self.args.pooling.map(Pooling::from);
        let pooling = asked.or(self.recipe.pooling).unwrap_or(otherwise);
        let values = self.loaded.engine.embed(ids, pooling)?;
        if pooling == Pooling::None {
            let width = values.len() / ids.len().max(1);
            let rows = values.chunks_exact(width.max(1)).map(|row| self.finished(row.to_vec()));
            return Ok(json!(rows.collect::<Result<Vec<_>>>()?));
        }
        Ok(json!(self.finished(values)?))
    }

    /// A vector after the folder's dense layers, at its length.
    fn finished(&self, mut x: Vec<f32>) -> Result<Vec<f32>> {
        for dense in &self.recipe.dense {
            x = dense.apply(&x)?;
        }
        if self.recipe.normalize.unwrap_or(true) && !self.args.no_normalize {
            normalize(&mut x);
        }
        Ok(x)
    }
}
