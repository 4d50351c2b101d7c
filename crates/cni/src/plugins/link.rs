//! What the interface plugins share: veth pairs, addresses and routes in the container, forwarding on the host.

use super::{Conf, Invocation, ipam, masquerade};
use crate::error::{Context, Error, Result};
use crate::result::{CniResult, Interface, Route};
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::Path;
use sys::netlink::{self, Handle, Link, LinkKind, NetNs, NewLink, RouteScope, VethPeer, sysctl};

/// The host end's name: from the attachment, so that what an interrupted ADD left is found again.
pub fn host_name(container_id: &str, ifname: &str) -> String {
    let digest = Sha256::digest(format!("{container_id}/{ifname}"));
    format!("veth{}", digest[..4].iter().map(|b| format!("{b:02x}")).collect::<String>())
}

/// Parses `aa:bb:cc:dd:ee:ff`.
pub fn parse_mac(text: &str) -> Result<Vec<u8>> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2)).collect();
    bytes.filter(|b| b.len() == 6).ok_or_else(|| Error::config(format!("invalid hardware address \"{text}\"")))
}

/// A hardware address made from an address: an address given out again then never meets a stale ARP entry.
pub fn mac_of(ip: IpAddr) -> Vec<u8> {
    let mut mac = vec![0x0a, 0x58];
    match ip {
        IpAddr::V4(a) => mac.extend(a.octets()),
        IpAddr::V6(a) => mac.extend(&Sha256::digest(a.octets())[..4]),
    }
    mac
}

/// Two ends of a pair: the host's by its handle, the container's by its own.
pub struct Pair {
    /// The host end.
    pub host: Link,
    /// The container's end.
    pub container: Link,
    /// Netlink inside the container.
    pub inside: Handle,
}

/// What a pair is made with.
pub struct PairSpec<'a> {
    /// Name on the host.
    pub host_name: &'a str,
    /// Name in the container.
    pub ifname: &'a str,
    /// MTU, 0 for the default.
    pub mtu: u32,
    /// The container end's hardware address.
    pub mac: &'a [u8],
    /// The bridge.
    pub master: Option<u32>,
}

/// Makes the pair, the host end up. A host end left by an interrupted ADD is replaced.
pub fn make_pair(host: &mut Handle, ns: &NetNs, spec: &PairSpec<'_>) -> Result<Pair> {
    let mut inside = Handle::open_in(ns).context(|| "netlink in the namespace".into())?;
    if inside.find_link(spec.ifname).context(|| "looking for the interface".into())?.is_some() {
        return Err(Error::config(format!("container veth name (\"{}\") already exists", spec.ifname)));
    }
    let new = || NewLink {
        mtu: spec.mtu,
        master: spec.master,
        ..NewLink::new(
            spec.host_name,
            LinkKind::Veth(VethPeer { name: spec.ifname, netns: Some(ns), mac: spec.mac, mtu: spec.mtu }),
        )
    };
    let mut made = host.add_link(&new());
    if made.as_ref().is_err_and(netlink::Error::is_exists) {
        host.delete_link_if_exists(spec.host_name).context(|| "removing a stale veth".into())?;
        made = host.add_link(&new());
    }
    made.context(|| "creating the veth pair".into())?;
    let container = inside.link(spec.ifname).context(|| "the container's interface".into())?;
    no_duplicate_detection(spec.host_name);
    let mut end = host.link(spec.host_name).context(|| "the host's interface".into())?;
    host.set_up(end.index, true).context(|| "bringing up the host's interface".into())?;
    end.flags |= 1;
    Ok(Pair { host: end, container, inside })
}

/// Makes a link's own IPv6 addresses usable at once: a router whose link-local address is still being checked for
/// duplicates cannot reach its neighbours for a second. A kernel without IPv6 needs nothing.
pub fn no_duplicate_detection(link: &str) {
    let key = format!("net/ipv6/conf/{link}/accept_dad");
    if sysctl::exists(&key)
        && let Err(error) = sysctl::set(&key, "0")
    {
        tracing::debug!(
            link,
            error = &error as &dyn std::error::Error,
            "could not turn off duplicate address detection"
        );
    }
}

/// A link as an entry of a result.
pub fn interface(link: &Link, sandbox: Option<&Path>) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac(),
        mtu: link.mtu,
        sandbox: sandbox.map(|p| p.display().to_string()).unwrap_or_default(),
        ..Default::default()
    }
}

/// The kernel's route for one of a result; without its own gateway it takes the address's of the same family.
pub fn kernel_route(route: &Route, result: &CniResult, link: u32) -> netlink::Route {
    let same = |ip: &IpAddr| ip.is_ipv4() == route.dst.addr().is_ipv4();
    let mut out = netlink::Route::to(route.dst.trunc()).dev(link);
    out.gateway = route.gw.or_else(|| result.ips.iter().filter_map(|i| i.gateway).find(same));
    out.priority = route.priority;
    out.mtu = route.mtu;
    out.advmss = route.advmss;
    out.table = route.table.unwrap_or(out.table);
    out.scope = match route.scope {
        Some(n) => RouteScope::from_number(n),
        None if out.gateway.is_none() => RouteScope::Link,
        None => RouteScope::Universe,
    };
    out
}

/// Puts addresses and routes of `result` on the container's interface and brings it up.
pub fn configure(inside: &mut Handle, ns: &NetNs, link: &Link, result: &CniResult) -> Result<()> {
    if result.ips.iter().any(|i| i.address.addr().is_ipv6()) {
        let key = |what: &str| format!("net/ipv6/conf/{}/{what}", link.name);
        sysctl::set_all_in(ns, &[(key("disable_ipv6"), "0"), (key("accept_dad"), "0")])
            .context(|| "enabling IPv6 in the container".into())?;
    }
    for ip in &result.ips {
        inside.add_address(link.index, ip.address).context(|| "adding an address in the container".into())?;
    }
    inside.set_up(link.index, true).context(|| "bringing up the container's interface".into())?;
    for route in &result.routes {
        inside
            .ensure_route(&kernel_route(route, result, link.index))
            .context(|| format!("failed to add route '{}'", route.dst))?;
    }
    Ok(())
}

/// Turns forwarding on for the families of the addresses.
pub fn enable_forwarding<'a>(ips: impl IntoIterator<Item = &'a IpNet>) -> Result<()> {
    let (mut v4, mut v6) = (false, false);
    for ip in ips {
        v4 |= ip.addr().is_ipv4();
        v6 |= ip.addr().is_ipv6();
    }
    if v4 {
        sysctl::set("net/ipv4/ip_forward", "1").context(|| "failed to enable forwarding".into())?;
    }
    if v6 {
        sysctl::set("net/ipv6/conf/all/forwarding", "1").context(|| "failed to enable forwarding".into())?;
    }
    Ok(())
}

/// Into a namespace from which something is to be removed; none when it is gone. What is left of one after the machine, or a
/// node on it, went down is a plain file.
pub(super) fn still_there(netns: Option<&Path>) -> Result<Option<Handle>> {
    let Some(ns) = netns.and_then(|p| NetNs::open(p).ok()) else { return Ok(None) };
    match Handle::open_in(&ns) {
        Err(netlink::Error::Namespace { source, .. }) if source.kind() == std::io::ErrorKind::InvalidInput => Ok(None),
        opened => opened.map(Some).context(|| "netlink in the namespace".into()),
    }
}

/// Removes the container's interface; gives the addresses it had. Namespace or interface gone is fine.
pub fn remove(netns: Option<&Path>, ifname: &str) -> Result<Vec<IpNet>> {
    let Some(mut inside) = still_there(netns)? else { return Ok(Vec::new()) };
    let Some(link) = inside.find_link(ifname).context(|| "the container's interface".into())? else {
        return Ok(Vec::new());
    };
    let addresses = inside.addresses(Some(link.index)).context(|| "the container's addresses".into())?;
    match inside.delete_link(link.index) {
        Err(e) if !e.is_not_found() => Err(Error::internal("removing the container's interface", e)),
        _ => Ok(addresses.into_iter().filter(|a| a.scope == 0).map(|a| a.net).collect()),
    }
}

/// CHECK: the container's interface has the addresses and routes of the earlier result.
pub fn check(netns: &Path, ifname: &str, previous: &CniResult) -> Result<()> {
    let sandbox = netns.display().to_string();
    let position = previous.interfaces.iter().position(|i| i.name == ifname && i.sandbox == sandbox);
    let position = position
        .ok_or_else(|| Error::config(format!("interface {ifname} of {sandbox} is not in the previous result")))?;
    let ns = NetNs::open(netns).context(|| "opening the namespace".into())?;
    let mut inside = Handle::open_in(&ns).context(|| "netlink in the namespace".into())?;
    let link = inside.link(ifname).context(|| "the container's interface".into())?;
    let mac = &previous.interfaces[position].mac;
    if !mac.is_empty() && *mac != link.mac() {
        return Err(Error::config(format!("interface {ifname} mac {mac} doesn't match container mac: {}", link.mac())));
    }
    if !link.is_up() {
        return Err(Error::config(format!("interface {ifname} is down")));
    }
    let present = inside.addresses(Some(link.index)).context(|| "the container's addresses".into())?;
    for ip in previous.ips.iter().filter(|i| i.interface.is_none_or(|n| n == position)) {
        if !present.iter().any(|a| a.net == ip.address) {
            return Err(Error::config(format!("failed to match addr {} on interface {ifname}", ip.address)));
        }
    }
    let routes = inside.routes(None).context(|| "the container's routes".into())?;
    for route in previous.routes.iter().filter(|r| r.table.is_none()) {
        let wanted = kernel_route(route, previous, link.index);
        if !routes.iter().any(|r| r.dst == wanted.dst && (wanted.gateway.is_none() || r.gateway == wanted.gateway)) {
            return Err(Error::config(format!("expected route {} not found in the container", route.dst)));
        }
    }
    Ok(())
}

/// How to undo one thing.
type Step<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Removes what a failed ADD made, unless [`Undo::done`] was called; failures to undo are logged, the first error counts.
pub struct Undo<'a> {
    steps: Vec<(&'static str, Step<'a>)>,
}

impl<'a> Undo<'a> {
    /// Nothing to undo yet.
    pub fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// Something was made.
    pub fn push(&mut self, what: &'static str, step: impl FnOnce() -> Result<()> + 'a) {
        self.steps.push((what, Box::new(step)));
    }

    /// Everything was made.
    pub fn done(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some((what, step)) = self.steps.pop() {
            if let Err(error) = step() {
                tracing::warn!(what, error = error.chain(), "could not undo part of a failed attachment");
            }
        }
    }
}

/// Undoes what a plugin that joins the pod by a veth pair did: addresses, masquerading, both ends.
///
/// # Errors
/// The address plugin's and the kernel's.
pub(super) fn remove_pair(invocation: &Invocation, conf: &Conf, masqueraded: bool) -> Result<()> {
    ipam::del(invocation, conf)?;
    let mut ips = remove(invocation.netns.as_deref(), &invocation.ifname)?;
    if masqueraded {
        if let Ok(Some(previous)) = conf.previous() {
            ips.extend(previous.ips.iter().map(|i| i.address));
        }
        masquerade::remove(&ips)?;
    }
    // The host end goes with the container's, unless the namespace was already unreachable.
    let name = host_name(&invocation.container_id, &invocation.ifname);
    let gone = Handle::open().and_then(|mut h| h.delete_link_if_exists(&name));
    gone.map(drop).context(|| "removing the host's interface".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_is_a_namespace_that_is_gone() {
        let file = std::env::current_exe().unwrap();
        assert!(still_there(Some(&file)).unwrap().is_none());
        assert!(still_there(Some(Path::new("/nowhere"))).unwrap().is_none());
        assert!(remove(Some(&file), "eth0").unwrap().is_empty());
    }
}
