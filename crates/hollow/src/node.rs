//! A node's object and its lease.

use std::time::Duration;

use api::k8s::coordination::v1::LeaseSpec;
use api::prelude::{Kind, Lease, MicroTime, Node, ObjectMeta, OwnerReference};
use client::{Client, Error, PatchKind};
use rt::time::Instant;
use serde_json::json;

use crate::{NodeSpec, Times, status};

const LEASES: &str = "kube-node-lease";

/// What is known of a node between its heartbeats.
#[derive(Debug, Default)]
pub(crate) struct Heart {
    lease: Option<Lease>,
    reported: Option<Instant>,
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// One heartbeat: the node is registered when `seen` does not show it, its status is posted when that is due, its lease is renewed.
pub(crate) async fn beat(
    client: &Client,
    spec: &NodeSpec,
    times: &Times,
    heart: &mut Heart,
    seen: Option<&Node>,
) -> Result<(), Error> {
    let due = heart.reported.is_none_or(|at| at.elapsed() >= times.report);
    let uid = match seen {
        None => {
            let made = register(client, spec).await?;
            heart.reported = None;
            report(client, spec).await?;
            heart.reported = Some(Instant::now());
            made
        }
        Some(node) => {
            if due || !is_ready(node) {
                report(client, spec).await?;
                heart.reported = Some(Instant::now());
            }
            node.uid().to_owned()
        }
    };
    renew(client, spec, times, heart, &uid).await
}

/// Creates the node, or takes the one that is there; gives its uid.
async fn register(client: &Client, spec: &NodeSpec) -> Result<String, Error> {
    let mut node = Node::default();
    let labels = [
        ("kubernetes.io/hostname", spec.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", status::architecture()),
    ];
    let own = spec.labels.iter().cloned();
    let labels = labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).chain(own).collect();
    node.metadata.name = Some(spec.name.clone());
    node.metadata.labels = Some(labels);
    match client.create(&node).await {
        Ok(made) => Ok(made.uid().to_owned()),
        Err(error) if error.is_already_exists() => Ok(client.get::<Node>("", &spec.name).await?.uid().to_owned()),
        Err(error) => Err(error),
    }
}

async fn report(client: &Client, spec: &NodeSpec) -> Result<(), Error> {
    let patch = json!({"status": status::of_node(spec)});
    client.patch_status::<Node>("", &spec.name, &PatchKind::Strategic, &patch).await.map(drop)
}

async fn renew(client: &Client, spec: &NodeSpec, times: &Times, heart: &mut Heart, uid: &str) -> Result<(), Error> {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: spec.name.clone(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    let mut lease = match heart.lease.take() {
        Some(lease) => lease,
        None => match client.get::<Lease>(LEASES, &spec.name).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => Lease {
                metadata: ObjectMeta {
                    name: Some(spec.name.clone()),
                    namespace: Some(LEASES.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(spec.name.clone()),
                    lease_duration_seconds: Some(i32::try_from(times.lease.as_secs()).unwrap_or(i32::MAX)),
                    ..LeaseSpec::default()
                }),
            },
            Err(error) => return Err(error),
        },
    };
    lease.metadata.owner_references = Some(vec![owner]);
    lease.spec.get_or_insert_default().renew_time = Some(MicroTime(rt::time::now()));
    let new = lease.metadata.resource_version.is_none();
    let renewed = if new { client.create(&lease).await? } else { client.update(&lease).await? };
    heart.lease = Some(renewed);
    Ok(())
}

/// The time until the next heartbeat: a little random, so that thousands of nodes do not speak at once.
pub(crate) fn pause(times: &Times) -> Duration {
    times.heartbeat.mul_f64(0.96 + 0.08 * rt::rand::fraction())
}
