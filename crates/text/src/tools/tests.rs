//! Every syntax of the table: what it writes is read back, whatever the pieces.
use super::{
    literal::{GEMMA, Notation},
    pattern::{Hole, Piece, pieces},
    *,
};

pub(crate) fn tools() -> Vec<Tool> {
    let weather = json!({ "type": "object", "properties": {
        "location": { "type": "string" }, "days": { "type": "integer" }, "units": { "enum": ["c", "f"] },
        "more": { "type": "object" }, "any": {} }, "required": ["location"] });
    let nothing = json!({ "type": "object", "properties": {} });
    let tool = |name: &str, parameters| Tool { name: name.into(), parameters, strict: false };
    vec![tool("get_weather", weather), tool("now", nothing)]
}

fn fill(pattern: &'static str, value: impl Fn(Hole) -> String) -> String {
    let part = |piece: Piece| match piece {
        Piece::Text(text) => text.to_string(),
        Piece::Hole(hole) => value(hole),
    };
    pieces(pattern).into_iter().map(part).collect()
}

fn literal(value: &Value, n: &'static Notation) -> String {
    match value {
        Value::String(s) if n.bare_keys => format!("<|\"|>{s}<|\"|>"),
        Value::Bool(b) => n.words[usize::from(!b)].to_string(),
        Value::Null => n.words[2].to_string(),
        Value::Object(o) => {
            let key = |k: &str| if n.bare_keys { k.to_string() } else { json!(k).to_string() };
            let fields: Vec<String> = o.iter().map(|(k, v)| format!("{}:{}", key(k), literal(v, n))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|v| literal(v, n)).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// A call as the syntax has it.
pub(crate) fn write(syntax: &Syntax, i: usize, name: &str, arguments: &Value) -> String {
    let fixed = |hole: Hole| match hole {
        Hole::Name => name.to_string(),
        Hole::Arguments => arguments.to_string(),
        Hole::Count => i.to_string(),
        _ => "abcdefghi".to_string(),
    };
    let fields = arguments.as_object().unwrap();
    match syntax.call {
        Form::Json(all) => fill(all, fixed),
        Form::Elements { head, parameter, tail } => {
            let one = |(key, value): (&String, &Value)| {
                fill(parameter, |hole| match hole {
                    Hole::Key => key.clone(),
                    Hole::IsText => value.is_string().to_string(),
                    _ => value.as_str().map_or_else(|| value.to_string(), str::to_string),
                })
            };
            let all: String = fields.iter().map(one).collect();
            fill(head, fixed) + &all + tail
        }
        Form::Literals { head, tail, notation } => {
            let one = |(key, value): (&String, &Value)| format!("{key}{}{}", notation.gives, literal(value, notation));
            let mut all: Vec<(&String, &Value)> = fields.iter().collect();
            if notation.bare_keys {
                all.sort_by_key(|(key, _)| key.to_lowercase());
            }
            fill(head, fixed)
                + &all.into_iter().map(one).collect::<Vec<_>>().join(if notation.bare_keys { "," } else { ", " })
                + tail
        }
    }
}

pub(crate) type Calls = Vec<(String, Value)>;

fn read(syntax: &'static Syntax, text: &str, size: usize) -> (String, Calls) {
    let mut reader = CallReader::new(syntax, tools());
    let (mut said, mut parts) = (String::new(), Vec::new());
    let (whole, letters) = (text, text.chars().collect::<Vec<char>>());
    for piece in letters.chunks(size) {
        reader.push(&piece.iter().collect::<String>(), &mut said, &mut parts);
    }
    reader.finish(&mut said, &mut parts);
    let mut calls: Vec<(String, String)> = Vec::new();
    for part in parts {
        match part {
            CallPart::Begin { name } => calls.push((name, String::new())),
            CallPart::Arguments(text) => calls.last_mut().unwrap().1.push_str(&text),
        }
    }
    let json = |text: &str| {
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{} by {size}: {text} in {whole}: {e}", syntax.name))
    };
    (said, calls.into_iter().map(|(name, text)| (name, json(&text))).collect())
}

pub(crate) fn cases() -> Vec<Calls> {
    let call = |name: &str, arguments: Value| (name.to_string(), arguments);
    let weather = call("get_weather", json!({ "location": "Paris, \"FR\" {é}\n<b> 🦊", "days": 3, "units": "c" }));
    let nested =
        call("get_weather", json!({ "location": "", "more": { "a": [1, { "b": true }], "c": null }, "any": "x" }));
    vec![
        vec![weather.clone()],
        vec![call("now", json!({}))],
        vec![nested],
        vec![weather, call("now", json!({})), call("get_weather", json!({ "location": "  two  \nlines " }))],
    ]
}

#[test]
fn every_syntax_is_read_back_whatever_the_pieces() {
    for syntax in SYNTAXES {
        for calls in cases() {
            let all: Vec<String> = calls.iter().enumerate().map(|(i, (n, a))| write(syntax, i, n, a)).collect();
            let text = format!("{}{}{}", syntax.open, all.join(syntax.between), syntax.close);
            for size in [1, 2, 3, 5, 7, 16, 1000] {
                let (said, got) = read(syntax, &text, size);
                assert_eq!((said.as_str(), &got), ("", &calls), "{} by {size}: {text}", syntax.name);
            }
            if !syntax.bare() {
                let (said, got) = read(syntax, &format!("Let me see. < \n\n{text}"), 4);
                assert_eq!((said.as_str(), &got), ("Let me see. <", &calls), "{}: {text}", syntax.name);
            }
        }
    }
}

#[test]
fn what_is_no_call_is_text() {
    for syntax in SYNTAXES {
        let begun = format!("{}{}", syntax.open, syntax.head());
        let mark = syntax.trigger();
        for text in [
            "Just text, with { brackets } and <tags>.",
            " ",
            "",
            mark,
            &mark[..mark.len() - 1],
            &format!("{mark} !?"),
            &begun,
        ] {
            for size in [1, 3, 1000] {
                let (said, calls) = read(syntax, text, size);
                assert_eq!((said.trim_end(), calls.len()), (text.trim_end(), 0), "{} by {size}", syntax.name);
            }
        }
    }
}

#[test]
fn a_call_that_is_cut_off_keeps_what_came() {
    for syntax in SYNTAXES {
        let text = format!("{}{}", syntax.open, write(syntax, 0, "get_weather", &json!({ "location": "Paris" })));
        for cut in (0..text.len()).filter(|c| text.is_char_boundary(*c)) {
            let mut reader = CallReader::new(syntax, tools());
            let (mut said, mut parts) = (String::new(), Vec::new());
            reader.push(&text[..cut], &mut said, &mut parts);
            reader.finish(&mut said, &mut parts);
            let begun = parts.iter().filter(|p| matches!(p, CallPart::Begin { .. })).count();
            assert!(
                begun == 1 || begun == 0 && said.trim() == text[..cut].trim(),
                "{}: {:?}",
                syntax.name,
                &text[..cut]
            );
        }
    }
}

#[test]
fn notations_do_not_share_their_marks() {
    assert!(GEMMA.quotes[0].len() > 1);
    let names: std::collections::HashSet<&str> = SYNTAXES.iter().map(|s| s.name).collect();
    assert_eq!(names.len(), SYNTAXES.len());
}

#[test]
fn a_template_tells_its_syntax() {
    let of = |source: &str| Syntax::of(&ChatTemplate::new(source)).map(|(s, _)| s.name);
    let calls = |body: &str| {
        format!(
            "{{% if tools %}}{{{{ tools | tojson }}}} <tool_call> <arg_key> \"arguments\" {{% endif %}}{{% for m in messages %}}{{{{ m.content }}}}\
             {{% for c in m.tool_calls or [] %}}{body}{{% endfor %}}{{% endfor %}}"
        )
    };
    assert_eq!(of("{{ messages }}"), None);
    // Marks alone fit three; what the template writes decides.
    let hermes = "<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}\n</tool_call>";
    assert_eq!(of(&calls(hermes)), Some("hermes"));
    let glm = "<tool_call>{{ c.function.name }}\n{% for k, v in c.function.arguments.items() %}<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>\n{% endfor %}</tool_call>";
    assert_eq!(of(&calls(glm)), Some("glm"));
    assert_eq!(of("{{ tools }} <|tool_list_start|>"), Some("lfm2"));
    let mistral = |open: &str| {
        format!(
            "{open}{{\"name\": \"{{{{ c.function.name }}}}\", \"arguments\": {{{{ c.function.arguments | tojson }}}}}}]"
        )
    };
    assert_eq!(of(&calls(&mistral("[TOOL_CALLS] ["))), Some("mistral-spaced"));
    assert_eq!(of(&calls(&mistral("[TOOL_CALLS]["))), Some("mistral"));
    // How it takes earlier calls: JSON text where it joins texts, no content where it asks whether there is none.
    let turns = |source: &str| Syntax::of(&ChatTemplate::new(source)).map(|(_, t)| (t.no_content, t.text_arguments));
    let text = "<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ '' + c.function.arguments }}}\n</tool_call>";
    let asks =
        |source: &str| calls(source).replace("m.tool_calls or []", "(m.tool_calls or [] if m.content is none else [])");
    assert_eq!(turns(&calls(hermes)), Some((false, false)));
    assert_eq!(turns(&calls(text)), Some((false, true)));
    assert_eq!(turns(&asks(hermes)), Some((true, false)));
    assert_eq!(turns(&asks(text)), Some((true, true)));
    // Calls that are written in a way that nobody knows are not guessed.
    assert_eq!(of(&calls("<tool_call>{{ c.function.arguments.probe_key }} by {{ c.function.name }}")), None);
}
