//! `org/name[@revision][:quant]`: which model is meant. Does not own: where it lies, or how it is fetched.
use crate::{
    error::{Error, ErrorKind, Result, quoted},
    names::plain,
};
use std::{fmt, str::FromStr};

/// A repository on a hub, at a revision, and one type of its GGUF files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    org: String,
    name: String,
    revision: Option<String>,
    quant: Option<String>,
}

impl Reference {
    /// The repository, `org/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.org, self.name)
    }

    /// The revision that was named: a branch, a tag, a commit, `refs/pr/N`.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The revision, `main` where none was named.
    pub fn revision_or_main(&self) -> &str {
        self.revision().unwrap_or("main")
    }

    /// The type of GGUF file, as it was written.
    pub fn quant(&self) -> Option<&str> {
        self.quant.as_deref()
    }

    /// Its folder in a cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}--{}", self.org, self.name)
    }

    /// The repository of a cache's folder `models--org--name`.
    pub(crate) fn from_folder(folder: &str) -> Option<Reference> {
        let (org, name) = folder.strip_prefix("models--")?.split_once("--")?;
        format!("{org}/{name}").parse().ok()
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        let wrong = || {
            Error::new(ErrorKind::Invalid, format!("`{}` names no repository", quoted(text)))
                .hint("as in org/name, org/name@revision, org/name:Q4_K_M")
        };
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
        let found = Reference { org: org.into(), name: name.into(), revision: own(revision), quant: own(quant) };
        ok.then_some(found).ok_or_else(wrong)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.name)?;
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
}
