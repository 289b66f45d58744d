//! A model's configuration against its tensors: whether the family that it names is made of what the files hold.
//!
//! Owns how trouble is graded. What a family is made of, and of which shapes, is the family's own (`pondera-arch`): the model
//! is loaded without a byte of its weights being read, and what is left over is named.
use super::{Set, model_metadata};
use crate::findings::{CONFIG_MISMATCH, CONFIG_UNKNOWN, Findings, Severity};
use pondera_arch::{Config, Error, ErrorKind, Model, Source};
use std::{fs, io::Read, path::Path};

/// Longest configuration that is read.
const CONFIG_MAX: u64 = 16 << 20;

/// A small file, if it is there.
pub(super) fn small_file(path: &Path) -> Option<Vec<u8>> {
    let m = fs::metadata(path).ok()?;
    if !m.is_file() || m.len() > CONFIG_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(CONFIG_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The configuration of a set; none where there is none to hold it to.
pub(super) fn config_of(set: &Set<'_>) -> Option<pondera_arch::Result<Config>> {
    if let Some(gguf) = model_metadata(set.weights) {
        return Some(Config::from_gguf(gguf));
    }
    let folder = set.weights.folder();
    let text = set.main.then(|| small_file(&folder.join("config.json"))).flatten()?;
    let config = Config::from_json(&text);
    Some(match small_file(&folder.join("hf_quant_config.json")) {
        Some(text) => config.and_then(|c| c.with_quantization_file(&text)),
        None => config,
    })
}

pub(super) fn look(set: &Set<'_>, findings: &mut Findings) {
    if set.weights.tensors().is_empty() {
        return;
    }
    let Some(config) = config_of(set) else { return };
    let loaded = config.and_then(|c| {
        let model = Model::load(&c, &Source::Files(set.weights))?;
        Ok((model.warnings().to_vec(), c))
    });
    match loaded {
        Err(e) => trouble(set, &e, findings),
        Ok((warnings, config)) => {
            for w in &warnings {
                set.add(findings, CONFIG_MISMATCH, Severity::Low, None, w.clone());
            }
            layers(set, &config, findings);
        }
    }
}

fn trouble(set: &Set<'_>, e: &Error, findings: &mut Findings) {
    let (rule, severity) = match e.kind() {
        ErrorKind::Unsupported => (CONFIG_UNKNOWN, Severity::Info),
        ErrorKind::Config | ErrorKind::Tensor => (CONFIG_MISMATCH, Severity::Medium),
    };
    set.add(findings, rule, severity, Some(e.item()), e.to_string());
}

/// Layers in the files beyond those of the configuration, but for those that predict further tokens.
fn layers(set: &Set<'_>, config: &Config, findings: &mut Findings) {
    let Ok(told) = config.num_hidden_layers() else { return };
    let further = ["num_nextn_predict_layers", "num_mtp_modules", "mtp_num_layers"];
    let further = further.iter().filter_map(|k| config.keys().get(*k)?.as_u64()).max().unwrap_or(0) as usize;
    let number = |name: &str| {
        let at = ["layers.", "blk.", ".h."].iter().find_map(|p| Some(name.find(p)? + p.len()))?;
        name[at..].split('.').next()?.parse::<usize>().ok()
    };
    let text = |name: &&str| !["vision", "visual", "audio", "encoder.", "mtp."].iter().any(|p| name.contains(p));
    let found = set.weights.names().filter(text).filter_map(number).max().map_or(0, |n| n.saturating_add(1));
    if found > told.saturating_add(further) {
        let what = format!("the configuration has {told} layers, the files have {found}");
        set.add(findings, CONFIG_MISMATCH, Severity::Low, Some("num_hidden_layers"), what);
    }
}
