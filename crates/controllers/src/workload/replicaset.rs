//! ReplicaSet.

use api::k8s::apps::v1::{ReplicaSet, ReplicaSetStatus};
use api::k8s::core::v1::PodTemplateSpec;
use meta::selector::LabelSelector;

use crate::frame::Context;
use crate::owner;
use crate::workload::replicas::{self, Replicas};

impl Replicas for ReplicaSet {
    fn desired(&self) -> usize {
        let replicas = self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        usize::try_from(replicas).unwrap_or(0)
    }

    fn selector(&self) -> Option<LabelSelector> {
        self.spec.as_ref().map(|s| owner::selector_of(&s.selector))
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }

    fn subsystem() -> Option<&'static str> {
        Some("replicaset_controller")
    }

    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    replicas::run::<ReplicaSet>("replicaset", context).await;
}
