//! Cron lines: five fields, names, ranges, steps, and `@daily` and the like.

use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// How far ahead a line that never matches is followed.
const YEARS: i16 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    bits: u64,
    star: bool,
}

impl Field {
    fn has(self, value: i8) -> bool {
        self.bits & (1 << value) != 0
    }
}

/// A parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Schedule {
    /// Fixed distances.
    Every(Duration),
    /// Matching minutes.
    Fields(Box<Fields>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

fn number(text: &str, names: &[&str], first: u8) -> Result<u8, String> {
    if let Some(at) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(u8::try_from(at).unwrap_or(0) + first);
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

fn field(text: &str, (low, high): (u8, u8), names: &[&str], first: u8) -> Result<Field, String> {
    let (mut bits, mut star) = (0u64, false);
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(number(step, &[], 0)?)),
        };
        let every = matches!(range, "*" | "?");
        let (start, end) = if every {
            (low, high)
        } else if let Some((start, end)) = range.split_once('-') {
            (number(start, names, first)?, number(end, names, first)?)
        } else {
            let only = number(range, names, first)?;
            (only, if step.is_some() { high } else { only })
        };
        if start < low {
            return Err(format!("beginning of range ({start}) below minimum ({low}): {part}"));
        }
        if end > high {
            return Err(format!("end of range ({end}) above maximum ({high}): {part}"));
        }
        if start > end {
            return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
        }
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        star |= every && step == 1;
        (start..=end).step_by(usize::from(step)).for_each(|value| bits |= 1 << value);
    }
    Ok(Field { bits, star })
}

fn every(text: &str) -> Result<Schedule, String> {
    let bad = || format!("failed to parse duration @every {text}");
    let (mut seconds, mut rest) = (0u64, text.trim());
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit = match rest.as_bytes().get(digits) {
            Some(b'h') => 3600,
            Some(b'm') => 60,
            Some(b's') => 1,
            _ => return Err(bad()),
        };
        seconds += count * unit;
        rest = &rest[digits + 1..];
    }
    if seconds == 0 { Err(bad()) } else { Ok(Schedule::Every(Duration::from_secs(seconds))) }
}

impl Schedule {
    /// Parses a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("@every ") {
            return every(text);
        }
        let line = match line {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => return Err(format!("unrecognized descriptor: {other}")),
            other => other,
        };
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(format!("expected exactly 5 fields, found {}: {parts:?}", parts.len()));
        };
        Ok(Self::Fields(Box::new(Fields {
            minute: field(minute, (0, 59), &[], 0)?,
            hour: field(hour, (0, 23), &[], 0)?,
            day: field(day, (1, 31), &[], 0)?,
            month: field(month, (1, 12), &MONTHS, 1)?,
            weekday: field(weekday, (0, 6), &DAYS, 0)?,
        })))
    }

    /// The next time after one, in a time zone.
    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(distance) => {
                let distance = i64::try_from(distance.as_secs()).ok()?;
                Timestamp::from_second(after.as_second() + distance).ok()
            }
            Self::Fields(fields) => fields.next(after, zone),
        }
    }

    /// The latest time in `(from, until]`, and whether more than 100 were passed over.
    pub(super) fn latest(&self, from: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<(Timestamp, bool)> {
        let passed = std::iter::successors(self.next(from, zone), |t| self.next(*t, zone)).take_while(|t| *t <= until);
        let many = passed.take(101).count() > 100;
        // Short looks back first: long gaps have many times.
        for seconds in [3_600, 86_400, 35 * 86_400] {
            let start = Timestamp::from_second(until.as_second() - seconds).unwrap_or(from);
            if start <= from {
                break;
            }
            if let Some(found) = self.last_after(start, until, zone) {
                return Some((found, many));
            }
        }
        self.last_after(from, until, zone).map(|found| (found, many))
    }

    fn last_after(&self, from: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        std::iter::successors(self.next(from, zone), |t| self.next(*t, zone)).take_while(|t| *t <= until).last()
    }
}

impl Fields {
    fn is_day(&self, date: Date) -> bool {
        if !self.month.has(date.month()) {
            return false;
        }
        let day = self.day.has(date.day());
        let weekday = self.weekday.has(date.weekday().to_sunday_zero_offset());
        // With both given, one is enough.
        if self.day.star || self.weekday.star { day && weekday } else { day || weekday }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = after.to_zoned(zone.clone()).datetime();
        let end = start.year().checked_add(YEARS)?;
        let mut date = start.date();
        while date.year() <= end {
            if self.is_day(date)
                && let Some(found) = self.on(date, after, zone)
            {
                return Some(found);
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    fn on(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        for hour in (0..24).filter(|h| self.hour.has(*h)) {
            for minute in (0..60).filter(|m| self.minute.has(*m)) {
                let moment = zone.to_ambiguous_timestamp(date.to_datetime(Time::constant(hour, minute, 0, 0)));
                // A time that the clock jumps over does not happen.
                if matches!(moment.offset(), AmbiguousOffset::Gap { .. }) {
                    continue;
                }
                if let Ok(found) = moment.compatible()
                    && found > after
                {
                    return Some(found);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_times() {
        for (line, zone, after, want) in [
            ("*/15 * * * *", "UTC", "2024-01-01T00:01:00Z", "2024-01-01T00:15:00Z"),
            ("0 0 29 2 *", "UTC", "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 9 * * mon-fri", "UTC", "2024-01-06T00:00:00Z", "2024-01-08T09:30:00Z"),
            ("0 0 13 * fri", "UTC", "2024-01-01T00:00:00Z", "2024-01-05T00:00:00Z"),
            ("@hourly", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"),
            ("@every 90s", "UTC", "2024-01-01T00:00:00Z", "2024-01-01T00:01:30Z"),
            ("0 12 * * *", "Europe/Berlin", "2024-07-01T00:00:00Z", "2024-07-01T10:00:00Z"),
            // 02:30 does not exist on the day the clock goes forward.
            ("30 2 * * *", "Europe/Berlin", "2024-03-30T12:00:00Z", "2024-04-01T00:30:00Z"),
        ] {
            let zone = TimeZone::get(zone).unwrap();
            let next = Schedule::parse(line).unwrap().next(after.parse().unwrap(), &zone);
            assert_eq!(next, Some(want.parse().unwrap()), "{line}");
        }
    }

    #[test]
    fn bad_lines() {
        for line in ["* * * *", "60 * * * *", "5-1 * * * *", "* * 0 * *", "@never", "*/0 * * * *", "x * * * *"] {
            assert!(Schedule::parse(line).is_err(), "{line}");
        }
        assert_eq!(Schedule::parse("0 0 31 2 *").unwrap().next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }

    #[test]
    fn latest_of_many() {
        let schedule = Schedule::parse("* * * * *").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let found = schedule.latest(at("2023-01-01T00:00:00Z"), at("2024-01-01T00:00:30Z"), &TimeZone::UTC);
        assert_eq!(found, Some((at("2024-01-01T00:00:00Z"), true)));
        assert_eq!(schedule.latest(at("2024-01-01T00:00:10Z"), at("2024-01-01T00:00:30Z"), &TimeZone::UTC), None);
    }
}
