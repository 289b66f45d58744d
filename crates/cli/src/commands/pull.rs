//! `pull`: a model from the hub or an OCI registry into the cache that the hub's own tools use, verified; or one that Ollama
//! has, by name.
use crate::{
    Context,
    error::Result,
    hub::{self, OLLAMA, Watching, short},
    model::{self, Source},
    policy::Guard,
    view,
};
use pondera_store::{Early, PullOptions, Pulled, Reference};
use serde_json::json;

/// Fetch a model from a hub or an OCI registry, or name one that Ollama has
#[derive(clap::Args)]
#[command(
    after_help = "What it takes to run is fetched: safetensors (PyTorch's files where there are none), configuration, \
    vocabulary, templates, card and licence; of a GGUF repository one type, Q4_K_M unless named. A pull that was stopped \
    goes on where it was. Every file is verified before it is seen. Of an OCI artefact (ModelPack, Docker Model Runner) all \
    layers are fetched but code and data, which --include names. A GGUF blob of Ollama's is verified and used where it \
    lies.\n\nExamples:\n  pondera pull org/name\n  pondera pull org/name:Q8_0\n  pondera pull org/name@v1.0 --include \
    'onnx/*'\n  pondera pull oci://registry.example/org/name:tag\n  pondera pull ollama:llama3.2:3b --as llama"
)]
pub struct Args {
    /// org/name[@revision][:quant], a short name that `pondera models` lists, oci://host/org/name[:tag|@sha256:digest], or
    /// ollama:name[:tag]
    #[arg(value_name = "REF")]
    reference: String,
    /// Files to fetch (`*` also matches `/`): added to a quant, alone where none is named
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Hash files that are here already, and fetch those that do not hold
    #[arg(long)]
    recheck: bool,
    /// Name of Ollama's model in the store
    #[arg(long = "as", value_name = "NAME")]
    as_name: Option<String>,
}

/// Fetches, and says where it lies.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let store = hub::store(&context.global)?;
    let guard = Guard::read(&context.global)?;
    if let Some(theirs) = args.reference.strip_prefix(OLLAMA) {
        if let Some(guard) = &guard {
            guard.source(&Source::Path(store.ollama_model(theirs)?.path))?;
        }
        let watching = Watching::new(context, "hashed");
        let first = theirs.rsplit('/').next().unwrap_or(theirs);
        let name = args.as_name.clone().unwrap_or_else(|| first.replace(':', "-"));
        let model = store.import_ollama(theirs, &name, &|p| watching.see(p))?;
        if context.out.json() {
            return context.out.object(&json!({
                "model": name,
                "path": model.path,
                "files": [{ "path": model.path, "size": model.size, "digest": model.digest.to_string(), "fetched": false }],
                "bytes": model.size,
                "fetched_bytes": 0,
            }));
        }
        return context.out.page(&format!("{name} is {} ({})\n", model.path.display(), view::bytes(model.size)));
    }
    let reference = hub::reference(&args.reference)?;
    if model::alias(&args.reference).is_some() {
        context.out.note(&format!("{} is {reference}", args.reference));
    }
    let options = PullOptions { include: args.include.clone(), recheck: args.recheck };
    let watching = Watching::new(context, "fetched");
    let approve = |early: &Early| guard.as_ref().map_or(Ok(()), |g| g.early(&reference, early));
    let pulled = store.pull_approved(&reference, &options, &|p| watching.see(p), &approve)?;
    drop(watching);
    if context.out.json() { context.out.object(&as_json(&reference, &pulled)) } else { report(&pulled, context) }
}

fn as_json(reference: &Reference, pulled: &Pulled) -> serde_json::Value {
    let files = pulled.files.iter().map(|f| {
        json!({ "path": f.path, "size": f.size, "digest": f.digest.to_string(), "fetched": f.fetched })
    });
    json!({
        "model": reference.to_string(),
        "revision": reference.revision_or_main(),
        "commit": pulled.commit,
        "path": pulled.path,
        "files": files.collect::<Vec<_>>(),
        "bytes": bytes(pulled),
        "fetched_bytes": pulled.fetched,
    })
}

fn bytes(pulled: &Pulled) -> u64 {
    pulled.files.iter().map(|f| f.size).fold(0, u64::saturating_add)
}

fn report(pulled: &Pulled, context: &Context) -> Result<()> {
    context.out.note(&format!(
        "{} files, {}, all verified; {} fetched now; commit {}",
        pulled.files.len(),
        view::bytes(bytes(pulled)),
        view::bytes(pulled.fetched),
        short(&pulled.commit)
    ));
    context.out.page(&format!("{}\n", pulled.path.display()))
}
