//! What a control plane need not keep of the objects it watches.

use api::k8s::core::v1::{Container, Pod, Volume};

/// Takes out of a pod what only its kubelet reads: most volumes, environments, probes, mounts. Typed, they are two thirds
/// of a small pod, and a control plane holds every pod.
///
/// What is left must not be written back whole. Only the StatefulSet controller writes whole pods, so that pods of
/// StatefulSets stay as they are.
pub fn pod(pod: &mut Pod) {
    if pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "StatefulSet") {
        return;
    }
    let Some(spec) = &mut pod.spec else { return };
    if let Some(volumes) = &mut spec.volumes {
        volumes.retain(|volume| !only_for_kubelet(volume));
        volumes.shrink_to_fit();
    }
    spec.volumes.take_if(|volumes| volumes.is_empty());
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        trim(container);
    }
}

/// Volumes that no scheduling and no controller depends on.
fn only_for_kubelet(volume: &Volume) -> bool {
    volume.projected.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.host_path.is_some()
}

fn trim(container: &mut Container) {
    container.command = None;
    container.args = None;
    container.env = None;
    container.env_from = None;
    container.volume_mounts = None;
    container.liveness_probe = None;
    container.readiness_probe = None;
    container.startup_probe = None;
    container.lifecycle = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::core::v1::{EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, PodSpec};
    use api::metav1::OwnerReference;

    #[test]
    fn claims_and_pods_of_stateful_sets_stay() {
        let claim = Volume {
            name: "claim".into(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource::default()),
            ..Volume::default()
        };
        let scratch =
            Volume { name: "scratch".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
        let container = Container { args: Some(vec!["-v".into()]), image: Some("i".into()), ..Container::default() };
        let spec = PodSpec { volumes: Some(vec![claim, scratch]), containers: vec![container], ..PodSpec::default() };
        let mut plain = Pod { spec: Some(spec), ..Pod::default() };
        let mut owned = plain.clone();
        let owner = OwnerReference { kind: "StatefulSet".into(), ..OwnerReference::default() };
        owned.metadata.owner_references = Some(vec![owner]);
        let before = owned.clone();
        pod(&mut owned);
        assert_eq!(owned, before);
        pod(&mut plain);
        let spec = plain.spec.unwrap_or_default();
        let names: Vec<String> = spec.volumes.into_iter().flatten().map(|v| v.name).collect();
        assert_eq!(names, ["claim"]);
        assert!(spec.containers[0].args.is_none() && spec.containers[0].image.is_some());
    }
}
