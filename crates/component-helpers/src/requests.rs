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
fn aggregate(spec: &PodSpec, of: impl Fn(Option<&ResourceRequirements>) -> Resources) -> Resources {
    let mut total = Resources::new();
    for container in &spec.containers {
        add(&mut total, &of(container.resources.as_ref()));
    }
    let (mut sidecars, mut init_peak) = (Resources::new(), Resources::new());
    for container in spec.init_containers.iter().flatten() {
        let mut own = of(container.resources.as_ref());
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
    let mut total = aggregate(spec, &of);
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
