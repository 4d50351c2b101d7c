//! `loopback`: brings up `lo`.

use super::{Conf, Invocation, Plugin};
use crate::error::{Context, Error, Result};
use crate::result::{CniResult, Interface, IpConfig};
use sys::netlink::{Handle, NetNs};

/// The plugin.
pub struct Loopback;

impl Plugin for Loopback {
    fn name(&self) -> &'static str {
        "loopback"
    }

    fn add(&self, invocation: &Invocation, conf: &Conf) -> Result<CniResult> {
        let path = invocation.netns()?;
        let ns = NetNs::open(path).context(|| "opening the namespace".into())?;
        let mut handle = Handle::open_in(&ns).context(|| "netlink in the namespace".into())?;
        let lo = handle.link("lo").context(|| "loopback".into())?;
        handle.set_up(lo.index, true).context(|| "bringing up lo".into())?;
        if let Some(previous) = conf.previous()? {
            return Ok(previous);
        }
        let addresses = handle.addresses(Some(lo.index)).context(|| "loopback's addresses".into())?;
        Ok(CniResult {
            interfaces: vec![Interface {
                name: "lo".into(),
                mac: lo.mac(),
                sandbox: path.display().to_string(),
                ..Default::default()
            }],
            ips: addresses
                .into_iter()
                .map(|a| IpConfig { interface: Some(0), address: a.net, gateway: None })
                .collect(),
            ..Default::default()
        })
    }

    fn del(&self, invocation: &Invocation, _conf: &Conf) -> Result<()> {
        // A namespace that is gone has taken its loopback with it.
        let Some(mut handle) = super::link::still_there(invocation.netns.as_deref())? else { return Ok(()) };
        if let Some(lo) = handle.find_link("lo").context(|| "loopback".into())? {
            handle.set_up(lo.index, false).context(|| "taking down lo".into())?;
        }
        Ok(())
    }

    fn check(&self, invocation: &Invocation, _conf: &Conf) -> Result<()> {
        let ns = NetNs::open(invocation.netns()?).context(|| "opening the namespace".into())?;
        let lo = Handle::open_in(&ns).and_then(|mut h| h.link("lo")).context(|| "loopback".into())?;
        if lo.is_up() { Ok(()) } else { Err(Error::config("loopback interface is down")) }
    }
}
