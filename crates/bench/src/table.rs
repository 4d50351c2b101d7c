//! The table of budgets, and what was measured.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

/// What must be reached.
enum Budget {
    /// At most this.
    AtMost(f64),
    /// At least so many times upstream's figure of the same run.
    Times(f64),
    /// At most this share of upstream's figure of the same run.
    Share(f64),
    /// Given for information.
    None,
}

struct Row {
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    budget: Budget,
}

const fn row(name: &'static str, what: &'static str, unit: &'static str, budget: Budget) -> Row {
    Row { name, what, unit, budget }
}

/// DESIGN's budgets, in its order. Names are those of `--only`.
const ROWS: &[Row] = &[
    row("api-ready", "start of the API to ready", "s", Budget::AtMost(0.25)),
    row("node-ready", "start to node Ready, DNS answering, PKI included", "s", Budget::AtMost(1.5)),
    row("idle-control-plane", "idle PSS: store, API server, controllers, scheduler", "MB", Budget::AtMost(40.0)),
    row("idle-store-map", "  and the store's file map", "MB", Budget::None),
    row("idle-node", "idle PSS: kubelet, runtime, proxy, DNS, per node", "MB", Budget::AtMost(20.0)),
    row("idle-pod", "PSS per pod, its processes' own left out", "MB", Budget::AtMost(1.5)),
    row("idle-cpu", "idle CPU, everything, of one core", "%", Budget::AtMost(0.5)),
    row("create", "pod creates", "1/s", Budget::Times(5.0)),
    row("create-p99", "  p99", "ms", Budget::None),
    row("list-json", "list of all pods, JSON", "s", Budget::Share(1.0 / 5.0)),
    row("list-json-size", "  its size", "MB", Budget::None),
    row("list-protobuf", "list of all pods, protobuf", "s", Budget::Share(1.0 / 3.0)),
    row("list-protobuf-size", "  its size", "MB", Budget::None),
    row("get", "GET of one object", "1/s", Budget::Times(5.0)),
    row("get-p99", "  p99", "ms", Budget::None),
    row("memory", "PSS of API server and store after the creates", "MB", Budget::Share(1.0 / 6.0)),
    row("memory-store-map", "  and the store's file map", "MB", Budget::None),
    row("fan-out", "events to 1,000 watches of one resource", "1/s", Budget::Times(5.0)),
    row("crds", "100 CRDs served, discovered and in OpenAPI", "s", Budget::AtMost(3.0)),
    row("crds-memory", "  what they hold", "MB", Budget::AtMost(20.0)),
    row("policies", "what 100 validating policies add to a create", "%", Budget::AtMost(20.0)),
    row("namespaces-p99", "p99 of others' calls while 5,000 namespaces come and go", "ms", Budget::AtMost(1000.0)),
    row("namespaces-create", "  to make them, with 20 objects each", "s", Budget::None),
    row("namespaces-list", "  to list them and their objects", "s", Budget::None),
    row("namespaces-delete", "  to delete them", "s", Budget::None),
    row("scheduling", "SchedulingBasic: 5,000 nodes, 10,000 pods", "1/s", Budget::Times(5.0)),
    row("scheduling-p50", "  an attempt, p50", "ms", Budget::None),
    row("scheduling-p99", "  an attempt, p99", "ms", Budget::None),
    row("scheduling-memory", "  PSS of API server and store, with Corten of the scheduler, too", "MB", Budget::None),
    row("pod-p50", "pod created to Running, p50", "s", Budget::AtMost(0.10)),
    row("pod-p99", "pod created to Running, p99", "s", Budget::AtMost(0.25)),
    row("burst", "50 pods at once, all Running", "s", Budget::AtMost(1.5)),
    row("deployment", "Deployment of 50 replicas available", "s", Budget::AtMost(1.7)),
    row("service", "Service created to first answer", "s", Budget::AtMost(0.05)),
    row("exec", "kubectl exec, beyond kubectl's own start", "ms", Budget::AtMost(10.0)),
    row("delete", "pod deleted (exits on TERM) to gone, p50", "s", Budget::AtMost(0.10)),
    row("size", "binary size", "MiB", Budget::AtMost(30.0)),
];

/// The further cases of scheduler_perf, measured when asked for; the cycle's cost alone; and clusters of hollow nodes.
const SCALE_ROWS: &[Row] = &[
    row("node-affinity", "SchedulingNodeAffinity: 5,000 nodes, 10,000 pods", "1/s", Budget::Times(5.0)),
    row("node-affinity-p50", "  an attempt, p50", "ms", Budget::None),
    row("node-affinity-p99", "  an attempt, p99", "ms", Budget::None),
    row("pod-affinity", "SchedulingPodAffinity: 5,000 pods", "1/s", Budget::Times(5.0)),
    row("pod-affinity-p50", "  an attempt, p50", "ms", Budget::None),
    row("pod-affinity-p99", "  an attempt, p99", "ms", Budget::None),
    row("preferred-pod-affinity", "SchedulingPreferredPodAffinity: 5,000 pods", "1/s", Budget::Times(5.0)),
    row("preferred-pod-affinity-p50", "  an attempt, p50", "ms", Budget::None),
    row("preferred-pod-affinity-p99", "  an attempt, p99", "ms", Budget::None),
    row("pod-anti-affinity", "SchedulingPodAntiAffinity: 2,000 pods", "1/s", Budget::Times(5.0)),
    row("pod-anti-affinity-p50", "  an attempt, p50", "ms", Budget::None),
    row("pod-anti-affinity-p99", "  an attempt, p99", "ms", Budget::None),
    row("topology-spreading", "TopologySpreading: 5,000 pods", "1/s", Budget::Times(5.0)),
    row("topology-spreading-p50", "  an attempt, p50", "ms", Budget::None),
    row("topology-spreading-p99", "  an attempt, p99", "ms", Budget::None),
    row("preemption", "PreemptionAsync: 20,000 pods there, 5,000 pods", "1/s", Budget::Times(5.0)),
    row("preemption-p50", "  an attempt, p50", "ms", Budget::None),
    row("preemption-p99", "  an attempt, p99", "ms", Budget::None),
    row("unschedulable", "Unschedulable: 10,000 pods", "1/s", Budget::Times(5.0)),
    row("unschedulable-p50", "  an attempt, p50", "ms", Budget::None),
    row("unschedulable-p99", "  an attempt, p99", "ms", Budget::None),
    row("mixed-churn", "SchedulingWithMixedChurn: 10,000 pods", "1/s", Budget::Times(5.0)),
    row("mixed-churn-p50", "  an attempt, p50", "ms", Budget::None),
    row("mixed-churn-p99", "  an attempt, p99", "ms", Budget::None),
    row("daemonset", "SchedulingDaemonset: 15,000 nodes, 30,000 pods", "1/s", Budget::Times(5.0)),
    row("daemonset-p50", "  an attempt, p50", "ms", Budget::None),
    row("daemonset-p99", "  an attempt, p99", "ms", Budget::None),
    row("cycle-scheduling", "the cycle alone: SchedulingBasic", "1/s", Budget::None),
    row("cycle-node-affinity", "  NodeAffinity", "1/s", Budget::None),
    row("cycle-pod-affinity", "  PodAffinity", "1/s", Budget::None),
    row("cycle-preferred-pod-affinity", "  PreferredPodAffinity", "1/s", Budget::None),
    row("cycle-pod-anti-affinity", "  PodAntiAffinity", "1/s", Budget::None),
    row("cycle-topology-spreading", "  TopologySpreading", "1/s", Budget::None),
    row("cycle-preemption", "  PreemptionAsync without its churn", "1/s", Budget::None),
    row("cycle-unschedulable", "  Unschedulable without its churn", "1/s", Budget::None),
    row("cycle-mixed-churn", "  MixedChurn without its churn", "1/s", Budget::None),
    row("cycle-daemonset", "  Daemonset", "1/s", Budget::None),
    row("kwok-nodes", "kwok: 5,000 hollow nodes Ready", "s", Budget::AtMost(10.0)),
    row("kwok-pods", "kwok: 10,000 pods Running", "s", Budget::AtMost(10.0)),
    row("kwok-delete", "kwok: 10,000 pods deleted", "s", Budget::AtMost(10.0)),
    row("large-pods", "5,000 hollow nodes, 150,000 pods of Deployments available", "1/s", Budget::None),
    row("large-memory", "  PSS of the control plane", "MB", Budget::AtMost(3000.0)),
    row("large-api-p50", "  GET of a Deployment meanwhile, p50", "ms", Budget::None),
    row("large-api-p99", "  GET of a Deployment meanwhile, p99", "ms", Budget::AtMost(1000.0)),
    row("large-scale-1000", "  a Deployment scaled by 1,000", "s", Budget::AtMost(5.0)),
];

/// Figures by the names of rows.
#[derive(Debug, Default)]
pub(crate) struct Measured(BTreeMap<&'static str, f64>);

impl Measured {
    pub(crate) fn set(&mut self, name: &'static str, value: f64) {
        self.0.insert(name, value);
    }

    /// Keeps a figure if there is one.
    pub(crate) fn set_some(&mut self, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }
}

/// Both subjects.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) corten: Measured,
    pub(crate) upstream: Measured,
}

#[derive(Serialize)]
struct Entry {
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    corten: Option<f64>,
    upstream: Option<f64>,
    budget: String,
    met: Option<bool>,
}

fn figure(value: Option<f64>, unit: &str) -> String {
    match value {
        None => "–".into(),
        Some(value) if value >= 100.0 => format!("{value:.0} {unit}"),
        Some(value) if value >= 10.0 => format!("{value:.1} {unit}"),
        Some(value) => format!("{value:.3} {unit}"),
    }
}

impl Table {
    fn entries(&self, only: &[String]) -> Vec<Entry> {
        let chosen = |row: &&Row| only.is_empty() || only.iter().any(|name| row.name.starts_with(name.as_str()));
        // What is measured only when asked for is told only then.
        let asked = |row: &&Row| self.corten.get(row.name).or(self.upstream.get(row.name)).is_some();
        ROWS.iter().filter(chosen).chain(SCALE_ROWS.iter().filter(asked)).map(|row| self.entry(row)).collect()
    }

    fn entry(&self, row: &Row) -> Entry {
        let (corten, upstream) = (self.corten.get(row.name), self.upstream.get(row.name));
        let both = corten.zip(upstream);
        let (budget, met) = match row.budget {
            Budget::AtMost(limit) => (format!("≤ {limit} {}", row.unit), corten.map(|c| c <= limit)),
            Budget::Times(times) => (format!("≥ {times}×"), both.map(|(c, u)| c >= times * u)),
            Budget::Share(share) => (format!("≤ 1/{:.0}", 1.0 / share), both.map(|(c, u)| c <= share * u)),
            Budget::None => (String::new(), None),
        };
        Entry { name: row.name, what: row.what, unit: row.unit, corten, upstream, budget, met }
    }

    pub(crate) fn markdown(&self, only: &[String]) -> String {
        let mut text =
            String::from("| name | what | Corten | upstream | budget | met |\n|---|---|---:|---:|---:|---|\n");
        for entry in self.entries(only) {
            let met = match entry.met {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            };
            let (corten, upstream) = (figure(entry.corten, entry.unit), figure(entry.upstream, entry.unit));
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {corten} | {upstream} | {} | {met} |",
                entry.name, entry.what, entry.budget
            );
        }
        text
    }

    pub(crate) fn json(&self, only: &[String]) -> Result<String> {
        Ok(serde_json::to_string_pretty(&self.entries(only))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_by_limit_and_by_ratio() {
        let mut table = Table::default();
        table.corten.set("api-ready", 0.3);
        table.corten.set("create", 5000.0);
        table.upstream.set("create", 1000.0);
        table.corten.set("list-json", 0.2);
        let met = |name: &str| table.entries(&[name.to_owned()])[0].met;
        assert_eq!((met("api-ready"), met("create"), met("list-json")), (Some(false), Some(true), None));
        assert!(table.markdown(&[]).contains("| create | pod creates | 5000 1/s | 1000 1/s | ≥ 5× | yes |"));
    }
}
