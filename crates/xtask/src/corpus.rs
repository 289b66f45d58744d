//! `xtask corpus`: writes the training text of pebble, the model in the box.
//!
//! Owns the command and the mix of document kinds. Document `n` of a seed depends on nothing but the two,
//! so a corpus can be regenerated anywhere, cut, or continued. One JSON object per line: either
//! `{"messages": [{"role", "content"}, …]}` or `{"text": …}`.

mod arcs;
mod chat;
mod facts;
mod grammar;
mod lore;
mod recall;
mod story;
mod sums;
mod talk;
mod words;

use std::fs::File;
use std::io::{self, BufWriter, Write};

use grammar::{Rng, Scope};

/// How much to write, and where.
#[derive(Clone, Debug)]
pub struct Args {
    /// Chooses the documents; the training split and the held-out split differ in nothing else.
    pub seed: u64,
    /// Number of documents, one a line.
    pub docs: u64,
    /// The file to write; standard output without one.
    pub out: Option<String>,
    /// Few heroes without names and the commonest facts: what a short training run ends with.
    pub narrow: bool,
}

/// Reads `--seed N --docs N --out FILE [--narrow]` and writes the corpus. The error is one line for the user.
pub fn run(args: &[String]) -> Result<(), String> {
    let args = parse(args)?;
    let result = match &args.out {
        Some(path) => File::create(path).and_then(|file| write_corpus(&args, BufWriter::new(file))),
        None => write_corpus(&args, BufWriter::new(io::stdout().lock())),
    };
    result.map_err(|e| format!("corpus: cannot write {}: {e}", args.out.as_deref().unwrap_or("standard output")))
}

fn parse(args: &[String]) -> Result<Args, String> {
    let mut parsed = Args { seed: 1, docs: 1000, out: None, narrow: false };
    let mut rest = args.iter();
    while let Some(flag) = rest.next() {
        if flag == "--narrow" {
            parsed.narrow = true;
            continue;
        }
        let value = rest.next().ok_or_else(|| format!("corpus: {flag} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("corpus: {flag} expects a whole number, got `{value}`"));
        match flag.as_str() {
            "--seed" => parsed.seed = number()?,
            "--docs" => parsed.docs = number()?,
            "--out" => parsed.out = Some(value.clone()),
            _ => return Err(format!("corpus: unknown flag {flag}; known are --seed, --docs, --narrow and --out")),
        }
    }
    Ok(parsed)
}

fn write_corpus(args: &Args, mut out: impl Write) -> io::Result<()> {
    for n in 0..args.docs {
        writeln!(out, "{}", document(args.seed, n, args.narrow))?;
    }
    out.flush()
}

/// Document `n` of `seed`, as one line of JSON.
fn document(seed: u64, n: u64, narrow: bool) -> String {
    let mut s = Scope::new(Rng::new(seed, n));
    s.narrow = narrow;
    if s.rng.chance(10) {
        let told = story::tell(&mut s);
        let text = if s.rng.chance(25) { format!("{}\n\n{}", told.title, told.text) } else { told.text };
        return format!("{{\"text\": {}}}", quoted(&text));
    }
    let system = talk::system(&mut s);
    let turns = talk::conversation(&mut s);
    let mut messages: Vec<String> = system.iter().map(|text| message("system", text)).collect();
    for (ask, answer) in &turns {
        messages.push(message("user", ask));
        messages.push(message("assistant", answer));
    }
    format!("{{\"messages\": [{}]}}", messages.join(", "))
}

fn message(role: &str, content: &str) -> String {
    format!("{{\"role\": \"{role}\", \"content\": {}}}", quoted(content))
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn templates_are_sound() {
        // Every slot that a template names must be set, and nothing of the template language may be left over.
        for n in 0..4000 {
            let doc = document(7, n, n % 4 == 0);
            let text = doc.replace("\"messages\": [", "").replace("]}", "");
            assert!(!text.contains(['[', ']', '|']), "document {n}: {doc}");
            assert!(!doc.contains("  ") && !doc.contains(" a a ") && !doc.contains(" ,"), "document {n}: {doc}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_text_and_another_seed_another() {
        assert_eq!(document(1, 17, false), document(1, 17, false));
        let first: HashSet<String> = (0..2000).map(|n| document(1, n, false)).filter(|d| d.len() > 400).collect();
        let other = (0..2000).map(|n| document(2, n, false)).filter(|d| first.contains(d)).count();
        assert_eq!(other, 0, "long documents of two seeds must not coincide");
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a \"b\"\n"), "\"a \\\"b\\\"\\n\"");
    }
}
