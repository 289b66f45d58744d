//! Runs a template's tree. Every step, byte and level is paid for here.

use super::ast::{Binary, Call, Compare, Expr, For, Macro, Stmt, Target};
use super::filters;
use super::methods;
use super::text::{Clock, percent, to_str, write_str};
use super::value::{Dict, LoopValue, MacroValue, Seq, Space, Value};
use super::watch::{Watch, Watcher};
use super::{Fault, Outcome, failed};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// Levels of evaluation at once; each takes a few hundred bytes of the thread's stack.
const DEPTH_MAX: usize = 700;
/// What `range` may give: the sandbox's own bound.
const RANGE_MAX: i64 = 100_000;

/// What is left to spend.
#[derive(Debug)]
pub(super) struct Meter {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    steps_max: u64,
}

impl Meter {
    fn new(input: usize) -> Self {
        let input = input as u64;
        let steps_max = 1_000_000 + 64 * input;
        Meter { steps: Cell::new(steps_max), bytes: Cell::new((32 << 20) + 256 * input), steps_max }
    }

    /// Steps that were paid for.
    pub(super) fn spent(&self) -> u64 {
        self.steps_max - self.steps.get()
    }

    /// Pays for work.
    pub(super) fn steps(&self, count: usize) -> Outcome<()> {
        let left = self.steps.get().checked_sub(count as u64).ok_or(Fault::Limit("too many steps"))?;
        self.steps.set(left);
        Ok(())
    }

    /// Pays for bytes that are written or copied.
    pub(super) fn bytes(&self, count: usize) -> Outcome<()> {
        let left = self.bytes.get().checked_sub(count as u64).ok_or(Fault::Limit("too many bytes"))?;
        self.bytes.set(left);
        Ok(())
    }
}

/// Arguments of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Rc<str>, Value)>,
}

impl Args {
    /// The argument at a place or of a name.
    pub(super) fn get(&self, at: usize, name: &str) -> Option<&Value> {
        self.positional.get(at).or_else(|| self.named.iter().find(|(n, _)| &**n == name).map(|(_, v)| v))
    }
}

type Scope = HashMap<Rc<str>, Value>;

enum Flow {
    Next,
    Break,
    Continue,
}

pub(super) struct Machine {
    pub(super) meter: Meter,
    pub(super) clock: Clock,
    pub(super) watch: Watcher,
    scopes: Vec<Scope>,
    /// Scopes below this one, but for the first, belong to a caller and are not seen.
    base: usize,
    depth: usize,
}

/// Renders a tree.
pub(super) fn render(
    body: &[Stmt],
    variables: serde_json::Map<String, serde_json::Value>,
    clock: Clock,
) -> Outcome<String> {
    run(body, variables, clock, Watcher::default()).0
}

/// Renders a tree, and gives what was seen on the way, also where it fails.
pub(super) fn render_watched(
    body: &[Stmt],
    variables: serde_json::Map<String, serde_json::Value>,
    clock: Clock,
) -> (Outcome<String>, Watch) {
    run(body, variables, clock, Watcher(Some(Box::default())))
}

fn run(
    body: &[Stmt],
    variables: serde_json::Map<String, serde_json::Value>,
    clock: Clock,
    watch: Watcher,
) -> (Outcome<String>, Watch) {
    let mut scope = Scope::new();
    let mut size = 0;
    for (name, value) in &variables {
        size += weigh(value);
        match Value::from_json(value) {
            Ok(value) => scope.insert(Rc::from(name.as_str()), value),
            Err(fault) => return (Err(fault), Watch::default()),
        };
    }
    drop(variables);
    let mut machine = Machine { meter: Meter::new(size), clock, watch, scopes: vec![scope], base: 0, depth: 0 };
    let mut out = String::new();
    let outcome = machine.body(body, &mut out).map(|_| out);
    (outcome, machine.seen())
}

fn weigh(json: &serde_json::Value) -> usize {
    match json {
        serde_json::Value::String(s) => s.len() + 8,
        serde_json::Value::Array(items) => items.iter().map(weigh).sum::<usize>() + 8,
        serde_json::Value::Object(map) => map.iter().map(|(k, v)| k.len() + weigh(v)).sum::<usize>() + 8,
        _ => 8,
    }
}

impl Machine {
    fn enter(&mut self) -> Outcome<()> {
        self.meter.steps(1)?;
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(Fault::Limit("recursion too deep")) } else { Ok(()) }
    }

    fn body(&mut self, body: &[Stmt], out: &mut String) -> Outcome<Flow> {
        for stmt in body {
            self.enter()?;
            let flow = self.stmt(stmt, out)?;
            self.depth -= 1;
            if !matches!(flow, Flow::Next) {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn scoped(&mut self, scope: Scope, body: &[Stmt], out: &mut String) -> Outcome<Flow> {
        self.scopes.push(scope);
        let flow = self.body(body, out)?;
        self.scopes.pop();
        Ok(flow)
    }

    fn emit(&mut self, value: &Value, out: &mut String) -> Outcome<()> {
        write_str(value, &self.meter, out)
    }

    fn stmt(&mut self, stmt: &Stmt, out: &mut String) -> Outcome<Flow> {
        match stmt {
            Stmt::Text(text) => {
                self.meter.bytes(text.len())?;
                out.push_str(text);
            }
            Stmt::Emit(expr) => {
                let value = self.expr(expr)?;
                self.emit(&value, out)?;
            }
            Stmt::If { branches, otherwise } => {
                for (test, body) in branches {
                    if self.expr(test)?.is_true()? {
                        return self.body(body, out);
                    }
                }
                return self.body(otherwise, out);
            }
            Stmt::For(node) => {
                let items = self.expr(&node.iter)?;
                let items = self.iterate(&items)?;
                self.for_loop(node, items, 1, out)?;
            }
            Stmt::Set { target, value } => {
                let value = self.expr(value)?;
                self.assign(target, value)?;
            }
            Stmt::SetBlock { target, filters, body } => {
                let value = self.captured(body, filters)?;
                self.assign(target, value)?;
            }
            Stmt::FilterBlock { filters, body } => {
                let value = self.captured(body, filters)?;
                self.emit(&value, out)?;
            }
            Stmt::Macro(definition) => {
                let value = self.macro_value(definition)?;
                self.bind(definition.name.clone(), value);
            }
            Stmt::CallBlock { call, caller } => {
                let caller = self.macro_value(caller)?;
                let Expr::Call(callee, arguments) = call else { return failed("syntax error: expected a call") };
                let callee = self.expr(callee)?;
                let mut args = self.args(arguments)?;
                args.named.push(("caller".into(), caller));
                let value = self.call(&callee, args)?;
                self.emit(&value, out)?;
            }
            Stmt::With { bindings, body } => {
                let mut values = Vec::with_capacity(bindings.len());
                for (_, value) in bindings {
                    values.push(self.expr(value)?);
                }
                self.scopes.push(Scope::new());
                for ((target, _), value) in bindings.iter().zip(values) {
                    self.assign(target, value)?;
                }
                let flow = self.body(body, out)?;
                self.scopes.pop();
                return Ok(flow);
            }
            Stmt::Scope(body) => return self.scoped(Scope::new(), body, out),
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn captured(&mut self, body: &[Stmt], filters: &[Call]) -> Outcome<Value> {
        let mut text = String::new();
        self.scoped(Scope::new(), body, &mut text)?;
        let mut value = Value::str(text);
        for filter in filters {
            let args = self.args(filter)?;
            value = filters::apply(self, &filter.name, &value, &args)?;
        }
        Ok(value)
    }

    fn for_loop(&mut self, node: &Rc<For>, items: Rc<Seq>, depth: usize, out: &mut String) -> Outcome<()> {
        let items = match &node.filter {
            None => items,
            Some(filter) => {
                let mut kept = Vec::new();
                for item in &items.items {
                    self.meter.steps(1)?;
                    self.scopes.push(Scope::new());
                    self.assign(&node.target, item.clone())?;
                    let keep = self.expr(filter)?.is_true()?;
                    self.scopes.pop();
                    if keep {
                        kept.push(item.clone());
                    }
                }
                Seq::new(kept)?
            }
        };
        if items.items.is_empty() {
            self.scoped(Scope::new(), &node.otherwise, out)?;
            return Ok(());
        }
        let state = Rc::new(LoopValue {
            items: items.clone(),
            at: Cell::new(0),
            depth,
            changed: RefCell::new(None),
            recursive: node.recursive.then(|| node.clone()),
        });
        for (n, item) in items.items.iter().enumerate() {
            self.meter.steps(1)?;
            state.at.set(n);
            self.scopes.push(Scope::new());
            self.bind("loop".into(), Value::Loop(state.clone()));
            self.assign(&node.target, item.clone())?;
            let flow = self.body(&node.body, out)?;
            self.scopes.pop();
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(())
    }

    fn bind(&mut self, name: Rc<str>, value: Value) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, value);
        }
    }

    fn assign(&mut self, target: &Target, value: Value) -> Outcome<()> {
        match target {
            Target::Name(name) => self.bind(name.clone(), value),
            Target::Attr(name, attr) => match self.lookup(name) {
                Value::Namespace(space) => {
                    check_name(attr)?;
                    space.borrow_mut().set(attr.clone(), value)?;
                }
                _ => return failed("TemplateRuntimeError: cannot assign attribute on non-namespace object"),
            },
            Target::Tuple(targets) => {
                let items = self.iterate(value.defined()?)?;
                if items.items.len() != targets.len() {
                    let (want, got) = (targets.len(), items.items.len());
                    return failed(match got < want {
                        true => format!("ValueError: not enough values to unpack (expected {want}, got {got})"),
                        false => format!("ValueError: too many values to unpack (expected {want})"),
                    });
                }
                for (target, item) in targets.iter().zip(&items.items) {
                    self.assign(target, item.clone())?;
                }
            }
        }
        Ok(())
    }

    fn lookup(&self, name: &str) -> Value {
        let visible = self.scopes.get(self.base.max(1)..).unwrap_or(&[]);
        let found = visible.iter().rev().chain(self.scopes.first()).find_map(|scope| scope.get(name));
        if let Some(value) = found {
            return value.clone();
        }
        const FUNCTIONS: [&str; 8] =
            ["range", "dict", "namespace", "raise_exception", "strftime_now", "cycler", "joiner", "lipsum"];
        match FUNCTIONS.iter().find(|f| **f == name) {
            Some(function) => Value::Function(function),
            None => Value::missing(name),
        }
    }

    fn macro_value(&mut self, definition: &Rc<Macro>) -> Outcome<Value> {
        let mut captured: HashMap<Rc<str>, Value> = HashMap::new();
        for scope in self.scopes.get(self.base.max(1)..).unwrap_or(&[]) {
            self.meter.steps(scope.len())?;
            captured.extend(scope.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        let captured: Vec<(Rc<str>, Value)> = captured.into_iter().collect();
        let depth = captured.iter().map(|(_, v)| v.depth() + 1).max().unwrap_or(0);
        if depth > 120 {
            return Err(Fault::Limit("macros are nested too deeply"));
        }
        Ok(Value::Macro(Rc::new(MacroValue { definition: definition.clone(), captured, depth })))
    }

    /// The items of something that can be iterated.
    pub(super) fn iterate(&mut self, value: &Value) -> Outcome<Rc<Seq>> {
        let items = match value {
            Value::List(seq) | Value::Tuple(seq) | Value::Iter(seq, _) => {
                self.meter.steps(seq.items.len() / 8)?;
                return Ok(seq.clone());
            }
            Value::Undefined(_) => Vec::new(),
            Value::Dict(dict) => {
                self.meter.steps(dict.entries().len())?;
                dict.entries().iter().map(|(k, _)| k.clone()).collect()
            }
            Value::Str(text) => {
                self.meter.steps(text.len())?;
                self.meter.bytes(text.len().saturating_mul(48))?;
                let mut buffer = [0; 4];
                text.chars().map(|c| Value::str(c.encode_utf8(&mut buffer))).collect()
            }
            Value::Range(start, _, step) => {
                let count = value.range_len();
                self.meter.steps(usize::try_from(count).unwrap_or(usize::MAX))?;
                (0..count).map(|n| Value::Int(i128::from(start + n * step))).collect()
            }
            other => return failed(format!("TypeError: '{}' object is not iterable", other.defined()?.type_name())),
        };
        Seq::new(items)
    }

    pub(super) fn args(&mut self, call: &Call) -> Outcome<Args> {
        let mut args = Args::default();
        for arg in &call.args {
            args.positional.push(self.expr(arg)?);
        }
        if let Some(star) = &call.star {
            let more = self.expr(star)?;
            args.positional.extend(self.iterate(&more)?.items.iter().cloned());
        }
        for (name, value) in &call.kwargs {
            args.named.push((name.clone(), self.expr(value)?));
        }
        if let Some(star) = &call.double_star {
            match self.expr(star)? {
                Value::Dict(dict) => {
                    for (key, value) in dict.entries() {
                        let Value::Str(key) = key else { return failed("TypeError: keywords must be strings") };
                        args.named.push((key.clone(), value.clone()));
                    }
                }
                other => {
                    let kind = other.type_name();
                    return failed(format!("TypeError: argument after ** must be a mapping, not {kind}"));
                }
            }
        }
        Ok(args)
    }

    pub(super) fn expr(&mut self, expr: &Expr) -> Outcome<Value> {
        self.enter()?;
        let value = self.expr_inner(expr)?;
        self.depth -= 1;
        Ok(value)
    }

    fn exprs(&mut self, list: &[Expr]) -> Outcome<Vec<Value>> {
        list.iter().map(|e| self.expr(e)).collect()
    }

    fn expr_inner(&mut self, expr: &Expr) -> Outcome<Value> {
        match expr {
            Expr::Const(value) => Ok(value.into()),
            Expr::Name(name) => Ok(self.lookup(name)),
            Expr::List(items) => Value::list(self.exprs(items)?),
            Expr::Tuple(items) => Value::tuple(self.exprs(items)?),
            Expr::Dict(pairs) => {
                let mut dict = Dict::default();
                for (key, value) in pairs {
                    let key = self.expr(key)?;
                    dict.insert(key, self.expr(value)?)?;
                }
                Ok(Value::Dict(Rc::new(dict)))
            }
            Expr::Attr(object, name) => {
                let object = self.expr(object)?;
                methods::attr(&object, name)
            }
            Expr::Item(object, index) => {
                let object = self.expr(object)?;
                let index = self.expr(index)?;
                methods::item(self, &object, &index)
            }
            Expr::Slice(object, parts) => {
                let object = self.expr(object)?;
                let mut values = [Value::None, Value::None, Value::None];
                for (slot, part) in values.iter_mut().zip(parts) {
                    if let Some(part) = part {
                        *slot = self.expr(part)?;
                    }
                }
                methods::slice(self, &object, &values)
            }
            Expr::Call(callee, arguments) => {
                let callee = self.expr(callee)?;
                let args = self.args(arguments)?;
                self.call(&callee, args)
            }
            Expr::Filter(value, filter) => {
                let value = self.expr(value)?;
                let args = self.args(filter)?;
                filters::apply(self, &filter.name, &value, &args)
            }
            Expr::Test(value, test, negated) => {
                let value = self.expr(value)?;
                let args = self.args(test)?;
                Ok(Value::Bool(filters::test(self, &test.name, &value, &args)? != *negated))
            }
            Expr::Not(value) => Ok(Value::Bool(!self.expr(value)?.is_true()?)),
            Expr::Neg(value) | Expr::Pos(value) => {
                let negate = matches!(expr, Expr::Neg(_));
                let value = self.expr(value)?;
                match (value.defined()?, value.int()) {
                    (Value::Float(x), _) => Ok(Value::Float(if negate { -x } else { *x })),
                    (_, Some(n)) => Ok(Value::Int(if negate { n.checked_neg().unwrap_or(n) } else { n })),
                    _ => failed(format!("TypeError: bad operand type for unary -: '{}'", value.type_name())),
                }
            }
            Expr::And(left, right) => {
                let value = self.expr(left)?;
                if value.is_true()? { self.expr(right) } else { Ok(value) }
            }
            Expr::Or(left, right) => {
                let value = self.expr(left)?;
                if value.is_true()? { Ok(value) } else { self.expr(right) }
            }
            Expr::Binary(op, left, right) => {
                let left = self.expr(left)?;
                let right = self.expr(right)?;
                self.binary(*op, &left, &right)
            }
            Expr::Concat(items) => {
                let mut out = String::new();
                for item in items {
                    let value = self.expr(item)?;
                    write_str(&value, &self.meter, &mut out)?;
                }
                self.meter.bytes(out.len())?;
                Ok(Value::str(out))
            }
            Expr::Compare(first, rest) => {
                let mut left = self.expr(first)?;
                for (op, right) in rest {
                    let right = self.expr(right)?;
                    if !self.compare(*op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Cond(test, value, otherwise) => match (self.expr(test)?.is_true()?, otherwise) {
                (true, _) => self.expr(value),
                (false, Some(otherwise)) => self.expr(otherwise),
                (false, None) => Ok(Value::Undefined("the inline if-expression has no else branch".into())),
            },
        }
    }

    pub(super) fn compare(&mut self, op: Compare, left: &Value, right: &Value) -> Outcome<bool> {
        use std::cmp::Ordering::{Greater, Less};
        let size = |v: &Value| match v {
            Value::Str(s) => s.len() / 16,
            Value::List(s) | Value::Tuple(s) => s.items.len(),
            Value::Dict(d) => d.entries().len(),
            _ => 0,
        };
        self.meter.steps(size(left).min(size(right)))?;
        for side in [left, right] {
            if let Value::Unsafe(_) = side {
                side.defined()?;
            }
        }
        if !matches!(op, Compare::In | Compare::NotIn) {
            self.watch.pair(left, right);
        }
        Ok(match op {
            Compare::Eq => left.equals(right),
            Compare::Ne => !left.equals(right),
            Compare::Lt => left.order(right, "<")? == Some(Less),
            Compare::Gt => left.order(right, ">")? == Some(Greater),
            Compare::Le => left.order(right, "<=")?.is_some_and(|o| o != Greater),
            Compare::Ge => left.order(right, ">=")?.is_some_and(|o| o != Less),
            Compare::In => self.contains(right, left)?,
            Compare::NotIn => !self.contains(right, left)?,
        })
    }

    pub(super) fn contains(&mut self, container: &Value, item: &Value) -> Outcome<bool> {
        match container {
            Value::Dict(dict) => self.watch.keys(dict),
            _ => self.watch.pair(container, item),
        }
        match container {
            Value::Str(text) => match item {
                Value::Str(part) => {
                    self.meter.steps(text.len() / 16)?;
                    Ok(text.contains(&**part))
                }
                other => {
                    let kind = other.defined()?.type_name();
                    failed(format!("TypeError: 'in <string>' requires string as left operand, not {kind}"))
                }
            },
            Value::Dict(dict) => Ok(dict.get(item).is_some()),
            Value::List(seq) | Value::Tuple(seq) | Value::Iter(seq, _) => {
                self.meter.steps(seq.items.len())?;
                Ok(seq.items.iter().any(|i| i.equals(item)))
            }
            Value::Range(start, stop, step) => Ok(item.int().is_some_and(|n| {
                let (start, stop, step) = (i128::from(*start), i128::from(*stop), i128::from(*step));
                let inside = if step > 0 { n >= start && n < stop } else { n <= start && n > stop };
                inside && (n - start) % step == 0
            })),
            Value::Undefined(_) => Ok(false),
            Value::Unsafe(_) => container.defined().map(|_| false),
            other => failed(format!("TypeError: argument of type '{}' is not iterable", other.type_name())),
        }
    }

    fn binary(&mut self, op: Binary, left: &Value, right: &Value) -> Outcome<Value> {
        let (left, right) = (left.defined()?, right.defined()?);
        let big = || Err(Fault::Limit("a number above 128 bits"));
        if let (Some(a), Some(b)) = (left.int(), right.int()) {
            let exact = match op {
                Binary::Add => a.checked_add(b),
                Binary::Sub => a.checked_sub(b),
                Binary::Mul => a.checked_mul(b),
                Binary::Div | Binary::FloorDiv | Binary::Mod if b == 0 => {
                    return failed("ZeroDivisionError: division by zero");
                }
                Binary::Div => return Ok(Value::Float(a as f64 / b as f64)),
                Binary::FloorDiv => {
                    a.checked_div_euclid(b).map(|q| if b < 0 && a.rem_euclid(b) != 0 { q - 1 } else { q })
                }
                Binary::Mod => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
                Binary::Pow if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
                Binary::Pow => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            };
            return exact.map_or_else(big, |n| Ok(Value::Int(n)));
        }
        if let (Some(a), Some(b)) = (left.float(), right.float()) {
            if b == 0.0 && matches!(op, Binary::Div | Binary::FloorDiv | Binary::Mod) {
                return failed("ZeroDivisionError: float division by zero");
            }
            return Ok(Value::Float(match op {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
                Binary::Div => a / b,
                Binary::FloorDiv => (a / b).floor(),
                Binary::Mod => a - b * (a / b).floor(),
                Binary::Pow => a.powf(b),
            }));
        }
        match (op, left, right) {
            (Binary::Add, Value::Str(a), Value::Str(b)) => {
                self.meter.bytes(a.len() + b.len())?;
                Ok(Value::str([&**a, &**b].concat()))
            }
            (Binary::Add, Value::List(a), Value::List(b)) => {
                self.meter.bytes((a.items.len() + b.items.len()).saturating_mul(48))?;
                Value::list([&a.items[..], &b.items[..]].concat())
            }
            (Binary::Add, Value::Tuple(a), Value::Tuple(b)) => {
                self.meter.bytes((a.items.len() + b.items.len()).saturating_mul(48))?;
                Value::tuple([&a.items[..], &b.items[..]].concat())
            }
            (Binary::Mul, repeated, count) | (Binary::Mul, count, repeated)
                if count.int().is_some() && matches!(repeated, Value::Str(_) | Value::List(_) | Value::Tuple(_)) =>
            {
                self.repeat(repeated, count.int().unwrap_or(0))
            }
            (Binary::Mod, Value::Str(format), arguments) => percent(format, arguments, &self.meter).map(Value::str),
            (Binary::Add, Value::Str(_), other) => {
                let kind = other.type_name();
                failed(format!("TypeError: can only concatenate str (not \"{kind}\") to str"))
            }
            (Binary::Add, Value::List(_), other) => {
                let kind = other.type_name();
                failed(format!("TypeError: can only concatenate list (not \"{kind}\") to list"))
            }
            _ => {
                let sign = match op {
                    Binary::Add => "+",
                    Binary::Sub => "-",
                    Binary::Mul => "*",
                    Binary::Div => "/",
                    Binary::FloorDiv => "//",
                    Binary::Mod => "%",
                    Binary::Pow => "** or pow()",
                };
                let (a, b) = (left.type_name(), right.type_name());
                failed(format!("TypeError: unsupported operand type(s) for {sign}: '{a}' and '{b}'"))
            }
        }
    }

    fn repeat(&mut self, value: &Value, count: i128) -> Outcome<Value> {
        let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
        match value {
            Value::Str(text) => {
                self.meter.bytes(text.len().saturating_mul(count))?;
                Ok(Value::str(text.repeat(count)))
            }
            Value::List(seq) | Value::Tuple(seq) => {
                self.meter.bytes(seq.items.len().saturating_mul(count).saturating_mul(48))?;
                let items: Vec<Value> = (0..count).flat_map(|_| seq.items.iter().cloned()).collect();
                if matches!(value, Value::List(_)) { Value::list(items) } else { Value::tuple(items) }
            }
            other => Ok(other.clone()),
        }
    }

    pub(super) fn call(&mut self, callee: &Value, args: Args) -> Outcome<Value> {
        match callee.defined()? {
            Value::Function(name) => self.function(name, &args),
            Value::Method(bound) => methods::call(self, &bound.0, &bound.1, &args),
            Value::Macro(m) => self.call_macro(m, args),
            Value::Loop(state) => {
                let Some(node) = &state.recursive else {
                    return failed("TypeError: The loop must have the 'recursive' marker to be called recursively.");
                };
                let items = self.iterate(args.get(0, "iterable").unwrap_or(&Value::None))?;
                let mut out = String::new();
                self.enter()?;
                self.for_loop(node, items, state.depth + 1, &mut out)?;
                self.depth -= 1;
                Ok(Value::str(out))
            }
            Value::Joiner(joiner) => {
                let used = joiner.1.replace(true);
                Ok(Value::Str(if used { joiner.0.clone() } else { "".into() }))
            }
            other => failed(format!("TypeError: '{}' object is not callable", other.type_name())),
        }
    }

    fn function(&mut self, name: &str, args: &Args) -> Outcome<Value> {
        match name {
            "raise_exception" => {
                let message = args.get(0, "message").cloned().unwrap_or(Value::None);
                Err(Fault::Raised(to_str(&message, &self.meter)?))
            }
            "strftime_now" => match args.get(0, "format") {
                Some(Value::Str(format)) => {
                    let text = self.clock.strftime(format, &self.meter)?;
                    self.watch.date(&text);
                    Ok(Value::str(text))
                }
                _ => failed("TypeError: strftime() argument 1 must be str"),
            },
            "range" => {
                let mut numbers = Vec::new();
                for arg in &args.positional {
                    let number = arg.defined()?.int().and_then(|n| i64::try_from(n).ok());
                    let Some(number) = number else {
                        let kind = arg.type_name();
                        return failed(format!("TypeError: '{kind}' object cannot be interpreted as an integer"));
                    };
                    numbers.push(number.clamp(-(1 << 60), 1 << 60));
                }
                let range = match numbers[..] {
                    [stop] => Value::Range(0, stop, 1),
                    [start, stop] => Value::Range(start, stop, 1),
                    [_, _, 0] => return failed("ValueError: range() arg 3 must not be zero"),
                    [start, stop, step] => Value::Range(start, stop, step),
                    _ => return failed("TypeError: range expected 1 to 3 arguments"),
                };
                if range.range_len() > RANGE_MAX {
                    return failed(format!(
                        "OverflowError: Range too big. The sandbox blocks ranges larger than MAX_RANGE={RANGE_MAX}."
                    ));
                }
                Ok(range)
            }
            "dict" | "namespace" => {
                let mut pairs = Vec::new();
                match args.positional.first() {
                    None => {}
                    Some(Value::Dict(dict)) => pairs.extend(dict.entries().iter().cloned()),
                    Some(other) => {
                        for pair in &self.iterate(other)?.items {
                            match &self.iterate(pair)?.items[..] {
                                [key, value] => pairs.push((key.clone(), value.clone())),
                                _ => return failed("ValueError: dictionary update sequence element is no pair"),
                            }
                        }
                    }
                }
                pairs.extend(args.named.iter().map(|(k, v)| (Value::Str(k.clone()), v.clone())));
                self.meter.steps(pairs.len())?;
                if name == "dict" {
                    return Dict::new(pairs).map(Value::Dict);
                }
                let mut space = Space::default();
                for (key, value) in pairs {
                    if let Value::Str(key) = key {
                        check_name(&key)?;
                        space.set(key, value)?;
                    }
                }
                Ok(Value::Namespace(Rc::new(RefCell::new(space))))
            }
            "cycler" if args.positional.is_empty() => failed("RuntimeError: no items for cycling given"),
            "cycler" => {
                Seq::new(args.positional.clone())?; // proves the depth
                Ok(Value::Cycler(Rc::new((args.positional.clone(), Cell::new(0)))))
            }
            "joiner" => {
                let separator = match args.get(0, "sep") {
                    Some(Value::Str(text)) => text.clone(),
                    _ => ", ".into(),
                };
                Ok(Value::Joiner(Rc::new((separator, Cell::new(false)))))
            }
            other => failed(format!("TemplateRuntimeError: '{other}' has no place in a chat template")),
        }
    }

    fn call_macro(&mut self, value: &MacroValue, args: Args) -> Outcome<Value> {
        self.enter()?;
        self.meter.steps(value.captured.len())?;
        let definition = &value.definition;
        let outer = self.base;
        let height = self.scopes.len();
        self.scopes.push(value.captured.iter().cloned().collect());
        self.scopes.push(Scope::new());
        // arguments were evaluated by the caller; defaults see the macro's own scope
        self.base = height;
        let mut positional = args.positional.into_iter();
        let mut named = args.named;
        for (name, default) in &definition.params {
            let given = match positional.next() {
                Some(value) => Some(value),
                None => named.iter().position(|(n, _)| n == name).map(|at| named.swap_remove(at).1),
            };
            let value = match (given, default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.expr(default)?,
                (None, None) => Value::Undefined(format!("parameter '{name}' was not provided").into()),
            };
            self.bind(name.clone(), value);
        }
        if let Some(at) = named.iter().position(|(n, _)| &**n == "caller") {
            let caller = named.swap_remove(at).1;
            self.bind("caller".into(), caller);
        } else {
            self.bind("caller".into(), Value::Undefined("No caller defined".into()));
        }
        self.bind("varargs".into(), Value::tuple(positional.collect())?);
        let kwargs = Dict::new(named.into_iter().map(|(k, v)| (Value::Str(k), v)))?;
        self.bind("kwargs".into(), Value::Dict(kwargs));
        let mut out = String::new();
        self.body(&definition.body, &mut out)?;
        self.scopes.truncate(height);
        self.base = outer;
        self.depth -= 1;
        Ok(Value::str(out))
    }
}

fn check_name(name: &str) -> Outcome<()> {
    if name.starts_with('_') {
        return failed(format!(
            "SecurityError: Chat templates cannot store underscore-prefixed attributes on a namespace, but got '{name}'."
        ));
    }
    Ok(())
}
