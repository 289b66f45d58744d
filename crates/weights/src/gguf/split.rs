//! Names of split GGUF sets: `PREFIX-00002-of-00005.gguf`.
use std::path::{Path, PathBuf};

/// A shard's place in its set, from its file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardName {
    prefix: PathBuf,
    /// Counted from 0.
    pub number: u32,
    /// Shards in the set.
    pub count: u32,
}

impl ShardName {
    /// Reads `PREFIX-%05d-of-%05d.gguf`; `None` for every other name.
    pub fn parse(path: &Path) -> Option<ShardName> {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let digits =
            |s: &str| (s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse::<u32>().ok())?;
        let (number, count) = (digits(number)?.checked_sub(1)?, digits(count)?);
        (number < count).then(|| ShardName { prefix: path.with_file_name(prefix), number, count })
    }

    /// The path of shard `number`, counted from 0.
    pub fn path(&self, number: u32) -> PathBuf {
        let mut name = self.prefix.clone().into_os_string();
        name.push(format!("-{:05}-of-{:05}.gguf", u64::from(number) + 1, self.count));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_shards() {
        let s = ShardName::parse(Path::new("/m/a-b-00002-of-00003.gguf")).unwrap();
        assert_eq!((s.number, s.count, s.path(2)), (1, 3, PathBuf::from("/m/a-b-00003-of-00003.gguf")));
        for no in [
            "a.gguf",
            "a-0002-of-00003.gguf",
            "a-00000-of-00003.gguf",
            "a-00004-of-00003.gguf",
            "a-0000x-of-00003.gguf",
        ] {
            assert_eq!(ShardName::parse(Path::new(no)), None, "{no}");
        }
    }
}
