//! Empties a namespace that is being deleted, then lets it go.
//!
//! Pods go first, then everything else that discovery knows to be deletable; conditions say what is left and what
//! failed. The namespace is looked at again whenever something in it may have gone, with a delay that grows
//! from a tenth of a second.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::{Namespace, NamespaceCondition};
use api::metav1::Time;
use client::{DeleteOptions, Error, ListParams, Propagation, Resource};
use informer::{Queue, run_workers};
use parking_lot::Mutex;
use rt::HashMap;

use crate::discovery::{Served, discover};
use crate::frame::Context;

/// What one pass over the namespace found.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Objects by resource.
    pub(crate) resources: Vec<(String, usize)>,
    /// Objects by finalizer.
    pub(crate) finalizers: Vec<(String, usize)>,
    /// Deletions that failed.
    pub(crate) failures: Vec<String>,
    /// Discovery that failed.
    pub(crate) undiscovered: Vec<String>,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.failures.is_empty() && self.undiscovered.is_empty()
    }
}

fn condition(type_: &str, bad: Option<(&str, String)>, good: (&str, &str)) -> NamespaceCondition {
    let (status, reason, message) = match bad {
        Some((reason, message)) => ("True", reason.to_owned(), message),
        None => ("False", good.0.to_owned(), good.1.to_owned()),
    };
    NamespaceCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason),
        message: Some(message),
        last_transition_time: Some(Time(rt::time::now())),
    }
}

/// The conditions that say what is left; upstream's types, reasons and texts.
pub(crate) fn conditions(left: &Left) -> Vec<NamespaceCondition> {
    let join = |items: &[(String, usize)], what: &str| -> String {
        items.iter().map(|(name, n)| format!("{name} {what} {n} resource instances")).collect::<Vec<_>>().join(", ")
    };
    let bad = |list: &[String], reason: &'static str, what: &str| {
        (!list.is_empty()).then(|| (reason, format!("{what}: {}", list.join(", "))))
    };
    let content = (!left.resources.is_empty())
        .then(|| ("SomeResourcesRemain", format!("Some resources are remaining: {}", join(&left.resources, "has"))));
    let finalizers = (!left.finalizers.is_empty()).then(|| {
        (
            "SomeFinalizersRemain",
            format!("Some content in the namespace has finalizers remaining: {}", join(&left.finalizers, "in")),
        )
    });
    vec![
        condition(
            "NamespaceDeletionDiscoveryFailure",
            bad(&left.undiscovered, "DiscoveryFailed", "Discovery failed for some groups"),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        condition(
            "NamespaceDeletionContentFailure",
            bad(&left.failures, "ContentDeletionFailed", "Failed to delete all resource types"),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        condition("NamespaceContentRemaining", content, ("ContentRemoved", "All content successfully removed")),
        condition(
            "NamespaceFinalizersRemaining",
            finalizers,
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ]
}

struct Controller {
    context: Context,
    queue: Arc<Queue<String>>,
    /// How often each namespace was found with content.
    passes: Mutex<HashMap<String, u32>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let namespaces = context.factory.informer::<Namespace>();
    let queue = Arc::new(Queue::new());
    let handed = queue.clone();
    namespaces.add_handler(move |delta| {
        if delta.object().is_deleting() {
            handed.add(delta.object().name().to_owned());
        }
    });
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller { context, queue: queue.clone(), passes: Mutex::default() });
    namespaces.synced().await;
    run_workers("namespace", queue, workers, shutdown, move |name: String| {
        let controller = controller.clone();
        async move { controller.sync(&name).await }
    })
    .await;
}

impl Controller {
    async fn sync(&self, name: &str) -> Result<(), Error> {
        let client = &self.context.client;
        let found = client.get::<Namespace>("", name).await;
        let mut namespace = match found {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let ours = |n: &Namespace| {
            n.spec.as_ref().and_then(|s| s.finalizers.as_ref()).is_some_and(|f| f.iter().any(|f| f == "kubernetes"))
        };
        if !namespace.is_deleting() {
            return Ok(());
        }
        if namespace.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Terminating") {
            namespace.status.get_or_insert_default().phase = Some("Terminating".into());
            namespace = client.update_status(&namespace).await?;
        }
        if !ours(&namespace) {
            return Ok(());
        }
        let left = self.empty(name).await?;
        if !left.is_empty() {
            self.write_conditions(namespace, &left).await?;
            tracing::debug!(namespace = name, ?left, "namespace is not empty yet");
            // The queue's back-off is for failures; what is left here goes in its own time.
            let tries = {
                let mut passes = self.passes.lock();
                let tries = passes.entry(name.to_owned()).or_insert(0);
                *tries += 1;
                (*tries).min(5)
            };
            self.queue.add_after(name.to_owned(), Duration::from_millis(50 << tries));
            return Ok(());
        }
        if let Some(list) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
            list.retain(|f| f != "kubernetes");
        }
        self.passes.lock().remove(name);
        self.finalize(&namespace).await
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), Error> {
        let object = api::to_object(namespace).map_err(|e| Error::Decode(e.source))?;
        let of = Resource { gvr: &Namespace::gvr(), namespace: None };
        match self.context.client.update_object(&of, "finalize", &object).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn write_conditions(&self, mut namespace: Namespace, left: &Left) -> Result<(), Error> {
        let status = namespace.status.get_or_insert_default();
        let have = status.conditions.get_or_insert_default();
        let mut changed = false;
        for new in conditions(left) {
            match have.iter_mut().find(|c| c.type_ == new.type_) {
                Some(old) if old.status == new.status && old.message == new.message && old.reason == new.reason => {}
                Some(old) => {
                    *old = new;
                    changed = true;
                }
                None => {
                    have.push(new);
                    changed = true;
                }
            }
        }
        if !changed {
            return Ok(());
        }
        match self.context.client.update_status(&namespace).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// One pass: deletes what there is and tells what is left.
    async fn empty(&self, namespace: &str) -> Result<Left, Error> {
        let (mut resources, undiscovered) = discover(&self.context.client).await?;
        let mut left = Left { undiscovered, ..Left::default() };
        resources.retain(|r| r.namespaced && r.can("list") && r.can("delete"));
        // Pods hold on to volumes, secrets and service accounts: they go before what they use.
        resources.sort_by_key(|r| !(r.gvr.group.is_empty() && r.gvr.resource == "pods"));
        for resource in &resources {
            if let Err(error) = self.empty_resource(namespace, resource, &mut left).await {
                left.failures.push(format!("{}: {}", resource.gvr.group_resource(), error.chain()));
            }
            let pods_left = resource.gvr.resource == "pods" && left.resources.iter().any(|(name, _)| name == "pods.");
            if pods_left {
                break;
            }
        }
        Ok(left)
    }

    async fn empty_resource(&self, namespace: &str, resource: &Served, left: &mut Left) -> Result<(), Error> {
        let client = &self.context.client;
        let of = Resource { gvr: &resource.gvr, namespace: Some(namespace) };
        let all = ListParams::default();
        let before = match client.list_objects(&of, &all).await {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        if before.items.is_empty() {
            return Ok(());
        }
        let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        if resource.can("deletecollection") {
            client.delete_collection(&of, &all, &options).await?;
        } else {
            for item in before.items.iter().filter(|i| i.deletion_timestamp().is_none()) {
                match client.delete_object(&of, item.name(), &options).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        let after = client.list_objects(&of, &all).await?;
        if !after.items.is_empty() {
            let name = format!("{}.{}", resource.gvr.resource, resource.gvr.group);
            left.resources.push((name, after.items.len()));
            for item in &after.items {
                for finalizer in item.finalizers() {
                    match left.finalizers.iter_mut().find(|(name, _)| name == finalizer) {
                        Some((_, count)) => *count += 1,
                        None => left.finalizers.push((finalizer.to_owned(), 1)),
                    }
                }
            }
        }
        Ok(())
    }
}
