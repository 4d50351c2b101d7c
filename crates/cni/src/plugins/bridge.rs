//! `bridge`: a veth pair between the container and a bridge on the host.

use super::link::{self, PairSpec, Undo};
use super::{Conf, Invocation, Plugin, ipam, masquerade};
use crate::error::{Context, Error, Result, code};
use crate::result::{CniResult, Interface, Route};
use ipnet::IpNet;
use serde::Deserialize;
use std::net::{Ipv4Addr, Ipv6Addr};
use sys::netlink::{Handle, Link, LinkKind, NetNs, NewLink, PortOptions};

/// The plugin.
pub struct Bridge;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NetConf {
    bridge: String,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    ip_masq_backend: String,
    mtu: u32,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: u32,
    vlan_trunk: Vec<serde_json::Value>,
    macspoofchk: bool,
    port_isolation: bool,
    disable_container_interface: bool,
    mac: String,
}

fn load(invocation: &Invocation, conf: &Conf) -> Result<NetConf> {
    let mut own: NetConf = conf.parse()?;
    if own.bridge.is_empty() {
        "cni0".clone_into(&mut own.bridge);
    }
    if own.hairpin_mode && own.promisc_mode {
        return Err(Error::config("cannot set hairpin mode and promiscuous mode at the same time"));
    }
    let unsupported =
        |field: &str| Err(Error::new(code::UNSUPPORTED_FIELD, format!("bridge: {field} is not supported")));
    if own.vlan != 0 || !own.vlan_trunk.is_empty() {
        return unsupported("vlan");
    }
    if own.macspoofchk {
        return unsupported("macspoofchk");
    }
    if !matches!(own.ip_masq_backend.as_str(), "" | "nftables") {
        return unsupported(&format!("ipMasqBackend {}", own.ip_masq_backend));
    }
    own.is_gateway |= own.is_default_gateway;
    if let Some(mac) = conf.capability::<String>("mac")? {
        own.mac = mac;
    } else if let Some(mac) = conf.cni_arg("mac").and_then(|v| v.as_str()).or_else(|| invocation.arg("MAC")) {
        mac.clone_into(&mut own.mac);
    }
    Ok(own)
}

/// Finds or makes the bridge, up and with a hardware address of its own (else it would follow its ports').
fn ensure_bridge(host: &mut Handle, conf: &NetConf) -> Result<Link> {
    let new = NewLink { mtu: conf.mtu, ..NewLink::new(&conf.bridge, LinkKind::Bridge { vlan_filtering: false }) };
    match host.add_link(&new) {
        Err(e) if !e.is_exists() => return Err(Error::internal(format!("could not add \"{}\"", conf.bridge), e)),
        Err(_) => {}
        Ok(()) => {
            let made = host.link(&conf.bridge).context(|| "the new bridge".into())?;
            host.set_mac(made.index, &made.address).context(|| "pinning the bridge's address".into())?;
            link::no_duplicate_detection(&conf.bridge);
        }
    }
    let bridge = host.link(&conf.bridge).context(|| "the bridge".into())?;
    if bridge.kind != "bridge" {
        return Err(Error::config(format!("\"{}\" already exists but is not a bridge", conf.bridge)));
    }
    if !bridge.is_up() {
        host.set_up(bridge.index, true).context(|| "bringing up the bridge".into())?;
    }
    if conf.promisc_mode && !bridge.is_promisc() {
        host.set_promisc(bridge.index, true).context(|| "making the bridge promiscuous".into())?;
    }
    Ok(bridge)
}

/// Fills in gateways and default routes, and gives the addresses that the bridge must have.
fn gateways(result: &mut CniResult, conf: &NetConf) -> Result<Vec<IpNet>> {
    let mut addresses = Vec::new();
    for ip in &mut result.ips {
        ip.interface = Some(2);
        if !conf.is_gateway {
            continue;
        }
        let gateway = match ip.gateway {
            Some(gateway) => gateway,
            None => ip.address.hosts().next().ok_or_else(|| Error::config("subnet without a gateway address"))?,
        };
        ip.gateway = Some(gateway);
        addresses.push(IpNet::new(gateway, ip.address.prefix_len()).context(|| "gateway".into())?);
        let any = if gateway.is_ipv4() {
            IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0)
        } else {
            IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0)
        };
        if conf.is_default_gateway {
            if result.routes.iter().any(|r| r.dst == any && r.gw.is_some()) {
                return Err(Error::config(format!(
                    "cannot use isDefaultGateway: a default route to {any} is configured"
                )));
            }
            result.routes.retain(|r| r.dst != any);
            result.routes.push(Route { gw: Some(gateway), ..Route::to(any) });
        }
    }
    Ok(addresses)
}

/// Gives the bridge its gateway addresses; another one in the same family is an error, or replaced with `forceAddress`.
fn ensure_addresses(host: &mut Handle, bridge: &Link, wanted: &[IpNet], force: bool) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let present = host.addresses(Some(bridge.index)).context(|| "the bridge's addresses".into())?;
    for net in wanted {
        if present.iter().any(|a| a.net == *net) {
            continue;
        }
        let other = present
            .iter()
            .find(|a| a.scope == 0 && a.net.addr().is_ipv4() == net.addr().is_ipv4() && !wanted.contains(&a.net));
        match other {
            Some(other) if force => {
                host.delete_address(bridge.index, other.net).context(|| "replacing the bridge's address".into())?
            }
            Some(other) if net.addr().is_ipv4() || other.net.trunc() == net.trunc() => {
                let msg = format!("\"{}\" already has an IP address different from {net}", bridge.name);
                return Err(Error::config(msg));
            }
            _ => {}
        }
        host.ensure_address(bridge.index, *net).context(|| "failed to set bridge addr".into())?;
    }
    Ok(())
}

impl Plugin for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn add(&self, invocation: &Invocation, conf: &Conf) -> Result<CniResult> {
        let own = load(invocation, conf)?;
        let path = invocation.netns()?;
        let ns = NetNs::open(path).context(|| format!("failed to open netns {}", path.display()))?;
        let mut host = Handle::open().context(|| "netlink on the host".into())?;
        let bridge = ensure_bridge(&mut host, &own)?;
        let mut undo = Undo::new();
        // Addresses come first: the interface's hardware address is made from them.
        let layer3 = !ipam::kind(conf).is_empty();
        let mut result = CniResult::default();
        if layer3 {
            undo.push("address", || ipam::del(invocation, conf));
            result = ipam::add(invocation, conf)?;
        }
        let mac = match (own.mac.is_empty(), result.ips.first()) {
            (false, _) => link::parse_mac(&own.mac)?,
            (true, Some(ip)) => link::mac_of(ip.address.addr()),
            (true, None) => Vec::new(),
        };
        let host_name = link::host_name(&invocation.container_id, &invocation.ifname);
        let spec = PairSpec {
            host_name: &host_name,
            ifname: &invocation.ifname,
            mtu: own.mtu,
            mac: &mac,
            master: Some(bridge.index),
        };
        undo.push("interface", || link::remove(Some(path), &invocation.ifname).map(drop));
        let mut pair = link::make_pair(&mut host, &ns, &spec)?;
        if own.hairpin_mode || own.port_isolation {
            let options = PortOptions {
                hairpin: Some(own.hairpin_mode),
                isolated: own.port_isolation.then_some(true),
                ..Default::default()
            };
            host.set_port(pair.host.index, options).context(|| "failed to setup hairpin mode".into())?;
        }
        result.interfaces = vec![
            link::interface(&bridge, None),
            link::interface(&pair.host, None),
            link::interface(&pair.container, Some(path)),
        ];
        if layer3 {
            let addresses = gateways(&mut result, &own)?;
            ensure_addresses(&mut host, &bridge, &addresses, own.force_address)?;
            if own.is_gateway {
                link::enable_forwarding(&addresses)?;
            }
            link::configure(&mut pair.inside, &ns, &pair.container, &result)?;
            if own.ip_masq {
                let ips: Vec<IpNet> = result.ips.iter().map(|i| i.address).collect();
                masquerade::add(&conf.name, &ips, &format!("{}/{}", invocation.container_id, invocation.ifname))?;
            }
        } else if !own.disable_container_interface {
            pair.inside
                .set_up(pair.container.index, true)
                .context(|| "bringing up the container's interface".into())?;
        }
        undo.done();
        Ok(result)
    }

    fn del(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        let own: NetConf = conf.parse()?;
        link::remove_pair(invocation, conf, own.ip_masq)
    }

    fn check(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        let own = load(invocation, conf)?;
        ipam::check(invocation, conf)?;
        let previous = conf.need_previous()?;
        let bridge = previous.interfaces.iter().find(|i: &&Interface| i.name == own.bridge && i.sandbox.is_empty());
        if bridge.is_none() {
            return Err(Error::config(format!("bridge {} is not in the previous result", own.bridge)));
        }
        let mut host = Handle::open().context(|| "netlink on the host".into())?;
        let link = host.link(&own.bridge).context(|| "the bridge".into())?;
        if link.kind != "bridge" {
            return Err(Error::config(format!("interface {} is not a bridge", own.bridge)));
        }
        let name = link::host_name(&invocation.container_id, &invocation.ifname);
        let veth = host.link(&name).context(|| "the host's interface".into())?;
        if veth.master != Some(link.index) {
            return Err(Error::config(format!("host interface {name} is not attached to bridge {}", own.bridge)));
        }
        link::check(invocation.netns()?, &invocation.ifname, &previous)
    }

    fn gc(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        ipam::gc(invocation, conf)
    }

    fn status(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        load(invocation, conf)?;
        ipam::status(invocation, conf)
    }
}

#[cfg(test)]
mod tests;
