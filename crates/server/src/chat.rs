//! A conversation as clients send it, as a template wants it, as tokens. Rendering and encoding cost time by the length of the
//! text, so they run beside the server's own threads.
use crate::{
    error::{ApiError, Result},
    grammars::{Form, grammar},
    host::{Model, Words},
    job::short,
    tools::{Namer, Tools, nine},
};
use axum::http::StatusCode;
use pondera_text::{
    ChatInput, EncodeOptions, Grammar, Tokenizer,
    answer::{Reader, Wanted},
    tools::{Ids, Turns},
};
use serde_json::{Map, Value};
use std::{collections::HashMap, sync::Arc};

/// Roles that messages may have.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// What a template is given.
#[derive(Debug, Default)]
pub struct Conversation {
    /// As templates take them.
    pub messages: Vec<Value>,
    /// Further variables of the template.
    pub kwargs: Map<String, Value>,
    /// The last message is to be continued instead of answered.
    pub continues: bool,
    /// What may be called, and what the answer must be.
    pub tools: Tools,
}

/// Messages in OpenAI's shape: text alone, whole or in parts.
///
/// # Errors
/// 400 with the place of what is wrong or not supported.
pub fn messages(list: Vec<Value>) -> Result<Vec<Value>> {
    if list.is_empty() {
        return Err(ApiError::invalid("messages", "expected at least one"));
    }
    list.into_iter().enumerate().map(|(i, m)| message(i, m)).collect()
}

fn message(i: usize, value: Value) -> Result<Value> {
    let at = |field: &str| format!("messages[{i}]{field}");
    let Value::Object(mut m) = value else {
        return Err(ApiError::invalid(&at(""), "expected an object"));
    };
    match m.get("role").and_then(Value::as_str) {
        Some(role) if ROLES.contains(&role) => {}
        Some(role) => {
            return Err(ApiError::invalid(&at(".role"), format!("{:?} is none of {}", short(role), ROLES.join(", "))));
        }
        None => return Err(ApiError::invalid(&at(".role"), "expected a string")),
    }
    if m.get("tool_calls").is_some_and(Value::is_null) {
        m.remove("tool_calls");
    }
    let content = match m.remove("content") {
        None | Some(Value::Null) if m.contains_key("tool_calls") || m.contains_key("function_call") => Value::Null,
        None | Some(Value::Null) => {
            return Err(ApiError::invalid(&at(".content"), "expected a string or a list of parts"));
        }
        Some(Value::String(text)) => Value::String(text),
        Some(Value::Array(parts)) => {
            let texts: Result<Vec<String>> =
                parts.into_iter().enumerate().map(|(k, part)| text(&at(&format!(".content[{k}]")), part)).collect();
            Value::String(texts?.concat())
        }
        Some(_) => return Err(ApiError::invalid(&at(".content"), "expected a string or a list of parts")),
    };
    m.insert("content".into(), content);
    Ok(Value::Object(m))
}

fn text(at: &str, part: Value) -> Result<String> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("");
    match (kind, part.get("text").and_then(Value::as_str)) {
        ("text" | "input_text" | "output_text", Some(text)) => Ok(text.to_string()),
        ("refusal", _) => Ok(part.get("refusal").and_then(Value::as_str).unwrap_or("").to_string()),
        ("text", None) => Err(ApiError::invalid(&format!("{at}.text"), "expected a string")),
        (kind, _) => Err(ApiError::unsupported(
            &format!("{at}.type"),
            &format!("{:?} is not supported: the model takes text alone", short(kind)),
        )),
    }
}

/// A conversation as the model reads it, and how its answer is written and read.
pub struct Prompt {
    /// The assistant's turn opened.
    pub tokens: Vec<u32>,
    /// None where all of the answer is text.
    pub reader: Option<(Reader, Namer)>,
    /// Special tokens whose text the reader needs.
    pub shown: Arc<[u32]>,
    /// What the answer cannot leave.
    pub grammar: Option<Arc<Grammar>>,
}

/// The tokens of a conversation, and what its answer is bound to.
///
/// # Errors
/// 400 where the template refuses it or the model has none, or where what the answer shall be cannot be had.
pub async fn encode(model: &Model, conversation: Conversation) -> Result<Prompt> {
    let words = model.words.clone();
    let (listed, wanted) = (!conversation.tools.listed.is_empty(), conversation.tools.wanted.clone());
    let before = conversation.messages.iter().filter_map(|m| m["tool_calls"].as_array()).map(Vec::len).sum();
    let (text, tokens) = apart(move || render(&words, conversation)).await?;
    model.fits("messages", tokens.len())?;
    let Some(style) = model.words.style.as_deref() else {
        return Ok(Prompt { tokens, reader: None, shown: [].into(), grammar: None });
    };
    let reader = style.reader(&text, &wanted.tools).map(|r| (r, Namer::new(style.ids(), before)));
    let shown = style.shown(listed);
    let param = if wanted.tools.is_empty() { "response_format" } else { "tools" };
    let grammar = match wanted == Wanted::default() {
        true => None,
        false => Some(grammar(&model.words, Form::Answer(wanted, style.opened(&text)), param).await?),
    };
    Ok(Prompt { tokens, reader, shown, grammar })
}

/// How many tokens a conversation has.
///
/// # Errors
/// As [`encode`].
pub async fn count(words: &Words, conversation: Conversation) -> Result<usize> {
    let words = words.clone();
    apart(move || Ok(render(&words, conversation)?.1.len())).await
}

/// The text and the tokens of a conversation.
///
/// # Errors
/// As [`encode`].
pub fn render(words: &Words, conversation: Conversation) -> Result<(String, Vec<u32>)> {
    let Some(template) = &words.template else {
        let none = "the model has no chat template: use /v1/completions";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, none).code("no_chat_template"));
    };
    let Conversation { mut messages, kwargs, continues, mut tools } = conversation;
    if !tools.listed.is_empty() && !words.style.as_ref().is_some_and(|s| s.calls()) {
        return Err(ApiError::unsupported("tools", "the model's chat template has no calls that this server knows"));
    }
    name_results(&mut messages);
    settle_calls(&mut messages, words.style.as_ref().map(|s| s.turns()).unwrap_or_default());
    settle_system(&mut messages, template.source(!tools.listed.is_empty()).contains("developer"));
    if words.style.as_ref().is_some_and(|s| s.ids() == Ids::Nine) {
        shorten_ids(&mut messages);
    }
    let mut said: Vec<&mut Value> = messages.iter_mut().chain(&mut tools.listed).collect();
    let mark = words.spellings.mark(&mut said);
    let input = ChatInput {
        messages,
        kwargs,
        tools: (!tools.listed.is_empty()).then_some(tools.listed),
        add_generation_prompt: !continues,
        continue_final_message: continues,
        ..ChatInput::default()
    };
    let text = template.render(&input).map_err(|e| ApiError::invalid("messages", e.message().to_string()))?;
    if let Some(mark) = mark {
        let wrong = |e: pondera_text::Error| ApiError::invalid("messages", e.message().to_string());
        return words.spellings.encode(&text, mark, tokenizer(words)?).map_err(wrong);
    }
    // The template writes special tokens out, those at the beginning included.
    let tokens = tokens(words, &text, EncodeOptions { add_special: false, parse_special: true, add_eos: false })?;
    Ok((text, tokens))
}

/// What developers say is the system's word where a template knows no developers; words of the system that follow one another
/// are one message.
fn settle_system(messages: &mut Vec<Value>, developers: bool) {
    let system = |m: &Value| m["role"] == "system" || m["role"] == "developer";
    if !developers {
        messages.iter_mut().filter(|m| m["role"] == "developer").for_each(|m| m["role"] = "system".into());
    }
    while messages.len() > 1 && system(&messages[0]) && messages[0]["role"] == messages[1]["role"] {
        let text = |m: &Value| m["content"].as_str().unwrap_or("").to_string();
        messages[0]["content"] = format!("{}\n\n{}", text(&messages[0]), text(&messages[1])).into();
        messages.remove(1);
    }
}

/// Turns with calls as the template takes them.
fn settle_calls(messages: &mut [Value], turns: Turns) {
    for m in messages {
        let calls = m["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
        if calls && m["content"].as_str().is_none_or(str::is_empty) {
            m["content"] = if turns.no_content { Value::Null } else { "".into() };
        }
        for call in m.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(arguments) = call.get_mut("function").and_then(|f| f.get_mut("arguments")) else { continue };
            match arguments.as_str() {
                None if turns.text_arguments && arguments.is_object() => *arguments = arguments.to_string().into(),
                // Templates walk through arguments; a text that is no JSON stays one.
                Some(text) if !turns.text_arguments => {
                    let parsed = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
                    parsed.into_iter().for_each(|parsed| *arguments = parsed);
                }
                _ => {}
            }
        }
    }
}

/// Gives results the name of what was called, where only the call's id says it: some templates want it.
fn name_results(messages: &mut [Value]) {
    let mut names: HashMap<String, Value> = HashMap::new();
    for m in messages {
        for call in m["tool_calls"].as_array().into_iter().flatten() {
            if let Some(id) = call["id"].as_str() {
                names.insert(id.to_string(), call["function"]["name"].clone());
            }
        }
        if m["role"] == "tool"
            && m["name"].is_null()
            && let Some(name) = m["tool_call_id"].as_str().and_then(|id| names.get(id)).cloned()
            && let Some(m) = m.as_object_mut()
        {
            m.insert("name".into(), name);
        }
    }
}

/// Ids from elsewhere, as a template wants them that refuses any other.
fn shorten_ids(messages: &mut [Value]) {
    for m in messages {
        let calls = m.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten();
        let ids = calls.filter_map(|call| call.get_mut("id"));
        ids.for_each(|id| *id = nine(id.as_str().unwrap_or("")).into());
        if let Some(id) = m.get_mut("tool_call_id") {
            *id = nine(id.as_str().unwrap_or("")).into();
        }
    }
}

/// The tokens of a plain text.
pub async fn encode_text(words: &Words, text: String) -> Result<Vec<u32>> {
    let words = words.clone();
    apart(move || tokens(&words, &text, EncodeOptions::default())).await
}

fn tokens(words: &Words, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
    let ids = tokenizer(words)?.encode(text, &options);
    ids.map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, e.message().to_string()))
}

/// The vocabulary.
pub fn tokenizer(words: &Words) -> Result<&Arc<Tokenizer>> {
    let none = || ApiError::new(StatusCode::BAD_REQUEST, "the model has no tokenizer: give the prompt as token ids");
    words.tokenizer.as_ref().ok_or_else(none)
}

/// Runs what takes the processor for long on a thread for such things.
pub async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be read"))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_become_one_text_and_arguments_what_templates_take() {
        let mut got = messages(vec![
            json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
            json!({"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]}),
        ])
        .unwrap();
        assert_eq!(got[0]["content"], "ab");
        settle_calls(&mut got, Turns::default());
        assert_eq!(
            (&got[1]["content"], &got[1]["tool_calls"][0]["function"]["arguments"]),
            (&json!(""), &json!({"x": 1}))
        );
        settle_calls(&mut got, Turns { no_content: true, text_arguments: true });
        assert_eq!(
            (&got[1]["content"], &got[1]["tool_calls"][0]["function"]["arguments"]),
            (&json!(null), &json!("{\"x\":1}"))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (message, place) in [
            (json!(3), "messages[0]:"),
            (json!({"content": "x"}), "messages[0].role:"),
            (json!({"role": "king", "content": "x"}), "messages[0].role: \"king\""),
            (json!({"role": "user"}), "messages[0].content:"),
            (json!({"role": "user", "content": [{"type": "image_url"}]}), "messages[0].content[0].type:"),
            (json!({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text:"),
        ] {
            let e = messages(vec![message.clone()]).unwrap_err();
            assert!(e.message.starts_with(place), "{message}: {}", e.message);
        }
    }
}
