//! A runtime in memory: containers run until told to stop, or end at once with the code their image names (`exit:3`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use node_api::*;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};

#[derive(Default)]
struct State {
    next: u64,
    sandboxes: BTreeMap<String, (PodSandboxStatus, bool)>,
    containers: BTreeMap<String, ContainerStatus>,
    log: Vec<String>,
    images: Vec<String>,
}

/// See the module.
pub struct Fake {
    state: Mutex<State>,
    events: broadcast::Sender<ContainerEvent>,
}

fn now() -> i64 {
    i64::try_from(rt::time::now().as_nanosecond()).unwrap()
}

impl Fake {
    pub fn new(images: &[&str]) -> Arc<Self> {
        let state = State { images: images.iter().map(|i| (*i).to_owned()).collect(), ..State::default() };
        Arc::new(Self { state: Mutex::new(state), events: broadcast::channel(1024).0 })
    }

    /// What was asked for, in order.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().log.clone()
    }

    pub fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.sandboxes.is_empty() && state.containers.is_empty()
    }

    /// Ends the newest container of a name.
    pub fn exit(&self, name: &str, code: i32) {
        let id = {
            let state = self.state.lock();
            let found = state.containers.values().filter(|c| c.metadata.name == name).max_by_key(|c| c.created_at);
            found.map(|c| c.id.clone()).unwrap()
        };
        self.end(&id, code);
    }

    fn end(&self, id: &str, code: i32) {
        let mut state = self.state.lock();
        let Some(c) = state.containers.get_mut(id).filter(|c| c.state == ContainerState::Running) else { return };
        (c.state, c.exit_code, c.finished_at) = (ContainerState::Exited, code, now());
        c.reason = if code == 0 { REASON_COMPLETED } else { REASON_ERROR }.to_owned();
        let (sandbox, uid) =
            (c.pod_sandbox_id.clone(), c.labels.get("io.kubernetes.pod.uid").cloned().unwrap_or_default());
        drop(state);
        self.tell(id, &sandbox, &uid, ContainerEventType::Stopped);
    }

    fn tell(&self, id: &str, sandbox: &str, uid: &str, event_type: ContainerEventType) {
        let _ = self.events.send(ContainerEvent {
            container_id: id.to_owned(),
            pod_sandbox_id: sandbox.to_owned(),
            pod_uid: uid.to_owned(),
            event_type,
            created_at: now(),
        });
    }
}

fn missing(what: &'static str, id: &str) -> Error {
    Error::NotFound { what, id: id.to_owned() }
}

fn has(labels: &StringMap, wanted: &StringMap) -> bool {
    wanted.iter().all(|(k, v)| labels.get(k) == Some(v))
}

#[async_trait]
impl RuntimeService for Fake {
    async fn version(&self) -> Result<VersionInfo> {
        Ok(VersionInfo { runtime_name: "fake".to_owned(), ..VersionInfo::default() })
    }
    async fn status(&self) -> Result<RuntimeStatus> {
        Ok(RuntimeStatus::default())
    }
    async fn cgroup_driver(&self) -> Result<CgroupDriver> {
        Ok(CgroupDriver::Cgroupfs)
    }
    async fn update_pod_cidrs(&self, _: &[String]) -> Result<()> {
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, _: &str) -> Result<String> {
        let mut state = self.state.lock();
        state.next += 1;
        let id = format!("s{}", state.next);
        state.log.push(format!("sandbox {}", config.metadata.name));
        let status = PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: PodSandboxState::Ready,
            created_at: now(),
            network: vec!["10.0.0.2".parse().unwrap()],
            labels: config.labels.clone(),
            ..PodSandboxStatus::default()
        };
        state.sandboxes.insert(id.clone(), (status, true));
        Ok(id)
    }
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        if let Some((status, _)) = state.sandboxes.get_mut(id) {
            status.state = PodSandboxState::NotReady;
        }
        state.log.push("stop sandbox".to_owned());
        Ok(())
    }
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.sandboxes.remove(id);
        state.containers.retain(|_, c| c.pod_sandbox_id != id);
        Ok(())
    }
    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        self.state.lock().sandboxes.get(id).map(|(s, _)| s.clone()).ok_or_else(|| missing("pod sandbox", id))
    }
    async fn list_pod_sandboxes(&self, filter: &PodSandboxFilter) -> Result<Vec<PodSandbox>> {
        let state = self.state.lock();
        let all = state.sandboxes.values().filter(|(s, _)| has(&s.labels, &filter.labels));
        let one = |(s, _): &(PodSandboxStatus, bool)| PodSandbox {
            id: s.id.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            created_at: s.created_at,
            labels: s.labels.clone(),
            ..PodSandbox::default()
        };
        Ok(all.map(one).collect())
    }
    async fn update_pod_sandbox_resources(
        &self,
        _: &str,
        _: Option<&LinuxResources>,
        _: Option<&LinuxResources>,
    ) -> Result<()> {
        Ok(())
    }

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<String> {
        let mut state = self.state.lock();
        state.next += 1;
        let id = format!("c{}", state.next);
        let status = ContainerStatus {
            id: id.clone(),
            pod_sandbox_id: sandbox.to_owned(),
            metadata: config.metadata.clone(),
            state: ContainerState::Created,
            created_at: now(),
            image: config.image.clone(),
            image_ref: config.image.image.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            ..ContainerStatus::default()
        };
        state.containers.insert(id.clone(), status);
        Ok(id)
    }
    async fn start_container(&self, id: &str) -> Result<()> {
        let (image, sandbox, uid) = {
            let mut state = self.state.lock();
            let c = state.containers.get_mut(id).ok_or_else(|| missing("container", id))?;
            (c.state, c.started_at) = (ContainerState::Running, now());
            let (name, image, sandbox) =
                (c.metadata.name.clone(), c.image.user_specified_image.clone(), c.pod_sandbox_id.clone());
            let uid = c.labels.get("io.kubernetes.pod.uid").cloned().unwrap_or_default();
            state.log.push(format!("start {name}"));
            (image, sandbox, uid)
        };
        self.tell(id, &sandbox, &uid, ContainerEventType::Started);
        if let Some(code) = image.strip_prefix("exit:") {
            self.end(id, code.parse().unwrap());
        }
        Ok(())
    }
    async fn stop_container(&self, id: &str, _: Duration) -> Result<()> {
        let name = self
            .state
            .lock()
            .containers
            .get(id)
            .map(|c| c.metadata.name.clone())
            .ok_or_else(|| missing("container", id))?;
        self.state.lock().log.push(format!("stop {name}"));
        self.end(id, 0);
        Ok(())
    }
    async fn remove_container(&self, id: &str) -> Result<()> {
        self.state.lock().containers.remove(id);
        Ok(())
    }
    async fn list_containers(&self, filter: &ContainerFilter) -> Result<Vec<Container>> {
        let state = self.state.lock();
        let all = state.containers.values().filter(|c| has(&c.labels, &filter.labels));
        Ok(all.map(|c| Container { id: c.id.clone(), state: c.state, ..Container::default() }).collect())
    }
    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        self.state.lock().containers.get(id).cloned().ok_or_else(|| missing("container", id))
    }
    async fn update_container_resources(&self, _: &str, _: &LinuxResources) -> Result<()> {
        Ok(())
    }
    async fn reopen_container_log(&self, _: &str) -> Result<()> {
        Ok(())
    }
    async fn exec_sync(&self, id: &str, cmd: &[String], _: Option<Duration>) -> Result<ExecSyncResult> {
        self.state.lock().log.push(format!("exec {}", cmd.join(" ")));
        let _ = id;
        Ok(ExecSyncResult {
            exit_code: i32::from(cmd.first().is_some_and(|c| c == "false")),
            ..ExecSyncResult::default()
        })
    }
    async fn exec(&self, _: &ExecRequest) -> Result<ProcessStreams> {
        Err(Error::Unsupported("exec".to_owned()))
    }
    async fn attach(&self, _: &AttachRequest) -> Result<ProcessStreams> {
        Err(Error::Unsupported("attach".to_owned()))
    }
    async fn port_forward(&self, _: &str, _: u16) -> Result<Box<dyn Duplex>> {
        Err(Error::Unsupported("port forward".to_owned()))
    }
    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        Err(missing("container", id))
    }
    async fn list_container_stats(&self, _: &ContainerFilter) -> Result<Vec<ContainerStats>> {
        Ok(Vec::new())
    }
    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats> {
        Err(missing("pod sandbox", id))
    }
    async fn list_pod_sandbox_stats(&self, _: &PodSandboxFilter) -> Result<Vec<PodSandboxStats>> {
        Ok(Vec::new())
    }
    async fn container_events(&self) -> Result<EventStream> {
        let receiver = self.events.subscribe();
        let stream = futures::stream::unfold(receiver, |mut r| async { r.recv().await.ok().map(|e| (e, r)) });
        Ok(stream.boxed())
    }
}

#[async_trait]
impl ImageService for Fake {
    async fn list_images(&self, _: Option<&ImageSpec>) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }
    async fn image_status(&self, image: &ImageSpec) -> Result<Option<Image>> {
        let state = self.state.lock();
        let known = state.images.iter().any(|i| *i == image.image || *i == image.user_specified_image);
        Ok(known.then(|| Image { id: format!("id-{}", image.image), ..Image::default() }))
    }
    async fn pull_image(
        &self,
        image: &ImageSpec,
        _: Option<&AuthConfig>,
        _: Option<mpsc::Sender<PullProgress>>,
    ) -> Result<String> {
        Err(Error::ImagePull {
            image: image.image.clone(),
            message: "no".to_owned(),
            registry_unavailable: false,
            source: None,
        })
    }
    async fn remove_image(&self, _: &ImageSpec) -> Result<()> {
        Ok(())
    }
    async fn image_fs_info(&self) -> Result<Vec<FilesystemUsage>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl NetworkService for Fake {
    async fn setup(&self, _: &NetworkRequest) -> Result<NetworkAttachment> {
        Ok(NetworkAttachment::default())
    }
    async fn teardown(&self, _: &NetworkRequest) -> Result<()> {
        Ok(())
    }
    async fn check(&self, _: &NetworkRequest) -> Result<()> {
        Ok(())
    }
    async fn ready(&self) -> Result<()> {
        Ok(())
    }
    async fn gc(&self, _: &[NetworkRequest]) -> Result<()> {
        Ok(())
    }
    async fn set_pod_cidrs(&self, _: &[String]) -> Result<()> {
        Ok(())
    }
}
