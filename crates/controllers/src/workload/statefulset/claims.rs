//! The claims of a StatefulSet's pods: made before the pod, and owned as the retention policy says.

use api::Kind;
use api::k8s::apps::v1::StatefulSet;
use api::k8s::core::v1::{PersistentVolumeClaim, Pod};
use api::metav1::OwnerReference;
use client::Error;

use super::Controller;
use super::identity;
use super::round::Round;
use crate::owner::controller_reference;

struct Policy {
    when_deleted: bool,
    when_scaled: bool,
}

fn policy(set: &StatefulSet) -> Policy {
    let policy = set.spec.as_ref().and_then(|s| s.persistent_volume_claim_retention_policy.as_ref());
    let is_delete = |field: Option<&Option<String>>| field.and_then(Option::as_deref) == Some("Delete");
    Policy {
        when_deleted: is_delete(policy.map(|p| &p.when_deleted)),
        when_scaled: is_delete(policy.map(|p| &p.when_scaled)),
    }
}

/// The owner references that a claim should have; `None` when they are right, or not ours to change.
fn right_owners(
    claim: &PersistentVolumeClaim,
    set: &StatefulSet,
    pod: &Pod,
    condemned: bool,
) -> Option<Vec<OwnerReference>> {
    let references = claim.metadata.owner_references.clone().unwrap_or_default();
    let names = |r: &OwnerReference, kind: &str, name: &str| r.kind == kind && r.name == name;
    let ours = |r: &OwnerReference| names(r, "StatefulSet", set.name()) || names(r, "Pod", pod.name());
    let stale = references.iter().any(|r| ours(r) && r.uid != set.uid() && r.uid != pod.uid());
    if stale {
        return None;
    }
    let policy = policy(set);
    let foreign = references.iter().any(|r| !ours(r) && r.controller == Some(true));
    let mut right: Vec<OwnerReference> = references.iter().filter(|r| !ours(r)).cloned().collect();
    let blocked = foreign && (policy.when_deleted || policy.when_scaled);
    if !blocked {
        if policy.when_scaled && condemned {
            right.push(controller_reference(pod));
        } else if policy.when_deleted {
            right.push(controller_reference(set));
        }
    }
    let key = |list: &[OwnerReference]| {
        let mut uids: Vec<(String, bool)> = list.iter().map(|r| (r.uid.clone(), r.controller == Some(true))).collect();
        uids.sort();
        uids
    };
    (key(&right) != key(&references)).then_some(right)
}

impl Controller {
    /// Makes the claims of a number that do not exist.
    pub(super) async fn create_claims(&self, set: &StatefulSet, ordinal: i32) -> Result<(), Error> {
        for (_, claim) in identity::claims(set, ordinal) {
            match self.claims.cache().get(claim.namespace(), claim.name()) {
                Some(found) if found.is_deleting() => {
                    let message = format!("pvc {} is being deleted", found.name());
                    return Err(Error::Request(message));
                }
                Some(_) => {}
                None => match self.writes(&set.key()).create(&claim).await {
                    Ok(_) => self.event_claim(set, &claim, ordinal, None),
                    Err(error) if error.is_already_exists() => {}
                    Err(error) => {
                        self.event_claim(set, &claim, ordinal, Some(&error));
                        return Err(error);
                    }
                },
            }
        }
        Ok(())
    }

    fn event_claim(&self, set: &StatefulSet, claim: &PersistentVolumeClaim, ordinal: i32, error: Option<&Error>) {
        let what = format!("create Claim {} Pod {}-{ordinal} in StatefulSet {}", claim.name(), set.name(), set.name());
        let recorder = &self.context.recorder;
        match error {
            None => recorder.event(set, informer::EventType::Normal, "SuccessfulCreate", format!("{what} success")),
            Some(error) => {
                let message = format!("{what} failed error: {}", error.chain());
                recorder.event(set, informer::EventType::Warning, "FailedCreate", message);
            }
        }
    }

    /// Whether a claim still belongs to a pod of this number that is gone.
    pub(super) fn claim_is_stale(&self, round: &Round<'_>, pod: &Pod) -> bool {
        let claims = identity::claims(round.set, identity::ordinal(pod));
        claims.iter().any(|(_, claim)| {
            let Some(found) = self.claims.cache().get(claim.namespace(), claim.name()) else { return false };
            let references = found.metadata.owner_references.as_deref().unwrap_or_default();
            references.iter().any(|r| r.kind == "Pod" && r.name == pod.name() && r.uid != pod.uid())
        })
    }

    /// Brings the owners of a pod's claims in line with the retention policy.
    pub(super) async fn fix_owners(&self, round: &Round<'_>, pod: &Pod) -> Result<(), Error> {
        for (_, claim) in identity::claims(round.set, identity::ordinal(pod)) {
            let Some(found) = self.claims.cache().get(claim.namespace(), claim.name()) else { continue };
            if let Some(right) = right_owners(&found, round.set, pod, round.is_condemned(pod)) {
                let mut changed = (*found).clone();
                changed.metadata.owner_references = Some(right);
                self.writes(&round.set.key()).update(&changed).await?;
            }
        }
        Ok(())
    }
}
