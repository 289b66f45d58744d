//! Adapters: what their file holds against what their configuration announces.
//!
//! Owns the comparison for PEFT's layout (`adapter_config.json` beside `adapter_model.safetensors`): modules, layers, ranks,
//! scales, and what is saved whole. An adapter that changes more than it says may change what nobody looks at. Adapters in GGUF
//! files announce no modules; their scale is looked at.
use super::{Set, config::small_file};
use crate::findings::{ADAPTER_EXTRA, ADAPTER_MISMATCH, ADAPTER_SCALE, Findings, Severity, shown};
use pondera_arch::Config;
use regex_lite::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Factors beyond this drown the model that is adapted; published ones are 0.25 to 16.
const SCALE_MAX: f64 = 100.0;
/// Modules that a finding lists.
const SHOWN_MAX: usize = 8;
/// Longer patterns are not tried.
const PATTERN_MAX: usize = 4096;

/// A module that a file changes.
#[derive(Default)]
struct Touched {
    a: Option<usize>,
    b: Option<usize>,
    table: bool,
}

/// Whether the set is an adapter; what is wrong with it is found.
pub(super) fn look(set: &Set<'_>, findings: &mut Findings) -> bool {
    if let Some(gguf) = set.weights.gguf() {
        let adapter = gguf.str("general.type").ok().flatten() == Some("adapter");
        if adapter {
            let alpha = gguf.f64("adapter.lora.alpha").ok().flatten();
            let rank = set
                .weights
                .tensors()
                .iter()
                .find(|t| t.name.ends_with(".lora_b"))
                .and_then(|t| t.shape.last().copied());
            if let (Some(alpha), Some(rank)) = (alpha, rank.filter(|r| *r > 0)) {
                scale(set, alpha / rank as f64, &format!("alpha {alpha} over rank {rank}"), findings);
            }
        }
        return adapter;
    }
    if !set.weights.names().any(|n| n.contains(".lora_")) {
        return false;
    }
    let Some(text) = small_file(&set.weights.folder().join("adapter_config.json")) else { return true };
    match Config::parse(&text) {
        Ok(keys) if keys.is_object() => Announced { keys: &keys }.against(set, findings),
        _ => {
            set.add(findings, ADAPTER_MISMATCH, Severity::Medium, None, "adapter_config.json is no JSON object".into())
        }
    }
    true
}

/// The module of a tensor and whether it is of a low-rank change: `None` for what is saved whole.
fn split(name: &str) -> (&str, Option<&str>) {
    for part in [".lora_A.", ".lora_B.", ".lora_embedding_A", ".lora_embedding_B", ".lora_magnitude_vector"] {
        if let Some(at) = name.find(part) {
            return (&name[..at], Some(part.trim_matches('.')));
        }
    }
    (name, None)
}

fn scale(set: &Set<'_>, factor: f64, how: &str, findings: &mut Findings) {
    let (severity, what) = match factor {
        f if !f.is_finite() => (Severity::Medium, format!("the factor is no number ({how})")),
        f if f.abs() > SCALE_MAX => (Severity::Medium, format!("what it adds is taken {f:.4e} times ({how})")),
        f if f < 0.0 => (Severity::Low, format!("what it was trained to add is taken away: the factor is {f} ({how})")),
        0.0 => (Severity::Info, format!("the factor is 0, so that it adds nothing ({how})")),
        _ => return,
    };
    set.add(findings, ADAPTER_SCALE, severity, None, what);
}

/// What `adapter_config.json` says.
struct Announced<'a> {
    keys: &'a Value,
}

impl Announced<'_> {
    fn list(&self, key: &str) -> Vec<&str> {
        let list = self.keys.get(key).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key).and_then(Value::as_str)
    }

    fn flag(&self, key: &str) -> bool {
        self.keys.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The number of `key`, or of the first pattern of `patterns` that names the module.
    fn number(&self, key: &str, patterns: &[(Regex, f64)], module: &str) -> Option<f64> {
        patterns.iter().find(|p| p.0.is_match(module)).map(|p| p.1).or_else(|| self.keys.get(key)?.as_f64())
    }

    fn patterns(&self, key: &str) -> Vec<(Regex, f64)> {
        let map = self.keys.get(key).and_then(Value::as_object);
        let one =
            |(name, value): (&String, &Value)| Some((pattern(&format!("(?:.*\\.)?(?:{name})"))?, value.as_f64()?));
        map.into_iter().flatten().filter_map(one).collect()
    }

    fn against(&self, set: &Set<'_>, findings: &mut Findings) {
        let mut modules: BTreeMap<&str, Touched> = BTreeMap::new();
        let mut whole: Vec<&str> = Vec::new();
        for t in set.weights.tensors() {
            let name = t.name.strip_prefix("base_model.model.").unwrap_or(&t.name);
            let (module, part) = split(name);
            let Some(part) = part else {
                whole.push(name);
                continue;
            };
            let touched = modules.entry(module).or_default();
            touched.table |= part.starts_with("lora_embedding");
            match part {
                "lora_A" | "lora_embedding_A" => touched.a = t.shape.first().copied(),
                "lora_B" | "lora_embedding_B" => touched.b = t.shape.get(1).copied(),
                _ => {}
            }
        }
        self.targets(set, &modules, findings);
        self.saved(set, &whole, findings);
        self.ranks(set, &modules, findings);
    }

    /// Modules that are changed without being named.
    fn targets(&self, set: &Set<'_>, modules: &BTreeMap<&str, Touched>, findings: &mut Findings) {
        let named = self.named();
        if let Named::Unreadable(text) = &named {
            let what = format!("target_modules is a pattern that is not read here: {}", shown(text));
            set.add(findings, ADAPTER_MISMATCH, Severity::Info, Some("target_modules"), what);
            return;
        }
        let (parameters, excluded) = (self.list("target_parameters"), self.list("exclude_modules"));
        let layers: Option<Vec<u64>> = match self.keys.get("layers_to_transform") {
            Some(Value::Array(list)) => Some(list.iter().filter_map(Value::as_u64).collect()),
            Some(one) => one.as_u64().map(|n| vec![n]),
            None => None,
        };
        let outside = |module: &str| {
            let layer = module.split('.').find_map(|p| p.parse::<u64>().ok());
            layers.as_ref().zip(layer).is_some_and(|(list, layer)| !list.contains(&layer))
        };
        let mut extra: Vec<&str> = Vec::new();
        for (module, touched) in modules {
            let plain = module.trim_end_matches(".base_layer");
            let parameter =
                parameters.iter().any(|p| below(p.rsplit_once('.').map_or("", |p| p.0), plain) || below(p, plain));
            let is_named = named.covers(plain, touched.table) && !excluded.iter().any(|e| ends_with(plain, e));
            if !parameter && (!is_named || outside(plain)) {
                extra.push(module);
            }
        }
        if let Some(first) = extra.first() {
            let what = format!(
                "it changes {} that its configuration does not name: {}",
                count(extra.len(), "module"),
                list(&extra)
            );
            set.add(findings, ADAPTER_EXTRA, Severity::Medium, Some(first), what);
        }
        if let Named::List(names) = &named {
            let absent: Vec<&str> =
                names.iter().copied().filter(|n| !modules.keys().any(|m| ends_with(m, n))).collect();
            if let Some(first) = absent.first() {
                let what = format!(
                    "its configuration names {} that its file does not change: {}",
                    count(absent.len(), "module"),
                    list(&absent)
                );
                set.add(findings, ADAPTER_MISMATCH, Severity::Info, Some(first), what);
            }
        }
    }

    fn named(&self) -> Named<'_> {
        match self.keys.get("target_modules") {
            Some(Value::String(s)) if s == "all-linear" => Named::AllLinear,
            Some(Value::String(s)) => pattern(s).map_or(Named::Unreadable(s), Named::Pattern),
            _ => Named::List(self.list("target_modules")),
        }
    }

    /// Tensors that stand in place of the model's own.
    fn saved(&self, set: &Set<'_>, whole: &[&str], findings: &mut Findings) {
        let saved = self.list("modules_to_save");
        let targets = self.named();
        let bias = self.text("bias").unwrap_or("none");
        let rows = !matches!(self.keys.get("trainable_token_indices"), None | Some(Value::Null));
        let announced = |name: &str| {
            let name =
                name.replace(".modules_to_save.default", "").replace(".modules_to_save", "").replace(".base_layer", "");
            let module = name.rsplit_once('.').map_or(&*name, |n| n.0);
            // A module that is saved is saved with all that is in it. PEFT looks at the end of the name, whatever stands
            // before: `norm` is every norm.
            saved.iter().any(|s| !s.is_empty() && module.ends_with(s) || module.contains(&format!(".{s}.")) || module.starts_with(&format!("{s}.")))
                || name.ends_with(".bias") && bias != "none"
                || rows && name.contains("token_adapter")
                // Beside the change of an embedding PEFT saves what is changed.
                || is_embedding(module) && !matches!(targets, Named::AllLinear) && targets.covers(module, true)
        };
        let extra: Vec<&str> = whole.iter().copied().filter(|n| !announced(n)).collect();
        if let Some(first) = extra.first() {
            let what = format!(
                "it has {} in place of the model's own that its configuration does not announce: {}",
                count(extra.len(), "tensor"),
                list(&extra)
            );
            set.add(findings, ADAPTER_EXTRA, Severity::Medium, Some(first), what);
        }
    }

    fn ranks(&self, set: &Set<'_>, modules: &BTreeMap<&str, Touched>, findings: &mut Findings) {
        let (ranks, alphas) = (self.patterns("rank_pattern"), self.patterns("alpha_pattern"));
        let mut factors: BTreeSet<String> = BTreeSet::new();
        let mut wrong: Vec<String> = Vec::new();
        let mut first = None;
        for (module, touched) in modules {
            let told = self.number("r", &ranks, module);
            let mut odd = |what: String| {
                first.get_or_insert(*module);
                wrong.push(format!("{}: {what}", shown(module)));
            };
            match (touched.a, touched.b, told) {
                (Some(a), Some(b), _) if a != b => odd(format!("its two matrices have ranks {a} and {b}")),
                // Stacks of experts hold the ranks of all.
                (Some(a), Some(_), Some(r))
                    if a as f64 != r && !module.trim_end_matches(".base_layer").ends_with(".experts") =>
                {
                    odd(format!("rank {a}, the configuration says {r}"));
                }
                (Some(_), None, _) | (None, Some(_), _) => odd("one of its two matrices is missing".into()),
                (Some(_), Some(_), None) => odd("the configuration says no rank".into()),
                _ => {}
            }
            let (Some(r), Some(alpha)) = (told, self.number("lora_alpha", &alphas, module)) else { continue };
            let by = if self.flag("use_rslora") { r.sqrt() } else { r };
            let how = format!(
                "lora_alpha {alpha} over {} {r}",
                if self.flag("use_rslora") { "the root of rank" } else { "rank" }
            );
            if factors.insert(how.clone()) {
                scale(set, alpha / by, &how, findings);
            }
        }
        if let Some(first) = first {
            let shown: Vec<&str> = wrong.iter().map(String::as_str).collect();
            let what = format!(
                "ranks are not what the configuration says, of {}: {}",
                count(wrong.len(), "module"),
                list(&shown)
            );
            set.add(findings, ADAPTER_MISMATCH, Severity::Medium, Some(first), what);
        }
    }
}

/// Which modules are changed, as the configuration says.
enum Named<'a> {
    List(Vec<&'a str>),
    Pattern(Regex),
    /// Every linear but the output head.
    AllLinear,
    Unreadable(&'a str),
}

impl Named<'_> {
    fn covers(&self, module: &str, table: bool) -> bool {
        match self {
            Named::List(names) => names.iter().any(|n| ends_with(module, n)),
            Named::Pattern(p) => p.is_match(module),
            Named::AllLinear => !table && !is_embedding(module),
            Named::Unreadable(_) => true,
        }
    }
}

/// A pattern that must match the whole of a name.
fn pattern(text: &str) -> Option<Regex> {
    if text.len() > PATTERN_MAX { None } else { Regex::new(&format!("^(?:{text})$")).ok() }
}

/// Whether `module` is `name` or ends in it after a dot.
fn ends_with(module: &str, name: &str) -> bool {
    !name.is_empty() && module.strip_suffix(name).is_some_and(|p| p.is_empty() || p.ends_with('.'))
}

/// Whether `module` is what `name` names, or holds it.
fn below(name: &str, module: &str) -> bool {
    ends_with(module, name) || !name.is_empty() && name.strip_prefix(module).is_some_and(|r| r.starts_with('.'))
}

/// Embeddings and the output head, by their usual names.
fn is_embedding(module: &str) -> bool {
    let names = [
        "embed_tokens",
        "lm_head",
        "wte",
        "wpe",
        "word_embeddings",
        "embed_in",
        "embed_out",
        "embeddings",
        "embedding",
    ];
    names.iter().any(|n| ends_with(module, n))
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn list(names: &[&str]) -> String {
    let more = names.len().saturating_sub(SHOWN_MAX);
    let names: Vec<String> = names.iter().take(SHOWN_MAX).map(|n| shown(n)).collect();
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}
