//! The typed kinds the kubelet works on.

pub use api::Kind;
pub use api::k8s::core::v1 as core;
pub use api::k8s::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Node, Pod, PodCondition, PodSpec, PodStatus, Probe,
};
pub use api::metav1::{ObjectMeta, Time};
pub use api::prelude::{IntOrString, Quantity};

use std::sync::LazyLock;

static EMPTY_SPEC: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);

/// Accessors that treat what the API server always fills as given, and absence as empty.
pub trait PodExt {
    /// The spec; an empty one where absent.
    fn spec(&self) -> &PodSpec;
    /// Init containers.
    fn init_containers(&self) -> &[Container];
    /// Containers of every kind but ephemeral ones.
    fn all_containers(&self) -> Box<dyn Iterator<Item = &Container> + '_>;
    /// On the node's network.
    fn host_network(&self) -> bool;
    /// `namespace/name` and uid, as upstream prints pods.
    fn display(&self) -> String;
    /// `metadata.generation`.
    fn generation(&self) -> i64;
    /// From a file or URL, not from the API.
    fn is_static(&self) -> bool;
    /// The API object that stands for a static pod.
    fn is_mirror(&self) -> bool;
    /// Ended for good.
    fn is_terminal(&self) -> bool;
}

/// Where a pod came from (`file`, `http`); absent or `api` for the API's.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// On mirror pods: the hash of the static pod.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// On static pods: their hash.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";

impl PodExt for Pod {
    fn spec(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or(&EMPTY_SPEC)
    }

    fn init_containers(&self) -> &[Container] {
        self.spec().init_containers.as_deref().unwrap_or_default()
    }

    fn all_containers(&self) -> Box<dyn Iterator<Item = &Container> + '_> {
        Box::new(self.init_containers().iter().chain(&self.spec().containers))
    }

    fn host_network(&self) -> bool {
        self.spec().host_network.unwrap_or(false)
    }

    fn display(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or(0)
    }

    fn is_static(&self) -> bool {
        self.annotation(CONFIG_SOURCE).is_some_and(|source| source != "api")
    }

    fn is_mirror(&self) -> bool {
        self.annotation(CONFIG_MIRROR).is_some()
    }

    fn is_terminal(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }
}

/// A sidecar: an init container that keeps running.
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// An ephemeral container seen as a container; the fields it lacks are absent.
#[must_use]
pub fn ephemeral_as_container(e: &core::EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        name: e.name.clone(),
        resources: e.resources.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: e.volume_devices.clone(),
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Container::default()
    }
}

/// Nanoseconds since 1970 as an API time; `None` for 0.
#[must_use]
pub fn time(nanos: i64) -> Option<Time> {
    if nanos == 0 { None } else { rt::time::Timestamp::from_nanosecond(i128::from(nanos)).ok().map(seconds) }
}

/// An API time: whole seconds.
#[must_use]
pub fn seconds(at: rt::time::Timestamp) -> Time {
    Time(rt::time::Timestamp::from_second(at.as_second()).unwrap_or(at))
}
