//! Connection tracking: list flows and delete one, as the proxy must for stale UDP flows.

use super::msg::{Attrs, Msg, ip};
use super::{NetNs, Protocol, Result, Socket};
use std::net::IpAddr;

const NFNL_SUBSYS_CTNETLINK: u16 = 1 << 8;
const IPCTNL_MSG_CT_NEW: u16 = NFNL_SUBSYS_CTNETLINK;
const IPCTNL_MSG_CT_GET: u16 = NFNL_SUBSYS_CTNETLINK | 1;
const IPCTNL_MSG_CT_DELETE: u16 = NFNL_SUBSYS_CTNETLINK | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// A tracked flow.
#[derive(Debug, Clone)]
pub struct Flow {
    /// As the client sent it.
    pub original: Tuple,
    /// As the answer comes; its source is the translated destination.
    pub reply: Tuple,
    raw_original: Vec<u8>,
    raw_id: Vec<u8>,
}

/// The conntrack table of one namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens it in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel has no ctnetlink or the process no right.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// Opens it in `ns`.
    ///
    /// # Errors
    /// As [`Conntrack::open`].
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        Ok(Self { socket: Socket::open_in(ns, Protocol::Netfilter)? })
    }

    /// Flows of one family for which `keep` answers true.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub fn flows(&mut self, v6: bool, mut keep: impl FnMut(&Flow) -> bool) -> Result<Vec<Flow>> {
        let msg = Msg::new(IPCTNL_MSG_CT_GET, 0).raw(&header(v6));
        self.socket.dump("list conntrack flows", msg, |reply| {
            (reply.kind == IPCTNL_MSG_CT_NEW).then(|| parse(&reply.body)).flatten().filter(|flow| keep(flow))
        })
    }

    /// Forgets a flow; one that is gone already is no error.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn delete(&mut self, flow: &Flow) -> Result<()> {
        let mut msg = Msg::new(IPCTNL_MSG_CT_DELETE, 0).raw(&header(flow.original.source.is_ipv6()));
        msg.attr(CTA_TUPLE_ORIG | super::msg::NLA_F_NESTED, &flow.raw_original);
        if !flow.raw_id.is_empty() {
            msg.attr(CTA_ID, &flow.raw_id);
        }
        match self.socket.request(|| "delete conntrack flow".to_owned(), msg) {
            Err(e) if e.is_not_found() => Ok(()),
            other => other,
        }
    }
}

fn header(v6: bool) -> [u8; 4] {
    [if v6 { libc::AF_INET6 as u8 } else { libc::AF_INET as u8 }, 0, 0, 0]
}

fn parse(body: &[u8]) -> Option<Flow> {
    let attrs = Attrs(body.get(4..)?);
    let original = attrs.clone().find(CTA_TUPLE_ORIG)?;
    Some(Flow {
        original: tuple(original)?,
        reply: tuple(attrs.clone().find(CTA_TUPLE_REPLY)?)?,
        raw_original: original.to_vec(),
        raw_id: attrs.find(CTA_ID).map(<[u8]>::to_vec).unwrap_or_default(),
    })
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let addresses = Attrs(Attrs(bytes).find(CTA_TUPLE_IP)?);
    let proto = Attrs(Attrs(bytes).find(CTA_TUPLE_PROTO)?);
    let address = |v4: u16, v6: u16| addresses.clone().find(v4).or_else(|| addresses.clone().find(v6)).and_then(ip);
    let port = |kind: u16| match proto.clone().find(kind) {
        Some([a, b]) => u16::from_be_bytes([*a, *b]),
        _ => 0,
    };
    Some(Tuple {
        source: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        destination: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        protocol: proto.clone().find(CTA_PROTO_NUM)?.first().copied()?,
        source_port: port(CTA_PROTO_SRC_PORT),
        destination_port: port(CTA_PROTO_DST_PORT),
    })
}
