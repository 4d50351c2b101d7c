//! DefaultBinder: posts the Binding.

use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::Pod;
use async_trait::async_trait;
use client::{Client, Error, Resource};
use rt::Backoff;
use serde_json::json;

use crate::framework::{Plugin, Points, Status};
use crate::pod_info::PodInfo;

/// How often a pod is looked at whose binding had no clear answer.
const LOOKS: u32 = 10;

pub(crate) struct DefaultBinder;

#[async_trait]
impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn points(&self) -> Points {
        Points::BIND
    }

    async fn bind(&self, client: &Client, pod: &PodInfo, node: &str) -> Option<Status> {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": pod.pod.namespace(), "name": pod.pod.name(), "uid": pod.uid},
            "target": {"kind": "Node", "name": node},
        });
        let of = Resource { gvr: &Pod::gvr(), namespace: Some(pod.pod.namespace()) };
        let error = client.post_subresource(&of, pod.pod.name(), "binding", &binding).await.err()?;
        if may_be_done(&error) && is_bound(client, pod, node).await {
            return None;
        }
        Some(Status::error(error.chain()))
    }
}

/// Whether the write may have been done although its answer is an error.
fn may_be_done(error: &Error) -> bool {
    error.status().is_none_or(|status| status.code >= 500)
}

/// Looks whether the pod is on the node. Were its room given to others while it is, they would all be too many there.
async fn is_bound(client: &Client, pod: &PodInfo, node: &str) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    for _ in 0..LOOKS {
        match client.get::<Pod>(pod.pod.namespace(), pod.pod.name()).await {
            Ok(found) => {
                let there = found.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                return found.uid() == pod.uid && there == Some(node);
            }
            Err(error) if may_be_done(&error) => rt::time::sleep(backoff.next_delay()).await,
            Err(_) => return false,
        }
    }
    false
}
