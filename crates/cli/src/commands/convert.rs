//! `convert`: any stored weights as plain floats in safetensors, streamed tensor by tensor.
//!
//! Does not own: what a format's codes mean (`pondera-quant`), files (`pondera-weights`).
use crate::{
    Context,
    error::{Error, Result},
    interrupt,
    inspect::read_json,
    model::{self, Source},
    packed::{Entry, entries},
    policy,
    progress::Bar,
    view,
};
use clap::ValueEnum;
use pondera_audit::license::Origin;
use pondera_quant::{Format, Matrix, float};
use pondera_weights::{TensorInfo, TensorSpec, Weights, safetensors};
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// Convert weights to plain floats in safetensors
#[derive(clap::Args)]
#[command(after_help = "What is written records its origin: licence, base models, source, notices.\n\nExamples:\n  pondera convert model-q4_k_m.gguf model.safetensors --type f32\n  \
    pondera convert DeepSeek-V3/ DeepSeek-V3-bf16/ --type bf16")]
pub struct Args {
    /// What to convert: a folder or a file
    model: String,
    /// The folder or file to write
    out: PathBuf,
    /// Type of the tensors written
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    to: Plain,
}

/// Plain float types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Plain {
    /// 4 bytes, exact
    F32,
    /// 2 bytes, the range of f32
    Bf16,
    /// 2 bytes, finer and of smaller range
    F16,
}

impl Plain {
    fn format(self) -> Format {
        match self {
            Plain::F32 => Format::F32,
            Plain::Bf16 => Format::BF16,
            Plain::F16 => Format::F16,
        }
    }

    /// The name that `config.json` has for it.
    fn dtype(self) -> &'static str {
        match self {
            Plain::F32 => "float32",
            Plain::Bf16 => "bfloat16",
            Plain::F16 => "float16",
        }
    }

    fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Plain::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Plain::Bf16 => out.extend(values.iter().flat_map(|v| float::f32_to_bf16(*v).to_le_bytes())),
            Plain::F16 => out.extend(values.iter().flat_map(|v| float::f32_to_f16(*v).to_le_bytes())),
        }
    }
}

/// Elements decoded at a time: memory stays small whatever a tensor's size.
const PIECE: usize = 1 << 18;

/// Writes the converted file or folder.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let source = model::resolve(Some(&args.model), &context.global)?;
    let weights = source.weights()?;
    let folder = match &source {
        Source::Path(p) if p.is_dir() => Some(p.as_path()),
        _ => None,
    };
    let to_folder = folder.is_some() && args.out.extension().is_none_or(|e| e != "safetensors");
    let origin = policy::origin(&source, &weights, !to_folder, &context.global)?;
    let config = folder.map(|f| read_json(&f.join("config.json"))).transpose()?.flatten();
    let own = folder.map(|f| read_json(&f.join("hf_quant_config.json"))).transpose()?.flatten();
    let entries = entries(&weights, config.as_ref().unwrap_or(&Value::Null), own.as_ref())?;
    let file = if to_folder { args.out.join("model.safetensors") } else { args.out.clone() };
    refuse_overwriting(&weights, &file)?;
    if to_folder {
        fs::create_dir_all(&args.out).map_err(|e| Error::output(args.out.display(), &e))?;
    }
    let bytes = write(&weights, &entries, args.to, &file, &origin, context)?;
    if let (true, Some(folder)) = (to_folder, folder) {
        copy_rest(folder, &args.out, config, args.to)?;
    }
    let tensors = entries.len();
    if context.out.json() {
        let written = json!({ "out": args.out.display().to_string(), "type": args.to.format().info().name.to_lowercase(),
            "tensors": tensors, "bytes": bytes });
        return context.out.object(&written);
    }
    context.out.note(&format!("{tensors} tensors, {} in {}", view::bytes(bytes), args.out.display()));
    Ok(())
}

/// What a tensor becomes: integers (positions, indices) stay what they are.
fn target(entry: &Entry<'_>, to: Plain) -> Format {
    use Format::*;
    match entry {
        Entry::Stored(t) if matches!(t.format, Bool | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64) => t.format,
        _ => to.format(),
    }
}

/// Writes all tensors to a new file beside `file` and puts it in place when it is whole. Returns its tensors' bytes.
fn write(
    weights: &Weights,
    entries: &[Entry<'_>],
    to: Plain,
    file: &Path,
    origin: &Origin,
    context: &Context,
) -> Result<u64> {
    let specs: Vec<TensorSpec> = entries.iter().map(|e| TensorSpec::new(e.name(), target(e, to), &e.shape())).collect();
    let total = specs.iter().map(|s| s.bytes().map(|b| b as u64)).sum::<std::result::Result<u64, _>>()?;
    let part = Part::beside(file);
    let out = fs::File::create(&part.path).map_err(|e| Error::output(file.display(), &e))?;
    let recorded = origin.safetensors();
    let pairs = recorded.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let metadata: Vec<(&str, &str)> = std::iter::once(("format", "pt")).chain(pairs).collect();
    let writer = safetensors::Writer::new(BufWriter::with_capacity(1 << 20, out), &metadata, &specs)?;
    let bar = Bar::bytes(context, "converting", total);
    let mut sink = Sink { writer, to, encoded: Vec::new(), done: 0, bar, listening: interrupt::listen() };
    for (entry, spec) in entries.iter().zip(&specs) {
        match entry {
            Entry::Stored(t) => sink.stored(weights, t, spec.format)?,
            Entry::Packed { matrix, .. } => sink.matrix(matrix)?,
            Entry::Stack { experts, .. } => experts.iter().try_for_each(|m| sink.transposed(m))?,
        }
    }
    weights.check()?;
    let out = sink.writer.finish()?.into_inner().map_err(|e| Error::io(file.display(), e.error()))?;
    out.sync_all().map_err(|e| Error::io(file.display(), &e))?;
    part.finish(file)?;
    Ok(total)
}

/// Where decoded values go.
struct Sink {
    writer: safetensors::Writer<BufWriter<fs::File>>,
    to: Plain,
    encoded: Vec<u8>,
    done: u64,
    bar: Bar,
    listening: interrupt::Listening,
}

impl Sink {
    fn put(&mut self, values: &[f32]) -> Result<()> {
        self.listening.check()?;
        self.to.encode(values, &mut self.encoded);
        self.writer.write(&self.encoded)?;
        self.done += self.encoded.len() as u64;
        self.bar.set(self.done);
        Ok(())
    }

    fn stored(&mut self, weights: &Weights, t: &TensorInfo, format: Format) -> Result<()> {
        let view = weights.view(t)?;
        let stored = view.bytes.as_slice();
        if format == t.format {
            self.writer.write(stored)?;
            self.done += stored.len() as u64;
            return Ok(());
        }
        let info = t.format.info();
        let mut values = Vec::new();
        for piece in stored.chunks((PIECE / info.block).max(1) * info.bytes) {
            values.resize(piece.len() / info.bytes * info.block, 0.0);
            (info.decode)(piece, &mut values);
            self.put(&values)?;
        }
        Ok(())
    }

    fn matrix(&mut self, m: &Matrix) -> Result<()> {
        let (step, mut values) = ((PIECE / m.inp().max(1)).max(1), Vec::new());
        for first in (0..m.out()).step_by(step) {
            let end = m.out().min(first + step);
            values.resize((end - first) * m.inp(), 0.0);
            m.decode_rows(first..end, &mut values);
            self.put(&values)?;
        }
        Ok(())
    }

    /// `[inp, out]` of a matrix `[out, inp]`: whole in memory, for one expert is small.
    fn transposed(&mut self, m: &Matrix) -> Result<()> {
        let mut values = vec![0.0; m.out() * m.inp()];
        m.decode_rows(0..m.out(), &mut values);
        let mut row = vec![0.0; m.out()];
        for i in 0..m.inp() {
            row.iter_mut().zip(values[i..].iter().step_by(m.inp())).for_each(|(r, v)| *r = *v);
            self.put(&row)?;
        }
        Ok(())
    }
}

/// An unfinished file that disappears unless it is finished.
struct Part {
    path: PathBuf,
}

impl Part {
    fn beside(file: &Path) -> Part {
        let mut name = OsString::from(".");
        name.push(file.file_name().unwrap_or_default());
        name.push(format!(".{}.part", std::process::id()));
        Part { path: file.with_file_name(name) }
    }

    fn finish(self, file: &Path) -> Result<()> {
        fs::rename(&self.path, file).map_err(|e| Error::output(file.display(), &e))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
    }
}

fn refuse_overwriting(weights: &Weights, file: &Path) -> Result<()> {
    let same = |a: &Path| fs::canonicalize(a).ok().zip(fs::canonicalize(file).ok()).is_some_and(|(a, b)| a == b);
    if weights.files().any(same) {
        return Err(Error::usage(format!("{}: is the source itself", file.display())).hint("name another place for OUT"));
    }
    Ok(())
}

/// Everything of a model's folder that holds no weights, with a config that says what the new weights are.
fn copy_rest(from: &Path, to: &Path, config: Option<Value>, plain: Plain) -> Result<()> {
    const WEIGHTS: [&str; 7] = ["safetensors", "bin", "pt", "pth", "gguf", "ckpt", "h5"];
    for entry in fs::read_dir(from).map_err(|e| Error::io(from.display(), &e))?.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().to_lowercase();
        let weights = path.extension().is_some_and(|e| WEIGHTS.iter().any(|w| e.eq_ignore_ascii_case(w)));
        if !path.is_file() || weights || name.ends_with(".index.json") || ["config.json", "hf_quant_config.json"].contains(&&*name) {
            continue;
        }
        let target = to.join(entry.file_name());
        fs::copy(&path, &target).map_err(|e| Error::io(target.display(), &e))?;
    }
    let Some(mut config) = config else { return Ok(()) };
    if let Some(map) = config.as_object_mut() {
        map.remove("quantization_config");
        let key = if map.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        map.insert(key.into(), plain.dtype().into());
    }
    let file = to.join("config.json");
    let text = serde_json::to_vec_pretty(&config).map_err(|e| Error::failed(format!("{}: {e}", file.display())))?;
    let mut out = fs::File::create(&file).map_err(|e| Error::output(file.display(), &e))?;
    out.write_all(&text).and_then(|()| out.write_all(b"\n")).map_err(|e| Error::io(file.display(), &e))
}
