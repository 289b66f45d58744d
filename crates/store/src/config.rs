//! How the store is set up, with the variables that the hub's own tools read. Does not read the environment itself: the
//! caller hands a way to look a variable up.
use crate::error::{Error, ErrorKind, Result, quoted};
use std::{
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// A secret that no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token that can stand in a header: printable ASCII without spaces.
    pub fn new(text: &str) -> Result<Token> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::new(ErrorKind::Invalid, "the hub's token holds characters that no token has")
                .hint("set HF_TOKEN to the token alone"));
        }
        Ok(Token(text.into()))
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Proxies by the target's scheme, as `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` give them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://` targets.
    pub http: Option<String>,
    /// For `https://` targets.
    pub https: Option<String>,
    /// Hosts that are reached directly: a name (its subdomains too), a suffix `.name`, `*` for all.
    pub except: Vec<String>,
}

impl fmt::Debug for Proxies {
    // A proxy's address may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Proxies {{ http: {}, https: {}, except: {:?} }}",
            self.http.is_some(),
            self.https.is_some(),
            self.except
        )
    }
}

/// Everything that the store is told from outside.
#[derive(Clone, Debug)]
pub struct Config {
    /// The hub's address without a slash at its end.
    pub endpoint: String,
    /// Sent to the endpoint, and to nobody else.
    pub token: Option<Token>,
    /// The cache: `models--org--name` folders lie in it.
    pub cache: PathBuf,
    /// Folder with models by a name of their own.
    pub named: Option<PathBuf>,
    /// Ollama's folder of models.
    pub ollama: Option<PathBuf>,
    /// Opens no connection.
    pub offline: bool,
    /// Proxies.
    pub proxies: Proxies,
    /// A PEM file of certificates to trust in place of Mozilla's.
    pub roots: Option<PathBuf>,
    /// Connections at a time.
    pub connections: usize,
    /// Bytes of a ranged request.
    pub chunk_bytes: u64,
    /// Times that a request is tried before it counts as failed.
    pub attempts: u32,
    /// First pause between two tries; it doubles.
    pub pause: Duration,
    /// Longest time without a byte.
    pub patience: Duration,
}

impl Config {
    /// The defaults, with this cache.
    pub fn new(cache: impl Into<PathBuf>) -> Config {
        Config {
            endpoint: "https://huggingface.co".into(),
            token: None,
            cache: cache.into(),
            named: None,
            ollama: None,
            offline: false,
            proxies: Proxies::default(),
            roots: None,
            connections: 8,
            chunk_bytes: 16 << 20,
            attempts: 6,
            pause: Duration::from_millis(500),
            patience: Duration::from_secs(30),
        }
    }

    /// From the variables that the hub's tools, curl and Ollama know; `get` looks one up. The token's file is read.
    pub fn read(get: &dyn Fn(&str) -> Option<OsString>) -> Result<Config> {
        let given = |name: &str| get(name).filter(|v| !v.is_empty());
        let text = |name: &str| given(name).and_then(|v| v.into_string().ok());
        let on =
            |name: &str| text(name).is_some_and(|v| ["1", "on", "yes", "true"].contains(&v.to_lowercase().as_str()));
        let home = given("HOME").or_else(|| given("USERPROFILE")).map(PathBuf::from);
        let folder = |name: &str| {
            let path = PathBuf::from(given(name)?);
            match (path.strip_prefix("~"), &home) {
                (Ok(rest), Some(home)) => Some(home.join(rest)),
                _ => Some(path),
            }
        };
        let hub_home = folder("HF_HOME")
            .or_else(|| folder("XDG_CACHE_HOME").map(|d| d.join("huggingface")))
            .or_else(|| home.as_ref().map(|h| h.join(".cache/huggingface")));
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hub_home.as_ref().map(|h| h.join("hub")))
            .ok_or_else(|| {
                Error::new(ErrorKind::Missing, "there is no place for a hub cache").hint("set HF_HOME to a folder")
            })?;
        let mut config = Config::new(cache);
        if let Some(endpoint) = text("HF_ENDPOINT") {
            config.endpoint = endpoint_of(&endpoint)?;
        }
        let secret = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let file = folder("HF_TOKEN_PATH").or_else(|| hub_home.map(|h| h.join("token")));
        config.token = match secret {
            Some(secret) => Some(Token::new(&secret)?),
            None if on("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
            None => file.and_then(|f| token_in(&f)).map(|t| Token::new(&t)).transpose()?,
        };
        config.offline = on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE");
        config.ollama = folder("OLLAMA_MODELS").or_else(|| home.as_ref().map(|h| h.join(".ollama/models")));
        config.roots = folder("SSL_CERT_FILE").or_else(|| folder("REQUESTS_CA_BUNDLE"));
        let either = |lower: &str, upper: &str| text(lower).or_else(|| text(upper));
        let all = either("all_proxy", "ALL_PROXY");
        // HTTP_PROXY in capitals can be a request's header where a web server runs the program: REQUEST_METHOD tells.
        let http = text("http_proxy").or_else(|| text("HTTP_PROXY").filter(|_| given("REQUEST_METHOD").is_none()));
        config.proxies = Proxies {
            http: http.or_else(|| all.clone()),
            https: either("https_proxy", "HTTPS_PROXY").or(all),
            except: either("no_proxy", "NO_PROXY")
                .map(|s| s.split(',').map(|e| e.trim().to_string()).filter(|e| !e.is_empty()).collect())
                .unwrap_or_default(),
        };
        Ok(config)
    }
}

fn endpoint_of(text: &str) -> Result<String> {
    let text = text.trim().trim_end_matches('/');
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let ok =
        rest.is_some_and(|r| !r.is_empty() && !r.contains(['?', '#', '@']) && r.bytes().all(|b| b.is_ascii_graphic()));
    ok.then(|| text.to_string()).ok_or_else(|| {
        Error::new(ErrorKind::Invalid, format!("HF_ENDPOINT: `{}` is no address of a hub", quoted(text)))
            .hint("as in https://huggingface.co")
    })
}

/// The first line of the token's file; a token is short.
fn token_in(file: &Path) -> Option<String> {
    let size = fs::metadata(file).ok()?.len();
    let text = (size <= 1 << 16).then(|| fs::read_to_string(file).ok())??;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config> {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::read(&|name| pairs.iter().find(|p| p.0 == name).map(|p| OsString::from(&p.1)))
    }

    #[test]
    fn variables_mean_what_the_hubs_tools_take_them_for() {
        let c = read(&[("HOME", "/h")]).unwrap();
        assert_eq!(c.cache, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!((c.endpoint.as_str(), c.offline, c.token), ("https://huggingface.co", false, None));
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/hf"), ("HF_HUB_CACHE", "/c")];
        for (n, want) in [(2, "/x/huggingface/hub"), (3, "/h/hf/hub"), (4, "/c")] {
            assert_eq!(read(&all[..n]).unwrap().cache, Path::new(want));
        }
        let c = read(&[
            ("HOME", "/h"),
            ("HF_ENDPOINT", "http://127.0.0.1:9/"),
            ("HF_TOKEN", " abc\n"),
            ("HF_HUB_OFFLINE", "YES"),
            ("ALL_PROXY", "socks5://p:1"),
            ("https_proxy", "http://q:2"),
            ("no_proxy", "localhost, .corp"),
        ])
        .unwrap();
        assert_eq!(c.endpoint, "http://127.0.0.1:9");
        assert!(c.offline && c.token == Some(Token::new("abc").unwrap()));
        assert_eq!(c.proxies.http.as_deref(), Some("socks5://p:1"));
        assert_eq!(c.proxies.https.as_deref(), Some("http://q:2"));
        assert_eq!(c.proxies.except, ["localhost", ".corp"]);
        assert!(!format!("{c:?}").contains("abc") && !format!("{c:?}").contains("p:1"));
        assert_eq!(read(&[]).unwrap_err().kind(), ErrorKind::Missing);
        for bad in [("HF_ENDPOINT", "file:///etc"), ("HF_ENDPOINT", "https://a@b"), ("HF_TOKEN", "a b")] {
            assert_eq!(read(&[("HOME", "/h"), bad]).unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }
}
