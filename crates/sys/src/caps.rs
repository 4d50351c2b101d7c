//! Capabilities by name, and setting all five sets of a process.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::{Context, Error, Result};

/// Names in the kernel's order: the index is the number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of CAP_SYS_RESOURCE.
pub const SYS_RESOURCE: u32 = 24;
/// The number of CAP_SYS_ADMIN.
pub const SYS_ADMIN: u32 = 21;

/// The bit of a capability named with or without `CAP_`, in any case.
#[must_use]
pub fn bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == short).map(|index| 1 << index)
}

/// The names (`CAP_…`) of a set.
#[must_use]
pub fn names(set: u64) -> Vec<String> {
    let known = NAMES.iter().enumerate().filter(|(index, _)| set & (1 << index) != 0);
    known.map(|(_, name)| format!("CAP_{name}")).collect()
}

/// Adds up a list of names.
///
/// # Errors
/// The first unknown name.
pub fn set_of(list: &[String]) -> Result<u64, String> {
    list.iter().try_fold(0, |set, name| bit(name).map(|b| set | b).ok_or_else(|| name.clone()))
}

/// The bounding set of this process: the most that any program started by it can have.
///
/// # Errors
/// `/proc` cannot be read.
pub fn bounding() -> Result<u64> {
    status_field("CapBnd:")
}

/// The effective set of this process.
///
/// # Errors
/// `/proc` cannot be read.
pub fn effective() -> Result<u64> {
    status_field("CapEff:")
}

fn status_field(field: &str) -> Result<u64> {
    const PATH: &str = "/proc/self/status";
    let status = std::fs::read_to_string(PATH).at("read", PATH)?;
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    line.and_then(|v| u64::from_str_radix(v.trim(), 16).ok()).ok_or_else(|| Error {
        op: "read",
        path: PATH.into(),
        source: io::ErrorKind::InvalidData.into(),
    })
}

/// The five sets of a process, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sets {
    /// What can ever be had.
    pub bounding: u64,
    /// What counts now.
    pub effective: u64,
    /// What can be made effective.
    pub permitted: u64,
    /// What file capabilities may pass on.
    pub inheritable: u64,
    /// What survives an exec without file capabilities.
    pub ambient: u64,
}

/// Drops from the bounding set all that is not in `keep`. Before the change of user, while CAP_SETPCAP is there.
///
/// # Errors
/// The kernel's; capabilities the kernel does not know are left out.
pub fn limit_bounding(keep: u64) -> Result<()> {
    for index in 0..64 {
        let bit = 1u64 << index;
        if keep & bit != 0 {
            continue;
        }
        let Some(capability) = CapabilitySet::from_bits(bit) else { continue };
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) => rustix::thread::remove_capability_from_bounding_set(capability).at("drop capability", "")?,
            Ok(false) => {}
            Err(_) => break, // past the last capability the kernel knows
        }
    }
    Ok(())
}

/// Keeps the permitted set over a change of user.
///
/// # Errors
/// The kernel's.
pub fn keep_over_setuid(keep: bool) -> Result<()> {
    rustix::thread::set_keep_capabilities(keep).at("keep capabilities", "")
}

/// Sets effective, permitted, inheritable and ambient; the bounding set is [`limit_bounding`]'s.
///
/// What this process itself lacks is left out of the permitted set rather than refused, as a node in a container
/// cannot give what it has not got.
///
/// # Errors
/// The kernel's.
pub fn apply(sets: &Sets) -> Result<()> {
    // Asked of the kernel, not of /proc, which may be a container's by now.
    let have = rustix::thread::capabilities(None).at("read capabilities", "")?.permitted.bits();
    let limit = |set: u64| CapabilitySet::from_bits_retain(set & have);
    let wanted = CapabilitySets {
        effective: limit(sets.effective),
        permitted: limit(sets.permitted),
        inheritable: limit(sets.inheritable),
    };
    rustix::thread::set_capabilities(None, wanted).at("set capabilities", "")?;
    rustix::thread::clear_ambient_capability_set().at("clear ambient capabilities", "")?;
    for (index, name) in NAMES.iter().enumerate() {
        let bit = 1u64 << index;
        if sets.ambient & have & bit != 0 {
            let capability = CapabilitySet::from_bits_retain(bit);
            rustix::thread::configure_capability_in_ambient_set(capability, true).at("set ambient capability", name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{bit, names};

    #[test]
    fn names_and_bits() {
        assert_eq!(bit("CAP_CHOWN"), Some(1));
        assert_eq!(bit("net_bind_service"), Some(1 << 10));
        assert_eq!(bit("CAP_NOPE"), None);
        assert_eq!(names(0b11), ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
    }
}
