//! Semantic versions.

use std::cmp::Ordering;
use std::rc::Rc;

use crate::error::Error;
use crate::value::Value;

/// A version; what follows `+` does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
}

fn number(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    if canonical && text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn identifiers(text: &str, numeric: bool) -> Option<Vec<String>> {
    let fits = |part: &&str| {
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && (!numeric || !digits || number(part).is_some())
    };
    let parts: Vec<&str> = text.split('.').collect();
    parts.iter().all(fits).then(|| parts.iter().map(|part| (*part).to_owned()).collect())
}

impl Version {
    /// Reads `1.2.3-rc.1+build`.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        if let Some(build) = build {
            identifiers(build, false)?;
        }
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
        let mut parts = core.split('.');
        let numbers = [number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?];
        if parts.next().is_some() {
            return None;
        }
        Some(Self { numbers, pre: pre.map_or(Some(Vec::new()), |pre| identifiers(pre, true))? })
    }

    /// Reads also `v1.2` and leading zeroes.
    fn parse_normalized(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (core, rest) = text.split_at(end);
        let mut parts: Vec<String> = core
            .split('.')
            .map(|part| match part.trim_start_matches('0') {
                "" if !part.is_empty() => "0".to_owned(),
                trimmed => trimmed.to_owned(),
            })
            .collect();
        while parts.len() < 3 && rest.is_empty() {
            parts.push("0".into());
        }
        Self::parse(&format!("{}{rest}", parts.join(".")))
    }

    /// The order of versions.
    pub fn compare(&self, other: &Self) -> Ordering {
        let pre = match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let parts = self.pre.iter().zip(&other.pre).map(|(a, b)| match (number(a), number(b)) {
                    (Some(a), Some(b)) => a.cmp(&b),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => a.cmp(b),
                });
                let first = parts.into_iter().find(|order| order.is_ne());
                first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then(pre)
    }
}

fn read(args: &[Value<'_>]) -> Result<Option<Version>, Error> {
    let text = args[0].str()?;
    let normalize = args.get(1).map(Value::bool).transpose()?.unwrap_or(false);
    Ok(if normalize { Version::parse_normalized(text) } else { Version::parse(text) })
}

pub fn semver<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let version = read(args)?.ok_or_else(|| Error::eval("No Major.Minor.Patch elements found"))?;
    Ok(Value::Semver(Rc::new(version)))
}

pub fn is_semver<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(read(args)?.is_some()))
}

pub fn part<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let Value::Semver(version) = &args[0] else { return Err(Error::no_overload()) };
    let index = ["major", "minor", "patch"].iter().position(|part| *part == name).unwrap_or(0);
    i64::try_from(version.numbers[index]).map(Value::Int).map_err(|_| Error::eval("integer overflow"))
}
