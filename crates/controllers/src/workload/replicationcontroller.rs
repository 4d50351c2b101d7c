//! ReplicationController.

use api::k8s::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use api::k8s::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use meta::selector::LabelSelector;

use crate::frame::Context;
use crate::workload::replicas::{self, Replicas};

impl Replicas for ReplicationController {
    fn desired(&self) -> usize {
        let replicas = self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        usize::try_from(replicas).unwrap_or(0)
    }

    fn selector(&self) -> Option<LabelSelector> {
        let selector = self.spec.as_ref()?.selector.clone()?;
        Some(LabelSelector::from_pairs(selector)).filter(|s| !s.is_everything())
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }

    fn subsystem() -> Option<&'static str> {
        None
    }

    fn status(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let condition = |c: ReplicationControllerCondition| ReplicaSetCondition {
            last_transition_time: c.last_transition_time,
            message: c.message,
            reason: c.reason,
            status: c.status,
            type_: c.type_,
        };
        ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|c| c.into_iter().map(condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        }
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
            last_transition_time: c.last_transition_time,
            message: c.message,
            reason: c.reason,
            status: c.status,
            type_: c.type_,
        };
        let status = ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|c| c.into_iter().map(condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        };
        Self { status: Some(status), ..self.clone() }
    }

    fn counts_terminating() -> bool {
        false
    }
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    replicas::run::<ReplicationController>("replicationcontroller", context).await;
}
