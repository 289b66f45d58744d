//! The weights of a model under names that every file format shares, so that two models can be laid side by side.
//!
//! Owns: which weight of a GGUF file is which of a repository, through the names that families give them.
//! Does not own: what their values say of each other (`pondera-audit`).
use crate::{Config, Params, Result, Source, params::Core};
use pondera_ops::W;

/// A weight with its names.
#[derive(Clone, Debug)]
pub struct Named {
    /// The name that the family's repositories have for it, whatever the files call it. Where a family knows a weight of
    /// a GGUF file only as part of another (stacks of experts), the name in the files.
    pub key: String,
    /// The name in the files.
    pub name: String,
    /// Its matrices `[groups; out, inp]`, laid out as the family reads them whatever the files' layout.
    pub weight: W,
}

/// What a family finds in the files of a model.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Its weights, in the order in which the family names them: equal for all files of one configuration.
    pub weights: Vec<Named>,
    /// Modules that have no weight of their own but share one, by key, with the index of that in `weights`.
    pub tied: Vec<(String, usize)>,
    /// Tensors in the files that the family does not compute with, sorted.
    pub unused: Vec<String>,
}

impl Inventory {
    /// The weights of `config` in `source`. Errors are those of [`crate::Model::load`].
    pub fn load(config: &Config, source: &Source<'_>) -> Result<Inventory> {
        let mut core = Core::new(config, source)?;
        core.keys = Some(Default::default());
        (config.family().load)(config, &Params::root(&core)).map_err(|e| core.place(e))?;
        let (unused, keys) = (core.unused(), core.keys.take().unwrap_or_default().into_inner());
        let declared = core.finish();
        let key = |name: &str| keys.get(name).cloned().unwrap_or_else(|| name.to_string());
        let of = |w: &W| declared.handles.iter().position(|h| std::sync::Arc::ptr_eq(h, w));
        let shared = declared.tied.iter().filter_map(|t| Some((key(t.names.first()?), of(&t.weight)?)));
        let tied = shared.collect();
        let named = |(listed, weight): (&crate::Listed, &W)| Named {
            key: key(&listed.name),
            name: listed.name.clone(),
            weight: weight.clone(),
        };
        let weights = declared.tensors.iter().zip(&declared.handles).map(named).collect();
        Ok(Inventory { weights, tied, unused })
    }
}
