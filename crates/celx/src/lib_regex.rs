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

/// A pattern of RE2, which upstream has, in the words of crate `regex`: classes such as `\\d` mean ASCII there, and within
/// brackets neither a bracket nor `&&` means anything.
pub fn from_re2(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match (class, c) {
            (_, '\\') => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str("[\\t\\n\\x0c\\r ]"),
                Some('S') => out.push_str("[^\\t\\n\\x0c\\r ]"),
                Some('b') if !class => out.push_str("(?-u:\\b)"),
                Some('Q') if !class => quote(&mut chars, &mut out),
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
                None => out.push('\\'),
            },
            (false, '[') => {
                class = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
                // A bracket that closes at once is one of the class's characters.
                if chars.peek() == Some(&']') {
                    chars.next();
                    out.push_str("\\]");
                }
            }
            (true, '[') if chars.peek() == Some(&':') => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            (true, ']') => {
                class = false;
                out.push(']');
            }
            (true, '[' | '&' | '~') => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// Literal text up to `\\E`.
fn quote(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            break;
        }
        text.push(c);
    }
    out.push_str(&regex::escape(&text));
}

/// A compiled pattern; patterns are mostly literals, so they are kept.
///
/// # Errors
/// The pattern is none.
pub fn pattern(text: &str) -> Result<Arc<Regex>, Error> {
    let mut all = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = all.get(text) {
        return Ok(found.clone());
    }
    let made = RegexBuilder::new(&from_re2(text)).size_limit(LARGEST).build();
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
