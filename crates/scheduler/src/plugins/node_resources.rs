//! NodeResourcesFit and NodeResourcesBalancedAllocation.

use crate::events::{ClusterEvent, kind};
use crate::framework::{Code, CycleState, CycleView, MAX_NODE_SCORE, Plugin, Points, Status};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// The node has room for the requests; scores by least allocated.
pub(crate) struct Fit;

/// Prefers nodes on which CPU and memory are used alike.
pub(crate) struct BalancedAllocation;

/// What is short on the node, in upstream's words, and whether evicting all pods would not help.
fn shortages(pod: &PodInfo, node: &NodeInfo) -> (Vec<String>, bool) {
    let (want, room, used) = (&pod.requests, &node.allocatable, &node.requested);
    let mut short = Vec::new();
    let mut hopeless = false;
    let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    if pods + 1 > room.pods {
        short.push("Too many pods".to_owned());
        hopeless |= room.pods < 1;
    }
    if want.is_zero() {
        return (short, hopeless);
    }
    let mut check = |name: &str, want: i64, room: i64, used: i64| {
        if want > 0 && want > room - used {
            short.push(format!("Insufficient {name}"));
            hopeless |= want > room;
        }
    };
    check("cpu", want.milli_cpu, room.milli_cpu, used.milli_cpu);
    check("memory", want.memory, room.memory, used.memory);
    check("ephemeral-storage", want.ephemeral_storage, room.ephemeral_storage, used.ephemeral_storage);
    for (name, amount) in &want.scalars {
        check(name, *amount, room.scalar(name), used.scalar(name));
    }
    (short, hopeless)
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> Points {
        Points::FILTER.and(Points::SCORE)
    }

    fn wakes_on(&self) -> u32 {
        kind::POD_DELETE | kind::POD_UPDATE | kind::NODE_ADD | kind::NODE_ALLOCATABLE
    }

    fn hint(&self, pod: &PodInfo, _: &ClusterEvent, node: Option<&NodeInfo>) -> bool {
        node.is_none_or(|node| shortages(pod, node).0.is_empty())
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &CycleView<'_>) -> Option<Status> {
        let (reasons, hopeless) = shortages(pod, node);
        if reasons.is_empty() {
            return None;
        }
        let code = if hopeless { Code::UnschedulableAndUnresolvable } else { Code::Unschedulable };
        Some(Status { code, reasons })
    }

    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &CycleView<'_>) -> i64 {
        let (cpu, memory) = pod.requests.non_zero();
        let free = |room: i64, used: i64| {
            if room == 0 || used > room { 0 } else { (room - used) * MAX_NODE_SCORE / room }
        };
        let room = &node.allocatable;
        (free(room.milli_cpu, node.non_zero.0 + cpu) + free(room.memory, node.non_zero.1 + memory)) / 2
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(&self) -> Points {
        Points::PRE_SCORE.and(Points::SCORE)
    }

    fn pre_score(&self, _: &mut CycleState, pod: &PodInfo, _: &CycleView<'_>) -> bool {
        // A best-effort pod changes no balance.
        !pod.requests.is_zero()
    }

    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &CycleView<'_>) -> i64 {
        let fraction = |used: i64, room: i64| if room == 0 { 1.0 } else { (used as f64 / room as f64).min(1.0) };
        let cpu = fraction(node.requested.milli_cpu + pod.requests.milli_cpu, node.allocatable.milli_cpu);
        let memory = fraction(node.requested.memory + pod.requests.memory, node.allocatable.memory);
        // The standard deviation of two values is half their distance.
        ((1.0 - (cpu - memory).abs() / 2.0) * MAX_NODE_SCORE as f64) as i64
    }
}
