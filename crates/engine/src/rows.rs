//! Whole sequences at once: every row's logits and what lies between, for tracing and scoring. Uses the same step
//! as generation, so it gives the same bits.
use crate::{
    Error, Result,
    math::{all_finite, greatest, log_sum_exp},
    net::Net,
    scheduler::{SETTLE, Scheduler, Trust, blame},
};
use pondera_ops::{Act, Batch, Ops, PAGE, Point, trace::Watch};
use std::cell::RefCell;

/// Most bytes of logits that a step of scoring makes.
const LOGIT_BYTES: usize = 32 << 20;

/// What a forward pass over a sequence showed. Matrices are row-major, a row per token.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// `[tokens, vocab]`.
    pub logits: Vec<f32>,
    /// Columns of `logits`.
    pub vocab_size: usize,
    /// `hidden[i]` is the input of layer `i`, the last one the output of the last layer before the final norm:
    /// `[tokens, hidden_size]` each.
    pub hidden: Vec<Vec<f32>>,
    /// Columns of `hidden`.
    pub hidden_size: usize,
    /// Of the layers that have experts, ascending.
    pub experts: Vec<Routing>,
}

/// The choices of a layer's router.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routing {
    /// The layer.
    pub layer: usize,
    /// Experts per token.
    pub top_k: usize,
    /// `[tokens, top_k]`, in order of falling score.
    pub ids: Vec<u32>,
    /// `[tokens, top_k]`.
    pub weights: Vec<f32>,
}

/// What to collect besides logits, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceOptions {
    /// Rows per step; none: as the engine's options say. Changes no bit.
    pub chunk: Option<usize>,
    /// Collect hidden states.
    pub hidden: bool,
    /// Collect routings.
    pub experts: bool,
}

/// How well a token was foreseen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// `-ln p` of the token, given those before it.
    pub nll: f64,
    /// Whether it was the likeliest.
    pub greedy: bool,
}

/// Who gets a chunk's backend, batch and logits.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&dyn Ops, &Batch, &[f32]) -> Result<()>;

/// A sequence to be computed, and how.
pub(crate) struct Rows<'a> {
    pub tokens: &'a [u32],
    pub chunk: usize,
    pub trust: Trust<'a>,
}

impl Scheduler {
    /// Computes a sequence in chunks. After each, `visit` gets the batch, its first row's position and its logits,
    /// a row per token. Running sequences give way where pages are short.
    pub fn each_chunk(
        &mut self,
        net: &dyn Net,
        rows: &Rows<'_>,
        observe: &dyn Fn(Point, &Act),
        visit: Visit<'_>,
    ) -> Result<()> {
        let pages = rows.tokens.len().div_ceil(PAGE);
        if pages > self.pages.count() {
            return Err(Error::context(rows.tokens.len(), self.pages.count() * PAGE));
        }
        self.prefixes.make_free(pages, &mut self.pages);
        if pages > self.pages.free() {
            self.preempt_all();
        }
        let mut held: Vec<u32> = (0..pages).filter_map(|_| self.pages.take()).collect();
        let done = run_chunks(&*self.ops, net, rows, &held, observe, visit);
        self.pages.release(&mut held);
        done
    }

    /// Lays a forward pass over `rows` open.
    pub fn trace(&mut self, net: &dyn Net, rows: &Rows<'_>, options: TraceOptions) -> Result<Trace> {
        let trace = RefCell::new(Trace { vocab_size: net.vocab_size(), ..Trace::default() });
        let observe = |point: Point, x: &Act| match point {
            Point::Hidden(i) if options.hidden => trace.borrow_mut().add_hidden(i, x),
            Point::Experts(i) if options.experts => trace.borrow_mut().add_experts(i, x),
            _ => {}
        };
        self.each_chunk(net, rows, &observe, &mut |_, _, logits| {
            trace.borrow_mut().logits.extend_from_slice(logits);
            Ok(())
        })?;
        let mut trace = trace.into_inner();
        trace.experts.sort_by_key(|r| r.layer);
        Ok(trace)
    }

    /// Scores every token of `rows` but the first, in order, into `out`.
    pub fn score(&mut self, net: &dyn Net, rows: &Rows<'_>, out: &mut Vec<Score>) -> Result<()> {
        let vocab = net.vocab_size();
        let fitting = (LOGIT_BYTES / (4 * vocab.max(1))).max(1);
        let rows = Rows { chunk: rows.chunk.min(fitting), ..*rows };
        let mut at = 0;
        self.each_chunk(net, &rows, &|_, _| {}, &mut |ops, batch, logits| {
            for (r, values) in logits.chunks_exact(vocab.max(1)).enumerate() {
                if !all_finite(values) {
                    return Err(blame(ops, net, batch, r..r + 1));
                }
                at += 1;
                if let Some(&next) = rows.tokens.get(at) {
                    let nll = log_sum_exp(values) - f64::from(values[next as usize]);
                    out.push(Score { nll, greedy: greatest(values).0 == next });
                }
            }
            Ok(())
        })
    }
}

fn run_chunks(
    ops: &dyn Ops,
    net: &dyn Net,
    rows: &Rows<'_>,
    pages: &[u32],
    observe: &dyn Fn(Point, &Act),
    visit: Visit<'_>,
) -> Result<()> {
    let watch = Watch { inner: ops, watch: observe };
    let mut values = Vec::new();
    let mut start = 0;
    for part in rows.tokens.chunks(rows.chunk.max(1)) {
        let mut batch = Batch::single(part, start);
        start += part.len() as u32;
        for s in &mut batch.sequences {
            s.pages.clear();
            s.pages.extend_from_slice(pages);
            // Length-dependent rotary frequencies are those of the whole sequence, whatever the chunk.
            s.rope_length = rows.tokens.len() as u32;
        }
        let logits = net.forward(&watch, &batch);
        values.clear();
        ops.read(&logits, &mut values);
        drop(logits);
        (rows.trust)()?;
        visit(ops, &batch, &values)?;
        if (start as usize) < rows.tokens.len() {
            ops.settle(SETTLE);
        }
    }
    Ok(())
}

impl Trace {
    fn add_hidden(&mut self, i: usize, x: &Act) {
        if self.hidden.len() <= i {
            self.hidden.resize_with(i + 1, Vec::new);
        }
        self.hidden_size = x.cols;
        self.hidden[i].extend_from_slice(&x.data());
    }

    fn add_experts(&mut self, layer: usize, x: &Act) {
        let top_k = x.cols / 2;
        let known = self.experts.iter().position(|r| r.layer == layer);
        let at = known.unwrap_or(self.experts.len());
        if known.is_none() {
            self.experts.push(Routing { layer, top_k, ..Routing::default() });
        }
        let r = &mut self.experts[at];
        for row in x.data().chunks_exact(x.cols.max(1)) {
            let (ids, weights) = row.split_at(top_k);
            r.ids.extend(ids.iter().map(|id| *id as u32)); // ids are exact in f32
            r.weights.extend_from_slice(weights);
        }
    }
}
