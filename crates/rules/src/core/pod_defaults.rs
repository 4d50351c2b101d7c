//! Defaults of pods and of every pod template.

use serde_json::{Value, json};

use crate::resources::{requests_from_limits, round_requirements, round_up_milli};
use crate::{Defaults, Tree};

/// File mode 0644 of projected files.
const FILE_MODE: i64 = 0o644;

/// Defaults that only pods get, in addition to those of [`spec`].
pub fn pod(body: &mut Tree) {
    let pod_spec = body.make("spec");
    for list in ["containers", "initContainers"] {
        for container in pod_spec.each(list) {
            requests_from_limits(container.child("resources"));
        }
    }
    super::pod_level_resources::default(pod_spec);
    pod_spec.default_value("enableServiceLinks", true);
    if pod_spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for list in ["containers", "initContainers"] {
            for container in pod_spec.each(list) {
                host_ports(container);
            }
        }
    }
    spec(pod_spec);
    if let Some(status) = body.child("status") {
        super::node::sync_first(status, "podIP", "podIPs", Some("ip"));
        for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
            for container in status.each(list) {
                round_up_milli(container.child("allocatedResources"));
                round_requirements(container.child("resources"));
            }
        }
    }
}

/// With the host's network every container port is a host port.
fn host_ports(container: &mut Tree) {
    for port in container.each("ports") {
        let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or(0);
        port.default_nonzero("hostPort", number);
    }
}

/// Defaults of `template.spec`; the template is made when absent, as Go's embedded struct is there.
pub fn template(owner_spec: &mut Tree) {
    spec(owner_spec.make("template").make("spec"));
}

/// Defaults of a pod spec, in pods and in templates.
pub fn spec(spec: &mut Tree) {
    service_account(spec);
    spec.default_str("dnsPolicy", "ClusterFirst");
    spec.default_str("restartPolicy", "Always");
    spec.default_value("securityContext", json!({}));
    spec.default_value("terminationGracePeriodSeconds", 30);
    spec.default_str("schedulerName", "default-scheduler");
    for volume in spec.each("volumes") {
        self::volume(volume);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.each(list) {
            self::container(container);
        }
    }
    round_up_milli(spec.child("overhead"));
    round_requirements(spec.child("resources"));
    drop_disabled(spec);
}

/// Fields whose feature is off by default are taken and dropped, as upstream does.
fn drop_disabled(spec: &mut Tree) {
    if !crate::gates::GENERIC_WORKLOAD.is_on() {
        spec.remove("schedulingGroup");
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.each(list) {
            if let Some(lifecycle) = container.child("lifecycle") {
                lifecycle.remove("stopSignal");
            }
        }
    }
    for volume in spec.each("volumes") {
        if let Some(projected) = volume.child("projected") {
            for source in projected.each("sources") {
                source.remove("clusterTrustBundle");
                source.remove("podCertificate");
            }
        }
    }
}

/// `serviceAccount` is the deprecated twin of `serviceAccountName`; both always say the same.
fn service_account(spec: &mut Tree) {
    let name = match (spec.text("serviceAccountName"), spec.text("serviceAccount")) {
        ("", "") => return,
        ("", old) => old.to_owned(),
        (name, _) => name.to_owned(),
    };
    spec.insert("serviceAccountName".into(), name.clone().into());
    spec.insert("serviceAccount".into(), name.into());
}

fn container(container: &mut Tree) {
    let policy = pull_policy(container.text("image"));
    container.default_str("imagePullPolicy", policy);
    container.default_str("terminationMessagePath", "/dev/termination-log");
    container.default_str("terminationMessagePolicy", "File");
    for port in container.each("ports") {
        port.default_str("protocol", "TCP");
    }
    for variable in container.each("env") {
        if let Some(from) = variable.child("valueFrom") {
            field_ref(from.child("fieldRef"));
            if let Some(file) = from.child("fileKeyRef") {
                file.default_value("optional", false);
            }
        }
    }
    container.make("resources");
    round_requirements(container.child("resources"));
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.child(name) {
            self::probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        http_get(container.descend(&["lifecycle", hook, "httpGet"]));
    }
}

fn probe(probe: &mut Tree) {
    probe.default_nonzero("timeoutSeconds", 1);
    probe.default_nonzero("periodSeconds", 10);
    probe.default_nonzero("successThreshold", 1);
    probe.default_nonzero("failureThreshold", 3);
    http_get(probe.child("httpGet"));
    if let Some(grpc) = probe.child("grpc") {
        grpc.default_value("service", "");
    }
}

fn http_get(action: Option<&mut Tree>) {
    if let Some(action) = action {
        action.default_str("path", "/");
        action.default_str("scheme", "HTTP");
    }
}

fn field_ref(selector: Option<&mut Tree>) {
    if let Some(selector) = selector {
        selector.default_str("apiVersion", "v1");
    }
}

/// `Always` for the tag `latest` or none, else `IfNotPresent`; a digest without a tag has no tag `latest`.
pub fn pull_policy(image: &str) -> &'static str {
    if has_latest_tag(image) { "Always" } else { "IfNotPresent" }
}

fn has_latest_tag(image: &str) -> bool {
    // An image that does not parse has no tag upstream, hence IfNotPresent; only the empty one occurs here.
    if image.is_empty() {
        return false;
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none(),
    }
}

fn volume(volume: &mut Tree) {
    if !volume.iter().any(|(field, source)| field != "name" && !source.is_null()) {
        volume.insert("emptyDir".into(), json!({}));
    }
    if let Some(image) = volume.child("image") {
        let policy = pull_policy(image.text("reference"));
        image.default_str("pullPolicy", policy);
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.child(source) {
            source.default_value("defaultMode", FILE_MODE);
        }
    }
    if let Some(downward) = volume.child("downwardAPI") {
        downward_items(downward);
    }
    if let Some(projected) = volume.child("projected") {
        for source in projected.each("sources") {
            if let Some(downward) = source.child("downwardAPI") {
                downward_items(downward);
            }
            if let Some(token) = source.child("serviceAccountToken") {
                token.default_value("expirationSeconds", 3600);
            }
        }
    }
    if let Some(claim) = volume.descend(&["ephemeral", "volumeClaimTemplate", "spec"]) {
        super::persistent_volume_claim::default_spec(claim);
    }
    network_sources(volume);
}

fn downward_items(source: &mut Tree) {
    for item in source.each("items") {
        field_ref(item.child("fieldRef"));
    }
}

/// Defaults of the volume sources that pods and persistent volumes share.
pub fn network_sources(volume: &mut Tree) {
    if let Some(path) = volume.child("hostPath") {
        path.default_value("type", "");
    }
    if let Some(iscsi) = volume.child("iscsi") {
        iscsi.default_str("iscsiInterface", "default");
    }
    if let Some(rbd) = volume.child("rbd") {
        rbd.default_str("pool", "rbd");
        rbd.default_str("user", "admin");
        rbd.default_str("keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = volume.child("azureDisk") {
        disk.default_value("cachingMode", "ReadWrite");
        disk.default_value("fsType", "ext4");
        disk.default_value("readOnly", false);
        disk.default_value("kind", "Shared");
    }
    if let Some(scale_io) = volume.child("scaleIO") {
        scale_io.default_str("storageMode", "ThinProvisioned");
        scale_io.default_str("fsType", "xfs");
    }
}
