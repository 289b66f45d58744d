//! Tokenizers: whether text goes in and comes out as it was written, and whether configs speak of the same vocabulary.
//!
//! Owns which vocabularies a model has for an audit, and what holds for every kind of them. What only a
//! `tokenizer.json` can hold is `json`'s, what only GGUF metadata can is `gguf`'s. Cutting text into tokens is
//! `pondera-text`'s.
mod config;
mod gguf;
mod json;
mod order;

use crate::{
    findings::{
        Findings, New, Rule, Severity, TOKENIZER_BROKEN, TOKENIZER_BYTES, TOKENIZER_HOLES, TOKENIZER_REWRITE,
        TOKENIZER_SHADOW, TOKENIZER_SPECIAL, TOKENIZER_UNSEEN, shown,
    },
    template::texts,
};
use pondera_text::{EncodeOptions, ErrorKind, Tokenizer};
use pondera_weights::Weights;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Longest vocabulary that is read.
const FILE_MAX: u64 = 256 << 20;
/// Most GGUF files of a folder that are opened.
const GGUF_MAX: usize = 8;
/// Most ids that are looked at.
const IDS_MAX: u32 = 1 << 22;
/// Most names that a finding lists, and findings of one kind.
const NAMES_MAX: usize = 12;
const EACH_MAX: usize = 20;
/// Files that hold vocabularies.
const NAMES: [&str; 8] = [
    "tokenizer.json",
    "tekken.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
    "qwen.tiktoken",
    "vocab.txt",
];

/// Findings of one file.
struct Report<'f> {
    file: String,
    findings: &'f mut Findings,
    counts: std::collections::HashMap<&'static str, usize>,
}

impl Report<'_> {
    fn add(&mut self, rule: &'static Rule, severity: Severity, what: impl Into<String>, name: Option<&str>) {
        let n = self.counts.entry(rule.id).or_default();
        *n += 1;
        if *n <= EACH_MAX {
            let what = what.into();
            self.findings.add(New { rule, severity, file: &self.file, what, offset: None, name });
        }
    }
}

/// Looks at every vocabulary of `path`, a model's folder or a file.
pub(crate) fn look(path: &Path, findings: &mut Findings) {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    if path.is_dir() {
        files.extend(NAMES.iter().map(|n| (path.join(n), n.to_string())).filter(|f| f.0.is_file()));
        let mut gguf: Vec<PathBuf> = fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).collect();
        gguf.retain(|p| p.extension().is_some_and(|e| e == "gguf") && p.is_file());
        gguf.sort();
        let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.extend(gguf.into_iter().take(GGUF_MAX).map(|p| (p.clone(), name(&p))));
    } else {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let is = ["tokenizer", "tekken", "vocab", "spiece", "sentencepiece"].iter().any(|n| name.contains(n));
        let ends = [".json", ".model", ".tiktoken", ".txt", ".v1", ".v3"].iter().any(|e| name.ends_with(e));
        if name.ends_with(".gguf") || name.ends_with(".tiktoken") || is && ends && !name.contains("config") {
            files.push((path.to_path_buf(), path.display().to_string()));
        }
    }
    for (file, name) in files {
        let mut report = Report { file: name, findings, counts: Default::default() };
        one(&file, &mut report);
    }
}

/// Looks at one vocabulary.
fn one(path: &Path, report: &mut Report) {
    let size = fs::metadata(path).map_or(0, |m| m.len());
    let is_gguf = path.extension().is_some_and(|e| e == "gguf");
    if is_gguf {
        // A file that cannot be opened has its finding where files are read.
        let Ok(weights) = Weights::open(path) else { return };
        let Some(metadata) = weights.gguf() else { return };
        let holds = metadata.str("tokenizer.ggml.model").ok().flatten().is_some_and(|m| m != "none" && m != "no_vocab");
        if !holds {
            return;
        }
        gguf::look(metadata, report);
        match Tokenizer::from_gguf(metadata) {
            Ok(tokenizer) => {
                any(&tokenizer, report);
                config::gguf(metadata, &tokenizer, report);
            }
            Err(error) => broken(&error, report),
        }
        return;
    }
    if size > FILE_MAX {
        return report.add(
            TOKENIZER_BROKEN,
            Severity::Medium,
            format!("{size} bytes are too many for a vocabulary"),
            None,
        );
    }
    if path.extension().is_some_and(|e| e == "json") {
        match fs::read(path) {
            Ok(bytes) => json::look(&bytes, report),
            Err(e) => report.add(TOKENIZER_BROKEN, Severity::Medium, e.to_string(), None),
        }
    }
    match Tokenizer::open(path) {
        Ok(tokenizer) => {
            any(&tokenizer, report);
            if let Some(folder) = path.parent() {
                config::look(folder, &tokenizer, report);
            }
        }
        Err(error) => broken(&error, report),
    }
}

fn broken(error: &pondera_text::Error, report: &mut Report) {
    // What this program does not know is no fault of the file.
    let severity = if error.kind() == ErrorKind::Unsupported { Severity::Info } else { Severity::Medium };
    report.add(TOKENIZER_BROKEN, severity, shown(error.message()), None);
}

/// What holds for every kind of vocabulary.
fn any(tokenizer: &Tokenizer, report: &mut Report) {
    let size = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX).min(IDS_MAX);
    let (mut holes, mut first_hole) = (0usize, None);
    let mut single = [false; 256];
    let mut special: Vec<String> = Vec::new();
    let mut plain_special: Vec<String> = Vec::new();
    for id in 0..size {
        let Some(bytes) = tokenizer.token_bytes(id) else {
            holes += 1;
            first_hole = first_hole.or(Some(id));
            continue;
        };
        if let [byte] = bytes[..] {
            single[usize::from(byte)] = true;
        }
        if !tokenizer.is_special(id) {
            continue;
        }
        let Ok(text) = String::from_utf8(bytes) else { continue };
        if let Some(mark) = texts::hidden(&text) {
            report.add(TOKENIZER_UNSEEN, mark.severity, format!("the special token {id} {}", mark.what), Some(&text));
        }
        if is_plain(&text) {
            plain_special.push(text.clone());
        }
        special.push(text);
    }
    if holes > 0 {
        let what = format!("{holes} of {size} ids have no token, the first of them {}", first_hole.unwrap_or(0));
        report.add(TOKENIZER_HOLES, if holes * 4 > size as usize { Severity::Low } else { Severity::Info }, what, None);
    }
    for text in &plain_special {
        let what = format!(
            "the special token {:?} is text that people write: it controls the model from anywhere",
            shown(text)
        );
        report.add(TOKENIZER_SHADOW, Severity::Medium, what, Some(text));
    }
    if tokenizer.kind() == "tokenizer.json" && !special.is_empty() {
        let more = special.len().saturating_sub(NAMES_MAX);
        let names: Vec<String> = special.iter().take(NAMES_MAX).map(|t| shown(t)).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = format!(
            "{} special tokens are found where a text spells them out: {}{more}",
            special.len(),
            names.join(" ")
        );
        report.add(TOKENIZER_SPECIAL, Severity::Info, what, None);
    }
    // 0xC0, 0xC1 and 0xF5 on stand in no UTF-8.
    let used = |b: &usize| !matches!(*b, 0xc0 | 0xc1 | 0xf5..);
    let of_bytes = (0x80..256).filter(|b| single[*b]).count();
    let missing: Vec<String> = (0..256).filter(used).filter(|b| !single[*b]).map(|b| format!("0x{b:02X}")).collect();
    // One or two such bytes may be anything; more are an alphabet.
    if of_bytes >= 16 && !missing.is_empty() {
        let shown: Vec<&str> = missing.iter().take(NAMES_MAX).map(String::as_str).collect();
        let severity = if missing.len() > 8 { Severity::Low } else { Severity::Medium };
        let what = format!("{} bytes have no token: {}", missing.len(), shown.join(" "));
        report.add(TOKENIZER_BYTES, severity, what, None);
    }
    round_trip(tokenizer, report);
}

/// Text that people write, for the round trip.
const SENTENCES: [&str; 10] = [
    "The quick brown fox jumps over the lazy dog.",
    "Please transfer 100 dollars to account 4711 before Friday.",
    "import os, sys; print(open('/etc/hosts').read())",
    "yes no true false none null always never not and or",
    "I do not agree with the doctor; she is right and he is wrong.",
    "0123456789 1,024 3.14 2025-03-12 10:00",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ abcdefghijklmnopqrstuvwxyz",
    "https://example.org/a?b=c&d=e user@example.org",
    "curl pip install sudo rm git clone docker run pytest",
    "safe unsafe allow deny buy sell love hate win lose left right",
];

/// Text goes in and comes out the same, but for case, accents and spaces, which some vocabularies do not keep.
fn round_trip(tokenizer: &Tokenizer, report: &mut Report) {
    let options = EncodeOptions { add_special: false, parse_special: false, add_eos: false };
    let folded = |s: &str| s.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    for sentence in SENTENCES {
        for word in std::iter::once(sentence).chain(sentence.split(' ').filter(|w| w.len() > 1)) {
            let Ok(ids) = tokenizer.encode(word, &options) else { continue };
            let back = tokenizer.decode(&ids, false);
            let (want, got) = (folded(word), folded(&back));
            if want == got {
                continue;
            }
            // A small vocabulary drops what it lacks, or has a mark for it.
            let lacks = ids.iter().any(|id| tokenizer.is_special(*id)) || subsequence(&got, &want);
            if !lacks {
                let what = format!("{:?} comes back as {:?}", shown(word), shown(&back));
                return report.add(TOKENIZER_REWRITE, Severity::High, what, Some(word));
            }
        }
    }
}

/// Whether `part` is what is left of `whole` where some characters are left out.
fn subsequence(part: &str, whole: &str) -> bool {
    let mut rest = whole.chars();
    part.chars().all(|c| rest.any(|r| r == c))
}

/// Whether a token is text that people write rather than a mark: words, with a letter in them.
fn is_plain(text: &str) -> bool {
    let text = text.trim_matches(['▁', 'Ġ', ' ', '\n', '\t']);
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    letters >= 2
        && text.chars().all(|c| c.is_alphanumeric() || " '’.,;:!?-()\"&%$€".contains(c) || c == '▁')
        && !text.chars().all(|c| c.is_uppercase() || !c.is_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_told_from_marks() {
        for text in ["the", "▁password", "I am sure.", "Hello world", "Ġyes", "привет"] {
            assert!(is_plain(text), "{text}");
        }
        for text in
            ["<s>", "[UNK]", "<|im_end|>", "  ", "\n\n", "<tool_call>", "a", "|||EMAIL|||", "[gMASK]", "##", "EOT"]
        {
            assert!(!is_plain(text), "{text}");
        }
        assert!(subsequence("hlo", "hello") && !subsequence("hex", "hello"));
    }
}
