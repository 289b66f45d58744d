//! Grammars of a model's requests, kept while there is room. They are compiled one after the other by a thread of their own, so
//! that whoever asks for a dear one waits for it and nobody else does. The stack is large, for the compiler follows a schema's
//! references by calling itself, and what a schema may hold is bounded so that it suffices.
use crate::{
    chat::tokenizer,
    error::{ApiError, Result},
    host::Words,
};
use axum::http::StatusCode;
use pondera_text::{Compiler, Grammar, answer::Wanted};
use serde_json::Value;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};
use tokio::sync::oneshot;

/// Grammars that are kept.
const KEPT: usize = 64;
/// Bytes of the schemas of those that are kept; a grammar takes up to some hundred times as much.
const KEPT_BYTES: usize = 128 << 10;
/// Most values in the schemas of a request, each object, list, text and number. A chain of references costs the most, about 4 KB
/// of the stack for a value.
const VALUES_MAX: usize = 10_000;
/// Most bytes of them.
const BYTES_MAX: usize = 256 << 10;
/// Of the thread that compiles one; touched as far as it is needed.
const STACK: usize = 256 << 20;
/// Grammars that wait; more are refused.
const WAITING: usize = 64;

/// What a request asks an answer to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// JSON of this schema, and nothing else.
    Schema(Value),
    /// An answer of a conversation; its thoughts have begun, if so said.
    Answer(Wanted, bool),
}

/// What was compiled last, and the thread that compiles.
#[derive(Debug, Default)]
pub struct Grammars {
    tasks: OnceLock<SyncSender<Task>>,
    /// Least recently used first, with the bytes of their schemas.
    kept: Mutex<VecDeque<(Form, usize, Arc<Grammar>)>>,
}

struct Task {
    words: Words,
    form: Form,
    param: &'static str,
    answer: oneshot::Sender<Result<Arc<Grammar>>>,
}

/// The grammar of `form`.
///
/// # Errors
/// 400 with what the schema asks for and cannot be had; 429 if too many wait.
pub async fn grammar(words: &Words, form: Form, param: &'static str) -> Result<Arc<Grammar>> {
    if let Some(known) = words.grammars.known(&form) {
        return Ok(known);
    }
    let values = form.schemas().map(values).sum::<usize>();
    if values > VALUES_MAX {
        let what = format!("the schema has {values} values, at most {VALUES_MAX} are compiled");
        return Err(ApiError::invalid(param, what));
    }
    let bytes = form.schemas().map(|s| s.to_string().len()).sum::<usize>();
    if bytes > BYTES_MAX {
        let what = format!("the schemas have {bytes} bytes, at most {BYTES_MAX} are compiled");
        return Err(ApiError::invalid(param, what));
    }
    let (answer, answered) = oneshot::channel();
    let task = Task { words: words.clone(), form, param, answer };
    match words.grammars.tasks.get_or_init(start).try_send(task) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return Err(ApiError::busy("too many schemas are being compiled")),
        Err(TrySendError::Disconnected(_)) => return Err(lost()),
    }
    answered.await.map_err(|_| lost())?
}

fn lost() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the schema could not be compiled")
}

fn start() -> SyncSender<Task> {
    let (sender, tasks) = sync_channel(WAITING);
    if let Err(e) = thread::Builder::new().name("grammars".into()).spawn(move || compile_all(&tasks)) {
        tracing::error!("no thread for grammars: {e}");
    }
    sender
}

/// Until nobody can ask any more. Each is compiled on a stack of its own, which goes when it is done.
fn compile_all(tasks: &Receiver<Task>) {
    let mut compiler = None;
    while let Ok(task) = tasks.recv() {
        // Whoever went away needs nothing.
        if task.answer.is_closed() {
            continue;
        }
        let made = task.words.grammars.known(&task.form).map_or_else(|| apart(&mut compiler, &task), Ok);
        let _ = task.answer.send(made);
    }
}

fn apart(kept: &mut Option<pondera_text::Result<Compiler>>, task: &Task) -> Result<Arc<Grammar>> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("grammar".into()).stack_size(STACK);
        let work = || {
            give_way();
            compile(kept, task)
        };
        let thread = thread.spawn_scoped(scope, work).map_err(|_| lost())?;
        // A bug costs this request alone.
        thread.join().unwrap_or_else(|_| Err(lost()))
    })
}

/// Lets this thread run where others do not want to: nobody who decodes waits for another's schema.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!("a thread keeps its priority: {e}");
    }
}

/// Of 0 to 19: a tenth of a processor that others want too.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

fn compile(kept: &mut Option<pondera_text::Result<Compiler>>, task: &Task) -> Result<Arc<Grammar>> {
    let Task { words, form, param, .. } = task;
    let tokenizer = tokenizer(words)?;
    // Dear to make, so not before the first request that needs it.
    let compiler = kept.get_or_insert_with(|| Compiler::new(tokenizer, words.width));
    let compiler = compiler.as_ref().map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, e.message().to_string()))?;
    let made = match form {
        Form::Schema(schema) => compiler.json_schema(schema).map(Some),
        Form::Answer(wanted, opened) => {
            let none = || ApiError::invalid(param, "the model has no chat template");
            compiler.answer(words.style.as_deref().ok_or_else(none)?, wanted, *opened)
        }
    };
    let made = made.map_err(|e| ApiError::invalid(param, e.message().to_string()))?;
    let made = Arc::new(made.ok_or_else(|| ApiError::invalid(param, "nothing is asked for"))?);
    words.grammars.keep(form.clone(), made.clone());
    Ok(made)
}

impl Form {
    fn schemas(&self) -> impl Iterator<Item = &Value> {
        let (text, tools) = match self {
            Form::Schema(schema) => (Some(schema), &[][..]),
            Form::Answer(wanted, _) => (wanted.text.as_ref(), &wanted.tools[..]),
        };
        text.into_iter().chain(tools.iter().map(|t| &t.parameters))
    }
}

/// How many values there are in one.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(fields) => fields.values().map(values).sum(),
        _ => 0usize,
    }
}

impl Grammars {
    fn known(&self, form: &Form) -> Option<Arc<Grammar>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(f, ..)| f == form)?;
        let entry = kept.remove(at)?;
        let grammar = entry.2.clone();
        kept.push_back(entry);
        Some(grammar)
    }

    fn keep(&self, form: Form, grammar: Arc<Grammar>) {
        let bytes = form.schemas().map(|s| s.to_string().len()).sum();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((form, bytes, grammar));
        let all = |kept: &VecDeque<(Form, usize, _)>| kept.iter().map(|(_, n, _)| n).sum::<usize>();
        while kept.len() > KEPT || kept.len() > 1 && all(&kept) > KEPT_BYTES {
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
