//! IP addresses and networks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Error;
use crate::value::Value;

/// A network as it was written: the address may have host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// Address.
    pub addr: IpAddr,
    /// Bits of the network.
    pub bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

fn masked_addr(addr: IpAddr, bits: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

impl Cidr {
    fn holds(self, addr: IpAddr) -> bool {
        self.addr.is_ipv4() == addr.is_ipv4() && masked_addr(self.addr, self.bits) == masked_addr(addr, self.bits)
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let addr: IpAddr = text.parse().map_err(|_| {
        format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        )
    })?;
    match addr {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        _ => Ok(addr),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, String> {
    let fail =
        || format!("network address parse error during conversion from string: netip.ParsePrefix({text:?}): invalid");
    let (addr, bits) = text.split_once('/').ok_or_else(fail)?;
    let canonical =
        !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let addr: IpAddr = addr.parse().map_err(|_| fail())?;
    if matches!(addr, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    let most = if addr.is_ipv4() { 32 } else { 128 };
    let bits = bits.parse::<u8>().ok().filter(|b| canonical && *b <= most).ok_or_else(fail)?;
    Ok(Cidr { addr, bits })
}

fn to_ip(value: &Value<'_>) -> Result<IpAddr, Error> {
    match value {
        Value::Ip(addr) => Ok(*addr),
        Value::Str(text) => parse_ip(text.as_str()).map_err(Error::Eval),
        _ => Err(Error::no_overload()),
    }
}

fn to_cidr(value: &Value<'_>) -> Result<Cidr, Error> {
    match value {
        Value::Cidr(cidr) => Ok(*cidr),
        Value::Str(text) => parse_cidr(text.as_str()).map_err(Error::Eval),
        _ => Err(Error::no_overload()),
    }
}

pub fn ip<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match &args[0] {
        Value::Cidr(cidr) => Ok(Value::Ip(cidr.addr)),
        other => to_ip(other).map(Value::Ip),
    }
}

pub fn is_ip<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(parse_ip(args[0].str()?).is_ok()))
}

pub fn is_canonical<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let text = args[0].str()?;
    let addr = parse_ip(text).map_err(Error::Eval)?;
    Ok(Value::Bool(addr.to_string() == text))
}

pub fn family<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Int(if to_ip(&args[0])?.is_ipv4() { 4 } else { 6 }))
}

pub fn is<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let addr = to_ip(&args[0])?;
    let (link_unicast, link_multicast, broadcast) = match addr {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0], v4.is_broadcast()),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02, false),
    };
    Ok(Value::Bool(match name {
        "isUnspecified" => addr.is_unspecified(),
        "isLoopback" => addr.is_loopback(),
        "isLinkLocalMulticast" => link_multicast,
        "isLinkLocalUnicast" => link_unicast,
        _ => !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast() && !link_unicast && !broadcast,
    }))
}

pub fn cidr<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    to_cidr(&args[0]).map(Value::Cidr)
}

pub fn is_cidr<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(parse_cidr(args[0].str()?).is_ok()))
}

pub fn contains<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let network = to_cidr(&args[0])?;
    Ok(Value::Bool(if name == "containsIP" {
        network.holds(to_ip(&args[1])?)
    } else {
        let other = to_cidr(&args[1])?;
        network.bits <= other.bits && network.holds(other.addr)
    }))
}

pub fn prefix<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Int(to_cidr(&args[0])?.bits.into()))
}

pub fn masked<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let cidr = to_cidr(&args[0])?;
    Ok(Value::Cidr(Cidr { addr: masked_addr(cidr.addr, cidr.bits), bits: cidr.bits }))
}
