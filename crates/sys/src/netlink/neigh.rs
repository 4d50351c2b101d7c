//! Neighbours: ARP and neighbour-discovery entries, and a bridge's or tunnel's forwarding entries.

use super::msg::{Attrs, Msg, ip, ip_bytes, num};
use super::{Handle, NLM_F_CREATE, NLM_F_REPLACE, Result, family};
use std::net::IpAddr;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 2;
const NTF_PROXY: u8 = 8;

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The link's index.
    pub link: u32,
    /// Its address (for a forwarding entry: the tunnel's other end).
    pub ip: Option<IpAddr>,
    /// Its hardware address.
    pub mac: Vec<u8>,
    /// Answer for it on this link instead of reaching it.
    pub proxy: bool,
    /// A forwarding entry of a tunnel rather than an ARP or ND entry.
    pub forwarding: bool,
}

impl Neighbour {
    fn message(&self, kind: u16, flags: u16) -> Msg {
        let mut raw = [0u8; 12];
        raw[0] = match (self.forwarding, self.ip) {
            (true, _) | (_, None) => libc::AF_BRIDGE as u8,
            (false, Some(ip)) => family(&ip),
        };
        raw[4..8].copy_from_slice(&self.link.to_ne_bytes());
        raw[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
        raw[10] = (if self.forwarding { NTF_SELF } else { 0 }) | (if self.proxy { NTF_PROXY } else { 0 });
        let mut msg = Msg::new(kind, flags).raw(&raw);
        if let Some(ip) = self.ip {
            msg.attr(NDA_DST, &ip_bytes(ip));
        }
        if !self.mac.is_empty() {
            msg.attr(NDA_LLADDR, &self.mac);
        }
        msg
    }
}

impl Handle {
    /// Adds or replaces a permanent neighbour.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn replace_neighbour(&mut self, neighbour: &Neighbour) -> Result<()> {
        let msg = neighbour.message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
        self.socket.request(|| format!("replace neighbour on link #{}", neighbour.link), msg)
    }

    /// Deletes a neighbour.
    ///
    /// # Errors
    /// What the kernel answers; absence has `is_not_found()`.
    pub fn delete_neighbour(&mut self, neighbour: &Neighbour) -> Result<()> {
        self.socket
            .request(|| format!("delete neighbour on link #{}", neighbour.link), neighbour.message(RTM_DELNEIGH, 0))
    }

    /// All ARP and neighbour-discovery entries of the namespace.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>> {
        let msg = Msg::new(RTM_GETNEIGH, 0).raw(&[0; 12]);
        self.socket.dump("list neighbours", msg, |reply| {
            let head = reply.body.get(..12)?;
            let attrs = Attrs(&reply.body[12..]);
            Some(Neighbour {
                link: num(&head[4..8]),
                ip: attrs.clone().find(NDA_DST).and_then(ip),
                mac: attrs.find(NDA_LLADDR).map(<[u8]>::to_vec).unwrap_or_default(),
                proxy: head[10] & NTF_PROXY != 0,
                forwarding: i32::from(head[0]) == libc::AF_BRIDGE,
            })
        })
    }
}
