//! Which names may become paths. Nothing that the network or a user says reaches the file system but through here.
use crate::error::{Error, ErrorKind, Result, quoted};

/// Longest path of a file in a repository, in bytes.
const PATH_MAX: usize = 1024;
/// Longest component of it; what common file systems take.
const PART_MAX: usize = 255;

/// Part of a repository's name or revision, by the hub's own rule: letters, digits, `-`, `_`, `.`; no leading dot or
/// dash, no `..`.
pub(crate) fn plain(s: &str) -> bool {
    !s.is_empty()
        && s.len() <= PART_MAX
        && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !s.starts_with(['.', '-'])
        && !s.contains("..")
}

/// A full commit id: 40 or 64 hexadecimal digits.
pub(crate) fn is_commit(s: &str) -> bool {
    matches!(s.len(), 40 | 64) && is_hex(s)
}

/// Lower-case hexadecimal digits only.
pub(crate) fn is_hex(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A file's path in a repository that stays below its folder.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let bad = path.is_empty()
        || path.len() > PATH_MAX
        || path.contains('\\')
        || path.chars().any(char::is_control)
        || path.split('/').any(|p| p.is_empty() || p == "." || p == ".." || p.len() > PART_MAX);
    match bad {
        true => Err(Error::new(ErrorKind::Unsafe, format!("the file name `{}` leaves the folder", quoted(path)))
            .hint("do not use files from this source")),
        false => Ok(()),
    }
}

/// Names that a file system somewhere takes for something else: devices, streams, names that end in a dot or space.
pub(crate) fn check_portable(path: &str) -> Result<()> {
    let odd = |part: &str| {
        let stem = part.split('.').next().unwrap_or("").trim_end().to_ascii_lowercase();
        let numbered =
            |p: &str| stem.strip_prefix(p).is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()));
        part.contains([':', '<', '>', '"', '|', '?', '*'])
            || part.ends_with(['.', ' '])
            || ["con", "prn", "aux", "nul", "conin$", "conout$"].contains(&stem.as_str())
            || numbered("com")
            || numbered("lpt")
    };
    match path.split('/').any(odd) {
        true => {
            let what = format!("the file name `{}` is a device or no name on some systems", quoted(path));
            Err(Error::new(ErrorKind::Unsafe, what).hint("do not use files from this source"))
        }
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_are_refused() {
        for good in ["config.json", "a/b/c.gguf", ".gitattributes", "1_Pooling/config.json", "weiß.txt", "a..b"] {
            assert!(check_path(good).is_ok() && check_portable(good).is_ok(), "{good}");
        }
        let long = "x".repeat(256);
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/.", "a\\b", "a\0b", "a\nb", "a/", &long] {
            assert_eq!(check_path(bad).unwrap_err().kind(), ErrorKind::Unsafe, "{bad:?}");
        }
        for odd in ["con", "NUL.txt", "a/COM1", "lpt9.gguf", "C:x", "a.", "b ", "x?y", "aux .json"] {
            assert_eq!(check_portable(odd).unwrap_err().kind(), ErrorKind::Unsafe, "{odd:?}");
        }
    }
}
