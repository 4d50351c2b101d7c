//! Resource claims of pods: made from templates, reserved for scheduled pods, and let go when nobody uses them any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Pod, PodResourceClaim};
use api::k8s::resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate};
use api::metav1::{ObjectMeta, OwnerReference};
use client::{DeleteOptions, Error, PatchKind};
use component_helpers::owner::reference;
use informer::{EventType, Informer, Queue, run_workers};
use serde_json::json;
use telemetry::metrics::counter_vec;

use crate::frame::Context;
use crate::pods::is_terminal;

const FOR: &str = "resource.kubernetes.io/pod-claim-name";
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
const MANAGER: &str = "ResourceClaimController";
const BY_CLAIM: &str = "resource claim";
const BY_TEMPLATE: &str = "resource claim template";
/// The longest base of a generated name.
const LONGEST_BASE: usize = 57;
/// Upstream's limit of consumers of a claim.
const MOST_CONSUMERS: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Pod(String),
    Claim(String),
}

struct Controller {
    context: Context,
    pods: Informer<Pod>,
    claims: Informer<ResourceClaim>,
    templates: Informer<ResourceClaimTemplate>,
}

fn asked(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|s| s.resource_claims.as_deref()).unwrap_or_default()
}

/// The claim that the scheduler made for extended resources of the pod's containers.
fn extended(pod: &Pod) -> Option<&str> {
    let made = pod.status.as_ref()?.extended_resource_claim_status.as_ref()?;
    Some(made.resource_claim_name.as_str()).filter(|name| !name.is_empty())
}

/// The name of the claim object of a pod's claim.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    /// Somebody else makes it.
    Given(&'a str),
    /// It was made for the pod.
    Made(&'a str),
    /// It is still to be made.
    Open,
    /// None is needed.
    NotNeeded,
}

fn name_of<'a>(pod: &'a Pod, claim: &'a PodResourceClaim) -> Name<'a> {
    if let Some(name) = &claim.resource_claim_name {
        return Name::Given(name);
    }
    let statuses = pod.status.as_ref().and_then(|s| s.resource_claim_statuses.as_deref()).unwrap_or_default();
    match statuses.iter().find(|s| s.name == claim.name) {
        None => Name::Open,
        Some(status) => status.resource_claim_name.as_deref().map_or(Name::NotNeeded, Name::Made),
    }
}

fn is_for(pod: &Pod, claim: &ResourceClaim) -> bool {
    claim.controller_ref().is_some_and(|r| r.uid == pod.uid())
}

/// The pod runs no more and will not.
fn is_done(pod: &Pod) -> bool {
    let unscheduled = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default().is_empty();
    is_terminal(pod) || (pod.is_deleting() && unscheduled)
}

/// `<pod>-<claim>-`; both parts are cut when that is too long.
fn generate_name(pod: &str, claim: &str) -> String {
    let name = format!("{pod}-{claim}-");
    if name.len() <= LONGEST_BASE {
        return name;
    }
    let cut = |text: &str| text.get(..text.len() * LONGEST_BASE / name.len()).unwrap_or_default().to_owned();
    format!("{}-{}", cut(pod), cut(claim))
}

fn make(pod: &Pod, claim: &PodResourceClaim, template: &ResourceClaimTemplate) -> ResourceClaim {
    let meta = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(FOR.to_owned(), claim.name.clone());
    let owner = OwnerReference { controller: Some(true), ..reference(pod) };
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(generate_name(pod.name(), &claim.name)),
            namespace: Some(pod.namespace().to_owned()),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.spec.clone(),
        status: None,
    }
}

/// Upstream's metric of claims that were made.
fn count_creation(claim: &ResourceClaim, worked: bool) {
    let requests = claim.spec.devices.iter().flat_map(|d| d.requests.iter().flatten());
    let mut exact = requests.filter_map(|request| request.exactly.as_ref());
    let admin = exact.any(|request| request.admin_access == Some(true));
    let help = "Number of ResourceClaims creation requests, categorized by creation status and admin access";
    let all = counter_vec("resourceclaim_controller_creates_total", help, &["status", "admin_access"]);
    let status = if worked { "success" } else { "failure" };
    all.with(&[status, if admin { "true" } else { "false" }]).add(1);
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let (pods, claims, templates) =
        (factory.informer::<Pod>(), factory.informer::<ResourceClaim>(), factory.informer::<ResourceClaimTemplate>());
    pods.add_index(BY_CLAIM, |pod| {
        let names = asked(pod).iter().filter_map(|claim| match name_of(pod, claim) {
            Name::Given(name) | Name::Made(name) => Some(format!("{}/{name}", pod.namespace())),
            _ => None,
        });
        names.collect()
    });
    pods.add_index(BY_TEMPLATE, |pod| {
        let names = asked(pod).iter().filter_map(|claim| claim.resource_claim_template_name.as_ref());
        names.map(|name| format!("{}/{name}", pod.namespace())).collect()
    });
    let queue = Arc::new(Queue::new());
    watch(&queue, &pods, &claims, &templates);
    pods.synced().await;
    claims.synced().await;
    templates.synced().await;
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller { context, pods, claims, templates });
    run_workers("resource claim", queue, workers, shutdown, move |key: Key| {
        let controller = controller.clone();
        async move {
            match key {
                Key::Pod(key) => controller.sync_pod(&key).await,
                Key::Claim(key) => controller.sync_claim(&key).await,
            }
        }
    })
    .await;
}

fn watch(
    queue: &Arc<Queue<Key>>,
    pods: &Informer<Pod>,
    claims: &Informer<ResourceClaim>,
    templates: &Informer<ResourceClaimTemplate>,
) {
    let handed = queue.clone();
    pods.add_handler(move |delta| {
        let pod = delta.object();
        if asked(pod).is_empty() && extended(pod).is_none() {
            return;
        }
        if matches!(delta, informer::Delta::Deleted(_)) || is_done(pod) {
            for claim in asked(pod) {
                if let Name::Given(name) | Name::Made(name) = name_of(pod, claim) {
                    handed.add(Key::Claim(format!("{}/{name}", pod.namespace())));
                }
            }
            if let Some(name) = extended(pod) {
                handed.add(Key::Claim(format!("{}/{name}", pod.namespace())));
            }
        } else if !asked(pod).is_empty() {
            handed.add(Key::Pod(pod.key()));
        }
    });
    let (handed, users) = (queue.clone(), pods.clone());
    claims.add_handler(move |delta| {
        let key = delta.object().key();
        for pod in users.cache().by_index(BY_CLAIM, &key) {
            handed.add(Key::Pod(pod.key()));
        }
        if !matches!(delta, informer::Delta::Deleted(_)) {
            handed.add(Key::Claim(key));
        }
    });
    let (handed, users) = (queue.clone(), pods.clone());
    templates.add_handler(move |delta| {
        for pod in users.cache().by_index(BY_TEMPLATE, &delta.object().key()) {
            handed.add(Key::Pod(pod.key()));
        }
    });
}

impl Controller {
    async fn sync_pod(&self, key: &str) -> Result<(), Error> {
        let Some(pod) = self.pods.cache().get_key(key).filter(|p| !p.is_deleting()) else { return Ok(()) };
        let mut made = BTreeMap::new();
        for claim in asked(&pod) {
            match self.ensure(&pod, claim).await {
                Ok(Some(name)) => {
                    made.insert(claim.name.clone(), name);
                }
                Ok(None) => {}
                Err(error) => {
                    let message = format!("PodResourceClaim {}: {}", claim.name, error.chain());
                    self.context.recorder.event(&*pod, EventType::Warning, "FailedResourceClaimCreation", message);
                    return Err(error);
                }
            }
        }
        if !made.is_empty() {
            // What is applied is all that the pod has: a name that is left out would be taken away.
            for claim in asked(&pod) {
                if let Name::Made(name) = name_of(&pod, claim) {
                    made.entry(claim.name.clone()).or_insert_with(|| name.to_owned());
                }
            }
            let statuses: Vec<_> =
                made.iter().map(|(name, claim)| json!({"name": name, "resourceClaimName": claim})).collect();
            let patch = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
                "status": {"resourceClaimStatuses": statuses},
            });
            let kind = PatchKind::Apply { manager: MANAGER.to_owned(), force: true };
            match self.context.client.patch_status::<Pod>(pod.namespace(), pod.name(), &kind, &patch).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        // Before it is scheduled, the scheduler reserves.
        let scheduled = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty());
        if scheduled { self.reserve(&pod).await } else { Ok(()) }
    }

    /// Makes the object of a pod's claim. Gives its name when the pod's status does not have it yet.
    async fn ensure(&self, pod: &Pod, claim: &PodResourceClaim) -> Result<Option<String>, Error> {
        let name = name_of(pod, claim);
        if let Name::Made(name) = name
            && self.claims.cache().get(pod.namespace(), name).is_some_and(|found| is_for(pod, &found))
        {
            return Ok(None);
        }
        let (Name::Open | Name::Made(_), Some(template)) = (name, &claim.resource_claim_template_name) else {
            return Ok(None);
        };
        // One that was made, while the status could not be written.
        let mine = |found: &Arc<ResourceClaim>| {
            is_for(pod, found) && found.annotation(FOR) == Some(&claim.name) && !found.is_deleting()
        };
        if let Some(found) = self.claims.cache().in_namespace(pod.namespace()).into_iter().find(mine) {
            return Ok(Some(found.name().to_owned()));
        }
        let Some(template) = self.templates.cache().get(pod.namespace(), template) else {
            let text = format!(
                "resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found"
            );
            return Err(Error::Request(text));
        };
        let fresh = self.context.client.get::<Pod>(pod.namespace(), pod.name()).await?;
        if fresh.uid() != pod.uid() {
            return Ok(None);
        }
        // The cache may not show yet what an earlier round made: the status does.
        if let Name::Made(name) = name_of(&fresh, claim)
            && self.context.client.get::<ResourceClaim>(pod.namespace(), name).await.is_ok_and(|c| is_for(pod, &c))
        {
            return Ok(None);
        }
        let wanted = make(pod, claim, &template);
        let made = self.context.client.create(&wanted).await;
        count_creation(&wanted, made.is_ok());
        Ok(Some(made?.name().to_owned()))
    }

    async fn reserve(&self, pod: &Pod) -> Result<(), Error> {
        for asked in asked(pod) {
            let (Name::Given(name) | Name::Made(name)) = name_of(pod, asked) else { continue };
            let Some(claim) = self.claims.cache().get(pod.namespace(), name) else { return Ok(()) };
            if asked.resource_claim_template_name.is_some() && !is_for(pod, &claim) {
                continue;
            }
            let status = claim.status.clone().unwrap_or_default();
            let mut consumers = status.reserved_for.clone().unwrap_or_default();
            let reserved = consumers.iter().any(|c| c.uid == pod.uid());
            if status.allocation.is_none() || reserved || consumers.len() >= MOST_CONSUMERS {
                continue;
            }
            consumers.push(ResourceClaimConsumerReference {
                api_group: None,
                name: pod.name().to_owned(),
                resource: "pods".to_owned(),
                uid: pod.uid().to_owned(),
            });
            let mut changed = (*claim).clone();
            changed.status = Some(status);
            changed.status.get_or_insert_default().reserved_for = Some(consumers);
            self.context.client.update_status(&changed).await?;
        }
        Ok(())
    }

    /// Whether a consumer may still use the claim.
    async fn uses(&self, namespace: &str, consumer: &ResourceClaimConsumerReference) -> Result<bool, Error> {
        if consumer.api_group.as_deref().is_some_and(|g| !g.is_empty()) || consumer.resource != "pods" {
            // Of what we do not know we do not know that it is gone.
            return Ok(true);
        }
        if let Some(pod) = self.pods.cache().get(namespace, &consumer.name) {
            return Ok(pod.uid() == consumer.uid && !is_done(&pod));
        }
        match self.context.client.get::<Pod>(namespace, &consumer.name).await {
            Ok(pod) => Ok(pod.uid() == consumer.uid),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn sync_claim(&self, key: &str) -> Result<(), Error> {
        let Some(cached) = self.claims.cache().get_key(key) else { return Ok(()) };
        let mut claim = (*cached).clone();
        let consumers = claim.status.as_ref().and_then(|s| s.reserved_for.clone()).unwrap_or_default();
        let mut remaining = Vec::with_capacity(consumers.len());
        for consumer in &consumers {
            if self.uses(claim.namespace(), consumer).await? {
                remaining.push(consumer.clone());
            }
        }
        let guarded = |claim: &ResourceClaim| claim.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER);
        let unused = remaining.is_empty();
        if remaining.len() < consumers.len() || (guarded(&claim) && claim.is_deleting() && unused) {
            let status = claim.status.get_or_insert_default();
            let allocated = status.allocation.is_some();
            status.reserved_for = Some(remaining).filter(|r: &Vec<_>| !r.is_empty());
            let mut status_changed = status.reserved_for.as_ref().map_or(0, Vec::len) < consumers.len();
            if unused && guarded(&cached) && allocated {
                claim.status.get_or_insert_default().allocation = None;
                status_changed = true;
            }
            if status_changed {
                claim = self.context.client.update_status(&claim).await?;
            }
            let free = claim.status.as_ref().is_none_or(|s| s.allocation.is_none());
            if guarded(&claim) && free {
                claim.metadata.finalizers.get_or_insert_default().retain(|f| f != FINALIZER);
                self.context.client.update(&claim).await?;
            }
        }
        if unused { self.delete_unused(&cached).await } else { Ok(()) }
    }

    /// A claim that was made for a pod goes as soon as the pod does not need it.
    async fn delete_unused(&self, claim: &ResourceClaim) -> Result<(), Error> {
        let Some(owner) = claim.controller_ref().filter(|r| r.kind == "Pod" && r.api_version == "v1") else {
            return Ok(());
        };
        // A pod that is not known is the garbage collector's business.
        let Some(pod) = self.pods.cache().get(claim.namespace(), &owner.name) else { return Ok(()) };
        if claim.is_deleting() || (pod.uid() == owner.uid && !is_done(&pod)) {
            return Ok(());
        }
        let options = DeleteOptions::of(claim.uid());
        match self.context.client.delete::<ResourceClaim>(claim.namespace(), claim.name(), &options).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_claims() {
        let pod: Pod = api::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
            "spec": {"containers": [], "resourceClaims": [
                {"name": "given", "resourceClaimName": "c"}, {"name": "made", "resourceClaimTemplateName": "t"},
                {"name": "open", "resourceClaimTemplateName": "t"}, {"name": "none", "resourceClaimTemplateName": "t"},
            ]},
            "status": {"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "p-made-x"}, {"name": "none"}]},
        }))
        .unwrap();
        let found: Vec<Name<'_>> = asked(&pod).iter().map(|claim| name_of(&pod, claim)).collect();
        assert_eq!(found, [Name::Given("c"), Name::Made("p-made-x"), Name::Open, Name::NotNeeded]);
    }

    #[test]
    fn long_names_are_cut_in_both_parts() {
        assert_eq!(generate_name("pod", "gpu"), "pod-gpu-");
        let name = generate_name(&"p".repeat(100), &"c".repeat(50));
        assert!(name.len() <= LONGEST_BASE && name.ends_with("cc") && name.starts_with("pp"), "{name}");
    }
}
