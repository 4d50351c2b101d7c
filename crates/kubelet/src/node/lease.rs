//! The node's lease: its heartbeat.

use std::sync::Arc;
use std::time::Duration;

use api::k8s::coordination::v1::{Lease, LeaseSpec};
use api::metav1::{MicroTime, OwnerReference};

use crate::k8s::{Kind, ObjectMeta};
use crate::shared::Shared;

const NAMESPACE: &str = "kube-node-lease";
const RETRY: Duration = Duration::from_millis(500);

/// Renews the lease every quarter of its life.
pub async fn keep(shared: Arc<Shared>, node_uid: rt::sync::watch::Receiver<String>) {
    let period = shared.config.lease_duration / 4;
    let mut known: Option<Lease> = None;
    loop {
        let uid = node_uid.borrow().clone();
        let pause = match renew(&shared, known.take(), &uid).await {
            Ok(lease) => {
                known = Some(lease);
                period
            }
            Err(error) => {
                tracing::debug!(error = error.chain(), "cannot renew the node's lease; trying again");
                RETRY
            }
        };
        // A little late for some, so that many nodes do not come at once.
        rt::time::sleep(pause + pause.mul_f64(0.04 * rt::rand::fraction())).await;
    }
}

async fn renew(shared: &Shared, known: Option<Lease>, node_uid: &str) -> Result<Lease, client::Error> {
    let Some(client) = &shared.client else { return Ok(Lease::default()) };
    let name = &shared.config.node_name;
    let current = match known {
        Some(lease) => Some(lease),
        None => match client.get::<Lease>(NAMESPACE, name).await {
            Ok(lease) => Some(lease),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        },
    };
    let exists = current.is_some();
    let mut lease = current.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) && !node_uid.is_empty() {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: name.clone(),
            uid: node_uid.to_owned(),
            ..OwnerReference::default()
        }]);
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.clone());
    spec.lease_duration_seconds = i32::try_from(shared.config.lease_duration.as_secs()).ok();
    spec.renew_time = Some(MicroTime(rt::time::now()));
    debug_assert_eq!(lease.name(), name);
    if exists { client.update(&lease).await } else { client.create(&lease).await }
}
