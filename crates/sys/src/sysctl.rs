//! Kernel parameters of the namespaces this process is in.

use std::path::PathBuf;

use crate::{Context, Error, Result};

/// The file of `net.ipv4.ip_forward` or `net/ipv4/ip_forward`; in the slash form dots are part of names.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    let relative = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    PathBuf::from("/proc/sys").join(relative)
}

/// Sets a parameter.
///
/// # Errors
/// A name that leaves /proc/sys, and the kernel's errors.
pub fn set(name: &str, value: &str) -> Result<()> {
    if name.split(['/', '.']).any(str::is_empty) {
        return Err(Error::invalid("set sysctl", name, "not a sysctl's name"));
    }
    let path = path(name);
    std::fs::write(&path, value).at("write", &path)
}

/// Reads a parameter, without its newline.
///
/// # Errors
/// The kernel's.
pub fn get(name: &str) -> Result<String> {
    let path = path(name);
    Ok(std::fs::read_to_string(&path).at("read", &path)?.trim_end().to_owned())
}
