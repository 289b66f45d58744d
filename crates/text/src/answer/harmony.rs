//! gpt-oss: an answer is several messages, each with a channel and maybe a recipient in its head.
//! `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`
use super::Said;
use crate::tools::{CallPart, in_name, pattern::partial};

/// Tokens that stand between the parts.
pub(super) const MARKS: [&str; 7] =
    ["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"];
/// What ends a message's text.
const ENDS: [&str; 5] = ["<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>"];
/// Before the name of a function.
const FUNCTIONS: &str = "to=functions.";

/// Whether a template writes so.
pub(super) fn is(template: &str) -> bool {
    ["<|channel|>", "<|message|>", "<|start|>", "analysis"].iter().all(|mark| template.contains(mark))
}

/// Splits one answer.
#[derive(Clone, Debug)]
pub(super) struct Harmony {
    held: String,
    place: Place,
    /// Something may be called.
    calls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Head,
    Thought,
    Text,
    Arguments,
}

impl Harmony {
    /// For an answer to `prompt`, which ends within a head or, where a message is continued, within its text.
    pub fn new(prompt: &str, calls: bool) -> Harmony {
        let mut out = Harmony { held: String::new(), place: Place::Head, calls };
        let head = prompt.rfind("<|start|>").map_or("", |at| &prompt[at..]);
        if head.contains("<|message|>") {
            out.push(head, &mut Said::default());
            out.held.clear();
        }
        out
    }

    pub fn push(&mut self, piece: &str, out: &mut Said) {
        self.held.push_str(piece);
        loop {
            if self.place == Place::Head {
                let Some(end) = self.held.find("<|message|>") else { return };
                let head: String = self.held.drain(..end + "<|message|>".len()).collect();
                self.begin(&head[..end], out);
                continue;
            }
            let end = ENDS.iter().filter_map(|e| self.held.find(e)).min();
            let sure = end.unwrap_or_else(|| {
                let held = ENDS.iter().map(|e| partial(&self.held, e)).max().unwrap_or(0);
                self.held.len() - held
            });
            let text: String = self.held.drain(..sure).collect();
            self.say(text, out);
            if end.is_none() {
                return;
            }
            self.place = Place::Head;
        }
    }

    /// No more text comes.
    pub fn finish(&mut self, out: &mut Said) {
        let rest = std::mem::take(&mut self.held);
        // Half a head says nothing.
        if self.place != Place::Head {
            self.say(rest, out);
        }
    }

    fn say(&self, text: String, out: &mut Said) {
        match self.place {
            _ if text.is_empty() => {}
            Place::Thought => out.thought.push_str(&text),
            Place::Arguments => out.calls.push(CallPart::Arguments(text)),
            Place::Head | Place::Text => out.text.push_str(&text),
        }
    }

    /// A message with this head begins.
    fn begin(&mut self, head: &str, out: &mut Said) {
        let channel = head.rfind("<|channel|>").map_or("", |at| head[at + "<|channel|>".len()..].trim_start());
        if let Some(at) = head.rfind(FUNCTIONS).filter(|_| self.calls) {
            let name = head[at + FUNCTIONS.len()..].chars().take_while(|c| in_name(*c)).collect();
            out.calls.push(CallPart::Begin { name });
            self.place = Place::Arguments;
        } else if channel.starts_with("analysis") {
            self.place = Place::Thought;
        } else {
            self.place = Place::Text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(prompt: &str, text: &str, size: usize) -> Said {
        let (mut h, mut all) = (Harmony::new(prompt, true), Said::default());
        let letters: Vec<char> = text.chars().collect();
        let mut add = |said: Said| {
            all.thought.push_str(&said.thought);
            all.text.push_str(&said.text);
            for part in said.calls {
                match (part, all.calls.last_mut()) {
                    (CallPart::Arguments(more), Some(CallPart::Arguments(text))) => text.push_str(&more),
                    (part, _) => all.calls.push(part),
                }
            }
        };
        for piece in letters.chunks(size) {
            let mut out = Said::default();
            h.push(&piece.iter().collect::<String>(), &mut out);
            add(out);
        }
        let mut out = Said::default();
        h.finish(&mut out);
        add(out);
        all
    }

    #[test]
    fn channels_are_told_apart_whatever_the_pieces() {
        let call = |name: &str, arguments: &str| {
            vec![CallPart::Begin { name: name.into() }, CallPart::Arguments(arguments.into())]
        };
        let said = |thought: &str, text: &str, calls| Said { thought: thought.into(), text: text.into(), calls };
        let start = "<|start|>assistant";
        for (prompt, text, wanted) in [
            (
                start,
                "<|channel|>analysis<|message|>well <|x<|end|><|start|>assistant<|channel|>final<|message|>Yes.",
                said("well <|x", "Yes.", vec![]),
            ),
            (
                start,
                "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"a\": 1}<|call|>",
                said("", "", call("get_weather", "{\"a\": 1}")),
            ),
            (start, " to=functions.f<|channel|>commentary json<|message|>{}", said("", "", call("f", "{}"))),
            (start, "<|channel|>commentary<|message|>I look.<|end|>", said("", "I look.", vec![])),
            (start, "<|channel|>ana", said("", "", vec![])),
            ("<|start|>assistant<|channel|>final<|message|>So ", "it is.", said("", "it is.", vec![])),
        ] {
            for size in [1, 2, 5, 100] {
                assert_eq!(read(prompt, text, size), wanted, "{text} by {size}");
            }
        }
    }
}
