//! `inspect`: what is in a model's files, here or on a hub, without running anything.
use crate::{
    Context,
    error::{Error, Result},
    hub,
    inspect::{Inspected, Report, html, inspect, inspect_mirror, predict::Predicted, remote::Mirror, values, view},
    model::{self, Source},
    report,
};
use pondera_store::{ErrorKind, Reference};
use std::path::{Path, PathBuf};

/// Show what is in a model
#[derive(clap::Args)]
#[command(after_help = "MODEL may also be any one file of a known format: a bare .safetensors or .gguf, an index, a \
    config.json, a vocabulary, an adapter. What is not on this machine is read from the hub: headers of tensors, \
    configuration, vocabulary, card; no weights.\n\nExamples:\n  pondera inspect model.gguf\n  \
    pondera inspect Qwen3-0.6B/ --ctx 32768 --tensors\n  pondera inspect org/name:Q4_K_M\n  \
    pondera inspect model.gguf --histograms --html report.html\n  \
    pondera inspect model-Q4_K_M.gguf --against original/\n  pondera inspect model.gguf --json")]
pub struct Args {
    /// A model or one of its files [default: the built-in model]
    model: Option<String>,
    /// Plan memory for this many tokens [default: the longest context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Read the repository on the hub, also where it is on this machine
    #[arg(long)]
    remote: bool,
    /// Measure this machine for half a second and predict how fast it runs the model
    #[arg(long)]
    predict: bool,
    /// Read all weights and show how their values spread
    #[arg(long)]
    histograms: bool,
    /// Read all weights and show how far they are from those of the model that they were quantized from
    #[arg(long, value_name = "MODEL")]
    against: Option<String>,
    /// Write a page with drawings and plots, which stands alone
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Writes the report.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let ctx = args.ctx.map(|n| n as usize);
    args.html.as_ref().map_or(Ok(()), |file| report::free("--html", file, &[report::PAGE]))?;
    let mut report = match source(args, context)? {
        Where::Here(source) => here(args, &source, ctx, context)?,
        Where::Hub(reference) => {
            if args.histograms || args.against.is_some() {
                return Err(Error::usage(format!("{reference}: --histograms and --against read all weights"))
                    .hint(format!("pondera pull {reference}, and inspect it here")));
            }
            let (report, loaded) = inspect_mirror(Mirror::read(&reference, context)?, ctx)?;
            let mut found = Inspected { report, weights: None, loaded };
            predict(args, &mut found, context);
            found.report
        }
    };
    if args.predict && report.predicted.is_none() {
        return Err(Error::file(format!("{}: no model to predict a speed for", report.path))
            .hint(report.not_runnable.take().unwrap_or_else(|| "name a model".into())));
    }
    if let Some(file) = &args.html {
        std::fs::write(file, html::page(&report)).map_err(|e| Error::output(file.display(), &e))?;
        context.out.note(&format!("wrote {}", file.display()));
    }
    if context.out.json() {
        return context.out.object(&report);
    }
    context.out.page(&view::draw(&report, args.tensors))
}

/// Where MODEL lies.
enum Where {
    Here(Source),
    Hub(Reference),
}

fn source(args: &Args, context: &Context) -> Result<Where> {
    let name = args.model.as_deref();
    let elsewhere = name.filter(|n| !Path::new(n).exists() && model::in_store(n, &context.global).is_none());
    let reference = elsewhere.and_then(|n| hub::reference(n).ok());
    if let (Some(name), Some(reference)) = (elsewhere.filter(|n| model::alias(n).is_some()), &reference) {
        context.out.note(&format!("{name} is {reference}"));
    }
    if args.remote {
        let name = name.unwrap_or("the built-in model");
        return reference.map(Where::Hub).ok_or_else(|| {
            Error::usage(format!("--remote: {name} is no repository on a hub")).hint("as in org/name:Q4_K_M")
        });
    }
    let Some(reference) = reference else { return model::resolve(name, &context.global).map(Where::Here) };
    let store = hub::store(&context.global)?;
    match store.resolve(&reference) {
        Ok(path) => Ok(Where::Here(Source::Path(path))),
        // Offline the answer is the store's: what is missing, and how to fetch it.
        Err(e) if e.kind() == ErrorKind::Missing && !store.config().offline => Ok(Where::Hub(reference)),
        Err(e) => Err(e.into()),
    }
}

fn here(args: &Args, source: &Source, ctx: Option<usize>, context: &Context) -> Result<Report> {
    let mut found = inspect(source, ctx)?;
    let threads = context.global.threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    if args.histograms {
        let items = items(&found)?;
        found.report.values = Some(values::read(&items, threads, context)?);
    }
    if let Some(name) = &args.against {
        let other = model::resolve(Some(name), &context.global)?;
        let original = inspect(&other, ctx)?;
        let no_model = |r: &Report| {
            let why = r.not_runnable.clone().unwrap_or_else(|| "it holds no weights".into());
            Error::file(format!("{}: no model to compare: {why}", r.path)).hint("--against compares two whole models")
        };
        let a = found.loaded.as_ref().filter(|_| found.weights.is_some()).ok_or_else(|| no_model(&found.report))?;
        let b =
            original.loaded.as_ref().filter(|_| original.weights.is_some()).ok_or_else(|| no_model(&original.report))?;
        let heads = values::heads(&a.model);
        let (a, b) = (values::of_model(&a.model), values::of_model(&b.model));
        found.report.comparison = Some(values::compare(&a, &b, &heads, other.name(), threads, context)?);
    }
    if let Some(weights) = &found.weights {
        weights.check()?;
    }
    predict(args, &mut found, context);
    Ok(found.report)
}

/// The weights to be read: the model's, or a bare file's.
fn items(found: &Inspected) -> Result<Vec<values::Item<'_>>> {
    match (&found.weights, &found.loaded) {
        (Some(_), Some(loaded)) => Ok(values::of_model(&loaded.model)),
        (Some(weights), None) => Ok(values::of_files(weights)),
        (None, _) => Err(Error::file(format!("{}: there are no weights to read", found.report.path))
            .hint("--histograms takes a model or a file of tensors")),
    }
}

fn predict(args: &Args, found: &mut Inspected, context: &Context) {
    if let (true, Some(loaded), Some(m)) = (args.predict, &found.loaded, &found.report.model) {
        let (ctx, bytes) = (m.memory.ctx, m.memory.total_f16);
        found.report.predicted =
            Some(Predicted::new(&loaded.model, &loaded.config, ctx, bytes, context.global.threads));
    }
}
