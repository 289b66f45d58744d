//! A hub for tests: real HTTP/1.1 over real sockets, with a second server that large files are redirected to, and a hook that
//! makes any answer wrong in a way of its own. At `/v2/` it is an OCI registry.
#![allow(dead_code)] // each test program uses a part of it
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// The token that gated repositories want.
pub const TOKEN: &str = "hf_secret";

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// Whether it came to the second server.
    pub away: bool,
    /// How many came before it.
    pub number: u64,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.0 == name).map(|h| h.1.as_str())
    }

    /// Whether it asks for a file's bytes, where they are.
    pub fn is_body(&self) -> bool {
        self.method == "GET" && (self.away || ["/resolve/", "/blobs/"].iter().any(|p| self.path.contains(p)))
    }
}

/// What is done to an answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with these headers, in place of the answer.
    Status(u16, Vec<(String, String)>),
    /// One bit of the body, counted from its first and taken modulo its length.
    Flip(u64),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// 200 and the whole file, whatever range was asked for.
    IgnoreRange,
    /// 206 with bytes from somewhere else, honestly or not.
    OtherPlace { honest: bool },
    /// A length that is too long or too short by this, in header and body.
    Length(i64),
    /// Bytes in pieces with a pause between them.
    Slow(usize, Duration),
    /// This body in place of a file's.
    Replace(Vec<u8>),
    /// Sends somewhere else.
    Redirect(String),
    /// Nothing at all, the connection open.
    Silence,
}

type Hook = dyn Fn(&Request) -> Option<Fault> + Send + Sync;

#[derive(Clone)]
pub struct Repo {
    pub commit: String,
    /// Path, bytes, whether it is a large file.
    pub files: BTreeMap<String, (Arc<Vec<u8>>, bool)>,
    pub gated: bool,
    /// The list lacks sizes and digests.
    pub terse: bool,
    /// Files that are longer than their bytes: zeros follow, which are nowhere stored.
    pub lengths: BTreeMap<String, u64>,
}

impl Repo {
    fn length(&self, path: &str, bytes: &[u8]) -> u64 {
        self.lengths.get(path).copied().unwrap_or(bytes.len() as u64)
    }
}

/// What the registry holds: manifests by tag and digest, blobs by digest; a token is asked for unless it is `open`.
#[derive(Clone, Default)]
pub struct Registry {
    pub open: bool,
    /// `name/manifests/reference` and `name/blobs/digest` with media type and bytes.
    pub held: BTreeMap<String, (String, Arc<Vec<u8>>)>,
}

impl Registry {
    /// Holds the bytes under each of these references; their digest.
    pub fn manifest(&mut self, name: &str, tags: &[&str], media_type: &str, bytes: &[u8]) -> String {
        let digest = format!("sha256:{}", sha256(bytes));
        for reference in tags.iter().copied().chain([digest.as_str()]) {
            let held = (media_type.to_string(), Arc::new(bytes.to_vec()));
            self.held.insert(format!("{name}/manifests/{reference}"), held);
        }
        digest
    }

    pub fn blob(&mut self, name: &str, bytes: &[u8]) -> String {
        let digest = format!("sha256:{}", sha256(bytes));
        let held = ("application/octet-stream".into(), Arc::new(bytes.to_vec()));
        self.held.insert(format!("{name}/blobs/{digest}"), held);
        digest
    }
}

struct State {
    registry: Mutex<Registry>,
    repos: Mutex<BTreeMap<String, Repo>>,
    hook: Mutex<Arc<Hook>>,
    log: Mutex<Vec<Request>>,
    number: AtomicU64,
    body_bytes: AtomicU64,
    away: String,
    stop: AtomicBool,
    pace: Mutex<Option<(usize, Duration)>>,
}

pub struct Hub {
    pub address: String,
    pub away: String,
    state: Arc<State>,
}

impl Hub {
    pub fn new() -> Hub {
        Hub::at("127.0.0.1:0")
    }

    pub fn at(address: &str) -> Hub {
        let (home, away) = (TcpListener::bind(address).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let at = |l: &TcpListener| format!("http://{}", l.local_addr().unwrap());
        let (address, second) = (at(&home), at(&away));
        let state = Arc::new(State {
            registry: Mutex::default(),
            repos: Mutex::default(),
            hook: Mutex::new(Arc::new(|_| None)),
            log: Mutex::default(),
            number: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            away: second.clone(),
            stop: AtomicBool::new(false),
            pace: Mutex::new(None),
        });
        for (listener, away) in [(home, false), (away, true)] {
            let state = state.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    thread::spawn(move || serve(&state, stream, away));
                }
            });
        }
        Hub { address, away: second, state }
    }

    pub fn put(&self, name: &str, repo: Repo) {
        self.state.repos.lock().unwrap().insert(name.into(), repo);
    }

    pub fn registry(&self, registry: Registry) {
        *self.state.registry.lock().unwrap() = registry;
    }

    pub fn hook(&self, hook: impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static) {
        *self.state.hook.lock().unwrap() = Arc::new(hook);
    }

    /// All bodies in pieces of so many bytes, with a pause behind each.
    pub fn pace(&self, pace: Option<(usize, Duration)>) {
        *self.state.pace.lock().unwrap() = pace;
    }

    pub fn log(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.state.log.lock().unwrap().clear();
        self.state.body_bytes.store(0, Ordering::SeqCst);
    }

    /// Bytes of files that were written to sockets.
    pub fn body_bytes(&self) -> u64 {
        self.state.body_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
    }
}

/// A repository of these files; those with tensors are large.
pub fn repo(files: &[(&str, Vec<u8>)]) -> Repo {
    let large = |p: &str| [".safetensors", ".gguf", ".bin"].iter().any(|e| p.ends_with(e)) || p.starts_with("large");
    let mut all: String = files.iter().map(|(p, b)| format!("{p}{}", sha256(b))).collect();
    all.truncate(1 << 16);
    Repo {
        commit: sha1(all.as_bytes()),
        files: files.iter().map(|(p, b)| (p.to_string(), (Arc::new(b.clone()), large(p)))).collect(),
        gated: false,
        terse: false,
        lengths: BTreeMap::new(),
    }
}

/// Bytes that look random and are the same every time.
pub fn bytes(seed: u64, n: usize) -> Vec<u8> {
    let mut r = Random(seed ^ 0x5851_f42d_4c95_7f2d);
    (0..n).map(|_| r.next() as u8).collect()
}

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 20
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn sha1(bytes: &[u8]) -> String {
    hex(&Sha1::digest(bytes))
}

pub fn git_id(bytes: &[u8]) -> String {
    let mut all = format!("blob {}\0", bytes.len()).into_bytes();
    all.extend(bytes);
    sha1(&all)
}

/// A folder that is removed when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        Folder::below(&place())
    }

    /// In memory where the system has a place for that: thousands of pulls wait for no disk.
    pub fn fast() -> Folder {
        let memory = Path::new("/dev/shm");
        Folder::below(&if memory.is_dir() { memory.to_path_buf() } else { place() })
    }

    fn below(place: &Path) -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = place.join(format!("pondera-store-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where tests may write; programs that are no tests have no such place.
fn place() -> PathBuf {
    option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn serve(state: &State, stream: TcpStream, away: bool) {
    let _ = stream.set_nodelay(true);
    let Ok(copy) = stream.try_clone() else { return };
    let mut reader = BufReader::new(copy);
    let mut stream = stream;
    while !state.stop.load(Ordering::SeqCst) {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or("").to_string(), words.next().unwrap_or("").to_string());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        let number = state.number.fetch_add(1, Ordering::SeqCst);
        let request = Request { method, path, headers, away, number };
        state.log.lock().unwrap().push(request.clone());
        let hook = state.hook.lock().unwrap().clone();
        if respond(state, &request, hook(&request), &mut stream).is_none() {
            return;
        }
    }
}

/// Writes the answer; None where the connection is over.
fn respond(state: &State, request: &Request, fault: Option<Fault>, stream: &mut TcpStream) -> Option<()> {
    match &fault {
        Some(Fault::Status(status, headers)) => return head(stream, *status, headers, 0),
        Some(Fault::Redirect(to)) => return head(stream, 302, &[("Location".into(), to.clone())], 0),
        Some(Fault::Silence) => {
            thread::sleep(Duration::from_secs(20));
            return None;
        }
        _ => {}
    }
    let path = request.path.split('?').next().unwrap_or("");
    if path == "/token" || path.starts_with("/v2/") {
        return registry(state, request, fault, stream);
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let repos = state.repos.lock().unwrap().clone();
    let none = |stream: &mut TcpStream, code: &str| head(stream, 404, &[("X-Error-Code".into(), code.into())], 0);
    let (name, rest): (String, &[&str]) = match parts.as_slice() {
        ["api", "models", org, name, rest @ ..] => (format!("{org}/{name}"), rest),
        [org, name, rest @ ..] => (format!("{org}/{name}"), rest),
        _ => return none(stream, ""),
    };
    let Some(repo) = repos.get(&name) else { return none(stream, "RepoNotFound") };
    let known = request.header("authorization") == Some(&format!("Bearer {TOKEN}"));
    if repo.gated && !known && !request.away && !path.starts_with("/api") {
        let text = "Access to model is restricted".to_string();
        let headers = [("X-Error-Code".into(), "GatedRepo".into()), ("X-Error-Message".into(), text)];
        return head(stream, 403, &headers, 0);
    }
    if path.starts_with("/api") {
        let asked = unescape(rest.get(1).unwrap_or(&"main"));
        if !["main", "refs/pr/1", repo.commit.as_str(), &repo.commit[..7]].contains(&asked.as_str()) {
            return none(stream, "RevisionNotFound");
        }
        let body = listing(repo, rest);
        head(stream, 200, &[("Content-Type".into(), "application/json".into())], body.len() as u64)?;
        return if request.method == "HEAD" { Some(()) } else { stream.write_all(body.as_bytes()).ok() };
    }
    // org/name/resolve/commit/path at home, org/name/path away.
    let file = unescape(&if request.away { rest.join("/") } else { rest.get(2..)?.join("/") });
    let Some((bytes, large)) = repo.files.get(&file) else { return none(stream, "EntryNotFound") };
    let tag = if *large { sha256(bytes) } else { git_id(bytes) };
    let mut headers =
        vec![("X-Repo-Commit".to_string(), repo.commit.clone()), ("Accept-Ranges".into(), "bytes".into())];
    if *large && !request.away {
        headers.push(("X-Linked-Etag".into(), format!("\"{tag}\"")));
        headers.push(("X-Linked-Size".into(), repo.length(&file, bytes).to_string()));
        headers.push(("Location".into(), format!("{}/{name}/{}?signed=1", state.away, rest.get(2..)?.join("/"))));
        return head(stream, 302, &headers, 0);
    }
    headers.push(("ETag".into(), format!("\"{tag}\"")));
    if let Some(length) = repo.lengths.get(&file) {
        let whole = matches!(fault, Some(Fault::IgnoreRange));
        return send_long(state, request, stream, bytes, *length, whole, headers);
    }
    send(state, request, fault, stream, bytes, headers)
}

/// The registry: tokens are given by the second server, which has the blobs too.
fn registry(state: &State, request: &Request, fault: Option<Fault>, stream: &mut TcpStream) -> Option<()> {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    if path == "/token" {
        let right = query.contains("service=tests") && query.contains("scope=repository%3A");
        let body = if right { format!(r#"{{"token":"{TOKEN}"}}"#) } else { "{}".into() };
        return send(state, request, fault, stream, body.as_bytes(), vec![]);
    }
    let registry = state.registry.lock().unwrap().clone();
    if !registry.open && !request.away && request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return head(stream, 401, &[challenge(&state.away)], 0);
    }
    let Some((media_type, bytes)) = registry.held.get(path.trim_start_matches("/v2/")) else {
        return head(stream, 404, &[], 0);
    };
    if path.contains("/blobs/") && !request.away {
        return head(stream, 307, &[("Location".into(), format!("{}{path}?signed=1", state.away))], 0);
    }
    let mut headers = vec![("Content-Type".to_string(), media_type.clone())];
    if path.contains("/manifests/") {
        headers.push(("Docker-Content-Digest".into(), format!("sha256:{}", sha256(bytes))));
    }
    send(state, request, fault, stream, bytes, headers)
}

/// The header by which a registry asks for a token.
pub fn challenge(away: &str) -> (String, String) {
    let value = format!(r#"Bearer realm="{away}/token",service="tests",scope="repository:org/m:pull""#);
    ("WWW-Authenticate".into(), value)
}

fn send(
    state: &State,
    request: &Request,
    fault: Option<Fault>,
    stream: &mut TcpStream,
    bytes: &[u8],
    mut headers: Vec<(String, String)>,
) -> Option<()> {
    let replaced = if let Some(Fault::Replace(other)) = &fault { Some(other.clone()) } else { None };
    let bytes = replaced.as_deref().unwrap_or(bytes);
    let range = request.header("range").and_then(|r| r.strip_prefix("bytes="));
    let range = range.filter(|_| !matches!(fault, Some(Fault::IgnoreRange)));
    let (mut body, mut status) = (bytes.to_vec(), 200);
    if let Some((first, last)) = range.and_then(|r| r.split_once('-')) {
        let (mut first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first >= bytes.len() {
            return head(stream, 416, &[], 0);
        }
        let last = last.min(bytes.len() - 1);
        let mut said = first;
        if let Some(Fault::OtherPlace { honest }) = fault {
            let n = last - first + 1;
            first = if first > 0 { first - 1 } else { (bytes.len() - n).min(1) };
            if honest {
                said = first;
            }
        }
        let n = last - said + 1;
        body = bytes[first..(first + n).min(bytes.len())].to_vec();
        status = 206;
        headers.push(("Content-Range".into(), format!("bytes {said}-{}/{}", said + body.len() - 1, bytes.len())));
    }
    let mut end = body.len();
    let mut pace = *state.pace.lock().unwrap();
    match &fault {
        Some(Fault::Flip(bit)) if !body.is_empty() => {
            let bit = bit % (body.len() as u64 * 8);
            body[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        Some(Fault::Length(by)) => {
            body.resize((body.len() as i64 + by).max(0) as usize, 0);
            end = body.len();
        }
        Some(Fault::Cut(n)) => end = (*n).min(end),
        Some(Fault::Slow(n, pause)) => pace = Some((*n, *pause)),
        _ => {}
    }
    head(stream, status, &headers, body.len() as u64)?;
    if request.method == "HEAD" {
        return Some(());
    }
    let (piece, pause) = pace.unwrap_or((1 << 16, Duration::ZERO));
    for part in body[..end].chunks(piece) {
        stream.write_all(part).ok()?;
        state.body_bytes.fetch_add(part.len() as u64, Ordering::SeqCst);
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    (end == body.len()).then_some(())
}

/// A file of `bytes` and zeros up to `length`.
fn send_long(
    state: &State,
    request: &Request,
    stream: &mut TcpStream,
    bytes: &[u8],
    length: u64,
    whole: bool,
    mut headers: Vec<(String, String)>,
) -> Option<()> {
    let range = request.header("range").and_then(|r| r.strip_prefix("bytes=")).filter(|_| !whole);
    let (mut first, mut end, mut status) = (0, length, 200);
    if let Some((from, to)) = range.and_then(|r| r.split_once('-')) {
        (first, end, status) = (from.parse().ok()?, to.parse::<u64>().ok()?.min(length - 1) + 1, 206);
        if first >= length {
            return head(stream, 416, &[], 0);
        }
        headers.push(("Content-Range".into(), format!("bytes {first}-{}/{length}", end - 1)));
    }
    head(stream, status, &headers, end - first)?;
    if request.method == "HEAD" {
        return Some(());
    }
    let zeros = [0u8; 1 << 14];
    while first < end {
        let stored = bytes.get(first as usize..).unwrap_or(&[]);
        let from = if stored.is_empty() { &zeros[..] } else { stored };
        let n = (from.len() as u64).min(end - first).min(1 << 14) as usize;
        stream.write_all(&from[..n]).ok()?;
        state.body_bytes.fetch_add(n as u64, Ordering::SeqCst);
        first += n as u64;
    }
    Some(())
}

fn head(stream: &mut TcpStream, status: u16, headers: &[(String, String)], length: u64) -> Option<()> {
    let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all((text + "\r\n").as_bytes()).ok()
}

/// The API's answers: a revision, or its tree as the hub's client pages through it.
fn listing(repo: &Repo, rest: &[&str]) -> String {
    let large = |p: &str, b: &[u8]| {
        format!(r#"{{"sha256":"{}","oid":"{0}","size":{},"pointerSize":130}}"#, sha256(b), repo.length(p, b))
    };
    let quoted = |p: &str| serde_json::to_string(p).unwrap();
    if rest.first() == Some(&"tree") {
        let rows = repo.files.iter().map(|(p, (b, l))| {
            let lfs = if *l { format!(r#","lfs":{}"#, large(p, b)) } else { String::new() };
            format!(r#"{{"type":"file","path":{},"size":{},"oid":"{}"{lfs}}}"#, quoted(p), b.len(), git_id(b))
        });
        return format!("[{}]", rows.collect::<Vec<_>>().join(","));
    }
    let rows = repo.files.iter().map(|(p, (b, l))| match (repo.terse, *l) {
        (true, _) => format!(r#"{{"rfilename":{}}}"#, quoted(p)),
        (false, true) => {
            let n = repo.length(p, b);
            format!(r#"{{"rfilename":{},"size":{n},"blobId":"{}","lfs":{}}}"#, quoted(p), sha1(b), large(p, b))
        }
        (false, false) => format!(r#"{{"rfilename":{},"size":{},"blobId":"{}"}}"#, quoted(p), b.len(), git_id(b)),
    });
    let rows = rows.collect::<Vec<_>>().join(",");
    format!(
        r#"{{"id":"x/y","modelId":"x/y","sha":"{}","private":false,"gated":{},"tags":[],"siblings":[{rows}]}}"#,
        repo.commit, repo.gated
    )
}

fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        if b == b'%' {
            let pair = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
            out.push(u8::from_str_radix(std::str::from_utf8(&pair).unwrap_or("0"), 16).unwrap_or(0));
        } else {
            out.push(b);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
