//! A cluster's network on the host, over `cni::hostnet`.

use std::path::Path;

use cni::hostnet;
use ipnet::IpNet;

use crate::error::{Context, Result};
use crate::spec::Addresses;
use crate::state::ClusterState;

/// inotify instances that two nodes with their pods need; Debian allows 128.
const INOTIFY_INSTANCES: (&str, u64) = ("fs/inotify/max_user_instances", 8192);

fn cluster(addresses: &Addresses) -> hostnet::Cluster {
    let nodes = addresses.gateway.trunc();
    hostnet::Cluster {
        bridge: addresses.bridge.clone(),
        addresses: vec![addresses.gateway],
        sources: vec![nodes, addresses.pods],
        mtu: 0,
    }
}

/// Lays the bridge and raises limits; gives what to restore.
///
/// # Errors
/// A right or a kernel feature is missing.
pub fn lay(addresses: &Addresses) -> Result<hostnet::Changed> {
    let mut changed = hostnet::lay(&cluster(addresses)).doing("lay the cluster's network")?;
    let (key, wanted) = INOTIFY_INSTANCES;
    let before = sys::sysctl::get(key).doing("read the inotify limit")?;
    if before.trim().parse::<u64>().is_ok_and(|have| have < wanted) {
        sys::sysctl::set(key, &wanted.to_string()).doing("raise the inotify limit")?;
        changed.sysctls.insert(key.to_owned(), before.trim().to_owned());
    }
    Ok(changed)
}

/// Attaches a node's namespaces to the bridge.
///
/// # Errors
/// The node's holder is gone, or a right is missing.
pub fn attach(addresses: &Addresses, node: &str, address: IpNet, holder: u32) -> Result<()> {
    let netns = format!("/proc/{holder}/ns/net");
    hostnet::attach_node(&hostnet::Node {
        bridge: &addresses.bridge,
        name: node,
        netns: Path::new(&netns),
        addresses: &[address],
        gateways: &[addresses.gateway.addr()],
        mtu: 0,
    })
    .doing("connect the node to the cluster's network")
}

/// Removes the network and restores what it changed.
///
/// # Errors
/// The first failure, after everything was tried.
pub fn remove(state: &ClusterState) -> Result<()> {
    hostnet::remove(&cluster(&state.addresses), &state.changed).doing("remove the cluster's network")
}

/// The cgroup below which everything of a cluster is.
pub fn cgroup(cluster: &str) -> String {
    format!("/corten/{cluster}")
}

/// Removes the cluster's cgroups, killing what is left in them.
///
/// # Errors
/// A group stays busy.
pub fn remove_cgroups(cluster: &str) -> Result<()> {
    let hierarchies = sys::cgroup::Hierarchies::detect().doing("find the cgroups")?;
    let group = hierarchies.group(cgroup(cluster));
    if group.exists() {
        group.kill().doing("end what is left in the cluster's cgroups")?;
        group.remove().doing("remove the cluster's cgroups")?;
    }
    // The parent goes with its last cluster; while it has others, it stays.
    for dir in hierarchies.group("/corten").directories() {
        let _ = std::fs::remove_dir(dir);
    }
    Ok(())
}
