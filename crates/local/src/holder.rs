//! The holder of a node: first process of its PID, mount, network, UTS and IPC namespaces.
//!
//! It starts the node agent, starts it again when it ends, and reaps whatever is orphaned in the node: supervisors
//! of pods outlive the agent as its children. It does nothing else, so nothing else can end it.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use rustix::process::{Pid as RawPid, WaitOptions, setsid, wait};
use sys::process::{CloneFlags, Fork};

use crate::error::{Context, Error, Result};
use crate::layout::Layout;
use crate::spec::NodeSpec;

/// Shortest time between two starts of the agent.
const RESTART_DELAY: Duration = Duration::from_secs(1);

fn read_spec(path: &Path) -> Result<NodeSpec> {
    let bytes = std::fs::read(path).map_err(|source| Error::File { operation: "read", path: path.into(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Parse { path: path.into(), source })
}

/// Becomes a node's holder. Prints the holder's process id, waits until its standard input ends (the network is there
/// then), and goes on for ever; returns in the starter's side at once.
///
/// # Errors
/// The specification is unreadable, or a right or kernel feature is missing.
pub fn holder_main(spec_path: &Path) -> Result<()> {
    let spec = read_spec(spec_path)?;
    setsid().doing("start a session")?;
    let flags = [CloneFlags::NEWPID, CloneFlags::NEWNS, CloneFlags::NEWNET, CloneFlags::NEWUTS, CloneFlags::NEWIPC];
    let flags = flags.into_iter().fold(CloneFlags::empty(), |all, flag| all | flag);
    match sys::process::clone3(flags, None).doing("make the node's namespaces")? {
        Fork::Parent { pid, .. } => {
            println!("{pid}");
            Ok(())
        }
        Fork::Child => {
            let failure = hold(&spec, spec_path);
            if let Err(error) = failure {
                tracing::error!(node = spec.name, %error, "the node's holder failed");
            }
            sys::process::exit_now(1)
        }
    }
}

/// Binds a folder of the node over a path that all nodes have.
fn bind(from: PathBuf, over: &Path) -> Result<()> {
    for dir in [&from, &over.to_owned()] {
        std::fs::create_dir_all(dir).map_err(|source| Error::File {
            operation: "create",
            path: dir.clone(),
            source,
        })?;
    }
    mount_bind_recursive(&from, over).doing("give the node a folder of its own")
}

/// Folders under which components keep state at fixed paths: each node has its own.
const OWN: [&str; 4] = ["var/lib/kubelet", "var/log/pods", "var/log/containers", "var/lib/cni"];

fn prepare(spec: &NodeSpec) -> Result<()> {
    sys::namespace::set_hostname(&spec.name).doing("name the node")?;
    sys::mount::make_root_slave().doing("part from the host's mounts")?;
    // Shared among the node's own namespaces: volumes with bidirectional propagation need it.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).doing("share the node's mounts")?;
    let cgroups = sys::mount::clone_tree(Path::new("/sys/fs/cgroup"), true).doing("keep the cgroup mounts")?;
    let attributes = sys::mount::attr::NOSUID | sys::mount::attr::NODEV | sys::mount::attr::NOEXEC;
    for (kind, path) in [("proc", "/proc"), ("sysfs", "/sys")] {
        let tree = sys::mount::new_filesystem(kind, kind, &[], attributes).doing("mount the node's kernel files")?;
        let place = sys::fs::open_path(Path::new(path)).doing("open a mount point")?;
        sys::mount::attach(tree, place).doing("mount the node's kernel files")?;
    }
    let place = sys::fs::open_path(Path::new("/sys/fs/cgroup")).doing("open a mount point")?;
    sys::mount::attach(cgroups, place).doing("mount the cgroups")?;
    let own = Layout::new(&spec.cluster, spec.data.clone()).node(&spec.name).join("root");
    for path in OWN {
        bind(own.join(path), &Path::new("/").join(path))?;
    }
    Ok(())
}

fn hold(spec: &NodeSpec, spec_path: &Path) -> Result<()> {
    sys::process::set_name("corten-node");
    prepare(spec)?;
    // The starter connects the network meanwhile and then lets go.
    std::io::stdin().read_to_end(&mut Vec::new()).doing("wait for the network")?;
    loop {
        let begun = Instant::now();
        let agent = Command::new("/proc/self/exe")
            .arg("node-agent")
            .arg(spec_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .doing("start the node agent")?;
        reap_until(agent.id())?;
        tracing::warn!(node = spec.name, "the node agent ended, starting it again");
        // The only process here: while it waits, nothing else could be done.
        let pause = RESTART_DELAY.saturating_sub(begun.elapsed());
        if !pause.is_zero() {
            let limit = rustix::event::Timespec::try_from(pause).map_err(|e| Error::Other(e.to_string()))?;
            rustix::event::poll(&mut [], Some(&limit)).doing("wait before the restart")?;
        }
    }
}

/// Reaps every child until the agent is among them.
fn reap_until(agent: u32) -> Result<()> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if RawPid::as_raw_nonzero(pid).get().unsigned_abs() == agent => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).doing("wait for the node's processes"),
        }
    }
}

/// Enters a node's namespaces (all but PID, which only children enter), by its holder.
///
/// # Errors
/// The holder is gone, or this process has several threads.
pub fn enter_node(holder: u32) -> Result<()> {
    let pidfd = sys::process::pidfd_open(holder).doing("find the node's holder")?;
    let flags = [CloneFlags::NEWPID, CloneFlags::NEWNS, CloneFlags::NEWNET, CloneFlags::NEWUTS, CloneFlags::NEWIPC];
    let flags = flags.into_iter().fold(CloneFlags::empty(), |all, flag| all | flag);
    sys::namespace::enter(pidfd.as_fd(), flags).doing("enter the node")
}
