//! TaintNodesByCondition: a new node takes no pods before it is known to be ready.

use async_trait::async_trait;
use meta::{Object, Status};
use registry::Operation;
use serde_json::{Value, json};

use crate::plugin::{Plugin, Request};
use crate::pod::text;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

/// The plugin.
pub struct TaintNodes;

#[async_trait]
impl Plugin for TaintNodes {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is("", "nodes")
    }

    async fn admit(&self, _request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(node) = object else { return Ok(()) };
        let mut taints = node.get(&["spec", "taints"]).and_then(Value::as_array).cloned().unwrap_or_default();
        if !taints.iter().any(|t| text(t, &["key"]) == NOT_READY && text(t, &["effect"]) == EFFECT) {
            taints.push(json!({"key": NOT_READY, "effect": EFFECT}));
            node.set(&["spec", "taints"], Value::Array(taints));
        }
        Ok(())
    }
}
