//! Families: the table in the README, their sizes, what two of them repeat, and their goldens.
use pondera_arch::{FAMILIES, Family};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Around the table in the README.
const MARKS: [&str; 2] = ["<!-- families: cargo xtask families --write -->", "<!-- /families -->"];
/// A family is read in one go.
const LINES_MEDIAN: usize = 90;
/// None is longer.
const LINES_MAX: usize = 250;
/// Equal lines in a row that two families may have; more are a block.
const EQUAL_MAX: usize = 10;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `families [--write]`: prints the table, or puts it into the README.
pub fn run(args: &[String]) -> Result<(), String> {
    if args.first().is_none_or(|a| a != "--write") {
        print!("{}", table());
        return Ok(());
    }
    let path = root().join("README.md");
    let text = fs::read_to_string(&path).map_err(|e| format!("README.md: {e}"))?;
    let (before, _, after) = parts(&text)?;
    fs::write(&path, format!("{before}{}\n{}{}{after}", MARKS[0], table(), MARKS[1])).map_err(|e| e.to_string())
}

/// Makes goldens (all, or those named) with the reference implementation in an environment of its own.
pub fn golden(args: &[String]) -> Result<(), String> {
    let python = environment(&root().join("target/goldens"), &["-r", "goldens/requirements.txt"])?;
    let names: Vec<&str> = ["goldens/generate.py"].into_iter().chain(args.iter().map(String::as_str)).collect();
    call(&python, &names)
}

/// The interpreter of an environment under `home` that has what `wanted` names to pip.
pub fn environment(home: &Path, wanted: &[&str]) -> Result<PathBuf, String> {
    let python = home.join("venv/bin/python");
    if !python.exists() {
        fs::create_dir_all(home).map_err(|e| format!("{}: {e}", home.display()))?;
        call(Path::new("python3"), &["-m", "venv", &home.join("venv").to_string_lossy()])?;
    }
    call(&python, &[&["-m", "pip", "install", "--quiet"], wanted].concat())?;
    Ok(python)
}

fn call(program: &Path, args: &[&str]) -> Result<(), String> {
    match Command::new(program).args(args).current_dir(root()).status() {
        Ok(s) if s.success() => Ok(()),
        Ok(s) => Err(format!("{} {}: {s}", program.display(), args.join(" "))),
        Err(e) => Err(format!("{}: {e}", program.display())),
    }
}

/// The README before the table, the table, and after it.
fn parts(text: &str) -> Result<(&str, &str, &str), String> {
    let missing = || format!("README.md lacks the marks {} and {}", MARKS[0], MARKS[1]);
    let (before, rest) = text.split_once(MARKS[0]).ok_or_else(missing)?;
    let (table, after) = rest.split_once(MARKS[1]).ok_or_else(missing)?;
    Ok((before, table, after))
}

fn table() -> String {
    let row = |f: &'static Family| {
        let found = f.example().and_then(|c| Family::mechanisms(&c)).unwrap_or_default();
        let mechanisms: Vec<&str> = found.into_iter().map(|m| m.name()).collect();
        let gguf = f.gguf.map_or("–".to_string(), |(arch, _)| format!("`{arch}`"));
        format!(
            "| {} | `{}` | {gguf} | {} | {} |\n",
            f.title,
            f.model_type,
            f.verified().join(", "),
            mechanisms.join(", ")
        )
    };
    let head = "| family | `model_type` | GGUF | verified | mechanisms of its default configuration |\n| --- | --- | --- | --- | --- |\n";
    FAMILIES.iter().map(row).fold(head.to_string(), |all, row| all + &row)
}

/// What tidy finds in the families.
pub fn check(findings: &mut Vec<String>) {
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    match parts(&readme) {
        Ok((_, found, _)) if found.trim() == table().trim() => {}
        Ok(_) => findings.push("README.md: its table of families is old: cargo xtask families --write".into()),
        Err(e) => findings.push(e),
    }
    let mut files = Vec::new();
    for f in FAMILIES {
        let name = format!("crates/arch/src/families/{}.rs", f.model_type);
        // Several model types may share a file.
        if let Ok(text) = fs::read_to_string(root().join(&name)) {
            files.push((name, text));
        }
    }
    sizes(&files, findings);
    repeats(&files, findings);
}

fn sizes(files: &[(String, String)], findings: &mut Vec<String>) {
    let mut lines: Vec<(usize, &str)> = files.iter().map(|(n, t)| (t.lines().count(), n.as_str())).collect();
    lines.sort();
    for (n, name) in lines.iter().filter(|(n, _)| *n > LINES_MAX) {
        findings.push(format!("{name}: {n} lines; a family has at most {LINES_MAX}"));
    }
    if let Some((n, _)) = lines.get(lines.len() / 2).filter(|(n, _)| *n > LINES_MEDIAN) {
        findings.push(format!("families: the median file has {n} lines, more than {LINES_MEDIAN}"));
    }
}

fn repeats(files: &[(String, String)], findings: &mut Vec<String>) {
    let mut seen: HashMap<Vec<String>, &str> = HashMap::new();
    let mut told: Vec<(&str, &String)> = Vec::new();
    for (name, text) in files {
        let lines = normalized(text);
        for run in lines.windows(EQUAL_MAX + 1) {
            let words: Vec<String> = run.iter().map(|l| l.1.clone()).collect();
            match seen.get(&words).copied() {
                Some(other) if other != name && !told.contains(&(other, name)) => {
                    findings.push(format!("{name}:{}: more than {EQUAL_MAX} lines as in {other}", run[0].0));
                    told.push((other, name));
                }
                Some(_) => {}
                None => drop(seen.insert(words, name)),
            }
        }
    }
}

/// Lines with their numbers: no imports, comments, or lines of brackets alone; literals and local names made equal.
fn normalized(text: &str) -> Vec<(usize, String)> {
    let mut importing = false;
    let mut lines = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        importing |= line.starts_with("use ");
        let skip = importing || line.starts_with("//") || !line.contains(|c: char| c.is_alphanumeric());
        importing &= !line.ends_with(';');
        if !skip {
            lines.push((i + 1, normal(line)));
        }
    }
    lines
}

fn normal(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                while rest.next().is_some_and(|c| c != '"') {}
                out.push('"');
            }
            c if c.is_ascii_digit() => {
                while rest.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_')).is_some() {}
                out.push('0');
            }
            c if c.is_alphabetic() || c == '_' => {
                let mut word = c.to_string();
                while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                // Functions, types and fields stay; what is only a local name does not count.
                let named = rest.peek().is_some_and(|c| matches!(c, '(' | ':' | '!' | '{' | ' '));
                out.push_str(if named || word.starts_with(char::is_uppercase) { &word } else { "x" });
            }
            c if c.is_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_families_repeat_is_found() {
        let body: String =
            (0..12).map(|i| format!("    let a{i} = p.linear((\"x{i}\", \"y\"), {i}, hidden)?;\n")).collect();
        let file = |name: &str, text: &str| (name.to_string(), text.to_string());
        let mut found = vec![];
        repeats(&[file("a", &body), file("b", &body.replace("hidden", "width"))], &mut found);
        assert_eq!(found.len(), 1, "{found:?}");
        let mut found = vec![];
        repeats(&[file("a", &body), file("b", &body.replace("linear", "fused"))], &mut found);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn long_families_are_found() {
        let mut found = vec![];
        sizes(&[("a".into(), "x\n".repeat(251))], &mut found);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
