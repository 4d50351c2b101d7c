//! `tuning`: sysctls and link properties of an interface that an earlier plugin made.

use super::{Conf, Invocation, Plugin, link};
use crate::error::{Context, Error, Result, code};
use crate::result::CniResult;
use serde::Deserialize;
use std::collections::BTreeMap;
use sys::netlink::{Handle, NetNs, sysctl};

/// The plugin.
pub struct Tuning;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NetConf {
    sysctl: BTreeMap<String, String>,
    mac: String,
    mtu: u32,
    promisc: bool,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_q_len: Option<u32>,
}

/// A sysctl's path below /proc/sys: only `net.` is allowed, `IFNAME` stands for the interface.
fn sysctl_path(key: &str, ifname: &str) -> Result<String> {
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    let path = path.replace("IFNAME", ifname);
    if !path.starts_with("net/") || path.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Error::new(code::INVALID_CONFIG, format!("invalid net sysctl key: \"{key}\"")));
    }
    Ok(path)
}

fn load(invocation: &Invocation, conf: &Conf) -> Result<NetConf> {
    let mut own: NetConf = conf.parse()?;
    if let Some(mac) = conf.capability::<String>("mac")? {
        own.mac = mac;
    } else if let Some(mac) = conf.cni_arg("mac").and_then(|v| v.as_str()).or_else(|| invocation.arg("MAC")) {
        mac.clone_into(&mut own.mac);
    }
    Ok(own)
}

impl Plugin for Tuning {
    fn name(&self) -> &'static str {
        "tuning"
    }

    fn add(&self, invocation: &Invocation, conf: &Conf) -> Result<CniResult> {
        let own = load(invocation, conf)?;
        let mut result = conf.need_previous()?;
        let ns = NetNs::open(invocation.netns()?).context(|| "opening the namespace".into())?;
        let pairs: Vec<(String, &str)> = own
            .sysctl
            .iter()
            .map(|(k, v)| Ok((sysctl_path(k, &invocation.ifname)?, v.as_str())))
            .collect::<Result<_>>()?;
        sysctl::set_all_in(&ns, &pairs).context(|| "setting sysctls".into())?;
        let mut inside = Handle::open_in(&ns).context(|| "netlink in the namespace".into())?;
        let eth = inside.link(&invocation.ifname).context(|| "the container's interface".into())?;
        if !own.mac.is_empty() {
            inside.set_mac(eth.index, &link::parse_mac(&own.mac)?).context(|| "setting the hardware address".into())?;
        }
        if own.mtu != 0 {
            inside.set_mtu(eth.index, own.mtu).context(|| "setting the MTU".into())?;
        }
        if own.promisc {
            inside.set_promisc(eth.index, true).context(|| "setting promiscuous mode".into())?;
        }
        if let Some(on) = own.allmulti {
            inside.set_allmulti(eth.index, on).context(|| "setting all-multicast mode".into())?;
        }
        if let Some(len) = own.tx_q_len {
            inside.set_txqlen(eth.index, len).context(|| "setting the queue length".into())?;
        }
        let sandbox = invocation.netns()?.display().to_string();
        for interface in result.interfaces.iter_mut().filter(|i| i.name == invocation.ifname && i.sandbox == sandbox) {
            if !own.mac.is_empty() {
                interface.mac.clone_from(&own.mac);
            }
            if own.mtu != 0 {
                interface.mtu = own.mtu;
            }
        }
        Ok(result)
    }

    /// The interface goes away with the container, and its settings with it.
    fn del(&self, _invocation: &Invocation, _conf: &Conf) -> Result<()> {
        Ok(())
    }

    fn check(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        let own = load(invocation, conf)?;
        conf.need_previous()?;
        let ns = NetNs::open(invocation.netns()?).context(|| "opening the namespace".into())?;
        for (key, wanted) in &own.sysctl {
            let path = sysctl_path(key, &invocation.ifname)?;
            let found = ns.run(|| sysctl::get(&path)).and_then(|r| r).context(|| format!("reading {key}"))?;
            if found.split_whitespace().ne(wanted.split_whitespace()) {
                return Err(Error::config(format!(
                    "Error: Tuning configured \"{key}\" = {wanted}, current value is {found}"
                )));
            }
        }
        let eth = Handle::open_in(&ns)
            .and_then(|mut h| h.link(&invocation.ifname))
            .context(|| "the container's interface".into())?;
        if own.mtu != 0 && eth.mtu != own.mtu {
            return Err(Error::config(format!(
                "Error: Tuning configured MTU of {} is {}, current value is {}",
                eth.name, own.mtu, eth.mtu
            )));
        }
        if !own.mac.is_empty() && !eth.mac().eq_ignore_ascii_case(&own.mac) {
            return Err(Error::config(format!(
                "Error: Tuning configured MAC of {} is {}, current value is {}",
                eth.name,
                own.mac,
                eth.mac()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_net_sysctls_pass() {
        assert_eq!(sysctl_path("net.ipv4.conf.IFNAME.arp_filter", "eth0").unwrap(), "net/ipv4/conf/eth0/arp_filter");
        assert_eq!(
            sysctl_path("net/ipv4/conf/IFNAME/arp_filter", "eth0.1").unwrap(),
            "net/ipv4/conf/eth0.1/arp_filter"
        );
        assert!(sysctl_path("kernel.shmmax", "eth0").is_err());
        assert!(sysctl_path("net/../kernel/shmmax", "eth0").is_err());
    }
}
