//! The three patches that need no schema's server: JSON patch, merge patch, strategic merge patch.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}], "tolerations": [{}]},
    })
}

fuzz_target!(|data: &[u8]| {
    let mut tree = pod();
    let _ = meta::patch::json_patch(&mut tree, data);
    let Ok(patch) = serde_json::from_slice::<Value>(data) else { return };
    let mut tree = pod();
    meta::patch::merge_patch(&mut tree, &patch);
    let (Some(original), Some(patch)) = (pod().as_object().cloned(), patch.as_object().cloned()) else { return };
    let t = schema::codec::type_of("v1", "Pod").expect("pods are known");
    let _ = managedfields::strategic::apply(&original, &patch, t);
});
