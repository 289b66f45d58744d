//! `org/name[@revision][:quant]`, `oci://host/org/name[:tag|@sha256:digest]`: which model is meant. Does not own: where it
//! lies, or how it is fetched.
use crate::{
    error::{Error, ErrorKind, Result, quoted},
    names::{is_hex, plain},
};
use std::{fmt, net::IpAddr, str::FromStr};

/// In front of names of repositories in OCI registries.
const OCI: &str = "oci://";
/// Longest folder name that a reference may lead to; file systems take 255.
const FOLDER_MAX: usize = 240;

/// A repository on a hub, at a revision, and one type of its GGUF files; or a repository in an OCI registry, at a tag or at
/// a manifest's digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The registry's host with its port, if there is one; none of a hub's repository.
    registry: Option<String>,
    /// All but the last part of the name.
    org: String,
    name: String,
    revision: Option<String>,
    quant: Option<String>,
}

impl Reference {
    /// The repository, `org/name` or `oci://host/org/name`.
    pub fn repository(&self) -> String {
        match &self.registry {
            Some(host) => format!("{OCI}{host}/{}", self.path()),
            None => self.path(),
        }
    }

    /// The name without the registry.
    pub(crate) fn path(&self) -> String {
        let slash = if self.org.is_empty() { "" } else { "/" };
        format!("{}{slash}{}", self.org, self.name)
    }

    /// The host, and the port where one was named, of an OCI registry; none where a hub is meant.
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// The revision that was named: a branch, a tag, a commit, `refs/pr/N`; of an OCI repository a tag, or the digits of a
    /// digest.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The revision; where none was named `main`, and `latest` in an OCI registry.
    pub fn revision_or_main(&self) -> &str {
        self.revision().unwrap_or(if self.registry.is_some() { "latest" } else { "main" })
    }

    /// Whether the revision is a tag, which no commit's first digits stand for.
    pub(crate) fn is_tag(&self) -> bool {
        self.registry.is_some() && self.revision().is_some_and(|r| !is_digest(r))
    }

    /// What a registry's API calls the revision: a tag, or `sha256:` and digits.
    pub(crate) fn tag_or_digest(&self) -> String {
        let revision = self.revision_or_main();
        if is_digest(revision) { format!("sha256:{revision}") } else { revision.into() }
    }

    /// The type of GGUF file, as it was written.
    pub fn quant(&self) -> Option<&str> {
        self.quant.as_deref()
    }

    /// Its folder in a cache.
    pub(crate) fn folder(&self) -> String {
        let Some(host) = &self.registry else { return format!("models--{}--{}", self.org, self.name) };
        // Parts of such names may hold `--` themselves, and a host a port: signs that stand in none of them tell.
        let text = format!("oci/{host}/{}", self.path()).replace("--", "-=").replace("=-", "==");
        format!("models--{}", text.replace(':', "+").replace('/', "--"))
    }

    /// The repository of a cache's folder `models--org--name` or `models--oci--host--org--name`.
    pub fn from_folder(folder: &str) -> Option<Reference> {
        let (org, name) = folder.strip_prefix("models--")?.split_once("--")?;
        match name.split_once("--").filter(|_| org == "oci") {
            Some((host, path)) => {
                let (host, path) = (host.replace('+', ":"), path.replace("--", "/"));
                let found: Reference = format!("{OCI}{host}/{path}").replace('=', "-").parse().ok()?;
                (found.folder() == folder).then_some(found)
            }
            None => format!("{org}/{name}").parse().ok(),
        }
    }
}

/// Digits of a SHA-256.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Whether `host` (with a port or without) is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or(host);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

/// What stands behind `oci://`.
fn oci(text: &str) -> Option<Reference> {
    let (host, rest) = text.split_once('/')?;
    let host = host.to_ascii_lowercase();
    let (domain, port) = host.split_once(':').map_or((host.as_str(), None), |(d, p)| (d, Some(p)));
    let (path, revision) = match rest.split_once('@') {
        Some((path, digest)) => (path, Some(digest.strip_prefix("sha256:").filter(|d| is_digest(d))?)),
        None => rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag))),
    };
    let part = |p: &str| plain(p) && !p.ends_with('-') && !p.bytes().any(|b| b.is_ascii_uppercase());
    let number = |p: &str| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|n| n > 0);
    let ok = plain(domain)
        && !domain.contains('_')
        && !domain.ends_with('-')
        && port.is_none_or(number)
        && path.split('/').all(part)
        && revision.is_none_or(|r| plain(r) && r.len() <= 128);
    let (org, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (org, name, revision) = (org.into(), name.into(), revision.map(str::to_string));
    let found = Reference { registry: Some(host), org, name, revision, quant: None };
    (ok && found.folder().len() <= FOLDER_MAX).then_some(found)
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        let wrong = || {
            Error::new(ErrorKind::Invalid, format!("`{}` names no repository", quoted(text)))
                .hint("as in org/name, org/name@revision, org/name:Q4_K_M")
        };
        if let Some(text) = text.strip_prefix(OCI) {
            let hint = "as in oci://registry.example/org/name:tag, or @sha256: and 64 digits";
            let wrong = || Error::new(ErrorKind::Invalid, format!("`{OCI}{}` names no repository", quoted(text)));
            return oci(text).ok_or_else(|| wrong().hint(hint));
        }
        let (org, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (rest, quant) = rest.split_once(':').map_or((rest, None), |(r, q)| (r, Some(q)));
        let (name, revision) = rest.split_once('@').map_or((rest, None), |(n, r)| (n, Some(r)));
        let revised = |s: &str| s.len() <= 250 && s.split('/').all(plain);
        // `--` divides the parts of a cache's folder names.
        let ok = plain(org)
            && plain(name)
            && !org.contains("--")
            && !name.contains("--")
            && revision.is_none_or(revised)
            && quant.is_none_or(plain);
        let own = |s: Option<&str>| s.map(str::to_string);
        let found = Reference {
            registry: None,
            org: org.into(),
            name: name.into(),
            revision: own(revision),
            quant: own(quant),
        };
        ok.then_some(found).ok_or_else(wrong)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        if self.registry.is_some() {
            return match &self.revision {
                Some(digest) if is_digest(digest) => write!(f, "@sha256:{digest}"),
                Some(tag) => write!(f, ":{tag}"),
                None => Ok(()),
            };
        }
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        self.quant.as_ref().map_or(Ok(()), |quant| write!(f, ":{quant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_paths_kept_out() {
        let full: Reference = "org/name-1.5@refs/pr/1:Q4_K_M".parse().unwrap();
        assert_eq!((full.org.as_str(), full.name.as_str()), ("org", "name-1.5"));
        assert_eq!((full.revision(), full.quant()), (Some("refs/pr/1"), Some("Q4_K_M")));
        assert_eq!(full.to_string(), "org/name-1.5@refs/pr/1:Q4_K_M");
        assert_eq!(Reference::from_folder(&full.folder()).unwrap().repository(), "org/name-1.5");
        for bad in [
            "name",
            "a/b/c",
            "../x",
            "a/..",
            "/etc",
            "a/b@../c",
            "a b/c",
            "a/",
            "org/name:",
            "a/b@",
            "a/b\n",
            "a--b/c",
            "a/b@x//y",
            "a/b:../q",
            "-a/b",
            "a/b\0",
            "a\\b/c",
        ] {
            assert_eq!(bad.parse::<Reference>().unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn references_of_registries_are_read_and_keep_their_folders() {
        let digest = "ab".repeat(32);
        let pinned = format!("oci://r.example:5000/a/b/c@sha256:{digest}");
        for (text, folder, revision) in [
            ("oci://r.example/org/m:v1", "models--oci--r.example--org--m", "v1"),
            ("oci://r.example/m", "models--oci--r.example--m", "latest"),
            ("oci://xn--x.example/a--b/c---d", "models--oci--xn-=x.example--a-=b--c-==d", "latest"),
            (&pinned, "models--oci--r.example+5000--a--b--c", &digest),
        ] {
            let found: Reference = text.parse().unwrap();
            assert_eq!((found.to_string().as_str(), found.folder().as_str()), (text, folder));
            assert_eq!(found.revision_or_main(), revision);
            assert_eq!(Reference::from_folder(folder).unwrap().repository(), found.repository());
            assert_eq!(found.repository().parse::<Reference>().unwrap().folder(), folder);
        }
        let short = format!("oci://r/m@sha256:{}", "a".repeat(63));
        let long = format!("oci://r/{}", "a/".repeat(120) + "b");
        for bad in [
            "oci://",
            "oci://r",
            "oci://r/",
            "oci:///m",
            "oci://r/../m",
            "oci://r/M",
            "oci://r/a//b",
            "oci://r:0/m",
            "oci://r:99999/m",
            "oci://r:/m",
            "oci://u@r/m",
            "oci://r/m:",
            "oci://r/m:../x",
            "oci://r/m@main",
            "oci://r/m@sha512:00",
            "oci://r/m?x",
            "oci://r/m\0",
            &short,
            &long,
        ] {
            assert_eq!(bad.parse::<Reference>().unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
        for (host, here) in [("127.0.0.1:5", true), ("localhost", true), ("localhost.evil", false), ("127.evil", false)]
        {
            assert_eq!(is_loopback(host), here, "{host}");
        }
    }
}
