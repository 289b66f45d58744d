//! Folders, sharded sets and split sets: what is found, and what a set may not do.
mod common;
use common::*;
use pondera_quant::{Format, TensorView};
use pondera_weights::{Advice, ErrorKind, Kind, Weights, gguf::Meta};

fn one(name: &str) -> Vec<u8> {
    safetensors_file(&[("format", "pt")], &[tensor(name, Format::F32, &[2, 2], 7)])
}

fn shard(no: u16, count: u16, total: i32, names: &[&str]) -> Vec<u8> {
    let tensors: Vec<Tensor> = names.iter().map(|n| tensor(n, Format::F32, &[3], 1)).collect();
    let split =
        [("split.no", Meta::U16(no)), ("split.count", Meta::U16(count)), ("split.tensors.count", Meta::I32(total))];
    gguf_file(&split, &tensors)
}

#[test]
fn folders_are_searched_in_the_order_of_the_hub() {
    let f = Folder::new("order");
    assert_eq!(Weights::open(f.path()).unwrap_err().kind(), ErrorKind::NotFound);
    let names = |f: &Folder| Weights::open(f.path()).unwrap().names().collect::<Vec<_>>().join(",");
    f.write("any.safetensors", one("any"));
    assert_eq!(names(&f), "any");
    f.write("m.gguf", gguf_file(&[], &[tensor("gguf", Format::F32, &[1], 1)]));
    assert_eq!(names(&f), "gguf");
    f.write("consolidated.safetensors", one("consolidated"));
    assert_eq!(names(&f), "consolidated");
    f.write("pytorch_model.bin", checkpoint(&state_dict(&[("torch", 0, &[2], &[1])])));
    assert_eq!(names(&f), "torch");
    f.write("s1.safetensors", one("sharded"));
    f.write("model.safetensors.index.json", r#"{"weight_map":{"sharded":"s1.safetensors"}}"#);
    assert_eq!(names(&f), "sharded");
    f.write("model.safetensors", one("model"));
    assert_eq!(names(&f), "model");
}

#[test]
fn a_folder_of_two_models_asks_which() {
    let f = Folder::new("two");
    let file = gguf_file(&[], &[tensor("a", Format::F32, &[1], 1)]);
    f.write("q4.gguf", &file);
    f.write("mmproj-q4.gguf", &file);
    assert_eq!(Weights::open(f.path()).unwrap().files().next(), Some(&*f.path().join("q4.gguf")));
    f.write("q8.gguf", &file);
    let e = Weights::open(f.path()).unwrap_err();
    assert!(e.to_string().contains("q4.gguf") && e.to_string().contains("q8.gguf") && e.hint_text().is_some(), "{e}");
}

#[test]
fn a_sharded_set_is_one_set() {
    let f = Folder::new("sharded");
    let a = f.write("m-1.safetensors", one("a"));
    f.write("m-2.safetensors", one("b"));
    let index = f.write("m.index.json", r#"{"weight_map":{"b":"m-2.safetensors","a":"m-1.safetensors"}}"#);
    let w = Weights::open(&index).unwrap();
    assert_eq!((w.kind(), w.folder(), w.files().count()), (Kind::Safetensors, f.path(), 2));
    assert_eq!(w.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((w.path_of(w.info("a").unwrap()), w.total_bytes()), (&*a, 32));
    assert_eq!(w.get("b").unwrap().bytes.as_slice(), tensor("b", Format::F32, &[2, 2], 7).1);
    assert_eq!(w.metadata(), [("format".into(), "pt".into())]);
    assert!(w.gguf().is_none() && w.contains("a") && !w.contains("c"));
    let e = w.get("c").unwrap_err();
    assert_eq!((e.kind(), e.item()), (ErrorKind::NotFound, Some("c")));
    w.advise(Advice::WillNeed);
    w.advise_tensor(w.info("a").unwrap(), Advice::DontNeed);
}

#[test]
fn a_set_that_is_not_what_its_index_says_is_refused() {
    let f = Folder::new("lies");
    f.write("a.safetensors", one("a"));
    f.write("b.safetensors", one("a"));
    std::fs::create_dir(f.path().join("d.safetensors")).unwrap();
    let cases = [
        (r#"{"weight_map":{"a":"c.safetensors"}}"#, ErrorKind::Invalid, "`c.safetensors`, which is not there"),
        (r#"{"weight_map":{"z":"a.safetensors"}}"#, ErrorKind::Invalid, "where it is not"),
        (r#"{"weight_map":{"a":"../a.safetensors"}}"#, ErrorKind::Unsafe, "leaves the folder"),
        (r#"{"weight_map":{"a":"d.safetensors"}}"#, ErrorKind::Unsupported, "not a regular file"),
        (r#"{"weight_map":{}}"#, ErrorKind::Invalid, "names no file"),
        (r#"{}"#, ErrorKind::Invalid, "weight_map"),
    ];
    for (json, kind, reason) in cases {
        let e = Weights::open(f.write("x.index.json", json)).expect_err(json);
        assert!(e.kind() == kind && e.to_string().contains(reason), "{json}: {e}");
    }
    // The index decides between two files that hold the same name; where it is silent that is an error.
    let both = r#"{"weight_map":{"a":"b.safetensors"}}"#;
    let w = Weights::open(f.write("x.index.json", both)).unwrap();
    assert!(w.path_of(w.info("a").unwrap()).ends_with("b.safetensors"));
}

#[test]
fn a_split_set_opens_from_any_shard() {
    let f = Folder::new("split");
    let paths = [
        f.write("m-00001-of-00003.gguf", shard(0, 3, 3, &["a"])),
        f.write("m-00002-of-00003.gguf", shard(1, 3, 3, &["b"])),
        f.write("m-00003-of-00003.gguf", shard(2, 3, 3, &["c"])),
    ];
    for path in &paths {
        let w = Weights::open(path).unwrap();
        assert_eq!(w.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(w.gguf().unwrap().u64("split.no").unwrap(), Some(0));
        assert_eq!(w.files().collect::<Vec<_>>(), paths.iter().map(|p| &**p).collect::<Vec<_>>());
    }
    assert_eq!(Weights::open(f.path()).unwrap().tensors().len(), 3);
    let case = |name: &str, bytes: Vec<u8>, reason: &str| {
        let old = std::fs::read(f.path().join(name)).unwrap();
        f.write(name, bytes);
        let e = Weights::open(&paths[0]).unwrap_err();
        assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains(reason), "{e}");
        f.write(name, old);
    };
    case("m-00002-of-00003.gguf", shard(1, 3, 3, &["a"]), "stands in two files");
    case("m-00002-of-00003.gguf", shard(2, 3, 3, &["b"]), "expected shard 2 of 3, got 3 of 3");
    case("m-00002-of-00003.gguf", shard(1, 3, 3, &[]), "split.tensors.count: expected 3, got 2");
    case("m-00001-of-00003.gguf", shard(3, 3, 3, &[]), "split.no");
    std::fs::remove_file(&paths[1]).unwrap();
    let e = Weights::open(&paths[2]).unwrap_err();
    assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains("shard 2 of 3 is missing"), "{e}");
    assert!(e.path().unwrap().ends_with("m-00002-of-00003.gguf"));
    let e = Weights::open(f.write("renamed.gguf", shard(0, 3, 3, &["a"]))).unwrap_err();
    assert!(e.to_string().contains("file name"), "{e}");
}

#[cfg(unix)]
#[test]
fn a_file_cut_while_it_is_open_is_told_and_survived() {
    let f = Folder::new("cut");
    let path = f.write("a.safetensors", safetensors_file(&[], &[tensor("a", Format::F32, &[100_000], 3)]));
    let w = Weights::open(&path).unwrap();
    let t = w.get("a").unwrap();
    w.check().unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert!(t.bytes.as_slice()[8192..].iter().all(|&b| b == 0));
    let e = w.check().unwrap_err();
    assert!(w.damaged() && e.kind() == ErrorKind::Damaged && e.path() == Some(&*path), "{e}");
}

#[test]
fn other_files_are_refused_with_advice() {
    let f = Folder::new("other");
    for (name, bytes) in [("a.txt", &b"hello"[..]), ("b", b""), ("c.json", b"{}")] {
        let e = Weights::open(f.write(name, bytes)).unwrap_err();
        assert!(e.kind() == ErrorKind::Unsupported && e.hint_text().is_some(), "{e}");
    }
    let e = Weights::open(f.write("d.safetensors", b"x")).unwrap_err();
    assert!(format!("{e:#}").contains("\nhint: "), "{e:#}");
    assert_eq!(Weights::open(f.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_header_that_begins_like_a_pickle_is_none() {
    // A header of 640 bytes is spelt 80 02, which is how protocol 2 begins.
    let mut bytes = one("a");
    let header = 640u64;
    let old = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    bytes.splice(8 + old as usize..8 + old as usize, std::iter::repeat_n(b' ', (header - old) as usize));
    bytes[..8].copy_from_slice(&header.to_le_bytes());
    assert_eq!(Weights::from_bytes("a", bytes.into()).unwrap().kind(), Kind::Safetensors);
}

#[test]
fn tensors_made_in_memory_are_weights_too() {
    let view =
        |n: usize, shape: &[usize]| TensorView { format: Format::U8, shape: shape.to_vec(), bytes: vec![1; n].into() };
    let w = Weights::from_tensors([("b".to_string(), view(6, &[2, 3])), ("a".to_string(), view(1, &[]))]).unwrap();
    assert_eq!((w.kind(), w.names().collect::<Vec<_>>(), w.total_bytes()), (Kind::Memory, vec!["a", "b"], 7));
    assert_eq!(w.get("b").unwrap().shape, [2, 3]);
    assert!(Weights::from_tensors([("a".to_string(), view(5, &[2, 3]))]).is_err());
    assert!(Weights::from_tensors([("a".to_string(), view(1, &[])), ("a".to_string(), view(1, &[]))]).is_err());
}
