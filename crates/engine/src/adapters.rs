//! Adapters that are loaded beside a model: which there are, and a model whose rows take them. Loading and unloading happens
//! between steps; what a step computes with stands in the batch.
use crate::{Engine, Error, ErrorKind, Result, net::Net, open};
use pondera_arch::{AdapterFile, Model, Source};
use pondera_ops::{Act, Adapted, Adapter, Batch, CacheSpec, Ops, StateSpec};
use pondera_weights::Weights;
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

/// Names an adapter within its engine. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdapterId(pub(crate) u32);

/// Most that one engine holds.
const ADAPTERS_MAX: usize = 4096;

struct Loaded {
    id: AdapterId,
    name: String,
    adapter: Adapter,
    files: Vec<Weights>,
}

/// Those that are loaded.
#[derive(Default)]
pub(crate) struct Table {
    loaded: Vec<Loaded>,
    last: u32,
}

impl Table {
    fn get(&self, id: u32) -> Option<&Loaded> {
        self.loaded.iter().find(|l| l.id.0 == id)
    }

    fn bytes(&self) -> u64 {
        self.loaded.iter().map(|l| l.adapter.bytes()).sum()
    }

    /// Fails once one of their files is no longer what it was.
    pub fn check(&self) -> Result<()> {
        self.loaded.iter().flat_map(|l| &l.files).try_for_each(|w| Ok(w.check()?))
    }
}

/// The adapters that an engine and its model share.
pub(crate) type Adapters = Rc<RefCell<Table>>;

/// A model that the engine and its runner share, with its adapters.
pub(crate) struct Shared(pub Arc<Model>, pub Adapters);

impl Shared {
    fn over(&self, ops: &dyn Ops, batch: &Batch, f: impl Fn(&dyn Ops) -> Act) -> Act {
        if batch.sequences.iter().all(|s| s.adapter.is_none()) {
            return f(ops);
        }
        let table = self.1.borrow();
        match Adapted::new(ops, batch, |id| table.get(id).map(|l| &l.adapter)) {
            Some(adapted) => f(&adapted),
            None => f(ops),
        }
    }
}

impl Net for Shared {
    fn forward(&self, ops: &dyn Ops, batch: &Batch) -> Act {
        self.over(ops, batch, |ops| self.0.forward(ops, batch))
    }
    fn hidden(&self, ops: &dyn Ops, batch: &Batch) -> Act {
        self.over(ops, batch, |ops| self.0.hidden(ops, batch))
    }
    fn caches(&self) -> &[CacheSpec] {
        self.0.caches()
    }
    fn states(&self) -> &[StateSpec] {
        self.0.states()
    }
    fn rope_epoch(&self, length: u32) -> u32 {
        self.0.rope_epoch(length)
    }
    fn copy_page(&self, ops: &dyn Ops, from: u32, to: u32) {
        ops.copy_page(from as usize, to as usize);
    }
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }
}

/// An adapter's files, open.
struct Opened {
    weights: Weights,
    keys: Option<Vec<u8>>,
}

/// A PEFT folder, its tensor file, or a GGUF file.
fn open_files(path: &Path) -> Result<Opened> {
    let inside = ["adapter_model.safetensors", "adapter_model.bin"].map(|n| path.join(n));
    let file: PathBuf = inside.into_iter().find(|p| p.exists()).unwrap_or_else(|| path.to_path_buf());
    let weights = Weights::open(&file)?;
    if weights.gguf().is_some() {
        return Ok(Opened { weights, keys: None });
    }
    let config = weights.folder().join("adapter_config.json");
    let Some(text) = open::read_small(&config)? else {
        let what = format!("{}: no adapter_config.json beside the tensors", path.display());
        return Err(Error::new(ErrorKind::File, what).hint("name an adapter's folder or a GGUF file"));
    };
    Ok(Opened { weights, keys: Some(text) })
}

impl Engine {
    /// Loads an adapter under `name` for requests to take: a PEFT folder or a GGUF file with a factor on its scale, or
    /// several that add up. What it takes in memory joins the plan.
    ///
    /// # Errors
    /// [`ErrorKind::File`] for what is broken, of another model, or changes what cannot be adapted, naming the module;
    /// [`ErrorKind::Invalid`] for a name that is taken or a scale that is no number; [`ErrorKind::DoesNotFit`].
    pub fn load_adapter(&mut self, name: &str, files: &[(&Path, f32)]) -> Result<AdapterId> {
        let table = self.adapters.borrow();
        if table.loaded.iter().any(|l| l.name == name) {
            return Err(Error::invalid(format!("adapter {name}: there is one of this name already")));
        }
        if table.loaded.len() >= ADAPTERS_MAX || files.is_empty() {
            return Err(Error::invalid(format!("adapter {name}: expected files, and at most {ADAPTERS_MAX} adapters")));
        }
        if let Some((path, scale)) = files.iter().find(|f| !f.1.is_finite()) {
            return Err(Error::invalid(format!("{}: a scale of {scale} is no number", path.display())));
        }
        drop(table);
        let opened = files.iter().map(|(path, _)| open_files(path)).collect::<Result<Vec<_>>>()?;
        let file = |(o, (_, scale)): (_, &(&Path, f32))| {
            let o: &Opened = o;
            AdapterFile { weights: &o.weights, keys: o.keys.as_deref(), scale: *scale }
        };
        let parts: Vec<AdapterFile<'_>> = opened.iter().zip(files).map(file).collect();
        let source = self.weights().map_or(Source::Describe, Source::Files);
        let adapter = self.model().adapter(self.config(), &source, &parts).map_err(|e| {
            let error = Error::new(ErrorKind::File, e.to_string());
            e.hint_text().map_or(error.clone(), |h| error.hint(h))
        })?;
        let bytes = self.adapters.borrow().bytes().saturating_add(adapter.bytes());
        let plan = self.plan().with_adapters(bytes);
        plan.check()?;
        self.plan = plan;
        let mut table = self.adapters.borrow_mut();
        table.last += 1;
        let id = AdapterId(table.last);
        let files = opened.into_iter().map(|o| o.weights).collect();
        table.loaded.push(Loaded { id, name: name.to_string(), adapter, files });
        Ok(id)
    }

    /// Forgets an adapter.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while a request takes it, [`ErrorKind::Invalid`] if there is none.
    pub fn unload_adapter(&mut self, id: AdapterId) -> Result<()> {
        let busy = || Error::new(ErrorKind::Busy, "a request takes this adapter").hint("try again later");
        if self.runner.takes(id) {
            return Err(busy());
        }
        let mut table = self.adapters.borrow_mut();
        let at = table.loaded.iter().position(|l| l.id == id);
        let at = at.ok_or_else(|| Error::invalid("there is no such adapter"))?;
        table.loaded.remove(at);
        let bytes = table.bytes();
        drop(table);
        self.plan = self.plan.with_adapters(bytes);
        self.runner.adapter = self.runner.adapter.filter(|a| *a != id);
        Ok(())
    }

    /// The adapter for all that names none: requests, traces, scores, embeddings.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there is none.
    pub fn use_adapter(&mut self, id: Option<AdapterId>) -> Result<()> {
        self.check_adapter(id)?;
        self.runner.adapter = id;
        Ok(())
    }

    /// The adapter of this name.
    pub fn adapter(&self, name: &str) -> Option<AdapterId> {
        self.adapters.borrow().loaded.iter().find(|l| l.name == name).map(|l| l.id)
    }

    /// Names of the adapters, in order of loading.
    pub fn adapters(&self) -> Vec<String> {
        self.adapters.borrow().loaded.iter().map(|l| l.name.clone()).collect()
    }

    pub(crate) fn check_adapter(&self, id: Option<AdapterId>) -> Result<()> {
        match id {
            Some(id) if self.adapters.borrow().get(id.0).is_none() => Err(Error::invalid("there is no such adapter")),
            _ => Ok(()),
        }
    }
}
