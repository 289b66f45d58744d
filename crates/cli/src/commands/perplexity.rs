//! `perplexity`: how well a model foresees a text, and how far a second model agrees with it.
//!
//! Non-overlapping windows of the text's tokens, each with BOS in front, so that every token is scored once.
use crate::{
    Context,
    error::{Error, Result},
    flags::Compute,
    interrupt,
    load::Loaded,
    model,
    progress::Bar,
    view::{Sheet, three},
    words,
};
use pondera_engine::{KvType, TraceOptions, log_sum_exp};
use serde_json::json;
use std::{
    fs,
    path::PathBuf,
    time::Instant,
};

/// Measure how well a model foresees a text
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  pondera perplexity model.gguf --file story.txt\n  \
    pondera perplexity model-q4_k_m.gguf --file story.txt --reference model-f16.gguf")]
pub struct Args {
    /// The model [default: the built-in one]
    model: Option<String>,
    /// The text, UTF-8
    #[arg(long, value_name = "TEXT")]
    file: PathBuf,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    window: u32,
    /// Compare with this model: mean KL divergence and top-token agreement
    #[arg(long, value_name = "MODEL")]
    reference: Option<String>,
    #[command(flatten)]
    compute: Compute,
}

/// Sums over all scored tokens.
#[derive(Default)]
struct Sums {
    tokens: usize,
    nll: f64,
    greedy: usize,
    windows: Vec<f64>,
    /// Against the reference: sum of KL divergences, tokens where both have the same likeliest one, and the
    /// reference's own negative log likelihood.
    kl: f64,
    agreed: usize,
    reference_nll: f64,
}

/// Scores the text.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let text = read(&args.file)?;
    let mut loaded = open(args.model.as_deref(), args, context)?;
    let mut reference = args.reference.as_deref().map(|name| open(Some(name), args, context)).transpose()?;
    let (bos, ids) = ids(&loaded, &text)?;
    if let Some(r) = &reference {
        same_vocabulary(&loaded, r, &text)?;
    }
    let start = Instant::now();
    let listening = interrupt::listen();
    let mut bar = Bar::new(context, "tokens", ids.len() as u64);
    let mut sums = Sums::default();
    let mut row = Vec::new();
    for window in ids.chunks(args.window as usize) {
        listening.check()?;
        row.clear();
        row.extend(bos);
        row.extend_from_slice(window);
        let before = sums.nll;
        match &mut reference {
            None => score(&mut loaded, &row, &mut sums)?,
            Some(r) => compare(&mut loaded, r, &row, &mut sums)?,
        }
        sums.windows.push(sums.nll - before);
        bar.set(sums.tokens as u64);
    }
    drop(bar);
    if sums.tokens == 0 {
        return Err(Error::usage(format!("{}: no token to score", args.file.display()))
            .hint("the text is too short for a vocabulary without a beginning-of-sequence token"));
    }
    let seconds = start.elapsed().as_secs_f64();
    if context.out.json() {
        return context.out.object(&report(&sums, args, &loaded, seconds));
    }
    context.out.page(&draw(&sums, &loaded, reference.as_ref(), seconds))
}

fn read(file: &PathBuf) -> Result<String> {
    let bytes = fs::read(file).map_err(|e| Error::io(file.display(), &e))?;
    let invalid = |e: std::string::FromUtf8Error| {
        Error::file(format!("{}: not UTF-8 after {} bytes", file.display(), e.utf8_error().valid_up_to()))
    };
    String::from_utf8(bytes).map_err(|e| invalid(e).hint("convert the text to UTF-8 first"))
}

fn open(name: Option<&str>, args: &Args, context: &Context) -> Result<Loaded> {
    let source = model::resolve(name, &context.global)?;
    let mut compute = args.compute.clone();
    // The cache holds one window and its BOS; more would only take memory.
    compute.ctx.get_or_insert(args.window.saturating_add(1));
    Loaded::open(&source, &compute, KvType::F32, context)
}

/// BOS, and the text's ids without special tokens.
fn ids(loaded: &Loaded, text: &str) -> Result<(Option<u32>, Vec<u32>)> {
    let tokenizer = loaded.tokenizer()?;
    Ok((tokenizer.bos_id(), words::encode(tokenizer, text, false)?))
}

fn same_vocabulary(a: &Loaded, b: &Loaded, text: &str) -> Result<()> {
    let (a_size, b_size) = (a.engine.model().vocab_size(), b.engine.model().vocab_size());
    if a_size != b_size || ids(a, text)? != ids(b, text)? {
        return Err(Error::usage(format!("--reference: {} and {} have different vocabularies", a.name, b.name))
            .hint("compare two versions of one model"));
    }
    Ok(())
}

/// Scores all tokens of `row` but the first.
fn score(loaded: &mut Loaded, row: &[u32], sums: &mut Sums) -> Result<()> {
    let mut scores = Vec::new();
    loaded.engine.score(row, &mut scores)?;
    sums.tokens += scores.len();
    sums.nll += scores.iter().map(|s| s.nll).sum::<f64>();
    sums.greedy += scores.iter().filter(|s| s.greedy).count();
    Ok(())
}

/// The same, against the reference's whole distributions.
fn compare(loaded: &mut Loaded, reference: &mut Loaded, row: &[u32], sums: &mut Sums) -> Result<()> {
    let mine = loaded.engine.trace(row, TraceOptions::default())?;
    let theirs = reference.engine.trace(row, TraceOptions::default())?;
    let vocab = mine.vocab_size.max(1);
    let rows = mine.logits.chunks_exact(vocab).zip(theirs.logits.chunks_exact(vocab));
    for ((q, p), &next) in rows.zip(&row[1..]) {
        let (zq, zp) = (log_sum_exp(q), log_sum_exp(p));
        if !zq.is_finite() || !zp.is_finite() {
            return Err(Error::failed("a logit is not finite").hint("the weights may be damaged: compare their checksums"));
        }
        let (top_q, top_p) = (top(q), top(p));
        sums.tokens += 1;
        sums.nll += zq - f64::from(q[next as usize]);
        sums.reference_nll += zp - f64::from(p[next as usize]);
        sums.greedy += usize::from(top_q == next as usize);
        sums.agreed += usize::from(top_q == top_p);
        sums.kl += divergence(p, zp, q, zq);
    }
    Ok(())
}

/// `Σ p (ln p - ln q)` in nats, from logits and their log-sum-exps.
fn divergence(p: &[f32], zp: f64, q: &[f32], zq: f64) -> f64 {
    let term = |(p, q): (&f32, &f32)| {
        let ln_p = f64::from(*p) - zp;
        ln_p.exp() * (ln_p - (f64::from(*q) - zq))
    };
    // A divergence is never negative; rounding may say so of two equal distributions.
    p.iter().zip(q).map(term).sum::<f64>().max(0.0)
}

/// Index of the greatest; ties to the lower.
fn top(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (i, v)| if *v > row[best] { i } else { best })
}

fn report(s: &Sums, args: &Args, loaded: &Loaded, seconds: f64) -> serde_json::Value {
    let n = s.tokens as f64;
    let mut object = json!({
        "perplexity": (s.nll / n).exp(),
        "tokens": s.tokens,
        "nll_sum": s.nll,
        "window": args.window,
        "window_nll": s.windows,
        "accuracy": s.greedy as f64 / n,
        "tokens_per_s": n / seconds,
        "model": loaded.name,
    });
    if args.reference.is_some() {
        object["kl_divergence"] = (s.kl / n).into();
        object["top_token_agreement"] = (s.agreed as f64 / n).into();
        object["reference_perplexity"] = (s.reference_nll / n).exp().into();
    }
    object
}

fn draw(s: &Sums, loaded: &Loaded, reference: Option<&Loaded>, seconds: f64) -> String {
    let n = s.tokens as f64;
    let mut sheet = Sheet::new(19);
    sheet.head(&loaded.name);
    sheet.line("perplexity", format!("{:.4}", (s.nll / n).exp()));
    sheet.line("tokens", format!("{} in {} windows, {} tok/s", s.tokens, s.windows.len(), three(n / seconds)));
    sheet.line("foreseen", format!("{:.1} % of the tokens were the likeliest", 100.0 * s.greedy as f64 / n));
    if let Some(r) = reference {
        sheet.head(&format!("against {}", r.name));
        sheet.line("its perplexity", format!("{:.4}", (s.reference_nll / n).exp()));
        sheet.line("KL divergence", format!("{:.6} nats a token", s.kl / n));
        sheet.bar("top-token agreement", s.agreed as f64 / n, &format!("{:.2} %", 100.0 * s.agreed as f64 / n));
    }
    sheet.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_zero_for_equals_and_exact_for_a_coin() {
        let row = [0.3f32, -1.0, 2.0];
        let z = log_sum_exp(&row);
        assert_eq!(divergence(&row, z, &row, z), 0.0);
        // p = (1/2, 1/2), q = (3/4, 1/4)
        let (p, q) = ([0.0f32, 0.0], [3f32.ln(), 0.0]);
        let want = 0.5 * (0.5f64 / 0.75).ln() + 0.5 * (0.5f64 / 0.25).ln();
        assert!((divergence(&p, log_sum_exp(&p), &q, log_sum_exp(&q)) - want).abs() < 1e-7);
    }

    #[test]
    fn ties_go_to_the_lower_id() {
        assert_eq!(top(&[1.0, 3.0, 3.0]), 1);
    }
}
