//! Volumes, their mounts and devices.

use std::collections::BTreeMap;

use meta::names;

use super::{Spec, env};
use crate::C;
use crate::resources::quantity;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// `spec.volumes`; gives the valid ones by name, and whether each is a claim (which may be a block device).
pub fn validate<'v>(volumes: &C<'_, 'v>, pod_name: &str) -> BTreeMap<&'v str, bool> {
    let mut valid = BTreeMap::new();
    let ephemeral: Vec<String> = volumes
        .items()
        .filter(|v| v.get("ephemeral").exists() && !pod_name.is_empty())
        .map(|v| format!("{pod_name}-{}", v.get("name").str()))
        .collect();
    for volume in volumes.items() {
        let before = volume.sink().len();
        source(&volume, pod_name);
        let name = volume.get("name");
        if name.required() {
            name.check(names::dns1123_label);
        }
        if valid.contains_key(name.str()) {
            name.duplicate();
        }
        if volume.sink().len() == before {
            valid.insert(name.str(), volume.get("persistentVolumeClaim").exists() || volume.get("ephemeral").exists());
        }
        let claim = volume.get("persistentVolumeClaim.claimName");
        if ephemeral.iter().any(|e| e == claim.str()) {
            claim.invalid("must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    valid
}

/// The sources in the order in which upstream looks at them.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// Reports all volume sources but the first, which it gives. `more` are sources of persistent volumes only.
pub fn first_source(volume: &C, more: &[&'static str]) -> Option<&'static str> {
    let mut first = None;
    for field in SOURCES.iter().chain(more) {
        if !volume.get(field).value().is_some_and(serde_json::Value::is_object) {
            continue;
        }
        if first.is_some() {
            // Two names are spelled differently in upstream's messages.
            let spelled = match *field {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                other => other,
            };
            volume.get(spelled).forbidden("may not specify more than 1 volume type");
        } else {
            first = Some(*field);
        }
    }
    first
}

fn source(volume: &C, pod_name: &str) {
    let Some(field) = first_source(volume, &[]) else {
        return volume.missing("must specify a volume type");
    };
    let source = volume.get(field);
    match field {
        "emptyDir" => empty_dir(&source),
        "hostPath" => host_path(&source),
        "secret" => {
            source.get("secretName").required();
            files(&source);
        }
        "configMap" => {
            source.get("name").required();
            files(&source);
        }
        "persistentVolumeClaim" => {
            source.get("claimName").required();
        }
        "downwardAPI" => {
            file_mode(&source.get("defaultMode"));
            for item in source.get("items").items() {
                downward_file(&item, &source);
            }
        }
        "projected" => projected(&source),
        "nfs" => {
            source.get("server").required();
            let path = source.get("path");
            if path.required() && !path.str().starts_with('/') {
                path.invalid("must be an absolute path");
            }
        }
        "csi" => csi(&source),
        "ephemeral" => ephemeral(volume, &source, pod_name),
        "image" => {
            source.get("reference").required();
            source.get("pullPolicy").optional_one_of(&["Always", "IfNotPresent", "Never"]);
        }
        "iscsi" => {
            for field in ["targetPortal", "iqn"] {
                source.get(field).required();
            }
        }
        "gitRepo" => {
            source.get("repository").required();
            local_descending_path(&source.get("directory"));
        }
        _ => {}
    }
}

fn empty_dir(source: &C) {
    let limit = source.get("sizeLimit");
    if limit.value().and_then(quantity).is_some_and(|q| q.sign() < 0) {
        limit.forbidden("SizeLimit field must be a valid resource quantity");
    }
}

/// A path on the host.
pub fn host_path(source: &C) {
    let path = source.get("path");
    if path.required() {
        path_no_backsteps(&path);
        source.get("type").optional_one_of(&[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ]);
    }
}

fn csi(source: &C) {
    let driver = source.get("driver");
    if driver.required() {
        driver.max_len(63);
        driver.check(|name| names::dns1123_subdomain(&name.to_lowercase()));
    }
    let secret = source.get("nodePublishSecretRef");
    if secret.exists() {
        secret.get("name").required();
    }
}

fn ephemeral(volume: &C, source: &C, pod_name: &str) {
    let template = source.get("volumeClaimTemplate");
    if !template.exists() {
        return template.missing("");
    }
    crate::meta_v1::template_metadata(&template.get("metadata"));
    crate::core::persistent_volume_claim::validate_spec(&template.get("spec"));
    let name = volume.get("name");
    if !pod_name.is_empty() && !name.is_zero() {
        let claim = format!("{pod_name}-{}", name.str());
        for finding in names::dns1123_subdomain(&claim) {
            name.invalid(format!("PVC name {claim:?}: {finding}"));
        }
    }
}

fn file_mode(mode: &C) {
    if mode.exists() && !(0..=0o777).contains(&mode.int()) {
        mode.invalid(MODE);
    }
}

fn files(source: &C) {
    file_mode(&source.get("defaultMode"));
    for item in source.get("items").items() {
        key_to_path(&item);
    }
}

fn key_to_path(item: &C) {
    item.get("key").required();
    let path = item.get("path");
    path.required();
    local_non_reserved_path(&path);
    file_mode(&item.get("mode"));
}

/// A file of the downward API; upstream reports at the volume, not at the item.
fn downward_file(item: &C, at: &C) {
    let path = item.get("path");
    if path.is_zero() {
        at.get("path").missing("");
    }
    local_non_reserved_path(&path);
    let (field, resource) = (item.get("fieldRef"), item.get("resourceFieldRef"));
    if field.exists() {
        env::field_ref(&field, &env::FILE_FIELDS);
        if resource.exists() {
            at.invalid_value("resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
        }
    } else if resource.exists() {
        env::resource_ref(&resource, true);
    } else {
        at.missing("one of fieldRef and resourceFieldRef is required");
    }
    file_mode(&item.get("mode"));
}

fn projected(volume: &C) {
    file_mode(&volume.get("defaultMode"));
    let mut paths: Vec<&str> = Vec::new();
    for source in volume.get("sources").items() {
        let mut count = 0;
        for kind in
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"]
        {
            let part = source.get(kind);
            if !part.exists() {
                continue;
            }
            count += 1;
            let conflict = |path: &'_ C<'_, '_>, value: &str| {
                if !path.is_zero() {
                    volume.invalid_value(value, "conflicting duplicate paths");
                }
            };
            match kind {
                "secret" | "configMap" => {
                    part.get("name").required();
                    for item in part.get("items").items() {
                        key_to_path(&item);
                        let path = item.get("path");
                        if paths.contains(&path.str()) {
                            conflict(&path, part.get("name").str());
                        }
                        paths.push(path.str());
                    }
                }
                "downwardAPI" => {
                    for item in part.get("items").items() {
                        downward_file(&item, &part);
                        let path = item.get("path");
                        if paths.contains(&path.str()) {
                            conflict(&path, path.str());
                        }
                        paths.push(path.str());
                    }
                }
                "serviceAccountToken" => token(&part, volume),
                "clusterTrustBundle" => {
                    let path = part.get("path");
                    path.required();
                    local_non_reserved_path(&path);
                    if paths.contains(&path.str()) {
                        conflict(&path, path.str());
                    }
                    paths.push(path.str());
                }
                _ => {}
            }
        }
        if count > 1 {
            source.forbidden("may not specify more than 1 volume type per source");
        }
    }
}

fn token(part: &C, volume: &C) {
    let seconds = part.get("expirationSeconds");
    if seconds.int() < 600 {
        seconds.invalid("may not specify a duration less than 10 minutes");
    }
    if seconds.int() > 1 << 32 {
        seconds.invalid("may not specify a duration larger than 2^32 seconds");
    }
    let path = part.get("path");
    if path.is_zero() {
        volume.get("path").missing("");
    } else {
        local_non_reserved_path(&path);
    }
}

/// A path must not climb.
pub fn path_no_backsteps(path: &C) {
    if path.str().split('/').any(|part| part == "..") {
        path.invalid("must not contain '..'");
    }
}

/// A relative path that does not climb.
pub fn local_descending_path(path: &C) {
    if path.str().starts_with('/') {
        path.invalid("must be a relative path");
    }
    path_no_backsteps(path);
}

/// The same, and not beginning with `..`, which atomic updates use.
pub fn local_non_reserved_path(path: &C) {
    local_descending_path(path);
    if path.str().starts_with("..") && !path.str().starts_with("../") && path.str() != ".." {
        path.invalid("must not start with '..'");
    }
}

/// A container's mounts.
pub fn mounts(around: &Spec, container: &C) {
    let list = container.get("volumeMounts");
    let devices = container.get("volumeDevices");
    let mut points: Vec<&str> = Vec::new();
    for mount in list.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        name.required();
        if !around.volumes.contains_key(name.str()) {
            name.not_found();
        }
        path.required();
        if points.contains(&path.str()) {
            path.invalid("must be unique");
        }
        points.push(path.str());
        if devices.items().any(|d| d.get("name").str() == name.str()) {
            name.invalid("must not already exist in volumeDevices");
        }
        if devices.items().any(|d| d.get("devicePath").str() == path.str()) {
            path.invalid("must not already exist as a path in volumeDevices");
        }
        let (sub, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
        if !sub.is_zero() {
            at_list(&list, "subPath", &sub);
        }
        if !expression.is_zero() {
            if !sub.is_zero() {
                expression.invalid("subPathExpr and subPath are mutually exclusive");
            }
            at_list(&list, "subPathExpr", &expression);
        }
        propagation(&list, &mount, container);
        read_only(&list, &mount);
    }
}

/// Upstream reports a bad sub path at the list, not at the mount.
fn at_list(list: &C, field: &str, path: &C) {
    let at = list.get(field);
    if path.str().starts_with('/') {
        at.invalid_value(path.str(), "must be a relative path");
    }
    if path.str().split('/').any(|part| part == "..") {
        at.invalid_value(path.str(), "must not contain '..'");
    }
}

fn propagation(list: &C, mount: &C, container: &C) {
    let at = list.get("mountPropagation");
    if let Some(value) = mount.get("mountPropagation").value() {
        let mode = at.with_value(value);
        mode.one_of(&["Bidirectional", "HostToContainer", "None"]);
        if mode.str() == "Bidirectional" && !container.get("securityContext.privileged").is_true() {
            mode.forbidden("Bidirectional mount propagation is available only to privileged containers");
        }
    }
}

fn read_only(list: &C, mount: &C) {
    let Some(value) = mount.get("recursiveReadOnly").value() else { return };
    let at = list.get("recursiveReadOnly");
    let recursive = at.with_value(value);
    match recursive.str() {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.get("readOnly").is_true() {
                recursive.forbidden("may only be specified when readOnly is true");
            }
            if !matches!(mount.get("mountPropagation").str(), "" | "None") {
                recursive.forbidden("may only be specified when mountPropagation is None or not specified");
            }
        }
        _ => recursive.not_supported(&["Disabled", "Enabled", "IfPossible"]),
    }
}

/// A container's block devices.
pub fn devices(around: &Spec, container: &C) {
    let mounts = container.get("volumeMounts");
    let (mut seen, mut paths): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        name.required();
        if seen.contains(&name.str()) {
            name.invalid("must be unique");
        }
        match around.volumes.get(name.str()) {
            None => name.not_found(),
            Some(false) => {
                name.invalid("can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode");
            }
            Some(true) => {}
        }
        path.required();
        if paths.contains(&path.str()) {
            path.invalid("must be unique");
        }
        if path.str().split('/').any(|part| part == "..") {
            path.invalid("can not contain backsteps ('..')");
        } else {
            paths.push(path.str());
        }
        if mounts.items().any(|m| m.get("name").str() == name.str()) {
            name.invalid("must not already exist in volumeMounts");
        }
        if mounts.items().any(|m| m.get("mountPath").str() == path.str()) {
            path.invalid("must not already exist as a path in volumeMounts");
        }
        seen.push(name.str());
    }
}
