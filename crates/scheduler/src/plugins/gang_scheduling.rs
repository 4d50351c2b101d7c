//! GangScheduling: pods of a group with a gang's policy are scheduled together or not at all.
//!
//! A pod stays out of the queue until its group is there with as many pods as it needs; and is not bound before as many of
//! them have a node.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::scheduling::v1alpha2::PodGroup;
use informer::Informer;

use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, Permit, Plugin, Points, Status};
use crate::groups::Groups;
use crate::handle::Handle;
use crate::pod_info::PodInfo;
use crate::waiting::Waiting;

/// How long a pod with a node waits for the others, upstream's number.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// What a pod is told whose gang is not complete.
pub(crate) const INCOMPLETE: &str = "waiting for minCount pods from a gang to be scheduled";

/// See the module.
pub(crate) struct GangScheduling {
    groups: Arc<Groups>,
    waiting: Arc<Waiting>,
    known: Informer<PodGroup>,
}

/// Whether a group is a gang that needs more pods than these.
fn is_incomplete(group: &PodGroup, pods: usize) -> bool {
    let gang = group.spec.scheduling_policy.gang.as_ref();
    gang.is_some_and(|gang| usize::try_from(gang.min_count).is_ok_and(|least| pods < least))
}

/// Why pods of a group are kept out of the queue.
fn kept_out_by(key: &str, group: Option<&PodGroup>, pods: usize) -> Option<Status> {
    let Some(group) = group else {
        let name = key.split('/').next_back().unwrap_or_default();
        let text = format!("waiting for pods's pod group \"{name}\" to appear in scheduling queue");
        return Some(Status::unresolvable(text));
    };
    let text = "waiting for minCount pods from a gang to appear in scheduling queue";
    is_incomplete(group, pods).then(|| Status::unresolvable(text))
}

impl GangScheduling {
    /// # Errors
    /// There are no groups without the gate.
    pub(crate) fn new(handle: &Handle) -> Result<Self, String> {
        if !handle.groups.is_on() {
            return Err("plugin \"GangScheduling\" needs the feature gate GenericWorkload".to_owned());
        }
        let known = handle.factory.informer();
        Ok(Self { groups: handle.groups.clone(), waiting: handle.waiting.clone(), known })
    }
}

impl Plugin for GangScheduling {
    fn name(&self) -> &'static str {
        "GangScheduling"
    }

    fn points(&self) -> Points {
        Points::PRE_ENQUEUE.and(Points::PERMIT)
    }

    fn wakes_on(&self) -> u64 {
        kind::POD_ADD | kind::POD_NEW | kind::POD_GROUP_ADD
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        let Some(key) = self.groups.of(&pod.pod) else { return false };
        match &event.subject {
            Subject::PodGroup(group) => group.key() == key,
            Subject::Pod { new: Some(new), .. } => self.groups.of(&new.pod).is_some_and(|other| other == key),
            _ => false,
        }
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Option<Status> {
        let key = self.groups.of(&pod.pod)?;
        let (there, _) = self.groups.count(&key);
        kept_out_by(&key, self.known.cache().get_key(&key).as_deref(), there)
    }

    fn permit(&self, _: &CycleState, pod: &PodInfo, _: &str) -> Permit {
        let Some(key) = self.groups.of(&pod.pod) else { return Permit::Allow };
        let Some(group) = self.known.cache().get_key(&key) else {
            // Tried again when the group is there again.
            return Permit::Reject(Status::error(format!("failed to get podGroup {key}: not found")));
        };
        let (_, placed) = self.groups.count(&key);
        if is_incomplete(&group, placed) {
            tracing::debug!(pod = pod.key, group = key, placed, "waits for other pods of its gang");
            return Permit::Wait(LONGEST);
        }
        // With enough of them, nobody waits any more.
        for uid in self.groups.being_bound(&key) {
            self.waiting.end(&uid, Ok(()));
        }
        Permit::Allow
    }
}

#[cfg(test)]
mod tests;
