//! Tells the API server the status of pods: one writer per pod at a time, always the newest status, only what changed.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, PatchKind};
use parking_lot::Mutex;
use rt::sync::{Notify, Semaphore, watch};
use rt::{Backoff, HashMap, Shutdown};
use serde_json::{Map, Value, json};

use crate::k8s::{Kind, Pod, PodStatus};
use crate::pod::conditions::OWNED;

/// How many status writes are under way at a time.
const PARALLEL: usize = 8;
/// How long the first steps of a pod may wait for the next one.
const GATHER: Duration = Duration::from_millis(150);

/// The API object a status is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its uid: the pod's own, or the mirror pod's.
    pub uid: String,
}

struct Entry {
    latest: Arc<PodStatus>,
    target: Option<Target>,
    /// What the API server has, as far as known.
    base: Value,
    version: u64,
    writing: bool,
    /// There is news that must not wait.
    urgent: bool,
    ring: Arc<Notify>,
    written: watch::Sender<u64>,
}

/// The statuses of all pods of the node.
pub struct Statuses {
    client: Option<Client>,
    shutdown: Shutdown,
    entries: Mutex<HashMap<String, Entry>>,
    permits: Semaphore,
}

impl Statuses {
    /// Without a client, statuses are only kept.
    #[must_use]
    pub fn new(client: Option<Client>, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self { client, shutdown, entries: Mutex::default(), permits: Semaphore::new(PARALLEL) })
    }

    /// The last status set for a pod.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<Arc<PodStatus>> {
        self.entries.lock().get(uid).map(|e| e.latest.clone())
    }

    /// Sets a pod's status; it is written in the background where it differs. Gives whether it differs.
    pub fn set(self: &Arc<Self>, pod: &Pod, target: Option<Target>, status: PodStatus) -> bool {
        let mut entries = self.entries.lock();
        let uid = pod.uid().to_owned();
        let base = || serde_json::to_value(pod.status.clone().unwrap_or_default()).unwrap_or_default();
        let entry = entries.entry(uid.clone()).or_insert_with(|| Entry {
            latest: Arc::new(PodStatus::default()),
            target: None,
            base: base(),
            version: 0,
            writing: false,
            urgent: false,
            ring: Arc::new(Notify::new()),
            written: watch::Sender::new(0),
        });
        let moved = entry.target != target;
        if moved {
            // Another object (a new mirror pod) knows nothing yet.
            if entry.target.is_some() {
                entry.base = json!({});
            }
            entry.target = target;
        }
        if *entry.latest == status && !moved {
            return false;
        }
        // A deleted pod whose containers have ended is soon gone: its last status, which is waited for, says it all.
        entry.urgent |= urgent(&status) && !(pod.metadata.deletion_timestamp.is_some() && ended(&status));
        entry.latest = Arc::new(status);
        entry.version += 1;
        if entry.urgent {
            entry.ring.notify_one();
        }
        if entry.target.is_some() && self.client.is_some() && !entry.writing {
            entry.writing = true;
            let (me, shutdown) = (self.clone(), self.shutdown.clone());
            rt::spawn("pod status", async move { shutdown.run(me.write(uid)).await });
        }
        true
    }

    /// Waits until the status set last has been written (or can never be).
    pub async fn flushed(&self, uid: &str) {
        let (mut written, version) = {
            let mut entries = self.entries.lock();
            match entries.get_mut(uid).filter(|e| e.target.is_some() && self.client.is_some()) {
                Some(entry) => {
                    entry.urgent = true;
                    entry.ring.notify_one();
                    (entry.written.subscribe(), entry.version)
                }
                None => return,
            }
        };
        // An entry that was removed meanwhile needs no writing.
        let _ = written.wait_for(|v| *v >= version).await;
    }

    /// Forgets a pod.
    pub fn remove(&self, uid: &str) {
        self.entries.lock().remove(uid);
    }

    async fn write(self: Arc<Self>, uid: String) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10)).with_jitter(0.2);
        loop {
            self.gather(&uid).await;
            let Ok(_permit) = self.permits.acquire().await else { return };
            let Some((target, patch, version)) = self.next(&uid) else { return };
            let Some(patch) = patch else {
                self.done(&uid, version, None);
                continue;
            };
            let Some(client) = &self.client else { return };
            let begun = rt::time::Instant::now();
            let result =
                client.patch_status::<Pod>(&target.namespace, &target.name, &PatchKind::Strategic, &patch).await;
            match result {
                Ok(pod) => {
                    tracing::debug!(pod = target.name, took = ?begun.elapsed(), "status written");
                    backoff.reset();
                    self.done(&uid, version, Some(pod.status.unwrap_or_default()));
                }
                Err(error) if error.is_not_found() || error.is_conflict() || other_uid(&error) => {
                    // The pod is gone, or another one has its name: there is nobody left to tell.
                    tracing::debug!(pod = target.name, error = error.chain(), "status not written");
                    self.done(&uid, version, None);
                }
                Err(error) => {
                    tracing::warn!(
                        pod = target.name,
                        error = error.chain(),
                        "cannot write a pod's status; trying again"
                    );
                    rt::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// Waits a moment for more, unless there is news that must not wait: a pod that starts at once is told of once.
    async fn gather(&self, uid: &str) {
        let ring = match self.entries.lock().get(uid) {
            Some(entry) if !entry.urgent && *entry.written.borrow() < entry.version => entry.ring.clone(),
            _ => return,
        };
        rt::select! {
            () = ring.notified() => {}
            () = rt::time::sleep(GATHER) => {}
        }
    }

    /// What to write next; `None` ends the writer. The inner `None` means that nothing differs.
    fn next(&self, uid: &str) -> Option<(Target, Option<Value>, u64)> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(uid)?;
        if *entry.written.borrow() >= entry.version {
            entry.writing = false;
            return None;
        }
        entry.urgent = false;
        let target = entry.target.clone()?;
        let wanted = serde_json::to_value(&*entry.latest).unwrap_or_default();
        Some((target.clone(), patch(&entry.base, &wanted, &target.uid), entry.version))
    }

    fn done(&self, uid: &str, version: u64, told: Option<PodStatus>) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(uid) {
            if let Some(status) = told {
                entry.base = serde_json::to_value(status).unwrap_or_default();
            }
            entry.written.send_replace(version);
        }
    }
}

/// Whether another pod has taken the name: a patch that names the old uid would change it.
fn other_uid(error: &client::Error) -> bool {
    let causes = error.status().and_then(|s| s.details.as_ref()).map(|d| d.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.field == "metadata.uid")
}

/// Whether a status is more than a step on the way to running.
fn urgent(status: &PodStatus) -> bool {
    let starting = |reason: Option<&str>| matches!(reason, None | Some("ContainerCreating" | "PodInitializing"));
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let mut states = all.filter_map(|c| c.state.as_ref());
    status.phase.as_deref() != Some("Pending")
        || states.any(|s| s.waiting.as_ref().is_some_and(|w| !starting(w.reason.as_deref())))
}

/// Whether every container has ended.
fn ended(status: &PodStatus) -> bool {
    let states = status.container_statuses.iter().flatten().map(|c| c.state.as_ref());
    states.into_iter().all(|state| state.is_some_and(|s| s.terminated.is_some()))
}

/// The strategic merge patch from one status to another; `None` where they agree. Conditions of others are left alone.
fn patch(base: &Value, wanted: &Value, uid: &str) -> Option<Value> {
    let none = Map::new();
    let (base, wanted) = (base.as_object().unwrap_or(&none), wanted.as_object().unwrap_or(&none));
    let mut out = Map::new();
    for (key, value) in wanted.iter().filter(|(key, _)| *key != "conditions" && *key != "podIPs") {
        if base.get(key) != Some(value) {
            out.insert(key.clone(), value.clone());
        }
    }
    for key in base.keys().filter(|key| !wanted.contains_key(*key) && clears(key)) {
        out.insert(key.clone(), Value::Null);
    }
    if base.get("podIPs") != wanted.get("podIPs")
        && let Some(ips) = wanted.get("podIPs").and_then(Value::as_array)
    {
        // A list merged by key: without the directive, old addresses would stay.
        let replace = std::iter::once(json!({"$patch": "replace"})).chain(ips.iter().cloned());
        out.insert("podIPs".to_owned(), replace.collect());
    }
    let list = |map: &Map<String, Value>| map.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = list(base);
    let ours = |c: &&Value| c.get("type").and_then(Value::as_str).is_some_and(|t| OWNED.contains(&t));
    let now = list(wanted);
    let gone = before.iter().filter(ours).filter(|b| !now.iter().any(|c| c.get("type") == b.get("type")));
    let gone: Vec<Value> = gone.map(|b| json!({"$patch": "delete", "type": b.get("type")})).collect();
    let changed: Vec<Value> = now
        .into_iter()
        .filter(|c| c.get("type").and_then(Value::as_str).is_some_and(|t| OWNED.contains(&t)))
        .filter(|c| !before.contains(c))
        .map(|mut c| {
            // Texts of the former state must not linger.
            let former = before.iter().find(|b| b.get("type") == c.get("type"));
            for key in ["reason", "message"] {
                if c.get(key).is_none() && former.is_some_and(|f| f.get(key).is_some()) {
                    c[key] = Value::Null;
                }
            }
            c
        })
        .chain(gone)
        .collect();
    if !changed.is_empty() {
        out.insert("conditions".to_owned(), changed.into());
    }
    (!out.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": out}))
}

/// Fields that the kubelet takes back when they no longer hold.
fn clears(key: &str) -> bool {
    matches!(
        key,
        "reason" | "message" | "podIP" | "initContainerStatuses" | "containerStatuses" | "ephemeralContainerStatuses"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_sent() {
        let base = json!({"phase": "Pending", "reason": "x", "hostIP": "1", "conditions": [
            {"type": "Ready", "status": "False", "reason": "R"}, {"type": "Initialized", "status": "True"}, {"type": "mine", "status": "a"}]});
        let same = patch(&base, &base, "u");
        assert_eq!(same, None);
        let wanted = json!({"phase": "Running", "hostIP": "1", "podIPs": [{"ip": "2"}], "conditions": [
            {"type": "mine", "status": "stale"}, {"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]});
        let expected = json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "reason": null,
            "podIPs": [{"$patch": "replace"}, {"ip": "2"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null}]}});
        assert_eq!(patch(&base, &wanted, "u"), Some(expected));
    }
}
