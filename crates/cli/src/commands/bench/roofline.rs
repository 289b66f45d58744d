//! The roofline: what was reached under the machine's roofs, drawn in a terminal and as a page that stands alone.
//!
//! Both axes are logarithmic: operations per byte read, and operations per second. Left of a roof's edge memory is the
//! bound, right of it the arithmetic (Williams, Waterman and Patterson, "Roofline", 2009). Does not measure.
use crate::{out::DIM, view::three};
use pondera_audit::html::escape;
use pondera_engine::Ceiling;
use std::fmt::Write as _;

/// A measured phase.
#[derive(Clone, Debug)]
pub struct Point {
    /// What was measured.
    pub name: String,
    /// Operations per byte.
    pub intensity: f64,
    /// Operations per second.
    pub speed: f64,
}

/// A line of the page's table.
pub type Line = Vec<String>;

/// The plane that both drawings share.
struct Plane {
    x: (f64, f64),
    y: (f64, f64),
    read: f64,
    /// Names and heights, lowest first.
    roofs: Vec<(String, f64)>,
}

impl Plane {
    fn new(ceiling: &Ceiling, points: &[Point]) -> Plane {
        let mut roofs = vec![("f32".to_string(), ceiling.f32)];
        roofs.extend(ceiling.int8.iter().map(|r| (format!("int8 {}", r.name), r.per_second)));
        roofs.sort_by(|a, b| a.1.total_cmp(&b.1));
        let top = roofs.iter().map(|r| r.1).fold(1.0, f64::max);
        let knee = top / ceiling.read.max(1.0);
        let sound = |v: f64| v.is_finite() && v > 0.0;
        let xs = || points.iter().map(|p| p.intensity).filter(|v| sound(*v));
        let x = (xs().fold(knee / 16.0, f64::min) / 2.0, xs().fold(knee, f64::max) * 2.0);
        let ys = points.iter().map(|p| p.speed).filter(|v| sound(*v));
        let low = ys.fold(x.0 * ceiling.read, f64::min);
        Plane { x, y: (low / 2.0, top * 2.0), read: ceiling.read, roofs }
    }

    /// Places of 0 to 1, from the left and from the bottom.
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let along = |v: f64, (low, high): (f64, f64)| ((v / low).ln() / (high / low).ln()).clamp(0.0, 1.0);
        (along(x, self.x), along(y, self.y))
    }

    /// The intensity at a place.
    fn x_at(&self, share: f64) -> f64 {
        self.x.0 * (self.x.1 / self.x.0).powf(share)
    }
}

/// `1.5 T`, `340 G`.
fn rate(v: f64) -> String {
    match v {
        v if v >= 1e12 => format!("{} T", three(v / 1e12)),
        v if v >= 1e9 => format!("{} G", three(v / 1e9)),
        v => format!("{} M", three(v / 1e6)),
    }
}

/// The letter that marks a point.
pub fn letter(i: usize) -> char {
    char::from(b'A' + (i % 26) as u8)
}

/// A drawing of `width` columns for a terminal.
pub fn draw(ceiling: &Ceiling, points: &[Point], width: usize) -> String {
    const LEFT: usize = 12;
    const ROWS: usize = 14;
    let plane = Plane::new(ceiling, points);
    let columns = width.saturating_sub(LEFT + 2).clamp(24, 88);
    let mut cells = vec![vec![' '; columns]; ROWS];
    let row = |y: f64| ROWS - 1 - ((y * (ROWS - 1) as f64).round() as usize).min(ROWS - 1);
    let column = |x: f64| ((x * (columns - 1) as f64).round() as usize).min(columns - 1);
    let mut put = |row: usize, column: usize, mark: char| cells[row][column] = mark;
    for c in 0..columns {
        let x = plane.x_at(c as f64 / (columns - 1) as f64);
        for (_, roof) in &plane.roofs {
            if x * plane.read >= *roof {
                put(row(plane.place(x, *roof).1), c, '─');
            }
        }
        let slope = x * plane.read;
        if plane.roofs.last().is_some_and(|r| slope < r.1) && slope >= plane.y.0 {
            put(row(plane.place(x, slope).1), c, '╱');
        }
    }
    // Names stand above their roofs' right ends.
    for (name, roof) in &plane.roofs {
        let r = row(plane.place(plane.x.1, *roof).1).saturating_sub(1);
        let start = columns.saturating_sub(name.chars().count());
        name.chars().enumerate().for_each(|(i, ch)| put(r, (start + i).min(columns - 1), ch));
    }
    for (i, p) in points.iter().enumerate() {
        let (x, y) = plane.place(p.intensity, p.speed);
        put(row(y), column(x), letter(i));
    }
    let mut s = String::new();
    for (r, line) in cells.iter().enumerate() {
        let y = plane.y.0 * (plane.y.1 / plane.y.0).powf((ROWS - 1 - r) as f64 / (ROWS - 1) as f64);
        let label = if r % 3 == 0 { format!("{}op/s", rate(y)) } else { String::new() };
        let _ = writeln!(s, " {DIM}{label:>w$} │{DIM:#}{}", line.iter().collect::<String>().trim_end(), w = LEFT - 1);
    }
    let ends = (three(plane.x.0), three(plane.x.1));
    let middle = "operations per byte read";
    let gap = columns.saturating_sub(ends.0.len() + ends.1.len() + middle.len());
    let _ = writeln!(s, " {DIM}{:>w$} └{}{DIM:#}", "", "─".repeat(columns), w = LEFT - 1);
    let (before, after) = (" ".repeat(gap / 2), " ".repeat(gap - gap / 2));
    let _ = writeln!(s, " {DIM}{:>w$}  {}{before}{middle}{after}{}{DIM:#}", "", ends.0, ends.1, w = LEFT - 1);
    s
}

/// What a page shows.
pub struct Page<'a> {
    /// The model, and what is said under it.
    pub title: &'a str,
    /// Machine, threads, roofs.
    pub subtitle: &'a str,
    /// The table's heading and lines.
    pub head: &'a [&'a str],
    /// As many cells as the heading has.
    pub lines: &'a [Line],
}

const STYLE: &str = "\
:root{--ground:#fcfcfa;--ink:#1c2024;--soft:#687076;--line:#d7dbdf;--roof:#0b68cb;--point:#c2410c;--fill:#eef2f6}
@media (prefers-color-scheme:dark){:root{--ground:#15181b;--ink:#eceef0;--soft:#9ba1a6;--line:#33393e;--roof:#70b8ff;--point:#ff9e5c;--fill:#1d2226}}
body{margin:0 auto;max-width:60rem;padding:2rem 1.25rem;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem;margin:0 0 .25rem}p{margin:.25rem 0;color:var(--soft)}
svg{width:100%;height:auto;margin:1.25rem 0}text{fill:var(--soft);font-size:12px}
.grid{stroke:var(--line);stroke-width:1}.roof{stroke:var(--roof);stroke-width:2;fill:none}.under{fill:var(--fill)}
.name{fill:var(--roof)}.drop{stroke:var(--point);stroke-dasharray:2 4}.point{fill:var(--point)}.label{fill:var(--ink);font-weight:600}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500}th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}";

/// The page, with everything it needs inside.
pub fn html(page: &Page<'_>, ceiling: &Ceiling, points: &[Point]) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells: String = cells.map(|c| format!("<{tag}>{}</{tag}>", escape(c))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = page.lines.iter().map(|l| cells("td", &mut l.iter().map(String::as_str))).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
        <title>pondera bench: {title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n\
        <h1>{title}</h1>\n<p>{subtitle}</p>\n{svg}\n<div class=\"wide\">\n<table>\n<thead>\n{head}</thead>\n\
        <tbody>\n{body}</tbody>\n</table>\n</div>\n\
        <p>A point on a roof is all that the machine can do: left of the edge its memory is the bound, right of it its \
        arithmetic. The roofs are the best that was measured on the same threads.</p>\n</body>\n</html>\n",
        title = escape(page.title),
        subtitle = escape(page.subtitle),
        svg = svg(ceiling, points),
        head = cells("th", &mut page.head.iter().copied()),
    )
}

fn svg(ceiling: &Ceiling, points: &[Point]) -> String {
    const SIZE: (f64, f64) = (860.0, 460.0);
    const PAD: (f64, f64, f64, f64) = (70.0, 24.0, 24.0, 48.0); // left, top, right, bottom
    let plane = Plane::new(ceiling, points);
    let at = |x: f64, y: f64| {
        let (x, y) = plane.place(x, y);
        let (w, h) = (SIZE.0 - PAD.0 - PAD.2, SIZE.1 - PAD.1 - PAD.3);
        (PAD.0 + x * w, PAD.1 + (1.0 - y) * h)
    };
    let mut s = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Roofline: operations per second over operations per byte\">\n",
        SIZE.0, SIZE.1
    );
    let (left, bottom) = at(plane.x.0, plane.y.0);
    let (right, top) = at(plane.x.1, plane.y.1);
    let highest = plane.roofs.last().map_or(1.0, |r| r.1);
    // What the machine can do at all.
    let (start, edge) = (at(plane.x.0, plane.x.0 * plane.read), at(highest / plane.read, highest));
    let _ = writeln!(
        s,
        "<path class=\"under\" d=\"M{left:.1} {bottom:.1}L{:.1} {:.1}L{:.1} {:.1}L{right:.1} {:.1}L{right:.1} {bottom:.1}Z\"/>",
        start.0, start.1, edge.0, edge.1, edge.1
    );
    for (v, x) in decades(plane.x).map(|v| (v, at(v, plane.y.0).0)) {
        let _ = writeln!(s, "<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>");
        let label = if v < 1.0 { format!("{v}") } else { format!("{v:.0}") };
        let _ = writeln!(s, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", bottom + 18.0);
    }
    for (v, y) in decades(plane.y).map(|v| (v, at(plane.x.0, v).1)) {
        let _ = writeln!(s, "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
        let label = match v {
            v if v >= 1e12 => format!("{:.0} T", v / 1e12),
            v if v >= 1e9 => format!("{:.0} G", v / 1e9),
            v => format!("{:.0} M", v / 1e6),
        };
        let _ =
            writeln!(s, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}op/s</text>", left - 8.0, y + 4.0);
    }
    let middle = (left + right) / 2.0;
    let _ = writeln!(
        s,
        "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">operations per byte read</text>",
        SIZE.1 - 8.0
    );
    let _ = writeln!(s, "<path class=\"roof\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>", start.0, start.1, edge.0, edge.1);
    let turn = -((start.1 - edge.1) / (edge.0 - start.0)).atan().to_degrees();
    let slope = ((start.0 * 2.0 + edge.0) / 3.0, (start.1 * 2.0 + edge.1) / 3.0);
    let _ = writeln!(
        s,
        "<text class=\"name\" x=\"0\" y=\"-6\" text-anchor=\"middle\" transform=\"translate({:.1} {:.1}) rotate({turn:.1})\">\
        memory {} GB/s</text>",
        slope.0,
        slope.1,
        three(plane.read / 1e9)
    );
    for (name, roof) in &plane.roofs {
        let (x, y) = at(roof / plane.read, *roof);
        let _ = writeln!(s, "<path class=\"roof\" d=\"M{x:.1} {y:.1}H{right:.1}\"/>");
        let label = format!("{} {}op/s", escape(name), rate(*roof));
        let _ = writeln!(
            s,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            right - 4.0,
            y - 6.0
        );
    }
    for (i, p) in points.iter().enumerate() {
        let (x, y) = at(p.intensity, p.speed);
        let above = at(p.intensity, (p.intensity * plane.read).min(highest)).1;
        let _ = writeln!(s, "<path class=\"drop\" d=\"M{x:.1} {y:.1}V{above:.1}\"/>");
        let name = escape(&p.name);
        let title = format!("{name}: {}op/s at {} operations per byte", rate(p.speed), three(p.intensity));
        let _ =
            writeln!(s, "<circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"><title>{title}</title></circle>");
        // Labels stay inside the plane.
        let (x, anchor) = if x > right - 120.0 { (x - 10.0, "end") } else { (x + 10.0, "start") };
        let label = format!("{} {name}", letter(i));
        let _ = writeln!(
            s,
            "<text class=\"label\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{label}</text>",
            y + 14.0
        );
    }
    s.push_str("</svg>");
    s
}

/// Powers of ten within a range.
fn decades((low, high): (f64, f64)) -> impl Iterator<Item = f64> {
    (low.log10().ceil() as i32..=high.log10().floor() as i32).map(|e| 10f64.powi(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::bound::tests::machine;

    fn points() -> Vec<Point> {
        let point = |name: &str, intensity, speed| Point { name: name.into(), intensity, speed };
        vec![point("pp512", 800.0, 9e11), point("tg128 <&\">", 2.5, 5e10)]
    }

    fn page(points: &[Point]) -> String {
        let lines = vec![vec!["A".into(), "pp512 <b>".into()]];
        let page = Page { title: "a & b <script>", subtitle: "two threads", head: &["", "test"], lines: &lines };
        html(&page, &machine(), points)
    }

    /// Names of the elements, in order; fails where a tag is not closed, not nested, or an attribute not quoted.
    fn elements(text: &str) -> Vec<String> {
        let (mut open, mut all): (Vec<String>, Vec<String>) = Default::default();
        let mut rest = text.strip_prefix("<!DOCTYPE html>\n").unwrap();
        while let Some((between, tail)) = rest.split_once('<') {
            assert!(!between.contains('>') || open.last().is_some_and(|t| t == "style"), "{between}");
            let (tag, tail) = tail.split_once('>').unwrap();
            rest = tail;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "{between}");
                continue;
            }
            let (tag, alone) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
            let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            while !attributes.trim().is_empty() {
                let (key, value) = attributes.split_once("=\"").unwrap();
                assert!(key.trim().chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{key}");
                attributes = value.split_once('"').unwrap().1;
            }
            all.push(name.to_string());
            if !alone && name != "meta" {
                open.push(name.to_string());
            }
        }
        assert!(open.is_empty(), "{open:?}");
        all
    }

    #[test]
    fn the_page_is_well_formed_and_stands_alone() {
        let text = page(&points());
        let all = elements(&text);
        let count = |name: &str| all.iter().filter(|n| *n == name).count();
        assert_eq!((count("svg"), count("circle"), count("tr"), count("script")), (1, 2, 2, 0));
        for part in ["://", "src=", "@import", "NaN", "inf"] {
            assert!(!text.contains(part), "{part}");
        }
        assert!(text.contains("prefers-color-scheme:dark") && text.contains("a &amp; b &lt;script&gt;"));
    }

    #[test]
    fn odd_points_stay_in_the_plane() {
        let odd = |intensity, speed| Point { name: "odd".into(), intensity, speed };
        let points = [odd(f64::INFINITY, 1.0), odd(f64::NAN, f64::NAN), odd(0.0, 0.0), odd(1e300, 1e300)];
        for p in &points {
            elements(&page(std::slice::from_ref(p)));
            draw(&machine(), std::slice::from_ref(p), 80);
        }
        draw(&machine(), &[], 0);
    }

    #[test]
    fn the_drawing_has_its_points_under_the_roofs() {
        let text = anstream::adapter::strip_str(&draw(&machine(), &points(), 90)).to_string();
        let place = |ch: char| text.lines().position(|l| l.contains(ch)).unwrap();
        // Prefill computes more a second than decode; both lie below the tiles' roof.
        assert!(place('A') < place('B') && place('B') > 2, "{text}");
        assert!(text.contains("int8 amx") && text.contains('╱') && text.contains("operations per byte read"));
        assert!(text.lines().all(|l| l.chars().count() <= 90), "{text}");
    }
}
