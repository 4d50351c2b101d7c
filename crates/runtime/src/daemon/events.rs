//! Events for the kubelet.

use node_api::{ContainerEvent, ContainerEventType, EventStream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::records::{ContainerEntry, Pod};
use super::{Inner, now_ns};

impl Inner {
    pub(super) fn emit(&self, pod: &Pod, id: &str, event_type: ContainerEventType) {
        // Nobody listening is fine: who subscribes later lists everything first.
        let _ = self.events.send(ContainerEvent {
            container_id: id.to_owned(),
            pod_sandbox_id: pod.id.clone(),
            pod_uid: pod.record.config.metadata.uid.clone(),
            event_type,
            created_at: now_ns(),
        });
    }

    pub(super) fn emit_container(&self, container: &ContainerEntry, event_type: ContainerEventType) {
        self.emit(&container.pod, &container.id, event_type);
    }

    pub(super) fn subscribe(&self) -> EventStream {
        Box::pin(futures::stream::unfold(self.events.subscribe(), next))
    }
}

async fn next(mut receiver: Receiver<ContainerEvent>) -> Option<(ContainerEvent, Receiver<ContainerEvent>)> {
    match receiver.recv().await {
        Ok(event) => Some((event, receiver)),
        Err(RecvError::Closed) => None,
        Err(RecvError::Lagged(_)) => {
            let event = ContainerEvent {
                container_id: String::new(),
                pod_sandbox_id: String::new(),
                pod_uid: String::new(),
                event_type: ContainerEventType::Lagged,
                created_at: now_ns(),
            };
            Some((event, receiver))
        }
    }
}
