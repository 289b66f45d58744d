//! Small sums: in digits, in words, and as little stories.
//!
//! Owns arithmetic within 100 and the ways to ask for it.

use super::grammar::Scope;

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// A number from 0 to 100 in English words.
pub fn in_words(n: i64) -> String {
    match n {
        0..=19 => ONES[n as usize].to_owned(),
        100 => "one hundred".to_owned(),
        20..=99 => {
            let tens = TENS[(n / 10) as usize];
            if n % 10 == 0 { tens.to_owned() } else { format!("{tens}-{}", ONES[(n % 10) as usize]) }
        }
        _ => n.to_string(),
    }
}

/// One question about numbers, and its answer.
pub fn sum(s: &mut Scope) -> (String, String) {
    if s.narrow && s.rng.chance(70) {
        return plain(s);
    }
    match s.rng.below(14) {
        0..=7 => plain(s),
        8 => times(s),
        9 | 10 => tale(s),
        11 => compare(s),
        12 => count(s),
        _ => around(s),
    }
}

fn plain(s: &mut Scope) -> (String, String) {
    let top = [10, 10, 20, 20, 20, 50, 100][s.rng.below(7)];
    let top = if s.narrow { 10 } else { top };
    let plus = s.rng.chance(55);
    let total = s.rng.within(1, top);
    let part = s.rng.within(0, total);
    let (a, b, c) = if plus { (part, total - part, total) } else { (total, part, total - part) };
    numbers(s, a, b, c);
    let words = s.rng.chance(18) && top <= 20;
    if words {
        s.set("a", in_words(a));
        s.set("b", in_words(b));
        s.set("c", in_words(c));
    }
    s.set(
        "sign",
        if plus {
            if words { "plus" } else { "+" }
        } else if words {
            "minus"
        } else {
            "-"
        },
    );
    s.set("word", if plus { "plus" } else { "minus" });
    if words || s.rng.chance(15) {
        return (s.any(&["What is {a} {word} {b}?", "How much is {a} {word} {b}?"]), s.say("{A} {word} {b} is {c}."));
    }
    let ask = s.any(&[
        "What is {a} {sign} {b}?",
        "What is {a} {sign} {b}?",
        "How much is {a} {sign} {b}?",
        "{a} {sign} {b} = ?",
        "{a} {sign} {b}",
        "{a}{sign}{b}",
        "What's {a} {sign} {b}?",
        "What is {a}{sign}{b}?",
        "Calculate {a} {sign} {b}.",
        "Please work out {a} {sign} {b}.",
        "{a} {word} {b} equals?",
        "Can you tell me what {a} {sign} {b} is?",
    ]);
    (ask, s.any(&["{a} {sign} {b} = {c}", "{a} {sign} {b} = {c}.", "{a} {sign} {b} is {c}.", "{a} {sign} {b} is {c}."]))
}

fn numbers(s: &mut Scope, a: i64, b: i64, c: i64) {
    s.set("a", a.to_string());
    s.set("b", b.to_string());
    s.set("c", c.to_string());
}

fn times(s: &mut Scope) -> (String, String) {
    let (a, b) = (s.rng.within(1, 10), s.rng.within(1, 10));
    if s.rng.chance(30) {
        numbers(s, a, a * 2, a / 2);
        return if s.rng.chance(50) {
            (s.any(&["What is double {a}?", "What is twice {a}?"]), s.say("Twice {a} is {b}."))
        } else {
            (s.say("What is half of {b}?"), s.say("Half of {b} is {a}."))
        };
    }
    numbers(s, a, b, a * b);
    (
        s.any(&["What is {a} times {b}?", "How much is {a} times {b}?", "What is {a} x {b}?", "{a} times {b}"]),
        s.say("{a} times {b} is {c}."),
    )
}

fn tale(s: &mut Scope) -> (String, String) {
    let plus = s.rng.chance(50);
    let total = s.rng.within(3, 20);
    let part = s.rng.within(1, total - 1);
    let girl = s.rng.chance(50);
    s.draw("who", if girl { "girl" } else { "boy" });
    s.set("he", if girl { "she" } else { "he" });
    s.draw("other", if girl { "boy" } else { "girl" });
    let thing = s.any(&[
        "apples", "marbles", "cookies", "books", "pencils", "stones", "flowers", "eggs", "nuts", "balloons", "shells",
        "coins", "plums", "toy cars", "stickers",
    ]);
    s.set("things", thing);
    if plus {
        let b = total - part;
        numbers(s, part.max(2), b, part.max(2) + b);
        let ask = s.any(&[
            "{who} has {a} {things} and [gets|finds|buys] {b} more. How many {things} does {who} have now?",
            "There are {a} {things} on the table. {who} adds {b} more. How many {things} are there?",
            "{who} has {a} {things}. {other} gives {who} {b} more. How many {things} does {who} have?",
        ]);
        if ask.contains("There are") {
            return (ask, s.say("There are {c} {things}, because {a} + {b} = {c}."));
        }
        return (
            ask,
            s.any(&[
                "{who} has {c} {things} now, because {a} + {b} = {c}.",
                "{a} + {b} = {c}, so {who} has {c} {things}.",
            ]),
        );
    }
    let left = total - part;
    numbers(s, total, part, left);
    s.set("left", if left == 1 { "1 is left".to_owned() } else { format!("{left} are left") });
    let ask = s.any(&[
        "{who} has {a} {things} and [loses|gives away|eats|sells] {b}. How many are left?",
        "There were {a} {things} in the basket. {who} took {b}. How many are left?",
        "{who} had {a} {things} and gave {b} to {other}. How many are left?",
    ]);
    let ask = if ["apples", "cookies", "eggs", "nuts", "plums"].contains(&s.get("things")) {
        ask
    } else {
        ask.replace(" eats ", " loses ")
    };
    (ask, s.any(&["{left}, because {a} - {b} = {c}.", "{a} - {b} = {c}, so {left}."]))
}

fn compare(s: &mut Scope) -> (String, String) {
    let a = s.rng.within(0, 60);
    let mut b = s.rng.within(0, 60);
    if a == b {
        b += 1;
    }
    numbers(s, a, b, a.max(b));
    s.set("d", a.min(b).to_string());
    match s.rng.below(4) {
        0 | 1 => (
            s.any(&[
                "Which number is [bigger|larger|greater], {a} or {b}?",
                "Which is [bigger|larger|more], {a} or {b}?",
                "Is {a} or {b} bigger?",
            ]),
            s.say("{c} is bigger than {d}."),
        ),
        2 => (
            s.any(&["Which number is smaller, {a} or {b}?", "Which is smaller, {a} or {b}?"]),
            s.say("{d} is smaller than {c}."),
        ),
        _ => {
            s.set("kind", if a % 2 == 0 { "even" } else { "odd" });
            (s.any(&["Is {a} even or odd?", "Is {a} an even or an odd number?"]), s.say("{a} is {a kind} number."))
        }
    }
}

fn count(s: &mut Scope) -> (String, String) {
    let from = s.rng.within(0, 20);
    let to = from + s.rng.within(3, 9);
    let down = s.rng.chance(30);
    let (from, to) = if s.rng.chance(40) { (1, s.rng.within(3, 20)) } else { (from, to) };
    let mut row: Vec<String> = (from..=to).map(|n| n.to_string()).collect();
    numbers(s, from, to, to);
    if down {
        row.reverse();
        return (s.any(&["Count down from {b} to {a}.", "Count backwards from {b} to {a}."]), row.join(", ") + ".");
    }
    let ask = if from == 1 {
        s.any(&["Count to {b}.", "Count from 1 to {b}.", "Can you count to {b}?"])
    } else {
        s.any(&["Count from {a} to {b}.", "Count from {a} up to {b}."])
    };
    (ask, row.join(", ") + ".")
}

fn around(s: &mut Scope) -> (String, String) {
    let n = s.rng.within(1, 98);
    numbers(s, n, n + 1, n - 1);
    s.set("words", in_words(n));
    match s.rng.below(4) {
        0 => (
            s.any(&["Which number comes after {a}?", "What number comes after {a}?", "What comes after {a}?"]),
            s.say("After {a} comes {b}."),
        ),
        1 => (s.any(&["Which number comes before {a}?", "What comes before {a}?"]), s.say("Before {a} comes {c}.")),
        2 => (s.any(&["Write {a} in words.", "How do you write {a} in words?"]), s.say("{Words}.")),
        _ => (s.any(&["Write {words} as a number.", "Write the number {words} in digits."]), s.say("{a}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_words() {
        for (n, words) in [
            (0, "zero"),
            (13, "thirteen"),
            (20, "twenty"),
            (21, "twenty-one"),
            (99, "ninety-nine"),
            (100, "one hundred"),
        ] {
            assert_eq!(in_words(n), words);
        }
    }
}
