//! Links: bridges, veth pairs, vxlan, dummies, IFBs; their state, name, master and bridge-port options.

use super::msg::{Attrs, Msg, num, text};
use super::{Error, Handle, NLM_F_CREATE, NLM_F_EXCL, NetNs, Result};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_PROTECT: u16 = 6;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFF_UP: u32 = 1;
const IFF_PROMISC: u32 = 0x100;
const IFF_ALLMULTI: u32 = 0x200;

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index within its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `IFF_*` flags.
    pub flags: u32,
    /// Maximum transmission unit.
    pub mtu: u32,
    /// Hardware address, empty for links without one.
    pub address: Vec<u8>,
    /// Index of the bridge or bond it belongs to.
    pub master: Option<u32>,
    /// Index of the link below (veth: its peer, in the peer's namespace).
    pub lower: Option<u32>,
    /// Kind, for example `bridge` or `veth`; empty for hardware and loopback.
    pub kind: String,
    /// Alias text.
    pub alias: String,
}

impl Link {
    /// Whether it is administratively up.
    pub fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// Whether promiscuous mode was asked for.
    pub fn is_promisc(&self) -> bool {
        self.flags & IFF_PROMISC != 0
    }

    /// The hardware address as `aa:bb:…`.
    pub fn mac(&self) -> String {
        self.address.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
    }
}

/// The other end of a veth pair.
#[derive(Debug, Clone, Default)]
pub struct VethPeer<'a> {
    /// Its name.
    pub name: &'a str,
    /// The namespace it is born in; the pair's own when unset.
    pub netns: Option<&'a NetNs>,
    /// Its hardware address; chosen by the kernel when empty.
    pub mac: &'a [u8],
    /// Its MTU; the kernel's default when 0.
    pub mtu: u32,
}

/// A VXLAN tunnel's parameters.
#[derive(Debug, Clone)]
pub struct VxlanOptions {
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Source address of the tunnel.
    pub local: Option<IpAddr>,
    /// Link below.
    pub lower: Option<u32>,
    /// Whether to learn addresses from traffic.
    pub learning: bool,
}

/// What to create.
#[derive(Debug, Clone)]
pub enum LinkKind<'a> {
    /// A software bridge.
    Bridge {
        /// Filter by VLAN.
        vlan_filtering: bool,
    },
    /// A veth pair.
    Veth(VethPeer<'a>),
    /// A VXLAN tunnel end.
    Vxlan(VxlanOptions),
    /// A dummy.
    Dummy,
    /// An intermediate functional block, for shaping.
    Ifb,
}

/// A link to create.
#[derive(Debug, Clone)]
pub struct NewLink<'a> {
    /// Name, at most 15 bytes.
    pub name: &'a str,
    /// MTU; the kernel's default when 0.
    pub mtu: u32,
    /// Hardware address; chosen by the kernel when empty.
    pub mac: &'a [u8],
    /// Index of the bridge to join at birth.
    pub master: Option<u32>,
    /// Born up.
    pub up: bool,
    /// What kind.
    pub kind: LinkKind<'a>,
}

impl<'a> NewLink<'a> {
    /// A link of this name and kind with the kernel's defaults.
    pub fn new(name: &'a str, kind: LinkKind<'a>) -> Self {
        Self { name, mtu: 0, mac: &[], master: None, up: false, kind }
    }
}

/// Options of a bridge port; `None` leaves the value as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct PortOptions {
    /// Send frames back out of the port they came from.
    pub hairpin: Option<bool>,
    /// Isolated ports do not speak with each other.
    pub isolated: Option<bool>,
    /// Learn addresses.
    pub learning: Option<bool>,
    /// Flood unknown unicast here.
    pub flood: Option<bool>,
    /// Root block.
    pub protect: Option<bool>,
}

fn header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut raw = [0u8; 16];
    raw[4..8].copy_from_slice(&index.to_ne_bytes());
    raw[8..12].copy_from_slice(&flags.to_ne_bytes());
    raw[12..16].copy_from_slice(&change.to_ne_bytes());
    raw
}

fn parse(body: &[u8]) -> Option<Link> {
    let head = body.get(..16)?;
    let mut link = Link {
        index: num(&head[4..8]),
        flags: num(&head[8..12]),
        name: String::new(),
        mtu: 0,
        address: Vec::new(),
        master: None,
        lower: None,
        kind: String::new(),
        alias: String::new(),
    };
    for (kind, value) in Attrs(&body[16..]) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = num(value),
            IFLA_ADDRESS => link.address = value.to_vec(),
            IFLA_MASTER => link.master = Some(num(value)),
            IFLA_LINK => link.lower = Some(num(value)),
            IFLA_IFALIAS => link.alias = text(value),
            IFLA_LINKINFO => link.kind = Attrs(value).find(IFLA_INFO_KIND).map(text).unwrap_or_default(),
            _ => {}
        }
    }
    Some(link)
}

impl Handle {
    /// All links of the namespace.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut msg = Msg::new(RTM_GETLINK, 0).raw(&header(0, 0, 0));
        msg.u32(IFLA_EXT_MASK, 8); // without statistics
        self.socket.dump("list links", msg, |reply| (reply.kind == RTM_NEWLINK).then(|| parse(&reply.body)).flatten())
    }

    /// The link of this name; [`Error::NotFound`] when there is none.
    ///
    /// # Errors
    /// As above, and what the kernel answers.
    pub fn link(&mut self, name: &str) -> Result<Link> {
        let mut msg = Msg::new(RTM_GETLINK, 0).raw(&header(0, 0, 0));
        msg.str(IFLA_IFNAME, name);
        self.one_link(name, msg)
    }

    /// The link of this index.
    ///
    /// # Errors
    /// As [`Handle::link`].
    pub fn link_by_index(&mut self, index: u32) -> Result<Link> {
        self.one_link(&format!("#{index}"), Msg::new(RTM_GETLINK, 0).raw(&header(index, 0, 0)))
    }

    fn one_link(&mut self, name: &str, msg: Msg) -> Result<Link> {
        let mut found = None;
        let answer = self.socket.exchange(
            || format!("get link {name}"),
            msg,
            super::NLM_F_REQUEST | super::NLM_F_ACK,
            |reply| found = found.take().or_else(|| parse(&reply.body)),
        );
        match answer {
            Err(e) if e.is_not_found() => Err(Error::NotFound(format!("link {name}"))),
            Err(e) => Err(e),
            Ok(()) => found.ok_or_else(|| Error::NotFound(format!("link {name}"))),
        }
    }

    /// The link of this name, or `None`.
    ///
    /// # Errors
    /// Anything but absence.
    pub fn find_link(&mut self, name: &str) -> Result<Option<Link>> {
        match self.link(name) {
            Ok(link) => Ok(Some(link)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Creates a link; fails with an error whose `is_exists()` holds when the name is taken.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add_link(&mut self, new: &NewLink<'_>) -> Result<()> {
        let up = if new.up { IFF_UP } else { 0 };
        let mut msg = Msg::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL).raw(&header(0, up, up));
        msg.str(IFLA_IFNAME, new.name);
        common(&mut msg, new.mtu, new.mac);
        if let Some(master) = new.master {
            msg.u32(IFLA_MASTER, master);
        }
        msg.nest(IFLA_LINKINFO, |m| link_info(m, &new.kind));
        self.socket.request(|| format!("add link {}", new.name), msg)
    }

    /// Deletes a link.
    ///
    /// # Errors
    /// What the kernel answers; absence has `is_not_found()`.
    pub fn delete_link(&mut self, index: u32) -> Result<()> {
        self.socket.request(|| format!("delete link #{index}"), Msg::new(RTM_DELLINK, 0).raw(&header(index, 0, 0)))
    }

    /// Deletes the link of this name if it exists; says whether it did.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn delete_link_if_exists(&mut self, name: &str) -> Result<bool> {
        let Some(link) = self.find_link(name)? else { return Ok(false) };
        match self.delete_link(link.index) {
            Err(e) if e.is_not_found() => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn set(&mut self, op: &'static str, index: u32, flags: (u32, u32), fill: impl FnOnce(&mut Msg)) -> Result<()> {
        let mut msg = Msg::new(RTM_SETLINK, 0).raw(&header(index, flags.0, flags.1));
        fill(&mut msg);
        self.socket.request(|| format!("{op} of link #{index}"), msg)
    }

    /// Brings a link up or down.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<()> {
        self.set("set state", index, (if up { IFF_UP } else { 0 }, IFF_UP), |_| ())
    }

    /// Sets promiscuous mode.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_promisc(&mut self, index: u32, on: bool) -> Result<()> {
        self.set("set promiscuity", index, (if on { IFF_PROMISC } else { 0 }, IFF_PROMISC), |_| ())
    }

    /// Sets all-multicast mode.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_allmulti(&mut self, index: u32, on: bool) -> Result<()> {
        self.set("set allmulti", index, (if on { IFF_ALLMULTI } else { 0 }, IFF_ALLMULTI), |_| ())
    }

    /// Sets the MTU.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        self.set("set MTU", index, (0, 0), |m| m.u32(IFLA_MTU, mtu))
    }

    /// Sets the transmit queue length.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_txqlen(&mut self, index: u32, len: u32) -> Result<()> {
        self.set("set queue length", index, (0, 0), |m| m.u32(IFLA_TXQLEN, len))
    }

    /// Sets the hardware address.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_mac(&mut self, index: u32, mac: &[u8]) -> Result<()> {
        self.set("set address", index, (0, 0), |m| m.attr(IFLA_ADDRESS, mac))
    }

    /// Sets the alias text.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> Result<()> {
        self.set("set alias", index, (0, 0), |m| m.attr(IFLA_IFALIAS, alias.as_bytes()))
    }

    /// Joins a bridge, or leaves it with `None`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> Result<()> {
        self.set("set master", index, (0, 0), |m| m.u32(IFLA_MASTER, master.unwrap_or(0)))
    }

    /// Renames a link (which must be down).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn rename(&mut self, index: u32, name: &str) -> Result<()> {
        self.set("rename", index, (0, 0), |m| m.str(IFLA_IFNAME, name))
    }

    /// Moves a link into another namespace, optionally under a new name.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn move_to(&mut self, index: u32, ns: &NetNs, name: Option<&str>) -> Result<()> {
        let fd = ns.as_fd().as_raw_fd() as u32;
        self.set("move", index, (0, 0), |m| {
            m.u32(IFLA_NET_NS_FD, fd);
            if let Some(name) = name {
                m.str(IFLA_IFNAME, name);
            }
        })
    }

    /// Moves a link into the namespace of a process.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn move_to_process(&mut self, index: u32, pid: u32) -> Result<()> {
        self.set("move", index, (0, 0), |m| m.u32(IFLA_NET_NS_PID, pid))
    }

    /// Sets a bridge port's options.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_port(&mut self, index: u32, options: PortOptions) -> Result<()> {
        let mut raw = header(index, 0, 0);
        raw[0] = libc::AF_BRIDGE as u8;
        let mut msg = Msg::new(RTM_SETLINK, 0).raw(&raw);
        msg.nest(IFLA_PROTINFO, |m| {
            for (kind, value) in [
                (IFLA_BRPORT_MODE, options.hairpin),
                (IFLA_BRPORT_ISOLATED, options.isolated),
                (IFLA_BRPORT_LEARNING, options.learning),
                (IFLA_BRPORT_UNICAST_FLOOD, options.flood),
                (IFLA_BRPORT_PROTECT, options.protect),
            ] {
                if let Some(value) = value {
                    m.u8(kind, u8::from(value));
                }
            }
        });
        self.socket.request(|| format!("set port options of link #{index}"), msg)
    }
}

fn common(msg: &mut Msg, mtu: u32, mac: &[u8]) {
    if mtu != 0 {
        msg.u32(IFLA_MTU, mtu);
    }
    if !mac.is_empty() {
        msg.attr(IFLA_ADDRESS, mac);
    }
}

fn link_info(m: &mut Msg, kind: &LinkKind<'_>) {
    match kind {
        LinkKind::Bridge { vlan_filtering } => {
            m.str(IFLA_INFO_KIND, "bridge");
            if *vlan_filtering {
                m.nest(IFLA_INFO_DATA, |m| m.u8(IFLA_BR_VLAN_FILTERING, 1));
            }
        }
        LinkKind::Veth(peer) => {
            m.str(IFLA_INFO_KIND, "veth");
            m.nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    m.push_raw(&header(0, 0, 0));
                    m.str(IFLA_IFNAME, peer.name);
                    common(m, peer.mtu, peer.mac);
                    if let Some(ns) = peer.netns {
                        m.u32(IFLA_NET_NS_FD, ns.as_fd().as_raw_fd() as u32);
                    }
                });
            });
        }
        LinkKind::Vxlan(vx) => {
            m.str(IFLA_INFO_KIND, "vxlan");
            m.nest(IFLA_INFO_DATA, |m| vxlan(m, vx));
        }
        LinkKind::Dummy => m.str(IFLA_INFO_KIND, "dummy"),
        LinkKind::Ifb => m.str(IFLA_INFO_KIND, "ifb"),
    }
}

fn vxlan(m: &mut Msg, vx: &VxlanOptions) {
    const ID: u16 = 1;
    const LINK: u16 = 3;
    const LOCAL: u16 = 4;
    const LEARNING: u16 = 7;
    const PORT: u16 = 15;
    const LOCAL6: u16 = 17;
    m.u32(ID, vx.vni);
    m.attr(PORT, &vx.port.to_be_bytes());
    m.u8(LEARNING, u8::from(vx.learning));
    if let Some(lower) = vx.lower {
        m.u32(LINK, lower);
    }
    match vx.local {
        Some(IpAddr::V4(ip)) => m.attr(LOCAL, &ip.octets()),
        Some(IpAddr::V6(ip)) => m.attr(LOCAL6, &ip.octets()),
        None => {}
    }
}
