//! What a pod asks for, upstream's `PodRequests` and `PodLimits`.

use std::collections::BTreeMap;

use api::k8s::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use meta::quantity::Quantity;

/// Quantities by resource name.
pub type Resources = BTreeMap<String, Quantity>;

type Wire = BTreeMap<String, api::prelude::Quantity>;

/// Parses a resource list; entries that are no quantities (the API server lets none in) are left out.
pub fn parse(list: Option<&Wire>) -> Resources {
    let entries = list.into_iter().flatten();
    entries.filter_map(|(name, quantity)| Some((name.clone(), quantity.0.parse().ok()?))).collect()
}

fn add(total: &mut Resources, other: &Resources) {
    for (name, quantity) in other {
        let sum = total.entry(name.clone()).or_default();
        *sum = sum.plus(*quantity);
    }
}

fn raise(total: &mut Resources, other: &Resources) {
    for (name, quantity) in other {
        let most = total.entry(name.clone()).or_insert(*quantity);
        if *most < *quantity {
            *most = *quantity;
        }
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Sums containers; init containers run one by one, beside the sidecars that started before them.
fn aggregate(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut total = Resources::new();
    for container in &spec.containers {
        add(&mut total, &of(container));
    }
    let (mut sidecars, mut init_peak) = (Resources::new(), Resources::new());
    for container in spec.init_containers.iter().flatten() {
        let mut own = of(container);
        if is_sidecar(container) {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut init_peak, &own);
    }
    raise(&mut total, &init_peak);
    total
}

fn supported_at_pod_level(name: &str) -> bool {
    name == "cpu" || name == "memory" || name.starts_with("hugepages-")
}

fn total(spec: &PodSpec, of: impl Fn(Option<&ResourceRequirements>) -> Resources) -> Resources {
    let mut total = aggregate(spec, |container| of(container.resources.as_ref()));
    for (name, quantity) in of(spec.resources.as_ref()) {
        if supported_at_pod_level(&name) {
            total.insert(name, quantity);
        }
    }
    total
}

/// What the pod requests, overhead included.
pub fn pod_requests(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::new() };
    let mut requests = total(spec, |r| parse(r.and_then(|r| r.requests.as_ref())));
    add(&mut requests, &parse(spec.overhead.as_ref()));
    requests
}

/// How [`pod_requests_with`] counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting<'a> {
    /// Count what containers hold by their status, too: a resize under way holds the larger of old and new.
    pub status: bool,
    /// What a container without a request of a resource is counted with.
    pub missing: Option<&'a Resources>,
}

/// What a container holds while its resize is under way, by its status.
fn held(pod: &Pod, container: &Container, infeasible: bool) -> Resources {
    let spec = parse(container.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let status = pod.status.as_ref();
    let statuses = status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()));
    let Some(of) = statuses.into_iter().find(|s| s.name == container.name && s.resources.is_some()) else {
        return spec;
    };
    // What the node can never give is not waited for.
    let mut most = if infeasible { Resources::new() } else { spec };
    raise(&mut most, &parse(of.resources.as_ref().and_then(|r| r.requests.as_ref())));
    raise(&mut most, &parse(of.allocated_resources.as_ref()));
    most
}

/// What the pod requests, overhead included, counted as told (upstream's `PodRequests` with options).
pub fn pod_requests_with(pod: &Pod, counting: Counting<'_>) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::new() };
    let infeasible = crate::pods::condition(pod, "PodResizePending")
        .is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some("Infeasible"));
    let mut requests = aggregate(spec, |container| {
        let mut own = if counting.status {
            held(pod, container, infeasible)
        } else {
            parse(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
        };
        for (name, amount) in counting.missing.into_iter().flatten() {
            own.entry(name.clone()).or_insert(*amount);
        }
        own
    });
    for (name, mut quantity) in parse(spec.resources.as_ref().and_then(|r| r.requests.as_ref())) {
        if !supported_at_pod_level(&name) {
            continue;
        }
        if counting.status && !infeasible {
            let allocated = pod.status.as_ref().map(|s| parse(s.allocated_resources.as_ref())).unwrap_or_default();
            quantity = allocated.get(&name).copied().filter(|held| *held > quantity).unwrap_or(quantity);
        }
        requests.insert(name, quantity);
    }
    add(&mut requests, &parse(spec.overhead.as_ref()));
    requests
}

/// What the pod is limited to; overhead is added where there is a limit.
pub fn pod_limits(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::new() };
    let mut limits = total(spec, |r| parse(r.and_then(|r| r.limits.as_ref())));
    for (name, quantity) in parse(spec.overhead.as_ref()) {
        if let Some(limit) = limits.get_mut(&name) {
            *limit = limit.plus(quantity);
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_containers_and_sidecars() {
        let spec = PodSpec {
            containers: vec![container("1", None), container("500m", None)],
            init_containers: Some(vec![container("100m", Some("Always")), container("2", None)]),
            ..PodSpec::default()
        };
        let pod = Pod { spec: Some(spec), ..Pod::default() };
        assert_eq!(pod_requests(&pod)["cpu"].milli_value(), 2100, "the init container beside the sidecar");
    }

    fn container(cpu: &str, restart: Option<&str>) -> Container {
        let requests = BTreeMap::from([("cpu".to_owned(), api::prelude::Quantity(cpu.to_owned()))]);
        Container {
            resources: Some(ResourceRequirements { requests: Some(requests), ..ResourceRequirements::default() }),
            restart_policy: restart.map(str::to_owned),
            ..Container::default()
        }
    }
}
