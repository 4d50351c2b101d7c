//! Durations and timestamps.

use std::fmt;

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::error::Error;
use crate::value::Value;

/// A duration in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub i64);

/// A point in time between the years 1 and 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub Timestamp);

const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// Seconds at the start of the year 1 and at the end of 9999.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

fn overflow() -> Error {
    Error::eval("timestamp overflow")
}

impl Span {
    /// Reads Go's form, such as `1h30m` or `-0.5s`.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::read(text).ok_or_else(|| Error::eval(format!("time: invalid duration {text:?}")))
    }

    fn read(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, after) = rest.split_at(end);
            let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if whole.is_empty() && fraction.is_empty() {
                return None;
            }
            let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
            total = total.checked_add(whole.checked_mul(*scale)?)?;
            let mut place = *scale;
            for digit in fraction.chars() {
                place /= 10;
                total += i128::from(digit.to_digit(10)?) * place;
            }
            rest = after;
        }
        i64::try_from(if negative { -total } else { total }).ok().map(Self)
    }

    /// Whole units of so many nanoseconds.
    pub fn in_units(self, nanos: i64) -> i64 {
        self.0 / nanos
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let (whole, rest) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
        if self.0 < 0 {
            f.write_str("-")?;
        }
        if rest == 0 {
            return write!(f, "{whole}s");
        }
        let digits = format!("{rest:09}");
        write!(f, "{whole}.{}s", digits.trim_end_matches('0'))
    }
}

impl Stamp {
    /// Reads RFC 3339.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::eval(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse"));
        let bytes = text.as_bytes();
        let shaped =
            bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && bytes[13] == b':' && bytes[16] == b':';
        if !shaped || text.contains('[') {
            return Err(bad());
        }
        text.parse().ok().map(Self).filter(|at| at.is_in_range()).ok_or_else(bad)
    }

    /// Whether it is within the years that the language has.
    fn is_in_range(&self) -> bool {
        let second = self.0.as_nanosecond().div_euclid(1_000_000_000);
        (i128::from(FIRST)..=i128::from(LAST)).contains(&second)
    }

    /// From seconds since 1970.
    ///
    /// # Errors
    /// Out of range.
    pub fn from_seconds(seconds: i64) -> Result<Self, Error> {
        if !(FIRST..=LAST).contains(&seconds) {
            return Err(overflow());
        }
        Timestamp::from_second(seconds).map(Self).map_err(|_| overflow())
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.as_second()
    }

    /// A later or earlier one.
    ///
    /// # Errors
    /// Out of range.
    pub fn plus(self, nanos: i64) -> Result<Self, Error> {
        let at = self.0.checked_add(SignedDuration::from_nanos(nanos)).map_err(|_| overflow())?;
        Some(Self(at)).filter(|at| at.is_in_range()).ok_or_else(overflow)
    }

    /// The duration since another one.
    ///
    /// # Errors
    /// Too long for a duration.
    pub fn since(self, other: Self) -> Result<Span, Error> {
        let nanos = self.0.as_nanosecond() - other.0.as_nanosecond();
        i64::try_from(nanos).map(Span).map_err(|_| Error::eval("duration overflow"))
    }

    fn in_zone(self, zone: Option<&str>) -> Result<Zoned, Error> {
        let zone = match zone {
            None | Some("" | "UTC" | "Z") => TimeZone::UTC,
            Some(name) => match fixed(name) {
                Some(offset) => TimeZone::fixed(offset),
                None => TimeZone::get(name).map_err(|_| Error::eval(format!("unknown time zone {name}")))?,
            },
        };
        Ok(self.0.to_zoned(zone))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `+05:30` or `-8:00`.
fn fixed(name: &str) -> Option<Offset> {
    let (hours, minutes) = name.split_once(':')?;
    let negative = hours.starts_with('-');
    let hours: i32 = hours.trim_start_matches(['-', '+']).parse().ok()?;
    let minutes: i32 = minutes.parse().ok()?;
    let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    Offset::from_seconds(if negative { -seconds } else { seconds }).ok()
}

/// A part of a timestamp, or a measure of a duration, by the accessor's name.
///
/// # Errors
/// The value is neither, or the time zone is unknown.
pub fn part(name: &str, args: &[Value<'_>]) -> Result<i64, Error> {
    let zone = args.get(1).map(Value::str).transpose()?;
    match &args[0] {
        Value::Timestamp(stamp) => {
            let at = stamp.in_zone(zone)?;
            Ok(match name {
                "getFullYear" => i64::from(at.year()),
                "getMonth" => i64::from(at.month()) - 1,
                "getDate" => i64::from(at.day()),
                "getDayOfMonth" => i64::from(at.day()) - 1,
                "getDayOfWeek" => i64::from(at.weekday().to_sunday_zero_offset()),
                "getDayOfYear" => i64::from(at.day_of_year()) - 1,
                "getHours" => i64::from(at.hour()),
                "getMinutes" => i64::from(at.minute()),
                "getSeconds" => i64::from(at.second()),
                _ => i64::from(at.millisecond()),
            })
        }
        Value::Duration(span) if zone.is_none() => Ok(match name {
            "getHours" => span.in_units(3_600_000_000_000),
            "getMinutes" => span.in_units(60_000_000_000),
            "getSeconds" => span.in_units(1_000_000_000),
            "getMilliseconds" => span.in_units(1_000_000) % 1000,
            _ => return Err(Error::no_overload()),
        }),
        _ => Err(Error::no_overload()),
    }
}
