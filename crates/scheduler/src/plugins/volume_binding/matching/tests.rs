use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::{find, given_to};

fn volume(name: &str, size: &str, node: &str, claim: Option<&str>) -> Arc<PersistentVolume> {
    let affinity = json!({"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "host", "operator": "In", "values": [node]}]},
    ]}});
    let reference = claim.map_or(Value::Null, |name| json!({"name": name, "namespace": "ns"}));
    let tree = json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "nodeAffinity": affinity, "claimRef": reference,
        },
        "status": {"phase": "Available"},
    });
    Arc::new(serde_json::from_value(tree).unwrap())
}

fn claim(modes: &[&str]) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": "c", "namespace": "ns", "uid": "u"},
        "spec": {
            "accessModes": modes, "storageClassName": "local", "resources": {"requests": {"storage": "2Gi"}},
        },
    }))
    .unwrap()
}

#[test]
fn the_smallest_on_the_node() {
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"host": "a"}}})).unwrap();
    let mut volumes = vec![
        volume("small", "1Gi", "a", None),
        volume("large", "9Gi", "a", None),
        volume("right", "3Gi", "a", None),
        volume("elsewhere", "2Gi", "b", None),
        volume("taken", "2Gi", "a", Some("other")),
    ];
    let name = |found: Option<&Arc<PersistentVolume>>| found.map(|v| v.name().to_owned());
    let once = claim(&["ReadWriteOnce"]);
    assert_eq!(name(find(&once, &volumes, &node, &[])), Some("right".to_owned()));
    assert_eq!(name(find(&once, &volumes, &node, &["right"])), Some("large".to_owned()));
    assert_eq!(name(find(&claim(&["ReadWriteMany"]), &volumes, &node, &[])), None);
    volumes.push(volume("own", "5Gi", "a", Some("c")));
    assert_eq!(name(find(&once, &volumes, &node, &[])), Some("own".to_owned()));
    let given = given_to(&volumes[2], &once);
    assert_eq!(given.spec.unwrap().claim_ref.unwrap().uid.as_deref(), Some("u"));
}
