//! ResourceQuota: what is used of each quota, counted from what there is.
//!
//! Admission adds to the usage when something is created; this controller sets it right when something goes, and when a
//! quota is new or changed.

mod counts;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service};
use api::prelude::Quantity;
use client::Error;
use component_helpers::quota::{Evaluator, Usage, add, resources};
use informer::{Delta, Informer, OwnWrites, Queue, run_workers};
use meta::Object;
use meta::quantity::Format;
use parking_lot::Mutex;
use rt::HashMap;
use rt::time::Instant;
use serde_json::Value;

use self::counts::{Change, Counts};
use crate::discovery::{Served, discover};
use crate::frame::Context;
use crate::pods;

/// How long an answer about what is served is good for a resource that was not in it.
const DISCOVERY: std::time::Duration = std::time::Duration::from_secs(10);
/// When a quota is counted again though nothing told of a change: what admission charged for a create that failed
/// afterwards comes back then. Upstream's `--resource-quota-sync-period`.
const RESYNC: std::time::Duration = std::time::Duration::from_secs(300);
/// When a quota on a resource that is not served looks again.
const UNSERVED: std::time::Duration = std::time::Duration::from_secs(15);
const PLAIN: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

struct Controller {
    context: Context,
    quotas: Informer<ResourceQuota>,
    pods: Informer<Pod>,
    services: Informer<Service>,
    claims: Informer<PersistentVolumeClaim>,
    queue: Arc<Queue<String>>,
    /// The charges of admission, which the caches have to show before a usage is lowered.
    own: OwnWrites,
    counts: Mutex<HashMap<(String, String), Arc<Counts>>>,
    served: Mutex<Option<(Instant, Arc<Vec<Served>>)>>,
    /// By key, the version of the quota that was counted last.
    counted: Mutex<HashMap<String, u64>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let queue = Arc::new(Queue::new());
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let (pods, services, claims) = (factory.informer(), factory.informer(), factory.informer());
    let woken = queue.clone();
    let own = OwnWrites::new(None, move |key| woken.add(key)).over(&pods).over(&services).over(&claims);
    let controller = Arc::new(Controller {
        context,
        quotas: factory.informer(),
        pods,
        services,
        claims,
        queue: queue.clone(),
        own,
        counts: Mutex::default(),
        served: Mutex::default(),
        counted: Mutex::default(),
    });
    controller.quotas.synced().await;
    controller.pods.synced().await;
    controller.services.synced().await;
    controller.claims.synced().await;
    controller.watch();
    run_workers("resource quota", queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

/// Group and resource that a name in a quota counts, when that is a plain count.
fn counted(name: &str) -> Option<(String, String)> {
    if PLAIN.contains(&name) {
        return Some((String::new(), name.to_owned()));
    }
    let rest = name.strip_prefix("count/")?;
    let (resource, group) = rest.split_once('.').unwrap_or((rest, ""));
    if group.is_empty() && ["pods", "services", "persistentvolumeclaims"].contains(&resource) {
        return None;
    }
    Some((group.to_owned(), resource.to_owned()))
}

fn trees<T: Kind>(objects: &[Arc<T>]) -> Vec<Object> {
    objects.iter().filter_map(|o| api::to_object(&**o).ok()).collect()
}

/// Whether a failure of discovery, `group/version: why`, is of this group.
fn of_group(failure: &str, group: &str) -> bool {
    let version = failure.split(": ").next().unwrap_or_default();
    version.rsplit_once('/').map_or("", |(name, _)| name) == group
}

impl Controller {
    fn watch(self: &Arc<Self>) {
        let events = Arc::downgrade(self);
        self.quotas.add_handler(move |delta| {
            let Some(controller) = events.upgrade() else { return };
            // Not when the usage changes: admission writes that before the object is there, and counting in between
            // would take it back. But limits in the status are nobody's to change: they are set right at once, where
            // upstream waits for its next resync.
            let changed = match delta {
                Delta::Updated { old, new } => {
                    let hard = |q: &ResourceQuota| q.spec.as_ref().and_then(|s| s.hard.clone());
                    let told = |q: &ResourceQuota| q.status.as_ref().and_then(|s| s.hard.clone());
                    hard(old) != hard(new) || (told(old) != told(new) && told(new) != hard(new))
                }
                Delta::Added(_) => true,
                Delta::Deleted(quota) => {
                    controller.counted.lock().remove(&quota.key());
                    controller.own.forget(&quota.key());
                    false
                }
            };
            if changed {
                controller.queue.add(delta.object().key());
            }
        });
        let events = Arc::downgrade(self);
        self.pods.add_handler(move |delta| {
            let matters = match delta {
                Delta::Updated { old, new } => {
                    pods::is_terminal(old) != pods::is_terminal(new)
                        || old.metadata.generation != new.metadata.generation
                        || old.is_deleting() != new.is_deleting()
                }
                Delta::Added(_) => false,
                Delta::Deleted(_) => true,
            };
            if let (Some(controller), true) = (events.upgrade(), matters) {
                controller.offer(Some(delta.object().namespace()));
            }
        });
        let events = Arc::downgrade(self);
        self.services.add_handler(move |delta| {
            if let (Some(controller), false) = (events.upgrade(), matches!(delta, Delta::Added(_))) {
                controller.offer(Some(delta.object().namespace()));
            }
        });
        let events = Arc::downgrade(self);
        self.claims.add_handler(move |delta| {
            if let (Some(controller), false) = (events.upgrade(), matches!(delta, Delta::Added(_))) {
                controller.offer(Some(delta.object().namespace()));
            }
        });
    }

    /// Something changed in a namespace, or (none) anywhere.
    fn offer(&self, namespace: Option<&str>) {
        let quotas = match namespace {
            Some(namespace) => self.quotas.cache().in_namespace(namespace),
            None => self.quotas.cache().list(),
        };
        quotas.iter().for_each(|quota| self.queue.add(quota.key()));
    }

    /// An object of a counted resource is seen to be there. Admission has charged what came after a quota was counted, but
    /// what was there before, and was not seen yet, is missing in that count.
    fn appeared(&self, namespace: &str, version: &str) {
        let Ok(version) = version.parse::<u64>() else { return };
        let counted = self.counted.lock();
        for quota in self.quotas.cache().in_namespace(namespace) {
            let key = quota.key();
            if counted.get(&key).is_some_and(|at| *at >= version) {
                self.queue.add(key);
            }
        }
    }

    async fn served(&self, group: &str, resource: &str) -> Result<Option<Served>, Error> {
        let find = |all: &[Served]| {
            all.iter().find(|s| *s.gvr.group == *group && *s.gvr.resource == *resource && s.can("watch")).cloned()
        };
        let known = self.served.lock().clone();
        if let Some((at, all)) = known {
            let found = find(&all);
            if found.is_some() || at.elapsed() < DISCOVERY {
                return Ok(found);
            }
        }
        let (all, failures) = discover(&self.context.client).await?;
        let found = find(&all);
        // A group that could not be read may well serve it: to count nothing would be wrong.
        if found.is_none()
            && let Some(failure) = failures.iter().find(|f| of_group(f, group))
        {
            return Err(Error::Request(format!("cannot tell whether {resource} are served: {failure}")));
        }
        if !failures.is_empty() {
            return Ok(found);
        }
        *self.served.lock() = Some((Instant::now(), Arc::new(all)));
        Ok(found)
    }

    /// How many objects there are; `None` when that is not known yet. What is not served counts nothing.
    async fn count(self: &Arc<Self>, name: &(String, String), namespace: &str) -> Result<Option<usize>, Error> {
        let known = self.counts.lock().get(name).cloned();
        if let Some(counts) = known {
            return Ok(counts.of(namespace));
        }
        let Some(served) = self.served(&name.0, &name.1).await? else {
            // A resource may come to be served later, and nothing tells of that.
            let quotas = self.quotas.cache().in_namespace(namespace);
            quotas.iter().for_each(|quota| self.queue.add_after(quota.key(), UNSERVED));
            return Ok(Some(0));
        };
        let counts = {
            let mut all = self.counts.lock();
            if let Some(counts) = all.get(name) {
                // Another worker was here meanwhile; its list looks at this quota again when it is there.
                return Ok(counts.of(namespace));
            }
            let counts = Arc::new(Counts::default());
            all.insert(name.clone(), counts.clone());
            counts
        };
        let (client, shutdown, events) =
            (self.context.client.clone(), self.context.shutdown.clone(), Arc::downgrade(self));
        rt::spawn("quota counts", async move {
            let changed = move |change: Change<'_>| {
                let Some(controller) = events.upgrade() else { return };
                match change {
                    Change::Listed => controller.offer(None),
                    Change::Appeared { namespace, version } => controller.appeared(namespace, version),
                    Change::Gone { namespace } => controller.offer(Some(namespace)),
                }
            };
            shutdown.run(counts.follow(&client, &served.gvr, changed)).await;
        });
        Ok(None)
    }

    async fn sync(self: &Arc<Self>, key: &str) -> Result<(), Error> {
        let Some(quota) = self.quotas.cache().get_key(key) else { return Ok(()) };
        let hard = quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
        let tree = api::to_object(&*quota).map_err(|e| Error::Decode(e.source))?;
        let limits = resources(tree.get(&["spec", "hard"]));
        if let Some(version) = quota.metadata.resource_version.as_ref().and_then(|v| v.parse().ok()) {
            // Before it is counted: what appears meanwhile is then counted again, which does no harm.
            self.counted.lock().insert(key.to_owned(), version);
        }
        let Some(usage) = self.usage(&quota, &tree, &limits).await? else {
            // The first list of a resource is under way and looks here again.
            return Ok(());
        };
        let used: BTreeMap<String, Quantity> =
            usage.iter().map(|(name, quantity)| (name.clone(), Quantity(quantity.to_string()))).collect();
        let known = resources(tree.get(&["status", "used"]));
        let status = quota.status.clone().unwrap_or_default();
        self.queue.add_after(quota.key(), RESYNC);
        if known == usage && status.hard.as_ref() == Some(&hard) && status.used.is_some() {
            return Ok(());
        }
        let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
        let changed = ResourceQuota { status: Some(status), ..(*quota).clone() };
        match self.context.client.update_status(&changed).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the cache of a resource does not show a quota's version yet; then the quota is counted again when it does.
    /// Admission charges before the object is there: a cache that is behind the last charge may not show what was charged, and
    /// to take that back would let one more in.
    fn is_behind(&self, resource: &str, key: &str, version: u64) -> bool {
        match resource {
            "pods" => self.own.reach::<Pod>(key, version),
            "services" => self.own.reach::<Service>(key, version),
            _ => self.own.reach::<PersistentVolumeClaim>(key, version),
        }
        let wait = self.own.wait(key);
        if let Some(wait) = wait {
            self.queue.add_after(key.to_owned(), wait);
        }
        wait.is_some()
    }

    async fn usage(
        self: &Arc<Self>,
        quota: &ResourceQuota,
        tree: &Object,
        limits: &Usage,
    ) -> Result<Option<Usage>, Error> {
        let namespace = quota.namespace();
        let key = quota.key();
        let version = quota.resource_version().parse::<u64>().unwrap_or(0);
        let known = resources(tree.get(&["status", "used"]));
        let mut used = Usage::new();
        let typed: [(&str, Evaluator); 3] = [
            ("pods", Evaluator::of("", "pods")),
            ("services", Evaluator::of("", "services")),
            ("persistentvolumeclaims", Evaluator::of("", "persistentvolumeclaims")),
        ];
        for (resource, evaluator) in typed {
            let mine = evaluator.matching(limits);
            if mine.is_empty() {
                continue;
            }
            let objects = match resource {
                "pods" => trees(&self.pods.cache().in_namespace(namespace)),
                "services" => trees(&self.services.cache().in_namespace(namespace)),
                _ => trees(&self.claims.cache().in_namespace(namespace)),
            };
            let mut total: Usage = mine.iter().map(|name| (name.clone(), zero(name))).collect();
            for object in objects.iter().filter(|o| evaluator.in_scope(tree, o)) {
                add(&mut total, &evaluator.usage(object, rt::time::unix_seconds()));
            }
            let falls =
                |(name, now): (&String, &meta::quantity::Quantity)| known.get(name).is_some_and(|was| was > now);
            if total.iter().any(falls) && self.is_behind(resource, &key, version) {
                return Ok(None);
            }
            used.extend(total.into_iter().filter(|(name, _)| mine.contains(name)));
        }
        let scoped = |field: &str| tree.get(&["spec", field]).is_some_and(|v| !matches!(v, Value::Null));
        let unscoped = !scoped("scopes") && !scoped("scopeSelector");
        for name in limits.keys() {
            let Some(resource) = counted(name) else { continue };
            let count = if unscoped { self.count(&resource, namespace).await? } else { Some(0) };
            let Some(count) = count else { return Ok(None) };
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            used.insert(name.clone(), meta::quantity::Quantity::from_units(count, Format::DecimalSi));
        }
        Ok(Some(used))
    }
}

/// Zero in the form that the resource's quantities have.
fn zero(name: &str) -> meta::quantity::Quantity {
    let binary = name.contains("memory") || name.contains("storage") || name.contains("hugepages");
    let counts = name.contains("persistentvolumeclaims");
    let format = if binary && !counts { Format::BinarySi } else { Format::DecimalSi };
    meta::quantity::Quantity::from_units(0, format)
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn names_that_count() {
        let pair = |g: &str, r: &str| Some((g.to_owned(), r.to_owned()));
        assert_eq!(counted("secrets"), pair("", "secrets"));
        assert_eq!(counted("count/deployments.apps"), pair("apps", "deployments"));
        assert_eq!(counted("count/crontabs.stable.example.com"), pair("stable.example.com", "crontabs"));
        assert_eq!(counted("count/pods"), None);
        assert_eq!(counted("requests.cpu"), None);
    }
}
