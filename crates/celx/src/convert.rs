//! Conversions between the language's own types.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;
use crate::time::{Span, Stamp, part};
use crate::value::{Text, Value};

type Result<'a> = std::result::Result<Value<'a>, Error>;

fn range(what: &str) -> Error {
    Error::eval(format!("{what} overflow"))
}

fn bad(what: &str, text: &str) -> Error {
    Error::eval(format!("strconv.Parse{what}: parsing {text:?}: invalid syntax"))
}

pub fn size<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    match &args[0] {
        Value::Str(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => {
            i64::try_from(args[0].size()).map(Value::Int).map_err(|_| range("integer"))
        }
        _ => Err(Error::no_overload()),
    }
}

pub fn type_of<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Type(args[0].type_name().into()))
}

pub fn dynamic<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(args[0].clone())
}

#[allow(clippy::cast_possible_truncation)]
pub fn int<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Int(match &args[0] {
        Value::Int(i) => *i,
        Value::Uint(u) => i64::try_from(*u).map_err(|_| range("integer"))?,
        Value::Double(d) if d.is_finite() && *d > -9_223_372_036_854_775_808.0 && *d < 9_223_372_036_854_775_808.0 => {
            *d as i64
        }
        Value::Double(_) => return Err(range("integer")),
        Value::Str(text) => text.as_str().parse().map_err(|_| bad("Int", text.as_str()))?,
        Value::Timestamp(stamp) => stamp.seconds(),
        Value::Duration(span) => span.0,
        _ => return Err(Error::no_overload()),
    }))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn uint<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Uint(match &args[0] {
        Value::Uint(u) => *u,
        Value::Int(i) => u64::try_from(*i).map_err(|_| range("unsigned integer"))?,
        Value::Double(d) if *d >= 0.0 && *d < 18_446_744_073_709_551_616.0 => *d as u64,
        Value::Double(_) => return Err(range("unsigned integer")),
        Value::Str(text) => text.as_str().parse().map_err(|_| bad("Uint", text.as_str()))?,
        _ => return Err(Error::no_overload()),
    }))
}

#[allow(clippy::cast_precision_loss)]
pub fn double<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Double(match &args[0] {
        Value::Double(d) => *d,
        Value::Int(i) => *i as f64,
        Value::Uint(u) => *u as f64,
        Value::Str(text) => text.as_str().parse().map_err(|_| bad("Float", text.as_str()))?,
        _ => return Err(Error::no_overload()),
    }))
}

pub fn boolean<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    match &args[0] {
        Value::Bool(b) => Ok(Value::Bool(*b)),
        Value::Str(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            other => Err(bad("Bool", other)),
        },
        _ => Err(Error::no_overload()),
    }
}

/// A double as Go prints it, shortest and with an exponent only when it is large or small.
pub fn show_double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{number:e}");
    let exponent: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    if (-4..21).contains(&exponent) {
        return format!("{number}");
    }
    let (mantissa, _) = scientific.split_once('e').unwrap_or((&scientific, ""));
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

pub fn string<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    let text = match &args[0] {
        Value::Str(text) => return Ok(Value::Str(text.clone())),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => show_double(*d),
        Value::Bytes(bytes) => String::from_utf8(bytes.to_vec())
            .map_err(|_| Error::eval("invalid UTF-8 in bytes, cannot convert to string"))?,
        Value::Timestamp(stamp) => stamp.to_string(),
        Value::Duration(span) => span.to_string(),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(cidr) => cidr.to_string(),
        _ => return Err(Error::no_overload()),
    };
    Ok(Value::text(text))
}

pub fn bytes<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    match &args[0] {
        Value::Bytes(bytes) => Ok(Value::Bytes(bytes.clone())),
        Value::Str(text) => Ok(Value::Bytes(text.as_str().as_bytes().into())),
        _ => Err(Error::no_overload()),
    }
}

pub fn timestamp<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Timestamp(match &args[0] {
        Value::Timestamp(stamp) => *stamp,
        Value::Str(text) => Stamp::parse(text.as_str())?,
        Value::Int(seconds) => Stamp::from_seconds(*seconds)?,
        _ => return Err(Error::no_overload()),
    }))
}

pub fn duration<'a>(_: &str, args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Duration(match &args[0] {
        Value::Duration(span) => *span,
        Value::Str(text) => Span::parse(text.as_str())?,
        Value::Int(nanos) => Span(*nanos),
        _ => return Err(Error::no_overload()),
    }))
}

pub fn time_part<'a>(name: &str, args: &[Value<'a>]) -> Result<'a> {
    part(name, args).map(Value::Int)
}

/// Text of a value inside a formatted string.
pub fn show(value: &Value<'_>) -> std::result::Result<String, Error> {
    Ok(match value {
        Value::Null => "null".into(),
        Value::Str(Text::Ref(text)) => (*text).to_owned(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Type(name) => name.to_string(),
        Value::List(list) => {
            let items = list.items()?.iter().map(show).collect::<std::result::Result<Vec<_>, _>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entries = map.entries()?;
            let shown = entries.iter().map(|(k, v)| Ok(format!("{}: {}", show(&k.value())?, show(v)?)));
            format!("{{{}}}", shown.collect::<std::result::Result<Vec<_>, Error>>()?.join(", "))
        }
        other => match string("", std::slice::from_ref(other)) {
            Ok(Value::Str(text)) => text.as_str().to_owned(),
            _ => {
                let name = other.type_name();
                let allowed = "strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps";
                return Err(Error::eval(format!("string clause can only be used on {allowed}, was given {name}")));
            }
        },
    })
}

/// Base 64, for the format of the same name.
pub fn is_base64(text: &str) -> bool {
    STANDARD.decode(text).is_ok()
}
