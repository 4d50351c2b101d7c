//! Routes of one namespace.

use super::msg::{Attrs, Msg, ip, ip_bytes, num};
use super::{Handle, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Result, family};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RTNH_F_ONLINK: u32 = 4;
const TABLE_MAIN: u32 = 254;
const PROTO_BOOT: u8 = 3;

/// What becomes of matching packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteType {
    /// Forward.
    #[default]
    Unicast,
    /// Deliver here.
    Local,
    /// Drop without a word.
    Blackhole,
    /// Answer "unreachable".
    Unreachable,
}

/// How far the destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteScope {
    /// Anywhere.
    #[default]
    Universe,
    /// On the link.
    Link,
    /// On this host.
    Host,
    /// Any other number.
    Other(u8),
}

impl RouteScope {
    /// From the kernel's number.
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Universe,
            253 => Self::Link,
            254 => Self::Host,
            n => Self::Other(n),
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Universe => 0,
            Self::Link => 253,
            Self::Host => 254,
            Self::Other(n) => n,
        }
    }
}

/// One of several next hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// The router.
    pub gateway: Option<IpAddr>,
    /// The link, 0 when the gateway decides.
    pub link: u32,
}

/// A route. `dst` is always given; the default route is `0.0.0.0/0` or `::/0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Router.
    pub gateway: Option<IpAddr>,
    /// Outgoing link.
    pub link: Option<u32>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Several next hops instead of `gateway` and `link`.
    pub hops: Vec<NextHop>,
    /// Priority (metric); 0 is the kernel's default.
    pub priority: u32,
    /// Table; 254 is main.
    pub table: u32,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
    /// Scope.
    pub scope: RouteScope,
    /// Type.
    pub kind: RouteType,
    /// The gateway is on the link even if no address says so.
    pub onlink: bool,
    /// MTU, 0 for the link's.
    pub mtu: u32,
    /// Advertised MSS, 0 for the default.
    pub advmss: u32,
}

impl Route {
    /// A unicast route in the main table.
    pub fn to(dst: IpNet) -> Self {
        Self {
            dst,
            gateway: None,
            link: None,
            source: None,
            hops: Vec::new(),
            priority: 0,
            table: TABLE_MAIN,
            protocol: PROTO_BOOT,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            onlink: false,
            mtu: 0,
            advmss: 0,
        }
    }

    /// Through a router.
    pub fn via(mut self, gateway: IpAddr) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Out of a link.
    pub fn dev(mut self, link: u32) -> Self {
        self.link = Some(link);
        self
    }

    /// With this scope.
    pub fn scope(mut self, scope: RouteScope) -> Self {
        self.scope = scope;
        self
    }

    /// Whether it is a default route.
    pub fn is_default(&self) -> bool {
        self.dst.prefix_len() == 0
    }

    fn message(&self, kind: u16, flags: u16) -> Msg {
        let mut raw = [0u8; 12];
        raw[0] = family(&self.dst.addr());
        raw[1] = self.dst.prefix_len();
        raw[4] = if self.table < 256 { self.table as u8 } else { 0 };
        raw[5] = self.protocol;
        raw[6] = self.scope.number();
        raw[7] = match self.kind {
            RouteType::Unicast => 1,
            RouteType::Local => 2,
            RouteType::Blackhole => 6,
            RouteType::Unreachable => 7,
        };
        let flags_on = if self.onlink { RTNH_F_ONLINK } else { 0 };
        raw[8..12].copy_from_slice(&flags_on.to_ne_bytes());
        let mut msg = Msg::new(kind, flags).raw(&raw);
        msg.attr(RTA_DST, &ip_bytes(self.dst.network()));
        msg.u32(RTA_TABLE, self.table);
        if let Some(gateway) = self.gateway {
            msg.attr(RTA_GATEWAY, &ip_bytes(gateway));
        }
        if let Some(link) = self.link {
            msg.u32(RTA_OIF, link);
        }
        if let Some(source) = self.source {
            msg.attr(RTA_PREFSRC, &ip_bytes(source));
        }
        if self.priority != 0 {
            msg.u32(RTA_PRIORITY, self.priority);
        }
        if self.mtu != 0 || self.advmss != 0 {
            msg.nest(RTA_METRICS, |m| {
                if self.mtu != 0 {
                    m.u32(RTAX_MTU, self.mtu);
                }
                if self.advmss != 0 {
                    m.u32(RTAX_ADVMSS, self.advmss);
                }
            });
        }
        if !self.hops.is_empty() {
            msg.nest(RTA_MULTIPATH, |m| self.hops.iter().for_each(|hop| push_hop(m, *hop)));
        }
        msg
    }
}

fn push_hop(m: &mut Msg, hop: NextHop) {
    let gateway = hop.gateway.map(ip_bytes).unwrap_or_default();
    let attr = if gateway.is_empty() { 0 } else { 4 + gateway.len() };
    let mut raw = [0u8; 8];
    raw[0..2].copy_from_slice(&((8 + attr) as u16).to_ne_bytes());
    raw[4..8].copy_from_slice(&hop.link.to_ne_bytes());
    m.push_raw(&raw);
    if !gateway.is_empty() {
        m.attr(RTA_GATEWAY, &gateway);
    }
}

impl Handle {
    /// Routes of the main table (or of `table`), of both families.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub fn routes(&mut self, table: Option<u32>) -> Result<Vec<Route>> {
        let wanted = table.unwrap_or(TABLE_MAIN);
        let msg = Msg::new(RTM_GETROUTE, 0).raw(&[0; 12]);
        let mut all = self.socket.dump("list routes", msg, |reply| parse(&reply.body))?;
        all.retain(|route| route.table == wanted);
        Ok(all)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// What the kernel answers; a repeated one has `is_exists()`.
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        let msg = route.message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
        self.socket.request(|| format!("add route {}", route.dst), msg)
    }

    /// Adds a route unless an equal one is there.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn ensure_route(&mut self, route: &Route) -> Result<()> {
        match self.add_route(route) {
            Err(e) if e.is_exists() => Ok(()),
            other => other,
        }
    }

    /// Adds a route or replaces the one with the same destination and priority.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn replace_route(&mut self, route: &Route) -> Result<()> {
        let msg = route.message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
        self.socket.request(|| format!("replace route {}", route.dst), msg)
    }

    /// Adds one more route beside equal ones.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn append_route(&mut self, route: &Route) -> Result<()> {
        let msg = route.message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND);
        self.socket.request(|| format!("append route {}", route.dst), msg)
    }

    /// Deletes a route; fields left unset match anything.
    ///
    /// # Errors
    /// What the kernel answers; absence has `is_not_found()`.
    pub fn delete_route(&mut self, route: &Route) -> Result<()> {
        let mut any = route.clone();
        any.protocol = 0;
        if any.scope == RouteScope::Universe {
            // RT_SCOPE_NOWHERE matches every scope.
            any.scope = RouteScope::Other(255);
        }
        self.socket.request(|| format!("delete route {}", route.dst), any.message(RTM_DELROUTE, 0))
    }
}

fn parse(body: &[u8]) -> Option<Route> {
    let head = body.get(..12)?;
    const CLONED: u32 = 0x200;
    if num(&head[8..12]) & CLONED != 0 {
        return None;
    }
    let zero: IpAddr = match i32::from(head[0]) {
        libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let kind = match head[7] {
        1 => RouteType::Unicast,
        2 => RouteType::Local,
        6 => RouteType::Blackhole,
        7 => RouteType::Unreachable,
        _ => return None,
    };
    let attrs = Attrs(&body[12..]);
    let dst = attrs.clone().find(RTA_DST).and_then(ip).unwrap_or(zero);
    let mut route = Route::to(IpNet::new(dst, head[1]).ok()?);
    route.table = u32::from(head[4]);
    route.protocol = head[5];
    route.scope = RouteScope::from_number(head[6]);
    route.kind = kind;
    for (attr, value) in attrs {
        match attr {
            RTA_GATEWAY => route.gateway = ip(value),
            RTA_OIF => route.link = Some(num(value)),
            RTA_PREFSRC => route.source = ip(value),
            RTA_PRIORITY => route.priority = num(value),
            RTA_TABLE => route.table = num(value),
            RTA_METRICS => {
                route.mtu = Attrs(value).find(RTAX_MTU).map_or(0, num);
                route.advmss = Attrs(value).find(RTAX_ADVMSS).map_or(0, num);
            }
            RTA_MULTIPATH => route.hops = hops(value),
            _ => {}
        }
    }
    Some(route)
}

fn hops(mut bytes: &[u8]) -> Vec<NextHop> {
    let mut all = Vec::new();
    while let Some(head) = bytes.get(..8) {
        let len = num(&head[0..2]) as usize;
        let Some(attrs) = bytes.get(8..len) else { break };
        all.push(NextHop { link: num(&head[4..8]), gateway: Attrs(attrs).find(RTA_GATEWAY).and_then(ip) });
        bytes = bytes.get(super::align(len)..).unwrap_or(&[]);
    }
    all
}
