//! OCI registries: models as artefacts of the CNCF ModelPack specification and of Docker Model Runner. From a manifest to the
//! list of its files, each with its size and SHA-256, as `hub` gives it for a hub; the token that a registry asks for.
//!
//! Owns: the API's addresses, manifests and indexes, which layer becomes which file. Does not own: requests (`http`), how
//! bytes come and where they lie (`blob`, `layout`): an artefact is a model as any other, its manifest's digest the commit.
use crate::{
    choose::{self, Choice, RemoteFile},
    config::{Config, Token},
    digest::{Digest, sha256},
    error::{Error, ErrorKind, Result, quoted},
    http::{Client, Reply, Trouble},
    hub::{Listing, Tries, escape},
    names::{check_path, check_portable},
    pull::Watcher,
    reference::{Reference, is_loopback},
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};
use ureq::http::{HeaderMap, header};

/// Longest manifest or index that is read, in bytes: what registries take at most.
const MANIFEST_MAX: u64 = 4 << 20;
/// Longest configuration of an artefact.
const CONFIG_MAX: u64 = 16 << 20;
/// Longest answer that holds a token.
const TOKEN_MAX: u64 = 1 << 20;
/// The folder of what a snapshot keeps of the registry itself.
const OWN: &str = ".oci";
/// Where the manifest and the artefact's configuration lie, to be verified with the rest.
const MANIFEST: &str = ".oci/manifest.json";
pub(crate) const CONFIG: &str = ".oci/config.json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const MODEL_PACK: &str = "application/vnd.cncf.model.";
const DOCKER_AI: &str = "application/vnd.docker.ai.";
/// Names of weights that the manifest gives none.
const GGUF: &str = "model.gguf";
const SAFETENSORS: &str = "model.safetensors";
/// Annotations that hold a layer's path: ModelPack's, and the one that tools for plain files write.
const PATHS: [&str; 2] = ["org.cncf.model.filepath", "org.opencontainers.image.title"];

/// What a registry is asked for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.cncf.model.manifest.v1+json, */*;q=0.1";

/// A manifest or an index: which of the two its fields say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: String,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
}

impl Descriptor {
    fn digest(&self) -> Result<Digest> {
        let hex = self.digest.strip_prefix("sha256:").and_then(Digest::parse);
        hex.filter(|d| matches!(d, Digest::Sha256(_))).ok_or_else(|| {
            let what = format!("`{}` is no SHA-256 to verify by", quoted(&self.digest));
            Error::new(ErrorKind::Unsafe, what).hint("do not use files from this source")
        })
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

/// A registry's address; none where `reference` is of a hub. Encrypted, but on this machine.
pub(crate) fn endpoint(reference: &Reference) -> Option<String> {
    Some(match reference.registry()? {
        "docker.io" => "https://registry-1.docker.io".into(),
        host if is_loopback(host) => format!("http://{host}"),
        host => format!("https://{host}"),
    })
}

/// Where a file of an artefact is fetched.
pub(crate) fn file_url(reference: &Reference, file: &RemoteFile) -> Option<String> {
    let (digest, kind) = (file.digest.as_ref()?, if file.path == MANIFEST { "manifests" } else { "blobs" });
    Some(format!("{}/v2/{}/{kind}/sha256:{}", endpoint(reference)?, reference.path(), digest.as_str()))
}

/// How a registry wants to be asked: `WWW-Authenticate: Bearer realm="…",service="…",scope="…"`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// The first that asks for a bearer's token.
    pub fn read(headers: &HeaderMap) -> Option<Challenge> {
        let texts = headers.get_all(header::WWW_AUTHENTICATE).into_iter();
        texts.filter_map(|v| v.to_str().ok()).find_map(Challenge::parse)
    }

    fn parse(text: &str) -> Option<Challenge> {
        let (scheme, mut rest) = text.trim().split_once(' ')?;
        let mut found = BTreeMap::new();
        while let Some((name, value)) = rest.split_once('=').filter(|_| scheme.eq_ignore_ascii_case("bearer")) {
            let (value, tail) = match value.strip_prefix('"') {
                Some(value) => value.split_once('"')?,
                None => value.split_at(value.find(',').unwrap_or(value.len())),
            };
            found.entry(name.trim().to_ascii_lowercase()).or_insert(value.trim().to_string());
            rest = tail.trim_start().trim_start_matches(',');
        }
        Some(Challenge {
            realm: found.remove("realm")?,
            service: found.remove("service"),
            scope: found.remove("scope").filter(|s| !s.is_empty()),
        })
    }

    /// Where the token is; `scope` where the challenge names none.
    pub fn url(&self, scope: &str) -> String {
        let mut url = self.realm.split('#').next().unwrap_or_default().to_string();
        let mut sign = if url.contains('?') { '&' } else { '?' };
        let scope = self.scope.as_deref().unwrap_or(scope);
        for (name, value) in [("service", self.service.as_deref()), ("scope", Some(scope))] {
            if let Some(value) = value {
                let _ = write!(url, "{sign}{name}={}", escape(value, false));
                sign = '&';
            }
        }
        url
    }
}

/// The token in the answer of `place`.
pub(crate) fn token(mut reply: Reply, place: &str) -> std::result::Result<Token, Trouble> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let bytes = reply.body.with_config().limit(TOKEN_MAX).read_to_vec();
    let bytes = bytes.map_err(|e| Trouble::passing(format!("{place}: the token broke off: {e}")))?;
    let found: Option<Answer> = serde_json::from_slice(&bytes).ok();
    let text = found.and_then(|a| a.token.filter(|t| !t.is_empty()).or(a.access_token));
    text.and_then(|t| Token::new(&t).ok()).ok_or_else(|| Trouble::passing(format!("{place} gives no token")))
}

/// What a status that says no means for the user.
pub(crate) fn refused(reference: &Reference, status: u16) -> Error {
    let (kind, what, hint) = match status {
        404 => (
            ErrorKind::Remote,
            format!("the registry has no {}", reference.tag_or_digest()),
            "check the name and the tag or digest",
        ),
        401 | 403 => (
            ErrorKind::Denied,
            "the registry has no such repository, or it is private".into(),
            "check the name; only repositories that are open to everybody can be fetched",
        ),
        _ => (ErrorKind::Network, format!("the registry answers {status}"), "check the registry's address"),
    };
    Error::new(kind, format!("{}: {what}", reference.repository())).hint(hint)
}

/// The files of the artefact that `reference` names, its manifest and configuration among them.
///
/// `Remote` and `Denied` for what the registry says, `Corrupt` for a document that is not what was promised, `Choice` where
/// an index leaves doubt or there is no model, `Unsafe` for what no sound tool writes.
pub(crate) fn list(
    client: &Client<'_>,
    config: &Config,
    reference: &Reference,
    watcher: &Watcher<'_>,
) -> Result<Listing> {
    let about = |e: Error| e.about(&reference.repository());
    let from = Source { client, config, reference, watcher };
    let (mut digest, mut bytes) = from.document(&reference.tag_or_digest(), None)?;
    let mut document = read(&bytes).map_err(about)?;
    if let Some(entries) = &document.manifests {
        let one = pick(entries).map_err(about)?;
        (digest, bytes) =
            from.document(&format!("sha256:{}", one.digest().map_err(about)?.as_str()), Some(one.size))?;
        document = read(&bytes).map_err(about)?;
        if document.manifests.is_some() {
            return Err(about(hostile("an index that names an index")));
        }
    }
    files(&document, &digest, bytes.len() as u64).map_err(about)
}

fn hostile(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsafe, what).hint("do not use files from this source")
}

struct Source<'a> {
    client: &'a Client<'a>,
    config: &'a Config,
    reference: &'a Reference,
    watcher: &'a Watcher<'a>,
}

impl Source<'_> {
    /// A manifest or index by tag or digest, with its SHA-256: the one that was asked for, or that the registry names.
    fn document(&self, name: &str, size: Option<u64>) -> Result<(String, Vec<u8>)> {
        let about = |e: Error| e.about(&self.reference.repository());
        let address = endpoint(self.reference).unwrap_or_default();
        let url = format!("{address}/v2/{}/manifests/{name}", self.reference.path());
        if size.is_some_and(|n| n > MANIFEST_MAX) {
            return Err(about(too_long()));
        }
        let mut tries = Tries::new(self.config);
        loop {
            match self.client.get(&url, None).and_then(|reply| whole(reply, name, size)) {
                Ok(found) => return Ok(found),
                Err(Trouble::Passing { error, after }) => tries.again(about(error), after, self.watcher)?,
                Err(Trouble::Final(error)) => return Err(about(error)),
                Err(Trouble::Refused { status, .. }) => return Err(refused(self.reference, status)),
            }
        }
    }
}

fn too_long() -> Error {
    hostile(format!("the manifest is longer than {} MiB", MANIFEST_MAX >> 20))
}

/// The bytes of a manifest and their digest.
fn whole(mut reply: Reply, name: &str, size: Option<u64>) -> std::result::Result<(String, Vec<u8>), Trouble> {
    let promised = reply.header("docker-content-digest").and_then(|d| d.trim().strip_prefix("sha256:"));
    let promised = name.strip_prefix("sha256:").or(promised).map(str::to_string);
    let bytes = reply.body.with_config().limit(MANIFEST_MAX).read_to_vec().map_err(|e| match e {
        ureq::Error::BodyExceedsLimit(_) => Trouble::Final(too_long()),
        e => Trouble::passing(format!("the manifest broke off: {e}")),
    })?;
    let found = sha256(&bytes);
    if promised.is_some_and(|p| p != found) || size.is_some_and(|n| n != bytes.len() as u64) {
        let error = Error::new(ErrorKind::Corrupt, "the manifest is not the one that its digest and size promise");
        return Err(Trouble::Passing { error: error.hint("a mirror or proxy on the way changes it"), after: None });
    }
    Ok((found, bytes))
}

fn read(bytes: &[u8]) -> Result<Document> {
    let wrong = |what: String| Error::new(ErrorKind::Corrupt, what).hint("tell the repository's owner");
    let found: Document =
        serde_json::from_slice(bytes).map_err(|e| wrong(format!("the manifest cannot be read: {e}")))?;
    let (index, manifest) = (found.manifests.is_some(), found.config.is_some() || found.layers.is_some());
    let says_index = [OCI_INDEX, DOCKER_INDEX].contains(&found.media_type.as_str());
    let says_manifest = [OCI_MANIFEST, DOCKER_MANIFEST].contains(&found.media_type.as_str());
    // Two tools could take one document for two things, each with the same digest.
    if index && (manifest || says_manifest) || manifest && says_index {
        return Err(hostile("the manifest is also an index"));
    }
    if !index && !manifest {
        return Err(wrong("neither a manifest nor an index".into()));
    }
    Ok(found)
}

/// The only manifest of an index that can be a model: statements about others are none.
fn pick(entries: &[Descriptor]) -> Result<&Descriptor> {
    if entries.iter().any(|e| [OCI_INDEX, DOCKER_INDEX].contains(&e.media_type.as_str())) {
        return Err(hostile("an index that names an index"));
    }
    let statement = |e: &Descriptor| {
        e.annotation("vnd.docker.reference.type").is_some() || e.platform.as_ref().is_some_and(|p| p.os == "unknown")
    };
    let models: Vec<&Descriptor> = entries.iter().filter(|e| !statement(e)).collect();
    match models.as_slice() {
        [one] => Ok(one),
        several => {
            const SHOWN: usize = 8;
            let shown: Vec<String> = several.iter().take(SHOWN).map(|e| quoted(&e.digest)).collect();
            Err(Error::new(ErrorKind::Choice, format!("an index of {} manifests", several.len()))
                .hint(format!("name one by its digest: {}", shown.join(", "))))
        }
    }
}

/// What a layer is by its media type.
enum Layer {
    /// A file as it is; its name where the manifest says none.
    File { role: Role, name: Option<&'static str>, archive: bool },
    /// Nothing of a model.
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Weights,
    /// What lies beside them: documents, configurations.
    Beside,
    /// Code and data: fetched only where they are named.
    Extra,
}

/// Reads a layer's media type. An error for one of a model that cannot be unpacked here.
fn layer(media_type: &str) -> Result<Layer> {
    let refused = |what: String| {
        Error::new(ErrorKind::Choice, what)
            .hint("ask its owner for an artefact whose layers are raw files or plain archives")
    };
    if let Some(rest) = media_type.strip_prefix(MODEL_PACK) {
        let (kind, form) = rest.split_once(".v1.").unwrap_or((rest, ""));
        let role = match kind {
            "weight" => Role::Weights,
            "weight.config" | "doc" => Role::Beside,
            "code" | "dataset" => Role::Extra,
            _ => return Err(refused(format!("layers of type {} are not known here", quoted(media_type)))),
        };
        let name = match (role, form) {
            (_, "raw" | "tar") => None,
            (Role::Weights, "gguf") => Some(GGUF),
            (Role::Weights, "safetensors") => Some(SAFETENSORS),
            _ => return Err(refused(format!("layers of type {} cannot be unpacked here", quoted(media_type)))),
        };
        return Ok(Layer::File { role, name, archive: form == "tar" });
    }
    let Some(rest) = media_type.strip_prefix(DOCKER_AI) else { return Ok(Layer::Other) };
    let (role, name, archive) = match rest {
        "gguf.v3" => (Role::Weights, Some(GGUF), false),
        "safetensors" => (Role::Weights, Some(SAFETENSORS), false),
        "mmproj" | "gguf.v3.mmproj" => (Role::Beside, Some("mmproj.gguf"), false),
        "license" => (Role::Beside, Some("LICENSE"), false),
        "chat.template.jinja" => (Role::Beside, Some("chat_template.jinja"), false),
        "model.file" => (Role::Beside, None, false),
        "vllm.config.tar" => (Role::Beside, None, true),
        "gguf.v3.lora" => (Role::Extra, Some("adapter.gguf"), false),
        _ => {
            let what = format!("layers of type {} are not known here", quoted(media_type));
            return Err(Error::new(ErrorKind::Choice, what)
                .hint("ask its owner for an artefact of the ModelPack specification, or for one of GGUF"));
        }
    };
    Ok(Layer::File { role, name, archive })
}

/// Refuses a file's path that leaves the folder, or that is where the store keeps what it writes itself.
pub(crate) fn check_file(path: &str) -> Result<()> {
    check_path(path)?;
    check_portable(path)?;
    match path.split('/').next().is_some_and(|p| p.eq_ignore_ascii_case(OWN)) {
        true => Err(hostile(format!("the file name `{}` is not an artefact's to give", quoted(path)))),
        false => Ok(()),
    }
}

/// The files that a manifest names.
fn files(document: &Document, digest: &str, size: u64) -> Result<Listing> {
    let config = document.config.as_ref().ok_or_else(|| hostile("the manifest names no configuration"))?;
    if config.size > CONFIG_MAX {
        return Err(hostile(format!("{} bytes are no configuration", config.size)));
    }
    let own = |path: &str, size, digest| RemoteFile { path: path.into(), size: Some(size), digest: Some(digest) };
    let mut files =
        vec![own(MANIFEST, size, Digest::Sha256(digest.into())), own(CONFIG, config.size, config.digest()?)];
    let layers = document.layers.as_deref().unwrap_or_default();
    let path = |l: &Descriptor| PATHS.iter().find_map(|a| l.annotation(a)).map(str::to_string);
    let mut nameless = BTreeMap::new();
    for described in layers.iter().filter(|l| path(l).is_none()) {
        if let Layer::File { name: Some(name), .. } = layer(&described.media_type)? {
            *nameless.entry(name).or_insert(0usize) += 1;
        }
    }
    let (mut weights, mut extra, mut archives) = (0, BTreeSet::new(), BTreeSet::new());
    let (mut counts, mut others) = (BTreeMap::new(), Vec::new());
    for described in layers {
        let Layer::File { role, name, archive } = layer(&described.media_type)? else {
            others.push(quoted(&described.media_type));
            continue;
        };
        let named = path(described);
        let number = counts.entry((named.is_none(), name)).and_modify(|n| *n += 1).or_insert(1usize);
        let all = name.and_then(|name| nameless.get(name)).copied().unwrap_or_default();
        let path = match (named, name) {
            (Some(path), _) => path,
            (None, Some(whole @ (GGUF | SAFETENSORS))) if all > 1 => {
                let ending = whole.trim_start_matches("model.");
                format!("model-{number:05}-of-{all:05}.{ending}")
            }
            (None, Some(name)) if *number > 1 => format!("{name}-{number}"),
            (None, Some(name)) => name.into(),
            (None, None) if archive => format!("layer-{}.tar", described.digest()?.as_str()),
            (None, None) => return Err(hostile(format!("layer {} has no {}", quoted(&described.digest), PATHS[0]))),
        };
        check_file(&path)?;
        if archive {
            archives.insert(path.clone());
        }
        match role {
            Role::Weights => weights += 1,
            Role::Extra => drop(extra.insert(path.clone())),
            Role::Beside => {}
        }
        files.push(RemoteFile { path, size: Some(described.size), digest: Some(described.digest()?) });
    }
    if weights == 0 {
        let others = if others.is_empty() { String::new() } else { format!(", but {}", others.join(", ")) };
        return Err(Error::new(ErrorKind::Choice, format!("holds no weights of a model{others}"))
            .hint("artefacts of the ModelPack specification and of Docker Model Runner can be fetched"));
    }
    apart(&files.iter().filter_map(|f| Some((f.path.as_str(), f.size?, f.digest.as_ref()?))).collect::<Vec<_>>())?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Listing { commit: digest.into(), files, extra, archives })
}

/// Refuses paths that are one file, or a file and a folder, on some system; and digests of two sizes.
pub(crate) fn apart(files: &[(&str, u64, &Digest)]) -> Result<()> {
    let mut paths: BTreeSet<String> = BTreeSet::new();
    for (path, ..) in files {
        if !paths.insert(path.to_lowercase()) {
            return Err(hostile(format!("{} stands twice in the artefact", quoted(path))));
        }
    }
    let folder = |p: &str| p.match_indices('/').any(|(at, _)| p.get(..at).is_some_and(|f| paths.contains(f)));
    if let Some(both) = paths.iter().find(|p| folder(p)) {
        return Err(hostile(format!("{} lies in what is a file", quoted(both))));
    }
    let mut sizes = BTreeMap::new();
    for (path, size, digest) in files {
        if sizes.entry(digest).or_insert(size) != &size {
            return Err(hostile(format!("{} has two sizes", quoted(path))));
        }
    }
    Ok(())
}

/// What is fetched of an artefact: all but code and data; with patterns what they name, and documents. The manifest and
/// the configuration always.
pub(crate) fn choose(listing: &Listing, include: &[String]) -> Result<Choice> {
    let mut paths = vec![CONFIG.to_string(), MANIFEST.to_string()];
    if include.is_empty() {
        let wanted = listing.files.iter().filter(|f| !listing.extra.contains(&f.path) && !is_own(&f.path));
        paths.extend(wanted.map(|f| f.path.clone()));
    } else if let Choice::Files(chosen) = choose::choose(&listing.files, None, include, None)? {
        paths.extend(chosen.into_iter().filter(|p| !is_own(p)));
    }
    Ok(Choice::Files(paths))
}

/// What a look at an artefact sees: what a pull without patterns fetches, but for the registry's own documents.
pub(crate) fn shown(mut files: Vec<RemoteFile>, extra: &BTreeSet<String>) -> Vec<RemoteFile> {
    files.retain(|f| !extra.contains(&f.path) && !is_own(&f.path));
    files
}

fn is_own(path: &str) -> bool {
    path == MANIFEST || path == CONFIG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_and_asked() {
        for (text, want) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#,
                Some("https://auth.example/token?service=registry.example&scope=repository%3Aa%2Fb%3Apull"),
            ),
            (r#"bearer  realm=https://a/t , scope="""#, Some("https://a/t?scope=own")),
            (
                r#"Bearer realm="https://a/t?x=1#f",service="s&y=2""#,
                Some("https://a/t?x=1&service=s%26y%3D2&scope=own"),
            ),
            (r#"Bearer scope="a,b",realm="https://a/t""#, Some("https://a/t?scope=a%2Cb")),
            (r#"Basic realm="https://a/t""#, None),
            (r#"Bearer service="s""#, None),
            (r#"Bearer realm="https://a"#, None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(text).map(|c| c.url("own")).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_asked_without_encryption() {
        for (text, want) in [
            ("oci://registry.example/a/b", Some("https://registry.example")),
            ("oci://registry.example:80/a/b", Some("https://registry.example:80")),
            ("oci://docker.io/ai/m", Some("https://registry-1.docker.io")),
            ("oci://127.0.0.1:5000/a", Some("http://127.0.0.1:5000")),
            ("oci://10.0.0.1:5000/a", Some("https://10.0.0.1:5000")),
            ("oci://localhost.example/a", Some("https://localhost.example")),
            ("org/name", None),
        ] {
            assert_eq!(endpoint(&text.parse().unwrap()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn layers_without_paths_have_names_of_their_own() {
        let digest = |i: usize| format!("sha256:{i:064}");
        let list = |types: &[&str]| {
            let layers: Vec<String> = (1..)
                .zip(types)
                .map(|(i, t)| match t.split_once(' ') {
                    Some((t, path)) => format!(
                        r#"{{"mediaType": "application/vnd.{t}", "digest": "{}", "size": 1, "annotations": {{"{}": "{path}"}}}}"#,
                        digest(i), PATHS[0]
                    ),
                    None => format!(r#"{{"mediaType": "application/vnd.{t}", "digest": "{}", "size": 1}}"#, digest(i)),
                })
                .collect();
            let config = format!(r#"{{"mediaType": "c", "digest": "{}", "size": 1}}"#, digest(0));
            let text = format!(r#"{{"config": {config}, "layers": [{}]}}"#, layers.join(","));
            let found = files(&read(text.as_bytes()).unwrap(), &"c".repeat(64), 9)?;
            Ok::<_, Error>(found.files.into_iter().map(|f| f.path).filter(|p| !is_own(p)).collect::<Vec<_>>())
        };
        let docker =
            ["docker.ai.gguf.v3", "docker.ai.license", "docker.ai.chat.template.jinja", "docker.ai.gguf.v3.mmproj"];
        assert_eq!(list(&docker).unwrap(), ["LICENSE", "chat_template.jinja", "mmproj.gguf", "model.gguf"]);
        let parts = ["docker.ai.safetensors", "docker.ai.safetensors", "docker.ai.model.file config.json"];
        let named = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(list(&parts).unwrap(), named);
        let one = ["cncf.model.weight.v1.gguf a/b.gguf", "cncf.model.weight.v1.gguf", "docker.ai.gguf.v3.lora"];
        assert_eq!(list(&one).unwrap(), ["a/b.gguf", "adapter.gguf", "model.gguf"]);
        for bad in ["docker.ai.dduf", "cncf.model.doc.v1.gguf", "cncf.model.weight.v1.tar+zstd", "docker.ai.model.file"]
        {
            assert!(list(&["docker.ai.gguf.v3", bad]).is_err(), "{bad}");
        }
    }

    /// Changes of a sound manifest, byte by byte: a list or an error, no panic, and no name that leaves.
    #[test]
    fn no_manifest_panics_or_leaves() {
        let (a, b, c) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        let sound = format!(
            r#"{{"mediaType": "{OCI_MANIFEST}", "config": {{"mediaType": "c", "digest": "sha256:{a}", "size": 2}}, "layers": [
            {{"mediaType": "{MODEL_PACK}weight.v1.raw", "digest": "sha256:{b}", "size": 7, "annotations": {{"{}": "a/m.gguf"}}}},
            {{"mediaType": "{MODEL_PACK}code.v1.raw", "digest": "sha256:{a}", "size": 2, "annotations": {{"{}": "b"}}}},
            {{"mediaType": "{DOCKER_AI}license", "digest": "sha256:{b}", "size": 7}}]}}"#,
            PATHS[0], PATHS[1]
        );
        let paths = |l: &Listing| l.files.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        let whole = files(&read(sound.as_bytes()).unwrap(), &c, 9).unwrap();
        assert_eq!(paths(&whole), [CONFIG, MANIFEST, "LICENSE", "a/m.gguf", "b"]);
        assert_eq!(whole.extra.iter().collect::<Vec<_>>(), ["b"]);
        let mut listed = 0;
        for bytes in crate::changes::of(sound.as_bytes()) {
            let Ok(list) = read(&bytes).and_then(|d| files(&d, &c, 9)) else { continue };
            listed += 1;
            for file in list.files {
                assert!(!file.path.split('/').any(|p| ["", ".", ".."].contains(&p)), "{:?}", file.path);
                assert!(!file.path.contains(['\\', '\0']) && file.size.is_some());
                assert!(matches!(file.digest, Some(Digest::Sha256(d)) if d.len() == 64));
            }
        }
        assert!(listed > 1000, "{listed}");
    }
}
