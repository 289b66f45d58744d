//! Values of a template, with Python's names, truth, equality and order. Lists and dicts never change (the sandbox
//! forbids it), so they are shared; every container knows its depth, which bounds all recursion over values.

use super::ast;
use super::{Fault, Outcome, failed};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

/// Containers in containers, at most.
const DEPTH_MAX: u32 = 160;

/// A literal in the source.
#[derive(Clone, Debug)]
pub(super) enum Const {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// With what is to be said when it is used.
    Undefined(Rc<str>),
    /// An attribute that the sandbox withholds.
    Unsafe(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
    List(Rc<Seq>),
    Tuple(Rc<Seq>),
    Dict(Rc<Dict>),
    /// What an iterator or a view would give, with the name of its Python type.
    Iter(Rc<Seq>, &'static str),
    Range(i64, i64, i64),
    Namespace(Rc<RefCell<Space>>),
    Macro(Rc<MacroValue>),
    Loop(Rc<LoopValue>),
    Function(&'static str),
    Method(Rc<(Value, Rc<str>)>),
    Cycler(Rc<(Vec<Value>, std::cell::Cell<usize>)>),
    Joiner(Rc<(Rc<str>, std::cell::Cell<bool>)>),
}

#[derive(Debug)]
pub(super) struct Seq {
    pub(super) items: Vec<Value>,
    depth: u32,
}

#[derive(Debug, Default)]
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    index: HashMap<Rc<str>, usize>,
    depth: u32,
}

#[derive(Debug, Default)]
pub(super) struct Space {
    pub(super) values: HashMap<Rc<str>, Value>,
    depth: u32,
}

#[derive(Debug)]
pub(super) struct MacroValue {
    pub(super) definition: Rc<ast::Macro>,
    pub(super) captured: Vec<(Rc<str>, Value)>,
    /// A caller's body is rendered in place, so its variables are captured anew at each call.
    pub(super) depth: u32,
}

#[derive(Debug)]
pub(super) struct LoopValue {
    pub(super) items: Rc<Seq>,
    pub(super) at: std::cell::Cell<usize>,
    pub(super) depth: usize,
    pub(super) changed: RefCell<Option<Value>>,
    pub(super) recursive: Option<Rc<ast::For>>,
}

impl Space {
    pub(super) fn set(&mut self, name: Rc<str>, value: Value) -> Outcome<()> {
        self.depth = self.depth.max(deeper(std::iter::once(&value))?);
        self.values.insert(name, value);
        Ok(())
    }
}

fn deeper<'v>(mut items: impl Iterator<Item = &'v Value>) -> Outcome<u32> {
    let depth = items.try_fold(0, |most: u32, item| Ok(most.max(item.depth() + 1)))?;
    if depth > DEPTH_MAX { Err(Fault::Limit("values are nested too deeply")) } else { Ok(depth) }
}

impl Seq {
    pub(super) fn new(items: Vec<Value>) -> Outcome<Rc<Self>> {
        let depth = deeper(items.iter())?;
        Ok(Rc::new(Seq { items, depth }))
    }
}

impl Dict {
    pub(super) fn new(pairs: impl IntoIterator<Item = (Value, Value)>) -> Outcome<Rc<Self>> {
        let mut dict = Dict::default();
        for (key, value) in pairs {
            dict.insert(key, value)?;
        }
        Ok(Rc::new(dict))
    }

    pub(super) fn insert(&mut self, key: Value, value: Value) -> Outcome<()> {
        if matches!(key, Value::List(_) | Value::Dict(_)) {
            return failed(format!("TypeError: unhashable type: '{}'", key.type_name()));
        }
        self.depth = self.depth.max(deeper([&key, &value].into_iter())?);
        if let Some(at) = self.find(&key) {
            self.entries[at].1 = value;
            return Ok(());
        }
        if let Value::Str(name) = &key {
            self.index.insert(name.clone(), self.entries.len());
        }
        self.entries.push((key, value));
        Ok(())
    }

    fn find(&self, key: &Value) -> Option<usize> {
        match key {
            Value::Str(name) => self.index.get(name).copied(),
            // keys that are no strings are rare and few: only a template can make them
            other => self.entries.iter().position(|(k, _)| !matches!(k, Value::Str(_)) && k.equals(other)),
        }
    }

    pub(super) fn get(&self, key: &Value) -> Option<&Value> {
        self.find(key).map(|at| &self.entries[at].1)
    }

    pub(super) fn get_str(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|at| &self.entries[*at].1)
    }

    pub(super) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }
}

impl From<&Const> for Value {
    fn from(value: &Const) -> Self {
        match value {
            Const::None => Value::None,
            Const::Bool(b) => Value::Bool(*b),
            Const::Int(n) => Value::Int(*n),
            Const::Float(x) => Value::Float(*x),
            Const::Str(s) => Value::Str(s.clone()),
        }
    }
}

impl Value {
    pub(super) fn str(text: impl AsRef<str>) -> Self {
        Value::Str(Rc::from(text.as_ref()))
    }

    pub(super) fn list(items: Vec<Value>) -> Outcome<Self> {
        Seq::new(items).map(Value::List)
    }

    pub(super) fn tuple(items: Vec<Value>) -> Outcome<Self> {
        Seq::new(items).map(Value::Tuple)
    }

    pub(super) fn iter_of(items: Vec<Value>, kind: &'static str) -> Outcome<Self> {
        Seq::new(items).map(|seq| Value::Iter(seq, kind))
    }

    pub(super) fn missing(name: &str) -> Self {
        Value::Undefined(format!("'{name}' is undefined").into())
    }

    /// Plain data from outside; its depth is bounded by the JSON reader.
    pub(super) fn from_json(json: &serde_json::Value) -> Outcome<Self> {
        Ok(match json {
            serde_json::Value::Null => Value::None,
            serde_json::Value::Bool(b) => Value::Bool(*b),
            serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => Value::Int(n.into()),
                (_, Some(n)) => Value::Int(n.into()),
                _ => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(s) => Value::str(s),
            serde_json::Value::Array(items) => Value::list(items.iter().map(Self::from_json).collect::<Outcome<_>>()?)?,
            serde_json::Value::Object(map) => {
                let pairs = map.iter().map(|(k, v)| Ok((Value::str(k), Self::from_json(v)?)));
                Value::Dict(Dict::new(pairs.collect::<Outcome<Vec<_>>>()?)?)
            }
        })
    }

    pub(super) fn depth(&self) -> u32 {
        match self {
            Value::List(seq) | Value::Tuple(seq) | Value::Iter(seq, _) => seq.depth,
            Value::Dict(dict) => dict.depth,
            Value::Namespace(space) => space.try_borrow().map_or(0, |s| s.depth),
            Value::Macro(m) => m.depth,
            Value::Method(m) => m.0.depth() + 1,
            Value::Cycler(c) => c.0.iter().map(Value::depth).max().unwrap_or(0) + 1,
            Value::Loop(l) => l.items.depth + 1,
            _ => 0,
        }
    }

    /// The name of the Python type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) | Value::Unsafe(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::Iter(_, kind) => kind,
            Value::Range(..) => "range",
            Value::Namespace(_) => "Namespace",
            Value::Macro(_) => "Macro",
            Value::Loop(_) => "LoopContext",
            Value::Function(_) => "function",
            Value::Method(_) => "builtin_function_or_method",
            Value::Cycler(_) => "Cycler",
            Value::Joiner(_) => "Joiner",
        }
    }

    /// How jinja2 calls the value in messages about missing attributes.
    pub(super) fn object_name(&self) -> String {
        match self {
            Value::None => "'None'".to_string(),
            other => format!("'{} object'", other.type_name()),
        }
    }

    /// Fails where the value is undefined.
    pub(super) fn defined(&self) -> Outcome<&Self> {
        match self {
            Value::Undefined(why) => failed(format!("UndefinedError: {why}")),
            Value::Unsafe(why) => failed(format!("SecurityError: {why}")),
            other => Ok(other),
        }
    }

    pub(super) fn is_true(&self) -> Outcome<bool> {
        Ok(match self {
            Value::Unsafe(_) => self.defined().map(|_| false)?,
            Value::Undefined(_) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Float(x) => *x != 0.0,
            Value::Str(s) => !s.is_empty(),
            Value::List(seq) | Value::Tuple(seq) => !seq.items.is_empty(),
            Value::Iter(seq, kind) => !kind.starts_with("dict_") || !seq.items.is_empty(),
            Value::Dict(dict) => !dict.entries.is_empty(),
            Value::Range(..) => self.range_len() > 0,
            _ => true,
        })
    }

    pub(super) fn range_len(&self) -> i64 {
        match self {
            Value::Range(start, stop, step) if *step > 0 => (stop - start + step - 1).max(0) / step,
            Value::Range(start, stop, step) => (start - stop - step - 1).max(0) / -step,
            _ => 0,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            Value::Int(n) => Some(*n as f64),
            Value::Float(x) => Some(*x),
            _ => None,
        }
    }

    pub(super) fn int(&self) -> Option<i128> {
        match self {
            Value::Bool(b) => Some(i128::from(*b)),
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }

    pub(super) fn float(&self) -> Option<f64> {
        self.number()
    }

    pub(super) fn equals(&self, other: &Value) -> bool {
        if let (Some(a), Some(b)) = (self.int(), other.int()) {
            return a == b;
        }
        if let (Some(a), Some(b)) = (self.number(), other.number()) {
            return a == b;
        }
        match (self, other) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                Rc::ptr_eq(a, b)
                    || (a.items.len() == b.items.len() && a.items.iter().zip(&b.items).all(|(a, b)| a.equals(b)))
            }
            (Value::Dict(a), Value::Dict(b)) => {
                Rc::ptr_eq(a, b)
                    || (a.entries.len() == b.entries.len()
                        && a.entries.iter().all(|(k, v)| b.get(k).is_some_and(|w| v.equals(w))))
            }
            (Value::Range(..), Value::Range(..)) => {
                self.range_len() == 0 && other.range_len() == 0 || self.same_range(other)
            }
            (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
            (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
            (Value::Iter(a, _), Value::Iter(b, _)) => Rc::ptr_eq(a, b),
            (Value::Function(a), Value::Function(b)) => a == b,
            _ => false,
        }
    }

    fn same_range(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Range(a, b, c), Value::Range(x, y, z)) => a == x && b == y && c == z,
            _ => false,
        }
    }

    /// Order of two values, where Python knows one.
    pub(super) fn order(&self, other: &Value, operator: &str) -> Outcome<Option<Ordering>> {
        if let (Some(a), Some(b)) = (self.int(), other.int()) {
            return Ok(Some(a.cmp(&b)));
        }
        if let (Some(a), Some(b)) = (self.number(), other.number()) {
            return Ok(a.partial_cmp(&b));
        }
        match (self.defined()?, other.defined()?) {
            (Value::Str(a), Value::Str(b)) => Ok(Some(a.cmp(b))),
            (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b) {
                        return a.order(b, operator);
                    }
                }
                Ok(Some(a.items.len().cmp(&b.items.len())))
            }
            (a, b) => failed(format!(
                "TypeError: '{operator}' not supported between instances of '{}' and '{}'",
                a.type_name(),
                b.type_name()
            )),
        }
    }
}
