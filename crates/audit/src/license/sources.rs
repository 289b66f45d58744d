//! Where a model says what it is under: licence files, the card, GGUF and safetensors metadata, configs.
//!
//! Owns which files are looked at and what each says. Does not weigh them: the report does.
use super::{
    Identified, card, identify, names,
    report::{Base, How, Source},
};
use pondera_weights::{Error, ErrorKind, Result, Weights};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// Longest card, licence or config that is read.
const FILE_MAX: u64 = super::TEXT_MAX as u64;
/// Most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 20_000;
/// Most licence files of a folder that are read.
const LICENSES_MAX: usize = 16;

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
        found.weights(path)?;
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

/// What the metadata of open weights says.
pub(super) fn of(weights: &Weights) -> Found {
    let mut found = Found::default();
    found.metadata(weights);
    found
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
            self.metadata(&w);
        }
        Ok(())
    }

    /// Licence files, card and configs of a folder.
    fn folder_texts(&mut self, folder: &Path) -> Result<()> {
        let entries = fs::read_dir(folder).map_err(|e| Error::io(folder, &e))?;
        let mut files: Vec<PathBuf> =
            entries.take(ENTRIES_MAX).filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file()).collect();
        files.sort();
        for path in files.iter().filter(|p| is_license(&file_name(p))).take(LICENSES_MAX) {
            match read_text(path) {
                Ok(text) => self.text(&file_name(path), &text),
                Err(e) => self.sources.push(Source::trouble(file_name(path), How::Text, e.to_string())),
            }
        }
        for path in &files {
            let name = file_name(path);
            match &*name {
                "README.md" => {
                    let text = read_text(path).unwrap_or_default();
                    if let Some(yaml) = card::front_matter(&text) {
                        self.card(&name, yaml);
                    }
                }
                "config.json" | "adapter_config.json" | "mergekit_config.json" => {
                    self.config(&name, &read_text(path).unwrap_or_default());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn weights(&mut self, path: &Path) -> Result<()> {
        let w = Weights::open(path)?;
        self.metadata(&w);
        Ok(())
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

    /// What the metadata of weight files says.
    fn metadata(&mut self, w: &Weights) {
        let file = w.files().next().map(file_name).unwrap_or_default();
        for (_, value) in w.metadata().iter().filter(|(k, _)| matches!(&**k, "license" | "modelspec.license")) {
            self.declared_or_text(&file, How::Metadata, value, None);
        }
        let Some(g) = w.gguf() else { return };
        let string = |key: &str| g.str(key).ok().flatten();
        if let Some(license) = string("general.license") {
            self.declared_or_text(&file, How::Gguf, license, string("general.license.name"));
        }
        let adapter = string("general.type") == Some("adapter");
        // Indices come from a count that the file declares: keys that are there end it.
        for i in 0..64 {
            let key = |what: &str| format!("general.base_model.{i}.{what}");
            let url = string(&key("repo_url"))
                .and_then(|u| u.split_once("://")?.1.split_once('/').map(|(_, path)| path.to_string()));
            let named = string(&key("name")).map(|name| match string(&key("organization")) {
                Some(org) => format!("{org}/{name}").replace(' ', "-"),
                None => name.to_string(),
            });
            let Some(model) = url.or(named) else { break };
            self.bases.push(Base::new(&model, if adapter { "adapter" } else { "quantized" }, &file));
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
}
