//! What the tests of this crate share: temporary folders, seeded random numbers, tensors to write.
#![allow(dead_code, missing_docs)] // each test file uses its part
use pondera_quant::{FORMATS, Format};
use pondera_weights::{TensorSpec, gguf, safetensors};
use std::path::{Path, PathBuf};

/// A folder that goes when the test does.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("pondera-weights-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// A tensor with its bytes.
pub type Tensor = (TensorSpec, Vec<u8>);

pub fn tensor(name: &str, format: Format, shape: &[usize], seed: u64) -> Tensor {
    let spec = TensorSpec::new(name, format, shape);
    let bytes = Random(seed).bytes(spec.bytes().unwrap());
    (spec, bytes)
}

/// Up to eight tensors of the formats that `keep` admits, in any order, some empty, some scalar.
pub fn random_tensors(r: &mut Random, keep: impl Fn(Format) -> bool) -> Vec<Tensor> {
    let formats: Vec<Format> = FORMATS.iter().map(|f| f.format).filter(|f| keep(*f)).collect();
    let count = r.below(8);
    let one = |i| {
        let format = formats[r.below(formats.len())];
        let block = format.info().block;
        let mut shape: Vec<usize> = (0..r.below(4)).map(|_| r.below(4)).collect();
        match shape.last_mut() {
            Some(inner) => *inner *= block,
            None if block > 1 => shape.push(block),
            None => {}
        }
        let name = format!("t{}.{i}.\"é\\", r.below(100));
        tensor(&name, format, &shape, r.next())
    };
    (0..count).map(one).collect()
}

fn specs(tensors: &[Tensor]) -> Vec<TensorSpec> {
    tensors.iter().map(|t| t.0.clone()).collect()
}

pub fn safetensors_file(metadata: &[(&str, &str)], tensors: &[Tensor]) -> Vec<u8> {
    let mut w = safetensors::Writer::new(Vec::new(), metadata, &specs(tensors)).unwrap();
    tensors.iter().for_each(|t| w.write(&t.1).unwrap());
    w.finish().unwrap()
}

pub fn gguf_file(metadata: &[(&str, gguf::Meta)], tensors: &[Tensor]) -> Vec<u8> {
    let mut w = gguf::Writer::new(Vec::new(), metadata, &specs(tensors)).unwrap();
    tensors.iter().for_each(|t| w.write(&t.1).unwrap());
    w.finish().unwrap()
}

/// A zip archive of stored members, as PyTorch writes it.
pub fn zip_file(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let sizes = |out: &mut Vec<u8>, data: &[u8], name: &str| {
        out.extend([0; 4]); // checksum, which is not read
        out.extend((data.len() as u32).to_le_bytes());
        out.extend((data.len() as u32).to_le_bytes());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend([0; 2]);
    };
    for (name, data) in members {
        let at = out.len() as u32;
        out.extend(b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0");
        sizes(&mut out, data, name);
        out.extend(name.as_bytes());
        out.extend(*data);
        directory.extend(b"PK\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0");
        sizes(&mut directory, data, name);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((members.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

/// Pickle opcodes for `{name: tensor over f32 storage "0"}` of 12 elements.
pub fn state_dict(tensors: &[(&str, usize, &[u8], &[u8])]) -> Vec<u8> {
    let mut p = b"\x80\x02}(".to_vec();
    for (name, offset, shape, strides) in tensors {
        text(&mut p, name);
        p.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(");
        storage(&mut p, "FloatStorage", "0", 12);
        p.extend([b'K', *offset as u8]);
        for dims in [shape, strides] {
            p.push(b'(');
            dims.iter().for_each(|d| p.extend([b'K', *d]));
            p.push(b't');
        }
        p.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    p.extend(b"u.");
    p
}

pub fn text(p: &mut Vec<u8>, s: &str) {
    p.push(b'X');
    p.extend((s.len() as u32).to_le_bytes());
    p.extend(s.as_bytes());
}

/// The persistent id of a storage, and the opcode that takes it.
pub fn storage(p: &mut Vec<u8>, class: &str, key: &str, elements: u8) {
    p.push(b'(');
    text(p, "storage");
    p.extend(format!("ctorch\n{class}\n").as_bytes());
    text(p, key);
    text(p, "cpu");
    p.extend([b'K', elements, b't', b'Q']);
}

/// A checkpoint of that pickle and twelve f32 numbers 0 to 11.
pub fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    zip_file(&[("m/data.pkl", pickle), ("m/byteorder", b"little"), ("m/data/0", &numbers(12)), ("m/version", b"3\n")])
}

pub fn numbers(n: usize) -> Vec<u8> {
    (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect()
}
