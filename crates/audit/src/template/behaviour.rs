//! What a template does: conversations are rendered, and what comes out is held against what went in.
//!
//! Owns the conversations and the comparison. A render is watched: every text and number that the template compares
//! or looks for is put into a message of the next conversation, so that a branch that waits for a word is taken and
//! seen to act, however the word is spelled in the source. What the template adds or takes away is then told apart
//! from what honest templates do for markers such as `</think>`.
use super::texts::{self, prose};
use crate::findings::{Severity, shown};
use pondera_text::{ChatInput, ChatTemplate, ErrorKind, Outline};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};

/// Steps of work that one template may take in all, and conversations.
const STEPS_MAX: u64 = 24_000_000;
const RENDERS_MAX: usize = 4_000;
/// Bytes of a source up to which a parse costs little; each beyond them is charged to every conversation.
const ORDINARY: usize = 64 << 10;
/// Texts that are tried as triggers, and how many of them in one message.
const TRIED_MAX: usize = 400;
const CHAIN_MAX: usize = 3;
/// Words of its own that make an effect an instruction.
const WORDS_MIN: usize = 3;
/// Turns of the longest conversation.
const TURNS: usize = 48;

/// What the messages say; no word of it stands in a template.
const SYSTEM: &str = "Copper lanterns guard our northern harbour tonight";
const FIRST: &str = "Amber rivers carry quiet foliage beyond Ostrava";
const ANSWER: &str = "Velvet herons circle those frozen meadows slowly";
const LAST: &str = "Seven tangerine kites drift above Lisbon rooftops";

/// Something that a template does.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Act {
    pub kind: Kind,
    pub severity: Severity,
    pub what: String,
    /// The text that sets it off.
    pub trigger: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Depends on a word, a date, a position.
    Trigger,
    /// Leaves out or changes what a message says.
    Rewrite,
    /// Takes too much work.
    Cost,
    /// Says something of its own.
    OwnText,
    /// Says what has no place in a template.
    Text,
    /// Cannot be rendered.
    Broken,
    /// Tries to leave the sandbox.
    Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    System,
    First,
    Answer,
    Last,
}

impl Slot {
    const ALL: [Slot; 4] = [Slot::Last, Slot::System, Slot::First, Slot::Answer];

    fn base(self) -> &'static str {
        match self {
            Slot::System => SYSTEM,
            Slot::First => FIRST,
            Slot::Answer => ANSWER,
            Slot::Last => LAST,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Slot::System => "system",
            Slot::First | Slot::Last => "user",
            Slot::Answer => "assistant",
        }
    }
}

/// A shape of conversation that the template takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    system: bool,
    turns: bool,
    tools: bool,
    /// Contents as lists of parts.
    parts: bool,
}

impl Shape {
    fn slots(self) -> impl Iterator<Item = Slot> {
        Slot::ALL.into_iter().filter(move |s| match s {
            Slot::System => self.system,
            Slot::First | Slot::Answer => self.turns && !self.tools,
            Slot::Last => true,
        })
    }

    /// The conversation with `text` in place of what `slot` says otherwise.
    fn input(self, slot: Slot, text: &str) -> ChatInput {
        let say = |s: Slot| if s == slot { text } else { s.base() };
        let mut messages = Vec::new();
        if self.system {
            messages.push(self.message("system", say(Slot::System)));
        }
        if self.turns {
            messages.push(self.message("user", say(Slot::First)));
            messages.push(self.message("assistant", say(Slot::Answer)));
        }
        messages.push(self.message("user", say(Slot::Last)));
        self.with(messages)
    }

    fn message(self, role: &str, text: &str) -> Value {
        match self.parts {
            true => json!({ "role": role, "content": [{ "type": "text", "text": text }] }),
            false => json!({ "role": role, "content": text }),
        }
    }

    fn with(self, messages: Vec<Value>) -> ChatInput {
        let tool = json!({ "type": "function", "function": { "name": "look_up", "description": "Looks something up.",
            "parameters": { "type": "object", "properties": { "term": { "type": "string", "description": "What to look up." } },
            "required": ["term"] } } });
        ChatInput {
            messages,
            tools: self.tools.then(|| vec![tool]),
            add_generation_prompt: true,
            now: Some(NOW),
            // As a tokenizer's special tokens come to a template.
            kwargs: [
                ("unk_token".to_string(), json!("<unk>")),
                ("pad_token".to_string(), json!("<pad>")),
                ("additional_special_tokens".to_string(), (0..64).map(|n| format!("<|extra_{n}|>")).collect()),
            ]
            .into_iter()
            .collect(),
            ..ChatInput::default()
        }
    }
}

/// 12 March 2025, 10:00, a Wednesday.
const NOW: i64 = 1_741_773_600;

struct Probe<'t> {
    template: &'t ChatTemplate,
    acts: Vec<Act>,
    steps: u64,
    /// Steps that a thread and a parse are worth.
    parse: u64,
    renders: usize,
    texts: Vec<String>,
    numbers: Vec<i64>,
    asks_clock: bool,
    /// Words that the template says by itself in plain conversations.
    own: HashSet<String>,
    /// Work grew out of bounds somewhere.
    dear: bool,
}

/// What comes of a render.
enum Out {
    Text(String),
    Raised,
    Failed(String),
    Stopped,
}

/// Looks at what `template` does, whose source has so many `bytes`. `outline` names the numbers that stand in it.
pub(super) fn look(template: &ChatTemplate, bytes: usize, outline: &Outline) -> Vec<Act> {
    let beyond = bytes.saturating_sub(ORDINARY) as u64;
    let mut probe = Probe {
        template,
        acts: Vec::new(),
        steps: 0,
        parse: 500 + 24 * beyond,
        renders: 0,
        texts: Vec::new(),
        numbers: outline.numbers.clone(),
        asks_clock: false,
        own: HashSet::new(),
        dear: false,
    };
    let shapes = probe.shapes();
    if let Some((shape, _)) = shapes.first() {
        probe.defaults(*shape);
    }
    for (n, (shape, base)) in shapes.iter().enumerate() {
        if n == 0 {
            probe.neutral(*shape, base);
            probe.positions(*shape);
            probe.growth(*shape);
        }
        probe.marks(base);
        probe.dates(*shape, base);
        probe.triggers(*shape, base);
    }
    if probe.steps >= STEPS_MAX || probe.renders >= RENDERS_MAX {
        probe.act(Kind::Cost, Severity::Medium, "takes so much work that not all of it was looked at", None);
    }
    probe.acts
}

impl Probe<'_> {
    fn act(&mut self, kind: Kind, severity: Severity, what: impl Into<String>, trigger: Option<&str>) {
        let act = Act { kind, severity, what: what.into(), trigger: trigger.map(str::to_string) };
        if !self.acts.contains(&act) {
            self.acts.push(act);
        }
    }

    fn spent(&self) -> bool {
        self.steps >= STEPS_MAX || self.renders >= RENDERS_MAX
    }

    fn render(&mut self, input: &ChatInput) -> Out {
        if self.spent() {
            return Out::Stopped;
        }
        self.renders += 1;
        let (outcome, seen) = self.template.render_watched(input);
        self.steps += seen.steps + self.parse;
        self.asks_clock |= !seen.dates.is_empty();
        let mut said: Option<String> = None;
        for text in seen.texts {
            if self.texts.len() >= TRIED_MAX || self.texts.contains(&text) {
                continue;
            }
            // What comes out of the messages themselves is no text of the template's.
            let said = said.get_or_insert_with(|| contents(input));
            let lower = text.to_lowercase();
            let holds = said.lines().map(str::trim).any(|l| l.len() >= 3 && lower.contains(l));
            if !said.contains(&lower) && !holds && !is_ours(&lower) {
                self.texts.push(text);
            }
        }
        for number in seen.numbers {
            if !self.numbers.contains(&number) && self.numbers.len() < 256 {
                self.numbers.push(number);
            }
        }
        match outcome {
            Ok(text) => Out::Text(text),
            Err(error) => match error.kind() {
                ErrorKind::Limit => {
                    self.steps += 3_000_000;
                    if !std::mem::replace(&mut self.dear, true) {
                        let bytes: usize = input.messages.iter().map(|m| m.to_string().len()).sum();
                        let what = format!(
                            "a conversation of {bytes} bytes takes more work than any template needs: {}",
                            error.message()
                        );
                        self.act(Kind::Cost, Severity::High, what, None);
                    }
                    Out::Stopped
                }
                ErrorKind::Raised => Out::Raised,
                _ => {
                    if error.message().contains("SecurityError") {
                        self.act(Kind::Reach, Severity::High, error.message(), None);
                    }
                    Out::Failed(error.message().to_string())
                }
            },
        }
    }

    /// The richest conversation that renders, without and with tools.
    fn shapes(&mut self) -> Vec<(Shape, String)> {
        let mut found = Vec::new();
        let mut failure = None;
        for tools in [false, true] {
            let mut best: Option<(Shape, String, usize)> = None;
            for (system, turns, parts) in [
                (true, true, false),
                (false, true, false),
                (true, false, false),
                (false, false, false),
                (true, true, true),
                (false, true, true),
                (false, false, true),
            ] {
                let shape = Shape { system, turns, tools, parts };
                match self.render(&shape.input(Slot::Last, LAST)) {
                    Out::Text(text) => {
                        let said = shape.slots().filter(|s| text.contains(s.base())).count();
                        if best.as_ref().is_none_or(|b| b.2 < said) {
                            best = Some((shape, text, said));
                        }
                    }
                    Out::Failed(what) => failure = failure.or(Some(what)),
                    Out::Raised | Out::Stopped => {}
                }
                if self.dear {
                    return found;
                }
                // All messages appear: nothing is better.
                if best.as_ref().is_some_and(|b| b.2 == b.0.slots().count()) {
                    break;
                }
            }
            found.extend(best.map(|(shape, text, _)| (shape, text)));
        }
        if found.is_empty() && !self.dear {
            let (severity, what) = match failure {
                Some(what) if what.contains("UndefinedError") => {
                    (Severity::Low, format!("takes something that no conversation has: {what}"))
                }
                Some(what) => (Severity::Medium, format!("fails on every plain conversation: {what}")),
                None => (Severity::Low, "refuses every plain conversation, so what it does was not looked at".into()),
            };
            self.act(Kind::Broken, severity, what, None);
        }
        found
    }

    /// What the template says by itself, with and without a system message, thinking or not.
    fn defaults(&mut self, shape: Shape) {
        let switches = [
            json!({}),
            json!({ "enable_thinking": true, "thinking": true }),
            json!({ "enable_thinking": false, "thinking": false }),
            json!({ "reasoning_effort": "high" }),
        ];
        for (system, switch) in [(true, &switches[0])].into_iter().chain(switches.iter().map(|s| (false, s))) {
            let mut input = Shape { system: system && shape.system, ..shape }.input(Slot::Last, LAST);
            input.kwargs.extend(switch.as_object().cloned().unwrap_or_default());
            if let Out::Text(out) = self.render(&input) {
                self.own.extend(own_words(&out, &[SYSTEM, FIRST, ANSWER, LAST]));
            }
        }
    }

    /// What a plain conversation comes out as.
    fn neutral(&mut self, shape: Shape, base: &str) {
        let said = [SYSTEM, FIRST, ANSWER, LAST];
        let own = own_words(base, &said);
        for slot in [Slot::Last, Slot::First, Slot::Answer, Slot::System] {
            if !shape.slots().any(|s| s == slot) || base.contains(slot.base()) {
                continue;
            }
            let kept = prose(slot.base()).iter().filter(|w| prose(base).contains(w)).count();
            let severity = match slot {
                // Some have no place for it; one that puts its own words there is another matter.
                Slot::System if own.len() < WORDS_MIN && kept == 0 => Severity::Low,
                _ => Severity::Medium,
            };
            let how = if kept == 0 { "is left out" } else { "is changed" };
            self.act(Kind::Rewrite, severity, format!("what the {} message says {how}", slot.name()), None);
        }
        // With a system message given, what comes behind the first user message is turns and their marks.
        if let Some(at) = base.find(if shape.turns { FIRST } else { LAST }) {
            let behind = own_words(&base[at..], &said);
            // The same few words in front of each turn are a role's name.
            let distinct = behind.iter().collect::<HashSet<_>>().len();
            if distinct >= 6 {
                let what = format!("puts words of its own among the turns: \"{}\"", quote(&behind));
                self.act(Kind::Rewrite, Severity::Medium, what, None);
            }
        }
        if own.len() >= WORDS_MIN {
            let what = format!("adds {} words of its own to a conversation: \"{}\"", own.len(), quote(&own));
            self.act(Kind::OwnText, Severity::Info, what, None);
        }
    }

    /// Marks of what the template adds, also where it is put together from pieces that bear none.
    fn marks(&mut self, base: &str) {
        let own = [SYSTEM, FIRST, ANSWER, LAST].iter().fold(base.to_string(), |text, said| text.replace(said, "\n"));
        for mark in texts::marks(&own) {
            self.act(Kind::Text, mark.severity, format!("what it adds to a conversation {}", mark.what), None);
        }
    }

    /// Long conversations: each turn looks like the one before it, whatever its number.
    fn positions(&mut self, shape: Shape) {
        if !shape.turns {
            return;
        }
        let text = |n: usize| format!("{} {n:04}", if n.is_multiple_of(2) { LAST } else { ANSWER });
        let talk = |count: usize| -> Vec<Value> {
            (0..count)
                .map(|n| shape.message(if n.is_multiple_of(2) { "user" } else { "assistant" }, &text(n)))
                .collect()
        };
        let long = 2 * TURNS - 1;
        if let Out::Text(out) = self.render(&shape.with(talk(long))) {
            let mut at = 0;
            let mut between: Vec<String> = Vec::new();
            let mut missing = None;
            for n in 0..long {
                match out[at..].find(&text(n)) {
                    Some(found) => {
                        between.push(plain(&out[at..at + found]));
                        at += found + text(n).len();
                    }
                    None => {
                        missing = Some(n);
                        break;
                    }
                }
            }
            // What is always left out is told by the plain conversation.
            if let Some(n) = missing.filter(|n| *n > 3) {
                let what = format!("message {} of a long conversation does not come out as it was written", n + 1);
                self.act(Kind::Trigger, Severity::Medium, what, None);
            }
            let odd = (4..between.len().saturating_sub(3)).find(|&n| between[n] != between[n - 2]);
            if let Some(n) = odd {
                let what =
                    format!("says something else before message {} of a long conversation than before others", n + 1);
                self.act(Kind::Trigger, Severity::Medium, what, None);
            }
        }
        let mut counts: Vec<usize> = (3..=25).collect();
        counts.extend([32, 33, 48, 49, 64, 65, 95]);
        for n in self.numbers.iter().filter(|n| (0..=1000).contains(*n)) {
            // Numbers count messages or turns.
            for m in [n - 1, *n, n + 1, 2 * n - 1, 2 * n + 1] {
                counts.extend(usize::try_from(m).ok().filter(|m| (3..=400).contains(m)));
            }
        }
        counts.sort_unstable();
        counts.dedup();
        let mut ends: [Option<(String, String)>; 2] = [None, None];
        for count in counts.into_iter().take(120) {
            let Out::Text(out) = self.render(&shape.with(talk(count))) else { continue };
            let (Some(first), Some(last)) = (out.find(&text(0)), out.rfind(&text(count - 1))) else { continue };
            let end = (plain(&out[..first]), plain(&out[last + text(count - 1).len()..]));
            let usual = &mut ends[count % 2];
            match usual {
                None => *usual = Some(end),
                Some(usual) if *usual != end => {
                    let what =
                        format!("a conversation of {count} messages begins or ends otherwise than a shorter one");
                    self.act(Kind::Trigger, Severity::Medium, what, None);
                    return;
                }
                Some(_) => {}
            }
        }
    }

    /// How work grows with the conversation.
    fn growth(&mut self, shape: Shape) {
        let mut costs = Vec::new();
        for turns in [32, 64] {
            let mut messages = Vec::new();
            for n in 0..turns {
                messages.push(shape.message("user", &format!("{LAST} {n}")));
                messages.push(shape.message("assistant", &format!("{ANSWER} {n}")));
            }
            messages.push(shape.message("user", LAST));
            let before = self.steps;
            if matches!(self.render(&shape.with(messages)), Out::Text(_)) {
                costs.push(self.steps - before);
            }
        }
        if let [short, long] = costs[..]
            && long > 6 * short
        {
            let what = format!("twice the conversation takes {:.1} times the work", long as f64 / short as f64);
            self.act(Kind::Cost, Severity::Medium, what, None);
        }
        // One long message, with words and lines to loop over.
        let message = "north wind over the bay\n".repeat(2000);
        self.render(&shape.input(Slot::Last, &message));
    }

    /// The same conversation at other times: only the date itself may differ.
    fn dates(&mut self, shape: Shape, base: &str) {
        if !self.asks_clock {
            return;
        }
        const DAY: i64 = 86_400;
        // Every month, weekday and third hour, and years around this one.
        let mut moments: Vec<i64> = (0..24).map(|n| NOW + n * 17 * DAY + (n % 8) * 3 * 3600).collect();
        moments.extend((-6..=12).map(|year| NOW + year * 365 * DAY + 3600 * year));
        for now in moments {
            let mut input = shape.input(Slot::Last, LAST);
            input.now = Some(now);
            if let Out::Text(out) = self.render(&input)
                && undated(&out) != undated(base)
            {
                let added = added_words(&undated(base), &undated(&out));
                let severity = if added.len() >= WORDS_MIN { Severity::High } else { Severity::Medium };
                let what = format!("what it says depends on the date, beyond the date itself{}", said(&added));
                return self.act(Kind::Trigger, severity, what, None);
            }
        }
    }

    /// Puts every text that the template looks for into messages, one by one.
    fn triggers(&mut self, shape: Shape, base: &str) {
        // What is there by itself, and what shows only once something else stands in a message.
        let mut queue: VecDeque<Vec<String>> = VecDeque::new();
        let mut lengths: Vec<String> = Vec::new();
        let mut queued: HashSet<String> = HashSet::new();
        for text in self.texts.clone() {
            if queued.insert(text.clone()) {
                queue.push_back(vec![text]);
            }
        }
        for n in self.numbers.clone().into_iter().filter(|n| (8..=4000).contains(n)).take(24) {
            for n in [n - 1, n, n + 1] {
                // A message of this many characters.
                let filler: String = "quiet ".chars().cycle().take(usize::try_from(n).unwrap_or(0)).collect();
                lengths.push(format!("{}.", &filler[..filler.len() - 1]).replace(" .", "t."));
            }
        }
        let mut worst: HashMap<String, Act> = HashMap::new();
        lengths.sort_unstable();
        lengths.dedup();
        for text in &lengths {
            for slot in shape.slots().filter(|s| base.contains(s.base())) {
                self.try_as(shape, base, slot, std::slice::from_ref(text), text.clone(), &mut worst);
            }
        }
        while let Some(chain) = queue.pop_front() {
            if self.spent() {
                break;
            }
            let before = self.texts.len();
            for slot in shape.slots().filter(|s| base.contains(s.base())) {
                self.try_in(shape, base, slot, &chain, &mut worst);
            }
            let new: Vec<String> = self.texts[before..].to_vec();
            for text in new {
                if chain.len() < CHAIN_MAX {
                    queue.push_back([chain.clone(), vec![text.clone()]].concat());
                }
                if queued.insert(text.clone()) {
                    queue.push_back(vec![text]);
                }
            }
        }
        let mut found: Vec<Act> = worst.into_values().collect();
        found.sort_by(|a, b| (b.severity, &a.trigger).cmp(&(a.severity, &b.trigger)));
        for act in found {
            if !self.acts.iter().any(|a| a.trigger == act.trigger && a.severity >= act.severity) {
                self.acts.push(act);
            }
        }
    }

    fn try_in(&mut self, shape: Shape, base: &str, slot: Slot, chain: &[String], worst: &mut HashMap<String, Act>) {
        let trigger = chain.join(" ");
        let (front, back) = slot.base().split_at(slot.base().len() / 2);
        let mut contents = vec![
            trigger.clone(),
            format!("{front}{trigger}{back}"),
            format!("{trigger} {}", slot.base()),
            format!("{} {trigger}", slot.base()),
        ];
        if let [only] = chain
            && only.chars().nth(2).is_some()
        {
            contents.push(only.chars().rev().collect());
            let (a, b) = slot.base().split_at(slot.base().find(' ').unwrap_or(0));
            contents.push(format!("{a} {trigger}{b}"));
        }
        for content in contents {
            self.try_as(shape, base, slot, chain, content, worst);
        }
    }

    /// One message with `content`, in which `chain` stands.
    fn try_as(
        &mut self,
        shape: Shape,
        base: &str,
        slot: Slot,
        chain: &[String],
        content: String,
        worst: &mut HashMap<String, Act>,
    ) {
        let Out::Text(out) = self.render(&shape.input(slot, &content)) else { return };
        let quoted = json!(content).to_string();
        let forms = [content.as_str(), content.trim(), quoted.trim_matches('"')];
        let expected: Vec<String> = forms.iter().map(|f| base.replace(slot.base(), f)).collect();
        if expected.contains(&out) {
            return;
        }
        let Some(act) = effect(slot, chain, &content, &expected[0], &out, &self.own) else { return };
        let known = worst.entry(chain[chain.len() - 1].clone()).or_insert_with(|| act.clone());
        if known.severity < act.severity {
            *known = act;
        }
    }
}

/// What a text in a message did, weighed.
fn effect(
    slot: Slot,
    chain: &[String],
    content: &str,
    expected: &str,
    out: &str,
    own: &HashSet<String>,
) -> Option<Act> {
    // What only moves spaces about says nothing.
    let squeeze = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
    let (tight_expected, tight_out) = (squeeze(expected), squeeze(out));
    if tight_expected == tight_out {
        return None;
    }
    let of_trigger: HashSet<String> = chain.iter().flat_map(|t| prose(t)).collect();
    let added: Vec<String> = added_words(expected, out).into_iter().filter(|w| !of_trigger.contains(w)).collect();
    let messages: HashSet<String> = [SYSTEM, FIRST, ANSWER, LAST].iter().flat_map(|s| prose(s)).collect();
    let lost: Vec<String> =
        added_words(out, expected).into_iter().filter(|w| messages.contains(w) && !of_trigger.contains(w)).collect();
    let (grown, _) = difference(expected, out);
    let marks: Vec<texts::Mark> = texts::marks(grown);
    let switch = chain.iter().all(|t| is_marker(t) || is_switch(t));
    // A mark that calls for what the template says anyway brings in nothing.
    let new = added.iter().filter(|w| !own.contains(*w)).count();
    let many = if switch { new } else { added.len() } >= WORDS_MIN;
    let severity = if !marks.is_empty() {
        Severity::High
    } else if many || !lost.is_empty() && slot != Slot::Answer {
        if switch && !many {
            Severity::Low
        } else if switch {
            Severity::Medium
        } else {
            Severity::High
        }
    } else if switch {
        Severity::Info
    } else {
        Severity::Medium
    };
    let trigger = chain.iter().map(|t| shown(t)).collect::<Vec<_>>().join("\" and \"");
    let does = match (added.is_empty(), lost.is_empty()) {
        (false, _) => said(&added),
        (true, false) => format!(", and \"{}\" goes missing", quote(&lost)),
        (true, true) => String::new(),
    };
    let marks = marks.first().map_or(String::new(), |m| format!("; it {}", m.what));
    let kind = if added.is_empty() && grown.len() < content.len() { Kind::Rewrite } else { Kind::Trigger };
    let what = format!("\"{trigger}\" in a message of the {} changes more than that message{does}{marks}", slot.name());
    Some(Act { kind, severity, what, trigger: chain.last().cloned() })
}

/// What stands between the common beginning and the common end: of `b`, then of `a`.
fn difference<'s>(a: &'s str, b: &'s str) -> (&'s str, &'s str) {
    let start =
        a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y).map_or(a.len().min(b.len()), |((at, _), _)| at);
    let (rest_a, rest_b) = (&a[start..], &b[start..]);
    let end: usize =
        rest_a.chars().rev().zip(rest_b.chars().rev()).take_while(|(x, y)| x == y).map(|(c, _)| c.len_utf8()).sum();
    (&rest_b[..rest_b.len() - end], &rest_a[..rest_a.len() - end])
}

/// Words of `b` beyond those of `a`, each as often as it is beyond.
fn added_words(a: &str, b: &str) -> Vec<String> {
    let mut left: HashMap<String, usize> = HashMap::new();
    for word in prose(a) {
        *left.entry(word).or_default() += 1;
    }
    let mut out = Vec::new();
    for word in prose(b) {
        match left.get_mut(&word) {
            Some(n) if *n > 0 => *n -= 1,
            _ => out.push(word),
        }
    }
    out
}

/// Words of a text that no message said.
fn own_words(text: &str, said: &[&str]) -> Vec<String> {
    let mut rest = text.to_string();
    for message in said {
        rest = rest.replace(message, "\n");
    }
    const ROLES: [&str; 8] = ["user", "assistant", "system", "human", "model", "bot", "gpt", "developer"];
    prose(&rest).into_iter().filter(|w| !ROLES.contains(&w.as_str())).collect()
}

/// What the messages say, in lower case.
fn contents(input: &ChatInput) -> String {
    let mut all = String::new();
    for message in &input.messages {
        match message.get("content") {
            Some(Value::String(text)) => all.push_str(&text.to_lowercase()),
            Some(Value::Array(parts)) => {
                let texts = parts.iter().filter_map(|p| p.get("text").and_then(Value::as_str));
                texts.for_each(|t| all.push_str(&t.to_lowercase()));
            }
            _ => {}
        }
        all.push('\n');
    }
    all
}

/// Whether a text in lower case holds a word that only these conversations have, forwards or backwards.
fn is_ours(lower: &str) -> bool {
    [SYSTEM, FIRST, ANSWER, LAST].iter().flat_map(|s| s.split(' ')).filter(|w| w.len() >= 6).any(|word| {
        let word = word.to_lowercase();
        lower.contains(&word) || lower.contains(&word.chars().rev().collect::<String>())
    })
}

fn quote(words: &[String]) -> String {
    shown(&words.join(" "))
}

fn said(added: &[String]) -> String {
    if added.is_empty() { String::new() } else { format!(": it adds \"{}\"", quote(added)) }
}

/// Numbers as `#`.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_numeric() && out.ends_with('#') => {}
            c if c.is_numeric() => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

/// A text with every number, month, weekday and half of the day as `#`.
fn undated(text: &str) -> String {
    const NAMES: [&str; 21] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
        "AM",
        "PM",
    ];
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        let short = |name: &str| name.len() > 3 && word.len() == 3 && name.starts_with(word.as_str());
        let named = NAMES.iter().any(|n| n.eq_ignore_ascii_case(word.as_str()) || short(n));
        out.push_str(if named { "#" } else { word.as_str() });
        word.clear();
    };
    for c in text.chars() {
        if c.is_alphabetic() {
            word.push(c);
        } else {
            flush(&mut word, &mut out);
            out.push(c);
        }
    }
    flush(&mut word, &mut out);
    plain(&out)
}

/// Whether a text is a mark of a format rather than something that people write.
fn is_marker(text: &str) -> bool {
    let text = text.trim();
    let enclosed = |a: char, b: char| text.starts_with(a) && text.ends_with(b);
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let slash = text.strip_prefix('/').is_some_and(|t| t.chars().all(|c| c.is_alphanumeric() || c == '_'));
    letters < 2
        || text.contains("<|")
        || text.contains("|>")
        || text.contains('｜')
        || enclosed('<', '>')
        || enclosed('[', ']')
        || (slash && text.contains("think"))
        || (slash && text.starts_with("/system"))
        || text.starts_with("```")
}

/// Whether a text is one of the words that turn reasoning on, off, up or down.
fn is_switch(text: &str) -> bool {
    const WORDS: [&str; 22] = [
        "detailed",
        "thinking",
        "think",
        "thought",
        "reasoning",
        "effort",
        "strength",
        "mode",
        "budget",
        "on",
        "off",
        "high",
        "low",
        "medium",
        "none",
        "max",
        "minimal",
        "no",
        "enable",
        "disable",
        "enabled",
        "disabled",
    ];
    let lower = text.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).peekable();
    let core = ["think", "reason"].iter().any(|c| lower.contains(c));
    core && words.peek().is_some() && words.all(|w| WORDS.contains(&w))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_switches_are_told_from_words() {
        for text in
            ["</think>", "<tool_response>", "[BEGIN FINAL RESPONSE]", "/no_think", "\n\n", "<|channel|>x", "```json"]
        {
            assert!(is_marker(text), "{text}");
        }
        for text in ["deploy", "/deploy", "password", "I am", "user"] {
            assert!(!is_marker(text) && !is_switch(text), "{text}");
        }
        assert!(is_switch("detailed thinking on") && is_switch("Reasoning Effort") && !is_switch("on"));
    }

    #[test]
    fn differences_keep_to_characters() {
        assert_eq!(difference("aäb", "aöb"), ("ö", "ä"));
        assert_eq!(difference("ab", "axxb"), ("xx", ""));
        assert_eq!(difference("aa", "a"), ("", "a"));
        assert_eq!(undated("On Mon, 3 March 2025 at 10 PM: May"), undated("On Tue, 11 Dec 2026 at 9 AM: June"));
        assert_eq!(added_words("one two", "two three one three"), ["three", "three"]);
    }
}
