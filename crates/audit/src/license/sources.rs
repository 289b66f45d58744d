//! Where a model says what it is under: licence files, the card, GGUF and safetensors metadata, configs.
//!
//! Owns which files are looked at and what each says. Does not weigh them: the report does.
use super::{
    Identified, card, identify, names,
    report::{Base, How, Source},
};
use pondera_quant::Bytes;
use pondera_weights::{Error, ErrorKind, Gguf, Mapping, Result, Weights, gguf};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Longest card, licence or config that is read.
const FILE_MAX: u64 = super::TEXT_MAX as u64;
/// Most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 20_000;
/// Most licence files of a folder that are read.
const LICENSES_MAX: usize = 16;

/// The configuration of an artefact of the ModelPack specification, where a pull from an OCI registry keeps it.
const ARTEFACT: &str = ".oci/config.json";

/// Most base models that a file names.
pub(super) const BASES_MAX: usize = 64;

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub sources: Vec<Source>,
    pub bases: Vec<Base>,
}

/// Looks at `path`: a model's folder, one of its weight files, a licence text, a card.
pub(super) fn find(path: &Path) -> Result<Found> {
    let mut found = Found::default();
    let meta = fs::metadata(path).map_err(|e| Error::io(path, &e))?;
    if meta.is_dir() {
        found.folder(path)?;
        return Ok(found);
    }
    if is_weights(path)? {
        found.weights(&Weights::open(path)?);
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        found.folder_texts(folder)?;
        return Ok(found);
    }
    let text = read_text(path)?;
    let name = file_name(path);
    if name.ends_with(".json") {
        found.config(&name, &text);
    } else if let Some(yaml) = card::front_matter(&text) {
        found.card(&name, yaml);
    } else {
        found.text(&name, &text);
    }
    Ok(found)
}

/// What these files say under the names of their repository. Those of weights are opened for their metadata alone.
pub(super) fn of_files(files: &[(String, PathBuf)]) -> Found {
    let mut found = Found::default();
    let mut files: Vec<&(String, PathBuf)> =
        files.iter().filter(|(name, _)| !name.contains('/') || name == ARTEFACT).collect();
    files.sort();
    found.texts(&files.iter().map(|(name, path)| (name.clone(), path.as_path())).collect::<Vec<_>>());
    let weights = |end: &str| files.iter().find(|(name, _)| name.to_lowercase().ends_with(end));
    // Of several, the first says what all say. Each is opened alone: the rest of a set may not be there.
    if let Some((name, path)) = weights(".safetensors")
        && let Ok(w) = Weights::open(path)
    {
        found.metadata(name, w.metadata(), None);
    }
    if let Some((name, path)) = weights(".gguf")
        && let Ok(map) = Mapping::open(path)
        && let Ok(parsed) = gguf::parse(Bytes::new(Arc::new(map)))
    {
        found.metadata(name, &[], Some(&parsed.gguf));
    }
    found
}

/// What the metadata of open weights says.
pub(super) fn of(weights: &Weights) -> Found {
    let mut found = Found::default();
    found.weights(weights);
    found
}

/// Texts that go with what is made of `path` (a model's folder, or one of its files): licences, notices, policies of
/// use, each with its name; those that its weights carry in their metadata, too.
pub(super) fn texts_of(path: Option<&Path>, weights: &Weights) -> Result<Vec<(String, String)>> {
    let mut texts = carried(weights);
    let Some(path) = path else { return Ok(texts) };
    let folder = match path.is_dir() {
        true => path,
        false => path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")),
    };
    for path in listed(folder)?.iter().filter(|p| goes_along(&file_name(p))).take(LICENSES_MAX) {
        let name = file_name(path);
        if !texts.iter().any(|(other, _)| *other == name) {
            texts.push((name, read_text(path)?));
        }
    }
    Ok(texts)
}

/// Texts that weights carry in their metadata.
pub(super) fn carried(weights: &Weights) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    let mut add = |key: &str, text: &str| {
        if let Some(name) = key.strip_prefix(TEXT_KEY).filter(|n| goes_along(n))
            && texts.len() < LICENSES_MAX
        {
            texts.push((name.to_string(), text.to_string()));
        }
    };
    weights.metadata().iter().for_each(|(key, text)| add(key, text));
    if let Some(g) = weights.gguf() {
        for key in g.keys().filter(|key| key.starts_with(TEXT_KEY)) {
            if let Ok(Some(text)) = g.str(key) {
                add(key, text);
            }
        }
    }
    texts
}

/// In front of the names of texts that weights carry in their metadata.
pub(super) const TEXT_KEY: &str = "license_text.";

/// Whether a file of this name goes along with what is made of its folder.
fn goes_along(name: &str) -> bool {
    let upper = name.to_uppercase();
    let text = ["", "MD", "TXT", "RST"].contains(&upper.rsplit_once('.').map_or("", |(_, ending)| ending));
    let named = || ["NOTICE", "USE_POLICY", "TERMS"].iter().any(|n| upper.starts_with(n));
    !name.contains('/') && (is_license(name) || text && named())
}

/// Files of a folder, sorted.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io(folder, &e))?;
    let mut files: Vec<PathBuf> =
        entries.take(ENTRIES_MAX).filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file()).collect();
    files.sort();
    Ok(files)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a file holds tensors, by its first bytes and its name.
fn is_weights(path: &Path) -> Result<bool> {
    let mut head = [0u8; 16];
    let mut file = fs::File::open(path).map_err(|e| Error::io(path, &e))?;
    let n = file.read(&mut head).map_err(|e| Error::io(path, &e))?;
    let head = head.get(..n).unwrap_or(&[]);
    let name = file_name(path).to_lowercase();
    let ending = [".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".index.json"];
    Ok(head.starts_with(b"GGUF")
        || head.get(8) == Some(&b'{') && head.get(7) == Some(&0)
        || ending.iter().any(|e| name.ends_with(e)))
}

/// A text of bounded length; other encodings than UTF-8 lose what they cannot say.
fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|e| Error::io(path, &e))?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, &e))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(
            Error::new(ErrorKind::Unsupported, format!("longer than {FILE_MAX} bytes: no licence text")).at(path)
        );
    }
    if bytes.contains(&0) {
        return Err(Error::new(ErrorKind::Unsupported, "neither a text nor a model's file").at(path));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a file of a model's folder is a licence, by its name.
fn is_license(name: &str) -> bool {
    let upper = name.to_uppercase();
    let stem =
        upper.strip_suffix(".MD").or(upper.strip_suffix(".TXT")).or(upper.strip_suffix(".RST")).unwrap_or(&upper);
    let named = stem.contains("LICENSE") || stem.contains("LICENCE") || stem.starts_with("COPYING");
    named
        && stem
            .rsplit('.')
            .next()
            .is_none_or(|last| last.len() > 4 || last == stem || last.bytes().all(|b| b.is_ascii_digit()))
}

impl Found {
    fn folder(&mut self, folder: &Path) -> Result<()> {
        self.folder_texts(folder)?;
        // Weights that cannot be read are no licence's trouble: `inspect` and `audit` say what is wrong with them.
        if let Ok(w) = Weights::open(folder) {
            self.weights(&w);
        }
        Ok(())
    }

    /// Licence files, card and configs of a folder.
    fn folder_texts(&mut self, folder: &Path) -> Result<()> {
        let (files, artefact) = (listed(folder)?, folder.join(ARTEFACT));
        let mut named: Vec<(String, &Path)> = files.iter().map(|p| (file_name(p), p.as_path())).collect();
        if artefact.is_file() {
            named.push((ARTEFACT.into(), &artefact));
        }
        self.texts(&named);
        Ok(())
    }

    /// Licence files, card and configs among these files.
    fn texts(&mut self, files: &[(String, &Path)]) {
        for (name, path) in files.iter().filter(|(name, _)| is_license(name)).take(LICENSES_MAX) {
            match read_text(path) {
                Ok(text) => self.text(name, &text),
                Err(e) => self.sources.push(Source::trouble(name.clone(), How::Text, e.to_string())),
            }
        }
        for (name, path) in files {
            match &**name {
                "README.md" => {
                    let text = read_text(path).unwrap_or_default();
                    if let Some(yaml) = card::front_matter(&text) {
                        self.card(name, yaml);
                    }
                }
                "config.json" | "adapter_config.json" | "mergekit_config.json" => {
                    self.config(name, &read_text(path).unwrap_or_default());
                }
                ARTEFACT => self.artefact(name, &read_text(path).unwrap_or_default()),
                _ => {}
            }
        }
    }

    fn weights(&mut self, w: &Weights) {
        let file = w.files().next().map(file_name).unwrap_or_default();
        // A licence in a folder counts, not its copy in a file of it.
        for (name, text) in carried(w) {
            if is_license(&name) && !self.sources.iter().any(|s| s.file == name) {
                self.text(&name, &text);
            }
        }
        self.metadata(&file, w.metadata(), w.gguf());
    }

    fn text(&mut self, name: &str, text: &str) {
        let found: Identified = identify(text);
        let notice = !found.parts.is_empty() && found.parts.iter().all(|p| p.notice);
        self.sources.push(Source {
            file: name.into(),
            how: if notice { How::Notice } else { How::Text },
            id: found.id(),
            confidence: found.confidence(),
            contains: found.parts.iter().map(|p| p.id.clone()).collect(),
            riders: found.riders,
            resembles: found.resembles,
            trouble: None,
            words: text.split_whitespace().take(100).count(),
        });
    }

    fn card(&mut self, name: &str, yaml: &str) {
        let c = card::parse(yaml);
        let id = names::declared(&c.license, c.license_name.as_deref());
        let many = c.base_model.len() > 1;
        for model in &c.base_model {
            let guess = if many { "merge" } else { "derived" };
            self.bases.push(Base::new(model, c.relation.as_deref().unwrap_or(guess), name));
        }
        if id.is_some() || c.trouble.is_some() {
            self.sources.push(Source { trouble: c.trouble, ..Source::declared(name, How::Card, id) });
        }
    }

    fn config(&mut self, name: &str, text: &str) {
        let Ok(json) = serde_json::from_str::<serde_json::Value>(text) else { return };
        let string = |key: &str| json.get(key).and_then(|v| v.as_str());
        if let Some(license) = string("license") {
            self.sources.push(Source::declared(name, How::Config, names::id(license)));
        }
        if let Some(model) = string("base_model_name_or_path").filter(|m| !m.is_empty()) {
            self.bases.push(Base::new(model, "adapter", name));
        }
    }

    /// The licences that an artefact's description names: `descriptor.licenses`, SPDX expressions.
    fn artefact(&mut self, name: &str, text: &str) {
        let Ok(json) = serde_json::from_str::<serde_json::Value>(text) else { return };
        let licenses = json.pointer("/descriptor/licenses").and_then(|v| v.as_array());
        let texts = licenses.into_iter().flatten().filter_map(|v| v.as_str()).map(str::to_string);
        let id = names::declared(&texts.take(LICENSES_MAX).collect::<Vec<_>>(), None);
        if id.is_some() {
            self.sources.push(Source::declared(name, How::Config, id));
        }
    }

    /// What the metadata of weight files says.
    fn metadata(&mut self, file: &str, pairs: &[(String, String)], gguf: Option<&Gguf>) {
        let pair = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        for value in ["license", "modelspec.license"].into_iter().filter_map(pair) {
            self.declared_or_text(file, How::Metadata, value, pair("license_name"));
        }
        let (models, relations) = (list(pair("base_model")), list(pair("base_model_relation")));
        for (i, model) in models.iter().enumerate().take(BASES_MAX) {
            self.bases.push(Base::new(model, relations.get(i).map_or("derived", |r| r), file));
        }
        let Some(g) = gguf else { return };
        let string = |key: &str| g.str(key).ok().flatten();
        if let Some(license) = string("general.license") {
            self.declared_or_text(file, How::Gguf, license, string("general.license.name"));
        }
        let adapter = string("general.type") == Some("adapter");
        // Indices come from a count that the file declares: keys that are there end it.
        for i in 0..BASES_MAX {
            let key = |what: &str| format!("general.base_model.{i}.{what}");
            let url = string(&key("repo_url"))
                .and_then(|u| u.split_once("://")?.1.split_once('/').map(|(_, path)| path.to_string()));
            let named = string(&key("name")).map(|name| match string(&key("organization")) {
                Some(org) => format!("{org}/{name}").replace(' ', "-"),
                None => name.to_string(),
            });
            let Some(model) = url.or(named) else { break };
            let usual = if adapter { "adapter" } else { "quantized" };
            self.bases.push(Base::new(&model, string(&key("relation")).unwrap_or(usual), file));
        }
    }

    /// Some files hold a licence's name, some its whole text.
    fn declared_or_text(&mut self, file: &str, how: How, value: &str, name: Option<&str>) {
        if value.len() > 200 {
            return self.text(file, value);
        }
        let id = names::declared(&[value.to_string()], name);
        self.sources.push(Source::declared(file, how, id));
    }
}

/// One value, or several as a JSON array.
fn list(value: Option<&str>) -> Vec<String> {
    match value {
        None | Some("") => Vec::new(),
        Some(v) => serde_json::from_str(v).unwrap_or_else(|_| vec![v.to_string()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_known_by_their_names() {
        for (name, want) in [
            ("LICENSE", true),
            ("LICENSE.md", true),
            ("LICENCE.txt", true),
            ("LICENSE-MODEL", true),
            ("MODEL_LICENSE_AGREEMENT.txt", true),
            ("COPYING.LESSER", true),
            ("license-2.0", true),
            ("license.py", false),
            ("license.png", false),
            ("README.md", false),
        ] {
            assert_eq!(is_license(name), want, "{name}");
        }
    }

    #[test]
    fn what_must_be_passed_on_goes_along() {
        for (name, want) in [
            ("LICENSE", true),
            ("NOTICE", true),
            ("Notice.txt", true),
            ("USE_POLICY.md", true),
            ("NOTICE.png", false),
            ("a/LICENSE", false),
            ("README.md", false),
        ] {
            assert_eq!(goes_along(name), want, "{name}");
        }
    }
}
