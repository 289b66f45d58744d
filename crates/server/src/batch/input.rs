//! The lines of a batch: where they are, and whether they are what they should be. A file is read once as a whole; then each
//! line for itself, so that none of it is held.
use crate::{error::Result, job::short, options::Limits, route::batched, store::LineError};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

/// Most lines, as the API documents.
pub const LINES: usize = 50_000;
/// Most bytes of a `custom_id`.
const ID_BYTES: usize = 512;
/// Most errors that are listed.
const ERRORS: usize = 100;

/// A line's request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    pub custom_id: String,
    method: String,
    url: String,
    pub body: Box<RawValue>,
}

/// Where a line is.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: u64,
    bytes: usize,
}

/// A file whose lines are known.
#[derive(Default)]
pub struct Input {
    pub lines: Vec<Span>,
    /// The line of each `custom_id`.
    pub ids: HashMap<String, usize>,
    pub errors: Vec<LineError>,
}

fn error(line: Option<u64>, code: &str, param: Option<&str>, message: impl Into<String>) -> LineError {
    LineError { code: code.into(), line, message: message.into(), param: param.map(String::from) }
}

/// Looks at every line of a file.
///
/// # Errors
/// What the disk says; what is wrong with lines is listed.
pub fn scan(path: &Path, endpoint: &str, limits: &Limits) -> io::Result<Input> {
    let mut reader = BufReader::with_capacity(256 << 10, File::open(path)?);
    let mut input = Input::default();
    let (mut start, mut text) = (0, Vec::new());
    for number in 1u64.. {
        text.clear();
        // One byte more than a line may have tells that it has too many.
        let n = (&mut reader).take(limits.body_bytes as u64 + 1).read_until(b'\n', &mut text)?;
        if n == 0 {
            break;
        }
        let said = match n > limits.body_bytes {
            true => {
                let message = format!("the line is longer than {} bytes", limits.body_bytes);
                input.errors.push(error(Some(number), "line_too_long", None, message));
                break;
            }
            false if text.trim_ascii().is_empty() => None,
            false => Some(check(&text, endpoint)),
        };
        match said {
            None => {}
            Some(Err((code, param, message))) => input.errors.push(error(Some(number), code, param, message)),
            Some(Ok(id)) => {
                if let Some(first) = input.ids.insert(id, input.lines.len()) {
                    let message = format!("the custom_id is also that of request {}", first + 1);
                    input.errors.push(error(Some(number), "duplicate_custom_id", Some("custom_id"), message));
                }
                input.lines.push(Span { start, bytes: n });
            }
        }
        if input.lines.len() > LINES {
            input.errors.push(error(None, "too_many_requests", None, format!("expected at most {LINES} requests")));
        }
        if input.errors.len() >= ERRORS || input.lines.len() > LINES {
            break;
        }
        start += n as u64;
    }
    if input.lines.is_empty() && input.errors.is_empty() {
        input.errors.push(error(None, "empty_file", None, "the file holds no request"));
    }
    Ok(input)
}

type Wrong = (&'static str, Option<&'static str>, String);

/// The `custom_id` of a line that can be asked.
fn check(text: &[u8], endpoint: &str) -> std::result::Result<String, Wrong> {
    let line: Line = serde_json::from_slice(text).map_err(|e| {
        let code = if e.is_data() { "invalid_request" } else { "invalid_json_line" };
        (code, None, format!("expected an object of custom_id, method, url and body: {e}"))
    })?;
    let wrong = |code, param, message: &str| Err((code, Some(param), message.to_string()));
    if line.custom_id.is_empty() || line.custom_id.len() > ID_BYTES {
        return wrong("invalid_custom_id", "custom_id", &format!("expected 1 to {ID_BYTES} bytes"));
    }
    if line.method != "POST" {
        return wrong("invalid_method", "method", &format!("expected \"POST\", got {:?}", short(&line.method)));
    }
    if line.url != endpoint {
        return wrong("mismatched_url", "url", &format!("expected {endpoint:?}, got {:?}", short(&line.url)));
    }
    if !line.body.get().starts_with('{') {
        return wrong("invalid_body", "body", "expected an object");
    }
    #[derive(Deserialize)]
    struct Streams {
        stream: Option<Value>,
    }
    // What else may be wrong with it, the endpoint says.
    let streams = serde_json::from_str::<Streams>(line.body.get()).ok().and_then(|b| b.stream);
    if streams == Some(Value::Bool(true)) {
        return wrong("stream_not_supported", "body.stream", "the answers of a batch come whole");
    }
    Ok(line.custom_id)
}

/// A line, again.
pub fn read(path: &Path, span: Span) -> io::Result<Line> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(span.start))?;
    let mut text = vec![0; span.bytes];
    file.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// An endpoint that batches may have.
///
/// # Errors
/// 400 for any other.
pub fn endpoint(path: &str) -> Result<()> {
    batched(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_checked_one_by_one() {
        let ok = r#"{"custom_id": "a", "method": "POST", "url": "/u", "body": {"x": 1}}"#;
        assert_eq!(check(ok.as_bytes(), "/u").unwrap(), "a");
        assert_eq!(check(format!("{ok}\r\n").as_bytes(), "/u").unwrap(), "a");
        for (bad, code) in [
            ("{".to_string(), "invalid_json_line"),
            (format!("{ok}{ok}"), "invalid_json_line"),
            ("[]".into(), "invalid_request"),
            (ok.replace("custom_id", "id"), "invalid_request"),
            (ok.replace("\"a\"", "1"), "invalid_request"),
            (ok.replace("\"a\"", "\"\""), "invalid_custom_id"),
            (ok.replace("\"a\"", &format!("{:?}", "x".repeat(513))), "invalid_custom_id"),
            (ok.replace("POST", "GET"), "invalid_method"),
            (ok.replace("/u", "/v"), "mismatched_url"),
            (ok.replace("{\"x\": 1}", "[1]"), "invalid_body"),
            (ok.replace("\"x\": 1", "\"stream\": true"), "stream_not_supported"),
        ] {
            assert_eq!(check(bad.as_bytes(), "/u").unwrap_err().0, code, "{bad}");
        }
    }
}
