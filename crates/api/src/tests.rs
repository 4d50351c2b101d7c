//! Typed forms against upstream's own files.

use std::path::Path;

use serde_json::{Value, json};

use crate::Coded;
use crate::prelude::*;

/// Protobuf → typed must be the same as JSON → typed, and typed → protobuf must lose nothing but managedFields.
fn check<T: Kind + PartialEq>(failures: &mut Vec<String>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/upstream/api-testdata/v1.36.0");
    let group = if T::GROUP.is_empty() { "core" } else { T::GROUP };
    let file = dir.join(format!("{group}.{}.{}.pb", T::VERSION, T::KIND));
    let Ok(bytes) = std::fs::read(&file) else {
        eprintln!("skipped: no {}", file.display());
        return;
    };
    let mut tree = schema::codec::decode_protobuf(&bytes).expect("tree");
    if let Some(metadata) = tree.body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let without = schema::codec::encode_protobuf(&tree).expect("encode");
    let direct = T::decode(&bytes, 0).unwrap_or_else(|e| panic!("{}: {e:?}", T::KIND));
    let from_tree = T::from_tree(&tree).unwrap_or_else(|e| panic!("{}: {e:?}", T::KIND));
    if direct != from_tree {
        failures.push(format!("{} differs between protobuf and tree", T::KIND));
    }
    let raw = schema::codec::open_envelope(&bytes).expect("envelope").raw;
    if T::decode_message(raw).expect("message") != direct {
        failures.push(format!("{} differs as a bare message", T::KIND));
    }
    if crate::encode_protobuf(&direct).expect("encode") != without {
        failures.push(format!("{} does not encode to the same bytes", T::KIND));
    }
    let stamped = T::decode(&bytes, 77).expect("stamped");
    if stamped.resource_version() != "77" && T::KIND != "Binding" {
        failures.push(format!("{} has no resource version", T::KIND));
    }
}

#[test]
fn typed_forms_round_trip() {
    let mut failures = Vec::new();
    check::<Pod>(&mut failures);
    check::<Node>(&mut failures);
    check::<Service>(&mut failures);
    check::<Secret>(&mut failures);
    check::<ConfigMap>(&mut failures);
    check::<Event>(&mut failures);
    check::<PersistentVolume>(&mut failures);
    check::<Deployment>(&mut failures);
    check::<StatefulSet>(&mut failures);
    check::<ControllerRevision>(&mut failures);
    check::<Job>(&mut failures);
    check::<EndpointSlice>(&mut failures);
    check::<Lease>(&mut failures);
    check::<crate::k8s::autoscaling::v2::HorizontalPodAutoscaler>(&mut failures);
    check::<crate::k8s::networking::v1::Ingress>(&mut failures);
    check::<crate::k8s::policy::v1::PodDisruptionBudget>(&mut failures);
    check::<crate::k8s::authentication::v1::TokenRequest>(&mut failures);
    check::<crate::k8s::resource::v1::ResourceSlice>(&mut failures);
    check::<crate::k8s::admissionregistration::v1::ValidatingWebhookConfiguration>(&mut failures);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn names_and_zero_times() {
    assert_eq!((Pod::gvr().resource.as_str(), Pod::namespaced(), Node::namespaced()), ("pods", true, false));
    assert_eq!(Deployment::gvr().path(Some("n")), "/apis/apps/v1/namespaces/n/deployments");
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "n"},
        "involvedObject": {}, "firstTimestamp": null});
    let object = meta::Object::from_value(event).expect("object");
    let bytes = schema::codec::encode_protobuf(&object).expect("encode");
    let event: Event = crate::decode(&bytes, 5).expect("decode");
    assert_eq!((event.key().as_str(), event.first_timestamp.as_ref()), ("n/e", None));
    let tree = event.to_tree().expect("tree");
    assert_eq!(tree.get(&["metadata", "resourceVersion"]), Some(&Value::from("5")));
}

#[test]
fn custom_resource_definitions() {
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "w.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "w", "kind": "W"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}, "default": ["x"]},
                "b": {"additionalProperties": true, "x-kubernetes-preserve-unknown-fields": true}}}}}]
        }
    });
    let object = meta::Object::from_value(crd).expect("object");
    let bytes = schema::codec::encode_protobuf(&object).expect("encode");
    let direct: crate::apiextensions::v1::CustomResourceDefinition = crate::decode(&bytes, 0).expect("decode");
    let mut tree = object;
    schema::codec::normalize(&mut tree).expect("normalise");
    let from_tree: crate::apiextensions::v1::CustomResourceDefinition = crate::from_object(tree).expect("tree");
    assert_eq!(direct.spec, from_tree.spec);
}
