//! Numbers that may be percentages, and hashes that name things.

use api::prelude::IntOrString;

/// The number that an int-or-percent means out of a total; `None` when the text is no percentage.
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let parts = percent * i64::from(total);
            let scaled = if round_up { (parts + 99).div_euclid(100) } else { parts.div_euclid(100) };
            i32::try_from(scaled).ok()
        }
    }
}

/// 32-bit FNV-1a, upstream's hash of pod templates.
pub fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A number in the alphabet of generated names, which has no vowels and no look-alikes.
pub fn safe_encode(text: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes().map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])).collect()
}

/// The label value that tells one pod template of an owner from another: a hash over a deterministic dump, and over the
/// number of collisions met so far.
pub fn template_hash(dump: &[u8], collisions: Option<i32>) -> String {
    let mut bytes = dump.to_vec();
    if let Some(count) = collisions {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    safe_encode(&fnv32a(&bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(scaled(&percent("25%"), 10, true), Some(3));
        assert_eq!(scaled(&percent("25%"), 10, false), Some(2));
        assert_eq!(scaled(&percent("x"), 10, false), None);
        assert_eq!(scaled(&IntOrString::Int(4), 10, false), Some(4));
    }

    #[test]
    fn hashes_are_stable() {
        assert_eq!(fnv32a(b"a"), 0xe40c_292c);
        assert_eq!(template_hash(b"x", None), template_hash(b"x", None));
        assert_ne!(template_hash(b"x", None), template_hash(b"x", Some(1)));
    }
}
