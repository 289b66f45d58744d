//! What a pickle would do to whoever loads it.
//!
//! Owns the rules. A closed world: every import that is not one of the constructors that `pondera-weights` knows is a
//! finding, and so is everything that this reader and Python's may read differently. Nothing is imported or called.
use crate::findings::{
    Findings, New, PICKLE_BROKEN, PICKLE_CHECKPOINT, PICKLE_CODE, PICKLE_COMPUTED, PICKLE_EXTENSION, PICKLE_FRAME,
    PICKLE_IMPORT, PICKLE_MEMORY, PICKLE_ODD, PICKLE_PERSISTENT, Severity, shown,
};
use pondera_weights::{ErrorKind, pickle as read};
use std::collections::HashSet;

/// Where a pickle stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The pickle of a torch checkpoint, whose persistent ids name storages.
    Checkpoint,
    /// Anywhere else.
    Alone,
}

/// Modules that run commands, open connections, read or write files, or load code: all of their names.
const MODULES: &[&str] = &[
    "os",
    "posix",
    "nt",
    "posixpath",
    "ntpath",
    "sys",
    "subprocess",
    "_posixsubprocess",
    "pty",
    "commands",
    "popen2",
    "shutil",
    "socket",
    "_socket",
    "ssl",
    "http",
    "urllib",
    "urllib2",
    "requests",
    "httplib",
    "ftplib",
    "smtplib",
    "telnetlib",
    "webbrowser",
    "asyncio",
    "multiprocessing",
    "threading",
    "_thread",
    "signal",
    "ctypes",
    "_ctypes",
    "cffi",
    "mmap",
    "importlib",
    "imp",
    "pkgutil",
    "runpy",
    "code",
    "codeop",
    "types",
    "marshal",
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "pydoc",
    "bdb",
    "pdb",
    "timeit",
    "profile",
    "cProfile",
    "trace",
    "doctest",
    "test",
    "venv",
    "ensurepip",
    "pip",
    "setuptools",
    "distutils",
    "tempfile",
    "pathlib",
    "glob",
    "io",
    "_io",
    "fileinput",
    "linecache",
    "zipfile",
    "tarfile",
    "platform",
    "ptrace",
    "idlelib",
    "lib2to3",
    "operator",
    "_operator",
    "functools",
    "itertools",
    "inspect",
    "gc",
    "builtins",
    "__builtin__",
    "__builtins__",
    "atexit",
    "site",
    "sysconfig",
    "logging",
    "numexpr",
    "tensorflow",
    "IPython",
    "paramiko",
    "fabric",
    "aiohttp",
];
/// Names of those modules that only arrange data: unknown here, not dangerous by themselves.
const TAME: &[(&str, &str)] = &[
    ("functools", "partial"),
    ("operator", "itemgetter"),
    ("builtins", "object"),
    ("builtins", "slice"),
    ("builtins", "range"),
    ("builtins", "tuple"),
    ("builtins", "str"),
    ("builtins", "bytes"),
    ("builtins", "bool"),
    ("__builtin__", "object"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "WindowsPath"),
];
/// Other names that run what they are given.
const CALLABLES: &[(&str, &str)] = &[
    ("numpy.testing._private.utils", "runstring"),
    ("numpy.testing._private.utils", "measure"),
    ("numpy.testing", "runstring"),
    ("numpy.testing", "measure"),
    ("numpy.f2py.crackfortran", "getlincoef"),
    ("numpy.f2py.crackfortran", "_eval_length"),
    ("torch.serialization", "load"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.utils.collect_env", "run"),
    ("torch._dynamo.guards.GuardBuilder", "get"),
    ("torch.jit", "load"),
    ("torch.fx.graph_module", "reduce_graph_module"),
    ("torch.fx.experimental.symbolic_shapes.ShapeEnv", "evaluate_guards_expression"),
    ("torch.utils._config_module.ConfigModule", "load_config"),
    ("torch.utils.bottleneck.__main__", "run_cprofile"),
    ("transformers.dynamic_module_utils", "get_class_from_dynamic_module"),
    ("keras.src.legacy.saving.legacy_h5_format", "load_model_from_hdf5"),
    ("pandas.io.pickle", "read_pickle"),
    ("pandas", "read_pickle"),
    ("sympy.parsing.sympy_parser", "parse_expr"),
    ("jsonpickle.unpickler", "decode"),
];
/// Most findings of one kind that one pickle gives.
const EACH_MAX: usize = 50;
/// A memo index that no writer reaches with so few bytes before it.
const MEMO_FACTOR: u64 = 4096;

/// Looks at the pickle at the start of `data` and returns its bytes, up to and including `STOP` or the first byte that
/// cannot be read. `file` is what findings call it.
pub(crate) fn scan(data: &[u8], file: &str, place: Place, base: usize, findings: &mut Findings) -> usize {
    let found = read::scan(data);
    let mut seen = HashSet::new();
    for i in found.imports.iter().filter(|i| !read::is_known(&i.module, &i.name)) {
        if seen.len() >= EACH_MAX || !seen.insert((&i.module, &i.name)) {
            continue;
        }
        let full = format!("{}.{}", i.module, i.name);
        let at = base + i.at;
        let (rule, severity, what) = match () {
            () if i.module == "?" || i.name == "?" => {
                (PICKLE_COMPUTED, Severity::High, "imports a computed name".into())
            }
            () if is_dangerous(&i.module, &i.name) => {
                (PICKLE_CODE, Severity::Critical, format!("imports {}, which runs code", shown(&full)))
            }
            () => (PICKLE_IMPORT, Severity::High, format!("imports {}, which is no known constructor", shown(&full))),
        };
        findings.add(New { rule, severity, file, what, offset: Some(at), name: Some(&full) });
    }
    opcodes(data, file, place, base, findings);
    if let Some(e) = &found.error {
        findings.add(New {
            rule: PICKLE_BROKEN,
            severity: Severity::High,
            file,
            what: format!("cannot be read beyond byte {}: {e}", found.end),
            offset: Some(base + found.end),
            name: None,
        });
    }
    if place == Place::Checkpoint && found.error.is_none() {
        checkpoint(data, file, findings);
    }
    found.end
}

/// Whether the bytes are a pickle, whatever they are called: they read to their end, or import something on the way.
pub(crate) fn looks_like(data: &[u8]) -> bool {
    // The cheapest test first: most data stops at its first byte.
    if read::ops(data).next().is_none_or(|op| op.is_err()) {
        return false;
    }
    let found = read::scan(data);
    let dangerous = found.imports.iter().any(|i| is_dangerous(&i.module, &i.name));
    let protocol = matches!(data, [0x80, 2..=5, ..]);
    let whole = found.error.is_none();
    // Words of a text may read as opcodes; a text that ends like a pickle, too, is one. A dot alone holds nothing.
    dangerous
        || protocol && (whole && found.end > 8 || !found.imports.is_empty())
        || whole && found.end > 16 && found.end + 2 >= data.len()
}

fn is_dangerous(module: &str, name: &str) -> bool {
    if TAME.contains(&(module, name)) {
        return false;
    }
    let inside = |m: &str| module == m || module.strip_prefix(m).is_some_and(|rest| rest.starts_with('.'));
    // A dotted name walks from its module to whatever that has imported.
    let walks = name.split('.').skip(1).any(|part| {
        part.starts_with("__") || MODULES.contains(&part) || matches!(part, "system" | "modules" | "eval" | "exec")
    });
    MODULES.iter().any(|m| inside(m)) || CALLABLES.contains(&(module, name)) || walks
}

/// What single opcodes do.
fn opcodes(data: &[u8], file: &str, place: Place, base: usize, findings: &mut Findings) {
    use read::Op;
    let mut counts = [0usize; 5];
    let mut frame_end: Option<usize> = None;
    let mut protocols = 0usize;
    let mut walk = read::ops(data);
    while let Some(op) = walk.next() {
        let Ok((at, op)) = op else { return };
        let end = walk.at();
        let mut report = |kind: usize, rule, severity, what: String| {
            counts[kind] += 1;
            if counts[kind] <= EACH_MAX {
                findings.add(New { rule, severity, file, what, offset: Some(base + at), name: None });
            }
        };
        match frame_end {
            Some(frame) if at >= frame => frame_end = None,
            Some(frame) if end > frame => {
                report(
                    0,
                    PICKLE_FRAME,
                    Severity::High,
                    format!("an opcode reaches beyond its frame's end at byte {frame}"),
                );
                frame_end = None;
            }
            _ => {}
        }
        match op {
            Op::Extension(code) => {
                report(1, PICKLE_EXTENSION, Severity::High, format!("takes object {code} from the extension registry"));
            }
            Op::PersistentText(id) => {
                report(2, PICKLE_PERSISTENT, Severity::High, format!("takes an object by the id {}", shown(&id)));
            }
            Op::Persistent if place == Place::Alone => {
                report(2, PICKLE_PERSISTENT, Severity::High, "takes an object by an id that it makes".into());
            }
            Op::Put(i) if i > (end as u64 + 1) * MEMO_FACTOR => {
                report(3, PICKLE_MEMORY, Severity::High, format!("writes to place {i} of a memo that holds less"));
            }
            Op::Buffer => {
                report(4, PICKLE_ODD, Severity::Medium, "takes a buffer that lies outside of the file".into())
            }
            Op::Instance(..) => {
                report(4, PICKLE_ODD, Severity::Low, "makes an object with an opcode of Python 1".into())
            }
            Op::NewObject { keywords: true } => {
                report(4, PICKLE_ODD, Severity::Medium, "makes an object with keywords".into());
            }
            Op::Nothing => match data.get(at) {
                Some(0x80) => {
                    protocols += 1;
                    if at != 0 && protocols == 1 || protocols > 1 {
                        report(4, PICKLE_ODD, Severity::Medium, "states its protocol in the middle".into());
                    }
                }
                Some(0x95) => {
                    let len = data.get(at + 1..at + 9).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
                    let ends = usize::try_from(len).ok().and_then(|n| end.checked_add(n)).filter(|&n| n <= data.len());
                    if frame_end.is_some() || ends.is_none() {
                        report(0, PICKLE_FRAME, Severity::High, format!("a frame of {len} bytes does not fit"));
                    }
                    frame_end = ends;
                }
                _ => {}
            },
            Op::Stop => {
                if let Some(frame) = frame_end.filter(|&frame| frame != end) {
                    report(
                        0,
                        PICKLE_FRAME,
                        Severity::High,
                        format!("the pickle ends at byte {end}, its frame at {frame}"),
                    );
                }
            }
            _ => {}
        }
    }
}

/// The strict reader's view of a checkpoint: it builds tensors and refuses everything else.
fn checkpoint(data: &[u8], file: &str, findings: &mut Findings) {
    let Err(e) = read::load(data, data.len()) else { return };
    let severity = match e.kind() {
        ErrorKind::Unsafe => Severity::High,
        ErrorKind::Unsupported => Severity::Info,
        _ => Severity::Medium,
    };
    findings.add(New { rule: PICKLE_CHECKPOINT, severity, file, what: e.to_string(), offset: None, name: None });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Concern;

    fn look(data: &[u8], place: Place) -> (Option<Severity>, Vec<&'static str>) {
        let mut f = Findings::default();
        scan(data, "x", place, 0, &mut f);
        let worst = f.worst(Concern::Safety);
        (worst, f.finish().0.iter().map(|f| f.rule).collect())
    }

    #[test]
    fn the_world_is_closed() {
        let cases: &[(&[u8], &str, Severity)] = &[
            (b"cos\nsystem\n(S'x'\ntR.", "pickle-code", Severity::Critical),
            (b"cmy.module\nThing\n)R.", "pickle-import", Severity::High),
            (b"\x80\x04NN\x93.", "pickle-computed-import", Severity::High),
            (b"\x80\x02\x82\x07.", "pickle-extension", Severity::High),
            (b"Pabc\n.", "pickle-persistent-id", Severity::High),
            (b"\x80\x02K\x01Q.", "pickle-persistent-id", Severity::High),
            (b"\x80\x02K\x01\xff", "pickle-broken", Severity::High),
            (b"\x80\x04\x95\x01\0\0\0\0\0\0\0K\x01.", "pickle-frame", Severity::High),
            (b"\x80\x04\x95\xff\0\0\0\0\0\0\0K\x01.", "pickle-frame", Severity::High),
            (b"\x80\x02Nr\xff\xff\xff\x7f.", "pickle-memory", Severity::High),
            (b"\x80\x05\x97.", "pickle-odd", Severity::Medium),
            (b"\x80\x02N\x80\x02.", "pickle-odd", Severity::Medium),
            (b"\x80\x04\x8c\x08builtins\x8c\x0dobject.__sub_\x93.", "pickle-code", Severity::Critical),
        ];
        for (data, rule, severity) in cases {
            let (worst, rules) = look(data, Place::Alone);
            assert!(rules.contains(rule) && worst == Some(*severity), "{rule}: {worst:?} {rules:?}");
        }
    }

    #[test]
    fn plain_data_is_no_finding() {
        for data in [
            &b"\x80\x02}q\0U\x01aK\x01s."[..],
            b"\x80\x04\x95\x03\0\0\0\0\0\0\0K\x01.",
            b"ccollections\nOrderedDict\n)R.",
            b"(dp0\nS'a'\np1\nI1\ns.",
        ] {
            assert_eq!(look(data, Place::Alone), (None, vec![]), "{data:?}");
        }
    }

    #[test]
    fn random_bytes_are_no_pickles_and_pickles_are() {
        let mut state = 7u64;
        let mut noise = vec![0u8; 4096];
        for _ in 0..300 {
            for b in &mut noise {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *b = (state >> 56) as u8;
            }
            noise[0] = b'(';
            assert!(!looks_like(&noise));
        }
        assert!(looks_like(b"cos\nsystem\n(S'x'\ntR."));
        assert!(looks_like(b"\x80\x04\x8c\x02os\x8c\x06system\x93)R\xff\xff"));
        assert!(!looks_like(b"cat\ndog\nelephant\nfox\n"));
        assert!(!looks_like(b"."));
        assert!(!looks_like(b"{\"a\": 1}"));
    }
}
