//! What stands in an answer: thoughts, text and calls of tools, as the model's template has them.
//!
//! A [`Style`] is known once per model; of each answer a [`Reader`] tells the parts as they come, and [`Wanted`] becomes a grammar
//! that the answer cannot leave ([`crate::Compiler::answer`]).
mod harmony;
mod lark;
mod literals;
#[cfg(test)]
mod tests;

pub(crate) use lark::{Lark, Specials, guided};

use crate::{
    Tokenizer,
    chat::ChatTemplate,
    reasoning::{Marks, Reasoning},
    tools::{CallPart, CallReader, Form, Ids, Syntax, Tool, Turns},
};
use harmony::Harmony;
use serde_json::Value;
use std::sync::Arc;

/// How a model writes answers.
#[derive(Clone, Debug)]
pub struct Style {
    pub(crate) marks: Option<&'static Marks>,
    pub(crate) calls: Option<Calls>,
    /// How its template takes calls of earlier turns.
    turns: Turns,
    /// Special tokens that stand around thoughts.
    thoughts: Arc<[u32]>,
    /// Those, and the ones that stand in calls.
    all: Arc<[u32]>,
}

/// How calls are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Calls {
    Syntax(&'static Syntax),
    /// Channels with recipients: gpt-oss.
    Harmony,
}

/// What an answer shall be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// JSON of this schema in place of free text.
    pub text: Option<Value>,
    /// What may be called.
    pub tools: Vec<Tool>,
    /// Something is called, and there is no text.
    pub must_call: bool,
    /// No more than one call.
    pub one_call: bool,
}

/// What came of a piece of an answer, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What is thought.
    pub thought: String,
    /// What is said.
    pub text: String,
    /// What is called.
    pub calls: Vec<CallPart>,
}

impl Said {
    /// Nothing came.
    pub fn is_empty(&self) -> bool {
        self.thought.is_empty() && self.text.is_empty() && self.calls.is_empty()
    }
}

/// Tells the parts of one answer.
#[derive(Clone, Debug)]
pub struct Reader(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Plain(Option<Reasoning>, Option<Box<CallReader>>),
    Harmony(Harmony),
}

impl Style {
    /// Of a model with this template and vocabulary.
    pub fn of(template: &ChatTemplate, tokenizer: &Tokenizer) -> Style {
        let (plain, with_tools) = (template.source(false), template.source(true));
        let harmony = harmony::is(with_tools);
        let marks = if harmony { None } else { Marks::of(plain) };
        let found = if harmony { None } else { Syntax::of(template) };
        let calls = if harmony { Some(Calls::Harmony) } else { found.map(|(s, _)| Calls::Syntax(s)) };
        let turns = found.map_or_else(Turns::default, |(_, turns)| turns);
        let mut around: Vec<&str> = marks.map_or(Vec::new(), |m| vec![m.open, m.close]);
        if harmony {
            around.extend(harmony::MARKS);
        }
        let thoughts: Arc<[u32]> = specials(tokenizer, &around).into();
        if let Some(Calls::Syntax(s)) = calls {
            around.extend([s.open, s.between, s.close]);
            match s.call {
                Form::Json(all) => around.push(all),
                Form::Elements { head, parameter, tail } => around.extend([head, parameter, tail]),
                Form::Literals { head, tail, notation } => {
                    around.extend([head, tail]);
                    around.extend(notation.quotes);
                }
            }
        }
        let all = specials(tokenizer, &around).into();
        Style { marks, calls, turns, thoughts, all }
    }

    /// Whether the thoughts of an answer to `prompt` have begun.
    pub fn opened(&self, prompt: &str) -> bool {
        self.marks.is_some_and(|m| m.opened(prompt))
    }

    /// Whether it can call tools.
    pub fn calls(&self) -> bool {
        self.calls.is_some()
    }

    /// Whether it has thoughts of its own.
    pub fn thinks(&self) -> bool {
        self.marks.is_some() || matches!(self.calls, Some(Calls::Harmony))
    }

    /// How its template takes calls of earlier turns.
    pub fn turns(&self) -> Turns {
        self.turns
    }

    /// What ids of calls look like.
    pub fn ids(&self) -> Ids {
        match self.calls {
            Some(Calls::Syntax(s)) => s.ids,
            _ => Ids::Any,
        }
    }

    /// Special tokens whose text the reader needs.
    pub fn shown(&self, tools: bool) -> Arc<[u32]> {
        if tools { self.all.clone() } else { self.thoughts.clone() }
    }

    /// For an answer to `prompt` that may call `tools`; none where all of it is text.
    pub fn reader(&self, prompt: &str, tools: &[Tool]) -> Option<Reader> {
        if let Some(Calls::Harmony) = self.calls {
            return Some(Reader(Kind::Harmony(Harmony::new(prompt, !tools.is_empty()))));
        }
        let reasoning = self.marks.map(|m| Reasoning::new(m, prompt));
        let calls = match self.calls {
            Some(Calls::Syntax(s)) if !tools.is_empty() => Some(Box::new(CallReader::new(s, tools.to_vec()))),
            _ => None,
        };
        (reasoning.is_some() || calls.is_some()).then_some(Reader(Kind::Plain(reasoning, calls)))
    }
}

/// Special tokens that stand in any of `texts`.
fn specials(tokenizer: &Tokenizer, texts: &[&str]) -> Vec<u32> {
    let size = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    let stands = |id: &u32| {
        let text = tokenizer.decode(&[*id], false);
        !text.trim().is_empty() && texts.iter().any(|t| t.contains(text.trim()))
    };
    (0..size).filter(|id| tokenizer.is_special(*id)).filter(stands).collect()
}

impl Reader {
    /// Takes `piece`: what is certain now. Together, all calls give the same whatever the pieces.
    pub fn push(&mut self, piece: &str) -> Said {
        let mut out = Said::default();
        match &mut self.0 {
            Kind::Harmony(h) => h.push(piece, &mut out),
            Kind::Plain(reasoning, calls) => {
                let mut text = String::new();
                match reasoning {
                    Some(r) => r.push(piece, &mut out.thought, &mut text),
                    None => text.push_str(piece),
                }
                match calls {
                    Some(c) => c.push(&text, &mut out.text, &mut out.calls),
                    None => out.text = text,
                }
            }
        }
        out
    }

    /// No more text comes: what was held back.
    pub fn finish(&mut self) -> Said {
        let mut out = Said::default();
        match &mut self.0 {
            Kind::Harmony(h) => h.finish(&mut out),
            Kind::Plain(reasoning, calls) => {
                let mut text = String::new();
                if let Some(r) = reasoning {
                    r.finish(&mut out.thought, &mut text);
                }
                match calls {
                    Some(c) => {
                        c.push(&text, &mut out.text, &mut out.calls);
                        c.finish(&mut out.text, &mut out.calls);
                    }
                    None => out.text = text,
                }
            }
        }
        out
    }
}
