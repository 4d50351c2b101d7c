//! What a cluster has on this machine: processes, mounts, interfaces, routes, nft tables, cgroups.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use local::ClusterState;

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id on the host.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its command line, arguments separated by spaces.
    pub command: String,
    /// Its cgroups, as in `/proc/PID/cgroup`.
    pub cgroups: String,
}

fn process(pid: u32) -> Option<Process> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let stat = std::fs::read_to_string(proc.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let command = std::fs::read(proc.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    let cgroups = std::fs::read_to_string(proc.join("cgroup")).ok()?;
    Some(Process { pid, parent, command, cgroups })
}

/// All processes but kernel threads, by id.
pub fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let mut found: Vec<Process> = pids.filter_map(process).filter(|p| !p.command.is_empty()).collect();
    found.sort();
    found
}

/// The processes of a cluster: those in its cgroups, those that name its data folder, and all that come from them.
pub fn processes_of(cluster: &str, data: &Path) -> Vec<Process> {
    let (group, data) = (format!("{}/", local::cgroup(cluster)), data.display().to_string());
    let all = processes();
    let mut ours: Vec<u32> = all
        .iter()
        .filter(|p| p.pid != std::process::id() && (p.command.contains(&data) || p.cgroups.contains(&group)))
        .filter(|p| !p.command.contains(" up ") && !p.command.contains(" down "))
        .map(|p| p.pid)
        .collect();
    loop {
        let more: Vec<u32> =
            all.iter().filter(|p| ours.contains(&p.parent) && !ours.contains(&p.pid)).map(|p| p.pid).collect();
        if more.is_empty() {
            break;
        }
        ours.extend(more);
    }
    all.into_iter().filter(|p| ours.contains(&p.pid)).collect()
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("start {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn cgroups_below(dir: &Path, wanted: &str, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|e| e.path()).filter(|p| p.is_dir() && !p.is_symlink()) {
        if path.ends_with(wanted) {
            found.push(format!("cgroup {}", path.display()));
        } else {
            cgroups_below(&path, wanted, found);
        }
    }
}

/// The beginnings of the cluster's addresses, as texts.
fn prefixes(state: &ClusterState) -> Vec<String> {
    let addresses = &state.addresses;
    let nets = [addresses.gateway.trunc().network(), addresses.pods.network(), addresses.services.network()];
    nets.iter()
        .filter_map(|ip| {
            let text = ip.to_string();
            // The first two bytes are the cluster's own in each of the three networks.
            let end = text.match_indices('.').nth(1)?.0;
            Some(format!("{}.", &text[..end]))
        })
        .collect()
}

/// What is on this machine of a cluster, one line each; empty after `corten down --purge`.
///
/// # Errors
/// `ip` or `nft` is not installed.
pub fn traces(state: &ClusterState) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let data = state.data.display().to_string();
    found
        .extend(processes_of(&state.name, &state.data).into_iter().map(|p| format!("process {} {}", p.pid, p.command)));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    found.extend(mounts.lines().filter(|line| line.contains(&data)).map(|line| format!("mount {line}")));
    if state.data.exists() {
        found.push(format!("folder {data}"));
    }
    let bridge = &state.addresses.bridge;
    let prefixes = prefixes(state);
    let ours = |line: &str| {
        prefixes.iter().any(|p| line.contains(&format!(" {p}")) || line.starts_with(p.as_str()))
            || line.split([' ', ':', '@', '"']).any(|word| word == bridge || word == format!("{bridge}-masq"))
    };
    for (what, program, arguments) in [
        ("link", "ip", &["-o", "link"][..]),
        ("address", "ip", &["-o", "address"]),
        ("route", "ip", &["route"]),
        ("nft", "nft", &["list", "ruleset"]),
    ] {
        let text = output(program, arguments)?;
        found.extend(text.lines().filter(|line| ours(line)).map(|line| format!("{what} {}", line.trim())));
    }
    cgroups_below(Path::new("/sys/fs/cgroup"), local::cgroup(&state.name).trim_start_matches('/'), &mut found);
    Ok(found)
}
