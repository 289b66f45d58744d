//! Shard indexes of Hugging Face folders: `*.index.json`, which says which file holds which tensor.
use crate::{
    Error,
    error::{Result, invalid, quoted},
    tensor::TENSORS_MAX,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use std::{collections::HashMap, fmt, path::Component, path::Path};

/// Longest index that is read.
pub(crate) const INDEX_MAX: u64 = 100_000_000;
/// Most shards of a set.
const SHARDS_MAX: usize = 1 << 14;

/// Which file holds which tensor.
#[derive(Debug, Default)]
pub struct Index {
    /// File names, each once, in the order of their first use. Each is a plain name or a path below the folder.
    pub files: Vec<String>,
    /// Tensor name and position in `files`, sorted by name.
    pub tensors: Vec<(Box<str>, u32)>,
}

impl Index {
    /// The file of `tensor`, where the index names it.
    pub fn file_of(&self, tensor: &str) -> Option<u32> {
        let i = self.tensors.binary_search_by(|(name, _)| (**name).cmp(tensor)).ok()?;
        self.tensors.get(i).map(|t| t.1)
    }
}

/// Reads an index. A file name that leaves the index's folder is `Unsafe`.
pub fn parse(json: &[u8]) -> Result<Index> {
    let Root { weight_map } = serde_json::from_slice(json).map_err(|e| invalid(format!("index: {e}")))?;
    let WeightMap { files, mut tensors } = weight_map;
    for f in &files {
        inside(f)?;
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    match tensors.windows(2).find(|w| w[0].0 == w[1].0) {
        Some(twice) => Err(invalid("the index names this tensor twice").of(&twice[0].0)),
        None => Ok(Index { files, tensors }),
    }
}

/// A shard's name must stay below the index's folder on every system.
fn inside(name: &str) -> Result<()> {
    let plain = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
    if name.is_empty() || !plain || name.contains(['\\', ':', '\0']) {
        let what = format!("index: the shard name `{}` leaves the folder", quoted(name));
        return Err(Error::new(crate::ErrorKind::Unsafe, what).hint("do not use files from this source"));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Root {
    weight_map: WeightMap,
}

struct WeightMap {
    files: Vec<String>,
    tensors: Vec<(Box<str>, u32)>,
}

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<WeightMap, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of file names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<WeightMap, A::Error> {
                let mut numbers: HashMap<String, u32> = HashMap::new();
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<Box<str>>()? {
                    if tensors.len() == TENSORS_MAX {
                        map.next_value::<IgnoredAny>()?;
                        return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
                    }
                    let file: String = map.next_value()?;
                    let fresh = numbers.len();
                    if fresh == SHARDS_MAX && !numbers.contains_key(&file) {
                        return Err(A::Error::custom(format!("more than {SHARDS_MAX} files")));
                    }
                    let number = *numbers.entry(file).or_insert(u32::try_from(fresh).unwrap_or(u32::MAX));
                    tensors.push((name, number));
                }
                let mut files: Vec<(u32, String)> = numbers.into_iter().map(|(f, n)| (n, f)).collect();
                files.sort_unstable();
                Ok(WeightMap { files: files.into_iter().map(|f| f.1).collect(), tensors })
            }
        }
        d.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn an_index_names_files_once() {
        let i = parse(br#"{"metadata":{"total_size":8},"weight_map":{"b":"2.safetensors","a":"1.safetensors","c":"2.safetensors"}}"#)
            .unwrap();
        assert_eq!(i.files, ["2.safetensors", "1.safetensors"]);
        assert_eq!((i.file_of("a"), i.file_of("c"), i.file_of("d")), (Some(1), Some(0), None));
    }

    #[test]
    fn attacks_on_indexes_are_refused() {
        let cases: &[(&str, ErrorKind)] = &[
            (r#"{"weight_map":{"a":"../x.safetensors"}}"#, ErrorKind::Unsafe),
            (r#"{"weight_map":{"a":"/etc/passwd"}}"#, ErrorKind::Unsafe),
            (r#"{"weight_map":{"a":"sub/../../x"}}"#, ErrorKind::Unsafe),
            (r#"{"weight_map":{"a":"..\\x"}}"#, ErrorKind::Unsafe),
            (r#"{"weight_map":{"a":"C:x"}}"#, ErrorKind::Unsafe),
            (r#"{"weight_map":{"a":""}}"#, ErrorKind::Unsafe),
            (r#"{"weight_map":{"a":"x\u0000"}}"#, ErrorKind::Unsafe),
            (r#"{"weight_map":{"a":"x","a":"y"}}"#, ErrorKind::Invalid),
            (r#"{"weight_map":{"a":7}}"#, ErrorKind::Invalid),
            (r#"{"weight_map":[]}"#, ErrorKind::Invalid),
            (r#"{"metadata":{}}"#, ErrorKind::Invalid),
            ("[]", ErrorKind::Invalid),
            ("", ErrorKind::Invalid),
        ];
        for (json, kind) in cases {
            assert_eq!(parse(json.as_bytes()).unwrap_err().kind(), *kind, "{json}");
        }
    }
}
