//! Making, executing, signalling and waiting for processes.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::{Context, Error, Result};

/// A small set of flags: `A | B`, `contains`.
macro_rules! bitflags_lite {
    ($(#[$doc:meta])* $name:ident: $type:ty { $($(#[$fdoc:meta])* $flag:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name($type);
        impl $name {
            $($(#[$fdoc])* pub const $flag: Self = Self($value);)*
            /// None of them.
            #[must_use] pub const fn empty() -> Self { Self(0) }
            /// The bits, as the kernel has them.
            #[must_use] pub const fn bits(self) -> $type { self.0 }
            /// Whether all of `other` are set.
            #[must_use] pub const fn contains(self, other: Self) -> bool { self.0 & other.0 == other.0 }
        }
        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self { Self(self.0 | other.0) }
        }
        impl std::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) { self.0 |= other.0; }
        }
    };
}
bitflags_lite! {
    /// What a child gets of its own.
    CloneFlags: u64 {
        /// Mounts.
        NEWNS = libc::CLONE_NEWNS as u64;
        /// Processes.
        NEWPID = libc::CLONE_NEWPID as u64;
        /// Network.
        NEWNET = libc::CLONE_NEWNET as u64;
        /// System V IPC.
        NEWIPC = libc::CLONE_NEWIPC as u64;
        /// Host name.
        NEWUTS = libc::CLONE_NEWUTS as u64;
        /// Cgroup root.
        NEWCGROUP = libc::CLONE_NEWCGROUP as u64;
        /// Ids.
        NEWUSER = libc::CLONE_NEWUSER as u64;
    }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The child's id in this process' PID namespace.
        pid: u32,
        /// Becomes readable when the child ends.
        pidfd: OwnedFd,
    },
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks this process with `clone3`, into new namespaces and (cgroup v2) straight into a group.
///
/// Only for a process with a single thread: the child is an ordinary copy and may use all of the language.
///
/// # Errors
/// Refused when this process has more than one thread, where the child could meet locks held by threads that it
/// does not have.
pub fn clone3(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> Result<Fork> {
    if thread_count()? != 1 {
        return Err(Error::invalid("fork", "", "the process has several threads"));
    }
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags.bits() | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size given and outlives the call; no stack is given, so the child
    // runs on its own copy of this one; the process has one thread, so that no lock can be held by another.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Fork::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel has just stored a new descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::Parent { pid: pid as u32, pidfd })
        }
        _ => Err(io::Error::last_os_error()).at("clone3", ""),
    }
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn thread_count() -> Result<u64> {
    let stat = std::fs::metadata("/proc/self/task").at("stat", "/proc/self/task")?;
    Ok(std::os::unix::fs::MetadataExt::nlink(&stat).saturating_sub(2))
}

/// Replaces this process' program. Returns only on failure.
#[must_use]
pub fn exec(path: &OsStr, argv: &[CString], envp: &[CString]) -> io::Error {
    let Ok(path) = CString::new(path.as_bytes()) else {
        return io::Error::from_raw_os_error(libc::EINVAL);
    };
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: all three are NUL-terminated and outlive the call; on success nothing of this program remains.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends this process at once, running nothing of the parent's that a fork has copied.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing can be observed afterwards.
    unsafe { libc::_exit(code) }
}

/// How a process ended, as a shell sees it: the code, or 128 + the signal's number.
///
/// Returns `None` while it runs. Reaps the child.
///
/// # Errors
/// `ECHILD` where it is not a child of this process, or was reaped already.
pub fn try_wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let status = rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?;
    Ok(status.map(|s| s.exit_status().unwrap_or_else(|| 128 + s.terminating_signal().unwrap_or(0))))
}

/// Waits for a child.
///
/// # Errors
/// As [`try_wait`].
pub fn wait(pidfd: BorrowedFd<'_>) -> io::Result<i32> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(s)) => {
                return Ok(s.exit_status().unwrap_or_else(|| 128 + s.terminating_signal().unwrap_or(0)));
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens a handle to a process.
///
/// # Errors
/// `ESRCH` where it is gone.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid as i32).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends a signal by number, realtime signals included.
///
/// # Errors
/// `ESRCH` where the process is gone.
pub fn pidfd_kill(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers and a null pointer, which the call documents as "no siginfo".
    let done = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0u32)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to a process by id.
///
/// # Errors
/// `ESRCH` where it is gone.
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    let done = unsafe { libc::kill(pid as libc::pid_t, signal) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The signal's number for `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
#[must_use]
pub fn signal_number(name: &str) -> Option<i32> {
    const NAMES: &[(&str, i32)] = &[
        ("ABRT", libc::SIGABRT),
        ("ALRM", libc::SIGALRM),
        ("BUS", libc::SIGBUS),
        ("CHLD", libc::SIGCHLD),
        ("CLD", libc::SIGCHLD),
        ("CONT", libc::SIGCONT),
        ("FPE", libc::SIGFPE),
        ("HUP", libc::SIGHUP),
        ("ILL", libc::SIGILL),
        ("INT", libc::SIGINT),
        ("IO", libc::SIGIO),
        ("IOT", libc::SIGABRT),
        ("KILL", libc::SIGKILL),
        ("PIPE", libc::SIGPIPE),
        ("POLL", libc::SIGIO),
        ("PROF", libc::SIGPROF),
        ("PWR", libc::SIGPWR),
        ("QUIT", libc::SIGQUIT),
        ("SEGV", libc::SIGSEGV),
        ("STKFLT", libc::SIGSTKFLT),
        ("STOP", libc::SIGSTOP),
        ("SYS", libc::SIGSYS),
        ("TERM", libc::SIGTERM),
        ("TRAP", libc::SIGTRAP),
        ("TSTP", libc::SIGTSTP),
        ("TTIN", libc::SIGTTIN),
        ("TTOU", libc::SIGTTOU),
        ("URG", libc::SIGURG),
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
        ("VTALRM", libc::SIGVTALRM),
        ("WINCH", libc::SIGWINCH),
        ("XCPU", libc::SIGXCPU),
        ("XFSZ", libc::SIGXFSZ),
    ];
    let upper = name.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    // The container's own numbering: real-time signals begin at 34 for the C library, as its `kill -l` shows.
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    if let Some(offset) = short.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse::<i32>().ok()? };
        return (0..=RTMAX - RTMIN).contains(&offset).then_some(RTMIN + offset);
    }
    if let Some(offset) = short.strip_prefix("RTMAX") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('-')?.parse::<i32>().ok()? };
        return (0..=RTMAX - RTMIN).contains(&offset).then_some(RTMAX - offset);
    }
    NAMES.iter().find(|(n, _)| *n == short).map(|(_, number)| *number)
}

/// Restores every signal to its default and unblocks all, as a new program expects; Rust ignores SIGPIPE.
pub fn reset_signals() {
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: SIG_DFL is a valid disposition for every signal; refused numbers change nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before sigprocmask reads it; the old set is not asked for.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Ignores SIGHUP, SIGINT and the terminal's stop signals: for supervisors, which end by request only.
pub fn ignore_terminal_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGPIPE] {
        // SAFETY: SIG_IGN is a valid disposition for these signals.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Holds SIGTERM and SIGINT back from this thread and those it starts, or lets them through to this thread again. The
/// first process of a PID namespace loses what comes before it has a handler; what is held back waits for that.
pub fn hold_termination(held: bool) {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let how = if held { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    // SAFETY: `sigemptyset` initializes the set before it is read; masks of threads are plain state.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Marks every descriptor from `first` on as closed at exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: plain numbers; only flags of descriptors change.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes `fd` the standard stream `target` (0, 1 or 2) of this process.
///
/// # Errors
/// The kernel's; a target above 2 is refused.
pub fn set_stdio(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    if !(0..=2).contains(&target) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the target is one of the standard streams, which no OwnedFd of this program owns.
    let done = unsafe { libc::dup2(fd.as_raw_fd(), target) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Joins a new session keyring, so that a container does not share the node's keys.
pub fn new_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: a null name asks for an anonymous keyring. Kernels without keyrings say ENOSYS, which is fine: there
    // is then nothing to share.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}

/// Takes a user's identity for good: groups, group, user; all three ids each. Capabilities are the caller's matter.
///
/// # Errors
/// The kernel's.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let list: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    set_thread_groups(&list).at("setgroups", "")?;
    let gid = Gid::from_raw(gid);
    set_thread_res_gid(gid, gid, gid).at("setresgid", gid.as_raw().to_string())?;
    let uid = Uid::from_raw(uid);
    set_thread_res_uid(uid, uid, uid).at("setresuid", uid.as_raw().to_string())
}

/// What became of a wish for an OOM score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomScore {
    /// As wished.
    Set,
    /// CAP_SYS_RESOURCE is missing: this value, the lowest that is allowed, was set instead.
    Clamped(i32),
}

/// Sets this process' OOM score adjustment, or the lowest possible one where the wish needs CAP_SYS_RESOURCE.
///
/// # Errors
/// The kernel's, but not `EACCES`.
pub fn set_oom_score_adj(wish: i32) -> Result<OomScore> {
    const PATH: &str = "/proc/self/oom_score_adj";
    let wish = wish.clamp(-1000, 1000);
    match std::fs::write(PATH, wish.to_string()) {
        Ok(()) => Ok(OomScore::Set),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let now: i32 = std::fs::read_to_string(PATH).at("read", PATH)?.trim().parse().unwrap_or(0);
            // Keep some distance to 0, so that the order Guaranteed < Burstable < BestEffort stays.
            let clamped = wish.max(now.clamp(0, 1000));
            match std::fs::write(PATH, clamped.to_string()) {
                Ok(()) => Ok(OomScore::Clamped(clamped)),
                Err(_) => Ok(OomScore::Clamped(now)),
            }
        }
        Err(error) => Err(error).at("write", PATH),
    }
}

/// Sets a resource limit of this process by its OCI name (`RLIMIT_NOFILE`); raising a hard limit without
/// CAP_SYS_RESOURCE keeps the hard limit there is.
///
/// # Errors
/// An unknown name, and the kernel's errors.
pub fn set_rlimit(name: &str, soft: u64, hard: u64) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let resource = match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return Err(Error::invalid("set limit", name, "no such limit")),
    };
    let wish = |value: u64| (value != u64::MAX).then_some(value);
    let limit = Rlimit { current: wish(soft), maximum: wish(hard) };
    match setrlimit(resource, limit) {
        Err(rustix::io::Errno::PERM) => {
            let now = getrlimit(resource).maximum;
            let lower = |a: Option<u64>| a.unwrap_or(u64::MAX).min(now.unwrap_or(u64::MAX));
            let limit = Rlimit { current: wish(lower(limit.current)), maximum: now };
            setrlimit(resource, limit).at("set limit", name)
        }
        other => other.at("set limit", name),
    }
}

/// Names this process in `ps` (at most 15 bytes are kept).
pub fn set_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        // A name too long is cut by the kernel; nothing else can fail.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Lives for ever as the first process of a PID namespace: orphans are reaped by the kernel, because SIGCHLD is
/// ignored. Closes all descriptors, so that nothing of the parent's stays open here.
pub fn idle_and_reap() -> ! {
    // SAFETY: plain numbers; this process never returns to code that owns a descriptor.
    unsafe { libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, 0u32) };
    loop {
        // SAFETY: SIG_IGN is a valid disposition; `pause` takes nothing and returns only after a handler ran.
        unsafe {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            libc::pause();
        }
    }
}

/// The number of a signal, for `rustix`.
#[must_use]
pub fn signal(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number)
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_by_name_and_number() {
        for (name, number) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGNOPE", None),
            ("99", None),
            ("", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
