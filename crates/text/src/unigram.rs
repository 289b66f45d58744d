//! The best cut of a text under a unigram model: Viterbi over code points, linear in the text.

use crate::trie::Trie;

/// A piece of the best cut: its token, or `None` where no token covers the code point.
pub(crate) type Piece = (Option<u32>, usize, usize);

/// How sums of scores are held: the reference implementations differ, and ties fall accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// SentencePiece.
    Single,
    /// `tokenizers` and llama.cpp.
    Double,
}

/// Cuts `text`. `score` gives the score of a token (with its length in bytes) or `None` if it may not be used.
pub(crate) fn best_cut(
    text: &str,
    trie: &Trie,
    unknown: f64,
    precision: Precision,
    score: impl Fn(u32, usize) -> Option<f64>,
) -> Vec<Piece> {
    #[derive(Clone, Copy)]
    struct Best {
        from: usize,
        token: Option<u32>,
        score: f64,
        set: bool,
    }
    let round = |x: f64| if precision == Precision::Single { f64::from(x as f32) } else { x };
    let mut best = vec![Best { from: 0, token: None, score: 0.0, set: false }; text.len() + 1];
    let bytes = text.as_bytes();
    for (start, c) in text.char_indices() {
        let here = best[start].score;
        let mut single = false;
        trie.prefixes(&bytes[start..], |len, token| {
            let Some(score) = score(token, len) else { return };
            single |= len == c.len_utf8();
            let candidate = round(here + score);
            let end = &mut best[start + len];
            if !end.set || candidate > end.score {
                *end = Best { from: start, token: Some(token), score: candidate, set: true };
            }
        });
        if !single {
            let candidate = round(here + unknown);
            let end = &mut best[start + c.len_utf8()];
            if !end.set || candidate > end.score {
                *end = Best { from: start, token: None, score: candidate, set: true };
            }
        }
    }
    let mut pieces = Vec::new();
    let mut end = text.len();
    while end > 0 {
        let piece = best[end];
        pieces.push((piece.token, piece.from, end));
        end = piece.from;
    }
    pieces.reverse();
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_sum_wins_and_unknown_characters_stand_alone() {
        let words = ["a", "b", "ab", "abc", "c"];
        let scores = [-1.0, -1.0, -1.5, -9.0, -1.0];
        let trie = Trie::new(words.iter().enumerate().map(|(n, w)| (n as u32, w.as_bytes())));
        let cut = best_cut("abc你", &trie, -20.0, Precision::Double, |t, _| scores.get(t as usize).copied());
        assert_eq!(cut, [(Some(2), 0, 2), (Some(4), 2, 3), (None, 3, 6)]);
    }
}
