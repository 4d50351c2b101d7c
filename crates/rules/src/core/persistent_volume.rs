//! PersistentVolume.

use crate::resources::{quantity, round_up_milli};
use crate::{C, Defaults, Rules, Tree};
use serde_json::Value;

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate, validate_update: update, validate_status: |_, _| {}, revalidate: true };

fn default(body: &mut Tree) {
    body.make("status").default_str("phase", "Pending");
    let spec = body.make("spec");
    spec.default_str("persistentVolumeReclaimPolicy", "Retain");
    spec.default_value("volumeMode", "Filesystem");
    round_up_milli(spec.child("capacity"));
    super::pod_defaults::network_sources(spec);
}

/// Fields of the spec that are no volume source.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn validate(volume: &C) {
    let spec = volume.get("spec");
    super::persistent_volume_claim::access_modes(&spec.get("accessModes"), "");
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        capacity.missing("");
    } else if capacity.len() > 1 || !capacity.key("storage").exists() {
        capacity.not_supported(&["storage"]);
    }
    for (_, size) in capacity.entries() {
        if size.value().and_then(quantity).is_none_or(|q| q.sign() <= 0) {
            size.invalid("must be greater than zero");
        }
    }
    spec.get("persistentVolumeReclaimPolicy").optional_one_of(&["Delete", "Recycle", "Retain"]);
    let affinity = spec.get("nodeAffinity");
    if affinity.exists() {
        if affinity.get("required").exists() {
            super::pod_spec::node_selector_terms(&affinity.get("required.nodeSelectorTerms"));
        } else {
            affinity.get("required").missing("must specify required node constraints");
        }
    }
    if super::pod_spec::first_source(&spec, &["local"]).is_none() {
        spec.missing("must specify a volume type");
    }
    let host = spec.get("hostPath");
    if host.exists() {
        super::pod_spec::host_path(&host);
        if host.get("path").str() == "/" && spec.get("persistentVolumeReclaimPolicy").str() == "Recycle" {
            spec.get("persistentVolumeReclaimPolicy").forbidden("may not be 'recycle' for a hostPath mount of '/'");
        }
    }
    let local = spec.get("local");
    if local.exists() {
        local.get("path").required();
        if !affinity.exists() {
            affinity.missing("Local volume requires node affinity");
        }
    }
    let csi = spec.get("csi");
    if csi.exists() {
        csi.get("driver").required();
        csi.get("volumeHandle").required();
    }
    let nfs = spec.get("nfs");
    if nfs.exists() {
        nfs.get("server").required();
        nfs.get("path").required();
    }
    let class = spec.get("storageClassName");
    if !class.is_zero() {
        class.check(meta::names::dns1123_subdomain);
    }
    let attributes = spec.get("volumeAttributesClassName");
    if attributes.exists() {
        attributes.check(meta::names::dns1123_subdomain);
    }
    let mode = spec.get("volumeMode");
    if mode.exists() {
        mode.one_of(&["Block", "Filesystem"]);
    }
}

/// The source stays what it is.
fn update(new: &C, old: &C) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let sources = |spec: &C| {
        let mut tree = spec.value().and_then(Value::as_object).cloned().unwrap_or_default();
        tree.retain(|field, _| !NO_SOURCE.contains(&field.as_str()));
        if let Some(csi) = tree.child("csi") {
            csi.remove("controllerExpandSecretRef");
        }
        Value::Object(tree)
    };
    if !crate::same_value(Some(&sources(&spec)), Some(&sources(&before))) {
        spec.get("persistentvolumesource").forbidden("spec.persistentvolumesource is immutable after creation");
    }
    spec.get("volumeMode").immutable(&before.get("volumeMode"));
    if before.get("nodeAffinity").exists() {
        spec.get("nodeAffinity").immutable(&before.get("nodeAffinity"));
    }
}
