//! `/stats/summary`: usage of the node and its pods.

use std::sync::Arc;

use node_api::{ContainerStats, CpuUsage, FilesystemUsage, MemoryUsage, PodSandboxFilter, PodSandboxStats};
use parking_lot::Mutex;
use rt::HashMap;
use rt::time::Timestamp;
use serde_json::{Value, json};

use crate::shared::Shared;

/// The samples before, for rates.
#[derive(Default)]
pub struct Usage(Mutex<HashMap<String, (CpuUsage, u64)>>);

impl Usage {
    /// The rate since the last sample of a key, in thousand-millionths of a core.
    fn rate(&self, key: &str, now: CpuUsage) -> u64 {
        let mut samples = self.0.lock();
        let (before, last) = samples.get(key).copied().unwrap_or_default();
        let elapsed = u64::try_from(now.timestamp - before.timestamp).unwrap_or(0);
        // Two questions right after another share one sample: too little time tells nothing.
        if before.timestamp != 0 && elapsed < 1_000_000_000 {
            return last;
        }
        let used = now.usage_core_nano_seconds.saturating_sub(before.usage_core_nano_seconds);
        let rate = if before.timestamp == 0 || elapsed == 0 {
            0
        } else {
            (u128::from(used) * 1_000_000_000 / u128::from(elapsed)) as u64
        };
        samples.insert(key.to_owned(), (now, rate));
        rate
    }
}

fn time(nanos: i64) -> String {
    let at = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn cpu(usage: &Usage, key: &str, now: CpuUsage) -> Value {
    json!({"time": time(now.timestamp), "usageNanoCores": usage.rate(key, now), "usageCoreNanoSeconds": now.usage_core_nano_seconds})
}

fn memory(m: &MemoryUsage) -> Value {
    let mut value = json!({"time": time(m.timestamp), "usageBytes": m.usage_bytes, "workingSetBytes": m.working_set_bytes,
        "rssBytes": m.rss_bytes, "pageFaults": m.page_faults, "majorPageFaults": m.major_page_faults});
    if let Some(available) = m.available_bytes {
        value["availableBytes"] = available.into();
    }
    value
}

fn filesystem(f: &FilesystemUsage) -> Value {
    json!({"time": time(f.timestamp), "availableBytes": f.available_bytes, "capacityBytes": f.capacity_bytes, "usedBytes": f.used_bytes,
        "inodesFree": f.inodes_free, "inodes": f.inodes, "inodesUsed": f.inodes_used})
}

/// The file system below a directory.
fn local_filesystem(path: &std::path::Path) -> FilesystemUsage {
    let Ok(s) = rustix::fs::statvfs(path) else { return FilesystemUsage::default() };
    FilesystemUsage {
        timestamp: i64::try_from(rt::time::now().as_nanosecond()).unwrap_or(0),
        mountpoint: path.to_string_lossy().into_owned(),
        used_bytes: (s.f_blocks - s.f_bfree) * s.f_frsize,
        inodes_used: s.f_files.saturating_sub(s.f_ffree),
        capacity_bytes: s.f_blocks * s.f_frsize,
        available_bytes: s.f_bavail * s.f_frsize,
        inodes: s.f_files,
        inodes_free: s.f_ffree,
    }
}

/// The node's own CPU time and memory.
#[must_use]
pub fn node_usage() -> (CpuUsage, MemoryUsage) {
    let timestamp = i64::try_from(rt::time::now().as_nanosecond()).unwrap_or(0);
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|l| l.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, irq, softirq, steal: everything but idle and iowait; a tick is 10 ms.
    let used: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|i| ticks.get(*i)).sum();
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let line = info.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
    };
    let (total, available) = (kib("MemTotal") * 1024, kib("MemAvailable") * 1024);
    let memory = MemoryUsage {
        timestamp,
        working_set_bytes: total.saturating_sub(available),
        available_bytes: Some(available),
        usage_bytes: total.saturating_sub(kib("MemFree") * 1024),
        rss_bytes: kib("AnonPages") * 1024,
        ..MemoryUsage::default()
    };
    (CpuUsage { timestamp, usage_core_nano_seconds: used * 10_000_000 }, memory)
}

/// The newest run of each container: ended ones would be told twice under one name.
#[must_use]
pub fn newest(all: &[ContainerStats]) -> Vec<&ContainerStats> {
    let key = |c: &ContainerStats| (c.pod_sandbox_id.clone(), c.metadata.name.clone());
    let mut by_name: std::collections::BTreeMap<_, &ContainerStats> = std::collections::BTreeMap::new();
    for stats in all {
        let newer = by_name.get(&key(stats)).is_none_or(|known| known.metadata.attempt < stats.metadata.attempt);
        if newer {
            by_name.insert(key(stats), stats);
        }
    }
    by_name.into_values().collect()
}

/// The summary.
pub async fn summary(shared: &Arc<Shared>, usage: &Usage) -> Value {
    let pods = shared.runtime.list_pod_sandbox_stats(&PodSandboxFilter::default()).await.unwrap_or_default();
    let images = shared.images.image_fs_info().await.unwrap_or_default();
    let (node_cpu, node_memory) = node_usage();
    let fs = local_filesystem(&shared.config.root_dir);
    let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot: i64 =
        boot.lines().find_map(|l| l.strip_prefix("btime ")).and_then(|t| t.trim().parse().ok()).unwrap_or(0);
    let image_fs = images.first().map_or_else(|| filesystem(&fs), filesystem);
    json!({
        "node": {
            "nodeName": shared.config.node_name,
            "startTime": time(boot.saturating_mul(1_000_000_000)),
            "cpu": cpu(usage, "node", node_cpu),
            "memory": memory(&node_memory),
            "fs": filesystem(&fs),
            "runtime": {"imageFs": image_fs.clone(), "containerFs": image_fs},
            "rlimit": {"time": time(node_cpu.timestamp)},
            "systemContainers": [],
        },
        "pods": pods.iter().map(|p| pod(shared, usage, p, &fs)).collect::<Vec<_>>(),
    })
}

fn pod(shared: &Shared, usage: &Usage, stats: &PodSandboxStats, fs: &FilesystemUsage) -> Value {
    let meta = &stats.metadata;
    let started = shared.statuses.get(&meta.uid).and_then(|s| s.start_time.clone());
    let started = started.map_or_else(|| time(stats.cpu.timestamp), |t| t.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let interfaces: Vec<Value> = stats
        .interfaces
        .iter()
        .map(|i| json!({"name": i.name, "rxBytes": i.rx_bytes, "rxErrors": i.rx_errors, "txBytes": i.tx_bytes, "txErrors": i.tx_errors}))
        .collect();
    let mut value = json!({
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "startTime": started,
        "containers": newest(&stats.containers).into_iter().map(|c| container(shared, usage, c, fs)).collect::<Vec<_>>(),
        "cpu": cpu(usage, &stats.id, stats.cpu),
        "memory": memory(&stats.memory),
        "process_stats": {"process_count": stats.process_count},
        "ephemeral-storage": filesystem(&FilesystemUsage { used_bytes: 0, ..fs.clone() }),
    });
    if let Some(first) = interfaces.first() {
        let mut network = first.clone();
        network["time"] = time(stats.cpu.timestamp).into();
        network["interfaces"] = interfaces.into();
        value["network"] = network;
    }
    value
}

fn container(shared: &Shared, usage: &Usage, stats: &ContainerStats, fs: &FilesystemUsage) -> Value {
    let uid = stats.labels.get(crate::pod::labels::POD_UID).cloned().unwrap_or_default();
    let observed = shared.handle(&uid).map(|h| h.view.lock().observed.clone()).unwrap_or_default();
    let started = observed.latest(&stats.metadata.name).map_or(stats.cpu.timestamp, |s| s.started_at);
    let rootfs = stats.writable_layer.clone().unwrap_or_default();
    json!({
        "name": stats.metadata.name,
        "startTime": time(started),
        "cpu": cpu(usage, &stats.id, stats.cpu),
        "memory": memory(&stats.memory),
        "rootfs": filesystem(&FilesystemUsage { used_bytes: rootfs.used_bytes, inodes_used: rootfs.inodes_used, ..fs.clone() }),
        "logs": filesystem(&FilesystemUsage { used_bytes: 0, inodes_used: 1, ..fs.clone() }),
        "swap": {"time": time(stats.cpu.timestamp), "swapUsageBytes": stats.memory.swap_usage_bytes},
    })
}
