//! The page for browsers: the built files of `web/`, which are part of the program. Whoever does not ask for HTML gets the
//! line that tells that somebody is here.
use crate::{
    error::{ApiError, Result},
    route::Call,
};
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

/// What the page may do: nothing but talk to the server that it came from. `web/csp.ts` has the same for its tests.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A file of the page.
struct File {
    path: &'static str,
    kind: &'static str,
    /// The beginning of its SHA-256.
    tag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

const FILES: &[File] = include!("../../../web/dist/page.rs");

/// The page for a browser; for others what some clients look for before they speak.
pub async fn root(call: Call) -> Result<Response> {
    let html = call.headers.get_all(header::ACCEPT).iter().any(|v| v.to_str().is_ok_and(|v| v.contains("text/html")));
    let mut response = match html {
        true => file("/index.html", &call.headers)?,
        false => {
            let mut line = Response::new(Body::from("pondera is running\n"));
            line.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            line
        }
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// What the page loads. The names hold a hash of what is in them.
pub async fn asset(call: Call) -> Result<Response> {
    file(&format!("/assets/{}", call.rest), &call.headers)
}

fn file(path: &str, asked: &HeaderMap) -> Result<Response> {
    let file = FILES.iter().find(|f| f.path == path);
    let file = file.ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "there is no such path").code("not_found"))?;
    let packed = takes_gzip(asked);
    let tag = format!("\"{}{}\"", file.tag, if packed { "-gzip" } else { "" });
    let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let known = known.flat_map(|v| v.split(',')).any(|v| v.trim().trim_start_matches("W/") == tag);
    let body = match (known, packed) {
        (true, _) => Body::empty(),
        (false, true) => Body::from(Bytes::from_static(file.gzip)),
        (false, false) => Body::from(Bytes::from_static(file.plain)),
    };
    let mut response = Response::new(body);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let cached = if path.starts_with("/assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, cached),
        (header::VARY, "accept-encoding"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    if !known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
        if packed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    Ok(response)
}

/// Whether `Accept-Encoding` has gzip, and not with a weight of nothing.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let lists = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    lists.flat_map(|v| v.split(',')).any(|item| {
        let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|q| q > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let takes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
            takes_gzip(&headers)
        };
        assert!(takes("gzip") && takes("deflate, GZIP;q=0.5, br"));
        assert!(!takes("") && !takes("br") && !takes("gzip;q=0") && !takes("identity, xgzip"));
    }

    #[test]
    fn every_file_of_the_page_is_there() {
        let html = FILES.iter().find(|f| f.path == "/index.html").unwrap();
        let text = std::str::from_utf8(html.plain).unwrap();
        let named: Vec<&str> = text.split("=\"./").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(named.len() >= 3, "{named:?}");
        for name in named {
            assert!(FILES.iter().any(|f| f.path.trim_start_matches('/') == name), "{name}");
        }
        assert!(file("/assets/none.js", &HeaderMap::new()).is_err());
    }
}
