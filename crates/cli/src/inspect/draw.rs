//! The architecture as a person draws it: a stream from tokens to logits, boxes on it, what repeats drawn once.
use super::architecture::{Amount, Architecture, Block, LayerFacts, LayerKind, ranges};
use crate::{
    out::{ACCENT, BOLD, DIM},
    view::{count, strip},
};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr;

/// Columns of the drawing.
const WIDTH: usize = 92;
/// Columns of a part's name.
const NAME: usize = 15;
/// Columns of figures and types on the right.
const RIGHT: usize = 25;
/// Kinds of layers that are drawn; a model of more is hardly one for a drawing.
const KINDS: usize = 12;

/// The drawing, with a newline at its end.
pub fn architecture(a: &Architecture) -> String {
    let mut s = String::new();
    let total: u64 = a.parts.iter().map(|p| p.amount.parameters).sum();
    arrow(&mut s, "tokens");
    for block in &a.before {
        boxed(&mut s, "", std::slice::from_ref(block), 1, total);
    }
    for kind in a.layer_kinds.iter().take(KINDS) {
        arrow(&mut s, "");
        boxed(&mut s, &title(kind, &a.layers), &kind.blocks, kind.layers.len(), total);
    }
    if a.layer_kinds.len() > KINDS {
        let _ = writeln!(s, "  {DIM}… and {} further kinds of layers{DIM:#}", a.layer_kinds.len() - KINDS);
    }
    if !a.after.is_empty() {
        arrow(&mut s, "");
        boxed(&mut s, "", &a.after, 1, total);
    }
    arrow(&mut s, if a.tied_embeddings { "logits (the table of tokens again)" } else { "logits" });
    let by_layer = |f: fn(&LayerFacts) -> u64| strip(&a.layers.iter().map(|l| f(l) as f32).collect::<Vec<_>>());
    let bytes: Vec<u64> = a.layers.iter().map(|l| l.amount.bytes).collect();
    if bytes.len() <= WIDTH && bytes.iter().any(|b| Some(b) != bytes.first()) {
        let _ = writeln!(s, "  {DIM}bytes by layer{DIM:#}  {ACCENT}{}{ACCENT:#}", by_layer(|l| l.amount.bytes));
    }
    s
}

/// `80 layers: 0–79, 855 M each`.
fn title(kind: &LayerKind, layers: &[LayerFacts]) -> String {
    let first = kind.layers.first();
    let each = layers.iter().find(|l| Some(&l.layer) == first).map_or(Amount::default(), |l| l.amount);
    let active = match each.active {
        n if n == each.parameters => String::new(),
        n => format!(", {} of them active", count(n)),
    };
    match kind.layers.len() {
        1 => format!("layer {}: {}{active}", ranges(&kind.layers), count(each.parameters)),
        n => format!("{n} layers: {}, {} each{active}", ranges(&kind.layers), count(each.parameters)),
    }
}

fn arrow(s: &mut String, text: &str) {
    let _ = match text {
        "" => writeln!(s, "  {DIM}   │{DIM:#}"),
        text => writeln!(s, "  {DIM}   │  {text}{DIM:#}"),
    };
}

/// A box whose blocks stand `times` times in the model, of `total` weights.
fn boxed(s: &mut String, title: &str, blocks: &[Block], times: usize, total: u64) {
    let title = cut(title, WIDTH - 8);
    let head = if title.is_empty() { String::new() } else { format!("┤ {BOLD}{title}{BOLD:#} ├") };
    let used = if title.is_empty() { 0 } else { title.width() + 4 };
    let _ = writeln!(s, "  ╭──┴{head}{}╮", "─".repeat((WIDTH - 5).saturating_sub(used)));
    for block in blocks {
        let all = block.amount.parameters.saturating_mul(times as u64);
        let figures = format!("{:>7} {:>5} ", count(block.amount.parameters), share(all, total));
        let right = format!("{figures}{}", cut(&types(block), RIGHT - figures.width()));
        let room = WIDTH - 4 - NAME - RIGHT;
        let mut lines = wrap(&block.text, room - 1).into_iter();
        let text = lines.next().unwrap_or_default();
        let pad = |text: &str, n: usize| " ".repeat(n.saturating_sub(text.width()));
        let name = block.part.name();
        let _ = writeln!(
            s,
            "  │ {ACCENT}{name}{ACCENT:#}{}{text}{}{right}{} │",
            pad(name, NAME),
            pad(&text, room),
            pad(&right, RIGHT)
        );
        for line in lines {
            let _ = writeln!(s, "  │ {}{line}{} │", " ".repeat(NAME), pad(&line, room + RIGHT));
        }
    }
    let _ = writeln!(s, "  ╰──┬{}╯", "─".repeat(WIDTH - 5));
}

fn share(n: u64, total: u64) -> String {
    let share = 100.0 * n as f64 / total.max(1) as f64;
    if share < 0.05 { String::new() } else { format!("{share:.1}%") }
}

/// How the block's matrices are stored; norms and biases are left out beside them.
fn types(block: &Block) -> String {
    let matrix = |t: &&super::architecture::BlockTensor| t.shape[1] > 1;
    let any = block.tensors.iter().any(|t| matrix(&t));
    let mut found: Vec<&str> = Vec::new();
    for t in block.tensors.iter().filter(|t| !any || matrix(t)).flat_map(|t| &t.types) {
        if !found.contains(t) {
            found.push(t);
        }
    }
    found.join(" ")
}

/// Words in lines of at most `width` columns.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let word = cut(word, width);
        let Some(last) = lines.last_mut() else { break };
        if last.is_empty() {
            last.push_str(&word);
        } else if last.width() + 1 + word.width() <= width {
            last.push(' ');
            last.push_str(&word);
        } else {
            lines.push(word);
        }
    }
    lines
}

/// At most `width` columns, control characters shown as what they are.
fn cut(text: &str, width: usize) -> String {
    let shown = |c: char| if c.is_control() { c.escape_debug().collect() } else { String::from(c) };
    let whole: String = text.chars().map(shown).collect();
    if whole.width() <= width {
        return whole;
    }
    let mut s = String::new();
    for c in text.chars().map(shown) {
        if s.width() + c.width() + 1 > width {
            break;
        }
        s.push_str(&c);
    }
    s.push('…');
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use pondera_arch::{FAMILIES, Model, Source};

    #[test]
    fn every_familys_drawing_keeps_its_edges() {
        for family in FAMILIES {
            let Ok(config) = family.example() else { continue };
            let Ok(model) = Model::load(&config, &Source::Describe) else { continue };
            let a = Architecture::of(&model, config.keys(), 1024);
            let plain = anstream::adapter::strip_str(&architecture(&a)).to_string();
            for line in plain.lines().filter(|l| l.starts_with("  │ ") && l.ends_with('│') || l.contains('╮')) {
                assert_eq!(line.width(), WIDTH + 2, "{}: {line}", family.model_type);
            }
            assert!(plain.contains("tokens") && plain.contains("embedding"), "{plain}");
        }
    }

    #[test]
    fn texts_are_cut_and_wrapped() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("a\nb", 9), "a\\nb");
    }
}
