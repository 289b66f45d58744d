//! `multipart/form-data` (RFC 7578) as it comes: a form is read in pieces of any size, and no more of it is held than a
//! delimiter and the headers of one part. Does not own: what fields mean.
use crate::error::{ApiError, Result};
use axum::http::{HeaderMap, StatusCode, header};

/// Most bytes of the headers of one part, and of what may stand before the first.
const HEADERS: usize = 8 << 10;
/// Most parts of a form.
const PARTS: usize = 16;
/// Most bytes of a boundary, by RFC 2046.
const BOUNDARY: usize = 70;

/// What a piece of a form brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A part begins.
    Part { name: String, filename: Option<String> },
    /// More of its content.
    Data(Vec<u8>),
}

/// A form under way.
pub struct Form {
    /// `\r\n--boundary`: what ends a part.
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    place: Place,
    parts: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Before,
    /// Behind a delimiter, whose line is yet to end.
    Delimited,
    Headers,
    Content,
    After,
}

fn wrong(what: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("the form is not as it should be: {what}"))
}

impl Form {
    /// The form that these headers announce.
    ///
    /// # Errors
    /// 400 where they announce none.
    pub fn new(headers: &HeaderMap) -> Result<Form> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let (kind, rest) = kind.split_once(';').unwrap_or((kind, ""));
        let boundary = parameter(rest, "boundary").filter(|b| !b.is_empty() && b.len() <= BOUNDARY);
        match boundary.filter(|_| kind.trim().eq_ignore_ascii_case("multipart/form-data")) {
            // The first delimiter may have nothing before it, not even the end of a line.
            Some(boundary) => Ok(Form {
                delimiter: format!("\r\n--{boundary}").into_bytes(),
                buffer: b"\r\n".to_vec(),
                place: Place::Before,
                parts: 0,
            }),
            None => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "expected a form: content-type multipart/form-data with its boundary",
            )),
        }
    }

    /// What comes of the next bytes.
    ///
    /// # Errors
    /// 400 for what is no form, or one with too many parts or too long headers.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        while self.advance(&mut events)? {}
        Ok(events)
    }

    /// Whether all of it has come.
    pub fn is_whole(&self) -> bool {
        self.place == Place::After
    }

    /// Takes what it can out of the buffer; whether more may follow from what is left.
    fn advance(&mut self, events: &mut Vec<Event>) -> Result<bool> {
        match self.place {
            Place::Before => match find(&self.buffer, &self.delimiter) {
                Some(at) => self.skip(at + self.delimiter.len(), Place::Delimited),
                None if self.buffer.len() > HEADERS => return Err(wrong("it does not begin with its boundary")),
                None => return Ok(false),
            },
            Place::Delimited => {
                if self.buffer.starts_with(b"--") {
                    self.skip(2, Place::After);
                    return Ok(true);
                }
                // White space may follow a boundary.
                let Some(at) = find(&self.buffer, b"\r\n") else {
                    return if self.buffer.len() > BOUNDARY {
                        Err(wrong("a boundary's line does not end"))
                    } else {
                        Ok(false)
                    };
                };
                if !self.buffer[..at].iter().all(|b| b" \t".contains(b)) {
                    return Err(wrong("text follows a boundary"));
                }
                self.parts += 1;
                if self.parts > PARTS {
                    return Err(wrong("it has too many parts"));
                }
                // The end of the line stays: headers may be none.
                self.skip(at, Place::Headers);
            }
            Place::Headers => match find(&self.buffer, b"\r\n\r\n") {
                Some(at) if at <= HEADERS => {
                    events.push(part(&self.buffer[..at])?);
                    self.skip(at + 4, Place::Content);
                }
                None if self.buffer.len() <= HEADERS => return Ok(false),
                _ => return Err(wrong("the headers of a part are too long")),
            },
            Place::Content => match find(&self.buffer, &self.delimiter) {
                Some(at) => {
                    let data: Vec<u8> = self.buffer.drain(..at).collect();
                    events.extend((!data.is_empty()).then_some(Event::Data(data)));
                    self.skip(self.delimiter.len(), Place::Delimited);
                }
                None => {
                    // The end may be the beginning of a delimiter.
                    let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
                    let data: Vec<u8> = self.buffer.drain(..sure).collect();
                    events.extend((!data.is_empty()).then_some(Event::Data(data)));
                    return Ok(false);
                }
            },
            // Nothing that follows means anything.
            Place::After => {
                self.buffer.clear();
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn skip(&mut self, n: usize, place: Place) {
        self.buffer.drain(..n);
        self.place = place;
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text.get(from..)?.iter().position(|b| *b == what[0]) {
        from += at;
        if text[from..].starts_with(what) {
            return Some(from);
        }
        from += 1;
    }
    None
}

fn part(headers: &[u8]) -> Result<Event> {
    let headers = std::str::from_utf8(headers).map_err(|_| wrong("the headers of a part are no text"))?;
    let mut lines = headers.split("\r\n").filter_map(|line| line.split_once(':'));
    let disposition = lines.find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
    let (kind, rest) = disposition.and_then(|(_, value)| value.split_once(';')).unwrap_or_default();
    match parameter(rest, "name").filter(|_| kind.trim().eq_ignore_ascii_case("form-data")) {
        Some(name) => Ok(Event::Part { name, filename: parameter(rest, "filename") }),
        None => Err(wrong("a part has no name")),
    }
}

/// The value of `name=value` or `name="value"` among parameters that `;` divides. Browsers write `"` in values as `%22`.
fn parameter(mut rest: &str, name: &str) -> Option<String> {
    loop {
        let (key, tail) = rest.split_once('=')?;
        let (value, after) = match tail.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.char_indices().scan(false, |escaped, (i, c)| {
                    let open = *escaped || c != '"';
                    *escaped = !*escaped && c == '\\';
                    Some((i, open))
                });
                let end = end.filter(|(_, open)| !open).map(|(i, _)| i).next()?;
                (quoted[..end].replace("\\\"", "\"").replace("%22", "\""), &quoted[end + 1..])
            }
            None => {
                let end = tail.find(';').unwrap_or(tail.len());
                (tail[..end].trim().to_string(), &tail[end..])
            }
        };
        if key.trim_matches([';', ' ', '\t']).eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &[u8] = b"--xy\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xy \r\n\
        content-type: application/jsonl\r\ncontent-disposition: form-data; name=file; filename=\"a\\\"; b.jsonl\"\r\n\r\n\
        one\r\n--x\r\n-\r\n\r\n--xy--\r\nnothing";

    fn form(kind: &str) -> Result<Form> {
        Form::new(&HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]))
    }

    /// Parts with their contents, from pieces of `n` bytes.
    fn read(bytes: &[u8], n: usize) -> Result<Vec<(String, Option<String>, String)>> {
        let mut form = form("multipart/form-data; boundary=xy")?;
        let mut parts = Vec::new();
        for piece in bytes.chunks(n) {
            for event in form.push(piece)? {
                match event {
                    Event::Part { name, filename } => parts.push((name, filename, String::new())),
                    Event::Data(data) => parts.last_mut().unwrap().2.push_str(std::str::from_utf8(&data).unwrap()),
                }
            }
            assert!(form.buffer.len() <= n + HEADERS);
        }
        if form.is_whole() { Ok(parts) } else { Err(wrong("cut")) }
    }

    #[test]
    fn a_form_is_the_same_in_pieces_of_any_size() {
        let want = vec![
            ("purpose".to_string(), None, "batch".to_string()),
            ("file".to_string(), Some("a\"; b.jsonl".to_string()), "one\r\n--x\r\n-\r\n".to_string()),
        ];
        for n in 1..=FORM.len() {
            assert_eq!(read(FORM, n).unwrap(), want, "{n}");
        }
        assert_eq!(read(&[b"before\r\n", FORM].concat(), 3).unwrap(), want);
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for cut in 0..FORM.len() - b"--\r\nnothing".len() {
            assert!(read(&FORM[..cut], 5).is_err(), "{cut}");
        }
        let head = "--xy\r\ncontent-disposition: form-data; name=a\r\n";
        for bad in [
            "--xz\r\n\r\n\r\n--xz--".to_string(),
            "--xyz\r\n\r\n\r\n--xy--".into(),
            "--xy\r\n\r\nno name\r\n--xy--".into(),
            "--xy\r\ncontent-disposition: attachment; name=a\r\n\r\n\r\n--xy--".into(),
            "x".repeat(HEADERS + 1),
            format!("{head}x: {}\r\n\r\n\r\n--xy--", "x".repeat(HEADERS)),
            format!("{head}\r\nx\r\n").repeat(PARTS + 1) + "--xy--",
        ] {
            assert!(read(bad.as_bytes(), 100).is_err(), "{bad}");
        }
        for bad in [
            "",
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/mixed; boundary=x",
        ] {
            assert!(form(bad).is_err(), "{bad}");
        }
        assert!(form(&format!("multipart/form-data; boundary={}", "x".repeat(BOUNDARY + 1))).is_err());
        assert!(form("Multipart/Form-Data; charset=utf-8; boundary=\"a b\"").is_ok());
    }
}
