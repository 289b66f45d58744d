//! Files as attackers make them: what the scan says of each, and that no byte of any of them makes it fall over.
use pondera_audit::{Options, audit, findings::Severity};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

const EVIL: &[u8] = b"cos\nsystem\n(S'echo x'\ntR.";
const PLAIN: &[u8] = b"\x80\x02}q\0U\x01aK\x01s.";

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static N: AtomicUsize = AtomicUsize::new(0);
        let name = format!("pondera-audit-{}-{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A zip archive; members named with a `~` in front are deflated, with a `-` left out of the directory.
fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory, mut count) = (Vec::new(), Vec::new(), 0u16);
    for (name, bytes) in members {
        let (deflated, hidden) = (name.starts_with('~'), name.starts_with('-'));
        let name = name.trim_start_matches(['~', '-']);
        let packed = if deflated { miniz_oxide::deflate::compress_to_vec(bytes, 6) } else { bytes.to_vec() };
        let at = file.len() as u32;
        let mut fields = Vec::new();
        fields.extend(20u16.to_le_bytes());
        fields.extend(0u16.to_le_bytes());
        fields.extend(if deflated { 8u16 } else { 0 }.to_le_bytes());
        fields.extend([0; 8]);
        fields.extend((packed.len() as u32).to_le_bytes());
        fields.extend((bytes.len() as u32).to_le_bytes());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend(0u16.to_le_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&fields);
        file.extend(name.as_bytes());
        file.extend(&packed);
        if !hidden {
            count += 1;
            directory.extend(b"PK\x01\x02\x14\x00");
            directory.extend(&fields);
            directory.extend([0; 10]);
            directory.extend(at.to_le_bytes());
            directory.extend(name.as_bytes());
        }
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend(0u16.to_le_bytes());
    file
}

fn npy_of_objects(pickle: &[u8]) -> Vec<u8> {
    let header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n";
    [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header, pickle].concat()
}

fn safetensors() -> Vec<u8> {
    let header = br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    out.extend(miniz_oxide::deflate::compress_to_vec(bytes, 6));
    out.extend([0; 8]);
    out
}

/// Name, bytes, the rules that must speak, the worst severity.
type Case = (&'static str, Vec<u8>, Vec<&'static str>, Option<Severity>);

fn cases() -> Vec<Case> {
    use Severity::*;
    let inner = zip(&[("x/data.pkl", EVIL)]);
    let deep = (0..6).fold(zip(&[("a.pkl", EVIL)]), |z, _| zip(&[("z.zip", &z)]));
    let polyglot = [safetensors(), zip(&[("a.pkl", EVIL)])].concat();
    let mut in_front = PLAIN.to_vec();
    in_front.extend(zip(&[("x/data.pkl", PLAIN)]));
    vec![
        ("plain.pkl", PLAIN.to_vec(), vec![], None),
        ("plain.zip", zip(&[("notes.txt", b"hello")]), vec![], None),
        ("second.pt", zip(&[("x/data.pkl", PLAIN), ("x/other.pkl", EVIL)]), vec!["pickle-code"], Some(Critical)),
        ("deflated.pt", zip(&[("x/data.pkl", PLAIN), ("~x/other.pkl", EVIL)]), vec!["pickle-code"], Some(Critical)),
        ("renamed.zip", zip(&[("readme.txt", EVIL)]), vec!["pickle-code", "pickle-hidden"], Some(Critical)),
        (
            "orphan.pt",
            zip(&[("x/data.pkl", PLAIN), ("-x/evil.pkl", EVIL), ("x/version", b"3")]),
            vec!["zip-hidden-member", "pickle-code"],
            Some(Critical),
        ),
        ("nested.zip", zip(&[("model.bin", &inner)]), vec!["pickle-code"], Some(Critical)),
        ("deep.zip", deep, vec!["opaque"], Some(High)),
        ("path.zip", zip(&[("../../x.txt", b"x")]), vec!["zip-path"], Some(High)),
        ("broken.zip", zip(&[("a.pkl", EVIL)])[..60].to_vec(), vec!["zip-broken", "pickle-code"], Some(Critical)),
        ("bomb.zip", zip(&[("~zeros", &vec![0; 40 << 20])]), vec!["zip-bomb"], Some(High)),
        ("arrays.npz", zip(&[("a.npy", &npy_of_objects(PLAIN))]), vec!["npy-object"], Some(High)),
        ("array.npy", npy_of_objects(EVIL), vec!["npy-object", "pickle-code"], Some(Critical)),
        ("two.pkl", [PLAIN, EVIL].concat(), vec!["trailing-data", "pickle-code"], Some(Critical)),
        ("tail.pkl", [PLAIN, b"\xff\xff some bytes"].concat(), vec!["trailing-data"], Some(Medium)),
        ("notes.txt", EVIL.to_vec(), vec!["pickle-hidden", "pickle-code"], Some(Critical)),
        ("config.json", EVIL.to_vec(), vec!["pickle-code"], Some(Critical)),
        ("model.safetensors", polyglot, vec!["polyglot", "pickle-code"], Some(Critical)),
        ("front.pkl", in_front, vec!["polyglot"], Some(High)),
        ("state.pkl.gz", gzip(EVIL), vec!["pickle-code"], Some(Critical)),
        ("state.bz2", b"BZh91AY&SY........".to_vec(), vec!["opaque"], Some(Medium)),
        ("cut.safetensors", safetensors()[..30].to_vec(), vec!["structure"], Some(High)),
        ("fine.safetensors", safetensors(), vec![], None),
        ("empty.pt", vec![], vec!["structure"], Some(High)),
        ("text.md", b"# Just a text.".to_vec(), vec![], None),
    ]
}

fn look(path: &Path) -> (Vec<&'static str>, Option<Severity>) {
    let report = audit(path, "x", &Options::default()).unwrap();
    (report.findings.iter().filter(|f| !f.rule.starts_with("license")).map(|f| f.rule).collect(), report.worst_safety)
}

#[test]
fn every_hiding_place_is_looked_into() {
    let folder = Folder::new();
    for (name, bytes, rules, worst) in cases() {
        let (found, severity) = look(&folder.write(name, &bytes));
        assert_eq!(severity, worst, "{name}: {found:?}");
        for rule in rules {
            assert!(found.contains(&rule), "{name}: expected {rule}, got {found:?}");
        }
    }
}

#[test]
fn a_folder_is_looked_through_by_content() {
    let folder = Folder::new();
    folder.write("model.safetensors", &safetensors());
    folder
        .write("config.json", br#"{"auto_map": {"AutoModel": "modeling_x.X", "AutoConfig": "other/repo--config.C"}}"#);
    folder.write("modeling_x.py", b"print('never run')");
    folder.write("sub/pytorch_model.bin", &zip(&[("x/data.pkl", EVIL)]));
    folder.write("LICENSE", b"Do what you like, but not on Mondays: use on Mondays is prohibited.");
    let report = audit(&folder.0, "x", &Options::default()).unwrap();
    let rules: Vec<&str> = report.findings.iter().map(|f| f.rule).collect();
    for rule in ["pickle-code", "remote-code", "python-file", "license-unknown"] {
        assert!(rules.contains(&rule), "{rule}: {rules:?}");
    }
    let code = report.findings.iter().find(|f| f.rule == "pickle-code").unwrap();
    assert_eq!((&*code.file, code.name.as_deref()), ("sub/pytorch_model.bin!x/data.pkl", Some("os.system")));
    assert_eq!(report.findings[0].severity, Severity::Critical);
}

/// Every prefix and many changed bytes: an answer each time, never a panic.
#[test]
fn no_byte_makes_it_fall_over() {
    let folder = Folder::new();
    let mut state = 11u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    for (name, bytes, _, _) in cases().into_iter().filter(|c| (1..4096).contains(&c.1.len())) {
        for _ in 0..40 {
            let mut changed = bytes.clone();
            changed.truncate(1 + random() % bytes.len());
            let at = random() % changed.len();
            changed[at] = random() as u8;
            let _ = audit(&folder.write(name, &changed), "x", &Options::default());
        }
    }
}
