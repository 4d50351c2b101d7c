//! `bandwidth`: a token bucket on the host's end for what the container receives, and one on an IFB for what it sends.

use super::{Conf, Invocation, Plugin};
use crate::error::{Context, Error, Result};
use crate::result::{CniResult, Interface};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use sys::netlink::{Handle, LinkKind, NewLink};

/// The plugin.
pub struct Bandwidth;

/// How long a packet may wait in the queue.
const LATENCY_US: u32 = 25_000;

/// Rates in bits per second, bursts in bits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Limits {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
}

fn load(conf: &Conf) -> Result<Limits> {
    let limits: Limits = match conf.capability("bandwidth")? {
        Some(limits) => limits,
        None => conf.parse()?,
    };
    for (name, rate, burst) in
        [("ingress", limits.ingress_rate, limits.ingress_burst), ("egress", limits.egress_rate, limits.egress_burst)]
    {
        match (rate, burst) {
            (0, 0) => {}
            (0, _) => return Err(Error::config(format!("if {name} burst is set, rate must also be set"))),
            (_, 0) => return Err(Error::config(format!("if {name} rate is set, burst must also be set"))),
            (_, b) if b / 8 >= u64::from(u32::MAX) => {
                return Err(Error::config(format!("{name} burst cannot be more than 4GB")));
            }
            _ => {}
        }
    }
    Ok(limits)
}

fn ifb_name(invocation: &Invocation) -> String {
    let digest = Sha256::digest(format!("{}{}", invocation.container_id, invocation.ifname));
    format!("bwp{}", digest[..6].iter().map(|b| format!("{b:02x}")).collect::<String>())
}

/// The host's end: the last host interface of the result (a bridge comes before it).
fn host_interface(result: &CniResult) -> Result<&Interface> {
    result
        .interfaces
        .iter()
        .rfind(|i| i.sandbox.is_empty())
        .ok_or_else(|| Error::config("no host interface found in the previous result"))
}

impl Plugin for Bandwidth {
    fn name(&self) -> &'static str {
        "bandwidth"
    }

    fn add(&self, invocation: &Invocation, conf: &Conf) -> Result<CniResult> {
        let limits = load(conf)?;
        let mut result = conf.need_previous()?;
        if limits.ingress_rate == 0 && limits.egress_rate == 0 {
            return Ok(result);
        }
        let mut host = Handle::open().context(|| "netlink on the host".into())?;
        let name = host_interface(&result)?.name.clone();
        let veth = host.link(&name).context(|| "the host's interface".into())?;
        if limits.ingress_rate > 0 {
            host.set_token_bucket(veth.index, limits.ingress_rate / 8, (limits.ingress_burst / 8) as u32, LATENCY_US)
                .context(|| "limiting ingress".into())?;
        }
        if limits.egress_rate > 0 {
            let name = ifb_name(invocation);
            host.delete_link_if_exists(&name).context(|| "removing a stale IFB".into())?;
            host.add_link(&NewLink { mtu: veth.mtu, up: true, ..NewLink::new(&name, LinkKind::Ifb) })
                .context(|| "creating the IFB".into())?;
            let ifb = host.link(&name).context(|| "the IFB".into())?;
            let limited = host.redirect_ingress(veth.index, ifb.index).and_then(|()| {
                host.set_token_bucket(ifb.index, limits.egress_rate / 8, (limits.egress_burst / 8) as u32, LATENCY_US)
            });
            if let Err(e) = limited {
                // The attachment fails as a whole; the IFB would stay behind.
                let _ = host.delete_link(ifb.index);
                return Err(Error::internal("limiting egress", e));
            }
            result.interfaces.push(Interface { name, mac: ifb.mac(), ..Default::default() });
        }
        Ok(result)
    }

    fn del(&self, invocation: &Invocation, _conf: &Conf) -> Result<()> {
        let gone = Handle::open().and_then(|mut h| h.delete_link_if_exists(&ifb_name(invocation)));
        gone.map(drop).context(|| "removing the IFB".into())
    }

    fn check(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        let limits = load(conf)?;
        if limits.egress_rate > 0 {
            Handle::open().and_then(|mut h| h.link(&ifb_name(invocation))).context(|| "the IFB".into())?;
        }
        Ok(())
    }
}
