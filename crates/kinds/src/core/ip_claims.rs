//! Claims on cluster IPs: one IPAddress object for each address of a service, named by the address and pointing to the service.
//!
//! Creating the object is the claim: of several API servers over one store one succeeds. The ranges are those of the flags and of
//! every ready ServiceCIDR.

use std::net::IpAddr;
use std::sync::Arc;

use auth_api::{Edit, Lookup};
use meta::{GroupVersionResource, Object, Status};
use registry::{Access, Ctx, Registry};
use rules::core::service_prepare as prepare;
use serde_json::json;

use super::cidr::Cidr;

const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// A claim without a service is dropped when it is this old: the service may be on its way to the store.
const GRACE_SECONDS: i64 = 60;

fn gvr() -> GroupVersionResource {
    GroupVersionResource::new("networking.k8s.io", "v1", "ipaddresses")
}

/// Claims for one service.
pub(crate) struct IpClaims<'a> {
    cx: &'a Ctx,
    ranges: Vec<Cidr>,
    name: String,
}

impl<'a> IpClaims<'a> {
    /// Looks up the ranges that may be given from now.
    pub(crate) async fn new(cx: &'a Ctx, own: &[Cidr], service: &Object) -> Result<Self, Status> {
        let mut ranges = own.to_vec();
        let listed = cx.registry.need("networking.k8s.io", "servicecidrs")?.list_cached("").await?;
        for cidr in listed.iter().filter(|c| c.deletion_timestamp().is_none() && ready(c)) {
            let texts = cidr.get(&["spec", "cidrs"]).and_then(|v| v.as_array()).into_iter().flatten();
            ranges.extend(texts.filter_map(|t| t.as_str()?.parse::<Cidr>().ok()).filter(|c| !own.contains(c)));
        }
        Ok(Self { cx, ranges, name: service.name().to_owned() })
    }

    /// Claims a given address; a refusal says why.
    pub(crate) async fn take(&self, ip: IpAddr) -> Result<Result<IpAddr, String>, Status> {
        if !self.ranges.iter().any(|r| r.offers(ip)) {
            return Ok(Err(format!(
                "failed to allocate IP {ip}: the provided network does not match the current range"
            )));
        }
        if self.claim(ip).await? {
            Ok(Ok(ip))
        } else {
            Ok(Err(format!("failed to allocate IP {ip}: provided IP is already allocated")))
        }
    }

    /// Claims a random free address outside of the low part of a range, which is left to those who ask for an address by name.
    pub(crate) async fn take_any(&self, family: &str) -> Result<Result<IpAddr, String>, Status> {
        let of_family: Vec<&Cidr> = self.ranges.iter().filter(|r| r.family() == family).collect();
        if of_family.is_empty() {
            return Ok(Err(format!("failed to allocate IP: no range of family {family}")));
        }
        let addresses = self.cx.registry.need("networking.k8s.io", "ipaddresses")?;
        for range in of_family {
            let size = range.size().min(1 << 32);
            let low = (size / 16).clamp(16.min(size / 2), 256);
            let start = u128::from(rt::rand::below(u64::try_from(size - low).unwrap_or(1).max(1)));
            let upper = (0..size - low).map(|i| 1 + low + (start + i) % (size - low).max(1));
            for offset in upper.chain(1..=low) {
                let ip = range.nth(offset);
                if addresses.get_cached("", &ip.to_string()).await?.is_none() && self.claim(ip).await? {
                    return Ok(Ok(ip));
                }
            }
        }
        Ok(Err("failed to allocate a serviceIP: range is full".to_owned()))
    }

    /// Makes the object; false when the address is taken. A dry run only looks.
    async fn claim(&self, ip: IpAddr) -> Result<bool, Status> {
        let access = Access::new(self.cx.registry.clone());
        if self.cx.dry_run {
            return Ok(access.get_live(&gvr(), "", &ip.to_string()).await?.is_none());
        }
        match access.create(&gvr(), object(ip, &self.cx.namespace, &self.name)).await {
            Ok(_) => Ok(true),
            Err(status) if status.is_already_exists() => Ok(false),
            Err(status) => Err(status),
        }
    }
}

fn ready(cidr: &Object) -> bool {
    let conditions = cidr.get(&["status", "conditions"]).and_then(|v| v.as_array()).into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn object(ip: IpAddr, namespace: &str, name: &str) -> Object {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let tree = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(),
            "labels": {"ipaddress.kubernetes.io/ip-family": family, MANAGED_BY: ALLOCATOR},
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    });
    Object::from_value(tree).unwrap_or_default()
}

/// Drops claims. A failure leaves them to the repair.
pub(crate) async fn release(registry: &Arc<Registry>, ips: &[IpAddr]) {
    let access = Access::new(registry.clone());
    for ip in ips {
        let dropped = match access.get_live(&gvr(), "", &ip.to_string()).await {
            Ok(Some(found)) => access.delete(&gvr(), &found).await,
            Ok(None) => Ok(()),
            Err(status) => Err(status),
        };
        match dropped {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(%ip, %error, "claim of an address is left to the repair")
            }
            _ => {}
        }
    }
}

/// All claims of this allocator.
pub(crate) async fn all(registry: &Arc<Registry>) -> Result<Vec<Object>, Status> {
    let resource = registry.need("networking.k8s.io", "ipaddresses")?;
    let listed = resource.list(&registry::ListOptions::default()).await?;
    let objects: Vec<Object> =
        listed.entries.iter().map(|e| registry::decode_hub(&resource.row, &e.raw)).collect::<Result<_, _>>()?;
    Ok(objects.into_iter().filter(|o| o.labels().any(|(k, v)| k == MANAGED_BY && v == ALLOCATOR)).collect())
}

/// Makes what is missing and drops what no service has.
pub(crate) async fn repair(registry: &Arc<Registry>, claims: &[Object], services: &[Object]) -> Result<(), Status> {
    repair_aged(registry, claims, services, GRACE_SECONDS).await
}

/// The same with another grace.
pub(crate) async fn repair_aged(
    registry: &Arc<Registry>,
    claims: &[Object],
    services: &[Object],
    grace: i64,
) -> Result<(), Status> {
    let access = Access::new(registry.clone());
    let mut wanted = std::collections::BTreeMap::new();
    for service in services {
        for ip in prepare::cluster_ips(service).iter().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
            wanted.insert(ip.to_string(), (ip, service.namespace().to_owned(), service.name().to_owned()));
        }
    }
    for claim in claims {
        let part = |field: &str| claim.get_str(&["spec", "parentRef", field]).to_owned();
        let holder = wanted.get(claim.name());
        if holder.is_some_and(|(_, namespace, name)| *namespace == part("namespace") && *name == part("name")) {
            wanted.remove(claim.name());
            continue;
        }
        let born = meta::time::parse(claim.get_str(&["metadata", "creationTimestamp"])).ok();
        let age = born.map_or(i64::MAX, |born| rt::time::now().as_second() - born.as_second());
        if age >= grace {
            tracing::info!(ip = claim.name(), "claim of an address without its service is dropped");
            match access.delete(&gvr(), claim).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
    }
    for (ip, namespace, name) in wanted.into_values() {
        match access.create(&gvr(), object(ip, &namespace, &name)).await {
            Err(status) if !status.is_already_exists() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}
