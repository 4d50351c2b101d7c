//! Binding of claims to volumes.
//!
//! A binding is written on the volume first (`claimRef` with the claim's uid), then on the claim, so that two claims can
//! never share a volume. Volumes are made by external provisioners, which watch for the annotations written here.

mod matching;

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use api::k8s::storage::v1::StorageClass;
use api::metav1::Time;
use client::Error;
use informer::{EventType, Informer, Queue, run_workers};

use self::matching::{best, class_of_claim, is_bound_to, satisfies};
use crate::frame::Context;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const PROVISIONER: [&str; 2] =
    ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const BY_CLAIM: &str = "claim";

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Claim(String),
    Volume(String),
}

struct Controller {
    context: Context,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    queue: Arc<Queue<Key>>,
}

fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

fn claim_key(reference: &ObjectReference) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{}/{}", text(&reference.namespace), text(&reference.name))
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let queue = Arc::new(Queue::new());
    let shutdown = context.shutdown.clone();
    let controller = Arc::new(Controller {
        context,
        claims: factory.informer(),
        volumes: factory.informer(),
        classes: factory.informer(),
        queue: queue.clone(),
    });
    controller.volumes.add_index(BY_CLAIM, |volume| claim_ref(volume).map(claim_key).into_iter().collect());
    controller.claims.synced().await;
    controller.volumes.synced().await;
    controller.classes.synced().await;
    controller.watch();
    // One worker: two claims must not go for the same volume.
    run_workers("persistent volume binder", queue, 1, shutdown, move |key: Key| {
        let controller = controller.clone();
        async move {
            match &key {
                Key::Claim(key) => controller.sync_claim(key).await,
                Key::Volume(name) => controller.sync_volume(name).await,
            }
        }
    })
    .await;
}

impl Controller {
    fn watch(self: &Arc<Self>) {
        let events = Arc::downgrade(self);
        self.claims.add_handler(move |delta| {
            let Some(controller) = events.upgrade() else { return };
            let key = delta.object().key();
            for volume in controller.volumes.cache().by_index(BY_CLAIM, &key) {
                controller.queue.add(Key::Volume(volume.name().to_owned()));
            }
            controller.queue.add(Key::Claim(key));
        });
        let events = Arc::downgrade(self);
        self.volumes.add_handler(move |delta| {
            let Some(controller) = events.upgrade() else { return };
            let volume = delta.object();
            controller.queue.add(Key::Volume(volume.name().to_owned()));
            match claim_ref(volume) {
                Some(reference) => controller.queue.add(Key::Claim(claim_key(reference))),
                None => controller.offer(Some(volume.name())),
            }
        });
        let events = Arc::downgrade(self);
        self.classes.add_handler(move |_| {
            if let Some(controller) = events.upgrade() {
                controller.offer(None);
            }
        });
    }

    /// Claims without a volume, or with this one, look again.
    fn offer(&self, volume: Option<&str>) {
        for claim in self.claims.cache().list() {
            if volume_name(&claim).is_none() || volume_name(&claim) == volume {
                self.queue.add(Key::Claim(claim.key()));
            }
        }
    }

    fn event(&self, claim: &PersistentVolumeClaim, kind: EventType, reason: &str, message: String) {
        self.context.recorder.event(claim, kind, reason, message);
    }

    async fn sync_claim(&self, key: &str) -> Result<(), Error> {
        let Some(claim) = self.claims.cache().get_key(key) else { return Ok(()) };
        let bound = claim.annotation(BIND_COMPLETED).is_some();
        let Some(name) = volume_name(&claim) else {
            if bound {
                let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
                return self.lost(&claim, "ClaimLost", message).await;
            }
            return self.seek(&claim).await;
        };
        let Some(volume) = self.volumes.cache().get_key(name) else {
            if bound {
                let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                return self.lost(&claim, "ClaimLost", message).await;
            }
            return self.write_phase(&claim, "Pending").await;
        };
        match claim_ref(&volume) {
            None if !bound => match satisfies(&volume, &claim) {
                Ok(()) => self.bind(&volume, &claim).await,
                Err(why) => {
                    let message = format!("Cannot bind to requested volume {name:?}: {why}");
                    self.event(&claim, EventType::Warning, "VolumeMismatch", message);
                    self.write_phase(&claim, "Pending").await
                }
            },
            None => self.bind(&volume, &claim).await,
            Some(_) if is_bound_to(&volume, &claim) => self.bind(&volume, &claim).await,
            Some(_) if bound => {
                let message = "Two claims are bound to the same volume, this one is bound incorrectly";
                self.lost(&claim, "ClaimMisbound", message).await
            }
            Some(_) => {
                let message = format!("volume {name:?} already bound to a different claim.");
                self.event(&claim, EventType::Warning, "FailedBinding", message);
                self.write_phase(&claim, "Pending").await
            }
        }
    }

    async fn lost(&self, claim: &PersistentVolumeClaim, reason: &str, message: &str) -> Result<(), Error> {
        if claim.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Lost") {
            self.event(claim, EventType::Warning, reason, message.to_owned());
        }
        self.write_phase(claim, "Lost").await
    }

    /// Looks for a volume, or asks for one to be made.
    async fn seek(&self, claim: &Arc<PersistentVolumeClaim>) -> Result<(), Error> {
        let class_name = class_of_claim(claim);
        let class = class_name.as_deref().and_then(|name| self.classes.cache().get_key(name));
        let waits = class.as_ref().is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        let volumes = self.volumes.cache().list();
        if let Some(volume) = best(claim, &volumes, waits) {
            return self.bind(&volume, claim).await;
        }
        let unset = claim.spec.as_ref().is_some_and(|s| s.storage_class_name.is_none());
        if unset
            && class_name.is_none()
            && let Some(default) = self.default_class()
        {
            let mut changed = (**claim).clone();
            changed.spec.get_or_insert_default().storage_class_name = Some(default);
            return self.context.client.update(&changed).await.map(drop);
        }
        let class_name = class_name.unwrap_or_default();
        if waits && claim.annotation(SELECTED_NODE).is_none() {
            let message = "waiting for first consumer to be created before binding".to_owned();
            self.event(claim, EventType::Normal, "WaitForFirstConsumer", message);
        } else if class_name.is_empty() {
            let message = "no persistent volumes available for this claim and no storage class is set".to_owned();
            self.event(claim, EventType::Normal, "FailedBinding", message);
        } else if let Some(class) = class {
            self.ask(claim, &class).await?;
        } else {
            let message = format!("storageclass.storage.k8s.io {class_name:?} not found");
            self.event(claim, EventType::Warning, "ProvisioningFailed", message);
        }
        self.write_phase(claim, "Pending").await
    }

    fn default_class(&self) -> Option<String> {
        let mut classes = self.classes.cache().list();
        classes.retain(|c| c.annotation(DEFAULT_CLASS) == Some("true"));
        classes.sort_by_key(|c| {
            (std::cmp::Reverse(c.metadata.creation_timestamp.as_ref().map(|t| t.0)), c.name().to_owned())
        });
        classes.first().map(|c| c.name().to_owned())
    }

    /// Names the provisioner that is to make a volume.
    async fn ask(&self, claim: &PersistentVolumeClaim, class: &StorageClass) -> Result<(), Error> {
        if class.provisioner == "kubernetes.io/no-provisioner" {
            return Ok(());
        }
        if claim.annotation(PROVISIONER[1]) != Some(&class.provisioner) {
            let mut changed = claim.clone();
            let annotations = changed.metadata.annotations.get_or_insert_default();
            for name in PROVISIONER {
                annotations.insert(name.to_owned(), class.provisioner.clone());
            }
            self.context.client.update(&changed).await?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
            class.provisioner
        );
        self.event(claim, EventType::Normal, "ExternalProvisioning", message);
        Ok(())
    }

    async fn bind(&self, volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let client = &self.context.client;
        let mut volume = volume.clone();
        let uid = claim_ref(&volume).and_then(|r| r.uid.as_deref()).unwrap_or_default();
        if uid != claim.uid() {
            if claim_ref(&volume).is_none() {
                let annotations = volume.metadata.annotations.get_or_insert_default();
                annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
            }
            volume.spec.get_or_insert_default().claim_ref = Some(informer::reference(claim));
            volume = client.update(&volume).await?;
        }
        let volume = self.write_volume_phase(volume, "Bound", "").await?;
        let mut claim = claim.clone();
        if volume_name(&claim) != Some(volume.name()) || claim.annotation(BIND_COMPLETED).is_none() {
            let annotations = claim.metadata.annotations.get_or_insert_default();
            let spec = claim.spec.get_or_insert_default();
            if spec.volume_name.as_deref() != Some(volume.name()) {
                spec.volume_name = Some(volume.name().to_owned());
                annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
            }
            annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
            claim = client.update(&claim).await?;
        }
        let mut status = claim.status.clone().unwrap_or_default();
        if status.phase.as_deref() == Some("Bound") {
            return Ok(());
        }
        let spec = volume.spec.clone().unwrap_or_default();
        status.phase = Some("Bound".to_owned());
        status.access_modes = spec.access_modes;
        status.capacity = spec.capacity;
        status.current_volume_attributes_class_name = spec.volume_attributes_class_name.filter(|name| !name.is_empty());
        claim.status = Some(status);
        client.update_status(&claim).await.map(drop)
    }

    async fn write_phase(&self, claim: &PersistentVolumeClaim, phase: &str) -> Result<(), Error> {
        let mut status = claim.status.clone().unwrap_or_default();
        if status.phase.as_deref() == Some(phase) {
            return Ok(());
        }
        status.phase = Some(phase.to_owned());
        if phase != "Bound" {
            status.access_modes = None;
            status.capacity = None;
        }
        let changed = PersistentVolumeClaim { status: Some(status), ..claim.clone() };
        match self.context.client.update_status(&changed).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn write_volume_phase(
        &self,
        mut volume: PersistentVolume,
        to: &str,
        message: &str,
    ) -> Result<PersistentVolume, Error> {
        if phase(&volume) == to {
            return Ok(volume);
        }
        let status = volume.status.get_or_insert_default();
        status.phase = Some(to.to_owned());
        status.message = Some(message.to_owned()).filter(|m| !m.is_empty());
        status.last_phase_transition_time = Some(Time(rt::time::now()));
        self.context.client.update_status(&volume).await
    }

    async fn sync_volume(&self, name: &str) -> Result<(), Error> {
        let Some(volume) = self.volumes.cache().get_key(name) else { return Ok(()) };
        let reference = claim_ref(&volume).filter(|r| r.uid.as_deref().is_some_and(|uid| !uid.is_empty()));
        let Some(reference) = reference else {
            return self.write_volume_phase((*volume).clone(), "Available", "").await.map(drop);
        };
        let mut claim = self.claims.cache().get_key(&claim_key(reference));
        let ours = |c: &PersistentVolumeClaim| Some(c.uid()) == reference.uid.as_deref();
        if !claim.as_deref().is_some_and(ours) && !matches!(phase(&volume), "Released" | "Failed") {
            let (namespace, name) =
                (reference.namespace.clone().unwrap_or_default(), reference.name.clone().unwrap_or_default());
            claim = match self.context.client.get::<PersistentVolumeClaim>(&namespace, &name).await {
                Ok(found) => Some(Arc::new(found)),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error),
            };
        }
        match claim.filter(|c| ours(c)) {
            None => self.reclaim((*volume).clone()).await,
            Some(claim) if volume_name(&claim) == Some(name) => {
                self.write_volume_phase((*volume).clone(), "Bound", "").await.map(drop)
            }
            Some(claim) if volume_name(&claim).is_none() => {
                self.queue.add(Key::Claim(claim.key()));
                Ok(())
            }
            Some(_) => self.let_go((*volume).clone()).await,
        }
    }

    /// The claim took another volume.
    async fn let_go(&self, mut volume: PersistentVolume) -> Result<(), Error> {
        let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
        if volume.annotation(PROVISIONED_BY).is_some() && policy == Some("Delete") {
            return self.reclaim(volume).await;
        }
        let by_us = volume.annotation(BOUND_BY_CONTROLLER).is_some();
        let spec = volume.spec.get_or_insert_default();
        if by_us {
            spec.claim_ref = None;
            if let Some(annotations) = &mut volume.metadata.annotations {
                annotations.remove(BOUND_BY_CONTROLLER);
            }
        } else if let Some(reference) = &mut spec.claim_ref {
            reference.uid = None;
        }
        let volume = self.context.client.update(&volume).await?;
        self.write_volume_phase(volume, "Available", "").await.map(drop)
    }

    async fn reclaim(&self, mut volume: PersistentVolume) -> Result<(), Error> {
        if !matches!(phase(&volume), "Released" | "Failed") {
            volume = self.write_volume_phase(volume, "Released", "").await?;
        }
        let spec = volume.spec.clone().unwrap_or_default();
        let external = spec.csi.is_some() || volume.annotation(PROVISIONED_BY).is_some();
        let message = match spec.persistent_volume_reclaim_policy.as_deref() {
            Some("Delete") if !external => {
                "error getting deleter volume plugin for volume: no deletable volume plugin matched"
            }
            Some("Recycle") => "no recyclable volume plugin matched",
            _ => return Ok(()),
        };
        if phase(&volume) != "Failed" {
            self.context.recorder.event(&volume, EventType::Warning, "VolumeFailedDelete", message);
        }
        self.write_volume_phase(volume, "Failed", message).await.map(drop)
    }
}
