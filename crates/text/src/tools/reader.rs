//! Reads calls out of an answer as it comes.
use super::{
    CallPart, Form, Syntax, Texts, Tool, in_name,
    json::{Scan, escaped},
    literal, other_than_text, parameter,
    pattern::{Hole, Match, Piece, begins, partial, pieces, trigger},
    texts,
};
use serde_json::Value;

/// Splits one answer into text and calls. Together, all pushes give the same whatever the pieces.
#[derive(Clone, Debug)]
pub struct CallReader {
    syntax: &'static Syntax,
    tools: Vec<Tool>,
    held: String,
    place: Place,
    /// Since the text ended, for a call that is none.
    raw: String,
    call: Current,
    /// Nothing was said.
    fresh: bool,
}

/// Where in an answer the text is.
#[derive(Clone, Debug)]
enum Place {
    Text,
    /// Before the first call.
    Open,
    /// Between calls, or at the end.
    Between,
    /// At this part of a list of parts.
    Call(Part, usize),
    /// What stands between the brackets of a call of literals.
    Fields,
    /// In the arguments.
    Arguments(Scan, usize),
}

/// Which list of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    /// Either a parameter or the end.
    Choice,
    Parameter,
    Tail,
}

#[derive(Clone, Debug, Default)]
struct Current {
    name: String,
    key: String,
    begun: bool,
    /// Parameters that were written.
    count: usize,
    /// Text of a value, until it is known what it is.
    value: String,
    /// A value of text began.
    open: bool,
    is_text: Option<bool>,
    /// Bytes that were there when the fields were last looked at.
    tried: usize,
}

/// Whether to go on with what is there.
enum Step {
    On,
    Wait,
    /// This is no call.
    Failed,
}

impl CallReader {
    /// For an answer that may call these.
    pub fn new(syntax: &'static Syntax, tools: Vec<Tool>) -> CallReader {
        let (held, raw, call) = (String::new(), String::new(), Current::default());
        CallReader { syntax, tools, held, place: Place::Text, raw, call, fresh: true }
    }

    /// Takes `piece`; appends what is certain.
    pub fn push(&mut self, piece: &str, said: &mut String, calls: &mut Vec<CallPart>) {
        self.held.push_str(piece);
        loop {
            match self.step(said, calls) {
                Step::On => {}
                Step::Wait => return,
                Step::Failed => self.give_up(said),
            }
        }
    }

    /// No more text comes.
    pub fn finish(&mut self, said: &mut String, calls: &mut Vec<CallPart>) {
        match self.place {
            Place::Text => said.push_str(&std::mem::take(&mut self.held)),
            Place::Between => self.held.clear(),
            _ if !self.call.begun => self.give_up(said),
            // A call that was cut off stays as it is.
            _ if self.call.open => {
                let rest = escaped(&std::mem::take(&mut self.held));
                calls.push(CallPart::Arguments(rest));
            }
            _ => self.held.clear(),
        }
        said.push_str(&std::mem::take(&mut self.held));
    }

    /// What looked like a call is text.
    fn give_up(&mut self, said: &mut String) {
        if !self.call.begun {
            said.push_str(&self.raw);
        }
        // A letter is said, so that the same place is not tried again.
        if let Some(c) = self.held.chars().next() {
            said.push(c);
            self.held.drain(..c.len_utf8());
        }
        self.raw.clear();
        self.call = Current::default();
        (self.place, self.fresh) = (Place::Text, false);
    }

    fn take(&mut self, n: usize) -> String {
        let taken: String = self.held.drain(..n).collect();
        if !self.call.begun {
            self.raw.push_str(&taken);
        }
        taken
    }

    fn step(&mut self, said: &mut String, calls: &mut Vec<CallPart>) -> Step {
        match &mut self.place {
            Place::Text => self.text(said),
            Place::Open => self.open(),
            Place::Between => self.between(),
            Place::Call(part, at) => {
                let (part, at) = (*part, *at);
                self.call(part, at, calls)
            }
            Place::Fields => self.fields(calls),
            Place::Arguments(scan, at) => {
                let next = *at + 1;
                let (n, ended) = scan.take(&self.held);
                if n == 0 {
                    return Step::Wait;
                }
                let text = self.take(n);
                calls.push(CallPart::Arguments(text));
                if ended {
                    self.place = Place::Call(Part::Head, next);
                    return Step::On;
                }
                Step::Wait
            }
        }
    }

    fn text(&mut self, said: &mut String) -> Step {
        let mark = self.syntax.trigger();
        if self.syntax.bare() {
            let rest = self.held.trim_start();
            if self.fresh && rest.is_empty() {
                return Step::Wait;
            }
            if self.fresh && rest.starts_with('{') {
                let space = self.held.len() - rest.len();
                self.take(space);
                self.place = Place::Open;
                return Step::On;
            }
            self.fresh = false;
            said.push_str(&std::mem::take(&mut self.held));
            return Step::Wait;
        }
        if let Some(at) = self.held.find(mark) {
            let before = self.held[..at].trim_end();
            said.push_str(before);
            let n = before.len();
            self.held.drain(..n);
            self.take(at - n);
            self.place = Place::Open;
            return Step::On;
        }
        // White space before a call belongs to neither.
        let keep = self.held.len() - partial(&self.held, mark);
        let end = self.held[..keep].trim_end().len();
        said.push_str(&self.held[..end]);
        self.held.drain(..end);
        Step::Wait
    }

    fn open(&mut self) -> Step {
        match begins(&self.held, self.syntax.open) {
            Match::Yes(n) => {
                self.take(n);
                self.place = Place::Call(Part::Head, 0);
                Step::On
            }
            Match::Maybe => Step::Wait,
            Match::No => Step::Failed,
        }
    }

    /// After a call: another, the end of all, or text.
    fn between(&mut self) -> Step {
        let syntax = self.syntax;
        let n = self.held.len() - self.held.trim_start().len();
        if n == self.held.len() {
            return Step::Wait;
        }
        let mut undecided = false;
        if !syntax.close.is_empty() {
            match begins(&self.held, syntax.close) {
                Match::Yes(n) => {
                    self.held.drain(..n);
                    (self.place, self.fresh) = (Place::Text, false);
                    return Step::On;
                }
                m => undecided |= m == Match::Maybe,
            }
        }
        let gap = match begins(&self.held, syntax.between.trim()) {
            Match::Yes(n) => Some(n),
            m => {
                undecided |= m == Match::Maybe;
                None
            }
        };
        if let Some(n) = gap {
            match begins(&self.held[n..], trigger(syntax.head())) {
                Match::Yes(_) => {
                    self.held.drain(..n);
                    self.place = Place::Call(Part::Head, 0);
                    return Step::On;
                }
                m => undecided |= m == Match::Maybe,
            }
        }
        if undecided {
            return Step::Wait;
        }
        (self.place, self.fresh) = (Place::Text, false);
        Step::On
    }

    fn parts(&self, part: Part) -> Vec<Piece> {
        match (&self.syntax.call, part) {
            (Form::Json(all), _) => pieces(all),
            (Form::Elements { head, .. } | Form::Literals { head, .. }, Part::Head) => pieces(head),
            (Form::Elements { tail, .. } | Form::Literals { tail, .. }, Part::Tail) => pieces(tail),
            (Form::Elements { parameter, .. }, _) => pieces(parameter),
            (Form::Literals { .. }, _) => Vec::new(),
        }
    }

    fn call(&mut self, part: Part, at: usize, calls: &mut Vec<CallPart>) -> Step {
        if part == Part::Choice {
            return self.choice();
        }
        let parts = self.parts(part);
        match parts.get(at) {
            None => self.end_of(part, calls),
            Some(Piece::Text(literal)) => match begins(&self.held, literal) {
                Match::Yes(n) => {
                    self.take(n);
                    self.place = Place::Call(part, at + 1);
                    Step::On
                }
                Match::Maybe => Step::Wait,
                Match::No => Step::Failed,
            },
            Some(Piece::Hole(Hole::Arguments)) => {
                let space = self.held.len() - self.held.trim_start().len();
                self.take(space);
                match self.held.chars().next() {
                    None => Step::Wait,
                    Some('{') => {
                        self.place = Place::Arguments(Scan::default(), at);
                        Step::On
                    }
                    Some(_) => Step::Failed,
                }
            }
            Some(Piece::Hole(Hole::Name)) => self.name(part, at, calls),
            Some(Piece::Hole(hole)) => {
                let Some(Piece::Text(end)) = parts.get(at + 1) else { return Step::Failed };
                self.hole(*hole, end, calls).map_or(Step::Wait, |()| {
                    self.place = Place::Call(part, at + 1);
                    Step::On
                })
            }
        }
    }

    /// The function's name, up to what cannot belong to one.
    fn name(&mut self, part: Part, at: usize, calls: &mut Vec<CallPart>) -> Step {
        let space = self.held.len() - self.held.trim_start().len();
        self.take(space);
        let Some(end) = self.held.find(|c| !in_name(c)) else { return Step::Wait };
        if end == 0 {
            return Step::Failed;
        }
        let name = self.take(end);
        self.call.name.clone_from(&name);
        self.call.begun = true;
        self.raw.clear();
        calls.push(CallPart::Begin { name });
        self.place = Place::Call(part, at + 1);
        Step::On
    }

    /// Text up to `end`; none if more is needed.
    fn hole(&mut self, hole: Hole, end: &'static str, calls: &mut Vec<CallPart>) -> Option<()> {
        if hole == Hole::Value {
            // As the grammar has it: all of what follows, to the letter, so that a value may hold a part of it.
            let found = self.held.find(end);
            self.value(found, end, calls);
            return found.map(|_| ());
        }
        let mark = trigger(end);
        let found = self.held.find(mark);
        let text = self.take(found?);
        let text = text.trim().to_string();
        match hole {
            Hole::Key => self.call.key = text,
            Hole::IsText => self.call.is_text = Some(text == "true"),
            _ => {}
        }
        Some(())
    }

    /// A parameter's value, or what is certain of it.
    fn value(&mut self, found: Option<usize>, mark: &str, calls: &mut Vec<CallPart>) {
        let schema = parameter(&self.tools, &self.call.name, &self.call.key);
        let kind = match self.call.is_text {
            Some(true) => Texts::Always,
            Some(false) => Texts::Never,
            None => texts(schema),
        };
        if !self.call.open && (kind == Texts::Always || found.is_some()) {
            let comma = if self.call.count > 0 { ", " } else { "" };
            let quote = if kind == Texts::Always { "\"" } else { "" };
            calls.push(CallPart::Arguments(format!("{comma}\"{}\": {quote}", escaped(&self.call.key))));
            self.call.open = kind == Texts::Always;
        }
        let sure = found.unwrap_or_else(|| self.held.len() - partial(&self.held, mark));
        let text = self.take(sure);
        if kind == Texts::Always {
            if !text.is_empty() {
                calls.push(CallPart::Arguments(escaped(&text)));
            }
        } else {
            self.call.value.push_str(&text);
        }
        if found.is_none() {
            return;
        }
        let value = std::mem::take(&mut self.call.value);
        let parsed = serde_json::from_str::<Value>(value.trim());
        let schema = parameter(&self.tools, &self.call.name, &self.call.key);
        let other = parsed.as_ref().is_ok_and(|v| other_than_text(schema, v));
        let json = match (kind, parsed) {
            (Texts::Always, _) => "\"".to_string(),
            // What may be text is, unless it is of another type that the schema names.
            (Texts::Maybe, Ok(_)) if !other => Value::from(value).to_string(),
            (_, Ok(_)) => value.trim().to_string(),
            (_, Err(_)) => Value::from(value).to_string(),
        };
        calls.push(CallPart::Arguments(json));
        self.call.count += 1;
        (self.call.open, self.call.is_text) = (false, None);
    }

    /// A parameter or the end of the call.
    fn choice(&mut self) -> Step {
        let Form::Elements { parameter, tail, .. } = &self.syntax.call else { return Step::Failed };
        let first = |pattern| match pieces(pattern).first() {
            Some(Piece::Text(text)) => *text,
            _ => "",
        };
        let (a, b) = (begins(&self.held, first(parameter)), begins(&self.held, first(tail)));
        self.place = match (a, b) {
            // An end may begin as a parameter does.
            (_, Match::Yes(_)) => Place::Call(Part::Tail, 0),
            (Match::Yes(_), Match::No) => Place::Call(Part::Parameter, 0),
            (Match::No, Match::No) => return Step::Failed,
            _ => return Step::Wait,
        };
        Step::On
    }

    fn end_of(&mut self, part: Part, calls: &mut Vec<CallPart>) -> Step {
        self.place = match (part, &self.syntax.call) {
            (Part::Head, Form::Elements { .. }) => {
                calls.push(CallPart::Arguments("{".into()));
                Place::Call(Part::Choice, 0)
            }
            (Part::Head, Form::Literals { .. }) => Place::Fields,
            (Part::Parameter, _) => Place::Call(Part::Choice, 0),
            _ => {
                if matches!(self.syntax.call, Form::Elements { .. }) {
                    calls.push(CallPart::Arguments("}".into()));
                }
                self.call = Current::default();
                Place::Between
            }
        };
        Step::On
    }

    fn fields(&mut self, calls: &mut Vec<CallPart>) -> Step {
        let Form::Literals { notation, .. } = &self.syntax.call else { return Step::Failed };
        if !self.held[self.call.tried.min(self.held.len())..].contains(notation.end) {
            return Step::Wait;
        }
        match literal::fields(&self.held, notation) {
            literal::Read::Whole(json, n) => {
                self.take(n);
                calls.push(CallPart::Arguments(json));
                self.place = Place::Call(Part::Tail, 0);
                Step::On
            }
            literal::Read::More => {
                self.call.tried = self.held.len();
                Step::Wait
            }
            literal::Read::Wrong => Step::Failed,
        }
    }
}
