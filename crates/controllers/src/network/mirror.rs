//! EndpointSlice mirroring: Endpoints that users write for Services without a selector, as slices for those who read slices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use api::k8s::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use api::metav1::ObjectMeta;
use client::{DeleteOptions, Error};
use informer::{Informer, OwnWrites, Queue, Scope, run_workers};

use crate::frame::Context;
use crate::owner::controller_reference;
use crate::workload::pod_control::namespace_terminating;
use crate::workload::writes::{Writes, is_unclear};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const BY_SERVICE: &str = "service";
/// Most addresses of one subset that are mirrored, upstream's default.
const MAX_PER_SUBSET: usize = 1000;

struct Controller {
    context: Context,
    endpoints: Informer<Endpoints>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    queue: Arc<Queue<String>>,
    own: OwnWrites,
}

fn service_key(slice: &EndpointSlice) -> Option<String> {
    Some(format!("{}/{}", slice.namespace(), slice.label(SERVICE_NAME)?))
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let queue = Arc::new(Queue::new());
    let endpoints = context.factory.informer::<Endpoints>();
    let services = context.factory.informer::<Service>();
    let slices = context
        .factory
        .scoped::<EndpointSlice>(Scope { label_selector: format!("{MANAGED_BY}={MANAGER}"), ..Scope::default() });
    slices.add_index(BY_SERVICE, |slice| service_key(slice).into_iter().collect());
    let (of_endpoints, of_service) = (queue.clone(), queue.clone());
    endpoints.add_handler(move |delta| of_endpoints.add(delta.object().key()));
    services.add_handler(move |delta| of_service.add(delta.object().key()));
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let woken = queue.clone();
    let own = OwnWrites::new(None, move |key| woken.add(key)).over(&slices);
    let controller = Arc::new(Controller { context, endpoints, services, slices, queue: queue.clone(), own });
    let changed = Arc::downgrade(&queue);
    controller.slices.add_handler(move |delta| {
        if let (Some(queue), Some(key)) = (changed.upgrade(), service_key(delta.object())) {
            queue.add(key);
        }
    });
    controller.endpoints.synced().await;
    controller.services.synced().await;
    controller.slices.synced().await;
    run_workers("endpointslicemirroring", queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

/// Whether these Endpoints are somebody's own, to be mirrored.
fn is_mirrored(endpoints: &Endpoints, service: &Service) -> bool {
    let selects = service.spec.as_ref().and_then(|s| s.selector.as_ref()).is_some_and(|s| !s.is_empty());
    !selects && endpoints.label(SKIP) != Some("true") && endpoints.annotation(LEADER).is_none()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let ports = subset.ports.iter().flatten();
    ports
        .map(|p| EndpointPort {
            name: Some(p.name.clone().unwrap_or_default()),
            port: Some(p.port),
            protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: p.app_protocol.clone(),
        })
        .collect()
}

/// The slices that Endpoints come to; pure.
fn wanted(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut labels = endpoints.labels().clone();
    labels.remove("endpoints.kubernetes.io/managed-by");
    labels.insert(SERVICE_NAME.to_owned(), endpoints.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.remove("endpoints.kubernetes.io/last-change-trigger-time");
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-", endpoints.name())),
        namespace: Some(endpoints.namespace().to_owned()),
        labels: Some(labels),
        annotations: Some(annotations).filter(|a| !a.is_empty()),
        owner_references: Some(vec![controller_reference(endpoints)]),
        ..ObjectMeta::default()
    };
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        let mut families: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
        for (address, ready) in ready.chain(not_ready).take(MAX_PER_SUBSET) {
            let family = match address.ip.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => "IPv4",
                Ok(IpAddr::V6(_)) => "IPv6",
                Err(_) => continue,
            };
            families.entry(family).or_default().push(endpoint(address, ready));
        }
        for (family, found) in families {
            slices.push(EndpointSlice {
                metadata: metadata.clone(),
                address_type: family.to_owned(),
                ports: Some(ports(subset)),
                endpoints: Some(found),
            });
        }
    }
    slices
}

/// What tells one slice of a Service from another.
fn identity(slice: &EndpointSlice) -> String {
    format!("{}/{:?}", slice.address_type, slice.ports)
}

fn same(have: &EndpointSlice, want: &EndpointSlice) -> bool {
    have.endpoints == want.endpoints
        && have.labels() == want.labels()
        && have.metadata.annotations.clone().unwrap_or_default()
            == want.metadata.annotations.clone().unwrap_or_default()
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<(), Error> {
        if let Some(wait) = self.own.wait(key) {
            self.queue.add_after(key.to_owned(), wait);
            return Ok(());
        }
        let endpoints = self.endpoints.cache().get_key(key).filter(|e| !e.is_deleting());
        let service = self.services.cache().get_key(key);
        let slices = match (&endpoints, &service) {
            (Some(endpoints), Some(service)) if is_mirrored(endpoints, service) => wanted(endpoints),
            _ => Vec::new(),
        };
        let mut existing = self.slices.cache().by_index(BY_SERVICE, key);
        let writes = Writes { context: &self.context, own: &self.own, key };
        let mut create = Vec::new();
        for want in slices {
            match existing.iter().position(|have| identity(have) == identity(&want)) {
                None => create.push(want),
                Some(at) => {
                    let have = existing.swap_remove(at);
                    if !same(&have, &want) {
                        let metadata = ObjectMeta {
                            labels: want.metadata.labels.clone(),
                            annotations: want.metadata.annotations.clone(),
                            ..have.metadata.clone()
                        };
                        writes.update(&EndpointSlice { metadata, ..want }).await?;
                    }
                }
            }
        }
        for gone in existing {
            let options = DeleteOptions::of(gone.uid());
            match writes.delete(&*gone, &options).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
                _ => {}
            }
        }
        for slice in &create {
            if let Err(error) = writes.create(slice).await {
                if is_unclear(&error) {
                    writes.ask_for_children(&[slice]).await;
                }
                return if namespace_terminating(&error) { Ok(()) } else { Err(error) };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_per_subset_and_family() {
        let endpoints: Endpoints = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "u"},
            "subsets": [{
                "addresses": [{"ip": "10.1.2.3"}, {"ip": "fd00::1"}],
                "notReadyAddresses": [{"ip": "10.1.2.4"}],
                "ports": [{"name": "http", "port": 80}],
            }],
        }))
        .unwrap();
        let slices = wanted(&endpoints);
        let sizes: Vec<(&str, usize)> =
            slices.iter().map(|s| (s.address_type.as_str(), s.endpoints.as_ref().unwrap().len())).collect();
        assert_eq!(sizes, [("IPv4", 2), ("IPv6", 1)]);
        assert_eq!(slices[0].label(SERVICE_NAME), Some("web"));
    }
}
