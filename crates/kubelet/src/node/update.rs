//! Registering the node and keeping its status true.

use std::sync::Arc;
use std::time::Duration;

use client::PatchKind;
use informer::EventType;
use rt::sync::{Notify, watch};
use rt::{Backoff, time};
use serde_json::{Value, json};

use super::{machine, status};
use crate::k8s::core::NodeStatus;
use crate::k8s::{Kind, Node, seconds};
use crate::shared::Shared;

/// How soon a runtime or network that is not ready is looked at again, where no change of the Node asks for it earlier:
/// a network that others configure tells nobody. Looks grow rarer.
const UNREADY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Tells the node's status until the end. `changed` rings when it should be looked at early; `uid` learns the node's.
pub async fn keep(
    shared: Arc<Shared>,
    node: informer::Informer<Node>,
    changed: Arc<Notify>,
    uid: watch::Sender<String>,
) {
    register(&shared, &uid).await;
    let mut told = time::Instant::now();
    let mut last: Option<NodeStatus> = None;
    let mut cidrs = Vec::new();
    let mut unready = Backoff::new(UNREADY.0, UNREADY.1);
    loop {
        let object = node.cache().get_key(&shared.config.node_name);
        if let Some(object) = &object {
            uid.send_if_modified(|known| {
                let new = *known != object.uid();
                object.uid().clone_into(known);
                new
            });
            pod_cidrs(&shared, object, &mut cidrs).await;
        }
        let old = object.as_ref().and_then(|n| n.status.clone()).or_else(|| last.clone()).unwrap_or_default();
        let new = compute(&shared, &old).await;
        let ready = is_ready(&new);
        if is_ready(&old) != ready && last.is_some() {
            let reason = if ready { "NodeReady" } else { "NodeNotReady" };
            let text = format!("Node {} status is now: {reason}", shared.config.node_name);
            shared.events.node(&shared.config.node_name, EventType::Normal, reason, text);
        }
        let due = told.elapsed() >= shared.config.status_report;
        if due || last.is_none() || differs(&old, &new) {
            match tell(&shared, &old, &new).await {
                Ok(()) => {
                    told = time::Instant::now();
                    last = Some(new);
                }
                Err(error) if error.is_not_found() => register(&shared, &uid).await,
                Err(error) => tracing::debug!(error = error.chain(), "cannot tell the node's status; trying again"),
            }
        }
        let pause = if ready {
            unready.reset();
            shared.config.status_frequency
        } else {
            unready.next_delay()
        };
        rt::select! {
            () = time::sleep(pause) => {}
            () = changed.notified() => {}
        }
    }
}

async fn pod_cidrs(shared: &Shared, node: &Node, known: &mut Vec<String>) {
    let cidrs = node.spec.as_ref().and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
    if cidrs.is_empty() || cidrs == *known {
        return;
    }
    match shared.runtime.update_pod_cidrs(&cidrs).await {
        Ok(()) => *known = cidrs,
        Err(error) => tracing::warn!(error = error.chain(), "cannot tell the runtime the pod CIDRs"),
    }
}

fn is_ready(status: &NodeStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The node's status now.
pub async fn compute(shared: &Shared, old: &NodeStatus) -> NodeStatus {
    let health = shared.runtime.status().await.ok();
    let version = shared.runtime.version().await.map(|v| v.runtime_version).unwrap_or_default();
    let images = shared.images.list_images(None).await.unwrap_or_default();
    let addresses = machine::addresses(&shared.config);
    *shared.host_ips.write() = addresses.iter().map(ToString::to_string).collect();
    status::status(&status::Inputs {
        config: &shared.config,
        machine: &shared.machine,
        addresses: &addresses,
        runtime: (&shared.runtime_name, &version),
        health: health.as_ref(),
        images: &images,
        old,
        now: seconds(time::now()),
    })
}

/// Whether anything but the heartbeat has changed.
fn differs(old: &NodeStatus, new: &NodeStatus) -> bool {
    let bare = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        // Attached volumes are the controller's; images and the rest are compared as they are.
        status.volumes_attached = None;
        status.volumes_in_use = None;
        let mut value = serde_json::to_value(status).unwrap_or_default();
        if let Some(list) = value.get_mut("conditions").and_then(Value::as_array_mut) {
            list.sort_by_key(|c| c.get("type").map(ToString::to_string));
        }
        value
    };
    bare(old) != bare(new)
}

async fn tell(shared: &Shared, old: &NodeStatus, new: &NodeStatus) -> Result<(), client::Error> {
    let Some(client) = &shared.client else { return Ok(()) };
    let mut patch = serde_json::to_value(new).unwrap_or_default();
    let before = serde_json::to_value(old).unwrap_or_default();
    if let (Some(patch), Some(before)) = (patch.as_object_mut(), before.as_object()) {
        patch.retain(|key, value| before.get(key) != Some(value));
        // Maps are merged: what is gone must be said to be gone.
        let gone = before.get("allocatable").and_then(Value::as_object).into_iter().flat_map(|b| b.keys());
        if let Some(now) = patch.get_mut("allocatable").and_then(Value::as_object_mut) {
            for name in gone {
                now.entry(name).or_insert(Value::Null);
            }
        }
        // Conditions and addresses are merged by type: those of the list replace, the others stay.
        if let Some(addresses) = patch.get_mut("addresses").and_then(Value::as_array_mut) {
            addresses.insert(0, json!({"$patch": "replace"}));
        }
    }
    let patch = json!({"status": patch});
    client.patch_status::<Node>("", &shared.config.node_name, &PatchKind::Strategic, &patch).await.map(drop)
}

/// Makes the Node object, or brings a present one up to date; tries until it is there.
async fn register(shared: &Shared, uid: &watch::Sender<String>) {
    let Some(client) = &shared.client else { return };
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(7));
    loop {
        let status = compute(shared, &NodeStatus::default()).await;
        let wanted = status::node(&shared.config, status);
        let result = if shared.config.register_node {
            client.create(&wanted).await
        } else {
            client.get("", &shared.config.node_name).await
        };
        let result = match result {
            Err(error) if error.is_already_exists() => reconcile(client, &wanted).await,
            result => result,
        };
        match result {
            Ok(node) => {
                uid.send_replace(node.uid().to_owned());
                tracing::info!(node = shared.config.node_name, "node registered");
                return;
            }
            Err(error) => {
                tracing::debug!(error = error.chain(), "cannot register the node; trying again");
                time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// A node that is there already keeps what others gave it, and gets our labels.
async fn reconcile(client: &client::Client, wanted: &Node) -> Result<Node, client::Error> {
    let current: Node = client.get("", wanted.name()).await?;
    let missing: Vec<_> = wanted.labels().iter().filter(|(k, v)| current.labels().get(*k) != Some(v)).collect();
    if missing.is_empty() {
        return Ok(current);
    }
    let labels: serde_json::Map<String, Value> =
        missing.into_iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    client.patch::<Node>("", wanted.name(), &PatchKind::Merge, &json!({"metadata": {"labels": labels}})).await
}
