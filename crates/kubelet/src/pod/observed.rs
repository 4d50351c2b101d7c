//! What the runtime has of a pod.

use std::sync::Arc;

use node_api::{ContainerState, ContainerStatus, PodSandboxState, PodSandboxStatus};

use crate::k8s::{Pod, PodExt};
use crate::pod::labels;

/// Sandboxes and containers of one pod, newest first.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Sandboxes.
    pub sandboxes: Vec<Arc<PodSandboxStatus>>,
    /// Containers of all sandboxes.
    pub containers: Vec<Arc<ContainerStatus>>,
}

/// What to do about the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxNeed {
    /// This one serves.
    Keep(String),
    /// A new one is needed, with this attempt number.
    New(u32),
}

impl Observed {
    /// Sorts by time of creation.
    #[must_use]
    pub fn new(mut sandboxes: Vec<Arc<PodSandboxStatus>>, mut containers: Vec<Arc<ContainerStatus>>) -> Self {
        sandboxes.sort_by_key(|s| (std::cmp::Reverse(s.created_at), std::cmp::Reverse(s.metadata.attempt)));
        containers.sort_by_key(|c| (std::cmp::Reverse(c.created_at), std::cmp::Reverse(restart_count(c))));
        Self { sandboxes, containers }
    }

    /// The newest container of a name.
    #[must_use]
    pub fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.iter().find(|c| c.metadata.name == name).map(|c| &**c)
    }

    /// Containers of a name, newest first.
    pub fn of_name<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ContainerStatus> + 'a {
        self.containers.iter().filter(move |c| c.metadata.name == name).map(|c| &**c)
    }

    /// Containers that run, or may run.
    pub fn running(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers
            .iter()
            .filter(|c| matches!(c.state, ContainerState::Running | ContainerState::Unknown))
            .map(|c| &**c)
    }

    /// The sandbox that serves the pod now.
    #[must_use]
    pub fn ready_sandbox(&self) -> Option<&PodSandboxStatus> {
        self.sandboxes.first().filter(|s| s.state == PodSandboxState::Ready).map(|s| &**s)
    }

    /// Upstream's rule for when a pod needs a new sandbox.
    #[must_use]
    pub fn sandbox_need(&self, pod: &Pod) -> SandboxNeed {
        let Some(latest) = self.sandboxes.first() else { return SandboxNeed::New(0) };
        let ready = self.sandboxes.iter().filter(|s| s.state == PodSandboxState::Ready).count();
        let host = latest.namespace_options.network == node_api::NamespaceMode::Node;
        let fits = ready == 1
            && latest.state == PodSandboxState::Ready
            && host == pod.host_network()
            && (host || !latest.network.is_empty());
        if fits { SandboxNeed::Keep(latest.id.clone()) } else { SandboxNeed::New(latest.metadata.attempt + 1) }
    }

    /// Whether any of the pod's main containers was ever made.
    #[must_use]
    pub fn any_main_created(&self, pod: &Pod) -> bool {
        pod.spec().containers.iter().any(|c| self.latest(&c.name).is_some())
    }
}

/// Restarts before this container, from its annotations.
#[must_use]
pub fn restart_count(status: &ContainerStatus) -> u32 {
    let text = status.annotations.get(labels::RESTART_COUNT).map(String::as_str);
    text.and_then(|t| t.parse().ok()).unwrap_or(status.metadata.attempt)
}
