//! Findings: what an audit says, in a form that people, scripts and code scanning tools read.
//!
//! Owns severities, the table of rules, and the list that findings are gathered in. Finds nothing itself.
use serde::{Deserialize, Serialize};

/// Most findings that a report lists; more are counted.
pub const FINDINGS_MAX: usize = 1000;
/// Most characters of a name out of a file that a finding shows.
const SHOWN_MAX: usize = 120;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Unusual.
    Low,
    /// May hide something.
    Medium,
    /// Unsafe: code may run, or the file is not what it says.
    High,
    /// Known to run commands.
    Critical,
}

impl Severity {
    /// All, from the mildest on.
    pub const ALL: [Severity; 5] =
        [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    /// Its name.
    pub fn name(self) -> &'static str {
        ["info", "low", "medium", "high", "critical"][self as usize]
    }
}

/// What a finding is about; it decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Concern {
    /// The file itself: exit 3.
    Safety,
    /// Licence, signature, policy: exit 4.
    Policy,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Its id, stable.
    pub id: &'static str,
    /// What it is about.
    pub concern: Concern,
    /// In a sentence.
    pub title: &'static str,
    /// What to do where it applies.
    pub advice: &'static str,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $concern:ident, $title:literal, $advice:literal;)*) => {
        $($(#[$doc])* pub const $name: &Rule =
            &Rule { id: $id, concern: Concern::$concern, title: $title, advice: $advice };)*
        /// All rules, as reports list them.
        pub const RULES: &[&Rule] = &[$($name),*];
    };
}

rules! {
    /// A pickle imports something that only arranges nothing.
    PICKLE_IMPORT = "pickle-import", Safety, "A pickle imports something outside of the closed set of constructors",
        "Do not load this file with Python; look for the model as safetensors";
    /// A pickle imports something that is known to run commands, open connections or read code.
    PICKLE_CODE = "pickle-code", Safety, "A pickle imports something that runs code",
        "Do not load this file with Python: it is made to run something. Report it to whoever hosts it";
    /// A pickle computes a name that it imports.
    PICKLE_COMPUTED = "pickle-computed-import", Safety, "A pickle computes the name of something that it imports",
        "Do not load this file with Python; names that are computed hide something";
    /// An extension code.
    PICKLE_EXTENSION = "pickle-extension", Safety, "A pickle takes an object from the extension registry",
        "Do not load this file with Python: what the code stands for is not in the file";
    /// A persistent id outside of a torch archive.
    PICKLE_PERSISTENT = "pickle-persistent-id", Safety, "A pickle takes objects from outside by an id of its own",
        "Do not load this file with Python unless you know the program that wrote it";
    /// A pickle that cannot be read to its end.
    PICKLE_BROKEN = "pickle-broken", Safety, "A pickle cannot be read to its end: what follows has not been looked at",
        "Do not load this file: another reader may read on where this one stops";
    /// A frame whose length is not that of its content.
    PICKLE_FRAME = "pickle-frame", Safety, "A frame of a pickle is not as long as it says",
        "Do not load this file: readers differ in what they make of it";
    /// Opcodes that no writer makes.
    PICKLE_ODD = "pickle-odd", Safety, "A pickle uses opcodes as no writer does",
        "Ask where the file comes from; save the weights again as safetensors";
    /// Memo indices far beyond the file.
    PICKLE_MEMORY = "pickle-memory", Safety, "A pickle makes its reader take far more memory than the file has bytes",
        "Do not load this file with Python";
    /// A pickle that a torch loader would refuse.
    PICKLE_CHECKPOINT = "pickle-checkpoint", Safety, "The checkpoint's pickle does more than arrange tensors",
        "Do not load this file with Python; look for the model as safetensors";
    /// A pickle where none is expected.
    PICKLE_HIDDEN = "pickle-hidden", Safety, "A pickle lies under a name that does not say so",
        "Ask why the file is named otherwise; do not load it with Python";
    /// More data behind a pickle.
    TRAILING = "trailing-data", Safety, "Bytes lie behind the end of the data",
        "Ask what they are; readers do not look at them";
    /// Two formats at once.
    POLYGLOT = "polyglot", Safety, "The file is valid in two formats at once",
        "Do not use it: what is checked as one format may be loaded as the other";
    /// An archive with bytes outside of its members.
    ZIP_GAP = "zip-gap", Safety, "An archive holds bytes that belong to no member",
        "Ask what they are; readers differ in whether they see them";
    /// A member outside of the directory.
    ZIP_HIDDEN = "zip-hidden-member", Safety, "An archive holds a member that its directory does not list",
        "Do not use it: readers differ in whether they see the member";
    /// A broken archive.
    ZIP_BROKEN = "zip-broken", Safety, "An archive is broken or cannot be looked into",
        "Do not load this file: another reader may accept it";
    /// A member that unpacks to far more.
    ZIP_BOMB = "zip-bomb", Safety, "A member of an archive unpacks to far more than the archive",
        "Do not unpack it";
    /// A member's path leaves the archive's folder.
    ZIP_PATH = "zip-path", Safety, "A member's path leaves the folder that it is unpacked to",
        "Do not unpack it";
    /// An object array.
    NPY_OBJECT = "npy-object", Safety, "A NumPy file holds Python objects as a pickle",
        "Load it with allow_pickle=False only, which refuses it; ask for plain arrays";
    /// A broken NumPy file.
    NPY_BROKEN = "npy-broken", Safety, "A NumPy file's header is not one",
        "Do not load this file";
    /// Compressed data that is not looked into.
    OPAQUE = "opaque", Safety, "The file is compressed in a way that is not looked into",
        "Unpack it and audit what it holds";
    /// A file that breaks its format's rules.
    STRUCTURE = "structure", Safety, "The file breaks the rules of its format",
        "Fetch it again, or from where it was published first";
    /// Python code that a loader would run.
    REMOTE_CODE = "remote-code", Safety, "The config names Python code of the repository that a loader runs if it is let",
        "Do not set trust_remote_code before you have read that code; pondera never runs it";
    /// Python code beside a model.
    PYTHON_FILE = "python-file", Safety, "Python code lies beside the model",
        "Nothing here runs it; read it before anything else does";
    /// Tensors with values that are none.
    NON_FINITE = "non-finite", Safety, "A tensor holds values that are no numbers",
        "The model is damaged or was trained badly: do not expect it to work";
    /// Tensors of zeros.
    ALL_ZERO = "all-zero", Safety, "A tensor holds zeros where weights should be",
        "Compare it with the published digest: it may not have been filled";
    /// A template that reaches outside.
    TEMPLATE_REACH = "template-reach", Safety, "A chat template reaches for what lies outside of it",
        "Do not render it with a renderer that has no sandbox; take the template from where the model was published first";
    /// A template that no renderer takes.
    TEMPLATE_BROKEN = "template-broken", Safety, "A chat template cannot be read or rendered",
        "Compare it with the one that was published first; give another with --chat-template";
    /// A template that costs too much.
    TEMPLATE_COST = "template-cost", Safety, "A chat template takes more work than a conversation calls for",
        "Do not serve with it: a request may hold up everybody else. Give another with --chat-template";
    /// A template that waits for something.
    TEMPLATE_TRIGGER = "template-trigger", Safety, "A chat template says something else where a word, a date or a turn calls for it",
        "Read the branch; if the publisher does not explain it, give another template with --chat-template";
    /// A template that changes what messages say.
    TEMPLATE_REWRITE = "template-rewrite", Safety, "A chat template leaves out, changes or adds to what messages say",
        "Render a conversation with `pondera template` and compare; give another template with --chat-template";
    /// A text in a template that has no place there.
    TEMPLATE_TEXT = "template-text", Safety, "A chat template holds text that has no place in one",
        "Read that text; take the template from where the model was published first";
    /// What a template says by itself.
    TEMPLATE_OWN_TEXT = "template-own-text", Safety, "A chat template says something of its own in each conversation",
        "Read it: the model is told this whatever your system message says";
    /// A template that is known.
    TEMPLATE_KNOWN = "template-known", Safety, "A chat template is one that a publisher gave out",
        "Nothing needs to be done";
    /// A template that is not the one that is known.
    TEMPLATE_DIFFERS = "template-differs", Safety, "A chat template is not the one that is known of the model whose name it bears",
        "Compare it with the published one: what was changed may be a repair or not";
    /// Several templates.
    TEMPLATE_SEVERAL = "template-several", Safety, "A model has two chat templates that differ",
        "Ask which one it was trained with; remove the other";
    /// A vocabulary that cannot be read.
    TOKENIZER_BROKEN = "tokenizer-broken", Safety, "A vocabulary cannot be read",
        "Fetch it again, or from where it was published first";
    /// A tokenizer that changes text.
    TOKENIZER_REWRITE = "tokenizer-rewrite", Safety, "A tokenizer turns text into other text",
        "Do not use it: neither prompt nor answer is what was written. Take the file from where the model was published first";
    /// An added token that is plain text.
    TOKENIZER_SHADOW = "tokenizer-shadow", Safety, "An added token is text that people write",
        "Compare the added tokens with those published: such a token takes the place of the tokens that the model was trained with";
    /// Special tokens in text.
    TOKENIZER_SPECIAL = "tokenizer-special", Safety, "Text can spell out tokens that control the model",
        "Escape them in what users write, or tokenize it without special tokens, as `pondera serve` does";
    /// Tokens that are there twice.
    TOKENIZER_DUPLICATE = "tokenizer-duplicate", Safety, "Two tokens of a vocabulary have one text or one id",
        "Compare it with the vocabulary published first: which of the two counts depends on the reader";
    /// Ids without tokens.
    TOKENIZER_HOLES = "tokenizer-holes", Safety, "Ids of a vocabulary have no token",
        "Nothing needs to be done unless the model produces them: they decode to nothing";
    /// Bytes that cannot be written.
    TOKENIZER_BYTES = "tokenizer-bytes", Safety, "A vocabulary of bytes lacks some of them",
        "Expect text that cannot be tokenized; compare the vocabulary with the one published first";
    /// Tokens with characters that are not seen.
    TOKENIZER_UNSEEN = "tokenizer-unseen", Safety, "An added token holds characters that are not seen",
        "Compare the added tokens with those published";
    /// Configs that do not fit the vocabulary.
    TOKENIZER_CONFIG = "tokenizer-config", Safety, "A config and the vocabulary contradict one another",
        "Compare both with those published: a wrong end of sequence never ends, or ends early";
    /// A vocabulary in another order than its merges or scores.
    TOKENIZER_ORDER = "tokenizer-order", Safety, "Some tokens stand at ids where their merges or scores do not put them",
        "Compare it with the vocabulary published first: tokens that changed places decode to other text";
    /// Files whose digests hold.
    DIGEST_HOLDS = "digest-holds", Safety, "Files have the digests that they were fetched with",
        "Nothing needs to be done";
    /// A file whose digest does not hold.
    DIGEST_MISMATCH = "digest-mismatch", Safety, "A file is not the one that was fetched",
        "Remove it and fetch the model again: it was damaged or changed since";
    /// A file of a snapshot that the cache did not fetch.
    DIGEST_NONE = "digest-none", Safety, "A file in a snapshot was not fetched with the others",
        "Ask where it comes from: nothing is recorded of it";
    /// Values far from all others.
    OUTLIER_VALUE = "outlier-value", Safety, "A tensor holds a value far beyond all others",
        "Compare the file with the published digest: one changed value can break a model or be a mark";
    /// Scales far from all others.
    ODD_SCALE = "odd-scale", Safety, "A scale of quantized weights is unlike the others",
        "Compare the file with the published digest, or quantize the model again";
    /// Layers unlike the others.
    OUTLIER_LAYER = "outlier-layer", Safety, "A layer's tensor is unlike those of the other layers",
        "Compare it with the model that this one was made of: the layer may have been changed or put in";
    /// Copies that nothing declares.
    DUPLICATE = "duplicate-tensor", Safety, "Tensors that are not declared as one hold the same bytes",
        "Ask whether layers were repeated on purpose; the model has fewer parameters than it seems";
    /// Tokens that were never trained.
    UNTRAINED_TOKENS = "untrained-tokens", Safety, "Tokens with a text have embeddings that look untrained",
        "Try them out: such tokens can make a model answer nonsense; they may be kept out of prompts";
    /// A configuration that is not that of the tensors.
    CONFIG_MISMATCH = "config-mismatch", Safety, "The configuration and the tensors are not of one model",
        "Fetch both from one place and revision";
    /// A configuration that nothing can be held to.
    CONFIG_UNKNOWN = "config-unknown", Safety, "The configuration is of a kind that tensors are not held to here",
        "Nothing to do: what the model is made of was not compared";
    /// Shards that are not what the index says.
    INDEX_MISMATCH = "index-mismatch", Safety, "The index and the shards do not hold the same tensors",
        "Fetch the index and all shards again from one revision: readers differ in which of them they follow";
    /// An adapter that changes more than it says.
    ADAPTER_EXTRA = "adapter-extra", Safety, "An adapter changes more than its configuration says",
        "Do not use it before its publisher has said why";
    /// An adapter whose tensors are not those of its configuration.
    ADAPTER_MISMATCH = "adapter-mismatch", Safety, "An adapter's tensors are not those that its configuration says",
        "Fetch it again; readers differ in which of the two they follow";
    /// An adapter that drowns its model.
    ADAPTER_SCALE = "adapter-scale", Safety, "An adapter is scaled as none is",
        "Compare lora_alpha and the rank with what its publisher says of them";
    /// A file that somebody knows to be bad.
    KNOWN_BAD = "known-bad", Safety, "The file is in the list of known bad ones",
        "Do not use it, and remove it; the list says what is known of it";
    /// No licence.
    LICENSE_MISSING = "license-missing", Policy, "No licence is declared",
        "Ask the publisher: without a licence nothing is allowed";
    /// A text that is no known licence.
    LICENSE_UNKNOWN = "license-unknown", Policy, "The licence is none that is known",
        "Read it; `pondera license` shows what it resembles";
    /// Sources that contradict one another.
    LICENSE_CONFLICT = "license-conflict", Policy, "What files say about the licence contradicts one another",
        "Ask the publisher which one applies; until then assume the stricter one";
    /// A policy that refuses it.
    LICENSE_POLICY = "license-policy", Policy, "The policy refuses the licence",
        "Choose another model, or add an exception with its reason to the policy";
    /// A signature is demanded and is not there.
    SIGNATURE_MISSING = "signature-missing", Policy, "A signature is demanded and there is none",
        "Ask the publisher for it; without one nobody says that these are their files";
    /// A signature that does not hold, or that nobody made who is trusted.
    SIGNATURE_INVALID = "signature-invalid", Policy, "The signature does not hold",
        "Do not use the model: ask the publisher which key, certificate or identity signs it, and fetch it again";
    /// A signature that cannot be verified here.
    SIGNATURE_UNSUPPORTED = "signature-unsupported", Policy, "The signature is of a kind that cannot be verified here",
        "Ask the publisher for a signature of OpenSSF Model Signing 1.0 over whole files with SHA-256";
    /// A signature that nothing was demanded of.
    SIGNATURE_UNVERIFIED = "signature-unverified", Policy, "A signature lies beside the model and was not verified",
        "Say who must have signed: --key, --certificate-root, or --identity with --issuer and --trust-root";
    /// A file that is not the one that was signed.
    SIGNED_CHANGED = "signed-file-changed", Policy, "A file is not the one that was signed",
        "Do not use the model: fetch it again, or ask the publisher";
    /// A signed file that is not there.
    SIGNED_MISSING = "signed-file-missing", Policy, "A file that was signed is not there",
        "Fetch the whole model";
    /// A file that the signature does not cover.
    SIGNED_EXTRA = "signed-file-extra", Policy, "A file is there that the signature does not cover",
        "Remove it, or say with --ignore that it does not matter";
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The rule's id.
    pub rule: &'static str,
    /// How bad it is here.
    pub severity: Severity,
    /// What it is about.
    pub concern: Concern,
    /// The file; members of archives behind `!`.
    pub file: String,
    /// What was found, in a sentence.
    pub what: String,
    /// The byte in the file or member that it was found at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The name in question: an import, a tensor, a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What to do.
    pub advice: &'static str,
}

/// A finding that is about to be added.
pub(crate) struct New<'a> {
    pub rule: &'static Rule,
    pub severity: Severity,
    pub file: &'a str,
    pub what: String,
    pub offset: Option<usize>,
    pub name: Option<&'a str>,
}

/// Findings as they are gathered: the first ones in full, the rest counted, the worst always known.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    left_out: usize,
}

impl Findings {
    pub(crate) fn add(&mut self, new: New) {
        let finding = Finding {
            rule: new.rule.id,
            severity: new.severity,
            concern: new.rule.concern,
            file: new.file.to_string(),
            what: new.what,
            offset: new.offset.map(|o| o as u64),
            name: new.name.map(shown),
            advice: new.rule.advice,
        };
        if self.list.len() < FINDINGS_MAX {
            return self.list.push(finding);
        }
        self.left_out += 1;
        // The list stays as bad as what it stands for.
        if let Some(mildest) = self.list.iter_mut().min_by_key(|f| f.severity).filter(|f| f.severity < finding.severity)
        {
            *mildest = finding;
        }
    }

    /// The findings, the worst first, and how many more there were.
    pub fn finish(mut self) -> (Vec<Finding>, usize) {
        self.list.sort_by(|a, b| {
            (std::cmp::Reverse(a.severity), &a.file, a.offset).cmp(&(std::cmp::Reverse(b.severity), &b.file, b.offset))
        });
        (self.list, self.left_out)
    }

    /// The worst severity of a concern so far.
    pub fn worst(&self, concern: Concern) -> Option<Severity> {
        self.list.iter().filter(|f| f.concern == concern).map(|f| f.severity).max()
    }
}

/// A name out of a file as a report may show it: escaped, and cut where it is long.
pub(crate) fn shown(name: &str) -> String {
    let mut s: String = name.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN_MAX).is_some() {
        s.push('…');
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_ids_of_their_own() {
        for (i, r) in RULES.iter().enumerate() {
            assert!(!RULES[..i].iter().any(|o| o.id == r.id), "{}", r.id);
            assert!(r.id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !r.advice.is_empty(), "{}", r.id);
        }
    }

    #[test]
    fn the_table_of_the_documentation_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/audit.md");
        let text = std::fs::read_to_string(path).expect(path);
        let rows: Vec<&str> = text.lines().filter(|l| l.starts_with("| `") && l.matches(" | ").count() == 2).collect();
        let want: Vec<String> = RULES.iter().map(|r| format!("| `{}` | {} | {} |", r.id, r.title, r.advice)).collect();
        for row in &want {
            assert!(rows.contains(&row.as_str()), "docs/audit.md lacks this row:\n{row}");
        }
        assert_eq!(rows.len(), want.len(), "docs/audit.md has rows of rules that are gone");
    }

    #[test]
    fn the_worst_is_never_left_out() {
        let mut f = Findings::default();
        let new = |severity| New { rule: TRAILING, severity, file: "x", what: String::new(), offset: None, name: None };
        (0..FINDINGS_MAX + 5).for_each(|_| f.add(new(Severity::Low)));
        f.add(new(Severity::Critical));
        assert_eq!(f.worst(Concern::Safety), Some(Severity::Critical));
        let (list, more) = f.finish();
        assert_eq!((list.len(), more, list[0].severity), (FINDINGS_MAX, 6, Severity::Critical));
    }
}
