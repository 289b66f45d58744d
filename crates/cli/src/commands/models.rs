//! `models`: which models there are, what is known of them and what fits, and which families run here. Does not own: the
//! catalogue (`pondera-audit`), the table of families (`pondera-arch`).
use crate::{
    Context,
    error::{Error, Result},
    flags::{Kv, bytes},
    view::{self, Side, Table},
};
use pondera_arch::{FAMILIES, Family};
use pondera_audit::{
    catalogue::{self, Fact, Model, catalogue, license_fits},
    license::terms,
};
use serde_json::{Value, json};

/// List models with their makers, licences and sizes, and the families that run
#[derive(clap::Args)]
#[command(after_help = "Every fact has a source (--json); what no source says that was read is unknown. A short name stands for \
    its repository wherever a MODEL is named. Sizes are parameters times bits of the quantization, and the cache of --ctx \
    positions.\n\nExamples:\n  pondera models --license permissive --fits 16GB\n  pondera models --maker qwen --quant Q8_0 --ctx 32768\n  \
    pondera models --country FR --moe --json\n  pondera models --families")]
pub struct Args {
    /// The families that run, with their mechanisms, formats and what they were verified with
    #[arg(long, conflicts_with_all = ["license", "fits", "maker", "country", "moe", "runs", "quant", "ctx", "kv"])]
    families: bool,
    /// Only models under this licence or kind of licence (permissive, community, non-commercial, …)
    #[arg(long, value_name = "LICENCE")]
    license: Option<String>,
    /// Only models that take no more than this, as 16GB or 12GiB: weights and cache
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    fits: Option<u64>,
    /// Only models of makers whose name has this in it
    #[arg(long, value_name = "NAME")]
    maker: Option<String>,
    /// Only models from this country (ISO 3166, two letters)
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
    /// Only mixtures of experts
    #[arg(long)]
    moe: bool,
    /// Only models whose family runs here
    #[arg(long)]
    runs: bool,
    /// Sizes in this quantization [default: the one recommended for each]
    #[arg(long, value_name = "TYPE")]
    quant: Option<String>,
    /// Positions that the cache holds
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    ctx: u32,
    /// Type of the KV cache [default: f16]
    #[arg(long, value_name = "TYPE", value_enum)]
    kv: Option<Kv>,
}

/// Writes the table.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.families { families(context) } else { models(args, context) }
}

/// A model of the catalogue, with what it takes.
struct Row<'a> {
    family: &'static catalogue::Family,
    model: &'static Model,
    quant: &'a str,
    weights: Option<u64>,
    kv: Option<u64>,
}

impl Row<'_> {
    fn total(&self) -> Option<u64> {
        self.weights.map(|w| w.saturating_add(self.kv.unwrap_or(0)))
    }

    /// Whether its family runs; of a wrapper with eyes and ears the model of words is called `…_text`.
    fn runs(&self) -> bool {
        let is = |t: &str| FAMILIES.iter().any(|f| f.model_type == t || f.model_type.strip_suffix("_text") == Some(t));
        self.family.model_type.as_ref().is_some_and(|t| is(&t.value))
    }

    fn json(&self, ctx: u32) -> Value {
        let (f, m) = (self.family, self.model);
        let license = f.license_of(m);
        json!({
            "name": m.name,
            "aliases": m.aliases,
            "family": f.name,
            "maker": f.maker,
            "country": f.country,
            "license": license,
            "license_kind": license.and_then(|l| terms::of(&l.value)).map(|l| &l.kind),
            "model_type": f.model_type,
            "gguf": f.gguf,
            "moe": f.moe,
            "parameters": m.parameters,
            "active": m.active,
            "context": f.context_of(m),
            "released": f.released,
            "mechanisms": f.mechanisms,
            "formats": f.formats,
            "recommended_quant": f.quant,
            "runs": self.runs(),
            "memory": { "quant": self.quant, "ctx": ctx, "weights": self.weights, "kv": self.kv, "total": self.total() },
        })
    }
}

fn models(args: &Args, context: &Context) -> Result<()> {
    let all = catalogue();
    let asked = args.quant.as_deref().map(|q| known_quant(all, q)).transpose()?;
    let value_bytes = match args.kv {
        Some(Kv::F32) => 4.0,
        // A byte a value, and a scale per position and head of 128.
        Some(Kv::Q8) => 1.0 + 4.0 / 128.0,
        None | Some(Kv::F16) => 2.0,
    };
    let mut rows = Vec::new();
    let mut unknown = 0;
    for family in all.families.iter().filter(|f| wanted(args, f)) {
        for model in &family.models {
            let recommended = family.quant.as_ref().map_or("Q4_K_M", |q| &q.value);
            let quant = asked.unwrap_or(recommended);
            let weights = all.bits.get(quant).and_then(|b| model.weight_bytes(b.value));
            let row = Row { family, model, quant, weights, kv: model.kv_bytes(args.ctx.into(), value_bytes) };
            let license = family.license_of(model).map(|l| l.value.as_str());
            let under = args.license.as_deref().is_none_or(|asked| license.is_some_and(|id| license_fits(id, asked)));
            if !under || args.runs && !row.runs() {
                continue;
            }
            match (args.fits, row.total()) {
                (Some(_), None) => unknown += 1,
                (Some(most), Some(total)) if total > most => {}
                _ => rows.push(row),
            }
        }
    }
    rows.sort_by_key(|r| (r.total().unwrap_or(u64::MAX), &r.model.name));
    if context.out.json() {
        let models: Vec<Value> = rows.iter().map(|r| r.json(args.ctx)).collect();
        return context.out.object(&json!({ "models": models, "unknown_size": unknown }));
    }
    context.out.page(&draw(&rows, args.ctx))?;
    if unknown > 0 {
        context.out.note(&format!("{unknown} more whose size no source says that was read"));
    }
    Ok(())
}

/// A type whose bits are known.
fn known_quant<'a>(all: &'a catalogue::Catalogue, asked: &str) -> Result<&'a str> {
    all.bits.keys().find(|k| k.eq_ignore_ascii_case(asked)).map(String::as_str).ok_or_else(|| {
        let known: Vec<&str> = all.bits.keys().map(String::as_str).collect();
        Error::usage(format!("--quant {asked}: its size is not known here")).hint(format!("one of {}", known.join(", ")))
    })
}

fn wanted(args: &Args, f: &catalogue::Family) -> bool {
    let has = |fact: &Option<Fact<String>>, part: &String| {
        fact.as_ref().is_some_and(|v| v.value.to_lowercase().contains(&part.to_lowercase()))
    };
    let from = |code: &String| f.country.as_ref().is_some_and(|c| c.value.iter().any(|c| c.eq_ignore_ascii_case(code)));
    args.maker.as_ref().is_none_or(|m| has(&f.maker, m))
        && args.country.as_ref().is_none_or(from)
        && (!args.moe || f.moe.as_ref().is_some_and(|m| m.value))
}

const UNKNOWN: &str = "unknown";

fn draw(rows: &[Row<'_>], ctx: u32) -> String {
    let (left, right) = (|name| (name, Side::Left), |name| (name, Side::Right));
    let cache = format!("+ {ctx} ctx");
    let mut table = Table::new(&[
        left("model"),
        left("short name"),
        left("maker"),
        left("country"),
        left("licence"),
        right("parameters"),
        left("quant"),
        right("weights"),
        right(&cache),
        left("runs"),
    ]);
    for r in rows {
        let (f, m) = (r.family, r.model);
        let text = |fact: Option<&Fact<String>>| fact.map_or(UNKNOWN.to_string(), |v| v.value.clone());
        let count = |n: u64| view::count(n);
        let parameters = match (&m.parameters, &m.active) {
            (Some(all), Some(active)) => format!("{} ({} active)", count(all.value), count(active.value)),
            (Some(all), None) => count(all.value),
            (None, Some(active)) => format!("{UNKNOWN} ({} active)", count(active.value)),
            (None, None) => UNKNOWN.into(),
        };
        table.row(vec![
            m.name.clone(),
            m.aliases.first().cloned().unwrap_or_default(),
            text(f.maker.as_ref()),
            f.country.as_ref().map_or(UNKNOWN.to_string(), |c| c.value.join("/")),
            text(f.license_of(m)),
            parameters,
            r.quant.into(),
            r.weights.map_or(UNKNOWN.into(), view::bytes),
            r.kv.map_or(UNKNOWN.into(), view::bytes),
            if r.runs() { "yes" } else { "no" }.into(),
        ]);
    }
    table.draw()
}

fn families(context: &Context) -> Result<()> {
    if context.out.json() {
        return context.out.object(&json!({ "families": FAMILIES.iter().map(row).collect::<Vec<_>>() }));
    }
    let left = |name| (name, Side::Left);
    let mut table = Table::new(&[left("model_type"), left("family"), left("GGUF"), left("verified"), left("mechanisms")]);
    for f in FAMILIES {
        table.row(vec![
            f.model_type.into(),
            f.title.into(),
            f.gguf.map_or("–", |g| g.0).into(),
            f.verified().join(", "),
            mechanisms(f).join(", "),
        ]);
    }
    context.out.page(&table.draw())
}

fn row(f: &'static Family) -> Value {
    json!({
        "model_type": f.model_type,
        "title": f.title,
        "config_json": true,
        "gguf": f.gguf.map(|g| g.0),
        "verified": f.verified(),
        "mechanisms": mechanisms(f),
    })
}

/// Empty for a family without any whole configuration, which its tests rule out.
fn mechanisms(f: &'static Family) -> Vec<&'static str> {
    let found = f.example().and_then(|c| Family::mechanisms(&c)).unwrap_or_default();
    found.into_iter().map(|m| m.name()).collect()
}
