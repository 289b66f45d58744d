//! Spans as the OpenTelemetry protocol writes them (opentelemetry-proto 1.x, `trace/v1/trace.proto`): one tree, spelled as
//! Protobuf or as JSON. Does not own: what a span says (`access.rs`), how it travels (`export.rs`).
use super::Resource;
use std::fmt::Write;

/// What an attribute says.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    Text(String),
    Int(i64),
    Float(f64),
    Texts(Vec<String>),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Attribute {
        Attribute::Text(text.into())
    }
}

impl From<usize> for Attribute {
    fn from(n: usize) -> Attribute {
        Attribute::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Attribute {
    fn from(x: f64) -> Attribute {
        Attribute::Float(x)
    }
}

/// What a span is of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A part of what the server does.
    Internal = 1,
    /// A request.
    Server = 2,
}

/// Work with a beginning and an end, in nanoseconds since 1970.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: [u8; 16],
    pub id: [u8; 8],
    pub parent: Option<[u8; 8]>,
    /// Whether the parent is another process's.
    pub remote: bool,
    /// `tracestate`, as it came.
    pub state: String,
    pub name: String,
    pub kind: Kind,
    pub start_ns: u64,
    pub end_ns: u64,
    pub attributes: Vec<(&'static str, Attribute)>,
    pub failed: bool,
}

/// How a body is spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `http/protobuf`: what every collector reads.
    #[default]
    Protobuf,
    /// `http/json`.
    Json,
}

impl Encoding {
    /// Of the body.
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }

    /// A body with all of `spans`.
    pub fn request(self, resource: &Resource, spans: &[Span]) -> Vec<u8> {
        let tree = request(resource, spans);
        match self {
            Encoding::Protobuf => {
                let mut out = Vec::new();
                tree.iter().for_each(|field| field.protobuf(&mut out));
                out
            }
            Encoding::Json => {
                let mut out = String::new();
                json(&tree, &mut out);
                out.into_bytes()
            }
        }
    }

    /// How many spans the collector did not take, by its answer.
    pub fn rejected(self, answer: &[u8]) -> u64 {
        match self {
            Encoding::Json => {
                let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
                let n = &answer["partialSuccess"]["rejectedSpans"];
                n.as_u64().or_else(|| n.as_str()?.parse().ok()).unwrap_or(0)
            }
            // partial_success = 1 { rejected_spans = 1 }
            Encoding::Protobuf => field(answer, 0x0a)
                .and_then(|(n, rest)| rest.get(..usize::try_from(n).ok()?))
                .and_then(|inner| field(inner, 0x08))
                .map_or(0, |(n, _)| n),
        }
    }
}

/// The number behind a message's first tag, if it is `tag`, and what follows it.
fn field(bytes: &[u8], tag: u8) -> Option<(u64, &[u8])> {
    let mut rest = bytes.strip_prefix(&[tag])?;
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        n |= u64::from(byte & 0x7f) << shift;
        rest = after;
        if *byte < 0x80 {
            return Some((n, rest));
        }
    }
    None
}

/// A field of a message: its number, its name in JSON, what it holds.
struct Field<'a>(u32, &'static str, Value<'a>);

enum Value<'a> {
    Text(&'a str),
    /// Bytes; hexadecimal digits in JSON, as this protocol alone has it.
    Id(&'a [u8]),
    /// `int64`, a text in JSON.
    Int(i64),
    /// `fixed64`, a text in JSON.
    Moment(u64),
    /// `fixed32`.
    Flags(u32),
    Enum(u32),
    Float(f64),
    Message(Vec<Field<'a>>),
    Messages(Vec<Vec<Field<'a>>>),
}

/// `ExportTraceServiceRequest`.
fn request<'a>(resource: &'a Resource, spans: &'a [Span]) -> Vec<Field<'a>> {
    let attributes = resource.iter().map(|(name, value)| {
        vec![
            Field(1, "key", Value::Text(name)),
            Field(2, "value", Value::Message(vec![Field(1, "stringValue", Value::Text(value))])),
        ]
    });
    let scope =
        vec![Field(1, "name", Value::Text("pondera")), Field(2, "version", Value::Text(env!("CARGO_PKG_VERSION")))];
    let of_scope = vec![
        Field(1, "scope", Value::Message(scope)),
        Field(2, "spans", Value::Messages(spans.iter().map(span).collect())),
    ];
    let of_resource = vec![
        Field(1, "resource", Value::Message(vec![Field(1, "attributes", Value::Messages(attributes.collect()))])),
        Field(2, "scopeSpans", Value::Messages(vec![of_scope])),
    ];
    vec![Field(1, "resourceSpans", Value::Messages(vec![of_resource]))]
}

fn span(s: &Span) -> Vec<Field<'_>> {
    // The low byte: sampled. Above it: whether it is known that the parent is remote, and whether it is.
    let flags = 1 | 0x100 | if s.remote { 0x200 } else { 0 };
    let mut fields = vec![Field(1, "traceId", Value::Id(&s.trace)), Field(2, "spanId", Value::Id(&s.id))];
    if !s.state.is_empty() {
        fields.push(Field(3, "traceState", Value::Text(&s.state)));
    }
    fields.extend(s.parent.as_ref().map(|id| Field(4, "parentSpanId", Value::Id(id))));
    fields.extend([
        Field(5, "name", Value::Text(&s.name)),
        Field(6, "kind", Value::Enum(s.kind as u32)),
        Field(7, "startTimeUnixNano", Value::Moment(s.start_ns)),
        Field(8, "endTimeUnixNano", Value::Moment(s.end_ns)),
        Field(9, "attributes", Value::Messages(s.attributes.iter().map(attribute).collect())),
    ]);
    if s.failed {
        fields.push(Field(15, "status", Value::Message(vec![Field(3, "code", Value::Enum(2))])));
    }
    fields.push(Field(16, "flags", Value::Flags(flags)));
    fields
}

fn attribute<'a>((name, value): &'a (&'static str, Attribute)) -> Vec<Field<'a>> {
    let text = |text: &'a String| Field(1, "stringValue", Value::Text(text));
    let value = match value {
        Attribute::Text(value) => text(value),
        Attribute::Int(n) => Field(3, "intValue", Value::Int(*n)),
        Attribute::Float(x) => Field(4, "doubleValue", Value::Float(*x)),
        Attribute::Texts(list) => {
            let values = list.iter().map(|value| vec![text(value)]).collect();
            Field(5, "arrayValue", Value::Message(vec![Field(1, "values", Value::Messages(values))]))
        }
    };
    vec![Field(1, "key", Value::Text(name)), Field(2, "value", Value::Message(vec![value]))]
}

/// Wire types of Protobuf.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

impl Field<'_> {
    fn protobuf(&self, out: &mut Vec<u8>) {
        let mut tag = |kind: u32| varint(u64::from(self.0 << 3 | kind), out);
        match &self.2 {
            Value::Text(text) => bytes(self.0, text.as_bytes(), out),
            Value::Id(id) => bytes(self.0, id, out),
            Value::Int(n) => {
                tag(VARINT);
                varint(*n as u64, out);
            }
            Value::Enum(n) => {
                tag(VARINT);
                varint(u64::from(*n), out);
            }
            Value::Moment(ns) => {
                tag(FIXED64);
                out.extend(ns.to_le_bytes());
            }
            Value::Float(x) => {
                tag(FIXED64);
                out.extend(x.to_le_bytes());
            }
            Value::Flags(flags) => {
                tag(FIXED32);
                out.extend(flags.to_le_bytes());
            }
            Value::Message(fields) => message(self.0, fields, out),
            Value::Messages(list) => list.iter().for_each(|fields| message(self.0, fields, out)),
        }
    }
}

fn message(number: u32, fields: &[Field<'_>], out: &mut Vec<u8>) {
    let mut inner = Vec::new();
    fields.iter().for_each(|field| field.protobuf(&mut inner));
    bytes(number, &inner, out);
}

fn bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number << 3 | BYTES), out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn json(fields: &[Field<'_>], out: &mut String) {
    out.push('{');
    for (i, Field(_, name, value)) in fields.iter().enumerate() {
        let _ = write!(out, "{}\"{name}\":", if i > 0 { "," } else { "" });
        match value {
            Value::Text(text) => {
                let _ = write!(out, "{}", serde_json::Value::from(*text));
            }
            Value::Id(id) => {
                let _ = write!(out, "\"{}\"", super::hex(id));
            }
            Value::Int(n) => {
                let _ = write!(out, "\"{n}\"");
            }
            Value::Moment(ns) => {
                let _ = write!(out, "\"{ns}\"");
            }
            Value::Flags(n) | Value::Enum(n) => {
                let _ = write!(out, "{n}");
            }
            Value::Float(x) => {
                // What is no finite number is null in JSON, and says nothing.
                let _ = write!(out, "{}", serde_json::Value::from(*x));
            }
            Value::Message(fields) => json(fields, out),
            Value::Messages(list) => {
                out.push('[');
                for (i, fields) in list.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    json(fields, out);
                }
                out.push(']');
            }
        }
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Span {
        Span {
            trace: [0xab; 16],
            id: [1; 8],
            parent: Some([2; 8]),
            remote: true,
            state: "a=b".into(),
            name: "POST /x".into(),
            kind: Kind::Server,
            start_ns: 1 << 60,
            end_ns: (1 << 60) + 5,
            attributes: vec![
                ("t", "é\"".into()),
                ("n", 300usize.into()),
                ("x", 0.5.into()),
                ("l", Attribute::Texts(vec!["stop".into(), "length".into()])),
            ],
            failed: true,
        }
    }

    #[test]
    fn json_is_as_the_protocol_spells_it() {
        let body = Encoding::Json.request(&vec![("service.name".into(), "s".into())], &[one()]);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let resource = &body["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "s");
        let span = &resource["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "ab".repeat(16));
        assert_eq!((&span["parentSpanId"], &span["traceState"]), (&"02".repeat(8).into(), &"a=b".into()));
        assert_eq!((&span["kind"], &span["flags"], &span["status"]["code"]), (&2.into(), &0x301.into(), &2.into()));
        assert_eq!(span["startTimeUnixNano"], (1u64 << 60).to_string());
        let values: Vec<_> = span["attributes"].as_array().unwrap().iter().map(|a| a["value"].clone()).collect();
        assert_eq!(values[0]["stringValue"], "é\"");
        assert_eq!((&values[1]["intValue"], &values[2]["doubleValue"]), (&"300".into(), &0.5.into()));
        assert_eq!(values[3]["arrayValue"]["values"][1]["stringValue"], "length");
    }

    #[test]
    fn protobuf_is_as_the_protocol_spells_it() {
        // As the protocol's own bindings for Python write the same message.
        let body = Encoding::Protobuf.request(&vec![("service.name".into(), "s".into())], &[one()]);
        assert_eq!(super::super::hex(&body), include_str!("span.hex").trim());
    }

    #[test]
    fn answers_say_what_was_not_taken() {
        assert_eq!(Encoding::Json.rejected(br#"{"partialSuccess":{"rejectedSpans":"3"}}"#), 3);
        assert_eq!(Encoding::Json.rejected(br#"{"partialSuccess":{"rejectedSpans":4}}"#), 4);
        assert_eq!(Encoding::Protobuf.rejected(&[0x0a, 0x03, 0x08, 0xac, 0x02]), 300);
        for nothing in [&b""[..], b"{}", b"nonsense", &[0x0a], &[0x0a, 0xff], &[0x0a, 0x02, 0x08, 0xff], &[0x0a, 0x00]]
        {
            assert_eq!((Encoding::Json.rejected(nothing), Encoding::Protobuf.rejected(nothing)), (0, 0), "{nothing:?}");
        }
    }
}
