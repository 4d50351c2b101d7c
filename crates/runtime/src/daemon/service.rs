//! `node-api`'s runtime service.

use std::time::Duration;

use async_trait::async_trait;
use node_api::*;

use super::Runtime;
use super::containers::{describe, describe_pod, status_of, status_of_pod};
use crate::proto::Op;

#[async_trait]
impl RuntimeService for Runtime {
    async fn version(&self) -> Result<VersionInfo> {
        Ok(VersionInfo {
            runtime_name: "corten".to_owned(),
            runtime_version: self.0.options.version.clone(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn status(&self) -> Result<RuntimeStatus> {
        let condition = |kind: &str, problem: Option<(&str, String)>| {
            let (reason, message) = problem.clone().unwrap_or_default();
            RuntimeCondition { kind: kind.to_owned(), status: problem.is_none(), reason: reason.to_owned(), message }
        };
        let network = match &self.0.options.network {
            None => Some("no network is configured".to_owned()),
            Some(network) => network.ready().await.err().map(|e| e.chain()),
        };
        let network = network.map(|message| ("NetworkPluginNotReady", message));
        let handlers = std::iter::once(String::new()).chain(self.0.options.handlers.iter().cloned());
        let handlers =
            handlers.map(|name| RuntimeHandler { name, recursive_read_only_mounts: true, user_namespaces: false });
        Ok(RuntimeStatus {
            conditions: vec![condition("RuntimeReady", None), condition("NetworkReady", network)],
            handlers: handlers.collect(),
            supplemental_groups_policy: true,
        })
    }

    async fn cgroup_driver(&self) -> Result<CgroupDriver> {
        Ok(CgroupDriver::Cgroupfs)
    }

    async fn update_pod_cidrs(&self, cidrs: &[String]) -> Result<()> {
        match &self.0.options.network {
            Some(network) => network.set_pod_cidrs(cidrs).await,
            None => Ok(()),
        }
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, runtime_handler: &str) -> Result<String> {
        self.0.run_pod(config, runtime_handler).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.0.stop_pod(id).await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.0.remove_pod(id).await
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        Ok(status_of_pod(&*self.0.pod(id)?))
    }

    async fn list_pod_sandboxes(&self, filter: &PodSandboxFilter) -> Result<Vec<PodSandbox>> {
        Ok(self.0.list_pods(filter).iter().map(|p| describe_pod(p)).collect())
    }

    async fn update_pod_sandbox_resources(
        &self,
        id: &str,
        _overhead: Option<&LinuxResources>,
        _resources: Option<&LinuxResources>,
    ) -> Result<()> {
        // The pod's own group is the kubelet's, as in upstream; the runtime has nothing of its own to resize.
        self.0.pod(id).map(drop)
    }

    async fn create_container(&self, sandbox_id: &str, config: &ContainerConfig) -> Result<String> {
        self.0.create(sandbox_id, config).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        self.0.start(id).await
    }

    async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        self.0.stop(id, timeout).await
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.0.remove(id).await
    }

    async fn list_containers(&self, filter: &ContainerFilter) -> Result<Vec<Container>> {
        Ok(self.0.list(filter).iter().map(|c| describe(c)).collect())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        Ok(status_of(&*self.0.container(id)?))
    }

    async fn update_container_resources(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        self.0.update(id, resources).await
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let container = self.0.container(id)?;
        let op = Op::ReopenLog { container: id.to_owned() };
        container.pod.link()?.call(op, &[]).await.map(drop)
    }

    async fn exec_sync(&self, id: &str, cmd: &[String], timeout: Option<Duration>) -> Result<ExecSyncResult> {
        self.0.exec_sync(id, cmd, timeout).await
    }

    async fn exec(&self, request: &ExecRequest) -> Result<ProcessStreams> {
        self.0.exec(request).await
    }

    async fn attach(&self, request: &AttachRequest) -> Result<ProcessStreams> {
        self.0.attach(request).await
    }

    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>> {
        self.0.port_forward(sandbox_id, port).await
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let container = self.0.container(id)?;
        self.0.stats_of(&container).await
    }

    async fn list_container_stats(&self, filter: &ContainerFilter) -> Result<Vec<ContainerStats>> {
        let mut list = Vec::new();
        for container in self.0.list(filter) {
            list.push(self.0.stats_of(&container).await?);
        }
        Ok(list)
    }

    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats> {
        let pod = self.0.pod(id)?;
        self.0.stats_of_pod(&pod).await
    }

    async fn list_pod_sandbox_stats(&self, filter: &PodSandboxFilter) -> Result<Vec<PodSandboxStats>> {
        let mut list = Vec::new();
        for pod in self.0.list_pods(filter) {
            list.push(self.0.stats_of_pod(&pod).await?);
        }
        Ok(list)
    }

    async fn container_events(&self) -> Result<EventStream> {
        Ok(self.0.subscribe())
    }
}
