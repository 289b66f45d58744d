//! `bench`: how fast a model reads and writes on this machine.
//!
//! Measures the engine from outside: a row is a request (or several at once), timed between its events.
use crate::{
    Context,
    ahead::{self, Ahead},
    error::{Error, Result},
    flags::Compute,
    interrupt::{self, Listening},
    load::{self, Loaded},
    model,
    out::{ACCENT, DIM},
    progress::Bar,
    view::{self, Side, Table, three},
};
use pondera_arch::{Description, Mix, SHAPES};
use pondera_engine::{EngineOptions, Event, KvType, Request, RequestId, Settled, Source};
use pondera_quant::{FORMATS, Format};
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
    pondera bench --shape qwen3-30b-a3b --type q4_k --layers 4 --depth 4096")]
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
    /// Sequences that decode at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Times each row is measured, after one that is not counted
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Random weights of a published shape
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
    #[command(flatten)]
    compute: Compute,
}

/// A measured row, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    /// `pp512`, `tg128`, with `@d4096` for a depth and `x4` for a batch.
    test: String,
    tps: Spread,
    /// Bytes of weights and cache that a token's computation reads.
    bytes_per_token: f64,
    /// Read at the median speed.
    gb_per_s: f64,
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

/// Measures and reports.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.prompt == 0 && args.generate == 0 {
        return Err(Error::usage("bench: --prompt 0 and --gen 0 leave nothing to measure").hint("give one of them"));
    }
    let mut loaded = open(args, context)?;
    let listening = interrupt::listen();
    let tests = u64::from(args.prompt > 0) + u64::from(args.generate > 0);
    let mut bar = Bar::new(context, "runs", tests * u64::from(args.repeat + 1));
    let mut runs = 0;
    let mut settled = Settled::default();
    let mut measure = |loaded: &mut Loaded, once: &dyn Fn(&mut Loaded, &Args, &Listening) -> Result<f64>| {
        let mut speeds = Vec::new();
        // The first run pages weights in and fills the arenas: it is not counted, nor what is still to be laid out then.
        for n in 0..=args.repeat {
            listening.check()?;
            let tps = once(loaded, args, &listening)?;
            if n > 0 {
                speeds.push(tps);
            } else {
                settled = settle(loaded, &listening)?;
            }
            runs += 1;
            bar.set(runs);
        }
        Ok::<_, Error>(spread(speeds))
    };
    let mut rows = Vec::new();
    if args.prompt > 0 {
        let tps = measure(&mut loaded, &prefill)?;
        rows.push(row(args, &loaded, tps, true));
    }
    if args.generate > 0 {
        let tps = measure(&mut loaded, &decode)?;
        rows.push(row(args, &loaded, tps, false));
    }
    drop(bar);
    let ahead = ahead(args, &mut loaded, &listening, context)?;
    if context.out.json() {
        let d = loaded.engine.model().description();
        let mut object = json!({ "model": loaded.name, "rows": rows,
            "parameters_total": d.parameters_total, "parameters_active": d.parameters_active,
            "weight_bytes": d.weight_bytes, "layout": { "packed_bytes": settled.packed_bytes,
            "mapped_bytes": d.weight_bytes.saturating_sub(settled.packed_bytes), "seconds": settled.seconds } });
        if !ahead.is_empty() {
            object["speculation"] = json!(ahead);
        }
        return context.out.object(&object);
    }
    context.out.page(&draw(&loaded, &rows))?;
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
            ahead::measure(loaded, format!("tg{} {name}", args.generate), &request, speculation, args.repeat, listening, bar)
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

fn open(args: &Args, context: &Context) -> Result<Loaded> {
    let options = options(args, context)?;
    let Some(shape) = &args.shape else {
        let source = model::resolve(args.model.as_deref(), &context.global)?;
        let mut loaded = Loaded::from_source(&load::from(&source), source.name(), &options, context)?;
        loaded.open_draft(&args.ahead, context)?;
        return Ok(loaded);
    };
    if !SHAPES.iter().any(|s| s.name == shape) {
        let known: Vec<&str> = SHAPES.iter().map(|s| s.name).collect();
        return Err(Error::usage(format!("--shape {shape}: no such shape")).hint(format!("one of {}", known.join(", "))));
    }
    let layers = args.layers.map(|n| n as usize);
    let mix = mix(&args.format, shape, layers)?;
    let format = if mix.is_some() { Format::Q4K } else { format(&args.format)? };
    let cut = layers.map_or(String::new(), |n| format!(", {n} layers"));
    let name = format!("{shape} (random {}{cut})", args.format.to_lowercase());
    Loaded::from_source(&Source::Shape { name: shape, format, mix, layers, seed: 1 }, name, &options, context)
}

/// Room for the longest sequence of each request, and no more.
fn options(args: &Args, context: &Context) -> Result<EngineOptions> {
    let mut options = args.compute.options(context.global.threads, KvType::F16)?;
    // Every row computes its whole prompt: nothing is left over from the row before.
    options.max_prefixes = 0;
    let longest = (args.depth.max(1) as usize) + args.prompt.max(args.generate) as usize + 2;
    let ctx = options.ctx.unwrap_or(longest);
    if ctx < longest {
        return Err(Error::usage(format!("--ctx {ctx}: these rows need {longest} tokens")).hint("leave --ctx out"));
    }
    // A text may be longer than the rows: as much of it as the model takes.
    options.ctx = if args.text.is_some() { options.ctx } else { Some(ctx) };
    options.max_sequences = options.max_sequences.max(args.batch as usize);
    options.kv_tokens = Some(args.batch as usize * longest.next_multiple_of(pondera_ops::PAGE));
    Ok(options)
}

fn format(name: &str) -> Result<Format> {
    let wanted = name.to_uppercase();
    let found = FORMATS.iter().find(|f| f.name == wanted && (f.gguf_id.is_some() || f.safetensors.is_some()));
    found.map(|f| f.format).ok_or_else(|| {
        let known: Vec<String> = FORMATS.iter().filter(|f| f.gguf_id.is_some()).map(|f| f.name.to_lowercase()).collect();
        Error::usage(format!("--type {name}: no such type")).hint(format!("q4_k_m, q5_k_m or one of {}", known.join(", ")))
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

/// The medium mixes of llama.cpp's quantizer: Q6_K for the head, and for values and down projections of the first and
/// last eighth of the layers and every third between.
fn k_m<const FIVE: bool, const TIED: bool, const EIGHT: bool>(name: &str, layers: usize) -> Format {
    let base = if FIVE { Format::Q5K } else { Format::Q4K };
    let layer = name.split_once("layers.").and_then(|(_, rest)| rest.split('.').next()?.parse::<usize>().ok());
    let has = |part: &str| name.contains(part);
    let Some(i) = layer else {
        return if has("lm_head") || TIED && has("embed_tokens") { Format::Q6K } else { base };
    };
    let more = i < layers / 8 || i >= 7 * layers / 8 || (i - layers / 8) % 3 == 2;
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

/// Tokens per second of a prompt after `depth` tokens, its first token included.
fn prefill(loaded: &mut Loaded, args: &Args, listening: &Listening) -> Result<f64> {
    let (depth, n) = (args.depth as usize, args.prompt as usize);
    let vocab = loaded.engine.model().vocab_size();
    loaded.engine.submit(request(tokens(depth + n, vocab, 0), 1))?;
    let (mut start, mut first) = (Instant::now(), 0);
    let mut failed = None;
    loop {
        let go_on = loaded.engine.step(&mut |_, event| match event {
            // The clock starts with the step after the one that reached the depth.
            Event::Prefill { done, .. } if depth > 0 && done <= depth => (start, first) = (Instant::now(), done),
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
        None => Ok((depth + n - first) as f64 / start.elapsed().as_secs_f64()),
    }
}

/// Tokens per second of all sequences together, from the moment when each has its first token.
fn decode(loaded: &mut Loaded, args: &Args, listening: &Listening) -> Result<f64> {
    let (batch, n) = (args.batch as usize, args.generate as usize);
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

fn row(args: &Args, loaded: &Loaded, tps: Spread, prompt: bool) -> Row {
    let d = loaded.engine.model().description();
    let backend = loaded.engine.backend();
    let (kind, n) = if prompt { ("pp", args.prompt) } else { ("tg", args.generate) };
    let depth = if args.depth > 0 { format!(" @d{}", args.depth) } else { String::new() };
    let batch = if args.batch > 1 && !prompt { format!(" x{}", args.batch) } else { String::new() };
    // A prompt's tokens share the weights of a step; so do sequences that decode together.
    let chunk = args.compute.chunk.map_or(EngineOptions::default().chunk, |c| c as usize);
    let sharing = if prompt { chunk.min(args.prompt as usize) } else { args.batch as usize };
    let kv = args.compute.kv.map_or(KvType::F16, KvType::from).bytes();
    let seen = args.depth as usize + n as usize / 2;
    let cache = Description::kv_bytes(loaded.engine.model().caches(), seen, kv) as f64;
    let bytes_per_token = read_per_step(d, sharing) / sharing as f64 + cache;
    Row {
        test: format!("{kind}{n}{depth}{batch}"),
        tps,
        bytes_per_token,
        gb_per_s: bytes_per_token * tps.median / 1e9,
        threads: backend.threads,
        isa: backend.isa.name(),
    }
}

/// Bytes of weights that a step over `rows` tokens reads: of the embedding a row a token, of experts those that
/// are expected to be chosen by any of them.
fn read_per_step(d: &Description, rows: usize) -> f64 {
    let tables = d.tensors.iter().filter(|t| t.shape == [1, d.vocab_size, d.hidden_size]).count();
    let mut tables_left = tables;
    let mut sum = 0.0;
    for t in &d.tensors {
        let bytes = t.bytes as f64;
        let is_table = t.shape == [1, d.vocab_size, d.hidden_size];
        // The first table is the embedding, unless it is also the head.
        if is_table && tables_left == tables && tables > 1 {
            sum += bytes / d.vocab_size as f64 * rows as f64;
        } else {
            let share = t.active as f64 / t.parameters.max(1) as f64;
            sum += bytes * (1.0 - (1.0 - share).powi(rows.min(1 << 20) as i32));
        }
        tables_left -= usize::from(is_table);
    }
    sum
}

fn draw(loaded: &Loaded, rows: &[Row]) -> String {
    let d = loaded.engine.model().description();
    let backend = loaded.engine.backend();
    let mut table = Table::new(&[
        ("test", Side::Left),
        ("tok/s", Side::Right),
        ("min – max", Side::Left),
        ("", Side::Left),
        ("read per token", Side::Right),
        ("GB/s", Side::Right),
    ]);
    let top = rows.iter().map(|r| r.tps.max).fold(0.0, f64::max);
    for r in rows {
        table.row(vec![
            r.test.clone(),
            three(r.tps.median),
            format!("{} – {}", three(r.tps.min), three(r.tps.max)),
            view::bar(r.tps.median / top, 24),
            view::bytes(r.bytes_per_token as u64),
            three(r.gb_per_s),
        ]);
    }
    let active = if d.parameters_active == d.parameters_total {
        String::new()
    } else {
        format!(" ({} active)", view::count(d.parameters_active))
    };
    format!(
        "{ACCENT}{}{ACCENT:#}  {} parameters{active}, {}  {DIM}{} threads, {}{DIM:#}\n{}",
        loaded.name,
        view::count(d.parameters_total),
        view::bytes(d.weight_bytes),
        backend.threads,
        backend.isa.name(),
        table.draw()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pondera_arch::Listed;

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

    #[test]
    fn embeddings_are_looked_up_and_idle_experts_not_read() {
        let listed = |name: &str, shape: [usize; 3], share: f64| {
            let parameters: u64 = shape.iter().map(|d| *d as u64).product();
            let active = (parameters as f64 * share) as u64;
            Listed { name: name.into(), shape, format: "F32", bytes: parameters * 4, parameters, active }
        };
        let tensors = vec![listed("embed", [1, 100, 8], 1.0), listed("experts", [4, 8, 8], 0.25), listed("head", [1, 100, 8], 1.0)];
        let d = Description {
            family: "llama",
            vocab_size: 100,
            hidden_size: 8,
            num_hidden_layers: 1,
            max_position_embeddings: 64,
            experts: Some((4, 1)),
            parameters_total: 0,
            parameters_active: 0,
            weight_bytes: 0,
            tensors,
        };
        assert_eq!(read_per_step(&d, 1), 8.0 * 4.0 + 256.0 + 3200.0);
        assert!(read_per_step(&d, 64) > 1000.0 + 3200.0);
    }
}
