//! Metrics in the text format: the kubelet's own, resources, and what is left of cAdvisor's.

use std::fmt::Write;
use std::sync::Arc;

use node_api::{ContainerFilter, ContainerState, PodSandboxFilter, PodSandboxState};

use super::stats::{newest, node_usage};
use crate::shared::Shared;

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `/metrics`.
#[must_use]
pub fn kubelet(shared: &Arc<Shared>) -> String {
    let mut out = String::new();
    let (mut pods, mut states) = (0, [0u64; 3]);
    for handle in shared.handles() {
        let observed = handle.view.lock().observed.clone();
        pods += u64::from(observed.sandboxes.first().is_some_and(|s| s.state == PodSandboxState::Ready));
        for status in &observed.containers {
            match status.state {
                ContainerState::Created => states[0] += 1,
                ContainerState::Running => states[1] += 1,
                ContainerState::Exited => states[2] += 1,
                ContainerState::Unknown => {}
            }
        }
    }
    head(&mut out, "kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox");
    let _ = writeln!(out, "kubelet_running_pods {pods}");
    head(&mut out, "kubelet_running_containers", "gauge", "Number of containers by state");
    for (name, count) in ["created", "running", "exited"].iter().zip(states) {
        let _ = writeln!(out, "kubelet_running_containers{{container_state=\"{name}\"}} {count}");
    }
    head(&mut out, "kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    let _ = writeln!(out, "kubelet_node_name{{node=\"{}\"}} 1", quoted(&shared.config.node_name));
    head(&mut out, "kubernetes_build_info", "gauge", "The version this kubelet is compatible with");
    let _ = writeln!(out, "kubernetes_build_info{{git_version=\"v1.36.0\",major=\"1\",minor=\"36\"}} 1");
    process(&mut out);
    out
}

fn process(out: &mut String) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    head(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.");
    let _ = writeln!(out, "process_resident_memory_bytes {}", pages * rustix::param::page_size() as u64);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum();
    head(out, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.");
    let _ = writeln!(out, "process_cpu_seconds_total {}", ticks as f64 / 100.0);
    let files = std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or(0);
    head(out, "process_open_fds", "gauge", "Number of open file descriptors.");
    let _ = writeln!(out, "process_open_fds {files}");
}

/// `/metrics/resource`.
pub async fn resource(shared: &Arc<Shared>) -> String {
    let stats = shared.runtime.list_pod_sandbox_stats(&PodSandboxFilter::default()).await;
    let failed = u8::from(stats.is_err());
    let stats = stats.unwrap_or_default();
    let mut out = String::new();
    let (cpu, memory) = node_usage();
    let millis = |nanos: i64| nanos / 1_000_000;
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    type Row = (String, f64, i64);
    let mut tables: Vec<(&str, &str, &str, Vec<Row>)> = vec![
        (
            "container_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the container in core-seconds",
            Vec::new(),
        ),
        ("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes", Vec::new()),
        (
            "container_start_time_seconds",
            "gauge",
            "Start time of the container since unix epoch in seconds",
            Vec::new(),
        ),
        (
            "pod_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the pod in core-seconds",
            Vec::new(),
        ),
        ("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes", Vec::new()),
    ];
    for pod in &stats {
        let names = format!("namespace=\"{}\",pod=\"{}\"", quoted(&pod.metadata.namespace), quoted(&pod.metadata.name));
        tables[3].3.push((names.clone(), seconds(pod.cpu.usage_core_nano_seconds), millis(pod.cpu.timestamp)));
        tables[4].3.push((names.clone(), pod.memory.working_set_bytes as f64, millis(pod.memory.timestamp)));
        let observed = shared.handle(&pod.metadata.uid).map(|h| h.view.lock().observed.clone()).unwrap_or_default();
        for c in newest(&pod.containers) {
            let labels = format!("container=\"{}\",{names}", quoted(&c.metadata.name));
            tables[0].3.push((labels.clone(), seconds(c.cpu.usage_core_nano_seconds), millis(c.cpu.timestamp)));
            tables[1].3.push((labels.clone(), c.memory.working_set_bytes as f64, millis(c.memory.timestamp)));
            if let Some(status) = observed.latest(&c.metadata.name) {
                tables[2].3.push((labels, status.started_at as f64 / 1e9, 0));
            }
        }
    }
    for (name, kind, help, rows) in tables.into_iter().filter(|t| !t.3.is_empty()) {
        head(&mut out, name, kind, help);
        for (labels, value, at) in rows {
            let at = if at == 0 { String::new() } else { format!(" {at}") };
            let _ = writeln!(out, "{name}{{{labels}}} {value}{at}");
        }
    }
    head(
        &mut out,
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
    );
    let _ = writeln!(
        out,
        "node_cpu_usage_seconds_total {} {}",
        seconds(cpu.usage_core_nano_seconds),
        millis(cpu.timestamp)
    );
    head(&mut out, "node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes");
    let _ = writeln!(out, "node_memory_working_set_bytes {} {}", memory.working_set_bytes, millis(memory.timestamp));
    for name in ["resource_scrape_error", "scrape_error"] {
        head(&mut out, name, "gauge", "1 if there was an error while getting container metrics, 0 otherwise");
        let _ = writeln!(out, "{name} {failed}");
    }
    out
}

/// `/metrics/cadvisor`.
pub async fn cadvisor(shared: &Arc<Shared>) -> String {
    let mut out = String::new();
    head(&mut out, "machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    let _ = writeln!(out, "machine_cpu_cores {}", shared.machine.cpus);
    head(&mut out, "machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
    let _ = writeln!(out, "machine_memory_bytes {}", shared.machine.memory);
    let all = shared.runtime.list_container_stats(&ContainerFilter::default()).await.unwrap_or_default();
    let list = newest(&all);
    let label =
        |c: &node_api::ContainerStats, key: &str| quoted(c.labels.get(key).map(String::as_str).unwrap_or_default());
    let labels = |c: &node_api::ContainerStats| {
        use crate::pod::labels::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE};
        format!(
            "container=\"{}\",id=\"{}\",namespace=\"{}\",pod=\"{}\"",
            label(c, CONTAINER_NAME),
            c.id,
            label(c, POD_NAMESPACE),
            label(c, POD_NAME)
        )
    };
    head(&mut out, "container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.");
    for c in &list {
        let _ = writeln!(
            out,
            "container_cpu_usage_seconds_total{{{},cpu=\"total\"}} {}",
            labels(c),
            c.cpu.usage_core_nano_seconds as f64 / 1e9
        );
    }
    head(&mut out, "container_memory_working_set_bytes", "gauge", "Current working set in bytes.");
    for c in &list {
        let _ = writeln!(out, "container_memory_working_set_bytes{{{}}} {}", labels(c), c.memory.working_set_bytes);
    }
    head(
        &mut out,
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
    );
    for c in &list {
        let _ = writeln!(out, "container_memory_usage_bytes{{{}}} {}", labels(c), c.memory.usage_bytes);
    }
    out
}
