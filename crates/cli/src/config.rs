//! The file of `--config`: defaults of flags, and what of a server is too long for flags.
//!
//! Owns: how keys become defaults (`flag = value` for every command that has the flag, `[verb]` tables for one), `[[model]]`
//! tables, secrets that are named and not written, paths relative to the file, and the line of what is wrong. Does not own:
//! which flags there are (each command's own file) and what wins over the file (`args.rs`).
use crate::error::{Error, Result};
use clap::{Arg, ArgAction, Command};
use std::{
    any::TypeId,
    collections::{BTreeMap, HashSet},
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Most bytes of a file, and of one that holds a secret.
const BYTES_MAX: u64 = 1 << 20;

/// What the file says beside flags.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What `serve` serves where the command line names no model.
    pub models: Vec<Entry>,
    /// The file, and the line of each flag that it sets: for messages about values.
    pub lines: BTreeMap<String, String>,
}

/// A `[[model]]` table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// What clients call it; none: as without a file.
    pub name: Option<String>,
    /// MODEL; none: the model in the box.
    pub path: Option<String>,
    /// Further names.
    pub aliases: Vec<String>,
    /// In place of the model's own.
    pub chat_template: Option<PathBuf>,
    /// Its adapters: what clients call them, and where they are.
    pub lora: Vec<(String, PathBuf)>,
}

/// `command` with the defaults of the file at `path`, for a command line that asks for `verb`, and the rest of what it says.
///
/// # Errors
/// A file that cannot be read, is no TOML or says what nobody knows: a usage error that names the place.
pub fn apply(mut command: Command, path: &Path, verb: Option<&str>) -> Result<(Command, Settings)> {
    let text = read(path).map_err(|e| {
        Error::usage(format!("--config {}: {e}", path.display())).hint("name a TOML file that can be read")
    })?;
    let source = Source { path, text: &text };
    let table = DeTable::parse(&text).map_err(|e| {
        source.wrong(e.span().unwrap_or_default(), e.message()).hint("see docs/operations.md for the format")
    })?;
    let (mut settings, mut seen) = (Settings::default(), HashSet::new());
    for (key, value) in table.get_ref() {
        let name: &str = key.get_ref();
        match value.get_ref() {
            DeValue::Array(list) if name == "model" => {
                settings.models = list.iter().map(|entry| source.entry(entry)).collect::<Result<_>>()?;
            }
            _ if name == "model" => {
                return Err(source
                    .wrong(key.span(), "model: not a list of tables")
                    .hint("write [[model]], once per model"));
            }
            DeValue::Table(flags) if command.find_subcommand(name).is_some() => {
                for (flag, value) in flags {
                    let place = Place { verb: Some(name), global: verb == Some(name), key: flag.get_ref() };
                    command = source.default(command, &place, (flag, value), &mut settings, &mut seen)?;
                }
            }
            DeValue::Table(table) if !table.contains_key("file") && !table.contains_key("env") => {
                return Err(source
                    .wrong(key.span(), format!("[{name}]: no such command"))
                    .hint("tables are named after commands; models of a server are [[model]]"));
            }
            _ => {
                let place = Place { verb: None, global: true, key: name };
                command = source.default(command, &place, (key, value), &mut settings, &mut seen)?;
            }
        }
    }
    Ok((command, settings))
}

fn read(path: &Path) -> std::result::Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    let size = file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if size as u64 > BYTES_MAX { Err(format!("more than {BYTES_MAX} bytes")) } else { Ok(text) }
}

/// Where a key stands: which commands it is for.
struct Place<'a> {
    /// None: all of them.
    verb: Option<&'a str>,
    /// Whether a flag of all commands can be meant.
    global: bool,
    key: &'a str,
}

/// A flag's values, as the command line would have them.
struct Values {
    list: Vec<String>,
    /// Whether they came from elsewhere, and so must not be shown.
    secret: bool,
}

/// The file's text, for places in it.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

type Pair<'a, 'i> = (&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>);

impl Source<'_> {
    fn place(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or_default();
        format!("{}:{}", self.path.display(), before.matches('\n').count() + 1)
    }

    fn wrong(&self, span: Range<usize>, what: impl std::fmt::Display) -> Error {
        Error::usage(format!("{}: {what}", self.place(span)))
    }

    /// Sets the default of the flag that a key names.
    fn default(
        &self,
        command: Command,
        place: &Place<'_>,
        (key, value): Pair<'_, '_>,
        settings: &mut Settings,
        seen: &mut HashSet<(String, String)>,
    ) -> Result<Command> {
        let flag = place.key.replace('_', "-");
        let whole = place.verb.map_or(place.key.to_string(), |verb| format!("{verb}.{}", place.key));
        if !seen.insert((place.verb.unwrap_or_default().to_string(), flag.clone())) {
            return Err(self.wrong(key.span(), format!("{whole}: given twice")).hint("- and _ are the same in keys"));
        }
        let values = self.values(&whole, value)?;
        // A file cannot name another, nor ask for help.
        let named =
            |arg: &Arg| arg.get_long() == Some(&flag) && !matches!(flag.as_str(), "config" | "help" | "version");
        let (mut found, mut failed) = (false, None);
        let mut set = |command: Command| {
            command.mut_args(|arg| {
                if !named(&arg) {
                    return arg;
                }
                found = true;
                self.set(arg, &values).unwrap_or_else(|(arg, what)| {
                    failed = Some(what);
                    *arg
                })
            })
        };
        let mut command = match place.verb {
            Some(verb) => command.mut_subcommand(verb, &mut set),
            None => command.mut_subcommands(&mut set),
        };
        // Flags of all commands stand at the root.
        let root = command.get_arguments().any(named);
        if root && place.global {
            command = set(command);
        }
        found |= root;
        if let Some(what) = failed {
            return Err(self.wrong(value.span(), format!("{whole}: {what}")));
        }
        if !found {
            let hint =
                "keys are the names of long flags, with - or _; `pondera help` with the command's name lists them";
            return Err(self.wrong(key.span(), format!("{whole}: no such flag")).hint(hint));
        }
        settings.lines.insert(flag, self.place(value.span()));
        Ok(command)
    }

    fn set(&self, arg: Arg, values: &Values) -> std::result::Result<Arg, (Box<Arg>, String)> {
        let many = matches!(arg.get_action(), ArgAction::Append);
        if !many && values.list.len() != 1 {
            return Err((Box::new(arg), format!("expected one value, got {}", values.list.len())));
        }
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            return match values.list[0].as_str() {
                "true" => Ok(arg.default_value("true")),
                // A switch's absence.
                "false" => Ok(arg),
                other => Err((Box::new(arg), format!("expected true or false, got {other:?}"))),
            };
        }
        let kind = arg.get_value_parser().type_id();
        let list: Vec<String> = values.list.iter().map(|text| self.placed(&kind, text)).collect();
        let hidden = values.secret || arg.is_hide_env_values_set();
        Ok(arg.hide_default_value(hidden).default_values(list))
    }

    /// A value with its path, if it has one, made relative to the file's folder.
    fn placed(&self, kind: &impl PartialEq<TypeId>, text: &str) -> String {
        if *kind == TypeId::of::<PathBuf>() || *kind == TypeId::of::<(PathBuf, f32)>() {
            return self.beside(text);
        }
        match text.split_once('=') {
            Some((name, path)) if *kind == TypeId::of::<(String, PathBuf)>() => format!("{name}={}", self.beside(path)),
            _ => text.to_string(),
        }
    }

    fn beside(&self, path: &str) -> String {
        let folder = self.path.parent().filter(|f| !f.as_os_str().is_empty());
        match folder {
            // Standard input stays what it is.
            Some(folder) if !path.is_empty() && path != "-" => folder.join(path).to_string_lossy().into_owned(),
            _ => path.to_string(),
        }
    }

    fn values(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<Values> {
        let DeValue::Array(list) = value.get_ref() else {
            let (text, secret) = self.scalar(key, value)?;
            return Ok(Values { list: vec![text], secret });
        };
        let each = list.iter().map(|v| self.scalar(key, v)).collect::<Result<Vec<_>>>()?;
        let secret = each.iter().any(|(_, secret)| *secret);
        Ok(Values { list: each.into_iter().map(|(text, _)| text).collect(), secret })
    }

    /// One value, and whether it came from elsewhere.
    fn scalar(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(String, bool)> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Boolean(b) => b.to_string(),
            DeValue::Float(f) => f.as_str().to_string(),
            DeValue::Integer(i) => match i128::from_str_radix(i.as_str(), i.radix()) {
                Ok(i) => i.to_string(),
                Err(_) => return Err(self.wrong(value.span(), format!("{key}: a number of another size"))),
            },
            DeValue::Table(table) => return Ok((self.elsewhere(key, value.span(), table)?, true)),
            DeValue::Array(_) | DeValue::Datetime(_) => {
                return Err(self.wrong(value.span(), format!("{key}: expected a text, a number or a switch")));
            }
        };
        Ok((text, false))
    }

    /// `{ file = PATH }` and `{ env = NAME }`: a text that does not stand in the file, because it is a secret.
    fn elsewhere(&self, key: &str, span: Range<usize>, table: &DeTable<'_>) -> Result<String> {
        let mut named = table.iter();
        let (Some((how, place)), None) = (named.next(), named.next()) else {
            return Err(self.wrong(span, format!("{key}: expected {{ file = PATH }} or {{ env = NAME }}")));
        };
        let Some(place) = place.get_ref().as_str() else {
            return Err(self.wrong(span, format!("{key}.{}: expected a text", how.get_ref())));
        };
        let text = match how.get_ref().as_ref() {
            "env" => std::env::var(place)
                .map_err(|_| self.wrong(span.clone(), format!("{key}: the environment has no {place}")))?,
            "file" => {
                let path = PathBuf::from(self.beside(place));
                read(&path).map_err(|e| self.wrong(span.clone(), format!("{key}: {}: {e}", path.display())))?
            }
            other => {
                let hint = "a text that stands elsewhere is { file = PATH } or { env = NAME }";
                return Err(self.wrong(how.span(), format!("{key}.{other}: no such key")).hint(hint));
            }
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(self.wrong(span, format!("{key}: {place} is empty")));
        }
        Ok(text.to_string())
    }

    fn entry(&self, value: &Spanned<DeValue<'_>>) -> Result<Entry> {
        let Some(table) = value.get_ref().as_table() else {
            return Err(self.wrong(value.span(), "model: not a table").hint("write [[model]], once per model"));
        };
        let (mut entry, mut seen) = (Entry::default(), HashSet::new());
        for (key, value) in table {
            let name = key.get_ref().replace('-', "_");
            let whole = format!("model.{}", key.get_ref());
            if !seen.insert(name.clone()) {
                return Err(self.wrong(key.span(), format!("{whole}: given twice")));
            }
            let one = || match value.get_ref().as_str() {
                Some(text) if !text.is_empty() => Ok(text.to_string()),
                _ => Err(self.wrong(value.span(), format!("{whole}: expected a text"))),
            };
            let many = || match value.get_ref() {
                DeValue::Array(_) => Ok(self.values(&whole, value)?.list),
                _ => Err(self.wrong(value.span(), format!("{whole}: expected a list of texts"))),
            };
            match name.as_str() {
                "name" => entry.name = Some(one()?),
                "path" => entry.path = Some(self.model(&one()?)),
                "aliases" => entry.aliases = many()?,
                "chat_template" => entry.chat_template = Some(self.beside(&one()?).into()),
                "lora" => {
                    let named = |text: String| match crate::lora::named(&text) {
                        Ok((name, path)) => Ok((name, self.beside(&path.to_string_lossy()).into())),
                        Err(e) => Err(self.wrong(value.span(), format!("{whole}: {text}: {e}"))),
                    };
                    entry.lora = many()?.into_iter().map(named).collect::<Result<_>>()?;
                }
                _ => {
                    let hint = "a model has name, path, aliases, chat_template and lora";
                    return Err(self.wrong(key.span(), format!("{whole}: no such key")).hint(hint));
                }
            }
        }
        Ok(entry)
    }

    /// MODEL: what lies beside the file, or what MODEL means anywhere.
    fn model(&self, text: &str) -> String {
        let beside = self.beside(text);
        let path = text.starts_with("./") || text.starts_with("../") || Path::new(&beside).exists();
        if path { beside } else { text.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// What the file says of `serve`: a flag's values, or the two lines of what is wrong.
    fn served(text: &str) -> Result<(clap::ArgMatches, Settings)> {
        let folder = std::env::temp_dir().join(format!("pondera-config-{}-{:p}", std::process::id(), text));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("c.toml");
        fs::write(&file, text).unwrap();
        fs::write(folder.join("secret"), "from-a-file-of-its-own\n").unwrap();
        let applied = apply(crate::args::command(), &file, Some("serve"));
        fs::remove_dir_all(&folder).unwrap();
        let (command, settings) = applied?;
        let matches = command.try_get_matches_from(["pondera", "serve"]).map_err(|e| Error::usage(e.to_string()))?;
        let (_, serve) = matches.subcommand().unwrap();
        Ok((serve.clone(), settings))
    }

    #[test]
    fn keys_are_flags_in_either_spelling() {
        let text = "port = 9_000\nthreads = 3\n[serve]\nmax_running = 0x10\nallowed-host = [\"a\", \"b\"]\nkeys = \"k.txt\"\nverbose = 2\n\
            api_key = { file = \"secret\" }\nlora = [\"fox=dir/fox\", \"bear=/abs\"]\n[run]\nmax-tokens = 3\n";
        let (m, settings) = served(text).unwrap();
        assert_eq!(m.get_one::<u16>("port"), Some(&9000));
        assert_eq!(m.get_one::<u16>("threads"), Some(&3));
        assert_eq!(m.get_one::<u32>("max_running"), Some(&16));
        assert_eq!(m.get_count("verbose"), 2);
        assert_eq!(m.get_many::<String>("allowed_host").unwrap().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(m.get_one::<String>("api_key").unwrap(), "from-a-file-of-its-own");
        let keys = m.get_one::<PathBuf>("keys").unwrap();
        assert!(keys.is_absolute() && keys.ends_with("k.txt"), "{keys:?}");
        let lora: Vec<&(String, PathBuf)> = m.get_many("lora").unwrap().collect();
        assert!(lora[0].1.is_absolute() && lora[0].1.ends_with("dir/fox") && lora[1].1 == Path::new("/abs"));
        assert!(settings.lines["keys"].ends_with("c.toml:6"), "{settings:?}");
    }

    #[test]
    fn models_are_tables() {
        let text = "[[model]]\nname = \"a\"\npath = \"./m.gguf\"\naliases = [\"x\", \"y\"]\nlora = [\"fox=f\"]\nchat-template = \"t\"\n\
            [[model]]\npath = \"org/name\"\n";
        let (_, settings) = served(text).unwrap();
        let [a, b] = &settings.models[..] else { panic!("{settings:?}") };
        assert_eq!((a.name.as_deref(), &a.aliases[..]), (Some("a"), &["x".to_string(), "y".into()][..]));
        assert!(Path::new(a.path.as_ref().unwrap()).is_absolute() && a.chat_template.as_ref().unwrap().is_absolute());
        assert!(a.lora[0].0 == "fox" && a.lora[0].1.is_absolute());
        assert_eq!(*b, Entry { path: Some("org/name".into()), ..Entry::default() });
    }

    #[test]
    fn what_is_wrong_has_its_name_and_its_line() {
        for (text, what) in [
            ("\n\nprot = 1", "c.toml:3: prot: no such flag"),
            ("[serve]\n\nprot = 1", "c.toml:3: serve.prot: no such flag"),
            ("[server]\nport = 1", "c.toml:1: [server]: no such command"),
            ("[serve]\nconfig = \"x\"", "c.toml:2: serve.config: no such flag"),
            ("max-running = 1\nmax_running = 2", "max_running: given twice"),
            ("port = [1, 2]", "c.toml:1: port: expected one value, got 2"),
            ("port = []", "c.toml:1: port: expected one value, got 0"),
            ("json = 3", "c.toml:1: json: expected true or false"),
            ("port = 1979-05-27", "c.toml:1: port: expected a text"),
            ("port = [[1]]", "c.toml:1: port: expected a text"),
            ("port = ", "c.toml:1: "),
            ("\napi_key = { env = \"PONDERA_NO_SUCH_VARIABLE\" }", "c.toml:2: api_key: the environment has no"),
            ("api_key = { file = \"nosuch\" }", "nosuch: No such file"),
            ("api_key = { file = \"secret\", env = \"x\" }", "expected { file = PATH } or { env = NAME }"),
            ("api_key = { file = 3 }", "api_key.file: expected a text"),
            ("model = 3", "c.toml:1: model: not a list of tables"),
            ("[model]\npath = \"x\"", "c.toml:1: model: not a list of tables"),
            ("model = [3]", "c.toml:1: model: not a table"),
            ("[[model]]\npath = \"x\"\n[[model]]\n\nptah = \"x\"", "c.toml:5: model.ptah: no such key"),
            ("[[model]]\npath = 3", "c.toml:2: model.path: expected a text"),
            ("[[model]]\naliases = \"x\"", "c.toml:2: model.aliases: expected a list"),
            ("[[model]]\nlora = [\"x\"]", "c.toml:2: model.lora: x: expected NAME=PATH"),
        ] {
            let e = served(text).map(|_| ()).unwrap_err().to_string();
            assert!(e.contains(what), "{text:?}: {e}");
        }
    }

    #[test]
    fn the_example_of_deploy_is_of_keys_that_exist() {
        let text = include_str!("../../../deploy/pondera.toml");
        served(text).unwrap();
        // Keys that are commented out are keys too.
        let all: Vec<&str> = text.lines().map(|l| l.strip_prefix("#: ").unwrap_or(l)).collect();
        assert!(all.len() > text.lines().filter(|l| !l.starts_with("#: ")).count());
        let with_secret = all.join("\n").replace("{ file = \"api-key\" }", "{ file = \"secret\" }");
        let (m, settings) = served(&with_secret).unwrap();
        assert!(settings.models.len() == 2 && settings.models[1].lora.len() == 1, "{settings:?}");
        // Every flag of `serve` stands in it but those of all commands and those that are of one model.
        let serve = crate::args::command().find_subcommand("serve").unwrap().clone();
        for flag in serve.get_arguments().filter_map(Arg::get_long) {
            let elsewhere = ["help", "version", "served-model-name", "chat-template", "lora"].contains(&flag);
            assert!(elsewhere || settings.lines.contains_key(flag), "--{flag} is not in deploy/pondera.toml");
        }
        assert!(m.get_one::<PathBuf>("keys").is_some());
    }
}
