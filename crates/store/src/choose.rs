//! Which files of a repository are wanted: those that it takes to run, one quantization of a GGUF repository, or what a
//! pattern names. Does not own: fetching them, and what GGUF files lie on the disk (`local` asks here too).
use crate::{
    digest::Digest,
    error::{Error, ErrorKind, Result, quoted},
    names::check_portable,
    oci,
};
use glob::{MatchOptions, Pattern};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The type that is taken where a GGUF repository offers several and none was named: what other tools take.
pub(crate) const USUAL_QUANT: &str = "Q4_K_M";

/// A file of a revision, as the hub lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Path in the repository.
    pub path: String,
    /// Bytes, where the list says so.
    pub size: Option<u64>,
    /// What its bytes hash to, where the list says so.
    pub digest: Option<Digest>,
}

/// What is wanted of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// These paths, sorted.
    Files(Vec<String>),
    /// It takes the shard index to say; these paths, once it has been read.
    Index(String),
}

/// Tensor files of a kind: the index's ending, the single file's stem, the ending.
const SAFETENSORS: (&str, &str) = (".safetensors.index.json", ".safetensors");
const PYTORCH: (&str, &str) = (".bin.index.json", ".bin");

/// Files of other ends than running the model.
const NO_MODEL: [&str; 6] =
    ["training_args.bin", "optimizer.bin", "scheduler.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"];

/// Chooses among `files`. `quant` picks a GGUF file or set; without it, what it takes to run; `include` patterns (`*` also
/// matches `/`) add to a quantization, and choose alone where none is named. `index` is the content of the index that an
/// earlier call asked for by [`Choice::Index`].
///
/// `Choice` errors list what there is; a set with a hole is `Corrupt`.
pub fn choose(files: &[RemoteFile], quant: Option<&str>, include: &[String], index: Option<&[u8]>) -> Result<Choice> {
    let paths: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
    let mut wanted: BTreeSet<String> = paths.iter().filter(|p| is_document(p)).map(|p| p.to_string()).collect();
    for pattern in include {
        let compiled = Pattern::new(pattern).map_err(|e| {
            Error::new(ErrorKind::Invalid, format!("--include {}: {}", quoted(pattern), e.msg)).hint("as in '*.gguf'")
        })?;
        let options =
            MatchOptions { case_sensitive: true, require_literal_separator: false, require_literal_leading_dot: false };
        let found = paths.iter().filter(|p| compiled.matches_with(p, options));
        let before = wanted.len();
        let mut any = false;
        wanted.extend(found.inspect(|_| any = true).map(|p| p.to_string()));
        if !any && wanted.len() == before {
            let what = format!("no file matches {}", quoted(pattern));
            return Err(Error::new(ErrorKind::Choice, what).hint(format!("there are {}", some(&paths))));
        }
    }
    let ggufs = gguf_sets(&paths);
    if let Some(quant) = quant {
        wanted.extend(pick(&ggufs, quant)?.files()?);
    } else if include.is_empty() {
        match runnable(&paths, index)? {
            Tensors::Files(tensors) => {
                wanted.extend(tensors);
                wanted.extend(paths.iter().filter(|p| is_companion(p)).map(|p| p.to_string()));
            }
            Tensors::Index(path) => return Ok(Choice::Index(path)),
            Tensors::None if !ggufs.is_empty() => wanted.extend(usual(&ggufs)?.files()?),
            Tensors::None => wanted.extend(paths.iter().filter(|p| is_companion(p)).map(|p| p.to_string())),
        }
    }
    let wanted: Vec<String> = wanted.into_iter().collect();
    if wanted.iter().all(|p| is_document(p)) && include.is_empty() {
        return Err(Error::new(ErrorKind::Choice, "holds no file of a model")
            .hint(format!("name what is wanted with --include; there are {}", some(&paths))));
    }
    for path in &wanted {
        check_portable(path)?;
    }
    Ok(Choice::Files(wanted))
}

/// Up to ten names for a message.
fn some(paths: &[&str]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = paths.iter().take(SHOWN).map(|p| quoted(p)).collect();
    let more = paths.len().saturating_sub(SHOWN);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    if paths.is_empty() { "no files".into() } else { shown.join(", ") + &tail }
}

enum Tensors {
    Files(Vec<String>),
    Index(String),
    None,
}

/// Tensors of the repository's own folder: safetensors, and PyTorch's only where there are none.
fn runnable(paths: &[&str], index: Option<&[u8]>) -> Result<Tensors> {
    let top: Vec<&str> = paths.iter().copied().filter(|p| !p.contains('/') && !NO_MODEL.contains(p)).collect();
    for (index_end, end) in [SAFETENSORS, PYTORCH] {
        let indexes: Vec<&str> = top.iter().copied().filter(|p| p.ends_with(index_end)).collect();
        let tensors: Vec<&str> = top.iter().copied().filter(|p| p.ends_with(end)).collect();
        if tensors.is_empty() && indexes.is_empty() {
            continue;
        }
        let usual = [format!("model{index_end}"), format!("pytorch_model{index_end}")];
        let single = [format!("model{end}"), format!("pytorch_model{end}"), format!("adapter_model{end}")];
        if let Some(one) = tensors.iter().find(|t| single.iter().any(|s| s == *t)) {
            return Ok(Tensors::Files(with_modules(paths, vec![one.to_string()])));
        }
        if let Some(found) = indexes.iter().find(|i| usual.iter().any(|u| u == *i)).or(indexes.first()) {
            let Some(bytes) = index else { return Ok(Tensors::Index(found.to_string())) };
            let mut shards = shards_of(bytes, paths)?;
            shards.push(found.to_string());
            return Ok(Tensors::Files(with_modules(paths, shards)));
        }
        // Mistral's `consolidated` files hold the same tensors again.
        let own: Vec<String> =
            tensors.iter().filter(|t| !t.starts_with("consolidated")).map(|t| t.to_string()).collect();
        let all = if own.is_empty() { tensors.iter().map(|t| t.to_string()).collect() } else { own };
        return Ok(Tensors::Files(with_modules(paths, all)));
    }
    let checkpoints: Vec<String> =
        top.iter().filter(|p| p.ends_with(".pth") || p.ends_with(".pt")).map(|p| p.to_string()).collect();
    Ok(if checkpoints.is_empty() { Tensors::None } else { Tensors::Files(checkpoints) })
}

/// With the modules of a Sentence-Transformers folder (`1_Pooling/config.json`, `2_Dense/model.safetensors`).
fn with_modules(paths: &[&str], mut tensors: Vec<String>) -> Vec<String> {
    let is_module = |p: &&&str| {
        p.split_once('/').is_some_and(|(folder, file)| {
            folder.starts_with(|c: char| c.is_ascii_digit())
                && folder.contains('_')
                && ["config.json", "model.safetensors", "pytorch_model.bin"].contains(&file)
        })
    };
    if paths.contains(&"modules.json") {
        tensors.extend(paths.iter().filter(is_module).map(|p| p.to_string()));
    }
    tensors
}

/// File names of a shard index, each of which must be in the repository.
fn shards_of(index: &[u8], paths: &[&str]) -> Result<Vec<String>> {
    let wrong = |what: String| Error::new(ErrorKind::Corrupt, what).hint("tell the repository's owner");
    let value: Value =
        serde_json::from_slice(index).map_err(|e| wrong(format!("the shard index cannot be read: {e}")))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| wrong("the shard index has no weight_map".into()))?;
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    match names.iter().find(|n| !paths.contains(n)) {
        Some(missing) => {
            Err(wrong(format!("the shard index names `{}`, which the repository does not hold", quoted(missing))))
        }
        None => Ok(names.into_iter().map(str::to_string).collect()),
    }
}

/// Licence texts and cards: they travel with every choice.
fn is_document(path: &str) -> bool {
    let upper = path.to_ascii_uppercase();
    !path.contains('/')
        && (["README", "NOTICE", "COPYING", "USE_POLICY", "TERMS"].iter().any(|n| upper.starts_with(n))
            || upper.contains("LICENSE")
            || upper.contains("LICENCE"))
        && ["", "MD", "TXT", "PDF", "RST", "HTML"].contains(&upper.rsplit_once('.').map_or("", |e| e.1))
}

/// Whether a file says what the model is and under which terms: documents, and configurations that name base models.
pub(crate) fn says_what_it_is(path: &str) -> bool {
    const NAMES: [&str; 4] = ["config.json", "adapter_config.json", "mergekit_config.json", oci::CONFIG];
    is_document(path) || NAMES.contains(&path)
}

/// What lies beside tensors and is read with them: config, vocabulary, templates, signature.
fn is_companion(path: &str) -> bool {
    const NAMES: [&str; 22] = [
        "config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
        "spiece.model",
        "tekken.json",
        "tiktoken.json",
        "params.json",
        "preprocessor_config.json",
        "processor_config.json",
        "quantize_config.json",
        "quant_config.json",
        "hf_quant_config.json",
        "adapter_config.json",
        "modules.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "model.sig",
        "normalizer.json",
        "image_processor_config.json",
        "video_preprocessor_config.json",
    ];
    if let Some((folder, file)) = path.split_once('/') {
        return folder == "additional_chat_templates" && file.ends_with(".jinja") && !file.contains('/');
    }
    NAMES.contains(&path)
        || path.starts_with("tokenizer") && !path.ends_with(".py")
        || path.starts_with("vocab") && (path.ends_with(".json") || path.ends_with(".txt"))
        || path.starts_with("sentencepiece")
        || [".tiktoken", ".jinja", ".model"].iter().any(|e| path.ends_with(e))
        || path.starts_with("chat_template") && path.ends_with(".json")
}

/// A GGUF file, or the files of one split set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GgufSet {
    /// The path without `-00001-of-00002` and ending.
    pub stem: String,
    /// Shards that are there, by number from 1; one for a file that is whole by itself.
    shards: BTreeMap<u32, String>,
    /// Shards that there should be.
    count: u32,
}

impl GgufSet {
    /// The first file: by it the whole set is opened.
    pub fn first(&self) -> Option<&str> {
        self.shards.values().next().map(String::as_str)
    }

    /// All files, none of them missing.
    pub fn files(&self) -> Result<Vec<String>> {
        match (1..=self.count).find(|n| !self.shards.contains_key(n)) {
            Some(hole) => {
                let what = format!("{}: shard {hole} of {} is missing", quoted(&self.stem), self.count);
                Err(Error::new(ErrorKind::Corrupt, what).hint("fetch it again, or choose another type"))
            }
            None => Ok(self.shards.values().cloned().collect()),
        }
    }
}

/// GGUF models among `paths`: no projectors of images, no importance matrices.
pub(crate) fn gguf_sets(paths: &[&str]) -> Vec<GgufSet> {
    let mut sets: BTreeMap<(String, u32), GgufSet> = BTreeMap::new();
    for path in paths {
        let lower = path.to_ascii_lowercase();
        let Some(stem) = lower.strip_suffix(".gguf").and_then(|s| path.get(..s.len())) else { continue };
        let file = lower.rsplit('/').next().unwrap_or("");
        if file.contains("mmproj") || file.contains("imatrix") {
            continue;
        }
        let (stem, number, count) = shard(stem).unwrap_or((stem, 1, 1));
        let new = || GgufSet { stem: stem.into(), shards: BTreeMap::new(), count };
        sets.entry((stem.into(), count)).or_insert_with(new).shards.insert(number, path.to_string());
    }
    sets.into_values().collect()
}

/// `x-00001-of-00002` as (`x`, 1, 2).
fn shard(stem: &str) -> Option<(&str, u32, u32)> {
    let digits = |s: &str| (s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok()).flatten();
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (rest, number) = rest.rsplit_once('-')?;
    let (number, count): (u32, u32) = (digits(number)?, digits(count)?);
    (number >= 1 && number <= count).then_some((rest, number, count))
}

/// Sets that bear `quant` in their names; of Unsloth's `UD-Q4_K_M` and a plain `Q4_K_M` the plain one alone.
pub(crate) fn matching<'a>(sets: &'a [GgufSet], quant: &str) -> Vec<&'a GgufSet> {
    let wanted = quant.to_ascii_lowercase();
    let bears = |s: &GgufSet, what: &str| names_quant(&s.stem.to_ascii_lowercase(), what);
    let found: Vec<&GgufSet> = sets.iter().filter(|s| bears(s, &wanted)).collect();
    let plain: Vec<&GgufSet> = found.iter().copied().filter(|s| !bears(s, &format!("ud-{wanted}"))).collect();
    if found.len() > 1 && plain.len() == 1 { plain } else { found }
}

/// The set that `quant` names.
pub(crate) fn pick<'a>(sets: &'a [GgufSet], quant: &str) -> Result<&'a GgufSet> {
    let found = matching(sets, quant);
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Error::new(ErrorKind::Choice, format!("no GGUF file of type {}", quoted(quant)))
            .hint(format!("there are {}", stems(sets.iter())))),
        several => Err(Error::new(ErrorKind::Choice, format!("several GGUF files of type {}", quoted(quant)))
            .hint(format!("name more of it, of {}", stems(several.iter().copied())))),
    }
}

/// The set that is taken where none was named.
pub(crate) fn usual(sets: &[GgufSet]) -> Result<&GgufSet> {
    match sets {
        [one] => Ok(one),
        several => pick(several, USUAL_QUANT).map_err(|_| {
            Error::new(ErrorKind::Choice, format!("holds several GGUF files, and no single one of type {USUAL_QUANT}"))
                .hint(format!("choose one as org/name:TYPE, of {}", stems(several.iter())))
        }),
    }
}

fn stems<'a>(sets: impl Iterator<Item = &'a GgufSet>) -> String {
    some(&sets.map(|s| s.stem.as_str()).collect::<Vec<_>>())
}

/// Whether a path (lower case) holds `quant` as a word of its own: `q4_k` is not `q4_k_m`.
fn names_quant(path: &str, quant: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
    path.match_indices(quant).any(|(at, m)| {
        let before = path.get(..at).and_then(|s| s.chars().next_back());
        edge(before) && edge(path.get(at + m.len()..).and_then(|s| s.chars().next()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<RemoteFile> {
        paths.iter().map(|p| RemoteFile { path: p.to_string(), size: None, digest: None }).collect()
    }

    fn chosen(paths: &[&str], quant: Option<&str>) -> Vec<String> {
        match choose(&files(paths), quant, &[], None).unwrap() {
            Choice::Files(f) => f,
            Choice::Index(i) => panic!("{i}"),
        }
    }

    const GGUF: [&str; 9] = [
        ".gitattributes",
        "BF16/m-BF16-00001-of-00002.gguf",
        "BF16/m-BF16-00002-of-00002.gguf",
        "README.md",
        "m-IQ4_NL.gguf",
        "m-Q4_K_M.gguf",
        "m-Q8_0.gguf",
        "m-UD-Q4_K_M.gguf",
        "mmproj-BF16.gguf",
    ];

    #[test]
    fn a_quant_picks_its_file_or_set() {
        for (quant, want) in [
            (Some("q4_k_m"), vec!["README.md", "m-Q4_K_M.gguf"]),
            (None, vec!["README.md", "m-Q4_K_M.gguf"]),
            (Some("UD-Q4_K_M"), vec!["README.md", "m-UD-Q4_K_M.gguf"]),
            (Some("bf16"), vec!["BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf", "README.md"]),
        ] {
            assert_eq!(chosen(&GGUF, quant), want);
        }
        for bad in ["Q4_K", "NL", "Q5_K_M"] {
            let e = choose(&files(&GGUF), Some(bad), &[], None).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Choice, "{bad}");
            assert!(e.hint_text().unwrap().contains("m-Q8_0"), "{bad}");
        }
        let twice = ["a-Q8_0.gguf", "b-Q8_0.gguf"];
        assert_eq!(choose(&files(&twice), Some("Q8_0"), &[], None).unwrap_err().kind(), ErrorKind::Choice);
        assert_eq!(choose(&files(&twice), None, &[], None).unwrap_err().kind(), ErrorKind::Choice);
        assert_eq!(chosen(&["x-Q2_K.gguf", "mmproj-x.gguf"], None), ["x-Q2_K.gguf"]);
        let hole = ["m-F16-00001-of-00003.gguf", "m-F16-00003-of-00003.gguf"];
        assert_eq!(choose(&files(&hole), None, &[], None).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn what_it_takes_to_run_and_no_more() {
        let all = [
            "LICENSE",
            "README.md",
            "USE_POLICY.md",
            "chat_template.jinja",
            "config.json",
            "consolidated.safetensors",
            "generation_config.json",
            "model.safetensors",
            "modeling_x.py",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "original/consolidated.00.pth",
            "tf_model.h5",
            "tokenizer.json",
            "tokenizer_config.json",
            "training_args.bin",
        ];
        let want = [
            "LICENSE",
            "README.md",
            "USE_POLICY.md",
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(chosen(&all, None), want);
        assert_eq!(
            chosen(&["config.json", "pytorch_model.bin", "training_args.bin"], None),
            ["config.json", "pytorch_model.bin"]
        );
        let embed =
            ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "openvino/config.json"];
        assert_eq!(chosen(&embed, None), ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json"]);
        assert_eq!(chosen(&["tokenizer.json"], None), ["tokenizer.json"]);
        for nothing in [vec![], vec!["README.md", "x.onnx"]] {
            assert_eq!(choose(&files(&nothing), None, &[], None).unwrap_err().kind(), ErrorKind::Choice);
        }
    }

    #[test]
    fn a_sharded_set_is_what_its_index_says() {
        let index = "model.safetensors.index.json";
        let all = files(&["config.json", "extra.safetensors", "model-1.safetensors", "model-2.safetensors", index]);
        assert_eq!(choose(&all, None, &[], None).unwrap(), Choice::Index(index.into()));
        let map = |b: &str| format!(r#"{{"weight_map": {{"a": "model-1.safetensors", "b": "{b}"}}}}"#);
        let got = choose(&all, None, &[], Some(map("model-2.safetensors").as_bytes())).unwrap();
        let want = ["config.json", "model-1.safetensors", "model-2.safetensors", index];
        assert_eq!(got, Choice::Files(want.map(String::from).to_vec()));
        for bad in [map("../x"), map("model-3.safetensors"), "{".into(), "[]".into()] {
            assert_eq!(choose(&all, None, &[], Some(bad.as_bytes())).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn patterns_choose_alone_and_add_to_a_quant() {
        let include = ["mmproj*".to_string()];
        let got = choose(&files(&GGUF), None, &include, None).unwrap();
        assert_eq!(got, Choice::Files(vec!["README.md".into(), "mmproj-BF16.gguf".into()]));
        let got = choose(&files(&GGUF), Some("Q8_0"), &include, None).unwrap();
        assert_eq!(got, Choice::Files(["README.md", "m-Q8_0.gguf", "mmproj-BF16.gguf"].map(String::from).to_vec()));
        let got = choose(&files(&GGUF), None, &["*00001*".into()], None).unwrap();
        assert_eq!(got, Choice::Files(vec!["BF16/m-BF16-00001-of-00002.gguf".into(), "README.md".into()]));
        for (bad, kind) in [("*.onnx", ErrorKind::Choice), ("[", ErrorKind::Invalid)] {
            assert_eq!(choose(&files(&GGUF), None, &[bad.into()], None).unwrap_err().kind(), kind);
        }
        let device = files(&["aux.gguf"]);
        assert_eq!(choose(&device, None, &[], None).unwrap_err().kind(), ErrorKind::Unsafe);
    }
}
