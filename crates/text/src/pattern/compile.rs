//! The tree to a program.

use super::parse::{Node, Parser};
use super::{Class, First, Flavour, Inst, Mode, Pattern};
use crate::error::{Error, Result};

/// Instructions that a pattern may take: published ones need a few hundred.
const PROGRAM_MAX: usize = 20_000;

struct Compiler<'c> {
    program: Vec<Inst>,
    classes: &'c [Class],
    slots: usize,
}

pub(super) fn compile(source: &str, flavour: Flavour) -> Result<Pattern> {
    if source.len() > 1 << 16 {
        return Err(Error::invalid(format!("pattern of {} bytes: at most 65536 are read", source.len())));
    }
    let mut parser = Parser::new(source, flavour);
    let tree = parser.parse()?;
    let classes = std::mem::take(&mut parser.classes);
    let mut compiler = Compiler { program: Vec::new(), classes: &classes, slots: 0 };
    compiler.emit(&tree)?;
    compiler.push(Inst::Match)?;
    let (program, slots, first) = (std::mem::take(&mut compiler.program), compiler.slots, compiler.first(&tree));
    Ok(Pattern { program, classes, word: Class::named(r"\w"), slots, first })
}

impl Compiler<'_> {
    fn push(&mut self, inst: Inst) -> Result<usize> {
        if self.program.len() >= PROGRAM_MAX {
            return Err(Error::invalid(format!("pattern: unrolls to more than {PROGRAM_MAX} steps")));
        }
        self.program.push(inst);
        Ok(self.program.len() - 1)
    }

    fn patch(&mut self, at: usize, target: usize) {
        match &mut self.program[at] {
            Inst::Split { second, .. } => *second = target,
            Inst::Look { next, .. } | Inst::Atomic { next } => *next = target,
            Inst::Jump(to) => *to = target,
            _ => {}
        }
    }

    fn emit(&mut self, node: &Node) -> Result<()> {
        match node {
            Node::Class(class) => self.push(Inst::One(*class)).map(|_| ()),
            Node::Assert(assert) => self.push(Inst::Assert(*assert)).map(|_| ()),
            Node::Concat(items) => items.iter().try_for_each(|item| self.emit(item)),
            Node::Alternate(branches) => self.alternate(branches),
            Node::Atomic(node) => self.enclosed(Inst::Atomic { next: 0 }, node),
            Node::Look { node, behind, negate } => {
                let behind = match behind {
                    true => Some(
                        self.width(node)
                            .ok_or_else(|| Error::unsupported("pattern: a lookbehind of varying length"))?,
                    ),
                    false => None,
                };
                self.enclosed(Inst::Look { behind, negate: *negate, next: 0 }, node)
            }
            Node::Repeat { node, min, max, mode } => self.repeat(node, *min, *max, *mode),
        }
    }

    fn enclosed(&mut self, opening: Inst, body: &Node) -> Result<()> {
        let at = self.push(opening)?;
        self.emit(body)?;
        self.push(Inst::Match)?;
        self.patch(at, self.program.len());
        Ok(())
    }

    fn alternate(&mut self, branches: &[Node]) -> Result<()> {
        let mut ends = Vec::new();
        for (n, branch) in branches.iter().enumerate() {
            if n + 1 == branches.len() {
                self.emit(branch)?;
                break;
            }
            let filter = self.first(branch);
            let split = self.push(Inst::Split { first: self.program.len() + 1, second: 0, filter })?;
            self.emit(branch)?;
            ends.push(self.push(Inst::Jump(0))?);
            self.patch(split, self.program.len());
        }
        for end in ends {
            self.patch(end, self.program.len());
        }
        Ok(())
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>, mode: Mode) -> Result<()> {
        if let Node::Class(class) = node {
            let run = Inst::Run { class: *class, min, max: max.unwrap_or(u32::MAX), mode };
            return self.push(run).map(|_| ());
        }
        if mode == Mode::Possessive {
            let greedy = Node::Repeat { node: Box::new(node.clone()), min, max, mode: Mode::Greedy };
            return self.enclosed(Inst::Atomic { next: 0 }, &greedy);
        }
        for _ in 0..min {
            self.emit(node)?;
        }
        match max {
            None => self.endless(node, mode),
            Some(max) => {
                let mut exits = Vec::new();
                for _ in min..max {
                    exits.push(self.choice(node, mode)?);
                    self.emit(node)?;
                }
                for exit in exits {
                    self.leave(exit, mode);
                }
                Ok(())
            }
        }
    }

    fn endless(&mut self, node: &Node, mode: Mode) -> Result<()> {
        let head = self.choice(node, mode)?;
        let slot = self.first(node).empty.then(|| {
            self.slots += 1;
            self.slots - 1
        });
        if let Some(slot) = slot {
            self.push(Inst::LoopStart(slot))?;
        }
        self.emit(node)?;
        if let Some(slot) = slot {
            self.push(Inst::LoopEnd(slot))?;
        }
        self.push(Inst::Jump(head))?;
        self.leave(head, mode);
        Ok(())
    }

    /// A fork between the body, which follows, and the exit, which `leave` fills in.
    fn choice(&mut self, node: &Node, mode: Mode) -> Result<usize> {
        let body = self.program.len() + 1;
        let any = First { ascii: u128::MAX, other: true, empty: true };
        match mode {
            Mode::Lazy => self.push(Inst::Split { first: 0, second: body, filter: any }),
            _ => self.push(Inst::Split { first: body, second: 0, filter: self.first(node) }),
        }
    }

    fn leave(&mut self, at: usize, mode: Mode) {
        let end = self.program.len();
        if let Inst::Split { first, second, .. } = &mut self.program[at] {
            if mode == Mode::Lazy { *first = end } else { *second = end }
        }
    }

    fn first(&self, node: &Node) -> First {
        let none = First { ascii: 0, other: false, empty: true };
        match node {
            Node::Class(class) => {
                let class = &self.classes[*class];
                First { ascii: class.ascii, other: !class.ranges.is_empty(), empty: false }
            }
            Node::Assert(_) | Node::Look { .. } => none,
            Node::Atomic(node) => self.first(node),
            Node::Repeat { node, min, .. } => {
                let first = self.first(node);
                First { empty: first.empty || *min == 0, ..first }
            }
            Node::Alternate(branches) => {
                let start = First { empty: false, ..none };
                branches.iter().map(|b| self.first(b)).fold(start, |a, b| First {
                    ascii: a.ascii | b.ascii,
                    other: a.other || b.other,
                    empty: a.empty || b.empty,
                })
            }
            Node::Concat(items) => {
                let mut all = none;
                for item in items {
                    let first = self.first(item);
                    all.ascii |= first.ascii;
                    all.other |= first.other;
                    all.empty = first.empty;
                    if !first.empty {
                        break;
                    }
                }
                all
            }
        }
    }

    /// Characters that a node always takes, if it is always the same number.
    fn width(&self, node: &Node) -> Option<usize> {
        match node {
            Node::Class(_) => Some(1),
            Node::Assert(_) | Node::Look { .. } => Some(0),
            Node::Atomic(node) => self.width(node),
            Node::Concat(items) => items.iter().map(|i| self.width(i)).sum(),
            Node::Alternate(branches) => {
                let mut widths = branches.iter().map(|b| self.width(b));
                let first = widths.next()??;
                widths.all(|w| w == Some(first)).then_some(first)
            }
            Node::Repeat { node, min, max, .. } => {
                let count = usize::try_from(*min).ok().filter(|_| *max == Some(*min))?;
                self.width(node)?.checked_mul(count)
            }
        }
    }
}
