//! `host-local`: addresses from ranges, kept as one file per address.
//!
//! The files are upstream's: `<dataDir>/<network>/<ip>` holds the container id and the interface name,
//! `last_reserved_ip.<n>` where the round robin stands, `lock` is locked around everything.

mod range;
mod store;

pub use range::{Range, RangeSet};
pub use store::Store;

use super::{Conf, Invocation, Plugin};
use crate::error::{Error, Result, code};
use crate::result::{CniResult, Dns, IpConfig, Route};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// The plugin.
pub struct HostLocal;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ipam {
    #[serde(flatten)]
    single: Option<Range>,
    ranges: Vec<RangeSet>,
    routes: Vec<Route>,
    data_dir: String,
    resolv_conf: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NetConf {
    ipam: Ipam,
}

/// A parsed configuration: range sets and the addresses asked for.
struct Plan {
    sets: Vec<RangeSet>,
    wanted: Vec<IpAddr>,
    ipam: Ipam,
}

fn plan(invocation: &Invocation, conf: &Conf) -> Result<Plan> {
    let mut ipam = conf.parse::<NetConf>()?.ipam;
    let mut sets: Vec<RangeSet> = conf.capability("ipRanges")?.unwrap_or_default();
    sets.extend(ipam.single.take().filter(|r| r.subnet.is_some()).map(|r| vec![r]));
    sets.append(&mut ipam.ranges);
    if sets.is_empty() {
        return Err(Error::config("no IP ranges specified"));
    }
    for (n, set) in sets.iter_mut().enumerate() {
        range::canonicalize(set).map_err(|e| Error::config(format!("invalid range set {n}: {e}")))?;
    }
    for (n, set) in sets.iter().enumerate() {
        if let Some(m) = sets[..n].iter().position(|other| range::overlap(set, other)) {
            return Err(Error::config(format!("range set {n} overlaps with {m}")));
        }
    }
    Ok(Plan { wanted: wanted(invocation, conf)?, sets, ipam })
}

/// Addresses asked for by `CNI_ARGS` IP, `args.cni.ips` or the capability `ips`, with or without prefix length.
fn wanted(invocation: &Invocation, conf: &Conf) -> Result<Vec<IpAddr>> {
    let mut texts: Vec<String> = invocation.arg("IP").map(str::to_owned).into_iter().collect();
    texts.extend(
        conf.cni_arg("ips")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned),
    );
    texts.extend(conf.capability::<Vec<String>>("ips")?.unwrap_or_default());
    texts
        .iter()
        .map(|t| {
            t.split('/').next().unwrap_or(t).parse().map_err(|_| Error::config(format!("invalid requested IP \"{t}\"")))
        })
        .collect()
}

fn open(conf: &Conf, ipam: &Ipam) -> Result<Store> {
    let dir =
        if ipam.data_dir.is_empty() { PathBuf::from("/var/lib/cni/networks") } else { PathBuf::from(&ipam.data_dir) };
    Store::open(&dir.join(&conf.name))
}

impl Plugin for HostLocal {
    fn name(&self) -> &'static str {
        "host-local"
    }

    fn add(&self, invocation: &Invocation, conf: &Conf) -> Result<CniResult> {
        let mut plan = plan(invocation, conf)?;
        let mut result = CniResult { routes: std::mem::take(&mut plan.ipam.routes), ..Default::default() };
        if !plan.ipam.resolv_conf.is_empty() {
            result.dns = resolv_conf(&plan.ipam.resolv_conf)?;
        }
        let store = open(conf, &plan.ipam)?;
        let (id, ifname) = (invocation.container_id.as_str(), invocation.ifname.as_str());
        for (n, set) in plan.sets.iter().enumerate() {
            let position = plan.wanted.iter().position(|ip| set.iter().any(|r| r.contains(*ip)));
            let wanted = position.map(|p| plan.wanted.remove(p));
            match store.reserve(set, n, wanted, id, ifname) {
                Ok((address, gateway)) => {
                    result.ips.push(IpConfig { interface: None, address, gateway: Some(gateway) })
                }
                Err(e) => {
                    store.release(id, ifname)?;
                    return Err(Error {
                        code: e.code,
                        msg: format!("failed to allocate for range {n}"),
                        source: Some(Box::new(e)),
                    });
                }
            }
        }
        if let Some(left) = plan.wanted.first() {
            store.release(id, ifname)?;
            return Err(Error::config(format!("failed to allocate all requested IPs: {left} is in no range")));
        }
        Ok(result)
    }

    fn del(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        let ipam = conf.parse::<NetConf>()?.ipam;
        open(conf, &ipam)?.release(&invocation.container_id, &invocation.ifname)
    }

    fn check(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        let ipam = conf.parse::<NetConf>()?.ipam;
        if open(conf, &ipam)?.held(&invocation.container_id, &invocation.ifname)?.is_empty() {
            let msg = format!("host-local: failed to find address added by container {}", invocation.container_id);
            return Err(Error::new(code::UNKNOWN_CONTAINER, msg));
        }
        Ok(())
    }

    fn gc(&self, _invocation: &Invocation, conf: &Conf) -> Result<()> {
        let ipam = conf.parse::<NetConf>()?.ipam;
        open(conf, &ipam)?.retain(&conf.valid_attachments())
    }

    fn status(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        plan(invocation, conf).map(drop)
    }
}

/// Reads `nameserver`, `domain`, `search` and `options` of a resolv.conf.
fn resolv_conf(path: &str) -> Result<Dns> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path.as_ref(), e))?;
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or_default(),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    Ok(dns)
}

/// Addresses in use per container, for tests and `status` commands.
///
/// # Errors
/// When the directory cannot be read.
pub fn allocations(dir: &std::path::Path) -> Result<BTreeMap<IpAddr, String>> {
    Store::open(dir)?.all()
}

#[cfg(test)]
mod tests;
