//! Finding again, after a start of the daemon, what is there.

use std::path::Path;
use std::sync::Arc;

use node_api::{Error, Result};

use super::Inner;
use super::records::{
    CONTAINER_FILE, ContainerEntry, ContainerRecord, POD_STATE_FILE, Pod, SANDBOX_FILE, SandboxRecord, read_json,
};
use crate::proto::{Phase, Run};
use crate::supervisor::{CONTAINERS_DIR, SOCKET_FILE};

impl Inner {
    pub(super) async fn recover(self: &Arc<Self>) -> Result<()> {
        let dir = self.pods_dir();
        let entries = std::fs::read_dir(&dir).map_err(|e| Error::internal(format!("read {}", dir.display()), e))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if name.starts_with('.') {
                // Half made or half removed when the daemon ended.
                self.discard(&path);
                continue;
            }
            match self.recover_pod(name, &path).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(dir = %path.display(), error = error.chain(), "a pod's directory is not readable");
                }
            }
        }
        self.remove_stray_netns();
        Ok(())
    }

    /// Removes a directory of a pod that is none, with whatever is mounted in it.
    pub(super) fn discard(&self, path: &Path) {
        if let Err(error) = sys::mount::unmount_below(path).and_then(|()| sys::fs::remove_tree(path)) {
            tracing::warn!(dir = %path.display(), error = error.line(), "leftovers could not be removed");
        }
    }

    async fn recover_pod(self: &Arc<Self>, id: String, dir: &Path) -> Result<()> {
        let record: SandboxRecord = read_json(&dir.join(SANDBOX_FILE))?;
        let state = read_json(&dir.join(POD_STATE_FILE)).unwrap_or_default();
        let pod = Arc::new(Pod::new(id.clone(), dir.to_owned(), record, state));
        self.pods.lock().insert(id, Arc::clone(&pod));
        self.recover_containers(&pod);
        let connected = match sys::fdpass::connect(&dir.join(SOCKET_FILE)) {
            Ok(socket) => self.reconnect(&pod, socket).await.is_ok(),
            Err(_) => false,
        };
        let (started, stopped) = {
            let state = pod.state.lock();
            (state.started, state.stopped)
        };
        if !started && !stopped {
            // Nobody has its id: the daemon ended before it could give it.
            self.undo_pod(&pod).await;
            self.pods.lock().remove(&pod.id);
            return Ok(());
        }
        if !connected {
            pod.link.send_replace(None);
            for container in self.containers_of(&pod.id) {
                if container.phase() == Phase::Running {
                    self.lose(&container);
                }
            }
        }
        Ok(())
    }

    fn recover_containers(&self, pod: &Arc<Pod>) {
        let Ok(entries) = std::fs::read_dir(pod.dir.join(CONTAINERS_DIR)) else { return };
        for entry in entries.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            if id.starts_with('.') {
                self.discard(&path);
                continue;
            }
            let record: ContainerRecord = match read_json(&path.join(CONTAINER_FILE)) {
                Ok(record) => record,
                Err(error) => {
                    tracing::warn!(container = id, error = error.chain(), "a container is not readable");
                    continue;
                }
            };
            let run = read_json::<Run>(&path.join("state.json")).unwrap_or_default();
            let container = Arc::new(ContainerEntry::new(id.clone(), Arc::clone(pod), record, run));
            self.containers.lock().insert(id, container);
        }
    }

    /// Network namespaces of pods that are no more.
    fn remove_stray_netns(&self) {
        let Ok(entries) = std::fs::read_dir(self.root.join("netns")) else { return };
        for entry in entries.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if !self.pods.lock().contains_key(&id)
                && let Err(error) = sys::namespace::unpin(&entry.path())
            {
                tracing::warn!(netns = id, error = error.line(), "a network namespace could not be removed");
            }
        }
    }
}
