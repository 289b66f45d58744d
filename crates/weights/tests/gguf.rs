//! The GGUF reader and writer: round trips, typed metadata, and every attack by name.
mod common;
use common::*;
use pondera_quant::{Bytes, Format};
use pondera_weights::{
    ErrorKind, Gguf, TensorSpec,
    gguf::{self, Meta, Value, ValueType},
};

fn parse(bytes: &[u8]) -> pondera_weights::Result<gguf::Parsed> {
    gguf::parse(Bytes::from(bytes.to_vec()))
}

fn metadata() -> Vec<(&'static str, Meta)> {
    vec![
        ("u8", Meta::U8(200)),
        ("i8", Meta::I8(-3)),
        ("u16", Meta::U16(60_000)),
        ("i16", Meta::I16(-300)),
        ("u32", Meta::U32(4_000_000_000)),
        ("i32", Meta::I32(-70_000)),
        ("u64", Meta::U64(u64::MAX)),
        ("i64", Meta::I64(i64::MIN)),
        ("f32", Meta::F32(1.5)),
        ("f64", Meta::F64(-2.5)),
        ("bool", Meta::Bool(true)),
        ("str", "llama ü".into()),
        ("strs", Meta::Strings(vec!["a".into(), "".into(), "ü".into()])),
        ("u32s", Meta::U32s(vec![1, 2, 3])),
        ("i32s", Meta::I32s(vec![-1, 2])),
        ("f32s", Meta::F32s(vec![0.5])),
        ("bools", Meta::Bools(vec![true, false])),
    ]
}

fn sample() -> Gguf {
    parse(&gguf_file(&metadata(), &[])).unwrap().gguf
}

#[test]
fn what_is_written_is_read_back() {
    for seed in 0..200 {
        let tensors = random_tensors(&mut Random(seed), |f| f.info().gguf_id.is_some());
        let bytes = gguf_file(&metadata(), &tensors);
        let p = parse(&bytes).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(p.gguf.keys().count(), metadata().len());
        for ((spec, data), t) in tensors.iter().zip(&p.tensors) {
            assert_eq!((&*t.name, t.format, &*t.shape), (&*spec.name, spec.format, &*spec.shape), "seed {seed}");
            assert_eq!(&bytes[t.range.clone()], &**data, "seed {seed}");
            assert_eq!(t.range.start % 32, 0);
        }
    }
}

#[test]
fn getters_take_every_width() {
    let g = sample();
    assert_eq!((g.version(), g.alignment()), (3, 32));
    for (key, want) in [("u8", 200), ("u16", 60_000), ("u32", 4_000_000_000), ("u64", u64::MAX)] {
        assert_eq!(g.u64(key).unwrap(), Some(want));
    }
    for (key, want) in [("i8", -3), ("i16", -300), ("i32", -70_000), ("i64", i64::MIN), ("u8", 200)] {
        assert_eq!(g.i64(key).unwrap(), Some(want));
    }
    assert_eq!(
        (g.f32("f32").unwrap(), g.f64("f64").unwrap(), g.f32("f64").unwrap()),
        (Some(1.5), Some(-2.5), Some(-2.5))
    );
    assert_eq!((g.bool("bool").unwrap(), g.str("str").unwrap()), (Some(true), Some("llama ü")));
    assert_eq!(g.strings("strs").unwrap().unwrap(), ["a", "", "ü"]);
    assert_eq!(g.byte_strings("strs").unwrap().unwrap()[2], "ü".as_bytes());
    assert_eq!(g.u64s("u32s").unwrap().unwrap(), [1, 2, 3]);
    assert_eq!(g.u64s("u8").unwrap().unwrap(), [200]);
    assert_eq!(g.i64s("i32s").unwrap().unwrap(), [-1, 2]);
    assert_eq!(g.f32s("f32s").unwrap().unwrap(), [0.5]);
    assert_eq!(g.bools("bools").unwrap().unwrap(), [true, false]);
    assert_eq!((g.u64("absent").unwrap(), g.contains("absent"), g.contains("u8")), (None, false, true));
    let array = g.array("u32s").unwrap().unwrap();
    assert_eq!((array.item(), array.len(), array.is_empty()), (ValueType::U32, 3, false));
}

#[test]
fn a_wrong_type_names_key_and_found_type() {
    let g = sample();
    let cases = [
        (g.u64("i8").err(), "i8", "I8(-3)"),
        (g.u64("str").err(), "str", "the string `llama ü`"),
        (g.u64("f32").err(), "f32", "F32(1.5)"),
        (g.str("u8").err(), "u8", "expected a string, got U8(200)"),
        (g.bool("u8").err(), "u8", "expected a bool"),
        (g.strings("u32s").err(), "u32s", "item 0: expected an array of strings, got U32(1)"),
        (g.u64s("i32s").err(), "i32s", "item 0: expected an array of non-negative integers, got I32(-1)"),
        (g.array("u8").err(), "u8", "expected an array"),
        (g.i64("u64").err(), "u64", "expected an integer"),
        (g.u64("u32s").err(), "u32s", "[U32; 3]"),
    ];
    for (e, key, text) in cases {
        let e = e.expect(key);
        assert_eq!((e.kind(), e.item()), (ErrorKind::Invalid, Some(key)));
        assert!(e.to_string().contains(text), "{e}");
    }
}

/// Bytes of a file, built by hand.
struct Raw(Vec<u8>);

impl Raw {
    fn new(version: u32, tensors: u64, keys: u64) -> Raw {
        Raw(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys)
    }

    fn u32(self, n: u32) -> Raw {
        self.raw(&n.to_le_bytes())
    }

    fn u64(self, n: u64) -> Raw {
        self.raw(&n.to_le_bytes())
    }

    fn raw(mut self, bytes: &[u8]) -> Raw {
        self.0.extend(bytes);
        self
    }

    fn text(self, s: &str) -> Raw {
        self.u64(s.len() as u64).raw(s.as_bytes())
    }

    fn tensor(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Raw {
        self = self.text(name).u32(dims.len() as u32);
        for d in dims {
            self = self.u64(*d);
        }
        self.u32(kind).u64(offset)
    }

    fn data(mut self, n: usize) -> Vec<u8> {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + n, 0);
        self.0
    }
}

#[test]
fn attacks_are_refused_each_by_its_reason() {
    let one = |dims: &[u64], kind, offset| Raw::new(3, 1, 0).tensor("a", dims, kind, offset).data(64);
    let key = |raw: &dyn Fn(Raw) -> Raw| raw(Raw::new(3, 0, 1).text("k")).data(64);
    let alignment = |n| Raw::new(3, 0, 1).text("general.alignment").u32(4).u32(n).data(0);
    let nested = |raw: Raw| raw.u32(9).raw(&[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].repeat(5)).u32(0).u64(0);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "4 more bytes"),
        ("magic", b"GGUX".to_vec(), "expected the magic bytes"),
        ("version 0", Raw::new(0, 0, 0).data(0), "got 0"),
        ("version 99", Raw::new(99, 0, 0).data(0), "got 99"),
        ("tensor count 2^63", Raw::new(3, 1 << 63, 0).data(64), "tensor count"),
        ("metadata count 2^60", Raw::new(3, 0, 1 << 60).data(64), "metadata count"),
        ("tensor count beyond the file", Raw::new(3, 3, 0).data(0), "tensor count"),
        ("key longer than the file", Raw::new(3, 0, 1).u64(60_000).data(64), "60000 more bytes"),
        ("key longer than keys may be", Raw::new(3, 0, 1).u64(u64::MAX).data(64), "1 to 65535"),
        ("empty key", Raw::new(3, 0, 1).text("").data(64), "1 to 65535"),
        ("key not UTF-8", Raw::new(3, 0, 1).u64(1).raw(&[0xff]).data(64), "UTF-8"),
        ("duplicate key", Raw::new(3, 0, 2).text("k").u32(0).raw(&[1]).text("k").u32(0).raw(&[1]).data(0), "twice"),
        ("value type 99", key(&|r| r.u32(99)), "value type 99"),
        ("bool of 2", key(&|r| r.u32(7).raw(&[2])), "bool of 0 or 1"),
        ("string beyond the file", key(&|r| r.u32(8).u64(1 << 40)), "more bytes"),
        ("array whose size wraps", key(&|r| r.u32(9).u32(10).u64(1 << 61)), "array of 2305843009213693952"),
        ("array of strings that are not there", key(&|r| r.u32(9).u32(8).u64(99)), "array of 99"),
        ("array of an unknown type", key(&|r| r.u32(9).u32(77).u64(0)), "value type 77"),
        ("alignment 0", alignment(0), "power of two"),
        ("alignment 24", alignment(24), "power of two"),
        ("alignment 2^31", alignment(1 << 31), "power of two"),
        ("alignment as text", Raw::new(3, 0, 1).text("general.alignment").u32(8).text("32").data(0), "expected a U32"),
        ("rank 2^32-1", Raw::new(3, 1, 0).text("a").u32(u32::MAX).data(64), "4 dimensions"),
        ("dimension -1", one(&[u64::MAX], 0, 0), "out of range"),
        ("product that wraps to 0", one(&[1 << 33, 1 << 33], 0, 0), "overflows"),
        ("bytes that wrap", one(&[1 << 62], 0, 0), "overflows"),
        ("unknown type", one(&[4], 200, 0), "tensor type 200"),
        ("row that is no whole block", one(&[33], 2, 0), "blocks of 32"),
        ("scalar of blocks", one(&[], 2, 0), "blocks of 32"),
        ("offset off alignment", one(&[4], 0, 4), "multiple of 32"),
        ("offset that wraps", one(&[4], 0, u64::MAX - 31), "cut off"),
        ("offset beyond the file", one(&[4], 0, 1 << 40), "cut off"),
        ("no data", Raw::new(3, 1, 0).tensor("a", &[4], 0, 0).data(0), "cut off"),
        ("overlap", Raw::new(3, 2, 0).tensor("a", &[16], 0, 0).tensor("b", &[16], 0, 32).data(96), "overlaps"),
        ("duplicate tensor", Raw::new(3, 2, 0).tensor("a", &[4], 0, 0).tensor("a", &[4], 0, 32).data(64), "twice"),
        ("name not UTF-8", Raw::new(3, 1, 0).u64(1).raw(&[0xff]).data(64), "UTF-8"),
    ];
    for (name, bytes, reason) in cases {
        let e = parse(&bytes).expect_err(name);
        assert_eq!(e.kind(), ErrorKind::Invalid, "{name}: {e}");
        assert!(e.to_string().contains(reason), "{name}: {e}");
    }
    let unsupported: Vec<(&str, Vec<u8>, &str)> = vec![
        ("version 1", Raw::new(1, 0, 0).data(0), "version 1"),
        ("big-endian", b"GGUF\0\0\0\x03".to_vec(), "big-endian"),
        ("removed type", one(&[32], 4, 0), "tensor type 4 was removed"),
        ("arrays nested too deep", key(&nested), "nested"),
        ("too many keys", Raw::new(3, 0, 1 << 17).data(2 << 20), "at most 65536"),
    ];
    for (name, bytes, reason) in unsupported {
        let e = parse(&bytes).expect_err(name);
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{name}: {e}");
        assert!(e.to_string().contains(reason), "{name}: {e}");
    }
}

#[test]
fn every_cut_is_refused() {
    let whole = gguf_file(&metadata(), &[tensor("a", Format::F32, &[3], 1), tensor("b", Format::Q8_0, &[2, 32], 2)]);
    let end = parse(&whole).unwrap().tensors.iter().map(|t| t.range.end).max().unwrap();
    for n in 0..end {
        assert!(parse(&whole[..n]).is_err(), "{n} of {end} bytes");
    }
    assert!(parse(&whole[..end]).is_ok());
}

#[test]
fn arrays_of_arrays_are_read() {
    let inner = |r: Raw, a: u8| r.u32(0).u64(2).raw(&[a, a]);
    let raw = Raw::new(2, 0, 1).text("k").u32(9).u32(9).u64(2);
    let p = parse(&inner(inner(raw, 1), 2).0).unwrap();
    assert_eq!(p.gguf.version(), 2);
    let outer = p.gguf.array("k").unwrap().unwrap();
    let sums = outer.iter().map(|a| match a.unwrap() {
        Value::Array(a) => a.iter().map(|v| v.unwrap().as_i128().unwrap()).sum::<i128>(),
        v => panic!("{v:?}"),
    });
    assert_eq!(sums.collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn a_large_vocabulary_loads_quickly() {
    let tokens: Vec<String> = (0..262_144).map(|i| format!("token{i}")).collect();
    let bytes: Bytes = gguf_file(&[("tokenizer.ggml.tokens", Meta::Strings(tokens))], &[]).into();
    let start = std::time::Instant::now();
    let p = gguf::parse(bytes).unwrap();
    let opened = start.elapsed();
    let all = p.gguf.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!((all.len(), all[262_143]), (262_144, "token262143"));
    println!("opened in {opened:?}, all strings after {:?}", start.elapsed());
    assert!(opened.as_millis() < 500);
}

#[test]
fn a_writer_holds_to_its_header() {
    let writer = |specs: &[TensorSpec]| gguf::Writer::new(Vec::new(), &[], specs);
    let mut w = writer(&[TensorSpec::new("a", Format::F32, &[2]), TensorSpec::new("b", Format::F32, &[2])]).unwrap();
    w.write(&[0; 12]).unwrap();
    assert!(w.write(&[0; 8]).is_err());
    let w = writer(&[TensorSpec::new("a", Format::F32, &[2])]).unwrap();
    assert!(w.finish().is_err());
    assert!(writer(&[TensorSpec::new("a", Format::F32, &[1; 5])]).is_err());
    assert!(writer(&[TensorSpec::new("a", Format::U8, &[1])]).is_err());
}
