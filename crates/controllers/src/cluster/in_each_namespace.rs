//! The mechanism of controllers that keep one object in every namespace.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::Namespace;
use client::Error;
use informer::{Delta, Informer, Queue, Scope, run_workers};

use crate::frame::Context;
use crate::workload::pod_control::namespace_terminating;

/// Makes the object for a namespace.
pub(crate) type Make<T> = Arc<dyn Fn(&str) -> T + Send + Sync>;
/// Says whether an object is as it should be.
pub(crate) type IsRight<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

struct Controller<T> {
    context: Context,
    namespaces: Informer<Namespace>,
    objects: Informer<T>,
    name: &'static str,
    make: Make<T>,
    is_right: IsRight<T>,
}

/// Keeps the object called `name` in every active namespace, as `make` makes it.
pub(crate) async fn run<T: Kind>(context: Context, name: &'static str, make: Make<T>, is_right: IsRight<T>) {
    let namespaces = context.factory.informer::<Namespace>();
    let field_selector = format!("metadata.name={name}");
    let objects = context.factory.scoped::<T>(Scope { field_selector, ..Scope::default() });
    let queue = Arc::new(Queue::new());
    let (of_namespace, of_object) = (queue.clone(), queue.clone());
    namespaces.add_handler(move |delta| {
        if !matches!(delta, Delta::Deleted(_)) {
            of_namespace.add(delta.object().name().to_owned());
        }
    });
    objects.add_handler(move |delta| of_object.add(delta.object().namespace().to_owned()));
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller { context, namespaces, objects, name, make, is_right });
    controller.namespaces.synced().await;
    controller.objects.synced().await;
    run_workers(name, queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

impl<T: Kind> Controller<T> {
    async fn sync(&self, namespace: &str) -> Result<(), Error> {
        let Some(found) = self.namespaces.cache().get_key(namespace) else { return Ok(()) };
        let active = found.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Terminating");
        if !active || found.is_deleting() {
            return Ok(());
        }
        let result = match self.objects.cache().get(namespace, self.name) {
            Some(object) if (self.is_right)(&object) => return Ok(()),
            Some(object) => {
                let mut right = (self.make)(namespace);
                right.metadata_mut().resource_version = object.metadata().resource_version.clone();
                self.context.client.update(&right).await
            }
            None => self.context.client.create(&(self.make)(namespace)).await,
        };
        match result {
            Err(error) if error.is_already_exists() || error.is_not_found() || namespace_terminating(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }
}
