//! Operators.

use std::cmp::Ordering;
use std::rc::Rc;

use crate::ast::Op;
use crate::compare::{compare, equal};
use crate::error::Error;
use crate::time::Span;
use crate::value::Value;

type Result<'a> = std::result::Result<Value<'a>, Error>;

fn overflow() -> Error {
    Error::eval("integer overflow")
}

fn uint_overflow() -> Error {
    Error::eval("unsigned integer overflow")
}

fn span(nanos: Option<i64>) -> std::result::Result<Span, Error> {
    nanos.map(Span).ok_or_else(|| Error::eval("duration overflow"))
}

/// `a + b`
///
/// # Errors
/// The types do not fit, or the result does not.
pub fn add<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_add(*b).ok_or_else(uint_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::Str(a), Value::Str(b)) => {
            let (a, b) = (a.as_str(), b.as_str());
            let mut text = String::with_capacity(a.len() + b.len());
            text.push_str(a);
            text.push_str(b);
            Value::text(text)
        }
        (Value::Bytes(a), Value::Bytes(b)) => Value::Bytes([&a[..], &b[..]].concat().into()),
        (Value::List(a), Value::List(b)) => {
            let mut items = a.items()?;
            items.extend(b.items()?);
            Value::list(items)
        }
        (Value::Duration(a), Value::Duration(b)) => Value::Duration(span(a.0.checked_add(b.0))?),
        (Value::Timestamp(at), Value::Duration(span)) | (Value::Duration(span), Value::Timestamp(at)) => {
            Value::Timestamp(at.plus(span.0)?)
        }
        _ => return Err(Error::no_overload()),
    })
}

fn sub<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_sub(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_sub(*b).ok_or_else(uint_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        (Value::Duration(a), Value::Duration(b)) => Value::Duration(span(a.0.checked_sub(b.0))?),
        (Value::Timestamp(a), Value::Timestamp(b)) => Value::Duration(a.since(*b)?),
        (Value::Timestamp(at), Value::Duration(by)) => Value::Timestamp(at.plus(span(by.0.checked_neg())?.0)?),
        _ => return Err(Error::no_overload()),
    })
}

fn mul<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_mul(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_mul(*b).ok_or_else(uint_overflow)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        _ => return Err(Error::no_overload()),
    })
}

fn div<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    let zero = || Error::eval("division by zero");
    Ok(match (a, b) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => return Err(zero()),
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_div(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a / b),
        (Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return Err(Error::no_overload()),
    })
}

fn rem<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    let zero = || Error::eval("modulus by zero");
    Ok(match (a, b) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => return Err(zero()),
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_rem(*b).ok_or_else(overflow)?),
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a % b),
        _ => return Err(Error::no_overload()),
    })
}

/// `a in b`
///
/// # Errors
/// `b` is neither list nor map.
pub fn contains<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    match b {
        Value::List(list) => {
            for index in 0..list.len() {
                if let Some(item) = list.get(index)?
                    && equal(a, &item)?
                {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        Value::Map(map) => Ok(Value::Bool(match a.key() {
            Ok(key) => map.get(&key)?.is_some(),
            Err(_) => false,
        })),
        _ => Err(Error::no_overload()),
    }
}

/// An operator with one operand.
///
/// # Errors
/// The type does not fit, or the result does not.
pub fn unary<'a>(op: Op, a: &Value<'a>) -> Result<'a> {
    match (op, a) {
        (Op::Not, Value::Bool(b)) => Ok(Value::Bool(!b)),
        (Op::Neg, Value::Int(i)) => Ok(Value::Int(i.checked_neg().ok_or_else(overflow)?)),
        (Op::Neg, Value::Double(d)) => Ok(Value::Double(-d)),
        (Op::Neg, Value::Duration(d)) => Ok(Value::Duration(span(d.0.checked_neg())?)),
        _ => Err(Error::no_overload()),
    }
}

/// An operator with two operands that are both evaluated.
///
/// # Errors
/// The types do not fit, or the result does not.
pub fn binary<'a>(op: Op, a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    let ordered = |wanted: &[Ordering]| Ok(Value::Bool(compare(a, b)?.is_some_and(|found| wanted.contains(&found))));
    match op {
        Op::Add => add(a, b),
        Op::Sub => sub(a, b),
        Op::Mul => mul(a, b),
        Op::Div => div(a, b),
        Op::Rem => rem(a, b),
        Op::Eq => Ok(Value::Bool(equal(a, b)?)),
        Op::Ne => Ok(Value::Bool(!equal(a, b)?)),
        Op::Lt => ordered(&[Ordering::Less]),
        Op::Le => ordered(&[Ordering::Less, Ordering::Equal]),
        Op::Gt => ordered(&[Ordering::Greater]),
        Op::Ge => ordered(&[Ordering::Greater, Ordering::Equal]),
        Op::In => contains(a, b),
        Op::And | Op::Or | Op::Not | Op::Neg => Err(Error::no_overload()),
    }
}

/// `a[b]`; `None` when there is nothing at that place.
///
/// # Errors
/// `b` cannot be an index of `a`.
pub fn index<'a>(a: &Value<'a>, b: &Value<'a>) -> std::result::Result<Option<Value<'a>>, Error> {
    match a {
        Value::List(list) => {
            let place = match b.key()? {
                crate::value::Key::Int(place) => place,
                _ => return Err(Error::eval(format!("unsupported index type '{}' in list", b.type_name()))),
            };
            usize::try_from(place).map_or(Ok(None), |place| list.get(place))
        }
        Value::Map(map) => map.get(&b.key()?),
        Value::Optional(None) => Ok(None),
        Value::Optional(Some(value)) => index(value, b),
        _ => Err(Error::no_overload()),
    }
}

/// The absence of what an index names, as an error.
pub fn absent(container: &Value<'_>, index: &Value<'_>) -> Error {
    let shown = crate::convert::show(index).unwrap_or_default();
    match container {
        Value::List(_) => Error::eval(format!("index out of bounds: {shown}")),
        _ => Error::no_such_key(shown),
    }
}

/// A value inside of an optional, which a look into an optional gives.
pub fn wrap(value: Option<Value<'_>>) -> Value<'_> {
    Value::Optional(value.map(Rc::new))
}
