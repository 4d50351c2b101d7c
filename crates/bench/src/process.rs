//! Memory and CPU of processes, from `/proc`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::{Cluster, machine};

use crate::table::Measured;

/// Time that a cluster is left alone before it is called idle.
const SETTLE: Duration = Duration::from_secs(15);
/// The kernel's clock ticks per second, the same on every Linux that we run on.
const TICKS: f64 = 100.0;

/// Proportional set size in MB.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Memory {
    /// All but the store's file map.
    pub(crate) own: f64,
    /// The store's file map: page cache, which the kernel takes back when it needs it.
    pub(crate) store_map: f64,
}

/// Reads the memory of a process from the text of its `smaps`.
fn parse(smaps: &str) -> Memory {
    let mut memory = Memory::default();
    let mut in_store = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(kilobytes) = line.strip_prefix("Pss:") {
            let kilobytes: f64 = kilobytes.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0.0);
            let part = if in_store { &mut memory.store_map } else { &mut memory.own };
            *part += kilobytes * 1024.0 / 1e6;
        } else if first.contains('-') && !first.ends_with(':') {
            in_store = line.ends_with("/data.mdb") || line.ends_with("/member/snap/db");
        }
    }
    memory
}

/// Sums the memory of processes; one that has ended counts nothing.
pub(crate) fn memory(pids: &[u32]) -> Memory {
    let each = pids.iter().filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/smaps")).ok());
    each.map(|text| parse(&text))
        .fold(Memory::default(), |sum, one| Memory { own: sum.own + one.own, store_map: sum.store_map + one.store_map })
}

/// CPU seconds that processes have used so far.
fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
    };
    pids.iter().filter_map(ticks).sum::<f64>() / TICKS
}

/// CPU of processes over a time, in percent of one core.
async fn cpu_percent(pids: &[u32], over: Duration) -> f64 {
    let (begun, before) = (Instant::now(), cpu_seconds(pids));
    tokio::time::sleep(over).await;
    (cpu_seconds(pids) - before) / begun.elapsed().as_secs_f64() * 100.0
}

/// The processes of a cluster besides the control plane.
pub(crate) fn node_processes(cluster: &Cluster) -> Result<Vec<u32>> {
    let control_plane = cluster.state()?.control_plane.context("the control plane does not run")?.pid;
    let all = machine::processes_of(cluster.name(), &cluster.data_dir());
    Ok(all.into_iter().map(|p| p.pid).filter(|pid| *pid != control_plane).collect())
}

/// Memory and CPU of a cluster of one node that nobody uses.
pub(crate) async fn idle_cluster(cluster: &Cluster, over: Duration, measured: &mut Measured) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    let control_plane = cluster.state()?.control_plane.context("the control plane does not run")?.pid;
    let nodes = node_processes(cluster)?;
    let all: Vec<u32> = nodes.iter().copied().chain([control_plane]).collect();
    measured.set("idle-cpu", cpu_percent(&all, over).await);
    let held = memory(&[control_plane]);
    measured.set("idle-control-plane", held.own);
    measured.set("idle-store-map", held.store_map);
    measured.set("idle-node", memory(&nodes).own);
    Ok(())
}

/// Memory and CPU of a control plane's processes that nobody uses.
pub(crate) async fn idle_processes(pids: &[u32], over: Duration, measured: &mut Measured) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    measured.set("idle-cpu", cpu_percent(pids, over).await);
    let held = memory(pids);
    measured.set("idle-control-plane", held.own);
    measured.set("idle-store-map", held.store_map);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_store_from_the_rest() {
        let smaps = "55d0-55d1 r-xp 00000000 08:01 12  /usr/bin/corten\nRss: 100 kB\nPss:              1000 kB\n\
            7f00-7f01 rw-s 00000000 08:01 13  /data/store/data.mdb\nPss: 2000 kB\nPss_Dirty: 5 kB\n\
            7f02-7f03 rw-p 00000000 00:00 0\nPss: 500 kB\n";
        assert_eq!(parse(smaps), Memory { own: 1.536, store_map: 2.048 });
    }
}
