//! Resource quantities (`100m`, `1Gi`, `2e3`), exact and in upstream's canonical form.
//!
//! A quantity is `value × 10^exponent` with an `i128` value. As upstream, it keeps no more than nano
//! precision (finer values round up, away from zero) and prints in the suffix family it was written in.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// How a quantity is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// `1k`, `100m`.
    #[default]
    DecimalSi,
    /// `1Ki`, `1Gi`.
    BinarySi,
    /// `1e3`.
    DecimalExponent,
}

/// A fixed-point number with the format it was written in. Equality and order are by value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The text is no quantity; the message is upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// Upstream's `ErrFormatWrong`.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// Upstream's `ErrSuffix`.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// Upstream's `ErrNumeric`.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

const NANO: i128 = 1_000_000_000;
const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
const DECIMAL: [(&str, i32); 10] =
    [("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0), ("m", -3), ("u", -6), ("n", -9)];
/// Upstream caps at 2^63-1 whole units.
const MAX_NANOS: i128 = i64::MAX as i128 * NANO;

impl Quantity {
    /// A whole number.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANO, format }
    }

    /// Thousandths, as CPU is counted.
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// The value in whole units, rounded up (away from zero) as upstream's `Value()`.
    pub fn value(self) -> i64 {
        clamp(div_up(self.nanos, NANO))
    }

    /// The value in thousandths, rounded up as upstream's `MilliValue()`.
    pub fn milli_value(self) -> i64 {
        clamp(div_up(self.nanos, NANO / 1000))
    }

    /// The value in units as a float, for ratios.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// The exact value in billionths.
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(self) -> i32 {
        self.nanos.signum() as i32
    }

    /// The suffix family.
    pub fn format(self) -> Format {
        self.format
    }

    /// Sum; the format is that of `self` unless it is zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// Difference; the format is that of `self` unless it is zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }
}

fn clamp(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

fn div_up(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by == 0 { quotient } else { quotient + value.signum() }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// The numeric part: sign, digits with the point taken out, and how many digits stood behind it.
struct Number {
    negative: bool,
    digits: i128,
    fraction_digits: u32,
    sticky: bool,
}

fn split(text: &str) -> Result<(&str, &str), ParseQuantityError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let number_end = text.len() - unsigned.len() + end;
    if end == 0 || unsigned[..end].matches('.').count() > 1 || &unsigned[..end] == "." {
        return Err(ParseQuantityError::Format);
    }
    Ok((&text[..number_end], &text[number_end..]))
}

fn number(text: &str) -> Result<Number, ParseQuantityError> {
    let negative = text.starts_with('-');
    let unsigned = text.trim_start_matches(['+', '-']);
    let mut number = Number { negative, digits: 0, fraction_digits: 0, sticky: false };
    let mut behind_point = false;
    for c in unsigned.chars() {
        if c == '.' {
            behind_point = true;
            continue;
        }
        let digit = c.to_digit(10).ok_or(ParseQuantityError::Numeric)?;
        if behind_point && number.fraction_digits >= 24 {
            number.sticky |= digit != 0;
            continue;
        }
        number.digits =
            number.digits.checked_mul(10).and_then(|d| d.checked_add(i128::from(digit))).unwrap_or(i128::MAX / 16);
        number.fraction_digits += u32::from(behind_point);
    }
    Ok(number)
}

/// Multiplies by `base^power × 10^9 / 10^fraction`, rounding up and saturating.
fn scale(number: &Number, multiplier: i128, divisor_power: u32) -> i128 {
    let divisor = 10i128.checked_pow(divisor_power).unwrap_or(i128::MAX);
    let whole = number.digits / divisor;
    let rest = number.digits % divisor;
    let high = whole.saturating_mul(multiplier);
    let low = match rest.checked_mul(multiplier) {
        Some(product) => div_up(product, divisor),
        None => div_up((rest / 1_000_000).saturating_mul(multiplier), (divisor / 1_000_000).max(1)),
    };
    let total = high.saturating_add(low).saturating_add(i128::from(number.sticky)).min(MAX_NANOS);
    if number.negative { -total } else { total }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    /// Parses upstream's quantity grammar.
    ///
    /// # Errors
    /// Anything else, with upstream's message.
    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        if text.is_empty() {
            return Err(ParseQuantityError::Format);
        }
        let (numeric, suffix) = split(text)?;
        let number = number(numeric)?;
        if let Some((_, shift)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            let nanos = scale(&number, NANO << shift, number.fraction_digits);
            return Ok(Self { nanos, format: Format::BinarySi });
        }
        let (exponent, format) = match DECIMAL.iter().find(|(name, _)| *name == suffix) {
            Some((_, exponent)) => (*exponent, Format::DecimalSi),
            None => (decimal_exponent(suffix)?, Format::DecimalExponent),
        };
        let power = exponent + 9;
        let nanos = if power >= 0 {
            let multiplier = 10i128.checked_pow(power.min(30) as u32).unwrap_or(i128::MAX);
            scale(&number, multiplier, number.fraction_digits)
        } else {
            scale(&number, 1, number.fraction_digits + power.unsigned_abs().min(60))
        };
        Ok(Self { nanos, format })
    }
}

fn decimal_exponent(suffix: &str) -> Result<i32, ParseQuantityError> {
    let digits = suffix.strip_prefix(['e', 'E']).ok_or(ParseQuantityError::Suffix)?;
    digits.parse::<i32>().map(|e| e.clamp(-60, 60)).map_err(|_| ParseQuantityError::Suffix)
}

impl fmt::Display for Quantity {
    /// The canonical form: the largest suffix that leaves an integer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANO == 0;
        if self.format == Format::BinarySi && whole && (self.nanos / NANO).abs() >= 1024 {
            let units = self.nanos / NANO;
            for (suffix, shift) in BINARY {
                if units % (1i128 << shift) == 0 {
                    return write!(f, "{}{suffix}", units >> shift);
                }
            }
            return write!(f, "{units}");
        }
        if self.format == Format::BinarySi && whole {
            return write!(f, "{}", self.nanos / NANO);
        }
        for (suffix, exponent) in DECIMAL {
            let unit = 10i128.pow((exponent + 9) as u32);
            if self.nanos % unit == 0 {
                let number = self.nanos / unit;
                return match (self.format, exponent) {
                    (Format::DecimalExponent, e) if e != 0 => write!(f, "{number}e{e}"),
                    _ => write!(f, "{number}{suffix}"),
                };
            }
        }
        write!(f, "{}n", self.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (input, output) in [
            ("0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1023Ki", "1023Ki"),
            ("0.5", "500m"),
            ("12.0", "12"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-1.5", "-1500m"),
            ("1000k", "1M"),
            ("0.5Ki", "512"),
            ("1500", "1500"),
            ("100Ei", "9223372036854775807"),
            ("1e-3", "1e-3"),
        ] {
            assert_eq!(input.parse::<Quantity>().unwrap().to_string(), output, "{input}");
        }
    }

    #[test]
    fn malformed() {
        for text in ["", ".", "1.1.1", "abc", "1x", "1ki", "1ee3", "--1"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn rounding_up() {
        assert_eq!("100m".parse::<Quantity>().unwrap().value(), 1);
        assert_eq!("1.1m".parse::<Quantity>().unwrap().milli_value(), 2);
        assert_eq!("2Gi".parse::<Quantity>().unwrap().value(), 2 << 30);
    }
}
