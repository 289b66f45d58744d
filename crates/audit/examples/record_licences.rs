//! Records licence texts for `pondera license`: `cargo run -p pondera-audit --example record_licences XML TEXTS`, or
//! with `--add TEXTS` beside those that are recorded already.
//!
//! Owns which texts are recorded and how the templates of the SPDX list become pieces of words, places and options.
//! XML is `src/` of the repository spdx/license-list-XML. TEXTS is a folder of plain texts `ID~N.txt` (the licence)
//! and `ID~N.notice.txt` (the lines that say that something is under it); `origins.tsv` beside it says per file
//! where it came from. Nothing of a text goes into this repository but hashes of its words.
use pondera_audit::license::{
    template::{Kind, Node, pack, recorded},
    words::words,
};
use roxmltree::{Document, Node as Xml};
use std::{collections::HashMap, fmt::Write, fs, path::Path};

/// Templates of the SPDX list that are recorded: the hub's `license:` values, and their nearest neighbours.
const SPDX: &[&str] = &[
    "0BSD",
    "AFL-3.0",
    "AGPL-3.0",
    "Apache-1.1",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSD-4-Clause",
    "BSL-1.0",
    "C-UDA-1.0",
    "CC-BY-2.0",
    "CC-BY-2.5",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-NC-2.0",
    "CC-BY-NC-3.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-ND-3.0",
    "CC-BY-NC-ND-4.0",
    "CC-BY-NC-SA-2.0",
    "CC-BY-NC-SA-3.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "CDLA-Permissive-1.0",
    "CDLA-Permissive-2.0",
    "CDLA-Sharing-1.0",
    "ECL-2.0",
    "EPL-1.0",
    "EPL-2.0",
    "EUPL-1.1",
    "EUPL-1.2",
    "GPL-2.0",
    "GPL-3.0",
    "ISC",
    "LGPL-2.1",
    "LGPL-3.0",
    "LGPLLR",
    "LPPL-1.3c",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "MS-PL",
    "NCSA",
    "OFL-1.1",
    "OSL-3.0",
    "ODC-By-1.0",
    "ODbL-1.0",
    "OpenMDW-1.0",
    "PDDL-1.0",
    "PostgreSQL",
    "Unlicense",
    "WTFPL",
    "X11",
    "Zlib",
    "etalab-2.0",
];
/// Those whose notice is recorded, too.
const NOTICES: &[&str] = &[
    "AFL-3.0",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-2.0",
    "ECL-2.0",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "MPL-2.0",
    "OSL-3.0",
];
/// Most words of a place that the list lets anything stand in.
const ANY_WORDS: u16 = 24;

type Recorded = (String, Kind, Vec<Node>);

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [xml, texts] = &args[..] else { return Err("usage: record_licences XML TEXTS, or --add TEXTS".into()) };
    let mut all: Vec<(Recorded, String)> = Vec::new();
    let add = xml == "--add";
    if add {
        let table = include_str!("../src/license/texts.tsv").lines().skip(1);
        let origins = table.map(|line| line.rsplit('\t').next().unwrap_or_default().to_string());
        all.extend(recorded().into_iter().zip(origins));
    }
    for id in SPDX.iter().filter(|_| !add) {
        let text = spdx(Path::new(xml), id, "text")?;
        all.extend(text.into_iter().map(|n| ((id.to_string(), Kind::Text, n), "SPDX licence list".to_string())));
    }
    for id in NOTICES.iter().filter(|_| !add) {
        let notice = spdx(Path::new(xml), id, "standardLicenseHeader")?;
        let origin = "SPDX licence list, standard header".to_string();
        let notice = notice.into_iter().filter(|n| says_enough(n));
        all.extend(notice.map(|n| ((id.to_string(), Kind::Notice, n), origin.clone())));
    }
    all.extend(plain_texts(Path::new(texts))?);
    all.sort_by(|a, b| (&a.0.0, &a.1).cmp(&(&b.0.0, &b.1)));
    // What was recorded before stays one text.
    all.dedup_by(|a, b| a.0 == b.0);
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/license");
    let mut table = String::from("id\tkind\twords\torigin\n");
    for ((id, kind, nodes), origin) in &all {
        let n = nodes.iter().filter(|n| matches!(n, Node::Word(_))).count();
        let _ = writeln!(table, "{id}\t{}\t{n}\t{origin}", if *kind == Kind::Notice { "notice" } else { "text" });
    }
    let texts: Vec<Recorded> = all.into_iter().map(|a| a.0).collect();
    let packed = pack(&texts);
    println!("{} texts, {} bytes", texts.len(), packed.len());
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).map_err(|e| format!("{name}: {e}"));
    write("texts.bin", &packed)?;
    write("texts.tsv", table.as_bytes())
}

/// Whether enough is left that may not be left out.
fn says_enough(nodes: &[Node]) -> bool {
    let (mut depth, mut words) = (0, 0);
    for n in nodes {
        match n {
            Node::Open => depth += 1,
            Node::Close => depth -= 1,
            Node::Word(_) if depth == 0 => words += 1,
            _ => {}
        }
    }
    words > 8
}

/// What may stand in one place.
type Ways = Vec<Vec<Node>>;

/// The template of a licence of the SPDX list, or of its notice; several where places differ in more than words.
fn spdx(folder: &Path, id: &str, part: &str) -> Result<Vec<Vec<Node>>, String> {
    let path = folder.join(format!("{id}.xml"));
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let xml = Document::parse(&text).map_err(|e| format!("{id}: {e}"))?;
    let root = xml.descendants().find(|n| n.tag_name().name() == part).ok_or_else(|| format!("{id}: no {part}"))?;
    let mut places = Vec::new();
    match part {
        "text" => element(root, &mut places),
        _ => notice(root, &mut places),
    }
    Ok(places.into_iter().fold(vec![Vec::new()], |heads, ways: Ways| {
        let longer = |head: &Vec<Node>| ways.iter().map(|w| [&head[..], w].concat()).collect::<Vec<_>>();
        match &ways[..] {
            [one] => heads.into_iter().map(|head| [head, one.clone()].concat()).collect(),
            _ => heads.iter().flat_map(longer).collect(),
        }
    }))
}

/// The first paragraph that is no list of names says which licence; many leave out what follows.
fn notice(root: Xml, places: &mut Vec<Ways>) {
    let mut said = false;
    for p in root.children().filter(|n| n.is_element() || n.text().is_some_and(|t| !t.trim().is_empty())) {
        let text: String = p.descendants().filter_map(|n| n.text()).collect();
        let text = text.trim();
        let names = text.starts_with(['<', '[']) || text.starts_with("Copyright");
        let link = text.starts_with("http") && !text.contains(' ');
        let optional = names || said && !link;
        said |= !names && words(text).len() > 5;
        if optional {
            places.push(vec![vec![Node::Open]]);
        }
        element(p, places);
        if optional {
            places.push(vec![vec![Node::Close]]);
        }
    }
}

fn hashes(text: &str) -> Vec<Node> {
    words(text).iter().map(|w| Node::Word(w.hash)).collect()
}

fn element(n: Xml, places: &mut Vec<Ways>) {
    if n.is_text() {
        return places.push(vec![hashes(n.text().unwrap_or(""))]);
    }
    match n.tag_name().name() {
        "optional" | "titleText" | "copyrightText" | "bullet" => {
            places.push(vec![vec![Node::Open]]);
            n.children().for_each(|c| element(c, places));
            places.push(vec![vec![Node::Close]]);
        }
        "alt" => {
            let default: String = n.descendants().filter(|c| c.is_text()).filter_map(|c| c.text()).collect();
            places.push(alternatives(n.attribute("match").unwrap_or(".+"), &default));
        }
        _ => n.children().for_each(|c| element(c, places)),
    }
}

/// What may stand where the list gives a regular expression: the words that it spells out, with names in between.
fn alternatives(expression: &str, default: &str) -> Ways {
    let usual: Vec<u32> = words(default).iter().map(|w| w.hash).collect();
    let mut spelt = expression.replace("\\s+", " ").replace("\\s*", " ").replace("\\.", ".");
    for blanks in ["[ \\t\\r\\n\\f]{0,10}", "[ \\t\\r\\n\\f]{1,10}"] {
        spelt = spelt.replace(blanks, " ");
    }
    let mut ways: Ways = Vec::new();
    for way in spelt_out(&spelt) {
        let names: Vec<&str> = way.split(".+").flat_map(|p| p.split(".*")).collect();
        if names.iter().any(|p| p.contains(['{', '[', '\\', '*', '+', '^', '#'])) {
            // Not to be spelt out: a few words like the usual ones.
            return vec![vec![Node::Slot(usual.len() as u16 + 2, usual)]];
        }
        let mut nodes = hashes(names[0]);
        let alone = names.iter().all(|p| p.trim().is_empty());
        for behind in &names[1..] {
            nodes.push(Node::Slot(ANY_WORDS, if alone { usual.clone() } else { Vec::new() }));
            nodes.extend(hashes(behind));
        }
        ways.push(nodes);
    }
    let plain = |w: &Vec<Node>| w.iter().map(|n| if let Node::Word(w) = n { Some(*w) } else { None }).collect();
    let choice: Option<Vec<Vec<u32>>> = ways.iter().map(plain).collect();
    match choice {
        Some(mut choice) => {
            choice.push(usual);
            choice.sort();
            choice.dedup();
            vec![vec![Node::Choice(choice)]]
        }
        None => ways,
    }
}

/// The alternatives of an expression without brackets; what a `?` makes optional stands in one and not in another.
fn spelt_out(expression: &str) -> Vec<String> {
    let (mut ways, mut depth, mut way) = (Vec::new(), 0, String::new());
    for c in expression.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        match c {
            '|' if depth == 0 => ways.push(std::mem::take(&mut way)),
            c => way.push(c),
        }
    }
    ways.push(way);
    let mut all = Vec::new();
    for way in ways {
        // Alternatives inside of one bracket: `(its|their)`.
        let inner = way.find('|').and_then(|bar| Some((way[..bar].rfind('(')?, bar + way[bar..].find(')')?)));
        if let Some((open, close)) = inner {
            let each = way[open + 1..close].split('|');
            all.extend(each.flat_map(|one| spelt_out(&format!("{}{one}{}", &way[..open], &way[close + 1..]))));
            continue;
        }
        match way.find('?') {
            None => all.push(way.replace(['(', ')'], " ")),
            Some(at) => {
                let (before, after) = (&way[..at], &way[at + 1..]);
                let start = match before.ends_with(')') {
                    true => before.rfind('(').unwrap_or(0),
                    false => before.char_indices().next_back().map_or(0, |c| c.0),
                };
                let taken = before[start..].trim_matches(['(', ')']);
                all.extend(spelt_out(&format!("{}{taken}{after}", &before[..start])));
                all.extend(spelt_out(&format!("{}{after}", &before[..start])));
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

/// Texts that come as they are: lines of names and a heading that stands twice may be left out.
fn plain_texts(folder: &Path) -> Result<Vec<(Recorded, String)>, String> {
    let read = |p: &Path| fs::read_to_string(p).map_err(|e| format!("{}: {e}", p.display()));
    let origins = read(&folder.join("../origins.tsv"))?;
    let origins: HashMap<&str, &str> = origins.lines().filter_map(|l| l.split_once('\t')).collect();
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| e.to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((id, _)) = name.split_once('~') else { continue };
        let kind = if name.ends_with(".notice.txt") { Kind::Notice } else { Kind::Text };
        let origin = origins.get(&*name).ok_or_else(|| format!("{name}: no line in origins.tsv"))?;
        all.push(((id.to_string(), kind, plain(&read(&entry.path())?)), origin.to_string()));
    }
    Ok(all)
}

fn plain(text: &str) -> Vec<Node> {
    let lines: Vec<&str> = text.lines().collect();
    let bare = |l: &str| words(l).iter().map(|w| &*w.text).collect::<Vec<_>>().join(" ");
    let full: Vec<&&str> = lines.iter().filter(|l| !bare(l).is_empty()).collect();
    let repeated = full.len() > 1 && bare(full[1]).contains(&bare(full[0]));
    // Words as they follow in the whole text, not line by line: a line may end within one.
    let mut nodes = Vec::new();
    let mut start = 0;
    let all = words(text);
    let mut rest = all.iter().peekable();
    let mut first = true;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let mut here = Vec::new();
        while let Some(w) = rest.next_if(|w| w.range.start < end) {
            here.push(Node::Word(w.hash));
        }
        start = end;
        if here.is_empty() {
            continue;
        }
        let lower = line.trim_start().to_lowercase();
        let optional = lower.starts_with("copyright") || lower.starts_with("©") || first && repeated;
        first = false;
        match optional {
            true => nodes.extend([vec![Node::Open], here, vec![Node::Close]].concat()),
            false => nodes.extend(here),
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_become_pieces() {
        let word = |w: &str| Node::Word(pondera_audit::license::words::hash(w));
        let xml = "<text><titleText><p>X</p></titleText><p>Use <optional>on</optional> the \
            <alt match=\"a|b c\" name=\"n\">a</alt> of <alt match=\".+\" name=\"m\">me</alt></p></text>";
        let xml = Document::parse(xml).unwrap();
        let mut places = vec![];
        element(xml.root_element(), &mut places);
        let nodes: Vec<Node> = places.into_iter().flatten().flatten().collect();
        assert!(matches!(&nodes[8], Node::Choice(ways) if ways.len() == 2), "{nodes:?}");
        let before =
            [Node::Open, word("x"), Node::Close, word("use"), Node::Open, word("on"), Node::Close, word("the")];
        assert_eq!(nodes[..8], before);
        assert_eq!(nodes[9..], [word("of"), Node::Slot(ANY_WORDS, vec![pondera_audit::license::words::hash("me")])]);
    }

    #[test]
    fn expressions_are_spelt_out() {
        for (expression, want) in [
            ("a|b", vec!["a", "b"]),
            ("names? of", vec!["name of", "names of"]),
            (
                "(The name of.+may not)|(Neither of (its|their) x)",
                vec![" Neither of its x ", " Neither of their x ", " The name of.+may not "],
            ),
            ("(To ask, write .*)?", vec!["", "To ask, write .*"]),
        ] {
            assert_eq!(spelt_out(expression), want, "{expression}");
        }
    }

    #[test]
    fn names_and_a_heading_that_stands_twice_may_go() {
        let nodes = plain("Qwen AGREEMENT\n\nQwen AGREEMENT Release 1\nCopyright (c) me\nuse it\n");
        let open = nodes.iter().filter(|n| **n == Node::Open).count();
        assert_eq!((open, nodes.len()), (2, 2 + 4 + 2 + 2 + 4));
    }
}
