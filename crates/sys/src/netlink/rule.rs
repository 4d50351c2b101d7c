//! Policy routing rules.

use super::msg::{Attrs, Msg, ip, ip_bytes, num, text};
use super::{Handle, NLM_F_CREATE, NLM_F_EXCL, Result, family};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FR_ACT_TO_TBL: u8 = 1;

/// A rule: which packets look into which table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// IPv6 rather than IPv4.
    pub v6: bool,
    /// Order among rules.
    pub priority: u32,
    /// Table to look into.
    pub table: u32,
    /// Source prefix.
    pub from: Option<IpNet>,
    /// Destination prefix.
    pub to: Option<IpNet>,
    /// Incoming link.
    pub iif: Option<String>,
    /// Mark and mask.
    pub mark: Option<(u32, u32)>,
}

impl Rule {
    fn message(&self, kind: u16, flags: u16) -> Msg {
        let any: IpAddr = if self.v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let mut raw = [0u8; 12];
        raw[0] = family(&any);
        raw[1] = self.to.map_or(0, |n| n.prefix_len());
        raw[2] = self.from.map_or(0, |n| n.prefix_len());
        raw[7] = FR_ACT_TO_TBL;
        let mut msg = Msg::new(kind, flags).raw(&raw);
        msg.u32(FRA_TABLE, self.table);
        msg.u32(FRA_PRIORITY, self.priority);
        if let Some(net) = self.to {
            msg.attr(FRA_DST, &ip_bytes(net.addr()));
        }
        if let Some(net) = self.from {
            msg.attr(FRA_SRC, &ip_bytes(net.addr()));
        }
        if let Some(iif) = &self.iif {
            msg.str(FRA_IIFNAME, iif);
        }
        if let Some((mark, mask)) = self.mark {
            msg.u32(FRA_FWMARK, mark);
            msg.u32(FRA_FWMASK, mask);
        }
        msg
    }
}

impl Handle {
    /// Adds a rule.
    ///
    /// # Errors
    /// What the kernel answers; a repeated one has `is_exists()`.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<()> {
        let msg = rule.message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
        self.socket.request(|| format!("add rule {}", rule.priority), msg)
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// What the kernel answers; absence has `is_not_found()`.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<()> {
        self.socket.request(|| format!("delete rule {}", rule.priority), rule.message(RTM_DELRULE, 0))
    }

    /// All rules of both families.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub fn rules(&mut self) -> Result<Vec<Rule>> {
        let msg = Msg::new(RTM_GETRULE, 0).raw(&[0; 12]);
        self.socket.dump("list rules", msg, |reply| {
            let head = reply.body.get(..12)?;
            let attrs = Attrs(&reply.body[12..]);
            let net = |kind: u16, len: u8| attrs.clone().find(kind).and_then(ip).and_then(|a| IpNet::new(a, len).ok());
            let mask = attrs.clone().find(FRA_FWMASK).map_or(u32::MAX, num);
            Some(Rule {
                v6: i32::from(head[0]) == libc::AF_INET6,
                priority: attrs.clone().find(FRA_PRIORITY).map_or(0, num),
                table: attrs.clone().find(FRA_TABLE).map_or(u32::from(head[4]), num),
                to: net(FRA_DST, head[1]),
                from: net(FRA_SRC, head[2]),
                iif: attrs.clone().find(FRA_IIFNAME).map(text),
                mark: attrs.clone().find(FRA_FWMARK).map(|v| (num(v), mask)),
            })
        })
    }
}
