//! Interface addresses.

use super::msg::{Attrs, Msg, ip, ip_bytes, num};
use super::{Handle, NLM_F_CREATE, NLM_F_EXCL, Result, family};
use ipnet::IpNet;
use std::net::IpAddr;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection: the address is usable at once.
const IFA_F_NODAD: u32 = 2;
const IFA_F_DADFAILED: u32 = 8;
const IFA_F_TENTATIVE: u32 = 0x40;

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// Address and prefix length.
    pub net: IpNet,
    /// Scope: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// Not yet, or never, usable because of duplicate address detection.
    pub tentative: bool,
}

impl Handle {
    /// All addresses of the namespace, or of one link.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub fn addresses(&mut self, link: Option<u32>) -> Result<Vec<Address>> {
        let msg = Msg::new(RTM_GETADDR, 0).raw(&[0; 8]);
        let mut all = self.socket.dump("list addresses", msg, |reply| parse(&reply.body))?;
        if let Some(link) = link {
            all.retain(|a| a.link == link);
        }
        Ok(all)
    }

    /// Adds an address. IPv6 addresses skip duplicate detection, so that a pod may use its own at once.
    ///
    /// # Errors
    /// What the kernel answers; a repeated one has `is_exists()`.
    pub fn add_address(&mut self, link: u32, net: IpNet) -> Result<()> {
        let mut msg = Msg::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL).raw(&header(link, net));
        fill(&mut msg, net);
        msg.u32(IFA_FLAGS, if net.addr().is_ipv6() { IFA_F_NODAD } else { 0 });
        if let IpNet::V4(v4) = net
            && v4.prefix_len() < 31
        {
            msg.attr(IFA_BROADCAST, &v4.broadcast().octets());
        }
        self.socket.request(|| format!("add address {net} to link #{link}"), msg)
    }

    /// Adds an address unless the link has it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn ensure_address(&mut self, link: u32, net: IpNet) -> Result<()> {
        match self.add_address(link, net) {
            Err(e) if e.is_exists() => Ok(()),
            other => other,
        }
    }

    /// Removes an address.
    ///
    /// # Errors
    /// What the kernel answers; absence has `is_not_found()`.
    pub fn delete_address(&mut self, link: u32, net: IpNet) -> Result<()> {
        let mut msg = Msg::new(RTM_DELADDR, 0).raw(&header(link, net));
        fill(&mut msg, net);
        self.socket.request(|| format!("delete address {net} of link #{link}"), msg)
    }
}

fn header(link: u32, net: IpNet) -> [u8; 8] {
    let mut raw = [0u8; 8];
    raw[0] = family(&net.addr());
    raw[1] = net.prefix_len();
    raw[3] = match net.addr() {
        IpAddr::V4(ip) if ip.is_loopback() => 254,
        IpAddr::V6(ip) if ip.is_loopback() => 254,
        IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80 => 253,
        _ => 0,
    };
    raw[4..8].copy_from_slice(&link.to_ne_bytes());
    raw
}

fn fill(msg: &mut Msg, net: IpNet) {
    let bytes = ip_bytes(net.addr());
    msg.attr(IFA_LOCAL, &bytes);
    msg.attr(IFA_ADDRESS, &bytes);
}

fn parse(body: &[u8]) -> Option<Address> {
    let head = body.get(..8)?;
    let attrs = Attrs(&body[8..]);
    let flags = attrs.clone().find(IFA_FLAGS).map_or(u32::from(head[2]), num);
    let addr = attrs.clone().find(IFA_LOCAL).or_else(|| attrs.find(IFA_ADDRESS)).and_then(ip)?;
    Some(Address {
        link: num(&head[4..8]),
        net: IpNet::new(addr, head[1]).ok()?,
        scope: head[3],
        tentative: flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0,
    })
}
