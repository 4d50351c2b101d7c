//! Address ranges of services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

impl std::str::FromStr for Cidr {
    type Err = String;

    /// Parses `10.0.0.0/16`; host bits are cleared.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid CIDR address: {text}");
        let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        if prefix > width {
            return Err(wrong());
        }
        let host = host_mask(width - prefix);
        Ok(Self { base: from_number(to_number(base) & !host, base.is_ipv4()), prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

fn host_mask(bits: u8) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

fn to_number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn from_number(number: u128, v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into() } else { Ipv6Addr::from(number).into() }
}

impl Cidr {
    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.base.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// Whether an address is in the range and can be given to a service (not the network or broadcast address).
    pub fn offers(&self, ip: IpAddr) -> bool {
        if ip.is_ipv4() != self.base.is_ipv4() {
            return false;
        }
        let offset = to_number(ip).wrapping_sub(to_number(self.base));
        (1..=self.size()).contains(&offset)
    }

    /// The address at a place; 1 is the first usable one.
    pub fn nth(&self, offset: u128) -> IpAddr {
        from_number(to_number(self.base) + offset, self.base.is_ipv4())
    }

    /// How many addresses can be given out.
    pub(crate) fn size(&self) -> u128 {
        let width = if self.base.is_ipv4() { 32 } else { 128 };
        let last = host_mask(width - self.prefix);
        if self.base.is_ipv4() { last.saturating_sub(1) } else { last }
    }
}
