//! Small helpers to read a `tokenizer.json`: fields with their place in the error.

use crate::error::{Error, Result};
use crate::pattern::{Flavour, Pattern};
use serde_json::Value;

/// An object of the file and its place, for errors.
#[derive(Clone, Copy)]
pub(super) struct Part<'v> {
    pub(super) value: &'v Value,
    pub(super) place: &'static str,
}

impl<'v> Part<'v> {
    pub(super) fn kind(&self) -> Result<&'v str> {
        self.text("type")
    }

    pub(super) fn text(&self, field: &str) -> Result<&'v str> {
        self.value.get(field).and_then(Value::as_str).ok_or_else(|| self.wrong(field, "a string"))
    }

    pub(super) fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match self.value.get(field) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(field, "true or false")),
        }
    }

    pub(super) fn number(&self, field: &str, default: usize) -> Result<usize> {
        match self.value.get(field) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
                number.ok_or_else(|| self.wrong(field, "a whole number"))
            }
        }
    }

    pub(super) fn character(&self, field: &str) -> Result<char> {
        let text = self.text(field)?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(self.wrong(field, "one character")),
        }
    }

    pub(super) fn list(&self, field: &str) -> Result<impl Iterator<Item = Part<'v>> + use<'v>> {
        let list = self.value.get(field).and_then(Value::as_array).ok_or_else(|| self.wrong(field, "a list"))?;
        let place = self.place;
        Ok(list.iter().map(move |value| Part { value, place }))
    }

    /// The `pattern` field: `{"String": …}` or `{"Regex": …}`.
    pub(super) fn matcher(&self) -> Result<Matcher> {
        let pattern = self.value.get("pattern").ok_or_else(|| self.wrong("pattern", "a pattern"))?;
        if let Some(text) = pattern.get("String").or(Some(pattern)).and_then(Value::as_str) {
            return Ok(Matcher::Text(text.to_string()));
        }
        let regex = pattern.get("Regex").and_then(Value::as_str);
        let regex = regex.ok_or_else(|| self.wrong("pattern", "a String or a Regex"))?;
        Pattern::new(regex, Flavour::Oniguruma).map(Matcher::Pattern).map_err(|e| e.within(self.place))
    }

    pub(super) fn wrong(&self, field: &str, expected: &str) -> Error {
        let got = match self.value.get(field) {
            None => "nothing".to_string(),
            Some(value) => format!("{:.60}", value.to_string()),
        };
        Error::invalid(format!("{}.{field}: expected {expected}, got {got}", self.place))
    }

    pub(super) fn unknown(&self) -> Error {
        let kind = self.value.get("type").and_then(Value::as_str).unwrap_or("without type");
        Error::unsupported(format!("{}: unknown type {kind:.60}", self.place))
    }
}

/// A text or a pattern to look for.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Text(String),
    Pattern(Pattern),
}

impl Matcher {
    /// Matches in order, as byte ranges, without empty ones.
    pub(super) fn find(&self, text: &str) -> Result<Vec<(usize, usize)>> {
        match self {
            Matcher::Text(needle) if needle.is_empty() => Ok(Vec::new()),
            Matcher::Text(needle) => {
                Ok(text.match_indices(needle.as_str()).map(|(at, m)| (at, at + m.len())).collect())
            }
            Matcher::Pattern(pattern) => pattern.matches(text),
        }
    }
}
