//! URLs, in the parts that expressions can ask for.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::error::Error;
use crate::value::{Key, Value};

/// A URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// Reads an absolute URL or an absolute path, as Go's `ParseRequestURI` does.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fail = |why: &str| format!("parse {text:?}: {why}");
        if text.is_empty() {
            return Err(fail("empty url"));
        }
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(fail("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            Some(("", _)) => return Err(fail("missing protocol scheme")),
            _ => (String::new(), text),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            return match scheme.is_empty() {
                true => Err(fail("invalid URI for request")),
                false => Ok(Self { scheme, host: String::new(), path: String::new(), query: query.into() }),
            };
        }
        let (host, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let authority = &rest[..end];
                (authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned(), &rest[end..])
            }
            None => (String::new(), rest),
        };
        check_host(&host).map_err(|why| fail(&why))?;
        if !valid_escapes(path) {
            return Err(fail("invalid URL escape"));
        }
        Ok(Self { scheme, host, path: escaped(path), query: query.into() })
    }

    fn hostname(&self) -> &str {
        if let Some(rest) = self.host.strip_prefix('[') {
            return rest.split(']').next().unwrap_or("");
        }
        self.host.rsplit_once(':').map_or(&self.host, |(name, _)| name)
    }

    fn port(&self) -> &str {
        let after = self.host.rsplit_once(']').map_or(self.host.as_str(), |(_, after)| after);
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn check_host(host: &str) -> Result<(), String> {
    if let Some(bad) = host.chars().find(|c| matches!(c, ' ' | '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}')) {
        return Err(format!("invalid character {:?} in host name", bad.to_string()));
    }
    if host.starts_with('[') && !host.contains(']') {
        return Err("missing ']' in host".into());
    }
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match after.split_once(':') {
        Some((_, port)) if !port.chars().all(|c| c.is_ascii_digit()) => {
            Err(format!("invalid port {:?} after host", format!(":{port}")))
        }
        _ => Ok(()),
    }
}

fn valid_escapes(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    (0..bytes.len()).all(|at| bytes[at] != b'%' || (hex(at + 1) && hex(at + 2)))
}

fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes the escapes of a query; `None` when they are malformed.
fn decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                out.push(u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok()?);
                at += 2;
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

pub fn url<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let parsed = Url::parse(args[0].str()?)
        .map_err(|why| Error::eval(format!("URL parse error during conversion from string: {why}")))?;
    Ok(Value::Url(Rc::new(parsed)))
}

pub fn is_url<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(Url::parse(args[0].str()?).is_ok()))
}

pub fn part<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let Value::Url(url) = &args[0] else { return Err(Error::no_overload()) };
    Ok(Value::text(match name {
        "getScheme" => &url.scheme,
        "getHost" => &url.host,
        "getHostname" => url.hostname(),
        "getPort" => url.port(),
        _ => &url.path,
    }))
}

pub fn query<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let Value::Url(url) = &args[0] else { return Err(Error::no_overload()) };
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (decoded(key), decoded(value)) {
            found.entry(key).or_default().push(value);
        }
    }
    let entries = found.into_iter().map(|(key, values)| (Key::Str(key.into()), Value::texts(values)));
    Ok(Value::Map(crate::value::Map::Own(Rc::new(entries.collect()))))
}
