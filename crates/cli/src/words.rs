//! A model's vocabulary and chat template, found beside or inside its files.
use crate::{
    error::Result,
    model::{PEBBLE_NAME, Source, embedded_bytes},
};
use pondera_text::{ChatInput, ChatTemplate, EncodeOptions, ErrorKind, Tokenizer};
use pondera_weights::Weights;
use serde_json::Value;
use std::path::Path;

/// The vocabulary of `source`, without opening its tensors; none where it has none.
pub fn tokenizer(source: &Source) -> Result<Option<Tokenizer>> {
    let found = match source {
        Source::Path(path) => Tokenizer::open(beside_tensors(path).unwrap_or(path)),
        Source::Embedded(bytes) => {
            let weights = Weights::from_bytes(PEBBLE_NAME, embedded_bytes(bytes))?;
            match weights.gguf() {
                Some(gguf) => Tokenizer::from_gguf(gguf),
                None => return Ok(None),
            }
        }
    };
    match found {
        Ok(tokenizer) => Ok(Some(tokenizer)),
        Err(e) if e.kind() == ErrorKind::Missing => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The folder of a file that holds tensors (or names the files that do) and therefore no vocabulary.
fn beside_tensors(path: &Path) -> Option<&Path> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let ends = [".safetensors", ".index.json", ".bin", ".pt", ".pth", "config.json"];
    let folder = path.parent().filter(|_| ends.iter().any(|e| name.ends_with(e)))?;
    Some(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// The chat template of tensors that are open. None where there is none.
pub fn template(weights: &Weights) -> Result<Option<ChatTemplate>> {
    Ok(ChatTemplate::of(weights)?)
}

/// Ids of a conversation as the template lays it out, the assistant's turn opened.
pub fn chat(template: &ChatTemplate, tokenizer: &Tokenizer, messages: &[Value]) -> Result<Vec<u32>> {
    let input = ChatInput { messages: messages.to_vec(), add_generation_prompt: true, ..ChatInput::default() };
    let text = template.render(&input)?;
    // The template writes special tokens out, those at the beginning included.
    Ok(tokenizer.encode(&text, &EncodeOptions { add_special: false, parse_special: true, add_eos: false })?)
}

/// Ids of `text`.
pub fn encode(tokenizer: &Tokenizer, text: &str, add_special: bool) -> Result<Vec<u32>> {
    Ok(tokenizer.encode(text, &EncodeOptions { add_special, ..EncodeOptions::default() })?)
}

/// Text of one token, whatever it is.
pub fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    match tokenizer.token_bytes(id) {
        Some(bytes) if !bytes.is_empty() => String::from_utf8_lossy(&bytes).into_owned(),
        _ => tokenizer.decode(&[id], false),
    }
}
