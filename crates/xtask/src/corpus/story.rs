//! Stories: a hero, a friend, a place, one arc, and questions about it.
//!
//! Owns how an arc becomes a text and a request. The arcs themselves are data in `arcs`.

use super::arcs::{ARCS, Arc};
use super::grammar::{Rng, Scope, capital};
use super::words;

/// A story, and what may be asked about it.
pub struct Story {
    /// The text, in one or more paragraphs.
    pub text: String,
    /// A short heading.
    pub title: String,
    /// What a request for this story may say after "about".
    pub topic: String,
    /// Questions and answers, in random order.
    pub asks: Vec<(String, String)>,
}

const SHE: [&str; 5] = ["she", "her", "her", "herself", "girl"];
const HE: [&str; 5] = ["he", "him", "his", "himself", "boy"];

/// Introduces a character under the given slot prefix ("" for the hero, "f" for the friend).
fn character(s: &mut Scope, hero: bool, other: &str) -> String {
    let prefix = if hero { "" } else { "f" };
    let roll = s.rng.below(100);
    let (mut kind, mut table, mut gender) = (String::new(), "pet_name", None);
    while kind.is_empty() || kind == other {
        if s.narrow {
            kind = s.rng.pick(&words::ANIMALS[..24]).to_owned();
        } else if roll < 52 {
            kind = s.say("{#animal}");
        } else if roll < 65 {
            kind = s.say("{#odd}");
        } else if roll < 78 {
            kind = s.say("{#fantasy}");
        } else if roll < 89 {
            (kind, table, gender) = ("girl".into(), "girl", Some(SHE));
        } else {
            (kind, table, gender) = ("boy".into(), "boy", Some(HE));
        }
        if kind == other && roll >= 78 {
            kind = if gender == Some(SHE) { "woman".into() } else { "man".into() };
        }
    }
    let gender = gender.unwrap_or_else(|| gender_of(&kind, &mut s.rng));
    if table == "pet_name" && s.rng.chance(35) {
        table = if gender == SHE { "girl" } else { "boy" };
    }
    for (slot, word) in ["he", "him", "his", "himself"].iter().zip(gender) {
        s.set(&format!("{prefix}{slot}"), word);
    }
    s.set(&format!("{prefix}kind"), kind.as_str());
    let named = matches!(kind.as_str(), "girl" | "boy" | "woman" | "man") || (!s.narrow && s.rng.chance(65));
    let mut name = s.say(&format!("{{#{table}}}"));
    while !hero && name == s.get("hero") {
        name = s.say(&format!("{{#{table}}}"));
    }
    // The hero's trait may be about age or size; then another word for it would contradict.
    let plain = s.narrow || kind.contains(' ') || (hero && ["small", "tiny", "young", "old"].contains(&s.get("trait")));
    let size =
        if plain { String::new() } else { s.any(&["", "", "", "", "little", "young", "small", "friendly", "old"]) };
    let described = if size.is_empty() { kind.clone() } else { format!("{size} {kind}") };
    s.set("described", described);
    if named {
        let new = s.say(&format!("{{a described}} [called|named] {name}"));
        set_character(s, hero, &name, &new, &format!("{name} the {kind}"));
    } else {
        let new = s.say("{a described}");
        set_character(s, hero, &format!("the {kind}"), &new, &new);
    }
    kind
}

fn set_character(s: &mut Scope, hero: bool, name: &str, new: &str, first: &str) {
    if hero {
        s.set("hero", name);
        s.set("heroi", new);
    } else {
        s.set("friend", name);
        s.set("friend_new", new);
        s.set("friend_first", first);
    }
}

fn gender_of(kind: &str, rng: &mut Rng) -> [&'static str; 5] {
    match kind {
        "princess" | "queen" | "fairy" | "witch" | "mermaid" | "hen" | "cow" => SHE,
        "prince" | "king" | "wizard" | "knight" | "fisherman" | "postman" | "rooster" => HE,
        _ if rng.chance(50) => SHE,
        _ => HE,
    }
}

const OPENINGS: &[&str] = &[
    "Once upon a time, {place}, there lived {heroi}. {Hero} was {trait} and {trait.1}.",
    "Once upon a time there was {heroi} who lived {place}. {He} was {trait}, and {he} {trait.1}.",
    "{Place} lived {heroi}. {Hero} {trait.1}.",
    "There was once {heroi} who {trait.1}. {He} lived {place}.",
    "Long ago, {place}, lived {heroi}. Everybody knew that {hero} {trait.1}.",
    "{Heroi} lived {place}. {He} was {trait} and {trait.1}.",
    "Not far from here, {place}, lives {heroi}. This is a story about {him}.",
    "This is the story of {heroi}, who lived {place}. {Hero} was {trait}, and {he} {trait.1}.",
    "{Heroi} [had a home|had a small home] {place}. {Hero} {trait.1}.",
    "Many years ago there was {heroi}. {He} lived {place}, and {he} {trait.1}.",
];

const ENDINGS: &[&str] = &[
    "And so {hero} learned that {lesson}.",
    "That day {hero} learned that {lesson}.",
    "From that day on, {hero} knew that {lesson}.",
    "\"Now I know that {lesson},\" said {hero}.",
    "And {hero} never forgot that {lesson}.",
    "That night {hero} fell asleep with a smile, for {he} had learned that {lesson}.",
    "{Hero} and {friend} stayed friends for the rest of their lives.",
    "And if you go there today, you may still see {hero} and {friend} together.",
    "They were happy, and so the story ends.",
    "And that is the end of the story.",
    "It had been a good day, thought {hero}, and {he} closed {his} eyes.",
    "",
];

/// Tells one story.
pub fn tell(s: &mut Scope) -> Story {
    let arc = &ARCS[s.rng.below(ARCS.len())];
    s.met = false;
    for slot in ["trait", "place", "weather", "elder"] {
        s.draw(slot, slot);
    }
    let kind = character(s, true, "");
    character(s, false, &kind);
    draw_slots(s, arc);
    let mut beats = vec![s.any(OPENINGS)];
    for beat in arc.beats {
        beats.push(s.any(beat));
    }
    let ending = s.any(ENDINGS);
    let text = paragraphs(s, beats, ending);
    let asks = questions(s, arc, &text);
    Story { title: title(s, arc), topic: topic(s, arc), text, asks }
}

fn draw_slots(s: &mut Scope, arc: &Arc) {
    let mut used: Vec<String> = Vec::new();
    for (slot, table) in arc.draws {
        loop {
            let value = s.rng.pick(words::table(table));
            if !used.iter().any(|u| u == value) {
                used.push(value.to_owned());
                s.set(slot, value);
                break;
            }
        }
    }
    let lesson = s.any(arc.lesson);
    s.set("lesson", lesson);
}

fn paragraphs(s: &mut Scope, beats: Vec<String>, ending: String) -> String {
    let split = s.rng.chance(55);
    let mut text = String::new();
    for (i, beat) in beats.iter().chain([&ending]).enumerate() {
        if beat.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push_str(if split && (i % 2 == 0 || i + 1 == beats.len()) { "\n\n" } else { " " });
        }
        text.push_str(beat);
    }
    text
}

fn questions(s: &mut Scope, arc: &Arc, text: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = arc.asks.iter().map(|(q, a)| (s.say(q), s.say(a))).collect();
    all.push((s.say("[Where did {hero} live?|Where does the story take place?]"), s.say("{Hero} lived {place}.")));
    all.push((
        s.say("[Who is the story about?|Who is the main character?]"),
        s.say("[The story|It] is about {heroi}."),
    ));
    if s.get("hero") != format!("the {}", s.get("kind")) {
        all.push((s.say("What is {hero}?"), s.say("{Hero} is {a kind}.")));
        all.push((s.say("What is the name of the {kind}?"), s.say("The name of the {kind} is {hero}.")));
    }
    if text.contains(s.get("trait.1")) {
        all.push((s.say("What is {hero} like?"), s.say("{Hero} is {trait}.")));
    }
    all.push((
        s.say("[What is the moral of the story?|What can we learn from the story?|What does the story teach us?]"),
        s.say("[The story teaches us that {lesson}.|We can learn that {lesson}.|The moral is that {lesson}.]"),
    ));
    all.push((
        s.say("[Who is the friend of {hero}?|Who else is in the story?]"),
        s.say("[{Friend} is the friend of {hero}.|{Friend} is in the story too.]"),
    ));
    let all: Vec<&(String, String)> = all.iter().collect();
    let n = s.rng.within(1, 3) as usize;
    s.rng.some(&all, n).into_iter().cloned().collect()
}

fn title(s: &mut Scope, arc: &Arc) -> String {
    let theme = s.any(arc.themes);
    s.set("theme", theme);
    let line =
        s.any(&["{Hero}", "The Story of {hero}", "{Hero} and {friend}", "A Story about {theme}", "{Hero} and {theme}"]);
    capital(&line)
}

/// What the request names: mostly the hero's kind, else the friend, the theme or both.
fn topic(s: &mut Scope, arc: &Arc) -> String {
    if s.narrow {
        return s.say("{a kind}");
    }
    let theme = s.any(arc.themes);
    s.set("theme", theme);
    let hero_named = s.get("heroi").to_owned();
    s.set("heron", hero_named);
    s.any(&[
        "{a kind}",
        "{a kind}",
        "{a kind}",
        "{a kind}",
        "{a kind}",
        "{a kind}",
        "{a trait} {kind}",
        "{heron}",
        "{a kind} and {a fkind}",
        "{a kind} and {a fkind}",
        "{theme}",
        "{theme}",
        "{theme}",
        "{a kind} and {theme}",
        "{a kind} {place}",
        "{a kind} who {trait.1}",
        "{a kind} and {his} friend",
        "{hero}",
    ])
}

/// A request for the story; sometimes typed in haste.
pub fn request(s: &mut Scope, topic: &str) -> String {
    s.set("topic", topic);
    let text = s.any(&[
        "Tell me a story about {topic}.",
        "Tell me a story about {topic}.",
        "Tell me a story about {topic}.",
        "Please tell me a story about {topic}.",
        "Can you tell me a story about {topic}?",
        "Write a story about {topic}.",
        "Write a short story about {topic}.",
        "I would like to hear a story about {topic}.",
        "A story about {topic}, please.",
        "Could you write a story about {topic}?",
        "Tell me [a nice|a little|a good|a bedtime|a short|an exciting] story about {topic}.",
        "Do you know a story about {topic}?",
        "Make up a story about {topic}.",
        "I want a story about {topic}.",
        "Give me a story about {topic}.",
        "Once more, please: a story about {topic}.",
        "Tell my [daughter|son|little brother|little sister] a story about {topic}.",
    ]);
    hasty(&mut s.rng, &text)
}

/// What people type: some without the full stop, some all in lower case.
pub fn hasty(rng: &mut Rng, text: &str) -> String {
    let mut text = text.to_owned();
    if rng.chance(35) && text.ends_with(['.', '?']) {
        text.pop();
    }
    if rng.chance(15) { text.to_lowercase() } else { text }
}

const TINY: &[&str] = &[
    "{A kind} called {name} wanted to reach the moon. {He} climbed the highest hill and stretched out {his} arms. The moon smiled, and {name} smiled back. That was enough.",
    "One {weather}, {a kind} found {a thing}. \"Whose is it?\" {he} asked everyone. It belonged to an old neighbour, who was so glad that they became friends.",
    "{Name} the {kind} was afraid of the rain. Then {he} saw how {a fkind} danced in the puddles. So {name} took one step outside, and soon they danced together.",
    "{A kind} had only one {fruit}. {He} met {a fkind} who had none. They cut the {fruit} in two, and both halves were sweet.",
    "{Name} was {a trait} {kind}. One {weather} {he} planted a seed and waited. In summer there was {a flower}, and {name} gave it to {his} mother.",
    "It was a {weather}. {A kind} and {a fkind} built a house of leaves. The wind blew it away, and they laughed. Then they built it again, with stones.",
    "{A kind} heard a song in the wood. {He} followed it and found {a fkind} who sang alone. \"May I sing with you?\" {he} asked. From then on the song had two voices.",
    "{Name} the {kind} could not sleep. \"Count the stars,\" said {his} grandmother. {Name} counted one, two, three, and at four {he} was asleep.",
    "There was {a kind} who never said thank you. One day {a fkind} helped {him} out of a ditch, and {he} said it for the first time. It felt so good that {he} said it again.",
    "{A trait} {kind} lost {his} {thing}. {He} looked everywhere, and in the end {he} found it {spot}. \"Next time I will look there first,\" {he} said.",
    "Every morning {name} the {kind} opened the window and said hello to the sun. One {weather} the sun did not come. So {name} said hello to the clouds, and they were glad.",
    "{A kind} wanted to be {a fkind}. {A fkind} wanted to be {a kind}. They changed places for a day. In the evening both were glad to be home.",
];

/// A very short story: (topic, text).
pub fn tiny(s: &mut Scope) -> (String, String) {
    let kind = s.say("{#animal}");
    let mut other = s.say("{#animal}");
    while other == kind {
        other = s.say("{#animal}");
    }
    let gender = gender_of(&kind, &mut s.rng);
    for (slot, word) in ["he", "him", "his", "himself"].iter().zip(gender) {
        s.set(slot, word);
    }
    s.set("kind", kind);
    s.set("fkind", other);
    for (slot, table) in [
        ("name", "pet_name"),
        ("weather", "weather"),
        ("thing", "thing"),
        ("fruit", "fruit"),
        ("flower", "flower"),
        ("trait", "trait"),
        ("spot", "spot"),
    ] {
        s.draw(slot, table);
    }
    let text = s.any(TINY);
    let topic = s.say("{a kind}");
    (topic, text)
}
