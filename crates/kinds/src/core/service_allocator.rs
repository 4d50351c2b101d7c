//! Cluster IPs and node ports: allocated when a service is written, released when it goes.
//!
//! Addresses are claimed by IPAddress objects ([`super::ip_claims`]) and ports in upstream's bitmap ([`registry::NumberRange`]), so
//! that several API servers can share a store. Allocation happens between validation and the write; if the write fails,
//! [`registry::Finish`] gives back what was taken. [`ServiceHooks::repair`] puts right what a crash left.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use meta::field::{Error, Path};
use meta::{GroupKind, Object, Status};
use parking_lot::Mutex;
use registry::{Ctx, Finish, Hooks, NumberRange, Registry, Taken};
use rules::core::service_prepare as prepare;
use serde_json::{Value, json};

pub use super::cidr::Cidr;
use super::ip_claims::{self, IpClaims};

/// The ranges that services get their addresses and ports from.
#[derive(Debug, Clone)]
pub struct ServiceRanges {
    /// One range, or two of different families; the first is the default family.
    pub cluster_ips: Vec<Cidr>,
    /// `--service-node-port-range`.
    pub node_ports: RangeInclusive<u16>,
}

/// Rounds of repair that a port without a service is kept: its service may be on its way.
const ROUNDS_KEPT: u32 = 3;
/// Tries to write the ports while others write them, too.
const TRIES: usize = 64;

#[derive(Default, Clone)]
struct Claim {
    ips: Vec<IpAddr>,
    ports: Vec<u16>,
}

/// The hooks of the service kind.
pub struct ServiceHooks {
    ranges: ServiceRanges,
    ports: NumberRange,
    /// Ports that repair found without a service, and how often in a row.
    leaked: Mutex<rt::HashMap<u16, u32>>,
}

impl ServiceHooks {
    /// Hooks over the given ranges, with nothing allocated.
    pub fn new(ranges: ServiceRanges) -> Self {
        let ports = NumberRange::node_ports(ranges.node_ports.clone());
        Self { ranges, ports, leaked: Mutex::default() }
    }

    /// The ranges.
    pub fn ranges(&self) -> &ServiceRanges {
        &self.ranges
    }

    /// What is taken of the ports; at the very first time, what the services have.
    async fn taken(&self, registry: &Arc<Registry>) -> Result<Taken, Status> {
        let mut taken = self.ports.read(registry).await?;
        if taken.is_new() {
            taken.numbers.extend(services(registry).await?.iter().flat_map(|s| claim_of(s).ports));
        }
        Ok(taken)
    }

    /// Makes the bitmap fit the services: ports that it lacks are added, and what no service has for some rounds is given back.
    async fn repair_ports(&self, registry: &Arc<Registry>, services: &[Object]) -> Result<(), Status> {
        let used: BTreeSet<u16> = services.iter().flat_map(|s| claim_of(s).ports).collect();
        for _ in 0..TRIES {
            let mut taken = self.ports.read(registry).await?;
            let before = taken.numbers.clone();
            {
                let mut leaked = self.leaked.lock();
                leaked.retain(|port, _| taken.numbers.contains(port) && !used.contains(port));
                for port in before.difference(&used) {
                    let rounds = leaked.entry(*port).or_insert(0);
                    *rounds += 1;
                    if *rounds > ROUNDS_KEPT {
                        taken.numbers.remove(port);
                    }
                }
            }
            taken.numbers.extend(&used);
            if (taken.numbers == before && !taken.is_new()) || self.ports.write(registry, &taken).await? {
                return Ok(());
            }
        }
        Err(Status::internal("node ports are written by too many at once"))
    }

    /// Makes the claims fit the stored services: addresses of services without an IPAddress get one, claims that no service has
    /// any more are dropped, and so are ports.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn repair(&self, registry: &Arc<Registry>) -> Result<(), Status> {
        // Claims are read first: one that is there without a service now may belong to a service that is being written.
        let claims = ip_claims::all(registry).await?;
        let services = services(registry).await?;
        ip_claims::repair(registry, &claims, &services).await?;
        self.repair_ports(registry, &services).await
    }

    async fn allocate(
        &self,
        cx: &Ctx,
        service: &mut Object,
        old: Option<&Object>,
        claim: &mut Claim,
    ) -> Result<Vec<Error>, Status> {
        let families: Vec<&str> = self.ranges.cluster_ips.iter().map(Cidr::family).collect();
        let mut errors = prepare::init_ip_families(service, old, &families);
        if errors.is_empty() {
            errors = self.allocate_ips(cx, service, old, claim).await?;
        }
        if errors.is_empty() {
            errors = self.allocate_ports(cx, service, old, claim).await?;
        }
        Ok(errors)
    }

    async fn allocate_ips(
        &self,
        cx: &Ctx,
        service: &mut Object,
        old: Option<&Object>,
        claim: &mut Claim,
    ) -> Result<Vec<Error>, Status> {
        if !prepare::needs_cluster_ip(service) || prepare::is_headless(service) {
            return Ok(Vec::new());
        }
        let given = prepare::cluster_ips(service);
        let kept = old.map(|o| claim_of(o).ips).unwrap_or_default();
        let claims = IpClaims::new(cx, &self.ranges.cluster_ips, service).await?;
        let mut result = Vec::new();
        for (i, family) in prepare::strings(service, "ipFamilies").iter().enumerate() {
            let wanted = given.get(i).and_then(|ip| ip.parse::<IpAddr>().ok());
            let allocated = match wanted {
                Some(ip) if kept.contains(&ip) => Ok(ip),
                Some(ip) => claims.take(ip).await?,
                None => claims.take_any(family).await?,
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
                    return Ok(vec![Error::invalid(&path, json!(given), reason)]);
                }
            }
        }
        service.set(&["spec", "clusterIP"], result.first().cloned().unwrap_or_default().into());
        service.set(&["spec", "clusterIPs"], json!(result));
        Ok(Vec::new())
    }

    /// Ports are chosen from what is read, and written when nobody else wrote since; else all again.
    async fn allocate_ports(
        &self,
        cx: &Ctx,
        service: &mut Object,
        old: Option<&Object>,
        claim: &mut Claim,
    ) -> Result<Vec<Error>, Status> {
        if !prepare::needs_node_port(service) && !prepare::needs_health_check_port(service) {
            return Ok(Vec::new());
        }
        for _ in 0..TRIES {
            let mut taken = self.taken(&cx.registry).await?;
            let (mut fresh, mut wanted) = (service.clone(), Claim::default());
            let errors = self.choose_ports(&mut fresh, old, &mut wanted, &mut taken.numbers);
            if !errors.is_empty() {
                return Ok(errors);
            }
            if cx.dry_run || wanted.ports.is_empty() || self.ports.write(&cx.registry, &taken).await? {
                *service = fresh;
                claim.ports = wanted.ports;
                return Ok(Vec::new());
            }
        }
        Err(Status::internal("node ports are written by too many at once"))
    }

    fn choose_ports(
        &self,
        service: &mut Object,
        old: Option<&Object>,
        claim: &mut Claim,
        taken: &mut BTreeSet<u16>,
    ) -> Vec<Error> {
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
                let shared =
                    own.iter().find(|(n, p, proto)| (wanted == *n || (wanted == 0 && *p == key.0)) && *proto != key.1);
                let allocated = match shared {
                    Some((number, ..)) => Ok(*number),
                    None if wanted != 0 && kept.contains(&wanted) => Ok(wanted),
                    None => self.take_port(wanted, claim, taken),
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
                match self.take_port(wanted, claim, taken) {
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
    fn take_port(&self, wanted: u16, claim: &mut Claim, taken: &mut BTreeSet<u16>) -> Result<u16, String> {
        let range = &self.ranges.node_ports;
        let number = if wanted != 0 {
            if !range.contains(&wanted) {
                let (first, last) = (range.start(), range.end());
                return Err(format!(
                    "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                ));
            }
            if taken.contains(&wanted) {
                return Err("provided port is already allocated".to_owned());
            }
            wanted
        } else {
            let size = u64::from(*range.end() - *range.start()) + 1;
            let start = rt::rand::below(size);
            let any = (0..size).map(|i| range.start() + u16::try_from((start + i) % size).unwrap_or(0));
            any.into_iter().find(|n| !taken.contains(n)).ok_or("failed to allocate a nodePort: range is full")?
        };
        taken.insert(number);
        claim.ports.push(number);
        Ok(number)
    }

    /// Gives back a claim; what a dry run chose was never taken. What fails here is found by repair.
    async fn release(ports: &NumberRange, registry: &Arc<Registry>, claim: &Claim) {
        if !claim.ports.is_empty() {
            for _ in 0..TRIES {
                let Ok(mut taken) = ports.read(registry).await else { break };
                taken.numbers.retain(|port| !claim.ports.contains(port));
                if !matches!(ports.write(registry, &taken).await, Ok(false)) {
                    break;
                }
            }
        }
        ip_claims::release(registry, &claim.ips).await;
    }

    async fn begin(&self, cx: &Ctx, service: &mut Object, old: Option<&Object>) -> Result<Option<Finish>, Status> {
        let mut claim = Claim::default();
        let outcome = self.allocate(cx, service, old, &mut claim).await;
        let errors = match outcome {
            Ok(errors) => errors,
            Err(status) => {
                Self::release(&self.ports, &cx.registry, &claim).await;
                return Err(status);
            }
        };
        if cx.dry_run {
            claim = Claim::default();
        }
        if cx.dry_run || !errors.is_empty() {
            Self::release(&self.ports, &cx.registry, &claim).await;
        }
        if !errors.is_empty() {
            return Err(Status::invalid(&GroupKind::new("", "Service"), service.name(), &errors));
        }
        if cx.dry_run {
            return Ok(None);
        }
        let now = claim_of(service);
        let mut gone = old.map(claim_of).unwrap_or_default();
        gone.ips.retain(|ip| !now.ips.contains(ip));
        gone.ports.retain(|port| !now.ports.contains(port));
        let (ports, registry) = (self.ports.clone(), cx.registry.clone());
        Ok(Some(Box::new(move |written| {
            let drop = if written { gone } else { claim };
            Box::pin(async move { Self::release(&ports, &registry, &drop).await })
        })))
    }
}

async fn services(registry: &Arc<Registry>) -> Result<Vec<Object>, Status> {
    let resource = registry.need("", "services")?;
    let listed = resource.list(&registry::ListOptions::default()).await?;
    listed.entries.iter().map(|e| registry::decode_hub(&resource.row, &e.raw)).collect()
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
        self.begin(cx, object, None).await
    }

    async fn begin_update(&self, cx: &Ctx, object: &mut Object, old: &Object) -> Result<Option<Finish>, Status> {
        self.begin(cx, object, Some(old)).await
    }

    async fn after_delete(&self, cx: &Ctx, object: &Object) {
        Self::release(&self.ports, &cx.registry, &claim_of(object)).await;
    }
}

#[cfg(test)]
mod tests;
