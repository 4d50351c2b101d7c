//! API times: RFC 3339 in UTC with whole seconds (`Time`) or microseconds (`MicroTime`).

use jiff::Timestamp;

/// Formats as `metav1.Time`: whole seconds, UTC.
pub fn format_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Formats as `metav1.MicroTime`: always six fractional digits.
pub fn format_micros(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Parses RFC 3339.
///
/// # Errors
/// The text is no RFC 3339 time.
pub fn parse(text: &str) -> Result<Timestamp, jiff::Error> {
    text.parse()
}
