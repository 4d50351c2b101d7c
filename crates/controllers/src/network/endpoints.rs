//! Endpoints: the old, flat form of a Service's backends, for clients that still read it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service};
use api::metav1::ObjectMeta;
use client::{DeleteOptions, Error};
use informer::{Informer, Queue, run_workers};

use crate::frame::Context;
use crate::network::backends::{self, Backends};
use crate::pods;
use crate::workload::pod_control::namespace_terminating;

/// Most addresses in one object, upstream's limit.
const MAX_ADDRESSES: usize = 1000;
const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

struct Controller {
    context: Context,
    backends: Backends,
    endpoints: Informer<Endpoints>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let queue = Arc::new(Queue::new());
    let endpoints = context.factory.informer::<Endpoints>();
    let backends = Backends::attach(&context, &queue);
    let handed = queue.clone();
    endpoints.add_handler(move |delta| handed.add(delta.object().key()));
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller { context, backends, endpoints });
    controller.backends.synced().await;
    controller.endpoints.synced().await;
    run_workers("endpoints", queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let family = service.spec.as_ref().and_then(|s| s.ip_families.as_ref()?.first().cloned());
    let six = family.as_deref() == Some("IPv6");
    let ip = backends::ips(pod).into_iter().find(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == six))?;
    Some(EndpointAddress {
        ip,
        hostname: backends::hostname(pod, service),
        node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace().to_owned()),
            name: Some(pod.name().to_owned()),
            uid: Some(pod.uid().to_owned()),
            ..ObjectReference::default()
        }),
    })
}

/// The subsets of a Service: addresses with equal ports together, ready and not ready apart.
fn subsets(service: &Service, selected: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    type Group = (Vec<EndpointPort>, Vec<EndpointAddress>, Vec<EndpointAddress>);
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let publish = backends::publishes_not_ready(service);
    let service_ports = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let mut count = 0;
    for pod in selected.iter().filter(|p| backends::belongs(p, publish)) {
        let Some(address) = address(service, pod) else { continue };
        count += 1;
        if count > MAX_ADDRESSES {
            break;
        }
        let ports: Vec<EndpointPort> = service_ports
            .iter()
            .filter_map(|port| {
                Some(EndpointPort {
                    name: port.name.clone().filter(|n| !n.is_empty()),
                    port: backends::target_port(pod, port)?,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        if ports.is_empty() && !service_ports.is_empty() {
            continue;
        }
        let group = groups.entry(format!("{ports:?}")).or_insert_with(|| (ports, Vec::new(), Vec::new()));
        if publish || pods::is_ready(pod) { group.1.push(address) } else { group.2.push(address) }
    }
    let subset = |(ports, mut ready, mut not_ready): Group| {
        let by_ip = |a: &EndpointAddress| (a.ip.clone(), a.target_ref.as_ref().and_then(|t| t.uid.clone()));
        ready.sort_by_key(by_ip);
        not_ready.sort_by_key(by_ip);
        EndpointSubset {
            addresses: Some(ready).filter(|a| !a.is_empty()),
            not_ready_addresses: Some(not_ready).filter(|a| !a.is_empty()),
            ports: Some(ports).filter(|p| !p.is_empty()),
        }
    };
    (groups.into_values().map(subset).collect(), count > MAX_ADDRESSES)
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS);
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    labels
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<(), Error> {
        let existing = self.endpoints.cache().get_key(key);
        let Some(service) = self.backends.services.cache().get_key(key) else {
            return self.remove(existing).await;
        };
        let Some(pods) = self.backends.pods_of(&service) else { return Ok(()) };
        let (subsets, over) = subsets(&service, &pods);
        let wanted = Endpoints {
            metadata: ObjectMeta {
                name: Some(service.name().to_owned()),
                namespace: Some(service.namespace().to_owned()),
                labels: Some(labels(&service)),
                annotations: over.then(|| BTreeMap::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())])),
                ..ObjectMeta::default()
            },
            subsets: Some(subsets).filter(|s| !s.is_empty()),
        };
        let result = match existing {
            None => self.context.client.create(&wanted).await,
            Some(old) => {
                let was_over = old.annotation(OVER_CAPACITY).is_some();
                let old_subsets = old.subsets.clone().filter(|s| !s.is_empty());
                if old_subsets == wanted.subsets && old.labels() == wanted.labels() && was_over == over {
                    return Ok(());
                }
                let mut changed = (*old).clone();
                changed.metadata.labels = wanted.metadata.labels;
                let annotations = changed.metadata.annotations.get_or_insert_default();
                annotations.remove(OVER_CAPACITY);
                annotations.extend(wanted.metadata.annotations.unwrap_or_default());
                changed.subsets = wanted.subsets;
                self.context.client.update(&changed).await
            }
        };
        match result {
            Err(error) if error.is_already_exists() || namespace_terminating(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// The Service is gone: so are the Endpoints that were made for it.
    async fn remove(&self, existing: Option<Arc<Endpoints>>) -> Result<(), Error> {
        let Some(old) = existing.filter(|e| e.label(MANAGED_BY).is_some()) else { return Ok(()) };
        match self.context.client.delete::<Endpoints>(old.namespace(), old.name(), &DeleteOptions::of(old.uid())).await
        {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }
}
