//! Scalars with a form of their own: times, durations, quantities.

use std::fmt::Write;

use super::wire::{BackWriter, Reader};
use super::{Error, Result};

/// Seconds of Go's zero time, year 1.
const ZERO_TIME: i64 = -62_135_596_800;

/// A time as seconds and nanoseconds; `None` for Go's zero time.
pub(crate) type Instant = Option<(i64, i32)>;

/// Reads a `Timestamp` message; an empty one is the zero time.
pub(crate) fn read_time(bytes: &[u8]) -> Result<Instant> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => seconds = field.int as i64,
            2 => nanos = field.int as i32,
            _ => {}
        }
    }
    Ok(if seconds == ZERO_TIME && nanos == 0 { None } else { Some((seconds, nanos)) })
}

/// Writes the content of a `Timestamp`; gogo writes both fields always.
pub(crate) fn write_time(out: &mut BackWriter, time: Instant) {
    if let Some((seconds, nanos)) = time {
        out.varint_field(2, i64::from(nanos) as u64);
        out.varint_field(1, seconds as u64);
    }
}

/// `metav1.Time`'s text, whole seconds in UTC, without an allocation.
pub(crate) struct TimeText {
    bytes: [u8; 20],
    /// Years beyond four digits, which no clock shows.
    long: String,
}

impl TimeText {
    pub fn new(seconds: i64) -> Self {
        let civil = Civil::new(seconds);
        let mut bytes = *b"0000-00-00T00:00:00Z";
        let Ok(year @ 0..=9999) = u16::try_from(civil.year) else {
            return Self { bytes, long: format!("{civil}Z") };
        };
        let mut two = |at: usize, value: u16| {
            bytes[at] = b'0' + (value / 10 % 10) as u8;
            bytes[at + 1] = b'0' + (value % 10) as u8;
        };
        two(0, year / 100);
        two(2, year % 100);
        let parts = [civil.month, civil.day, civil.hour, civil.minute, civil.second];
        for (value, at) in parts.into_iter().zip([5, 8, 11, 14, 17]) {
            two(at, u16::from(value));
        }
        Self { bytes, long: String::new() }
    }

    pub fn as_str(&self) -> &str {
        if self.long.is_empty() { std::str::from_utf8(&self.bytes).unwrap_or_default() } else { &self.long }
    }
}

/// `metav1.Time`'s text: whole seconds in UTC.
pub(crate) fn time_text(seconds: i64) -> String {
    TimeText::new(seconds).as_str().to_owned()
}

/// `metav1.MicroTime`'s text: always six digits.
pub(crate) fn micro_time_text(seconds: i64, nanos: i32) -> String {
    let micros = (nanos / 1000).clamp(0, 999_999);
    let mut text = Civil::new(seconds).to_string();
    // Writing to a String cannot fail.
    let _ = write!(text, ".{micros:06}Z");
    text
}

/// A Unix time in the calendar.
struct Civil {
    year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Civil {
    /// By the usual days-to-civil arithmetic.
    fn new(seconds: i64) -> Self {
        let of_day = seconds.rem_euclid(86_400);
        let shifted = seconds.div_euclid(86_400) + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * month_index + 2) / 5 + 1) as u8,
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
        }
    }
}

impl std::fmt::Display for Civil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
    }
}

/// Parses RFC 3339 as Go's `time.Parse` does; `micro` wants exactly six digits, as `RFC3339Micro`.
pub(crate) fn parse_time(text: &str, micro: bool) -> Result<Instant> {
    let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let fail = || Error::Json(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""));
    let (seconds, nanos) = split_time(text, micro).ok_or_else(fail)?;
    let nanos = if micro { nanos / 1000 * 1000 } else { 0 };
    Ok(if seconds == ZERO_TIME && nanos == 0 { None } else { Some((seconds, nanos)) })
}

fn split_time(text: &str, micro: bool) -> Option<(i64, i32)> {
    let bytes = text.as_bytes();
    let (date, rest) = (bytes.get(..19)?, bytes.get(19..)?);
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| date[at] != byte) {
        return None;
    }
    let num = |range: std::ops::Range<usize>| digits(&date[range]);
    let (year, month, day) = (num(0..4)?, num(5..7)?, num(8..10)?);
    let (hour, minute, second) = (num(11..13)?, num(14..16)?, num(17..19)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    if micro && (rest.first() != Some(&b'.') || rest.len() - zone.len() != 7) {
        return None;
    }
    let offset = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 24 || minutes > 60 {
                return None;
            }
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    Some((days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset, nanos))
}

/// Splits `.123Z` into nanoseconds and the zone.
fn fraction(rest: &[u8]) -> Option<(i32, &[u8])> {
    if !matches!(rest.first(), Some(b'.' | b',')) {
        return Some((0, rest));
    }
    let len = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    if len == 0 {
        return None;
    }
    let nanos = rest[1..=len].iter().chain(std::iter::repeat(&b'0')).take(9);
    Some((nanos.fold(0i32, |n, b| n * 10 + i32::from(b - b'0')), &rest[len + 1..]))
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Go's `time.Duration.String`.
pub(crate) fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    if total < 1_000_000_000 {
        let (unit, scale) = match total {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(total, scale));
    }
    let seconds = total / 1_000_000_000;
    let rest = decimal(seconds % 60 * 1_000_000_000 + total % 1_000_000_000, 1_000_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 {
        format!("{sign}{hours}h{minutes}m{rest}s")
    } else if minutes > 0 {
        format!("{sign}{minutes}m{rest}s")
    } else {
        format!("{sign}{rest}s")
    }
}

/// `value / scale` without trailing zeros.
fn decimal(value: u64, scale: u64) -> String {
    let (whole, part) = (value / scale, value % scale);
    if part == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let text = format!("{whole}.{part:0width$}");
    text.trim_end_matches('0').to_owned()
}

/// Go's `time.ParseDuration`.
pub(crate) fn parse_duration(text: &str) -> Result<i64> {
    let fail = || Error::Json(format!("time: invalid duration {text:?}"));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(fail());
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let len = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| Error::Json(format!("time: missing unit in duration {text:?}")))?;
        let (number, tail) = rest.split_at(len);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(Error::Json(format!("time: unknown unit {unit:?} in duration {text:?}"))),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || whole.len() > 19 || part.contains('.') {
            return Err(fail());
        }
        let part = &part[..part.len().min(18)];
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| fail())? };
        let fraction: i128 = if part.is_empty() { 0 } else { part.parse().map_err(|_| fail())? };
        total += whole * scale + fraction * scale / 10i128.pow(part.len() as u32);
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| fail())
}

/// Parses and prints a quantity in upstream's canonical form.
pub(crate) fn canonical_quantity(text: &str) -> Result<String> {
    if is_canonical(text) {
        return Ok(text.to_owned());
    }
    let quantity: meta::quantity::Quantity =
        text.trim().parse().map_err(|e: meta::quantity::ParseQuantityError| Error::Json(e.to_string()))?;
    Ok(quantity.to_string())
}

/// Whether a short quantity surely stands in its canonical form already, which nearly all do.
pub(crate) fn is_canonical(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || digits > 9 || text.starts_with('0') {
        return text == "0";
    }
    let Ok(number) = text[..digits].parse::<u32>() else { return false };
    match &text[digits..] {
        "" | "m" | "u" | "n" | "k" | "M" | "G" => number % 1000 != 0,
        "Ki" | "Mi" | "Gi" => number % 1024 != 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for text in ["2026-11-21T14:00:01Z", "1970-01-01T00:00:00Z", "2000-02-29T23:59:59Z", "9999-12-31T23:59:59Z"] {
            let (seconds, _) = parse_time(text, false).expect("valid").expect("not zero");
            assert_eq!(time_text(seconds), text);
        }
        assert_eq!(parse_time("2026-01-01T01:00:00.9+01:00", false), Ok(Some((1_767_225_600, 0))));
        assert_eq!(parse_time("0001-01-01T00:00:00Z", false), Ok(None));
        assert_eq!(parse_time("2026-01-01T00:00:00.123456Z", true), Ok(Some((1_767_225_600, 123_456_000))));
        assert!(parse_time("2026-01-01T00:00:00Z", true).is_err());
        for bad in ["", "2026-02-30T00:00:00Z", "2026-01-01", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00"] {
            assert!(parse_time(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn quantities() {
        for text in
            ["0", "1", "100m", "1500m", "64Mi", "1Gi", "250k", "1001", "1e3", "1000m", "1024Ki", "0.5", "1000", "10M"]
        {
            let parsed: meta::quantity::Quantity = text.parse().expect("quantity");
            assert_eq!(canonical_quantity(text).as_deref(), Ok(parsed.to_string().as_str()), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-1_500_000_000, "-1.5s"),
        ] {
            assert_eq!(format_duration(nanos), text);
            assert_eq!(parse_duration(text), Ok(nanos));
        }
        assert!(parse_duration("5").is_err());
        assert!(parse_duration("").is_err());
        assert!(parse_duration("1d").is_err());
    }
}
