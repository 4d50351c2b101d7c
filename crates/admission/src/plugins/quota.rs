//! ResourceQuota: nothing is created beyond a namespace's quotas; their usage is charged before the object is written.
//!
//! Requests of one namespace are charged one after the other, and every charge is a compare-and-swap on the quota's status, so
//! that several API servers cannot exceed it together. What a failed write charged is returned by the quota controller's recount.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use component_helpers::quota::{Evaluator, Usage, add, is_ignored, resources};
use meta::{Object, Status};
use parking_lot::Mutex;
use registry::Operation;
use serde_json::{Map, Value};

use super::quota_limits::Limits;
use crate::plugin::{Deps, Plugin, Request, core};

/// How often a charge is tried anew after conflicts.
const TRIES: usize = 4;
/// Namespaces whose locks and latest quotas are remembered.
const REMEMBERED: usize = 1024;

/// The plugin.
#[derive(Default)]
pub struct ResourceQuota {
    limits: Limits,
    namespaces: Mutex<BTreeMap<String, Arc<Namespace>>>,
}

/// One namespace's queue, and its quotas as we wrote them last, which the cache may not know yet.
#[derive(Default)]
struct Namespace {
    written: tokio::sync::Mutex<BTreeMap<String, Arc<Object>>>,
}

fn print(usage: &Usage) -> String {
    usage.iter().map(|(name, quantity)| format!("{name}={quantity}")).collect::<Vec<_>>().join(",")
}

fn mask(usage: &Usage, names: &Usage) -> Usage {
    usage.iter().filter(|(name, _)| names.contains_key(*name)).map(|(n, q)| (n.clone(), *q)).collect()
}

fn version(object: &Object) -> u64 {
    object.resource_version().parse().unwrap_or(0)
}

fn handles(evaluator: &Evaluator, request: &Request<'_>) -> bool {
    match (evaluator, request.operation, request.subresource) {
        (_, Operation::Create, "") => true,
        (Evaluator::Pods, Operation::Update, "resize") => true,
        (Evaluator::Services | Evaluator::Claims, Operation::Update, "") => true,
        (Evaluator::Claims, Operation::Update, "status") => true,
        // A pod may get or lose its deadline, and so change scopes.
        (Evaluator::Pods, Operation::Update, "") => true,
        _ => false,
    }
}

/// One object under one namespace's quotas.
struct Charge<'a> {
    request: &'a Request<'a>,
    object: &'a Object,
    evaluator: Evaluator,
}

impl Charge<'_> {
    /// The usage that a quota is to be charged, without zeros.
    fn delta(&self, quota: &Object) -> Usage {
        let now = rt::time::unix_seconds();
        let mut usage = self.evaluator.usage(self.object, now);
        let before = self.request.old.filter(|_| self.request.operation == Operation::Update);
        if let Some(old) = before.filter(|old| self.evaluator.matches(quota, old)) {
            for (name, quantity) in self.evaluator.usage(old, now) {
                if let Some(new) = usage.get_mut(&name) {
                    *new = if *new > quantity { new.minus(quantity) } else { meta::quantity::Quantity::default() };
                }
            }
        }
        usage.retain(|_, quantity| !quantity.is_zero());
        usage
    }

    /// The quota with the object charged; `None` when there is nothing to charge.
    fn apply(&self, quota: &Object) -> Result<Option<Object>, Status> {
        if !self.evaluator.matches(quota, self.object) {
            return Ok(None);
        }
        let refuse = |cause: String| self.request.forbidden(Some(self.object), cause);
        let (hard, used) = (resources(quota.get(&["status", "hard"])), resources(quota.get(&["status", "used"])));
        let concerned = self.evaluator.matching(&hard);
        self.evaluator
            .constraints(&concerned, self.object)
            .map_err(|cause| refuse(format!("failed quota: {}: {cause}", quota.name())))?;
        if concerned.iter().any(|name| !used.contains_key(name)) {
            let names = concerned.into_iter().collect::<Vec<_>>().join(",");
            return Err(refuse(format!("status unknown for quota: {}, resources: {names}", quota.name())));
        }
        let requested = mask(&self.delta(quota), &hard);
        if requested.is_empty() {
            return Ok(None);
        }
        let mut new_used = used.clone();
        add(&mut new_used, &requested);
        let exceeded: Usage = requested
            .keys()
            .filter(|name| new_used.get(*name) > hard.get(*name))
            .map(|name| (name.clone(), meta::quantity::Quantity::default()))
            .collect();
        if !exceeded.is_empty() && self.request.subresource != "status" {
            return Err(refuse(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                quota.name(),
                print(&mask(&requested, &exceeded)),
                print(&mask(&used, &exceeded)),
                print(&mask(&hard, &exceeded))
            )));
        }
        let mut charged = quota.clone();
        let list: Map<String, Value> =
            new_used.iter().map(|(n, q)| (n.clone(), Value::String(q.to_string()))).collect();
        charged.set(&["status", "used"], Value::Object(list));
        Ok(Some(charged))
    }
}

/// Makes the plugin as configured.
///
/// # Errors
/// The configuration is wrong.
pub fn make(deps: &Deps) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(ResourceQuota { limits: Limits::new(deps)?, ..ResourceQuota::default() }))
}

impl ResourceQuota {
    fn namespace(&self, name: &str) -> Arc<Namespace> {
        let mut all = self.namespaces.lock();
        if all.len() >= REMEMBERED && !all.contains_key(name) {
            all.retain(|_, namespace| Arc::strong_count(namespace) > 1);
        }
        all.entry(name.to_owned()).or_default().clone()
    }

    async fn charge(&self, charge: &Charge<'_>, quotas: Vec<Arc<Object>>) -> Result<(), Status> {
        let request = charge.request;
        let namespace = self.namespace(request.namespace);
        let mut written = namespace.written.lock().await;
        for quota in quotas {
            let mut current = quota;
            match written.get(current.name()) {
                Some(ours) if version(ours) > version(&current) && ours.uid() == current.uid() => {
                    current = ours.clone()
                }
                _ => drop(written.remove(current.name())),
            }
            for attempt in 1.. {
                let Some(charged) = charge.apply(&current)? else { break };
                if request.dry_run {
                    break;
                }
                match request.deps.api.update_status(&core("resourcequotas"), charged).await {
                    Ok(stored) => {
                        written.insert(stored.name().to_owned(), Arc::new(stored));
                        break;
                    }
                    Err(status) if status.is_conflict() && attempt < TRIES => {
                        let live = request
                            .deps
                            .api
                            .get_live(&core("resourcequotas"), request.namespace, current.name())
                            .await?;
                        let Some(live) = live else { break };
                        current = live;
                    }
                    Err(status) if status.is_not_found() => break,
                    Err(status) => return Err(status),
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn handles(&self, request: &Request<'_>) -> bool {
        let write = matches!(request.operation, Operation::Create | Operation::Update);
        let resource = &request.resource;
        write && !request.namespace.is_empty() && !is_ignored(&resource.group, &resource.resource) && {
            handles(&Evaluator::of(&resource.group, &resource.resource), request)
        }
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let quotas = request.deps.api.list(&core("resourcequotas"), request.namespace).await?;
        if quotas.is_empty() && self.limits.is_empty() {
            return Ok(());
        }
        let evaluator = Evaluator::of(&request.resource.group, &request.resource.resource);
        if evaluator == Evaluator::Pods && request.operation == Operation::Update && request.subresource.is_empty() {
            let deadline = |o: &Object| o.get_i64(&["spec", "activeDeadlineSeconds"]).is_some_and(|s| s >= 0);
            if request.old.is_none_or(|old| deadline(old) == deadline(object)) {
                return Ok(());
            }
        }
        let charge = Charge { request, object, evaluator };
        // All quotas are looked at before any is charged.
        for quota in &quotas {
            charge
                .apply(quota)
                .or_else(|status| if self.is_behind(request, quota) { Ok(None) } else { Err(status) })?;
        }
        if !self.limits.is_empty() {
            self.limits.check(request, &charge.evaluator, object, &quotas)?;
        }
        self.charge(&charge, quotas).await
    }
}

impl ResourceQuota {
    /// Whether the cached quota may be older than what we wrote ourselves; then only the charge itself decides.
    fn is_behind(&self, request: &Request<'_>, quota: &Object) -> bool {
        let known = self.namespaces.lock().get(request.namespace).cloned();
        known.is_some_and(|namespace| match namespace.written.try_lock() {
            Ok(written) => written.get(quota.name()).is_some_and(|ours| version(ours) > version(quota)),
            Err(_) => true,
        })
    }
}
