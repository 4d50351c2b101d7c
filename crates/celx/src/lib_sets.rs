//! Lists as sets.

use crate::compare::equal;
use crate::error::Error;
use crate::value::Value;

fn holds(list: &[Value<'_>], wanted: &Value<'_>) -> Result<bool, Error> {
    for item in list {
        if equal(item, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn all_in(some: &[Value<'_>], list: &[Value<'_>]) -> Result<bool, Error> {
    for item in some {
        if !holds(list, item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `sets.contains`, `sets.equivalent` and `sets.intersects`.
pub fn run<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (a, b) = (args[0].items()?, args[1].items()?);
    Ok(Value::Bool(match name {
        "sets.contains" => all_in(&b, &a)?,
        "sets.equivalent" => all_in(&a, &b)? && all_in(&b, &a)?,
        _ => {
            let mut found = false;
            for item in &a {
                found = found || holds(&b, item)?;
            }
            found
        }
    }))
}
