//! Cluster IPs and node ports: allocated when a service is written, released when it goes.
//!
//! The sets live in memory and are filled from the stored services at first use, so that nothing has to be repaired
//! after a crash. Allocation happens between validation and the write; if the write fails, [`registry::Finish`] gives
//! back what was taken. Several API servers over one store would need the claims in the store; they come with
//! the IPAddress objects of the networking issue.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use meta::field::{Error, Path};
use meta::{GroupKind, Object, Status};
use parking_lot::Mutex;
use registry::{Ctx, Finish, Hooks};
use rules::core::service_prepare as prepare;
use serde_json::{Value, json};

/// The ranges that services get their addresses and ports from.
#[derive(Debug, Clone)]
pub struct ServiceRanges {
    /// One range, or two of different families; the first is the default family.
    pub cluster_ips: Vec<Cidr>,
    /// `--service-node-port-range`.
    pub node_ports: RangeInclusive<u16>,
}

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
    fn size(&self) -> u128 {
        let width = if self.base.is_ipv4() { 32 } else { 128 };
        let last = host_mask(width - self.prefix);
        if self.base.is_ipv4() { last.saturating_sub(1) } else { last }
    }
}

#[derive(Default)]
struct Taken {
    filled: bool,
    ips: rt::HashSet<IpAddr>,
    ports: rt::HashSet<u16>,
}

#[derive(Default, Clone)]
struct Claim {
    ips: Vec<IpAddr>,
    ports: Vec<u16>,
}

/// The hooks of the service kind.
pub struct ServiceHooks {
    ranges: ServiceRanges,
    taken: Arc<Mutex<Taken>>,
}

impl ServiceHooks {
    /// Hooks over the given ranges, with nothing allocated.
    pub fn new(ranges: ServiceRanges) -> Self {
        Self { ranges, taken: Arc::default() }
    }

    /// The ranges.
    pub fn ranges(&self) -> &ServiceRanges {
        &self.ranges
    }

    /// Takes in the stored services, once.
    async fn fill(&self, cx: &Ctx) -> Result<(), Status> {
        if self.taken.lock().filled {
            return Ok(());
        }
        let services = cx.registry.need("", "services")?.list_cached("").await?;
        let mut taken = self.taken.lock();
        for service in &services {
            let claim = claim_of(service);
            taken.ips.extend(claim.ips);
            taken.ports.extend(claim.ports);
        }
        taken.filled = true;
        Ok(())
    }

    fn allocate(&self, service: &mut Object, old: Option<&Object>, claim: &mut Claim) -> Vec<Error> {
        let families: Vec<&str> = self.ranges.cluster_ips.iter().map(Cidr::family).collect();
        let mut errors = prepare::init_ip_families(service, old, &families);
        if errors.is_empty() {
            errors = self.allocate_ips(service, old, claim);
        }
        if errors.is_empty() {
            errors = self.allocate_ports(service, old, claim);
        }
        errors
    }

    fn allocate_ips(&self, service: &mut Object, old: Option<&Object>, claim: &mut Claim) -> Vec<Error> {
        if !prepare::needs_cluster_ip(service) || prepare::is_headless(service) {
            return Vec::new();
        }
        let given = prepare::cluster_ips(service);
        let kept = old.map(|o| claim_of(o).ips).unwrap_or_default();
        let mut result = Vec::new();
        for (i, family) in prepare::strings(service, "ipFamilies").iter().enumerate() {
            let wanted = given.get(i).and_then(|ip| ip.parse::<IpAddr>().ok());
            let allocated = match wanted {
                Some(ip) if kept.contains(&ip) => Ok(ip),
                Some(ip) => self.take_ip(ip, family),
                None => self.take_any_ip(family),
            };
            match allocated {
                Ok(ip) => {
                    if !kept.contains(&ip) {
                        claim.ips.push(ip);
                    }
                    result.push(ip.to_string());
                }
                Err(reason) => {
                    let path = Path::new("spec").child("clusterIPs").index(i);
                    let path = if wanted.is_some() { Path::new("spec").child("clusterIPs") } else { path };
                    return vec![Error::invalid(&path, json!(given), reason)];
                }
            }
        }
        service.set(&["spec", "clusterIP"], result.first().cloned().unwrap_or_default().into());
        service.set(&["spec", "clusterIPs"], json!(result));
        Vec::new()
    }

    fn take_ip(&self, ip: IpAddr, family: &str) -> Result<IpAddr, String> {
        let range = self.ranges.cluster_ips.iter().find(|r| r.family() == family);
        let Some(range) = range.filter(|r| r.offers(ip)) else {
            return Err(format!("failed to allocate IP {ip}: the provided network does not match the current range"));
        };
        debug_assert!(range.offers(ip));
        if self.taken.lock().ips.insert(ip) {
            Ok(ip)
        } else {
            Err(format!("failed to allocate IP {ip}: provided IP is already allocated"))
        }
    }

    /// A random free address outside of the low part of the range, which is left to those who ask for an address by name.
    fn take_any_ip(&self, family: &str) -> Result<IpAddr, String> {
        let range = self.ranges.cluster_ips.iter().find(|r| r.family() == family);
        let Some(range) = range else { return Err(format!("failed to allocate IP: no range of family {family}")) };
        let size = range.size().min(1 << 32);
        let low = (size / 16).clamp(16.min(size / 2), 256);
        let mut taken = self.taken.lock();
        let start = u128::from(rt::rand::below(u64::try_from(size - low).unwrap_or(1).max(1)));
        let upper = (0..size - low).map(|i| 1 + low + (start + i) % (size - low));
        let mut all = upper.chain(1..=low);
        let free = all.by_ref().map(|offset| range.nth(offset)).find(|ip| !taken.ips.contains(ip));
        match free {
            Some(ip) => {
                taken.ips.insert(ip);
                Ok(ip)
            }
            None => Err("failed to allocate a serviceIP: range is full".to_owned()),
        }
    }

    fn allocate_ports(&self, service: &mut Object, old: Option<&Object>, claim: &mut Claim) -> Vec<Error> {
        let kept = old.map(|o| claim_of(o).ports).unwrap_or_default();
        let mut errors = Vec::new();
        if prepare::needs_node_port(service) {
            let mut ports = prepare::ports(service).to_vec();
            // A number may serve the same port under TCP and UDP.
            let mut own: Vec<(u16, Value, Value)> = Vec::new();
            for (i, port) in ports.iter_mut().enumerate() {
                let wanted = u16::try_from(prepare::node_port(port)).unwrap_or(0);
                let key =
                    (port.get("port").cloned().unwrap_or_default(), port.get("protocol").cloned().unwrap_or_default());
                let shared = own.iter().find(|(n, p, proto)| {
                    (wanted == *n || wanted == 0) && (*p == key.0 || wanted == *n) && *proto != key.1
                });
                let allocated = match shared {
                    Some((number, ..)) => Ok(*number),
                    None if wanted != 0 && kept.contains(&wanted) => Ok(wanted),
                    None => self.take_port(wanted, claim),
                };
                match allocated {
                    Ok(number) => {
                        port["nodePort"] = number.into();
                        own.push((number, key.0, key.1));
                    }
                    Err(reason) => {
                        let path = Path::new("spec").child("ports").index(i).child("nodePort");
                        errors.push(Error::invalid(&path, wanted, reason));
                    }
                }
            }
            service.set(&["spec", "ports"], ports.into());
        }
        if errors.is_empty() && prepare::needs_health_check_port(service) {
            let wanted = service.get_i64(&["spec", "healthCheckNodePort"]).unwrap_or(0);
            let wanted = u16::try_from(wanted).unwrap_or(0);
            if wanted == 0 || !kept.contains(&wanted) {
                match self.take_port(wanted, claim) {
                    Ok(number) => service.set(&["spec", "healthCheckNodePort"], number.into()),
                    Err(reason) => {
                        errors.push(Error::invalid(&Path::new("spec").child("healthCheckNodePort"), wanted, reason));
                    }
                }
            }
        }
        errors
    }

    /// Takes a given port, or any free one for 0.
    fn take_port(&self, wanted: u16, claim: &mut Claim) -> Result<u16, String> {
        let range = &self.ranges.node_ports;
        let mut taken = self.taken.lock();
        let number = if wanted != 0 {
            if !range.contains(&wanted) {
                let (first, last) = (range.start(), range.end());
                return Err(format!(
                    "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                ));
            }
            if taken.ports.contains(&wanted) {
                return Err("provided port is already allocated".to_owned());
            }
            wanted
        } else {
            let size = u64::from(*range.end() - *range.start()) + 1;
            let start = rt::rand::below(size);
            let any = (0..size).map(|i| range.start() + u16::try_from((start + i) % size).unwrap_or(0));
            any.into_iter().find(|n| !taken.ports.contains(n)).ok_or("failed to allocate a nodePort: range is full")?
        };
        taken.ports.insert(number);
        claim.ports.push(number);
        Ok(number)
    }

    fn release(taken: &Mutex<Taken>, claim: &Claim) {
        let mut taken = taken.lock();
        for ip in &claim.ips {
            taken.ips.remove(ip);
        }
        for port in &claim.ports {
            taken.ports.remove(port);
        }
    }

    fn begin(&self, cx: &Ctx, service: &mut Object, old: Option<&Object>) -> Result<Option<Finish>, Status> {
        let mut claim = Claim::default();
        let errors = self.allocate(service, old, &mut claim);
        if !errors.is_empty() {
            Self::release(&self.taken, &claim);
            return Err(Status::invalid(&GroupKind::new("", "Service"), service.name(), &errors));
        }
        if cx.dry_run {
            Self::release(&self.taken, &claim);
            return Ok(None);
        }
        let now = claim_of(service);
        let mut gone = old.map(claim_of).unwrap_or_default();
        gone.ips.retain(|ip| !now.ips.contains(ip));
        gone.ports.retain(|port| !now.ports.contains(port));
        let taken = self.taken.clone();
        let finish = move |written: bool| {
            Self::release(&taken, if written { &gone } else { &claim });
        };
        Ok(Some(Box::new(move |written| {
            finish(written);
            Box::pin(std::future::ready(()))
        })))
    }
}

/// What a stored service holds.
fn claim_of(service: &Object) -> Claim {
    let ips = prepare::cluster_ips(service).iter().filter_map(|ip| ip.parse().ok()).collect();
    let health = service.get_i64(&["spec", "healthCheckNodePort"]).unwrap_or(0);
    let ports = prepare::ports(service).iter().map(prepare::node_port).chain([health]);
    Claim { ips, ports: ports.filter_map(|n| u16::try_from(n).ok()).filter(|n| *n != 0).collect() }
}

#[async_trait]
impl Hooks for ServiceHooks {
    async fn begin_create(&self, cx: &Ctx, object: &mut Object) -> Result<Option<Finish>, Status> {
        self.fill(cx).await?;
        self.begin(cx, object, None)
    }

    async fn begin_update(&self, cx: &Ctx, object: &mut Object, old: &Object) -> Result<Option<Finish>, Status> {
        self.fill(cx).await?;
        self.begin(cx, object, Some(old))
    }

    async fn after_delete(&self, _cx: &Ctx, object: &Object) {
        Self::release(&self.taken, &claim_of(object));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks() -> ServiceHooks {
        let cluster_ips = vec!["10.0.0.0/29".parse().expect("a range")];
        ServiceHooks::new(ServiceRanges { cluster_ips, node_ports: 30_000..=30_001 })
    }

    fn service(spec: Value) -> Object {
        Object::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).expect("an object")
    }

    #[test]
    fn ranges_offer_all_but_their_ends() {
        let range: Cidr = "10.0.0.9/29".parse().expect("a range");
        assert_eq!(range.to_string(), "10.0.0.8/29");
        for (ip, offered) in [("10.0.0.8", false), ("10.0.0.9", true), ("10.0.0.14", true), ("10.0.0.15", false)] {
            assert_eq!(range.offers(ip.parse().expect("an address")), offered, "{ip}");
        }
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
    }

    #[test]
    fn addresses_are_given_once_and_come_back() {
        let hooks = hooks();
        let mut claims = Vec::new();
        for _ in 0..6 {
            let (mut object, mut claim) = (service(json!({"type": "ClusterIP"})), Claim::default());
            assert!(hooks.allocate(&mut object, None, &mut claim).is_empty());
            claims.push(claim);
        }
        let mut object = service(json!({"type": "ClusterIP"}));
        let full = hooks.allocate(&mut object, None, &mut Claim::default());
        assert_eq!(full.len(), 1);
        ServiceHooks::release(&hooks.taken, &claims[0]);
        assert!(hooks.allocate(&mut object, None, &mut Claim::default()).is_empty());
        let mut taken = service(json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}));
        let errors = hooks.allocate(&mut taken, None, &mut Claim::default());
        assert!(errors[0].to_string().ends_with("provided IP is already allocated"), "{}", errors[0]);
    }

    #[test]
    fn one_node_port_serves_both_protocols() {
        let hooks = hooks();
        let ports =
            json!([{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}, {"port": 80, "protocol": "TCP"}]);
        let mut object = service(json!({"type": "NodePort", "ports": ports}));
        assert!(hooks.allocate(&mut object, None, &mut Claim::default()).is_empty());
        let numbers: Vec<i64> = prepare::ports(&object).iter().map(prepare::node_port).collect();
        assert_eq!(numbers[0], numbers[1]);
        assert_ne!(numbers[0], numbers[2]);
    }
}
