//! `ptp`: a veth pair without a bridge; everything the container sends goes through the host's routing.

use super::link::{self, PairSpec, Undo};
use super::{Conf, Invocation, Plugin, ipam, masquerade};
use crate::error::{Context, Error, Result, code};
use crate::result::{CniResult, Dns};
use ipnet::IpNet;
use serde::Deserialize;
use sys::netlink::{Handle, Link, NetNs, Route, RouteScope};

/// The plugin.
pub struct Ptp;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NetConf {
    ip_masq: bool,
    ip_masq_backend: String,
    mtu: u32,
    dns: Dns,
}

fn load(conf: &Conf) -> Result<NetConf> {
    let own: NetConf = conf.parse()?;
    if !matches!(own.ip_masq_backend.as_str(), "" | "nftables") {
        return Err(Error::new(
            code::UNSUPPORTED_FIELD,
            format!("ptp: ipMasqBackend {} is not supported", own.ip_masq_backend),
        ));
    }
    Ok(own)
}

fn whole(ip: std::net::IpAddr) -> IpNet {
    IpNet::from(ip)
}

/// Inside: the gateway is on the link, the subnet behind it, and then the routes that were asked for.
fn configure_inside(inside: &mut Handle, ns: &NetNs, eth: &Link, result: &CniResult) -> Result<()> {
    // Addresses as whole ones: no on-link route to the subnet may come with them.
    let mut addresses = CniResult { ips: result.ips.clone(), ..Default::default() };
    for ip in &mut addresses.ips {
        ip.address = whole(ip.address.addr());
    }
    link::configure(inside, ns, eth, &addresses)?;
    for ip in &result.ips {
        let Some(gateway) = ip.gateway else { return Err(Error::config("ptp needs a gateway for every address")) };
        let mut to_gateway = Route::to(whole(gateway)).dev(eth.index).scope(RouteScope::Link);
        to_gateway.source = Some(ip.address.addr());
        inside.ensure_route(&to_gateway).context(|| "route to the gateway".into())?;
        let mut to_subnet = Route::to(ip.address.trunc()).via(gateway).dev(eth.index);
        to_subnet.source = Some(ip.address.addr());
        if ip.address.prefix_len() < ip.address.max_prefix_len() {
            inside.ensure_route(&to_subnet).context(|| "route to the subnet".into())?;
        }
    }
    for route in &result.routes {
        inside
            .ensure_route(&link::kernel_route(route, result, eth.index))
            .context(|| format!("failed to add route '{}'", route.dst))?;
    }
    Ok(())
}

/// Outside: the gateway's address on the host end, and a route to the container.
fn configure_outside(host: &mut Handle, veth: &Link, result: &CniResult) -> Result<()> {
    for ip in &result.ips {
        if let Some(gateway) = ip.gateway {
            host.ensure_address(veth.index, whole(gateway)).context(|| "the gateway's address".into())?;
        }
        let route = Route::to(whole(ip.address.addr())).dev(veth.index).scope(RouteScope::Link);
        host.replace_route(&route).context(|| "route to the container".into())?;
    }
    Ok(())
}

impl Plugin for Ptp {
    fn name(&self) -> &'static str {
        "ptp"
    }

    fn add(&self, invocation: &Invocation, conf: &Conf) -> Result<CniResult> {
        let own = load(conf)?;
        let path = invocation.netns()?;
        let ns = NetNs::open(path).context(|| format!("failed to open netns {}", path.display()))?;
        let mut host = Handle::open().context(|| "netlink on the host".into())?;
        let mut undo = Undo::new();
        undo.push("address", || ipam::del(invocation, conf));
        let mut result = ipam::add(invocation, conf)?;
        let addresses: Vec<IpNet> = result.ips.iter().map(|i| i.address).collect();
        link::enable_forwarding(&addresses)?;
        let host_name = link::host_name(&invocation.container_id, &invocation.ifname);
        let spec = PairSpec { host_name: &host_name, ifname: &invocation.ifname, mtu: own.mtu, mac: &[], master: None };
        undo.push("interface", || link::remove(Some(path), &invocation.ifname).map(drop));
        let mut pair = link::make_pair(&mut host, &ns, &spec)?;
        result.interfaces = vec![link::interface(&pair.host, None), link::interface(&pair.container, Some(path))];
        for ip in &mut result.ips {
            ip.interface = Some(1);
        }
        configure_outside(&mut host, &pair.host, &result)?;
        configure_inside(&mut pair.inside, &ns, &pair.container, &result)?;
        if own.ip_masq {
            masquerade::add(&conf.name, &addresses, &format!("{}/{}", invocation.container_id, invocation.ifname))?;
        }
        if !own.dns.is_empty() {
            result.dns = own.dns;
        }
        undo.done();
        Ok(result)
    }

    fn del(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        let own: NetConf = conf.parse()?;
        link::remove_pair(invocation, conf, own.ip_masq)
    }

    fn check(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        ipam::check(invocation, conf)?;
        let mut previous = conf.need_previous()?;
        for ip in &mut previous.ips {
            ip.address = whole(ip.address.addr());
        }
        link::check(invocation.netns()?, &invocation.ifname, &previous)
    }

    fn gc(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        ipam::gc(invocation, conf)
    }

    fn status(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        load(conf)?;
        ipam::status(invocation, conf)
    }
}
