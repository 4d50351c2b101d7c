//! Evicts pods whose devices got a `NoExecute` taint that their claims do not tolerate (any more).

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::Pod;
use api::k8s::resource::v1::{
    DeviceRequestAllocationResult, DeviceTaint, DeviceToleration, ResourceClaim, ResourceSlice,
};
use client::{DeleteOptions, Error};
use informer::{Delta, EventType, Informer, Queue, run_workers};
use parking_lot::Mutex;
use rt::HashSet;
use rt::time::Timestamp;

use super::taint_eviction::disrupt;
use crate::frame::Context;

const BY_POOL: &str = "pool";

struct Controller {
    context: Context,
    claims: Informer<ResourceClaim>,
    slices: Informer<ResourceSlice>,
    pods: Informer<Pod>,
    queue: Arc<Queue<String>>,
    /// Claims whose pods are to go later.
    pending: Mutex<HashSet<String>>,
}

fn pool_key(driver: &str, pool: &str) -> String {
    format!("{driver}/{pool}")
}

fn results(claim: &ResourceClaim) -> &[DeviceRequestAllocationResult] {
    let devices = claim.status.as_ref().and_then(|s| s.allocation.as_ref()?.devices.as_ref());
    devices.and_then(|d| d.results.as_deref()).unwrap_or_default()
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let any = |field: &Option<String>| field.as_deref().unwrap_or_default().is_empty();
    let exists = toleration.operator.as_deref() == Some("Exists");
    (any(&toleration.effect) || toleration.effect.as_deref() == Some(&taint.effect))
        && (any(&toleration.key) || toleration.key.as_deref() == Some(&taint.key))
        && (exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
}

/// When one taint ends the use of a device; none while it is tolerated for ever. A toleration without a time counts before all
/// others, of those with one the shortest counts; and only tolerations of just this effect do (upstream's rules).
fn ends(taint: &DeviceTaint, tolerations: &[DeviceToleration]) -> Option<Timestamp> {
    let added = taint.time_added.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    let is_meant = |t: &&DeviceToleration| t.effect.as_deref() == Some("NoExecute") && tolerates(t, taint);
    let fitting: Vec<&DeviceToleration> = tolerations.iter().filter(is_meant).collect();
    if fitting.is_empty() {
        return Some(added);
    }
    if fitting.iter().any(|t| t.toleration_seconds.is_none()) {
        return None;
    }
    let shortest = fitting.iter().filter_map(|t| t.toleration_seconds).min()?;
    added.checked_add(jiff::SignedDuration::from_secs(shortest.max(0))).ok()
}

/// When the pods of a claim must go, by the newest slices of its pools.
fn eviction(claim: &ResourceClaim, slices: impl Fn(&str) -> Vec<Arc<ResourceSlice>>) -> Option<Timestamp> {
    let mut earliest: Option<Timestamp> = None;
    for result in results(claim) {
        let of_pool = slices(&pool_key(&result.driver, &result.pool));
        let newest = of_pool.iter().map(|s| s.spec.pool.generation).max();
        let current = of_pool.iter().filter(|s| Some(s.spec.pool.generation) == newest);
        let device = current.flat_map(|s| s.spec.devices.iter().flatten()).find(|d| d.name == result.device);
        let taints = device.and_then(|d| d.taints.as_deref()).unwrap_or_default();
        for taint in taints.iter().filter(|t| t.effect == "NoExecute") {
            if let Some(end) = ends(taint, result.tolerations.as_deref().unwrap_or_default()) {
                earliest = Some(earliest.map_or(end, |known| known.min(end)));
            }
        }
    }
    earliest
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let queue = Arc::new(Queue::new());
    let controller = Arc::new(Controller {
        claims: factory.informer(),
        slices: factory.informer(),
        pods: factory.informer(),
        queue: queue.clone(),
        pending: Mutex::default(),
        context,
    });
    controller.slices.add_index(BY_POOL, |slice| vec![pool_key(&slice.spec.driver, &slice.spec.pool.name)]);
    controller.claims.add_index(BY_POOL, |claim| {
        results(claim).iter().map(|result| pool_key(&result.driver, &result.pool)).collect()
    });
    let handed = queue.clone();
    controller.claims.add_handler(move |delta| {
        let claim = delta.object();
        if !matches!(delta, Delta::Deleted(_)) && !results(claim).is_empty() {
            handed.add(claim.key());
        }
    });
    let (handed, users) = (queue.clone(), controller.claims.clone());
    controller.slices.add_handler(move |delta| {
        let spec = &delta.object().spec;
        for claim in users.cache().by_index(BY_POOL, &pool_key(&spec.driver, &spec.pool.name)) {
            handed.add(claim.key());
        }
    });
    controller.claims.synced().await;
    controller.slices.synced().await;
    controller.pods.synced().await;
    let (shutdown, workers) = (controller.context.shutdown.clone(), controller.context.options.workers);
    run_workers("device taint eviction", queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    })
    .await;
}

impl Controller {
    async fn sync(&self, key: String) -> Result<(), Error> {
        let Some(claim) = self.claims.cache().get_key(&key) else {
            self.pending.lock().remove(&key);
            return Ok(());
        };
        let Some(at) = eviction(&claim, |pool| self.slices.cache().by_index(BY_POOL, pool)) else {
            if self.pending.lock().remove(&key) {
                self.pods_of(&claim).iter().for_each(|pod| self.tell(pod, "Cancelling deletion"));
            }
            return Ok(());
        };
        let left = rt::time::between(rt::time::now(), at);
        if !left.is_zero() {
            self.pending.lock().insert(key.clone());
            self.queue.add_after(key, left);
            return Ok(());
        }
        self.pending.lock().remove(&key);
        for pod in self.pods_of(&claim) {
            self.evict(&pod).await?;
        }
        Ok(())
    }

    /// The pods that use a claim.
    fn pods_of(&self, claim: &ResourceClaim) -> Vec<Arc<Pod>> {
        let consumers = claim.status.as_ref().and_then(|s| s.reserved_for.as_deref()).unwrap_or_default();
        let pods = consumers.iter().filter(|c| c.resource == "pods").filter_map(|consumer| {
            let pod = self.pods.cache().get(claim.namespace(), &consumer.name)?;
            (pod.uid() == consumer.uid && !pod.is_deleting()).then_some(pod)
        });
        pods.collect()
    }

    fn tell(&self, pod: &Pod, message: &str) {
        self.context.recorder.event(pod, EventType::Normal, "DeviceTaintManagerEviction", message.to_owned());
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        self.tell(pod, "Marking for deletion");
        let why = ("DeletionByDeviceTaintManager", "Device Taint manager: deleting due to NoExecute taint");
        let client = &self.context.client;
        disrupt(client, pod, why, None).await?;
        match client.delete::<Pod>(pod.namespace(), pod.name(), &DeleteOptions::of(pod.uid())).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_not_tolerated_ends() {
        let slice: ResourceSlice = api::from_value(json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"},
            "spec": {"driver": "d", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [
                {"name": "sick", "taints": [{"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}]},
                {"name": "full", "taints": [{"key": "k", "effect": "NoSchedule"}]},
            ]},
        }))
        .unwrap();
        let slice = Arc::new(slice);
        let lasting = |seconds: i64| json!({"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        for (device, tolerations, want) in [
            ("sick", json!([]), at("2026-01-01T00:00:00Z")),
            ("sick", json!([{"key": "k", "operator": "Exists", "effect": "NoExecute"}]), None),
            ("sick", json!([{"key": "k", "operator": "Exists"}]), at("2026-01-01T00:00:00Z")),
            ("sick", json!([lasting(60)]), at("2026-01-01T00:01:00Z")),
            ("sick", json!([lasting(60), lasting(30)]), at("2026-01-01T00:00:30Z")),
            ("sick", json!([lasting(60), {"operator": "Exists", "effect": "NoExecute"}]), None),
            (
                "sick",
                json!([{"key": "other", "operator": "Exists", "effect": "NoExecute"}]),
                at("2026-01-01T00:00:00Z"),
            ),
            ("full", json!([]), None),
        ] {
            let claim: ResourceClaim = api::from_value(json!({
                "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c", "namespace": "n"},
                "spec": {}, "status": {"allocation": {"devices": {"results": [
                    {"request": "r", "driver": "d", "pool": "p", "device": device, "tolerations": tolerations},
                ]}}},
            }))
            .unwrap();
            assert_eq!(eviction(&claim, |_| vec![slice.clone()]), want, "{device} {tolerations}");
        }
    }
}
