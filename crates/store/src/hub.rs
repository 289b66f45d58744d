//! The hub's API: which files a revision holds, with sizes and digests, and where each is fetched. Does not own: which of
//! them are wanted (`choose`), how their bytes come (`blob`).
use crate::{
    choose::RemoteFile,
    config::Config,
    digest::Digest,
    error::{Error, ErrorKind, Result, quoted},
    http::{Client, Reply, Trouble},
    names::{check_path, is_commit},
    oci,
    pull::Watcher,
    reference::Reference,
};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

/// Longest list of files that is read, in bytes.
const LIST_MAX: u64 = 64 << 20;
/// Most files of a repository.
const FILES_MAX: usize = 100_000;
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the hub says of a revision.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The commit that the revision is at the moment.
    pub commit: String,
    pub files: Vec<RemoteFile>,
    /// Paths of those that are fetched only where they are named: code and data of an OCI artefact.
    pub extra: BTreeSet<String>,
    /// Paths of those that are archives, whose files are what is wanted.
    pub archives: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    oid: Option<String>,
    size: Option<u64>,
}

/// Tries that failed in a row, and the pause before the next.
pub(crate) struct Tries<'a> {
    config: &'a Config,
    failed: u32,
}

impl<'a> Tries<'a> {
    pub fn new(config: &'a Config) -> Tries<'a> {
        Tries { config, failed: 0 }
    }

    /// Something was gained since the last failure.
    pub fn progress(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next try; the trouble's error where there is none.
    pub fn again(&mut self, error: Error, after: Option<Duration>, watcher: &Watcher<'_>) -> Result<()> {
        self.failed += 1;
        if self.failed >= self.config.attempts.max(1) {
            let hint = "check the connection and run it again: what has come stays";
            return Err(error.hint(hint));
        }
        let doubled = self.config.pause.saturating_mul(1 << (self.failed - 1).min(10)).min(PAUSE_MAX);
        // Up to half as much again, so that many clients do not come back at once.
        let mut byte = [0u8; 1];
        let _ = getrandom::fill(&mut byte);
        let spread = doubled * u32::from(byte[0]) / 512;
        let pause = after.unwrap_or(doubled) + spread;
        tracing::info!("{error}: next try in {:.1} s", pause.as_secs_f32());
        let end = Instant::now() + pause;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            watcher.check()?;
            thread::sleep(left.min(Duration::from_millis(50)));
        }
        watcher.check()
    }
}

/// The files of the reference's revision.
pub(crate) fn list(
    client: &Client<'_>,
    config: &Config,
    reference: &Reference,
    watcher: &Watcher<'_>,
) -> Result<Listing> {
    if reference.registry().is_some() {
        return oci::list(client, config, reference, watcher);
    }
    let (repository, revision) = (reference.repository(), reference.revision_or_main());
    let url = format!("{}/api/models/{repository}/revision/{}?blobs=true", config.endpoint, escape(revision, false));
    let mut tries = Tries::new(config);
    let answer: Answer = loop {
        let body = client.get(&url, None).and_then(|mut reply| {
            let read = reply.body.with_config().limit(LIST_MAX).read_to_vec();
            read.map_err(|e| match e {
                ureq::Error::BodyExceedsLimit(_) => {
                    let what = format!("the list of files is longer than {} MiB", LIST_MAX >> 20);
                    Trouble::Final(Error::new(ErrorKind::Unsafe, what))
                }
                e => Trouble::passing(format!("the list of files broke off: {e}")),
            })
        });
        match body {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(answer) => break answer,
                Err(e) => {
                    // A proxy's page in place of the list may pass; a hub that speaks otherwise will not.
                    let what = format!("{repository}: the hub's list of files cannot be read: {e}");
                    tries.again(Error::new(ErrorKind::Network, what), None, watcher)?;
                }
            },
            Err(Trouble::Passing { error, after }) => tries.again(error, after, watcher)?,
            Err(Trouble::Final(error)) => return Err(error.about(&repository)),
            Err(Trouble::Refused { status, code, message }) => {
                return Err(refused(config, reference, status, &code, &message));
            }
        }
    };
    read_answer(answer, &repository)
}

fn read_answer(answer: Answer, repository: &str) -> Result<Listing> {
    if !is_commit(&answer.sha) {
        let what = format!("{repository}: the hub names `{}` as the commit", quoted(&answer.sha));
        return Err(Error::new(ErrorKind::Unsafe, what).hint("check HF_ENDPOINT"));
    }
    if answer.siblings.len() > FILES_MAX {
        let what = format!("{repository}: {} files; more than {FILES_MAX} are no model", answer.siblings.len());
        return Err(Error::new(ErrorKind::Unsafe, what));
    }
    let mut files = Vec::with_capacity(answer.siblings.len());
    for s in answer.siblings {
        check_path(&s.rfilename).map_err(|e| e.about(repository))?;
        let large = s.lfs.as_ref();
        let hex = large.and_then(|l| l.sha256.as_deref().or(l.oid.as_deref())).or(s.blob_id.as_deref());
        let digest = hex
            .map(|hex| {
                Digest::parse(hex.trim_start_matches("sha256:")).ok_or_else(|| {
                    let what = format!("{repository}: {}: `{}` is no digest", quoted(&s.rfilename), quoted(hex));
                    Error::new(ErrorKind::Unsafe, what).hint("check HF_ENDPOINT")
                })
            })
            .transpose()?;
        let size = large.and_then(|l| l.size).or(s.size);
        files.push(RemoteFile { path: s.rfilename, size, digest });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(twice) =
        files.windows(2).find_map(|w| if let [a, b] = w { (a.path == b.path).then_some(&a.path) } else { None })
    {
        return Err(Error::new(ErrorKind::Unsafe, format!("{repository}: {} stands twice in the list", quoted(twice))));
    }
    Ok(Listing { commit: answer.sha, files, extra: BTreeSet::new(), archives: BTreeSet::new() })
}

/// Size and digest from a file's own headers, where the list lacks them: mirrors leave them out.
pub(crate) fn complete(
    client: &Client<'_>,
    config: &Config,
    reference: &Reference,
    commit: &str,
    file: &mut RemoteFile,
    watcher: &Watcher<'_>,
) -> Result<()> {
    let url = file_url(config, reference, commit, file);
    let mut tries = Tries::new(config);
    let reply: Reply = loop {
        match client.head(&url) {
            Ok(reply) => break reply,
            Err(Trouble::Passing { error, after }) => tries.again(error, after, watcher)?,
            Err(Trouble::Final(error)) => return Err(error.about(&file.path)),
            Err(Trouble::Refused { status, code, message }) => {
                return Err(refused(config, reference, status, &code, &message));
            }
        }
    };
    if reply.header("x-repo-commit").is_some_and(|c| c != commit) {
        return Err(Error::new(
            ErrorKind::Network,
            format!("{}: the hub answers for another commit", quoted(&file.path)),
        ));
    }
    let tag = reply.header("x-linked-etag").or_else(|| reply.header("etag")).unwrap_or_default();
    let digest = Digest::parse(tag.trim_start_matches("W/").trim_matches('"'));
    let number = |name: &str| reply.header(name).and_then(|v| v.trim().parse().ok());
    let size = number("x-linked-size").or_else(|| number("content-length").filter(|_| reply.status < 300));
    file.digest = file.digest.take().or(digest);
    file.size = file.size.or(size);
    if file.digest.is_none() || file.size.is_none() {
        let what = format!("{}: the hub gives no digest or size to verify it by", quoted(&file.path));
        return Err(Error::new(ErrorKind::Corrupt, what).hint("name the hub itself in HF_ENDPOINT, not this mirror"));
    }
    Ok(())
}

/// Where a file of a commit is fetched.
pub(crate) fn file_url(config: &Config, reference: &Reference, commit: &str, file: &RemoteFile) -> String {
    if let Some(url) = oci::file_url(reference, file) {
        return url;
    }
    format!("{}/{}/resolve/{commit}/{}", config.endpoint, reference.repository(), escape(&file.path, true))
}

/// Percent-encoding of a path's components; `slashes` keeps those between them.
pub(crate) fn escape(text: &str, slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'/' if slashes => out.push('/'),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// What a status that says no means for the user.
pub(crate) fn refused(config: &Config, reference: &Reference, status: u16, code: &str, message: &str) -> Error {
    let repository = reference.repository();
    if reference.registry().is_some() {
        return oci::refused(reference, status);
    }
    let page = format!("{}/{repository}", config.endpoint);
    let known = config.token.is_some();
    let (kind, what, hint) = match (status, code) {
        (_, "GatedRepo") if known => (
            ErrorKind::Denied,
            "is gated, and the account of this token is not let in".to_string(),
            format!("open {page}, agree to the terms and wait until its owner lets you in"),
        ),
        (_, "GatedRepo") => (
            ErrorKind::Denied,
            "is gated: its owner lets in who has agreed to the terms".to_string(),
            format!("open {page}, agree to the terms, then set HF_TOKEN to a token of your account"),
        ),
        (404, "RevisionNotFound") => (
            ErrorKind::Remote,
            format!("the hub has no revision {}", reference.revision_or_main()),
            format!("the revisions are at {page}/tree/main"),
        ),
        (404, "EntryNotFound") => {
            (ErrorKind::Remote, "the hub no longer has one of the files".into(), "run it again".into())
        }
        (401 | 404, _) if known => (
            ErrorKind::Remote,
            "the hub has no such repository, or this token may not see it".into(),
            "check the name, and that the account of HF_TOKEN has access".into(),
        ),
        (401 | 404, _) => (
            ErrorKind::Remote,
            "the hub has no such repository, or it is private".into(),
            "check the name; for a private one set HF_TOKEN".into(),
        ),
        (403, _) => {
            (ErrorKind::Denied, "the hub forbids it".into(), format!("see {page}, and what the token is allowed to do"))
        }
        _ => (ErrorKind::Network, format!("the hub answers {status}"), "check HF_ENDPOINT".into()),
    };
    let said = if message.is_empty() { String::new() } else { format!(" ({message})") };
    Error::new(kind, format!("{repository}: {what}{said}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(siblings: &str) -> Result<Listing> {
        let text = format!(r#"{{"sha": "{}", "siblings": {siblings}}}"#, "a".repeat(40));
        read_answer(serde_json::from_str(&text).unwrap(), "o/n")
    }

    #[test]
    fn lists_are_read_and_hostile_ones_refused() {
        let (git, sha) = ("b".repeat(40), "c".repeat(64));
        let list = answer(&format!(
            r#"[{{"rfilename": "m", "size": 130, "blobId": "{git}", "lfs": {{"sha256": "{sha}", "size": 7, "pointerSize": 130}}}},
                {{"rfilename": "c.json", "size": 2, "blobId": "{git}"}}, {{"rfilename": "old"}}]"#
        ))
        .unwrap();
        assert_eq!(list.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["c.json", "m", "old"]);
        assert_eq!((list.files[1].size, list.files[1].digest.clone()), (Some(7), Some(Digest::Sha256(sha))));
        assert_eq!((list.files[2].size, list.files[2].digest.clone()), (None, None));
        for bad in [
            r#"[{"rfilename": "../x"}]"#,
            r#"[{"rfilename": "/etc/passwd"}]"#,
            r#"[{"rfilename": "a\u0000b"}]"#,
            r#"[{"rfilename": "m", "lfs": {"sha256": "../../x"}}]"#,
            r#"[{"rfilename": "m", "blobId": "HEAD"}]"#,
            r#"[{"rfilename": "m"}, {"rfilename": "m"}]"#,
        ] {
            assert_eq!(answer(bad).unwrap_err().kind(), ErrorKind::Unsafe, "{bad}");
        }
    }

    /// Changes of a sound list, byte by byte: a list or an error, no panic, and no name that leaves.
    #[test]
    fn no_list_panics_or_leaves() {
        let sound = format!(
            r#"{{"sha": "{0}", "siblings": [{{"rfilename": "a/b.gguf", "size": 1, "blobId": "{0}", "lfs": {{"sha256": "{1}", "size": 7}}}}, {{"rfilename": "c"}}]}}"#,
            "a".repeat(40),
            "b".repeat(64)
        );
        let mut read = 0;
        for bytes in crate::changes::of(sound.as_bytes()) {
            let Ok(answer) = serde_json::from_slice(&bytes) else { continue };
            let Ok(list) = read_answer(answer, "o/n") else { continue };
            read += 1;
            assert!(is_commit(&list.commit));
            for file in list.files {
                let parts: Vec<&str> = file.path.split('/').collect();
                assert!(!parts.iter().any(|p| ["", ".", ".."].contains(p)), "{:?}", file.path);
                assert!(!file.path.contains(['\\', '\0']));
            }
        }
        assert!(read > 1000, "{read}");
    }

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escape("a b/ü?#%", true), "a%20b/%C3%BC%3F%23%25");
        assert_eq!(escape("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}
