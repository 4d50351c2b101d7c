//! Query parameters.

use std::collections::BTreeMap;

/// Decoded parameters, each with its values in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    /// Parses a query string; malformed escapes are kept as they are.
    pub fn parse(text: &str) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            all.entry(unescape(key, true)).or_default().push(unescape(value, true));
        }
        Self(all)
    }

    /// The first value, empty when absent.
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).and_then(|v| v.first()).map_or("", String::as_str)
    }

    /// All values.
    pub fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether the parameter is there at all.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A boolean as upstream's conversion reads it: present and not `false` or `0`.
    pub fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(|v| v.first()).is_some_and(|v| !matches!(v.to_lowercase().as_str(), "false" | "0"))
    }

    /// An integer, `None` when absent or malformed.
    pub fn int(&self, key: &str) -> Option<i64> {
        self.get(key).parse().ok()
    }
}

/// Undoes percent escapes; `plus` also turns `+` into a space.
pub(crate) fn unescape(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| (*b as char).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) if plus => {
                out.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
