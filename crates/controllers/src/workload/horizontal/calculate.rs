//! How many replicas a metric asks for: pure, from pods and readings (upstream's replica calculator).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::Pod;
use component_helpers::requests::pod_requests;
use rt::time::Timestamp;

use crate::pods::{condition, is_ready, phase};

/// A pod's reading, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    pub(super) value: i64,
    pub(super) time: Timestamp,
    pub(super) window: Duration,
}

/// Readings by pod name.
pub(super) type Readings = BTreeMap<String, Reading>;

/// How far a ratio may be from one before anything is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerance {
    fn holds(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// What the calculation stands on besides the readings.
pub(super) struct Basis<'a> {
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) current: i32,
    pub(super) tolerance: Tolerance,
    pub(super) now: Timestamp,
    /// For how long after its start a pod's CPU readings are doubted.
    pub(super) cpu_initialization: Duration,
    /// For how long after its start a pod counts as never having been ready.
    pub(super) initial_readiness: Duration,
}

#[derive(Default)]
struct Grouped {
    ready: usize,
    unready: Vec<String>,
    missing: Vec<String>,
    ignored: Vec<String>,
}

/// The reading is from before the pod could do its work.
fn is_unready(basis: &Basis<'_>, pod: &Pod, reading: &Reading) -> bool {
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let (Some(ready), Some(started)) = (condition(pod, "Ready"), started) else { return true };
    let changed = ready.last_transition_time.as_ref().map(|t| t.0).unwrap_or_default();
    let after = |at: Timestamp, by: Duration| at.checked_add(by).unwrap_or(Timestamp::MAX);
    if after(started, basis.cpu_initialization) > basis.now {
        return ready.status == "False" || reading.time < after(changed, reading.window);
    }
    ready.status == "False" && after(started, basis.initial_readiness) > changed
}

fn group(basis: &Basis<'_>, readings: &Readings, resource: &str) -> Grouped {
    let mut grouped = Grouped::default();
    for pod in basis.pods {
        let name = pod.name().to_owned();
        if pod.is_deleting() || phase(pod) == "Failed" {
            grouped.ignored.push(name);
        } else if phase(pod) == "Pending" {
            grouped.unready.push(name);
        } else {
            match readings.get(&name) {
                None => grouped.missing.push(name),
                Some(reading) if resource == "cpu" && is_unready(basis, pod, reading) => grouped.unready.push(name),
                Some(_) => grouped.ready += 1,
            }
        }
    }
    grouped
}

fn count(value: f64) -> i32 {
    // The cast saturates, as a count beyond any limit should.
    value.ceil() as i32
}

/// The readings' average usage over the requests, in percent of the target: ratio, utilization, average value.
fn utilization(readings: &Readings, requests: &BTreeMap<String, i64>, target: i32) -> Result<(f64, i32, i64), String> {
    let known = readings.iter().filter_map(|(pod, reading)| Some((reading.value, *requests.get(pod)?)));
    let (mut used, mut asked, mut entries) = (0i64, 0i64, 0i64);
    for (value, request) in known {
        used += value;
        asked += request;
        entries += 1;
    }
    if asked == 0 {
        return Err("no metrics returned matched known pods".to_owned());
    }
    let percent = (used * 100 / asked) as i32;
    Ok((f64::from(percent) / f64::from(target), percent, used / entries))
}

fn average(readings: &Readings, target: i64) -> (f64, i64) {
    let total: i64 = readings.values().map(|r| r.value).sum();
    let current = total / i64::try_from(readings.len().max(1)).unwrap_or(1);
    (current as f64 / target as f64, current)
}

/// The part that both kinds of targets share: what pods without a reading do to the ratio.
fn replicas(
    basis: &Basis<'_>,
    mut readings: Readings,
    grouped: &Grouped,
    ratio: f64,
    missing_value: impl Fn(&str) -> i64,
    again: impl Fn(&Readings) -> Result<f64, String>,
) -> Result<i32, String> {
    let up_with_unready = !grouped.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && grouped.missing.is_empty() {
        let same = basis.tolerance.holds(ratio);
        return Ok(if same { basis.current } else { count(ratio * grouped.ready as f64) });
    }
    let reading = |value| Reading { value, time: Timestamp::UNIX_EPOCH, window: Duration::ZERO };
    for pod in &grouped.missing {
        if ratio < 1.0 {
            readings.insert(pod.clone(), reading(missing_value(pod)));
        } else if ratio > 1.0 {
            readings.insert(pod.clone(), reading(0));
        }
    }
    if up_with_unready {
        for pod in &grouped.unready {
            readings.insert(pod.clone(), reading(0));
        }
    }
    let fresh = again(&readings)?;
    if basis.tolerance.holds(fresh) || (ratio < 1.0 && fresh > 1.0) || (ratio > 1.0 && fresh < 1.0) {
        return Ok(basis.current);
    }
    let new = count(fresh * readings.len() as f64);
    let turned = (fresh < 1.0 && new > basis.current) || (fresh > 1.0 && new < basis.current);
    Ok(if turned { basis.current } else { new })
}

fn usable(basis: &Basis<'_>, readings: &mut Readings, resource: &str) -> Result<Grouped, String> {
    if basis.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let grouped = group(basis, readings, resource);
    readings.retain(|pod, _| !grouped.ignored.contains(pod) && !grouped.unready.contains(pod));
    if readings.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    Ok(grouped)
}

/// What a target in percent of the requests asks for: replicas, utilization now, average value now.
///
/// # Errors
/// No pod has a reading, or a container has no request.
pub(super) fn by_utilization(
    basis: &Basis<'_>,
    mut readings: Readings,
    target: i32,
    resource: &str,
    container: &str,
) -> Result<(i32, i32, i64), String> {
    let grouped = usable(basis, &mut readings, resource)?;
    let mut requests = BTreeMap::new();
    for pod in basis.pods {
        requests.insert(pod.name().to_owned(), request(pod, resource, container)?);
    }
    let (ratio, percent, raw) = utilization(&readings, &requests, target)?;
    let fallback = i64::from(target.max(100));
    let missing = |pod: &str| requests.get(pod).copied().unwrap_or(0) * fallback / 100;
    let again = |readings: &Readings| utilization(readings, &requests, target).map(|(ratio, _, _)| ratio);
    let wanted = replicas(basis, readings, &grouped, ratio, missing, again)?;
    Ok((wanted, percent, raw))
}

/// What a target of an average value asks for: replicas, and the average now.
///
/// # Errors
/// No pod has a reading.
pub(super) fn by_average(
    basis: &Basis<'_>,
    mut readings: Readings,
    target: i64,
    resource: &str,
) -> Result<(i32, i64), String> {
    let grouped = usable(basis, &mut readings, resource)?;
    let (ratio, usage) = average(&readings, target);
    let again = |readings: &Readings| Ok(average(readings, target).0);
    let wanted = replicas(basis, readings, &grouped, ratio, |_| target, again)?;
    Ok((wanted, usage))
}

/// What one value of the whole asks for.
///
/// # Errors
/// There are no pods although there are replicas.
pub(super) fn by_value(basis: &Basis<'_>, usage: i64, target: i64) -> Result<i32, String> {
    let ratio = usage as f64 / target as f64;
    if basis.current == 0 {
        return Ok(count(ratio));
    }
    if basis.tolerance.holds(ratio) {
        return Ok(basis.current);
    }
    if basis.pods.is_empty() {
        let why = "no pods returned by selector while calculating replica count";
        return Err(format!("unable to calculate ready pods: {why}"));
    }
    let ready = basis.pods.iter().filter(|pod| phase(pod) == "Running" && is_ready(pod)).count();
    Ok(count(ratio * ready as f64))
}

/// What one value, shared by the pods that are, asks for: replicas, and each pod's share.
pub(super) fn by_share(status_replicas: i32, usage: i64, target: i64, tolerance: Tolerance) -> (i32, i64) {
    let ratio = usage as f64 / (target as f64 * f64::from(status_replicas));
    let same = tolerance.holds(ratio);
    let wanted = if same { status_replicas } else { count(usage as f64 / target as f64) };
    (wanted, (usage as f64 / f64::from(status_replicas)).ceil() as i64)
}

/// What a pod, or one of its containers, asks for, in thousandths.
fn request(pod: &Pod, resource: &str, container: &str) -> Result<i64, String> {
    let spec = pod.spec.as_ref();
    let at_pod_level = spec.and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
    if container.is_empty() && at_pod_level.is_some_and(|requests| !requests.is_empty()) {
        let all = pod_requests(pod);
        let missing = || format!("missing pod-level request for {resource} in Pod {}", pod.name());
        return all.get(resource).map(|q| q.milli_value()).ok_or_else(missing);
    }
    let sidecars = spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut total = 0;
    for c in spec.iter().flat_map(|s| s.containers.iter()).chain(sidecars) {
        if !container.is_empty() && c.name != container {
            continue;
        }
        let requests = c.resources.as_ref().and_then(|r| r.requests.as_ref());
        let Some(amount) = requests.and_then(|r| r.get(resource)) else {
            return Err(format!("missing request for {resource} in container {} of Pod {}", c.name, pod.name()));
        };
        total += api::quantity(amount).milli_value();
        if !container.is_empty() {
            return Ok(total);
        }
    }
    if container.is_empty() {
        return Ok(total);
    }
    Err(format!("container {container} not found in Pod {}", pod.name()))
}

#[cfg(test)]
mod tests;
