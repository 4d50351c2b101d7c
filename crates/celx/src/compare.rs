//! Whether values are equal, and which is the greater.

use std::cmp::Ordering;

use crate::error::Error;
use crate::value::Value;

/// Whether two values are equal; values of different types are not, but numbers are compared by value.
///
/// # Errors
/// A part does not have its declared format.
pub fn equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, Error> {
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => a.as_str() == b.as_str(),
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for index in 0..a.len() {
                match (a.get(index)?, b.get(index)?) {
                    (Some(a), Some(b)) if equal(&a, &b)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in a.entries()? {
                match b.get(&key)? {
                    Some(other) if equal(&value, &other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => equal(a, b)?,
        (Value::Url(a), Value::Url(b)) => a == b,
        (Value::Quantity(a), Value::Quantity(b)) => a.nanos() == b.nanos(),
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Cidr(a), Value::Cidr(b)) => a == b,
        (Value::Semver(a), Value::Semver(b)) => a.compare(b) == Ordering::Equal,
        (Value::Format(a), Value::Format(b)) => a.name == b.name,
        _ => numbers(a, b) == Some(Ordering::Equal),
    })
}

/// Compares numbers of any types; `None` when one is none or not a number.
#[allow(clippy::cast_precision_loss)]
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let wide = |value: &Value<'_>| match value {
        Value::Int(i) => Some(i128::from(*i)),
        Value::Uint(u) => Some(i128::from(*u)),
        _ => None,
    };
    // As doubles, within what the whole number's type can hold: upstream's comparison loses the last digits, too.
    let with_double = |value: &Value<'_>, double: f64| {
        let whole = wide(value)?;
        let (low, high) = match value {
            Value::Uint(_) => (0.0, u64::MAX as f64),
            _ => (i64::MIN as f64, i64::MAX as f64),
        };
        match double {
            d if d.is_nan() => None,
            d if d < low => Some(Ordering::Greater),
            d if d > high => Some(Ordering::Less),
            d => (whole as f64).partial_cmp(&d),
        }
    };
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), _) => with_double(b, *a).map(Ordering::reverse),
        (_, Value::Double(b)) => with_double(a, *b),
        _ => Some(wide(a)?.cmp(&wide(b)?)),
    }
}

/// The order of two values.
///
/// # Errors
/// They have none.
pub fn compare(a: &Value<'_>, b: &Value<'_>) -> Result<Option<Ordering>, Error> {
    Ok(Some(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Str(a), Value::Str(b)) => a.as_str().cmp(b.as_str()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            return Ok(numbers(a, b));
        }
        _ => return Err(Error::no_overload()),
    }))
}
