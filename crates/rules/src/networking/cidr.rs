//! Address ranges, as far as validation needs them.

use std::net::IpAddr;

/// A range; host bits are ignored.
#[derive(Debug, Clone, Copy)]
pub struct Cidr {
    base: IpAddr,
    prefix: u32,
}

impl Cidr {
    /// Reads `10.0.0.0/8`.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/')?;
        let base: IpAddr = base.parse().ok()?;
        let prefix: u32 = prefix.parse().ok()?;
        (prefix <= width(base)).then_some(Self { base, prefix })
    }

    /// Whether the text was written without host bits.
    pub fn is_canonical(&self, text: &str) -> bool {
        let host = width(self.base) - self.prefix;
        let clean = host == 0 || bits(self.base).trailing_zeros() >= host || bits(self.base) == 0;
        clean && text == format!("{}/{}", self.base, self.prefix)
    }

    /// Whether the other range lies within this one and is smaller.
    pub fn strictly_contains(&self, other: &Self) -> bool {
        self.base.is_ipv4() == other.base.is_ipv4() && other.prefix > self.prefix && {
            let host = width(self.base) - self.prefix;
            host >= 128 || bits(self.base) >> host == bits(other.base) >> host
        }
    }

    /// `IPv4` or `IPv6`.
    pub fn is_v4(&self) -> bool {
        self.base.is_ipv4()
    }
}

fn width(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}
