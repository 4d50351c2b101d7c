//! Volume expansion: no volume plugin of the control plane can make a volume larger, so that a claim that asks for more
//! than it has waits for its driver's own controller, and is told so (upstream's `ExternalExpanding`).

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{PersistentVolume, PersistentVolumeClaim};
use client::Error;
use informer::{Delta, EventType, Queue, run_workers};

use crate::frame::Context;

/// What a claim asks for and has.
fn grows(claim: &PersistentVolumeClaim) -> bool {
    let asked = claim.spec.as_ref().and_then(|s| s.resources.as_ref()?.requests.as_ref()?.get("storage"));
    let status = claim.status.as_ref();
    let has = status.and_then(|s| s.capacity.as_ref()?.get("storage"));
    let bound = status.and_then(|s| s.phase.as_deref()) == Some("Bound");
    match (asked, has) {
        (Some(asked), Some(has)) => bound && api::quantity(asked) > api::quantity(has),
        _ => false,
    }
}

/// Whether the volume is the claim's as well as the claim the volume's.
fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    reference
        .is_some_and(|r| r.namespace.as_deref() == Some(claim.namespace()) && r.uid.as_deref() == Some(claim.uid()))
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let claims = context.factory.informer::<PersistentVolumeClaim>();
    let volumes = context.factory.informer::<PersistentVolume>();
    let queue = Arc::new(Queue::new());
    let handed = queue.clone();
    claims.add_handler(move |delta| match delta {
        Delta::Updated { old, new } if grows(new) && old.spec != new.spec => handed.add(new.key()),
        Delta::Added(new) if grows(new) => handed.add(new.key()),
        _ => {}
    });
    claims.synced().await;
    volumes.synced().await;
    let shutdown = context.shutdown.clone();
    run_workers("volume expander", queue, 1, shutdown, move |key: String| {
        let (context, claims, volumes) = (context.clone(), claims.clone(), volumes.clone());
        async move {
            let Some(claim) = claims.cache().get_key(&key).filter(|c| grows(c)) else { return Ok::<(), Error>(()) };
            let name = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).unwrap_or_default();
            let Some(volume) = volumes.cache().get_key(&name) else { return Ok(()) };
            if !is_bound_to(&volume, &claim) {
                let message = format!("persistent Volume is not bound to PVC being updated : {key}");
                return Err(Error::Request(message));
            }
            let message = "waiting for an external controller to expand this PVC";
            context.recorder.event(&*claim, EventType::Normal, "ExternalExpanding", message);
            Ok(())
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_bound_claims_that_ask_for_more() {
        for (asked, has, phase, want) in
            [("2Gi", "1Gi", "Bound", true), ("1Gi", "1Gi", "Bound", false), ("2Gi", "1Gi", "Pending", false)]
        {
            let claim: PersistentVolumeClaim = api::from_value(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "n"},
                "spec": {"resources": {"requests": {"storage": asked}}},
                "status": {"phase": phase, "capacity": {"storage": has}},
            }))
            .unwrap();
            assert_eq!(grows(&claim), want, "{asked} {has} {phase}");
        }
    }
}
