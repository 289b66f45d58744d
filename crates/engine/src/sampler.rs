//! From a row of logits to a token: [`Sampling`] says in what order. The choice depends on the row, the request
//! and the token's position alone; all sums run in a fixed order, so it is the same on every platform.
use crate::{
    Logprob, Sampling,
    math::{exp, exp_sum, greatest, uniform},
};
use std::cmp::Ordering;

/// Which tokens a sequence holds, for penalties.
#[derive(Debug, Default)]
pub struct Seen {
    /// Per id: `PROMPT` where it stands in the prompt, plus its count in the completion.
    counts: Vec<u32>,
    /// The ids with a count above 0.
    ids: Vec<u32>,
}

const PROMPT: u32 = 1 << 31;

impl Seen {
    /// What a prompt has shown, if the request has penalties at all. `room` ids can follow without an allocation.
    pub fn new(sampling: &Sampling, vocab: usize, prompt: &[u32], room: usize) -> Seen {
        if !sampling.penalises() {
            return Seen::default();
        }
        let mut s = Seen { counts: vec![0; vocab], ids: Vec::with_capacity(vocab.min(prompt.len() + room)) };
        for &id in prompt {
            s.note(id, |n| n | PROMPT);
        }
        s
    }

    /// One more of `id` in the completion.
    pub fn add(&mut self, id: u32) {
        if !self.counts.is_empty() {
            self.note(id, |n| n + 1);
        }
    }

    /// The latest [`Seen::add`], of `id`, did not happen.
    pub fn take_back(&mut self, id: u32) {
        if let Some(n) = self.counts.get_mut(id as usize) {
            *n -= 1;
            if *n == 0 {
                self.ids.pop();
            }
        }
    }

    fn note(&mut self, id: u32, update: fn(u32) -> u32) {
        let n = &mut self.counts[id as usize];
        if *n == 0 {
            self.ids.push(id);
        }
        *n = update(*n);
    }

    fn penalise(&self, s: &Sampling, logits: &mut [f32]) {
        for &id in &self.ids {
            let count = self.counts[id as usize] & !PROMPT;
            let v = &mut logits[id as usize];
            *v = if *v > 0.0 { *v / s.repetition_penalty } else { *v * s.repetition_penalty };
            if count > 0 {
                *v -= count as f32 * s.frequency_penalty + s.presence_penalty;
            }
        }
    }
}

/// A token that may still be chosen.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    /// `(logit - greatest) / temperature`.
    x: f64,
    /// `e^x`: its probability, not normalised.
    weight: f64,
}

fn by_id(a: &Candidate, b: &Candidate) -> Ordering {
    a.id.cmp(&b.id)
}

/// Likeliest first, ties by lower id.
fn by_weight(a: &Candidate, b: &Candidate) -> Ordering {
    b.x.total_cmp(&a.x).then(a.id.cmp(&b.id))
}

fn total(c: &[Candidate]) -> f64 {
    c.iter().map(|c| c.weight).sum()
}

/// Working memory of sampling: grows to the vocabulary once, then allocates nothing.
#[derive(Debug, Default)]
pub struct Sampler {
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
    /// The likeliest tokens of the last call of [`Sampler::logprobs`], best first.
    pub top: Vec<Logprob>,
}

impl Sampler {
    /// The token at `position` of its sequence, one of `allowed` (bits by id) where there are such. `None` if every token is
    /// forbidden. The row is finite.
    pub fn choose(
        &mut self,
        row: &[f32],
        s: &Sampling,
        seen: &Seen,
        position: u64,
        allowed: Option<&[u32]>,
    ) -> Option<u32> {
        if s.logit_bias.is_empty() && !s.penalises() && allowed.is_none() {
            return self.draw(row, s, position);
        }
        let mut logits = std::mem::take(&mut self.logits);
        logits.clear();
        logits.extend_from_slice(row);
        for &(id, bias) in &s.logit_bias {
            logits[id as usize] += bias;
        }
        seen.penalise(s, &mut logits);
        for (i, v) in logits.iter_mut().enumerate().filter(|_| allowed.is_some()) {
            let word = allowed.and_then(|a| a.get(i / 32)).copied().unwrap_or(0);
            if word >> (i % 32) & 1 == 0 {
                *v = f32::NEG_INFINITY;
            }
        }
        let id = self.draw(&logits, s, position);
        self.logits = logits;
        id
    }

    fn draw(&mut self, logits: &[f32], s: &Sampling, position: u64) -> Option<u32> {
        let (best, max) = greatest(logits);
        if max == f32::NEG_INFINITY {
            return None;
        }
        if s.temperature == 0.0 || s.top_k == 1 {
            return Some(best);
        }
        self.collect(logits, max, s);
        self.keep_top_p(s.top_p);
        // The likeliest has weight 1.
        self.candidates.retain(|c| c.weight >= f64::from(s.min_p));
        self.keep_typical(s.typical_p);
        self.candidates.sort_unstable_by(by_id);
        let aim = uniform(s.seed, position) * total(&self.candidates);
        let mut sum = 0.0;
        let hit = self.candidates.iter().find(|c| {
            sum += c.weight;
            sum > aim
        });
        hit.or(self.candidates.last()).map(|c| c.id)
    }

    /// Fills the candidates with the `top_k` likeliest, or all that have any weight, in order of id.
    fn collect(&mut self, logits: &[f32], max: f32, s: &Sampling) {
        let (max, t) = (f64::from(max), f64::from(s.temperature));
        let all = logits.iter().enumerate();
        let x = |v: f32| (f64::from(v) - max) / t;
        let c = &mut self.candidates;
        c.clear();
        c.extend(all.map(|(i, &v)| Candidate { id: i as u32, x: x(v), weight: 0.0 }).filter(|c| c.x > -708.0));
        if s.top_k > 0 && s.top_k < c.len() {
            c.select_nth_unstable_by(s.top_k - 1, by_weight);
            c.truncate(s.top_k);
            c.sort_unstable_by(by_id);
        }
        for c in c {
            c.weight = exp(c.x);
        }
    }

    fn keep_top_p(&mut self, p: f32) {
        if p >= 1.0 {
            return;
        }
        let c = &mut self.candidates;
        let all = total(c);
        // All candidates below (1 - p) / n together weigh less than 1 - p, so the cut comes before them. Half
        // of that leaves room for rounding; it only spares sorting the vocabulary.
        let least = 0.5 * (1.0 - f64::from(p)) * all / c.len().max(1) as f64;
        c.retain(|c| c.weight >= least);
        c.sort_unstable_by(by_weight);
        cut(c, f64::from(p) * all);
    }

    fn keep_typical(&mut self, p: f32) {
        if p >= 1.0 {
            return;
        }
        let c = &mut self.candidates;
        let all = total(c);
        // The surprise of a token is ln all - x, the entropy its mean; so the distance between them is |x - mean x|.
        let mean = c.iter().map(|c| c.weight * c.x).sum::<f64>() / all;
        let distance = |c: &Candidate| (c.x - mean).abs();
        c.sort_unstable_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.id.cmp(&b.id)));
        cut(c, f64::from(p) * all);
    }

    /// The log probability of `chosen` under the raw row; the `n` likeliest go to [`Sampler::top`].
    pub fn logprobs(&mut self, row: &[f32], chosen: u32, n: usize) -> f64 {
        let max = greatest(row).1;
        let norm = f64::from(max) + libm::log(exp_sum(row, max));
        let logprob = |v: f32| f64::from(v) - norm;
        self.top.clear();
        if n > 0 {
            let c = &mut self.candidates;
            c.clear();
            c.extend(row.iter().enumerate().map(|(i, &v)| Candidate { id: i as u32, x: f64::from(v), weight: 0.0 }));
            if n < c.len() {
                c.select_nth_unstable_by(n - 1, by_weight);
                c.truncate(n);
            }
            c.sort_unstable_by(by_weight);
            self.top.extend(c.iter().map(|c| Logprob { id: c.id, logprob: logprob(row[c.id as usize]) }));
        }
        logprob(row[chosen as usize])
    }
}

/// Keeps the first candidates until their weights reach `aim`; at least one.
fn cut(c: &mut Vec<Candidate>, aim: f64) {
    let mut sum = 0.0;
    let reached = c.iter().position(|c| {
        sum += c.weight;
        sum >= aim
    });
    if let Some(last) = reached {
        c.truncate(last + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids that can be drawn at all, over many positions.
    fn support(row: &[f32], s: &Sampling) -> Vec<u32> {
        let mut sampler = Sampler::default();
        let seen = Seen::new(s, row.len(), &[], 0);
        let mut ids: Vec<u32> = (0..4000).filter_map(|p| sampler.choose(row, s, &seen, p, None)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn probabilities(p: &[f64]) -> Vec<f32> {
        p.iter().map(|p| p.ln() as f32).collect()
    }

    #[test]
    fn each_filter_keeps_what_it_says() {
        let row = probabilities(&[0.05, 0.4, 0.1, 0.3, 0.15]);
        let warm = Sampling { temperature: 1.0, ..Default::default() };
        let cases: [(Sampling, &[u32]); 11] = [
            (Sampling { ..warm.clone() }, &[0, 1, 2, 3, 4]),
            (Sampling { top_k: 2, ..warm.clone() }, &[1, 3]),
            (Sampling { top_k: 99, ..warm.clone() }, &[0, 1, 2, 3, 4]),
            (Sampling { top_p: 0.69, ..warm.clone() }, &[1, 3]),
            (Sampling { top_p: 0.71, ..warm.clone() }, &[1, 3, 4]),
            (Sampling { top_p: 0.0, ..warm.clone() }, &[1]),
            (Sampling { min_p: 0.3, ..warm.clone() }, &[1, 3, 4]),
            (Sampling { min_p: 1.0, ..warm.clone() }, &[1]),
            // top-p works on what top-k left: 0.4 / 0.7 is below 0.6, so both stay.
            (Sampling { top_k: 2, top_p: 0.6, ..warm.clone() }, &[1, 3]),
            // Entropy 1.39 nats; surprises 3.0, 0.92, 2.30, 1.20, 1.90: nearest are 3, then 1, then 4.
            (Sampling { typical_p: 0.2, ..warm.clone() }, &[3]),
            (Sampling { typical_p: 0.65, ..warm }, &[1, 3]),
        ];
        for (s, want) in cases {
            assert_eq!(support(&row, &s), want, "{s:?}");
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let p = [0.05, 0.4, 0.1, 0.3, 0.15];
        let row = probabilities(&p);
        let s = Sampling { temperature: 1.0, seed: 11, ..Default::default() };
        let (mut sampler, seen, n) = (Sampler::default(), Seen::default(), 40_000);
        let mut counts = [0.0; 5];
        for position in 0..n {
            counts[sampler.choose(&row, &s, &seen, position, None).unwrap() as usize] += 1.0 / n as f64;
        }
        for (got, want) in counts.iter().zip(p) {
            assert!((got - want).abs() < 0.01, "{counts:?}");
        }
        // At temperature 2 the odds are square roots.
        let s = Sampling { temperature: 2.0, ..s };
        let ones = (0..n).filter(|p| sampler.choose(&row, &s, &seen, *p, None) == Some(1)).count() as f64 / n as f64;
        let want = 0.4f64.sqrt() / p.iter().map(|p| p.sqrt()).sum::<f64>();
        assert!((ones - want).abs() < 0.01, "{ones} {want}");
    }

    #[test]
    fn penalties_and_bias() {
        let row = [2.0, 1.9, -1.0, -1.05];
        let pick = |s: Sampling, prompt: &[u32], done: &[u32]| {
            let mut seen = Seen::new(&s, 4, prompt, 8);
            done.iter().for_each(|id| seen.add(*id));
            Sampler::default().choose(&row, &s, &seen, 0, None)
        };
        let s = Sampling::default();
        assert_eq!(pick(s.clone(), &[0], &[0]), Some(0));
        // Repetition counts the prompt, frequency and presence the completion alone.
        assert_eq!(pick(Sampling { repetition_penalty: 1.2, ..s.clone() }, &[0], &[]), Some(1));
        assert_eq!(pick(Sampling { presence_penalty: 0.2, ..s.clone() }, &[0], &[]), Some(0));
        assert_eq!(pick(Sampling { presence_penalty: 0.2, ..s.clone() }, &[], &[0, 0]), Some(1));
        assert_eq!(pick(Sampling { frequency_penalty: 0.06, ..s.clone() }, &[], &[0]), Some(0));
        assert_eq!(pick(Sampling { frequency_penalty: 0.06, ..s.clone() }, &[], &[0, 0]), Some(1));
        // A negative logit falls when it is multiplied.
        let low = Sampling {
            repetition_penalty: 1.2,
            logit_bias: vec![(0, f32::NEG_INFINITY), (1, f32::NEG_INFINITY)],
            ..s.clone()
        };
        assert_eq!(pick(low.clone(), &[2], &[]), Some(3));
        assert_eq!(pick(Sampling { logit_bias: vec![(3, 5.0)], ..s.clone() }, &[], &[]), Some(3));
        let all = (0..4).map(|i| (i, f32::NEG_INFINITY)).collect();
        assert_eq!(pick(Sampling { logit_bias: all, ..s.clone() }, &[], &[]), None);
        let warm = Sampling { temperature: 1.0, ..low };
        assert!(pick(warm, &[], &[]).filter(|i| *i >= 2).is_some());
    }

    #[test]
    fn a_draw_depends_on_seed_and_position_alone() {
        let row: Vec<f32> = (0..500).map(|i| ((i * 7919) % 503) as f32 / 100.0).collect();
        let s = Sampling { temperature: 1.0, top_p: 0.9, seed: 3, ..Default::default() };
        let seen = Seen::default();
        let mut one = Sampler::default();
        let forward: Vec<_> = (0..50).map(|p| one.choose(&row, &s, &seen, p, None)).collect();
        let backward: Vec<_> = (0..50).rev().map(|p| Sampler::default().choose(&row, &s, &seen, p, None)).collect();
        assert_eq!(forward, backward.into_iter().rev().collect::<Vec<_>>());
        let other = Sampling { seed: 4, ..s };
        assert_ne!(forward, (0..50).map(|p| one.choose(&row, &other, &seen, p, None)).collect::<Vec<_>>());
    }

    #[test]
    fn logprobs_are_of_the_raw_row() {
        let row = probabilities(&[0.05, 0.4, 0.1, 0.3, 0.15]);
        let mut s = Sampler::default();
        assert!((s.logprobs(&row, 2, 3) - 0.1f64.ln()).abs() < 1e-6);
        let ids: Vec<u32> = s.top.iter().map(|l| l.id).collect();
        assert_eq!(ids, [1, 3, 4]);
        assert!((s.top[1].logprob - 0.3f64.ln()).abs() < 1e-6);
        s.logprobs(&row, 0, 0);
        assert!(s.top.is_empty());
    }
}
