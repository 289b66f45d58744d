//! Values as text, as Python writes them: `str`, `repr`, `json.dumps`, `%` formatting, `strftime`.

use super::eval::Meter;
use super::value::Value;
use super::{Outcome, failed};
use crate::pattern::Class;
use std::sync::LazyLock;

/// A moment of civil time, for `strftime_now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) year: i64,
    pub(crate) month: u32,
    pub(crate) day: u32,
    pub(crate) hour: u32,
    pub(crate) minute: u32,
    pub(crate) second: u32,
}

static UNPRINTABLE: LazyLock<Class> = LazyLock::new(|| Class::named(r"[\p{C}\p{Z}]"));

/// Whether Python's `repr` writes the character as it is.
pub(super) fn is_printable(c: char) -> bool {
    c == ' ' || (c.is_ascii() && !c.is_ascii_control()) || (!c.is_ascii() && !UNPRINTABLE.contains(c))
}

/// `str(value)`.
pub(super) fn to_str(value: &Value, meter: &Meter) -> Outcome<String> {
    let mut out = String::new();
    write_str(value, meter, &mut out)?;
    Ok(out)
}

pub(super) fn write_str(value: &Value, meter: &Meter, out: &mut String) -> Outcome<()> {
    match value {
        Value::Str(text) => {
            meter.bytes(text.len())?;
            out.push_str(text);
            Ok(())
        }
        Value::Undefined(_) => Ok(()),
        Value::Unsafe(_) => value.defined().map(|_| ()),
        other => write_repr(other, meter, out),
    }
}

pub(super) fn write_repr(value: &Value, meter: &Meter, out: &mut String) -> Outcome<()> {
    meter.steps(1)?;
    let before = out.len();
    match value {
        Value::Undefined(_) => out.push_str("Undefined"),
        Value::Unsafe(_) => value.defined().map(|_| ())?,
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(x) => out.push_str(&float(*x)),
        Value::Str(text) => {
            repr_str(text, out);
            return meter.bytes(out.len() - before);
        }
        Value::List(seq) => return items(&seq.items, "[", "]", meter, out),
        Value::Tuple(seq) if seq.items.len() == 1 => return items(&seq.items, "(", ",)", meter, out),
        Value::Tuple(seq) => return items(&seq.items, "(", ")", meter, out),
        Value::Iter(seq, kind) if kind.starts_with("dict_") => {
            out.push_str(kind);
            return items(&seq.items, "([", "])", meter, out);
        }
        Value::Dict(dict) => {
            meter.bytes(2)?;
            out.push('{');
            for (n, (key, value)) in dict.entries().iter().enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                write_repr(key, meter, out)?;
                out.push_str(": ");
                write_repr(value, meter, out)?;
                meter.bytes(4)?;
            }
            out.push('}');
            return Ok(());
        }
        Value::Range(a, b, 1) => out.push_str(&format!("range({a}, {b})")),
        Value::Range(a, b, c) => out.push_str(&format!("range({a}, {b}, {c})")),
        Value::Macro(m) => out.push_str(&format!("<Macro '{}'>", m.definition.name)),
        other => out.push_str(&format!("<{} object>", other.type_name())),
    }
    meter.bytes(out.len() - before)
}

fn items(list: &[Value], open: &str, close: &str, meter: &Meter, out: &mut String) -> Outcome<()> {
    meter.bytes(open.len() + close.len())?;
    out.push_str(open);
    for (n, item) in list.iter().enumerate() {
        if n > 0 {
            meter.bytes(2)?;
            out.push_str(", ");
        }
        write_repr(item, meter, out)?;
    }
    out.push_str(close);
    Ok(())
}

fn repr_str(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => match u32::from(c) {
                n @ ..=0xFF => out.push_str(&format!("\\x{n:02x}")),
                n @ ..=0xFFFF => out.push_str(&format!("\\u{n:04x}")),
                n => out.push_str(&format!("\\U{n:08x}")),
            },
        }
    }
    out.push(quote);
}

/// `repr` of a float: the shortest digits that read back the same.
pub(super) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// How `json.dumps` writes.
#[derive(Clone, Debug)]
pub(super) struct JsonStyle {
    pub(super) indent: Option<String>,
    pub(super) item: String,
    pub(super) key: String,
    pub(super) ascii: bool,
    pub(super) sort: bool,
}

/// `json.dumps(value)`.
pub(super) fn write_json(
    value: &Value,
    style: &JsonStyle,
    level: usize,
    meter: &Meter,
    out: &mut String,
) -> Outcome<()> {
    meter.steps(1)?;
    let before = out.len();
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(x) => out.push_str(&json_float(*x)),
        Value::Str(text) => json_str(text, style.ascii, out),
        Value::List(seq) | Value::Tuple(seq) => {
            if seq.items.is_empty() {
                out.push_str("[]");
                return Ok(());
            }
            out.push('[');
            for (n, item) in seq.items.iter().enumerate() {
                separate(n, level + 1, style, meter, out)?;
                write_json(item, style, level + 1, meter, out)?;
            }
            newline(level, style, meter, out)?;
            out.push(']');
            return Ok(());
        }
        Value::Dict(dict) => {
            if dict.entries().is_empty() {
                out.push_str("{}");
                return Ok(());
            }
            let mut entries: Vec<&(Value, Value)> = dict.entries().iter().collect();
            if style.sort {
                entries.sort_by(|a, b| a.0.order(&b.0, "<").ok().flatten().unwrap_or(std::cmp::Ordering::Equal));
            }
            out.push('{');
            for (n, (key, value)) in entries.into_iter().enumerate() {
                separate(n, level + 1, style, meter, out)?;
                let key = match key {
                    Value::Str(text) => text.to_string(),
                    Value::None => "null".into(),
                    Value::Bool(b) => b.to_string(),
                    Value::Int(n) => n.to_string(),
                    Value::Float(x) => json_float(*x),
                    other => {
                        let kind = other.type_name();
                        return failed(format!("TypeError: keys must be str, int, float, bool or None, not {kind}"));
                    }
                };
                json_str(&key, style.ascii, out);
                out.push_str(&style.key);
                meter.bytes(key.len() + style.key.len())?;
                write_json(value, style, level + 1, meter, out)?;
            }
            newline(level, style, meter, out)?;
            out.push('}');
            return Ok(());
        }
        Value::Unsafe(_) => value.defined().map(|_| ())?,
        other => {
            return failed(format!("TypeError: Object of type {} is not JSON serializable", other.type_name()));
        }
    }
    meter.bytes(out.len() - before)
}

fn separate(n: usize, level: usize, style: &JsonStyle, meter: &Meter, out: &mut String) -> Outcome<()> {
    if n > 0 {
        meter.bytes(style.item.len())?;
        out.push_str(&style.item);
    }
    newline(level, style, meter, out)
}

fn newline(level: usize, style: &JsonStyle, meter: &Meter, out: &mut String) -> Outcome<()> {
    if let Some(indent) = &style.indent {
        meter.bytes(1 + indent.len() * level)?;
        out.push('\n');
        out.push_str(&indent.repeat(level));
    }
    Ok(())
}

fn json_float(x: f64) -> String {
    match x {
        x if x.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        x => float(x),
    }
}

fn json_str(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{C}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if ascii && (!c.is_ascii() || c == '\u{7f}') => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// `text.ljust`, `rjust`, `center`: the fill on both sides.
pub(super) fn pad(text: &str, left: usize, right: usize, fill: char, meter: &Meter) -> Outcome<String> {
    meter.bytes((left + right).saturating_mul(fill.len_utf8()).saturating_add(text.len()))?;
    let fill = fill.to_string();
    Ok(fill.repeat(left) + text + &fill.repeat(right))
}

/// A conversion specification of `%` or `format`: flags, width, precision and kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Spec {
    pub(super) fill: Option<char>,
    pub(super) align: Option<char>,
    pub(super) sign: Option<char>,
    pub(super) alternate: bool,
    pub(super) width: usize,
    pub(super) comma: Option<char>,
    pub(super) precision: Option<usize>,
    pub(super) kind: char,
}

/// A value under a specification.
pub(super) fn formatted(value: &Value, spec: &Spec, meter: &Meter) -> Outcome<String> {
    let precision = spec.precision.unwrap_or(6).min(400);
    if spec.precision.is_some_and(|p| p > 400 && !matches!(value, Value::Str(_))) {
        return Err(super::Fault::Limit("a precision above 400"));
    }
    let mismatch = || {
        failed(format!("ValueError: Unknown format code '{}' for object of type '{}'", spec.kind, value.type_name()))
    };
    let (negative, mut body) = match (spec.kind, value) {
        ('s' | '\0', Value::Str(text)) => {
            let text = match spec.precision {
                Some(count) => text.chars().take(count).collect(),
                None => text.to_string(),
            };
            (false, text)
        }
        ('r', value) => {
            let mut out = String::new();
            write_repr(value, meter, &mut out)?;
            (false, out)
        }
        ('s', value) => (false, to_str(value, meter)?),
        ('d' | 'i' | 'u' | 'n' | '\0', Value::Int(_) | Value::Bool(_))
            if spec.kind != '\0' || !matches!(value, Value::Bool(_)) =>
        {
            let n = value.int().unwrap_or(0);
            (n < 0, n.unsigned_abs().to_string())
        }
        ('d' | 'i' | 'u', Value::Float(x)) if spec.sign == Some('%') => (*x < 0.0, format!("{:.0}", x.abs().trunc())),
        ('x' | 'X' | 'o' | 'b' | 'c', Value::Int(n)) => {
            let m = n.unsigned_abs();
            let text = match spec.kind {
                'x' => format!("{}{m:x}", if spec.alternate { "0x" } else { "" }),
                'X' => format!("{}{m:X}", if spec.alternate { "0X" } else { "" }),
                'o' => format!("{}{m:o}", if spec.alternate { "0o" } else { "" }),
                'b' => format!("{}{m:b}", if spec.alternate { "0b" } else { "" }),
                _ => u32::try_from(*n).ok().and_then(char::from_u32).map(String::from).unwrap_or_default(),
            };
            (*n < 0, text)
        }
        ('f' | 'F' | 'e' | 'E' | 'g' | 'G' | '%', _) => {
            let Some(x) = value.float() else { return mismatch() };
            let text = match spec.kind {
                'f' | 'F' => format!("{:.precision$}", x.abs()),
                '%' => format!("{:.precision$}%", x.abs() * 100.0),
                'e' | 'E' => scientific(x.abs(), precision),
                _ => general(x.abs(), precision.max(1)),
            };
            (x < 0.0, if spec.kind.is_uppercase() { text.to_uppercase() } else { text })
        }
        ('\0', value) => {
            let text = to_str(value, meter)?;
            match (value, text.strip_prefix('-')) {
                (Value::Float(_), Some(text)) => (true, text.to_string()),
                _ => (false, text),
            }
        }
        _ => return mismatch(),
    };
    let numeric = matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)) && !matches!(spec.kind, 's' | 'r');
    if let Some(comma) = spec.comma {
        let end = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
        let mut grouped = String::new();
        for (n, c) in body[..end].chars().enumerate() {
            if n > 0 && (end - n) % 3 == 0 {
                grouped.push(comma);
            }
            grouped.push(c);
        }
        body = grouped + &body[end..];
    }
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) if numeric => "+",
        (false, Some(' ')) if numeric => " ",
        _ => "",
    };
    let room = spec.width.saturating_sub(body.chars().count() + sign.len());
    let fill = spec.fill.unwrap_or(' ');
    match spec.align.unwrap_or(if numeric { '>' } else { '<' }) {
        '=' => Ok(sign.to_string() + &pad(&body, room, 0, fill, meter)?),
        '>' => pad(&(sign.to_string() + &body), room, 0, fill, meter),
        '^' => pad(&(sign.to_string() + &body), room / 2, room - room / 2, fill, meter),
        _ => pad(&(sign.to_string() + &body), 0, room, fill, meter),
    }
}

fn scientific(x: f64, precision: usize) -> String {
    let text = format!("{x:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn general(x: f64, precision: usize) -> String {
    let probe = format!("{x:.*e}", precision - 1);
    let exponent: i32 = probe.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trim = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    };
    let most = i32::try_from(precision).unwrap_or(i32::MAX);
    if (-4..most).contains(&exponent) {
        return trim(format!("{x:.*}", usize::try_from(most - 1 - exponent).unwrap_or(0)));
    }
    let text = scientific(x, precision - 1);
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "+00"));
    format!("{}e{exponent}", trim(digits.to_string()))
}

/// `'…' % arguments`.
pub(super) fn percent(format: &str, value: &Value, meter: &Meter) -> Outcome<String> {
    let mut positional: Vec<Value> = match value {
        Value::Tuple(seq) => seq.items.clone(),
        other => vec![other.clone()],
    };
    positional.reverse();
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut used_mapping = false;
    while let Some(c) = chars.next() {
        meter.steps(1)?;
        if c != '%' {
            meter.bytes(c.len_utf8())?;
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        let mut named = None;
        if chars.peek() == Some(&'(') {
            chars.next();
            let key: String = chars.by_ref().take_while(|c| *c != ')').collect();
            let Value::Dict(dict) = value else { return failed("TypeError: format requires a mapping") };
            let Some(found) = dict.get_str(&key) else { return failed(format!("KeyError: '{key}'")) };
            named = Some(found.clone());
            used_mapping = true;
        }
        while let Some(flag) = chars.peek().copied().filter(|c| "-+ 0#".contains(*c)) {
            match flag {
                '-' => spec.align = Some('<'),
                '0' if spec.align.is_none() => (spec.fill, spec.align) = (Some('0'), Some('=')),
                '#' => spec.alternate = true,
                '+' | ' ' => spec.sign = Some(flag),
                _ => {}
            }
            chars.next();
        }
        if spec.align == Some('<') {
            spec.fill = None;
        }
        let mut number = |positional: &mut Vec<Value>| -> Outcome<Option<usize>> {
            if chars.peek() == Some(&'*') {
                chars.next();
                let width = positional.pop().and_then(|v| v.int()).and_then(|n| usize::try_from(n).ok());
                return Ok(Some(width.unwrap_or(0)));
            }
            let mut value: Option<usize> = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
                chars.next();
            }
            Ok(value)
        };
        spec.width = number(&mut positional)?.unwrap_or(0);
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits: usize = 0;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                digits = digits.saturating_mul(10).saturating_add(digit as usize);
                chars.next();
            }
            spec.precision = Some(digits);
        }
        while chars.peek().is_some_and(|c| "hlL".contains(*c)) {
            chars.next();
        }
        let Some(kind) = chars.next() else { return failed("ValueError: incomplete format") };
        if kind == '%' {
            out.push('%');
            continue;
        }
        spec.kind = kind;
        let argument = match named {
            Some(value) => value,
            None => match positional.pop() {
                Some(value) => value,
                None => return failed("TypeError: not enough arguments for format string"),
            },
        };
        if matches!(kind, 'd' | 'i' | 'u') {
            if argument.float().is_none() {
                let kind = argument.type_name();
                return failed(format!("TypeError: %d format: a real number is required, not {kind}"));
            }
            if let Value::Float(x) = argument {
                out.push_str(&formatted(&Value::Int(x.trunc() as i128), &spec, meter)?);
                continue;
            }
        }
        if spec.align.is_none() {
            spec.align = Some('>');
        }
        out.push_str(&formatted(&argument, &spec, meter)?);
    }
    if !positional.is_empty() && !used_mapping && !matches!(value, Value::Dict(_)) {
        return failed("TypeError: not all arguments converted during string formatting");
    }
    Ok(out)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Clock {
    /// The moment of a count of seconds since 1970.
    pub(crate) fn from_unix(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // days to civil date, counted in eras of 400 years that begin on 1 March
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let small = |n: i64| u32::try_from(n).unwrap_or(0);
        Clock {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: small(month),
            day: small(day),
            hour: small(rest / 3_600),
            minute: small(rest / 60 % 60),
            second: small(rest % 60),
        }
    }

    fn days(&self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let month = i64::from(self.month);
        let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + i64::from(self.day) - 1;
        let year_of_era = year.rem_euclid(400);
        year.div_euclid(400) * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
    }

    /// `strftime`, for the codes that C and Python share.
    pub(super) fn strftime(&self, format: &str, meter: &Meter) -> Outcome<String> {
        let mut out = String::new();
        let mut chars = format.chars();
        let weekday = usize::try_from((self.days() + 4).rem_euclid(7)).unwrap_or(0);
        let month = usize::try_from(self.month.saturating_sub(1)).unwrap_or(0).min(11);
        while let Some(c) = chars.next() {
            meter.bytes(16)?;
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut code = chars.next();
            let flag = code.filter(|c| matches!(c, '-' | '_' | '0' | '^' | '#'));
            if flag.is_some() {
                code = chars.next();
            }
            let number = |value: i64, width: usize, fill: char| match (flag, fill) {
                (Some('-'), _) => value.to_string(),
                (Some('_'), _) => format!("{value:>width$}"),
                (Some('0'), _) | (_, '0') => format!("{value:0>width$}"),
                _ => format!("{value:>width$}"),
            };
            let twelve = i64::from((self.hour + 11) % 12 + 1);
            let half = if self.hour < 12 { "AM" } else { "PM" };
            let year_day = self.days() - Clock { month: 1, day: 1, ..*self }.days() + 1;
            let text = match code {
                Some('Y') => self.year.to_string(),
                Some('C') => number(self.year.div_euclid(100), 2, '0'),
                Some('y') => number(self.year.rem_euclid(100), 2, '0'),
                Some('m') => number(self.month.into(), 2, '0'),
                Some('d') => number(self.day.into(), 2, '0'),
                Some('e') => number(self.day.into(), 2, ' '),
                Some('H') => number(self.hour.into(), 2, '0'),
                Some('k') => number(self.hour.into(), 2, ' '),
                Some('I') => number(twelve, 2, '0'),
                Some('l') => number(twelve, 2, ' '),
                Some('M') => number(self.minute.into(), 2, '0'),
                Some('S') => number(self.second.into(), 2, '0'),
                Some('f') => "000000".into(),
                Some('j') => number(year_day, 3, '0'),
                Some('p') => half.into(),
                Some('P') => half.to_lowercase(),
                Some('B') => MONTHS[month].into(),
                Some('b' | 'h') => MONTHS[month][..3].into(),
                Some('A') => DAYS[weekday].into(),
                Some('a') => DAYS[weekday][..3].into(),
                Some('w') => weekday.to_string(),
                Some('u') => (if weekday == 0 { 7 } else { weekday }).to_string(),
                Some('s') => {
                    (self.days() * 86_400 + i64::from(self.hour * 3600 + self.minute * 60 + self.second)).to_string()
                }
                Some('F') => self.strftime("%Y-%m-%d", meter)?,
                Some('T' | 'X') => self.strftime("%H:%M:%S", meter)?,
                Some('R') => self.strftime("%H:%M", meter)?,
                Some('D' | 'x') => self.strftime("%m/%d/%y", meter)?,
                Some('r') => self.strftime("%I:%M:%S %p", meter)?,
                Some('c') => self.strftime("%a %b %e %H:%M:%S %Y", meter)?,
                Some('n') => "\n".into(),
                Some('t') => "\t".into(),
                Some('%') => "%".into(),
                Some('z' | 'Z') => String::new(),
                Some(other) => format!("%{other}"),
                None => "%".into(),
            };
            out.push_str(&if flag == Some('^') { text.to_uppercase() } else { text });
        }
        Ok(out)
    }
}
