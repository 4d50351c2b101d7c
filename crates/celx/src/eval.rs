//! The evaluator. It counts what upstream's counts, and stops where upstream's stops.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::ast::{Call, Const, Expr, Fold, FoldKind, Kind, Op, Slot};
use crate::error::Error;
use crate::functions::Cost;
use crate::lib_lists::sort_by;
use crate::ops;
use crate::value::{Key, Map, Text, Value};

type Result<'a> = std::result::Result<Value<'a>, Error>;

/// What evaluations cost, against a limit.
#[derive(Debug, Clone)]
pub struct Meter {
    /// Spent so far.
    pub used: u64,
    /// The most that may be spent.
    pub limit: u64,
}

impl Meter {
    /// A meter with nothing spent.
    pub fn new(limit: u64) -> Self {
        Self { used: 0, limit }
    }

    fn charge(&mut self, cost: u64) -> std::result::Result<(), Error> {
        self.used = self.used.saturating_add(cost);
        if self.used > self.limit { Err(Error::CostExceeded) } else { Ok(()) }
    }
}

/// The values of an environment's variables.
pub trait Activation<'a> {
    /// A variable, by its place in the environment.
    ///
    /// # Errors
    /// It cannot be had.
    fn global(&self, slot: usize) -> Result<'a>;

    /// A variable of a policy, evaluated when it is first asked for.
    ///
    /// # Errors
    /// Its evaluation failed.
    fn variable(&self, name: &str, _meter: &mut Meter) -> Result<'a> {
        Err(Error::no_such_key(name))
    }
}

/// Activation by a list of values.
impl<'a> Activation<'a> for &[Value<'a>] {
    fn global(&self, slot: usize) -> Result<'a> {
        self.get(slot).cloned().ok_or_else(|| Error::eval("no such attribute"))
    }
}

impl<'a> Activation<'a> for Vec<Value<'a>> {
    fn global(&self, slot: usize) -> Result<'a> {
        self.as_slice().global(slot)
    }
}

struct Eval<'p, 'a> {
    activation: &'p dyn Activation<'a>,
    meter: &'p mut Meter,
    locals: Vec<Value<'a>>,
}

/// Evaluates a checked expression.
pub(crate) fn run<'a>(expr: &'a Expr, activation: &dyn Activation<'a>, meter: &mut Meter) -> Result<'a> {
    Eval { activation, meter, locals: Vec::new() }.eval(expr)
}

/// Tenths of a size, rounded up.
fn tenths(size: u64, tenths: u64) -> u64 {
    size.saturating_mul(tenths).div_ceil(10)
}

impl<'a> Eval<'_, 'a> {
    fn eval(&mut self, expr: &'a Expr) -> Result<'a> {
        match &expr.kind {
            Kind::Const(literal) => Ok(constant(literal)),
            Kind::Ident { name, slot } => self.ident(name, *slot),
            Kind::Select { operand, field, test, optional } => self.select(operand, field, *test, *optional),
            Kind::Index { operand, index, optional } => self.index(operand, index, *optional),
            Kind::Op { op, args } => self.operator(*op, args),
            Kind::If(parts) => {
                let yes = self.eval(&parts[0])?.bool()?;
                self.eval(if yes { &parts[1] } else { &parts[2] })
            }
            Kind::Call(call) => self.call(call),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.structure(name, fields),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn ident(&mut self, name: &'a str, slot: Slot) -> Result<'a> {
        self.meter.charge(1)?;
        match slot {
            Slot::Global(slot) => self.activation.global(slot),
            Slot::Local(slot) => self.locals.get(slot).cloned().ok_or_else(|| Error::eval("no such attribute")),
            Slot::TypeName => Ok(Value::Type(name.into())),
            Slot::Unknown => Err(Error::eval(format!("no such attribute: {name}"))),
        }
    }

    fn select(&mut self, operand: &'a Expr, field: &'a str, test: bool, optional: bool) -> Result<'a> {
        let container = self.eval(operand)?;
        if !test {
            self.meter.charge(1)?;
        }
        let (inside, found) = match &container {
            Value::Map(map) => (false, map.field(field)?),
            Value::Variables => (false, Some(self.activation.variable(field, self.meter)?)),
            Value::Optional(None) => (true, None),
            Value::Optional(Some(value)) => match &**value {
                Value::Map(map) => (true, map.field(field)?),
                _ if test => (true, None),
                _ => return Err(Error::no_overload()),
            },
            _ => (false, None),
        };
        match found {
            // A field that is null is absent for a test, unless null is a value of its own there.
            found if test => Ok(Value::Bool(found.is_some())),
            found if optional || inside => Ok(ops::wrap(found)),
            Some(value) => Ok(value),
            None => Err(Error::no_such_key(field)),
        }
    }

    fn index(&mut self, operand: &'a Expr, index: &'a Expr, optional: bool) -> Result<'a> {
        let container = self.eval(operand)?;
        let place = self.eval(index)?;
        self.meter.charge(1)?;
        let found = ops::index(&container, &place)?;
        if optional || matches!(container, Value::Optional(_)) {
            return Ok(ops::wrap(found));
        }
        found.ok_or_else(|| ops::absent(&container, &place))
    }

    /// `||` and `&&`: one operand that decides makes errors of the others unimportant.
    fn logic(&mut self, args: &'a [Expr], decisive: bool) -> Result<'a> {
        let mut failed = None;
        for arg in args {
            match self.eval(arg).and_then(|value| value.bool()) {
                Ok(value) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(_) => {}
                Err(error) if error.is_absorbable() => failed = failed.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn operator(&mut self, op: Op, args: &'a [Expr]) -> Result<'a> {
        match (op, args) {
            (Op::And, _) => self.logic(args, false),
            (Op::Or, _) => self.logic(args, true),
            (_, [a]) => {
                let a = self.eval(a)?;
                self.meter.charge(1)?;
                ops::unary(op, &a)
            }
            (_, [a, b]) => {
                let (a, b) = (self.eval(a)?, self.eval(b)?);
                self.meter.charge(operator_cost(op, &a, &b))?;
                ops::binary(op, &a, &b)
            }
            _ => Err(Error::no_overload()),
        }
    }

    fn call(&mut self, call: &'a Call) -> Result<'a> {
        let function = call.function.ok_or_else(Error::no_overload)?;
        // An argument that fails fails the call.
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            args.push(self.eval(arg)?);
        }
        if function.cost != Cost::Join {
            self.meter.charge(call_cost(function.cost, &args, None))?;
        }
        let result = (function.run)(function.name, &args)?;
        if function.cost == Cost::Join {
            self.meter.charge(call_cost(function.cost, &args, Some(&result)))?;
        }
        Ok(result)
    }

    fn list(&mut self, items: &'a [(Expr, bool)]) -> Result<'a> {
        let mut values = Vec::with_capacity(items.len());
        for (item, optional) in items {
            let value = self.eval(item)?;
            match (optional, value) {
                (false, value) => values.push(value),
                (true, Value::Optional(value)) => values.extend(value.map(|value| (*value).clone())),
                (true, _) => {
                    return Err(Error::eval("cannot initialize optional list element from non-optional value"));
                }
            }
        }
        self.meter.charge(10)?;
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &'a [(Expr, Expr, bool)]) -> Result<'a> {
        let mut values = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.eval(key)?.key()?;
            let value = self.eval(value)?;
            insert(&mut values, key, value, *optional)?;
        }
        self.meter.charge(30)?;
        Ok(Value::Map(Map::Own(Rc::new(values))))
    }

    fn structure(&mut self, name: &'a str, fields: &'a [(String, Expr, bool)]) -> Result<'a> {
        let mut values = BTreeMap::new();
        for (field, value, optional) in fields {
            let value = self.eval(value)?;
            insert(&mut values, Key::Str(field.as_str().into()), value, *optional)?;
        }
        self.meter.charge(40)?;
        Ok(Value::Map(Map::Object(Rc::new((name.to_owned(), values)))))
    }

    fn with_locals<T>(&mut self, values: [Option<Value<'a>>; 2], f: impl FnOnce(&mut Self) -> T) -> T {
        let depth = self.locals.len();
        self.locals.extend(values.into_iter().flatten());
        let result = f(self);
        self.locals.truncate(depth);
        result
    }

    fn fold(&mut self, fold: &'a Fold) -> Result<'a> {
        let range = self.eval(&fold.range)?;
        if matches!(fold.kind, FoldKind::OptMap | FoldKind::OptFlatMap) {
            return self.fold_optional(fold, &range);
        }
        if fold.kind == FoldKind::Bind {
            self.meter.charge(10)?;
            return self.with_locals([Some(range), None], |eval| eval.eval(&fold.body));
        }
        let two = fold.var2.is_some();
        let items: Vec<[Option<Value<'a>>; 2]> = match &range {
            Value::List(list) => {
                let items = list.items()?.into_iter().enumerate();
                let number = |at: usize| Value::Int(i64::try_from(at).unwrap_or(i64::MAX));
                items.map(|(at, item)| if two { [Some(number(at)), Some(item)] } else { [Some(item), None] }).collect()
            }
            Value::Map(map) => {
                let entries = map.entries()?.into_iter();
                entries.map(|(key, value)| [Some(key.value()), two.then_some(value)]).collect()
            }
            _ => return Err(Error::no_overload()),
        };
        match fold.kind {
            FoldKind::All => self.fold_logic(fold, items, false),
            FoldKind::Exists => self.fold_logic(fold, items, true),
            FoldKind::ExistsOne => self.fold_one(fold, items),
            FoldKind::TransformMap | FoldKind::TransformMapEntry => self.fold_map(fold, items),
            _ => self.fold_list(fold, items),
        }
    }

    fn fold_logic(&mut self, fold: &'a Fold, items: Vec<[Option<Value<'a>>; 2]>, decisive: bool) -> Result<'a> {
        let mut failed = None;
        for item in items {
            self.meter.charge(if decisive { 4 } else { 3 })?;
            match self.with_locals(item, |eval| eval.eval(&fold.body)).and_then(|value| value.bool()) {
                Ok(value) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(_) => {}
                Err(error) if error.is_absorbable() => failed = failed.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        self.meter.charge(1)?;
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn fold_one(&mut self, fold: &'a Fold, items: Vec<[Option<Value<'a>>; 2]>) -> Result<'a> {
        let mut count = 0u64;
        for item in items {
            let found = self.with_locals(item, |eval| eval.eval(&fold.body))?.bool()?;
            self.meter.charge(if found { 2 } else { 1 })?;
            count += u64::from(found);
        }
        self.meter.charge(2)?;
        Ok(Value::Bool(count == 1))
    }

    /// Whether the filter lets an element through.
    fn wanted(&mut self, fold: &'a Fold) -> std::result::Result<bool, Error> {
        let wanted = match (&fold.filter, fold.kind) {
            (_, FoldKind::Filter) => self.eval(&fold.body)?.bool()?,
            (Some(filter), _) => self.eval(filter)?.bool()?,
            (None, _) => true,
        };
        if !wanted {
            self.meter.charge(1)?;
        }
        Ok(wanted)
    }

    fn fold_list(&mut self, fold: &'a Fold, items: Vec<[Option<Value<'a>>; 2]>) -> Result<'a> {
        self.meter.charge(10)?;
        let (mut made, mut keyed) = (Vec::new(), Vec::new());
        for item in items {
            let element = item[0].clone();
            self.with_locals(item, |eval| {
                if !eval.wanted(fold)? {
                    return Ok(());
                }
                eval.meter.charge(if fold.kind == FoldKind::Filter { 13 } else { 12 })?;
                match (fold.kind, element) {
                    (FoldKind::Filter, Some(element)) => made.push(element),
                    (FoldKind::SortBy, Some(element)) => keyed.push((eval.eval(&fold.body)?, element)),
                    _ => made.push(eval.eval(&fold.body)?),
                }
                Ok(())
            })?;
        }
        self.meter.charge(1)?;
        if fold.kind == FoldKind::SortBy { sort_by(keyed) } else { Ok(Value::list(made)) }
    }

    fn fold_map(&mut self, fold: &'a Fold, items: Vec<[Option<Value<'a>>; 2]>) -> Result<'a> {
        self.meter.charge(30)?;
        let mut made: BTreeMap<Key, Value<'a>> = BTreeMap::new();
        for item in items {
            let key = item[0].clone();
            self.with_locals(item, |eval| {
                if !eval.wanted(fold)? {
                    return Ok(());
                }
                let value = eval.eval(&fold.body)?;
                eval.meter.charge(3)?;
                let mut put = |key: Key, value| match made.insert(key.clone(), value) {
                    None => Ok(()),
                    Some(_) => Err(Error::eval(format!("insert failed: key {key:?} already exists"))),
                };
                match (fold.kind, key, &value) {
                    (FoldKind::TransformMap, Some(key), _) => put(key.key()?, value),
                    (FoldKind::TransformMapEntry, _, Value::Map(map)) => {
                        map.entries()?.into_iter().try_for_each(|(key, value)| put(key, value))
                    }
                    _ => Err(Error::no_overload()),
                }
            })?;
        }
        self.meter.charge(1)?;
        Ok(Value::Map(Map::Own(Rc::new(made))))
    }

    fn fold_optional(&mut self, fold: &'a Fold, range: &Value<'a>) -> Result<'a> {
        self.meter.charge(2)?;
        let Value::Optional(inner) = range else { return Err(Error::no_overload()) };
        let Some(inner) = inner else { return Ok(Value::Optional(None)) };
        self.meter.charge(11)?;
        let value = self.with_locals([Some((**inner).clone()), None], |eval| eval.eval(&fold.body))?;
        if fold.kind == FoldKind::OptFlatMap { Ok(value) } else { Ok(Value::some(value)) }
    }
}

fn constant(literal: &Const) -> Value<'_> {
    match literal {
        Const::Null => Value::Null,
        Const::Bool(b) => Value::Bool(*b),
        Const::Int(i) => Value::Int(*i),
        Const::Uint(u) => Value::Uint(*u),
        Const::Double(d) => Value::Double(*d),
        Const::Str(text) => Value::Str(Text::Ref(text)),
        Const::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}

fn insert<'a>(
    values: &mut BTreeMap<Key, Value<'a>>,
    key: Key,
    value: Value<'a>,
    optional: bool,
) -> std::result::Result<(), Error> {
    let value = match (optional, value) {
        (false, value) => value,
        (true, Value::Optional(Some(value))) => (*value).clone(),
        (true, Value::Optional(None)) => return Ok(()),
        (true, _) => return Err(Error::eval("cannot initialize optional entry from non-optional value")),
    };
    match values.insert(key, value) {
        None => Ok(()),
        Some(_) => Err(Error::eval("Failed with repeated key")),
    }
}

fn operator_cost(op: Op, a: &Value<'_>, b: &Value<'_>) -> u64 {
    match (op, a, b) {
        (Op::Eq | Op::Ne, ..) => match a {
            Value::Ip(_) | Value::Cidr(_) => 1,
            _ => tenths(a.size().min(b.size()), 1),
        },
        (Op::Lt | Op::Le | Op::Gt | Op::Ge, Value::Str(_) | Value::Bytes(_), _) => tenths(a.size().min(b.size()), 1),
        (Op::Add, Value::Str(_) | Value::Bytes(_), _) => tenths(a.size() + b.size(), 1),
        (Op::In, _, Value::List(list)) => list.len() as u64,
        _ => 1,
    }
}

fn walk(value: &Value<'_>) -> u64 {
    match value {
        Value::Str(text) => text.as_str().len() as u64 / 10,
        Value::Bytes(bytes) => bytes.len() as u64 / 10,
        Value::List(list) => list.items().map_or(1, |items| items.iter().map(walk).sum()),
        Value::Map(map) => map.entries().map_or(1, |e| e.iter().map(|(k, v)| walk(&k.value()) + walk(v)).sum()),
        _ => 1,
    }
}

/// What a call costs; a join is charged when its result is there.
fn call_cost(cost: Cost, args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
    let size = |at: usize| args.get(at).map_or(1, Value::size);
    let is_text = |at: usize| matches!(args.get(at), Some(Value::Str(_) | Value::Bytes(_)));
    let regex = |length: u64, pattern: u64| tenths(1 + length, 1) * pattern.div_ceil(4);
    match cost {
        Cost::One => 1,
        Cost::Size { .. } if matches!(args.first(), Some(Value::Cidr(_))) => 1,
        Cost::Size { tenths: factor, .. } => tenths(size(0), factor),
        Cost::Prefix => tenths(size(0), 1),
        Cost::Walk => args.first().map_or(1, walk),
        Cost::Join => tenths(result.map_or(0, Value::size), 2),
        Cost::Replace | Cost::Split => tenths(size(0), 2),
        Cost::Regex { .. } => regex(size(0), size(1)),
        Cost::Contains => tenths(size(0), 1) * tenths(size(1), 1),
        Cost::Check => 350_000,
        Cost::Selector => 10 + tenths(size(1), 1) + (size(1).div_ceil(2)) * 50,
        Cost::ContainsIp | Cost::ContainsCidr => {
            let text = if is_text(1) { tenths(size(1), 1) } else { 0 };
            let mask = if cost == Cost::ContainsCidr { tenths(size(0), 1) + 1 } else { 0 };
            tenths(size(0) * 2, 1) + mask + text
        }
        Cost::Validate => match args.first() {
            Some(Value::Format(format)) => regex(size(1), format.pattern),
            _ => 1,
        },
        Cost::Sets { factor } => 1 + size(0).saturating_mul(size(1)).saturating_mul(factor),
        Cost::Convert => {
            if is_text(0) {
                tenths(size(0), 1)
            } else {
                1
            }
        }
        Cost::ListCopy if is_text(0) => 1,
        Cost::ListCopy => 1 + size(0),
        Cost::Range => match args.first() {
            Some(Value::Int(count)) => 1 + u64::try_from(*count).unwrap_or(0),
            _ => 1,
        },
    }
}
