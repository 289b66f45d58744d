//! A bill as a CycloneDX 1.6 document, the model as a `machine-learning-model` component with its card.
//! <https://cyclonedx.org/docs/1.6/json/>
use super::{Bill, Licence, escape, is_repository, purl, time, uuid};
use crate::manifest::hex;
use serde_json::{Map, Value, json};

/// The model's reference inside of the document.
const MODEL: &str = "model";
/// In front of the names of properties that are ours.
const OURS: &str = "pondera";

/// The document, made at `created` (seconds since 1970).
pub fn cyclonedx(bill: &Bill, created: u64) -> Value {
    let mut document = document(bill);
    let serial = format!("urn:uuid:{}", uuid(&document));
    if let Some(map) = document.as_object_mut() {
        map.insert("serialNumber".into(), serial.into());
    }
    document["metadata"]["timestamp"] = time::format(created).into();
    document
}

fn document(bill: &Bill) -> Value {
    let refs: Vec<String> = (0..bill.files.len())
        .map(|i| format!("file-{i}"))
        .chain((0..bill.datasets.len()).map(|i| format!("dataset-{i}")))
        .collect();
    let mut components = files(bill);
    components.extend(datasets(bill));
    let leaves = refs.iter().map(|r| json!({ "ref": r }));
    let mut dependencies = vec![json!({ "ref": MODEL, "dependsOn": refs })];
    dependencies.extend(leaves);
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{ "phase": "post-build" }],
            "tools": { "components": [{ "type": "application", "name": "pondera", "version": bill.tool }] },
            "component": model(bill),
        },
        "components": components,
        "dependencies": dependencies,
    })
}

fn model(bill: &Bill) -> Value {
    let mut m = Map::new();
    m.insert("type".into(), "machine-learning-model".into());
    m.insert("bom-ref".into(), MODEL.into());
    let (group, name) = split(&bill.name, bill.hub.is_some());
    if let Some(group) = group {
        m.insert("group".into(), group.into());
    }
    m.insert("name".into(), name.into());
    if let Some(version) = &bill.version {
        m.insert("version".into(), version.as_str().into());
    }
    if let [only] = &bill.files[..] {
        m.insert("hashes".into(), json!([hash(&only.sha256)]));
    }
    if let Some(licence) = &bill.declared {
        let acknowledged = "declared";
        m.insert("licenses".into(), licenses(licence, acknowledged, bill));
    }
    if let Some(purl) = bill.hub.as_ref().and_then(|h| purl(Some(h), &h.repository)) {
        m.insert("purl".into(), purl.into());
    }
    if let Some(pedigree) = pedigree(bill) {
        m.insert("pedigree".into(), pedigree);
    }
    let references = references(bill);
    if !references.is_empty() {
        m.insert("externalReferences".into(), references.into());
    }
    m.insert("modelCard".into(), card(bill));
    if !bill.card.tags.is_empty() {
        m.insert("tags".into(), json!(bill.card.tags));
    }
    m.insert("properties".into(), properties(bill).into());
    m.into()
}

/// The hub's names have a group in front.
fn split(name: &str, hub: bool) -> (Option<&str>, &str) {
    match name.split_once('/').filter(|_| hub || is_repository(name)) {
        Some((group, name)) => (Some(group), name),
        None => (None, name),
    }
}

fn hash(sha256: &[u8]) -> Value {
    json!({ "alg": "SHA-256", "content": hex(sha256) })
}

fn property(name: &str, value: impl ToString) -> Value {
    json!({ "name": format!("{OURS}:{name}"), "value": value.to_string() })
}

fn licenses(licence: &Licence, acknowledged: &str, bill: &Bill) -> Value {
    if let Some(id) = licence.listed() {
        return json!([{ "license": { "id": id, "acknowledgement": acknowledged } }]);
    }
    if let Some(name) = licence.named() {
        let mut one = json!({ "name": name, "acknowledgement": acknowledged });
        if let Some((_, text)) = bill.texts.iter().find(|t| t.0 == licence.expression) {
            one["text"] = json!({ "contentType": "text/plain", "content": text });
        }
        return json!([{ "license": one }]);
    }
    json!([{ "expression": licence.expression, "acknowledgement": acknowledged }])
}

fn pedigree(bill: &Bill) -> Option<Value> {
    if bill.bases.is_empty() {
        return None;
    }
    let ancestors: Vec<Value> = bill
        .bases
        .iter()
        .enumerate()
        .map(|(i, base)| {
            let (group, name) = split(&base.model, false);
            let mut c = json!({
                "type": "machine-learning-model",
                "bom-ref": format!("base-{i}"),
                "name": name,
                "properties": [property("relation", &base.relation), property("declared-in", &base.file)],
            });
            if let Some(group) = group {
                c["group"] = group.into();
            }
            if let Some(purl) = purl(None, &base.model) {
                c["purl"] = purl.into();
            }
            if let Some(id) = &base.id {
                c["licenses"] = licenses(&Licence::of(id), "concluded", bill);
            }
            c
        })
        .collect();
    let notes: Vec<String> = bill.bases.iter().map(|b| format!("{} of {}", b.relation, b.model)).collect();
    Some(json!({ "ancestors": ancestors, "notes": notes.join("; ") }))
}

fn references(bill: &Bill) -> Vec<Value> {
    let mut found = Vec::new();
    if let Some(hub) = &bill.hub {
        found.push(json!({ "type": "distribution", "url": hub.page() }));
    }
    for f in &bill.files {
        let kind = match &*f.path {
            "README.md" => "model-card",
            path if bill.licence.sources.iter().any(|s| s.file == path && s.how == crate::license::How::Text) => {
                "license"
            }
            _ => continue,
        };
        found.push(json!({ "type": kind, "url": escape(&f.path, b"-._~/"), "hashes": [hash(&f.sha256)] }));
    }
    found
}

fn card(bill: &Bill) -> Value {
    let (facts, card) = (&bill.facts, &bill.card);
    let mut parameters = Map::new();
    let mut set = |key: &str, value: Option<&String>| {
        if let Some(value) = value {
            parameters.insert(key.into(), value.as_str().into());
        }
    };
    set("task", card.pipeline_tag.as_ref());
    set("architectureFamily", facts.family.as_ref());
    set("modelArchitecture", facts.architecture.as_ref());
    if !bill.datasets.is_empty() {
        let refs: Vec<Value> = (0..bill.datasets.len()).map(|i| json!({ "ref": format!("dataset-{i}") })).collect();
        parameters.insert("datasets".into(), refs.into());
    }
    let settings: Vec<Value> =
        facts.settings.iter().map(|(key, value)| property(&format!("config:{key}"), value)).collect();
    json!({ "modelParameters": parameters, "properties": settings })
}

fn properties(bill: &Bill) -> Vec<Value> {
    let facts = &bill.facts;
    let mut all = vec![property("files:sha256", hex(&bill.root))];
    all.extend(facts.container.map(|c| property("container", c)));
    if facts.tensors > 0 {
        all.push(property("tensors", facts.tensors));
    }
    all.extend(facts.types.iter().map(|(name, bytes)| property(&format!("bytes:{name}"), bytes)));
    all.extend(facts.parameters.map(|n| property("parameters", n)));
    all.extend(facts.parameters_active.map(|n| property("parameters:active", n)));
    all.extend(facts.context.map(|n| property("context-length", n)));
    all.extend(facts.quantization.as_ref().map(|q| property("quantization", q)));
    all.extend(bill.card.library_name.as_ref().map(|l| property("library", l)));
    let languages = bill.card.language.iter().chain(&facts.languages);
    all.extend(languages.map(|l| property("language", l)));
    for source in bill.licence.sources.iter().filter(|s| s.id.is_some()) {
        all.push(property(&format!("license:{}", source.file), source.id.as_deref().unwrap_or_default()));
    }
    all.extend(
        bill.effective
            .as_ref()
            .filter(|e| bill.declared.as_ref() != Some(e))
            .map(|e| property("license:effective", &e.expression)),
    );
    all.extend(bill.licence.conflicts.iter().map(|c| property("license:conflict", c)));
    all
}

fn files(bill: &Bill) -> Vec<Value> {
    let one = |(i, f): (usize, &super::Filed)| {
        json!({
            "type": "file",
            "bom-ref": format!("file-{i}"),
            "name": f.path,
            "hashes": [hash(&f.sha256)],
            "properties": [property("bytes", f.bytes), property("role", f.role.name())],
        })
    };
    bill.files.iter().enumerate().map(one).collect()
}

fn datasets(bill: &Bill) -> impl Iterator<Item = Value> {
    bill.datasets.iter().enumerate().map(|(i, d)| {
        let (group, name) = split(&d.name, false);
        let mut data = json!({ "type": "dataset", "name": d.name });
        let mut c = json!({ "type": "data", "bom-ref": format!("dataset-{i}"), "name": name });
        if let Some(group) = group {
            c["group"] = group.into();
        }
        if let Some(url) = d.url.as_ref().filter(|u| is_address(u)) {
            data["contents"] = json!({ "url": url });
            c["externalReferences"] = json!([{ "type": "distribution", "url": url }]);
        }
        c["data"] = json!([data]);
        c
    })
}

/// Whether a text out of a file is an address, and nothing else.
pub(super) fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?#@!$&'()*+,;=%".contains(&b);
    rest.is_some_and(|r| {
        !r.is_empty() && !r.starts_with(['/', ':', '?', '#']) && r.len() < 2000 && r.bytes().all(plain)
    })
}
