//! Thoughts and answers told apart in text that comes in pieces: what stands between `<think>` and `</think>`, or the marks that
//! a family has in their place.
//!
//! Does not own: whether a model thinks. Its template says so ([`Marks::of`]).
use crate::tools::pattern::partial;

/// What stands around thoughts.
#[derive(Debug, PartialEq, Eq)]
pub struct Marks {
    /// Before them.
    pub open: &'static str,
    /// After them.
    pub close: &'static str,
}

/// Whose they are, where not most families'.
static MARKS: [Marks; 7] = [
    Marks { open: "<seed:think>", close: "</seed:think>" },
    Marks { open: "<mm:think>", close: "</mm:think>" },
    // Mistral's.
    Marks { open: "[THINK]", close: "[/THINK]" },
    // Command A's.
    Marks { open: "<|START_THINKING|>", close: "<|END_THINKING|>" },
    // Apertus'.
    Marks { open: "<|inner_prefix|>", close: "<|inner_suffix|>" },
    // Gemma 4's.
    Marks { open: "<|channel>thought", close: "<channel|>" },
    Marks { open: "<think>", close: "</think>" },
];

impl Marks {
    /// Those of a model with this template; none where it knows of no thoughts.
    pub fn of(template: &str) -> Option<&'static Marks> {
        MARKS.iter().find(|m| template.contains(m.close) || template.contains(m.open))
    }

    /// Whether the thoughts of an answer to `prompt` have begun.
    pub fn opened(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open)
    }
}

/// Where in an answer the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing was said: thoughts may begin.
    Start,
    /// Between the mark and the first thought.
    Opened,
    Thought,
    /// Between the thoughts and the first word.
    Gap,
    Answer,
}

/// Splits one answer.
#[derive(Clone, Debug)]
pub struct Reasoning {
    marks: &'static Marks,
    place: Place,
    /// Text that may be part of a mark, or white space at an edge.
    held: String,
}

impl Reasoning {
    /// For an answer to `prompt`.
    pub fn new(marks: &'static Marks, prompt: &str) -> Reasoning {
        let place = if marks.opened(prompt) { Place::Opened } else { Place::Start };
        Reasoning { marks, place, held: String::new() }
    }

    /// Takes `piece`; appends what is certain to `thought` and `answer`. Together, all calls give the same whatever the pieces.
    pub fn push(&mut self, piece: &str, thought: &mut String, answer: &mut String) {
        self.held.push_str(piece);
        let Marks { open, close } = *self.marks;
        loop {
            match self.place {
                Place::Start => {
                    let text = self.held.trim_start();
                    if let Some(rest) = text.strip_prefix(open) {
                        self.held = rest.to_string();
                        self.place = Place::Opened;
                    } else if open.starts_with(text) {
                        return; // not yet known
                    } else {
                        self.place = Place::Answer;
                    }
                }
                Place::Opened => {
                    self.held = self.held.trim_start().to_string();
                    if self.held.is_empty() {
                        return;
                    }
                    self.place = Place::Thought;
                }
                Place::Thought => {
                    if let Some(at) = self.held.find(close) {
                        thought.push_str(self.held[..at].trim_end());
                        self.held.drain(..at + close.len());
                        self.place = Place::Gap;
                        continue;
                    }
                    // White space at the end belongs to the thought only if it goes on.
                    let mark = partial(&self.held, close);
                    let end = self.held[..self.held.len() - mark].trim_end().len();
                    thought.push_str(&self.held[..end]);
                    self.held.drain(..end);
                    return;
                }
                Place::Gap => {
                    self.held = self.held.trim_start().to_string();
                    if self.held.is_empty() {
                        return;
                    }
                    self.place = Place::Answer;
                }
                Place::Answer => {
                    answer.push_str(&self.held);
                    self.held.clear();
                    return;
                }
            }
        }
    }

    /// No more text comes: what was held back belongs where it stands.
    pub fn finish(&mut self, thought: &mut String, answer: &mut String) {
        match self.place {
            Place::Thought => thought.push_str(self.held.trim_end()),
            Place::Start | Place::Answer => answer.push_str(&self.held),
            Place::Opened | Place::Gap => {}
        }
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(prompt: &str, text: &str, size: usize) -> (String, String) {
        let mut r = Reasoning::new(Marks::of("… </think> …").unwrap(), prompt);
        let (mut thought, mut answer) = (String::new(), String::new());
        let letters: Vec<char> = text.chars().collect();
        for piece in letters.chunks(size) {
            let (mut a, mut b) = (String::new(), String::new());
            r.push(&piece.iter().collect::<String>(), &mut a, &mut b);
            thought.push_str(&a);
            answer.push_str(&b);
        }
        r.finish(&mut thought, &mut answer);
        (thought, answer)
    }

    #[test]
    fn thoughts_and_answers_are_told_apart_whatever_the_pieces() {
        for (prompt, text, thought, answer) in [
            ("q", "<think>\nwell\n</think>\n\nYes.", "well", "Yes."),
            ("q <think>\n", "well\n\nso\n</think>\n\nYes.", "well\n\nso", "Yes."),
            ("q", "Yes. <think> is a mark", "", "Yes. <think> is a mark"),
            ("q", "<think>\n\n</think>\n\nYes", "", "Yes"),
            ("q", "  <thin air", "", "  <thin air"),
            ("q", "<think>a </thin b", "a </thin b", ""),
            ("q", "<think>a < b </think>c </think> d", "a < b", "c </think> d"),
            ("q", "<thi", "", "<thi"),
            ("q", "", "", ""),
        ] {
            for size in 1..=text.len().max(1) {
                assert_eq!(split(prompt, text, size), (thought.to_string(), answer.to_string()), "{text:?} by {size}");
            }
        }
        assert!(Marks::of("{{ messages }}").is_none());
        assert_eq!(Marks::of("{% if x %}[THINK]{% endif %}").unwrap().close, "[/THINK]");
    }
}
