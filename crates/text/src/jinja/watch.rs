//! Watching a render: which texts and numbers a template compares, searches for or replaces, which dates it asks for,
//! and what it costs. Owns the record. An audit puts these texts into messages and looks at what the template then does.
//!
//! What is recorded are values and not source: a text that a template puts together from pieces is seen all the same.

use super::eval::{Args, Machine};
use super::value::Value;
use std::cell::RefCell;

/// Most texts that are recorded, and their longest.
const TEXTS_MAX: usize = 512;
const TEXT_MAX: usize = 400;
/// Most numbers that are recorded.
const NUMBERS_MAX: usize = 64;

/// What was seen of a render.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Texts that something was compared with, searched for, split at or replaced by.
    pub texts: Vec<String>,
    /// Whole numbers that something was compared with.
    pub numbers: Vec<i64>,
    /// What the clock was asked for and gave.
    pub dates: Vec<String>,
    /// Steps of work.
    pub steps: u64,
}

impl Watch {
    fn text(&mut self, text: &str) {
        let fits = !text.is_empty() && text.len() <= TEXT_MAX && self.texts.len() < TEXTS_MAX;
        if fits && !self.texts.iter().any(|t| t == text) {
            self.texts.push(text.to_string());
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Str(text) => self.text(text),
            Value::Bool(_) => {}
            Value::List(seq) | Value::Tuple(seq) => {
                for item in seq.items.iter().take(TEXTS_MAX) {
                    if let Value::Str(text) = item {
                        self.text(text);
                    }
                }
            }
            other => {
                let number = other.int().and_then(|n| i64::try_from(n).ok());
                let new = number.filter(|n| self.numbers.len() < NUMBERS_MAX && !self.numbers.contains(n));
                self.numbers.extend(new);
            }
        }
    }
}

/// The record of a machine; none where nobody watches.
#[derive(Default)]
pub(super) struct Watcher(pub(super) Option<Box<RefCell<Watch>>>);

impl Watcher {
    /// Both sides of a comparison.
    pub(super) fn pair(&self, left: &Value, right: &Value) {
        if let Some(watch) = &self.0 {
            let mut watch = watch.borrow_mut();
            watch.value(left);
            watch.value(right);
        }
    }

    /// The arguments of a method or filter that looks for something.
    pub(super) fn arguments(&self, name: &str, args: &Args) {
        const LOOK: [&str; 16] = [
            "startswith",
            "endswith",
            "split",
            "rsplit",
            "replace",
            "find",
            "rfind",
            "index",
            "rindex",
            "count",
            "removeprefix",
            "removesuffix",
            "partition",
            "rpartition",
            "strip",
            "get",
        ];
        if let Some(watch) = &self.0
            && LOOK.contains(&name)
            && let Some(first) = args.positional.first().or(args.named.first().map(|(_, v)| v))
        {
            watch.borrow_mut().value(first);
        }
    }

    /// The keys of a mapping that a text is looked up in; those of messages and tools say nothing.
    pub(super) fn keys(&self, dict: &super::value::Dict) {
        if let Some(watch) = &self.0
            && !["role", "type", "function", "name"].iter().any(|k| dict.get_str(k).is_some())
        {
            let mut watch = watch.borrow_mut();
            for (key, _) in dict.entries().iter().take(TEXTS_MAX) {
                watch.value(key);
            }
        }
    }

    /// What the clock gave.
    pub(super) fn date(&self, text: &str) {
        if let Some(watch) = &self.0 {
            let mut watch = watch.borrow_mut();
            if watch.dates.len() < NUMBERS_MAX && !watch.dates.iter().any(|d| d == text) {
                watch.dates.push(text.to_string());
            }
        }
    }
}

impl Machine {
    /// Gives back what was seen.
    pub(super) fn seen(&mut self) -> Watch {
        let mut watch = self.watch.0.take().map(|w| w.into_inner()).unwrap_or_default();
        watch.steps = self.meter.spent();
        watch
    }
}
