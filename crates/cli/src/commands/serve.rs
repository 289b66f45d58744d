//! `serve`: models behind the APIs that clients know. Does not own: anything of HTTP (`pondera-server`).
use crate::{
    Context,
    config::Entry,
    error::{Error, Result},
    flags::{Compute, bytes},
    hub, lora,
    model::{self, PEBBLE_NAME, Source},
    policy::Guard,
    progress::Spinner,
    served::spec,
    shelf::Shelf,
    telemetry::Telemetry,
};
use pondera_engine::{EngineOptions, KvType, available_bytes};
use pondera_text::ChatTemplate;
use pondera_server::{Data, Keep, Key, ModelSpec, Options, Scope, Server};
use serde_json::json;
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Serve models over HTTP, for clients of the OpenAI, Anthropic and Ollama APIs
#[derive(clap::Args)]
#[command(after_help = "Listens on this machine alone unless told otherwise; other addresses need a key.\n\nExamples:\n  \
    pondera serve model.gguf\n  pondera serve big.gguf small.gguf --port 9000\n  pondera serve --config pondera.toml --log-format json\n  \
    pondera serve model/ --host 0.0.0.0 --keys keys.txt --allowed-host llm.example.org\n  \
    curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \\\n    \
    -d '{\"model\": \"model\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'")]
pub struct Args {
    /// The models, each also as NAME=MODEL [default: the built-in one]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// The address to listen on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// A further name of the first model; may be given again
    #[arg(long, value_name = "NAME")]
    served_model_name: Vec<String>,
    /// A chat template in place of the first model's own
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// An adapter of the first model (a PEFT folder or a GGUF file), a model of its own to clients; may be given again
    #[arg(long, value_name = "NAME=PATH", value_parser = lora::named)]
    lora: Vec<(String, PathBuf)>,
    /// Keys that clients must show, one per line: NAME SECRET [use|admin]
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// A key that clients must show; it opens everything
    #[arg(long, value_name = "SECRET", env = "PONDERA_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Answer to this name in Host and Origin too; may be given again, `*` for any
    #[arg(long, value_name = "NAME")]
    allowed_host: Vec<String>,
    /// Requests that run at once; others wait
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    max_running: u32,
    /// Requests that run or wait at once; more are refused with 429
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    max_requests: u32,
    /// Tokens that the cache holds, of all requests together [default: 4 times the context, as far as memory goes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    kv_tokens: Option<u32>,
    /// Also serve every model of this machine's store by its name, and let clients fetch, copy and delete (Ollama's
    /// /api/pull, /api/copy, /api/delete; with keys only those of scope admin)
    #[arg(long)]
    library: bool,
    /// Memory that all models may take together, as 12GB or 8GiB: those that do not fit take turns [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    memory: Option<u64>,
    /// How long a model stays open that nobody asks for, as 300 or 5m; below zero until another needs its room
    #[arg(long, value_name = "TIME", default_value = "-1", allow_hyphen_values = true)]
    keep_alive: Keep,
    /// Longest time of a request in seconds; 0 for none
    #[arg(long, value_name = "S", default_value_t = 3600)]
    timeout: u64,
    /// How long a stop waits for requests that run, in seconds
    #[arg(long, value_name = "S", default_value_t = 30)]
    grace: u64,
    /// A folder for files and batches of clients; without it there are none
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Most MiB of files in it [default: 16384]
    #[arg(long, value_name = "MIB")]
    data_mib: Option<u64>,
    /// Lines of batches that are answered at once, behind all other requests [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch_lines: Option<u32>,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    telemetry: Telemetry,
}

/// Longest step while somebody waits for the next token.
const STEP: Duration = Duration::from_millis(150);
/// Sequences of the whole context that the cache has room for, unless told otherwise.
const CONTEXTS: usize = 4;
/// Most bytes of a file of keys.
const KEYS_BYTES_MAX: u64 = 1 << 20;

/// Serves until told to stop.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    pondera_engine::heap::give_back();
    let mut options = Options::new(SocketAddr::new(args.host, args.port));
    options.keys = keys(args)?;
    options.hosts = args.allowed_host.clone();
    options.limits.requests = args.max_requests as usize;
    options.limits.request_time = Duration::from_secs(args.timeout);
    options.grace = Duration::from_secs(args.grace);
    options.data = data(args)?;
    options.traces = args.telemetry.traces()?;
    options.log_lines_dropped = context.lines_dropped.clone();
    if !args.host.is_loopback() && options.keys.is_empty() {
        return Err(Error::usage(format!("--host {}: others can reach this address, and no key is asked for", args.host))
            .hint("give --keys FILE or --api-key, or leave --host out"));
    }
    let guard = Guard::read(&context.global)?;
    let mut engine = args.compute.options(context.global.threads, KvType::F16)?;
    engine.max_sequences = args.max_running as usize;
    engine.max_waiting = args.max_requests as usize;
    engine.step_time = Some(STEP);
    engine.kv_tokens = args.kv_tokens.map(|n| n as usize);
    engine.kv_contexts = CONTEXTS;
    options.keep = args.keep_alive;
    // One alone has what the machine has, and says itself where that is too little.
    let several = wanted(args, context).len() > 1 || args.library;
    options.memory = args.memory.or_else(|| available_bytes().filter(|_| several));
    if args.library {
        options.library = Some(Arc::new(Shelf::new(hub::store(&context.global)?, engine.clone(), guard.clone())));
    }
    let models = models(args, &engine, guard.as_ref(), context)?;
    let spinner = Spinner::new(context, "loading".into());
    let server = Server::bind(options, models).map_err(|e| Error::failed(format!("serve: {e}")))?;
    drop(spinner);
    let address = server.address().map_err(|e| Error::failed(format!("serve: {e}")))?;
    let names = server.models();
    if context.out.json() {
        context.out.object(&json!({ "listening": format!("http://{address}"), "models": names }))?;
    } else {
        context.out.data(format!("listening on http://{address} with {}\n", names.join(", ")).as_bytes())?;
    }
    server.run().map_err(|e| Error::failed(format!("serve: {e}")))
}

fn models(args: &Args, options: &EngineOptions, guard: Option<&Guard>, context: &Context) -> Result<Vec<ModelSpec>> {
    let mut specs: Vec<ModelSpec> = Vec::new();
    for Entry { name, path, aliases, chat_template, lora: adapters } in wanted(args, context) {
        let place = path.as_deref();
        let source = model::resolve(place, &context.global)?;
        if let Some(guard) = guard {
            guard.source(&source)?;
            adapters.iter().try_for_each(|(_, path)| guard.source(&Source::Path(path.clone())))?;
        }
        let name = name.unwrap_or_else(|| called(place, &source));
        let taken = |n: &String| specs.iter().any(|s| s.name == *n || s.aliases.contains(n) || s.adapters.iter().any(|a| a.0 == *n));
        if let Some(twice) = std::iter::once(&name).chain(&aliases).find(|n| taken(n)) {
            return Err(Error::usage(format!("{twice}: two models of this name")).hint("name one of them as NAME=MODEL"));
        }
        let mut own: Vec<&String> = std::iter::once(&name).chain(&aliases).chain(adapters.iter().map(|a| &a.0)).collect();
        own.sort_unstable();
        if let Some(twice) = own.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::usage(format!("{}: two models of this name", twice[0])));
        }
        let template = chat_template.as_deref().map(template).transpose()?;
        specs.push(ModelSpec { aliases, adapters, template, ..spec(name, source, options)? });
    }
    Ok(specs)
}

/// The models of the command line, else those of the file, else the one in the box; flags that are about the first model are.
fn wanted(args: &Args, context: &Context) -> Vec<Entry> {
    let named = |asked: &String| {
        let named = asked.split_once('=').filter(|(name, _)| !name.contains(['/', '\\']) && !name.is_empty());
        let (name, path) = named.map_or((None, asked.as_str()), |(name, path)| (Some(name.to_string()), path));
        Entry { name, path: Some(path.to_string()), ..Entry::default() }
    };
    let mut all: Vec<Entry> = match (args.models.is_empty(), context.settings.models.is_empty()) {
        (false, _) => args.models.iter().map(named).collect(),
        (true, false) => context.settings.models.clone(),
        (true, true) => vec![Entry::default()],
    };
    let first = &mut all[0];
    if !args.served_model_name.is_empty() {
        first.aliases.clone_from(&args.served_model_name);
    }
    if !args.lora.is_empty() {
        first.lora.clone_from(&args.lora);
    }
    first.chat_template = args.chat_template.clone().or(first.chat_template.take());
    all
}

/// A folder for files and batches, and how much of both.
fn data(args: &Args) -> Result<Option<Data>> {
    let Some(folder) = args.data.clone() else {
        return match (args.data_mib, args.batch_lines) {
            (None, None) => Ok(None),
            _ => Err(Error::usage("--data-mib and --batch-lines: there is no --data")
                .hint("give --data DIR, or leave both out")),
        };
    };
    let bytes = args.data_mib.unwrap_or(16384).saturating_mul(1 << 20);
    Ok(Some(Data { folder, bytes, lines: args.batch_lines.unwrap_or(4) as usize }))
}

/// A template that can be read.
fn template(path: &Path) -> Result<ChatTemplate> {
    let template = ChatTemplate::new(fs::read_to_string(path).map_err(|e| Error::io(path.display(), &e))?);
    template.check().map_err(|e| Error::file(format!("{}: {}", path.display(), e.message())))?;
    Ok(template)
}

/// What clients call a model that was given no name: the folder or file without its ending, or org/name as given.
fn called(asked: Option<&str>, source: &Source) -> String {
    match (asked, source) {
        (_, Source::Embedded(_)) | (None, _) => PEBBLE_NAME.to_string(),
        (Some(asked), Source::Path(_)) if !Path::new(asked).exists() => asked.to_string(),
        (Some(_), Source::Path(path)) => {
            let whole = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            let name = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
            name.map_or("model".into(), |n| n.to_string_lossy().into_owned())
        }
    }
}

fn keys(args: &Args) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    if let Some(secret) = &args.api_key {
        keys.push(key("--api-key", "api-key", secret, Scope::Admin)?);
    }
    let Some(file) = &args.keys else { return Ok(keys) };
    let size = fs::metadata(file).map_err(|e| Error::io(file.display(), &e))?.len();
    if size > KEYS_BYTES_MAX {
        return Err(Error::file(format!("{}: larger than {KEYS_BYTES_MAX} bytes", file.display())));
    }
    let text = fs::read_to_string(file).map_err(|e| Error::io(file.display(), &e))?;
    for (i, line) in text.lines().enumerate() {
        let at = format!("{}:{}", file.display(), i + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        let scope = |word: &str| match word {
            "use" => Ok(Scope::Use),
            "admin" => Ok(Scope::Admin),
            _ => Err(Error::file(format!("{at}: a scope is use or admin"))),
        };
        match words[..] {
            [] => {}
            [comment, ..] if comment.starts_with('#') => {}
            [name, secret] => keys.push(key(&at, name, secret, Scope::Use)?),
            [name, secret, word] => keys.push(key(&at, name, secret, scope(word)?)?),
            _ => return Err(Error::file(format!("{at}: expected NAME SECRET and a scope"))),
        }
    }
    if keys.is_empty() {
        return Err(Error::file(format!("{}: holds no key", file.display())).hint("a line is NAME SECRET [use|admin]"));
    }
    Ok(keys)
}

/// Shorter ones are guessed.
const SECRET_BYTES_MIN: usize = 16;

fn key(at: &str, name: &str, secret: &str, scope: Scope) -> Result<Key> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(Error::usage(format!("{at}: the secret has fewer than {SECRET_BYTES_MIN} bytes")));
    }
    Ok(Key { name: name.to_string(), secret: secret.to_string(), scope })
}
