//! Ranges of addresses.

use ipnet::IpNet;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Alternatives from which one address is taken.
pub type RangeSet = Vec<Range>;

/// A range within a subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Range {
    /// The subnet; its own address must be the network's.
    pub subnet: Option<IpNet>,
    /// First address; the subnet's first usable one by default.
    pub range_start: Option<IpAddr>,
    /// Last address; the subnet's last usable one by default.
    pub range_end: Option<IpAddr>,
    /// Router; the subnet's first usable address by default. Never given out.
    pub gateway: Option<IpAddr>,
}

pub(super) fn to_number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

pub(super) fn from_number(number: u128, v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
}

impl Range {
    fn bounds(&self) -> Option<(u128, u128)> {
        Some((to_number(self.range_start?), to_number(self.range_end?)))
    }

    /// First and last address as numbers, and whether they are IPv4; only after [`canonicalize`].
    pub(super) fn span(&self) -> Option<(u128, u128, bool)> {
        self.bounds().map(|(a, b)| (a, b, self.subnet.is_some_and(|s| s.addr().is_ipv4())))
    }

    /// Whether the address is within start and end.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let same = self.subnet.is_some_and(|s| s.addr().is_ipv4() == ip.is_ipv4() && s.contains(&ip));
        same && self.bounds().is_some_and(|(a, b)| (a..=b).contains(&to_number(ip)))
    }

    fn canonicalize(&mut self) -> Result<(), String> {
        let subnet = self.subnet.ok_or("missing field: subnet")?;
        let v4 = subnet.addr().is_ipv4();
        if subnet.prefix_len() > subnet.max_prefix_len() - 2 {
            return Err(format!("network {subnet} too small to allocate from"));
        }
        if subnet.addr() != subnet.network() {
            return Err(format!("network has host bits set: {subnet}"));
        }
        let (first, last) = (to_number(subnet.network()), to_number(subnet.broadcast()));
        let gateway = *self.gateway.get_or_insert(from_number(first + 1, v4));
        let start = *self.range_start.get_or_insert(from_number(first + 1, v4));
        // The broadcast address of IPv4 is never given out; IPv6 has none, and upstream leaves the last one out too.
        let end = *self.range_end.get_or_insert(from_number(last - 1, v4));
        for (name, ip) in [("rangeStart", start), ("rangeEnd", end), ("gateway", gateway)] {
            if ip.is_ipv4() != v4 {
                return Err(format!("{name} {ip} is of another family than subnet {subnet}"));
            }
        }
        for (name, ip) in [("RangeStart", start), ("RangeEnd", end)] {
            if !subnet.contains(&ip) {
                return Err(format!("{name} {ip} not in network {subnet}"));
            }
        }
        if to_number(start) > to_number(end) {
            return Err(format!("RangeStart {start} is greater than RangeEnd {end}"));
        }
        Ok(())
    }
}

/// Fills in defaults and checks a set: one family, no overlap.
pub(super) fn canonicalize(set: &mut RangeSet) -> Result<(), String> {
    if set.is_empty() {
        return Err("empty range set".into());
    }
    for range in set.iter_mut() {
        range.canonicalize()?;
    }
    let v4 = |r: &Range| r.subnet.is_some_and(|s| s.addr().is_ipv4());
    if set.iter().any(|r| v4(r) != v4(&set[0])) {
        return Err("mismatched address families".into());
    }
    for (n, range) in set.iter().enumerate() {
        if set[..n].iter().any(|other| ranges_overlap(range, other)) {
            return Err("subnets overlap".into());
        }
    }
    Ok(())
}

fn ranges_overlap(a: &Range, b: &Range) -> bool {
    let same = a.subnet.map(|s| s.addr().is_ipv4()) == b.subnet.map(|s| s.addr().is_ipv4());
    match (same, a.bounds(), b.bounds()) {
        (true, Some((a1, a2)), Some((b1, b2))) => a1 <= b2 && b1 <= a2,
        _ => false,
    }
}

/// Whether two sets share addresses.
pub(super) fn overlap(a: &RangeSet, b: &RangeSet) -> bool {
    a.iter().any(|x| b.iter().any(|y| ranges_overlap(x, y)))
}
