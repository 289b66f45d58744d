//! What a file that is made of another records of its origin, in the keys that are read back: licence, base models, source, notice.
//!
//! Owns which keys say what. Terms travel with the file: a report on what was written is that on what it was made of.
//! Does not own: writing files; who writes one asks here for its metadata.
use super::{
    Report,
    names::parts,
    sources::{self, BASES_MAX, TEXT_KEY},
    terms::{self, Value, What},
};
use pondera_weights::{Result, Weights, gguf::Meta};
use std::path::Path;

/// Where hub names lead; the name is what counts, whatever mirror it came from.
const HUB: &str = "https://huggingface.co/";
/// Ids that are longer are recorded as a name: a long value of `license` is read as a text.
const ID_MAX: usize = 200;

/// Where the model of a written file comes from, and the terms that it brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The licence's id.
    pub license: Option<String>,
    /// Models that it was made of, the nearest first, each with the relation (`quantized`, `adapter`, …).
    pub bases: Vec<(String, String)>,
    /// What it was made of: `org/name@revision`, or the name of a file or folder.
    pub source: String,
    /// What whoever passes it on must say or keep, in a sentence for each licence.
    pub notice: Option<String>,
    /// Licences, notices and policies of use by their names, for a file that lies alone.
    pub texts: Vec<(String, String)>,
}

impl Origin {
    /// Of what is made of the model that `report` is about. `source` is its name; where that is one of the hub
    /// (`org/name`, with a revision or without), it is the nearest base, and `relation` says what was done to it.
    pub fn new(report: &Report, source: &str, relation: &str) -> Origin {
        let name = source.split('@').next().unwrap_or(source);
        let of_hub = name.split('/').count() == 2 && !name.starts_with(['.', '/']) && !name.ends_with('/');
        let mut bases: Vec<(String, String)> = Vec::new();
        let own = of_hub.then(|| (name.to_string(), relation.to_string()));
        for (model, relation) in
            own.into_iter().chain(report.bases.iter().map(|b| (b.model.clone(), b.relation.clone())))
        {
            if bases.len() < BASES_MAX && !bases.iter().any(|(other, _)| *other == model) {
                bases.push((model, relation));
            }
        }
        Origin { license: report.id.clone(), bases, source: source.into(), notice: notice(report), texts: Vec::new() }
    }

    /// With the texts that lie beside `path` or in its weights: a file without a folder carries them itself.
    ///
    /// # Errors
    /// A text that cannot be read: what must be passed on is not left out.
    pub fn with_texts(mut self, path: Option<&Path>, weights: &Weights) -> Result<Origin> {
        self.texts = sources::texts_of(path, weights)?;
        Ok(self)
    }

    /// `license` and `license_name`, as cards have them.
    fn license_pair(&self) -> Option<(String, Option<String>)> {
        let id = self.license.as_ref()?;
        Some(match id.strip_prefix("other: ") {
            Some(name) => ("other".into(), Some(name.to_string())),
            None if id.len() > ID_MAX => ("other".into(), Some(id.clone())),
            None => (id.clone(), terms::of(id).map(|l| l.name.clone())),
        })
    }

    /// `__metadata__` of a safetensors file.
    pub fn safetensors(&self) -> Vec<(String, String)> {
        let mut out: Vec<(String, String)> = Vec::new();
        let mut put = |key: &str, value: Option<String>| out.extend(value.map(|v| (key.to_string(), v)));
        let (license, name) = self.license_pair().unzip();
        put("license", license);
        put("license_name", name.flatten());
        let list = |items: Vec<&String>| match items[..] {
            [] => None,
            [one] => Some(one.clone()),
            _ => serde_json::to_string(&items).ok(),
        };
        put("base_model", list(self.bases.iter().map(|b| &b.0).collect()));
        put("base_model_relation", list(self.bases.iter().map(|b| &b.1).collect()));
        put("source", Some(self.source.clone()));
        put("notice", self.notice.clone());
        out.extend(self.texts.iter().map(|(name, text)| (format!("{TEXT_KEY}{name}"), text.clone())));
        out
    }

    /// Keys of a GGUF file. They stand in place of keys of these names that the source has.
    pub fn gguf(&self) -> Vec<(String, Meta)> {
        let mut out: Vec<(String, Meta)> = Vec::new();
        let mut put = |key: String, value: &str| out.push((key, Meta::String(value.to_string())));
        if let Some((license, name)) = self.license_pair() {
            put("general.license".into(), &license);
            if let Some(name) = name {
                put("general.license.name".into(), &name);
            }
        }
        for (i, (model, relation)) in self.bases.iter().enumerate() {
            let mut put = |what: &str, value: &str| put(format!("general.base_model.{i}.{what}"), value);
            match model.split_once('/') {
                Some((organization, name)) => {
                    put("name", name);
                    put("organization", organization);
                    put("repo_url", &format!("{HUB}{model}"));
                }
                None => put("name", model),
            }
            put("relation", relation);
        }
        put("general.source".into(), &self.source);
        if let Some(notice) = &self.notice {
            put("general.notice".into(), notice);
        }
        for (name, text) in &self.texts {
            put(format!("{TEXT_KEY}{name}"), text);
        }
        let count = u32::try_from(self.bases.len()).unwrap_or(u32::MAX);
        out.push(("general.base_model.count".into(), Meta::U32(count)));
        out
    }

    /// Whether `key` of a GGUF file says what [`Origin::gguf`] says anew, so that it is not copied from the source.
    pub fn replaces(key: &str) -> bool {
        ["general.license", "general.base_model.", "general.source", "general.notice", TEXT_KEY]
            .iter()
            .any(|k| key.starts_with(k))
    }
}

/// What all licences that apply want passed on or shown.
fn notice(report: &Report) -> Option<String> {
    let wanted = [What::Notice, What::Display, What::NamePrefix, What::FlowDown];
    let mut said = Vec::new();
    for l in report.effective.iter().flat_map(|id| parts(id).0).filter_map(|id| terms::of(&id)) {
        let duties = l.facts.iter().filter(|f| wanted.contains(&f.what)).map(|f| {
            let value = match &f.value {
                Value::Text(t) => t.clone(),
                Value::Number(n) => n.to_string(),
                Value::List(l) => l.join(", "),
            };
            let what = match f.what {
                What::Display => "show: ",
                What::NamePrefix => "names of derived models begin with ",
                _ => "",
            };
            format!("{what}{value} (clause {})", f.clause)
        });
        let duties: Vec<String> = duties.collect();
        let tail = if duties.is_empty() { String::new() } else { format!(": {}", duties.join("; ")) };
        said.push(format!("{} ({}){tail}", l.name, l.id));
    }
    (!said.is_empty()).then(|| said.join(". "))
}

#[cfg(test)]
mod tests {
    use super::super::{report, report_of};
    use super::*;
    use pondera_weights::{gguf, safetensors};
    use std::{fs, path::PathBuf};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("pondera-origin-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// What a report says of the licence, without the places where it was read.
    fn said(r: &Report) -> [Vec<String>; 5] {
        let id = r.id.iter().cloned().collect();
        [id, r.effective.clone(), r.permissions.clone(), r.conditions.clone(), r.limitations.clone()]
    }

    fn bases(r: &Report) -> Vec<(String, String, Option<String>)> {
        r.bases.iter().map(|b| (b.model.clone(), b.relation.clone(), b.id.clone())).collect()
    }

    /// Writes an empty model of each format with this origin, and reads both back.
    fn written(folder: &Folder, origin: &Origin) -> [Report; 2] {
        let place = folder.0.join("alone");
        fs::create_dir_all(&place).unwrap();
        let pairs = origin.safetensors();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (&**k, &**v)).collect();
        let (a, b) = (place.join("m.safetensors"), place.join("m.gguf"));
        safetensors::Writer::new(fs::File::create(&a).unwrap(), &pairs, &[]).unwrap().finish().unwrap();
        let pairs = origin.gguf();
        let pairs: Vec<(&str, gguf::Meta)> = pairs.iter().map(|(k, v)| (&**k, v.clone())).collect();
        gguf::Writer::new(fs::File::create(&b).unwrap(), &pairs, &[]).unwrap().finish().unwrap();
        let reports = [&a, &b].map(|f| {
            let whole = report(f).unwrap();
            assert_eq!(said(&report_of(&Weights::open(f).unwrap())), said(&whole));
            whole
        });
        fs::remove_dir_all(&place).unwrap();
        reports
    }

    #[test]
    fn what_is_written_reads_back_as_what_it_was_made_of() {
        let cards = [
            "license: apache-2.0",
            "license: llama3.1\nbase_model: meta-llama/Llama-3.1-8B\nbase_model_relation: finetune",
            "license: apache-2.0\nbase_model:\n- meta-llama/Llama-3.1-8B\n- Qwen/Qwen2.5-72B\n- org/unheard",
            "license: other\nlicense_name: qwen",
            "license: other",
            "license: [mit, cc-by-nc-4.0]",
            "license: gemma",
            "license: my-own-license",
            "tags: [x]",
            "base_model: moonshotai/Kimi-K3",
            "license: openrail",
        ];
        let folder = Folder::new("cards");
        for card in cards {
            fs::write(folder.0.join("README.md"), format!("---\n{card}\n---\n")).unwrap();
            let before = report(&folder.0).unwrap();
            let origin = Origin::new(&before, "model-folder", "quantized");
            for after in written(&folder, &origin) {
                assert_eq!(said(&after), said(&before), "{card}\n{origin:?}");
                assert_eq!(bases(&after), bases(&before), "{card}");
            }
        }
    }

    #[test]
    fn texts_travel_with_a_file_that_lies_alone() {
        let folder = Folder::new("texts");
        let mit = spdx::license_id("MIT").unwrap().text();
        for (name, text, want) in [
            ("LICENSE", mit.to_string(), Some("MIT")),
            ("LICENSE", format!("{mit}\nCommercial use requires our written consent.\n"), None),
        ] {
            fs::write(folder.0.join(name), text).unwrap();
            fs::write(folder.0.join("NOTICE"), "Made by Example Labs.").unwrap();
            fs::write(folder.0.join("README.md"), "---\nlicense: mit\n---\n").unwrap();
            let empty = folder.0.join("e.safetensors");
            safetensors::Writer::new(fs::File::create(&empty).unwrap(), &[], &[]).unwrap().finish().unwrap();
            let before = report(&folder.0).unwrap();
            assert_eq!(before.id.as_deref(), want);
            let weights = Weights::open(&empty).unwrap();
            let origin =
                Origin::new(&before, "org/name@main", "quantized").with_texts(Some(&folder.0), &weights).unwrap();
            assert_eq!(origin.texts.iter().map(|t| &*t.0).collect::<Vec<_>>(), ["LICENSE", "NOTICE"]);
            for after in written(&folder, &origin) {
                // The text decides, as it did before: a rider is not lost.
                assert_eq!((after.id.as_deref(), &after.effective), (want, &before.effective));
                assert_eq!(bases(&after)[0].0, "org/name");
            }
        }
    }

    #[test]
    fn the_model_itself_is_the_nearest_base() {
        let llama = Report { id: Some("Llama-3.1".into()), effective: vec!["Llama-3.1".into()], ..Report::default() };
        let origin = Origin::new(&llama, "meta-llama/Llama-3.1-8B@abc", "quantized");
        assert_eq!(origin.bases, [("meta-llama/Llama-3.1-8B".to_string(), "quantized".to_string())]);
        let notice = origin.notice.clone().unwrap();
        assert!(notice.contains("Built with Llama") && notice.contains("1.b.iii"), "{notice}");
        assert!(origin.gguf().iter().all(|(key, _)| Origin::replaces(key)));
        for plain in ["model.gguf", "./a", "/tmp/a", "a/b/c", "folder/"] {
            assert!(Origin::new(&llama, plain, "quantized").bases.is_empty(), "{plain}");
        }
    }
}
