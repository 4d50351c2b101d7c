//! `'%s has %d'.format([...])`.

use crate::convert::{show, show_double};
use crate::error::Error;
use crate::value::Value;

/// Fills a template.
pub fn format<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let mut values = args[1].items()?.into_iter();
    let template: Vec<char> = args[0].str()?.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < template.len() {
        let c = template[at];
        at += 1;
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        if template.get(at) == Some(&'.') {
            at += 1;
            let start = at;
            while template.get(at).is_some_and(char::is_ascii_digit) {
                at += 1;
            }
            let digits: String = template[start..at].iter().collect();
            let number = digits.parse::<usize>().ok().filter(|p| *p <= 100);
            precision = Some(number.ok_or_else(|| Error::eval("error while converting precision to integer"))?);
        }
        let clause = template.get(at).copied().ok_or_else(|| Error::eval("unexpected end of string"))?;
        at += 1;
        if clause == '%' {
            out.push('%');
            continue;
        }
        let index = args[1].size() - values.len() as u64;
        let value = values.next().ok_or_else(|| Error::eval(format!("index {index} out of range")))?;
        out.push_str(&one(clause, precision, &value)?);
    }
    Ok(Value::text(out))
}

fn one(clause: char, precision: Option<usize>, value: &Value<'_>) -> Result<String, Error> {
    let wrong = |what: &str, allowed: &str| {
        Error::eval(format!(
            "error during formatting: {what} clause can only be used on {allowed}, was given {}",
            value.type_name()
        ))
    };
    Ok(match (clause, value) {
        ('s', _) => show(value)?,
        ('d', Value::Int(i)) => i.to_string(),
        ('d', Value::Uint(u)) => u.to_string(),
        ('d', Value::Double(d)) if !d.is_finite() => show_double(*d),
        ('d', _) => return Err(wrong("decimal", "integers")),
        ('f', _) => match number(value) {
            Some(d) if d.is_finite() => format!("{d:.*}", precision.unwrap_or(6)),
            Some(d) => show_double(d),
            None => return Err(wrong("fixed-point", "doubles")),
        },
        ('e', _) => match number(value) {
            Some(d) if d.is_finite() => exponential(d, precision.unwrap_or(6)),
            Some(d) => show_double(d),
            None => return Err(wrong("scientific", "doubles")),
        },
        ('b', Value::Bool(b)) => if *b { "1" } else { "0" }.into(),
        ('b', Value::Int(i)) => signed(*i, |m| format!("{m:b}")),
        ('b', Value::Uint(u)) => format!("{u:b}"),
        ('b', _) => return Err(wrong("binary", "integers and bools")),
        ('o', Value::Int(i)) => signed(*i, |m| format!("{m:o}")),
        ('o', Value::Uint(u)) => format!("{u:o}"),
        ('o', _) => return Err(wrong("octal", "integers")),
        ('x', _) => hex(value).ok_or_else(|| wrong("hex", "integers, byte buffers, and strings"))?,
        ('X', _) => hex(value).ok_or_else(|| wrong("hex", "integers, byte buffers, and strings"))?.to_uppercase(),
        _ => {
            return Err(Error::eval(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{clause}\""
            )));
        }
    })
}

#[allow(clippy::cast_precision_loss)]
fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(d) => Some(*d),
        Value::Int(i) => Some(*i as f64),
        Value::Uint(u) => Some(*u as f64),
        _ => None,
    }
}

fn signed(value: i64, digits: impl Fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, digits(value.unsigned_abs()))
}

fn hex(value: &Value<'_>) -> Option<String> {
    let of = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(match value {
        Value::Int(i) => signed(*i, |m| format!("{m:x}")),
        Value::Uint(u) => format!("{u:x}"),
        Value::Str(text) => of(text.as_str().as_bytes()),
        Value::Bytes(bytes) => of(bytes),
        _ => return None,
    })
}

fn exponential(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}
