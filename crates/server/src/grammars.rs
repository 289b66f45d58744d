//! Grammars of a model's requests: compiled beside the server's threads and the engine's, kept while there is room.
use crate::{
    chat::{apart, tokenizer},
    error::{ApiError, Result},
    host::Words,
};
use axum::http::StatusCode;
use pondera_text::{
    Compiler, Grammar,
    answer::{Style, Wanted},
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Grammars that are kept.
const KEPT: usize = 64;

/// What a request asks an answer to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// JSON of this schema, and nothing else.
    Schema(Value),
    /// An answer of a conversation; its thoughts have begun, if so said.
    Answer(Wanted, bool),
}

/// A compiler, made when it is first asked for, and what it made last.
#[derive(Debug, Default)]
pub struct Grammars {
    compiler: OnceLock<pondera_text::Result<Compiler>>,
    /// Least recently used first.
    kept: Mutex<VecDeque<(Form, Arc<Grammar>)>>,
}

/// The grammar of `form`.
///
/// # Errors
/// 400 with what the schema asks for and cannot be had.
pub async fn grammar(words: &Words, form: Form, param: &'static str) -> Result<Arc<Grammar>> {
    let words = words.clone();
    apart(move || now(&words, form, param)).await
}

/// As [`grammar`], on a thread that may take its time.
///
/// # Errors
/// As [`grammar`].
pub fn now(words: &Words, form: Form, param: &str) -> Result<Arc<Grammar>> {
    let all = &words.grammars;
    if let Some(known) = all.known(&form) {
        return Ok(known);
    }
    let tokenizer = tokenizer(words)?;
    let compiler = all.compiler.get_or_init(|| Compiler::new(tokenizer, words.width));
    let compiler = compiler.as_ref().map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, e.message().to_string()))?;
    let made = match &form {
        Form::Schema(schema) => compiler.json_schema(schema).map(Some),
        Form::Answer(wanted, opened) => {
            let none = || ApiError::invalid(param, "the model has no chat template");
            let style: &Style = words.style.as_deref().ok_or_else(none)?;
            compiler.answer(style, wanted, *opened)
        }
    };
    let made = made.map_err(|e| ApiError::invalid(param, e.message().to_string()))?;
    let made = Arc::new(made.ok_or_else(|| ApiError::invalid(param, "nothing is asked for"))?);
    all.keep(form, made.clone());
    Ok(made)
}

impl Grammars {
    fn known(&self, form: &Form) -> Option<Arc<Grammar>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(f, _)| f == form)?;
        let entry = kept.remove(at)?;
        let grammar = entry.1.clone();
        kept.push_back(entry);
        Some(grammar)
    }

    fn keep(&self, form: Form, grammar: Arc<Grammar>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((form, grammar));
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }
}

/// The schema that OpenAI's `response_format` asks for.
///
/// # Errors
/// 400 with the part that is wrong.
pub fn response_format(format: Option<&Value>) -> Result<Option<Value>> {
    let Some(format) = format.filter(|f| !f.is_null()) else { return Ok(None) };
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(object())),
        Some("json_schema") => {
            let schema = &format["json_schema"]["schema"];
            if !schema.is_object() {
                return Err(ApiError::invalid("response_format.json_schema.schema", "expected an object"));
            }
            Ok(Some(schema.clone()))
        }
        Some(other) => {
            Err(ApiError::invalid("response_format.type", format!("{:?} is not known", crate::job::short(other))))
        }
        None => Err(ApiError::invalid("response_format.type", "expected a string")),
    }
}

/// Any JSON object.
pub fn object() -> Value {
    serde_json::json!({ "type": "object" })
}
