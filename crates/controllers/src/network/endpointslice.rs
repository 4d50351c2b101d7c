//! EndpointSlice: what stands behind each Service, in slices of at most 100 endpoints.

mod plan;

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::Node;
use api::k8s::discovery::v1::EndpointSlice;
use client::{DeleteOptions, Error};
use futures::future::try_join_all;
use informer::{Delta, EventType, Expectations, Informer, Queue, Scope, run_workers};

use crate::frame::Context;
use crate::network::backends::Backends;
use crate::workload::pod_control::namespace_terminating;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const BY_SERVICE: &str = "service";

struct Controller {
    context: Context,
    backends: Backends,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
    expectations: Expectations,
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
    let controller = Arc::new(Controller { context, backends, slices, nodes, expectations: Expectations::new() });
    let (events, handed) = (Arc::downgrade(&controller), queue.clone());
    controller.slices.add_handler(move |delta| {
        let Some(controller) = events.upgrade() else { return };
        let Some(key) = service_key(delta.object()) else { return };
        match delta {
            Delta::Added(_) => controller.expectations.creation_observed(&key),
            Delta::Deleted(slice) => controller.expectations.deletion_observed(&key, slice.uid()),
            Delta::Updated { .. } => {}
        }
        handed.add(key);
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
            self.expectations.forget(key);
            return Ok(());
        };
        if service.is_deleting() || !self.expectations.satisfied(key) {
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
        let client = &self.context.client;
        if !plan.create.is_empty() {
            self.expectations.expect_creations(key, plan.create.len());
        }
        let create = plan.create.iter().map(|slice| async move {
            let made = client.create(slice).await;
            if made.is_err() {
                self.expectations.creation_observed(key);
            }
            made.map(drop)
        });
        let update = plan.update.iter().map(|slice| async move { client.update(slice).await.map(drop) });
        try_join_all(update).await?;
        try_join_all(create).await?;
        for slice in &plan.delete {
            match client.delete::<EndpointSlice>(slice.namespace(), slice.name(), &DeleteOptions::of(slice.uid())).await
            {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
