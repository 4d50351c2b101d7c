//! Events about pods and the node, with upstream's reasons and texts.

use api::k8s::core::v1::ObjectReference;
use informer::{EventType, Recorder};

use crate::k8s::{Pod, PodExt};

/// Records events; without an API server they only reach the log.
#[derive(Clone, Default)]
pub struct Events(Option<Recorder>);

impl Events {
    /// Through a recorder.
    #[must_use]
    pub fn new(recorder: Option<Recorder>) -> Self {
        Self(recorder)
    }

    /// About a pod.
    pub fn pod(&self, pod: &Pod, kind: EventType, reason: &str, message: impl Into<String>) {
        self.send(reference(pod), kind, reason, message.into());
    }

    /// About one container of a pod.
    pub fn container(&self, pod: &Pod, container: &str, kind: EventType, reason: &str, message: impl Into<String>) {
        let mut object = reference(pod);
        object.field_path = field_path(pod, container);
        self.send(object, kind, reason, message.into());
    }

    /// About the node.
    pub fn node(&self, name: &str, kind: EventType, reason: &str, message: impl Into<String>) {
        let object = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            // Upstream's kubelet uses the name, so that `kubectl describe node` finds them.
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.send(object, kind, reason, message.into());
    }

    fn send(&self, object: ObjectReference, kind: EventType, reason: &str, message: String) {
        tracing::debug!(object = object.name, reason, message, "event");
        if let Some(recorder) = &self.0 {
            recorder.event_for(object, kind, reason, message);
        }
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    let mut object = informer::reference(pod);
    if pod.is_static() {
        // The mirror pod's uid is this hash's pod; upstream refers to the static pod's own.
        object.resource_version = None;
    }
    object
}

fn field_path(pod: &Pod, container: &str) -> Option<String> {
    let spec = pod.spec();
    let list = if spec.containers.iter().any(|c| c.name == container) {
        "containers"
    } else if pod.init_containers().iter().any(|c| c.name == container) {
        "initContainers"
    } else if spec.ephemeral_containers.iter().flatten().any(|c| c.name == container) {
        "ephemeralContainers"
    } else {
        return None;
    };
    Some(format!("spec.{list}{{{container}}}"))
}
