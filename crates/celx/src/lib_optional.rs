//! Optional values.

use std::rc::Rc;

use crate::error::Error;
use crate::value::Value;

type Result<'a> = std::result::Result<Value<'a>, Error>;

fn inner<'v, 'a>(value: &'v Value<'a>) -> std::result::Result<Option<&'v Rc<Value<'a>>>, Error> {
    match value {
        Value::Optional(inner) => Ok(inner.as_ref()),
        _ => Err(Error::no_overload()),
    }
}

pub fn of<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::some(args[0].clone()))
}

pub fn of_non_zero<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let zero = match &args[0] {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Optional(None) => true,
        Value::Double(d) => *d == 0.0,
        Value::Str(text) => text.as_str().is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Duration(span) => span.0 == 0,
        _ => false,
    };
    Ok(if zero { Value::Optional(None) } else { Value::some(args[0].clone()) })
}

pub fn none<'a>(_: &str, _: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Optional(None))
}

pub fn unwrap<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let mut items = Vec::new();
    for item in args[0].items()? {
        items.extend(inner(&item)?.map(|value| (**value).clone()));
    }
    Ok(Value::list(items))
}

pub fn value<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let value = inner(&args[0])?.ok_or_else(|| Error::eval("optional.none() dereference"))?;
    Ok((**value).clone())
}

pub fn has_value<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Bool(inner(&args[0])?.is_some()))
}

pub fn or<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(if inner(&args[0])?.is_some() { args[0].clone() } else { args[1].clone() })
}

pub fn or_value<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(inner(&args[0])?.map_or_else(|| args[1].clone(), |value| (**value).clone()))
}
