//! The five fields of a cron schedule.

/// Names of a field's values, the lowest first.
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A field: lowest and highest value, names.
const FIELDS: [(u32, u32, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, &MONTHS), (0, 6, &DAYS)];

/// Checks a schedule: five fields, or one of the `@` names.
///
/// # Errors
/// The first thing that is wrong, in the cron library's words.
pub fn check(text: &str) -> Result<(), String> {
    if let Some(name) = text.strip_prefix('@') {
        return match name {
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => Ok(()),
            _ if name.starts_with("every ") => duration(name.trim_start_matches("every ").trim()),
            _ => Err(format!("unrecognized descriptor: {text}")),
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(FIELDS).try_for_each(|(field, (low, high, names))| {
        field.split(',').try_for_each(|range| check_range(range, low, high, names))
    })
}

fn duration(text: &str) -> Result<(), String> {
    let fine = text.len() > 1 && text.ends_with(['s', 'm', 'h']) && text[..1].chars().all(|c| c.is_ascii_digit());
    if fine { Ok(()) } else { Err(format!("failed to parse duration @every {text}")) }
}

fn check_range(text: &str, low: u32, high: u32, names: &[&str]) -> Result<(), String> {
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    if let Some(step) = step {
        let number = number(step, &[])?;
        if number == 0 {
            return Err(format!("step of range should be a positive number: {text}"));
        }
    }
    if matches!(range, "*" | "?") {
        return Ok(());
    }
    let (start, end) = match range.split_once('-') {
        Some((start, end)) => (number(start, names)?, number(end, names)?),
        None => {
            let start = number(range, names)?;
            (start, if step.is_some() { high } else { start })
        }
    };
    if start < low {
        return Err(format!("beginning of range ({start}) below minimum ({low}): {text}"));
    }
    if end > high {
        return Err(format!("end of range ({end}) above maximum ({high}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    Ok(())
}

fn number(text: &str, names: &[&str]) -> Result<u32, String> {
    let lower = text.to_lowercase();
    if let Some(place) = names.iter().position(|name| *name == lower) {
        // Months count from one, days from zero.
        let first = if names.len() == MONTHS.len() { 1 } else { 0 };
        return Ok(u32::try_from(place).unwrap_or(0) + first);
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/15 0-6 1,15 jan-mar mon", "@hourly", "0 0 31 12 6", "5/10 * * * ?"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["* * * *", "60 * * * *", "* 24 * * *", "a * * * *", "*/0 * * * *", "@never", "5-1 * * * *"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
