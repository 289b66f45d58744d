//! The draft model: guesses the next tokens of sequences with a smaller model of the same vocabulary.
//!
//! It draws its guesses as the sequence itself would, with the request's sampling and the random number of the place,
//! so that two models that nearly agree nearly always draw alike. Owns its forward passes and its KV cache; whether a
//! guess is right is the scheduler's to say, and what it says rolls this cache back. No trouble here fails a request:
//! without guesses, it is only slower.
use crate::{
    Error, Result,
    kv::{Ended, Kin, Pages, Prefixes},
    math::all_finite,
    net::Net,
    sampler::Sampler,
    sequence::Sequence,
};
use pondera_ops::{Batch, KvType, Ops, PAGE, Settled};
use pondera_text::Tokenizer;
use std::{
    iter::empty,
    mem::{swap, take},
    time::Duration,
};

/// What a draft model is made of.
pub(crate) struct DraftParts {
    pub net: Box<dyn Net>,
    pub ops: Box<dyn Ops>,
    /// Fails once what was read from files cannot be trusted any more.
    pub trust: Box<dyn Fn() -> Result<()>>,
    /// Positions that it has, if they end.
    pub positions_end: Option<usize>,
}

/// A sequence's place in the draft model's cache.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    pages: Vec<u32>,
    /// Positions whose keys and values stand in the cache.
    cached: usize,
    /// Rotary epoch of what is cached.
    epoch: u32,
    /// Rows of the pass under way.
    rows: usize,
    /// Guesses that it makes in this step; 0 for none, or no more.
    width: usize,
    /// The model cannot follow this sequence.
    lost: bool,
}

impl Shadow {
    /// Only the first `positions` are those of the sequence.
    pub fn roll_back(&mut self, positions: usize) {
        self.cached = self.cached.min(positions);
    }
}

pub(crate) struct Drafter {
    parts: DraftParts,
    pages: Pages,
    prefixes: Prefixes,
    /// Most rows of a pass.
    max_rows: usize,
    batch: Batch,
    logits: Vec<f32>,
    /// A row of logits as wide as the sequence's own model's.
    row: Vec<f32>,
    sampler: Sampler,
    /// Page lists between passes, so that none is freed.
    spare: Vec<pondera_ops::Sequence>,
    failed: bool,
}

impl Drafter {
    pub fn new(parts: DraftParts, kv: KvType, pages: usize, max_rows: usize, max_prefixes: usize) -> Drafter {
        parts.ops.reserve(parts.net.caches(), kv, pages);
        Drafter {
            parts,
            pages: Pages::new(pages),
            prefixes: Prefixes::new(max_prefixes, false),
            max_rows,
            batch: Batch::default(),
            logits: Vec::new(),
            row: Vec::new(),
            sampler: Sampler::default(),
            spare: Vec::new(),
            failed: false,
        }
    }

    /// [`Ops::settle`] of its weights.
    pub fn settle(&self, budget: Duration) -> Settled {
        self.parts.ops.settle(budget)
    }

    /// Guesses for every sequence that has room for guesses and none yet. `vocab`: of the model that verifies them.
    pub fn draft(&mut self, running: &mut [Sequence], vocab: usize) {
        if self.failed {
            return;
        }
        for s in running.iter_mut() {
            s.shadow.width = self.begin(s);
        }
        loop {
            self.fill_batch(running);
            if self.batch.is_empty() {
                break;
            }
            let logits = self.parts.net.forward(&*self.parts.ops, &self.batch);
            self.logits.clear();
            self.parts.ops.read(&logits, &mut self.logits);
            drop(logits);
            self.choose(running, vocab);
            if let Err(e) = (self.parts.trust)() {
                tracing::warn!("the draft model guesses no more: {e}");
                self.failed = true;
                running.iter_mut().for_each(|s| s.shadow.width = 0);
            }
        }
        for s in running.iter_mut().filter(|s| s.guess.room > 0) {
            // The sampler saw the guesses as if they stood there.
            let Sequence { guess, seen, shadow, .. } = s;
            if shadow.rows > 0 {
                guess.tokens.iter().rev().for_each(|id| seen.take_back(*id));
            }
        }
    }

    /// How many tokens to guess for `s`; finds the pages for them.
    fn begin(&mut self, s: &mut Sequence) -> usize {
        let tenant = s.request.tenant;
        let shadow = &mut s.shadow;
        shadow.rows = 0;
        let asked = s.request.speculation.is_some_and(|s| s.model);
        if !asked || shadow.lost || s.guess.room == 0 || !s.guess.tokens.is_empty() {
            return 0;
        }
        let length = s.tokens.len();
        let left = self.parts.positions_end.map_or(usize::MAX, |end| end.saturating_sub(length));
        let width = s.guess.width(crate::speculation::MODEL).min(left);
        if width == 0 {
            return 0;
        }
        let epoch = self.parts.net.rope_epoch(length as u32);
        if epoch != shadow.epoch {
            (shadow.epoch, shadow.cached) = (epoch, 0);
            self.pages.release(&mut shadow.pages);
        }
        if shadow.pages.is_empty() {
            let kin = Kin { epoch, tenant, adapter: None };
            let shared = self.prefixes.share(&s.tokens, kin, empty(), &mut shadow.pages, &mut self.pages);
            // Whole pages: of a part there is no copy here.
            self.pages.release_after(&mut shadow.pages, shared.positions / PAGE);
            shadow.cached = shared.positions / PAGE * PAGE;
        }
        let wanted = (length + width).div_ceil(PAGE).saturating_sub(shadow.pages.len());
        self.prefixes.make_free(wanted, &mut self.pages);
        if wanted > self.pages.free() {
            return 0;
        }
        shadow.pages.extend((0..wanted).filter_map(|_| self.pages.take()));
        width
    }

    /// A pass: of each sequence what the model has not seen of it, its guesses included. A long part comes in pieces,
    /// one a step.
    fn fill_batch(&mut self, running: &mut [Sequence]) {
        let Drafter { batch, spare, max_rows, parts, .. } = self;
        batch.tokens.clear();
        batch.positions.clear();
        batch.logit_rows.clear();
        let vocab = parts.net.vocab_size();
        for s in running.iter_mut() {
            let known = s.tokens.len() + s.guess.tokens.len();
            let shadow = &mut s.shadow;
            let first = batch.tokens.len();
            if s.guess.tokens.len() >= shadow.width || first >= *max_rows {
                shadow.width = 0;
                continue;
            }
            let from = shadow.cached;
            let rows = (known - from).min(*max_rows - first);
            let all = s.tokens.iter().chain(&s.guess.tokens);
            batch.tokens.extend(all.skip(from).take(rows));
            if batch.tokens[first..].iter().any(|t| *t as usize >= vocab) {
                batch.tokens.truncate(first);
                (shadow.width, shadow.lost) = (0, true);
                continue;
            }
            batch.positions.extend(from as u32..(from + rows) as u32);
            let mut part = spare.pop().unwrap_or_default();
            swap(&mut part.pages, &mut shadow.pages);
            part.rows = first..first + rows;
            part.rope_length = known as u32;
            batch.sequences.push(part);
            shadow.rows = rows;
            if from + rows == known {
                batch.logit_rows.push(batch.tokens.len() as u32 - 1);
            }
        }
    }

    /// Draws a guess for every sequence whose last row was computed, and gives the page lists back.
    fn choose(&mut self, running: &mut [Sequence], vocab: usize) {
        let own = self.parts.net.vocab_size();
        let mut rows = self.logits.chunks_exact(own.max(1));
        let parts = running.iter_mut().filter(|s| s.shadow.width > 0);
        for (s, mut part) in parts.zip(self.batch.sequences.drain(..)) {
            swap(&mut part.pages, &mut s.shadow.pages);
            self.spare.push(part);
            s.shadow.cached += s.shadow.rows;
            let at = s.tokens.len() + s.guess.tokens.len();
            if s.shadow.cached < at {
                s.shadow.width = 0; // the rest of its text comes in later steps
                continue;
            }
            let Some(mut row) = rows.next() else { continue };
            if !all_finite(row) {
                (s.shadow.width, s.shadow.lost) = (0, true);
                continue;
            }
            if own != vocab {
                // Widths may differ by padding that no token stands for.
                self.row.clear();
                self.row.extend_from_slice(&row[..own.min(vocab)]);
                self.row.resize(vocab, f32::NEG_INFINITY);
                row = &self.row;
            }
            match self.sampler.choose(row, &s.request.sampling, &s.seen, at as u64, None) {
                Some(id) => {
                    s.guess.tokens.push(id);
                    s.seen.add(id);
                }
                None => s.shadow.width = 0,
            }
        }
    }

    /// A sequence has ended: its beginning is kept for later ones that begin alike.
    pub fn end(&mut self, s: &mut Sequence) {
        let Shadow { mut pages, cached, epoch, .. } = take(&mut s.shadow);
        if pages.is_empty() {
            return;
        }
        let cached = cached.min(s.cached);
        if cached < PAGE {
            self.pages.release(&mut pages);
        } else {
            let tokens = s.tokens[..cached].to_vec();
            // Its own cache knows nothing of adapters.
            let kin = Kin { adapter: None, ..s.kin(epoch) };
            self.prefixes.keep(Ended { tokens, pages, cached, kin, ..Ended::default() }, &mut self.pages);
        }
    }

    /// Every page is free or belongs to a prefix that gives way.
    #[cfg(test)]
    pub fn all_pages_are_back(&mut self) -> bool {
        self.prefixes.make_free(self.pages.count(), &mut self.pages);
        self.pages.free() == self.pages.count()
    }
}

/// Whether two vocabularies are the same, token by token.
pub(crate) fn same_vocabulary(model: Option<&Tokenizer>, draft: Option<&Tokenizer>, widths: [usize; 2]) -> Result<()> {
    let differ = |what: String| {
        Err(Error::invalid(format!("draft model: another vocabulary: {what}"))
            .hint("take a smaller model of the same family"))
    };
    let (a, b) = match (model, draft) {
        (Some(a), Some(b)) => (a, b),
        (None, None) if widths[0] == widths[1] => return Ok(()),
        (None, None) => return differ(format!("{} tokens, the model has {}", widths[1], widths[0])),
        (Some(_), None) => return differ("the model has one, the draft model none".into()),
        (None, Some(_)) => return differ("the draft model has one, the model none".into()),
    };
    for id in 0..a.vocab_size().max(b.vocab_size()) as u32 {
        let (one, other) = (a.token_bytes(id), b.token_bytes(id));
        if one != other || a.is_special(id) != b.is_special(id) {
            let shown = |bytes: Option<Vec<u8>>, special| match bytes {
                Some(b) => format!("{:?}{}", String::from_utf8_lossy(&b), if special { " (special)" } else { "" }),
                None => "nothing".to_string(),
            };
            return differ(format!(
                "token {id} is {}, in the model {}",
                shown(other, b.is_special(id)),
                shown(one, a.is_special(id))
            ));
        }
    }
    Ok(())
}
