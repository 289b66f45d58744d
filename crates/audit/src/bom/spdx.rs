//! A bill as an SPDX 3.0.1 document in JSON-LD: the model as an AI package, its files, datasets and licences, and how
//! they belong together. <https://spdx.github.io/spdx-spec/v3.0.1/>
use super::{Bill, Licence, Role, cyclonedx::is_address, purl, time, uuid};
use crate::manifest::hex;
use serde_json::{Map, Value, json};

/// The version of the specification.
const VERSION: &str = "3.0.1";
/// The one node that says who made the document and when.
const CREATION: &str = "_:creation";
/// The licence of which nothing is said.
const NO_ASSERTION: &str = "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense";

/// The document, made at `created` (seconds since 1970).
pub fn spdx(bill: &Bill, created: u64) -> Value {
    let plain = Graph::new(String::new()).document(bill, String::new());
    let id = format!("urn:uuid:{}", uuid(&plain));
    Graph::new(id).document(bill, time::format(created))
}

/// Elements as they are made, and what they are called.
struct Graph {
    document: String,
    elements: Vec<Value>,
    relations: usize,
    licences: Vec<(String, String)>,
}

impl Graph {
    fn new(document: String) -> Graph {
        Graph { document, elements: Vec::new(), relations: 0, licences: Vec::new() }
    }

    fn id(&self, name: &str) -> String {
        format!("{}#{name}", self.document)
    }

    /// Adds an element and gives its id.
    fn add(&mut self, kind: &str, name: &str, rest: Value) -> String {
        let id = self.id(name);
        let mut element = json!({ "type": kind, "spdxId": id, "creationInfo": CREATION });
        if let (Some(to), Value::Object(rest)) = (element.as_object_mut(), rest) {
            to.extend(rest);
        }
        self.elements.push(element);
        id
    }

    fn relate(&mut self, from: &str, kind: &str, to: Vec<String>) {
        if to.is_empty() {
            return;
        }
        self.relations += 1;
        let name = format!("relationship-{}", self.relations);
        let rest = json!({ "from": from, "relationshipType": kind, "to": to });
        self.add("Relationship", &name, rest);
    }

    fn document(mut self, bill: &Bill, created: String) -> Value {
        let agent = self.add("SoftwareAgent", "agent", json!({ "name": "pondera" }));
        let tool = self.add("Tool", "tool", json!({ "name": format!("pondera {}", bill.tool) }));
        let model = self.model(bill);
        let files = self.files(bill);
        self.relate(&model, "contains", files.iter().map(|f| f.0.clone()).collect());
        let of = |role: Role| files.iter().filter(|f| f.1 == role).map(|f| f.0.clone()).collect::<Vec<_>>();
        self.relate(&model, "hasDocumentation", of(Role::Documentation));
        self.licensed(&model, "hasDeclaredLicense", bill.declared.as_ref(), bill);
        self.licensed(&model, "hasConcludedLicense", bill.effective.as_ref(), bill);
        let bases: Vec<String> = bill
            .bases
            .iter()
            .enumerate()
            .map(|(i, base)| {
                let mut rest = json!({ "name": base.model, "software_primaryPurpose": "model",
                    "comment": format!("{}, as {} says", base.relation, base.file) });
                if let Some(purl) = purl(None, &base.model) {
                    rest["software_packageUrl"] = purl.into();
                }
                self.add("ai_AIPackage", &format!("base-{i}"), rest)
            })
            .collect();
        for (base, id) in bill.bases.iter().zip(&bases) {
            self.licensed(id, "hasDeclaredLicense", None, bill);
            self.licensed(id, "hasConcludedLicense", base.id.as_deref().map(Licence::of).as_ref(), bill);
        }
        self.relate(&model, "descendantOf", bases);
        let datasets: Vec<String> = bill
            .datasets
            .iter()
            .enumerate()
            .map(|(i, d)| {
                let mut rest = json!({ "name": d.name, "dataset_datasetType": ["noAssertion"],
                    "software_primaryPurpose": "data" });
                if let Some(url) = d.url.as_ref().filter(|u| is_address(u)) {
                    rest["software_downloadLocation"] = url.as_str().into();
                }
                self.add("dataset_DatasetPackage", &format!("dataset-{i}"), rest)
            })
            .collect();
        self.relate(&model, "trainedOn", datasets);
        let all: Vec<Value> = self.elements.iter().filter_map(|e| e.get("spdxId").cloned()).collect();
        let profiles = json!(["core", "software", "simpleLicensing", "ai"]);
        let bom = json!({ "rootElement": [model], "element": all, "software_sbomType": ["analyzed"],
            "profileConformance": profiles });
        let bom = self.add("software_Sbom", "bom", bom);
        let name = format!("bill of materials of {}", bill.name);
        let all: Vec<Value> = self.elements.iter().filter_map(|e| e.get("spdxId").cloned()).collect();
        let document = json!({ "name": name, "rootElement": [bom], "element": all, "profileConformance": profiles });
        self.add("SpdxDocument", "document", document);
        let creation = json!({ "type": "CreationInfo", "@id": CREATION, "specVersion": VERSION, "created": created,
            "createdBy": [agent], "createdUsing": [tool] });
        let mut graph = vec![creation];
        graph.append(&mut self.elements);
        json!({ "@context": format!("https://spdx.org/rdf/{VERSION}/spdx-context.jsonld"), "@graph": graph })
    }

    fn model(&mut self, bill: &Bill) -> String {
        let facts = &bill.facts;
        let mut m = Map::new();
        m.insert("name".into(), bill.name.as_str().into());
        m.insert("software_primaryPurpose".into(), "model".into());
        if let Some(version) = &bill.version {
            m.insert("software_packageVersion".into(), version.as_str().into());
        }
        if let Some(hub) = &bill.hub {
            m.insert("software_downloadLocation".into(), hub.page().into());
            if let Some((org, _)) = hub.repository.split_once('/') {
                let supplier = self.add("Organization", "supplier", json!({ "name": org }));
                m.insert("suppliedBy".into(), supplier.into());
            }
            if let Some(purl) = purl(Some(hub), &hub.repository) {
                m.insert("software_packageUrl".into(), purl.into());
            }
        }
        // Over the digests of the files in their order, as a signature's subject has it.
        m.insert(
            "verifiedUsing".into(),
            json!([{ "type": "Hash", "algorithm": "sha256", "hashValue": hex(&bill.root),
            "comment": "SHA-256 over the SHA-256 digests of the files, in their order" }]),
        );
        let kinds: Vec<&String> = [&facts.family, &facts.architecture].into_iter().flatten().collect();
        if !kinds.is_empty() {
            m.insert("ai_typeOfModel".into(), json!(kinds));
        }
        if let Some(task) = &bill.card.pipeline_tag {
            m.insert("ai_domain".into(), json!([task]));
        }
        let mut settings: Vec<Value> = facts.settings.iter().map(|(k, v)| entry(k, v)).collect();
        settings.extend(facts.parameters.map(|n| entry("parameters", n)));
        settings.extend(facts.parameters_active.map(|n| entry("parameters_active", n)));
        settings.extend(facts.types.iter().map(|(name, bytes)| entry(&format!("bytes_{name}"), bytes)));
        settings.extend(facts.quantization.as_ref().map(|q| entry("quantization", q)));
        if !settings.is_empty() {
            m.insert("ai_hyperparameter".into(), settings.into());
        }
        self.add("ai_AIPackage", "model", m.into())
    }

    fn files(&mut self, bill: &Bill) -> Vec<(String, Role)> {
        let one = |(i, f): (usize, &super::Filed)| {
            let purpose = match f.role {
                Role::Weights => "model",
                role => role.name(),
            };
            let rest = json!({ "name": f.path, "software_primaryPurpose": purpose, "software_fileKind": "file",
                "verifiedUsing": [{ "type": "Hash", "algorithm": "sha256", "hashValue": hex(&f.sha256) }] });
            (self.add("software_File", &format!("file-{i}"), rest), f.role)
        };
        bill.files.iter().enumerate().map(one).collect()
    }

    fn licensed(&mut self, of: &str, kind: &str, licence: Option<&Licence>, bill: &Bill) {
        let to = licence.map_or_else(|| NO_ASSERTION.to_string(), |l| self.licence(l, bill));
        self.relate(of, kind, vec![to]);
    }

    /// The element of a licence, made once, with the texts of what SPDX does not list.
    fn licence(&mut self, licence: &Licence, bill: &Bill) -> String {
        // Two licences with one spelling may mean different ones by it: the id tells.
        if let Some((_, id)) = self.licences.iter().find(|l| l.0 == licence.id) {
            return id.clone();
        }
        let n = self.licences.len();
        let mut rest = json!({ "simplelicensing_licenseExpression": licence.expression,
            "simplelicensing_licenseListVersion": spdx::license_version() });
        let mut custom = Vec::new();
        for (i, (id, name)) in licence.refs.iter().enumerate() {
            let known = bill.texts.iter().find(|t| t.0 == *id).map(|t| t.1.clone());
            let text =
                known.unwrap_or_else(|| format!("Declared as {name:?}; its text is not among the model's files."));
            let rest = json!({ "name": name, "simplelicensing_licenseText": text });
            let element = self.add("simplelicensing_SimpleLicensingText", &format!("text-{n}-{i}"), rest);
            custom.push(entry(id, element));
        }
        if !custom.is_empty() {
            rest["simplelicensing_customIdToUri"] = custom.into();
        }
        let id = self.add("simplelicensing_LicenseExpression", &format!("licence-{n}"), rest);
        self.licences.push((licence.id.clone(), id.clone()));
        id
    }
}

fn entry(key: &str, value: impl ToString) -> Value {
    json!({ "type": "DictionaryEntry", "key": key, "value": value.to_string() })
}
