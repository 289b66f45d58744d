//! Tokens that have a text and an embedding that looks untrained ("glitch" tokens): equal to another's, nearly nothing, or
//! where the embeddings of tokens lie that no text can contain.
//!
//! Owns the three signs. None of them proves anything: what is found is for a person to try out. The third one is used only
//! where unused tokens lie close together and most others far from them (S. Land, M. Bartolo: "Fishing for Magikarp", 2024, has the idea of comparing with
//! tokens that are known to be unused).
use super::{Set, model_metadata, statistics::row_sums};
use crate::findings::{CONFIG_MISMATCH, Findings, Severity, UNTRAINED_TOKENS, shown};
use pondera_quant::Matrix;
use pondera_text::Tokenizer;
use pondera_weights::TensorInfo;
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// What the embedding is called, with what comes before it left out.
const EMBEDDINGS: &[&str] = &[
    "token_embd.weight",
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "embed_in.weight",
    "embeddings.weight",
    "embedding.weight",
];
/// Rows below this share of the median norm are nearly nothing.
const TINY: f32 = 0.03;
/// Fewer unused tokens say nothing of where such tokens lie.
const UNUSED_MIN: usize = 8;
/// Unused tokens must lie this much closer together than those with a text lie to them, or nearness says nothing.
const APART: f32 = 0.5;
/// Tokens that a finding lists.
const SHOWN_MAX: usize = 20;
/// Smaller vocabularies are those of tests.
const VOCABULARY_MIN: usize = 256;
/// Rows that a thread takes at a time.
const ROWS: usize = 256;

pub(super) fn look(set: &Set<'_>, threads: usize, findings: &mut Findings) {
    let w = set.weights;
    let Some(info) = embedding(w.tensors()) else { return };
    let opened = match model_metadata(w) {
        Some(gguf) => Tokenizer::from_gguf(gguf),
        None if set.main => Tokenizer::open(w.folder()),
        None => return,
    };
    // A vocabulary that is not there or broken is for others to tell.
    let (Ok(tokenizer), Ok(view)) = (opened, w.view(info)) else { return };
    let Some(m) = Matrix::new(&view) else { return };
    if tokenizer.vocab_size() > m.out() {
        let what = format!("the vocabulary has {} tokens, the embedding {} rows", tokenizer.vocab_size(), m.out());
        set.add_tensor(findings, (CONFIG_MISMATCH, Severity::Low), info, 0, what);
    }
    if m.out() < VOCABULARY_MIN {
        return;
    }
    let found = untrained(&m, &|id| role(&tokenizer, id), threads);
    if found.is_empty() {
        return;
    }
    let list: Vec<String> =
        found.iter().take(SHOWN_MAX).map(|f| format!("{} {}", f.0, text(&tokenizer, f.0))).collect();
    let more = found.len().saturating_sub(SHOWN_MAX);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let of = |sign: Sign| found.iter().filter(|f| f.1 == sign).count();
    let signs = [
        (Sign::Equal, "equal to another's"),
        (Sign::Tiny, "nearly nothing"),
        (Sign::Near, "where those of unused tokens are"),
    ];
    let signs: Vec<String> =
        signs.into_iter().filter(|s| of(s.0) > 0).map(|(s, what)| format!("{} {what}", of(s))).collect();
    let what = format!(
        "{} of {} tokens with a text have embeddings that look untrained ({}): {}{more}",
        found.len(),
        m.out(),
        signs.join(", "),
        list.join(", ")
    );
    set.add_tensor(findings, (UNTRAINED_TOKENS, Severity::Info), info, 0, what);
}

fn embedding(tensors: &[TensorInfo]) -> Option<&TensorInfo> {
    let named = |name: &str, e: &str| name.strip_suffix(e).is_some_and(|p| p.is_empty() || p.ends_with('.'));
    EMBEDDINGS
        .iter()
        .find_map(|e| tensors.iter().find(|t| named(&t.name, e) && t.shape.len() == 2 && t.strides.is_none()))
}

fn text(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    let text: String = String::from_utf8_lossy(&bytes).chars().take(32).collect();
    format!("\"{}\"", shown(&text))
}

/// What a token is to the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It stands for a text.
    Text,
    /// No text contains it: beyond the vocabulary, reserved, or a byte that UTF-8 has not.
    Unused,
    /// It controls, or who knows.
    Other,
}

fn role(tokenizer: &Tokenizer, id: u32) -> Role {
    let Some(bytes) = tokenizer.token_bytes(id).filter(|_| (id as usize) < tokenizer.vocab_size()) else {
        return Role::Unused;
    };
    let reserved = |b: &[u8]| {
        let s = String::from_utf8_lossy(b).to_lowercase();
        s.starts_with(['<', '[']) && ["unused", "reserved", "extra_id", "pad"].iter().any(|w| s.contains(w))
    };
    match bytes[..] {
        [0xc0 | 0xc1 | 0xf5..=0xff] => Role::Unused,
        [] => Role::Other,
        _ if reserved(&bytes) => Role::Unused,
        _ if tokenizer.is_special(id) => Role::Other,
        _ => Role::Text,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Equal,
    Tiny,
    Near,
}

/// Tokens with a text whose rows look untrained, each with the first sign that holds, by id.
fn untrained(m: &Matrix, role: &(dyn Fn(u32) -> Role + Sync), threads: usize) -> Vec<(u32, Sign)> {
    let rows = m.out();
    let ids = 0..u32::try_from(rows).unwrap_or(u32::MAX);
    let roles: Vec<Role> = ids.clone().map(role).collect();
    let hasher = RandomState::new();
    let each = over_rows(m, threads, &|o, values| {
        let (squares, finite) = row_sums(values);
        let hash = m.row(o).map_or(0, |row| hasher.hash_one(row));
        (if finite { squares.sqrt() as f32 } else { f32::NAN }, hash)
    });
    let mut norms: Vec<f32> = ids
        .clone()
        .zip(&each)
        .filter(|(id, e)| roles[*id as usize] == Role::Text && e.0 > 0.0)
        .map(|(_, e)| e.0)
        .collect();
    if norms.is_empty() {
        return Vec::new();
    }
    let middle = norms.len() / 2;
    let median = *norms.select_nth_unstable_by(middle, f32::total_cmp).1;
    let mut first: HashMap<u64, (u32, usize)> = HashMap::new();
    for id in ids.clone() {
        let known = first.entry(each[id as usize].1).or_insert((id, 0));
        known.1 += usize::from(m.row(known.0 as usize) == m.row(id as usize));
    }
    let near = near(m, &roles, threads);
    let sign = |id: u32| {
        let (norm, hash) = each[id as usize];
        match () {
            _ if norm < TINY * median => Some(Sign::Tiny),
            _ if first.get(&hash).is_some_and(|f| f.1 > 1 && m.row(f.0 as usize) == m.row(id as usize)) => {
                Some(Sign::Equal)
            }
            _ if near.get(id as usize).is_some_and(|n| *n) => Some(Sign::Near),
            _ => None,
        }
    };
    ids.filter(|id| roles[*id as usize] == Role::Text).filter_map(|id| Some((id, sign(id)?))).collect()
}

/// Which rows are as near to the mean of the unused ones as those are; empty where that says nothing.
fn near(m: &Matrix, roles: &[Role], threads: usize) -> Vec<bool> {
    let unused: Vec<usize> = (0..roles.len()).filter(|i| roles[*i] == Role::Unused).collect();
    if unused.len() < UNUSED_MIN {
        return Vec::new();
    }
    let mut mean = vec![0f64; m.inp()];
    let mut row = vec![0f32; m.inp()];
    for o in &unused {
        m.decode_rows(*o..*o + 1, &mut row);
        mean.iter_mut().zip(&row).for_each(|(s, v)| *s += f64::from(*v));
    }
    let mean: Vec<f32> = mean.iter().map(|s| (s / unused.len() as f64) as f32).collect();
    let distances = over_rows(m, threads, &|_, values| {
        values.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
        row_sums(values).0.sqrt() as f32
    });
    let mut own: Vec<f32> = unused.iter().map(|o| distances[*o]).collect();
    // A tenth of the unused may have been used all the same.
    let reach = (own.len() - 1) * 9 / 10;
    let reach = *own.select_nth_unstable_by(reach, f32::total_cmp).1 * 1.02;
    let is_text = |i: usize| roles[i] == Role::Text && distances[i].is_finite();
    let mut texts: Vec<f32> = (0..roles.len()).filter(|i| is_text(*i)).map(|i| distances[i]).collect();
    let middle = texts.len() / 2;
    if texts.is_empty() || reach > APART * *texts.select_nth_unstable_by(middle, f32::total_cmp).1 {
        return Vec::new();
    }
    (0..roles.len()).map(|i| is_text(i) && distances[i] <= reach).collect()
}

/// `f` of each row, decoded, by all threads.
fn over_rows<T: Send + Default + Clone>(
    m: &Matrix,
    threads: usize,
    f: &(dyn Fn(usize, &mut [f32]) -> T + Sync),
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut row, mut found) = (vec![0f32; m.inp()], Vec::new());
        loop {
            let start = next.fetch_add(ROWS, Ordering::Relaxed);
            if start >= m.out() {
                return found;
            }
            for o in start..(start + ROWS).min(m.out()) {
                m.decode_rows(o..o + 1, &mut row);
                found.push((o, f(o, &mut row)));
            }
        }
    };
    let mut all = vec![T::default(); m.out()];
    thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.clamp(1, m.out().div_ceil(ROWS).max(1)))
            .filter_map(|_| thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work).ok())
            .collect();
        let mut parts = vec![work()];
        parts.extend(helpers.into_iter().filter_map(|h| h.join().ok()));
        parts.into_iter().flatten().for_each(|(o, v)| all[o] = v);
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use pondera_quant::{Format, TensorView};

    const WIDTH: usize = 16;

    /// Rows of random values about 1 in norm, the first `unused` of them about one place.
    fn rows(unused: usize, n: usize) -> Vec<Vec<f32>> {
        let mut seed = 9u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / 16_777_216.0 - 0.5
        };
        let place = |o: usize, v: f32| if o < unused { 0.3 + 0.01 * v } else { v };
        (0..n).map(|o| (0..WIDTH).map(|_| place(o, next())).collect()).collect()
    }

    fn found(rows: &[Vec<f32>], unused: usize) -> Vec<(u32, Sign)> {
        let bytes: Vec<u8> = rows.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView { format: Format::F32, shape: vec![rows.len(), WIDTH], bytes: bytes.into() };
        let m = Matrix::new(&view).unwrap();
        let role = |id: u32| if (id as usize) < unused { Role::Unused } else { Role::Text };
        let one = untrained(&m, &role, 1);
        assert_eq!(one, untrained(&m, &role, 3));
        one
    }

    #[test]
    fn each_sign_of_an_untrained_token_is_found_and_nothing_else() {
        let honest = rows(20, 400);
        assert_eq!(found(&honest, 20), []);
        let mut odd = honest.clone();
        odd[100] = odd[200].clone();
        odd[150].iter_mut().for_each(|v| *v *= 0.01);
        odd[300] = odd[3].iter().map(|v| v * 1.0001).collect();
        odd[399] = vec![0.0; WIDTH];
        let want = [(100, Sign::Equal), (150, Sign::Tiny), (200, Sign::Equal), (300, Sign::Near), (399, Sign::Tiny)];
        assert_eq!(found(&odd, 20), want);
        // Too few unused tokens to know where they lie.
        assert!(!found(&odd, 5).iter().any(|f| f.1 == Sign::Near));
        // Where all rows are alike, nearness says nothing.
        assert_eq!(found(&rows(0, 400), 20), []);
        // What is no number is not taken for a row of nothing.
        let mut broken = honest;
        broken[50][3] = f32::NAN;
        assert_eq!(found(&broken, 20), []);
    }
}
