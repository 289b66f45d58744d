//! The machine that builds a checkpoint's tensors from a pickle. It knows a closed set of constructors, each of
//! which only arranges data; every other import is an error that names it.
//!
//! All values live in one arena and are referred to by number: no recursion, no cycles to free. Memory is counted
//! in cells and bounded by the bytes of the file.
use super::{Container, Op, ops};
use crate::{
    Error, ErrorKind,
    error::{Result, invalid, quoted, unsupported},
};
use pondera_quant::Format;
use std::collections::HashSet;

/// Cells that any pickle may use; a cell is a value of 16 bytes, what containers cost is counted in them.
const CELLS_MIN: usize = 1_500_000;
/// Most dimensions, as in PyTorch.
const RANK_MAX: usize = 64;
/// Farthest that a memo index may lie beyond the memo's end.
const MEMO_GAP_MAX: usize = 1024;
/// Cells that a named tensor costs on its way out of the machine.
const NAMED_CELLS: usize = 20;

/// The element type of a storage or tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// One that engines read.
    Known(Format),
    /// One that PyTorch has and nothing here reads.
    Unsupported(&'static str),
    /// Bytes, whose type the tensor gives.
    Untyped,
}

/// A piece of memory that the checkpoint holds outside of the pickle.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageRecord {
    /// Its name in the checkpoint.
    pub key: String,
    /// Its elements.
    pub dtype: Dtype,
    /// Number of elements.
    pub elements: usize,
    /// Where it is a part of a longer storage: first element. The part has `elements`.
    pub view: Option<ViewRecord>,
}

/// A part of a storage, as the oldest checkpoints know it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ViewRecord {
    /// First element of the part.
    pub offset: usize,
    /// Number of elements of the part.
    pub elements: usize,
}

/// A tensor over a storage.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRecord {
    /// Position in [`Loaded::storages`].
    pub storage: usize,
    /// Its elements.
    pub dtype: Dtype,
    /// First element in the storage.
    pub offset: usize,
    /// Dimensions, outermost first.
    pub shape: Box<[usize]>,
    /// Elements from one index to the next in each dimension.
    pub strides: Box<[usize]>,
}

/// What a checkpoint's pickle holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The storages that tensors refer to.
    pub storages: Vec<StorageRecord>,
    /// The named tensors, in the order of the pickle.
    pub tensors: Vec<(String, TensorRecord)>,
    /// Where the pickle is a list of texts: those (the oldest checkpoints list their storages so).
    pub texts: Vec<String>,
    /// Where the pickle is a dict with `little_endian`: that.
    pub little_endian: Option<bool>,
    /// Where the pickle is an integer that fits 64 bits: that.
    pub integer: Option<i64>,
    /// Bytes up to and including `STOP`.
    pub end: usize,
}

/// A constructor of the closed set.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Constructor {
    /// A dict, perhaps from pairs.
    Dict,
    /// A tuple of the argument.
    Size,
    /// (storage, offset, size, stride, …); the third version adds (requires_grad, hooks, dtype, …).
    Tensor { version: u8 },
    /// (tensor, requires_grad, hooks).
    Parameter,
    /// (constructor, class, arguments, state).
    FromType,
    /// A class of storages, or a dtype.
    Element(Dtype),
    /// Something that carries no weights: made and forgotten.
    Plain,
    /// A tensor of a kind that nothing here reads.
    Refused,
}

const fn known(format: Format) -> Constructor {
    Constructor::Element(Dtype::Known(format))
}

const fn refused(name: &'static str) -> Constructor {
    Constructor::Element(Dtype::Unsupported(name))
}

/// The closed set: module, name, meaning. PyTorch's own `weights_only` list is its model.
const CONSTRUCTORS: &[(&str, &str, Constructor)] = {
    use Constructor::*;
    use Format::*;
    &[
        ("collections", "OrderedDict", Dict),
        ("collections", "Counter", Dict),
        ("collections", "defaultdict", Dict),
        ("torch", "Size", Size),
        ("torch._utils", "_rebuild_tensor", Tensor { version: 1 }),
        ("torch._utils", "_rebuild_tensor_v2", Tensor { version: 2 }),
        ("torch._utils", "_rebuild_tensor_v3", Tensor { version: 3 }),
        ("torch._utils", "_rebuild_parameter", Parameter),
        ("torch._utils", "_rebuild_parameter_with_state", Parameter),
        ("torch._tensor", "_rebuild_from_type_v2", FromType),
        ("torch._utils", "_rebuild_qtensor", Refused),
        ("torch._utils", "_rebuild_sparse_tensor", Refused),
        ("torch._utils", "_rebuild_sparse_csr_tensor", Refused),
        ("torch._utils", "_rebuild_nested_tensor", Refused),
        ("torch._utils", "_rebuild_meta_tensor_no_storage", Refused),
        ("torch", "DoubleStorage", known(F64)),
        ("torch", "FloatStorage", known(F32)),
        ("torch", "HalfStorage", known(F16)),
        ("torch", "BFloat16Storage", known(BF16)),
        ("torch", "LongStorage", known(I64)),
        ("torch", "IntStorage", known(I32)),
        ("torch", "ShortStorage", known(I16)),
        ("torch", "CharStorage", known(I8)),
        ("torch", "ByteStorage", known(U8)),
        ("torch", "BoolStorage", known(Bool)),
        ("torch", "ComplexFloatStorage", refused("complex64")),
        ("torch", "ComplexDoubleStorage", refused("complex128")),
        ("torch", "QInt8Storage", refused("qint8")),
        ("torch", "QUInt8Storage", refused("quint8")),
        ("torch", "QInt32Storage", refused("qint32")),
        ("torch", "QUInt4x2Storage", refused("quint4x2")),
        ("torch", "QUInt2x4Storage", refused("quint2x4")),
        ("torch", "UntypedStorage", Element(Dtype::Untyped)),
        ("torch.storage", "UntypedStorage", Element(Dtype::Untyped)),
        ("torch.storage", "_UntypedStorage", Element(Dtype::Untyped)),
        ("torch", "float64", known(F64)),
        ("torch", "float32", known(F32)),
        ("torch", "float16", known(F16)),
        ("torch", "bfloat16", known(BF16)),
        ("torch", "float8_e4m3fn", known(F8E4M3)),
        ("torch", "float8_e5m2", known(F8E5M2)),
        ("torch", "float8_e8m0fnu", known(F8E8M0)),
        ("torch", "int64", known(I64)),
        ("torch", "int32", known(I32)),
        ("torch", "int16", known(I16)),
        ("torch", "int8", known(I8)),
        ("torch", "uint64", known(U64)),
        ("torch", "uint32", known(U32)),
        ("torch", "uint16", known(U16)),
        ("torch", "uint8", known(U8)),
        ("torch", "bool", known(Bool)),
        ("torch", "float8_e4m3fnuz", refused("float8_e4m3fnuz")),
        ("torch", "float8_e5m2fnuz", refused("float8_e5m2fnuz")),
        ("torch", "float4_e2m1fn_x2", refused("float4_e2m1fn_x2")),
        ("torch", "complex32", refused("complex32")),
        ("torch", "complex64", refused("complex64")),
        ("torch", "complex128", refused("complex128")),
        ("torch", "device", Plain),
        ("torch", "Tensor", Plain),
        ("torch.nn.parameter", "Parameter", Plain),
        ("torch.serialization", "_get_layout", Plain),
        ("_codecs", "encode", Plain),
        ("builtins", "set", Plain),
        ("builtins", "frozenset", Plain),
        ("builtins", "bytearray", Plain),
        ("builtins", "complex", Plain),
        ("builtins", "dict", Plain),
        ("builtins", "int", Plain),
        ("builtins", "float", Plain),
        ("builtins", "list", Plain),
        ("__builtin__", "set", Plain),
        ("__builtin__", "frozenset", Plain),
        ("__builtin__", "bytearray", Plain),
        ("__builtin__", "complex", Plain),
        ("__builtin__", "long", Plain),
    ]
};

fn find(module: &str, name: &str) -> Option<u32> {
    let i = CONSTRUCTORS.iter().position(|c| (c.0, c.1) == (module, name))?;
    u32::try_from(i).ok()
}

/// Whether `module.name` is in the closed set of constructors, none of which does anything.
pub fn is_known(module: &str, name: &str) -> bool {
    find(module, name).is_some()
}

/// A value on the stack: small, copied freely, the rest in the arena.
#[derive(Clone, Copy, Debug)]
enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Anything without a meaning for weights.
    Plain,
    Text(u32),
    /// Tuples and lists.
    List(u32),
    Dict(u32),
    Constructor(u32),
    Storage(u32),
    Tensor(u32),
}

#[derive(Default)]
struct Machine {
    stack: Vec<Value>,
    /// Stack heights at the marks.
    marks: Vec<usize>,
    /// Writers number the memo from 0 on, so a list holds it.
    memo: Vec<Option<Value>>,
    texts: Vec<Box<str>>,
    lists: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<StorageRecord>,
    tensors: Vec<TensorRecord>,
    /// Cells that may still be used.
    cells: usize,
}

/// Runs the pickle at the start of `data`, a part of a file of `file_len` bytes.
pub fn load(data: &[u8], file_len: usize) -> Result<Loaded> {
    let mut m = Machine { cells: CELLS_MIN + file_len / 5, ..Machine::default() };
    let mut walk = ops(data);
    while let Some(op) = walk.next() {
        let (at, op) = op?;
        if op == Op::Stop {
            let top = m.pop()?;
            return m.finish(top, walk.at());
        }
        m.step(op).map_err(|e| match e.kind() {
            ErrorKind::Invalid => invalid(format!("pickle, byte {at}: {e}")),
            _ => e,
        })?;
    }
    Err(invalid("a pickle without an end"))
}

impl Machine {
    fn step(&mut self, op: Op) -> Result<()> {
        match op {
            Op::Mark => {
                self.spend(1)?;
                self.marks.push(self.stack.len());
            }
            Op::Stop | Op::Nothing => {}
            Op::Pop => {
                // Python lets this opcode drop a mark, too.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            Op::PopMark => drop(self.take_to_mark()?),
            Op::Dup => {
                let top = self.top()?;
                self.push(top)?;
            }
            Op::None => self.push(Value::None)?,
            Op::Bool(b) => self.push(Value::Bool(b))?,
            Op::Int(n) => self.push(Value::Int(n))?,
            Op::BigInt | Op::Float(_) | Op::Bytes(_) | Op::Empty(Container::Set) => self.push(Value::Plain)?,
            Op::Text(t) => {
                let text = self.text(&t)?;
                self.push(text)?;
            }
            Op::Empty(Container::Dict) => {
                let dict = self.dict(Vec::new())?;
                self.push(dict)?;
            }
            Op::Empty(_) => {
                let list = self.list(Vec::new())?;
                self.push(list)?;
            }
            Op::Collect(kind) => self.collect(kind)?,
            Op::TupleOf(n) => {
                let from = self.floor(n)?;
                let items = self.stack.split_off(from);
                let tuple = self.list(items)?;
                self.push(tuple)?;
            }
            Op::Append => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            Op::Extend => {
                let items = self.take_to_mark()?;
                self.extend(items)?;
            }
            Op::SetItem => {
                let from = self.floor(2)?;
                let items = self.stack.split_off(from);
                self.set_items(items)?;
            }
            Op::SetItems => {
                let items = self.take_to_mark()?;
                self.set_items(items)?;
            }
            Op::Put(i) => self.put(i)?,
            Op::Memoize => self.put(self.memo.len() as u64)?,
            Op::Get(i) => {
                let value = usize::try_from(i).ok().and_then(|i| *self.memo.get(i)?);
                let value = value.ok_or_else(|| invalid(format!("nothing at {i} of the memo")))?;
                self.push(value)?;
            }
            Op::Global(module, name) => {
                let c = constructor(&module, &name)?;
                self.push(c)?;
            }
            Op::StackGlobal => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err(unsafe_data("imports something whose name it computes"));
                };
                let c = constructor(self.text_at(module), self.text_at(name))?;
                self.push(c)?;
            }
            Op::Reduce | Op::NewObject { keywords: false } => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let made = self.call(callee, arguments)?;
                self.push(made)?;
            }
            Op::NewObject { keywords: true } => return Err(unsafe_data("makes an object with keywords")),
            Op::Instance(module, name) => {
                let items = self.take_to_mark()?;
                let arguments = self.list(items)?;
                let made = self.call(constructor(&module, &name)?, arguments)?;
                self.push(made)?;
            }
            Op::Object => {
                let mut items = self.take_to_mark()?;
                if items.is_empty() {
                    return Err(invalid("an object without a class"));
                }
                let callee = items.remove(0);
                let arguments = self.list(items)?;
                let made = self.call(callee, arguments)?;
                self.push(made)?;
            }
            // The state of a dict (`_metadata` of a state dict) or tensor: attributes, which no weight needs.
            Op::Build => {
                self.pop()?;
            }
            Op::Extension(code) => {
                return Err(unsafe_data(&format!("takes object {code} from the extension registry")));
            }
            Op::Persistent => {
                let id = self.pop()?;
                let storage = self.persistent(id)?;
                self.push(storage)?;
            }
            Op::PersistentText(_) => return Err(unsafe_data("takes an object by a name of its own")),
            Op::Buffer => return Err(unsupported("a pickle with buffers outside of it")),
        }
        Ok(())
    }

    /// Takes `n` cells from the budget.
    fn spend(&mut self, n: usize) -> Result<()> {
        let left = self.cells.checked_sub(n);
        self.cells = left.ok_or_else(|| unsupported("the pickle would take far more memory than its file"))?;
        Ok(())
    }

    fn push(&mut self, v: Value) -> Result<()> {
        self.spend(1)?;
        self.stack.push(v);
        Ok(())
    }

    /// Lowest height of the stack above the last mark.
    fn floor(&self, n: usize) -> Result<usize> {
        let base = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(n).filter(|&from| from >= base);
        from.ok_or_else(|| invalid("the stack is empty"))
    }

    fn pop(&mut self) -> Result<Value> {
        let at = self.floor(1)?;
        self.cells += 1;
        self.stack.drain(at..).next().ok_or_else(|| invalid("the stack is empty"))
    }

    fn top(&self) -> Result<Value> {
        let at = self.floor(1)?;
        self.stack.get(at).copied().ok_or_else(|| invalid("the stack is empty"))
    }

    /// Everything above the last mark, which goes too. Its cells stay spent: it moves into a container.
    fn take_to_mark(&mut self) -> Result<Vec<Value>> {
        let from = self.marks.pop().ok_or_else(|| invalid("no mark on the stack"))?;
        Ok(self.stack.split_off(from.min(self.stack.len())))
    }

    fn text(&mut self, t: &str) -> Result<Value> {
        self.spend(3 + t.len() / 16)?;
        self.texts.push(t.into());
        number(self.texts.len()).map(Value::Text)
    }

    fn list(&mut self, items: Vec<Value>) -> Result<Value> {
        self.spend(4)?;
        self.lists.push(items);
        number(self.lists.len()).map(Value::List)
    }

    fn dict(&mut self, items: Vec<(Value, Value)>) -> Result<Value> {
        self.spend(4)?;
        self.dicts.push(items);
        number(self.dicts.len()).map(Value::Dict)
    }

    fn collect(&mut self, kind: Container) -> Result<()> {
        let items = self.take_to_mark()?;
        let made = match kind {
            Container::Tuple | Container::List => self.list(items)?,
            Container::Set => Value::Plain,
            Container::Dict => {
                let dict = self.dict(Vec::new())?;
                self.push(dict)?;
                return self.set_items(items);
            }
        };
        self.push(made)
    }

    /// Adds to the list (or set) on top.
    fn extend(&mut self, items: Vec<Value>) -> Result<()> {
        self.spend(items.len())?;
        match self.top()? {
            Value::List(i) => at_mut(&mut self.lists, i)?.extend(items),
            Value::Plain => {}
            _ => return Err(invalid("appends to something that is no list")),
        }
        Ok(())
    }

    /// Adds pairs to the dict on top.
    fn set_items(&mut self, items: Vec<Value>) -> Result<()> {
        self.spend(items.len())?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(invalid("a dict's key without a value"));
        }
        match self.top()? {
            Value::Dict(i) => at_mut(&mut self.dicts, i)?.extend(pairs.iter().map(|[k, v]| (*k, *v))),
            Value::Plain => {}
            _ => return Err(invalid("sets an item of something that is no dict")),
        }
        Ok(())
    }

    fn put(&mut self, i: u64) -> Result<()> {
        let top = self.top()?;
        let len = self.memo.len();
        let i = usize::try_from(i).ok().filter(|&i| i <= len.saturating_add(MEMO_GAP_MAX));
        let i = i.ok_or_else(|| invalid(format!("memo index far beyond the {len} before it")))?;
        if i >= len {
            self.spend(2 * (i + 1 - len))?;
            self.memo.resize(i + 1, None);
        }
        if let Some(place) = self.memo.get_mut(i) {
            *place = Some(top);
        }
        Ok(())
    }

    fn text_at(&self, i: u32) -> &str {
        usize::try_from(i).ok().and_then(|i| self.texts.get(i)).map_or("", |t| t)
    }

    fn items(&self, v: Value) -> Result<&[Value]> {
        match v {
            Value::List(i) => at(&self.lists, i).map(Vec::as_slice),
            _ => Err(invalid("expected a tuple")),
        }
    }

    fn call(&mut self, callee: Value, arguments: Value) -> Result<Value> {
        let Value::Constructor(c) = callee else {
            return Err(unsafe_data("calls something that is no constructor"));
        };
        let (_, name, constructor) = *at(CONSTRUCTORS, c)?;
        match constructor {
            Constructor::Dict => self.make_dict(arguments),
            Constructor::Size => {
                self.items(arguments)?.first().copied().ok_or_else(|| invalid("an empty torch.Size()"))
            }
            Constructor::Tensor { version } => {
                let t = self.tensor(version, arguments).map_err(|e| invalid(format!("torch.{name}: {e}")))?;
                self.spend(8 + t.shape.len())?;
                self.tensors.push(t);
                number(self.tensors.len()).map(Value::Tensor)
            }
            Constructor::Parameter => match self.items(arguments)?.first() {
                Some(t @ Value::Tensor(_)) => Ok(*t),
                _ => Err(invalid("a parameter of something that is no tensor")),
            },
            Constructor::FromType => match *self.items(arguments)? {
                [callee @ Value::Constructor(c), _, arguments, ..]
                    if !matches!(at(CONSTRUCTORS, c)?.2, Constructor::FromType) =>
                {
                    self.call(callee, arguments)
                }
                _ => Err(invalid("torch._rebuild_from_type_v2: arguments that it does not take")),
            },
            Constructor::Plain => Ok(Value::Plain),
            Constructor::Refused => Err(unsupported(format!("a tensor made by torch.{name} is not supported"))
                .hint("save the model again with dense tensors")),
            Constructor::Element(_) => Err(unsafe_data(&format!("calls torch.{name}"))),
        }
    }

    /// A dict, empty or from a list of pairs. A `defaultdict`'s factory and a `Counter`'s dict are passed over.
    fn make_dict(&mut self, arguments: Value) -> Result<Value> {
        let mut pairs = Vec::new();
        match *self.items(arguments)? {
            [Value::List(list)] => {
                for pair in at(&self.lists, list)? {
                    match *self.items(*pair)? {
                        [key, value] => pairs.push((key, value)),
                        _ => return Err(invalid("a dict from something that is no pair")),
                    }
                }
            }
            [dict @ Value::Dict(_)] => return Ok(dict),
            _ => {}
        }
        self.spend(2 * pairs.len())?;
        self.dict(pairs)
    }

    /// `('storage', class, key, location, elements[, view])`.
    fn persistent(&mut self, id: Value) -> Result<Value> {
        let what = || unsafe_data("takes an object from outside that is no storage");
        let items = self.items(id).map_err(|_| what())?;
        let [Value::Text(kind), Value::Constructor(class), key, _, Value::Int(elements), ref rest @ ..] = *items else {
            return Err(what());
        };
        let Constructor::Element(dtype) = at(CONSTRUCTORS, class)?.2 else { return Err(what()) };
        if self.text_at(kind) != "storage" {
            return Err(what());
        }
        let view = match *rest {
            [] | [Value::None] => None,
            [view] => match *self.items(view)? {
                [_, Value::Int(offset), Value::Int(elements)] => {
                    Some(ViewRecord { offset: natural(offset)?, elements: natural(elements)? })
                }
                _ => return Err(invalid("a view of a storage that is none")),
            },
            _ => return Err(what()),
        };
        let key = match key {
            Value::Text(t) => self.text_at(t).to_string(),
            Value::Int(n) => n.to_string(),
            _ => return Err(what()),
        };
        self.spend(6 + key.len() / 16)?;
        self.storages.push(StorageRecord { key, dtype, elements: natural(elements)?, view });
        number(self.storages.len()).map(Value::Storage)
    }

    fn tensor(&self, version: u8, arguments: Value) -> Result<TensorRecord> {
        let items = self.items(arguments)?;
        let [Value::Storage(storage), Value::Int(offset), size, stride, ref rest @ ..] = *items else {
            return Err(invalid("expected (storage, offset, size, stride)"));
        };
        let dtype = match (version, rest) {
            (3, [_, _, Value::Constructor(c), ..]) => match at(CONSTRUCTORS, *c)?.2 {
                Constructor::Element(dtype) => dtype,
                _ => return Err(invalid("expected a dtype")),
            },
            (3, _) => return Err(invalid("expected a dtype")),
            _ => at(&self.storages, storage)?.dtype,
        };
        let (shape, strides) = (self.dims(size)?, self.dims(stride)?);
        if shape.len() != strides.len() {
            return Err(invalid(format!("{} dimensions, but {} strides", shape.len(), strides.len())));
        }
        let storage = usize::try_from(storage).map_err(|_| invalid("out of range"))?;
        Ok(TensorRecord { storage, dtype, offset: natural(offset)?, shape, strides })
    }

    fn dims(&self, v: Value) -> Result<Box<[usize]>> {
        let items = self.items(v)?;
        if items.len() > RANK_MAX {
            return Err(invalid(format!("expected at most {RANK_MAX} dimensions, got {}", items.len())));
        }
        let dim = |v: &Value| match v {
            Value::Int(n) => natural(*n),
            _ => Err(invalid("a dimension that is no integer")),
        };
        items.iter().map(dim).collect()
    }

    /// Takes the named tensors out of the finished value: a state dict, or a checkpoint that holds one.
    fn finish(mut self, top: Value, end: usize) -> Result<Loaded> {
        const NESTED: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];
        let mut loaded = Loaded { end, ..Loaded::default() };
        match top {
            Value::Dict(dict) => {
                let entries = at(&self.dicts, dict)?;
                let text = |key: &Value| if let Value::Text(t) = key { self.text_at(*t) } else { "" };
                loaded.little_endian = entries.iter().find_map(|(k, v)| match v {
                    Value::Bool(b) if text(k) == "little_endian" => Some(*b),
                    _ => None,
                });
                let nested = |name: &&str| {
                    entries.iter().find_map(|(k, v)| match v {
                        Value::Dict(d) if text(k) == *name => Some(*d),
                        _ => None,
                    })
                };
                let nested: Vec<u32> = NESTED.iter().filter_map(nested).collect();
                for dict in [dict].into_iter().chain(nested) {
                    if loaded.tensors.is_empty() {
                        loaded.tensors = self.named(dict)?;
                    }
                }
            }
            Value::List(i) => {
                for v in at(&self.lists, i)? {
                    if let Value::Text(t) = v {
                        loaded.texts.push(self.text_at(*t).to_string());
                    }
                }
            }
            Value::Int(n) => loaded.integer = Some(n),
            _ => {}
        }
        loaded.storages = std::mem::take(&mut self.storages);
        Ok(loaded)
    }

    fn named(&mut self, dict: u32) -> Result<Vec<(String, TensorRecord)>> {
        let pairs = at(&self.dicts, dict)?.iter().filter_map(|pair| match *pair {
            (Value::Text(name), Value::Tensor(t)) => Some((name, t)),
            _ => None,
        });
        let pairs: Vec<(u32, u32)> = pairs.collect();
        self.spend(NAMED_CELLS.saturating_mul(pairs.len()))?;
        // The same text used twice is told before it is copied: a long one costs its bytes once.
        let (mut named, mut seen) = (Vec::new(), HashSet::new());
        for (name, t) in pairs {
            let text = self.text_at(name);
            if !seen.insert(name) {
                return Err(invalid("the checkpoint names this tensor twice").of(text));
            }
            named.push((text.to_string(), at(&self.tensors, t)?.clone()));
        }
        Ok(named)
    }
}

fn constructor(module: &str, name: &str) -> Result<Value> {
    find(module, name).map(Value::Constructor).ok_or_else(|| {
        unsafe_data(&format!("imports {}.{}, which is no part of a tensor file", quoted(module), quoted(name)))
    })
}

fn unsafe_data(what: &str) -> Error {
    Error::new(ErrorKind::Unsafe, format!("the pickle {what}; nothing was run"))
        .hint("do not load this file elsewhere; look for the model as safetensors")
}

/// Position of the last of `len` items.
fn number(len: usize) -> Result<u32> {
    len.checked_sub(1).and_then(|n| u32::try_from(n).ok()).ok_or_else(|| unsupported("a pickle of extreme size"))
}

fn natural(n: i64) -> Result<usize> {
    usize::try_from(n).map_err(|_| invalid(format!("expected a number of elements, got {n}")))
}

fn at<T>(items: &[T], i: u32) -> Result<&T> {
    usize::try_from(i).ok().and_then(|i| items.get(i)).ok_or_else(|| invalid("a value that is not there"))
}

fn at_mut<T>(items: &mut [T], i: u32) -> Result<&mut T> {
    usize::try_from(i).ok().and_then(|i| items.get_mut(i)).ok_or_else(|| invalid("a value that is not there"))
}
