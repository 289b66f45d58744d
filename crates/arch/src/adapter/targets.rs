//! Where a model's weights come from: which rows of which module of the repository each is made of. Found by loading the
//! family once more with matrices that hold nothing but their place, so that no family has to say it.
use crate::{
    Config, Result, Source,
    params::{Core, Hollow},
};
use pondera_ops::W;
use pondera_quant::{Matrix, Packed, TensorView};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
};

/// Tensors in place of a model's own, by the names that families ask for.
#[derive(Default)]
pub(crate) struct Overlay {
    tensors: HashMap<String, (TensorView, Cell<bool>)>,
}

impl Overlay {
    pub fn insert(&mut self, name: String, view: TensorView) {
        self.tensors.insert(name, (view, Cell::new(false)));
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The first of these that is there.
    pub fn find(&self, names: &[String]) -> Option<(String, TensorView)> {
        names.iter().find_map(|n| {
            let (view, used) = self.tensors.get(n)?;
            used.set(true);
            Some((n.clone(), view.clone()))
        })
    }

    /// Whether the family asked for it.
    pub fn used(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|t| t.1.get())
    }
}

/// A weight that stands for two modules.
pub(crate) struct Tied {
    /// What the second is called.
    pub names: Vec<String>,
    pub weight: W,
}

/// A module of a repository, or an element of a stack of such.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    /// All names that it may have.
    pub names: Vec<String>,
    /// Of a stack.
    pub element: Option<usize>,
    pub out: usize,
    pub inp: usize,
}

/// The modules that were asked for so far.
#[derive(Default)]
pub(crate) struct Probe {
    modules: RefCell<Vec<Module>>,
    /// From the addresses of matrices.
    places: RefCell<HashMap<usize, usize>>,
    /// Keeps these addresses.
    held: RefCell<Vec<Arc<dyn Packed>>>,
}

fn address(weight: &Arc<dyn Packed>) -> usize {
    Arc::as_ptr(weight).cast::<()>() as usize
}

impl Probe {
    /// A matrix of the shape of `m` that is known as this module.
    pub fn module(&self, names: Vec<String>, element: Option<usize>, m: &Matrix) -> Matrix {
        let (out, inp) = (m.out(), m.inp());
        let place: Arc<dyn Packed> = Arc::new(Hollow { out, inp });
        let mut modules = self.modules.borrow_mut();
        self.places.borrow_mut().insert(address(&place), modules.len());
        self.held.borrow_mut().push(place.clone());
        modules.push(Module { names, element, out, inp });
        Matrix::packed(place)
    }

    /// Which rows of which module `m` has.
    fn origin(&self, m: &Matrix) -> Option<Origin> {
        let Matrix::Packed { weight, first, step, out } = m else { return None };
        let module = *self.places.borrow().get(&address(weight))?;
        Some(Origin { module, first: *first, step: *step, out: *out })
    }
}

/// Rows `first, first + step, …` of a module, `out` of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub module: usize,
    pub first: usize,
    pub step: usize,
    pub out: usize,
}

impl Origin {
    pub fn rows(self) -> impl Iterator<Item = usize> {
        (0..self.out).map(move |i| self.first + i * self.step)
    }
}

/// Which modules the weights of a model are made of, in the order in which the family lists them.
pub(crate) struct Targets {
    pub modules: Vec<Module>,
    /// Per weight and group.
    pub origins: Vec<Vec<Option<Origin>>>,
    /// Names of modules that are another's weight, and which.
    pub tied: Vec<(Vec<String>, usize)>,
}

impl Targets {
    pub fn of(config: &Config, source: &Source<'_>) -> Result<Targets> {
        let source = if matches!(source, Source::Files(_)) { source } else { &Source::Describe };
        let core = Core::new(config, source)?.probing();
        (config.family().load)(config, &crate::Params::root(&core)).map_err(|e| core.place(e))?;
        let declared = core.finish();
        let probe = declared.probe.unwrap_or_default();
        let origins = declared.handles.iter().map(|w| w.groups.iter().map(|m| probe.origin(m)).collect()).collect();
        let place = |t: Tied| Some((t.names, declared.handles.iter().position(|w| Arc::ptr_eq(w, &t.weight))?));
        let tied = declared.tied.into_iter().filter_map(place).collect();
        Ok(Targets { modules: probe.modules.into_inner(), origins, tied })
    }
}

/// The weights of the same family with tensors of `overlay` in place of its own, in the order in which it lists them; then
/// those of tied modules.
pub(crate) fn replaced(config: &Config, source: &Source<'_>, overlay: &Overlay) -> Result<(Vec<W>, Vec<W>)> {
    let core = Core::new(config, source)?.over(overlay);
    (config.family().load)(config, &crate::Params::root(&core)).map_err(|e| core.place(e))?;
    let declared = core.finish();
    Ok((declared.handles, declared.tied.into_iter().map(|t| t.weight).collect()))
}
