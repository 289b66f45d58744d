//! Bills of materials: CycloneDX against its official schema, as a crate carries it; SPDX against the rules of its
//! model; both the same bytes for the same model.
mod support;

use pondera_audit::bom::{self, Bill, Hub, Request, cyclonedx, spdx};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};
use support::{Folder, safetensors, schema::Schema};

const CREATED: u64 = 1_782_000_000;

fn describe(path: &Path) -> Bill {
    let request = Request { path, name: None, version: None, hub: None, without: None };
    bom::describe(&request, &mut |done, total| assert!(done <= total)).unwrap()
}

/// A model with a card, a licence that SPDX does not list, and a configuration.
fn model(folder: &Folder, card: &str) -> Bill {
    folder.write("m/README.md", card);
    folder.write("m/config.json", r#"{"model_type": "strange", "architectures": ["StrangeForCausalLM"], "hidden_size": 8, "x": [1, 2], "_name_or_path": "/home/me"}"#);
    folder.write("m/model.safetensors", safetensors());
    folder.write("m/sub/a b\"ü.txt", "x");
    folder.write("m/.git/HEAD", "ref");
    folder.write("m/model.sig", "{}");
    describe(&folder.join("m"))
}

const CARD: &str = "---\nlicense: other\nlicense_name: our-own\nbase_model: [org/base, meta-llama/Llama-3.1-8B]\n\
    base_model_relation: merge\ndatasets: [org/data, plain, org/data]\nlanguage: [en, de]\ntags: [a, b]\n\
    pipeline_tag: text-generation\nlibrary_name: transformers\n---\n# Card\n";

/// The official schema, from the sources of the crate that carries it, where cargo unpacked them.
fn schema() -> Value {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|h| h.join(".cargo"))).unwrap();
    let registries = fs::read_dir(home.join("registry/src")).unwrap().flatten().map(|e| e.path());
    let crates = registries.flat_map(|r| fs::read_dir(r).unwrap().flatten().map(|e| e.path()));
    let ours = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().starts_with("serde-cyclonedx-0.10.");
    let found = crates.filter(ours).max().expect("cargo has unpacked serde-cyclonedx");
    serde_json::from_slice(&fs::read(found.join("schemas/cyclonedx_1_6.json")).unwrap()).unwrap()
}

fn check(schema: &Value, document: &Value) -> Result<(), String> {
    let outside = |to: &str, v: &Value| match to {
        "spdx.schema.json" => match v.as_str().and_then(::spdx::license_id) {
            Some(_) => Ok(()),
            None => Err(format!("{v} is no licence of SPDX")),
        },
        other => panic!("{other} is not known here"),
    };
    Schema { root: schema, outside: &outside }.check(document)?;
    // The types that the crate makes of the schema take it, too.
    serde_json::from_value::<serde_cyclonedx::cyclonedx::v_1_6::CycloneDx>(document.clone())
        .map(drop)
        .map_err(|e| e.to_string())
}

#[test]
fn cyclonedx_follows_its_schema() {
    let schema = schema();
    for card in [
        CARD,
        "",
        "---\nlicense: mit\n---\n",
        "---\nlicense: [mit, apache-2.0]\nbase_model: nowhere\n---\n",
        "---\nlicense: llama3.1\ndatasets: ['', 'a b', \"x\\ny\", 'javascript:x']\ntags: ['']\npipeline_tag: '<x>'\n---\n",
    ] {
        let bill = model(&Folder::new(), card);
        let document = cyclonedx(&bill, CREATED);
        check(&schema, &document).unwrap_or_else(|e| panic!("{card}: {e}\n{document:#}"));
    }
    let mut bill = model(&Folder::new(), CARD);
    let endpoint = "https://huggingface.co".to_string();
    bill.hub = Some(Hub { endpoint, repository: "org/name".into(), commit: "0".repeat(40) });
    bill.name = "org/name".into();
    let document = cyclonedx(&bill, CREATED);
    check(&schema, &document).unwrap();
    assert_eq!(document["metadata"]["component"]["purl"], format!("pkg:huggingface/org/name@{}", "0".repeat(40)));
    // The check is one: what the schema forbids is refused.
    for (pointer, bad) in [
        ("/serialNumber", json!("urn:uuid:1")),
        ("/metadata/timestamp", json!("yesterday")),
        ("/metadata/component/type", json!("model")),
        ("/metadata/component/modelCard/modelParameters", json!({ "family": "x" })),
        ("/components/0/hashes/0/content", json!("xyz")),
        ("/components/0/hashes/0/alg", json!("SHA-255")),
        ("/dependencies/0/dependsOn", json!(["a", "a"])),
        ("/metadata/component/licenses", json!([{ "license": { "id": "No-Such" } }])),
    ] {
        let mut document = document.clone();
        *document.pointer_mut(pointer).unwrap() = bad;
        assert!(check(&schema, &document).is_err(), "{pointer}");
    }
}

#[test]
fn cyclonedx_says_what_the_model_says() {
    let folder = Folder::new();
    let text = "Own licence. You may look at it on Sundays, and on no other day of the week, with your own eyes, but you \
        may not touch it; this line makes the text long enough to count as one that somebody wrote for this model alone.";
    folder.write("m/LICENSE", text);
    let bill = model(&folder, CARD);
    let d = cyclonedx(&bill, CREATED);
    let component = &d["metadata"]["component"];
    let names: Vec<&str> = d["components"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["LICENSE", "README.md", "config.json", "model.safetensors", "sub/a b\"ü.txt", "data", "plain"]);
    let hash = &d["components"][3]["hashes"][0];
    assert_eq!(hash["content"], bom_sha(&safetensors()));
    assert_eq!((&component["type"], &component["name"]), (&json!("machine-learning-model"), &json!("m")));
    let parameters = &component["modelCard"]["modelParameters"];
    assert_eq!(parameters["task"], "text-generation");
    assert_eq!(parameters["architectureFamily"], "strange");
    assert_eq!(parameters["modelArchitecture"], "StrangeForCausalLM");
    assert_eq!(parameters["datasets"], json!([{ "ref": "dataset-0" }, { "ref": "dataset-1" }]));
    assert_eq!(d["components"][5]["group"], "org");
    assert_eq!(d["components"][5]["externalReferences"][0]["url"], "https://huggingface.co/datasets/org/data");
    let ancestors = component["pedigree"]["ancestors"].as_array().unwrap();
    assert_eq!(ancestors[0]["purl"], "pkg:huggingface/org/base");
    assert_eq!(ancestors[1]["licenses"][0]["license"]["name"], "Llama-3.1");
    let text = d.to_string();
    assert!(text.contains("pondera:config:hidden_size") && !text.contains("/home/me"), "paths stay at home");
    assert_eq!(d["metadata"]["tools"]["components"][0]["name"], "pondera");
    assert_eq!(d["metadata"]["timestamp"], "2026-06-21T00:00:00Z");
}

fn bom_sha(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_same_model_has_the_same_bill() {
    let (one, two) = (Folder::new(), Folder::new());
    let (a, b) = (model(&one, CARD), model(&two, CARD));
    for write in [cyclonedx, spdx] {
        let text = |bill: &Bill, at| serde_json::to_string_pretty(&write(bill, at)).unwrap();
        assert_eq!(text(&a, CREATED), text(&b, CREATED));
        let (now, later) = (text(&a, CREATED), text(&a, CREATED + 86_400));
        assert_eq!(now.replace("2026-06-21T", "2026-06-22T"), later, "only the moment differs");
    }
    let serial =
        |bill: &Bill| (cyclonedx(bill, 0)["serialNumber"].clone(), spdx(bill, 0)["@graph"][1]["spdxId"].clone());
    let before = serial(&a);
    let mut bytes = safetensors();
    *bytes.last_mut().unwrap() ^= 1;
    one.write("m/model.safetensors", bytes);
    let after = serial(&describe(&one.join("m")));
    assert!(before.0 != after.0 && before.1 != after.1, "{before:?} {after:?}");
    let serial = before.0.as_str().unwrap();
    assert_eq!((&serial[23..24], serial.len()), ("8", 45), "{serial}");
}

#[test]
fn a_bill_never_lists_itself() {
    let folder = Folder::new();
    let before = model(&folder, CARD);
    let out = folder.write("m/bom.json", "{}");
    let path = folder.join("m");
    let request = Request { path: &path, name: None, version: None, hub: None, without: Some(&out) };
    assert_eq!(bom::describe(&request, &mut |_, _| {}).unwrap().files, before.files);
    assert_eq!(describe(&path).files.len(), before.files.len() + 1);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_listed_is_named() {
    let folder = Folder::new();
    folder.write("m/a", "x");
    folder.write("other/b", "y");
    std::os::unix::fs::symlink("../other", folder.join("m/link")).unwrap();
    std::os::unix::fs::symlink("../other/b", folder.join("m/file")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("m/none")).unwrap();
    let bill = describe(&folder.join("m"));
    let names: Vec<&str> = bill.files.iter().map(|f| &*f.path).collect();
    assert_eq!(names, ["a", "file"]);
    let odd: Vec<&str> = bill.left_out.iter().map(|o| &*o.0).collect();
    assert_eq!(odd, ["link", "none"]);
    assert!(
        bom::describe(
            &Request { path: &folder.join("empty"), name: None, version: None, hub: None, without: None },
            &mut |_, _| {}
        )
        .is_err()
    );
}

/// What must hold of an SPDX 3.0.1 document of these classes, written from the model's description: the properties
/// that a class may and must have, single or as a list, and what they may hold.
#[test]
fn spdx_follows_its_model() {
    for card in
        [CARD, "", "---\nlicense: mit\n---\n", "---\nlicense: [mit, llama3.1]\ndatasets: ['a b', \"x\\ny\"]\n---\n"]
    {
        let folder = Folder::new();
        let mut bill = model(&folder, card);
        if card == CARD {
            let endpoint = "https://hub.example.org".to_string();
            bill.hub = Some(Hub { endpoint, repository: "org/name".into(), commit: "0".repeat(40) });
        }
        let d = spdx(&bill, CREATED);
        follows(&d);
        let mut broken = d.clone();
        broken["@graph"][1]["nonsense"] = json!("x");
        assert!(std::panic::catch_unwind(|| follows(&broken)).is_err());
        let mut broken = d.clone();
        broken["@graph"].as_array_mut().unwrap().retain(|e| e["type"] != "software_File");
        assert!(std::panic::catch_unwind(|| follows(&broken)).is_err());
    }
}

/// `name`, `name!` must be there, `name*` is a list.
const ELEMENT: [&str; 6] = ["spdxId!", "creationInfo!", "name", "comment", "type!", "verifiedUsing*"];
const CLASSES: &[(&str, &[&str])] = &[
    ("SoftwareAgent", &["name!"]),
    ("Organization", &["name!"]),
    ("Tool", &["name!"]),
    (
        "ai_AIPackage",
        &[
            "name!",
            "software_primaryPurpose!",
            "software_packageVersion",
            "software_downloadLocation",
            "suppliedBy",
            "software_packageUrl",
            "ai_typeOfModel*",
            "ai_domain*",
            "ai_hyperparameter*",
        ],
    ),
    (
        "dataset_DatasetPackage",
        &["name!", "dataset_datasetType!*", "software_primaryPurpose!", "software_downloadLocation"],
    ),
    ("software_File", &["name!", "software_primaryPurpose!", "software_fileKind!", "verifiedUsing!*"]),
    ("Relationship", &["from!", "to!*", "relationshipType!"]),
    (
        "simplelicensing_LicenseExpression",
        &["simplelicensing_licenseExpression!", "simplelicensing_licenseListVersion", "simplelicensing_customIdToUri*"],
    ),
    ("simplelicensing_SimpleLicensingText", &["simplelicensing_licenseText!"]),
    ("software_Sbom", &["rootElement!*", "element!*", "software_sbomType*", "profileConformance*"]),
    ("SpdxDocument", &["rootElement!*", "element!*", "profileConformance*"]),
];
const RELATIONS: &[(&str, &str, &str)] = &[
    ("contains", "ai_AIPackage", "software_File"),
    ("hasDocumentation", "ai_AIPackage", "software_File"),
    ("hasDeclaredLicense", "ai_AIPackage", "simplelicensing_LicenseExpression"),
    ("hasConcludedLicense", "ai_AIPackage", "simplelicensing_LicenseExpression"),
    ("descendantOf", "ai_AIPackage", "ai_AIPackage"),
    ("trainedOn", "ai_AIPackage", "dataset_DatasetPackage"),
];
const NO_ASSERTION: &str = "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense";

fn follows(d: &Value) {
    assert_eq!(d["@context"], "https://spdx.org/rdf/3.0.1/spdx-context.jsonld");
    let graph = d["@graph"].as_array().unwrap();
    let (creation, elements) = graph.split_first().unwrap();
    assert_eq!((&creation["type"], &creation["@id"]), (&json!("CreationInfo"), &json!("_:creation")));
    assert_eq!((&creation["specVersion"], &creation["created"]), (&json!("3.0.1"), &json!("2026-06-21T00:00:00Z")));
    let by_id: HashMap<&str, &Value> = elements.iter().map(|e| (e["spdxId"].as_str().unwrap(), e)).collect();
    assert_eq!(by_id.len(), elements.len(), "ids are unique");
    let kind = |id: &Value| by_id[id.as_str().unwrap()]["type"].as_str().unwrap();
    assert_eq!(kind(&creation["createdBy"][0]), "SoftwareAgent");
    assert_eq!(kind(&creation["createdUsing"][0]), "Tool");
    let mut licences: HashMap<(&str, &str), usize> = HashMap::new();
    for e in elements {
        let class = e["type"].as_str().unwrap();
        let own = CLASSES.iter().find(|c| c.0 == class).unwrap_or_else(|| panic!("{class}")).1;
        let rule = |key: &str| own.iter().chain(&ELEMENT).find(|r| r.trim_end_matches(['!', '*']) == key);
        for (key, value) in e.as_object().unwrap() {
            let rule = rule(key).unwrap_or_else(|| panic!("{class} has no {key}"));
            assert_eq!(value.is_array(), rule.contains('*'), "{class} {key}");
            assert!(!value.as_array().is_some_and(Vec::is_empty), "{class} {key}");
        }
        for rule in own.iter().chain(&ELEMENT).filter(|r| r.contains('!')) {
            assert!(e.get(rule.trim_end_matches(['!', '*'])).is_some(), "{class} lacks {rule}");
        }
        assert_eq!(e["creationInfo"], "_:creation");
        let id = e["spdxId"].as_str().unwrap();
        assert!(id.starts_with("urn:uuid:") && id.as_bytes()[45] == b'#', "{id}");
        for method in e.get("verifiedUsing").into_iter().flat_map(|v| v.as_array().unwrap()) {
            assert_eq!((&method["type"], &method["algorithm"]), (&json!("Hash"), &json!("sha256")));
            assert_eq!(method["hashValue"].as_str().unwrap().len(), 64);
        }
        for key in ["element", "rootElement"] {
            e.get(key).into_iter().flat_map(|v| v.as_array().unwrap()).for_each(|id| assert!(!kind(id).is_empty()));
        }
        if let Some(supplier) = e.get("suppliedBy") {
            assert_eq!(kind(supplier), "Organization");
        }
        if let Some(expression) = e.get("simplelicensing_licenseExpression") {
            let expression = ::spdx::Expression::parse(expression.as_str().unwrap()).unwrap();
            let refs = expression.requirements().filter(|r| r.req.license.id().is_none()).count();
            let map = e.get("simplelicensing_customIdToUri").map_or(&[][..], |m| m.as_array().unwrap());
            assert_eq!(map.len(), refs);
            map.iter().for_each(|m| assert_eq!(kind(&m["value"]), "simplelicensing_SimpleLicensingText"));
        }
        if class == "Relationship" {
            let relation = e["relationshipType"].as_str().unwrap();
            let rule = RELATIONS.iter().find(|r| r.0 == relation).unwrap_or_else(|| panic!("{relation}"));
            assert_eq!(kind(&e["from"]), rule.1);
            for to in e["to"].as_array().unwrap() {
                assert!(relation.ends_with("License") && to == NO_ASSERTION || kind(to) == rule.2, "{relation} {to}");
            }
            if relation.ends_with("License") {
                *licences.entry((e["from"].as_str().unwrap(), relation)).or_default() +=
                    e["to"].as_array().unwrap().len();
            }
        }
    }
    // The AI profile: exactly one declared and one concluded licence for every AI package.
    for package in elements.iter().filter(|e| e["type"] == "ai_AIPackage") {
        for relation in ["hasDeclaredLicense", "hasConcludedLicense"] {
            assert_eq!(licences.get(&(package["spdxId"].as_str().unwrap(), relation)), Some(&1), "{package}");
        }
    }
    assert_eq!(elements.last().unwrap()["type"], "SpdxDocument");
}
