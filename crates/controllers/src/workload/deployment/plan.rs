//! What a rollout is to do next; pure.

use std::sync::Arc;

use api::Kind;
use api::k8s::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use meta::selector::LabelSelector;

use super::Rollout;
use super::replica_sets::{desired_annotation, max_annotation, revision};
use crate::workload::share::resolve;

fn spec(deployment: &Deployment) -> &DeploymentSpec {
    static NONE: std::sync::LazyLock<DeploymentSpec> = std::sync::LazyLock::new(DeploymentSpec::default);
    deployment.spec.as_ref().unwrap_or(&NONE)
}

pub(super) fn selector(deployment: &Deployment) -> LabelSelector {
    crate::owner::selector_of(&spec(deployment).selector)
}

pub(super) fn replicas(deployment: &Deployment) -> i32 {
    spec(deployment).replicas.unwrap_or(1)
}

pub(super) fn is_paused(deployment: &Deployment) -> bool {
    spec(deployment).paused.unwrap_or(false)
}

pub(super) fn is_recreate(deployment: &Deployment) -> bool {
    spec(deployment).strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

pub(super) fn min_ready_seconds(deployment: &Deployment) -> Option<i32> {
    spec(deployment).min_ready_seconds
}

/// The deadline, unless there is none (upstream's `math.MaxInt32`).
pub(super) fn progress_deadline(deployment: &Deployment) -> Option<i32> {
    spec(deployment).progress_deadline_seconds.filter(|s| *s != i32::MAX)
}

pub(super) fn spec_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

/// Surge and unavailability in pods; when both come to zero, one pod may be unavailable.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let rolling = spec(deployment).strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    let total = replicas(deployment);
    let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), total, true);
    let unavailable = resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), total, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_recreate(deployment) { 0 } else { fenceposts(deployment).0 }
}

pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    if is_recreate(deployment) || replicas(deployment) == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(replicas(deployment))
}

fn total(rollout: &Rollout) -> i32 {
    rollout.sets.all().map(|s| spec_replicas(s)).sum()
}

/// How many replicas the new ReplicaSet may have at once (upstream's `NewRSNewReplicas`).
pub(super) fn new_replicas(rollout: &Rollout, current: i32) -> i32 {
    let deployment = &rollout.deployment;
    if is_recreate(deployment) {
        return replicas(deployment);
    }
    let most = replicas(deployment) + max_surge(deployment);
    let all = total(rollout);
    if all >= most {
        return current;
    }
    current + (most - all).min(replicas(deployment) - current)
}

/// The size that the new ReplicaSet is to take, when it is to change.
pub(super) fn scale_new(rollout: &Rollout) -> Option<i32> {
    let new = rollout.sets.new.as_ref()?;
    let (have, want) = (spec_replicas(new), replicas(&rollout.deployment));
    let target = match have.cmp(&want) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => want,
        std::cmp::Ordering::Less => new_replicas(rollout, have),
    };
    Some(target).filter(|target| *target != have)
}

/// The old ReplicaSets to shrink: first their unhealthy pods, then as many as availability allows.
pub(super) fn scale_old(rollout: &Rollout) -> Vec<(Arc<ReplicaSet>, i32)> {
    let mut old: Vec<(Arc<ReplicaSet>, i32)> =
        rollout.sets.old.iter().filter(|s| spec_replicas(s) > 0).map(|s| (s.clone(), spec_replicas(s))).collect();
    if old.is_empty() {
        return Vec::new();
    }
    let deployment = &rollout.deployment;
    let min_available = replicas(deployment) - max_unavailable(deployment);
    let new_unavailable = rollout.sets.new.as_ref().map_or(0, |s| spec_replicas(s) - available(s));
    let most = total(rollout) - min_available - new_unavailable;
    if most <= 0 {
        return Vec::new();
    }
    old.sort_by_key(|(set, _)| set.metadata.creation_timestamp.as_ref().map(|t| t.0));
    let mut cleaned = 0;
    for (set, target) in &mut old {
        if cleaned >= most {
            break;
        }
        let unhealthy = (*target - available(set)).max(0);
        let step = unhealthy.min(most - cleaned);
        *target -= step;
        cleaned += step;
    }
    let available_now: i32 = rollout.sets.all().map(|s| available(s)).sum();
    let mut may_go = (available_now - min_available).max(0);
    for (_, target) in &mut old {
        let step = (*target).min(may_go);
        *target -= step;
        may_go -= step;
    }
    old.retain(|(set, target)| spec_replicas(set) != *target);
    old
}

/// Whether the wanted size changed since the ReplicaSets were last sized.
pub(super) fn is_scaling_event(rollout: &Rollout) -> bool {
    let want = replicas(&rollout.deployment);
    let mut active = rollout.sets.all().filter(|s| spec_replicas(s) > 0);
    active.any(|set| desired_annotation(set).is_some_and(|desired| desired != want))
}

fn is_saturated(rollout: &Rollout) -> bool {
    let want = replicas(&rollout.deployment);
    rollout.sets.new.as_ref().is_some_and(|set| {
        spec_replicas(set) == want && desired_annotation(set) == Some(want) && available(set) == want
    })
}

/// Sizes for a change of the Deployment's size; the flag says to write annotations even where sizes stay.
pub(super) fn scale_event(rollout: &Rollout) -> (Vec<(Arc<ReplicaSet>, i32)>, bool) {
    let want = replicas(&rollout.deployment);
    let active: Vec<Arc<ReplicaSet>> = rollout.sets.all().filter(|s| spec_replicas(s) > 0).cloned().collect();
    let only = match active.as_slice() {
        [] => rollout.sets.new.clone().or_else(|| rollout.sets.latest_old()),
        [one] => Some(one.clone()),
        _ => None,
    };
    if let Some(only) = only {
        return (vec![(only, want)], false);
    }
    if active.is_empty() {
        return (Vec::new(), false);
    }
    if is_saturated(rollout) {
        let new = rollout.sets.new.as_ref().map(|s| s.uid().to_owned());
        let old = active.into_iter().filter(|s| Some(s.uid()) != new.as_deref()).map(|s| (s, 0)).collect();
        return (old, false);
    }
    if is_recreate(&rollout.deployment) {
        return (Vec::new(), false);
    }
    (proportional(rollout, active), true)
}

fn proportional(rollout: &Rollout, mut active: Vec<Arc<ReplicaSet>>) -> Vec<(Arc<ReplicaSet>, i32)> {
    let deployment = &rollout.deployment;
    let allowed = if replicas(deployment) > 0 { replicas(deployment) + max_surge(deployment) } else { 0 };
    let to_add = allowed - active.iter().map(|s| spec_replicas(s)).sum::<i32>();
    let created = |s: &ReplicaSet| s.metadata.creation_timestamp.as_ref().map(|t| t.0);
    if to_add > 0 {
        active.sort_by_key(|s| (std::cmp::Reverse(spec_replicas(s)), std::cmp::Reverse(created(s))));
    } else if to_add < 0 {
        active.sort_by_key(|s| (std::cmp::Reverse(spec_replicas(s)), created(s)));
    }
    let mut added = 0;
    let mut targets: Vec<(Arc<ReplicaSet>, i32)> = active
        .into_iter()
        .map(|set| {
            let have = spec_replicas(&set);
            let share = if to_add == 0 { 0 } else { proportion(&set, deployment, to_add, added) };
            added += share;
            (set, have + share)
        })
        .collect();
    if let Some((_, first)) = targets.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    targets
}

fn proportion(set: &ReplicaSet, deployment: &Deployment, to_add: i32, added: i32) -> i32 {
    let have = spec_replicas(set);
    if have == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let size_before = max_annotation(set).filter(|n| *n > 0);
    let size_before = size_before
        .unwrap_or_else(|| deployment.status.as_ref().and_then(|s| s.replicas).filter(|n| *n > 0).unwrap_or(1));
    let target = f64::from(have) * f64::from(replicas(deployment) + max_surge(deployment)) / f64::from(size_before);
    let fraction = target.round() as i32 - have;
    let allowed = to_add - added;
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

/// Old ReplicaSets beyond the history limit that nothing needs any more.
pub(super) fn expired(rollout: &Rollout) -> Vec<Arc<ReplicaSet>> {
    let limit = spec(&rollout.deployment).revision_history_limit.filter(|l| *l != i32::MAX);
    let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()) else { return Vec::new() };
    let mut old: Vec<Arc<ReplicaSet>> = rollout.sets.old.iter().filter(|s| !s.is_deleting()).cloned().collect();
    old.sort_by_key(|s| (revision(s), s.metadata.creation_timestamp.as_ref().map(|t| t.0)));
    let surplus = old.len().saturating_sub(limit);
    old.truncate(surplus);
    old.retain(|set| {
        let status = set.status.clone().unwrap_or_default();
        status.replicas == 0
            && spec_replicas(set) == 0
            && set.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0)
    });
    old
}
