//! `trace`: a forward pass laid open: logits, hidden states and routings of every token.
use crate::{
    Context,
    error::{Error, Result},
    flags::{self, Compute, Ids},
    load::Loaded,
    lora::Lora,
    model,
    out::{self, DIM},
    progress::Spinner,
    report,
    view::{Side, Table, strip, token},
    words,
};
use pondera_engine::{KvType, Routing, Trace, TraceOptions, log_sum_exp};
use pondera_quant::Format;
use pondera_weights::{TensorSpec, safetensors};
use serde_json::json;
use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};

/// Lay a forward pass open
#[derive(clap::Args)]
#[command(after_help = "Neither --threads, --chunk nor --isa changes a bit of the result.\n\nExamples:\n  \
    pondera trace model.gguf --prompt \"Once upon a time\"\n  \
    pondera trace model.gguf --tokens 1,403,407 --out trace.safetensors --json")]
pub struct Args {
    /// The model [default: the built-in one]
    model: Option<String>,
    /// The sequence as token ids
    #[arg(long, value_name = "1,2,3", value_parser = flags::ids, required_unless_present = "prompt")]
    tokens: Option<Ids>,
    /// The sequence as text, special tokens added
    #[arg(long, value_name = "TEXT", conflicts_with = "tokens")]
    prompt: Option<String>,
    /// Write logits, hidden states and routings to a safetensors file
    #[arg(long, value_name = "FILE.safetensors")]
    out: Option<PathBuf>,
    /// Likeliest next tokens to show at each position
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    top: u8,
    #[command(flatten)]
    lora: Lora,
    #[command(flatten)]
    compute: Compute,
}

/// Runs the pass and shows or writes what it showed.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    args.out.as_ref().map_or(Ok(()), |file| report::free("--out", file, &[report::TRACE]))?;
    let source = model::resolve(args.model.as_deref(), &context.global)?;
    let mut compute = args.compute.clone();
    // The trace finds its own room; a long default context would only take memory.
    compute.ctx.get_or_insert(1);
    let mut loaded = Loaded::open(&source, &compute, KvType::F32, context)?;
    loaded.open_lora(&args.lora, context)?;
    let tokens = match (&args.tokens, &args.prompt) {
        (Some(Ids(ids)), _) => ids.clone(),
        (None, text) => loaded.tokenize(text.as_deref().unwrap_or_default())?,
    };
    let json = context.out.json();
    let spinner = Spinner::new(context, format!("computing {} tokens", tokens.len()));
    // Without a file or a page only the logits are wanted.
    let all = args.out.is_some() || !json;
    let chunk = args.compute.chunk.map(|n| n as usize);
    let trace = loaded.engine.trace(&tokens, TraceOptions { chunk, hidden: all, experts: all })?;
    drop(spinner);
    if let Some(file) = &args.out {
        write(&trace, tokens.len(), file)?;
    }
    if json {
        let argmax: Vec<u32> = rows(&trace).map(|r| best(r, 1)[0].0).collect();
        let out = args.out.as_ref().map(|f| f.display().to_string());
        return context.out.object(&json!({ "argmax": argmax, "tokens": tokens, "model": loaded.name, "out": out }));
    }
    if args.out.is_some() && !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return Ok(());
    }
    context.out.page(&draw(&trace, &tokens, &loaded, usize::from(args.top)))
}

fn rows(trace: &Trace) -> impl Iterator<Item = &[f32]> {
    trace.logits.chunks_exact(trace.vocab_size.max(1))
}

/// The `n` greatest, ties to the lower id.
fn best(row: &[f32], n: usize) -> Vec<(u32, f32)> {
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(n + 1);
    for (i, &v) in row.iter().enumerate() {
        if top.len() == n && top.last().is_some_and(|t| v <= t.1) {
            continue;
        }
        let at = top.partition_point(|t| t.1 >= v);
        top.insert(at, (i as u32, v));
        top.truncate(n);
    }
    if top.is_empty() { vec![(0, f32::NAN)] } else { top }
}

/// `logits` [T, V], `hidden.0` … `hidden.L` [T, D], `experts.<layer>` and `expert_weights.<layer>` [T, k].
fn write(trace: &Trace, tokens: usize, file: &Path) -> Result<()> {
    let hidden = |i: usize| TensorSpec::new(format!("hidden.{i}"), Format::F32, &[tokens, trace.hidden_size]);
    let mut specs = vec![TensorSpec::new("logits", Format::F32, &[tokens, trace.vocab_size])];
    specs.extend((0..trace.hidden.len()).map(hidden));
    for r in &trace.experts {
        specs.push(TensorSpec::new(format!("experts.{}", r.layer), Format::I32, &[tokens, r.top_k]));
        specs.push(TensorSpec::new(format!("expert_weights.{}", r.layer), Format::F32, &[tokens, r.top_k]));
    }
    let out = File::create(file).map_err(|e| Error::output(file.display(), &e))?;
    let mut writer = safetensors::Writer::new(BufWriter::with_capacity(1 << 20, out), &[], &specs)?;
    writer.write(&f32_bytes(&trace.logits))?;
    for h in &trace.hidden {
        writer.write(&f32_bytes(h))?;
    }
    for r in &trace.experts {
        writer.write(&r.ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())?;
        writer.write(&f32_bytes(&r.weights))?;
    }
    writer.finish()?;
    Ok(())
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A row per token: what was there, what the model expects next, and how large the hidden state is layer by layer.
fn draw(trace: &Trace, tokens: &[u32], loaded: &Loaded, top: usize) -> String {
    let name = |id: u32| match loaded.words() {
        Some(t) => token(&words::token_text(t, id), 16),
        None => id.to_string(),
    };
    let mut head = vec![("#", Side::Right), ("id", Side::Right), ("token", Side::Left), ("expected next", Side::Left)];
    head.push(("size by layer", Side::Left));
    if !trace.experts.is_empty() {
        head.push(("experts, first and last sparse layer", Side::Left));
    }
    let mut table = Table::new(&head);
    for (t, row) in rows(trace).enumerate() {
        let z = log_sum_exp(row);
        let next = best(row, top).into_iter().map(|(id, v)| {
            let percent = 100.0 * (f64::from(v) - z).exp();
            format!("{} {percent:.0} %", name(id))
        });
        let mut cells = vec![t.to_string(), tokens[t].to_string(), name(tokens[t]), next.collect::<Vec<_>>().join("  ")];
        cells.push(strip(&squeeze(&sizes(trace, t), out::columns() / 4)));
        if let [first, .., last] | [first @ last] = &trace.experts[..] {
            cells.push(format!("{}  {}", chosen(first, t), chosen(last, t)));
        }
        table.row(cells);
    }
    let note = "size: root mean square of the hidden state, from the embedding to the last layer";
    format!("{}{DIM}{note}{DIM:#}\n", table.draw())
}

/// Root mean square of token `t`'s hidden state, on a log scale from the smallest to the largest, per layer.
fn sizes(trace: &Trace, t: usize) -> Vec<f32> {
    let width = trace.hidden_size.max(1);
    let rms = |h: &Vec<f32>| {
        let row = h.chunks_exact(width).nth(t).unwrap_or(&[]);
        (row.iter().map(|v| v * v).sum::<f32>() / width as f32).sqrt()
    };
    trace.hidden.iter().map(rms).collect()
}

/// At most `width` values: of neighbours the largest.
fn squeeze(values: &[f32], width: usize) -> Vec<f32> {
    let step = values.len().div_ceil(width.max(1)).max(1);
    values.chunks(step).map(|c| c.iter().copied().fold(f32::MIN, f32::max)).collect()
}

fn chosen(r: &Routing, t: usize) -> String {
    let ids = r.ids.chunks_exact(r.top_k.max(1)).nth(t).unwrap_or(&[]);
    let ids: Vec<String> = ids.iter().take(4).map(u32::to_string).collect();
    format!("{}:{}", r.layer, ids.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_come_first_and_ties_go_to_the_lower_id() {
        let row = [1.0, 5.0, 5.0, -2.0, 7.0];
        assert_eq!(best(&row, 3), [(4, 7.0), (1, 5.0), (2, 5.0)]);
        assert_eq!(best(&row, 1), [(4, 7.0)]);
        assert_eq!(best(&[2.0], 3), [(0, 2.0)]);
    }

    #[test]
    fn long_strips_keep_their_peaks() {
        assert_eq!(squeeze(&[1.0, 9.0, 2.0, 3.0, 4.0], 3), [9.0, 3.0, 4.0]);
        assert_eq!(squeeze(&[1.0], 8), [1.0]);
    }
}
