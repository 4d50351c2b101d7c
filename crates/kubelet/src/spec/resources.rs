//! Requests and limits as cgroup settings.

use node_api::LinuxResources;
use volumes::quantity::{ResourceList, milli, value};

use crate::k8s::core::ResourceRequirements;
use crate::k8s::{Container, Pod, PodExt, is_sidecar};
use crate::pod::qos;

const PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;

/// CPU shares of a request in thousandths.
#[must_use]
pub fn shares(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { MIN_SHARES } else { (milli_cpu * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// CFS quota of a limit in thousandths; 0 for none.
#[must_use]
pub fn quota(milli_cpu: i64) -> i64 {
    if milli_cpu <= 0 { 0 } else { (milli_cpu * PERIOD / 1000).max(MIN_QUOTA) }
}

fn list(resources: Option<&ResourceRequirements>, limits: bool) -> Option<&ResourceList> {
    let resources = resources?;
    if limits { resources.limits.as_ref() } else { resources.requests.as_ref() }
}

/// The settings of one container.
#[must_use]
pub fn container(pod: &Pod, container: &Container, memory_capacity: i64) -> LinuxResources {
    let resources = container.resources.as_ref();
    let pod_level = pod.spec().resources.as_ref();
    let limit = |name: &str| value(list(resources, true), name);
    let cpu_limit = milli(list(resources, true), "cpu").or_else(|| milli(list(pod_level, true), "cpu")).unwrap_or(0);
    let cpu_request = milli(list(resources, false), "cpu").or_else(|| milli(list(resources, true), "cpu")).unwrap_or(0);
    let memory = limit("memory").or_else(|| value(list(pod_level, true), "memory")).unwrap_or(0);
    let mut out = LinuxResources {
        cpu_shares: shares(cpu_request),
        memory_limit_bytes: memory,
        // No swap beside the memory limit, as upstream's default NoSwap.
        memory_swap_limit_bytes: memory,
        oom_score_adj: oom_score(pod, container, memory_capacity),
        ..LinuxResources::default()
    };
    if cpu_limit > 0 {
        (out.cpu_period, out.cpu_quota) = (PERIOD, quota(cpu_limit));
    }
    for (name, quantity) in list(resources, true).into_iter().flatten() {
        if let Some(size) = name.strip_prefix("hugepages-") {
            let bytes = volumes::quantity::parse(quantity).value();
            // Kernel names end in MB and GB where the API's end in Mi and Gi.
            let size = size.replace("Mi", "MB").replace("Gi", "GB").replace("Ki", "KB");
            out.hugepage_limits.push((size, u64::try_from(bytes).unwrap_or(0)));
        }
    }
    out
}

/// How soon the kernel kills a container: Guaranteed last, BestEffort first.
#[must_use]
pub fn oom_score(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    let critical = pod.spec().priority.unwrap_or(0) >= 2_000_000_000;
    match (critical, qos::class(pod)) {
        (true, _) | (_, "Guaranteed") => return -997,
        (_, "BestEffort") => return 1000,
        _ => {}
    }
    let request = |c: &Container| value(list(c.resources.as_ref(), false), "memory").unwrap_or(0);
    let mut wanted = request(container);
    if is_sidecar(container) {
        // A sidecar outlives the main containers' rivals: it counts at least as the smallest of them.
        wanted = wanted.max(pod.spec().containers.iter().map(request).min().unwrap_or(0));
    }
    let score = 1000 - 1000 * wanted / memory_capacity.max(1);
    if score < 1000 - 997 {
        1000 - 997
    } else if score == 1000 {
        999
    } else {
        score
    }
}

/// What a pod asks for in total: the larger of its mains with sidecars, and of any init step; overhead included.
#[must_use]
pub fn pod_total(pod: &Pod, name: &str, limits: bool) -> Option<i64> {
    let read = |resources: Option<&ResourceRequirements>| {
        let found = list(resources, limits);
        if name == "cpu" { milli(found, name) } else { value(found, name) }
    };
    let spec = pod.spec();
    let overhead =
        if name == "cpu" { milli(spec.overhead.as_ref(), name) } else { value(spec.overhead.as_ref(), name) };
    let total = match read(spec.resources.as_ref()) {
        Some(own) => Some(own),
        None => {
            let of = |c: &Container| read(c.resources.as_ref());
            let all_limited = pod.all_containers().all(|c| of(c).is_some());
            if limits && !all_limited {
                return None;
            }
            let (mut sidecars, mut step) = (0, 0);
            for c in pod.init_containers() {
                let own = of(c).unwrap_or(0);
                if is_sidecar(c) {
                    sidecars += own;
                    step = step.max(sidecars);
                } else {
                    step = step.max(sidecars + own);
                }
            }
            let mains: i64 = spec.containers.iter().map(|c| of(c).unwrap_or(0)).sum();
            Some((mains + sidecars).max(step))
        }
    };
    total.map(|t| t + if limits && t == 0 { 0 } else { overhead.unwrap_or(0) })
}

/// The settings of the pod's own cgroup.
#[must_use]
pub fn pod(pod: &Pod) -> LinuxResources {
    let mut out =
        LinuxResources { cpu_shares: shares(pod_total(pod, "cpu", false).unwrap_or(0)), ..LinuxResources::default() };
    if let Some(limit) = pod_total(pod, "cpu", true).filter(|l| *l > 0) {
        (out.cpu_period, out.cpu_quota) = (PERIOD, quota(limit));
    }
    out.memory_limit_bytes = pod_total(pod, "memory", true).unwrap_or(0).max(0);
    out
}

/// The pod's cgroup, below the hierarchy's root.
#[must_use]
pub fn cgroup_parent(root: &str, pod: &Pod, uid: &str) -> String {
    let root = root.trim_end_matches('/');
    match qos::class(pod) {
        "Guaranteed" => format!("{root}/kubepods/pod{uid}"),
        "Burstable" => format!("{root}/kubepods/burstable/pod{uid}"),
        _ => format!("{root}/kubepods/besteffort/pod{uid}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_and_sums() {
        let with = |resources: serde_json::Value| -> Pod {
            serde_json::from_value(
                json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": resources}]}}),
            )
            .unwrap()
        };
        for (resources, class, shares, quota, memory, oom) in [
            (json!({}), "BestEffort", 2, 0, 0, 1000),
            (json!({"requests": {"cpu": "100m", "memory": "1Gi"}}), "Burstable", 102, 0, 0, 900),
            (
                json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
                "Guaranteed",
                1024,
                100_000,
                1 << 30,
                -997,
            ),
        ] {
            let it = with(resources);
            let c = container(&it, &it.spec().containers[0], 10 << 30);
            assert_eq!(qos::class(&it), class);
            assert_eq!(
                (c.cpu_shares, c.cpu_quota, c.memory_limit_bytes, c.oom_score_adj),
                (shares, quota, memory, oom),
                "{class}"
            );
            let p = pod(&it);
            assert_eq!((p.cpu_shares, p.cpu_quota, p.memory_limit_bytes), (shares, quota, memory), "{class}");
        }
    }
}
