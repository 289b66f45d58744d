//! Requests whose answer stands in the request: repeating, finding in a list, who has what, what lies where.
//!
//! Owns the exercises that teach a small model to look back instead of guessing.

use super::grammar::Scope;
use super::words;

const TABLES: [&str; 12] = [
    "animal",
    "fruit",
    "vegetable",
    "colour",
    "flower",
    "tool",
    "vehicle",
    "clothes",
    "girl",
    "boy",
    "odd",
    "pet_name",
];

/// One request and its answer.
pub fn recall(s: &mut Scope) -> (String, String) {
    match s.rng.below(10) {
        0..=3 => repeat(s),
        4 => in_list(s),
        5..=7 => owners(s),
        _ => places(s),
    }
}

/// Different words from mixed tables.
fn mixed(s: &mut Scope, n: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    while out.len() < n {
        let table = TABLES[s.rng.below(TABLES.len())];
        let word = s.rng.pick(words::table(table)).to_owned();
        if !out.contains(&word) {
            out.push(word);
        }
    }
    out
}

fn repeat(s: &mut Scope) -> (String, String) {
    let n = s.rng.within(1, 8) as usize;
    let line = match s.rng.below(4) {
        0 | 1 => {
            let comma = s.rng.chance(50);
            mixed(s, n).join(if comma { ", " } else { " " })
        }
        2 => (0..n).map(|_| s.rng.within(0, 99).to_string()).collect::<Vec<_>>().join(", "),
        _ => s.say(
            "The [{#trait}|{#colour}] {#animal} [likes|sees|follows|helps|finds] the [{#trait}|{#colour}] {#odd}.",
        ),
    };
    s.set("line", line.as_str());
    (
        s.any(&[
            "Repeat after me: {line}",
            "Say this: {line}",
            "Please repeat: {line}",
            "Repeat: {line}",
            "Copy this: {line}",
            "Write this again: {line}",
        ]),
        line,
    )
}

fn in_list(s: &mut Scope) -> (String, String) {
    let n = s.rng.within(3, 7) as usize;
    let list = mixed(s, n);
    let i = s.rng.below(n - 1);
    s.set("list", list.join(", "));
    s.set("first", list[0].as_str());
    s.set("last", list[n - 1].as_str());
    s.set("here", list[i].as_str());
    s.set("next", list[i + 1].as_str());
    s.any_pair(&[
        ("Which word comes after \"{here}\"? {list}", "After \"{here}\" comes \"{next}\"."),
        ("{list}. What comes after {here}?", "After {here} comes {next}."),
        ("What is the first word of this list? {list}", "The first word is {first}."),
        ("What is the last word of this list? {list}", "The last word is {last}."),
    ])
}

fn owners(s: &mut Scope) -> (String, String) {
    let n = s.rng.within(2, 4) as usize;
    let girls = s.rng.chance(50);
    let people = s.rng.some(words::table(if girls { "girl" } else { "boy" }), n);
    let colours = s.rng.some(words::table("colour"), n);
    let table = ["vehicle", "toy", "clothes", "fruit", "flower", "instrument", "tool"][s.rng.below(7)];
    let things = s.rng.some(words::table(table), n);
    let mut text = String::new();
    for i in 0..n {
        s.set("who", people[i]);
        s.set("what", format!("{} {}", colours[i], things[i]));
        text.push_str(&s.say("{who} has {a what}."));
        text.push(' ');
    }
    let i = s.rng.below(n);
    for (slot, value) in [("who", people[i]), ("hue", colours[i]), ("thing", things[i]), ("text", text.trim_end())] {
        s.set(slot, value);
    }
    s.set("what", format!("{} {}", colours[i], things[i]));
    s.any_pair(&[
        ("{text} What does {who} have?", "{who} has {a what}."),
        ("{text} Who has the {what}?", "{who} has the {what}."),
        ("{text} Who has the {thing}?", "{who} has the {thing}."),
        ("{text} What colour is the {thing}?", "The {thing} is {hue}."),
        ("{text} Which colour does the {thing} of {who} have?", "The {thing} of {who} is {hue}."),
    ])
}

fn places(s: &mut Scope) -> (String, String) {
    let n = s.rng.within(2, 4) as usize;
    let things = s.rng.some(words::table("thing"), n);
    let spots = s.rng.some(words::table("spot"), n);
    let text: Vec<String> = things.iter().zip(&spots).map(|(thing, spot)| format!("The {thing} is {spot}.")).collect();
    let i = s.rng.below(n);
    for (slot, value) in [("thing", things[i]), ("spot", spots[i])] {
        s.set(slot, value);
    }
    s.set("text", text.join(" "));
    s.any_pair(&[
        ("{text} Where is the {thing}?", "The {thing} is {spot}."),
        ("{text} What is {spot}?", "The {thing} is {spot}."),
        ("Where is the {thing}? {text}", "The {thing} is {spot}."),
    ])
}
