//! Stop strings across the borders of tokens: text is held back while it may still become one.

/// Looks for the first of several strings in text that comes in pieces.
#[derive(Debug, Default)]
pub struct Stops {
    /// With their places among those that were asked for.
    stops: Vec<(usize, String)>,
    /// Text that may be the start of a stop string.
    held: String,
}

impl Stops {
    /// Ends text before the first of `stops`; empty ones never match.
    pub fn new(stops: &[String]) -> Stops {
        let stops = stops.iter().cloned().enumerate().filter(|(_, s)| !s.is_empty());
        Stops { stops: stops.collect(), held: String::new() }
    }

    /// Takes `piece` and appends what can be shown to `shown`. The place of a stop string that is complete: what comes
    /// before it has been shown, nothing may follow.
    pub fn push(&mut self, piece: &str, shown: &mut String) -> Option<usize> {
        if self.stops.is_empty() {
            shown.push_str(piece);
            return None;
        }
        self.held.push_str(piece);
        // Of several, the one that is complete first counts, so that the size of the pieces does not matter.
        let found = self.stops.iter().filter_map(|(i, s)| self.held.find(&**s).map(|at| (at + s.len(), at, *i)));
        let hit = found.min();
        let end = hit.map_or_else(|| self.held.len() - self.longest_start(), |(_, at, _)| at);
        shown.push_str(&self.held[..end]);
        self.held.drain(..end);
        if hit.is_some() {
            self.held.clear();
        }
        hit.map(|(_, _, i)| i)
    }

    /// No more text comes: what was held back is shown.
    pub fn finish(&mut self, shown: &mut String) {
        shown.push_str(&self.held);
        self.held.clear();
    }

    /// Bytes of the longest end of the held text that is the start of a stop string.
    fn longest_start(&self) -> usize {
        let longest = self.stops.iter().map(|(_, s)| s.len() - 1).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let starts = self.held.char_indices().map(|(i, _)| i).filter(|i| *i >= from);
        let is_start = |end: &str| self.stops.iter().any(|(_, s)| s.starts_with(end));
        starts.map(|i| &self.held[i..]).find(|end| is_start(end)).map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut s = Stops::new(&stops);
        let mut out = Vec::new();
        for p in pieces {
            let mut shown = String::new();
            let hit = s.push(p, &mut shown).is_some();
            out.push(shown);
            if hit {
                return (out, true);
            }
        }
        let mut rest = String::new();
        s.finish(&mut rest);
        out.push(rest);
        (out, false)
    }

    #[test]
    fn stops_are_found_across_pieces() {
        type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static str], bool);
        let cases: [Case; 9] = [
            (&[], &["ab", "c"], &["ab", "c", ""], false),
            (&["END"], &["aE", "N", "Db"], &["a", "", ""], true),
            (&["END"], &["aE", "N", "x"], &["a", "", "ENx", ""], false),
            (&["END"], &["EEN", "D"], &["E", ""], true),
            (&["aab"], &["aaa", "b"], &["a", ""], true),
            (&["END"], &["xEN"], &["x", "EN"], false),
            (&["bc", "abcd"], &["ab", "cd"], &["", "a"], true),
            (&["né", "é!"], &["n", "é"], &["", ""], true),
            (&["\n\n"], &["a\n", "b\n", "\n"], &["a", "\nb", ""], true),
        ];
        for (stops, pieces, want, hit) in cases {
            let (got, stopped) = all(stops, pieces);
            assert_eq!(
                (got.iter().map(String::as_str).collect::<Vec<_>>(), stopped),
                (want.to_vec(), hit),
                "{stops:?}"
            );
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_same_text() {
        let text = "one twwo two END twot two-three";
        for stop in ["two", "two-", "three!", "ENDE", "t two-"] {
            let stops = [stop.to_string(), format!("{stop} and more")];
            let want = text.split(stop).next().unwrap();
            for size in 1..9 {
                let (mut s, mut shown, mut hit) = (Stops::new(&stops), String::new(), false);
                for p in text.as_bytes().chunks(size) {
                    hit = hit || s.push(std::str::from_utf8(p).unwrap(), &mut shown).is_some();
                }
                s.finish(&mut shown);
                assert_eq!((shown.as_str(), hit), (want, text.contains(stop)), "{stop} in pieces of {size}");
            }
        }
    }
}
