//! Functions on strings; places are counted in characters.

use std::fmt::Write;

use crate::error::Error;
use crate::lib_lists;
use crate::value::Value;

type Result<'a> = std::result::Result<Value<'a>, Error>;

fn place(index: i64, most: usize) -> std::result::Result<usize, Error> {
    usize::try_from(index)
        .ok()
        .filter(|at| *at <= most)
        .ok_or_else(|| Error::eval(format!("index out of range: {index}")))
}

fn chars(value: &Value<'_>) -> std::result::Result<Vec<char>, Error> {
    Ok(value.str()?.chars().collect())
}

pub fn affix<'a>(name: &str, args: &[Value<'a>]) -> Result<'a> {
    let (text, part) = (args[0].str()?, args[1].str()?);
    Ok(Value::Bool(if name == "startsWith" { text.starts_with(part) } else { text.ends_with(part) }))
}

pub fn contains<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Bool(args[0].str()?.contains(args[1].str()?)))
}

pub fn char_at<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let text = chars(&args[0])?;
    let at = place(args[1].int()?, text.len())?;
    Ok(Value::text(text.get(at).map(char::to_string).unwrap_or_default()))
}

pub fn index_of<'a>(name: &str, args: &[Value<'a>]) -> Result<'a> {
    if matches!(args[0], Value::List(_)) {
        return lib_lists::index_of(name, args);
    }
    let (text, part) = (chars(&args[0])?, chars(&args[1])?);
    let last = name == "lastIndexOf";
    let from = args.get(2).map(Value::int).transpose()?;
    let room = text.len().checked_sub(part.len());
    let found = if part.is_empty() {
        Some(match from {
            Some(from) => place(from, text.len())?,
            None if last => text.len(),
            None => 0,
        })
    } else {
        let at = |start: &usize| text[*start..*start + part.len()] == part[..];
        let from = from.map(|from| place(from, text.len())).transpose()?;
        match room {
            None => None,
            Some(room) if last => (0..=from.unwrap_or(room).min(room)).rev().find(at),
            Some(room) => (from.unwrap_or(0)..=room).find(at),
        }
    };
    Ok(Value::Int(found.map_or(-1, |at| i64::try_from(at).unwrap_or(i64::MAX))))
}

pub fn change<'a>(name: &str, args: &[Value<'a>]) -> Result<'a> {
    let text = args[0].str()?;
    Ok(Value::text(match name {
        "lowerAscii" => text.to_ascii_lowercase(),
        "upperAscii" => text.to_ascii_uppercase(),
        _ => text.trim().to_owned(),
    }))
}

pub fn reverse<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    if let Value::List(list) = &args[0] {
        return Ok(Value::list(list.items()?.into_iter().rev().collect()));
    }
    Ok(Value::text(args[0].str()?.chars().rev().collect::<String>()))
}

pub fn substring<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let text = chars(&args[0])?;
    let start = place(args[1].int()?, text.len())?;
    let end = match args.get(2) {
        Some(end) => place(end.int()?, text.len())?,
        None => text.len(),
    };
    if start > end {
        return Err(Error::eval(format!("invalid substring range. start: {start}, end: {end}")));
    }
    Ok(Value::text(text[start..end].iter().collect::<String>()))
}

pub fn replace<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let (text, old, new) = (args[0].str()?, args[1].str()?, args[2].str()?);
    // The result's size is not charged before it exists: a bound keeps a rule from eating the memory.
    const MOST: usize = 16 << 20;
    if new.len().saturating_mul(text.len() / old.len().max(1) + 1) > MOST {
        return Err(Error::eval("replacement is too large"));
    }
    Ok(Value::text(match args.get(3).map(Value::int).transpose()? {
        Some(0) => text.to_owned(),
        Some(count) if count > 0 => text.replacen(old, new, usize::try_from(count).unwrap_or(usize::MAX)),
        _ => text.replace(old, new),
    }))
}

pub fn split<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let (text, by) = (args[0].str()?, args[1].str()?);
    let count = args.get(2).map(Value::int).transpose()?.unwrap_or(-1);
    if count == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    if by.is_empty() {
        let mut parts: Vec<String> = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if parts.len() + 1 == limit {
                parts.push(format!("{c}{}", rest.as_str()));
                break;
            }
            parts.push(c.to_string());
        }
        return Ok(Value::texts(parts));
    }
    Ok(Value::texts(text.splitn(limit, by)))
}

pub fn join<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let separator = args.get(1).map(Value::str).transpose()?.unwrap_or("");
    let items = args[0].items()?;
    let parts = items.iter().map(Value::str).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Value::text(parts.join(separator)))
}

pub fn quote<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let mut quoted = String::from("\"");
    for c in args[0].str()?.chars() {
        match c {
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => {
                let _ = write!(quoted, "{c}");
            }
        }
    }
    quoted.push('"');
    Ok(Value::text(quoted))
}

pub fn escape_key<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::text(args[0].str()?.replace('~', "~0").replace('/', "~1")))
}
