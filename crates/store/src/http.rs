//! One request and what may go wrong with it: redirects followed here, so that the token stays with its host; answers told
//! apart into those worth another try and those that are final. Does not own: what is asked for (`hub`, `blob`).
use crate::{
    config::{Config, Token},
    error::{At, Error, ErrorKind, Result, quoted},
    oci::{self, Challenge},
    reference::{Reference, is_loopback},
};
use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use ureq::{
    Agent, Body, Proxy,
    http::{HeaderMap, Method, Request, StatusCode, Uri, header},
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};

/// Redirects that one request may take.
const REDIRECTS_MAX: usize = 8;
/// Longest wait that a server's `Retry-After` is obeyed for.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Why a request has no answer that can be used.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Worth another try, after the time that the server names.
    Passing { error: Error, after: Option<Duration> },
    /// A status by which the hub itself says no.
    Refused { status: u16, code: String, message: String },
    /// Nothing that another try would change.
    Final(Error),
}

impl Trouble {
    pub fn passing(what: impl Into<String>) -> Trouble {
        Trouble::Passing { error: Error::new(ErrorKind::Network, what), after: None }
    }
}

impl From<Error> for Trouble {
    fn from(e: Error) -> Trouble {
        Trouble::Final(e)
    }
}

/// An answer with a status of 2xx.
pub(crate) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
    /// Where it came from in the end.
    pub url: String,
    /// Whether that is the endpoint, and every hop before it was.
    pub home: bool,
}

impl Reply {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }
}

impl Registry {
    fn token(&self) -> Option<Token> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Connections to the hub or registry and to where it sends us.
pub(crate) struct Client<'a> {
    config: &'a Config,
    endpoint: Uri,
    /// Where the endpoint is an OCI registry: how it lets us in.
    registry: Option<Registry>,
    plain: Agent,
    secure: Agent,
}

/// What a registry asks for before it gives anything: a token for one repository, which holds for some minutes.
struct Registry {
    /// What is asked for where the registry does not say.
    scope: String,
    token: Mutex<Option<Token>>,
}

/// What goes with a request.
#[derive(Clone, Copy, Default)]
struct Ask<'a> {
    range: Option<(u64, u64)>,
    /// Whether a redirect to another host is followed.
    away: bool,
    /// A request for a token, which itself has none.
    stranger: bool,
    token: Option<&'a Token>,
}

impl<'a> Client<'a> {
    /// A client for the hub that `config` names, or the registry that `reference` names; opens nothing yet. `Offline` where
    /// the network is switched off.
    pub fn new(config: &'a Config, reference: &Reference) -> Result<Client<'a>> {
        if config.offline {
            return Err(Error::new(ErrorKind::Offline, "the network is switched off")
                .hint("leave out --offline, and unset HF_HUB_OFFLINE"));
        }
        let endpoint = uri(&oci::endpoint(reference).unwrap_or_else(|| config.endpoint.clone()))?;
        let scope = || format!("repository:{}:pull", reference.path());
        let registry = reference.registry().map(|_| Registry { scope: scope(), token: Mutex::default() });
        let roots = match &config.roots {
            Some(file) => {
                let bytes = fs::read(file).at(file)?;
                let certificates: Vec<_> = parse_pem(&bytes)
                    .filter_map(|item| if let Ok(PemItem::Certificate(c)) = item { Some(c) } else { None })
                    .collect();
                if certificates.is_empty() {
                    return Err(Error::new(ErrorKind::Invalid, format!("{}: holds no certificate", file.display()))
                        .hint("SSL_CERT_FILE names a PEM file, or is unset"));
                }
                RootCerts::from(certificates)
            }
            None => RootCerts::WebPki,
        };
        let agent = |proxy: &Option<String>| -> Result<Agent> {
            let proxy = proxy.as_deref().map(|p| proxy_of(p, &config.proxies.except)).transpose()?;
            Ok(Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .proxy(proxy)
                .tls_config(TlsConfig::builder().root_certs(roots.clone()).build())
                .user_agent(concat!("pondera/", env!("CARGO_PKG_VERSION")))
                .accept_encoding("identity")
                .timeout_connect(Some(config.patience))
                .timeout_per_read(Some(config.patience))
                .timeout_per_write(Some(config.patience))
                .timeout_recv_response(Some(config.patience * 2))
                .max_idle_connections_per_host(config.connections.max(1))
                .max_idle_connections(config.connections.max(1) * 2)
                .build()
                .new_agent())
        };
        let (plain, secure) = (agent(&config.proxies.http)?, agent(&config.proxies.https)?);
        Ok(Client { config, endpoint, registry, plain, secure })
    }

    /// Whether `url` is at the endpoint itself.
    pub fn is_home(&self, url: &str) -> bool {
        uri(url).is_ok_and(|u| same_origin(&u, &self.endpoint))
    }

    /// One `GET` with its redirects; `range` is the first and last byte wanted. The token goes along as long as every
    /// hop so far was the endpoint itself: scheme, host and port.
    pub fn get(&self, url: &str, range: Option<(u64, u64)>) -> std::result::Result<Reply, Trouble> {
        self.follow(Method::GET, url, Ask { range, away: true, ..Ask::default() })
    }

    /// One `HEAD` to where `url` itself answers: headers of the hub, not of where it sends us.
    pub fn head(&self, url: &str) -> std::result::Result<Reply, Trouble> {
        self.follow(Method::HEAD, url, Ask::default())
    }

    fn follow(&self, method: Method, url: &str, ask: Ask<'_>) -> std::result::Result<Reply, Trouble> {
        let mut at = uri(url)?;
        let (mut home, mut asked) = (!ask.stranger, false);
        for _ in 0..=REDIRECTS_MAX {
            // Once it has left, it gets no token any more, even where it is sent back.
            home &= same_origin(&at, &self.endpoint);
            let own = self.registry.as_ref().and_then(Registry::token);
            // The hub's token is no registry's business.
            let token = own.as_ref().or(self.config.token.as_ref().filter(|_| self.registry.is_none()));
            let reply = self.once(&method, &at, Ask { token: token.filter(|_| home), ..ask })?;
            let status = reply.status();
            if let (401, true, false, Some(registry)) = (status.as_u16(), home, asked, &self.registry) {
                asked = true;
                if let Some(challenge) = Challenge::read(reply.headers()) {
                    *registry.token.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(self.let_in(registry, &challenge)?);
                    continue;
                }
            }
            let location =
                text(reply.headers(), "location").filter(|_| matches!(status.as_u16(), 301..=303 | 307 | 308));
            let Some(location) = location else {
                let (parts, body) = reply.into_parts();
                return answer(status, parts.headers, body, at.to_string(), home);
            };
            let next = join(&at, location)?;
            if !ask.away && !same_origin(&next, &self.endpoint) {
                let (parts, body) = reply.into_parts();
                return Ok(Reply { status: status.as_u16(), headers: parts.headers, body, url: at.to_string(), home });
            }
            if at.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                let what = format!("{} sends us on without encryption", host(&at));
                return Err(Error::new(ErrorKind::Unsafe, what).hint("do not use files from this source").into());
            }
            at = next;
        }
        Err(Trouble::passing(format!("{}: more than {REDIRECTS_MAX} redirects", host(&at))))
    }

    /// A token from where the registry says that tokens are given. No other goes there.
    fn let_in(&self, registry: &Registry, challenge: &Challenge) -> std::result::Result<Token, Trouble> {
        let place = uri(&challenge.realm)?;
        let near = |u: &Uri| u.host().is_some_and(is_loopback);
        if place.scheme_str() != Some("https") && !(near(&place) && near(&self.endpoint)) {
            let what = format!("{} sends us to {} for a token without encryption", host(&self.endpoint), host(&place));
            return Err(Error::new(ErrorKind::Unsafe, what).hint("do not use files from this source").into());
        }
        let url = challenge.url(&registry.scope);
        let ask = Ask { away: true, stranger: true, ..Ask::default() };
        let reply = self.follow(Method::GET, &url, ask).map_err(|trouble| match trouble {
            // Who says no to a stranger will go on saying it.
            Trouble::Passing { error, .. } if error.kind() == ErrorKind::Denied => {
                let what = format!("{} gives no token for {}", host(&place), registry.scope);
                Error::new(ErrorKind::Denied, what)
                    .hint("only repositories that are open to everybody can be fetched")
                    .into()
            }
            other => other,
        })?;
        oci::token(reply, &host(&place))
    }

    fn once(
        &self,
        method: &Method,
        at: &Uri,
        ask: Ask<'_>,
    ) -> std::result::Result<ureq::http::Response<Body>, Trouble> {
        let range = ask.range;
        let mut request = Request::builder().method(method.clone()).uri(at.clone());
        if let Some((first, last)) = range {
            request = request.header(header::RANGE, format!("bytes={first}-{last}"));
        }
        if self.registry.is_some() && !ask.stranger {
            request = request.header(header::ACCEPT, oci::ACCEPT);
        }
        if let Some(token) = ask.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.secret()));
        }
        let request = request.body(()).map_err(|e| Error::new(ErrorKind::Invalid, format!("{}: {e}", host(at))))?;
        let agent = if at.scheme_str() == Some("https") { &self.secure } else { &self.plain };
        tracing::debug!(method = %method, host = %host(at), path = at.path(), range = ?range, token = ask.token.is_some(), "request");
        agent.run(request).map_err(|e| trouble(at, &e))
    }
}

/// Tells a usable answer from trouble.
fn answer(
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    url: String,
    home: bool,
) -> std::result::Result<Reply, Trouble> {
    let code = status.as_u16();
    if status.is_success() {
        return Ok(Reply { status: code, headers, body, url, home });
    }
    let place = uri(&url).map(|u| host(&u)).unwrap_or_default();
    if matches!(code, 408 | 425 | 429) || status.is_server_error() {
        let error = Error::new(ErrorKind::Network, format!("{place} answers {code}"));
        return Err(Trouble::Passing { error, after: retry_after(&headers) });
    }
    if code == 416 {
        let error = Error::new(ErrorKind::Corrupt, "the file is shorter than was promised");
        return Err(Trouble::Passing { error: error.hint("a mirror or proxy changes it"), after: None });
    }
    if !home {
        // Addresses that the hub signs hold for a while only: it may give another one.
        let kind = if code == 404 { ErrorKind::Remote } else { ErrorKind::Denied };
        let error = Error::new(kind, format!("{place}, where we were sent, answers {code}"));
        return Err(Trouble::Passing { error: error.hint("run it again later"), after: None });
    }
    let own = |name: &str| quoted(text(&headers, name).unwrap_or_default());
    Err(Trouble::Refused { status: code, code: own("x-error-code"), message: own("x-error-message") })
}

/// `Retry-After` in seconds or as a date; the hub's `RateLimit: …;t=SECONDS`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let after = text(headers, "retry-after").and_then(|value| match value.trim().parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).ok(),
    });
    let limit = || {
        let field = text(headers, "ratelimit")?.split(';').find_map(|f| f.trim().strip_prefix("t="))?;
        field.parse().ok().map(Duration::from_secs)
    };
    after.or_else(limit).map(|d| d.min(WAIT_MAX))
}

fn trouble(at: &Uri, e: &ureq::Error) -> Trouble {
    let place = host(at);
    match e {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            let what = format!("{place}: no encrypted connection: {e}");
            let hint = "where a proxy decrypts, name its certificates in SSL_CERT_FILE";
            Trouble::Final(Error::new(ErrorKind::Network, what).hint(hint))
        }
        ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl | ureq::Error::Http(_) => {
            Trouble::Final(Error::new(ErrorKind::Invalid, format!("{place}: {e}")))
        }
        e => Trouble::passing(format!("{place}: {e}")),
    }
}

fn proxy_of(address: &str, except: &[String]) -> Result<Proxy> {
    let wrong = |_| {
        Error::new(ErrorKind::Invalid, "the proxy's address cannot be read")
            .hint("HTTPS_PROXY is as in http://host:port, or unset")
    };
    let given = Proxy::new(address).map_err(wrong)?;
    let mut proxy = Proxy::builder(given.protocol()).host(given.host()).port(given.port());
    if let Some(user) = given.username() {
        proxy = proxy.username(user);
    }
    if let Some(password) = given.password() {
        proxy = proxy.password(password);
    }
    for name in except {
        proxy = proxy.no_proxy(name);
        // A bare name stands for its subdomains too.
        if !name.starts_with(['.', '*']) {
            proxy = proxy.no_proxy(&format!(".{name}"));
        }
    }
    proxy.build().map_err(wrong)
}

fn uri(text: &str) -> Result<Uri> {
    let bad = || Error::new(ErrorKind::Unsafe, format!("`{}` is no address to fetch from", quoted(text)));
    let found: Uri = text.parse().map_err(|_| bad())?;
    let named = found.authority().is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@'));
    (named && matches!(found.scheme_str(), Some("http" | "https"))).then_some(found).ok_or_else(bad)
}

/// Host and port for messages; never the query, which may hold a signature.
fn host(uri: &Uri) -> String {
    quoted(uri.authority().map_or("", |a| a.as_str()))
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |u: &Uri| {
        u.port_u16().or(match u.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        })
    };
    let name = |u: &Uri| u.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && name(a) == name(b) && port(a) == port(b)
}

/// Where `location` leads from `at`.
fn join(at: &Uri, location: &str) -> Result<Uri> {
    let scheme = at.scheme_str().unwrap_or("https");
    let origin = format!("{scheme}://{}", at.authority().map_or("", |a| a.as_str()));
    let location = location.split('#').next().unwrap_or("");
    let head = location.split(['/', '?']).next().unwrap_or("");
    let whole = if head.contains(':') {
        location.to_string()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else {
        let folder = at.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{origin}{folder}/{location}")
    };
    uri(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_the_same_scheme_host_and_port_only() {
        let same = |a: &str, b: &str| same_origin(&uri(a).unwrap(), &uri(b).unwrap());
        assert!(same("https://hub.example/x", "https://HUB.example:443"));
        for other in [
            "http://hub.example",
            "https://hub.example:444",
            "https://cdn.hub.example",
            "https://hub.example.evil",
            "https://hub.exampl",
        ] {
            assert!(!same("https://hub.example/x", other), "{other}");
        }
    }

    #[test]
    fn locations_are_joined_as_addresses_are() {
        let at = uri("https://h:1/a/b?q=1").unwrap();
        for (location, want) in [
            ("/x?y", "https://h:1/x?y"),
            ("c", "https://h:1/a/c"),
            ("//o/x", "https://o/x"),
            ("http://o/x#f", "http://o/x"),
        ] {
            assert_eq!(join(&at, location).unwrap().to_string(), want);
        }
        for bad in ["file:///etc/passwd", "ftp://x/", "https://hub@evil/", "javascript:1", "https://"] {
            assert!(join(&at, bad).is_err(), "{bad}");
        }
    }
}
