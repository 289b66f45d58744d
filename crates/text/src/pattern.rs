//! The regular expressions of vocabularies: a backtracking matcher with a step budget, for patterns with lookaround,
//! possessive quantifiers and Unicode classes. Knows nothing of tokens. Character classes are resolved by
//! `regex-syntax`; runs of one class, which make up nearly all of these patterns, keep one backtracking entry however
//! long they are, so long runs cost neither memory nor time.

mod compile;
mod parse;

use crate::error::{Error, ErrorKind, Result};

/// Whose reading of a pattern counts where readings differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Oniguruma's Ruby syntax, as `tokenizer.json` is read: `{n,m}+` repeats a greedy group; `^` and `$` know lines.
    Oniguruma,
    /// `fancy-regex`, as tiktoken reads: `{n,m}+` is possessive, `$` is the end of the text.
    Fancy,
}

/// A set of characters: a bitmap for ASCII, sorted ranges for the rest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    ascii: u128,
    ranges: Vec<(u32, u32)>,
}

impl Class {
    pub(crate) fn from_ranges(ranges: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut class = Class::default();
        for (low, high) in ranges {
            for c in low..=high.min(127) {
                class.ascii |= 1 << c;
            }
            if high >= 128 {
                class.ranges.push((low.max(128), high));
            }
        }
        class
    }

    pub(crate) fn contains(&self, c: char) -> bool {
        let c = u32::from(c);
        if c < 128 {
            return self.ascii >> c & 1 == 1;
        }
        let above = self.ranges.partition_point(|r| r.0 <= c);
        above > 0 && self.ranges.get(above - 1).is_some_and(|r| c <= r.1)
    }

    /// The class that a pattern such as `\p{Mn}` names.
    pub(crate) fn named(pattern: &str) -> Self {
        parse::resolve(pattern, false).unwrap_or_default()
    }
}

/// Which first characters a branch can begin with; lets an alternation skip branches without trying them.
#[derive(Clone, Copy, Debug)]
struct First {
    ascii: u128,
    other: bool,
    empty: bool,
}

impl First {
    fn admits(&self, next: Option<char>) -> bool {
        match next {
            _ if self.empty => true,
            None => false,
            Some(c) if c.is_ascii() => self.ascii >> u32::from(c) & 1 == 1,
            Some(_) => self.other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Greedy,
    Lazy,
    Possessive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Assert {
    TextStart,
    TextEnd,
    TextEndOrNewline,
    LineStart,
    LineEnd,
    Word,
    NotWord,
}

#[derive(Clone, Debug)]
enum Inst {
    One(usize),
    Run {
        class: usize,
        min: u32,
        max: u32,
        mode: Mode,
    },
    Split {
        first: usize,
        second: usize,
        filter: First,
    },
    Jump(usize),
    /// The body stands behind and ends in `Match`; the program goes on at `next`.
    Look {
        behind: Option<usize>,
        negate: bool,
        next: usize,
    },
    Atomic {
        next: usize,
    },
    Assert(Assert),
    LoopStart(usize),
    LoopEnd(usize),
    Match,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    program: Vec<Inst>,
    classes: Vec<Class>,
    word: Class,
    slots: usize,
    first: First,
}

enum Frame {
    Try { at: usize, pos: usize },
    Shrink { at: usize, least: usize, pos: usize },
    Grow { at: usize, class: usize, left: u32, pos: usize },
    Slot { slot: usize, old: usize },
}

struct Machine<'p, 't> {
    pattern: &'p Pattern,
    text: &'t str,
    frames: Vec<Frame>,
    slots: Vec<usize>,
    steps: u64,
}

/// Steps allowed for a text: far above what any published pattern needs, far below what a hostile one would take.
fn budget(bytes: usize) -> u64 {
    2_000_000 + 512 * bytes as u64
}

impl Pattern {
    /// Compiles `source`; an error names what is not understood.
    pub(crate) fn new(source: &str, flavour: Flavour) -> Result<Self> {
        compile::compile(source, flavour)
    }

    /// All matches in `text`, in order, without overlaps, as byte ranges. Empty matches are reported too.
    pub(crate) fn matches(&self, text: &str) -> Result<Vec<(usize, usize)>> {
        let mut out = Vec::new();
        let mut machine = Machine {
            pattern: self,
            text,
            frames: Vec::new(),
            slots: vec![usize::MAX; self.slots],
            steps: budget(text.len()),
        };
        let mut pos = 0;
        while pos <= text.len() {
            let next = char_at(text, pos);
            let end = if self.first.admits(next) { machine.run(0, pos)? } else { None };
            match end {
                Some(end) if end > pos => {
                    out.push((pos, end));
                    pos = end;
                }
                Some(_) => {
                    out.push((pos, pos));
                    pos += next.map_or(1, char::len_utf8);
                }
                None => pos += next.map_or(1, char::len_utf8),
            }
        }
        Ok(out)
    }

    /// Cuts `text` into its matches and what lies between them; empty matches cut without making a piece.
    pub(crate) fn pieces(&self, text: &str) -> Result<Vec<(usize, usize)>> {
        let mut out = Vec::new();
        let mut from = 0;
        for (start, end) in self.matches(text)? {
            if start > from {
                out.push((from, start));
            }
            if end > start {
                out.push((start, end));
            }
            from = end;
        }
        if from < text.len() {
            out.push((from, text.len()));
        }
        Ok(out)
    }
}

#[inline]
fn char_at(text: &str, pos: usize) -> Option<char> {
    match text.as_bytes().get(pos) {
        Some(b) if b.is_ascii() => Some(char::from(*b)),
        Some(_) => text.get(pos..).and_then(|t| t.chars().next()),
        None => None,
    }
}

fn char_before(text: &str, pos: usize) -> Option<char> {
    text.get(..pos).and_then(|t| t.chars().next_back())
}

impl Machine<'_, '_> {
    /// Matches the program from `at` at `pos`; gives the end of the match. Frames above the entry height are its own.
    fn run(&mut self, mut at: usize, mut pos: usize) -> Result<Option<usize>> {
        let base = self.frames.len();
        loop {
            self.steps = self.steps.checked_sub(1).ok_or_else(|| {
                Error::new(ErrorKind::Limit, "the vocabulary's pattern needs more steps than allowed on this text")
            })?;
            let ok = match &self.pattern.program[at] {
                Inst::Match => {
                    self.unwind(base);
                    return Ok(Some(pos));
                }
                Inst::One(class) => match char_at(self.text, pos) {
                    Some(c) if self.pattern.classes[*class].contains(c) => {
                        pos += c.len_utf8();
                        at += 1;
                        true
                    }
                    _ => false,
                },
                Inst::Run { class, min, max, mode } => match self.take_run(*class, *min, *max, *mode, at + 1, pos) {
                    Some(end) => {
                        pos = end;
                        at += 1;
                        true
                    }
                    None => false,
                },
                Inst::Split { first, second, filter } => {
                    if filter.admits(char_at(self.text, pos)) {
                        self.frames.push(Frame::Try { at: *second, pos });
                        at = *first;
                    } else {
                        at = *second;
                    }
                    true
                }
                Inst::Jump(to) => {
                    at = *to;
                    true
                }
                Inst::Look { behind, negate, next } => {
                    let (negate, next) = (*negate, *next);
                    let start = match behind {
                        None => Some(pos),
                        Some(count) => self.back(pos, *count),
                    };
                    let behind = behind.is_some();
                    let found = match start {
                        Some(start) => self.run(at + 1, start)?.is_some_and(|end| !behind || end == pos),
                        None => false,
                    };
                    at = next;
                    found != negate
                }
                Inst::Atomic { next } => {
                    let next = *next;
                    match self.run(at + 1, pos)? {
                        Some(end) => {
                            pos = end;
                            at = next;
                            true
                        }
                        None => false,
                    }
                }
                Inst::Assert(assert) => {
                    let holds = self.holds(*assert, pos);
                    at += 1;
                    holds
                }
                Inst::LoopStart(slot) => {
                    self.frames.push(Frame::Slot { slot: *slot, old: self.slots[*slot] });
                    self.slots[*slot] = pos;
                    at += 1;
                    true
                }
                Inst::LoopEnd(slot) => {
                    let moved = self.slots[*slot] != pos;
                    at += 1;
                    moved
                }
            };
            if !ok {
                match self.backtrack(base) {
                    Some(state) => (at, pos) = state,
                    None => return Ok(None),
                }
            }
        }
    }

    #[inline]
    fn take_run(&mut self, class: usize, min: u32, max: u32, mode: Mode, next: usize, pos: usize) -> Option<usize> {
        let set = &self.pattern.classes[class];
        let (mut end, mut count, mut least) = (pos, 0, pos);
        let limit = if mode == Mode::Lazy { min } else { max };
        while count < limit {
            match char_at(self.text, end) {
                Some(c) if set.contains(c) => end += c.len_utf8(),
                _ => break,
            }
            count += 1;
            if count == min {
                least = end;
            }
        }
        self.steps = self.steps.saturating_sub(u64::from(count) / 4);
        if count < min {
            return None;
        }
        match mode {
            Mode::Greedy if end > least => self.frames.push(Frame::Shrink { at: next, least, pos: end }),
            Mode::Lazy if max > min => self.frames.push(Frame::Grow { at: next, class, left: max - min, pos: end }),
            _ => {}
        }
        Some(end)
    }

    fn backtrack(&mut self, base: usize) -> Option<(usize, usize)> {
        while self.frames.len() > base {
            match self.frames.pop()? {
                Frame::Try { at, pos } => return Some((at, pos)),
                Frame::Slot { slot, old } => self.slots[slot] = old,
                Frame::Shrink { at, least, pos } => {
                    let shorter = pos - char_before(self.text, pos).map_or(1, char::len_utf8);
                    if shorter > least {
                        self.frames.push(Frame::Shrink { at, least, pos: shorter });
                    }
                    return Some((at, shorter));
                }
                Frame::Grow { at, class, left, pos } => {
                    if let Some(c) = char_at(self.text, pos).filter(|c| self.pattern.classes[class].contains(*c)) {
                        let longer = pos + c.len_utf8();
                        if left > 1 {
                            self.frames.push(Frame::Grow { at, class, left: left - 1, pos: longer });
                        }
                        return Some((at, longer));
                    }
                }
            }
        }
        None
    }

    fn unwind(&mut self, base: usize) {
        while self.frames.len() > base {
            if let Some(Frame::Slot { slot, old }) = self.frames.pop() {
                self.slots[slot] = old;
            }
        }
    }

    fn back(&self, mut pos: usize, count: usize) -> Option<usize> {
        for _ in 0..count {
            pos -= char_before(self.text, pos)?.len_utf8();
        }
        Some(pos)
    }

    fn holds(&self, assert: Assert, pos: usize) -> bool {
        let (before, after) = (char_before(self.text, pos), char_at(self.text, pos));
        let word = |c: Option<char>| c.is_some_and(|c| self.pattern.word.contains(c));
        match assert {
            Assert::TextStart => pos == 0,
            Assert::TextEnd => after.is_none(),
            Assert::TextEndOrNewline => after.is_none() || (after == Some('\n') && pos + 1 == self.text.len()),
            Assert::LineStart => pos == 0 || (before == Some('\n') && after.is_some()),
            Assert::LineEnd => after.is_none() || after == Some('\n'),
            Assert::Word => word(before) != word(after),
            Assert::NotWord => word(before) == word(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(source: &str, flavour: Flavour, text: &str) -> Vec<String> {
        let pattern = Pattern::new(source, flavour).expect(source);
        pattern.pieces(text).expect(text).iter().map(|&(a, b)| text[a..b].to_string()).collect()
    }

    #[test]
    fn published_patterns_split_as_published() {
        let gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
        let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let cl100k = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
        type Case = (&'static str, Flavour, &'static str, &'static [&'static str]);
        let cases: [Case; 9] = [
            (gpt2, Flavour::Oniguruma, "it's  10 cats!", &["it", "'s", " ", " 10", " cats", "!"]),
            (llama3, Flavour::Oniguruma, "IT'S 12345\n\n x", &["IT", "'S", " ", "123", "45", "\n\n", " x"]),
            (cl100k, Flavour::Fancy, "a1234  \n b  ", &["a", "123", "4", "  \n", " b", "  "]),
            (r"\p{N}{1,3}+", Flavour::Oniguruma, "1234567", &["1234567"]),
            (r"\p{N}{1,3}+", Flavour::Fancy, "1234567", &["123", "456", "7"]),
            (r"(?=(\d{3})+(?!\d))", Flavour::Fancy, "1234567", &["1", "234", "567"]),
            (r"\d{1,3}(?=(?:\d{3})*\b)", Flavour::Fancy, "1234567", &["1", "234", "567"]),
            (r"[\p{L}&&[^\p{Han}]]+|\p{Han}+", Flavour::Fancy, "ab你好c", &["ab", "你好", "c"]),
            (r"(?<=a)b|(?<!x)c", Flavour::Fancy, "abxccb", &["a", "b", "xc", "c", "b"]),
        ];
        for (source, flavour, text, want) in cases {
            assert_eq!(split(source, flavour, text), want, "{source} on {text:?}");
        }
    }

    #[test]
    fn lazy_nested_and_empty_loops_end() {
        assert_eq!(split("<.*?>", Flavour::Fancy, "<a><b>"), ["<a>", "<b>"]);
        assert_eq!(split("(a*)*b", Flavour::Fancy, "aaab"), ["aaab"]);
        assert_eq!(split("(?>a+)ab|aa", Flavour::Fancy, "aaab"), ["aa", "ab"]);
    }

    #[test]
    fn a_hostile_pattern_ends_in_an_error() {
        let pattern = Pattern::new("(a+)+$", Flavour::Fancy).expect("compiles");
        let text = "a".repeat(60) + "b";
        assert_eq!(pattern.matches(&text).unwrap_err().kind(), ErrorKind::Limit);
        for bad in
            ["(", "a)", "[a", r"\k<a>", "a{99999}", "*a", r"(?<n>a)\1", &"(".repeat(5000), "(((a{900}){900}){900})"]
        {
            assert!(Pattern::new(bad, Flavour::Fancy).is_err(), "{bad:.20}");
        }
    }

    #[test]
    fn long_runs_are_linear() {
        let llama3 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let pattern = Pattern::new(llama3, Flavour::Fancy).expect("compiles");
        for unit in ["a", " ", "A", "!", "你", "\n", " a"] {
            let text = unit.repeat(300_000 / unit.len());
            assert!(pattern.matches(&text).is_ok(), "{unit:?}");
        }
    }
}
