//! Upstream's pass and fail pods.

use super::level::{Level, LevelVersion, Version};
use super::*;

#[test]
fn upstream_cases() {
    // Upstream's data is not part of the repository; without it the cases below still run.
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/upstream/psa");
    for (folder, level) in [("baseline", Level::Baseline), ("restricted", Level::Restricted)] {
        for (kind, allowed) in [("pass", true), ("fail", false)] {
            let Ok(files) = std::fs::read_dir(root.join(folder).join("v1.35").join(kind)) else { continue };
            for file in files.filter_map(Result::ok) {
                let yaml = std::fs::read_to_string(file.path()).unwrap();
                let pod: Object = serde_yaml_ng::from_str(&yaml).unwrap();
                let wanted = LevelVersion { level, version: Version(35) };
                let found = checks::evaluate(wanted, &pod.body, pod::spec(&pod));
                assert_eq!(found.is_empty(), allowed, "{folder} {:?}: {found:?}", file.file_name());
            }
        }
    }
}

#[test]
fn messages_and_labels() {
    let pod = Object::from_value(serde_json::json!({"spec": {
        "hostNetwork": true, "hostPID": true,
        "containers": [{"name": "a", "securityContext": {"privileged": true}}, {"name": "b", "ports": [{"hostPort": 80}]}]}}))
    .unwrap();
    let wanted = LevelVersion { level: Level::Baseline, version: Version::LATEST };
    assert_eq!(
        detail(&checks::evaluate(wanted, &pod.body, pod::spec(&pod))),
        "host namespaces (hostNetwork=true, hostPID=true), hostPort (container \"b\" uses hostPort 80), privileged (container \
         \"a\" must not set securityContext.privileged=true)"
    );
    let mut namespace = Object::default();
    namespace.set_label("pod-security.kubernetes.io/enforce", "baseline");
    namespace.set_label("pod-security.kubernetes.io/enforce-version", "v1.28");
    let (policy, errors) = Policy::of(&namespace, &Policy::default());
    assert!(errors.is_empty());
    assert_eq!((policy.enforce.to_string().as_str(), policy.warn), ("baseline:v1.28", policy.enforce));
    namespace.set_label("pod-security.kubernetes.io/enforce", "strict");
    assert_eq!(Policy::of(&namespace, &Policy::default()).1.len(), 1);
}
