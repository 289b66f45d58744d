//! PyTorch checkpoints as pure data: layouts, strides, and every attack by name.
mod common;
use common::*;
use pondera_quant::Format;
use pondera_weights::{Error, ErrorKind, Weights};

fn open(bytes: Vec<u8>) -> Result<Weights, Error> {
    Weights::from_bytes("x.pt", bytes.into())
}

fn values(w: &Weights, name: &str) -> Vec<f32> {
    let t = w.get(name).unwrap();
    t.bytes.as_slice().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The views that the tests read, over the numbers 0 to 11: name, offset, shape, strides.
const VIEWS: &[(&str, usize, &[u8], &[u8])] = &[
    ("all", 0, &[3, 4], &[4, 1]),
    ("transposed", 0, &[4, 3], &[1, 4]),
    ("columns", 1, &[3, 2], &[4, 1]),
    ("tail", 8, &[4], &[1]),
    ("scalar", 7, &[], &[]),
    ("empty", 12, &[0, 5], &[5, 1]),
    ("ones", 4, &[1, 4, 1], &[9, 1, 9]),
];

fn check_views(w: &Weights) {
    assert_eq!(w.tensors().len(), VIEWS.len());
    let t = w.get("transposed").unwrap();
    assert_eq!((t.format, &*t.shape), (Format::F32, &[4, 3][..]));
    assert_eq!(values(w, "all"), (0..12).map(|i| i as f32).collect::<Vec<_>>());
    assert_eq!(values(w, "transposed"), [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
    assert_eq!(values(w, "columns"), [1., 2., 5., 6., 9., 10.]);
    assert_eq!(values(w, "tail"), [8., 9., 10., 11.]);
    assert_eq!(values(w, "scalar"), [7.]);
    assert!(values(w, "empty").is_empty());
    assert_eq!(values(w, "ones"), [4., 5., 6., 7.]);
    let strided: Vec<&str> = w.tensors().iter().filter(|t| t.strides.is_some()).map(|t| &*t.name).collect();
    assert_eq!(strided, ["columns", "transposed"]);
}

#[test]
fn views_of_one_storage_are_read() {
    check_views(&open(checkpoint(&state_dict(VIEWS))).unwrap());
}

#[test]
fn the_format_before_zip_is_read() {
    let mut file = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    file.extend(b"\x80\x02}(X\x0d\0\0\0little_endian\x88u.");
    file.extend(state_dict(VIEWS));
    file.extend(b"\x80\x02](X\x01\0\0\x000e.");
    file.extend(12u64.to_le_bytes());
    file.extend(numbers(12));
    check_views(&open(file.clone()).unwrap());
    for n in 0..file.len() {
        assert!(open(file[..n].to_vec()).is_err(), "{n} bytes");
    }
}

#[test]
fn a_state_dict_inside_of_a_checkpoint_is_found() {
    let inner = state_dict(VIEWS);
    let inner = &inner[2..inner.len() - 1];
    let mut p = b"\x80\x02}(".to_vec();
    text(&mut p, "epoch");
    p.extend([b'K', 3]);
    text(&mut p, "state_dict");
    p.extend(inner);
    p.extend(b"u.");
    check_views(&open(checkpoint(&p)).unwrap());
}

#[test]
fn every_cut_is_refused() {
    let whole = checkpoint(&state_dict(VIEWS));
    for n in 0..whole.len() {
        assert!(open(whole[..n].to_vec()).is_err(), "{n} of {} bytes", whole.len());
    }
}

#[test]
fn code_is_refused_and_named() {
    let import = |module: &str, name: &str| format!("\x63{module}\n{name}\n(S'x'\ntR.").into_bytes();
    let mut hidden = state_dict(VIEWS);
    hidden.splice(2..2, *b"cos\nsystem\n0");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("GLOBAL and REDUCE", import("os", "system"), "os.system"),
        ("getattr", import("builtins", "getattr"), "builtins.getattr"),
        ("a nested load", import("torch.storage", "_load_from_bytes"), "torch.storage._load_from_bytes"),
        ("a dotted name", import("torch", "_utils.os.system"), "torch._utils.os.system"),
        ("INST", b"(S'x'\nios\nsystem\n.".to_vec(), "os.system"),
        ("OBJ", b"(cos\nsystem\nS'x'\no.".to_vec(), "os.system"),
        ("STACK_GLOBAL", b"\x80\x04\x8c\x02os\x8c\x06system\x93.".to_vec(), "os.system"),
        ("STACK_GLOBAL of a computed name", b"\x80\x04NN\x93.".to_vec(), "computes"),
        ("NEWOBJ", b"csubprocess\nPopen\n)\x81.".to_vec(), "subprocess.Popen"),
        ("an extension code", b"\x82\x07.".to_vec(), "extension registry"),
        ("a persistent name", b"Pabc\n.".to_vec(), "by a name of its own"),
        ("a persistent id that is no storage", b"(U\x03abctQ.".to_vec(), "no storage"),
        ("a call of a string", b"U\x03abc)R.".to_vec(), "no constructor"),
        ("a call of a storage class", b"ctorch\nFloatStorage\n)R.".to_vec(), "calls torch.FloatStorage"),
        ("keywords", b"ccollections\nOrderedDict\n)}\x92.".to_vec(), "keywords"),
        ("an import that is never used", hidden, "os.system"),
    ];
    for (name, pickle, reason) in cases {
        let e = open(checkpoint(&pickle)).expect_err(name);
        assert_eq!(e.kind(), ErrorKind::Unsafe, "{name}: {e}");
        assert!(e.to_string().contains(reason) && e.hint_text().is_some(), "{name}: {e}");
    }
    let second = zip_file(&[("m/data.pkl", &state_dict(&[])), ("m/other.pkl", &import("os", "system"))]);
    let e = open(second).unwrap_err();
    assert_eq!((e.kind(), e.item()), (ErrorKind::Unsafe, Some("m/other.pkl")));
    assert!(e.to_string().contains("os.system"), "{e}");
}

#[test]
fn broken_pickles_are_refused() {
    let v = |offset, shape: &'static [u8], strides: &'static [u8]| state_dict(&[("a", offset, shape, strides)]);
    let mut missing = b"\x80\x02}".to_vec();
    storage(&mut missing, "FloatStorage", "../0", 12);
    let (good, elsewhere) = (state_dict(VIEWS), b"0".repeat(3));
    let mut negative = b"\x80\x02".to_vec();
    storage(&mut negative, "FloatStorage", "0", 12);
    let negative =
        [b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(), negative[2..].to_vec(), b"J\xff\xff\xff\xff))tR.".to_vec()]
            .concat();
    let twice = state_dict(&[VIEWS[0], VIEWS[0]]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "more bytes"),
        ("no end", good[..good.len() - 1].to_vec(), "more bytes"),
        ("unknown opcode", b"\x80\x02\xff.".to_vec(), "opcode 0xff"),
        ("protocol 9", b"\x80\x09.".to_vec(), "protocol 9"),
        ("stack underflow", elsewhere, "stack is empty"),
        ("no mark", b"\x80\x02t.".to_vec(), "no mark"),
        ("pop below a mark", b"\x80\x02N(R.".to_vec(), "stack is empty"),
        ("memo that was never put", b"\x80\x02h\x07.".to_vec(), "memo"),
        ("memo index of 2^32", b"\x80\x02Nr\xff\xff\xff\xff.".to_vec(), "memo index"),
        ("odd dict", b"\x80\x02}(Nu.".to_vec(), "without a value"),
        ("append to a dict", b"\x80\x02}Na.".to_vec(), "no list"),
        ("text of 4 GB", b"\x80\x02X\xff\xff\xff\xff.".to_vec(), "4294967295 more bytes"),
        ("bytes of 2^64", [&b"\x80\x04\x8e"[..], &[0xff; 8], b"."].concat(), "more bytes"),
        ("tensor past its storage", v(1, &[12], &[1]), "expected elements"),
        ("stride past its storage", v(0, &[4, 4], &[4, 1]), "expected elements"),
        ("shape and strides of different rank", v(0, &[4], &[4, 1]), "strides"),
        ("negative offset", negative, "number of elements, got -1"),
        ("name twice", twice, "twice"),
        ("65 dimensions", v(0, &[1; 65], &[1; 65]), "64 dimensions"),
    ];
    for (name, pickle, reason) in cases {
        let e = open(checkpoint(&pickle)).expect_err(name);
        assert_eq!(e.kind(), ErrorKind::Invalid, "{name}: {e}");
        assert!(e.to_string().contains(reason), "{name}: {e}");
    }
    let unsupported: Vec<(&str, Vec<u8>, &str)> = vec![
        ("expanded", v(0, &[200, 4], &[0, 1]), "expanded tensor"),
        ("no tensors", b"\x80\x02}.".to_vec(), "no named tensors"),
        ("a buffer outside", b"\x80\x05\x97.".to_vec(), "buffers"),
        ("more values than the file could mean", b"]".repeat(3_000_000), "memory"),
    ];
    for (name, pickle, reason) in unsupported {
        let e = open(checkpoint(&pickle)).expect_err(name);
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{name}: {e}");
        assert!(e.to_string().contains(reason), "{name}: {e}");
    }
}

#[test]
fn broken_archives_are_refused() {
    let pickle = state_dict(VIEWS);
    let data = numbers(12);
    let members: &[(&str, &[u8])] = &[("m/data.pkl", &pickle), ("m/data/0", &data)];
    let good = zip_file(members);
    let directory = good.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let end = good.len() - 22;
    let patch = |at: usize, with: &[u8]| {
        let mut f = good.clone();
        f[at..at + with.len()].copy_from_slice(with);
        f
    };
    let second = zip_file(&[("m/data.pkl", &pickle), ("m/data/1", &data)]);
    let short = zip_file(&[("m/data.pkl", &pickle), ("m/data/0", &data[..40])]);
    let big = zip_file(&[("m/data.pkl", &pickle), ("m/data/0", &data), ("m/byteorder", b"big")]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no directory", good[..end].to_vec(), "cut off"),
        ("directory outside", patch(end + 16, &[0xff, 0xff, 0xff, 0x7f]), "outside"),
        ("count that is a lie", patch(end + 8, &[9, 0, 9, 0]), "bytes list them"),
        ("directory damaged", patch(directory, b"XX"), "damaged"),
        ("size past the data", patch(directory + 20, &[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]), "past"),
        ("sizes that differ", patch(directory + 20, &[9, 0, 0, 0]), "differ"),
        ("member elsewhere", patch(directory + 42, &[7, 0, 0, 0]), "no member begins"),
        ("zip64 without its field", patch(directory + 42, &[0xff; 4]), "zip64"),
        ("zip64 without its record", patch(end + 8, &[0xff; 4]), "zip64"),
        ("two names for one member", patch(directory + 46, b"n"), "different names"),
        ("one name twice", zip_file(&[members[0], members[0]]), "two members"),
        ("storage missing", second, "storage m/data/0 is missing"),
        ("storage cut", short, "cut off"),
    ];
    for (name, file, reason) in cases {
        let e = open(file).expect_err(name);
        assert_eq!(e.kind(), ErrorKind::Invalid, "{name}: {e}");
        assert!(e.to_string().contains(reason), "{name}: {e}");
    }
    for (name, file, reason) in [
        ("compressed", patch(directory + 10, &[8, 0]), "compressed"),
        ("encrypted", patch(directory + 8, &[1, 0]), "encrypted"),
        ("several volumes", patch(end + 4, &[1, 0]), "volumes"),
        ("big-endian", big, "big-endian"),
        ("no checkpoint", zip_file(&[("a/b/data.pkl", &pickle)]), "no PyTorch checkpoint"),
    ] {
        let e = open(file).expect_err(name);
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{name}: {e}");
        assert!(e.to_string().contains(reason), "{name}: {e}");
    }
}
