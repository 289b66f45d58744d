//! How figures are drawn for a person: tables, bars, sizes.
use crate::out::{self, ACCENT, BOLD, DIM};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr;

/// `1.23 GiB`; whole bytes below a KiB.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut v = n as f64 / 1024.0;
    let mut unit = 0;
    while v >= 999.95 && unit + 1 < UNITS.len() {
        v /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three(v), UNITS[unit])
}

/// `1.24 B`, `8.03 B`, `260 K`: a count as models are named by.
pub fn count(n: u64) -> String {
    for (scale, unit) in [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")] {
        if n as f64 >= scale * 0.9995 {
            return format!("{} {unit}", three(n as f64 / scale));
        }
    }
    n.to_string()
}

/// Three significant digits, never in exponent form.
pub fn three(v: f64) -> String {
    match v.abs() {
        a if a >= 99.95 => format!("{v:.0}"),
        a if a >= 9.995 => format!("{v:.1}"),
        _ => format!("{v:.2}"),
    }
}

/// A bar of `width` columns, filled to `share` (0 to 1) in eighths of a column.
pub fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let eighths = (share * width as f64 * 8.0).round() as usize;
    let mut s = "█".repeat(eighths / 8);
    s.push_str(EIGHTHS[eighths % 8]);
    let used = s.width();
    s.push_str(&" ".repeat(width.saturating_sub(used)));
    s
}

/// One character per value, its height the share of the largest.
pub fn strip(values: &[f32]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let top = values.iter().copied().filter(|v| v.is_finite()).fold(f32::MIN_POSITIVE, f32::max);
    values
        .iter()
        .map(|v| if v.is_finite() { HEIGHTS[((v / top * 7.0).round().max(0.0) as usize).min(7)] } else { '!' })
        .collect()
}

/// A token's text on one line: quoted, control characters escaped, cut to `width` columns.
pub fn token(text: &str, width: usize) -> String {
    let mut s = String::from("\"");
    for c in text.chars() {
        let shown: String = if c == ' ' { " ".into() } else { c.escape_debug().collect() };
        if s.width() + shown.width() + 1 > width {
            s.push('…');
            return s;
        }
        s.push_str(&shown);
    }
    s.push('"');
    s
}

/// Which side of a column its cells keep to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Figures.
    Right,
}

/// A table drawn with a heading, a rule and aligned columns.
pub struct Table {
    head: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(head: &[(&str, Side)]) -> Table {
        Table { head: head.iter().map(|(h, s)| (h.to_string(), *s)).collect(), rows: Vec::new() }
    }

    /// Adds a row: a cell per column, each on one line whatever is in it.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|c| out::line(&c).into_owned()).collect());
    }

    /// The drawing, with a newline at the end.
    pub fn draw(&self) -> String {
        let width = |i: usize| {
            let cells = self.rows.iter().filter_map(|r| r.get(i)).map(|c| c.width());
            cells.chain([self.head[i].0.width()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &[String]| {
            let mut s = String::from(" ");
            for ((cell, w), (_, side)) in cells.iter().zip(&widths).zip(&self.head) {
                let pad = " ".repeat(w.saturating_sub(cell.width()));
                let _ = if *side == Side::Left { write!(s, " {cell}{pad} ") } else { write!(s, " {pad}{cell} ") };
            }
            s.trim_end().to_string()
        };
        let heads: Vec<String> = self.head.iter().map(|(h, _)| h.clone()).collect();
        let rule: usize = widths.iter().map(|w| w + 2).sum();
        let mut s = format!("{BOLD}{}{BOLD:#}\n {DIM}{}{DIM:#}\n", line(&heads), "─".repeat(rule));
        for row in &self.rows {
            let _ = writeln!(s, "{}", line(row));
        }
        s
    }
}

/// `name  value` lines under a heading.
pub struct Sheet {
    text: String,
    width: usize,
}

impl Sheet {
    /// A sheet whose names take `width` columns.
    pub fn new(width: usize) -> Sheet {
        Sheet { text: String::new(), width }
    }

    /// A heading.
    pub fn head(&mut self, text: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.text, "{gap}{BOLD}{}{BOLD:#}", out::line(text));
    }

    /// A line, whatever is in it; nothing for an empty value.
    pub fn line(&mut self, name: &str, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            let (name, value) = (out::line(name), out::line(value.as_ref()));
            let _ = writeln!(self.text, "  {DIM}{name:<w$}{DIM:#}  {value}", w = self.width);
        }
    }

    /// A line with a bar.
    pub fn bar(&mut self, name: &str, share: f64, value: &str) {
        let _ = writeln!(
            self.text,
            "  {DIM}{name:<w$}{DIM:#}  {ACCENT}{}{ACCENT:#} {value}",
            bar(share, 24),
            w = self.width
        );
    }

    /// Text as it is.
    pub fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        let sizes: &[(u64, &str)] = &[
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10 << 20, "10.0 MiB"),
            ((1 << 30) - 1, "1.00 GiB"),
            (u64::MAX, "16384 PiB"),
        ];
        for (n, want) in sizes {
            assert_eq!(bytes(*n), *want);
        }
        for (n, want) in [(999, "999"), (260_032, "260 K"), (999_950, "1.00 M"), (8_030_261_248, "8.03 B")] {
            assert_eq!(count(n), want);
        }
    }

    #[test]
    fn bars_have_their_width_and_show_eighths() {
        assert_eq!(bar(0.5, 4), "██  ");
        assert_eq!(bar(0.125, 1), "▏");
        for share in [0.0, 0.01, 0.3, 0.999, 1.0, 7.0, f64::NAN] {
            assert_eq!(bar(share, 10).width(), 10, "{share}");
        }
        assert_eq!(strip(&[0.0, 1.0, f32::NAN]), "▁█!");
    }

    #[test]
    fn tokens_stay_on_their_line() {
        assert_eq!(token("a\nb", 20), "\"a\\nb\"");
        assert_eq!(token("abcdefgh", 6), "\"abcd…");
    }

    #[test]
    fn tables_align() {
        let mut t = Table::new(&[("a", Side::Left), ("n", Side::Right)]);
        t.row(vec!["long".into(), "7".into()]);
        t.row(vec!["é".into(), "12".into()]);
        let plain = anstream::adapter::strip_str(&t.draw()).to_string();
        assert_eq!(plain, "  a      n\n ──────────\n  long   7\n  é     12\n");
    }
}
