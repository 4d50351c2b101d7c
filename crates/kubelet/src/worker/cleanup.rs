//! Taking down what is left of a pod, and letting go of its object.

use std::time::Duration;

use client::DeleteOptions;
use node_api::PodSandboxState;

use super::{Done, Stage, Worker};
use crate::k8s::{Kind, Pod, PodExt};

impl Worker {
    /// Stops the sandbox and takes the volumes down. Containers stay on record, for their logs and statuses.
    pub(super) fn clean(&mut self) {
        self.stage = Stage::Cleaning;
        for status in &self.observed.containers {
            self.shared.probes.stop(&status.id);
        }
        let ready = self.observed.sandboxes.iter().filter(|s| s.state == PodSandboxState::Ready);
        let ready: Vec<String> = ready.map(|s| s.id.clone()).collect();
        let (shared, uid) = (self.shared.clone(), self.handle.uid.clone());
        // The sandbox is stopped even where it is not ready any more: its network may still be there.
        let rest: Vec<String> =
            self.observed.sandboxes.iter().filter(|s| !ready.contains(&s.id)).map(|s| s.id.clone()).collect();
        self.volumes.mounted = None;
        self.push(async move {
            for id in ready.iter().chain(&rest) {
                if let Err(error) = shared.runtime.stop_pod_sandbox(id).await
                    && !error.is_not_found()
                {
                    return Done::Cleaned(Err(error.chain()));
                }
            }
            if let Err(error) = shared.volumes.tear_down(&uid).await {
                return Done::Cleaned(Err(error.to_string()));
            }
            Done::Cleaned(Ok(()))
        });
    }

    /// The pod is down: once its object is to go, it is deleted for good; once it is gone, so is everything else.
    pub(super) fn step_terminated(&mut self) {
        if self.gone {
            self.remove();
            return;
        }
        if !self.pod.is_deleting() || self.pod.is_static() || self.deleting || self.deleted {
            return;
        }
        let now = rt::time::now();
        if !self.cleanup_retry.due(now) {
            self.cleanup_retry.at.into_iter().for_each(|at| self.wake_by(at));
            return;
        }
        let Some(client) = self.shared.client.clone() else { return };
        // The last status must be known before the object goes: controllers count how the pod ended.
        self.publish();
        self.deleting = true;
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        self.push(async move {
            shared.statuses.flushed(pod.uid()).await;
            match client.delete::<Pod>(pod.namespace(), pod.name(), &DeleteOptions::now(pod.uid())).await {
                Ok(()) => Done::Deleted(Ok(())),
                // Gone already, or replaced by another pod of this name.
                Err(error) if error.is_not_found() || error.is_conflict() => Done::Deleted(Ok(())),
                Err(error) => Done::Deleted(Err(error.chain())),
            }
        });
    }

    /// Removes the links to logs of containers that go.
    pub(super) fn unlink_logs<'a>(&self, containers: impl Iterator<Item = (&'a str, &'a str)>) {
        for (name, id) in containers {
            let link = crate::spec::sandbox::log_link(&self.shared.config.pod_logs_dir, &self.pod, name, id);
            let _ = std::fs::remove_file(link);
        }
    }

    fn remove(&mut self) {
        self.stage = Stage::Removing;
        let sandboxes: Vec<String> = self.observed.sandboxes.iter().map(|s| s.id.clone()).collect();
        let containers: Vec<String> = self.observed.containers.iter().map(|c| c.id.clone()).collect();
        self.unlink_logs(self.observed.containers.iter().map(|c| (c.metadata.name.as_str(), c.id.as_str())));
        let (shared, pod, uid) = (self.shared.clone(), self.pod.clone(), self.handle.uid.clone());
        self.push(async move {
            for id in containers {
                let _ = shared.runtime.remove_container(&id).await;
            }
            for id in sandboxes {
                while let Err(error) = shared.runtime.remove_pod_sandbox(&id).await {
                    if error.is_not_found() {
                        break;
                    }
                    tracing::warn!(sandbox = id, error = error.chain(), "cannot remove a sandbox; trying again");
                    rt::time::sleep(Duration::from_secs(5)).await;
                }
            }
            let logs = crate::spec::sandbox::log_directory(&shared.config.pod_logs_dir, &pod);
            let dir = shared.config.pods_dir().join(&uid);
            let (cgroups, of) = (shared.cgroups.clone(), pod.clone());
            let removed = rt::spawn_blocking(move || {
                cgroups.remove(&of, of.uid());
                // Volumes were taken down before; what is left are the kubelet's own files.
                let _ = std::fs::remove_dir_all(logs);
                for name in ["containers", "etc-hosts"] {
                    let path = dir.join(name);
                    let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
                }
                std::fs::remove_dir(dir)
            });
            let _ = removed.await;
            Done::Removed
        });
    }
}
