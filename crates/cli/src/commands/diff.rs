//! `diff`: two models side by side, whatever formats they are stored in.
//!
//! Owns the flags, the drawing and the exit status. Does not own: what differs and what that means (`pondera-audit`).
use crate::{
    Context,
    error::{Error, Exit, Result},
    interrupt,
    model::{self, Source},
    out::{self, ACCENT, DIM},
    progress::Bar,
    report,
    view::{self, Sheet, Side as Keep, Table},
    words,
};
use pondera_audit::diff::{self, Report, Side, SideFacts, TensorDiff};
use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Compare two models: weights, configuration, tokenizer, template
#[derive(clap::Args)]
#[command(after_help = "A and B may be of any formats and types. Every element is compared; what is found from a part \
    says so. The verdict: identical weights, the same in another type, a merged adapter with its rank, fine-tuned, \
    continued pre-training, a merge, unrelated, or another architecture.\n\nExamples:\n  \
    pondera diff Qwen3-0.6B/ Qwen3-0.6B-Q4_K_M.gguf\n  pondera diff base/ tuned/ --json\n  \
    pondera diff base/ merged/ --with other/ --html diff.html")]
pub struct Args {
    /// The first model: what B is compared with
    #[arg(value_name = "A")]
    a: String,
    /// The second
    #[arg(value_name = "B")]
    b: String,
    /// A third: whether B is a merge of A with it
    #[arg(long, value_name = "C")]
    with: Option<String>,
    /// Write a page with a map of the differences by layer, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// List every weight
    #[arg(long)]
    tensors: bool,
    /// Exit 6 where they differ
    #[arg(long)]
    exit_code: bool,
}

/// Writes the comparison.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    args.html.as_ref().map_or(Ok(()), |file| report::free("--html", file, &[report::PAGE]))?;
    let (mut a, mut b) = (open(&args.a, context)?, open(&args.b, context)?);
    let mut with = args.with.as_deref().map(|c| open(c, context)).transpose()?;
    let report = compare(&mut a, &mut b, with.as_mut(), context)?;
    if let Some(file) = &args.html {
        fs::write(file, diff::page(&report)).map_err(|e| Error::output(file.display(), &e))?;
    }
    match context.out.json() {
        true => context.out.object(&report)?,
        false => context.out.page(&draw(&report, args.tensors))?,
    }
    match args.exit_code && report.differs {
        true => Err(Error::new(Exit::CheckFailed, format!("{} and {} differ", args.a, args.b))
            .hint("the report says in what; without --exit-code a difference is no failure")),
        false => Ok(()),
    }
}

fn open(name: &str, context: &Context) -> Result<Side> {
    let source = model::resolve(Some(name), &context.global)?;
    let weights = source.weights()?;
    // A bare tensor file has the words beside it only where it is the folder's model.
    let alone = matches!(&source, Source::Path(p) if p.is_file() && weights.gguf().is_none()
        && !p.with_file_name("config.json").is_file());
    let tokenizer = if alone { None } else { words::tokenizer(&source)? };
    Ok(Side::new(name.to_string(), weights, tokenizer)?)
}

fn compare(a: &mut Side, b: &mut Side, with: Option<&mut Side>, context: &Context) -> Result<Report> {
    let threads = context.global.threads.map(usize::from);
    let threads = threads.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let bar = Mutex::new(Bar::new(context, "weights", diff::elements(b)));
    let (done, listening) = (AtomicU64::new(0), interrupt::listen());
    let progress = |n: u64| {
        let done = done.fetch_add(n, Ordering::Relaxed) + n;
        // Whoever holds the bar shows what others did, too.
        if let Ok(mut bar) = bar.try_lock() {
            bar.set(done);
        }
        !listening.asked()
    };
    let found = diff::diff(a, b, with, threads, &progress);
    drop(bar.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok(found?)
}

impl From<diff::Error> for Error {
    fn from(e: diff::Error) -> Error {
        match e {
            diff::Error::Weights(e) => e.into(),
            diff::Error::Text(e) => e.into(),
            diff::Error::Broken(what) => Error::file(what).hint("the file is broken: fetch it again"),
            diff::Error::Stopped => Error::new(Exit::Interrupted, "stopped"),
        }
    }
}

fn draw(r: &Report, all: bool) -> String {
    let mut s = Sheet::new(10);
    s.head(&r.verdict.summary);
    r.verdict.reasons.iter().for_each(|reason| s.raw(&format!("  {DIM}·{DIM:#} {}\n", out::line(reason))));
    s.head("Models");
    for (name, side) in [("A", Some(&r.a)), ("B", Some(&r.b)), ("C", r.with.as_ref())] {
        if let Some(side) = side {
            s.line(name, facts(side));
        }
    }
    s.head("Beside the weights");
    s.line("config", settings(r));
    s.line("tokenizer", tokenizer(r));
    s.line("template", template(r));
    layers(&mut s, r);
    if all {
        s.raw(&format!("\n{}", table(&r.tensors)));
    }
    for what in &r.sampled {
        s.raw(&format!("{DIM}sampled: {what}{DIM:#}\n"));
    }
    s.finish()
}

fn facts(side: &SideFacts) -> String {
    let types: Vec<&str> = side.types.iter().take(4).map(|t| t.0).collect();
    let family = side.family.unwrap_or("no known family");
    let note = side.note.as_ref().map_or(String::new(), |n| format!(" {DIM}({n}){DIM:#}"));
    format!(
        "{}: {family}, {} layers, {} weights, {}{note}",
        side.name,
        side.layers,
        view::count(side.parameters),
        types.join(" ")
    )
}

fn settings(r: &Report) -> String {
    const SHOWN: usize = 4;
    let short = |v: &serde_json::Value| {
        let text = v.to_string();
        if text.chars().count() > 24 { format!("{}…", text.chars().take(24).collect::<String>()) } else { text }
    };
    let mut parts: Vec<String> =
        r.config.iter().take(SHOWN).map(|c| format!("{} {} → {}", c.key, short(&c.a), short(&c.b))).collect();
    if r.config.len() > SHOWN {
        parts.push(format!("{} more", r.config.len() - SHOWN));
    }
    if parts.is_empty() { "nothing differs".into() } else { parts.join(", ") }
}

fn status(word: &str) -> &str {
    match word {
        "same" => "the same",
        "absent" => "none in both",
        "only_in_a" => "only in A",
        "only_in_b" => "only in B",
        other => other,
    }
}

fn tokenizer(r: &Report) -> String {
    let t = &r.tokenizer;
    let mut parts = vec![status(t.status).to_string()];
    if let [Some(a), Some(b)] = t.vocab_size {
        parts.push(if a == b { format!("{a} tokens") } else { format!("{a} → {b} tokens") });
    }
    if t.changed > 0 {
        parts.push(format!("{} ids changed, {} of their tokens moved", t.changed, t.moved));
    }
    if t.merges_equal == Some(false) {
        parts.push("other merges".into());
    }
    if let Some([a, b]) = &t.stops {
        parts.push(format!("stops {a:?} → {b:?}"));
    }
    parts.join(", ")
}

fn template(r: &Report) -> String {
    let t = &r.chat_template;
    match t.status {
        "whitespace" => "differs in white space".into(),
        "differs" => format!("differs: {} lines removed, {} added", t.removed, t.added),
        other => status(other).into(),
    }
}

/// One character per layer, the higher the larger the difference; by its logarithm, as fine-tuning would not show otherwise.
fn layers(s: &mut Sheet, r: &Report) {
    let width = out::columns().saturating_sub(24).max(16);
    let all: Vec<f32> = r.layers.iter().filter(|l| l.layer.is_some()).map(|l| height(l.relative_norm)).collect();
    if all.is_empty() || r.relative_norm == Some(0.0) {
        return;
    }
    s.head("Difference by layer");
    let strip = view::strip(&all.iter().copied().chain([8.0]).collect::<Vec<_>>());
    let strip: Vec<char> = strip.chars().take(all.len()).collect();
    for (i, part) in strip.chunks(width).enumerate() {
        let first = i * width;
        let last = first + part.len() - 1;
        s.line(&format!("{first}-{last}"), format!("{ACCENT}{}{ACCENT:#}", part.iter().collect::<String>()));
    }
    let norms: Vec<f64> = r.layers.iter().filter_map(|l| l.relative_norm.filter(|_| l.layer.is_some())).collect();
    let (low, high) = norms.iter().fold((f64::INFINITY, 0f64), |(a, b), v| (a.min(*v), b.max(*v)));
    if low.is_finite() {
        s.line("range", format!("{} to {} of the norm; each step is a power of ten, the full height 1", figure(Some(low)), figure(Some(high))));
    }
    for l in r.layers.iter().filter(|l| l.layer.is_none()) {
        s.line("no layer", format!("{} (embedding, head, last norm)", figure(l.relative_norm)));
    }
}

/// 0 for nothing, 1 to 8 from 10^-7 to 1.
fn height(v: Option<f64>) -> f32 {
    match v {
        Some(0.0) => 0.0,
        Some(v) => (v.log10() as f32 + 8.0).clamp(1.0, 8.0),
        None => f32::NAN,
    }
}

fn table(tensors: &[TensorDiff]) -> String {
    let (left, right) = (Keep::Left, Keep::Right);
    let mut t = Table::new(&[
        ("weight", left),
        ("A", left),
        ("B", left),
        ("what", left),
        ("norm", right),
        ("cosine", right),
        ("rank", right),
        ("effective", right),
    ]);
    for d in tensors {
        let rank = d.rank.as_ref();
        t.row(vec![
            d.name.clone(),
            d.a.format.into(),
            d.b.format.into(),
            d.status.name().into(),
            figure(d.relative_norm),
            d.cosine.map_or("—".into(), |c| format!("{c:.5}")),
            rank.map_or(String::new(), |r| format!("{}{}", r.rank, if r.more { "+" } else { "" })),
            rank.map_or(String::new(), |r| format!("{:.1}/{}", r.effective_rank, r.full_rank)),
        ]);
    }
    t.draw()
}

fn figure(v: Option<f64>) -> String {
    let mut s = String::new();
    let _ = match v {
        None => write!(s, "—"),
        Some(0.0) => write!(s, "0"),
        Some(v) if v.abs() >= 1e-3 => write!(s, "{v:.4}"),
        Some(v) => write!(s, "{v:.1e}"),
    };
    s
}
