//! Grammars against the syntaxes: what a family writes fits, and what must not be written does not; whether the marks are
//! special tokens or letters.
use super::*;
use crate::{
    Compiler, EncodeOptions, Guide,
    tools::{
        SYNTAXES, Tool,
        tests::{cases, tools, write},
    },
};
use serde_json::json;

/// Bytes, one token each, and these beside.
fn tokenizer(specials: &[&str]) -> Tokenizer {
    let letter = |b: u32| {
        let printable = (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
        let before = (0..b).filter(|x| !((33..=126).contains(x) || (161..=172).contains(x) || (174..=255).contains(x)));
        char::from_u32(if printable { b } else { 256 + before.count() as u32 }).unwrap()
    };
    let vocab: serde_json::Map<String, Value> = (0..256).map(|b| (letter(b).to_string(), b.into())).collect();
    let added: Vec<Value> = std::iter::once(&"<eos>")
        .chain(&["<other-end>"])
        .chain(specials)
        .enumerate()
        .map(|(i, text)| {
            json!({ "id": 256 + i, "content": text, "special": true, "normalized": false, "lstrip": false,
                "rstrip": false, "single_word": false })
        })
        .collect();
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let file = json!({
        "version": "1.0", "added_tokens": added, "normalizer": null, "pre_tokenizer": level, "decoder": level,
        "post_processor": null, "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    Tokenizer::from_tokenizer_json(&file.to_string()).unwrap()
}

const SPECIALS: [&str; 24] = [
    "<think>",
    "</think>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "｜DSML｜",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<|tool_call|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "]<]minimax[>[",
    "<|tool_call_start|>",
];

struct Check {
    tokenizer: Tokenizer,
    compiler: Compiler,
}

impl Check {
    fn new(specials: &[&str]) -> Check {
        let tokenizer = tokenizer(specials);
        let width = tokenizer.vocab_size();
        let compiler = Compiler::ending(&tokenizer, width, &[256, 257]).unwrap();
        Check { tokenizer, compiler }
    }

    fn style(&self, calls: Option<Calls>, marks: Option<&'static Marks>) -> Style {
        Style { marks, calls, turns: Turns::default(), thoughts: [].into(), all: [].into() }
    }

    fn grammar(&self, style: &Style, wanted: &Wanted, opened: bool) -> crate::Grammar {
        self.compiler.answer(style, wanted, opened).unwrap_or_else(|e| panic!("{style:?} {e}")).unwrap()
    }

    /// Where `text` leaves the grammar; none if it can be an answer.
    fn leaves(&self, grammar: &crate::Grammar, text: &str) -> Option<usize> {
        let mut guide: Guide = grammar.begin();
        let ids =
            self.tokenizer.encode(text, &EncodeOptions { add_special: false, parse_special: true, add_eos: false });
        let allowed = |guide: &mut Guide, id: u32| {
            let bits = guide.allowed().unwrap();
            bits[id as usize / 32] >> (id % 32) & 1 == 1
        };
        for (i, id) in ids.unwrap().into_iter().enumerate() {
            if !allowed(&mut guide, id) {
                return Some(i);
            }
            if guide.accept(id).unwrap() {
                // Nothing can follow.
                return (i + 1
                    != self
                        .tokenizer
                        .encode(text, &EncodeOptions { add_special: false, parse_special: true, add_eos: false })
                        .unwrap()
                        .len())
                .then_some(i + 1);
            }
        }
        let (one, other) = (allowed(&mut guide, 256), allowed(&mut guide, 257));
        assert_eq!(one, other, "any end or none");
        (!one).then_some(usize::MAX)
    }
}

fn wanted(must_call: bool, one_call: bool) -> Wanted {
    Wanted { text: None, tools: tools(), must_call, one_call }
}

/// As a grammar has them: in the schema's order.
fn ordered(mut calls: Vec<(String, Value)>) -> Vec<(String, Value)> {
    for (name, arguments) in &mut calls {
        let all = tools();
        let schema = &all.iter().find(|t| t.name == *name).unwrap().parameters["properties"];
        let given = arguments.as_object().unwrap();
        *arguments =
            schema.as_object().unwrap().keys().filter_map(|k| Some((k.clone(), given.get(k)?.clone()))).collect();
    }
    calls
}

#[test]
fn what_a_family_writes_fits_and_what_it_must_not_does_not() {
    for check in [Check::new(&SPECIALS), Check::new(&[])] {
        for syntax in SYNTAXES {
            let style = check.style(Some(Calls::Syntax(syntax)), None);
            let (auto, must) = (
                check.grammar(&style, &wanted(false, false), false),
                check.grammar(&style, &wanted(true, true), false),
            );
            for calls in cases().into_iter().map(ordered) {
                let all: Vec<String> = calls.iter().enumerate().map(|(i, (n, a))| write(syntax, i, n, a)).collect();
                let text = format!("{}{}{}", syntax.open, all.join(syntax.between), syntax.close);
                assert_eq!(check.leaves(&auto, &text), None, "{}: {text}", syntax.name);
                let whole = (calls.len() == 1).then_some(());
                assert_eq!(check.leaves(&must, &text).map_or(Some(()), |_| None), whole, "{}: {text}", syntax.name);
                if !syntax.bare() {
                    let said = format!("I look.\n\n{text}");
                    assert_eq!(check.leaves(&auto, &said), None, "{}: {said}", syntax.name);
                    assert!(check.leaves(&must, &said).is_some(), "{}: {said}", syntax.name);
                }
                let cut = &text[..text.len() - 1];
                assert!(check.leaves(&auto, cut).is_some() || syntax.bare(), "{}: {cut}", syntax.name);
            }
            assert_eq!(check.leaves(&auto, "Just text. It < is { fine."), None, "{}", syntax.name);
            assert!(check.leaves(&must, "Just text.").is_some(), "{}", syntax.name);
            for (name, arguments) in [
                ("nobody", json!({})),
                ("get_weather", json!({ "location": "x", "units": "kelvin" })),
                ("get_weather", json!({ "location": "x", "days": "three" })),
                ("get_weather", json!({ "days": 3 })),
                ("now", json!({ "x": 1 })),
            ] {
                let text = format!("{}{}{}", syntax.open, write(syntax, 0, name, &arguments), syntax.close);
                let objects_are_open =
                    arguments == json!({ "x": 1 }) && matches!(syntax.call, crate::tools::Form::Json(_));
                assert!(check.leaves(&must, &text).is_some() || objects_are_open, "{}: {text}", syntax.name);
            }
        }
    }
}

#[test]
fn thoughts_come_before_what_is_wanted() {
    let marks = Marks::of("<think>").unwrap();
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] });
    for check in [Check::new(&SPECIALS), Check::new(&[])] {
        let hermes = SYNTAXES.iter().copied().find(|s| s.name == "hermes").map(Calls::Syntax);
        let style = check.style(hermes, Some(marks));
        let json_only = Wanted { text: Some(schema.clone()), ..Wanted::default() };
        let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
        for (wanted, opened, text, fits) in [
            (json_only.clone(), false, "<think>\nwell\n</think>\n\n{\"a\": 1}", true),
            (json_only.clone(), false, "{\"a\": 1}", true),
            (json_only.clone(), true, "well {\n</think>\n\n{\"a\": 1}", true),
            (json_only.clone(), true, "{\"a\": 1}", false),
            (json_only, false, "Yes", false),
            (wanted(true, false), true, &format!("hm</think>\n{call}"), true),
            (wanted(true, false), false, &format!("<think>a <tool_call> is</think>\n{call}\n{call}"), true),
            (wanted(false, false), false, "<think>a <tool_call> is</think>Yes.", true),
            (wanted(false, false), true, "hm </think>", true),
            (Wanted { text: Some(schema.clone()), ..wanted(false, false) }, false, "{\"a\": 1}", true),
            (Wanted { text: Some(schema.clone()), ..wanted(false, false) }, false, call, true),
            (Wanted { text: Some(schema.clone()), ..wanted(false, false) }, false, "text", false),
        ] {
            let grammar = check.grammar(&style, &wanted, opened);
            assert_eq!(check.leaves(&grammar, text).is_none(), fits, "{wanted:?} {opened} {text}");
        }
        assert!(check.compiler.answer(&style, &Wanted::default(), false).unwrap().is_none());
        let mute = check.style(None, None);
        assert!(check.compiler.answer(&mute, &wanted(false, false), false).is_err());
    }
}

#[test]
fn harmony_has_channels() {
    let check = Check::new(&harmony::MARKS);
    let style = check.style(Some(Calls::Harmony), None);
    let thought = "<|channel|>analysis<|message|>well<|end|><|start|>assistant";
    let call = "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}";
    let schema = Some(json!({ "type": "object", "additionalProperties": false }));
    for (wanted, text, fits) in [
        (wanted(false, false), format!("{thought}{call}"), true),
        (wanted(false, false), format!("{thought}<|channel|>final<|message|>Yes."), true),
        (wanted(false, false), " to=functions.now<|channel|>commentary json<|message|>{}".into(), true),
        (wanted(true, false), format!("{thought}{call}"), true),
        (wanted(true, false), "<|channel|>final<|message|>Yes.".into(), false),
        (wanted(false, false), call.replace("now", "never"), false),
        (wanted(false, false), "Yes.".into(), false),
        (Wanted { text: schema, ..Wanted::default() }, format!("{thought}<|channel|>final<|message|>{{}}"), true),
    ] {
        let grammar = check.grammar(&style, &wanted, false);
        assert_eq!(check.leaves(&grammar, &text).is_none(), fits, "{text}");
    }
}

#[test]
fn tools_without_a_schema_of_parameters_and_with_all_types() {
    let deep = json!({ "type": "object", "properties": {
        "s": { "type": ["string", "null"] }, "n": { "type": "number" }, "b": { "type": "boolean" },
        "l": { "type": "array", "items": { "type": "string" } }, "o": { "$ref": "#/$defs/o" },
        "u": { "anyOf": [{ "type": "integer" }, { "type": "boolean" }] } },
        "required": ["s", "n", "b", "l", "o", "u"],
        "$defs": { "o": { "type": "object", "properties": { "x": { "type": "integer" } }, "required": ["x"] } } });
    let value = json!({ "s": "t", "n": -1.5, "b": true, "l": ["a", "b"], "o": { "x": 1 }, "u": 3 });
    let tools = vec![
        Tool { name: "deep".into(), parameters: deep, strict: false },
        Tool { name: "free".into(), parameters: json!({ "type": "object" }), strict: false },
        Tool { name: "none".into(), parameters: Value::Null, strict: false },
    ];
    let check = Check::new(&SPECIALS);
    let wanted = Wanted { tools, must_call: true, ..Wanted::default() };
    for syntax in SYNTAXES {
        let style = check.style(Some(Calls::Syntax(syntax)), None);
        let grammar = check.grammar(&style, &wanted, false);
        for (name, arguments) in [("deep", &value), ("free", &json!({ "any": "thing" })), ("none", &json!({}))] {
            let text = format!("{}{}{}", syntax.open, write(syntax, 0, name, arguments), syntax.close);
            assert_eq!(check.leaves(&grammar, &text), None, "{}: {text}", syntax.name);
        }
    }
}

#[test]
fn schemas_that_unfold_without_end_are_refused() {
    let all: Vec<Value> = (0..10).map(|_| json!({ "$ref": "#" })).collect();
    let parameters = json!({ "type": "object", "properties": { "a": { "anyOf": all } }, "anyOf": all });
    let tools = vec![Tool { name: "f".into(), parameters, strict: false }];
    let check = Check::new(&SPECIALS);
    let wanted = Wanted { tools, must_call: true, ..Wanted::default() };
    for syntax in SYNTAXES.iter().filter(|s| matches!(s.call, crate::tools::Form::Literals { .. })) {
        let style = check.style(Some(Calls::Syntax(syntax)), None);
        assert!(check.compiler.answer(&style, &wanted, false).is_err(), "{}", syntax.name);
    }
}

/// Optional texts stay texts, enums behind references are enums, and a value may hold a part of what ends it.
#[test]
fn values_are_of_their_types() {
    let parameters = json!({ "type": "object", "properties": {
        "zip": { "anyOf": [{ "type": "string" }, { "type": "null" }] }, "n": { "type": ["integer", "string"] },
        "unit": { "$ref": "#/$defs/unit" } }, "required": ["zip", "n", "unit"],
        "$defs": { "unit": { "enum": ["1", "2"] } } });
    let tools = vec![Tool { name: "f".into(), parameters, strict: false }];
    let check = Check::new(&SPECIALS);
    let wanted = Wanted { tools: tools.clone(), must_call: true, ..Wanted::default() };
    for name in ["qwen-coder", "qwen_coder"] {
        let Some(syntax) = SYNTAXES.iter().copied().find(|s| s.name == name) else { continue };
        let value = json!({ "zip": "94107", "n": 3, "unit": "1" });
        let text = write(syntax, 0, "f", &value);
        let grammar = check.grammar(&check.style(Some(Calls::Syntax(syntax)), None), &wanted, false);
        assert_eq!(check.leaves(&grammar, &text), None);
        assert!(check.leaves(&grammar, &text.replace("\n1\n", "\n3\n")).is_some(), "an enum behind a reference");
        let with_end = text.replace("94107", "a </parameter> b");
        assert_eq!(check.leaves(&grammar, &with_end), None);
        for (text, zip) in [(text, "94107"), (with_end, "a </parameter> b")] {
            let mut reader = CallReader::new(syntax, tools.clone());
            let (mut said, mut parts) = (String::new(), Vec::new());
            text.chars().for_each(|c| reader.push(&c.to_string(), &mut said, &mut parts));
            reader.finish(&mut said, &mut parts);
            let arguments: String = parts
                .iter()
                .filter_map(|p| if let CallPart::Arguments(a) = p { Some(a.as_str()) } else { None })
                .collect();
            let got: Value = serde_json::from_str(&arguments).unwrap();
            assert_eq!((got, said.as_str()), (json!({ "zip": zip, "n": 3, "unit": "1" }), ""));
        }
    }
}

#[test]
fn names_that_cannot_be_written_are_refused() {
    let check = Check::new(&SPECIALS);
    for key in ["first name", "", "a>b", "é"] {
        let parameters = json!({ "type": "object", "properties": { key: { "type": "string" } } });
        let wanted = Wanted { tools: vec![Tool { name: "f".into(), parameters, strict: false }], ..Wanted::default() };
        for syntax in SYNTAXES {
            let made = check.compiler.answer(&check.style(Some(Calls::Syntax(syntax)), None), &wanted, false);
            assert_eq!(made.is_ok(), matches!(syntax.call, crate::tools::Form::Json(_)), "{} {key:?}", syntax.name);
        }
    }
}
