//! One plain function per parser, for fuzzers and for the mutation test: any bytes, no panic.
#![doc(hidden)]
use crate::{gguf, index, pickle, safetensors, torch, zip};
use pondera_quant::Bytes;

/// Safetensors header and extents.
pub fn fuzz_safetensors(data: &[u8]) {
    if let Ok(h) = safetensors::parse(data) {
        assert!(h.tensors.iter().all(|t| data.get(t.range.clone()).is_some()));
    }
}

/// GGUF header, extents, and every typed getter on every key.
pub fn fuzz_gguf(data: &[u8]) {
    let Ok(p) = gguf::parse(Bytes::from(data.to_vec())) else { return };
    assert!(p.tensors.iter().all(|t| data.get(t.range.clone()).is_some()));
    let g = p.gguf;
    for key in g.keys() {
        let _ = (g.str(key), g.u64(key), g.i64(key), g.f32(key), g.f64(key), g.bool(key));
        let _ = (g.strings(key), g.byte_strings(key), g.u64s(key), g.i64s(key), g.f32s(key), g.bools(key));
        if let Ok(Some(array)) = g.array(key) {
            array.iter().for_each(drop);
        }
    }
}

/// The pickle machine and the import scan.
pub fn fuzz_pickle(data: &[u8]) {
    let _ = pickle::load(data, data.len());
    let _ = pickle::scan(data);
}

/// The archive's directory.
pub fn fuzz_zip(data: &[u8]) {
    if let Ok(members) = zip::parse(data) {
        assert!(members.iter().all(|m| data.get(m.range.clone()).is_some()));
    }
}

/// Whole checkpoints, strided copies included.
pub fn fuzz_torch(data: &[u8]) {
    let Ok(tensors) = torch::parse(&Bytes::from(data.to_vec())) else { return };
    for t in tensors {
        let stored = data.get(t.range.clone()).expect("ranges are proven");
        if let Some(strides) = &t.strides {
            let copied = torch::row_major(&t, strides, stored).expect("strides are proven");
            assert!(copied.len() <= stored.len());
        }
    }
}

/// Shard indexes.
pub fn fuzz_index(data: &[u8]) {
    let _ = index::parse(data);
}

/// A target takes any bytes and does not panic.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("safetensors", fuzz_safetensors),
    ("gguf", fuzz_gguf),
    ("pickle", fuzz_pickle),
    ("zip", fuzz_zip),
    ("torch", fuzz_torch),
    ("index", fuzz_index),
];
