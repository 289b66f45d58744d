//! Traces: whether a request is traced, as which part of whose trace (W3C Trace Context), and where its spans go.
//!
//! Nothing is made and nothing leaves the process unless [`crate::Options::traces`] names a collector. Does not own: what spans
//! say of a request (`access.rs`).
mod export;
mod otlp;

pub use export::Tracer;
pub use otlp::{Attribute, Encoding, Kind, Span};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Attributes of this process: names and values, `service.name` among them.
pub type Resource = Vec<(String, String)>;

/// Which traces are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Of those that begin here, or of all: 0 to 1.
    pub ratio: f64,
    /// What the caller has decided holds.
    pub follow: bool,
}

/// Where traces go and what they say of this process.
#[derive(Clone, Debug)]
pub struct Traces {
    /// The collector's host, as it is resolved.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As the `Host` header has it.
    pub(crate) authority: HeaderValue,
    pub(crate) path: String,
    /// Beside those of the protocol; values may be secrets.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// How bodies are spelled.
    pub encoding: Encoding,
    /// What spans are of.
    pub resource: Resource,
    /// Which are kept.
    pub sampling: Sampling,
    /// Longest time of a try to send.
    pub timeout: Duration,
    /// Longest time that spans wait for others.
    pub delay: Duration,
    /// Most spans that wait; others are dropped and counted.
    pub waiting: usize,
    /// Most spans that are sent at once.
    pub batch: usize,
}

impl Traces {
    /// To `url`, which is whole, path included.
    ///
    /// # Errors
    /// Why the URL cannot be used.
    pub fn new(url: &str) -> Result<Traces, String> {
        let uri: Uri = url.parse().map_err(|e| format!("{url:?} is no URL: {e}"))?;
        let authority = uri.authority().filter(|_| uri.scheme().is_some());
        let authority = authority.ok_or_else(|| format!("{url:?} is no URL: expected http://HOST:PORT"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("https is not spoken: send to a collector nearby, which can".into()),
            _ => return Err("expected http://HOST:PORT".into()),
        }
        if authority.as_str().contains('@') {
            return Err("a user in the URL is not sent: give a header".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_string();
        Ok(Traces {
            host,
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|e| e.to_string())?,
            path: uri.path_and_query().map_or("/".into(), ToString::to_string),
            headers: Vec::new(),
            encoding: Encoding::default(),
            resource: vec![("service.name".into(), "pondera".into())],
            sampling: Sampling { ratio: 1.0, follow: true },
            timeout: Duration::from_secs(10),
            delay: Duration::from_secs(5),
            waiting: 2048,
            batch: 512,
        })
    }

    /// With a header on every request.
    ///
    /// # Errors
    /// What is no header; nothing of its value is said.
    pub fn header(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| format!("{name}: no value of a header"))?;
        value.set_sensitive(true);
        self.headers.push((name, value));
        Ok(())
    }
}

/// Which span of which trace a request is.
#[derive(Clone, Debug)]
pub struct Context {
    pub trace: [u8; 16],
    pub id: [u8; 8],
    /// The caller's span.
    pub parent: Option<[u8; 8]>,
    /// The caller's `tracestate`.
    pub state: String,
}

/// Most bytes of a `tracestate` that is kept: what the recommendation asks for at least.
const STATE_BYTES: usize = 512;

impl Context {
    /// Of a request with these headers; none where it is not traced.
    pub fn of(headers: &HeaderMap, sampling: Sampling) -> Option<Context> {
        // Of two, neither can be trusted.
        let mut all = headers.get_all("traceparent").iter();
        let shown = all.next().filter(|_| all.next().is_none()).and_then(|v| parent(v.to_str().ok()?));
        let mut context = Context { trace: random(), id: random(), parent: None, state: String::new() };
        let kept = match shown {
            Some((trace, id, sampled)) => {
                (context.trace, context.parent) = (trace, Some(id));
                let state: Vec<&str> = headers.get_all("tracestate").iter().filter_map(|v| v.to_str().ok()).collect();
                context.state = state.join(",");
                if context.state.len() > STATE_BYTES {
                    context.state.clear();
                }
                if sampling.follow { sampled } else { chosen(&trace, sampling.ratio) }
            }
            None => chosen(&context.trace, sampling.ratio),
        };
        kept.then_some(context)
    }
}

/// Trace, span and whether it is sampled, of a `traceparent` (W3C Trace Context, 3.2).
fn parent(text: &str) -> Option<([u8; 16], [u8; 8], bool)> {
    let mut parts = text.trim().split('-');
    let [version, trace, span, flags] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let ([version], [flags]): ([u8; 1], [u8; 1]) = (digits(version)?, digits(flags)?);
    // The version that is known has four parts; later ones may have more.
    if version == 0xff || version == 0 && parts.next().is_some() {
        return None;
    }
    let (trace, span) = (digits(trace)?, digits(span)?);
    (trace != [0; 16] && span != [0; 8]).then_some((trace, span, flags & 1 == 1))
}

/// Bytes of lower-case hexadecimal digits.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let good = text.len() == 2 * N && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut out = [0; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(good.then(|| &text[2 * i..2 * i + 2])?, 16).ok()?;
    }
    Some(out)
}

/// As digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"))
}

/// Every process decides alike: by the trace's last seven bytes, which are random.
fn chosen(trace: &[u8; 16], ratio: f64) -> bool {
    let low = trace[9..].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    (low as f64) < ratio * (1u64 << 56) as f64
}

/// An id that no other has. Never zero, which means none.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() || bytes == [0; N] {
        // Without randomness from the system an id is still no other's in this process.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        bytes[N - 8..].copy_from_slice(&now.max(1).to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_trace_goes_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (trace, span, sampled) = parent(good).unwrap();
        assert_eq!((hex(&trace), hex(&span), sampled), (good[3..35].to_string(), good[36..52].to_string(), true));
        assert!(!parent(&good.replace("-01", "-00")).unwrap().2);
        assert!(parent(&format!("cc{}-what-follows", &good[2..])).is_some());
        for bad in [
            "",
            "00",
            &good[..54],
            &good.to_uppercase(),
            &format!("{good}-x"),
            &good.replacen("00-", "ff-", 1),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &good.replace('f', "é"),
            &good.replace("4b", "+b"),
        ] {
            assert!(parent(bad).is_none(), "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.append("traceparent", good.parse().unwrap());
        headers.append("tracestate", "a=1".parse().unwrap());
        headers.append("tracestate", "b=2".parse().unwrap());
        let all = Sampling { ratio: 1.0, follow: true };
        let context = Context::of(&headers, all).unwrap();
        assert_eq!((context.trace, context.parent, context.state.as_str()), (trace, Some(span), "a=1,b=2"));
        headers.append("traceparent", good.parse().unwrap());
        assert_ne!(Context::of(&headers, all).unwrap().trace, trace);
    }

    #[test]
    fn as_many_are_kept_as_was_asked_for() {
        let kept = |ratio| (0..2000).filter(|_| chosen(&random(), ratio)).count();
        assert_eq!((kept(0.0), kept(1.0)), (0, 2000));
        assert!((300..700).contains(&kept(0.25)));
        let (mut headers, none) = (HeaderMap::new(), Sampling { ratio: 0.0, follow: true });
        assert!(Context::of(&headers, none).is_none());
        headers.append("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap());
        assert!(
            Context::of(&headers, none).is_some()
                && Context::of(&headers, Sampling { follow: false, ..none }).is_none()
        );
    }

    #[test]
    fn urls_that_cannot_be_used_are_refused() {
        let t = Traces::new("http://[::1]:4318/v1/traces?x=1").unwrap();
        assert_eq!((t.host.as_str(), t.port, t.path.as_str()), ("::1", 4318, "/v1/traces?x=1"));
        assert_eq!(Traces::new("http://collector").unwrap().port, 80);
        for bad in ["", "collector:4318", "/v1", "https://x", "grpc://x:1", "http://", "http://a b", "http://u:p@x/"] {
            assert!(Traces::new(bad).is_err(), "{bad}");
        }
        let mut t = Traces::new("http://x").unwrap();
        assert!(t.header("a b", "c").is_err() && !t.header("a", "sec\nret").unwrap_err().contains("sec"));
        t.header("authorization", "secret").unwrap();
        assert!(!format!("{t:?}").contains("secret"));
    }
}
