//! The sandbox and the volumes: made side by side, since neither needs the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use informer::EventType;
use node_api::PodSandboxState;
use rt::time::Timestamp;
use volumes::Mounted;

use super::{Done, Worker};
use crate::k8s::{Kind, Pod, PodExt};
use crate::shared::Shared;
use crate::spec::{dns, sandbox};

impl Worker {
    pub(super) fn create_sandbox(&mut self, attempt: u32) {
        self.sandbox_busy = true;
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        let old: Vec<String> = self
            .observed
            .sandboxes
            .iter()
            .filter(|s| s.state == PodSandboxState::Ready)
            .map(|s| s.id.clone())
            .collect();
        // A new sandbox begins with initialization: what earlier init containers did counts no more.
        let stale_init: Vec<String> = self
            .observed
            .containers
            .iter()
            .filter(|c| self.pod.init_containers().iter().any(|i| i.name == c.metadata.name))
            .map(|c| c.id.clone())
            .collect();
        self.push(async move {
            for id in stale_init {
                let _ = shared.runtime.remove_container(&id).await;
            }
            Done::Sandbox(create(&shared, &pod, attempt, &old).await)
        });
    }

    pub(super) fn sandbox_done(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => self.sandbox_retry = super::Retry::default(),
            Err(error) => {
                let text = format!("Failed to create pod sandbox: {error}");
                self.shared.events.pod(&self.pod, EventType::Warning, "FailedCreatePodSandBox", text);
                let at = self.sandbox_retry.fail(Duration::from_secs(1), Duration::from_secs(10));
                self.wake_by(at);
            }
        }
    }

    pub(super) fn step_volumes(&mut self, now: Timestamp) {
        let volumes = &mut self.volumes;
        if volumes.busy {
            return;
        }
        let refresh = volumes.refresh_at.is_some_and(|at| at <= now);
        let due = volumes.retry.due(now);
        if !(volumes.stale || refresh || (volumes.mounted.is_none() && due) || (volumes.retry.at.is_some() && due)) {
            let next = [volumes.refresh_at, volumes.retry.at.filter(|at| *at > now)];
            next.into_iter().flatten().for_each(|at| self.wake_by(at));
            return;
        }
        (volumes.busy, volumes.stale, volumes.retry.at) = (true, false, None);
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        let facts = shared.facts(&pod, &self.observed);
        self.push(async move {
            let cx = shared.volumes.context(pod, facts);
            let objects = shared.objects_for(cx.pod.uid());
            Done::Volumes(shared.volumes.set_up(&cx, &objects).await)
        });
    }

    pub(super) fn volumes_done(&mut self, result: Result<BTreeMap<String, Mounted>, Vec<(String, volumes::Error)>>) {
        self.volumes.busy = false;
        match result {
            Ok(mounted) => {
                self.volumes.refresh_at = mounted.values().filter_map(|m| m.refresh_at).min();
                self.volumes.mounted = Some(Arc::new(mounted));
                self.volumes.retry = super::Retry::default();
            }
            Err(errors) => {
                for (volume, error) in errors {
                    let text = format!("MountVolume.SetUp failed for volume {volume:?} : {error}");
                    self.shared.events.pod(&self.pod, EventType::Warning, "FailedMount", text);
                }
                // A token that cannot be renewed now is still good for a fifth of its life.
                self.volumes.refresh_at = None;
                let at = self.volumes.retry.fail(Duration::from_millis(500), Duration::from_secs(122));
                self.wake_by(at);
            }
        }
    }
}

async fn create(shared: &Shared, pod: &Arc<Pod>, attempt: u32, old: &[String]) -> Result<(), String> {
    let begun = rt::time::Instant::now();
    let _permit = shared.starts.acquire().await.map_err(|e| e.to_string())?;
    let waited = begun.elapsed();
    for id in old {
        shared.runtime.stop_pod_sandbox(id).await.map_err(|e| e.chain())?;
    }
    let dns = dns::pod(pod, &shared.node_dns());
    for (reason, text) in dns.warnings {
        shared.events.pod(pod, EventType::Warning, reason, text);
    }
    let node = sandbox::Node {
        cluster_domain: &shared.config.cluster_domain,
        logs: &shared.config.pod_logs_dir,
        cgroup_root: &shared.config.cgroup_root,
    };
    let config = sandbox::config(pod, attempt, dns.config, &node).map_err(|e| e.to_string())?;
    let make = |path: &str| std::fs::create_dir_all(path).map_err(|e| format!("create {path}: {e}"));
    make(&config.log_directory)?;
    make(&shared.config.pods_dir().join(pod.uid()).to_string_lossy())?;
    let (cgroups, of) = (shared.cgroups.clone(), pod.clone());
    let made = rt::spawn_blocking(move || cgroups.make(&of, of.uid())).await;
    made.map_err(|e| e.to_string())?.map_err(|e| format!("make the pod's cgroup: {e}"))?;
    let cgroup = begun.elapsed();
    let handler = runtime_handler(shared, pod).await?;
    shared.runtime.run_pod_sandbox(&config, &handler).await.map_err(|e| e.chain())?;
    tracing::debug!(pod = pod.name(), ?waited, ?cgroup, made = ?begun.elapsed(), "sandbox made");
    Ok(())
}

/// The handler of a pod's RuntimeClass.
async fn runtime_handler(shared: &Shared, pod: &Pod) -> Result<String, String> {
    let Some(name) = pod.spec().runtime_class_name.as_deref().filter(|n| !n.is_empty()) else {
        return Ok(String::new());
    };
    let client = shared.client.as_ref().ok_or("runtime classes need an API server")?;
    let class = client.get::<api::k8s::node::v1::RuntimeClass>("", name).await;
    match class {
        Ok(class) => Ok(class.handler),
        Err(error) if error.is_not_found() => {
            Err(format!("failed to get RuntimeClass: RuntimeClass {name:?} not found"))
        }
        Err(error) => Err(format!("failed to get RuntimeClass: {}", error.chain())),
    }
}
