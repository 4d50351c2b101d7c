//! Writing allocations and reservations, waiting for devices that need preparing, and taking it back.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::Pod;
use api::k8s::resource::v1::{AllocationResult, ResourceClaim, ResourceClaimConsumerReference};
use api::metav1::Time;
use client::{Client, DeleteOptions, PatchKind};
use informer::EventType;
use serde_json::json;

use super::claims::{Readiness, has_conditions, is_overdue, is_reserved_for, readiness};
use super::{DynamicResources, Extended, Kept};
use crate::pod_info::PodInfo;

const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// How often a write is tried again when somebody else was faster.
const ATTEMPTS: usize = 5;

impl DynamicResources {
    /// Writes what was decided, and waits until the devices are prepared.
    ///
    /// # Errors
    /// It could not be written, or the devices will not become ready.
    pub(super) async fn bind_claims(&self, kept: &Kept, pod: &PodInfo, node: &str) -> Result<(), String> {
        let mut changes = self.changes.subscribe();
        let mut written = Vec::new();
        for (at, claim) in kept.claims.iter().enumerate() {
            if is_reserved_for(claim, &pod.uid) {
                written.push(claim.clone());
                continue;
            }
            let claim = self.write(claim, kept.allocation(at).as_ref(), pod).await?;
            let claim = Arc::new(claim);
            kept.written.lock().push(claim.clone());
            written.push(claim);
        }
        let extended = kept.extended.lock().clone();
        if let Some(extended) = extended {
            written.push(self.bind_extended(kept, &extended, pod).await?);
        }
        if !written.iter().any(|claim| has_conditions(claim)) {
            return Ok(());
        }
        let note = format!("waiting for binding conditions for device on node {node}");
        self.recorder.event(&*pod.pod, EventType::Normal, "BindingConditionsPending", note);
        let wait = async {
            loop {
                changes.borrow_and_update();
                if self.are_ready(&written)? {
                    return Ok(());
                }
                if changes.changed().await.is_err() {
                    return Err("the scheduler ends".to_owned());
                }
            }
        };
        match rt::time::timeout(self.timeout, wait).await {
            Ok(done) => done,
            Err(_) => Err("device binding timeout: context deadline exceeded".to_owned()),
        }
    }

    /// Makes the claim for extended resources, and tells the pod which requests are for which container.
    async fn bind_extended(
        &self,
        kept: &Kept,
        extended: &Extended,
        pod: &PodInfo,
    ) -> Result<Arc<ResourceClaim>, String> {
        let mut claim = (*extended.on_node.claim).clone();
        claim.metadata.name = None;
        claim.metadata.uid = None;
        let made = self.client.create(&claim).await;
        let made = made.map_err(|e| format!("create claim for extended resources {}: {}", pod.key, e.chain()))?;
        self.ledger.rename(extended.on_node.claim.uid(), made.uid());
        // From now on there is something to be deleted when the pod is not bound.
        if let Some(extended) = kept.extended.lock().as_mut() {
            extended.made = Some(Arc::new(made.clone()));
        }
        let written = Arc::new(self.write(&made, Some(&extended.allocation), pod).await?);
        if let Some(extended) = kept.extended.lock().as_mut() {
            extended.made = Some(written.clone());
        }
        let patch = json!({
            "metadata": {"uid": pod.uid},
            "status": {"extendedResourceClaimStatus": {
                "requestMappings": extended.on_node.mappings, "resourceClaimName": written.name(),
            }},
        });
        let (namespace, name) = (pod.pod.namespace(), pod.pod.name());
        let told = self.client.patch_status::<Pod>(namespace, name, &PatchKind::Strategic, &patch).await;
        told.map_err(|e| format!("update pod {} ExtendedResourceClaimStatus: {}", pod.key, e.chain()))?;
        Ok(written)
    }

    fn are_ready(&self, written: &[Arc<ResourceClaim>]) -> Result<bool, String> {
        for claim in written {
            // The watch may be behind our own writes.
            let known = self.claims.cache().get(claim.namespace(), claim.name());
            let known = known.filter(|k| k.uid() == claim.uid()).unwrap_or_else(|| claim.clone());
            match readiness(&known) {
                Readiness::Ready => {}
                Readiness::Failed(why) => return Err(why),
                Readiness::Waiting if is_overdue(&known, self.timeout, rt::time::now()) => {
                    return Err(format!("device binding timeout: claim={}", known.name()));
                }
                Readiness::Waiting => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn write(
        &self,
        claim: &ResourceClaim,
        allocation: Option<&AllocationResult>,
        pod: &PodInfo,
    ) -> Result<ResourceClaim, String> {
        let mut claim = claim.clone();
        for _ in 0..ATTEMPTS {
            if claim.is_deleting() {
                return Err(format!("claim {} got deleted in the meantime", claim.key()));
            }
            match write_once(&self.client, claim.clone(), allocation, pod).await {
                Ok(written) => return Ok(written),
                Err(Wrong::Said(error)) => return Err(error),
                Err(Wrong::Conflict) => {
                    let newest = self.client.get::<ResourceClaim>(claim.namespace(), claim.name()).await;
                    let key = claim.key();
                    claim = newest.map_err(|e| format!("get updated claim {key} after conflict: {}", e.chain()))?;
                }
            }
        }
        Err(format!("claim {} changes too often to be written", claim.key()))
    }
}

enum Wrong {
    Conflict,
    Said(String),
}

fn wrong(error: &client::Error, doing: &str, claim: &ResourceClaim) -> Wrong {
    if error.is_conflict() {
        Wrong::Conflict
    } else {
        Wrong::Said(format!("{doing} claim {}: {}", claim.key(), error.chain()))
    }
}

async fn write_once(
    client: &Client,
    mut claim: ResourceClaim,
    allocation: Option<&AllocationResult>,
    pod: &PodInfo,
) -> Result<ResourceClaim, Wrong> {
    let held = claim.status.as_ref().and_then(|s| s.allocation.as_ref());
    if allocation.is_some() && held.is_some() {
        return Err(Wrong::Said(format!("claim {} got allocated elsewhere in the meantime", claim.key())));
    }
    if allocation.is_none() && held.is_none() {
        return Err(Wrong::Said(format!("claim {} got deallocated elsewhere in the meantime", claim.key())));
    }
    if allocation.is_some() && !claim.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER) {
        claim.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
        let updated = client.update(&claim).await;
        claim = updated.map_err(|e| wrong(&e, "add finalizer to", &claim))?;
    }
    let status = claim.status.get_or_insert_default();
    if let Some(allocation) = allocation {
        status.allocation = Some(allocation.clone());
    }
    if let Some(held) = &mut status.allocation {
        held.allocation_timestamp.get_or_insert_with(|| Time(rt::time::now()));
    }
    status.reserved_for.get_or_insert_default().push(ResourceClaimConsumerReference {
        api_group: None,
        resource: "pods".to_owned(),
        name: pod.pod.name().to_owned(),
        uid: pod.uid.clone(),
    });
    let doing = if allocation.is_some() { "add allocation and reservation to" } else { "add reservation to" };
    let updated = client.update_status(&claim).await;
    updated.map_err(|e| wrong(&e, doing, &claim))
}

/// Takes a pod out of those that a claim is kept for.
pub(super) async fn give_up(client: Client, claim: Arc<ResourceClaim>, uid: String) {
    let patch = json!({
        "metadata": {"uid": claim.uid()},
        "status": {"reservedFor": [{"$patch": "delete", "uid": uid}]},
    });
    let done = client.patch_status::<ResourceClaim>(claim.namespace(), claim.name(), &PatchKind::Strategic, &patch);
    if let Err(error) = done.await
        && !error.is_not_found()
    {
        tracing::warn!(claim = claim.key(), error = error.chain(), "cannot take a pod off a resource claim");
    }
}

/// Deletes a claim, its protection first.
///
/// # Errors
/// A write failed.
pub(super) async fn delete(client: &Client, mut claim: ResourceClaim) -> Result<(), String> {
    let gone = |error: &client::Error| error.is_not_found();
    let (namespace, name) = (claim.namespace().to_owned(), claim.name().to_owned());
    for _ in 0..ATTEMPTS {
        claim.metadata.finalizers.get_or_insert_default().retain(|f| f != FINALIZER);
        match client.update(&claim).await {
            Ok(_) => {
                let deleted = client.delete::<ResourceClaim>(&namespace, &name, &DeleteOptions::of(claim.uid())).await;
                return match deleted {
                    Err(error) if !gone(&error) => Err(error.chain()),
                    _ => Ok(()),
                };
            }
            Err(error) if gone(&error) => return Ok(()),
            Err(error) if !error.is_conflict() => {
                return Err(format!("update resourceclaim {namespace}/{name}: {}", error.chain()));
            }
            Err(_) => match client.get::<ResourceClaim>(&namespace, &name).await {
                Ok(newest) if newest.uid() == claim.uid() => claim = newest,
                Ok(_) => return Ok(()),
                Err(error) if gone(&error) => return Ok(()),
                Err(error) => return Err(format!("get resourceclaim {namespace}/{name}: {}", error.chain())),
            },
        }
    }
    Err(format!("claim {namespace}/{name} changes too often to be deleted"))
}

/// Deletes a claim that was made for a pod which is not bound.
pub(super) async fn clean_up(client: Client, claim: Arc<ResourceClaim>) {
    if let Err(error) = delete(&client, (*claim).clone()).await {
        tracing::warn!(claim = claim.key(), error, "cannot delete a resource claim");
    }
}

/// Frees the devices of a claim that nobody uses.
///
/// # Errors
/// The write failed.
pub(super) async fn deallocate(client: &Client, claim: &ResourceClaim) -> Result<(), String> {
    let mut freed = claim.clone();
    freed.status = None;
    client.update_status(&freed).await.map(drop).map_err(|e| e.chain())
}
