//! What a pod of a StatefulSet is called, and how it is made.

use api::Kind;
use api::k8s::apps::v1::StatefulSet;
use api::k8s::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};

use super::selector_labels;
use crate::workload::history::REVISION_LABEL;
use crate::workload::pod_control::pod_from_template;

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The set's name and the number in a pod's name.
pub(super) fn split(name: &str) -> Option<(&str, i32)> {
    let (parent, number) = name.rsplit_once('-')?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    Some((parent, number.parse().ok().filter(|_| digits)?))
}

pub(super) fn ordinal(pod: &Pod) -> i32 {
    split(pod.name()).map_or(-1, |(_, ordinal)| ordinal)
}

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|s| s.volume_claim_templates.as_deref()).unwrap_or_default()
}

pub(super) fn claim_name(set: &StatefulSet, template: &str, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set.name())
}

/// The claims of a number: name of the volume, and the claim.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, PersistentVolumeClaim)> {
    let claims = templates(set).iter().map(|template| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(set, template.name(), ordinal));
        claim.metadata.namespace = Some(set.namespace().to_owned());
        claim.metadata.labels.get_or_insert_default().extend(selector_labels(set));
        claim.status = None;
        (template.name().to_owned(), claim)
    });
    claims.collect()
}

/// Gives a pod its name and the labels that follow from it.
pub(super) fn identify(set: &StatefulSet, ordinal: i32, pod: &mut Pod) {
    let name = format!("{}-{ordinal}", set.name());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    pod.metadata.name = Some(name);
}

/// Points the pod's volumes to its claims.
pub(super) fn mount(set: &StatefulSet, ordinal: i32, pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    let mut volumes: Vec<Volume> = templates(set)
        .iter()
        .map(|template| Volume {
            name: template.name().to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, template.name(), ordinal),
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    let others = spec.volumes.take().unwrap_or_default();
    volumes.extend(others.into_iter().filter(|v| templates(set).iter().all(|t| t.name() != v.name)));
    spec.volumes = Some(volumes).filter(|v| !v.is_empty());
}

/// A new pod of a revision.
pub(super) fn make(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = pod_from_template(set, template);
    pod.metadata.generate_name = None;
    identify(set, ordinal, &mut pod);
    pod.metadata.labels.get_or_insert_default().insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let name = pod.metadata.name.clone();
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = name;
    spec.subdomain = set.spec.as_ref().and_then(|s| s.service_name.clone()).filter(|s| !s.is_empty());
    mount(set, ordinal, &mut pod);
    pod
}

/// Whether a pod's labels say who it is.
pub(super) fn is_identified(pod: &Pod) -> bool {
    pod.label(NAME_LABEL) == Some(pod.name())
}

/// Whether a pod's volumes are its claims.
pub(super) fn is_mounted(set: &StatefulSet, pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    templates(set).iter().all(|template| {
        let want = claim_name(set, template.name(), ordinal(pod));
        let volume = volumes.iter().find(|v| v.name == template.name());
        volume.and_then(|v| v.persistent_volume_claim.as_ref()).is_some_and(|c| c.claim_name == want)
    })
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn names() {
        assert_eq!(split("web-0"), Some(("web", 0)));
        assert_eq!(split("a-b-12"), Some(("a-b", 12)));
        assert_eq!(split("web"), None);
        assert_eq!(split("web-x"), None);
        assert_eq!(split("web-"), None);
    }
}
