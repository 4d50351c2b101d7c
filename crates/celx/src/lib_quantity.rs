//! Quantities, and what they share with versions.

use std::cmp::Ordering;

use meta::quantity::{Format, Quantity};

use crate::error::Error;
use crate::value::Value;

fn parse(text: &str) -> Result<Quantity, Error> {
    text.parse().map_err(|e| Error::eval(format!("{e}")))
}

fn of(value: &Value<'_>) -> Result<Quantity, Error> {
    match value {
        Value::Quantity(quantity) => Ok(*quantity),
        Value::Int(units) => Ok(Quantity::from_units(*units, Format::DecimalSi)),
        _ => Err(Error::no_overload()),
    }
}

pub fn quantity<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    parse(args[0].str()?).map(Value::Quantity)
}

pub fn is_quantity<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(parse(args[0].str()?).is_ok()))
}

pub fn part<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let Value::Quantity(quantity) = &args[0] else { return Err(Error::no_overload()) };
    let whole = quantity.nanos() % 1_000_000_000 == 0;
    Ok(match name {
        "sign" => Value::Int(quantity.sign().into()),
        "isInteger" => Value::Bool(whole),
        "asInteger" if whole => Value::Int(quantity.value()),
        "asInteger" => return Err(Error::eval("cannot convert value to integer")),
        _ => Value::Double(quantity.as_f64()),
    })
}

/// `isLessThan`, `isGreaterThan` and `compareTo`, of quantities and versions.
pub fn compare<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let order = match (&args[0], &args[1]) {
        (Value::Quantity(a), Value::Quantity(b)) => a.nanos().cmp(&b.nanos()),
        (Value::Semver(a), Value::Semver(b)) => a.compare(b),
        _ => return Err(Error::no_overload()),
    };
    Ok(match name {
        "isLessThan" => Value::Bool(order == Ordering::Less),
        "isGreaterThan" => Value::Bool(order == Ordering::Greater),
        _ => Value::Int(order as i64),
    })
}

pub fn add<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let Value::Quantity(quantity) = &args[0] else { return Err(Error::no_overload()) };
    let other = of(&args[1])?;
    Ok(Value::Quantity(if name == "add" { quantity.plus(other) } else { quantity.minus(other) }))
}
