//! Regular expressions.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use regex::{Regex, RegexBuilder};

use crate::error::Error;
use crate::value::Value;

/// How many compiled patterns are kept.
const KEPT: usize = 1024;
/// Largest compiled pattern, in bytes.
const LARGEST: usize = 1 << 20;

static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Regex>>>> = LazyLock::new(Mutex::default);

/// A compiled pattern; patterns are mostly literals, so they are kept.
///
/// # Errors
/// The pattern is none.
pub fn pattern(text: &str) -> Result<Arc<Regex>, Error> {
    let mut all = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = all.get(text) {
        return Ok(found.clone());
    }
    let made = RegexBuilder::new(text).size_limit(LARGEST).build();
    let made = Arc::new(made.map_err(|_| Error::eval(format!("error parsing regexp: {text}")))?);
    if all.len() >= KEPT {
        all.clear();
    }
    all.insert(text.to_owned(), made.clone());
    Ok(made)
}

pub fn matches<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let text = args[0].str()?;
    Ok(Value::Bool(pattern(args[1].str()?)?.is_match(text)))
}

pub fn find<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let text = args[0].str()?;
    Ok(Value::text(pattern(args[1].str()?)?.find(text).map_or("", |found| found.as_str())))
}

pub fn find_all<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let text = args[0].str()?;
    let limit = args.get(2).map(Value::int).transpose()?.unwrap_or(-1);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Value::texts(pattern(args[1].str()?)?.find_iter(text).take(limit).map(|found| found.as_str())))
}
