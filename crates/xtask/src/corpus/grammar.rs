//! The random numbers and the template language of the corpus.
//!
//! Owns choice and expansion. Knows nothing of stories or facts: those are data in the files beside it.
//!
//! A template is text with
//! - `[one|two|three]`: one of the alternatives (they nest, and may be empty),
//! - `{slot}`, `{Slot}`: a value of the scope, the second with a capital letter,
//! - `{slot.1}`: the second field of a value whose fields are divided by `/`,
//! - `{#table}`: a fresh entry of a word table,
//! - `{a slot}`, `{A slot}`: the value with its article.

use super::words;

/// A counter-based generator (SplitMix64's finaliser over key and counter): document `n` of a seed is
/// the same whatever was generated before it.
#[derive(Clone, Debug)]
pub struct Rng {
    key: u64,
    counter: u64,
}

impl Rng {
    /// The stream of one document.
    pub fn new(seed: u64, document: u64) -> Self {
        Rng { key: mix(seed ^ mix(document.wrapping_add(0x7065_6262_6c65))), counter: 0 }
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.key ^ self.counter)
    }

    /// A number in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A number in `low..=high`.
    pub fn within(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1).max(1) as usize) as i64
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the items. Panics on an empty list, which is a mistake in a word table.
    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    /// `n` different entries, in random order.
    pub fn some<'a, T: ?Sized>(&mut self, items: &[&'a T], n: usize) -> Vec<&'a T> {
        let mut all = items.to_vec();
        for i in 0..n.min(all.len()) {
            let j = i + self.below(all.len() - i);
            all.swap(i, j);
        }
        all.truncate(n);
        all
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The values that a template may name, and the generator that chooses.
pub struct Scope {
    /// Where every choice comes from.
    pub rng: Rng,
    /// Whether the text has mentioned the friend of the story.
    pub met: bool,
    /// Draw from the head of the long tables only: the finishing course of a short training run.
    pub narrow: bool,
    slots: Vec<(String, String)>,
}

impl Scope {
    /// A scope without values.
    pub fn new(rng: Rng) -> Self {
        Scope { rng, met: false, narrow: false, slots: Vec::new() }
    }

    /// Sets a slot; a later value hides an earlier one.
    pub fn set(&mut self, slot: &str, value: impl Into<String>) {
        self.slots.push((slot.to_owned(), value.into()));
    }

    /// Sets a slot from a word table.
    pub fn draw(&mut self, slot: &str, table: &str) {
        let value = self.rng.pick(words::table(table));
        self.set(slot, value);
    }

    /// The value of `slot` or of `slot.field`.
    pub fn get(&self, name: &str) -> &str {
        let (slot, field) = name.split_once('.').unwrap_or((name, "0"));
        let value = self.slots.iter().rev().find(|(n, _)| n == slot);
        let value = value.unwrap_or_else(|| panic!("corpus template names the slot `{slot}`, which is not set"));
        let field: usize = field.parse().expect("a slot's field is a number");
        value.1.split('/').nth(field).unwrap_or_else(|| panic!("`{}` has no field {field}", value.1))
    }

    /// An index into a table of facts with `len` rows; among the first 20 of them in the narrow course.
    pub fn entry(&mut self, len: usize) -> usize {
        let len = if self.narrow { len.min(20) } else { len };
        self.rng.below(len)
    }

    /// Chooses one of the templates and expands it.
    pub fn any(&mut self, templates: &[&str]) -> String {
        let template = self.rng.pick(templates);
        self.say(template)
    }

    /// One of the (request, answer) pairs, both expanded.
    pub fn any_pair(&mut self, pairs: &[(&str, &str)]) -> (String, String) {
        let (ask, answer) = pairs[self.rng.below(pairs.len())];
        (self.say(ask), self.say(answer))
    }

    /// Expands one template.
    pub fn say(&mut self, template: &str) -> String {
        let mut out = String::new();
        self.expand(template, &mut out);
        tidy(&out)
    }

    fn expand(&mut self, template: &str, out: &mut String) {
        let mut rest = template;
        while let Some(at) = rest.find(['[', '{']) {
            out.push_str(&rest[..at]);
            if rest[at..].starts_with('[') {
                let (choices, tail) = alternatives(&rest[at + 1..]);
                let choice = self.rng.pick(&choices);
                self.expand(choice, out);
                rest = tail;
            } else {
                let end = rest[at..].find('}').unwrap_or_else(|| panic!("unclosed slot in `{template}`"));
                let value = self.value(&rest[at + 1..at + end]);
                self.expand(&value, out);
                rest = &rest[at + end + 1..];
            }
        }
        out.push_str(rest);
    }

    fn value(&mut self, name: &str) -> String {
        if let Some(name) = name.strip_prefix("a ") {
            return with_article(&self.value(name));
        }
        if let Some(name) = name.strip_prefix("A ") {
            return capital(&with_article(&self.value(name)));
        }
        if let Some(table) = name.strip_prefix('#') {
            let (table, field) = table.split_once('.').unwrap_or((table, "0"));
            let entry = self.rng.pick(words::table(table));
            let field: usize = field.parse().expect("a field is a number");
            return entry.split('/').nth(field).unwrap_or(entry).to_owned();
        }
        if name.starts_with(|c: char| c.is_ascii_uppercase()) {
            let value = self.value(&name.to_ascii_lowercase());
            // A value may itself be a template ("{his} grandmother").
            let mut text = String::new();
            self.expand(&value, &mut text);
            return capital(&text);
        }
        match name {
            "friend" => self.friend("friend_first"),
            "friendi" => self.friend("friend_new"),
            _ => self.get(name).to_owned(),
        }
    }

    /// The friend by name, or at the first mention by the fuller form in `slot`.
    fn friend(&mut self, slot: &str) -> String {
        let name = if self.met { "friend" } else { slot };
        self.met = true;
        self.get(name).to_owned()
    }
}

/// Splits `a|b[c|d]|e]tail` into its top-level choices and the tail.
fn alternatives(text: &str) -> (Vec<&str>, &str) {
    let (mut depth, mut start, mut choices) = (0usize, 0usize, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' if depth == 0 => {
                choices.push(&text[start..i]);
                return (choices, &text[i + 1..]);
            }
            ']' => depth -= 1,
            '|' if depth == 0 => {
                choices.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    panic!("unclosed choice in `{text}`")
}

/// The text with its first letter in upper case.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// `fox` becomes `a fox`, `owl` becomes `an owl`.
pub fn with_article(text: &str) -> String {
    let vowel = text.starts_with(['a', 'e', 'i', 'o', 'u']);
    let soft = ["uni", "use", "one", "eu"].iter().any(|p| text.starts_with(p));
    let mute = text.starts_with("hour") || text.starts_with("honest");
    if (vowel && !soft) || mute { format!("an {text}") } else { format!("a {text}") }
}

/// Removes the double spaces that empty alternatives leave, and spaces before punctuation.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == ' ' && (out.is_empty() || out.ends_with([' ', '\n'])) {
            continue;
        }
        if matches!(c, '.' | ',' | '!' | '?') && out.ends_with(' ') {
            out.pop();
        }
        out.push(c);
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_does_not_depend_on_the_ones_before_it() {
        let mut first = Rng::new(1, 5);
        let mut again = Rng::new(1, 5);
        assert_eq!(first.next(), again.next());
        assert_ne!(Rng::new(1, 5).next(), Rng::new(1, 6).next());
        assert_ne!(Rng::new(1, 5).next(), Rng::new(2, 5).next());
    }

    #[test]
    fn templates_expand() {
        let mut s = Scope::new(Rng::new(1, 1));
        s.set("kind", "owl");
        s.set("place", "in the wood/the wood");
        assert_eq!(
            s.say("{A kind} sat {place}. {Place.1} was [|] dark[]."),
            "An owl sat in the wood. The wood was dark."
        );
        assert_eq!(s.say("[{a kind}|{a kind}]"), "an owl");
        assert_eq!(with_article("unicorn"), "a unicorn");
    }
}
