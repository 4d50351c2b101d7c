//! EndpointSlice: what stands behind each Service, in slices of at most 100 endpoints.

mod plan;

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::Node;
use api::k8s::discovery::v1::EndpointSlice;
use client::{DeleteOptions, Error};
use futures::future::join_all;
use informer::{EventType, Informer, OwnWrites, Queue, Scope, run_workers};

use crate::frame::Context;
use crate::network::backends::Backends;
use crate::workload::pod_control::namespace_terminating;
use crate::workload::writes::{Writes, is_unclear};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const BY_SERVICE: &str = "service";

struct Controller {
    context: Context,
    backends: Backends,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
    queue: Arc<Queue<String>>,
    own: OwnWrites,
}

fn service_key(slice: &EndpointSlice) -> Option<String> {
    Some(format!("{}/{}", slice.namespace(), slice.label(SERVICE_NAME)?))
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let queue = Arc::new(Queue::new());
    let slices = context
        .factory
        .scoped::<EndpointSlice>(Scope { label_selector: format!("{MANAGED_BY}={MANAGER}"), ..Scope::default() });
    slices.add_index(BY_SERVICE, |slice| service_key(slice).into_iter().collect());
    let nodes = context.factory.informer::<Node>();
    let backends = Backends::attach(&context, &queue);
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let woken = queue.clone();
    let own = OwnWrites::new(None, move |key| woken.add(key)).over(&slices);
    let controller = Arc::new(Controller { context, backends, slices, nodes, queue: queue.clone(), own });
    let changed = Arc::downgrade(&queue);
    controller.slices.add_handler(move |delta| {
        if let (Some(queue), Some(key)) = (changed.upgrade(), service_key(delta.object())) {
            queue.add(key);
        }
    });
    controller.backends.synced().await;
    controller.slices.synced().await;
    controller.nodes.synced().await;
    run_workers("endpointslice", queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(service) = self.backends.services.cache().get_key(key) else {
            // The slices go with their owner.
            self.own.forget(key);
            return Ok(());
        };
        if service.is_deleting() {
            return Ok(());
        }
        if let Some(wait) = self.own.wait(key) {
            self.queue.add_after(key.to_owned(), wait);
            return Ok(());
        }
        let Some(pods) = self.backends.pods_of(&service) else { return Ok(()) };
        let existing = self.slices.cache().by_index(BY_SERVICE, key);
        let existing = existing.into_iter().filter(|s| !s.is_deleting()).collect();
        let zone =
            |node: &str| self.nodes.cache().get_key(node)?.label("topology.kubernetes.io/zone").map(str::to_owned);
        let plan = plan::plan(&service, &pods, existing, &zone);
        if let Err(error) = self.act(key, plan).await {
            if namespace_terminating(&error) {
                return Ok(());
            }
            if !error.is_conflict() {
                let message = format!("Error updating Endpoint Slices for Service {key}: {}", error.chain());
                self.context.recorder.event(&*service, EventType::Warning, "FailedToUpdateEndpointSlices", message);
            }
            return Err(error);
        }
        Ok(())
    }

    async fn act(&self, key: &str, plan: plan::Plan) -> Result<(), Error> {
        let writes = Writes { context: &self.context, own: &self.own, key };
        let updated = join_all(plan.update.iter().map(|slice| writes.update(slice))).await;
        updated.into_iter().try_for_each(|result| result.map(drop))?;
        let made = join_all(plan.create.iter().map(|slice| writes.create(slice))).await;
        let unclear = |result: &Result<EndpointSlice, Error>| result.as_ref().is_err_and(is_unclear);
        let in_doubt: Vec<_> = plan.create.iter().zip(&made).filter(|(_, r)| unclear(r)).map(|(s, _)| s).collect();
        writes.ask_for_children(&in_doubt).await;
        made.into_iter().try_for_each(|result| result.map(drop))?;
        for slice in &plan.delete {
            match writes.delete(&**slice, &DeleteOptions::of(slice.uid())).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
