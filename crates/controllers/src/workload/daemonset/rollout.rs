//! Replacing the pods of a DaemonSet whose template changed, and its status.

use std::sync::Arc;

use api::Kind;
use api::k8s::apps::v1::{DaemonSet, DaemonSetStatus, RollingUpdateDaemonSet};
use api::k8s::core::v1::Pod;
use rt::time::Timestamp;

use super::nodes::{View, is_updated, should_run};
use super::{Plan, min_ready, spec};
use crate::pods;
use crate::workload::share::resolve;

fn rolling(set: &DaemonSet) -> Option<&RollingUpdateDaemonSet> {
    let strategy = spec(set).update_strategy.as_ref()?;
    if strategy.type_.as_deref() == Some("OnDelete") { None } else { strategy.rolling_update.as_ref() }
}

fn surge(set: &DaemonSet, nodes: i32) -> i32 {
    resolve(rolling(set).and_then(|r| r.max_surge.as_ref()), nodes, true)
}

pub(super) fn allows_surge(set: &DaemonSet) -> bool {
    surge(set, 1) > 0
}

/// Of several pods on a node while surging: all but the oldest new and the oldest old one, and the old one once it is of
/// no more use.
pub(super) fn surplus(set: &DaemonSet, running: &[&Arc<Pod>], hash: &str, now: Timestamp) -> Vec<Arc<Pod>> {
    let (mut new, mut old, mut surplus) = (None, None, Vec::new());
    for pod in running {
        let slot = if is_updated(set, pod, hash) { &mut new } else { &mut old };
        if slot.is_none() {
            *slot = Some(*pod);
        } else {
            surplus.push((*pod).clone());
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && (!pods::is_ready(old) || pods::is_available(new, min_ready(set), now))
    {
        surplus.push(old.clone());
    }
    surplus
}

/// The new and the old pod of a node; `None` when there are more of one sort.
fn pair<'a>(
    set: &DaemonSet,
    there: &'a [Arc<Pod>],
    hash: &str,
) -> Option<(Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>)> {
    let (mut new, mut old) = (None, None);
    for pod in there.iter().filter(|p| !p.is_deleting()) {
        let slot = if is_updated(set, pod, hash) { &mut new } else { &mut old };
        if slot.replace(pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

/// One step of a rolling update.
pub(super) fn plan(set: &DaemonSet, view: &View, hash: &str, now: Timestamp) -> Plan {
    let wanted: Vec<&str> = view.nodes.iter().filter(|n| should_run(set, n).0).map(|n| n.name()).collect();
    let desired = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
    let surge = surge(set, desired);
    let unavailable = resolve(rolling(set).and_then(|r| r.max_unavailable.as_ref()), desired, true);
    let (surge, unavailable) =
        if desired > 0 && surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) };
    let count = |n: i32| usize::try_from(n).unwrap_or(0);
    if surge == 0 {
        replace(set, view, (hash, now), &wanted, count(unavailable))
    } else {
        grow(set, view, (hash, now), &wanted, count(surge))
    }
}

/// The nodes that count: wanted ones, and those that have pods.
fn counted<'a>(view: &'a View, wanted: &[&'a str]) -> Vec<&'a str> {
    let mut names = wanted.to_vec();
    let others = view.nodes.iter().map(|n| n.name()).filter(|name| !view.on(name).is_empty());
    names.extend(others.filter(|name| !wanted.contains(name)));
    names
}

/// Deletes old pods; the next pass makes new ones in their place.
fn replace(set: &DaemonSet, view: &View, of: (&str, Timestamp), wanted: &[&str], at_most: usize) -> Plan {
    let (hash, now) = of;
    let available = |pod: &Pod| pods::is_available(pod, min_ready(set), now);
    let (mut down, mut delete, mut candidates) = (0, Vec::new(), Vec::new());
    for node in counted(view, wanted) {
        match pair(set, view.on(node), hash) {
            None | Some((None, None) | (Some(_), Some(_))) => down += 1,
            Some((Some(new), None)) => down += usize::from(!available(new)),
            Some((None, Some(old))) if !available(old) => {
                delete.push(old.clone());
                down += 1;
            }
            Some((None, Some(old))) => candidates.push(old.clone()),
        }
    }
    candidates.truncate(at_most.saturating_sub(down));
    delete.extend(candidates);
    Plan { create_on: Vec::new(), delete }
}

/// Makes new pods beside the old ones, and deletes an old one once its successor is available.
fn grow(set: &DaemonSet, view: &View, of: (&str, Timestamp), wanted: &[&str], at_most: usize) -> Plan {
    let (hash, now) = of;
    let available = |pod: &Pod| pods::is_available(pod, min_ready(set), now);
    let (mut surging, mut up) = (0, 0);
    let (mut plan, mut candidates, mut leaving) = (Plan::default(), Vec::new(), Vec::new());
    for node in counted(view, wanted) {
        let Some((new, old)) = pair(set, view.on(node), hash) else {
            surging += 1;
            continue;
        };
        up += usize::from(old.or(new).is_some_and(|pod| available(pod)));
        match (new, old) {
            (_, None) => {}
            (None, Some(old)) => match (available(old), wanted.contains(&node)) {
                (false, false) => plan.delete.push(old.clone()),
                (false, true) => plan.create_on.push(node.to_owned()),
                (true, false) => leaving.push(old.clone()),
                (true, true) => candidates.push(node.to_owned()),
            },
            (Some(new), Some(_)) if !available(new) => surging += 1,
            (Some(_), Some(old)) => plan.delete.push(old.clone()),
        }
    }
    leaving.truncate(up.saturating_sub(wanted.len()));
    plan.delete.extend(leaving);
    candidates.truncate(at_most.saturating_sub(surging));
    plan.create_on.extend(candidates);
    plan
}

/// The status that the view gives.
pub(super) fn status(set: &DaemonSet, view: &View, hash: &str, now: Timestamp) -> DaemonSetStatus {
    let mut status = DaemonSetStatus::default();
    let (mut available, mut updated) = (0, 0);
    for node in &view.nodes {
        let first = view.on(node.name()).first();
        if !should_run(set, node).0 {
            status.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = first else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pods::is_ready(pod));
        available += i32::from(pods::is_available(pod, min_ready(set), now));
        updated += i32::from(is_updated(set, pod, hash));
    }
    status.number_available = Some(available);
    status.updated_number_scheduled = Some(updated);
    status.number_unavailable = Some(status.desired_number_scheduled - available);
    status
}
