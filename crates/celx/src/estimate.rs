//! What an expression may cost at most, before any value is known.

use crate::ast::{Call, Const, Expr, Fold, FoldKind, Kind, Op, Slot};
use crate::env::Program;
use crate::functions::Cost;
use crate::types::{Type, TypeKind};

/// A size between two bounds.
type Size = (u64, u64);

const UNKNOWN: Size = (0, u64::MAX);

/// What is known of an expression: cost, size, and size of its elements.
#[derive(Debug, Clone, Copy)]
struct Est {
    /// Highest cost.
    cost: u64,
    size: Size,
    /// Size of elements or values, when it is known better than by type.
    element: Option<Size>,
}

struct Estimator {
    /// Sizes of the folds' variables.
    locals: Vec<Size>,
}

/// The highest cost of an expression.
pub fn highest_cost(program: &Program) -> u64 {
    Estimator { locals: Vec::new() }.expr(&program.expr).cost
}

fn tenths(size: u64, tenths: u64) -> u64 {
    if size == u64::MAX { u64::MAX / 10 * tenths } else { size.saturating_mul(tenths).div_ceil(10) }
}

fn regex(text: Size, pattern: u64) -> u64 {
    tenths(text.1.saturating_add(1), 1).saturating_mul(pattern.div_ceil(4))
}

fn of_type(ty: &Type) -> Size {
    match (&ty.kind, ty.max) {
        (_, Some(max)) => (0, max),
        (TypeKind::Bool | TypeKind::Int | TypeKind::Uint | TypeKind::Double | TypeKind::Null, _) => (1, 1),
        (TypeKind::Duration | TypeKind::Timestamp | TypeKind::Type | TypeKind::Opaque(_), _) => (1, 1),
        _ => UNKNOWN,
    }
}

fn union(a: Size, b: Size) -> Size {
    (a.0.min(b.0), a.1.max(b.1))
}

fn times(a: Size, b: Size) -> Size {
    (a.0.saturating_mul(b.0), a.1.saturating_mul(b.1))
}

fn sum(parts: &[Est]) -> u64 {
    parts.iter().fold(0, |total, part| total.saturating_add(part.cost))
}

fn literal(value: &Const) -> Size {
    let size = match value {
        Const::Str(text) => text.chars().count() as u64,
        Const::Bytes(bytes) => bytes.len() as u64,
        _ => 1,
    };
    (size, size)
}

impl Estimator {
    fn expr(&mut self, expr: &Expr) -> Est {
        let plain = |cost: u64| Est { cost, size: of_type(&expr.ty), element: None };
        match &expr.kind {
            Kind::Const(value) => Est { cost: 0, size: literal(value), element: None },
            Kind::Ident { slot: Slot::Local(slot), .. } => {
                let size = self.locals.get(*slot).copied().unwrap_or(UNKNOWN);
                Est { cost: 1, size, element: None }
            }
            Kind::Ident { .. } => plain(1),
            Kind::Select { operand, test, .. } => {
                let inner = self.expr(operand);
                plain(inner.cost.saturating_add(u64::from(!test)))
            }
            Kind::Index { operand, index, .. } => {
                let (inner, place) = (self.expr(operand), self.expr(index));
                let size = inner.element.unwrap_or_else(|| of_type(&expr.ty));
                Est { cost: sum(&[inner, place]).saturating_add(1), size, element: None }
            }
            Kind::Op { op, args } => self.operator(*op, args),
            Kind::If(parts) => {
                let [condition, yes, no] = [&parts[0], &parts[1], &parts[2]].map(|part| self.expr(part));
                Est {
                    cost: condition.cost.saturating_add(yes.cost.max(no.cost)),
                    size: union(yes.size, no.size),
                    element: yes.element.zip(no.element).map(|(a, b)| union(a, b)),
                }
            }
            Kind::Call(call) => self.call(call, &expr.ty),
            Kind::List(items) => {
                let parts: Vec<Est> = items.iter().map(|(item, _)| self.expr(item)).collect();
                let element = parts.iter().map(|part| part.size).reduce(union).unwrap_or((0, 0));
                let size = parts.len() as u64;
                Est { cost: sum(&parts).saturating_add(10), size: (size, size), element: Some(element) }
            }
            Kind::Map(entries) => {
                let parts: Vec<(Est, Est)> = entries.iter().map(|(k, v, _)| (self.expr(k), self.expr(v))).collect();
                let cost = parts.iter().fold(30u64, |total, (k, v)| total.saturating_add(sum(&[*k, *v])));
                let element = parts.iter().map(|(_, v)| v.size).reduce(union).unwrap_or((0, 0));
                let size = parts.len() as u64;
                Est { cost, size: (size, size), element: Some(element) }
            }
            Kind::Struct { fields, .. } => {
                let parts: Vec<Est> = fields.iter().map(|(_, value, _)| self.expr(value)).collect();
                plain(sum(&parts).saturating_add(40))
            }
            Kind::Fold(fold) => self.fold(fold, &expr.ty),
        }
    }

    fn operator(&mut self, op: Op, args: &[Expr]) -> Est {
        let parts: Vec<Est> = args.iter().map(|arg| self.expr(arg)).collect();
        let scalar = |cost: u64| Est { cost: sum(&parts).saturating_add(cost), size: (1, 1), element: None };
        let [a, b] = parts[..] else {
            return scalar(u64::from(!matches!(op, Op::And | Op::Or)));
        };
        let textual = args.iter().any(|arg| matches!(arg.ty.kind, TypeKind::Str | TypeKind::Bytes));
        let dynamic = args.iter().any(|arg| arg.ty.is_dyn());
        let smaller = a.size.1.min(b.size.1);
        match op {
            Op::And | Op::Or => scalar(0),
            Op::Eq | Op::Ne => scalar(tenths(smaller, 1)),
            Op::Lt | Op::Le | Op::Gt | Op::Ge if textual || dynamic => scalar(tenths(smaller, 1).max(1)),
            Op::In if matches!(args[1].ty.kind, TypeKind::List(_)) || args[1].ty.is_dyn() => scalar(b.size.1.max(1)),
            Op::Add => {
                let size = (a.size.0.saturating_add(b.size.0), a.size.1.saturating_add(b.size.1));
                let list = matches!(args[0].ty.kind, TypeKind::List(_));
                let cost = if textual || (dynamic && !list) { tenths(size.1, 1).max(1) } else { 1 };
                let element = a.element.zip(b.element).map(|(a, b)| union(a, b));
                let number = !textual && !list && !dynamic;
                Est { cost: sum(&parts).saturating_add(cost), size: if number { (1, 1) } else { size }, element }
            }
            _ => scalar(1),
        }
    }

    fn call(&mut self, call: &Call, ty: &Type) -> Est {
        let parts: Vec<Est> = call.args.iter().map(|arg| self.expr(arg)).collect();
        let size = |at: usize| parts.get(at).map_or(UNKNOWN, |part| part.size);
        let text = |at: usize| matches!(call.args.get(at).map(|a| &a.ty.kind), Some(TypeKind::Str | TypeKind::Bytes));
        let cost = call.function.map_or(Cost::One, |function| function.cost);
        let mut result = of_type(ty);
        let mut element = None;
        let own = match cost {
            Cost::One => {
                if matches!(call.name.as_str(), "dyn" | "value" | "orValue" | "or" | "optional.of") {
                    result = call.args.iter().enumerate().map(|(at, _)| size(at)).reduce(union).unwrap_or(result);
                }
                1
            }
            Cost::Size { tenths: factor, same } => {
                if same {
                    result = size(0);
                }
                tenths(size(0).1, factor)
            }
            Cost::Prefix => tenths(size(1).1, 1),
            Cost::Walk => self.walk(call, &parts),
            Cost::Join => {
                let items = parts.first().and_then(|part| part.element).unwrap_or_else(|| self.element_of(call, 0));
                let separators = times(size(0), if parts.len() > 1 { size(1) } else { (0, 0) });
                let items = times(size(0), items);
                result = (0, items.1.saturating_add(separators.1));
                tenths(result.1, 1)
            }
            Cost::Replace => {
                let (from, to) = (size(1), size(2));
                let count = size(0).1.saturating_add(1) / from.0.max(1);
                result =
                    (0, if to.1 <= from.0 { size(0).1 } else { count.saturating_mul(to.1).saturating_add(size(0).1) });
                tenths(size(0).1, 2)
            }
            Cost::Split => {
                result = (0, size(0).1);
                element = Some((0, size(0).1));
                tenths(size(0).1, 2)
            }
            Cost::Regex { finds } => {
                if finds {
                    result = (0, size(0).1);
                    element = Some((0, size(0).1));
                }
                regex(size(0), size(1).1)
            }
            Cost::Contains => tenths(size(0).1, 1).saturating_mul(tenths(size(1).1, 1)),
            Cost::Check => 350_000,
            Cost::Selector => {
                tenths(size(1).1, 1).saturating_add(10).saturating_add(size(1).1.div_ceil(2).saturating_mul(50))
            }
            Cost::ContainsIp => 4u64.saturating_add(if text(1) { tenths(size(1).1, 1) } else { 0 }),
            Cost::ContainsCidr => 7u64.saturating_add(if text(1) { tenths(size(1).1, 1) } else { 0 }),
            Cost::Validate => tenths(size(1).1, 1).saturating_mul(32),
            Cost::Sets { factor } => size(0).1.saturating_mul(size(1).1).saturating_mul(factor).saturating_add(1),
            Cost::Convert => {
                if text(0) {
                    result = (0, size(0).1.saturating_mul(4));
                }
                if text(0) { tenths(size(0).1, 1) } else { 1 }
            }
            Cost::ListCopy => {
                result = size(0);
                element = parts.first().and_then(|part| part.element);
                if text(0) { 1 } else { size(0).1.saturating_add(1) }
            }
            Cost::Range => {
                let count = match call.args.first().map(|arg| &arg.kind) {
                    Some(Kind::Const(Const::Int(count))) => u64::try_from(*count).unwrap_or(0),
                    _ => u64::MAX,
                };
                result = (0, count);
                count.saturating_add(1)
            }
        };
        Est { cost: sum(&parts).saturating_add(own), size: result, element }
    }

    /// The size of an argument's elements, by its type.
    fn element_of(&self, call: &Call, at: usize) -> Size {
        call.args.get(at).and_then(|arg| arg.ty.element()).map_or(UNKNOWN, |ty| of_type(&ty))
    }

    fn walk(&self, call: &Call, parts: &[Est]) -> u64 {
        let Some(first) = parts.first() else { return 1 };
        let element = call.args.first().and_then(|arg| match &arg.ty.kind {
            TypeKind::List(element) => Some((**element).clone()),
            _ => None,
        });
        match element {
            Some(ty) if matches!(ty.kind, TypeKind::Str | TypeKind::Bytes) => {
                let size = first.element.unwrap_or_else(|| of_type(&ty));
                first.size.1.saturating_mul(tenths(size.1, 1).saturating_add(1))
            }
            Some(_) => first.size.1,
            None => tenths(first.size.1, 1),
        }
    }

    fn fold(&mut self, fold: &Fold, ty: &Type) -> Est {
        let range = self.expr(&fold.range);
        let depth = self.locals.len();
        if fold.kind == FoldKind::Bind {
            self.locals.push(range.size);
            let body = self.expr(&fold.body);
            self.locals.truncate(depth);
            return Est { cost: range.cost.saturating_add(body.cost).saturating_add(10), ..body };
        }
        let by_type = |ty: Option<Type>| ty.map_or(UNKNOWN, |ty| of_type(&ty));
        let value = range.element.unwrap_or_else(|| match &fold.range.ty.kind {
            TypeKind::Map(parts) => of_type(&parts.1),
            _ => by_type(fold.range.ty.element()),
        });
        let key = match &fold.range.ty.kind {
            TypeKind::Map(parts) => of_type(&parts.0),
            TypeKind::List(_) => (1, 1),
            _ => UNKNOWN,
        };
        let over_map = matches!(fold.range.ty.kind, TypeKind::Map(_));
        if fold.var2.is_some() {
            self.locals.extend([key, value]);
        } else {
            self.locals.push(if over_map { key } else { value });
        }
        let filter = fold.filter.as_ref().map_or(0, |filter| self.expr(filter).cost);
        let body = self.expr(&fold.body);
        self.locals.truncate(depth);
        let (once, each) = match fold.kind {
            FoldKind::All => (1, 3),
            FoldKind::Exists => (1, 4),
            FoldKind::ExistsOne => (2, 2),
            FoldKind::Filter => (11, 13),
            FoldKind::Map | FoldKind::SortBy => (11, 12),
            FoldKind::TransformMap | FoldKind::TransformMapEntry => (31, 3),
            FoldKind::OptMap | FoldKind::OptFlatMap | FoldKind::Bind => (13, 0),
        };
        let optional = matches!(fold.kind, FoldKind::OptMap | FoldKind::OptFlatMap);
        let count = if optional { 1 } else { range.size.1 };
        let steps = count.saturating_mul(filter.saturating_add(body.cost).saturating_add(each));
        let (size, element) = match fold.kind {
            FoldKind::Map => (range.size, Some(body.size)),
            FoldKind::Filter | FoldKind::SortBy => ((0, range.size.1), Some(value)),
            FoldKind::TransformMap => ((0, range.size.1), Some(body.size)),
            FoldKind::OptMap | FoldKind::OptFlatMap => (body.size, body.element),
            FoldKind::TransformMapEntry => (UNKNOWN, None),
            _ => (of_type(ty), None),
        };
        Est { cost: range.cost.saturating_add(steps).saturating_add(once), size, element }
    }
}
