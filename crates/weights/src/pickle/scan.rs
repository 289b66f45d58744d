//! What a pickle would import, found without trust in the rest of it.
use super::{Op, ops};
use crate::error::{Error, Result, unsupported};
use std::collections::HashMap;

/// More stack or memo than this is no model's.
const DEPTH_MAX: usize = 1 << 20;

/// One import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Position of the opcode.
    pub at: usize,
    /// The module; `?` where the pickle computes it.
    pub module: String,
    /// The name in the module, perhaps dotted; `?` where the pickle computes it.
    pub name: String,
}

/// Everything in a pickle that reaches outside of it.
#[derive(Debug, Default)]
pub struct Scan {
    /// Imports in the order of the opcodes.
    pub imports: Vec<Import>,
    /// Extension registry codes.
    pub extensions: Vec<i64>,
    /// Objects that live outside of the pickle.
    pub persistent: usize,
    /// Bytes up to and including `STOP`, or to the error.
    pub end: usize,
    /// Why the walk ended early. What stands before has been found all the same.
    pub error: Option<Error>,
}

/// As much of a value as names need.
#[derive(Clone)]
enum Symbol<'a> {
    Mark,
    Text(std::borrow::Cow<'a, str>),
    Other,
}

/// Lists the imports of the pickle at the start of `data`.
pub fn scan(data: &[u8]) -> Scan {
    let mut found = Scan::default();
    let (mut stack, mut memo) = (Vec::new(), HashMap::new());
    let mut walk = ops(data);
    for op in &mut walk {
        let step = op.and_then(|(at, op)| step(at, op, &mut stack, &mut memo, &mut found));
        if let Err(e) = step {
            found.error = Some(e);
            break;
        }
    }
    found.end = walk.at();
    found
}

fn step<'a>(
    at: usize,
    op: Op<'a>,
    stack: &mut Vec<Symbol<'a>>,
    memo: &mut HashMap<u64, Symbol<'a>>,
    found: &mut Scan,
) -> Result<()> {
    if stack.len() > DEPTH_MAX || memo.len() > DEPTH_MAX || found.imports.len() > DEPTH_MAX {
        return Err(unsupported("a pickle of extreme size"));
    }
    let to_mark = |stack: &mut Vec<Symbol>| while !matches!(stack.pop(), Some(Symbol::Mark) | None) {};
    let mut import = |module: &str, name: &str| {
        found.imports.push(Import { at, module: module.to_string(), name: name.to_string() });
    };
    match op {
        Op::Mark => stack.push(Symbol::Mark),
        Op::Stop | Op::Nothing => {}
        Op::Pop | Op::Append | Op::Build => drop(stack.pop()),
        Op::PopMark | Op::Extend | Op::SetItems => to_mark(stack),
        Op::SetItem => stack.truncate(stack.len().saturating_sub(2)),
        Op::Dup => stack.extend(stack.last().cloned()),
        Op::Text(t) => stack.push(Symbol::Text(t)),
        // `_codecs.encode` and the like see bytes where names may be hidden as well.
        Op::Bytes(b) => stack.push(Symbol::Text(String::from_utf8_lossy(b))),
        Op::None | Op::Bool(_) | Op::Int(_) | Op::BigInt | Op::Float(_) | Op::Empty(_) | Op::Buffer => {
            stack.push(Symbol::Other);
        }
        Op::Collect(_) => {
            to_mark(stack);
            stack.push(Symbol::Other);
        }
        Op::TupleOf(n) => {
            stack.truncate(stack.len().saturating_sub(n));
            stack.push(Symbol::Other);
        }
        Op::Put(i) => drop(stack.last().cloned().map(|top| memo.insert(i, top))),
        Op::Memoize => {
            let next = memo.len() as u64;
            stack.last().cloned().map(|top| memo.insert(next, top));
        }
        Op::Get(i) => stack.push(memo.get(&i).cloned().unwrap_or(Symbol::Other)),
        Op::Global(module, name) => {
            import(&module, &name);
            stack.push(Symbol::Other);
        }
        Op::Instance(module, name) => {
            import(&module, &name);
            to_mark(stack);
            stack.push(Symbol::Other);
        }
        Op::StackGlobal => {
            let mut text = || match stack.pop() {
                Some(Symbol::Text(t)) => t.into_owned(),
                _ => "?".to_string(),
            };
            let (name, module) = (text(), text());
            import(&module, &name);
            stack.push(Symbol::Other);
        }
        Op::Reduce | Op::NewObject { keywords: false } => {
            stack.truncate(stack.len().saturating_sub(2));
            stack.push(Symbol::Other);
        }
        Op::NewObject { keywords: true } => {
            stack.truncate(stack.len().saturating_sub(3));
            stack.push(Symbol::Other);
        }
        Op::Object => {
            to_mark(stack);
            stack.push(Symbol::Other);
        }
        Op::Extension(code) => {
            found.extensions.push(code);
            stack.push(Symbol::Other);
        }
        Op::Persistent => {
            found.persistent += 1;
            stack.pop();
            stack.push(Symbol::Other);
        }
        Op::PersistentText(_) => {
            found.persistent += 1;
            stack.push(Symbol::Other);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_found_however_they_are_spelt() {
        let cases: &[(&str, &[u8])] = &[
            ("GLOBAL", b"cos\nsystem\n(S'x'\ntR."),
            ("INST", b"(S'x'\nios\nsystem\n."),
            ("STACK_GLOBAL", b"\x80\x04\x8c\x02os\x8c\x06system\x93."),
            ("STACK_GLOBAL from the memo", b"\x80\x04\x8c\x06system\x940\x8c\x02os\x940h\x01h\x00\x93."),
            ("escaped", b"V\\u006fs\nV\\u0073ystem\n\x93."),
            ("before a broken opcode", b"cos\nsystem\n)R\xff"),
            ("after an underflow", b"000RRRbcos\nsystem\n."),
        ];
        for (name, data) in cases {
            let found = scan(data);
            let os = |i: &Import| (&*i.module, &*i.name) == ("os", "system");
            assert!(found.imports.iter().any(os), "{name}: {found:?}");
        }
        assert_eq!(scan(b"\x82\x07.").extensions, [7]);
        assert!(scan(b"cos\nsystem\n)R\xff").error.is_some());
        let computed = scan(b"\x80\x04NN\x93.");
        assert_eq!((&*computed.imports[0].module, &*computed.imports[0].name), ("?", "?"));
    }
}
