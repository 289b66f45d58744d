//! Plots as inline SVG: stacked bars, columns by layer, lines over logarithmic axes, a map of histograms.
//!
//! Colours are classes (`c0` … `c9`), so that the page's style sheet decides them for light and dark. Every mark has a title
//! that says its figures. Does not own: which figures are plotted.
use pondera_audit::html::escape;
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;
/// Widest column: that of a model with few layers.
const COLUMN_MAX: f64 = 64.0;

/// A mark of a stack: class of its colour, value, title.
pub struct Mark {
    /// Number of the colour.
    pub colour: usize,
    /// Height or width.
    pub value: f64,
    /// What it says.
    pub title: String,
}

fn open(height: f64, label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n", escape(label))
}

/// A coloured square and a word for each series.
pub fn legend(series: &[(usize, String)]) -> String {
    let one = |(colour, name): &(usize, String)| {
        format!("<span class=\"key\"><i class=\"b{}\"></i>{}</span>", colour % 10, escape(name))
    };
    format!("<p class=\"legend\">{}</p>\n", series.iter().map(one).collect::<String>())
}

/// One bar, divided.
pub fn bar(marks: &[Mark], label: &str) -> String {
    const HEIGHT: f64 = 34.0;
    let total: f64 = marks.iter().map(|m| m.value).sum::<f64>().max(f64::MIN_POSITIVE);
    let (mut s, mut x) = (open(HEIGHT, label), 0.0);
    for m in marks {
        let w = m.value / total * WIDTH;
        let _ = writeln!(
            s,
            "<rect class=\"c{}\" x=\"{x:.2}\" y=\"0\" width=\"{:.2}\" height=\"{HEIGHT}\"><title>{}</title></rect>",
            m.colour % 10,
            (w - 1.0).max(0.4),
            escape(&m.title)
        );
        x += w;
    }
    s + "</svg>\n"
}

/// A round step so that `top` has four or so.
fn step(top: f64) -> f64 {
    let raw = (top / 4.0).max(f64::MIN_POSITIVE);
    let scale = 10f64.powf(raw.log10().floor());
    let lead = raw / scale;
    scale
        * if lead <= 1.0 {
            1.0
        } else if lead <= 2.0 {
            2.0
        } else if lead <= 5.0 {
            5.0
        } else {
            10.0
        }
}

/// A column per layer, its marks one on the other. `unit` writes a value; round values are so in powers of `base`.
pub fn columns(all: &[(usize, Vec<Mark>)], unit: &dyn Fn(f64) -> String, base: f64, label: &str) -> String {
    const HEIGHT: f64 = 250.0;
    let top = all.iter().map(|(_, m)| m.iter().map(|m| m.value).sum::<f64>()).fold(0.0, f64::max);
    let mut s = open(HEIGHT, label);
    if !(top > 0.0 && top.is_finite()) {
        return s + "</svg>\n";
    }
    let (inner, floor) = (HEIGHT - TOP - BOTTOM, HEIGHT - BOTTOM);
    let scale = base.powf(top.log(base).floor());
    let every = step(top / scale) * scale;
    let mut line = 0.0;
    while line <= top {
        let y = floor - line / top * inner;
        let _ = writeln!(s, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{}\"/>", WIDTH - RIGHT);
        let _ =
            writeln!(s, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, y + 4.0, unit(line));
        line += every;
    }
    let room = ((WIDTH - LEFT - RIGHT) / all.len() as f64).min(COLUMN_MAX);
    let wide = (room - if room > 4.0 { 1.5 } else { 0.0 }).max(0.3);
    let labels = (all.len() as f64 / 16.0).ceil().max(1.0) as usize;
    for (i, (layer, marks)) in all.iter().enumerate() {
        let (x, mut y) = (LEFT + i as f64 * room, floor);
        for m in marks.iter().filter(|m| m.value > 0.0) {
            let h = m.value / top * inner;
            y -= h;
            let _ = writeln!(
                s,
                "<rect class=\"c{}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{wide:.2}\" height=\"{h:.2}\"><title>{}</title></rect>",
                m.colour % 10,
                escape(&m.title)
            );
        }
        if i % labels == 0 {
            let middle = x + room / 2.0;
            let _ =
                writeln!(s, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{layer}</text>", floor + 16.0);
        }
    }
    axis(&mut s, HEIGHT, "layer");
    s + "</svg>\n"
}

fn axis(s: &mut String, height: f64, text: &str) {
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ =
        writeln!(s, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", height - 3.0, escape(text));
}

/// A line: colour, name, points.
pub type Line = (usize, String, Vec<(f64, f64)>);

/// Lines over two logarithmic axes.
pub fn lines(all: &[Line], x_unit: &dyn Fn(f64) -> String, y_unit: &dyn Fn(f64) -> String, x_label: &str) -> String {
    const HEIGHT: f64 = 280.0;
    let points = || all.iter().flat_map(|l| &l.2).filter(|p| p.0 > 0.0 && p.1 > 0.0);
    let mut s = open(HEIGHT, x_label);
    let span = |of: fn(&(f64, f64)) -> f64| {
        points().map(of).fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ((x0, x1), (y0, y1)) = (span(|p| p.0), span(|p| p.1));
    if points().next().is_none() {
        return s + "</svg>\n";
    }
    let (y0, y1) = (y0 / 1.3, y1 * 1.3);
    let along = |v: f64, low: f64, high: f64| if high > low { (v / low).ln() / (high / low).ln() } else { 0.5 };
    let place = |x: f64, y: f64| {
        let (w, h) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        (LEFT + along(x, x0, x1) * w, HEIGHT - BOTTOM - along(y, y0, y1) * h)
    };
    // Powers of two on both axes, no more than fit.
    let powers = |low: f64, high: f64, most: i32| {
        let (first, last) = (low.log2().ceil() as i32, high.log2().floor() as i32);
        let every = ((last - first) / most + 1).max(1);
        (first..=last).step_by(every as usize).map(|e| 2f64.powi(e))
    };
    for v in powers(y0, y1, 7) {
        let y = place(x0, v).1;
        let _ = writeln!(s, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{}\"/>", WIDTH - RIGHT);
        let _ = writeln!(s, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, y + 4.0, y_unit(v));
    }
    for v in powers(x0, x1, 10) {
        let x = place(v, y0).0;
        let y = HEIGHT - BOTTOM;
        let _ = writeln!(s, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{y:.1}\"/>");
        let _ = writeln!(s, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", y + 16.0, x_unit(v));
    }
    for (colour, name, points) in all {
        let path: Vec<String> = points
            .iter()
            .filter(|p| p.0 > 0.0 && p.1 > 0.0)
            .map(|(x, y)| place(*x, *y))
            .map(|(x, y)| format!("{x:.1} {y:.1}"))
            .collect();
        if path.len() > 1 {
            let _ = writeln!(s, "<path class=\"line l{}\" d=\"M{}\"/>", colour % 10, path.join("L"));
        }
        for ((x, y), at) in points.iter().filter(|p| p.0 > 0.0 && p.1 > 0.0).zip(&path) {
            let Some((cx, cy)) = at.split_once(' ') else { continue };
            let title = format!("{name}: {} at {}", y_unit(*y), x_unit(*x));
            let _ = writeln!(
                s,
                "<circle class=\"c{}\" cx=\"{cx}\" cy=\"{cy}\" r=\"3\"><title>{}</title></circle>",
                colour % 10,
                escape(&title)
            );
        }
    }
    axis(&mut s, HEIGHT, x_label);
    s + "</svg>\n"
}

/// A row of the map: its name and the height of each bin from 0 to 1.
pub type Row = (String, Vec<f64>);

/// Histograms one below the other, a bin the stronger the more it holds. `edges` are the ends of all.
pub fn map(rows: &[Row], edges: [f64; 2], unit: &dyn Fn(f64) -> String, label: &str) -> String {
    let each = (440.0 / rows.len().max(1) as f64).clamp(3.0, 16.0);
    let height = TOP + BOTTOM + each * rows.len() as f64;
    let mut s = open(height, label);
    let wide = WIDTH - LEFT - RIGHT;
    let labels = (14.0 / each).ceil() as usize;
    for (i, (name, bins)) in rows.iter().enumerate() {
        let y = TOP + i as f64 * each;
        if i % labels == 0 {
            let at = y + each / 2.0 + 4.0;
            let _ = writeln!(s, "<text x=\"{}\" y=\"{at:.1}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, escape(name));
        }
        let room = wide / bins.len().max(1) as f64;
        for (bin, share) in bins.iter().enumerate().filter(|b| *b.1 > 0.002) {
            let _ = writeln!(
                s,
                "<rect class=\"c0\" x=\"{:.2}\" y=\"{y:.2}\" width=\"{:.2}\" height=\"{:.2}\" opacity=\"{share:.3}\"/>",
                LEFT + bin as f64 * room,
                room + 0.15,
                each + 0.15
            );
        }
    }
    let floor = height - BOTTOM;
    for i in 0..=4 {
        let share = f64::from(i) / 4.0;
        let (x, value) = (LEFT + share * wide, edges[0] + share * (edges[1] - edges[0]));
        let _ = writeln!(s, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{floor:.1}\"/>");
        let _ =
            writeln!(s, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", floor + 16.0, unit(value));
    }
    axis(&mut s, height, "value");
    s + "</svg>\n"
}
