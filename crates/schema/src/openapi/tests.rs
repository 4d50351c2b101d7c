//! Documents against upstream's own.

use std::path::{Path, PathBuf};

use super::*;

fn upstream() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/upstream");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: upstream's facts are not beside the project");
    None
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON")
}

/// Without descriptions; only in schemas, where a field may have that name too.
fn bare(value: &Value) -> Value {
    match value {
        // A reference stands in an `allOf` when it has siblings, the description among them.
        Value::Object(map) if map.len() == 1 && map.contains_key("allOf") => bare(&map["allOf"][0]),
        Value::Object(map) => {
            let kept = map.iter().filter(|(k, v)| !(*k == "description" && v.is_string()));
            let kept: Map<String, Value> = kept.map(|(k, v)| (k.clone(), bare(v))).collect();
            if kept.len() < map.len() && kept.len() == 1 && kept.contains_key("allOf") {
                kept["allOf"][0].clone()
            } else {
                kept.into()
            }
        }
        Value::Array(items) => items.iter().map(bare).collect(),
        other => other.clone(),
    }
}

/// Where two values differ first.
fn first_difference(a: &Value, b: &Value) -> String {
    if let (Value::Object(a), Value::Object(b)) = (a, b) {
        let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
        keys.sort();
        for key in keys {
            match (a.get(key), b.get(key)) {
                (Some(x), Some(y)) if x == y => {}
                (Some(x), Some(y)) => return format!(".{key}{}", first_difference(x, y)),
                (x, y) => return format!(".{key}: have {x:?}, want {y:?}"),
            }
        }
    }
    format!(": have {a}, want {b}")
}

/// The resources of a discovery document.
fn resources(list: &Value) -> Vec<Resource> {
    let (group, version) = match list["groupVersion"].as_str().unwrap_or_default().split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), "v1".to_owned()),
    };
    let text = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let verbs = |v: &Value| -> Vec<String> { serde_json::from_value(v["verbs"].clone()).unwrap_or_default() };
    let mut all: Vec<Resource> = Vec::new();
    for entry in list["resources"].as_array().into_iter().flatten() {
        let name = text(entry, "name");
        match name.split_once('/') {
            None => all.push(Resource {
                group: group.clone(),
                version: version.clone(),
                plural: name,
                kind: text(entry, "kind"),
                namespaced: entry["namespaced"] == true,
                verbs: verbs(entry),
                ..Resource::default()
            }),
            Some((parent, sub)) => {
                let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
                let kind = GroupVersionKind::new(
                    if entry.get("version").is_some() { text(entry, "group") } else { group.clone() },
                    or(text(entry, "version"), &version),
                    text(entry, "kind"),
                );
                let found = all.iter_mut().find(|r| r.plural == parent).expect("parent first");
                found.subresources.push(Subresource { name: sub.to_owned(), kind, verbs: verbs(entry) });
            }
        }
    }
    all
}

#[test]
fn v3_documents_are_upstreams() {
    let Some(dir) = upstream() else { return };
    let mut differences = Vec::new();
    for (discovery, openapi) in [
        ("api__v1.json", "api__v1_openapi.json"),
        ("apis__apps__v1.json", "apis__apps__v1_openapi.json"),
        ("apis__batch__v1.json", "apis__batch__v1_openapi.json"),
        ("apis__apiextensions.k8s.io__v1.json", "apis__apiextensions.k8s.io__v1_openapi.json"),
        ("apis__rbac.authorization.k8s.io__v1.json", "apis__rbac.authorization.k8s.io__v1_openapi.json"),
        ("apis__authorization.k8s.io__v1.json", "apis__authorization.k8s.io__v1_openapi.json"),
        ("apis__resource.k8s.io__v1.json", "apis__resource.k8s.io__v1_openapi.json"),
    ] {
        let list = read(&dir.join("discovery").join(discovery));
        let gv: GroupVersion = list["groupVersion"].as_str().unwrap_or_default().parse().expect("group version");
        let have = v3_document(&gv, &resources(&list), &undescribed, "unversioned");
        let want = read(&dir.join("openapi/v3").join(openapi));
        let (have_paths, want_paths) =
            (have["paths"].as_object().expect("paths"), want["paths"].as_object().expect("paths"));
        for (path, item) in want_paths {
            for (method, operation) in item.as_object().into_iter().flatten().filter(|(m, _)| *m != "parameters") {
                let mine = have_paths.get(path).and_then(|i| i.get(method));
                for key in ["operationId", "x-kubernetes-action", "x-kubernetes-group-version-kind", "tags"] {
                    let mine = mine.and_then(|m| m.get(key));
                    if mine != operation.get(key) {
                        differences.push(format!("{path} {method} {key}: {mine:?}, not {:?}", operation.get(key)));
                    }
                }
            }
        }
        for path in have_paths.keys().filter(|p| !want_paths.contains_key(*p)) {
            differences.push(format!("{path} is too much"));
        }
        let have = &have["components"]["schemas"];
        for (name, schema) in want["components"]["schemas"].as_object().into_iter().flatten() {
            let everywhere = name.ends_with("v1.DeleteOptions") || name.ends_with("v1.WatchEvent");
            if everywhere {
                continue;
            }
            let (mine, theirs) = (bare(&have[name]), bare(schema));
            if mine != theirs {
                differences.push(format!("{name}{}", first_difference(&mine, &theirs)));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn v2_definitions_are_upstreams() {
    let Some(dir) = upstream() else { return };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir.join("discovery")).expect("dir") {
        let path = entry.expect("entry").path();
        let list = read(&path);
        if list["kind"] == "APIResourceList" {
            all.extend(resources(&list));
        }
    }
    let have = v2_document(&all, &undescribed, "unversioned");
    let want = read(&dir.join("openapi/swagger.json"));
    let mut differences = Vec::new();
    for (name, schema) in want["definitions"].as_object().into_iter().flatten() {
        let everywhere = name.ends_with("v1.DeleteOptions") || name.ends_with("v1.WatchEvent");
        if everywhere {
            continue;
        }
        let (mine, theirs) = (bare(&have["definitions"][name]), bare(schema));
        if mine != theirs {
            differences.push(format!("{name}{}", first_difference(&mine, &theirs)));
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn custom_resources_are_published() {
    let schema = json!({
        "type": "object", "description": "Foo CRD for Testing", "properties": {
            "spec": {"type": "object", "required": ["a", "n"], "properties": {
                "a": {"type": "string", "default": "x"}, "n": {"type": "string", "nullable": true},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"k": {"type": "string"}}},
                "either": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "embedded": {"type": "object", "x-kubernetes-embedded-resource": true}
            }}
        }
    });
    let gvk = GroupVersionKind::new("stable.example.com", "v1", "Foo");
    let custom = custom::definitions(&gvk, "FooList", "foos", Some(&schema), &undescribed);
    assert_eq!(custom.name, "com.example.stable.v1.Foo");
    let verbs = ["create", "get", "list", "patch", "update", "watch", "delete", "deletecollection"];
    let resource = Resource {
        group: gvk.group.clone(),
        version: gvk.version.clone(),
        plural: "foos".into(),
        kind: gvk.kind.clone(),
        namespaced: true,
        verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
        custom: Some(custom),
        ..Resource::default()
    };
    let v3 = v3_document(&gvk.group_version(), std::slice::from_ref(&resource), &undescribed, "v1.36.0");
    let foo = &v3["components"]["schemas"]["com.example.stable.v1.Foo"];
    assert_eq!(foo["properties"]["spec"]["properties"]["embedded"]["required"], json!(["kind", "apiVersion"]));
    assert_eq!(foo["properties"]["kind"], json!({"type": "string"}));
    let patch = &v3["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/foos/{name}"]["patch"];
    assert_eq!(patch["operationId"], "patchStableExampleComV1NamespacedFoo");
    assert_eq!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json"), None);
    let v2 = v2_document(&[resource], &undescribed, "v1.36.0");
    let spec = &v2["definitions"]["com.example.stable.v1.Foo"]["properties"]["spec"];
    assert_eq!(spec["required"], json!(["a"]));
    assert_eq!(spec["properties"]["open"], json!({"x-kubernetes-preserve-unknown-fields": true}));
    assert_eq!(spec["properties"]["either"], json!({"x-kubernetes-int-or-string": true}));
    assert_eq!(spec["properties"]["a"], json!({"type": "string", "default": "x"}));
}
