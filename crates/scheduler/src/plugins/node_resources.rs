//! NodeResourcesFit and NodeResourcesBalancedAllocation.

mod scoring;

use api::k8s::core::v1::Node;
use component_helpers::requests::parse;

pub(crate) use self::scoring::{BalancedAllocation, Strategy};
use self::scoring::{Scored, Sums, pod_amounts};
use crate::config::args::FitArgs;
use crate::device_classes::{DeviceClasses, asks_for_class, given_name};
use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{Code, CycleState, CycleView, Plugin, Points, Status};
use crate::handle::Handle;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::resources::{Amounts, is_extended};

/// The node has room for the requests.
pub(crate) struct Fit {
    ignored: Vec<String>,
    ignored_groups: Vec<String>,
    resources: Vec<Scored>,
    strategy: Strategy,
    /// The classes of devices behind extended resources.
    behind: DeviceClasses,
}

/// What is short on the node, in upstream's words, and whether evicting all pods would not help.
fn shortages(
    want: &Amounts,
    room: &Amounts,
    used: &Amounts,
    pods: usize,
    ignores: impl Fn(&str) -> bool,
) -> (Vec<std::borrow::Cow<'static, str>>, bool) {
    let mut short = Vec::new();
    let mut hopeless = false;
    if i64::try_from(pods).unwrap_or(i64::MAX) + 1 > room.pods {
        short.push("Too many pods".into());
    }
    if want.is_zero() {
        return (short, hopeless);
    }
    let mut check = |reason: &dyn Fn() -> std::borrow::Cow<'static, str>, want: i64, room: i64, used: i64| {
        if want > 0 && want > room - used {
            short.push(reason());
            hopeless |= want > room;
        }
    };
    check(&|| "Insufficient cpu".into(), want.milli_cpu, room.milli_cpu, used.milli_cpu);
    check(&|| "Insufficient memory".into(), want.memory, room.memory, used.memory);
    let storage = (want.ephemeral_storage, room.ephemeral_storage, used.ephemeral_storage);
    check(&|| "Insufficient ephemeral-storage".into(), storage.0, storage.1, storage.2);
    for (name, amount) in want.scalars.iter().filter(|(name, _)| !ignores(name)) {
        check(&|| format!("Insufficient {name}").into(), *amount, room.scalar(name), used.scalar(name));
    }
    (short, hopeless)
}

fn allocatable(node: &Node) -> Amounts {
    Amounts::of(&parse(node.status.as_ref().and_then(|s| s.allocatable.as_ref())))
}

impl Fit {
    pub(crate) fn new(args: FitArgs, handle: &Handle) -> Self {
        let strategy = Strategy::of(&args.scoring_strategy);
        Self {
            ignored: args.ignored_resources,
            ignored_groups: args.ignored_resource_groups,
            resources: Scored::all(&args.scoring_strategy.resources),
            strategy,
            behind: DeviceClasses::new(&handle.factory, &handle.gates),
        }
    }

    /// Whether a resource is not to be looked at on a node with this room: by the configuration, or as devices stand for
    /// it, which DynamicResources looks at.
    fn ignores(&self, name: &str, room: &Amounts) -> bool {
        self.behind.stands_for(name, room) || self.is_ignored(name)
    }

    fn is_ignored(&self, name: &str) -> bool {
        is_extended(name)
            && (self.ignored.iter().any(|i| i == name)
                || self.ignored_groups.iter().any(|group| name.split('/').next() == Some(group)))
    }

    fn hint_for_node(&self, pod: &PodInfo, old: Option<&Node>, new: &Node) -> bool {
        let room = allocatable(new);
        let (short, _) = shortages(&pod.requests, &room, &Amounts::default(), 0, |name| self.ignores(name, &room));
        short.is_empty()
            && old.is_none_or(|old| {
                let before = allocatable(old);
                let by_devices =
                    |(name, amount): &(std::sync::Arc<str>, i64)| *amount != 0 && self.behind.stands_for(name, &room);
                room.pods > before.pods
                    || room.more_than(&before, &pod.requests)
                    || pod.requests.scalars.iter().any(by_devices)
            })
    }
}

impl Plugin for Fit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> Points {
        Points::FILTER.and(Points::PRE_SCORE).and(Points::SCORE)
    }

    fn wakes_on(&self) -> u64 {
        kind::POD_DELETE | kind::POD_SCALE_DOWN | kind::NODE_ADD | kind::NODE_ALLOCATABLE | kind::DEVICE_CLASS
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match &event.subject {
            Subject::Node { old, new: Some(new) } => self.hint_for_node(pod, old.as_deref(), new),
            Subject::DeviceClass { old: None, new } => asks_for_class(&pod.requests, new, true),
            Subject::DeviceClass { old: Some(old), new } => {
                given_name(old) != given_name(new) && asks_for_class(&pod.requests, new, false)
            }
            Subject::Pod { old: Some(old), new: Some(new) } => {
                new.uid == pod.uid
                    || (!new.node_name().is_empty() && old.requests.more_than(&new.requests, &pod.requests))
            }
            _ => true,
        }
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: CycleView<'_>) -> Option<Status> {
        let ignores = |name: &str| self.ignores(name, &node.allocatable);
        let (reasons, hopeless) =
            shortages(&pod.requests, &node.allocatable, &node.requested, node.pods.len(), ignores);
        if reasons.is_empty() {
            return None;
        }
        let code = if hopeless { Code::UnschedulableAndUnresolvable } else { Code::Unschedulable };
        Some(Status { code, reasons })
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, _: &[usize], view: CycleView<'_>) -> bool {
        state.put_score(view.plugin, pod_amounts(pod, &self.resources, false));
        true
    }

    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> i64 {
        let Some(wanted) = state.get_score::<Vec<i64>>(view.plugin) else { return 0 };
        self.strategy.score(&Sums { scored: &self.resources, wanted, node, requested: false })
    }
}

#[cfg(test)]
mod tests;
