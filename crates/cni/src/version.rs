//! Versions of the specification.

use std::cmp::Ordering;

/// Versions that the built-in plugins and the runtime side speak, oldest first.
pub const SUPPORTED: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The newest of them.
pub const CURRENT: &str = "1.1.0";

/// What a configuration without `cniVersion` means: the specification's text says 0.2.0, libcni takes 0.1.0.
pub const ABSENT: &str = "0.1.0";

/// Compares dotted versions; what does not parse counts as zero.
pub fn compare(a: &str, b: &str) -> Ordering {
    let parts = |v: &str| -> [u64; 3] {
        let mut out = [0; 3];
        for (slot, part) in out.iter_mut().zip(v.split('.')) {
            *slot = part.parse().unwrap_or(0);
        }
        out
    };
    parts(a).cmp(&parts(b))
}

/// Whether `a` is at least `b`.
pub fn at_least(a: &str, b: &str) -> bool {
    compare(a, b) != Ordering::Less
}

/// Whether this version is spoken here.
pub fn is_supported(version: &str) -> bool {
    SUPPORTED.contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order() {
        assert!(at_least("1.0.0", "0.4.0") && at_least("0.4.0", "0.4.0") && !at_least("0.3.1", "0.4.0"));
        assert!(at_least("1.10.0", "1.9.9"));
        assert!(is_supported("1.1.0") && !is_supported("0.2.0"));
    }
}
