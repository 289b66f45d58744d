//! Jinja's filters and tests.

use super::ast::Compare;
use super::eval::{Args, Machine};
use super::methods::{self, capitalize, is_space, replace};
use super::text::{JsonStyle, percent, to_str, write_json};
use super::value::{Dict, Seq, Value};
use super::{Outcome, failed};
use std::cmp::Ordering;
use std::rc::Rc;

/// `str(value)`, shared where it is one already.
fn text(machine: &Machine, value: &Value) -> Outcome<Rc<str>> {
    match value {
        Value::Str(text) => {
            machine.meter.bytes(text.len())?;
            machine.meter.steps(text.len() / 16)?;
            Ok(text.clone())
        }
        other => to_str(other, &machine.meter).map(Rc::from),
    }
}

fn flag(args: &Args, at: usize, name: &str, default: bool) -> Outcome<bool> {
    args.get(at, name).map_or(Ok(default), Value::is_true)
}

fn number(args: &Args, at: usize, name: &str, default: i128) -> Outcome<i128> {
    match args.get(at, name) {
        None | Some(Value::None) => Ok(default),
        Some(value) => match value.defined()?.int() {
            Some(n) => Ok(n),
            None => failed(format!("TypeError: {name} must be an integer, not {}", value.type_name())),
        },
    }
}

/// A dotted path into a value, as `map(attribute=…)` and its kin take it.
fn path(machine: &mut Machine, value: &Value, path: &Value) -> Outcome<Value> {
    let Value::Str(name) = path else { return methods::item(machine, value, path) };
    let mut current = value.clone();
    for part in name.split('.') {
        let key = match part.parse::<i64>() {
            Ok(n) if part.bytes().all(|b| b.is_ascii_digit()) => Value::Int(n.into()),
            _ => Value::str(part),
        };
        current = methods::item(machine, &current, &key)?;
    }
    Ok(current)
}

fn folded(value: Value, case_sensitive: bool) -> Value {
    match value {
        Value::Str(text) if !case_sensitive => Value::str(text.to_lowercase()),
        other => other,
    }
}

/// Sorts by keys that were made beforehand; an order that Python does not know is an error.
fn sort_by_key(machine: &mut Machine, mut keyed: Vec<(Value, Value)>, reverse: bool) -> Outcome<Vec<Value>> {
    let count = keyed.len();
    machine.meter.steps(count.saturating_mul(8 + count.checked_ilog2().unwrap_or(0) as usize))?;
    let mut fault = None;
    keyed.sort_by(|a, b| {
        let order = if a.0.equals(&b.0) { Ok(Some(Ordering::Equal)) } else { a.0.order(&b.0, "<") };
        let order = order.unwrap_or_else(|f| {
            fault.get_or_insert(f);
            None
        });
        let order = order.unwrap_or(Ordering::Equal);
        if reverse { order.reverse() } else { order }
    });
    match fault {
        Some(fault) => Err(fault),
        None => Ok(keyed.into_iter().map(|(_, v)| v).collect()),
    }
}

fn keyed(
    machine: &mut Machine,
    items: &Seq,
    attribute: Option<&Value>,
    case_sensitive: bool,
) -> Outcome<Vec<(Value, Value)>> {
    let mut out = Vec::with_capacity(items.items.len());
    for item in &items.items {
        let key = match attribute {
            Some(attribute) if !matches!(attribute, Value::None) => path(machine, item, attribute)?,
            _ => item.clone(),
        };
        out.push((folded(key, case_sensitive), item.clone()));
    }
    Ok(out)
}

/// Applies the filter `name`.
pub(super) fn apply(machine: &mut Machine, name: &str, value: &Value, args: &Args) -> Outcome<Value> {
    machine.meter.steps(2)?;
    if let Value::Unsafe(_) = value {
        value.defined()?;
    }
    machine.watch.arguments(name, args);
    match name {
        "default" | "d" => {
            let empty =
                matches!(value, Value::Undefined(_)) || (flag(args, 1, "boolean", false)? && !value.is_true()?);
            Ok(if empty {
                args.get(0, "default_value").cloned().unwrap_or_else(|| Value::str(""))
            } else {
                value.clone()
            })
        }
        "length" | "count" => length(machine, value),
        "string" => text(machine, value).map(Value::Str),
        "safe" => Ok(value.clone()),
        "tojson" => tojson(machine, value, args),
        "list" => {
            let seq = machine.iterate(value)?;
            Ok(Value::List(seq))
        }
        "items" => match value {
            Value::Undefined(_) => Value::iter_of(Vec::new(), "generator"),
            Value::Dict(dict) => {
                machine.meter.steps(dict.entries().len())?;
                let pairs = dict.entries().iter().map(|(k, v)| Value::tuple(vec![k.clone(), v.clone()]));
                Value::iter_of(pairs.collect::<Outcome<_>>()?, "generator")
            }
            _ => failed("TypeError: Can only get item pairs from a mapping."),
        },
        "attr" => match args.get(0, "name") {
            Some(Value::Str(name)) => match value {
                Value::Dict(_)
                    if methods::attr(&Value::Dict(Dict::new([])?), name)
                        .is_ok_and(|v| matches!(v, Value::Undefined(_))) =>
                {
                    Ok(Value::Undefined(format!("'dict object' has no attribute '{name}'").into()))
                }
                _ => methods::attr(value, name),
            },
            _ => failed("TypeError: attribute name must be a string"),
        },
        "first" | "last" => {
            let items = machine.iterate(value)?;
            let item = if name == "first" { items.items.first() } else { items.items.last() };
            Ok(item.cloned().unwrap_or_else(|| Value::Undefined(format!("No {name} item, sequence was empty.").into())))
        }
        "join" => join(machine, value, args),
        "sort" | "unique" | "min" | "max" | "groupby" | "dictsort" | "sum" => ordered(machine, name, value, args),
        "reverse" => match value {
            Value::Str(text) => {
                machine.meter.bytes(text.len())?;
                Ok(Value::str(text.chars().rev().collect::<String>()))
            }
            _ => {
                let items = machine.iterate(value)?;
                machine.meter.bytes(items.items.len().saturating_mul(16))?;
                Value::iter_of(items.items.iter().rev().cloned().collect(), "list_reverseiterator")
            }
        },
        "map" | "select" | "reject" | "selectattr" | "rejectattr" => each(machine, name, value, args),
        "batch" | "slice" => chunks(machine, name, value, args),
        "int" => Ok(int(value, args)?),
        "float" => Ok(match (value, value.float()) {
            (_, Some(x)) => Value::Float(x),
            (Value::Str(text), _) => match text.trim().parse::<f64>() {
                Ok(x) => Value::Float(x),
                Err(_) => args.get(0, "default").cloned().unwrap_or(Value::Float(0.0)),
            },
            _ => args.get(0, "default").cloned().unwrap_or(Value::Float(0.0)),
        }),
        "abs" => match (value.defined()?, value.int()) {
            (Value::Float(x), _) => Ok(Value::Float(x.abs())),
            (_, Some(n)) => Ok(Value::Int(n.saturating_abs())),
            (other, _) => failed(format!("TypeError: bad operand type for abs(): '{}'", other.type_name())),
        },
        "round" => {
            let Some(x) = value.defined()?.float() else {
                return failed(format!("TypeError: type {} doesn't define __round__ method", value.type_name()));
            };
            let digits = i32::try_from(number(args, 0, "precision", 0)?).unwrap_or(0).clamp(-300, 300);
            let factor = 10_f64.powi(digits);
            Ok(Value::Float(match args.get(1, "method") {
                Some(Value::Str(m)) if &**m == "ceil" => (x * factor).ceil() / factor,
                Some(Value::Str(m)) if &**m == "floor" => (x * factor).floor() / factor,
                _ if digits >= 0 => format!("{x:.*}", digits.unsigned_abs() as usize).parse().unwrap_or(x),
                _ => (x * factor).round_ties_even() / factor,
            }))
        }
        "format" => {
            let format = text(machine, value)?;
            if !args.named.is_empty() {
                let pairs = args.named.iter().map(|(k, v)| (Value::Str(k.clone()), v.clone()));
                let dict = Value::Dict(Dict::new(pairs)?);
                return percent(&format, &dict, &machine.meter).map(Value::str);
            }
            let arguments = Value::tuple(args.positional.clone())?;
            percent(&format, &arguments, &machine.meter).map(Value::str)
        }
        _ => on_text(machine, name, value, args),
    }
}

/// Filters that work on the value's text.
fn on_text(machine: &mut Machine, name: &str, value: &Value, args: &Args) -> Outcome<Value> {
    const NAMES: [&str; 15] = [
        "trim",
        "upper",
        "lower",
        "title",
        "capitalize",
        "replace",
        "indent",
        "truncate",
        "wordcount",
        "center",
        "e",
        "escape",
        "forceescape",
        "striptags",
        "urlencode",
    ];
    if !NAMES.contains(&name) {
        if name == "wordwrap" || name == "pprint" || name == "xmlattr" || name == "filesizeformat" || name == "urlize" {
            return failed(format!("filter '{name}' is not supported in chat templates"));
        }
        return failed(format!("TemplateRuntimeError: No filter named '{name}' found."));
    }
    let content = text(machine, value)?;
    Ok(match name {
        "trim" => match args.get(0, "chars") {
            None | Some(Value::None) => Value::str(content.trim_matches(is_space)),
            Some(Value::Str(set)) => Value::str(content.trim_matches(|c| set.contains(c))),
            Some(_) => return failed("TypeError: strip arg must be None or str"),
        },
        "upper" => Value::str(content.to_uppercase()),
        "lower" => Value::str(content.to_lowercase()),
        "title" => {
            let mut out = String::with_capacity(content.len());
            let mut start = 0;
            for (at, c) in content.char_indices().chain(std::iter::once((content.len(), ' '))) {
                if at == content.len() || is_space(c) || "-([{<".contains(c) {
                    out.push_str(&capitalize(&content[start..at]));
                    if at < content.len() {
                        out.push(c);
                    }
                    start = at + if at < content.len() { c.len_utf8() } else { 0 };
                }
            }
            Value::str(out)
        }
        "capitalize" => Value::str(capitalize(&content)),
        "replace" => {
            let part = |at, name| match args.get(at, name) {
                Some(value) => to_str(value, &machine.meter),
                None => failed("TypeError: replace needs two texts"),
            };
            let (from, to) = (part(0, "old")?, part(1, "new")?);
            let limit = usize::try_from(number(args, 2, "count", -1)?).unwrap_or(usize::MAX);
            Value::str(replace(&content, &from, &to, limit, machine)?)
        }
        "indent" => {
            let indent = match args.get(0, "width") {
                Some(Value::Str(text)) => text.to_string(),
                _ => {
                    let width = usize::try_from(number(args, 0, "width", 4)?.max(0)).unwrap_or(usize::MAX);
                    machine.meter.bytes(width)?;
                    " ".repeat(width)
                }
            };
            let (first, blank) = (flag(args, 1, "first", false)?, flag(args, 2, "blank", false)?);
            let lines: Vec<&str> = content.split('\n').collect();
            machine.meter.bytes(indent.len().saturating_mul(lines.len()))?;
            let mut out = String::new();
            for (n, line) in lines.iter().enumerate() {
                if n > 0 {
                    out.push('\n');
                }
                if (n > 0 || first) && (blank || !line.is_empty()) {
                    out.push_str(&indent);
                }
                out.push_str(line);
            }
            Value::str(out)
        }
        "truncate" => {
            let length = usize::try_from(number(args, 0, "length", 255)?).unwrap_or(0);
            let kill = flag(args, 1, "killwords", false)?;
            let end = match args.get(2, "end") {
                Some(Value::Str(end)) => end.to_string(),
                _ => "...".to_string(),
            };
            let leeway = usize::try_from(number(args, 3, "leeway", 5)?).unwrap_or(0);
            if content.chars().count() <= length.saturating_add(leeway) {
                return Ok(Value::Str(content));
            }
            let cut: String = content.chars().take(length.saturating_sub(end.chars().count())).collect();
            match kill {
                true => Value::str(cut + &end),
                false => Value::str(cut.rsplit_once(' ').map_or(&*cut, |(a, _)| a).to_string() + &end),
            }
        }
        "wordcount" => Value::Int(content.split(is_space).filter(|w| !w.is_empty()).count() as i128),
        "center" => {
            let arguments = Args { positional: vec![Value::Int(number(args, 0, "width", 80)?)], named: Vec::new() };
            return methods::call(machine, &Value::Str(content), "center", &arguments);
        }
        "e" | "escape" | "forceescape" => {
            machine.meter.bytes(content.len().saturating_mul(5))?;
            let mut out = String::with_capacity(content.len());
            for c in content.chars() {
                match c {
                    '&' => out.push_str("&amp;"),
                    '<' => out.push_str("&lt;"),
                    '>' => out.push_str("&gt;"),
                    '"' => out.push_str("&#34;"),
                    '\'' => out.push_str("&#39;"),
                    c => out.push(c),
                }
            }
            Value::str(out)
        }
        "striptags" => {
            let mut out = String::new();
            let mut inside = false;
            for c in content.chars() {
                match c {
                    '<' => inside = true,
                    '>' if inside => inside = false,
                    c if !inside => out.push(c),
                    _ => {}
                }
            }
            Value::str(out.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        _ => {
            machine.meter.bytes(content.len().saturating_mul(3))?;
            let mut out = String::new();
            for byte in content.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'/' => {
                        out.push(char::from(byte))
                    }
                    byte => out.push_str(&format!("%{byte:02X}")),
                }
            }
            Value::str(out)
        }
    })
}

fn length(machine: &mut Machine, value: &Value) -> Outcome<Value> {
    let count = match value {
        Value::Undefined(_) => 0,
        Value::Str(text) => {
            machine.meter.steps(text.len() / 16)?;
            text.chars().count()
        }
        Value::List(seq) | Value::Tuple(seq) => seq.items.len(),
        Value::Iter(seq, kind) if kind.starts_with("dict_") => seq.items.len(),
        Value::Dict(dict) => dict.entries().len(),
        Value::Range(..) => usize::try_from(value.range_len()).unwrap_or(0),
        Value::Loop(state) => state.items.items.len(),
        other => return failed(format!("TypeError: object of type '{}' has no len()", other.type_name())),
    };
    Ok(Value::Int(count as i128))
}

fn tojson(machine: &mut Machine, value: &Value, args: &Args) -> Outcome<Value> {
    let indent = match args.get(1, "indent") {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) => Some(text.to_string()),
        Some(value) => {
            let width = usize::try_from(value.defined()?.int().unwrap_or(0).max(0)).unwrap_or(usize::MAX);
            machine.meter.bytes(width)?;
            Some(" ".repeat(width))
        }
    };
    let (mut item, mut key) = (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string());
    match args.get(2, "separators") {
        None | Some(Value::None) => {}
        Some(Value::Tuple(seq) | Value::List(seq)) if seq.items.len() == 2 => {
            item = to_str(&seq.items[0], &machine.meter)?;
            key = to_str(&seq.items[1], &machine.meter)?;
        }
        Some(_) => return failed("TypeError: separators must be a pair"),
    }
    let style = JsonStyle {
        indent,
        item,
        key,
        ascii: flag(args, 0, "ensure_ascii", false)?,
        sort: flag(args, 3, "sort_keys", false)?,
    };
    let mut out = String::new();
    write_json(value, &style, 0, &machine.meter, &mut out)?;
    Ok(Value::str(out))
}

fn join(machine: &mut Machine, value: &Value, args: &Args) -> Outcome<Value> {
    let separator = match args.get(0, "d") {
        None => String::new(),
        Some(value) => to_str(value, &machine.meter)?,
    };
    let items = machine.iterate(value)?;
    let attribute = args.get(1, "attribute").cloned();
    let mut out = String::new();
    for (n, item) in items.items.iter().enumerate() {
        let item = match &attribute {
            Some(attribute) => path(machine, item, attribute)?,
            None => item.clone(),
        };
        if n > 0 {
            machine.meter.bytes(separator.len())?;
            out.push_str(&separator);
        }
        out.push_str(&text(machine, &item)?);
    }
    machine.meter.bytes(out.len())?;
    Ok(Value::str(out))
}

fn ordered(machine: &mut Machine, name: &str, value: &Value, args: &Args) -> Outcome<Value> {
    if name == "dictsort" {
        let Value::Dict(dict) = value.defined()? else {
            return failed(format!("AttributeError: '{}' object has no attribute 'items'", value.type_name()));
        };
        let (case, reverse) = (flag(args, 0, "case_sensitive", false)?, flag(args, 2, "reverse", false)?);
        let by_value = matches!(args.get(1, "by"), Some(Value::Str(by)) if &**by == "value");
        let mut pairs = Vec::new();
        for (k, v) in dict.entries() {
            let key = folded(if by_value { v.clone() } else { k.clone() }, case);
            pairs.push((key, Value::tuple(vec![k.clone(), v.clone()])?));
        }
        return Value::list(sort_by_key(machine, pairs, reverse)?);
    }
    let items = machine.iterate(value)?;
    match name {
        "sort" => {
            let (reverse, case) = (flag(args, 0, "reverse", false)?, flag(args, 1, "case_sensitive", false)?);
            let pairs = keyed(machine, &items, args.get(2, "attribute"), case)?;
            Value::list(sort_by_key(machine, pairs, reverse)?)
        }
        "unique" => {
            let pairs = keyed(machine, &items, args.get(1, "attribute"), flag(args, 0, "case_sensitive", false)?)?;
            let mut seen: Vec<Value> = Vec::new();
            let mut known = std::collections::HashSet::new();
            let mut out = Vec::new();
            for (key, item) in pairs {
                let fresh = match &key {
                    Value::Str(text) => known.insert(text.clone()),
                    key => {
                        machine.meter.steps(seen.len())?;
                        let fresh = !seen.iter().any(|s| s.equals(key));
                        if fresh {
                            seen.push(key.clone());
                        }
                        fresh
                    }
                };
                if fresh {
                    out.push(item);
                }
            }
            Value::iter_of(out, "generator")
        }
        "groupby" => {
            let attribute = args.get(0, "attribute").cloned();
            let pairs = keyed(machine, &items, attribute.as_ref(), flag(args, 2, "case_sensitive", false)?)?;
            let both = pairs.iter().map(|(k, v)| Ok((k.clone(), Value::tuple(vec![k.clone(), v.clone()])?)));
            let sorted = sort_by_key(machine, both.collect::<Outcome<_>>()?, false)?;
            let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
            for pair in sorted {
                let Value::Tuple(pair) = pair else { continue };
                match groups.last_mut() {
                    Some((key, members)) if key.equals(&pair.items[0]) => members.push(pair.items[1].clone()),
                    _ => groups.push((pair.items[0].clone(), vec![pair.items[1].clone()])),
                }
            }
            let groups = groups.into_iter().map(|(k, members)| Value::tuple(vec![k, Value::list(members)?]));
            Value::list(groups.collect::<Outcome<_>>()?)
        }
        "sum" => {
            let mut total = args.get(1, "start").cloned().unwrap_or(Value::Int(0));
            for (item, _) in keyed(machine, &items, args.get(0, "attribute"), true)? {
                total = match (total.int(), item.defined()?.int(), total.float(), item.float()) {
                    (Some(a), Some(b), ..) => Value::Int(a.saturating_add(b)),
                    (_, _, Some(a), Some(b)) => Value::Float(a + b),
                    _ => {
                        return failed(format!(
                            "TypeError: unsupported operand type(s) for +: '{}' and '{}'",
                            total.type_name(),
                            item.type_name()
                        ));
                    }
                };
            }
            Ok(total)
        }
        _ => {
            let pairs = keyed(machine, &items, args.get(1, "attribute"), flag(args, 0, "case_sensitive", false)?)?;
            let mut best: Option<(Value, Value)> = None;
            for pair in pairs {
                let better = match &best {
                    None => true,
                    Some(best) => {
                        let order = pair.0.order(&best.0, "<")?;
                        order == Some(if name == "min" { Ordering::Less } else { Ordering::Greater })
                    }
                };
                if better {
                    best = Some(pair);
                }
            }
            Ok(best.map_or_else(|| Value::Undefined("No aggregated item, sequence was empty.".into()), |b| b.1))
        }
    }
}

fn each(machine: &mut Machine, name: &str, value: &Value, args: &Args) -> Outcome<Value> {
    let items = machine.iterate(value)?;
    let mut rest = args.clone();
    let mut out = Vec::new();
    if name == "map" {
        if let (true, Some(attribute)) = (args.positional.is_empty(), args.get(usize::MAX, "attribute")) {
            let default = args.get(usize::MAX, "default");
            for item in &items.items {
                let found = path(machine, item, attribute)?;
                out.push(match (&found, default) {
                    (Value::Undefined(_), Some(default)) => default.clone(),
                    _ => found,
                });
            }
            return Value::iter_of(out, "generator");
        }
        let Some(Value::Str(filter)) = args.positional.first().cloned() else {
            return failed("FilterArgumentError: map requires a filter argument");
        };
        rest.positional.remove(0);
        for item in &items.items {
            out.push(apply(machine, &filter, item, &rest)?);
        }
        return Value::iter_of(out, "generator");
    }
    let by_attribute = name.ends_with("attr");
    let attribute = match by_attribute {
        true if rest.positional.is_empty() => {
            return failed("FilterArgumentError: Missing parameter for attribute name");
        }
        true => Some(rest.positional.remove(0)),
        false => None,
    };
    let predicate = match rest.positional.is_empty() {
        true => None,
        false => Some(rest.positional.remove(0)),
    };
    let keep = name.starts_with("select");
    for item in &items.items {
        machine.meter.steps(1)?;
        let subject = match &attribute {
            Some(attribute) => path(machine, item, attribute)?,
            None => item.clone(),
        };
        let holds = match &predicate {
            None => subject.is_true()?,
            Some(Value::Str(name)) => test(machine, name, &subject, &rest)?,
            Some(_) => return failed("TypeError: a test is named by a string"),
        };
        if holds == keep {
            out.push(item.clone());
        }
    }
    Value::iter_of(out, "generator")
}

fn chunks(machine: &mut Machine, name: &str, value: &Value, args: &Args) -> Outcome<Value> {
    let items = machine.iterate(value)?;
    let count = usize::try_from(number(args, 0, if name == "batch" { "linecount" } else { "slices" }, 1)?).unwrap_or(0);
    if count == 0 {
        return failed("ValueError: a count above zero is needed");
    }
    machine.meter.steps(count.min(items.items.len().max(1)) + items.items.len())?;
    let fill = args.get(1, "fill_with").filter(|v| !matches!(v, Value::None));
    let mut out = Vec::new();
    if name == "batch" {
        for chunk in items.items.chunks(count) {
            let mut chunk = chunk.to_vec();
            if let Some(fill) = fill {
                let missing = count - chunk.len();
                machine.meter.bytes(missing.saturating_mul(48))?;
                chunk.extend(std::iter::repeat_n(fill.clone(), missing));
            }
            out.push(Value::list(chunk)?);
        }
    } else {
        machine.meter.bytes(count.saturating_mul(48))?;
        let (per, extra) = (items.items.len() / count, items.items.len() % count);
        let mut at = 0;
        for n in 0..count {
            let end = at + per + usize::from(n < extra);
            let mut chunk = items.items[at..end].to_vec();
            if let Some(fill) = fill.filter(|_| n >= extra && extra > 0) {
                chunk.push(fill.clone());
            }
            out.push(Value::list(chunk)?);
            at = end;
        }
    }
    Value::iter_of(out, "generator")
}

fn int(value: &Value, args: &Args) -> Outcome<Value> {
    let default = args.get(0, "default").cloned().unwrap_or(Value::Int(0));
    Ok(match (value, value.int()) {
        (_, Some(n)) => Value::Int(n),
        (Value::Float(x), _) if x.is_finite() => Value::Int(x.trunc() as i128),
        (Value::Str(text), _) => {
            let text = text.trim().replace('_', "");
            let base = u32::try_from(number(args, 1, "base", 10)?).unwrap_or(10).clamp(2, 36);
            let digits = match base {
                16 => text.trim_start_matches("0x"),
                _ => text.strip_prefix('+').unwrap_or(&text),
            };
            match (i128::from_str_radix(digits, base), text.parse::<f64>()) {
                (Ok(n), _) => Value::Int(n),
                (_, Ok(x)) if x.is_finite() => Value::Int(x.trunc() as i128),
                _ => default,
            }
        }
        _ => default,
    })
}

/// Whether `value is name(args)` holds.
pub(super) fn test(machine: &mut Machine, name: &str, value: &Value, args: &Args) -> Outcome<bool> {
    let compared = |machine: &mut Machine, op| match args.positional.first() {
        Some(other) => machine.compare(op, value, other),
        None => failed(format!("TypeError: test '{name}' needs an argument")),
    };
    if let Value::Unsafe(_) = value
        && !matches!(name, "defined" | "undefined")
    {
        value.defined()?;
    }
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined(_) | Value::Unsafe(_)),
        "undefined" => matches!(value, Value::Undefined(_) | Value::Unsafe(_)),
        "none" => matches!(value, Value::None),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "boolean" => matches!(value, Value::Bool(_)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_)),
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => matches!(
            value,
            Value::Str(_) | Value::List(_) | Value::Tuple(_) | Value::Dict(_) | Value::Range(..) | Value::Undefined(_)
        ),
        "iterable" => matches!(
            value,
            Value::Str(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Dict(_)
                | Value::Range(..)
                | Value::Iter(..)
                | Value::Undefined(_)
                | Value::Loop(_)
        ),
        "callable" => matches!(
            value,
            Value::Function(_) | Value::Method(_) | Value::Macro(_) | Value::Joiner(_) | Value::Undefined(_)
        ),
        "eq" | "equalto" | "==" => compared(machine, Compare::Eq)?,
        "ne" | "!=" => compared(machine, Compare::Ne)?,
        "lt" | "lessthan" | "<" => compared(machine, Compare::Lt)?,
        "le" | "<=" => compared(machine, Compare::Le)?,
        "gt" | "greaterthan" | ">" => compared(machine, Compare::Gt)?,
        "ge" | ">=" => compared(machine, Compare::Ge)?,
        "in" => compared(machine, Compare::In)?,
        "sameas" => match (value, args.positional.first()) {
            (Value::List(a), Some(Value::List(b))) => Rc::ptr_eq(a, b),
            (Value::Dict(a), Some(Value::Dict(b))) => Rc::ptr_eq(a, b),
            (a, Some(b)) => a.type_name() == b.type_name() && a.equals(b),
            _ => false,
        },
        "odd" | "even" | "divisibleby" => {
            let Some(n) = value.defined()?.int() else {
                return failed(format!("TypeError: '{name}' needs an integer, not {}", value.type_name()));
            };
            let by = if name == "divisibleby" { number(args, 0, "num", 0)? } else { 2 };
            if by == 0 {
                return failed("ZeroDivisionError: integer modulo by zero");
            }
            (n.checked_rem(by).unwrap_or(0) == 0) != (name == "odd")
        }
        "lower" | "upper" => {
            let content = text(machine, value)?;
            let folded = if name == "lower" { content.to_lowercase() } else { content.to_uppercase() };
            *folded == *content && content.chars().any(char::is_alphabetic)
        }
        "escaped" => false,
        "filter" | "test" => matches!(value, Value::Str(_)),
        _ => return failed(format!("TemplateRuntimeError: No test named '{name}' found.")),
    })
}
