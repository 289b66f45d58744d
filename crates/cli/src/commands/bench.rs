//! `bench`: how fast a model reads and writes on this machine, and how fast the machine would let it.
//!
//! Measures the engine from outside: a row is a request (or several at once), timed between its events. Does not own
//! what a token costs ([`bound`]) or the drawing ([`roofline`]).
pub mod bound;
mod roofline;

use crate::{
    Context,
    ahead::{self, Ahead},
    error::{Error, Result},
    flags::Compute,
    interrupt::{self, Listening},
    load::{self, Loaded},
    lora::Lora,
    model,
    out::{ACCENT, DIM, columns},
    policy,
    progress::Bar,
    report,
    view::{self, Side, Table, three},
};
use bound::{Bound, Phase, Work};
use pondera_arch::{FAMILIES, Mix, SHAPES, more_bits};
use pondera_engine::{Ceiling, EngineOptions, Event, KvType, Request, RequestId, Settled, Source, ceiling};
use pondera_quant::{FORMATS, Format};
use roofline::{Page, Point};
use serde::Serialize;
use serde_json::json;
use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Measure prefill and decode speed
#[derive(clap::Args)]
#[command(after_help = "A shape is a published model's configuration with random weights: its speed without its \
    download.\n\nExamples:\n  pondera bench model.gguf\n  pondera bench --shape llama-3.2-1b --type q4_k --gen 64\n  \
    pondera bench --shape qwen3-30b-a3b --type q4_k --layers 4 --depth 4096\n  \
    pondera bench model.gguf --batch 1,4,16 --html roofline.html")]
pub struct Args {
    /// The model [default: the built-in one]
    #[arg(conflicts_with = "shape")]
    model: Option<String>,
    /// Tokens of the prompt; 0 leaves prefill out
    #[arg(long, visible_alias = "pp", value_name = "N", default_value_t = 512)]
    prompt: u32,
    /// Tokens to generate; 0 leaves decode out
    #[arg(long = "gen", visible_alias = "tg", value_name = "N", default_value_t = 128)]
    generate: u32,
    /// Tokens that are in the context before either begins
    #[arg(long, value_name = "N", default_value_t = 0)]
    depth: u32,
    /// Sequences that decode at once: one row for each number
    #[arg(long, value_name = "N,…", default_value = "1", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: Vec<u32>,
    /// Times each row is measured, after one that is not counted
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Random weights of a published shape, or of a family's default configuration (by its model_type)
    #[arg(long, value_name = "NAME")]
    shape: Option<String>,
    /// Type of the random weights: one for all matrices, or a mix (q4_k_m, q5_k_m)
    #[arg(long = "type", value_name = "TYPE", default_value = "q4_k", requires = "shape")]
    format: String,
    /// Only so many layers of the shape
    #[arg(long, value_name = "N", requires = "shape", value_parser = clap::value_parser!(u32).range(1..=4096))]
    layers: Option<u32>,
    /// Text that --draft and --lookup go on from, as much of its beginning as fits [default: ids as in the other rows]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    #[command(flatten)]
    ahead: Ahead,
    /// Write the figures and the roofline as a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    lora: Lora,
    #[command(flatten)]
    compute: Compute,
}

/// A measured row, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    /// `pp512`, `tg128`, with `@d4096` for a depth and `x4` for a batch.
    test: String,
    batch: u32,
    depth: u32,
    tps: Spread,
    #[serde(flatten)]
    work: Work,
    #[serde(flatten)]
    bound: Bound,
    /// What memory can be read at: of decode the median over the weights' own beside its runs, else the best so far.
    read_gb_per_s: f64,
    /// Read at the median speed.
    gb_per_s: f64,
    /// Computed at the median speed.
    gop_per_s: f64,
    threads: usize,
    isa: &'static str,
}

/// Tokens per second over the repetitions.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

/// What is measured: a prompt, or so many sequences that decode.
#[derive(Clone, Copy, Debug)]
enum Test {
    Prefill,
    Decode { batch: u32 },
}

/// Measures and reports.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.prompt == 0 && args.generate == 0 {
        return Err(Error::usage("bench: --prompt 0 and --gen 0 leave nothing to measure").hint("give one of them"));
    }
    args.html.as_ref().map_or(Ok(()), |file| report::free("--html", file, &[report::PAGE]))?;
    let options = options(args, context)?;
    // Before the model takes its memory.
    let mut ceiling = ceiling(options.threads);
    let mut loaded = open(args, &options, context)?;
    let listening = interrupt::listen();
    let prefills = (args.prompt > 0).then_some(Test::Prefill);
    let decodes = args.batch.iter().filter(|_| args.generate > 0).map(|batch| Test::Decode { batch: *batch });
    let tests: Vec<Test> = prefills.into_iter().chain(decodes).collect();
    let mut bar = Bar::new(context, "runs", tests.len() as u64 * u64::from(args.repeat + 1));
    let mut rows = Vec::new();
    let mut runs = 0;
    let mut settled = Settled::default();
    for test in tests {
        let (mut speeds, mut reads) = (Vec::new(), Vec::new());
        // The first run pages weights in and fills the arenas: it is not counted, nor what is still to be laid out then.
        for n in 0..=args.repeat {
            listening.check()?;
            if n > 0 && matches!(test, Test::Decode { .. }) {
                // Where memory lies and who else uses it decide how fast it is read: the weights' own, beside each run.
                reads.extend(loaded.engine.read_weights());
            }
            let tps = match test {
                Test::Prefill => prefill(&mut loaded, args, n as usize, &listening)?,
                Test::Decode { batch } => decode(&mut loaded, args, batch as usize, &listening)?,
            };
            if n > 0 {
                speeds.push(tps);
            } else {
                settled = settle(&mut loaded, &listening)?;
            }
            runs += 1;
            bar.set(runs);
        }
        ceiling.read = reads.iter().copied().fold(ceiling.read, f64::max);
        let read = if reads.is_empty() { ceiling.read } else { spread(reads).median };
        rows.push(row(args, &loaded, &Ceiling { read, ..ceiling.clone() }, spread(speeds), test)?);
    }
    drop(bar);
    let ahead = ahead(args, &mut loaded, &listening, context)?;
    if let Some(file) = &args.html {
        fs::write(file, page(&loaded, &ceiling, &rows)).map_err(|e| Error::output(file.display(), &e))?;
    }
    if context.out.json() {
        let d = loaded.engine.model().description();
        let int8: Vec<_> =
            ceiling.int8.iter().map(|r| json!({ "with": r.name, "gop_per_s": r.per_second / 1e9 })).collect();
        let mut object = json!({ "model": loaded.name, "rows": rows,
            "ceiling": { "threads": ceiling.threads, "gb_per_s": ceiling.read / 1e9, "int8": int8,
                "f32_gop_per_s": ceiling.f32 / 1e9 },
            "kernels": loaded.engine.kernels(), "load_s": loaded.load_s, "parameters_total": d.parameters_total,
            "parameters_active": d.parameters_active, "weight_bytes": d.weight_bytes,
            "layout": { "packed_bytes": settled.packed_bytes,
                "mapped_bytes": d.weight_bytes.saturating_sub(settled.packed_bytes), "seconds": settled.seconds } });
        if !ahead.is_empty() {
            object["speculation"] = json!(ahead);
        }
        return context.out.object(&object);
    }
    let drawing = roofline::draw(&ceiling, &points(&rows), columns());
    context.out.page(&format!("{}\n{drawing}", draw(&loaded, &ceiling, &rows)))?;
    if ahead.is_empty() { Ok(()) } else { context.out.page(&ahead::draw(&ahead)) }
}

/// The rows of `--draft` and `--lookup`.
fn ahead(args: &Args, loaded: &mut Loaded, listening: &Listening, context: &Context) -> Result<Vec<ahead::Row>> {
    let rows = args.ahead.each();
    if args.generate == 0 || rows.is_empty() {
        return Ok(Vec::new());
    }
    let prompt = match &args.text {
        Some(file) => {
            let text = fs::read_to_string(file).map_err(|e| Error::io(file.display(), &e))?;
            let mut prompt = loaded.tokenize(&text)?;
            prompt.truncate(loaded.engine.ctx().saturating_sub(args.generate as usize + 1).max(1));
            prompt
        }
        None => tokens(args.depth.max(1) as usize, loaded.engine.model().vocab_size(), 0),
    };
    // As in the other rows, the first token belongs to the prompt.
    let request = request(prompt, args.generate as usize + 1);
    rows.into_iter()
        .map(|(name, speculation)| {
            let bar = Bar::new(context, "runs", 2 * u64::from(args.repeat + 1));
            ahead::measure(
                loaded,
                format!("tg{} {name}", args.generate),
                &request,
                speculation,
                args.repeat,
                listening,
                bar,
            )
        })
        .collect()
}

/// Waits until the weights that were used lie where they will stay.
fn settle(loaded: &mut Loaded, listening: &Listening) -> Result<Settled> {
    loop {
        listening.check()?;
        let settled = loaded.engine.settle(Duration::from_millis(100));
        if settled.left_bytes == 0 {
            return Ok(settled);
        }
    }
}

fn open(args: &Args, options: &EngineOptions, context: &Context) -> Result<Loaded> {
    let Some(shape) = &args.shape else {
        let source = model::resolve(args.model.as_deref(), &context.global)?;
        policy::check(&source, &context.global)?;
        let mut loaded = Loaded::from_source(&load::from(&source), source.name(), options, context)?;
        loaded.open_lora(&args.lora, context)?;
        loaded.open_draft(&args.ahead, context)?;
        return Ok(loaded);
    };
    if !SHAPES.iter().any(|s| s.name == shape) && !FAMILIES.iter().any(|f| f.model_type == shape) {
        let known: Vec<&str> = SHAPES.iter().map(|s| s.name).collect();
        return Err(Error::usage(format!("--shape {shape}: no such shape"))
            .hint(format!("one of {}, or a family (pondera models --families)", known.join(", "))));
    }
    let layers = args.layers.map(|n| n as usize);
    let mix = mix(&args.format, shape, layers)?;
    let format = if mix.is_some() { Format::Q4K } else { format(&args.format)? };
    let cut = layers.map_or(String::new(), |n| format!(", {n} layers"));
    let name = format!("{shape} (random {}{cut})", args.format.to_lowercase());
    Loaded::from_source(&Source::Shape { name: shape, format, mix, layers, seed: 1 }, name, options, context)
}

/// Room for the longest sequence of each request, and no more.
fn options(args: &Args, context: &Context) -> Result<EngineOptions> {
    let mut options = args.compute.options(context.global.threads, KvType::F16)?;
    let most = args.batch.iter().copied().max().unwrap_or(1) as usize;
    // What lies before a row is computed once; the row itself, in every run.
    options.max_prefixes = if args.depth > 0 { most } else { 0 };
    let measured = args.prompt.max(args.generate) as usize + 2;
    let longest = args.depth.max(1) as usize + measured;
    let ctx = options.ctx.unwrap_or(longest);
    if ctx < longest {
        return Err(Error::usage(format!("--ctx {ctx}: these rows need {longest} tokens")).hint("leave --ctx out"));
    }
    // A text may be longer than the rows: as much of it as the model takes.
    options.ctx = if args.text.is_some() { options.ctx } else { Some(ctx) };
    options.max_sequences = options.max_sequences.max(most);
    let pages = |n: usize| n.next_multiple_of(pondera_ops::PAGE);
    let kept = if args.depth > 0 { pages(measured) + pondera_ops::PAGE } else { 0 };
    options.kv_tokens = Some(most * (pages(longest) + kept));
    Ok(options)
}

fn format(name: &str) -> Result<Format> {
    let wanted = name.to_uppercase();
    let found = FORMATS.iter().find(|f| f.name == wanted && (f.gguf_id.is_some() || f.safetensors.is_some()));
    found.map(|f| f.format).ok_or_else(|| {
        let known: Vec<String> =
            FORMATS.iter().filter(|f| f.gguf_id.is_some()).map(|f| f.name.to_lowercase()).collect();
        Error::usage(format!("--type {name}: no such type"))
            .hint(format!("q4_k_m, q5_k_m or one of {}", known.join(", ")))
    })
}

/// The rule of a mix that quantizers know by name; none for a plain type.
fn mix(name: &str, shape: &str, layers: Option<usize>) -> Result<Option<Mix>> {
    let config = pondera_engine::shape(shape, layers)?;
    let five = match name.to_lowercase().as_str() {
        "q4_k_m" => false,
        "q5_k_m" => true,
        _ => return Ok(None),
    };
    // Tied embeddings are the head too; eight experts leave attention a small share of the whole.
    let tied = config.flag("tie_word_embeddings")?;
    let eight = config.experts()?.is_some_and(|(n, _)| n == 8);
    Ok(Some(match (five, tied, eight) {
        (false, false, false) => k_m::<false, false, false>,
        (false, false, true) => k_m::<false, false, true>,
        (false, true, false) => k_m::<false, true, false>,
        (false, true, true) => k_m::<false, true, true>,
        (true, false, false) => k_m::<true, false, false>,
        (true, false, true) => k_m::<true, false, true>,
        (true, true, false) => k_m::<true, true, false>,
        (true, true, true) => k_m::<true, true, true>,
    }))
}

/// The medium mixes of llama.cpp's quantizer: Q6_K for the head, and for values and down projections of some layers.
fn k_m<const FIVE: bool, const TIED: bool, const EIGHT: bool>(name: &str, layers: usize) -> Format {
    let base = if FIVE { Format::Q5K } else { Format::Q4K };
    let layer = name.split_once("layers.").and_then(|(_, rest)| rest.split('.').next()?.parse::<usize>().ok());
    let has = |part: &str| name.contains(part);
    let Some(i) = layer else {
        return if has("lm_head") || TIED && has("embed_tokens") { Format::Q6K } else { base };
    };
    let more = more_bits(i, layers);
    if EIGHT && (has("v_proj") || has("k_proj")) {
        Format::Q8_0
    } else if EIGHT && has("o_proj") {
        Format::Q5K
    } else if more && (has("v_proj") || has("down_proj")) {
        Format::Q6K
    } else {
        base
    }
}

/// Ids that differ from one another and between sequences, so that experts and pages are spread.
fn tokens(n: usize, vocab: usize, sequence: usize) -> Vec<u32> {
    let one = |i: usize| (i.wrapping_mul(7919).wrapping_add(sequence.wrapping_mul(104_729)) % vocab.max(1)) as u32;
    (1..=n).map(one).collect()
}

fn request(prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request { prompt, max_tokens: Some(max_tokens), ignore_eos: true, ..Request::default() }
}

/// Tokens per second of a prompt after `depth` tokens, its first token included. Runs differ in the prompt alone.
fn prefill(loaded: &mut Loaded, args: &Args, run: usize, listening: &Listening) -> Result<f64> {
    let (depth, n) = (args.depth as usize, args.prompt as usize);
    let vocab = loaded.engine.model().vocab_size();
    let mut prompt = tokens(depth, vocab, 0);
    prompt.extend(tokens(n, vocab, run + 1));
    loaded.engine.submit(request(prompt, 1))?;
    let (mut start, mut before, mut cached) = (Instant::now(), None, 0);
    let mut failed = None;
    loop {
        let go_on = loaded.engine.step(&mut |_, event| match event {
            // The clock starts with the step after the one that reached the depth.
            Event::Prefill { done, .. } if done <= depth => (start, before) = (Instant::now(), Some(done)),
            Event::Finished { usage, .. } => cached = usage.cached_tokens,
            Event::Failed(e) => failed = Some(e.clone()),
            _ => {}
        });
        listening.check()?;
        if !go_on {
            break;
        }
    }
    match failed {
        Some(e) => Err(e.into()),
        None => Ok((depth + n - before.unwrap_or(cached)) as f64 / start.elapsed().as_secs_f64()),
    }
}

/// Tokens per second of all sequences together, from the moment when each has its first token.
fn decode(loaded: &mut Loaded, args: &Args, batch: usize, listening: &Listening) -> Result<f64> {
    let n = args.generate as usize;
    let vocab = loaded.engine.model().vocab_size();
    for s in 0..batch {
        // One more than is counted: the first token belongs to the prompt.
        loaded.engine.submit(request(tokens(args.depth.max(1) as usize, vocab, s), n + 1))?;
    }
    let mut made: HashMap<RequestId, usize> = HashMap::new();
    let (mut start, mut before) = (None, 0);
    let mut failed = None;
    loop {
        let go_on = loaded.engine.step(&mut |id, event| match event {
            Event::Token { .. } => *made.entry(id).or_default() += 1,
            Event::Failed(e) => failed = Some(e.clone()),
            _ => {}
        });
        if start.is_none() && made.len() == batch {
            (start, before) = (Some(Instant::now()), made.values().sum());
        }
        listening.check()?;
        if !go_on {
            break;
        }
    }
    let all: usize = made.values().sum();
    match (failed, start) {
        (Some(e), _) => Err(e.into()),
        (None, Some(start)) => Ok((all - before) as f64 / start.elapsed().as_secs_f64()),
        (None, None) => Err(Error::failed("bench: a sequence ended before all had begun")),
    }
}

pub fn spread(mut speeds: Vec<f64>) -> Spread {
    speeds.sort_by(f64::total_cmp);
    let (low, high) = (speeds[(speeds.len() - 1) / 2], speeds[speeds.len() / 2]);
    Spread { min: speeds[0], median: (low + high) / 2.0, max: speeds[speeds.len() - 1] }
}

fn row(args: &Args, loaded: &Loaded, ceiling: &Ceiling, tps: Spread, test: Test) -> Result<Row> {
    let model = loaded.engine.model();
    let backend = loaded.engine.backend();
    let at = if args.depth > 0 { format!(" @d{}", args.depth) } else { String::new() };
    let depth = args.depth as usize;
    // A prompt's tokens share the weights of a step; so do sequences that decode together.
    let (name, batch, phase) = match test {
        Test::Prefill => {
            let tokens = args.prompt as usize;
            let chunk = args.compute.chunk.map_or(EngineOptions::default().chunk, |c| c as usize);
            let seen = depth as f64 + tokens as f64 / 2.0;
            let phase = Phase { rows: chunk.min(tokens), tokens, logits: 1, seen, sequences: 1 };
            (format!("pp{tokens}{at}"), 1, phase)
        }
        Test::Decode { batch } => {
            let (n, seen) = (batch as usize, depth as f64 + f64::from(args.generate) / 2.0);
            let phase = Phase { rows: n, tokens: n, logits: n, seen, sequences: n };
            let together = if batch > 1 { format!(" x{batch}") } else { String::new() };
            (format!("tg{}{at}{together}", args.generate), batch, phase)
        }
    };
    let kv = args.compute.kv.map_or(KvType::F16, KvType::from);
    let work = bound::work(model.description(), loaded.engine.config(), model.caches(), kv, phase);
    Ok(Row {
        test: name,
        batch,
        depth: args.depth,
        tps,
        work,
        bound: Bound::new(&work, ceiling, tps.median),
        read_gb_per_s: ceiling.read / 1e9,
        gb_per_s: work.bytes_per_token * tps.median / 1e9,
        gop_per_s: work.operations() * tps.median / 1e9,
        threads: backend.threads,
        isa: backend.isa.name(),
    })
}

fn points(rows: &[Row]) -> Vec<Point> {
    let point = |r: &Row| Point {
        name: r.test.clone(),
        intensity: r.work.operations() / r.work.bytes_per_token,
        speed: r.gop_per_s * 1e9,
    };
    rows.iter().map(point).collect()
}

/// Columns of the table, and on which side they keep.
const HEAD: [(&str, Side); 9] = [
    ("", Side::Left),
    ("test", Side::Left),
    ("tok/s", Side::Right),
    ("min – max", Side::Left),
    ("read per token", Side::Right),
    ("GB/s", Side::Right),
    ("Gop/s", Side::Right),
    ("bound", Side::Left),
    ("reached", Side::Right),
];

/// A row as the table shows it.
fn cells(i: usize, r: &Row) -> Vec<String> {
    vec![
        roofline::letter(i).to_string(),
        r.test.clone(),
        three(r.tps.median),
        format!("{} – {}", three(r.tps.min), three(r.tps.max)),
        view::bytes(r.work.bytes_per_token as u64),
        three(r.gb_per_s),
        three(r.gop_per_s),
        format!("{}: {} tok/s", r.bound.bound, three(r.bound.ceiling_tps)),
        format!("{:.0} %", r.bound.fraction * 100.0),
    ]
}

/// The model and what it is run with; the machine's roofs.
fn titles(loaded: &Loaded, ceiling: &Ceiling) -> [String; 3] {
    let d = loaded.engine.model().description();
    let backend = loaded.engine.backend();
    let active = if d.parameters_active == d.parameters_total {
        String::new()
    } else {
        format!(" ({} active)", view::count(d.parameters_active))
    };
    let int8: Vec<String> =
        ceiling.int8.iter().map(|r| format!("int8 {} Gop/s ({})", three(r.per_second / 1e9), r.name)).collect();
    [
        format!(
            "{}  {} parameters{active}, {}",
            loaded.name,
            view::count(d.parameters_total),
            view::bytes(d.weight_bytes)
        ),
        format!("{} threads, {}", backend.threads, backend.isa.name()),
        format!(
            "memory {} GB/s, {}, f32 {} Gop/s",
            three(ceiling.read / 1e9),
            int8.join(", "),
            three(ceiling.f32 / 1e9)
        ),
    ]
}

fn draw(loaded: &Loaded, ceiling: &Ceiling, rows: &[Row]) -> String {
    let mut table = Table::new(&HEAD);
    rows.iter().enumerate().for_each(|(i, r)| table.row(cells(i, r)));
    let [model, run, roofs] = titles(loaded, ceiling);
    let kernels = loaded.engine.kernels().join("; ");
    format!(
        "{ACCENT}{model}{ACCENT:#}  {DIM}{run}{DIM:#}\n{DIM}this machine at most: {roofs}{DIM:#}\n{}{DIM}kernels: \
         {kernels}{DIM:#}\n",
        table.draw()
    )
}

fn page(loaded: &Loaded, ceiling: &Ceiling, rows: &[Row]) -> String {
    let lines: Vec<_> = rows.iter().enumerate().map(|(i, r)| cells(i, r)).collect();
    let [model, run, roofs] = titles(loaded, ceiling);
    // Where the file lies is nobody's business but the owner's.
    let model = model.rsplit('/').next().unwrap_or(&model);
    let head = HEAD.map(|(name, _)| name);
    let subtitle = format!("{run}. This machine at most: {roofs}.");
    roofline::html(&Page { title: model, subtitle: &subtitle, head: &head, lines: &lines }, ceiling, &points(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        let s = spread(vec![3.0, 1.0, 2.0]);
        assert_eq!((s.min, s.median, s.max), (1.0, 2.0, 3.0));
        assert_eq!(spread(vec![1.0, 2.0]).median, 1.5);
    }

    #[test]
    fn types_are_found_by_the_names_users_know() {
        assert_eq!(format("q4_k").unwrap(), Format::Q4K);
        assert_eq!(format("bf16").unwrap(), Format::BF16);
        assert!(format("q9_x").is_err());
    }

    #[test]
    fn mixes_give_more_bits_where_quantizers_do() {
        let down = |i: usize| k_m::<false, false, false>(&format!("model.layers.{i}.mlp.down_proj.weight"), 16);
        let six: Vec<usize> = (0..16).filter(|i| down(*i) == Format::Q6K).collect();
        assert_eq!(six, [0, 1, 4, 7, 10, 13, 14, 15]);
        let dense = k_m::<false, false, false>;
        for (name, want) in [
            ("lm_head.weight", Format::Q6K),
            ("model.embed_tokens.weight", Format::Q4K),
            ("model.layers.0.self_attn.q_proj.weight", Format::Q4K),
            ("model.layers.0.self_attn.v_proj.weight", Format::Q6K),
            ("model.layers.2.self_attn.v_proj.weight", Format::Q4K),
        ] {
            assert_eq!(dense(name, 16), want, "{name}");
        }
        assert_eq!(k_m::<false, true, false>("model.embed_tokens.weight", 16), Format::Q6K);
        assert_eq!(k_m::<false, false, true>("model.layers.3.self_attn.k_proj.weight", 16), Format::Q8_0);
        assert!(mix("q4_k", "llama-3.2-1b", None).unwrap().is_none());
        assert!(mix("Q4_K_M", "llama-3.2-1b", Some(2)).unwrap().is_some());
    }
}
