//! The safetensors reader and writer: round trips, and every attack by name.
mod common;
use common::*;
use pondera_quant::Format;
use pondera_weights::{ErrorKind, TensorSpec, safetensors};

fn file(header: &str, data: usize) -> Vec<u8> {
    let mut f = (header.len() as u64).to_le_bytes().to_vec();
    f.extend(header.as_bytes());
    f.resize(f.len() + data, 0);
    f
}

#[test]
fn what_is_written_is_read_back() {
    for seed in 0..200 {
        let tensors = random_tensors(&mut Random(seed), |f| f.info().safetensors.is_some());
        let bytes = safetensors_file(&[("format", "pt"), ("quote\"", "ü\n")], &tensors);
        let h = safetensors::parse(&bytes).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(h.metadata, [("format".into(), "pt".into()), ("quote\"".into(), "ü\n".into())]);
        assert_eq!(h.tensors.len(), tensors.len(), "seed {seed}");
        for (spec, data) in &tensors {
            let t = h.tensors.iter().find(|t| *t.name == *spec.name).unwrap();
            assert_eq!((t.format, &*t.shape), (spec.format, &*spec.shape), "seed {seed}");
            assert_eq!(&bytes[t.range.clone()], &**data, "seed {seed}");
        }
    }
}

#[test]
fn attacks_are_refused_each_by_its_reason() {
    let t =
        |shape: &str, offsets: &str| format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
    let two = |b: &str| format!(r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},"{b}}}}}"#);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no length", vec![1, 2, 3], "8 bytes of header length"),
        ("length beyond the file", file("{}", 0)[..9].to_vec(), "cut off"),
        ("length 2^64-1", vec![0xff; 16], "at most"),
        ("length zero", vec![0; 8], "begin with"),
        ("an array", file("[]", 0), "begin with"),
        ("garbage behind the object", file("{} x", 0), "trailing"),
        ("negative dimension", file(&t("[-1]", "[0,4]"), 4), "integer `-1`"),
        ("float offset", file(&t("[1]", "[0.0,4]"), 4), "floating point"),
        ("three offsets", file(&t("[1]", "[0,4,4]"), 4), "header: a"),
        ("begin after end", file(&t("[0]", "[4,0]"), 4), "hole"),
        ("size that is not the shape's", file(&t("[2]", "[0,4]"), 4), "takes 8 bytes"),
        ("shape that overflows", file(&t("[4611686018427387904,4]", "[0,0]"), 0), "overflows"),
        ("shape that overflows before a zero", file(&t("[4611686018427387904,4,0]", "[0,0]"), 0), "overflows"),
        ("more dimensions than any tensor", file(&t(&format!("[{}1]", "1,".repeat(64)), "[0,4]"), 4), "64 dimensions"),
        ("data cut off", file(&t("[2]", "[0,8]"), 7), "cut off"),
        ("data beyond the last tensor", file(&t("[1]", "[0,4]"), 5), "expected 4 bytes of data, got 5"),
        ("hole", file(&two(r#"b":{"dtype":"U8","shape":[4],"data_offsets":[8,12]"#), 12), "hole"),
        ("overlap", file(&two(r#"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]"#), 6), "overlaps"),
        ("duplicate name", file(&two(r#"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]"#), 8), "twice"),
        (
            "duplicate field",
            file(&two(r#"b":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[4,4]"#), 4),
            "duplicate",
        ),
        ("missing field", file(r#"{"a":{"dtype":"U8","shape":[0]}}"#, 0), "missing field"),
        ("unknown dtype", file(r#"{"a":{"dtype":"Q9","shape":[0],"data_offsets":[0,0]}}"#, 0), "unknown dtype `Q9`"),
        ("metadata is a list", file(r#"{"__metadata__":[]}"#, 0), "object of strings"),
        ("metadata twice", file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "twice"),
        ("metadata key twice", file(r#"{"__metadata__":{"a":"","a":""}}"#, 0), "twice"),
        ("metadata of numbers", file(r#"{"__metadata__":{"a":1}}"#, 0), "header"),
        ("deep nesting", file(&format!(r#"{{"a":{}"#, "[".repeat(100_000)), 0), "header"),
        ("not UTF-8", [&4u64.to_le_bytes()[..], b"{\"\xff}"].concat(), "header"),
    ];
    for (name, bytes, reason) in cases {
        let e = safetensors::parse(&bytes).expect_err(name);
        assert_eq!(e.kind(), ErrorKind::Invalid, "{name}: {e}");
        assert!(e.to_string().contains(reason), "{name}: {e}");
    }
}

#[test]
fn sub_byte_dtypes_are_unsupported_by_name() {
    for dtype in ["F4", "F6_E2M3", "F6_E3M2", "C64"] {
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,1]}}}}"#);
        let e = safetensors::parse(&file(&header, 1)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.to_string().contains(dtype) && e.item() == Some("a"), "{e}");
    }
}

#[test]
fn what_the_reference_accepts_is_accepted() {
    for header in [
        "{}",
        "{}   ",
        r#"{"__metadata__":null}"#,
        r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"extra":[{}]}}"#,
        r#"{"b":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
    ] {
        let data = if header.contains("F32") { 4 } else { 0 };
        safetensors::parse(&file(header, data)).unwrap_or_else(|e| panic!("{header}: {e}"));
    }
}

#[test]
fn a_hundred_thousand_tensors_are_fine() {
    let tensors: Vec<Tensor> =
        (0..100_000).map(|i| tensor(&format!("layers.{i}.w"), Format::BF16, &[2, 2], i)).collect();
    let bytes = safetensors_file(&[], &tensors);
    let start = std::time::Instant::now();
    let w = pondera_weights::Weights::from_bytes("x", bytes.into()).unwrap();
    assert_eq!(w.tensors().len(), 100_000);
    let ms = start.elapsed().as_millis();
    println!("{ms} ms");
    assert_eq!(w.get("layers.77777.w").unwrap().bytes.as_slice(), tensors[77_777].1);
}

#[test]
fn a_writer_holds_to_its_header() {
    let spec = |name: &str, format| [TensorSpec::new(name, format, &[32])];
    let writer = |specs: &[TensorSpec]| safetensors::Writer::new(Vec::new(), &[], specs);
    let mut w = writer(&spec("a", Format::U8)).unwrap();
    w.write(&[0; 31]).unwrap();
    assert!(w.write(&[0; 2]).is_err());
    let mut w = writer(&spec("a", Format::U8)).unwrap();
    w.write(&[0; 31]).unwrap();
    assert!(w.finish().is_err());
    assert_eq!(writer(&spec("a", Format::Q4_0)).err().unwrap().kind(), ErrorKind::Unsupported);
    assert!(writer(&spec("__metadata__", Format::U8)).is_err());
    assert!(writer(&[spec("a", Format::U8), spec("a", Format::U8)].concat()).is_err());
}
