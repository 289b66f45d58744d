//! Digests by which files are known: SHA-256 of large files, git's blob id (SHA-1) of the others.
use crate::names::is_hex;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    io::{self, Read},
};

/// What a file's bytes must hash to. Its text is also the name of the blob in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-256 of the bytes, 64 hexadecimal digits.
    Sha256(String),
    /// SHA-1 of `blob SIZE\0` and the bytes, 40 hexadecimal digits: the id that git gives them.
    Git(String),
}

impl Digest {
    /// Tells by the length which it is. None for anything but 40 or 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Digest> {
        match text.len() {
            64 if is_hex(text) => Some(Digest::Sha256(text.into())),
            40 if is_hex(text) => Some(Digest::Git(text.into())),
            _ => None,
        }
    }

    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        match self {
            Digest::Sha256(s) | Digest::Git(s) => s,
        }
    }

    /// The algorithm's name, as lists show it.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha256(_) => "sha256",
            Digest::Git(_) => "git-sha1",
        }
    }

    /// Whether the `size` bytes of `reader` have this digest. `each` hears of every piece and may stop by an error.
    pub(crate) fn matches(
        &self,
        reader: &mut impl Read,
        size: u64,
        mut each: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut hash = match self {
            Digest::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Digest::Git(_) => Hasher::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        };
        let mut buffer = vec![0u8; 1 << 18];
        let mut seen = 0u64;
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            seen += n as u64;
            hash.update(buffer.get(..n).unwrap_or(&[]));
            each(n as u64)?;
        }
        Ok(seen == size && hash.hex() == self.as_str())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.as_str())
    }
}

enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(h) => h.update(bytes),
            Hasher::Git(h) => h.update(bytes),
        }
    }

    fn hex(self) -> String {
        match self {
            Hasher::Sha256(h) => hex(&h.finalize()),
            Hasher::Git(h) => hex(&h.finalize()),
        }
    }
}

/// The SHA-256 of `bytes`, as lower-case hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard_tools() {
        // `sha256sum` and `git hash-object` of the six bytes "hello\n".
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        for (text, bytes, want) in [(sha, b"hello\n", true), (git, b"hello\n", true), (sha, b"hellp\n", false)] {
            let digest = Digest::parse(text).unwrap();
            assert_eq!(digest.matches(&mut &bytes[..], 6, |_| Ok(())).unwrap(), want);
            assert!(!digest.matches(&mut &bytes[..], 7, |_| Ok(())).unwrap());
        }
        for bad in ["", "abc", &sha.to_uppercase(), &format!("../{}", &sha[3..])] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }
}
