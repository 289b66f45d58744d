//! Fields of a body that its type does not have: kept as far as it takes to refuse the first of them by name.
use crate::{
    error::{ApiError, Result},
    job::short,
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;
use std::fmt;

/// Most such fields that are looked at. A body of more is refused for what is there already, or for their number.
const MOST: usize = 256;

/// The fields in the order of the body. Reading ends at [`MOST`], so that a body of a hundred thousand costs little.
#[derive(Debug, Default)]
pub struct Rest {
    fields: Vec<(String, Value)>,
    more: bool,
}

impl Rest {
    /// Leaves out what may stand there without a meaning here.
    pub fn without(&mut self, names: &[&str]) {
        self.fields.retain(|(name, _)| !names.contains(&name.as_str()));
    }
}

impl<'de> Deserialize<'de> for Rest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Rest, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Rest;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("fields")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Rest, A::Error> {
                let mut rest = Rest::default();
                while rest.fields.len() < MOST {
                    match map.next_entry()? {
                        Some(field) => rest.fields.push(field),
                        None => return Ok(rest),
                    }
                }
                rest.more = map.next_key::<IgnoredAny>()?.is_some();
                Ok(rest)
            }
        }
        d.deserialize_map(Fields)
    }
}

/// Refuses by name: documented fields that are not honoured (`known`), and those that nobody knows.
///
/// # Errors
/// 400 with the first of them.
pub fn refuse(rest: &Rest, known: &[&str]) -> Result<()> {
    // Some clients send what they do not set as nothing.
    let nothing = |v: &Value| v.as_str() == Some("") || v.as_array().is_some_and(Vec::is_empty);
    let given = |(name, v): &&(String, Value)| !(v.is_null() || nothing(v) && known.contains(&name.as_str()));
    match rest.fields.iter().find(given) {
        None if rest.more => Err(ApiError::invalid(
            &short(&rest.fields[0].0),
            format!("one of more than {MOST} fields that are not known"),
        )),
        None => Ok(()),
        Some((name, _)) if known.contains(&name.as_str()) => {
            Err(ApiError::unsupported(name, "not supported by this server"))
        }
        Some((name, _)) => {
            Err(ApiError { code: Some("unknown_parameter"), ..ApiError::invalid(&short(name), "no such parameter") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Rest, refuse};
    use serde_json::{Map, Value, json};

    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(default)]
        a: u32,
        #[serde(flatten)]
        rest: Rest,
    }

    fn body(value: Value) -> Body {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_first_field_that_says_something_is_named() {
        assert!(refuse(&body(json!({ "a": 3, "b": null })).rest, &[]).is_ok());
        assert!(refuse(&body(json!({ "b": "", "c": [] })).rest, &["b", "c"]).is_ok());
        let text = br#"{"z": 1, "a": 4, "b": 2}"#;
        let read: Body = serde_json::from_slice(text).unwrap();
        assert_eq!(read.a, 4);
        assert!(refuse(&read.rest, &[]).unwrap_err().message.starts_with("z:"));
        let known = refuse(&body(json!({ "b": [1] })).rest, &["b"]).unwrap_err();
        assert!(known.message.contains("not supported"), "{}", known.message);
    }

    #[test]
    fn a_field_cannot_hide_behind_many_that_say_nothing() {
        let many: Map<String, Value> = (0..MOST).map(|i| (format!("f{i:03}"), Value::Null)).collect();
        assert!(refuse(&body(Value::Object(many.clone())).rest, &[]).is_ok());
        let mut more = many;
        more.insert("z".into(), json!(1));
        let error = refuse(&body(Value::Object(more)).rest, &[]).unwrap_err();
        assert!(error.message.contains("256"), "{}", error.message);
    }
}
