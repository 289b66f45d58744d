//! Thoughts and answers told apart in text that comes in pieces: what stands between `<think>` and `</think>`.
//!
//! Does not own: whether a model thinks. Its template says so ([`Reasoning::of`]).

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

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
    place: Place,
    /// Text that may be part of a mark, or white space at an edge.
    held: String,
}

impl Reasoning {
    /// For an answer to `prompt` by a model with this template; none where the template knows of no thoughts.
    pub fn of(template: &str, prompt: &str) -> Option<Reasoning> {
        let opened = prompt.trim_end().ends_with(OPEN);
        let knows = template.contains(CLOSE) || template.contains(OPEN);
        let place = if opened { Place::Opened } else { Place::Start };
        (opened || knows).then(|| Reasoning { place, held: String::new() })
    }

    /// Takes `piece`; appends what is certain to `thought` and `answer`. Together, all calls give the same whatever the pieces.
    pub fn push(&mut self, piece: &str, thought: &mut String, answer: &mut String) {
        self.held.push_str(piece);
        loop {
            match self.place {
                Place::Start => {
                    let text = self.held.trim_start();
                    if let Some(rest) = text.strip_prefix(OPEN) {
                        self.held = rest.to_string();
                        self.place = Place::Opened;
                    } else if OPEN.starts_with(text) {
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
                    if let Some(at) = self.held.find(CLOSE) {
                        thought.push_str(self.held[..at].trim_end());
                        self.held.drain(..at + CLOSE.len());
                        self.place = Place::Gap;
                        continue;
                    }
                    // White space at the end belongs to the thought only if it goes on.
                    let mark = (1..CLOSE.len()).rev().find(|n| self.held.ends_with(&CLOSE[..*n])).unwrap_or(0);
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
        let mut r = Reasoning::of("… </think> …", prompt).unwrap();
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
        assert!(Reasoning::of("{{ messages }}", "q").is_none());
    }
}
