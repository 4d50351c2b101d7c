//! The mechanism that EndpointSlice and Endpoints controllers share: which pods stand behind a Service.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Pod, Service, ServicePort};
use api::prelude::IntOrString;
use informer::{Delta, Informer, Queue};
use meta::selector::LabelSelector;

use crate::frame::Context;
use crate::pods;

/// The Services and pods, with handlers that queue a Service's key when its backends may change.
pub(crate) struct Backends {
    pub(crate) services: Informer<Service>,
    pub(crate) pods: Informer<Pod>,
}

impl Backends {
    /// Connects the informers to a queue.
    pub(crate) fn attach(context: &Context, queue: &Arc<Queue<String>>) -> Self {
        let services = context.factory.informer::<Service>();
        let pods = context.factory.informer::<Pod>();
        let of_service = queue.clone();
        services.add_handler(move |delta| of_service.add(delta.object().key()));
        let (of_pod, lookup) = (queue.clone(), services.clone());
        pods.add_handler(move |delta| match delta {
            Delta::Updated { old, new } => {
                let relabelled = old.labels() != new.labels();
                if relabelled {
                    queue_services(&lookup, &of_pod, old);
                }
                if relabelled || relevant(old) != relevant(new) {
                    queue_services(&lookup, &of_pod, new);
                }
            }
            Delta::Added(pod) | Delta::Deleted(pod) => queue_services(&lookup, &of_pod, pod),
        });
        Self { services, pods }
    }

    pub(crate) async fn synced(&self) {
        self.services.synced().await;
        self.pods.synced().await;
    }

    /// The pods that the Service selects; `None` when it selects none at all (no selector, ExternalName).
    pub(crate) fn pods_of(&self, service: &Service) -> Option<Vec<Arc<Pod>>> {
        let spec = service.spec.as_ref()?;
        let selector = selector(service)?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let mut found = self.pods.cache().in_namespace(service.namespace());
        found.retain(|pod| selector.matches_map(pod.labels()));
        found.sort_by(|a, b| a.name().cmp(b.name()));
        Some(found)
    }
}

fn selector(service: &Service) -> Option<LabelSelector> {
    let selector = service.spec.as_ref()?.selector.clone()?;
    Some(LabelSelector::from_pairs(selector)).filter(|s| !s.is_everything())
}

fn queue_services(services: &Informer<Service>, queue: &Queue<String>, pod: &Pod) {
    for service in services.cache().in_namespace(pod.namespace()) {
        if selector(&service).is_some_and(|s| s.matches_map(pod.labels())) {
            queue.add(service.key());
        }
    }
}

/// What of a pod its endpoint shows.
#[allow(clippy::type_complexity, reason = "compared as a whole, never taken apart")]
fn relevant(pod: &Pod) -> (Vec<String>, bool, bool, bool, Option<&str>, Option<&str>, Option<&str>) {
    let spec = pod.spec.as_ref();
    (
        ips(pod),
        pods::is_ready(pod),
        pod.is_deleting(),
        pods::is_terminal(pod),
        spec.and_then(|s| s.node_name.as_deref()),
        spec.and_then(|s| s.hostname.as_deref()),
        spec.and_then(|s| s.subdomain.as_deref()),
    )
}

/// The pod's addresses.
pub(crate) fn ips(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all: Vec<String> = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    if all.is_empty() { status.pod_ip.iter().cloned().collect() } else { all }
}

/// Whether the pod belongs among the endpoints at all.
pub(crate) fn belongs(pod: &Pod, include_terminating: bool) -> bool {
    let restarts = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always");
    let ended = match restarts {
        "Never" => pods::is_terminal(pod),
        "OnFailure" => pods::phase(pod) == "Succeeded",
        _ => pods::is_terminal(pod),
    };
    !ended && !ips(pod).is_empty() && (include_terminating || !pod.is_deleting())
}

/// The hostname under which DNS knows the pod, when the Service is its subdomain.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|h| !h.is_empty())?;
    (spec.subdomain.as_deref() == Some(service.name())).then_some(hostname)
}

/// The number of a Service port on a pod; `None` when the pod has no port of that name.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.target_port.as_ref() {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars =
                spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
            ports
                .find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
                .map(|p| p.container_port)
        }
    }
}

/// Whether the Service has no address of its own.
pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

/// Whether pods count as ready before they are.
pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true)
}
