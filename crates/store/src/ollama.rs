//! Models that Ollama has fetched, used where they lie: its manifests name one GGUF blob each. Also the names that models
//! have in our own folder. Does not own: Ollama's blobs; nothing here changes or removes them.
use crate::{
    Store,
    digest::Digest,
    error::{At, Error, ErrorKind, Result, quoted},
    layout::{random, symlink},
    local::walk,
    names::plain,
    pull::{Watch, Watcher},
};
use serde::Deserialize;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Longest manifest that is read, in bytes.
const MANIFEST_MAX: u64 = 1 << 20;
const MODEL_LAYER: &str = "application/vnd.ollama.image.model";

/// A model of Ollama's.
#[derive(Clone, Debug)]
pub struct OllamaModel {
    /// `name:tag`, with host and namespace where they are not the usual ones.
    pub name: String,
    /// The GGUF blob.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
}

impl Store {
    /// Models that Ollama has on this machine, by name. None where there is no folder of Ollama's.
    pub fn ollama_models(&self) -> Result<Vec<OllamaModel>> {
        let Some(folder) = &self.config().ollama else { return Ok(vec![]) };
        let mut manifests = Vec::new();
        walk(&folder.join("manifests"), "", 8, &mut manifests)?;
        // A manifest that cannot be read is one model less in the list, and an error where it is named.
        Ok(manifests.iter().filter_map(|m| read_manifest(folder, m).ok()).collect())
    }

    /// One of them by name: `llama3.2`, `llama3.2:3b`, `someone/model:tag`.
    pub fn ollama_model(&self, name: &str) -> Result<OllamaModel> {
        let wrong = || Error::new(ErrorKind::Invalid, format!("`{}` is no name of Ollama's", quoted(name)));
        let (path, tag) = name.split_once(':').unwrap_or((name, "latest"));
        let parts: Vec<&str> = path.split('/').collect();
        if !plain(tag) || !parts.iter().all(|p| plain(p)) {
            return Err(wrong().hint("as in ollama:llama3.2:3b"));
        }
        let manifest = match parts.as_slice() {
            [name] => format!("registry.ollama.ai/library/{name}/{tag}"),
            [space, name] => format!("registry.ollama.ai/{space}/{name}/{tag}"),
            [host, space, name] => format!("{host}/{space}/{name}/{tag}"),
            _ => return Err(wrong().hint("as in ollama:llama3.2:3b")),
        };
        let absent = || {
            Error::new(ErrorKind::Missing, format!("{}: Ollama has no such model here", quoted(name)))
                .hint("`ollama list` shows those it has; OLLAMA_MODELS names its folder")
        };
        let folder = self.config().ollama.as_ref().ok_or_else(absent)?;
        if !folder.join("manifests").join(&manifest).is_file() {
            return Err(absent());
        }
        read_manifest(folder, &manifest)
    }

    /// Hashes the model's blob and gives it a name in our folder, without a copy.
    pub fn import_ollama(&self, name: &str, as_name: &str, watch: Watch<'_>) -> Result<OllamaModel> {
        let model = self.ollama_model(name)?;
        let watcher = Watcher::new(watch);
        watcher.expect(1, model.size);
        watcher.reset(name);
        let mut file = File::open(&model.path).at(&model.path)?;
        let holds = model.digest.matches(&mut file, model.size, |n| {
            watcher.add(n, 0);
            watcher.check_io()
        });
        watcher.check()?;
        if !holds.at(&model.path)? {
            let what = format!("{}: its bytes are not {}", model.path.display(), model.digest);
            return Err(Error::new(ErrorKind::Corrupt, what).hint(format!("fetch it again: ollama pull {name}")));
        }
        self.name(as_name, &model.path)?;
        Ok(model)
    }

    /// Gives the file or folder at `target` a name of its own: a link in our folder. The name must be free, or the same
    /// link already. It leads to `target` as it stands, a link of the cache included, for what lies beside that speaks of
    /// the model; of another of our names to what that one leads to.
    pub fn name(&self, name: &str, target: &Path) -> Result<PathBuf> {
        let folder = self.named_folder()?;
        if !plain(name) {
            return Err(Error::new(ErrorKind::Invalid, format!("`{}` is no name for a model", quoted(name)))
                .hint("letters, digits, `-`, `_` and `.`"));
        }
        fs::create_dir_all(folder).at(folder)?;
        let target = as_it_stands(target, folder)?;
        let at = folder.join(if target.is_dir() { name.to_string() } else { format!("{name}.gguf") });
        match fs::symlink_metadata(&at) {
            Ok(m) if m.is_symlink() => {}
            Ok(_) => {
                return Err(Error::new(ErrorKind::Choice, format!("{}: is there already", at.display()))
                    .hint("choose another name"));
            }
            Err(_) => {}
        }
        let new = folder.join(format!(".{}", random()));
        symlink(&target, &new).at(&new)?;
        fs::rename(&new, &at).at(&at)?;
        Ok(at)
    }

    /// Takes a name away again; the model itself stays. `Missing` where there is no such link.
    pub fn unname(&self, name: &str) -> Result<()> {
        let folder = self.named_folder()?;
        let is_link = |p: &PathBuf| fs::symlink_metadata(p).is_ok_and(|m| m.is_symlink());
        let found = [folder.join(name), folder.join(format!("{name}.gguf"))].into_iter().find(is_link);
        let at = found.filter(|_| plain(name)).ok_or_else(|| {
            Error::new(ErrorKind::Missing, format!("{}: no such name in {}", quoted(name), folder.display()))
                .hint("`pondera list` shows what is there")
        })?;
        fs::remove_file(&at).at(&at)
    }

    /// Names in our folder with the links that they are.
    pub fn named(&self) -> Result<Vec<(String, PathBuf)>> {
        let Some(folder) = &self.config().named else { return Ok(vec![]) };
        let mut all = Vec::new();
        for name in crate::local::names_in(folder)?.into_iter().filter(|n| plain(n)) {
            let at = folder.join(&name);
            if at.is_dir() || name.ends_with(".gguf") || name.ends_with(".safetensors") {
                all.push((name.strip_suffix(".gguf").unwrap_or(&name).to_string(), at));
            }
        }
        Ok(all)
    }

    fn named_folder(&self) -> Result<&PathBuf> {
        self.config().named.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Missing, "there is no folder for names").hint("name one with --store DIR")
        })
    }
}

/// `target` with its folder resolved and itself not, unless it is one of the names in `folder`.
fn as_it_stands(target: &Path, folder: &Path) -> Result<PathBuf> {
    fs::metadata(target).at(target)?;
    let whole = |path: &Path| -> Result<PathBuf> {
        let Some(name) = path.file_name() else { return fs::canonicalize(path).at(path) };
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(fs::canonicalize(parent).at(parent)?.join(name))
    };
    let (at, folder) = (whole(target)?, fs::canonicalize(folder).at(folder)?);
    match fs::read_link(&at) {
        Ok(leads) if at.starts_with(&folder) => whole(&folder.join(leads)),
        _ => Ok(at),
    }
}

fn read_manifest(folder: &Path, manifest: &str) -> Result<OllamaModel> {
    let at = folder.join("manifests").join(manifest);
    let bad = |what: &str| {
        Error::new(ErrorKind::Corrupt, format!("{}: {what}", at.display())).hint("fetch it again with ollama pull")
    };
    if fs::metadata(&at).at(&at)?.len() > MANIFEST_MAX {
        return Err(bad("too long for a manifest"));
    }
    let bytes = fs::read(&at).at(&at)?;
    let found: Manifest = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
    let layers: Vec<&Layer> = found.layers.iter().filter(|l| l.media_type == MODEL_LAYER).collect();
    let [layer] = layers.as_slice() else { return Err(bad("does not name one model")) };
    let hex = layer.digest.strip_prefix("sha256:").and_then(Digest::parse);
    let digest = hex.filter(|d| matches!(d, Digest::Sha256(_))).ok_or_else(|| bad("names no digest"))?;
    let path = folder.join("blobs").join(format!("sha256-{}", digest.as_str()));
    if !fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == layer.size) {
        return Err(bad("its blob is not there, or of another size"));
    }
    let mut parts: Vec<&str> = manifest.split('/').collect();
    let tag = parts.pop().unwrap_or("latest");
    let usual = ["registry.ollama.ai", "library"];
    let skip = usual.iter().zip(&parts).take_while(|(a, b)| a == b).count();
    let name = format!("{}:{tag}", parts.get(skip..).unwrap_or(&parts).join("/"));
    Ok(OllamaModel { name, path, size: layer.size, digest })
}
