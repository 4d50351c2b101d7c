//! Calls that are macros.

use crate::ast::{Call, Expr, Fold, FoldKind, Kind};
use crate::error::Issue;

/// Makes a macro of a call, when it is one.
///
/// # Errors
/// The macro's arguments are of the wrong form.
pub fn expand(at: u32, call: Call) -> Result<Expr, Issue> {
    match (call.member, call.name.as_str(), call.args.len()) {
        (false, "has", 1) => has(at, call),
        (true, "optMap" | "optFlatMap", 3) => opt_map(at, call),
        (true, "bind", 4) if call.args[0].dotted().as_deref() == Some("cel") => bind(at, call),
        (true, name, count) => match fold_kind(name, count) {
            Some((kind, vars)) => fold(at, call, kind, vars),
            None => Ok(Expr::new(at, Kind::Call(call))),
        },
        _ => Ok(Expr::new(at, Kind::Call(call))),
    }
}

/// The fold of a name, and how many variables it has, by the number of arguments (the receiver included).
fn fold_kind(name: &str, count: usize) -> Option<(FoldKind, usize)> {
    Some(match (name, count) {
        ("all", 3) => (FoldKind::All, 1),
        ("all", 4) => (FoldKind::All, 2),
        ("exists", 3) => (FoldKind::Exists, 1),
        ("exists", 4) => (FoldKind::Exists, 2),
        ("exists_one" | "existsOne", 3) => (FoldKind::ExistsOne, 1),
        ("exists_one" | "existsOne", 4) => (FoldKind::ExistsOne, 2),
        ("sortBy", 3) => (FoldKind::SortBy, 1),
        ("map", 3 | 4) => (FoldKind::Map, 1),
        ("filter", 3) => (FoldKind::Filter, 1),
        ("transformList", 4 | 5) => (FoldKind::Map, 2),
        ("transformMap", 4 | 5) => (FoldKind::TransformMap, 2),
        ("transformMapEntry", 4 | 5) => (FoldKind::TransformMapEntry, 2),
        _ => return None,
    })
}

fn has(at: u32, call: Call) -> Result<Expr, Issue> {
    match call.args.into_iter().next().map(|arg| arg.kind) {
        Some(Kind::Select { operand, field, test: false, optional: false }) => {
            Ok(Expr::new(at, Kind::Select { operand, field, test: true, optional: false }))
        }
        _ => Err(Issue::new(at, "invalid argument to has() macro")),
    }
}

fn variable(expr: &Expr) -> Result<String, Issue> {
    match &expr.kind {
        Kind::Ident { name, .. } if name == "__result__" => {
            Err(Issue::new(expr.at, format!("iteration variable overwrites accumulator variable: {name}")))
        }
        Kind::Ident { name, .. } => Ok(name.clone()),
        _ => Err(Issue::new(expr.at, "argument must be a simple name")),
    }
}

fn fold(at: u32, call: Call, kind: FoldKind, vars: usize) -> Result<Expr, Issue> {
    let mut args = call.args.into_iter();
    let mut next = || args.next().ok_or_else(|| Issue::new(at, "argument is missing"));
    let range = next()?;
    let var = variable(&next()?)?;
    let var2 = if vars == 2 { Some(variable(&next()?)?) } else { None };
    if var2.as_ref() == Some(&var) {
        return Err(Issue::new(at, format!("duplicate variable name: {var}")));
    }
    let first = next()?;
    let (filter, body) = match next() {
        Ok(second) => (Some(first), second),
        Err(_) => (None, first),
    };
    Ok(Expr::new(at, Kind::Fold(Box::new(Fold { kind, range, var, var2, filter, body }))))
}

/// `cel.bind(v, x, e)` is a fold over the one value `x`.
fn bind(at: u32, call: Call) -> Result<Expr, Issue> {
    let mut args = call.args.into_iter().skip(1);
    let mut next = || args.next().ok_or_else(|| Issue::new(at, "argument is missing"));
    let (name, range, body) = (next()?, next()?, next()?);
    let Kind::Ident { name: var, .. } = name.kind else {
        return Err(Issue::new(name.at, "cel.bind() variable names must be simple identifiers"));
    };
    Ok(Expr::new(at, Kind::Fold(Box::new(Fold { kind: FoldKind::Bind, range, var, var2: None, filter: None, body }))))
}

/// `x.optMap(v, e)` is a fold over the optional's value, if there is one.
fn opt_map(at: u32, call: Call) -> Result<Expr, Issue> {
    let kind = if call.name == "optMap" { FoldKind::OptMap } else { FoldKind::OptFlatMap };
    fold(at, call, kind, 1)
}
