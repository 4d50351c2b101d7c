//! From words to a tree.
//!
//! Recursive descent with bounded depth: an expression comes from a user, and a deep one must not exhaust the stack of
//! the parser or of anything that walks the tree later.

use crate::ast::{Call, Const, Expr, Kind, Op, Slot};
use crate::error::{Issue, Issues};
use crate::lexer::{Token, Word, words};
use crate::macros;

/// Deepest nesting; upstream takes 250, but its stacks grow.
const MAX_DEPTH: u32 = 128;
/// Longest source in characters, upstream's number.
const MAX_LENGTH: usize = 100_000;

/// Words that the language keeps for itself.
pub(crate) const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A tree with its depth.
type Deep = (Expr, u32);
type Parsed = Result<Deep, Issue>;

struct Parser {
    words: Vec<Word>,
    next: usize,
    depth: u32,
}

/// Parses an expression.
///
/// # Errors
/// Everything that is wrong with its syntax, as far as it was read.
pub fn parse(source: &str) -> Result<Expr, Issues> {
    let chars: Vec<char> = source.chars().take(MAX_LENGTH + 1).collect();
    if chars.len() > MAX_LENGTH {
        let message = format!("expression code point size exceeds limit: size: {}, limit {MAX_LENGTH}", chars.len());
        return Err(Issues::new(vec![Issue::new(0, message)], ""));
    }
    let (words, mut issues) = words(&chars);
    let mut parser = Parser { words, next: 0, depth: 0 };
    let parsed = parser.expression().and_then(|(expr, _)| match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("<EOF>")),
    });
    match parsed {
        Ok(expr) if issues.is_empty() => Ok(expr),
        Ok(_) => Err(Issues::new(issues, source)),
        Err(issue) => {
            issues.push(issue);
            Err(Issues::new(issues, source))
        }
    }
}

impl Parser {
    fn word(&self) -> &Word {
        &self.words[self.next.min(self.words.len() - 1)]
    }

    fn peek(&self) -> &Token {
        &self.word().token
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(s) if *s == sign)
    }

    /// Takes a sign if it is next; its place.
    fn take(&mut self, sign: &str) -> Option<u32> {
        if !self.is(sign) {
            return None;
        }
        let at = self.word().at;
        self.next += 1;
        Some(at)
    }

    fn unexpected(&self, wanted: &str) -> Issue {
        let word = self.word();
        let what = if wanted == "<EOF>" { "extraneous input" } else { "mismatched input" };
        let message = match word.token {
            Token::End => format!("Syntax error: mismatched input '<EOF>' expecting {wanted}"),
            _ => format!("Syntax error: {what} '{}' expecting {wanted}", word.text),
        };
        Issue::new(word.at, message)
    }

    fn expect(&mut self, sign: &str) -> Result<u32, Issue> {
        self.take(sign).ok_or_else(|| self.unexpected(&format!("'{sign}'")))
    }

    fn deeper(&self, at: u32, below: u32) -> Result<u32, Issue> {
        if below >= MAX_DEPTH {
            return Err(Issue::new(at, format!("expression recursion limit exceeded: {MAX_DEPTH}")));
        }
        Ok(below + 1)
    }

    fn node(&self, at: u32, kind: Kind, below: u32) -> Parsed {
        Ok((Expr::new(at, kind), self.deeper(at, below)?))
    }

    fn expression(&mut self) -> Parsed {
        let at = self.word().at;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Issue::new(at, format!("expression recursion limit exceeded: {MAX_DEPTH}")));
        }
        let parsed = self.conditional();
        self.depth -= 1;
        parsed
    }

    fn conditional(&mut self) -> Parsed {
        let (condition, d1) = self.binary(1)?;
        let Some(at) = self.take("?") else { return Ok((condition, d1)) };
        let (yes, d2) = self.binary(1)?;
        self.expect(":")?;
        let (no, d3) = self.expression()?;
        self.node(at, Kind::If(Box::new([condition, yes, no])), d1.max(d2).max(d3))
    }

    /// The operator that is next, and how tightly it binds.
    fn operator(&self) -> Option<(Op, u8)> {
        Some(match self.peek() {
            Token::Sign("||") => (Op::Or, 1),
            Token::Sign("&&") => (Op::And, 2),
            Token::Sign("<") => (Op::Lt, 3),
            Token::Sign("<=") => (Op::Le, 3),
            Token::Sign(">") => (Op::Gt, 3),
            Token::Sign(">=") => (Op::Ge, 3),
            Token::Sign("==") => (Op::Eq, 3),
            Token::Sign("!=") => (Op::Ne, 3),
            Token::Ident(name) if name == "in" => (Op::In, 3),
            Token::Sign("+") => (Op::Add, 4),
            Token::Sign("-") => (Op::Sub, 4),
            Token::Sign("*") => (Op::Mul, 5),
            Token::Sign("/") => (Op::Div, 5),
            Token::Sign("%") => (Op::Rem, 5),
            _ => return None,
        })
    }

    /// Operators that bind at least so tightly. A chain of `||` or `&&` is one node, however long it is.
    fn binary(&mut self, least: u8) -> Parsed {
        let (mut left, mut below) = self.unary()?;
        while let Some((op, binds)) = self.operator().filter(|(_, binds)| *binds >= least) {
            let at = self.word().at;
            self.next += 1;
            let (right, depth) = self.binary(binds + 1)?;
            match &mut left.kind {
                Kind::Op { op: same, args } if *same == op && matches!(op, Op::And | Op::Or) => {
                    args.push(right);
                    below = below.max(self.deeper(at, depth)?);
                }
                _ => (left, below) = self.node(at, Kind::Op { op, args: vec![left, right] }, below.max(depth))?,
            }
        }
        Ok((left, below))
    }

    fn unary(&mut self) -> Parsed {
        for (sign, op) in [("!", Op::Not), ("-", Op::Neg)] {
            let Some(at) = self.take(sign) else { continue };
            let negative = op == Op::Neg && matches!(self.peek(), Token::Int(_) | Token::Double(_));
            if negative {
                return self.member(Some(at));
            }
            let mut odd = true;
            while self.take(sign).is_some() {
                odd = !odd;
            }
            let (inner, below) = self.member(None)?;
            return match odd {
                true => self.node(at, Kind::Op { op, args: vec![inner] }, below),
                false => Ok((inner, below)),
            };
        }
        self.member(None)
    }

    fn member(&mut self, minus: Option<u32>) -> Parsed {
        let (mut expr, mut below) = self.primary(minus)?;
        loop {
            if let Some(at) = self.take(".") {
                let optional = self.take("?").is_some();
                let field = self.name()?;
                if let Some(open) = self.take("(").filter(|_| !optional) {
                    let (mut args, depth) = self.arguments()?;
                    args.insert(0, expr);
                    let call = Call { name: field, member: true, args, function: None };
                    let expanded = macros::expand(open, call)?;
                    below = self.deeper(at, below.max(depth))?;
                    expr = expanded;
                    continue;
                }
                let kind = Kind::Select { operand: Box::new(expr), field, test: false, optional };
                (expr, below) = self.node(at, kind, below)?;
            } else if let Some(at) = self.take("[") {
                let optional = self.take("?").is_some();
                let (index, depth) = self.expression()?;
                self.expect("]")?;
                let kind = Kind::Index { operand: Box::new(expr), index: Box::new(index), optional };
                (expr, below) = self.node(at, kind, below.max(depth))?;
            } else if self.is("{") && expr.dotted().is_some_and(|name| name.starts_with(|c: char| c != '"')) {
                let name = expr.dotted().unwrap_or_default();
                (expr, below) = self.structure(name)?;
            } else {
                return Ok((expr, below));
            }
        }
    }

    fn name(&mut self) -> Result<String, Issue> {
        match self.peek().clone() {
            Token::Ident(name) if name != "in" => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("IDENTIFIER")),
        }
    }

    /// The arguments after an opening bracket.
    fn arguments(&mut self) -> Result<(Vec<Expr>, u32), Issue> {
        let (mut args, mut below) = (Vec::new(), 0);
        if self.take(")").is_some() {
            return Ok((args, below));
        }
        loop {
            let (arg, depth) = self.expression()?;
            args.push(arg);
            below = below.max(depth);
            if self.take(",").is_none() {
                self.expect(")")?;
                return Ok((args, below));
            }
        }
    }

    fn primary(&mut self, minus: Option<u32>) -> Parsed {
        let word = self.word().clone();
        let at = minus.unwrap_or(word.at);
        let literal = match word.token {
            Token::Ident(_) => return self.named(),
            Token::Sign(".") => {
                self.next += 1;
                return self.named();
            }
            Token::Sign("(") => {
                self.next += 1;
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => return self.list(),
            Token::Sign("{") => return self.map(),
            Token::Int(text) => Const::Int(integer(&text, minus.is_some(), at)?),
            Token::Uint(text) => Const::Uint(unsigned(&text).ok_or_else(|| Issue::new(at, "invalid uint literal"))?),
            Token::Double(number) => Const::Double(if minus.is_some() { -number } else { number }),
            Token::Str(text) => Const::Str(text),
            Token::Bytes(bytes) => Const::Bytes(bytes),
            _ => {
                let wanted = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, \
                              STRING, BYTES, IDENTIFIER}";
                return Err(self.unexpected(wanted));
            }
        };
        self.next += 1;
        self.node(at, Kind::Const(literal), 0)
    }

    fn named(&mut self) -> Parsed {
        let at = self.word().at;
        let name = self.name()?;
        let literal = match name.as_str() {
            "true" => Some(Const::Bool(true)),
            "false" => Some(Const::Bool(false)),
            "null" => Some(Const::Null),
            _ => None,
        };
        if let Some(literal) = literal {
            return self.node(at, Kind::Const(literal), 0);
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(Issue::new(at, format!("reserved identifier: {name}")));
        }
        if let Some(open) = self.take("(") {
            let (args, below) = self.arguments()?;
            let call = macros::expand(open, Call { name, member: false, args, function: None })?;
            return Ok((call, self.deeper(at, below)?));
        }
        self.node(at, Kind::Ident { name, slot: Slot::Unknown }, 0)
    }

    fn list(&mut self) -> Parsed {
        let at = self.expect("[")?;
        let (mut items, mut below) = (Vec::new(), 0);
        while self.take("]").is_none() {
            let optional = self.take("?").is_some();
            let (item, depth) = self.expression()?;
            items.push((item, optional));
            below = below.max(depth);
            if self.take(",").is_none() {
                self.expect("]")?;
                break;
            }
        }
        self.node(at, Kind::List(items), below)
    }

    fn map(&mut self) -> Parsed {
        let at = self.expect("{")?;
        let (mut entries, mut below) = (Vec::new(), 0);
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            let (key, d1) = self.expression()?;
            self.expect(":")?;
            let (value, d2) = self.expression()?;
            entries.push((key, value, optional));
            below = below.max(d1).max(d2);
            if self.take(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, Kind::Map(entries), below)
    }

    fn structure(&mut self, name: String) -> Parsed {
        let at = self.expect("{")?;
        let (mut fields, mut below) = (Vec::new(), 0);
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            let field = self.name()?;
            self.expect(":")?;
            let (value, depth) = self.expression()?;
            fields.push((field, value, optional));
            below = below.max(depth);
            if self.take(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, Kind::Struct { name, fields }, below)
    }
}

fn unsigned(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn integer(text: &str, negative: bool, at: u32) -> Result<i64, Issue> {
    let magnitude = unsigned(text).map(i128::from);
    let number = magnitude.map(|m| if negative { -m } else { m });
    number.and_then(|n| i64::try_from(n).ok()).ok_or_else(|| Issue::new(at, "invalid int literal"))
}
