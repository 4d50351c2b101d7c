//! The scheduler's decisions alone, in this process: no API, no binding.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use api::k8s::core::v1::{Node, Pod};
use scheduler::Trial;
use serde_json::Value;

use crate::cases::{CASES, Case, named};
use crate::stats::Samples;
use crate::table::Measured;
use crate::{Options, note};

fn pod(form: fn() -> Value, name: &str, namespace: &str) -> Result<Arc<Pod>> {
    let mut pod: Pod = serde_json::from_value(named(form, name)).context("a form that is no pod")?;
    pod.metadata.namespace = Some(namespace.to_owned());
    pod.metadata.uid = Some(format!("{namespace}/{name}"));
    Ok(Arc::new(pod))
}

async fn measure_one(case: &Case, measured: &mut Measured) -> Result<()> {
    let nodes: Result<Vec<Arc<Node>>, serde_json::Error> =
        (0..case.all_nodes()).map(|number| serde_json::from_value(case.node(number)).map(Arc::new)).collect();
    let mut trial = Trial::new(nodes.context("a form that is no node")?).context("make the default profile")?;
    for number in 0..case.first_pods {
        let placed = trial.place(pod(case.first, &format!("first-{number}"), "sched-0")?).await;
        placed.map_err(anyhow::Error::msg).context("place a first pod")?;
    }
    let mut samples = Samples::default();
    let pods: Result<Vec<_>> =
        (0..case.pods).map(|number| pod(case.pod, &format!("pod-{number}"), "sched-1")).collect();
    let begun = Instant::now();
    for pod in pods? {
        let asked = Instant::now();
        trial.place(pod).await.map_err(anyhow::Error::msg).context("place a pod")?;
        samples.add(asked.elapsed().as_secs_f64() * 1e6);
    }
    let rate = case.pods as f64 / begun.elapsed().as_secs_f64();
    let quantile = |share: f64| samples.quantile(share).unwrap_or_default();
    note(format!("{}: {rate:.0} pods/s, p50 {:.0} µs, p99 {:.0} µs", case.cycle, quantile(0.5), quantile(0.99)));
    measured.set(case.cycle, rate);
    Ok(())
}

/// Whether any of the rows here is asked for.
pub(crate) fn wanted(options: &Options, case: &Case) -> bool {
    options.only.iter().any(|only| only == "scheduler-cycle" || only == case.cycle)
}

/// Measures the cases that are asked for by name.
pub(crate) async fn measure(options: &Options, measured: &mut Measured) -> Result<()> {
    for case in CASES.iter().filter(|case| wanted(options, case)) {
        measure_one(&case.scaled(options.scale), measured).await.with_context(|| case.cycle)?;
    }
    Ok(())
}
