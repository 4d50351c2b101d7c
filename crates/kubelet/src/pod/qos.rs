//! Quality-of-service classes.

use std::collections::BTreeSet;

use volumes::quantity::{ResourceList, parse};

use crate::k8s::{Pod, PodExt};

/// `Guaranteed`, `Burstable` or `BestEffort`; the API server's word holds where it has spoken.
#[must_use]
pub fn class(pod: &Pod) -> &'static str {
    let told = pod.status.as_ref().and_then(|s| s.qos_class.as_deref());
    match told {
        Some("Guaranteed") => "Guaranteed",
        Some("Burstable") => "Burstable",
        Some("BestEffort") => "BestEffort",
        _ => compute(pod),
    }
}

fn compute(pod: &Pod) -> &'static str {
    let of_pod = pod.spec().resources.as_ref();
    let pod_level =
        of_pod.is_some_and(|r| !counted(r.limits.as_ref()).is_empty() || !counted(r.requests.as_ref()).is_empty());
    let all: Vec<_> = if pod_level {
        of_pod.into_iter().map(Some).collect()
    } else {
        pod.all_containers().map(|c| c.resources.as_ref()).collect()
    };
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        let limits = resources.and_then(|r| r.limits.as_ref());
        let requests = resources.and_then(|r| r.requests.as_ref());
        let (limited, requested) = (counted(limits), counted(requests));
        any |= !limited.is_empty() || !requested.is_empty();
        let both = ["cpu", "memory"].iter().all(|name| limited.contains(name));
        let equal = requested.iter().all(|name| {
            let value = |list: Option<&ResourceList>| list.and_then(|l| l.get(*name)).map(|q| parse(q).nanos());
            value(requests) == value(limits)
        });
        guaranteed &= both && equal;
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// CPU and memory where given and not zero.
fn counted(list: Option<&ResourceList>) -> BTreeSet<&'static str> {
    let given = |name: &&'static str| list.and_then(|l| l.get(*name)).is_some_and(|q| !parse(q).is_zero());
    ["cpu", "memory"].into_iter().filter(given).collect()
}
