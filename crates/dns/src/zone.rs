//! The cluster's zone as an index over Services, slices and namespaces. Pure: an answer is a function of what the index
//! was told and of the question.

use crate::model::{Endpoint, Port, Service, ServiceName, Slice};
use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// The specification that the zone follows.
const SCHEMA_VERSION: &str = "1.1.0";
/// How long "there is no such name" may be kept: shorter than other answers, since what is missing soon appears.
const NEGATIVE_TTL: u32 = 5;

/// What the zone says to a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Records, and further ones that help.
    Records(Vec<Record>, Vec<Record>),
    /// The name is another one, whose records the asker wants too.
    Alias(Box<Record>, Name),
    /// The name exists, records of this type do not.
    NoData,
    /// There is no such name.
    NxDomain,
    /// The name is not in the zone.
    NotOurs,
}

#[derive(Debug, Default)]
struct Entry {
    service: Option<Service>,
    slices: BTreeMap<String, Slice>,
    /// Addresses under which the reverse index knows this Service.
    reverse: HashSet<IpAddr>,
}

impl Entry {
    fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.slices.values().flat_map(|s| &s.endpoints)
    }

    /// Endpoints with the ports of their slice.
    fn endpoint_ports(&self) -> impl Iterator<Item = (&Endpoint, &Port)> {
        self.slices.values().flat_map(|s| s.endpoints.iter().flat_map(move |e| s.ports.iter().map(move |p| (e, p))))
    }
}

/// The zone.
#[derive(Debug)]
pub struct Zone {
    apex: Name,
    labels: Vec<String>,
    ttl: u32,
    /// Ranges whose reverse names are answered here even when nobody has the address.
    reverse_ranges: Vec<IpNet>,
    entries: HashMap<ServiceName, Entry>,
    slice_owner: HashMap<String, ServiceName>,
    namespaces: HashSet<String>,
    /// Whether all namespaces are known; until then any may exist.
    namespaces_known: bool,
    by_ip: HashMap<IpAddr, BTreeSet<ServiceName>>,
    serial: u32,
    /// Where the zone's name server is.
    servers: Vec<IpAddr>,
}

impl Zone {
    /// An empty zone.
    ///
    /// # Errors
    /// When the domain is not a name.
    pub fn new(
        domain: &str,
        ttl: u32,
        reverse_ranges: Vec<IpNet>,
        servers: Vec<IpAddr>,
    ) -> Result<Self, hickory_proto::ProtoError> {
        let mut apex = Name::from_ascii(domain)?.to_lowercase();
        apex.set_fqdn(true);
        let labels = labels(&apex);
        Ok(Self {
            apex,
            labels,
            ttl,
            reverse_ranges,
            entries: HashMap::new(),
            slice_owner: HashMap::new(),
            namespaces: HashSet::new(),
            namespaces_known: false,
            by_ip: HashMap::new(),
            serial: 1,
            servers,
        })
    }

    /// The zone's own name.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// All namespaces are known from now on: names in others do not exist.
    pub fn namespaces_are_known(&mut self) {
        self.namespaces_known = true;
    }

    /// A namespace came or went.
    pub fn set_namespace(&mut self, name: &str, exists: bool) {
        self.serial = self.serial.wrapping_add(1);
        if exists {
            self.namespaces.insert(name.to_owned())
        } else {
            self.namespaces.remove(name)
        };
    }

    /// A Service came, changed or (`None`) went.
    pub fn set_service(&mut self, name: ServiceName, service: Option<Service>) {
        self.serial = self.serial.wrapping_add(1);
        self.entries.entry(name.clone()).or_default().service = service;
        self.settle(&name);
    }

    /// A slice, named `namespace/name`, came, changed or (`None`) went.
    pub fn set_slice(&mut self, slice_name: &str, slice: Option<Slice>) {
        self.serial = self.serial.wrapping_add(1);
        if let Some(owner) = self.slice_owner.remove(slice_name) {
            if let Some(entry) = self.entries.get_mut(&owner) {
                entry.slices.remove(slice_name);
            }
            self.settle(&owner);
        }
        if let Some(slice) = slice {
            let owner = slice.service.clone();
            self.entries.entry(owner.clone()).or_default().slices.insert(slice_name.to_owned(), slice);
            self.slice_owner.insert(slice_name.to_owned(), owner.clone());
            self.settle(&owner);
        }
    }

    /// Brings the reverse index up to date with one entry, and forgets an empty one.
    fn settle(&mut self, name: &ServiceName) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let wanted: HashSet<IpAddr> = match &entry.service {
            Some(Service::Cluster { ips, .. }) => ips.iter().copied().collect(),
            Some(Service::Headless) => entry.endpoints().map(|e| e.ip).collect(),
            _ => HashSet::new(),
        };
        let before = std::mem::replace(&mut entry.reverse, wanted.clone());
        let empty = entry.service.is_none() && entry.slices.is_empty();
        for gone in before.difference(&wanted) {
            if let Some(names) = self.by_ip.get_mut(gone) {
                names.remove(name);
                if names.is_empty() {
                    self.by_ip.remove(gone);
                }
            }
        }
        for new in wanted.difference(&before) {
            self.by_ip.entry(*new).or_default().insert(name.clone());
        }
        if empty {
            self.entries.remove(name);
        }
    }

    /// The record that says how long a negative answer holds.
    pub fn soa(&self) -> Record {
        let at = |label: &str| self.name(&[label]);
        let soa = SOA::new(at("ns.dns"), at("hostmaster"), self.serial, 7200, 1800, 86400, NEGATIVE_TTL);
        Record::from_rdata(self.apex.clone(), NEGATIVE_TTL, RData::SOA(soa))
    }

    /// A name below the apex from labels with or without dots.
    fn name(&self, parts: &[&str]) -> Name {
        let mut text = parts.join(".");
        text.push('.');
        // Labels come from validated object names; one that still is too long becomes the apex.
        Name::from_ascii(&text)
            .and_then(|n| {
                let mut n = n;
                n.set_fqdn(false);
                n.append_domain(&self.apex)
            })
            .unwrap_or_else(|_| self.apex.clone())
    }

    fn record(&self, owner: &Name, data: RData) -> Record {
        Record::from_rdata(owner.clone(), self.ttl, data)
    }

    /// Answers a question; names in any case.
    pub fn answer(&self, question: &Name, kind: RecordType) -> Answer {
        let all = labels(question);
        if let Some(below) = all.len().checked_sub(self.labels.len()).filter(|n| all[*n..] == self.labels) {
            let path: Vec<&str> = all[..below].iter().map(String::as_str).collect();
            return self.below(question, kind, &path);
        }
        if all.len() >= 2 && all[all.len() - 1] == "arpa" {
            return self.reverse(question, kind, &all);
        }
        Answer::NotOurs
    }

    fn below(&self, owner: &Name, kind: RecordType, path: &[&str]) -> Answer {
        match path {
            [] => self.at_apex(owner, kind),
            ["dns-version"] => match kind {
                RecordType::TXT | RecordType::ANY => {
                    self.found(vec![self.record(owner, RData::TXT(TXT::new(vec![SCHEMA_VERSION.into()])))])
                }
                _ => Answer::NoData,
            },
            ["svc" | "pod" | "dns"] => Answer::NoData,
            ["ns", "dns"] => self.addresses(owner, kind, self.servers.iter().copied()),
            [namespace, "svc" | "pod"] if self.has_namespace(namespace) => Answer::NoData,
            [ip, namespace, "pod"] if self.has_namespace(namespace) => match pod_ip(ip) {
                Some(ip) => self.addresses(owner, kind, [ip]),
                None => Answer::NxDomain,
            },
            [name, namespace, "svc"] => self.service(owner, kind, namespace, name),
            [host, name, namespace, "svc"] => self.below_service(owner, kind, namespace, name, host),
            [port, protocol, name, namespace, "svc"] => {
                self.port(owner, kind, &ServiceName::new(*namespace, *name), port, protocol)
            }
            _ => Answer::NxDomain,
        }
    }

    fn has_namespace(&self, name: &str) -> bool {
        !self.namespaces_known || self.namespaces.contains(name)
    }

    fn at_apex(&self, owner: &Name, kind: RecordType) -> Answer {
        let ns = || self.record(owner, RData::NS(NS(self.name(&["ns.dns"]))));
        match kind {
            RecordType::SOA => self.found(vec![self.soa()]),
            RecordType::NS => self.found(vec![ns()]),
            _ => Answer::NoData,
        }
    }

    #[allow(clippy::unused_self, reason = "reads as the zone's answer")]
    fn found(&self, records: Vec<Record>) -> Answer {
        if records.is_empty() { Answer::NoData } else { Answer::Records(records, Vec::new()) }
    }

    /// A or AAAA records; other types have no data. Every address once.
    fn addresses(&self, owner: &Name, kind: RecordType, ips: impl IntoIterator<Item = IpAddr>) -> Answer {
        let wanted = |ip: &IpAddr| match kind {
            RecordType::A => ip.is_ipv4(),
            RecordType::AAAA => ip.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        };
        let unique: BTreeSet<IpAddr> = ips.into_iter().filter(wanted).collect();
        self.found(unique.into_iter().map(|ip| self.record(owner, RData::from(ip))).collect())
    }

    fn service(&self, owner: &Name, kind: RecordType, namespace: &str, name: &str) -> Answer {
        let key = ServiceName::new(namespace, name);
        let Some(entry) = self.entries.get(&key) else { return Answer::NxDomain };
        match &entry.service {
            None => Answer::NxDomain,
            Some(Service::External(target)) => self.alias(owner, kind, target),
            Some(Service::Headless) if entry.endpoints().next().is_none() => Answer::NxDomain,
            Some(_) if kind == RecordType::SRV => self.srv(owner, &key, entry, |_| true),
            Some(Service::Headless) => self.addresses(owner, kind, entry.endpoints().map(|e| e.ip)),
            Some(Service::Cluster { ips, .. }) => self.addresses(owner, kind, ips.iter().copied()),
        }
    }

    fn alias(&self, owner: &Name, kind: RecordType, target: &str) -> Answer {
        let Ok(mut target) = Name::from_ascii(target) else { return Answer::NxDomain };
        target.set_fqdn(true);
        let record = self.record(owner, RData::CNAME(CNAME(target.clone())));
        if kind == RecordType::CNAME {
            Answer::Records(vec![record], Vec::new())
        } else {
            Answer::Alias(Box::new(record), target)
        }
    }

    /// An endpoint by its host name, or the empty name above a Service's ports.
    fn below_service(&self, owner: &Name, kind: RecordType, namespace: &str, name: &str, host: &str) -> Answer {
        let key = ServiceName::new(namespace, name);
        let Some(entry) = self.entries.get(&key).filter(|e| e.service.is_some()) else { return Answer::NxDomain };
        let here: Vec<IpAddr> = entry.endpoints().filter(|e| e.label() == host).map(|e| e.ip).collect();
        if !here.is_empty() {
            return self.addresses(owner, kind, here);
        }
        let protocol = host.strip_prefix('_').unwrap_or_default();
        let some_port = match &entry.service {
            Some(Service::Cluster { ports, .. }) => ports.iter().any(|p| p.protocol == protocol && !p.name.is_empty()),
            Some(Service::Headless) => {
                entry.endpoint_ports().any(|(_, p)| p.protocol == protocol && !p.name.is_empty())
            }
            _ => false,
        };
        if some_port { Answer::NoData } else { Answer::NxDomain }
    }

    fn port(&self, owner: &Name, kind: RecordType, key: &ServiceName, port: &str, protocol: &str) -> Answer {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
            return Answer::NxDomain;
        };
        let Some(entry) = self.entries.get(key).filter(|_| !port.is_empty()) else { return Answer::NxDomain };
        let wanted = |p: &Port| p.protocol == protocol && p.name.eq_ignore_ascii_case(port);
        match self.srv(owner, key, entry, wanted) {
            Answer::NoData => Answer::NxDomain,
            answer if matches!(kind, RecordType::SRV | RecordType::ANY) => answer,
            _ => Answer::NoData,
        }
    }

    /// SRV records: one per port of a ClusterIP Service, one per endpoint and port of a headless one; with the addresses
    /// of their targets.
    fn srv(&self, owner: &Name, key: &ServiceName, entry: &Entry, wanted: impl Fn(&Port) -> bool) -> Answer {
        let base = self.name(&[&key.name, &key.namespace, "svc"]);
        let mut targets: BTreeSet<(u16, Name)> = BTreeSet::new();
        let mut ips: BTreeSet<(Name, IpAddr)> = BTreeSet::new();
        match &entry.service {
            Some(Service::Cluster { ips: own, ports }) => {
                targets.extend(ports.iter().filter(|p| wanted(p)).map(|p| (p.port, base.clone())));
                ips.extend(own.iter().map(|ip| (base.clone(), *ip)));
            }
            Some(Service::Headless) => {
                for (endpoint, port) in entry.endpoint_ports().filter(|(_, p)| wanted(p)) {
                    let host = self.name(&[&endpoint.label(), &key.name, &key.namespace, "svc"]);
                    targets.insert((port.port, host.clone()));
                    ips.insert((host, endpoint.ip));
                }
            }
            _ => {}
        }
        if targets.is_empty() {
            return Answer::NoData;
        }
        let weight = (100 / targets.len()).max(1) as u16;
        let records =
            targets.into_iter().map(|(port, target)| self.record(owner, RData::SRV(SRV::new(0, weight, port, target))));
        let extra = ips.into_iter().map(|(name, ip)| self.record(&name, RData::from(ip)));
        Answer::Records(records.collect(), extra.collect())
    }

    fn reverse(&self, owner: &Name, kind: RecordType, all: &[String]) -> Answer {
        let Some(ip) = reverse_ip(all) else { return Answer::NotOurs };
        let mut records = Vec::new();
        for key in self.by_ip.get(&ip).into_iter().flatten() {
            let Some(entry) = self.entries.get(key) else { continue };
            if matches!(entry.service, Some(Service::Cluster { .. })) {
                records.push(self.name(&[&key.name, &key.namespace, "svc"]));
            } else {
                let hosts = entry.endpoints().filter(|e| e.ip == ip);
                records.extend(hosts.map(|e| self.name(&[&e.label(), &key.name, &key.namespace, "svc"])));
            }
        }
        if records.is_empty() {
            let ours = self.reverse_ranges.iter().any(|net| net.contains(&ip));
            return if ours { Answer::NxDomain } else { Answer::NotOurs };
        }
        if !matches!(kind, RecordType::PTR | RecordType::ANY) {
            return Answer::NoData;
        }
        self.found(records.into_iter().map(|name| self.record(owner, RData::PTR(PTR(name)))).collect())
    }
}

/// A name's labels in lower case.
fn labels(name: &Name) -> Vec<String> {
    name.iter().map(|l| String::from_utf8_lossy(l).to_lowercase()).collect()
}

/// `10-1-0-5` or `fd00--5` as an address.
fn pod_ip(label: &str) -> Option<IpAddr> {
    if label.matches('-').count() == 3
        && !label.contains("--")
        && let Ok(ip) = label.replace('-', ".").parse()
    {
        return Some(ip);
    }
    label.replace('-', ":").parse().ok().filter(IpAddr::is_ipv6)
}

/// The address of an in-addr.arpa or ip6.arpa name.
fn reverse_ip(all: &[String]) -> Option<IpAddr> {
    match all {
        [d, c, b, a, zone, _] if zone == "in-addr" => format!("{a}.{b}.{c}.{d}").parse().ok(),
        [nibbles @ .., zone, _] if zone == "ip6" && nibbles.len() == 32 => {
            let mut number: u128 = 0;
            for nibble in nibbles.iter().rev() {
                let value = u128::from_str_radix(nibble, 16).ok().filter(|_| nibble.len() == 1)?;
                number = (number << 4) | value;
            }
            Some(std::net::Ipv6Addr::from(number).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
