//! Aggregated ClusterRoles: their rules are those of the roles that match their selectors.

use std::sync::Arc;

use api::Kind;
use api::k8s::rbac::v1::{ClusterRole, PolicyRule};
use client::{Error, PatchKind};
use informer::{Informer, Queue, run_workers};
use serde_json::json;

use crate::frame::Context;
use crate::owner::selector_of;

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let roles = context.factory.informer::<ClusterRole>();
    let queue = Arc::new(Queue::new());
    roles.synced().await;
    let (handed, all) = (queue.clone(), roles.clone());
    // Any change may concern any aggregated role.
    roles.add_handler(move |delta| {
        let role = delta.object();
        if role.aggregation_rule.is_some() {
            handed.add(role.name().to_owned());
        }
        for other in all.cache().list().iter().filter(|r| r.aggregation_rule.is_some()) {
            if selects(other, role) {
                handed.add(other.name().to_owned());
            }
        }
    });
    let shutdown = context.shutdown.clone();
    run_workers("role aggregation", queue, 2, shutdown, move |name: String| {
        let (context, roles) = (context.clone(), roles.clone());
        async move { sync(&context, &roles, &name).await }
    })
    .await;
}

fn selects(aggregated: &ClusterRole, role: &ClusterRole) -> bool {
    let selectors = aggregated.aggregation_rule.iter().flat_map(|r| r.cluster_role_selectors.iter().flatten());
    aggregated.name() != role.name() && selectors.into_iter().any(|s| selector_of(s).matches_map(role.labels()))
}

fn combine(aggregated: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    let selectors = aggregated.aggregation_rule.iter().flat_map(|r| r.cluster_role_selectors.iter().flatten());
    for selector in selectors.map(selector_of) {
        let mut matching: Vec<&Arc<ClusterRole>> =
            all.iter().filter(|r| r.name() != aggregated.name() && selector.matches_map(r.labels())).collect();
        matching.sort_by_key(|r| r.name().to_owned());
        for rule in matching.into_iter().flat_map(|r| r.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

async fn sync(context: &Context, roles: &Informer<ClusterRole>, name: &str) -> Result<(), Error> {
    let Some(role) = roles.cache().get_key(name) else { return Ok(()) };
    if role.aggregation_rule.is_none() {
        return Ok(());
    }
    let rules = combine(&role, &roles.cache().list());
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules,
    });
    let kind = PatchKind::Apply { manager: "clusterrole-aggregation-controller".into(), force: true };
    match context.client.patch::<ClusterRole>("", name, &kind, &patch).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
