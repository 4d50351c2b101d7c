//! The host's side of `corten up`: a bridge per cluster, a namespace per node behind it, routes from the host to pods
//! and Services, masquerading outward; and the way back to a machine as it was.
//!
//! Everything is idempotent. [`lay`] answers with what [`remove`] needs to restore; keep it with the cluster's state.
//! Namespaces are given by path, so that a node's holder process may own its namespace.

use crate::error::{Context, Error, Result};
use crate::plugins::no_duplicate_detection;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use sys::netlink::{Handle, LinkKind, NetNs, NewLink, Route, RouteScope, VethPeer, sysctl};
use sys::nft::{Apply, Chain, ChainKind, Command, Connection, Direction, Family, Hook, Op, Rule, Stmt, Transaction};

mod forward;

/// Marks our routes (`RTPROT_*`), so that a sync removes only its own.
const PROTOCOL: u8 = 0xc7;

/// A cluster's network on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The bridge's name, at most 15 bytes; also names the nf_tables table `<bridge>-masq`.
    pub bridge: String,
    /// The bridge's addresses, one per family: the host as the nodes see it.
    pub addresses: Vec<IpNet>,
    /// What leaves masqueraded: node subnets and podCIDR ranges.
    pub sources: Vec<IpNet>,
    /// MTU, 0 for the default.
    #[serde(default)]
    pub mtu: u32,
}

/// What [`lay`] changed besides what it made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Sysctls and their values before.
    pub sysctls: BTreeMap<String, String>,
}

/// A node's link to the bridge.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// The cluster's bridge.
    pub bridge: &'a str,
    /// The node's name; the host end of its veth is named after bridge and node.
    pub name: &'a str,
    /// Its network namespace.
    pub netns: &'a Path,
    /// Its addresses on the bridge.
    pub addresses: &'a [IpNet],
    /// Its default gateways: the bridge's addresses.
    pub gateways: &'a [IpAddr],
    /// MTU, 0 for the default.
    pub mtu: u32,
}

fn table(bridge: &str) -> String {
    format!("{bridge}-masq")
}

fn any(ip: IpAddr) -> IpNet {
    if ip.is_ipv4() {
        IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0)
    } else {
        IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0)
    }
}

fn forwarding_key(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" }
}

/// Lays the cluster's network: bridge, addresses, forwarding, masquerading.
///
/// # Errors
/// When a name is taken by something else, or a right is missing.
pub fn lay(cluster: &Cluster) -> Result<Changed> {
    let mut host = Handle::open().context(|| "netlink on the host".into())?;
    let new = NewLink { mtu: cluster.mtu, ..NewLink::new(&cluster.bridge, LinkKind::Bridge { vlan_filtering: false }) };
    match host.add_link(&new) {
        Err(e) if !e.is_exists() => return Err(Error::internal(format!("creating the bridge {}", cluster.bridge), e)),
        _ => {}
    }
    let bridge = host.link(&cluster.bridge).context(|| "the bridge".into())?;
    if bridge.kind != "bridge" {
        return Err(Error::config(format!("{} exists and is not a bridge", cluster.bridge)));
    }
    // Pinned, or it would change with the ports and leave stale ARP entries in the nodes.
    host.set_mac(bridge.index, &bridge.address).context(|| "pinning the bridge's address".into())?;
    no_duplicate_detection(&cluster.bridge);
    host.set_up(bridge.index, true).context(|| "bringing up the bridge".into())?;
    let mut changed = Changed::default();
    for net in &cluster.addresses {
        host.ensure_address(bridge.index, *net).context(|| format!("adding {net} to the bridge"))?;
        let key = forwarding_key(net.addr());
        let before = sysctl::get(key).context(|| "reading forwarding".into())?;
        if before != "1" {
            sysctl::set(key, "1").context(|| "enabling forwarding".into())?;
            changed.sysctls.insert(key.to_owned(), before);
        }
    }
    masquerade(&table(&cluster.bridge), &cluster.sources, Some(&cluster.bridge), &cluster.sources)?;
    forward::allow(&cluster.bridge)?;
    Ok(changed)
}

/// Removes the cluster's network: nodes' links go with their namespaces, routes with the bridge.
///
/// # Errors
/// The first failure, after everything was tried.
pub fn remove(cluster: &Cluster, changed: &Changed) -> Result<()> {
    let mut first: Option<Error> = None;
    let mut note = |answer: Result<()>| {
        if let Err(e) = answer {
            first.get_or_insert(e);
        }
    };
    note(unmasquerade(&table(&cluster.bridge)));
    note(forward::forget(&cluster.bridge));
    note(remove_ports(&cluster.bridge));
    note(
        Handle::open()
            .and_then(|mut h| h.delete_link_if_exists(&cluster.bridge))
            .map(drop)
            .context(|| "removing the bridge".into()),
    );
    for (key, value) in &changed.sysctls {
        note(sysctl::set(key, value).context(|| format!("restoring {key}")));
    }
    first.map_or(Ok(()), Err)
}

/// Veths whose node namespace is still held by somebody would survive their bridge.
fn remove_ports(bridge: &str) -> Result<()> {
    let mut host = Handle::open().context(|| "netlink on the host".into())?;
    let Some(link) = host.find_link(bridge).context(|| "the bridge".into())? else { return Ok(()) };
    for port in host.links().context(|| "listing links".into())?.into_iter().filter(|l| l.master == Some(link.index)) {
        match host.delete_link(port.index) {
            Err(e) if !e.is_not_found() => return Err(Error::internal(format!("removing {}", port.name), e)),
            _ => {}
        }
    }
    Ok(())
}

/// The host end's name of a node's veth.
pub fn node_link(bridge: &str, node: &str) -> String {
    let digest = Sha256::digest(format!("{bridge}/{node}"));
    format!("cn{}", digest[..5].iter().map(|b| format!("{b:02x}")).collect::<String>())
}

/// Attaches a node's namespace to the bridge as `eth0`, with addresses, loopback up, default routes and forwarding.
///
/// # Errors
/// When the namespace or the bridge is missing, or a right.
pub fn attach_node(node: &Node<'_>) -> Result<()> {
    let ns = NetNs::open(node.netns).context(|| "the node's namespace".into())?;
    let mut host = Handle::open().context(|| "netlink on the host".into())?;
    let mut inside = Handle::open_in(&ns).context(|| "netlink in the node".into())?;
    let bridge = host.link(node.bridge).context(|| "the bridge".into())?;
    let name = node_link(node.bridge, node.name);
    if inside.find_link("eth0").context(|| "the node's interface".into())?.is_none() {
        // A host end without its peer here belongs to an earlier namespace of the node.
        host.delete_link_if_exists(&name).context(|| "removing a stale link".into())?;
        let peer = VethPeer { name: "eth0", netns: Some(&ns), mac: &[], mtu: node.mtu };
        let new = NewLink {
            mtu: node.mtu,
            master: Some(bridge.index),
            up: true,
            ..NewLink::new(&name, LinkKind::Veth(peer))
        };
        host.add_link(&new).context(|| "linking the node".into())?;
    }
    let lo = inside.link("lo").context(|| "the node's loopback".into())?;
    inside.set_up(lo.index, true).context(|| "the node's loopback".into())?;
    let eth = inside.link("eth0").context(|| "the node's interface".into())?;
    for net in node.addresses {
        inside.ensure_address(eth.index, *net).context(|| format!("adding {net} to the node"))?;
    }
    ns.run(|| no_duplicate_detection("eth0")).context(|| "the node's namespace".into())?;
    inside.set_up(eth.index, true).context(|| "the node's interface".into())?;
    for gateway in node.gateways {
        inside
            .replace_route(&Route::to(any(*gateway)).via(*gateway).dev(eth.index))
            .context(|| "the node's default route".into())?;
    }
    let keys: Vec<(String, &str)> = node.addresses.iter().map(|a| (forwarding_key(a.addr()).to_owned(), "1")).collect();
    sysctl::set_all_in(&ns, &keys).context(|| "forwarding in the node".into())
}

/// Detaches a node; absent is fine.
///
/// # Errors
/// When the link is there and cannot be removed.
pub fn detach_node(bridge: &str, node: &str) -> Result<()> {
    Handle::open()
        .and_then(|mut h| h.delete_link_if_exists(&node_link(bridge, node)))
        .map(drop)
        .context(|| "unlinking the node".into())
}

/// Routes of one namespace, made equal to what is wanted: podCIDRs by node address, the service CIDR by a node.
/// In the calling thread's namespace; routes that others made are left alone, and those with a gateway outside of `within` (another
/// cluster's, or a node on no link of this one) are neither made nor removed.
///
/// # Errors
/// When a route cannot be made or removed, for example because its gateway is not on a link.
pub fn sync_routes(wanted: &[(IpNet, IpAddr)], within: IpNet) -> Result<()> {
    sync(&mut Handle::open().context(|| "netlink".into())?, wanted, within)
}

/// [`sync_routes`] in another namespace.
///
/// # Errors
/// As there.
pub fn sync_routes_in(netns: &Path, wanted: &[(IpNet, IpAddr)], within: IpNet) -> Result<()> {
    let ns = NetNs::open(netns).context(|| "the namespace".into())?;
    sync(&mut Handle::open_in(&ns).context(|| "netlink".into())?, wanted, within)
}

fn sync(handle: &mut Handle, wanted: &[(IpNet, IpAddr)], within: IpNet) -> Result<()> {
    let ours = |r: &Route| r.protocol == PROTOCOL && r.gateway.is_some_and(|gateway| within.contains(&gateway));
    let present: Vec<Route> =
        handle.routes(None).context(|| "listing routes".into())?.into_iter().filter(ours).collect();
    // A node with a foreign address is on no link of this cluster, and its route would never be taken back.
    for (dst, via) in wanted.iter().filter(|(_, via)| within.contains(via)) {
        if !present.iter().any(|r| r.dst == dst.trunc() && r.gateway == Some(*via)) {
            let mut route = Route::to(dst.trunc()).via(*via);
            route.protocol = PROTOCOL;
            handle.replace_route(&route).context(|| format!("route to {dst} via {via}"))?;
        }
    }
    for old in present.iter().filter(|r| !wanted.iter().any(|(dst, _)| dst.trunc() == r.dst)) {
        match handle.delete_route(old) {
            Err(e) if !e.is_not_found() => {
                return Err(Error::internal(format!("removing the route to {}", old.dst), e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives a link of the calling thread's namespace further addresses as whole ones, for example the cluster DNS
/// address on `lo`, so that a server may listen on them.
///
/// # Errors
/// When the link is missing.
pub fn ensure_local_addresses(link: &str, ips: &[IpAddr]) -> Result<()> {
    let mut handle = Handle::open().context(|| "netlink".into())?;
    let link = handle.link(link).context(|| "the link".into())?;
    for ip in ips {
        handle.ensure_address(link.index, IpNet::from(*ip)).context(|| format!("adding {ip}"))?;
    }
    Ok(())
}

/// A blackhole, so that what belongs to a range and to nobody does not leave by the default route.
///
/// # Errors
/// When the route cannot be made.
pub fn unreachable(dst: IpNet) -> Result<()> {
    let mut route = Route::to(dst.trunc()).scope(RouteScope::Universe);
    route.kind = sys::netlink::RouteType::Unreachable;
    route.priority = 4096;
    Handle::open().and_then(|mut h| h.ensure_route(&route)).context(|| format!("closing {dst}"))
}

/// Masquerades what comes from `sources` and goes anywhere but to `except`, in nf_tables table `table`; with `bridge`,
/// only what leaves by another link. In the calling thread's namespace; replaces an earlier table of the name.
///
/// # Errors
/// When nf_tables refuses.
pub fn masquerade(table: &str, sources: &[IpNet], bridge: Option<&str>, except: &[IpNet]) -> Result<()> {
    let mut nft = Connection::open().context(|| "opening nf_tables".into())?;
    for family in Family::BOTH {
        let of = |net: &&IpNet| Family::of(net.addr()) == family;
        let mut t = Transaction::new(family, table);
        if sources.iter().any(|n| of(&n)) {
            t.recreate_table("outward masquerading");
            t.push(Command::AddChain(Chain {
                name: "postrouting".into(),
                base: Some((ChainKind::Nat, Hook::Postrouting, 100)),
            }));
            for net in except.iter().filter(of) {
                t.rule("postrouting", Rule::new([Stmt::Addr(Direction::Destination, Op::Is, *net), Stmt::back()]));
            }
            for net in sources.iter().filter(of) {
                let mut stmts = vec![Stmt::Addr(Direction::Source, Op::Is, *net)];
                stmts.extend(bridge.map(|b| Stmt::OutLink(Op::IsNot, b.to_owned())));
                stmts.push(Stmt::Masquerade { fully_random: false });
                t.rule("postrouting", Rule::new(stmts));
            }
        } else {
            t.remove_table();
        }
        match nft.apply(&t) {
            // A kernel without IPv6 has no such tables to remove either.
            Err(_) if family == Family::Ip6 && !sources.iter().any(|n| of(&n)) => {}
            other => other.context(|| "setting up masquerading".into())?,
        }
    }
    Ok(())
}

/// Removes a table made by [`masquerade`]; absent is fine.
///
/// # Errors
/// When nf_tables refuses.
pub fn unmasquerade(table: &str) -> Result<()> {
    let mut nft = Connection::open().context(|| "opening nf_tables".into())?;
    for family in Family::BOTH {
        if nft.tables(family).context(|| "listing tables".into())?.iter().any(|t| t == table) {
            let mut t = Transaction::new(family, table);
            t.remove_table();
            nft.apply(&t).context(|| "removing masquerading".into())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
