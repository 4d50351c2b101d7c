//! The pod's own namespaces and cgroup; the supervisor itself lives in them.

use std::os::fd::OwnedFd;
use std::path::Path;

use sys::cgroup::{Hierarchies, Joiner, Mode};
use sys::process::{CloneFlags, Fork};

use crate::proto::PodSetup;

/// Brings the supervisor into the pod's group, so that a restart of the daemon's service does not take it along.
pub(super) fn join_pod_cgroup(setup: &PodSetup) -> Result<Hierarchies, String> {
    let hierarchies = Hierarchies::detect().map_err(|e| e.line())?;
    let pod = hierarchies.group(&setup.cgroup_parent);
    // On v2 a group with controllers for its children may have no processes of its own.
    let own = if hierarchies.mode() == Mode::V2 { pod.child("supervisor") } else { pod };
    own.create().map_err(|e| e.line())?;
    let joiner = own.joiner().map_err(|e| e.line())?;
    if joiner.v2().is_some() && be_born_in(&joiner)? {
        joiner.join_v1().map_err(|e| e.line())?;
        let _ = rustix::process::setsid();
        return Ok(hierarchies);
    }
    own.join().map_err(|e| e.line())?;
    Ok(hierarchies)
}

/// Goes on as a child that is born in the v2 group: a process that moves there makes all others that move wait, too,
/// 16 ms each. False where the kernel cannot do that.
fn be_born_in(joiner: &Joiner) -> Result<bool, String> {
    match sys::process::clone3(CloneFlags::empty(), joiner.v2()) {
        // The daemon knows its supervisors by their sockets, not by their ids.
        Ok(Fork::Parent { .. }) => sys::process::exit_now(0),
        Ok(Fork::Child) => Ok(true),
        Err(error) => {
            eprintln!("the supervisor moves into its group: {}", error.line());
            Ok(false)
        }
    }
}

/// Makes the namespaces that all containers share, pins the network one, and sets what belongs to them.
pub(super) fn make_namespaces(setup: &PodSetup) -> Result<(), String> {
    let mut flags = CloneFlags::empty();
    if setup.netns.is_some() {
        flags |= CloneFlags::NEWNET;
    }
    if setup.ipc {
        flags |= CloneFlags::NEWIPC;
    }
    if !setup.hostname.is_empty() {
        flags |= CloneFlags::NEWUTS;
    }
    sys::namespace::unshare(flags).map_err(|e| e.line())?;
    if let Some(netns) = &setup.netns {
        sys::namespace::pin(Path::new("/proc/self/ns/net"), netns).map_err(|e| e.line())?;
        sys::namespace::loopback_up().map_err(|e| e.line())?;
        // Any process may use any port, as containerd and cri-o have it for pods.
        let _ = sys::sysctl::set("net.ipv4.ip_unprivileged_port_start", "0");
        let _ = sys::sysctl::set("net.ipv4.ping_group_range", "0 2147483647");
    }
    if !setup.hostname.is_empty() {
        sys::namespace::set_hostname(&setup.hostname).map_err(|e| e.line())?;
    }
    for (name, value) in &setup.sysctls {
        sys::sysctl::set(name, value).map_err(|e| format!("set sysctl {name}: {}", e.line()))?;
    }
    Ok(())
}

/// Starts the first process of a PID namespace for the whole pod: it only reaps.
pub(super) fn start_pause() -> Result<OwnedFd, String> {
    match sys::process::clone3(CloneFlags::NEWPID, None).map_err(|e| e.line())? {
        Fork::Parent { pidfd, .. } => Ok(pidfd),
        Fork::Child => {
            sys::process::set_name("pause");
            sys::process::reset_signals();
            // The pod must not outlive its supervisor in a namespace nobody can enter any more.
            let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            sys::process::idle_and_reap()
        }
    }
}
