//! `bom`: a model's bill of materials, as CycloneDX or SPDX.
//!
//! Owns the flags, the moment and where the bill goes. Does not own: what a bill says (`pondera-audit`).
use crate::{
    Context,
    error::{Error, Result},
    hub,
    model::{self, Source},
    policy,
    progress::Bar,
    report,
};
use clap::ValueEnum;
use pondera_audit::bom::{self, Hub, Request, time};
use serde_json::json;
use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// The form of a bill.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// CycloneDX 1.6, JSON
    Cyclonedx,
    /// SPDX 3.0.1, JSON-LD
    Spdx,
}

/// Write a bill of materials: files with digests, licence, base models, datasets
#[derive(clap::Args)]
#[command(after_help = "The same model gives the same bytes but for the moment, which --timestamp or SOURCE_DATE_EPOCH \
    fix.\n\nExamples:\n  pondera bom Qwen3-0.6B/ --out bom.json\n  pondera bom model.gguf --format spdx\n  \
    pondera bom org/name --timestamp 2026-07-01T00:00:00Z")]
pub struct Args {
    /// A model, a folder or file
    model: String,
    /// The form of the bill
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "cyclonedx")]
    format: Format,
    /// Write it to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The model's name in it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The model's version in it
    #[arg(long, value_name = "VERSION")]
    model_version: Option<String>,
    /// When it was made, as in 2026-07-01T00:00:00Z [default: SOURCE_DATE_EPOCH, or now]
    #[arg(long, value_name = "TIME")]
    timestamp: Option<String>,
}

/// Writes the bill.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let created = moment(args.timestamp.as_deref())?;
    args.out.as_ref().map_or(Ok(()), |file| report::free("--out", file, &report::BILLS))?;
    let Source::Path(path) = model::resolve(Some(&args.model), &context.global)? else {
        return Err(Error::usage("the built-in model is part of this program").hint("name a folder or file"));
    };
    let request = Request {
        path: &path,
        name: args.name.as_deref(),
        version: args.model_version.as_deref(),
        hub: hub(&path, context)?,
        without: args.out.as_deref().filter(|file| report::holds(file, &report::BILLS)),
    };
    let mut bar: Option<Bar> = None;
    let bill = bom::describe(&request, &mut |done, total| {
        bar.get_or_insert_with(|| Bar::bytes(context, "hashed", total)).set(done);
    })?;
    drop(bar);
    for (path, why) in &bill.left_out {
        context.out.note(&format!("{path} is not in the bill: {why}"));
    }
    if let Some(trouble) = &bill.facts.trouble {
        context.out.note(&format!("fewer facts are known of the model: {trouble}"));
    }
    let document = match args.format {
        Format::Cyclonedx => bom::cyclonedx(&bill, created),
        Format::Spdx => bom::spdx(&bill, created),
    };
    let Some(file) = &args.out else {
        if context.out.json() {
            return context.out.object(&document);
        }
        return context.out.data(&pretty(&document)?);
    };
    fs::write(file, pretty(&document)?).map_err(|e| Error::output(file.display(), &e))?;
    if context.out.json() {
        let written = json!({ "out": file, "format": format!("{:?}", args.format).to_lowercase(), "files": bill.files.len() });
        return context.out.object(&written);
    }
    context.out.note(&format!("{} files in {}", bill.files.len(), file.display()));
    Ok(())
}

fn pretty(document: &serde_json::Value) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(document).map_err(|e| Error::failed(format!("the bill: {e}")))?;
    text.push(b'\n');
    Ok(text)
}

/// The moment that the bill names, in seconds since 1970.
fn moment(flag: Option<&str>) -> Result<u64> {
    if let Some(text) = flag {
        return time::parse(text).ok_or_else(|| {
            Error::usage(format!("--timestamp {text}: no moment")).hint("write it as in 2026-07-01T00:00:00Z, in UTC")
        });
    }
    if let Some(epoch) = env::var_os("SOURCE_DATE_EPOCH").filter(|v| !v.is_empty()) {
        let seconds = epoch.to_str().and_then(|e| e.parse().ok());
        return seconds.ok_or_else(|| {
            Error::usage("SOURCE_DATE_EPOCH is no number of seconds").hint("unset it, or give --timestamp")
        });
    }
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

/// The repository and commit whose snapshot in the hub's cache `path` lies in, and the hub that is asked for it here.
fn hub(path: &Path, context: &Context) -> Result<Option<Hub>> {
    let Some((repository, commit)) = policy::hub_name(path).filter(|(_, commit)| is_commit(commit)) else { return Ok(None) };
    Ok(Some(Hub { endpoint: hub::store(&context.global)?.config().endpoint.clone(), repository, commit }))
}

/// A whole SHA-1: what a name of a branch is not.
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}
