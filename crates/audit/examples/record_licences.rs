//! Records licence texts for `pondera license`: `cargo run -p pondera-audit --example record_licences XML TEXTS`.
//!
//! Owns which texts are recorded and how the templates of the SPDX list become pieces of words, places and options.
//! XML is `src/` of the repository spdx/license-list-XML. TEXTS is a folder of plain texts `ID~N.txt` (the licence)
//! and `ID~N.notice.txt` (the lines that say that something is under it); `origins.tsv` beside it says per file
//! where it came from. Nothing of a text goes into this repository but hashes of its words.
use pondera_audit::license::{
    template::{Kind, Node, pack},
    words::words,
};
use roxmltree::{Document, Node as Xml};
use std::{collections::HashMap, fmt::Write, fs, path::Path};

/// Templates of the SPDX list that are recorded: the hub's `license:` values, and their nearest neighbours.
const SPDX: &[&str] = &[
    "0BSD", "AFL-3.0", "AGPL-3.0", "Apache-1.1", "Apache-2.0", "Artistic-2.0", "BSD-1-Clause", "BSD-2-Clause",
    "BSD-3-Clause", "BSD-3-Clause-Clear", "BSD-4-Clause", "BSL-1.0", "C-UDA-1.0", "CC-BY-2.0", "CC-BY-2.5",
    "CC-BY-3.0", "CC-BY-4.0", "CC-BY-NC-2.0", "CC-BY-NC-3.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-3.0", "CC-BY-NC-ND-4.0",
    "CC-BY-NC-SA-2.0", "CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0",
    "CC0-1.0", "CDLA-Permissive-1.0", "CDLA-Permissive-2.0", "CDLA-Sharing-1.0", "ECL-2.0", "EPL-1.0", "EPL-2.0",
    "EUPL-1.1", "EUPL-1.2", "GPL-2.0", "GPL-3.0", "ISC", "LGPL-2.1", "LGPL-3.0", "LGPLLR", "LPPL-1.3c", "MIT",
    "MIT-0", "MPL-2.0", "MS-PL", "NCSA", "OFL-1.1", "OSL-3.0", "ODC-By-1.0", "ODbL-1.0", "OpenMDW-1.0", "PDDL-1.0",
    "PostgreSQL", "Unlicense", "WTFPL", "X11", "Zlib", "etalab-2.0",
];
/// Those whose notice is recorded, too.
const NOTICES: &[&str] = &[
    "AFL-3.0", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-2.0", "ECL-2.0", "GPL-2.0-only", "GPL-2.0-or-later",
    "GPL-3.0-only", "GPL-3.0-or-later", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later",
    "MPL-2.0", "OSL-3.0",
];
/// Most words of a place that the list lets anything stand in.
const ANY_WORDS: u16 = 24;

type Recorded = (String, Kind, Vec<Node>);

fn main() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [xml, texts] = &args[..] else { return Err("usage: record_licences XML TEXTS".into()) };
    let mut all: Vec<(Recorded, String)> = Vec::new();
    for id in SPDX {
        let nodes = spdx(Path::new(xml), id, false)?;
        all.push(((id.to_string(), Kind::Text, nodes), "SPDX licence list".into()));
    }
    for id in NOTICES {
        let nodes = spdx(Path::new(xml), id, true)?;
        all.push(((id.to_string(), Kind::Notice, nodes), "SPDX licence list, standard header".into()));
    }
    all.extend(plain_texts(Path::new(texts))?);
    all.sort_by(|a, b| a.0.0.cmp(&b.0.0));
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/license");
    let mut table = String::from("id\tkind\twords\torigin\n");
    for ((id, kind, nodes), origin) in &all {
        let n = nodes.iter().filter(|n| matches!(n, Node::Word(_))).count();
        let _ = writeln!(table, "{id}\t{}\t{n}\t{origin}", if *kind == Kind::Notice { "notice" } else { "text" });
    }
    let recorded: Vec<Recorded> = all.into_iter().map(|a| a.0).collect();
    let packed = pack(&recorded);
    println!("{} texts, {} bytes", recorded.len(), packed.len());
    let write = |name: &str, bytes: &[u8]| fs::write(out.join(name), bytes).map_err(|e| format!("{name}: {e}"));
    write("texts.bin", &packed)?;
    write("texts.tsv", table.as_bytes())
}

/// The template of a licence of the SPDX list, or of its notice.
fn spdx(folder: &Path, id: &str, notice: bool) -> Result<Vec<Node>, String> {
    let path = folder.join(format!("{id}.xml"));
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let xml = Document::parse(&text).map_err(|e| format!("{id}: {e}"))?;
    let find = |name: &str| xml.descendants().find(|n| n.tag_name().name() == name);
    let mut nodes = Vec::new();
    if !notice {
        element(find("text").ok_or_else(|| format!("{id}: no text"))?, &mut nodes);
        return Ok(nodes);
    }
    let head = find("standardLicenseHeader").ok_or_else(|| format!("{id}: no standard header"))?;
    // The first paragraph that is no list of names says which licence; many leave out what follows.
    let mut said = false;
    for p in head.children().filter(|n| n.is_element() || n.text().is_some_and(|t| !t.trim().is_empty())) {
        let mut inner = Vec::new();
        element(p, &mut inner);
        let text: String = p.descendants().filter_map(|n| n.text()).collect();
        let names = text.trim_start().starts_with(['<', '[']) || text.trim_start().starts_with("Copyright");
        let link = text.trim().starts_with("http") && !text.trim().contains(' ');
        let optional = names || said && !link;
        said |= !names && inner.iter().filter(|n| matches!(n, Node::Word(_))).count() > 5;
        if optional {
            nodes.push(Node::Open);
        }
        nodes.extend(inner);
        if optional {
            nodes.push(Node::Close);
        }
    }
    Ok(nodes)
}

fn push_words(text: &str, nodes: &mut Vec<Node>) {
    nodes.extend(words(text).iter().map(|w| Node::Word(w.hash)));
}

fn element(n: Xml, nodes: &mut Vec<Node>) {
    if n.is_text() {
        return push_words(n.text().unwrap_or(""), nodes);
    }
    let inside = |nodes: &mut Vec<Node>| n.children().for_each(|c| element(c, nodes));
    match n.tag_name().name() {
        "optional" | "titleText" | "copyrightText" | "bullet" => {
            nodes.push(Node::Open);
            inside(nodes);
            nodes.push(Node::Close);
        }
        "alt" => {
            let default: String = n.descendants().filter(|c| c.is_text()).filter_map(|c| c.text()).collect();
            nodes.push(alternatives(n.attribute("match").unwrap_or(".+"), &default));
        }
        _ => inside(nodes),
    }
}

/// What may stand where the list gives a regular expression: the words that it spells out, or any few.
fn alternatives(expression: &str, default: &str) -> Node {
    let hashes = |text: &str| words(text).iter().map(|w| w.hash).collect::<Vec<u32>>();
    let spelt = expression.replace("\\s+", " ").replace("[ \\t\\r\\n\\f]{0,10}", " ").replace("[ \\t\\r\\n\\f]{1,10}", " ");
    let spelt = spelt.replace("\\.", ".").replace("\\(", "\u{1}").replace("\\)", "\u{2}");
    let plain = !spelt.contains(['+', '*', '?', '{', '[', '(', '^', '$', '\\']) && !spelt.contains(".+");
    if plain {
        let mut ways: Vec<Vec<u32>> = spelt.split('|').map(|way| hashes(&way.replace(['\u{1}', '\u{2}'], " "))).collect();
        ways.push(hashes(default));
        ways.sort();
        ways.dedup();
        return Node::Choice(ways);
    }
    let any = expression.contains(".+") || expression.contains(".*");
    Node::Slot(if any { ANY_WORDS } else { words(default).len() as u16 + 2 })
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
        let xml = Document::parse(
            "<text><titleText><p>X</p></titleText><p>Use <optional>on</optional> the <alt match=\"a|b c\" name=\"n\">a</alt> of \
             <alt match=\".+\" name=\"m\">me</alt></p></text>",
        )
        .unwrap();
        let mut nodes = vec![];
        element(xml.root_element(), &mut nodes);
        let a = match &nodes[8] {
            Node::Choice(ways) => ways.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(a, 2);
        assert_eq!(nodes[..8], [Node::Open, word("x"), Node::Close, word("use"), Node::Open, word("on"), Node::Close, word("the")]);
        assert_eq!(nodes[9..], [word("of"), Node::Slot(ANY_WORDS)]);
    }

    #[test]
    fn names_and_a_heading_that_stands_twice_may_go() {
        let nodes = plain("Qwen AGREEMENT\n\nQwen AGREEMENT Release 1\nCopyright (c) me\nuse it\n");
        let open = nodes.iter().filter(|n| **n == Node::Open).count();
        assert_eq!((open, nodes.len()), (2, 2 + 4 + 2 + 2 + 4));
    }
}
