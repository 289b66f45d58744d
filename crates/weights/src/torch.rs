//! PyTorch checkpoints: the zip format of today and the plain format before it, as pure data.
//!
//! A pickle names the tensors; their storages lie uncompressed beside it and are mapped. Row-major tensors share
//! the file's bytes; others keep their strides and are copied when they are asked for.
//! The layouts are those of `torch/serialization.py`.
use crate::{
    TensorInfo,
    bounded::{Reader, checked_size, shown},
    error::{Error, ErrorKind, Result, invalid, quoted, unsupported},
    pickle::{self, Dtype, Loaded, StorageRecord, TensorRecord},
    tensor::TENSORS_MAX,
    zip,
};
use pondera_quant::Bytes;
use std::{collections::HashMap, ops::Range};

/// The first pickle of the old format: `LONG1`, ten bytes.
const MAGIC: [u8; 15] = *b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
const VERSION: i64 = 1001;

/// Whether `bytes` begin like an archive or a pickle.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    zip::looks_like(bytes) || matches!(bytes, [0x80, 2..=5, ..])
}

/// The tensors of a checkpoint, ranges in the file; all extents are proven.
pub fn parse(file: &Bytes) -> Result<Vec<TensorInfo>> {
    let bytes = file.as_slice();
    let tensors = if zip::looks_like(bytes) { parse_zip(bytes)? } else { parse_plain(bytes)? };
    match tensors.len() {
        0 => Err(unsupported("the checkpoint holds no named tensors")),
        n if n > TENSORS_MAX => Err(unsupported(format!("more than {TENSORS_MAX} tensors"))),
        _ => Ok(tensors),
    }
}

/// Where the storages of a checkpoint lie in its file.
type Storages<'a> = dyn Fn(&StorageRecord) -> Result<Range<usize>> + 'a;

fn parse_zip(file: &[u8]) -> Result<Vec<TensorInfo>> {
    let members = zip::parse(file)?;
    let find = |name: &str| members.binary_search_by(|m| (*m.name).cmp(name)).ok().and_then(|i| members.get(i));
    let main = members.iter().find(|m| m.name.strip_suffix("data.pkl").is_some_and(is_folder));
    let main = main.ok_or_else(|| unsupported("an archive without data.pkl: no PyTorch checkpoint"))?;
    let folder = main.name.strip_suffix("data.pkl").unwrap_or("");
    for m in members.iter().filter(|m| m.name.ends_with(".pkl") && m.name != main.name) {
        refuse_code(m.bytes(file)?).map_err(|e| e.of(&m.name))?;
    }
    if let Some(order) = find(&format!("{folder}byteorder"))
        && order.bytes(file)? != b"little"
    {
        return Err(unsupported("a big-endian checkpoint"));
    }
    let loaded = pickle::load(main.bytes(file)?, file.len())?;
    let storage = |s: &StorageRecord| {
        let name = format!("{folder}data/{}", s.key);
        let member = find(&name).ok_or_else(|| invalid(format!("storage {} is missing", quoted(&name))))?;
        member.bytes(file)?;
        Ok(member.range.clone())
    };
    tensors(&loaded, &storage)
}

/// The pickle lies in the archive's one folder, or at its top.
fn is_folder(prefix: &str) -> bool {
    prefix.is_empty() || prefix.strip_suffix('/').is_some_and(|name| !name.contains('/'))
}

/// A pickle beside the checkpoint's own: not read, but what it would import is looked at.
fn refuse_code(data: &[u8]) -> Result<()> {
    let found = pickle::scan(data);
    let unknown = found.imports.iter().find(|i| !pickle::is_known(&i.module, &i.name));
    let what = match (unknown, found.extensions.first()) {
        (Some(i), _) => format!("imports {}.{}", quoted(&i.module), quoted(&i.name)),
        (None, Some(code)) => format!("takes object {code} from the extension registry"),
        (None, None) => return Ok(()),
    };
    Err(Error::new(ErrorKind::Unsafe, format!("another pickle of the archive {what}; nothing was run"))
        .hint("do not load this file elsewhere; look for the model as safetensors"))
}

/// The format before PyTorch 1.6: five pickles in a row, then each storage's length and bytes.
fn parse_plain(file: &[u8]) -> Result<Vec<TensorInfo>> {
    if !file.starts_with(&MAGIC) {
        let loaded = pickle::load(file, file.len())?;
        let named = !loaded.tensors.is_empty();
        return if named { Err(invalid("tensors without their storages")) } else { Ok(Vec::new()) };
    }
    let mut at = MAGIC.len();
    let mut next = || -> Result<Loaded> {
        let loaded = pickle::load(file.get(at..).unwrap_or(&[]), file.len())?;
        at = at.saturating_add(loaded.end);
        Ok(loaded)
    };
    let (version, system, loaded, keys) = (next()?, next()?, next()?, next()?);
    if version.integer != Some(VERSION) {
        return Err(unsupported(format!("expected checkpoint version {VERSION}, got {:?}", version.integer)));
    }
    if system.little_endian == Some(false) {
        return Err(unsupported("a big-endian checkpoint"));
    }
    let mut dtypes: HashMap<&str, Dtype> = HashMap::new();
    for s in &loaded.storages {
        if *dtypes.entry(&s.key).or_insert(s.dtype) != s.dtype {
            return Err(invalid(format!("storage {} has two types", quoted(&s.key))));
        }
    }
    let mut r = Reader::starting(file, at);
    let mut ranges: HashMap<&str, Range<usize>> = HashMap::new();
    for key in &keys.texts {
        let dtype = dtypes.get(&**key).copied().unwrap_or(Dtype::Untyped);
        let elements = r.u64()?;
        let size = elements.checked_mul(element_bytes(dtype)? as u64).ok_or_else(|| invalid("storage overflows"))?;
        let start = r.at();
        r.take(size).map_err(|e| e.of(key))?;
        if ranges.insert(key, start..r.at()).is_some() {
            return Err(invalid("a storage stands twice").of(key));
        }
    }
    let storage = |s: &StorageRecord| {
        ranges.get(&*s.key).cloned().ok_or_else(|| invalid(format!("storage {} is missing", quoted(&s.key))))
    };
    tensors(&loaded, &storage)
}

fn element_bytes(dtype: Dtype) -> Result<usize> {
    match dtype {
        Dtype::Known(format) => Ok(format.info().bytes),
        Dtype::Untyped => Ok(1),
        Dtype::Unsupported(name) => Err(unsupported(format!("dtype {name} is not supported"))),
    }
}

fn tensors(loaded: &Loaded, storages: &Storages) -> Result<Vec<TensorInfo>> {
    let place = |(name, t): &(String, TensorRecord)| place(name, t, loaded, storages).map_err(|e| e.of(name));
    loaded.tensors.iter().map(place).collect()
}

/// Proves that a tensor lies in its storage, and the storage in the file.
fn place(name: &str, t: &TensorRecord, loaded: &Loaded, storages: &Storages) -> Result<TensorInfo> {
    let storage = loaded.storages.get(t.storage).ok_or_else(|| invalid("a storage that is not there"))?;
    let format = match t.dtype {
        Dtype::Known(format) => format,
        Dtype::Unsupported(dtype) => return Err(unsupported(format!("dtype {dtype} is not supported"))),
        Dtype::Untyped => return Err(invalid("a tensor without a dtype")),
    };
    let overflow = || invalid(format!("shape {} with strides {} overflows", shown(&t.shape), shown(&t.strides)));
    let size = format.info().bytes;
    let bytes = storages(storage)?;
    let (first, elements) = storage.view.map_or((0, storage.elements), |v| (v.offset, v.elements));
    // The elements that the pickle declares, and of those the ones that are there.
    let declared = first.checked_add(elements).and_then(|n| n.checked_mul(element_bytes(storage.dtype).ok()?));
    if declared.is_none_or(|n| n > bytes.len()) {
        return Err(invalid(format!("expected a storage of {elements} elements, got {} bytes: cut off", bytes.len())));
    }
    let storage_start = first.checked_mul(element_bytes(storage.dtype)?).ok_or_else(overflow)?;
    let storage_bytes = elements.checked_mul(element_bytes(storage.dtype)?).ok_or_else(overflow)?;
    let needed = checked_size(format, &t.shape)?;
    let span = span(&t.shape, &t.strides).ok_or_else(overflow)?;
    let from = t.offset.checked_mul(size).ok_or_else(overflow)?;
    let to = t.offset.checked_add(span).and_then(|n| n.checked_mul(size)).ok_or_else(overflow)?;
    if to > storage_bytes {
        let what =
            format!("expected elements {} to {} of a storage of {storage_bytes} bytes", t.offset, t.offset + span);
        return Err(invalid(what));
    }
    let start = bytes.start + storage_start;
    let strides = if row_major_strides(&t.shape, &t.strides) { None } else { Some(t.strides.clone()) };
    if strides.is_some() && needed > span * size {
        // Copying it out would take memory that the file does not hold.
        return Err(unsupported(format!("expanded tensor: shape {} over {span} elements", shown(&t.shape))));
    }
    Ok(TensorInfo {
        name: name.into(),
        format,
        shape: t.shape.clone(),
        file: 0,
        range: start + from..start + to,
        strides,
    })
}

/// Elements from the first to the last of a strided tensor; 0 for an empty one, `None` on overflow.
fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let reach = |n: usize, (d, s): (&usize, &usize)| n.checked_add((d - 1).checked_mul(*s)?);
    shape.iter().zip(strides).try_fold(1, reach)
}

/// Whether elements follow one another in row-major order.
fn row_major_strides(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.contains(&0)
        || shape.iter().zip(strides).rev().filter(|(d, _)| **d != 1).all(|(d, s)| {
            let fits = *s == expected;
            expected = expected.saturating_mul(*d);
            fits
        })
}

/// Copies a strided tensor into row-major order. `stored` is what [`TensorInfo::range`] covers.
pub(crate) fn row_major(t: &TensorInfo, strides: &[usize], stored: &[u8]) -> Result<Vec<u8>> {
    let size = t.format.info().bytes;
    let total = checked_size(t.format, &t.shape).map_err(|e| e.of(&t.name))?;
    let mut out = Vec::new();
    out.try_reserve_exact(total).map_err(|_| unsupported(format!("no memory for {total} bytes")).of(&t.name))?;
    let mut index = vec![0usize; t.shape.len()];
    let mut at = 0usize;
    for _ in 0..total / size.max(1) {
        let element = at.checked_mul(size).and_then(|from| stored.get(from..)?.get(..size));
        out.extend_from_slice(element.ok_or_else(|| invalid("strides reach past the tensor").of(&t.name))?);
        for ((i, &d), &s) in index.iter_mut().zip(&*t.shape).zip(strides).rev() {
            *i += 1;
            at = at.saturating_add(s);
            if *i < d {
                break;
            }
            at = at.saturating_sub(s.saturating_mul(d));
            *i = 0;
        }
    }
    Ok(out)
}
