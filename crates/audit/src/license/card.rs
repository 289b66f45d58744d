//! Model cards: the YAML in front of a README, of which only what concerns licences, origins and uses is read.
//!
//! Owns that reading, event by event: nothing is expanded, nothing is kept that was not asked for, so that memory
//! follows the bytes whatever the anchors and aliases say.
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::collections::HashMap;

/// Longest front matter that is read.
pub const FRONT_MATTER_MAX: usize = 1 << 20;
/// Deepest nesting of a card.
const DEPTH_MAX: usize = 64;
/// Most values of one key.
const VALUES_MAX: usize = 1000;

/// What a card declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// `license`, one or several.
    pub license: Vec<String>,
    /// `license_name`.
    pub license_name: Option<String>,
    /// `license_link`.
    pub license_link: Option<String>,
    /// `base_model`, one or several.
    pub base_model: Vec<String>,
    /// `base_model_relation`: `quantized`, `adapter`, `merge` or `finetune`.
    pub relation: Option<String>,
    /// `datasets` that it was trained on.
    pub datasets: Vec<String>,
    /// `language`, one or several.
    pub language: Vec<String>,
    /// `tags`.
    pub tags: Vec<String>,
    /// `pipeline_tag`: the task.
    pub pipeline_tag: Option<String>,
    /// `library_name`.
    pub library_name: Option<String>,
    /// Why the rest of the front matter could not be read.
    pub trouble: Option<String>,
}

/// The YAML between the first two lines `---`, where a text begins with it.
pub fn front_matter(text: &str) -> Option<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_start_matches(['\r', '\n']);
    let rest = text.strip_prefix("---")?;
    let rest = rest.strip_prefix("\r\n").or_else(|| rest.trim_start_matches([' ', '\t']).strip_prefix('\n'))?;
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if matches!(line.trim_end(), "---" | "...") {
            return rest.get(..at).filter(|y| y.len() <= FRONT_MATTER_MAX);
        }
        at += line.len();
    }
    None
}

/// What the front matter `yaml` declares.
pub fn parse(yaml: &str) -> Card {
    let mut card = Card::default();
    let mut reader = Reader { parser: Parser::new_from_str(yaml), anchors: HashMap::new() };
    if let Err(e) = reader.document(&mut card) {
        card.trouble = Some(e);
    }
    card
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// Text of the scalars that have an anchor.
    anchors: HashMap<usize, String>,
}

/// A value as far as it matters.
enum Value {
    Text(String),
    Null,
    List(Vec<String>),
    Other,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.parser.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(e)) => Err(format!("not valid YAML: {}", e.info())),
            None => Ok(Event::StreamEnd),
        }
    }

    fn document(&mut self, card: &mut Card) -> Result<(), String> {
        loop {
            match self.next()? {
                Event::MappingStart(..) => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                _ => return Err("not a mapping of keys".into()),
            }
        }
        loop {
            let event = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(());
            }
            let key = self.value(event)?;
            let event = self.next()?;
            let value = self.value(event)?;
            let Value::Text(key) = key else { continue };
            let text = |value: &Value| match value {
                Value::Text(t) => Some(t.clone()),
                Value::List(l) => l.first().cloned(),
                _ => None,
            };
            let list = |value: Value| match value {
                Value::Text(t) => vec![t],
                Value::List(l) => l,
                _ => Vec::new(),
            };
            match &*key {
                "license" => card.license = list(value),
                "license_name" => card.license_name = text(&value),
                "license_link" => card.license_link = text(&value),
                "base_model" => card.base_model = list(value),
                "base_model_relation" => card.relation = text(&value),
                "datasets" => card.datasets = list(value),
                "language" => card.language = list(value),
                "tags" => card.tags = list(value),
                "pipeline_tag" => card.pipeline_tag = text(&value),
                "library_name" => card.library_name = text(&value),
                _ => {}
            }
        }
    }

    /// The value that begins with `event`; what is nested deeper than a list of texts is passed over.
    fn value(&mut self, event: Event<'a>) -> Result<Value, String> {
        match event {
            Event::Scalar(text, style, anchor, _) => Ok(self.scalar(&text, style, anchor)),
            Event::Alias(anchor) => Ok(self.anchors.get(&anchor).map_or(Value::Other, |t| Value::Text(t.clone()))),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Ok(Value::List(items)),
                        Event::StreamEnd => return Err("ends early".into()),
                        e @ (Event::SequenceStart(..) | Event::MappingStart(..)) => self.skip(e)?,
                        e => {
                            if let Value::Text(t) = self.value(e)?
                                && items.len() < VALUES_MAX
                            {
                                items.push(t);
                            }
                        }
                    }
                }
            }
            Event::MappingStart(..) => self.skip(event).map(|()| Value::Other),
            _ => Ok(Value::Other),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize) -> Value {
        if style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Value::Null;
        }
        let text = text.trim();
        if anchor != 0 && self.anchors.len() < VALUES_MAX && text.len() < 1000 {
            self.anchors.insert(anchor, text.to_string());
        }
        if text.is_empty() { Value::Null } else { Value::Text(text.to_string()) }
    }

    /// Passes over a list or mapping that has begun.
    fn skip(&mut self, _begun: Event<'a>) -> Result<(), String> {
        let mut depth = 1usize;
        while depth > 0 {
            match self.next()? {
                Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
                Event::SequenceEnd | Event::MappingEnd => depth -= 1,
                Event::StreamEnd => return Err("ends early".into()),
                _ => {}
            }
            if depth > DEPTH_MAX {
                return Err(format!("nested deeper than {DEPTH_MAX}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Card {
        parse(front_matter(&format!("---\n{yaml}\n---\n# Card\nlicense: nothing")).unwrap())
    }

    #[test]
    fn every_spelling_of_a_licence() {
        let cases: &[(&str, &[&str])] = &[
            ("license: mit", &["mit"]),
            ("license: 'llama3.2'", &["llama3.2"]),
            ("license: \"mit\" # yes", &["mit"]),
            ("license: [mit, apache-2.0]", &["mit", "apache-2.0"]),
            ("license:\n- mit\n- apache-2.0\nlanguage: en", &["mit", "apache-2.0"]),
            ("license: null", &[]),
            ("license: ~", &[]),
            ("license:", &[]),
            ("license: []", &[]),
            ("tags:\n- license: mit", &[]),
            ("a: &x mit\nlicense: *x", &["mit"]),
            ("model-index:\n- {name: x, results: [{license: z}]}\nlicense: >-\n  mit", &["mit"]),
        ];
        for (yaml, want) in cases {
            let card = read(yaml);
            assert_eq!(
                (&card.license[..], &card.trouble),
                (&want.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..], &None),
                "{yaml}"
            );
        }
    }

    #[test]
    fn origins_are_read() {
        let card = read(
            "base_model:\n  - a/b\n  - c/d\nbase_model_relation: merge\nlicense: other\nlicense_name: x\nlicense_link: LICENSE",
        );
        assert_eq!(card.base_model, ["a/b", "c/d"]);
        assert_eq!((card.relation.as_deref(), card.license_name.as_deref()), (Some("merge"), Some("x")));
        let card = read("datasets: [a/b, c]\nlanguage: en\npipeline_tag: text-generation\ntags:\n- x\n- y: z");
        assert_eq!((&card.datasets[..], &card.language[..]), (&["a/b".into(), "c".into()][..], &["en".into()][..]));
        assert_eq!((card.pipeline_tag.as_deref(), card.tags), (Some("text-generation"), vec!["x".to_string()]));
    }

    #[test]
    fn broken_and_hostile_front_matter_is_an_answer() {
        assert_eq!(front_matter("# no\n---\n"), None);
        assert_eq!(front_matter("---\nlicense: mit\n"), None);
        assert!(read("license: [mit").trouble.is_some());
        assert!(read("- mit").trouble.is_some());
        assert!(read(&format!("x: {}", "[".repeat(5000))).trouble.is_some());
        let mut bomb = String::from("a: &a [x, x]\n");
        for i in 0..60 {
            bomb += &format!("b{i}: &b{i} [*a, *a, *a]\n");
        }
        assert_eq!(read(&format!("{bomb}license: mit")).license, ["mit"]);
        assert_eq!(front_matter("\u{feff}---\r\nlicense: mit\r\n---\r\n").map(parse).unwrap().license, ["mit"]);
    }
}
