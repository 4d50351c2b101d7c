//! Labels and annotations on sandboxes and containers: upstream's names, so that a restarted kubelet, and tools that
//! read them through CRI, find pods again.

use node_api::StringMap;

use crate::k8s::{Container, Kind, Pod, PodExt};

/// The pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The pod's uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// The container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Hash of what makes a container another one.
pub const HASH: &str = "io.kubernetes.container.hash";
/// Restarts before this container.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Where the termination message is read.
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// How it is read.
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The preStop hook, as JSON: needed after the spec is gone.
pub const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
/// The pod's grace period.
pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// The pod's deletion grace period.
pub const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
/// The container's ports, as JSON.
pub const PORTS: &str = "io.kubernetes.container.ports";

/// Labels of a sandbox: the pod's own, and its identity.
#[must_use]
pub fn sandbox(pod: &Pod) -> StringMap {
    let mut labels = pod.labels().clone();
    identity(pod, &mut labels);
    labels
}

fn identity(pod: &Pod, labels: &mut StringMap) {
    labels.insert(POD_NAME.to_owned(), pod.name().to_owned());
    labels.insert(POD_NAMESPACE.to_owned(), pod.namespace().to_owned());
    labels.insert(POD_UID.to_owned(), pod.uid().to_owned());
}

/// The label that finds everything of a pod.
#[must_use]
pub fn selector(uid: &str) -> StringMap {
    [(POD_UID.to_owned(), uid.to_owned())].into()
}

/// Labels of a container.
#[must_use]
pub fn container(pod: &Pod, container: &Container) -> StringMap {
    let mut labels = StringMap::new();
    identity(pod, &mut labels);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

/// Annotations of a container.
#[must_use]
pub fn annotations(pod: &Pod, container: &Container, restart_count: u32) -> StringMap {
    let mut map = StringMap::new();
    let mut put = |key: &str, value: String| map.insert(key.to_owned(), value);
    put(HASH, hash(container));
    put(RESTART_COUNT, restart_count.to_string());
    put(MESSAGE_PATH, container.termination_message_path.clone().unwrap_or_default());
    put(MESSAGE_POLICY, container.termination_message_policy.clone().unwrap_or_default());
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        put(DELETION_GRACE, grace.to_string());
    }
    if let Some(grace) = pod.spec().termination_grace_period_seconds {
        put(GRACE, grace.to_string());
    }
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref())
        && let Ok(text) = serde_json::to_string(hook)
    {
        put(PRE_STOP, text);
    }
    if let Some(ports) = container.ports.as_ref().filter(|p| !p.is_empty())
        && let Ok(text) = serde_json::to_string(ports)
    {
        put(PORTS, text);
    }
    map
}

/// What makes a running container outdated: its image, as upstream.
#[must_use]
pub fn hash(container: &Container) -> String {
    let text = format!("{}\0{}", container.name, container.image.as_deref().unwrap_or_default());
    format!("{:x}", rt::hash::fnv32a(text.as_bytes()))
}
