//! The interactive chat: a prompt with history and multi-line input, commands, answers that stream.
//!
//! Ctrl-C stops the answer and not the program; at the prompt it drops the line. Does not own: sampling, templates.
mod line;

use crate::{
    Context,
    commands::summary,
    error::{Error, Result},
    flags::Choice,
    interrupt,
    load::{Loaded, Piece},
    out::{BOLD, DIM, PROMPT},
    words,
};
use clap::{Args as _, FromArgMatches as _};
use line::{COMMANDS, Line, Verb};
use pondera_engine::{Completion, FinishReason, Request, Speculation};
use rustyline::{
    Editor, Helper,
    completion::{Completer, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::FileHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};
use serde_json::{Value, json};
use std::{env, fs, path::PathBuf};

/// How a chat begins.
pub struct Settings {
    /// How tokens are chosen.
    pub choice: Choice,
    /// Guessing ahead.
    pub speculation: Option<Speculation>,
    /// Stop strings.
    pub stop: Vec<String>,
    /// Most tokens of one answer.
    pub max_tokens: Option<usize>,
    /// Go on past end-of-sequence tokens.
    pub ignore_eos: bool,
    /// System text.
    pub system: Option<String>,
    /// No chat template: each line continues the text before it.
    pub raw: bool,
}

/// A conversation under way.
struct Chat<'a> {
    loaded: Loaded,
    settings: Settings,
    context: &'a Context,
    /// Messages after the system text, as templates take them.
    messages: Vec<Value>,
    last: Option<Completion>,
}

/// What happens after a line.
enum Next {
    Go,
    Leave,
}

/// Chats until the user leaves.
pub fn run(loaded: Loaded, settings: Settings, context: &Context) -> Result<()> {
    let mut editor: Editor<Prompter, FileHistory> =
        Editor::new().map_err(|e| Error::failed(format!("the terminal cannot be used for a chat: {e}")))?;
    editor.set_helper(Some(Prompter));
    let history = history_file();
    if let Some(file) = &history {
        // A missing or unreadable history is an empty one.
        let _ = editor.load_history(file);
    }
    context.out.note(&format!(
        "{BOLD}{}{BOLD:#}  {DIM}/help for commands, \"\"\" for several lines, Ctrl-D to leave{DIM:#}",
        loaded.name
    ));
    if !settings.raw && loaded.engine.weights().map(words::template).transpose()?.flatten().is_none() {
        context.out.note(&format!("{DIM}the model has no chat template: it goes on with what is typed{DIM:#}"));
    }
    let mut chat = Chat { loaded, settings, context, messages: Vec::new(), last: None };
    loop {
        match editor.readline(">>> ") {
            Ok(typed) => {
                if !typed.trim().is_empty() {
                    let _ = editor.add_history_entry(typed.as_str());
                }
                match chat.take(&typed) {
                    Ok(Next::Go) => {}
                    Ok(Next::Leave) => break,
                    Err(e) if e.exit() == crate::Exit::Ok => return Err(e),
                    Err(e) => e.print(),
                }
            }
            Err(ReadlineError::Interrupted) => context.out.note(&format!("{DIM}(/exit or Ctrl-D leaves){DIM:#}")),
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(Error::failed(format!("the terminal cannot be read: {e}"))),
        }
    }
    if let Some(file) = &history {
        let made = file.parent().is_none_or(|d| fs::create_dir_all(d).is_ok());
        if !made || editor.save_history(file).is_err() {
            context.out.note(&format!("{DIM}the history could not be saved in {}{DIM:#}", file.display()));
        }
    }
    Ok(())
}

/// `$XDG_STATE_HOME/pondera/history`.
fn history_file() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|h| h.join(".local/state")));
    state.map(|d| d.join("pondera/history"))
}

impl Chat<'_> {
    fn take(&mut self, typed: &str) -> Result<Next> {
        match line::parse(typed) {
            Line::Empty => {}
            Line::Text(text) => self.say(text)?,
            Line::Command(Verb::Exit, _) => return Ok(Next::Leave),
            Line::Command(verb, argument) => self.obey(verb, &argument)?,
            Line::Unknown(word) => {
                return Err(Error::usage(format!("{word}: no such command")).hint("/help lists the commands"));
            }
        }
        Ok(Next::Go)
    }

    fn obey(&mut self, verb: Verb, argument: &str) -> Result<()> {
        match verb {
            Verb::Help => self.help(),
            Verb::Clear => {
                self.messages.clear();
                self.tell("the conversation is forgotten")
            }
            Verb::System => self.system(argument),
            Verb::Set => self.set(argument),
            Verb::Show => self.show(),
            Verb::Save => self.save(argument),
            Verb::Load => self.load(argument),
            Verb::Again => {
                let question = self.take_back().ok_or_else(|| Error::usage("there is no question to answer again"))?;
                self.say(question)
            }
            Verb::Undo => match self.take_back() {
                Some(question) => self.tell(&format!("forgotten: {}", crate::view::token(&question, 60))),
                None => Err(Error::usage("there is nothing to forget")),
            },
            Verb::Stats => match &self.last {
                Some(done) => self.context.out.page(&format!("{}\n", summary(done, self.loaded.load_s))),
                None => Err(Error::usage("there is no answer yet")),
            },
            Verb::Exit => Ok(()),
        }
    }

    fn tell(&self, text: &str) -> Result<()> {
        self.context.out.page(&format!("{DIM}{text}{DIM:#}\n"))
    }

    fn help(&self) -> Result<()> {
        let mut page = String::new();
        for (_, name, argument, what) in COMMANDS {
            page.push_str(&format!("  {BOLD}{name:<8}{BOLD:#} {argument:<11} {what}\n"));
        }
        page.push_str("  A line that ends with \\ goes on; \"\"\" opens and closes text of several lines.\n");
        page.push_str("  Ctrl-C stops an answer.\n");
        self.context.out.page(&page)
    }

    /// Answers `text` and keeps both, unless the answer failed.
    fn say(&mut self, text: String) -> Result<()> {
        self.messages.push(json!({ "role": "user", "content": text }));
        let answered = self.answer();
        match answered {
            Ok(done) => {
                self.messages.push(json!({ "role": "assistant", "content": done.text.trim_end() }));
                self.last = Some(done);
                Ok(())
            }
            Err(e) => {
                self.messages.pop();
                Err(e)
            }
        }
    }

    fn answer(&mut self) -> Result<Completion> {
        let request = Request {
            prompt: self.prompt()?,
            sampling: self.settings.choice.sampling(&self.loaded.recommended),
            stop: self.settings.stop.clone(),
            max_tokens: self.settings.max_tokens,
            ignore_eos: self.settings.ignore_eos,
            speculation: self.settings.speculation,
            ..Request::default()
        };
        let listening = interrupt::listen();
        let out = &self.context.out;
        let done = self.loaded.generate(request, &listening, &mut |piece| match piece {
            Piece::Text(text) if !text.is_empty() => out.text(text),
            _ => Ok(()),
        })?;
        if !done.text.ends_with('\n') {
            out.data(b"\n")?;
        }
        if done.finish_reason == FinishReason::Cancelled {
            self.tell("(stopped)")?;
        }
        Ok(done)
    }

    /// Ids of the whole conversation.
    fn prompt(&self) -> Result<Vec<u32>> {
        if !self.settings.raw {
            let system = self.settings.system.as_ref().map(|s| json!({ "role": "system", "content": s }));
            let messages: Vec<Value> = system.into_iter().chain(self.messages.iter().cloned()).collect();
            if let Some(ids) = self.loaded.chat(&messages)? {
                return Ok(ids);
            }
        }
        // Without a template, a conversation is one text that goes on.
        let parts: Vec<&str> = self.messages.iter().filter_map(|m| m["content"].as_str()).collect();
        self.loaded.tokenize(&parts.join("\n"))
    }

    /// Removes the last question and what came after it.
    fn take_back(&mut self) -> Option<String> {
        let at = self.messages.iter().rposition(|m| m["role"] == "user")?;
        let question = self.messages[at]["content"].as_str().map(str::to_string);
        self.messages.truncate(at);
        question
    }

    fn system(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            return self.tell(self.settings.system.as_deref().unwrap_or("there is no system text"));
        }
        self.settings.system = Some(text.to_string());
        self.messages.clear();
        self.tell("the system text is set, the conversation begins anew")
    }

    fn set(&mut self, argument: &str) -> Result<()> {
        let (name, value) = argument.split_once([' ', '=']).unwrap_or((argument, ""));
        let (name, value) = (name.trim_start_matches('-'), value.trim());
        match name {
            "" => return Err(Error::usage("/set: no flag given").hint("as in /set temperature 0.2; /show lists them")),
            "n" | "max-tokens" => {
                self.settings.max_tokens =
                    Some(value.parse().map_err(|_| Error::usage(format!("/set {name}: {value:?} is no number")))?);
            }
            "stop" => {
                self.settings.stop = Some(value).filter(|v| !v.is_empty()).map(str::to_string).into_iter().collect()
            }
            _ => update(&mut self.settings.choice, name, value)?,
        }
        self.tell(&format!("{name} = {value}"))
    }

    fn show(&self) -> Result<()> {
        let s = self.settings.choice.sampling(&self.loaded.recommended);
        let seed = self.settings.choice.seed.map_or("another each time".into(), |s| s.to_string());
        let max = self.settings.max_tokens.map_or("until the end".into(), |n| n.to_string());
        self.context.out.page(&format!(
            "  temperature {}  top-k {}  top-p {}  min-p {}  typical {}\n  repeat-penalty {}  frequency-penalty {}  \
             presence-penalty {}\n  seed {seed}  max-tokens {max}  stop {:?}\n",
            s.temperature,
            s.top_k,
            s.top_p,
            s.min_p,
            s.typical_p,
            s.repetition_penalty,
            s.frequency_penalty,
            s.presence_penalty,
            self.settings.stop,
        ))
    }

    /// Writes what `template --messages` reads.
    fn save(&self, file: &str) -> Result<()> {
        if file.is_empty() {
            return Err(Error::usage("/save: no file given"));
        }
        let system = self.settings.system.as_ref().map(|s| json!({ "role": "system", "content": s }));
        let all: Vec<Value> = system.into_iter().chain(self.messages.iter().cloned()).collect();
        let text = serde_json::to_string_pretty(&json!({ "messages": all })).unwrap_or_default();
        fs::write(file, text + "\n").map_err(|e| Error::io(file, &e))?;
        self.tell(&format!("{} messages in {file}", all.len()))
    }

    fn load(&mut self, file: &str) -> Result<()> {
        if file.is_empty() {
            return Err(Error::usage("/load: no file given"));
        }
        let text = fs::read(file).map_err(|e| Error::io(file, &e))?;
        let read: Value = serde_json::from_slice(&text).map_err(|e| Error::file(format!("{file}: {e}")))?;
        let list = read.get("messages").unwrap_or(&read).as_array().cloned();
        let mut messages = list.ok_or_else(|| Error::file(format!("{file}: expected a list of messages")))?;
        if let Some(bad) = messages.iter().position(|m| !m["role"].is_string() || !m["content"].is_string()) {
            return Err(Error::file(format!("{file}: message {bad}: expected role and content as text")));
        }
        if messages.first().is_some_and(|m| m["role"] == "system") {
            self.settings.system = messages.remove(0)["content"].as_str().map(str::to_string);
        }
        self.messages = messages;
        self.tell(&format!("{} messages from {file}", self.messages.len()))
    }
}

/// Sets one sampling flag as the command line would.
fn update(choice: &mut Choice, name: &str, value: &str) -> Result<()> {
    let command =
        Choice::augment_args_for_update(clap::Command::new("/set").no_binary_name(true).disable_help_flag(true));
    let typed = format!("--{name}={value}");
    let bad = |e: clap::Error| {
        let text = e.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
        Error::usage(format!("/set {name}: {first}")).hint("/show lists the flags that can be set")
    };
    let matches = command.try_get_matches_from([typed]).map_err(bad)?;
    choice.update_from_arg_matches(&matches).map_err(bad)
}

/// What the line editor asks while a line is typed.
struct Prompter;

impl Helper for Prompter {}
impl Hinter for Prompter {
    type Hint = String;
}

impl Highlighter for Prompter {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> std::borrow::Cow<'b, str> {
        if env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) {
            return prompt.into();
        }
        format!("{PROMPT}{prompt}{PROMPT:#}").into()
    }
}

impl Validator for Prompter {
    fn validate(&self, input: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if line::wants_more(input.input()) { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Prompter {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &rustyline::Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..at).unwrap_or(line);
        let fits = |c: &&(Verb, &str, &str, &str)| typed.starts_with('/') && c.1.starts_with(typed);
        let pairs =
            COMMANDS.iter().filter(fits).map(|c| Pair { display: c.1.into(), replacement: format!("{} ", c.1) });
        Ok((0, pairs.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_flags_are_set_one_at_a_time() {
        let mut c = Choice { top_k: Some(3), ..Choice::default() };
        update(&mut c, "temperature", "0.25").unwrap();
        update(&mut c, "seed", "11").unwrap();
        assert_eq!((c.temperature, c.seed, c.top_k), (Some(0.25), Some(11), Some(3)));
        assert!(update(&mut c, "temperature", "warm").is_err());
        assert!(update(&mut c, "colour", "red").is_err());
        assert_eq!(c.temperature, Some(0.25));
    }
}
