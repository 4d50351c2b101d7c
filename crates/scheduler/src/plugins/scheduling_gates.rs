//! SchedulingGates: a pod with gates does not enter the queue.

use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{Plugin, Points, Status};
use crate::pod_info::PodInfo;

pub(crate) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> Points {
        Points::PRE_ENQUEUE
    }

    fn wakes_on(&self) -> u64 {
        kind::POD_GATES
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        matches!(&event.subject, Subject::Pod { new: Some(new), .. } if new.uid == pod.uid)
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Option<Status> {
        let gates = pod.pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_deref()).unwrap_or_default();
        if gates.is_empty() {
            return None;
        }
        let names: Vec<&str> = gates.iter().map(|g| g.name.as_str()).collect();
        Some(Status::unresolvable(format!("waiting for scheduling gates: [{}]", names.join(" "))))
    }
}
