//! Whole sequences at once: every row's logits and what lies between, for tracing and scoring. Uses the same step
//! as generation, so it gives the same bits.
use crate::{
    Error, Logprob, Result,
    math::{all_finite, greatest, log_sum_exp},
    net::Net,
    sampler::Sampler,
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

/// A token's log probability, and the likeliest tokens in its place, best first.
pub type TokenLogprobs = (f64, Vec<Logprob>);

/// A sequence to be computed, and how.
pub(crate) struct Rows<'a> {
    pub tokens: &'a [u32],
    pub chunk: usize,
    pub trust: Trust<'a>,
    pub adapter: Option<crate::AdapterId>,
}

/// A pass over one sequence that hands out the logits chunk by chunk and keeps only the last of them. While it lives
/// its engine does nothing else; its pages go back with it.
pub struct Logits<'a> {
    scheduler: &'a mut Scheduler,
    net: &'a dyn Net,
    rows: Rows<'a>,
    pages: Vec<u32>,
    done: usize,
    /// `[chunk, vocab]`, of the last step.
    values: Vec<f32>,
}

impl<'a> Logits<'a> {
    /// Running sequences give way where pages are short.
    pub(crate) fn new(scheduler: &'a mut Scheduler, net: &'a dyn Net, rows: Rows<'a>) -> Result<Logits<'a>> {
        let pages = rows.tokens.len().div_ceil(PAGE);
        if pages > scheduler.pages.count() {
            return Err(Error::context(rows.tokens.len(), scheduler.pages.count() * PAGE));
        }
        scheduler.prefixes.make_free(pages, &mut scheduler.pages);
        if pages > scheduler.pages.free() {
            scheduler.preempt_all();
        }
        let pages = (0..pages).filter_map(|_| scheduler.pages.take()).collect();
        Ok(Logits { scheduler, net, rows, pages, done: 0, values: Vec::new() })
    }

    /// Columns of a row.
    pub fn vocab_size(&self) -> usize {
        self.net.vocab_size()
    }

    /// The next chunk's logits, `[chunk, vocab]`; none after the last token. Chunks are as long as the engine's options
    /// say, shorter where a vocabulary is large, and have one row at least.
    ///
    /// # Errors
    /// A row that is not finite names the layer where that began.
    pub fn next_rows(&mut self) -> Result<Option<&[f32]>> {
        let vocab = self.net.vocab_size().max(1);
        let fitting = (LOGIT_BYTES / (4 * vocab)).max(1);
        self.rows.chunk = self.rows.chunk.min(fitting);
        let Some(batch) = self.step(&|_, _| {})? else { return Ok(None) };
        match self.values.chunks_exact(vocab).position(|row| !all_finite(row)) {
            Some(r) => Err(blame(&*self.scheduler.ops, self.net, batch, r..r + 1)),
            None => Ok(Some(&self.values)),
        }
    }

    /// The hidden states of the next chunk into [`Logits::values`]: their columns, and the step; none after the last.
    pub(crate) fn next_hidden(&mut self) -> Result<Option<(usize, Batch)>> {
        let mut width = 0;
        let hidden = |net: &dyn Net, ops: &dyn Ops, batch: &Batch| {
            let x = net.hidden(ops, batch);
            width = x.cols.max(1);
            x
        };
        let batch = self.compute(hidden)?;
        Ok(batch.map(|b| (width, b)))
    }

    /// What the last step gave.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// What computes.
    pub(crate) fn ops(&self) -> &dyn Ops {
        &*self.scheduler.ops
    }

    /// Computes the next chunk's logits into `values`.
    fn step(&mut self, observe: &dyn Fn(Point, &Act)) -> Result<Option<Batch>> {
        self.compute(|net, ops, batch| net.forward(&Watch { inner: ops, watch: observe }, batch))
    }

    /// Computes something of the next chunk into `values`.
    fn compute(&mut self, what: impl FnOnce(&dyn Net, &dyn Ops, &Batch) -> Act) -> Result<Option<Batch>> {
        let tokens = self.rows.tokens;
        let part = &tokens[self.done..tokens.len().min(self.done + self.rows.chunk.max(1))];
        if part.is_empty() {
            return Ok(None);
        }
        let before = self.done;
        let mut batch = Batch::single(part, before as u32);
        self.done += part.len();
        for s in &mut batch.sequences {
            s.pages.clear();
            s.pages.extend_from_slice(&self.pages);
            // Length-dependent rotary frequencies are those of the whole sequence, whatever the chunk.
            s.rope_length = tokens.len() as u32;
            s.adapter = self.rows.adapter.map(|a| a.0);
            self.scheduler.slots.apart(before, s);
        }
        let ops = &*self.scheduler.ops;
        let rows = what(self.net, ops, &batch);
        self.values.clear();
        ops.read(&rows, &mut self.values);
        drop(rows);
        (self.rows.trust)()?;
        if self.done < tokens.len() {
            ops.settle(SETTLE);
        }
        Ok(Some(batch))
    }
}

impl Drop for Logits<'_> {
    fn drop(&mut self) {
        self.scheduler.pages.release(&mut self.pages);
    }
}

impl Scheduler {
    /// Lays a forward pass over `rows` open.
    pub fn trace(&mut self, net: &dyn Net, rows: Rows<'_>, options: TraceOptions) -> Result<Trace> {
        let trace = RefCell::new(Trace { vocab_size: net.vocab_size(), ..Trace::default() });
        let observe = |point: Point, x: &Act| match point {
            Point::Hidden(i) if options.hidden => trace.borrow_mut().add_hidden(i, x),
            Point::Experts(i) if options.experts => trace.borrow_mut().add_experts(i, x),
            _ => {}
        };
        let mut pass = Logits::new(self, net, rows)?;
        while pass.step(&observe)?.is_some() {
            trace.borrow_mut().logits.extend_from_slice(&pass.values);
        }
        let mut trace = trace.into_inner();
        trace.experts.sort_by_key(|r| r.layer);
        Ok(trace)
    }

    /// Scores every token of `rows` but the first, in order, into `out`.
    pub fn score(&mut self, net: &dyn Net, rows: Rows<'_>, out: &mut Vec<Score>) -> Result<()> {
        let mut next = rows.tokens.iter().skip(1);
        let mut pass = Logits::new(self, net, rows)?;
        while let Some(values) = pass.next_rows()? {
            for (row, &next) in values.chunks_exact(net.vocab_size().max(1)).zip(next.by_ref()) {
                let nll = log_sum_exp(row) - f64::from(row[next as usize]);
                out.push(Score { nll, greedy: greatest(row).0 == next });
            }
        }
        Ok(())
    }
}

impl Scheduler {
    /// For every token of `rows` but the first its log probability and the `top` likeliest.
    pub fn prompt_logprobs(&mut self, net: &dyn Net, rows: Rows<'_>, top: usize) -> Result<Vec<TokenLogprobs>> {
        let mut next = rows.tokens.iter().skip(1);
        let (mut sampler, mut out) = (Sampler::default(), Vec::new());
        let mut pass = Logits::new(self, net, rows)?;
        while let Some(values) = pass.next_rows()? {
            for (row, &next) in values.chunks_exact(net.vocab_size().max(1)).zip(next.by_ref()) {
                let logprob = sampler.logprobs(row, next, top);
                out.push((logprob, sampler.top.clone()));
            }
        }
        Ok(out)
    }
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
