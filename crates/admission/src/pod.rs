//! Readings of pods as JSON trees that several plugins share.

use meta::Object;
use serde_json::{Map, Value};

pub use component_helpers::quota::{Usage as Resources, limits, requests, resources};

/// The items of a list field.
pub fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// A string at a path, empty when absent.
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(value, |v, step| v.get(*step)).and_then(Value::as_str).unwrap_or("")
}

/// The pod's spec; `null` when there is none.
pub fn spec(pod: &Object) -> &Value {
    const NONE: &Value = &Value::Null;
    pod.body.get("spec").unwrap_or(NONE)
}

/// Whether the pod is the API's picture of a static pod.
pub fn is_mirror(pod: &Object) -> bool {
    pod.annotation("kubernetes.io/config.mirror").is_some()
}

/// All containers of the named lists with the list's name.
pub fn containers<'a>(spec: &'a Value, fields: &[&'static str]) -> Vec<(&'static str, &'a Value)> {
    fields.iter().flat_map(|field| items(spec, field).map(move |c| (*field, c))).collect()
}

/// Calls `change` on every container of the named lists.
pub fn each_container(pod: &mut Object, fields: &[&str], mut change: impl FnMut(&mut Map<String, Value>)) {
    for field in fields {
        let list = pod.spec_mut().get_mut(*field).and_then(Value::as_array_mut);
        for container in list.into_iter().flatten().filter_map(Value::as_object_mut) {
            change(container);
        }
    }
}

/// The names of all secrets that the pod refers to.
pub fn secret_names(spec: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = items(spec, "imagePullSecrets").map(|s| text(s, &["name"])).collect();
    for (_, container) in containers(spec, &["initContainers", "containers", "ephemeralContainers"]) {
        names.extend(items(container, "envFrom").map(|e| text(e, &["secretRef", "name"])));
        names.extend(items(container, "env").map(|e| text(e, &["valueFrom", "secretKeyRef", "name"])));
    }
    for volume in items(spec, "volumes") {
        names.push(text(volume, &["secret", "secretName"]));
        names.push(text(volume, &["azureFile", "secretName"]));
        names.push(text(volume, &["csi", "nodePublishSecretRef", "name"]));
        for source in ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"] {
            names.push(text(volume, &[source, "secretRef", "name"]));
        }
        if let Some(projected) = volume.get("projected") {
            names.extend(items(projected, "sources").map(|s| text(s, &["secret", "name"])));
        }
    }
    names.retain(|name| !name.is_empty());
    names
}
