//! Round trips over upstream's own files, and hostile bytes.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn upstream() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/upstream/api-testdata/v1.36.0");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: upstream's test data is not beside the project");
    None
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The first line in which two texts differ, for a readable failure.
fn difference(a: &str, b: &str) -> String {
    let at = a.lines().zip(b.lines()).position(|(x, y)| x != y).unwrap_or(0);
    let part = |t: &str| t.lines().skip(at.saturating_sub(2)).take(6).collect::<Vec<_>>().join("\n");
    format!("have:\n{}\nwant:\n{}", part(a), part(b))
}

#[test]
fn upstreams_objects_round_trip() {
    let Some(dir) = upstream() else { return };
    let mut failures = Vec::new();
    let mut count = 0;
    let mut files: Vec<_> = std::fs::read_dir(dir).expect("dir").map(|e| e.expect("entry").path()).collect();
    files.sort();
    for json_file in files {
        let name = json_file.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if !name.ends_with(".json") || name.contains(".after_roundtrip.") {
            continue;
        }
        count += 1;
        if let Err(message) = round_trip(&json_file) {
            failures.push(format!("{name}: {message}"));
        }
    }
    assert!(count > 150, "only {count} objects found");
    assert!(failures.is_empty(), "{} of {count} fail\n{}", failures.len(), failures.join("\n"));
}

fn round_trip(json_file: &Path) -> std::result::Result<(), String> {
    let text = |e: Error| e.to_string();
    let json = read(json_file);
    let yaml = read(&json_file.with_extension("yaml"));
    let protobuf = read(&json_file.with_extension("pb"));
    let want: Value = serde_json::from_slice(&json).map_err(|e| e.to_string())?;

    // A WatchEvent names no kind in itself.
    let event = meta::GroupVersionKind::new("", "v1", "WatchEvent");
    let default = Some(&event).filter(|_| json_file.ends_with("core.v1.WatchEvent.json"));
    let decoded = decode_json(&json, default).map_err(text)?;
    if !decoded.strict.is_empty() {
        return Err(format!("strict errors {:?}", decoded.strict));
    }
    let (mut want, mut protobuf) = (want, protobuf);
    if default.is_some() {
        let raw = open_envelope(&protobuf).map_err(text)?.raw.to_vec();
        protobuf = write_envelope("v1", "WatchEvent", &raw);
        want["apiVersion"] = "v1".into();
        want["kind"] = "WatchEvent".into();
    }
    let have = Value::Object(decoded.object.body.clone());
    if have != want {
        return Err(format!("JSON\n{}", difference(&pretty(&have), &pretty(&want))));
    }
    if decode_yaml(&yaml, default).map_err(text)? != decoded {
        return Err("YAML differs from JSON".to_owned());
    }
    let tree = decode_protobuf(&protobuf).map_err(text)?;
    if tree != decoded.object {
        return Err(format!("protobuf\n{}", difference(&pretty(&tree.body.into()), &pretty(&want))));
    }
    if encode_protobuf(&tree).map_err(text)? != protobuf {
        return Err("protobuf bytes differ after decode and encode".to_owned());
    }
    if encode_protobuf(&decoded.object).map_err(text)? != protobuf {
        return Err("protobuf bytes differ after JSON".to_owned());
    }
    let mut streamed = Vec::new();
    protobuf_to_json(&protobuf, 0, &mut streamed).map_err(text)?;
    let streamed: Value = serde_json::from_slice(&streamed).map_err(|e| e.to_string())?;
    if streamed != want {
        return Err(format!("stream\n{}", difference(&pretty(&streamed), &pretty(&want))));
    }
    let mut again = tree.clone();
    normalize(&mut again).map_err(text)?;
    if again != tree {
        return Err("normalising changes the normal form".to_owned());
    }
    resource_version(&protobuf, &tree)
}

/// The spliced version, the streamed one and the tree's must agree.
fn resource_version(protobuf: &[u8], tree: &meta::Object) -> std::result::Result<(), String> {
    let text = |e: Error| e.to_string();
    if tree.metadata().is_none_or(|m| !m.contains_key("uid")) {
        return Ok(());
    }
    let mut want = tree.clone();
    want.set_meta_str("resourceVersion", "123456");
    let spliced = set_resource_version(protobuf, 123_456).map_err(text)?;
    if encode_protobuf(&want).map_err(text)? != spliced {
        return Err("spliced resourceVersion differs".to_owned());
    }
    let mut streamed = Vec::new();
    protobuf_to_json(protobuf, 123_456, &mut streamed).map_err(text)?;
    let streamed: Value = serde_json::from_slice(&streamed).map_err(|e| e.to_string())?;
    if streamed != Value::Object(want.body) {
        return Err("streamed resourceVersion differs".to_owned());
    }
    Ok(())
}

fn decode(value: Value) -> Result<Decoded> {
    decode_json(value.to_string().as_bytes(), None)
}

#[test]
fn crds_and_api_services_round_trip() {
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.r", "statusReplicasPath": ".status.r"}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1}],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "required": ["spec"],
                    "x-kubernetes-preserve-unknown-fields": true,
                    "dependencies": {"a": ["b", "c"], "d": {"type": "string"}},
                    "properties": {
                        "spec": {
                            "type": "object", "maximum": 1.5, "minimum": 2, "default": {"color": "red"},
                            "additionalProperties": {"type": "integer", "format": "int32", "enum": [1, 2]},
                            "items": {"type": "string"}, "example": "x",
                            "x-kubernetes-validations": [{"rule": "self.a > 0", "message": "no"}]
                        },
                        "open": {"type": "object", "additionalProperties": true},
                        "closed": {"type": "object", "additionalProperties": false},
                        "many": {"items": [{"type": "string"}, {"type": "integer"}], "allOf": [{"type": "object"}]},
                        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
                    }
                }}
            }],
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": {"service": {"namespace": "n", "name": "s", "path": "/c", "port": 443}, "caBundle": "YWJj"},
                "conversionReviewVersions": ["v1"]
            }},
            "preserveUnknownFields": true
        },
        "status": {
            "conditions": [{"type": "Established", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "acceptedNames": {"plural": "widgets", "kind": "Widget"}, "storedVersions": ["v1"]
        }
    });
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.example.com"},
        "spec": {
            "service": {"namespace": "n", "name": "s", "port": 443}, "group": "example.com", "version": "v1",
            "caBundle": "YWJj", "groupPriorityMinimum": 100, "versionPriority": 10
        },
        "status": {"conditions": [
            {"type": "Available", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "Passed"}
        ]}
    });
    for want in [crd, service] {
        let decoded = decode(want.clone()).expect("decode");
        assert_eq!(decoded.strict, Vec::<String>::new());
        let have = Value::Object(decoded.object.body.clone());
        assert_eq!(have, want, "{}", difference(&pretty(&have), &pretty(&want)));
        let bytes = encode_protobuf(&decoded.object).expect("encode");
        assert_eq!(decode_protobuf(&bytes).expect("decode protobuf"), decoded.object);
        let mut streamed = Vec::new();
        protobuf_to_json(&bytes, 0, &mut streamed).expect("stream");
        assert_eq!(serde_json::from_slice::<Value>(&streamed).expect("JSON"), want);
    }
}

#[test]
fn gos_zero_values() {
    let decoded = decode(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "creationTimestamp": null, "labels": {}, "generation": 0},
        "spec": {
            "replicas": 0, "paused": false, "selector": null,
            "template": {"spec": {"containers": [{"name": "c", "env": null, "resources": null}], "volumes": []}}
        }
    }))
    .expect("decode");
    assert_eq!(
        Value::Object(decoded.object.body),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {
                "replicas": 0, "selector": null, "strategy": {},
                "template": {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}}
            },
            "status": {}
        })
    );
}

#[test]
fn strict_errors_and_type_errors() {
    let text = r#"{"apiVersion":"apps/v1","kind":"Deployment","spec":{"unknown1":1,"unknownDupe":1,"unknownDupe":2,
        "paused":true,"paused":false,"template":{"spec":{"containers":[
        {"name":"c","unknownNested":{"a":1},"imagePullPolicy":"Always","imagePullPolicy":"Never"}]}}}}"#;
    let decoded = decode_json(text.as_bytes(), None).expect("decode");
    assert_eq!(
        decoded.strict,
        [
            r#"unknown field "spec.unknown1""#,
            r#"unknown field "spec.unknownDupe""#,
            r#"duplicate field "spec.paused""#,
            r#"unknown field "spec.template.spec.containers[0].unknownNested""#,
            r#"duplicate field "spec.template.spec.containers[0].imagePullPolicy""#,
        ]
    );
    let cases = [
        (
            json!({"spec": {"replicas": "x"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            json!({"spec": {"template": {"spec": {"restartPolicy": 1}}}}),
            "json: cannot unmarshal number into Go struct field PodSpec.spec.template.spec.restartPolicy of type v1.RestartPolicy",
        ),
    ];
    for (mut body, want) in cases {
        body["apiVersion"] = "apps/v1".into();
        body["kind"] = "Deployment".into();
        assert_eq!(decode(body).expect_err("wrong type").to_string(), want);
    }
    for bad in ["", "{", "[1,]", "{\"a\":}", "{\"a\":1,}", "nul", "01", "\"\\x\"", "{} x"] {
        assert!(decode_untyped_json(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn lists_and_watch_events() {
    let pod = decode(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "{["}}))
        .expect("decode");
    let stored = encode_protobuf(&pod.object).expect("encode");
    let meta = ListMeta { resource_version: 7, continue_token: "c".into(), remaining_item_count: Some(3) };
    let list = protobuf_list("v1", "ConfigMapList", &meta, &[(&stored, 5), (&stored, 6)]).expect("list");
    let tree = decode_protobuf(&list).expect("decode list");
    assert_eq!(encode_protobuf(&tree).expect("encode list"), list);

    let split = split_protobuf_list(&list).expect("split");
    assert_eq!((split.kind, &split.meta, split.items.len()), ("ConfigMapList", &meta, 2));

    let mut out = Vec::new();
    let mut writer = JsonListWriter::begin(&mut out, "v1", "ConfigMapList", &meta);
    writer.protobuf(&mut out, &stored, 5).expect("item");
    writer.protobuf(&mut out, &stored, 6).expect("item");
    writer.end(&mut out);
    assert_eq!(serde_json::from_slice::<Value>(&out).expect("JSON"), Value::Object(tree.body));

    let partial = decode_protobuf(&partial_object_metadata(&stored, 9).expect("partial")).expect("decode");
    assert_eq!((partial.kind(), partial.name(), partial.resource_version()), ("PartialObjectMetadata", "a", "9"));
    assert_eq!(partial.get(&["data"]), None);
    let mut json = Vec::new();
    partial_object_metadata_json(&stored, 9, &mut json).expect("partial");
    assert_eq!(serde_json::from_slice::<Value>(&json).expect("JSON"), Value::Object(partial.body));

    let frame = protobuf_watch_event("ADDED", &stored);
    assert_eq!(frame[..4], (frame.len() as u32 - 4).to_be_bytes());
    assert_eq!(open_protobuf_watch_event(&frame[4..]), Ok(("ADDED", &stored[..])));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(kind in 0usize..400, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let kinds: Vec<_> = crate::kinds().collect();
        let kind = kinds[kind % kinds.len()];
        let _ = message_to_value(kind.type_ref, &bytes);
        let _ = message_to_json(kind.type_ref, &bytes, 1, &mut Vec::new());
        let _ = decode_protobuf(&bytes);
        let _ = set_resource_version(&write_envelope("v1", "Pod", &bytes), 1);
        let _ = decode_json(&bytes, None);
        let _ = decode_json_as(kind.type_ref, &bytes);
    }

    #[test]
    fn changed_bytes_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": "http"}}, "resources": {"limits": {"cpu": "1"}}}]}});
        let mut bytes = encode_protobuf(&decode(pod).expect("decode").object).expect("encode");
        let at = at.index(bytes.len());
        bytes[at] = byte;
        // Whatever decodes must encode, and the two views must agree.
        if let Ok(tree) = decode_protobuf(&bytes) {
            let mut streamed = Vec::new();
            protobuf_to_json(&bytes, 0, &mut streamed).expect("stream");
            prop_assert_eq!(serde_json::from_slice::<Value>(&streamed).expect("JSON"), Value::Object(tree.body.clone()));
            prop_assert!(encode_protobuf(&tree).is_ok());
        }
    }
}

#[test]
fn configuration_kinds_decode() {
    let kubelet =
        b"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nsyncFrequency: 90s\nmaxPods: 50\n\
        evictionHard: {memory.available: 5%}\nauthentication: {webhook: {cacheTTL: 2m}}\nnope: 1\n";
    let decoded = decode_yaml(kubelet, None).expect("decode");
    assert_eq!(decoded.strict, [r#"unknown field "nope""#]);
    assert_eq!(decoded.object.get_str(&["syncFrequency"]), "1m30s");
    assert_eq!(decoded.object.get_str(&["authentication", "webhook", "cacheTTL"]), "2m0s");
    let config = crate::type_by_name("client-go/tools/clientcmd/api/v1", "Config").expect("kubeconfig");
    let kubeconfig = br#"{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"x","cluster":{"server":"s"}}],
        "users":[{"name":"u","user":{"exec":{"command":"x","args":null,"env":null,"interactiveMode":"Never"}}}],"contexts":null}"#;
    let decoded = decode_json_as(config, kubeconfig).expect("decode");
    assert_eq!(decoded.strict, Vec::<String>::new());
    let policy = b"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, resources: [{group: \"\", resources: [pods]}]}]\n";
    assert_eq!(decode_yaml(policy, None).expect("decode").strict, Vec::<String>::new());
}

#[test]
fn deep_nesting_is_refused() {
    let deep =
        format!("{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(decode_json(deep.as_bytes(), None).is_err());
    assert_eq!(decode_untyped_json(deep.as_bytes()), Err(Error::TooDeep));
    let schema =
        crate::type_by_name("apiextensions-apiserver/pkg/apis/apiextensions/v1", "JSONSchemaProps").expect("type");
    let not = schema.field("not").expect("not").number();
    let mut bytes = Vec::new();
    for _ in 0..1000 {
        let mut outer = Vec::new();
        wire::put_bytes(&mut outer, not, &bytes);
        bytes = outer;
    }
    assert_eq!(message_to_value(schema, &bytes), Err(Error::TooDeep));
}

#[test]
fn duplicate_keys_of_yaml_are_listed_with_their_lines() {
    let text = b"\napiVersion: v1\nkind: ConfigMap\ndata:\n  a: x\n  a: y\n  b: z\nmetadata:\n  labels:\n    n: o\n  labels:\n    n: p\n";
    let decoded = super::decode_untyped_yaml(text).expect("well-formed");
    assert_eq!(
        decoded.strict,
        [
            "yaml: unmarshal errors:\n  line 6: key \"a\" already set in map\n  line 12: key \"labels\" already set in map"
        ]
    );
    let unique = super::decode_untyped_yaml(b"apiVersion: v1\nkind: ConfigMap\n").expect("well-formed");
    assert!(unique.strict.is_empty());
}
