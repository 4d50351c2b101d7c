//! DynamicResources: claims of devices. Allocation is not here yet; a pod with claims is held with a word that says so.

use crate::events::kind;
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status};
use crate::pod_info::PodInfo;

pub(crate) struct DynamicResources;

fn has_claims(pod: &PodInfo) -> bool {
    pod.pod.spec.as_ref().and_then(|s| s.resource_claims.as_ref()).is_some_and(|c| !c.is_empty())
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER
    }

    fn wakes_on(&self) -> u64 {
        kind::POD_CLAIMS | kind::DEVICE
    }

    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: CycleView<'_>) -> PreFilter {
        if !has_claims(pod) {
            return PreFilter::Skip;
        }
        PreFilter::Reject(Status::unresolvable(
            "the pod has resource claims, and this scheduler does not allocate devices",
        ))
    }
}
