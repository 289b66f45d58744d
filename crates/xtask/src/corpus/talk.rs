//! Conversations: questions and answers, instructions, sums, small talk, refusals, chats of several turns.
//!
//! Owns how tables of facts become requests and answers. A conversation is a list of (request, answer).

use super::chat::{feelings_chat, greeting, identity, refusal, small_talk, thanks};
use super::facts::*;
use super::grammar::{Scope, capital, with_article};
use super::lore::*;
use super::recall::recall;
use super::story::{self, hasty};
use super::sums;
use super::words;

/// Requests and their answers, in order.
pub type Turns = Vec<(String, String)>;

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
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
];

/// One conversation of one to four turns, without a system message.
pub fn conversation(s: &mut Scope) -> Turns {
    match s.rng.below(100) {
        0..=22 => story_chat(s),
        23..=75 => {
            let turns = [1, 1, 1, 2, 2, 3, 4][s.rng.below(7)];
            (0..turns).map(|_| single(s)).collect()
        }
        76..=87 => mixed_chat(s),
        88..=92 => vec![reading(s)],
        _ => feelings_chat(s),
    }
}

fn single(s: &mut Scope) -> (String, String) {
    let (ask, answer) = match s.rng.below(100) {
        0..=20 => fact(s),
        21..=40 => sums::sum(s),
        41..=52 => instruction(s),
        53..=77 if s.narrow => sums::sum(s),
        53..=77 => return recall(s),
        78..=82 => identity(s),
        83..=87 => small_talk(s),
        88..=92 => refusal(s),
        _ => words_and_letters(s),
    };
    (hasty(&mut s.rng, &ask), answer)
}

fn story_chat(s: &mut Scope) -> Turns {
    let mut turns = Vec::new();
    if s.rng.chance(12) {
        turns.push(small_talk(s));
    }
    if s.rng.chance(14) {
        let (topic, text) = story::tiny(s);
        s.set("topic", topic);
        let ask = s.any(&[
            "Tell me a very short story about {topic}.",
            "Write a tiny story about {topic}.",
            "A very short story about {topic}, please.",
            "Tell me a story about {topic} in a few sentences.",
            "Write a story about {topic} in four sentences.",
        ]);
        turns.push((hasty(&mut s.rng, &ask), text));
    } else {
        let told = story::tell(s);
        let ask = if s.rng.chance(8) {
            let open = s.any(&[
                "Tell me a story.",
                "Please tell me a story.",
                "Tell me a bedtime story.",
                "I am bored. Tell me a story.",
                "Write a story.",
                "Do you know a story?",
                "Can you tell me a story?",
            ]);
            hasty(&mut s.rng, &open)
        } else {
            story::request(s, &told.topic)
        };
        let lead = if s.rng.chance(6) {
            s.any(&["Here is a story for you.\n\n", "Of course! Listen.\n\n", "With pleasure.\n\n"]) + "\n\n"
        } else {
            String::new()
        };
        turns.push((ask, lead + &told.text));
        if s.rng.chance(45) {
            turns.extend(told.asks);
        }
    }
    if s.rng.chance(15) {
        turns.push(thanks(s));
    }
    turns
}

fn reading(s: &mut Scope) -> (String, String) {
    let told = story::tell(s);
    let (question, answer) = told.asks.into_iter().next().unwrap_or_default();
    s.set("text", told.text.replace("\n\n", " "));
    s.set("question", question);
    let ask = s.any(&[
        "Read this story: {text}\n\n{question}",
        "{text}\n\nQuestion: {question}",
        "Here is a story. {text}\n\n{question}",
        "{question}\n\n{text}",
    ]);
    (ask, answer)
}

fn mixed_chat(s: &mut Scope) -> Turns {
    let mut turns = vec![greeting(s)];
    for _ in 0..s.rng.within(1, 3) {
        turns.push(single(s));
    }
    if s.rng.chance(60) {
        turns.push(thanks(s));
    }
    turns
}

fn fact(s: &mut Scope) -> (String, String) {
    match s.rng.below(16) {
        0 | 1 => colour(s),
        2..=4 => animal(s),
        5 => opposite(s),
        6 => capital_city(s),
        7 => use_of(s),
        8 => job(s),
        9 => calendar(s),
        10 => bigger(s),
        11 => kind_of(s),
        _ => {
            let (q, a) = SINGLE[s.entry(SINGLE.len())];
            let lead = s.any(&[
                "",
                "",
                "",
                "Please tell me: ",
                "I have a question. ",
                "Can you answer this? ",
                "Quick question: ",
            ]);
            (join(&lead, q), a.to_owned())
        }
    }
}

fn join(lead: &str, rest: &str) -> String {
    if lead.is_empty() { rest.to_owned() } else { format!("{lead} {rest}") }
}

fn colour(s: &mut Scope) -> (String, String) {
    let (thing, _, colour) = COLOUR_OF[s.entry(COLOUR_OF.len())];
    s.set("thing", thing);
    s.set("hue", colour);
    let ask = s.any(&[
        "What [colour|color] is {thing}?",
        "What is the [colour|color] of {thing}?",
        "What is the [colour|color] of {thing}?",
        "Which colour does {thing} have?",
        "Do you know what colour {thing} is?",
        "Tell me the colour of {thing}.",
    ]);
    (
        ask,
        s.any(&[
            "{Thing} is {hue}.",
            "{Thing} is {hue}.",
            "{Thing} is usually {hue}.",
            "The colour of {thing} is {hue}.",
        ]),
    )
}

fn animal(s: &mut Scope) -> (String, String) {
    let (name, sound, home, young, food, legs, more) = ANIMAL_FACTS[s.entry(ANIMAL_FACTS.len())];
    for (slot, value) in [
        ("an", with_article(name)),
        ("name", name.into()),
        ("sound", sound.into()),
        ("home", home.into()),
        ("young", with_article(young)),
        ("food", food.into()),
        ("legs", legs.into()),
        ("more", more.into()),
    ] {
        s.set(slot, value);
    }
    s.draw("hue", "colour");
    let pairs: &[(&str, &str)] = &[
        ("What [sound|noise] does {an} make?", "{An} {sound}."),
        ("Where does {an} live?", "{An} lives {home}."),
        ("What is a [young|baby] {name} called?", "A young {name} is called {young}."),
        ("What do you call a baby {name}?", "A baby {name} is called {young}."),
        ("What does {an} eat?", "{An} eats {food}."),
        ("How many legs does {an} have?", "{An} has {legs} legs."),
        ("Tell me [something|a fact|one thing] about {an}.", "{An} {more}."),
        ("What do you know about {an}?", "{An} {more}. It lives {home} and eats {food}."),
        ("Describe {an}.", "{An} is an animal that lives {home}. It eats {food}, and it {more}."),
        ("What is {an}?", "{An} is an animal. It lives {home} and {more}."),
        ("Write [a sentence|one sentence] about {an}.", "{An} {more}."),
    ];
    let (q, a) = pairs[s.rng.below(pairs.len())];
    (s.say(q), s.say(a))
}

fn opposite(s: &mut Scope) -> (String, String) {
    let (a, b) = OPPOSITES[s.entry(OPPOSITES.len())];
    let (a, b) = if s.rng.chance(50)
        && a != "light"
        && b != "light"
        && b != "short"
        && b != "old"
        && b != "quiet"
        && a != "kind"
    {
        (b, a)
    } else {
        (a, b)
    };
    s.set("one", a);
    s.set("two", b);
    (
        s.any(&[
            "What is the opposite of {one}?",
            "What is the opposite of \"{one}\"?",
            "Tell me the opposite of {one}.",
            "Which word is the opposite of {one}?",
            "Opposite of {one}?",
        ]),
        s.any(&["The opposite of {one} is {two}.", "The opposite of {one} is {two}.", "It is {two}."]),
    )
}

fn capital_city(s: &mut Scope) -> (String, String) {
    let (country, city) = CAPITALS[s.entry(CAPITALS.len())];
    s.set("land", country);
    s.set("city", city);
    let pairs: &[(&str, &str)] = &[
        ("What is the capital of {land}?", "The capital of {land} is {city}."),
        ("What is the capital of {land}?", "The capital of {land} is {city}."),
        ("Which city is the capital of {land}?", "{city} is the capital of {land}."),
        ("Of which country is {city} the capital?", "{city} is the capital of {land}."),
        ("Is {city} the capital of {land}?", "Yes, {city} is the capital of {land}."),
    ];
    let (q, a) = pairs[s.rng.below(pairs.len())];
    (s.say(q), s.say(a))
}

fn use_of(s: &mut Scope) -> (String, String) {
    let (thing, purpose) = USES[s.entry(USES.len())];
    s.set("thing", thing);
    s.set("purpose", purpose);
    let many = thing.ends_with('s') && !thing.starts_with("a ");
    s.set("is", if many { "are" } else { "is" });
    let pairs: &[(&str, &str)] = &[
        ("What {is} {thing} for?", "{Thing} {is} used to {purpose}."),
        ("What {is} {thing} for?", "You use {thing} to {purpose}."),
        ("What can you do with {thing}?", "With {thing} you can {purpose}."),
        ("What do we need {thing} for?", "We need {thing} to {purpose}."),
        ("What {is} {thing}?", "{Thing} {is} something that you use to {purpose}."),
        ("Why do people use {thing}?", "People use {thing} to {purpose}."),
        ("What do you use to {purpose}?", "You use {thing} to {purpose}."),
        ("What do I need to {purpose}?", "You need {thing} to {purpose}."),
    ];
    let (q, a) = pairs[s.rng.below(pairs.len())];
    (s.say(q), s.say(a))
}

fn job(s: &mut Scope) -> (String, String) {
    let (name, does) = JOBS[s.entry(JOBS.len())];
    s.set("job", name);
    s.set("does", does);
    let pairs: &[(&str, &str)] = &[
        ("What does {a job} do?", "{A job} {does}."),
        ("What is the work of {a job}?", "{A job} {does}."),
        ("Who {does}?", "{A job} {does}."),
        ("What is {a job}?", "{A job} is somebody who {does}."),
        ("What do you call somebody who {does}?", "Somebody who {does} is called {a job}."),
    ];
    let (q, a) = pairs[s.rng.below(pairs.len())];
    (s.say(q), s.say(a))
}

fn calendar(s: &mut Scope) -> (String, String) {
    let days = s.rng.chance(50);
    let list: &[&str] = if days { &DAYS } else { &MONTHS };
    let i = s.rng.below(list.len());
    let n = list.len();
    s.set("here", list[i]);
    s.set("next", list[(i + 1) % n]);
    s.set("last", list[(i + n - 1) % n]);
    s.set("what", if days { "day" } else { "month" });
    s.set("all", format!("{} and {}", list[..n - 1].join(", "), list[n - 1]));
    s.set("whole", if days { "week" } else { "year" });
    let ordinal = [
        "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
        "twelfth",
    ];
    s.set("place", ordinal[i]);
    let pairs: &[(&str, &str)] = &[
        ("Which {what} comes after {here}?", "After {here} comes {next}."),
        ("What {what} comes after {here}?", "After {here} comes {next}."),
        ("Which {what} comes before {here}?", "Before {here} comes {last}."),
        ("What comes after {here}?", "After {here} comes {next}."),
        ("What comes before {here}?", "Before {here} comes {last}."),
        ("What are the {what}s of the {whole}?", "The {what}s of the {whole} are {all}."),
        ("Name the {what}s of the {whole}.", "The {what}s of the {whole} are {all}."),
        ("What is the {place} {what} of the {whole}?", "The {place} {what} of the {whole} is {here}."),
        ("Today is {here}. What {what} [is tomorrow|comes next]?", "After {here} comes {next}."),
    ];
    let (q, a) = pairs[s.rng.below(pairs.len())];
    if !days && q.starts_with("Today") {
        return (s.say("It is {here}. Which month comes next?"), s.say(a));
    }
    (s.say(q), s.say(a))
}

fn bigger(s: &mut Scope) -> (String, String) {
    let (big, small) = BIGGER[s.entry(BIGGER.len())];
    s.set("big", big);
    s.set("little", small);
    let pairs: &[(&str, &str)] = &[
        ("Which is bigger, {big} or {little}?", "{Big} is bigger than {little}."),
        ("Which is bigger, {little} or {big}?", "{Big} is bigger than {little}."),
        ("Which is smaller, {big} or {little}?", "{Little} is smaller than {big}."),
        ("What is smaller, {little} or {big}?", "{Little} is smaller than {big}."),
        ("Is {big} bigger than {little}?", "Yes, {big} is bigger than {little}."),
        ("Is {little} bigger than {big}?", "No, {little} is smaller than {big}."),
    ];
    let (q, a) = pairs[s.rng.below(pairs.len())];
    (s.say(q), s.say(a))
}

fn bare(table: &str) -> bool {
    matches!(
        table,
        "colour" | "drink" | "sport" | "feeling" | "dessert" | "country" | "language" | "metal" | "planet" | "game"
    )
}

fn kind_of(s: &mut Scope) -> (String, String) {
    let (kind, table, _) = KINDS[s.entry(KINDS.len())];
    let (other, other_table, _) = KINDS[s.entry(KINDS.len())];
    let word = s.rng.pick(words::table(table));
    let thing = if bare(table) || word == "spinach" || word == "garlic" { word.to_owned() } else { with_article(word) };
    s.set("thing", thing);
    s.set("kind", kind);
    s.set("other", other);
    let clash = other == kind
        || words::table(other_table).contains(&word)
        || kind.contains("animal")
        || other.contains("animal");
    if clash || s.rng.chance(50) {
        return (
            s.any(&["What is {thing}?", "Is {thing} {kind}?", "What kind of thing is {thing}?"]),
            s.any(&["{Thing} is {kind}."]),
        )
            .pipe_yes();
    }
    (
        s.any(&["Is {thing} {kind} or {other}?", "Is {thing} {other} or {kind}?", "Is {thing} {other}?"]),
        s.say("{Thing} is {kind}."),
    )
        .pipe_no(other)
}

/// Puts "Yes" or "No" in front of an answer whose question asks for it.
trait YesNo {
    fn pipe_yes(self) -> (String, String);
    fn pipe_no(self, other: &str) -> (String, String);
}

impl YesNo for (String, String) {
    fn pipe_yes(self) -> (String, String) {
        let (ask, answer) = self;
        if ask.starts_with("Is ") {
            let yes = format!("Yes, {}", lower_article(&answer));
            (ask, yes)
        } else {
            (ask, answer)
        }
    }

    fn pipe_no(self, other: &str) -> (String, String) {
        let (ask, answer) = self;
        if ask.contains(" or ") || !ask.ends_with(&format!("{other}?")) {
            return (ask, answer);
        }
        let no = format!("No, {}", lower_article(&answer));
        (ask, no)
    }
}

fn lower_article(text: &str) -> String {
    let proper = [
        "Monday",
        "English",
        "French",
        "Spanish",
        "German",
        "Italian",
        "Chinese",
        "Arabic",
        "Hindi",
        "Japanese",
        "Portuguese",
    ];
    let first = text.split(' ').next().unwrap_or_default();
    let name =
        proper.contains(&first) || words::table("country").contains(&first) || words::table("planet").contains(&first);
    if name { text.to_owned() } else { text[..1].to_lowercase() + &text[1..] }
}

fn listed(items: &[&str]) -> String {
    match items {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

const NUMBER: [&str; 8] = ["zero", "one", "two", "three", "four", "five", "six", "seven"];

fn instruction(s: &mut Scope) -> (String, String) {
    match s.rng.below(14) {
        0..=3 => list(s),
        4 | 5 => sentence(s),
        6 => poem(s),
        7 => how_to(s),
        8 => riddle(s),
        9 => repeat(s),
        10 => name_something(s),
        11 => idea(s),
        12 => message(s),
        _ => describe(s),
    }
}

fn list(s: &mut Scope) -> (String, String) {
    let (_, table, many) = KINDS[s.entry(KINDS.len())];
    let n = s.rng.within(2, 5) as usize;
    let items = s.rng.some(words::table(table), n);
    let n = if s.rng.chance(75) { NUMBER[items.len()].to_owned() } else { items.len().to_string() };
    s.set("n", n);
    s.set("many", many);
    let ask = s.any(&[
        "List {n} {many}.",
        "Name {n} {many}.",
        "Give me {n} {many}.",
        "Tell me {n} {many}.",
        "Can you name {n} {many}?",
        "Write a list of {n} {many}.",
        "I need {n} {many}.",
        "Please list {n} {many}.",
    ]);
    let answer = match s.rng.below(4) {
        0 => items.iter().enumerate().map(|(i, w)| format!("{}. {}", i + 1, capital(w))).collect::<Vec<_>>().join("\n"),
        1 => items.iter().map(|w| format!("- {w}")).collect::<Vec<_>>().join("\n"),
        2 => {
            s.set("items", listed(&items));
            s.say("{N} {many} are {items}.").replacen(&items.len().to_string(), NUMBER[items.len()], 1)
        }
        _ => format!("{}.", capital(&listed(&items))),
    };
    (ask, capital(&answer))
}

fn sentence(s: &mut Scope) -> (String, String) {
    for (slot, table) in [
        ("kind", "animal"),
        ("place", "place"),
        ("weather", "weather"),
        ("thing", "thing"),
        ("food", "food"),
        ("hue", "colour"),
        ("skill", "skill"),
        ("trait", "trait"),
        ("vehicle", "vehicle"),
        ("flower", "flower"),
        ("fruit", "fruit"),
    ] {
        s.draw(slot, table);
    }
    let pairs: &[(&str, &str)] = &[
        (
            "{a kind}",
            "[The {trait} {kind} [slept|played|sat|waited] {place}.|{A kind} found {a thing} {place}.|One {weather}, {a kind} walked along the road.|The {kind} wanted to {skill}.|{A trait} {kind} ate some {food}.]",
        ),
        (
            "{a thing}",
            "[On the table lay {a thing}.|My grandmother gave me {a thing}.|She put the {thing} into her bag.|The {thing} is very old, but it is beautiful.]",
        ),
        ("{food}", "[We ate {food} for lunch.|The whole house smelled of {food}.|My father makes the best {food}.]"),
        (
            "{a vehicle}",
            "[The {vehicle} stopped in front of the school.|A {hue} {vehicle} came around the corner.|We travelled to the sea by {vehicle}.]",
        ),
        (
            "{a flower}",
            "[In the garden stood {a hue} {flower}.|She gave me {a flower}, and I put it into a glass of water.|The {flower} opens when the sun shines.]",
        ),
        (
            "{a fruit}",
            "[I ate {a fruit} after lunch.|There is {a fruit} on the table.|The {fruit} was sweet and full of juice.]",
        ),
        ("the moon", "[The moon shone brightly over the quiet sea.|Tonight the moon is round and white.]"),
        ("the sea", "[The sea was calm, and the gulls cried above the waves.|We could hear the sea from our window.]"),
        ("the rain", "[The rain tapped softly on the roof all night.|After the rain, the air was fresh and clean.]"),
        ("the sun", "[The sun rose slowly behind the hills.|The sun warmed the stones of the old wall.]"),
        ("a friend", "[A good friend listens even when you say nothing.|My friend and I walk to school together.]"),
        ("summer", "[In summer we swim in the lake until it gets dark.|The summer days are long and warm.]"),
        ("winter", "[In winter the lake is covered with ice.|Winter came early, and the hills turned white.]"),
        ("the snow", "[The snow fell softly and covered the whole village.|Our steps made deep holes in the snow.]"),
        ("music", "[The music made everyone want to dance.|She closed her eyes and listened to the music.]"),
        ("school", "[At school we learned how plants grow.|The school bell rang, and the children ran outside.]"),
        ("my mother", "[My mother reads to me every evening.|My mother can whistle like a bird.]"),
        ("the forest", "[The forest was dark and smelled of moss.|In the forest we heard an owl.]"),
        ("a tree", "[The old tree in our garden is full of birds.|A tree gives shade on a hot day.]"),
        ("a train", "[The train rolled slowly through the green hills.|A long train crossed the bridge.]"),
    ];
    let (topic, text) = if s.rng.chance(55) { pairs[s.rng.below(6)] } else { pairs[s.rng.below(pairs.len())] };
    let topic = s.say(topic);
    s.set("topic", topic);
    (
        s.any(&[
            "Write a sentence about {topic}.",
            "Make a sentence about {topic}.",
            "Give me a sentence about {topic}.",
            "Write one sentence about {topic}.",
            "Can you write a sentence about {topic}?",
            "Say something about {topic}.",
        ]),
        s.say(text),
    )
}

fn poem(s: &mut Scope) -> (String, String) {
    let (topic, couplets) = POEMS[s.entry(POEMS.len())];
    s.set("topic", topic);
    let n = s.rng.within(1, 3) as usize;
    let text = s.rng.some(couplets, n).join("\n");
    (
        s.any(&[
            "Write a poem about {topic}.",
            "Write a short poem about {topic}.",
            "Can you write a poem about {topic}?",
            "A poem about {topic}, please.",
            "Tell me a poem about {topic}.",
            "Make a rhyme about {topic}.",
        ]),
        text,
    )
}

fn how_to(s: &mut Scope) -> (String, String) {
    let (what, steps) = HOW_TO[s.entry(HOW_TO.len())];
    s.set("what", what);
    let ask = s.any(&[
        "How do I {what}?",
        "How can I {what}?",
        "Explain how to {what}.",
        "Tell me how to {what}.",
        "What are the steps to {what}?",
    ]);
    let text = if s.rng.chance(70) {
        steps.iter().enumerate().map(|(i, step)| format!("{}. {step}", i + 1)).collect::<Vec<_>>().join("\n")
    } else {
        steps.join(" ")
    };
    (ask, text)
}

fn riddle(s: &mut Scope) -> (String, String) {
    let joke = s.rng.chance(55);
    let (q, a) = if joke { JOKES[s.entry(JOKES.len())] } else { RIDDLES[s.entry(RIDDLES.len())] };
    s.set("q", q);
    s.set("a", a);
    if joke {
        (
            s.any(&[
                "Tell me a joke.",
                "Do you know a joke?",
                "Make me laugh.",
                "Tell me something funny.",
                "Can you tell a joke?",
                "Another joke, please.",
            ]),
            s.say("{q} {a}"),
        )
    } else if s.rng.chance(50) {
        (
            s.any(&[
                "Tell me a riddle.",
                "Do you know a riddle?",
                "Give me a riddle with the answer.",
                "Ask me a riddle.",
            ]),
            s.say("{q} [The answer is: |Answer: ]{a}"),
        )
    } else {
        (
            s.any(&["Here is a riddle: {q}", "{q}", "Can you solve this riddle? {q}"]),
            s.any(&["{a}", "The answer is: {a}"]),
        )
    }
}

fn repeat(s: &mut Scope) -> (String, String) {
    let line = s.any(&[
        "The {#animal} [likes|sees|follows] the {#animal}.",
        "{#colour} {#fruit}",
        "I have {a #thing}.",
        "{#girl} and {#boy} live {#place}.",
        "Good morning, {#boy}!",
        "{#animal}, {#flower}, {#tool}",
        "My name is {#girl}.",
        "{#skill.1} is fun.",
        "We eat {#food} today.",
        "{#boy} has a {#colour} {#clothes} and a {#colour} {#vehicle}.",
        "The {#instrument} is in the {#room}.",
    ]);
    s.set("line", line.as_str());
    (
        s.any(&[
            "Repeat after me: {line}",
            "Say this: {line}",
            "Please repeat: {line}",
            "Copy this text: {line}",
            "Say \"{line}\"",
        ]),
        line,
    )
}

fn name_something(s: &mut Scope) -> (String, String) {
    s.draw("kind", "animal");
    s.draw("name", "pet_name");
    s.draw("name2", "pet_name");
    s.draw("hue", "colour");
    s.any_pair(&[
        (
            "[Give me|I need|Suggest] a name for my {kind}.",
            "[How about {name}?|You could call your {kind} {name}.|{name} would be a good name for {a kind}.]",
        ),
        (
            "What should I call my {kind}?",
            "[You could call your {kind} {name} or {name2}.|I would call your {kind} {name}.]",
        ),
        (
            "My {kind} is called {name}. Do you like the name?",
            "[Yes, {name} is a lovely name for {a kind}.|{name} is a very nice name.]",
        ),
        ("My name is {name}. What is my name?", "Your name is {name}."),
        ("I am called {name}.", "[Nice to meet you, {name}!|Hello, {name}! What can I do for you?]"),
        ("My name is {name}.", "[Hello, {name}! It is nice to meet you.|Nice to meet you, {name}!]"),
        ("My favourite colour is {hue}. What is my favourite colour?", "Your favourite colour is {hue}."),
        ("I have {a kind} called {name}. What is it called?", "Your {kind} is called {name}."),
        ("I have {a kind} called {name}. What animal is {name}?", "{name} is {a kind}."),
    ])
}

fn idea(s: &mut Scope) -> (String, String) {
    for (slot, table) in [
        ("game", "game"),
        ("food", "food"),
        ("food2", "food"),
        ("gift", "gift"),
        ("kin", "family"),
        ("dessert", "dessert"),
        ("sport", "sport"),
    ] {
        s.draw(slot, table);
    }
    s.any_pair(&[
        ("[What can I do on a rainy day?|I am bored. What can I do?|Give me an idea for the afternoon.]", "[You could read a book, draw a picture or play {game}.|How about baking something? {Food} would be nice.|You could write a letter to a friend.|You could build a house out of blankets.|You could tidy a drawer. You may find something that you had forgotten.]"),
        ("[What should I cook today?|What can I eat for dinner?|Give me an idea for lunch.]", "[How about {food}?|You could make {food}, and some {dessert} afterwards.|I would suggest {food} or {food2}.]"),
        ("[What can I give my {kin} for a birthday?|I need a present for my {kin}.]", "[How about {gift}?|You could give your {kin} {gift}.|{Gift} would be a lovely present.]"),
        ("[What game can we play?|Suggest a game.]", "[You could play {game}.|How about {game}?]"), ("What sport should I try?", "[How about {sport}? It keeps you fit, and it is fun.|You could try {sport}.]"),
    ])
}

fn message(s: &mut Scope) -> (String, String) {
    for (slot, table) in [("name", "girl"), ("kin", "family"), ("gift", "gift"), ("food", "food"), ("me", "boy")] {
        s.draw(slot, table);
    }
    s.any_pair(&[
        ("Write a birthday [message|card] for {name}.", "Dear {name}, happy birthday! [I wish you a wonderful day and a year full of joy.|May all your wishes come true.|I hope that your day is full of cake and laughter.]"),
        ("Write a thank you note to {name}.", "Dear {name}, thank you [very much for your help.|so much for the lovely present.|for being such a good friend.] [It made me very happy.|I will not forget it.]"),
        ("Write a note to my {kin}.", "Dear {kin}, [I am thinking of you and hope that you are well.|thank you for everything that you do for me.] [See you soon!|With love.]"),
        ("Invite {name} to my party.", "Dear {name}, I would like to invite you to my party [on Saturday|on Sunday|next week]. There will be {food} and music. I hope that you can come!"),
        ("Write a get well message for {name}.", "Dear {name}, I am sorry to hear that you are ill. [I hope that you feel better soon.|Rest well, drink a lot of tea, and get well soon!]"),
        ("Say sorry to {name} for me.", "Dear {name}, I am sorry for what I did. [I hope that you can forgive me.|I would like to be friends again.]"),
    ])
}

fn describe(s: &mut Scope) -> (String, String) {
    s.any_pair(&[
        ("Describe [the sea|the ocean].", "The sea is wide and blue. [Its waves roll onto the sand, and the air tastes of salt.|It is calm on some days and wild on others.]"),
        ("Describe a forest.", "A forest is full of trees, moss and birdsong. [The light is green, and the ground is soft.|It smells of wood and rain.]"), ("Describe a rainy day.", "On a rainy day the sky is grey, and drops run down the windows. [The streets shine, and people carry umbrellas.|It is a good day for a book and a cup of tea.]"),
        ("Describe a [beautiful|perfect] day.", "The sun shines, a soft wind blows, and there is time for friends. [In the evening everybody sits in the garden.|Nobody has to hurry.]"), ("Describe a garden.", "In the garden there are flowers in all colours, a bench under a tree, and bees that hum all day."),
        ("Describe a cosy room.", "In the room there is a warm fire, a soft chair and a shelf full of books. A lamp gives yellow light."), ("Describe the night sky.", "The night sky is dark and full of stars. [The moon hangs over the roofs like a lamp.|It is so quiet that you can hear the wind.]"), ("Describe a market.", "At the market people sell fruit, bread, cheese and flowers. [It is loud and full of colours.|Everybody talks at once.]"),
        ("Describe an apple.", "An apple is a round fruit, red, green or yellow. It is crisp and sweet, and it grows on a tree."), ("Describe a snowman.", "A snowman is made of three balls of snow. It has stones for eyes, a carrot for a nose, and an old hat."), ("Describe a castle.", "A castle has thick walls, high towers and a heavy gate. [Long ago, knights and queens lived there.|From the top you can see the whole valley.]"),
    ])
}

fn words_and_letters(s: &mut Scope) -> (String, String) {
    match s.rng.below(8) {
        0..=2 => {
            let group = RHYMES[s.entry(RHYMES.len())];
            let pair = s.rng.some(group, 3);
            s.set("one", pair[0]);
            s.set("two", pair[1]);
            s.set("more", listed(&pair[1..]));
            s.any_pair(&[
                ("What rhymes with {one}?", "{Two} rhymes with {one}."),
                ("Find a word that rhymes with {one}.", "{Two} rhymes with {one}."),
                ("Give me rhymes for {one}.", "{More}."),
                ("Do {one} and {two} rhyme?", "Yes, {one} and {two} rhyme."),
                ("Which word rhymes with \"{one}\"?", "The word \"{two}\" rhymes with \"{one}\"."),
            ])
        }
        3 => {
            let (one, many) = PLURALS[s.entry(PLURALS.len())];
            s.set("one", one);
            s.set("many", many);
            s.any_pair(&[
                ("What is the plural of {one}?", "The plural of {one} is {many}."),
                ("What do you call more than one {one}?", "More than one {one} are called {many}."),
                ("What is the singular of {many}?", "The singular of {many} is {one}."),
            ])
        }
        4 => {
            let (now, past) = PASTS[s.entry(PASTS.len())];
            s.set("now", now);
            s.set("past", past);
            s.any_pair(&[
                ("What is the past tense of {now}?", "The past tense of {now} is {past}."),
                ("What is the past of \"{now}\"?", "The past of \"{now}\" is \"{past}\"."),
                ("Put \"I {now}\" into the past.", if now == "be" { "I was." } else { "I {past}." }),
            ])
        }
        5 => {
            let table = ["animal", "fruit", "colour", "flower", "tool", "body", "vehicle"][s.rng.below(7)];
            let word = s.rng.pick(words::table(table));
            s.set("word", word);
            s.set(
                "letters",
                word.chars().filter(|c| c.is_ascii_alphabetic()).map(|c| c.to_string()).collect::<Vec<_>>().join("-"),
            );
            s.set("first", word[..1].to_owned());
            s.set("last", word[word.len() - 1..].to_owned());
            s.any_pair(&[
                ("How do you spell {word}?", "{letters}"),
                ("Spell the word {word}.", "{letters}"),
                ("What is the first letter of {word}?", "The first letter of {word} is {first}."),
                ("What letter does {word} begin with?", "{Word} begins with the letter {first}."),
                ("What is the last letter of {word}?", "The last letter of {word} is {last}."),
            ])
        }
        6 => {
            let i = s.rng.below(26);
            let letter = |i: usize| char::from(b'A' + (i % 26) as u8).to_string();
            s.set("here", letter(i));
            s.set("next", if i == 25 { "nothing".to_owned() } else { letter(i + 1) });
            s.any_pair(&[
                ("Which letter comes after {here}?", "After {here} comes {next}."),
                ("What comes after the letter {here}?", "After {here} comes {next}."),
            ])
        }
        _ => {
            let (one, two) = OPPOSITES[s.entry(OPPOSITES.len())];
            s.set("one", one);
            s.set("two", two);
            s.draw("kind", "animal");
            s.any_pair(&[
                ("Make a sentence with {one} and {two}.", "One {kind} is {one}, and the other is {two}."),
                ("Are {one} and {two} opposites?", "Yes, {one} and {two} are opposites."),
            ])
        }
    }
}

/// A system message and whether it stands in front.
pub fn system(s: &mut Scope) -> Option<String> {
    if !s.rng.chance(12) {
        return None;
    }
    Some(s.any(&[
        "You are a helpful assistant.",
        "You are pebble, a small and friendly language model.",
        "You are a kind teller of stories.",
        "You answer in simple English.",
        "You are a helpful and polite assistant.",
        "Be friendly and brief.",
        "You are pebble.",
        "You help children to learn.",
        "Answer the questions of the user.",
    ]))
}
