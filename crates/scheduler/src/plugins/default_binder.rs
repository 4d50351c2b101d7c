//! DefaultBinder: posts the Binding.

use api::Kind;
use api::k8s::core::v1::Pod;
use async_trait::async_trait;
use client::{Client, Resource};
use serde_json::json;

use crate::framework::{Plugin, Points, Status};
use crate::pod_info::PodInfo;

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
        let posted = client.post_subresource(&of, pod.pod.name(), "binding", &binding).await;
        posted.err().map(|error| Status::error(error.chain()))
    }
}
