//! Attributes, items, slices, and the methods of Python's strings, lists and dicts.

use super::eval::{Args, Machine};
use super::text::{Spec, formatted, is_printable, pad, to_str};
use super::value::{Dict, LoopValue, Value};
use super::{Outcome, failed};
use std::rc::Rc;

const STR: [&str; 41] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
];
const STR_MORE: [&str; 2] = ["upper", "zfill"];
const LIST: [&str; 3] = ["copy", "count", "index"];
const LIST_UNSAFE: [&str; 8] = ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
const DICT: [&str; 6] = ["copy", "fromkeys", "get", "items", "keys", "values"];
const DICT_UNSAFE: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

/// What `object.name` finds among the attributes of a Python object; the sandbox withholds what changes it.
fn own_attr(object: &Value, name: &str) -> Option<Value> {
    let method = || Value::Method(Rc::new((object.clone(), Rc::from(name))));
    let withheld = || {
        let kind = object.type_name();
        Value::Unsafe(format!("access to attribute '{name}' of '{kind}' object is unsafe.").into())
    };
    if name.starts_with("__") {
        return Some(withheld());
    }
    match object {
        Value::Str(_) if STR.contains(&name) || STR_MORE.contains(&name) => Some(method()),
        Value::Str(_) if name == "format_map" || name == "translate" || name == "encode" => Some(withheld()),
        Value::List(_) if LIST.contains(&name) => Some(method()),
        Value::List(_) if LIST_UNSAFE.contains(&name) => Some(withheld()),
        Value::Tuple(_) if LIST[1..].contains(&name) => Some(method()),
        Value::Dict(_) if DICT.contains(&name) => Some(method()),
        Value::Dict(_) if DICT_UNSAFE.contains(&name) => Some(withheld()),
        Value::Namespace(space) => space.borrow().values.get(name).cloned(),
        Value::Loop(state) => loop_attr(state, name).or_else(|| matches!(name, "cycle" | "changed").then(method)),
        Value::Macro(m) if name == "name" => Some(Value::Str(m.definition.name.clone())),
        Value::Cycler(c) if name == "current" => c.0.get(c.1.get()).cloned(),
        Value::Cycler(_) if matches!(name, "next" | "reset") => Some(method()),
        Value::Int(n) if matches!(name, "real" | "numerator") => Some(Value::Int(*n)),
        Value::Float(_) if name == "is_integer" => Some(method()),
        _ => None,
    }
}

fn loop_attr(state: &LoopValue, name: &str) -> Option<Value> {
    let (at, count) = (state.at.get(), state.items.items.len());
    let int = |n: usize| Some(Value::Int(n as i128));
    let neighbour = |at: Option<usize>, what: &str| {
        let item = at.and_then(|at| state.items.items.get(at)).cloned();
        Some(item.unwrap_or_else(|| Value::Undefined(format!("there is no {what} item").into())))
    };
    match name {
        "index" => int(at + 1),
        "index0" => int(at),
        "revindex" => int(count - at),
        "revindex0" => int(count - at - 1),
        "first" => Some(Value::Bool(at == 0)),
        "last" => Some(Value::Bool(at + 1 == count)),
        "length" => int(count),
        "depth" => int(state.depth),
        "depth0" => int(state.depth - 1),
        "previtem" => neighbour(at.checked_sub(1), "previous"),
        "nextitem" => neighbour(Some(at + 1), "next"),
        _ => None,
    }
}

fn no_attr(object: &Value, name: &str) -> Value {
    Value::Undefined(format!("{} has no attribute '{name}'", object.object_name()).into())
}

/// `object.name`: an attribute, else an item.
pub(super) fn attr(object: &Value, name: &str) -> Outcome<Value> {
    object.defined()?;
    if let Some(value) = own_attr(object, name) {
        return Ok(value);
    }
    if let Value::Dict(dict) = object
        && let Some(value) = dict.get_str(name)
    {
        return Ok(value.clone());
    }
    Ok(no_attr(object, name))
}

/// `object[index]`: an item, else an attribute.
pub(super) fn item(machine: &mut Machine, object: &Value, index: &Value) -> Outcome<Value> {
    object.defined()?;
    index.defined()?;
    if let Value::Dict(dict) = object {
        machine.watch.keys(dict);
    }
    if let Value::Dict(dict) = object
        && let Some(value) = dict.get(index)
    {
        return Ok(value.clone());
    }
    if let Some(at) = index.int() {
        match object {
            Value::List(seq) | Value::Tuple(seq) => {
                if let Some(value) = place(at, seq.items.len()).and_then(|at| seq.items.get(at)) {
                    return Ok(value.clone());
                }
            }
            Value::Str(text) => {
                machine.meter.steps(text.len() / 16)?;
                let count = if at < 0 { text.chars().count() } else { usize::MAX / 2 };
                if let Some(c) = place(at, count).and_then(|at| text.chars().nth(at)) {
                    return Ok(Value::str(c.to_string()));
                }
            }
            Value::Range(start, _, step) => {
                let count = usize::try_from(object.range_len()).unwrap_or(0);
                if let Some(at) = place(at, count).filter(|at| *at < count) {
                    return Ok(Value::Int(i128::from(*start) + at as i128 * i128::from(*step)));
                }
            }
            _ => {}
        }
        return Ok(Value::Undefined(format!("{} has no element {at}", object.type_name()).into()));
    }
    if let Value::Str(name) = index {
        return Ok(own_attr(object, name).unwrap_or_else(|| no_attr(object, name)));
    }
    Ok(Value::Undefined(format!("{} has no such element", object.type_name()).into()))
}

fn place(at: i128, count: usize) -> Option<usize> {
    usize::try_from(if at < 0 { at + count as i128 } else { at }).ok()
}

/// `object[start:stop:step]`.
pub(super) fn slice(machine: &mut Machine, object: &Value, parts: &[Value; 3]) -> Outcome<Value> {
    let mut numbers = [None; 3];
    for (slot, part) in numbers.iter_mut().zip(parts) {
        *slot = match part.defined()? {
            Value::None => None,
            other => match other.int() {
                Some(n) => Some(n),
                None => return failed("TypeError: slice indices must be integers or None"),
            },
        };
    }
    let [start, stop, step] = numbers;
    let step = step.unwrap_or(1);
    if step == 0 {
        return failed("ValueError: slice step cannot be zero");
    }
    let indices = |count: usize| -> Vec<usize> {
        let count = count as i128;
        let clamp = |n: i128, low: i128, high: i128| (if n < 0 { n + count } else { n }).clamp(low, high);
        let (mut at, end) = match step > 0 {
            true => (start.map_or(0, |n| clamp(n, 0, count)), stop.map_or(count, |n| clamp(n, 0, count))),
            false => {
                (start.map_or(count - 1, |n| clamp(n, -1, count - 1)), stop.map_or(-1, |n| clamp(n, -1, count - 1)))
            }
        };
        let mut out = Vec::new();
        while if step > 0 { at < end } else { at > end } {
            out.extend(usize::try_from(at));
            at = at.saturating_add(step);
        }
        out
    };
    match object {
        Value::Str(text) => {
            machine.meter.steps(text.len() / 4)?;
            machine.meter.bytes(text.len())?;
            let chars: Vec<char> = text.chars().collect();
            let picked: String = indices(chars.len()).into_iter().filter_map(|n| chars.get(n)).collect();
            Ok(Value::str(picked))
        }
        Value::List(seq) | Value::Tuple(seq) => {
            machine.meter.steps(seq.items.len() / 4)?;
            machine.meter.bytes(seq.items.len().saturating_mul(16))?;
            let picked = indices(seq.items.len()).into_iter().filter_map(|n| seq.items.get(n).cloned()).collect();
            if matches!(object, Value::List(_)) { Value::list(picked) } else { Value::tuple(picked) }
        }
        Value::Range(..) => {
            let all = machine.iterate(object)?;
            Value::list(indices(all.items.len()).into_iter().filter_map(|n| all.items.get(n).cloned()).collect())
        }
        Value::Undefined(_) | Value::Unsafe(_) => object.defined().cloned(),
        other => Ok(Value::Undefined(format!("{} cannot be sliced", other.object_name()).into())),
    }
}

/// A bound method with arguments.
pub(super) fn call(machine: &mut Machine, object: &Value, name: &str, args: &Args) -> Outcome<Value> {
    for value in args.positional.iter().chain(args.named.iter().map(|(_, v)| v)) {
        if let Value::Unsafe(_) = value {
            value.defined()?;
        }
    }
    match object {
        Value::Str(_) => machine.watch.arguments(name, args),
        Value::Dict(dict) if name == "get" => machine.watch.keys(dict),
        _ => {}
    }
    match object {
        Value::Str(text) => {
            machine.meter.steps(1 + text.len() / 8)?;
            string_method(machine, text, name, args)
        }
        Value::Dict(dict) => dict_method(machine, dict, name, args),
        Value::List(seq) | Value::Tuple(seq) => {
            machine.meter.steps(seq.items.len())?;
            let wanted = args.get(0, "value").cloned().unwrap_or(Value::None);
            match name {
                "copy" => Ok(object.clone()),
                "count" => Ok(Value::Int(seq.items.iter().filter(|i| i.equals(&wanted)).count() as i128)),
                _ => match seq.items.iter().position(|i| i.equals(&wanted)) {
                    Some(at) => Ok(Value::Int(at as i128)),
                    None => failed("ValueError: value is not in list"),
                },
            }
        }
        Value::Loop(state) if name == "changed" => {
            let now = Value::tuple(args.positional.clone())?;
            let before = state.changed.replace(Some(now.clone()));
            Ok(Value::Bool(!before.is_some_and(|b| b.equals(&now))))
        }
        Value::Loop(state) => match args.positional.len() {
            0 => failed("TypeError: no items for cycling given"),
            count => Ok(args.positional[state.at.get() % count].clone()),
        },
        Value::Cycler(cycler) => {
            let at = cycler.1.get();
            cycler.1.set(if name == "reset" { 0 } else { (at + 1) % cycler.0.len().max(1) });
            Ok(if name == "reset" { Value::None } else { cycler.0.get(at).cloned().unwrap_or(Value::None) })
        }
        Value::Float(x) => Ok(Value::Bool(x.fract() == 0.0)),
        _ => failed(format!("TypeError: '{name}' cannot be called")),
    }
}

fn dict_method(machine: &mut Machine, dict: &Rc<Dict>, name: &str, args: &Args) -> Outcome<Value> {
    if name == "get" {
        let key =
            args.positional.first().ok_or(()).or_else(|()| failed("TypeError: get expected at least 1 argument"))?;
        return Ok(dict.get(key.defined()?).or(args.positional.get(1)).cloned().unwrap_or(Value::None));
    }
    machine.meter.steps(dict.entries().len())?;
    let entries = dict.entries().iter();
    match name {
        "items" => {
            let pairs = entries.map(|(k, v)| Value::tuple(vec![k.clone(), v.clone()])).collect::<Outcome<_>>()?;
            Value::iter_of(pairs, "dict_items")
        }
        "keys" => Value::iter_of(entries.map(|(k, _)| k.clone()).collect(), "dict_keys"),
        "values" => Value::iter_of(entries.map(|(_, v)| v.clone()).collect(), "dict_values"),
        "copy" => Ok(Value::Dict(dict.clone())),
        _ => {
            let value = args.get(1, "value").cloned().unwrap_or(Value::None);
            let keys = machine.iterate(args.get(0, "iterable").unwrap_or(&Value::None))?;
            Dict::new(keys.items.iter().map(|k| (k.clone(), value.clone()))).map(Value::Dict)
        }
    }
}

fn text_of<'a>(args: &'a Args, at: usize, name: &str) -> Outcome<&'a str> {
    match args.get(at, name) {
        Some(Value::Str(text)) => Ok(text),
        Some(other) => failed(format!("TypeError: expected str, not {}", other.defined()?.type_name())),
        None => failed("TypeError: an argument is missing"),
    }
}

fn number_of(args: &Args, at: usize, name: &str, default: i128) -> Outcome<i128> {
    match args.get(at, name) {
        None => Ok(default),
        Some(value) => match value.defined()?.int() {
            Some(n) => Ok(n),
            None => failed(format!("TypeError: '{}' object cannot be interpreted as an integer", value.type_name())),
        },
    }
}

fn width_of(args: &Args) -> Outcome<usize> {
    Ok(usize::try_from(number_of(args, 0, "width", 0)?.max(0)).unwrap_or(usize::MAX / 8).min(usize::MAX / 8))
}

fn strings(parts: Vec<&str>) -> Outcome<Value> {
    Value::list(parts.into_iter().map(Value::str).collect())
}

/// The characters that `strip` and its kin take away; `None` for white space.
fn strip_set(args: &Args) -> Outcome<Option<Vec<char>>> {
    match args.get(0, "chars") {
        None | Some(Value::None) => Ok(None),
        Some(Value::Str(set)) => Ok(Some(set.chars().collect())),
        Some(other) => {
            failed(format!("TypeError: strip arg must be None or str, not {}", other.defined()?.type_name()))
        }
    }
}

/// White space as Python's `str` knows it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

fn affix(text: &str, args: &Args, has: impl Fn(&str, &str) -> bool) -> Outcome<Value> {
    let start = number_of(args, 1, "start", 0)?;
    let part = match (start, args.get(2, "end")) {
        (0, None) => text.to_string(),
        _ => {
            let chars: Vec<char> = text.chars().collect();
            let bound = |n: i128| place(n, chars.len()).unwrap_or(0).min(chars.len());
            let end = bound(number_of(args, 2, "end", chars.len() as i128)?);
            let start = bound(start);
            if start > end {
                return Ok(Value::Bool(false));
            }
            chars[start..end].iter().collect()
        }
    };
    match args.get(0, "prefix") {
        Some(Value::Tuple(options)) => {
            let mut any = false;
            for option in &options.items {
                let Value::Str(option) = option else { return failed("TypeError: tuple must contain str") };
                any |= has(&part, option);
            }
            Ok(Value::Bool(any))
        }
        _ => Ok(Value::Bool(has(&part, text_of(args, 0, "prefix")?))),
    }
}

fn split(text: &str, args: &Args, reverse: bool) -> Outcome<Value> {
    let limit = usize::try_from(number_of(args, 1, "maxsplit", -1)?).unwrap_or(usize::MAX);
    if let Some(Value::Str(separator)) = args.get(0, "sep") {
        if separator.is_empty() {
            return failed("ValueError: empty separator");
        }
        let limit = limit.saturating_add(1);
        return match reverse {
            false => strings(text.splitn(limit, &**separator).collect()),
            true => {
                let mut parts: Vec<&str> = text.rsplitn(limit, &**separator).collect();
                parts.reverse();
                strings(parts)
            }
        };
    }
    if let Some(other) = args.get(0, "sep").filter(|v| !matches!(v, Value::None)) {
        return failed(format!("TypeError: must be str or None, not {}", other.defined()?.type_name()));
    }
    let mut parts = Vec::new();
    let mut rest = text.trim_matches(is_space);
    while !rest.is_empty() {
        if parts.len() == limit {
            parts.push(rest);
            break;
        }
        let (part, tail) = match reverse {
            false => rest.split_once(is_space).map_or((rest, ""), |(a, b)| (a, b.trim_start_matches(is_space))),
            true => rest.rsplit_once(is_space).map_or((rest, ""), |(a, b)| (b, a.trim_end_matches(is_space))),
        };
        parts.push(part);
        rest = tail;
    }
    if reverse {
        parts.reverse();
    }
    strings(parts)
}

fn find(text: &str, args: &Args, reverse: bool) -> Outcome<i128> {
    let needle = text_of(args, 0, "sub")?;
    let start = number_of(args, 1, "start", 0)?;
    let count = text.chars().count();
    let from = place(start, count).unwrap_or(0);
    let to = match args.get(2, "end") {
        None => count,
        Some(_) => place(number_of(args, 2, "end", 0)?, count).unwrap_or(0).min(count),
    };
    let byte_at = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    if from > to {
        return Ok(-1);
    }
    let (from, to) = (byte_at(from), byte_at(to));
    let part = text.get(from..to).unwrap_or("");
    let found = if reverse { part.rfind(needle) } else { part.find(needle) };
    Ok(found.map_or(-1, |at| text[..from + at].chars().count() as i128))
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_alphabetic();
    }
    out
}

pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    first.to_uppercase().collect::<String>() + &chars.as_str().to_lowercase()
}

fn all(text: &str, is: impl Fn(char) -> bool) -> Value {
    Value::Bool(!text.is_empty() && text.chars().all(is))
}

fn string_method(machine: &mut Machine, text: &Rc<str>, name: &str, args: &Args) -> Outcome<Value> {
    let meter = &machine.meter;
    meter.bytes(text.len())?;
    Ok(match name {
        "strip" | "lstrip" | "rstrip" => {
            let set = strip_set(args)?;
            let takes = |c: char| set.as_ref().map_or_else(|| is_space(c), |set| set.contains(&c));
            let mut rest: &str = text;
            if name != "rstrip" {
                rest = rest.trim_start_matches(takes);
            }
            if name != "lstrip" {
                rest = rest.trim_end_matches(takes);
            }
            if rest.len() == text.len() { Value::Str(text.clone()) } else { Value::str(rest) }
        }
        "split" | "rsplit" => {
            meter.bytes(text.len().saturating_mul(8))?;
            split(text, args, name == "rsplit")?
        }
        "splitlines" => {
            let keep = args.get(0, "keepends").is_some_and(|v| v.is_true().unwrap_or(false));
            let mut parts = Vec::new();
            let mut rest: &str = text;
            while !rest.is_empty() {
                let ends = |c: char| {
                    matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
                };
                let Some(at) = rest.find(ends) else {
                    parts.push(rest);
                    break;
                };
                let len = if rest[at..].starts_with("\r\n") {
                    2
                } else {
                    rest[at..].chars().next().map_or(1, char::len_utf8)
                };
                parts.push(&rest[..if keep { at + len } else { at }]);
                rest = &rest[at + len..];
            }
            strings(parts)?
        }
        "startswith" => affix(text, args, |t, p| t.starts_with(p))?,
        "endswith" => affix(text, args, |t, p| t.ends_with(p))?,
        "replace" => {
            let (from, to) = (text_of(args, 0, "old")?, text_of(args, 1, "new")?);
            let limit = usize::try_from(number_of(args, 2, "count", -1)?).unwrap_or(usize::MAX);
            Value::str(replace(text, from, to, limit, machine)?)
        }
        "join" => {
            let items = machine.iterate(args.positional.first().unwrap_or(&Value::None))?;
            let mut out = String::new();
            for (n, item) in items.items.iter().enumerate() {
                let Value::Str(part) = item.defined()? else {
                    let kind = item.type_name();
                    return failed(format!("TypeError: sequence item {n}: expected str instance, {kind} found"));
                };
                machine.meter.bytes(part.len() + text.len())?;
                out.push_str(if n > 0 { text } else { "" });
                out.push_str(part);
            }
            Value::str(out)
        }
        "format" => Value::str(format(machine, text, args)?),
        "lower" | "casefold" => Value::str(text.to_lowercase()),
        "upper" => Value::str(text.to_uppercase()),
        "title" => Value::str(title(text)),
        "capitalize" => Value::str(capitalize(text)),
        "swapcase" => Value::str(
            text.chars()
                .flat_map(|c| {
                    if c.is_uppercase() { c.to_lowercase().collect::<Vec<_>>() } else { c.to_uppercase().collect() }
                })
                .collect::<String>(),
        ),
        "count" => {
            let needle = text_of(args, 0, "sub")?;
            let count = if needle.is_empty() { text.chars().count() + 1 } else { text.matches(needle).count() };
            Value::Int(count as i128)
        }
        "find" => Value::Int(find(text, args, false)?),
        "rfind" => Value::Int(find(text, args, true)?),
        "index" | "rindex" => match find(text, args, name == "rindex")? {
            -1 => return failed("ValueError: substring not found"),
            at => Value::Int(at),
        },
        "removeprefix" => Value::str(text.strip_prefix(text_of(args, 0, "prefix")?).unwrap_or(text)),
        "removesuffix" => Value::str(text.strip_suffix(text_of(args, 0, "suffix")?).unwrap_or(text)),
        "partition" | "rpartition" => {
            let separator = text_of(args, 0, "sep")?;
            if separator.is_empty() {
                return failed("ValueError: empty separator");
            }
            let parts = match name {
                "partition" => text.split_once(separator).map_or([text, "", ""], |(a, b)| [a, separator, b]),
                _ => text.rsplit_once(separator).map_or(["", "", text], |(a, b)| [a, separator, b]),
            };
            Value::tuple(parts.into_iter().map(Value::str).collect())?
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let room = width_of(args)?.saturating_sub(text.chars().count());
            let fill = match args.get(1, "fillchar") {
                Some(Value::Str(fill)) => fill.chars().next().unwrap_or(' '),
                _ => ' ',
            };
            Value::str(match name {
                "ljust" => pad(text, 0, room, fill, meter)?,
                "rjust" => pad(text, room, 0, fill, meter)?,
                "center" => pad(text, room / 2, room - room / 2, fill, meter)?,
                _ => {
                    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
                    text[..text.len() - digits.len()].to_string() + &pad(digits, room, 0, '0', meter)?
                }
            })
        }
        "expandtabs" => {
            let size = usize::try_from(number_of(args, 0, "tabsize", 8)?).unwrap_or(0).min(256);
            meter.bytes(text.len().saturating_mul(size))?;
            let (mut out, mut column) = (String::new(), 0);
            for c in text.chars() {
                match c {
                    '\t' => {
                        let room = if size == 0 { 0 } else { size - column % size };
                        out.extend(std::iter::repeat_n(' ', room));
                        column += room;
                    }
                    '\n' | '\r' => {
                        out.push(c);
                        column = 0;
                    }
                    c => {
                        out.push(c);
                        column += 1;
                    }
                }
            }
            Value::str(out)
        }
        "isalnum" => all(text, char::is_alphanumeric),
        "isalpha" => all(text, char::is_alphabetic),
        "isascii" => Value::Bool(text.is_ascii()),
        "isdecimal" | "isdigit" => {
            all(text, |c| c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric() && c.to_digit(10).is_none()))
        }
        "isnumeric" => all(text, char::is_numeric),
        "isspace" => all(text, is_space),
        "isprintable" => Value::Bool(text.chars().all(is_printable)),
        "islower" => Value::Bool(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)),
        "isupper" => Value::Bool(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)),
        "istitle" => Value::Bool(text.chars().any(char::is_alphabetic) && title(text) == **text),
        "isidentifier" => {
            let mut chars = text.chars();
            let first = chars.next().is_some_and(|c| c == '_' || c.is_alphabetic());
            Value::Bool(first && chars.all(|c| c == '_' || c.is_alphanumeric()))
        }
        _ => return failed(format!("TypeError: 'str' has no method '{name}'")),
    })
}

/// `str.replace`, paid for.
pub(super) fn replace(text: &str, from: &str, to: &str, limit: usize, machine: &Machine) -> Outcome<String> {
    machine.meter.steps(text.len() / 8)?;
    let count = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() }.min(limit);
    machine.meter.bytes(count.saturating_mul(to.len()).saturating_add(text.len()))?;
    Ok(text.replacen(from, to, limit))
}

/// `str.format`, with attribute and item access as the sandbox allows it.
pub(super) fn format(machine: &mut Machine, template: &str, args: &Args) -> Outcome<String> {
    let mut out = String::new();
    let mut rest = template;
    let mut automatic = 0;
    while let Some(at) = rest.find(['{', '}']) {
        machine.meter.steps(1)?;
        machine.meter.bytes(at + 1)?;
        out.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix(brace) {
            out.push_str(brace);
            rest = tail;
            continue;
        }
        if brace == "}" {
            return failed("ValueError: Single '}' encountered in format string");
        }
        let Some(end) = rest.find('}') else { return failed("ValueError: expected '}' before end of string") };
        let field = &rest[..end];
        rest = &rest[end + 1..];
        let (field, spec) = field.split_once(':').unwrap_or((field, ""));
        let (field, conversion) = field.split_once('!').unwrap_or((field, ""));
        let head_len = field.find(['.', '[']).unwrap_or(field.len());
        let (head, mut path) = field.split_at(head_len);
        let mut value = if head.is_empty() {
            automatic += 1;
            args.positional.get(automatic - 1).cloned()
        } else if let Ok(at) = head.parse::<usize>() {
            args.positional.get(at).cloned()
        } else {
            args.named.iter().find(|(n, _)| &**n == head).map(|(_, v)| v.clone())
        };
        while let (Some(current), false) = (&value, path.is_empty()) {
            let next = if let Some(tail) = path.strip_prefix('.') {
                let len = tail.find(['.', '[']).unwrap_or(tail.len());
                let found = attr(current, &tail[..len])?;
                path = &tail[len..];
                found
            } else {
                let inner = path.strip_prefix('[').and_then(|p| p.split_once(']'));
                let Some((key, tail)) = inner else { return failed("ValueError: Missing ']' in format string") };
                let key = key.parse::<i64>().map_or_else(|_| Value::str(key), |n| Value::Int(n.into()));
                path = tail;
                item(machine, current, &key)?
            };
            value = Some(next.defined()?.clone());
        }
        let Some(value) = value else {
            return failed("IndexError: Replacement index out of range for positional args tuple");
        };
        let mut spec = parse_spec(spec)?;
        let value = match conversion {
            "r" => Value::str(formatted(&value, &Spec { kind: 'r', ..Spec::default() }, &machine.meter)?),
            "s" => Value::str(to_str(&value, &machine.meter)?),
            _ => value,
        };
        if matches!(value, Value::Str(_)) && spec.kind == '\0' {
            spec.kind = 's';
        }
        out.push_str(&formatted(&value, &spec, &machine.meter)?);
    }
    machine.meter.bytes(rest.len())?;
    out.push_str(rest);
    Ok(out)
}

fn parse_spec(text: &str) -> Outcome<Spec> {
    let mut spec = Spec::default();
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    let is_align = |c: Option<&char>| c.is_some_and(|c| "<>^=".contains(*c));
    if is_align(chars.get(1)) {
        (spec.fill, spec.align) = (Some(chars[0]), Some(chars[1]));
        at = 2;
    } else if is_align(chars.first()) {
        spec.align = Some(chars[0]);
        at = 1;
    }
    if let Some(sign) = chars.get(at).filter(|c| "+- ".contains(**c)) {
        spec.sign = Some(*sign);
        at += 1;
    }
    if chars.get(at) == Some(&'#') {
        spec.alternate = true;
        at += 1;
    }
    if chars.get(at) == Some(&'0') && spec.align.is_none() {
        (spec.fill, spec.align) = (Some('0'), Some('='));
        at += 1;
    }
    let number = |at: &mut usize| {
        let mut value: Option<usize> = None;
        while let Some(digit) = chars.get(*at).and_then(|c| c.to_digit(10)) {
            value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
            *at += 1;
        }
        value
    };
    spec.width = number(&mut at).unwrap_or(0);
    if let Some(comma) = chars.get(at).filter(|c| ",_".contains(**c)) {
        spec.comma = Some(*comma);
        at += 1;
    }
    if chars.get(at) == Some(&'.') {
        at += 1;
        spec.precision = number(&mut at);
    }
    spec.kind = chars.get(at).copied().unwrap_or('\0');
    if chars.len() > at + 1 {
        return failed("ValueError: Invalid format specifier");
    }
    Ok(spec)
}
