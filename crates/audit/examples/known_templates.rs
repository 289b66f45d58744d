//! Makes the table of known templates: `cargo run -p pondera-audit --example known_templates LIST > known.tsv`.
//!
//! LIST has a line for each: the model, a tab, the file of its template. Nothing of a template's text goes into the
//! table but digests.
use std::{env, fs, process::exit};

fn main() {
    let Some(list) = env::args().nth(1) else {
        eprintln!("usage: known_templates LIST");
        exit(2);
    };
    let list = fs::read_to_string(&list).unwrap_or_else(|e| fail(&format!("{list}: {e}")));
    for line in list.lines().filter(|l| !l.trim().is_empty()) {
        let Some((model, file)) = line.split_once('\t') else { fail(&format!("{line}: no tab")) };
        let text = fs::read_to_string(file).unwrap_or_else(|e| fail(&format!("{file}: {e}")));
        let (whole, lines) = pondera_audit::template_digests(&text);
        println!("{model}\t{whole}\t{lines}");
    }
}

fn fail(what: &str) -> ! {
    eprintln!("{what}");
    exit(1)
}
