//! `perplexity`: how well a model foresees a text, and how far a second model agrees with it.
//!
//! Owns: the windows, the sums over tokens and their drawing. Does not own: the passes (`pondera-engine`).
//! Non-overlapping windows of the text's tokens, each with BOS in front, so that every token is scored once.
use crate::{
    Context,
    error::{Error, Result},
    flags::Compute,
    interrupt,
    load::Loaded,
    lora::Lora,
    model,
    progress::Bar,
    view::{Sheet, three},
    words,
};
use pondera_engine::{KvType, log_sum_exp};
use serde_json::json;
use std::{fs, path::PathBuf, time::Instant};

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
    /// Compare with this model: KL divergence from it, top-token agreement and its own perplexity
    #[arg(long, value_name = "MODEL")]
    reference: Option<String>,
    #[command(flatten)]
    lora: Lora,
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
    /// Against the reference: a KL divergence per token, tokens where both have the same likeliest one, and the
    /// reference's own negative log likelihood.
    divergences: Vec<f64>,
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

/// The same, against the reference's whole distributions. Both passes go chunk by chunk, so that memory holds two
/// chunks of logits, whatever the window.
fn compare(loaded: &mut Loaded, reference: &mut Loaded, row: &[u32], sums: &mut Sums) -> Result<()> {
    let mut mine = loaded.engine.logits(row)?;
    let mut theirs = reference.engine.logits(row)?;
    let vocab = mine.vocab_size().max(1);
    let mut next = row[1..].iter().map(|id| *id as usize);
    while let (Some(q), Some(p)) = (mine.next_rows()?, theirs.next_rows()?) {
        let rows = q.chunks_exact(vocab).zip(p.chunks_exact(vocab));
        for ((q, p), next) in rows.zip(next.by_ref()) {
            sums.add(q, p, next);
        }
    }
    Ok(())
}

impl Sums {
    /// A token `next` that the model foresaw by the logits `q`, the reference by `p`.
    fn add(&mut self, q: &[f32], p: &[f32], next: usize) {
        let (zq, zp) = (log_sum_exp(q), log_sum_exp(p));
        let (top_q, top_p) = (top(q), top(p));
        self.tokens += 1;
        self.nll += zq - f64::from(q[next]);
        self.reference_nll += zp - f64::from(p[next]);
        self.greedy += usize::from(top_q == next);
        self.agreed += usize::from(top_q == top_p);
        self.divergences.push(divergence(p, zp, q, zq));
    }
}

/// How KL divergences are spread over tokens.
struct Spread {
    /// Ascending.
    sorted: Vec<f64>,
    mean: f64,
    /// Of the mean, tokens taken for independent.
    standard_error: f64,
}

impl Spread {
    fn new(mut sorted: Vec<f64>) -> Spread {
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len().max(1) as f64;
        let mean = sorted.iter().sum::<f64>() / n;
        let variance = sorted.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n;
        Spread { sorted, mean, standard_error: (variance / n).sqrt() }
    }

    /// The divergence that `share` of the tokens do not exceed.
    fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(rank.max(1) - 1).or(self.sorted.last()).copied().unwrap_or(0.0)
    }

    fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// Shares of the tokens by power of ten, from that of the least divergence to that of the
    /// greatest: `(upper bound, share)`.
    fn decades(&self) -> Vec<(f64, f64)> {
        let n = self.sorted.len().max(1) as f64;
        let below = |bound: f64| self.sorted.partition_point(|d| *d < bound);
        let mut lines = Vec::new();
        let mut before = 0;
        for exponent in -8..=2 {
            let bound = 10f64.powi(exponent);
            let count = below(bound);
            if count > 0 && before < self.sorted.len() {
                lines.push((bound, (count - before) as f64 / n));
            }
            before = count;
        }
        lines
    }
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
        let spread = Spread::new(s.divergences.clone());
        object["kl_divergence"] = spread.mean.into();
        object["kl_standard_error"] = spread.standard_error.into();
        object["kl_percentiles"] = json!({
            "50": spread.quantile(0.5),
            "90": spread.quantile(0.9),
            "99": spread.quantile(0.99),
            "99.9": spread.quantile(0.999),
            "100": spread.max(),
        });
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
        let spread = Spread::new(s.divergences.clone());
        let percentiles = [("median", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("99.9 %", 0.999), ("all", 1.0)];
        let below = percentiles.map(|(name, share)| format!("{name} {}", nats(spread.quantile(share)))).join(" · ");
        sheet.head(&format!("against {}", r.name));
        sheet.line("its perplexity", format!("{:.4}", (s.reference_nll / n).exp()));
        sheet.bar("top-token agreement", s.agreed as f64 / n, &format!("{:.2} %", 100.0 * s.agreed as f64 / n));
        let mean = format!("{} ± {} nats a token", nats(spread.mean), nats(spread.standard_error));
        sheet.line("KL divergence", mean);
        sheet.line("at most", below);
        for (bound, share) in spread.decades() {
            sheet.bar(&format!("  below {bound:e}"), share, &format!("{:.1} %", 100.0 * share));
        }
    }
    sheet.finish()
}

/// Three significant digits over many powers of ten.
fn nats(v: f64) -> String {
    match v {
        0.0 => "0".into(),
        v if v < 0.1 => format!("{v:.2e}"),
        v => three(v),
    }
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
    fn spreads_know_mean_ranks_and_decades() {
        let s = Spread::new((1..=100).rev().map(|i| (f64::from(i) - 0.5) * 1e-4).collect());
        assert!((s.mean - 0.005).abs() < 1e-12);
        // The variance of 100 numbers one apart is (100² - 1) / 12.
        assert!((s.standard_error - 1e-5 * (9999.0f64 / 12.0).sqrt()).abs() < 1e-12);
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|q| (s.quantile(q) * 1e4).ceil()), [1.0, 50.0, 99.0, 100.0]);
        let shares: Vec<f64> = s.decades().iter().map(|d| (d.1 * 100.0).round()).collect();
        assert_eq!((s.decades()[0].0, shares), (1e-4, vec![1.0, 9.0, 90.0]));
        assert_eq!(Spread::new(vec![0.0; 3]).decades(), [(1e-8, 1.0)]);
        assert_eq!(Spread::new(vec![]).max(), 0.0);
    }

    #[test]
    fn ties_go_to_the_lower_id() {
        assert_eq!(top(&[1.0, 3.0, 3.0]), 1);
    }
}
