//! Tokens to a tree, after jinja2's grammar. Nesting is bounded here, so nothing later can recurse without end.

use super::ast::{Binary, Call, Compare, Expr, For, Macro, Stmt, Target};
use super::lexer::{Token, lex};
use super::value::Const;
use super::{Fault, Outcome, SOURCE_MAX, failed};
use std::rc::Rc;

/// Nesting of expressions and statements, at most.
const DEPTH_MAX: usize = 120;

pub(super) fn parse(source: &str) -> Outcome<Vec<Stmt>> {
    if source.len() > SOURCE_MAX {
        return Err(Fault::Limit("the source is larger than 4 MiB"));
    }
    let mut parser = Parser { tokens: lex(source)?, at: 0, depth: 0, source };
    let body = parser.body(&[])?;
    match parser.peek() {
        None => Ok(body),
        Some(_) => parser.fail("unexpected end of a block"),
    }
}

struct Parser<'s> {
    tokens: Vec<(Token, u32)>,
    at: usize,
    depth: usize,
    source: &'s str,
}

/// Makes one expression of two operands.
type Join = fn(Box<Expr>, Box<Expr>) -> Expr;

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.0)
    }

    fn fail<T>(&self, what: &str) -> Outcome<T> {
        let at = self.tokens.get(self.at.min(self.tokens.len().saturating_sub(1))).map_or(0, |t| t.1 as usize);
        let line = self.source.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
        failed(format!("syntax error near line {line}: {what}"))
    }

    fn enter(&mut self) -> Outcome<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(Fault::Limit("nested too deeply")) } else { Ok(()) }
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Token::Op(o)) if *o == op)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(n)) if n == name)
    }

    fn eat_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    fn eat_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn want_op(&mut self, op: &str) -> Outcome<()> {
        if self.eat_op(op) { Ok(()) } else { self.fail(&format!("expected '{op}'")) }
    }

    fn want_name(&mut self) -> Outcome<Rc<str>> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = Rc::from(name.as_str());
                self.at += 1;
                Ok(name)
            }
            _ => self.fail("expected a name"),
        }
    }

    fn block_end(&mut self) -> Outcome<()> {
        match self.peek() {
            Some(Token::BlockEnd) => {
                self.at += 1;
                Ok(())
            }
            _ => self.fail("expected the end of the tag"),
        }
    }

    /// Statements up to a tag whose name is one of `ends`; the tag's name is left to be read.
    fn body(&mut self, ends: &[&str]) -> Outcome<Vec<Stmt>> {
        self.enter()?;
        let mut out = Vec::new();
        loop {
            match self.peek() {
                None if ends.is_empty() => break,
                None => return self.fail(&format!("unexpected end of template, expected '{}'", ends.join("' or '"))),
                Some(Token::Text(text)) => {
                    out.push(Stmt::Text(Rc::from(text.as_str())));
                    self.at += 1;
                }
                Some(Token::VarStart) => {
                    self.at += 1;
                    out.push(Stmt::Emit(self.tuple()?));
                    match self.peek() {
                        Some(Token::VarEnd) => self.at += 1,
                        _ => return self.fail("expected the end of the expression"),
                    }
                }
                Some(Token::BlockStart) => {
                    self.at += 1;
                    if ends.iter().any(|end| self.is_name(end)) {
                        break;
                    }
                    out.extend(self.statement()?);
                }
                Some(_) => return self.fail("unexpected token"),
            }
        }
        self.depth -= 1;
        Ok(out)
    }

    fn body_until(&mut self, end: &str) -> Outcome<Vec<Stmt>> {
        self.block_end()?;
        let body = self.body(&[end])?;
        self.at += 1;
        Ok(body)
    }

    fn statement(&mut self) -> Outcome<Option<Stmt>> {
        let name = self.want_name()?;
        let stmt = match &*name {
            "if" => self.condition()?,
            "for" => self.for_loop()?,
            "set" => self.set()?,
            "macro" => {
                let name = self.want_name()?;
                let params = self.params()?;
                let body = self.body_until("endmacro")?;
                self.eat_name(&name);
                Stmt::Macro(Rc::new(Macro { name, params, body }))
            }
            "call" => {
                let params = if self.is_op("(") { self.params()? } else { Vec::new() };
                let call = self.expression()?;
                let body = self.body_until("endcall")?;
                Stmt::CallBlock { call, caller: Rc::new(Macro { name: "caller".into(), params, body }) }
            }
            "filter" => {
                let filters = self.filter_chain()?;
                let body = self.body_until("endfilter")?;
                Stmt::FilterBlock { filters, body }
            }
            "with" => {
                let mut bindings = Vec::new();
                while !matches!(self.peek(), Some(Token::BlockEnd)) {
                    let target = self.target()?;
                    self.want_op("=")?;
                    bindings.push((target, self.expression()?));
                    if !self.eat_op(",") {
                        break;
                    }
                }
                Stmt::With { bindings, body: self.body_until("endwith")? }
            }
            "generation" => Stmt::Scope(self.body_until("endgeneration")?),
            "block" => {
                let name = self.want_name()?;
                while self.eat_name("scoped") || self.eat_name("required") {}
                let body = self.body_until("endblock")?;
                self.eat_name(&name);
                Stmt::Scope(body)
            }
            "autoescape" => {
                self.expression()?;
                Stmt::Scope(self.body_until("endautoescape")?)
            }
            "break" => Stmt::Break,
            "continue" => Stmt::Continue,
            "include" | "import" | "from" | "extends" => {
                return failed(format!("TemplateNotFound: '{name}' has no other templates to load"));
            }
            other => return self.fail(&format!("Encountered unknown tag '{other}'.")),
        };
        self.block_end()?;
        Ok(Some(stmt))
    }

    fn condition(&mut self) -> Outcome<Stmt> {
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let test = self.tuple()?;
            self.block_end()?;
            let body = self.body(&["elif", "else", "endif"])?;
            branches.push((test, body));
            if self.eat_name("elif") {
                continue;
            }
            if self.eat_name("else") {
                self.block_end()?;
                otherwise = self.body(&["endif"])?;
            }
            self.at += 1;
            return Ok(Stmt::If { branches, otherwise });
        }
    }

    fn for_loop(&mut self) -> Outcome<Stmt> {
        let target = self.target()?;
        if !self.eat_name("in") {
            return self.fail("expected 'in'");
        }
        let iter = self.tuple_without_condition()?;
        let filter = if self.eat_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.eat_name("recursive");
        self.block_end()?;
        let body = self.body(&["endfor", "else"])?;
        let mut otherwise = Vec::new();
        if self.eat_name("else") {
            self.block_end()?;
            otherwise = self.body(&["endfor"])?;
        }
        self.at += 1;
        Ok(Stmt::For(Rc::new(For { target, iter, filter, body, otherwise, recursive })))
    }

    fn set(&mut self) -> Outcome<Stmt> {
        let target = self.target()?;
        if self.eat_op("=") {
            let value = self.tuple()?;
            return Ok(Stmt::Set { target, value });
        }
        let filters = if self.is_op("|") {
            self.at += 1;
            self.filter_chain()?
        } else {
            Vec::new()
        };
        let body = self.body_until("endset")?;
        Ok(Stmt::SetBlock { target, filters, body })
    }

    fn target(&mut self) -> Outcome<Target> {
        let mut targets = vec![self.single_target()?];
        let mut tuple = false;
        while self.eat_op(",") {
            tuple = true;
            if !matches!(self.peek(), Some(Token::Name(_) | Token::Op("("))) || self.is_name("in") {
                break;
            }
            targets.push(self.single_target()?);
        }
        Ok(if tuple { Target::Tuple(targets) } else { targets.remove(0) })
    }

    fn single_target(&mut self) -> Outcome<Target> {
        self.enter()?;
        let target = if self.eat_op("(") {
            let inner = self.target()?;
            self.want_op(")")?;
            inner
        } else {
            let name = self.want_name()?;
            if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
                return self.fail("a constant cannot be assigned to");
            }
            if self.eat_op(".") { Target::Attr(name, self.want_name()?) } else { Target::Name(name) }
        };
        self.depth -= 1;
        Ok(target)
    }

    fn params(&mut self) -> Outcome<Vec<(Rc<str>, Option<Expr>)>> {
        self.want_op("(")?;
        let mut params: Vec<(Rc<str>, Option<Expr>)> = Vec::new();
        while !self.eat_op(")") {
            if !params.is_empty() {
                self.want_op(",")?;
                if self.eat_op(")") {
                    break;
                }
            }
            let name = self.want_name()?;
            let default = if self.eat_op("=") { Some(self.expression()?) } else { None };
            if default.is_none() && params.last().is_some_and(|p| p.1.is_some()) {
                return self.fail("non-default argument follows default argument");
            }
            params.push((name, default));
        }
        Ok(params)
    }

    fn filter_chain(&mut self) -> Outcome<Vec<Call>> {
        let mut filters = vec![self.named_call()?];
        while self.eat_op("|") {
            filters.push(self.named_call()?);
        }
        Ok(filters)
    }

    fn named_call(&mut self) -> Outcome<Call> {
        let mut name = self.want_name()?.to_string();
        while self.eat_op(".") {
            name = format!("{name}.{}", self.want_name()?);
        }
        let mut call = if self.is_op("(") { self.arguments()? } else { Call::default() };
        call.name = name;
        Ok(call)
    }

    fn tuple(&mut self) -> Outcome<Expr> {
        self.tuple_of(true)
    }

    fn tuple_without_condition(&mut self) -> Outcome<Expr> {
        self.tuple_of(false)
    }

    fn tuple_of(&mut self, condition: bool) -> Outcome<Expr> {
        let one = |p: &mut Self| if condition { p.expression() } else { p.or() };
        let first = one(self)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.eat_op(",") {
            let ended = matches!(self.peek(), None | Some(Token::VarEnd | Token::BlockEnd | Token::Op(")")));
            if ended || self.is_name("in") || (!condition && (self.is_name("if") || self.is_name("recursive"))) {
                break;
            }
            items.push(one(self)?);
        }
        Ok(Expr::Tuple(items))
    }

    fn expression(&mut self) -> Outcome<Expr> {
        self.enter()?;
        let mut value = self.or()?;
        let mut links = 0;
        while self.eat_name("if") {
            links += 1;
            if links > DEPTH_MAX {
                return Err(Fault::Limit("nested too deeply"));
            }
            let test = self.or()?;
            let otherwise = if self.eat_name("else") { Some(Box::new(self.expression()?)) } else { None };
            value = Expr::Cond(Box::new(test), Box::new(value), otherwise);
        }
        self.depth -= 1;
        Ok(value)
    }

    /// A chain of left-associative operators grows the tree by one level each, so its length is bounded too.
    fn chain(
        &mut self,
        operand: fn(&mut Self) -> Outcome<Expr>,
        operator: fn(&mut Self) -> Option<Join>,
    ) -> Outcome<Expr> {
        let mut left = operand(self)?;
        let mut links = 0;
        while let Some(make) = operator(self) {
            links += 1;
            if links > 4 * DEPTH_MAX {
                return Err(Fault::Limit("an expression of too many operators"));
            }
            left = make(Box::new(left), Box::new(operand(self)?));
        }
        Ok(left)
    }

    fn or(&mut self) -> Outcome<Expr> {
        self.chain(Self::and, |p| if p.eat_name("or") { Some(Expr::Or) } else { None })
    }

    fn and(&mut self) -> Outcome<Expr> {
        self.chain(Self::not, |p| if p.eat_name("and") { Some(Expr::And) } else { None })
    }

    fn not(&mut self) -> Outcome<Expr> {
        if self.eat_name("not") {
            self.enter()?;
            let inner = self.not()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Outcome<Expr> {
        let left = self.sum()?;
        let mut rest = Vec::new();
        loop {
            const OPERATORS: [(&str, Compare); 6] = [
                ("==", Compare::Eq),
                ("!=", Compare::Ne),
                ("<=", Compare::Le),
                (">=", Compare::Ge),
                ("<", Compare::Lt),
                (">", Compare::Gt),
            ];
            let not_in =
                self.is_name("not") && matches!(self.tokens.get(self.at + 1), Some((Token::Name(n), _)) if n == "in");
            let operator = if let Some((_, op)) = OPERATORS.iter().find(|(text, _)| self.is_op(text)) {
                self.at += 1;
                *op
            } else if self.eat_name("in") {
                Compare::In
            } else if not_in {
                self.at += 2;
                Compare::NotIn
            } else {
                break;
            };
            rest.push((operator, self.sum()?));
        }
        Ok(if rest.is_empty() { left } else { Expr::Compare(Box::new(left), rest) })
    }

    fn sum(&mut self) -> Outcome<Expr> {
        self.chain(Self::concat, |p| match p.peek() {
            Some(Token::Op("+")) => {
                p.at += 1;
                Some(|a, b| Expr::Binary(Binary::Add, a, b))
            }
            Some(Token::Op("-")) => {
                p.at += 1;
                Some(|a, b| Expr::Binary(Binary::Sub, a, b))
            }
            _ => None,
        })
    }

    fn concat(&mut self) -> Outcome<Expr> {
        let mut items = vec![self.product()?];
        while self.eat_op("~") {
            items.push(self.product()?);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Expr::Concat(items) })
    }

    fn product(&mut self) -> Outcome<Expr> {
        self.chain(Self::power, |p| {
            let make: fn(Box<Expr>, Box<Expr>) -> Expr = match p.peek() {
                Some(Token::Op("*")) => |a, b| Expr::Binary(Binary::Mul, a, b),
                Some(Token::Op("/")) => |a, b| Expr::Binary(Binary::Div, a, b),
                Some(Token::Op("//")) => |a, b| Expr::Binary(Binary::FloorDiv, a, b),
                Some(Token::Op("%")) => |a, b| Expr::Binary(Binary::Mod, a, b),
                _ => return None,
            };
            p.at += 1;
            Some(make)
        })
    }

    fn power(&mut self) -> Outcome<Expr> {
        self.chain(
            |p| p.unary(true),
            |p| if p.eat_op("**") { Some(|a, b| Expr::Binary(Binary::Pow, a, b)) } else { None },
        )
    }

    fn unary(&mut self, with_filter: bool) -> Outcome<Expr> {
        self.enter()?;
        let node = if self.eat_op("-") {
            Expr::Neg(Box::new(self.unary(false)?))
        } else if self.eat_op("+") {
            Expr::Pos(Box::new(self.unary(false)?))
        } else {
            self.primary()?
        };
        let node = self.postfix(node, with_filter)?;
        self.depth -= 1;
        Ok(node)
    }

    fn primary(&mut self) -> Outcome<Expr> {
        let token = self.peek().cloned();
        self.at += 1;
        match token {
            Some(Token::Name(name)) => Ok(match name.as_str() {
                "true" | "True" => Expr::Const(Const::Bool(true)),
                "false" | "False" => Expr::Const(Const::Bool(false)),
                "none" | "None" => Expr::Const(Const::None),
                _ => Expr::Name(Rc::from(name.as_str())),
            }),
            Some(Token::Str(mut text)) => {
                while let Some(Token::Str(more)) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                Ok(Expr::Const(Const::Str(Rc::from(text.as_str()))))
            }
            Some(Token::Int(n)) => Ok(Expr::Const(Const::Int(n))),
            Some(Token::Float(x)) => Ok(Expr::Const(Const::Float(x))),
            Some(Token::Op("(")) => {
                if self.eat_op(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.tuple()?;
                self.want_op(")")?;
                Ok(inner)
            }
            Some(Token::Op("[")) => {
                let mut items = Vec::new();
                while !self.eat_op("]") {
                    if !items.is_empty() {
                        self.want_op(",")?;
                        if self.eat_op("]") {
                            break;
                        }
                    }
                    items.push(self.expression()?);
                }
                Ok(Expr::List(items))
            }
            Some(Token::Op("{")) => {
                let mut pairs = Vec::new();
                while !self.eat_op("}") {
                    if !pairs.is_empty() {
                        self.want_op(",")?;
                        if self.eat_op("}") {
                            break;
                        }
                    }
                    let key = self.expression()?;
                    self.want_op(":")?;
                    pairs.push((key, self.expression()?));
                }
                Ok(Expr::Dict(pairs))
            }
            _ => {
                self.at -= 1;
                self.fail("unexpected token in an expression")
            }
        }
    }

    fn postfix(&mut self, mut node: Expr, with_filter: bool) -> Outcome<Expr> {
        let mut links = 0;
        let mut filters = false;
        loop {
            links += 1;
            if links > 2 * DEPTH_MAX {
                return Err(Fault::Limit("an expression of too many operators"));
            }
            if !filters && self.eat_op(".") {
                node = match self.peek().cloned() {
                    Some(Token::Name(name)) => Expr::Attr(Box::new(node), Rc::from(name.as_str())),
                    Some(Token::Int(n)) => Expr::Item(Box::new(node), Box::new(Expr::Const(Const::Int(n)))),
                    _ => return self.fail("expected a name or a number"),
                };
                self.at += 1;
            } else if !filters && self.eat_op("[") {
                node = self.subscript(node)?;
            } else if self.is_op("(") {
                let call = self.arguments()?;
                node = Expr::Call(Box::new(node), call);
            } else if with_filter && self.eat_op("|") {
                filters = true;
                node = Expr::Filter(Box::new(node), self.named_call()?);
            } else if with_filter && self.eat_name("is") {
                filters = true;
                node = self.test(node)?;
            } else {
                return Ok(node);
            }
        }
    }

    fn test(&mut self, node: Expr) -> Outcome<Expr> {
        let negated = self.eat_name("not");
        let mut name = self.want_name()?.to_string();
        while self.eat_op(".") {
            name = format!("{name}.{}", self.want_name()?);
        }
        let mut call = Call::default();
        if self.is_op("(") {
            call = self.arguments()?;
        } else {
            let begins = match self.peek() {
                Some(Token::Name(n)) => !matches!(n.as_str(), "else" | "or" | "and" | "is" | "if" | "in" | "not"),
                Some(Token::Str(_) | Token::Int(_) | Token::Float(_)) => true,
                Some(Token::Op(op)) => matches!(*op, "[" | "{"),
                _ => false,
            };
            if begins {
                let argument = self.primary()?;
                call.args.push(self.postfix(argument, false)?);
            }
        }
        call.name = name;
        Ok(Expr::Test(Box::new(node), call, negated))
    }

    fn subscript(&mut self, node: Expr) -> Outcome<Expr> {
        let mut parts: [Option<Box<Expr>>; 3] = [None, None, None];
        let mut slice = false;
        let mut n = 0;
        while !self.eat_op("]") {
            if self.eat_op(":") {
                slice = true;
                n += 1;
                if n > 2 {
                    return self.fail("a slice of more than three parts");
                }
                continue;
            }
            if parts[n].is_some() {
                return self.fail("expected ']'");
            }
            parts[n] = Some(Box::new(if slice { self.expression()? } else { self.tuple()? }));
        }
        match (slice, parts) {
            (true, parts) => Ok(Expr::Slice(Box::new(node), parts)),
            (false, [Some(index), ..]) => Ok(Expr::Item(Box::new(node), index)),
            _ => self.fail("expected a subscript"),
        }
    }

    fn arguments(&mut self) -> Outcome<Call> {
        self.want_op("(")?;
        let mut call = Call::default();
        let mut first = true;
        while !self.eat_op(")") {
            if !std::mem::replace(&mut first, false) {
                self.want_op(",")?;
                if self.eat_op(")") {
                    break;
                }
            }
            if self.eat_op("**") {
                call.double_star = Some(Box::new(self.expression()?));
            } else if self.eat_op("*") {
                call.star = Some(Box::new(self.expression()?));
            } else if let (Some(Token::Name(name)), Some((Token::Op("="), _))) =
                (self.peek().cloned(), self.tokens.get(self.at + 1))
            {
                self.at += 2;
                call.kwargs.push((Rc::from(name.as_str()), self.expression()?));
            } else {
                if !call.kwargs.is_empty() {
                    return self.fail("a positional argument behind a named one");
                }
                call.args.push(self.expression()?);
            }
        }
        Ok(call)
    }
}
