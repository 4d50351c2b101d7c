//! Counts that are given as a number or a percentage.

use api::prelude::IntOrString;

/// The count that a number or percentage of `total` stands for.
pub(crate) fn resolve(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(count)) => *count,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent * i64::from(total);
            let share = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_told() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(resolve(Some(&quarter), 5, true), 2);
        assert_eq!(resolve(Some(&quarter), 5, false), 1);
        assert_eq!(resolve(Some(&IntOrString::Int(3)), 5, false), 3);
        assert_eq!(resolve(None, 5, true), 0);
    }
}
