//! Network sysctls of one namespace. `/proc/sys/net` shows the namespace of the thread that opens it.

use super::{Error, NetNs, Result};

/// Writes `value` to `net/...` in the calling thread's namespace; a value that is there already is not rewritten,
/// so that a read-only /proc/sys with the right value is no error.
///
/// # Errors
/// When the key is missing or read-only.
pub fn set(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|source| Error::Sysctl { key: key.to_owned(), source })
}

/// Reads a key in the calling thread's namespace.
///
/// # Errors
/// When the key is missing.
pub fn get(key: &str) -> Result<String> {
    std::fs::read_to_string(format!("/proc/sys/{key}"))
        .map(|v| v.trim().to_owned())
        .map_err(|source| Error::Sysctl { key: key.to_owned(), source })
}

/// Whether the key exists in this kernel.
pub fn exists(key: &str) -> bool {
    std::path::Path::new("/proc/sys").join(key).exists()
}

/// Writes several keys inside `ns`.
///
/// # Errors
/// As [`set`], at the first key that fails.
pub fn set_all_in(ns: &NetNs, pairs: &[(String, &str)]) -> Result<()> {
    ns.run(|| pairs.iter().try_for_each(|(key, value)| set(key, value)))?
}
