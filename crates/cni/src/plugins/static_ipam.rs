//! `static`: addresses as the configuration, the arguments or the capability `ips` give them.

use super::{Conf, Invocation, Plugin};
use crate::error::{Error, Result};
use crate::result::{CniResult, Dns, IpConfig, Route};
use ipnet::IpNet;
use serde::Deserialize;
use std::net::IpAddr;

/// The plugin.
pub struct Static;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ipam {
    addresses: Vec<IpConfig>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NetConf {
    ipam: Ipam,
}

fn parse(text: &str) -> Result<IpNet> {
    text.trim()
        .parse()
        .map_err(|_| Error::config(format!("the 'ip' field is expected to be in CIDR notation, got: '{text}'")))
}

fn addresses(invocation: &Invocation, conf: &Conf, own: Vec<IpConfig>) -> Result<Vec<IpConfig>> {
    let texts: Vec<String> = match (
        conf.capability::<Vec<String>>("ips")?,
        conf.cni_arg("ips").and_then(|v| v.as_array()),
        invocation.arg("IP"),
    ) {
        (Some(list), _, _) if !list.is_empty() => list,
        (_, Some(list), _) if !list.is_empty() => list.iter().filter_map(|v| v.as_str()).map(str::to_owned).collect(),
        (_, _, Some(text)) => text.split(',').map(str::to_owned).collect(),
        _ => return Ok(own),
    };
    let gateways: Vec<IpAddr> = invocation
        .arg("GATEWAY")
        .into_iter()
        .flat_map(|t| t.split(','))
        .filter_map(|t| t.trim().parse().ok())
        .collect();
    texts
        .iter()
        .map(|t| {
            let address = parse(t)?;
            Ok(IpConfig { interface: None, address, gateway: gateways.iter().copied().find(|g| address.contains(g)) })
        })
        .collect()
}

impl Plugin for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn add(&self, invocation: &Invocation, conf: &Conf) -> Result<CniResult> {
        let own = conf.parse::<NetConf>()?.ipam;
        let ips = addresses(invocation, conf, own.addresses)?;
        Ok(CniResult { ips, routes: own.routes, dns: own.dns, ..Default::default() })
    }

    fn del(&self, _invocation: &Invocation, _conf: &Conf) -> Result<()> {
        Ok(())
    }

    fn check(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        let own = conf.parse::<NetConf>()?.ipam;
        let previous = conf.need_previous()?;
        for ip in addresses(invocation, conf, own.addresses)? {
            if !previous.ips.iter().any(|p| p.address == ip.address) {
                return Err(Error::config(format!("static: failed to match addr {} on interface", ip.address)));
            }
        }
        Ok(())
    }
}
