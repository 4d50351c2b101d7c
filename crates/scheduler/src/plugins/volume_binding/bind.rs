//! Writing what was decided, and waiting for the controllers to complete it.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, PersistentVolumeClaim};

use super::super::storage::{claim_ref, is_fully_bound, reaches, volume_of};
use super::assumed::version;
use super::{Plan, SELECTED_NODE, VolumeBinding};
use crate::pod_info::PodInfo;

impl VolumeBinding {
    /// Writes the plan and waits until all claims are bound.
    pub(super) async fn bind_volumes(&self, plan: &Plan, pod: &PodInfo, node: &str) -> Result<(), String> {
        let mut changes = self.changes.subscribe();
        let written = self.write(plan).await?;
        let wait = async {
            loop {
                changes.borrow_and_update();
                if self.is_done(&written, pod, node)? {
                    return Ok(());
                }
                if changes.changed().await.is_err() {
                    return Err("the scheduler ends".to_owned());
                }
            }
        };
        match rt::time::timeout(self.timeout, wait).await {
            Ok(done) => done.map_err(|error: String| format!("binding volumes: {error}")),
            Err(_) => Err("binding volumes: context deadline exceeded".to_owned()),
        }
    }

    async fn write(&self, plan: &Plan) -> Result<Plan, String> {
        let mut written = Plan::default();
        for (volume, claim) in &plan.bindings {
            let volume = self.client.update(&**volume).await.map_err(|e| e.chain())?;
            written.bindings.push((Arc::new(volume), claim.clone()));
        }
        for claim in &plan.provisions {
            let claim = self.client.update(&**claim).await.map_err(|e| e.chain())?;
            written.provisions.push(Arc::new(claim));
        }
        Ok(written)
    }

    /// Whether all claims are bound; an error when that will not come about on this node.
    fn is_done(&self, written: &Plan, pod: &PodInfo, node: &str) -> Result<bool, String> {
        if self.pods.cache().get_key(&pod.key).is_none_or(|p| p.uid() != pod.uid) {
            return Err(format!("pod does not exist any more: pod \"{}\" not found", pod.pod.name()));
        }
        let Some(node) = self.nodes.cache().get_key(node) else {
            return Err(format!("failed to get node \"{node}\": node \"{node}\" not found"));
        };
        for (volume, claim) in &written.bindings {
            let name = volume.name();
            let gone = || format!("failed to check binding: could not find object \"{name}\"");
            let known = self.volumes.known(name).ok_or_else(gone)?;
            if version(&*known) < version(&**volume) {
                return Ok(false);
            }
            if !reaches(&known, &node) {
                return Err(format!("pv \"{name}\" node affinity doesn't match node \"{}\"", node.name()));
            }
            if claim_ref(&known).is_none_or(|r| r.uid.as_deref().unwrap_or_default().is_empty()) {
                return Err(format!("ClaimRef got reset for pv \"{name}\""));
            }
            let claim = self.claims.known(&claim.key()).ok_or_else(gone)?;
            if !is_fully_bound(&claim) {
                return Ok(false);
            }
        }
        for claim in &written.provisions {
            if !self.is_provisioned(claim, &node)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_provisioned(&self, claim: &PersistentVolumeClaim, node: &Node) -> Result<bool, String> {
        let gone = || format!("failed to check provisioning pvc: could not find object \"{}\"", claim.key());
        let known = self.claims.known(&claim.key()).ok_or_else(gone)?;
        if version(&*known) < version(claim) {
            return Ok(false);
        }
        // A provisioner that cannot make the volume takes the annotation away.
        if known.annotation(SELECTED_NODE) != Some(node.name()) {
            return Err(format!("provisioning failed for PVC \"{}\"", known.name()));
        }
        let name = volume_of(&known);
        if !name.is_empty() {
            let Some(volume) = self.volumes.known(name) else { return Ok(false) };
            if !reaches(&volume, node) {
                return Err(format!("pv \"{name}\" node affinity doesn't match node \"{}\"", node.name()));
            }
        }
        Ok(is_fully_bound(&known))
    }
}
