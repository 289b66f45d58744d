//! A model's vocabulary and chat template, found beside or inside its files.
use crate::{error::Result, model::Source};
use serde_json::Value;

/// A vocabulary.
pub struct Words {}

impl Words {
    /// The vocabulary of `source`; none where it has none.
    pub fn of(_source: &Source) -> Result<Option<Words>> {
        Ok(None)
    }

    /// Ids of `text`.
    pub fn encode(&self, _text: &str, _special: bool) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }

    /// Text of one token, whatever it is.
    pub fn token_text(&self, _id: u32) -> String {
        String::new()
    }

    /// Beginning of a sequence.
    pub fn bos(&self) -> Option<u32> {
        None
    }

    /// A conversation laid out, the assistant's turn opened; none without a template.
    pub fn chat(&self, _messages: &[Value]) -> Result<Option<Vec<u32>>> {
        Ok(None)
    }
}
