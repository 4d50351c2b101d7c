//! Usage of containers and pods.

use std::path::Path;

use node_api::{ContainerStats, CpuUsage, FilesystemUsage, InterfaceUsage, MemoryUsage, PodSandboxStats, Result};
use sys::cgroup::Stats;

use super::records::{ContainerEntry, Pod};
use super::{Inner, now_ns};

impl Inner {
    pub(super) async fn stats_of(&self, container: &ContainerEntry) -> Result<ContainerStats> {
        let config = &container.record.config;
        let stats = self.read(&container.record.cgroup);
        Ok(ContainerStats {
            id: container.id.clone(),
            pod_sandbox_id: container.pod.id.clone(),
            metadata: config.metadata.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            cpu: cpu(&stats),
            memory: memory(&stats),
            writable_layer: writable_layer(container).await,
            process_count: stats.tasks,
        })
    }

    pub(super) async fn stats_of_pod(&self, pod: &Pod) -> Result<PodSandboxStats> {
        let config = &pod.record.config;
        let stats = self.read(&pod.record.cgroup);
        let mut containers = Vec::new();
        for container in self.containers_of(&pod.id) {
            containers.push(self.stats_of(&container).await?);
        }
        Ok(PodSandboxStats {
            id: pod.id.clone(),
            metadata: config.metadata.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            cpu: cpu(&stats),
            memory: memory(&stats),
            interfaces: self.interfaces(pod),
            process_count: stats.tasks,
            containers,
        })
    }

    fn read(&self, cgroup: &str) -> Stats {
        if cgroup.is_empty() { Stats::default() } else { self.hierarchies.group(Path::new(cgroup)).stats() }
    }

    /// The pod's interfaces, as any process in its network namespace sees them.
    fn interfaces(&self, pod: &Pod) -> Vec<InterfaceUsage> {
        if pod.record.netns.is_none() {
            return Vec::new();
        }
        let Some(pid) = self.containers_of(&pod.id).iter().map(|c| c.run.borrow().pid).find(|pid| *pid != 0) else {
            return Vec::new();
        };
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
        text.lines().filter_map(interface).filter(|i| i.name != "lo").collect()
    }
}

fn interface(line: &str) -> Option<InterfaceUsage> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(InterfaceUsage {
        name: name.trim().to_owned(),
        rx_bytes: *numbers.first()?,
        rx_errors: *numbers.get(2)?,
        tx_bytes: *numbers.get(8)?,
        tx_errors: *numbers.get(10)?,
    })
}

fn cpu(stats: &Stats) -> CpuUsage {
    CpuUsage { timestamp: now_ns(), usage_core_nano_seconds: stats.cpu_ns }
}

fn memory(stats: &Stats) -> MemoryUsage {
    MemoryUsage {
        timestamp: now_ns(),
        working_set_bytes: stats.working_set_bytes,
        available_bytes: stats.memory_limit.map(|limit| limit.saturating_sub(stats.working_set_bytes)),
        usage_bytes: stats.memory_bytes,
        rss_bytes: stats.rss_bytes,
        page_faults: stats.page_faults,
        major_page_faults: stats.major_page_faults,
        swap_usage_bytes: stats.swap_bytes,
    }
}

/// Walks the container's own layer, away from the async threads.
async fn writable_layer(container: &ContainerEntry) -> Option<FilesystemUsage> {
    let dir = container.dir().join("upper");
    let mountpoint = dir.display().to_string();
    let measured = tokio::task::spawn_blocking(move || (sys::fs::usage(&dir), sys::fs::space(&dir))).await;
    let (Ok(usage), Ok(space)) = measured.ok()? else { return None };
    Some(FilesystemUsage {
        timestamp: now_ns(),
        mountpoint,
        used_bytes: usage.bytes,
        inodes_used: usage.inodes,
        capacity_bytes: space.capacity,
        available_bytes: space.available,
        inodes: space.inodes,
        inodes_free: space.inodes_free,
    })
}
