//! ControllerRevisions: the pod templates that a StatefulSet or DaemonSet has had.
//!
//! A revision keeps the template as a patch of the owner, which `kubectl rollout undo` applies.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::k8s::apps::v1::ControllerRevision;
use api::k8s::core::v1::{PodTemplate, PodTemplateSpec};
use api::metav1::ObjectMeta;
use client::{Client, DeleteOptions, Error, PatchKind};
use informer::Informer;
use meta::selector::LabelSelector;
use serde_json::{Value, json};

use crate::owner::{self, controller_reference};
use crate::workload::follow;

/// The label of pods and revisions that names the revision.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";

/// A short name for a template; `collisions` makes another one.
pub(crate) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let bytes = serde_json::to_vec(template).unwrap_or_default();
    let mut hash = rt::hash::fnv32a(&bytes);
    if let Some(count) = collisions {
        hash = rt::hash::fnv32a(format!("{hash}/{count}").as_bytes());
    }
    // The alphabet of generated names, so that no hash spells a word.
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    hash.to_string().bytes().map(|digit| ALPHABET[usize::from(digit) % ALPHABET.len()] as char).collect()
}

fn patch_of(template: &PodTemplateSpec) -> Value {
    let holder = PodTemplate { template: Some(template.clone()), ..PodTemplate::default() };
    let mut tree = api::to_object(&holder).map(|o| Value::Object(o.body)).unwrap_or_default();
    let mut template = tree["template"].take();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps; `None` when its data is not a template.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    let holder: PodTemplate =
        api::from_value(json!({"apiVersion": "v1", "kind": "PodTemplate", "template": template})).ok()?;
    holder.template
}

/// Whether a revision keeps this template.
pub(crate) fn keeps(revision: &ControllerRevision, template: &PodTemplateSpec) -> bool {
    template_of(revision).as_ref() == Some(template)
}

/// The revisions of an owner, oldest first; orphans that match its selector are adopted.
///
/// # Errors
/// An adoption failed.
pub(crate) async fn list<O: Kind>(
    client: &Client,
    kept: &Informer<ControllerRevision>,
    owner: &O,
    selector: &LabelSelector,
) -> Result<Vec<Arc<ControllerRevision>>, Error> {
    let candidates = follow::candidates(owner, kept);
    let mut revisions = owner::claim_all(client, owner, candidates, selector, |_| true).await?;
    revisions.sort_by_key(|r| (r.revision, r.metadata.creation_timestamp.as_ref().map(|t| t.0), r.name().to_owned()));
    Ok(revisions)
}

/// What a new revision is called and labelled.
pub(crate) struct Naming {
    /// The label that carries the hash.
    pub(crate) hash_label: &'static str,
    /// The owner's annotations, which travel along.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The revision of the owner's current template: found, raised to be the newest, or made. `collisions` counts
/// names that were taken by other templates.
///
/// # Errors
/// A write failed.
pub(crate) async fn current<O: Kind>(
    client: &Client,
    owner: &O,
    template: &PodTemplateSpec,
    revisions: &[Arc<ControllerRevision>],
    naming: &Naming,
    collisions: &mut i32,
) -> Result<Arc<ControllerRevision>, Error> {
    let newest = revisions.last().map_or(0, |r| r.revision);
    if let Some(found) = revisions.iter().rev().find(|r| keeps(r, template)) {
        if found.revision == newest {
            return Ok(found.clone());
        }
        let patch = json!({"revision": newest + 1});
        let raised = client.patch(found.namespace(), found.name(), &PatchKind::Merge, &patch).await?;
        return Ok(Arc::new(raised));
    }
    loop {
        let made = make(owner, template, newest + 1, naming, *collisions);
        match client.create(&made).await {
            Ok(made) => return Ok(Arc::new(made)),
            Err(error) if error.is_already_exists() => {
                let found: ControllerRevision = client.get(made.namespace(), made.name()).await?;
                let ours = found.controller_ref().is_some_and(|r| r.uid == owner.uid());
                if ours && keeps(&found, template) {
                    return Ok(Arc::new(found));
                }
                *collisions += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn make<O: Kind>(
    owner: &O,
    template: &PodTemplateSpec,
    revision: i64,
    naming: &Naming,
    collisions: i32,
) -> ControllerRevision {
    let hash = template_hash(template, Some(collisions).filter(|n| *n > 0));
    let name = owner.name();
    let mut labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(naming.hash_label.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", &name[..name.len().min(223)])),
            namespace: Some(owner.namespace().to_owned()),
            labels: Some(labels),
            annotations: Some(naming.annotations.clone()),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(api::k8s_openapi::apimachinery::pkg::runtime::RawExtension(patch_of(template))),
        revision,
    }
}

/// Deletes the oldest revisions that are beyond the limit and not in use.
///
/// # Errors
/// A deletion failed.
pub(crate) async fn truncate(
    client: &Client,
    revisions: &[Arc<ControllerRevision>],
    limit: i32,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Result<(), Error> {
    let Ok(limit) = usize::try_from(limit) else { return Ok(()) };
    let unused: Vec<_> = revisions.iter().filter(|r| !in_use(r)).collect();
    let surplus = unused.len().saturating_sub(limit);
    for revision in &unused[..surplus] {
        let options = DeleteOptions::of(revision.uid());
        match client.delete::<ControllerRevision>(revision.namespace(), revision.name(), &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_gives_its_template_back() {
        let mut template = PodTemplateSpec::default();
        template.metadata.get_or_insert_default().labels = Some(BTreeMap::from([("a".into(), "b".into())]));
        template.spec.get_or_insert_default().hostname = Some("h".into());
        let raw = api::k8s_openapi::apimachinery::pkg::runtime::RawExtension(patch_of(&template));
        let revision = ControllerRevision { data: Some(raw), ..ControllerRevision::default() };
        assert!(keeps(&revision, &template));
        template.spec.get_or_insert_default().hostname = Some("other".into());
        assert!(!keeps(&revision, &template));
    }
}
