//! Seccomp filters: the default profile, profiles of the node in the OCI form, and their compiled programs on disk.
//!
//! Filters are compiled here, in the daemon, and kept under a name that is their content's hash: the supervisor only
//! reads bytes. One program has one action for all it lists, so a profile with several actions becomes several
//! programs; of those the kernel takes the most restrictive answer and, among equals, that of the last installed.

mod profile;
mod table;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use self::profile::Profile;

/// Rules by system call number; an empty list matches whatever the arguments are.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiles the default profile for a container with these capabilities (bits), gives the programs' files.
///
/// # Errors
/// One line.
pub(crate) fn runtime_default(dir: &Path, capabilities: u64) -> Result<Vec<PathBuf>, String> {
    let has = |name: &str| sys::caps::bit(name).is_some_and(|bit| capabilities & bit != 0);
    let mut allowed = Rules::new();
    for (name, number) in syscalls() {
        let guard = GUARDED.iter().find(|(names, _)| names.contains(&name));
        let open = match guard {
            Some((_, caps)) => caps.iter().any(|cap| has(cap)),
            None => !DENIED.contains(&name),
        };
        if open {
            allowed.insert(number, Vec::new());
        }
    }
    let condition = |arg, op, value| SeccompCondition::new(arg, SeccompCmpArgLen::Dword, op, value);
    let rule = |c| SeccompRule::new(vec![c]);
    let built = || -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
        // Sockets of any family but AF_VSOCK, which would reach the hypervisor.
        conditional(&mut allowed, "socket", vec![rule(condition(0, SeccompCmpOp::Ne, 40)?)?]);
        let mut personalities = Vec::new();
        for value in [0, 0x8, 0x20000, 0x20008, 0xffff_ffff] {
            personalities.push(rule(condition(0, SeccompCmpOp::Eq, value)?)?);
        }
        conditional(&mut allowed, "personality", personalities);
        let mut programs = Vec::new();
        let mut no_clone3 = Rules::new();
        if !has("SYS_ADMIN") {
            // New namespaces by clone: refused; clone3's flags cannot be looked at, so programs are sent back to
            // clone by "not implemented".
            let mask = SeccompCmpOp::MaskedEq(0x7e02_0000);
            let clone = SeccompCondition::new(0, SeccompCmpArgLen::Qword, mask, 0)?;
            conditional(&mut allowed, "clone", vec![rule(clone)?]);
            conditional(&mut no_clone3, "clone3", Vec::new());
        }
        let errno = SeccompAction::Errno(libc::EPERM as u32);
        programs.push(compile(allowed, errno, SeccompAction::Allow)?);
        if !no_clone3.is_empty() {
            let missing = SeccompAction::Errno(libc::ENOSYS as u32);
            programs.push(compile(no_clone3, SeccompAction::Allow, missing)?);
        }
        Ok(programs)
    }();
    save(dir, &built.map_err(|e| format!("compile the default seccomp profile: {e}"))?)
}

/// Compiles a profile of the node, gives the programs' files.
///
/// # Errors
/// One line: no such file, not a profile, an action this kernel or compiler cannot do.
pub(crate) fn localhost(dir: &Path, file: &Path, capabilities: u64) -> Result<Vec<PathBuf>, String> {
    let text = std::fs::read(file).map_err(|e| format!("cannot load seccomp profile {:?}: {e}", file.display()))?;
    let profile: Profile =
        serde_json::from_slice(&text).map_err(|e| format!("cannot load seccomp profile {:?}: {e}", file.display()))?;
    save(dir, &profile.compile(capabilities)?)
}

fn conditional(rules: &mut Rules, name: &str, list: Vec<SeccompRule>) {
    if let Some(number) = number(name) {
        rules.insert(number, list);
    }
}

fn compile(
    rules: Rules,
    mismatch: SeccompAction,
    matching: SeccompAction,
) -> Result<BpfProgram, seccompiler::BackendError> {
    SeccompFilter::new(rules, mismatch, matching, ARCH)?.try_into()
}

fn save(dir: &Path, programs: &[BpfProgram]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for program in programs {
        let mut bytes = Vec::with_capacity(program.len() * sys::seccomp::INSTRUCTION_BYTES);
        for i in program {
            bytes.extend_from_slice(&i.code.to_ne_bytes());
            bytes.extend_from_slice(&[i.jt, i.jf]);
            bytes.extend_from_slice(&i.k.to_ne_bytes());
        }
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let path = dir.join(format!("{:016x}-{}", hasher.finish(), bytes.len()));
        if !path.exists() {
            sys::fs::write_atomic(&path, &bytes).map_err(|e| e.line())?;
        }
        files.push(path);
    }
    Ok(files)
}

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// All system calls of this architecture.
fn syscalls() -> impl Iterator<Item = (&'static str, i64)> {
    table::SYSCALLS.iter().filter_map(|(name, x86, arm)| {
        let number = if cfg!(target_arch = "x86_64") { *x86 } else { *arm };
        (number >= 0).then_some((*name, i64::from(number)))
    })
}

fn number(name: &str) -> Option<i64> {
    syscalls().find(|(n, _)| *n == name).map(|(_, number)| number)
}

/// System calls that docker's and containerd's default profiles leave out whatever the capabilities.
const DENIED: &[&str] = &[
    "_sysctl",
    "add_key",
    "afs_syscall",
    "create_module",
    "get_kernel_syms",
    "getpmsg",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "migrate_pages",
    "move_pages",
    "nfsservctl",
    "pivot_root",
    "putpmsg",
    "query_module",
    "request_key",
    "security",
    "swapoff",
    "swapon",
    "sync_file_range2",
    "sysfs",
    "tuxcall",
    "uselib",
    "userfaultfd",
    "ustat",
    "vserver",
];

/// System calls that are allowed with one of some capabilities.
const GUARDED: &[(&[&str], &[&str])] = &[
    (&["open_by_handle_at"], &["DAC_READ_SEARCH"]),
    (&["bpf"], &["SYS_ADMIN", "BPF"]),
    (&["perf_event_open"], &["SYS_ADMIN", "PERFMON"]),
    (&["syslog"], &["SYS_ADMIN", "SYSLOG"]),
    (
        &[
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "listmount",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "statmount",
            "umount2",
            "unshare",
        ],
        &["SYS_ADMIN"],
    ),
    (&["reboot"], &["SYS_BOOT"]),
    (&["chroot"], &["SYS_CHROOT"]),
    (&["delete_module", "init_module", "finit_module"], &["SYS_MODULE"]),
    (&["acct"], &["SYS_PACCT"]),
    (&["kcmp", "pidfd_getfd", "process_madvise"], &["SYS_PTRACE"]),
    (&["iopl", "ioperm"], &["SYS_RAWIO"]),
    (&["settimeofday", "clock_settime"], &["SYS_TIME"]),
    (&["vhangup"], &["SYS_TTY_CONFIG"]),
    (&["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"], &["SYS_NICE"]),
];

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_profile_compiles_and_is_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let plain = super::runtime_default(dir.path(), 0).unwrap();
        assert_eq!(plain.len(), 2);
        let again = super::runtime_default(dir.path(), 0).unwrap();
        assert_eq!(plain, again);
        let admin = super::runtime_default(dir.path(), sys::caps::bit("SYS_ADMIN").unwrap()).unwrap();
        assert_eq!(admin.len(), 1);
        assert_ne!(plain[0], admin[0]);
    }
}
