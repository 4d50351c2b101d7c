//! The child's side, from the clone to the exec: a copy of the supervisor with one thread, so ordinary code.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sys::caps;
use sys::cgroup::{Group, Joiner};
use sys::process::CloneFlags;

use super::launch::Stdio;
use super::rootfs;
use crate::spec::{Process, Spec};

/// What the child is to become.
pub(super) enum Setup<'a> {
    /// A container's first process.
    First { dir: PathBuf, spec: &'a Spec, views: Vec<(PathBuf, Option<String>)>, seccomp: Vec<Vec<u8>> },
    /// A further one.
    Exec { target: BorrowedFd<'a>, process: Box<Process>, seccomp: Vec<Vec<u8>> },
}

impl<'a> Setup<'a> {
    pub(super) fn first(dir: &Path, spec: &'a Spec, group: &Group) -> Result<Self, String> {
        let views = group.views();
        Ok(Self::First { dir: dir.to_owned(), spec, views, seccomp: read_filters(&spec.corten.seccomp)? })
    }

    pub(super) fn exec(target: BorrowedFd<'a>, process: Process, seccomp: &[PathBuf]) -> Result<Self, String> {
        Ok(Self::Exec { target, process: Box::new(process), seccomp: read_filters(seccomp)? })
    }

    pub(super) fn is_first(&self) -> bool {
        matches!(self, Self::First { .. })
    }
}

fn read_filters(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    paths.iter().map(|p| std::fs::read(p).map_err(|e| format!("read {}: {e}", p.display()))).collect()
}

/// Becomes the program. What goes wrong is sent to the parent; the socket closes at exec.
pub(super) fn run(setup: Setup<'_>, stdio: Stdio, joiner: Option<&Joiner>, socket: OwnedFd) -> ! {
    let error = match become_program(setup, stdio, joiner, &socket) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let _ = sys::fdpass::send(&socket, error.as_bytes(), &[]);
    sys::process::exit_now(1)
}

enum Never {}

fn become_program(setup: Setup<'_>, stdio: Stdio, joiner: Option<&Joiner>, socket: &OwnedFd) -> Result<Never, String> {
    // Until it is another program, nobody in the container may look into this process or at its executable.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|e| format!("make undumpable: {e}"))?;
    if let Some(joiner) = joiner {
        joiner.join_v1().map_err(|e| e.line())?;
    }
    let _ = rustix::process::setsid();
    sys::process::new_session_keyring();
    let process = match &setup {
        Setup::First { spec, .. } => &spec.process,
        Setup::Exec { process, .. } => process,
    };
    if let Some(score) = process.oom_score_adj {
        // Before /proc is another one; clamped without CAP_SYS_RESOURCE, which the daemon has said once.
        sys::process::set_oom_score_adj(score).map_err(|e| e.line())?;
    }
    let seccomp = match &setup {
        Setup::First { dir, spec, views, seccomp } => {
            rootfs::enter(dir, spec, views)?;
            seccomp
        }
        Setup::Exec { target, seccomp, .. } => {
            sys::namespace::enter(*target, CloneFlags::NEWNS | CloneFlags::NEWCGROUP)
                .map_err(|e| format!("enter the container: {}", e.line()))?;
            seccomp
        }
    };
    set_stdio(process, &stdio, socket, setup.is_first())?;
    if let Setup::First { spec, .. } = &setup {
        rootfs::finish(spec)?;
    }
    confine_and_exec(process, seccomp)
}

/// Connects the standard streams: the terminal, what was given, or /dev/null.
fn set_stdio(process: &Process, stdio: &Stdio, socket: &OwnedFd, first: bool) -> Result<(), String> {
    if process.terminal {
        let (master, slave) = sys::pty::open().map_err(|e| e.line())?;
        sys::fdpass::send(socket, b"terminal", &[master.as_fd()]).map_err(|e| format!("send terminal: {e}"))?;
        sys::pty::make_controlling(&slave).map_err(|e| e.line())?;
        let _ = rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(process.user.uid)), None);
        if first {
            rootfs::mount_console(&slave)?;
        }
        for target in 0..=2 {
            sys::process::set_stdio(slave.as_fd(), target).map_err(|e| format!("set stdio: {e}"))?;
        }
        return Ok(());
    }
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|e| format!("open /dev/null: {e}"))?;
    for (target, fd) in [(0, &stdio.stdin), (1, &stdio.stdout), (2, &stdio.stderr)] {
        match fd {
            Some(fd) => {
                // So that a program without root can open /dev/stdout by its name.
                let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(process.user.uid)), None);
                sys::process::set_stdio(fd.as_fd(), target)
            }
            None => sys::process::set_stdio(null.as_fd(), target),
        }
        .map_err(|e| format!("set stdio: {e}"))?;
    }
    Ok(())
}

fn confine_and_exec(process: &Process, seccomp: &[Vec<u8>]) -> Result<Never, String> {
    let line = |e: sys::Error| e.line();
    for limit in &process.rlimits {
        sys::process::set_rlimit(&limit.kind, limit.soft, limit.hard).map_err(line)?;
    }
    let set = |names: &[String]| caps::set_of(names).map_err(|name| format!("unknown capability {name}"));
    let wanted = &process.capabilities;
    let sets = caps::Sets {
        bounding: set(&wanted.bounding)?,
        effective: set(&wanted.effective)?,
        permitted: set(&wanted.permitted)?,
        inheritable: set(&wanted.inheritable)?,
        ambient: set(&wanted.ambient)?,
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::process::reset_signals();
    caps::limit_bounding(sets.bounding).map_err(line)?;
    if !process.no_new_privileges {
        install(seccomp)?;
    }
    // As root first: the user may be allowed in a directory that lies below one where it is not.
    let entered = rustix::process::chdir(process.cwd.as_str());
    caps::keep_over_setuid(true).map_err(line)?;
    sys::process::become_user(process.user.uid, process.user.gid, &process.user.additional_gids).map_err(line)?;
    if entered.is_err() {
        rustix::process::chdir(process.cwd.as_str())
            .map_err(|e| format!("chdir to cwd ({:?}) set in config.json failed: {e}", process.cwd))?;
    }
    require_inside()?;
    caps::apply(&sets).map_err(line)?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(|e| format!("set no_new_privs: {e}"))?;
        install(seccomp)?;
    }
    let _ = sys::process::close_on_exec_from(3);
    Err(exec(process))
}

/// Refuses a working directory outside of the container's root, reached through a descriptor of this process
/// (`/proc/self/fd/...`): the kernel cannot name such a place.
fn require_inside() -> Result<(), String> {
    let here = rustix::process::getcwd(Vec::new()).map_err(|e| format!("read the working directory: {e}"))?;
    if here.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err("the working directory is outside of the container".into())
    }
}

fn install(seccomp: &[Vec<u8>]) -> Result<(), String> {
    seccomp.iter().try_for_each(|program| sys::seccomp::install(program)).map_err(|e| e.line())
}

/// Finds the program as the user that runs it, and executes it; gives what a user of upstream reads on failure.
fn exec(process: &Process) -> String {
    let Some(name) = process.args.first() else { return "no command specified".to_owned() };
    let path = match find_program(name, &process.env) {
        Ok(path) => path,
        Err(why) => return format!("exec: {name:?}: {why}"),
    };
    let strings =
        |list: &[String]| -> Option<Vec<CString>> { list.iter().map(|s| CString::new(s.as_bytes()).ok()).collect() };
    let (Some(argv), Some(envp)) = (strings(&process.args), strings(&process.env)) else {
        return format!("exec: {name:?}: a NUL byte in arguments or environment");
    };
    let error = sys::process::exec(path.as_os_str(), &argv, &envp);
    format!("exec {}: {}", path.display(), reason(&error))
}

fn find_program(name: &str, env: &[String]) -> Result<PathBuf, String> {
    if name.is_empty() {
        return Err("executable file not found in $PATH".to_owned());
    }
    if name.contains('/') {
        return match usable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(format!("stat {name}: no such file or directory"))
            }
            Err(error) => Err(reason(&error)),
        };
    }
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    let candidates = path.as_bytes().split(|b| *b == b':').map(|dir| {
        let dir = if dir.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(dir)) };
        dir.join(name)
    });
    let mut denied = false;
    for candidate in candidates {
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) => denied |= error.kind() == std::io::ErrorKind::PermissionDenied,
        }
    }
    Err(if denied { "permission denied" } else { "executable file not found in $PATH" }.to_owned())
}

fn usable(path: &Path) -> std::io::Result<()> {
    let meta = std::fs::metadata(path)?;
    if meta.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let access = rustix::fs::Access::EXEC_OK;
    Ok(rustix::fs::accessat(rustix::fs::CWD, path, access, rustix::fs::AtFlags::EACCESS)?)
}

/// The kernel's words, without Rust's number behind them, lower case as in upstream's messages.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
