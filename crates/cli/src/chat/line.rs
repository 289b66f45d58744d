//! What a typed line of the chat means: a command, text over several lines, or text.

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Nothing.
    Empty,
    /// Something to say to the model.
    Text(String),
    /// A command with its argument.
    Command(Verb, String),
    /// A slash and a word that is no command.
    Unknown(String),
}

/// Commands of the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // COMMANDS says what each does
pub enum Verb {
    Help,
    Clear,
    System,
    Set,
    Show,
    Save,
    Load,
    Again,
    Undo,
    Stats,
    Exit,
}

/// The table of commands: name, argument, what it does.
pub const COMMANDS: &[(Verb, &str, &str, &str)] = &[
    (Verb::Help, "/help", "", "show this"),
    (Verb::Clear, "/clear", "", "forget the conversation, keep the system text"),
    (Verb::System, "/system", "[TEXT]", "set the system text and start anew; without TEXT show it"),
    (Verb::Set, "/set", "FLAG VALUE", "change a sampling flag, as in /set temperature 0.2"),
    (Verb::Show, "/show", "", "show the flags that are set"),
    (Verb::Save, "/save", "FILE", "write the conversation as JSON"),
    (Verb::Load, "/load", "FILE", "take up a saved conversation"),
    (Verb::Again, "/again", "", "answer the last question once more"),
    (Verb::Undo, "/undo", "", "forget the last question and its answer"),
    (Verb::Stats, "/stats", "", "show tokens and speed of the last answer"),
    (Verb::Exit, "/exit", "", "leave (also Ctrl-D)"),
];

/// Other names that users' fingers know.
const ALIASES: &[(&str, Verb)] =
    &[("/?", Verb::Help), ("/quit", Verb::Exit), ("/bye", Verb::Exit), ("/q", Verb::Exit), ("/reset", Verb::Clear)];

/// Opens and closes text over several lines.
const BLOCK: &str = "\"\"\"";

/// Whether more lines belong to `input`: an open `"""` block, or a backslash at the end.
pub fn wants_more(input: &str) -> bool {
    match input.trim_start().strip_prefix(BLOCK) {
        Some(rest) => !rest.contains(BLOCK),
        None => input.ends_with('\\') && !input.ends_with("\\\\"),
    }
}

/// What the whole `input` means.
pub fn parse(input: &str) -> Line {
    let trimmed = input.trim();
    if let Some(rest) = trimmed.strip_prefix(BLOCK) {
        let inner = rest.split_once(BLOCK).map_or(rest, |(inner, _)| inner);
        return text(inner.trim_matches('\n'));
    }
    if trimmed.starts_with('/') {
        let (word, argument) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        let named = COMMANDS.iter().find(|c| c.1 == word).map(|c| c.0);
        let verb = named.or_else(|| ALIASES.iter().find(|a| a.0 == word).map(|a| a.1));
        return match verb {
            Some(verb) => Line::Command(verb, argument.trim().to_string()),
            // A path or a fraction is something to talk about.
            None if word[1..].contains('/') || word.len() == 1 => text(trimmed),
            None => Line::Unknown(word.to_string()),
        };
    }
    text(&trimmed.replace("\\\n", "\n"))
}

fn text(t: &str) -> Line {
    if t.trim().is_empty() { Line::Empty } else { Line::Text(t.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_they_say() {
        let said = |s: &str| Line::Text(s.into());
        let cases: &[(&str, Line)] = &[
            ("", Line::Empty),
            ("  \n", Line::Empty),
            ("hello", said("hello")),
            ("two\\\nlines", said("two\nlines")),
            ("\"\"\"\na\n\nb\n\"\"\"", said("a\n\nb")),
            ("\"\"\"one line\"\"\"", said("one line")),
            ("\"\"\"\"\"\"", Line::Empty),
            ("/help", Line::Command(Verb::Help, String::new())),
            ("/set temperature 0.2", Line::Command(Verb::Set, "temperature 0.2".into())),
            ("/system  You are terse. ", Line::Command(Verb::System, "You are terse.".into())),
            ("/bye", Line::Command(Verb::Exit, String::new())),
            ("/nope", Line::Unknown("/nope".into())),
            ("/etc/passwd is a file", said("/etc/passwd is a file")),
            ("/", said("/")),
        ];
        for (typed, want) in cases {
            assert_eq!(parse(typed), *want, "{typed:?}");
        }
    }

    #[test]
    fn unfinished_input_waits_for_the_next_line() {
        for (typed, more) in [
            ("hello", false),
            ("hello\\", true),
            ("hello\\\\", false),
            ("hello\\\nworld", false),
            ("\"\"\"", true),
            ("\"\"\"a\nb", true),
            ("\"\"\"a\nb\"\"\"", false),
        ] {
            assert_eq!(wants_more(typed), more, "{typed:?}");
        }
    }

    #[test]
    fn every_command_is_found_by_its_name() {
        for (verb, name, ..) in COMMANDS {
            assert_eq!(parse(name), Line::Command(*verb, String::new()));
        }
    }
}
