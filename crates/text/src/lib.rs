//! Bytes to tokens and back, and chat templates.
//!
//! Owns: vocabularies of every published kind ([`Tokenizer`]), streaming text out of ids ([`Stream`]), chat templates.
//! Does not own: files and metadata of models (`pondera-weights`), sampling, or any network.
#![forbid(unsafe_code)]

mod added;
pub mod answer;
mod base64;
mod bpe;
mod charsmap;
mod chat;
mod decode;
mod error;
pub mod fuzz;
mod gguf;
mod grammar;
mod hf;
mod jinja;
mod pattern;
mod reasoning;
mod scheme;
mod sentencepiece;
mod tiktoken;
mod tokenizer;
pub mod tools;
mod trie;
mod unicode;
mod unigram;
mod vocab;

pub use chat::{ChatInput, ChatTemplate, parse_time};
pub use error::{Error, ErrorKind, Result};
pub use grammar::{Compiler, GRAMMAR_BYTES_MAX, Grammar, Guide};
pub use jinja::outline::{Condition, Literal, Outline, Reach, outline};
pub use jinja::watch::Watch;
pub use tokenizer::{EncodeOptions, Stream, Tokenizer};
