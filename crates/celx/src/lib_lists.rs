//! Functions on lists.

use std::cmp::Ordering;

use crate::compare::{compare, equal};
use crate::error::Error;
use crate::ops;
use crate::time::Span;
use crate::value::Value;

type Result<'a> = std::result::Result<Value<'a>, Error>;

pub fn index_of<'a>(name: &str, args: &[Value<'a>]) -> Result<'a> {
    let items = args[0].items()?;
    let mut found = -1;
    for (at, item) in items.iter().enumerate() {
        if equal(item, &args[1])? {
            found = i64::try_from(at).unwrap_or(i64::MAX);
            if name == "indexOf" {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

pub fn is_sorted<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    for pair in args[0].items()?.windows(2) {
        if compare(&pair[0], &pair[1])? == Some(Ordering::Greater) {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

pub fn sum<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let mut items = args[0].items()?.into_iter();
    let Some(mut total) = items.next() else { return Ok(Value::Int(0)) };
    if !matches!(total, Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(Span(_))) {
        return Err(Error::no_overload());
    }
    for item in items {
        total = ops::add(&total, &item)?;
    }
    Ok(total)
}

pub fn extreme<'a>(name: &str, args: &[Value<'a>]) -> Result<'a> {
    let mut items = args[0].items()?.into_iter();
    let mut best = items.next().ok_or_else(|| Error::eval(format!("{name} called on empty list")))?;
    let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
    for item in items {
        if compare(&item, &best)? == Some(wanted) {
            best = item;
        }
    }
    Ok(best)
}

pub fn slice<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let items = args[0].items()?;
    let (start, end) = (args[1].int()?, args[2].int()?);
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok()).filter(|(s, e)| s <= e && *e <= items.len());
    match range {
        Some((start, end)) => Ok(Value::list(items[start..end].to_vec())),
        None => Err(Error::eval(format!("cannot slice({start}, {end}), list is length {}", items.len()))),
    }
}

pub fn flatten<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let depth = args.get(1).map(Value::int).transpose()?.unwrap_or(1);
    if depth < 0 {
        return Err(Error::eval("level must be non-negative"));
    }
    let mut items = args[0].items()?;
    for _ in 0..depth.min(32) {
        let mut flat = Vec::with_capacity(items.len());
        let mut nested = false;
        for item in items {
            match &item {
                Value::List(list) => {
                    nested = true;
                    flat.extend(list.items()?);
                }
                _ => flat.push(item),
            }
        }
        items = flat;
        if !nested {
            break;
        }
    }
    Ok(Value::list(items))
}

/// Sorts by keys, which must be of one type that has an order.
///
/// # Errors
/// They are not.
pub fn sort_by<'a>(mut keyed: Vec<(Value<'a>, Value<'a>)>) -> Result<'a> {
    for pair in keyed.windows(2) {
        if pair[0].0.type_name() != pair[1].0.type_name() {
            return Err(Error::eval("list elements must have the same type"));
        }
        compare(&pair[0].0, &pair[1].0)?;
    }
    keyed.sort_by(|a, b| compare(&a.0, &b.0).ok().flatten().unwrap_or(Ordering::Equal));
    Ok(Value::list(keyed.into_iter().map(|(_, item)| item).collect()))
}

pub fn sort<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    sort_by(args[0].items()?.into_iter().map(|item| (item.clone(), item)).collect())
}

pub fn distinct<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let mut kept: Vec<Value<'a>> = Vec::new();
    for item in args[0].items()? {
        let mut known = false;
        for other in &kept {
            known = known || equal(other, &item)?;
        }
        if !known {
            kept.push(item);
        }
    }
    Ok(Value::list(kept))
}

pub fn range<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let count = args[0].int()?;
    // Made before its cost can be charged.
    if count > 1_000_000 {
        return Err(Error::CostExceeded);
    }
    Ok(Value::list((0..count).map(Value::Int).collect()))
}
