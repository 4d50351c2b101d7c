//! Environment variables and the references they may make.

use meta::names;

use crate::C;

/// Fields of a pod that an environment variable may show.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file may show.
pub const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields that exist at all.
const KNOWN_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// `env`.
pub fn validate(variables: &C) {
    for variable in variables.items() {
        let name = variable.get("name");
        if name.required() {
            name.check(variable_name);
        }
        let from = variable.get("valueFrom");
        if from.exists() {
            value_from(&from, !variable.get("value").is_zero());
        }
    }
}

/// Any printable ASCII but `=`.
fn variable_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if name.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

fn value_from(from: &C, has_value: bool) {
    let mut sources = 0;
    let field = from.get("fieldRef");
    if field.exists() {
        sources += 1;
        field_ref(&field, &ENV_FIELDS);
    }
    let resource = from.get("resourceFieldRef");
    if resource.exists() {
        sources += 1;
        resource_ref(&resource, false);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        let selector = from.get(key);
        if selector.exists() {
            sources += 1;
            object_name(&selector.get("name"));
            let key = selector.get("key");
            if key.required() {
                key.check(names::config_map_key);
            }
        }
    }
    let file = from.get("fileKeyRef");
    if file.exists() {
        sources += 1;
        let key = file.get("key");
        if key.required() {
            key.check(variable_name);
        }
        let volume = file.get("volumeName");
        if volume.required() {
            volume.check(names::dns1123_label);
        }
        if file.get("path").required() {
            super::volume::local_non_reserved_path(&file.get("path"));
        }
    }
    if sources == 0 {
        from.invalid_value(
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if has_value {
        from.invalid_value("", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        from.invalid_value("", "may not have more than one field specified at a time");
    }
}

/// The name of a config map or secret.
fn object_name(name: &C) {
    if name.required() {
        name.check(names::dns1123_subdomain);
    }
}

/// `envFrom`.
pub fn from(sources: &C) {
    for source in sources.items() {
        let prefix = source.get("prefix");
        if !prefix.is_zero() {
            prefix.check(variable_name);
        }
        let mut count = 0;
        for field in ["configMapRef", "secretRef"] {
            let reference = source.get(field);
            if reference.exists() {
                count += 1;
                object_name(&reference.get("name"));
            }
        }
        if count == 0 {
            sources.invalid_value("", "must specify one of: `configMapRef` or `secretRef`");
        } else if count > 1 {
            sources.invalid_value("", "may not have more than one field specified at a time");
        }
    }
}

/// `fieldRef`.
pub fn field_ref(selector: &C, allowed: &[&str]) {
    let version = selector.get("apiVersion");
    let field = selector.get("fieldPath");
    if !version.required() || !field.required() {
        return;
    }
    if version.str() != "v1" {
        return field.invalid(format!("error converting fieldPath: unsupported pod version: {}", version.str()));
    }
    if let Some((map, rest)) = field.str().split_once("['")
        && let Some(key) = rest.strip_suffix("']")
    {
        let findings = match map {
            "metadata.annotations" => names::qualified_name(&key.to_lowercase()),
            "metadata.labels" => names::qualified_name(key),
            _ if KNOWN_FIELDS.contains(&map) => return selector.invalid_value(map, "does not support subscript"),
            _ => vec![format!("error converting fieldPath: field label does not support subscript: {:?}", field.str())],
        };
        for finding in findings {
            selector.invalid_value(key, finding);
        }
    } else if !KNOWN_FIELDS.contains(&field.str()) {
        field.invalid(format!("error converting fieldPath: field label not supported: {}", field.str()));
    } else if !allowed.contains(&field.str()) {
        field.not_supported(allowed);
    }
}

/// `resourceFieldRef`; in a volume the container must be named.
pub fn resource_ref(selector: &C, volume: bool) {
    let resource = selector.get("resource");
    if volume && selector.get("containerName").is_zero() {
        selector.get("containerName").missing("");
    } else if resource.required()
        && !RESOURCES.contains(&resource.str())
        && !["limits.hugepages-", "requests.hugepages-"].iter().any(|p| resource.str().starts_with(p))
    {
        resource.not_supported(&RESOURCES);
    }
    divisor(&selector.get("divisor"), resource.str());
}

fn divisor(divisor: &C, resource: &str) {
    let given = divisor.str();
    if given.is_empty() || given == "0" {
        return;
    }
    let name = resource.split_once('.').map_or("", |(_, name)| name);
    if name == "cpu" {
        if !["1m", "1"].contains(&given) {
            divisor.invalid_value(resource, "only divisor's values 1m and 1 are supported with the cpu resource");
        }
        return;
    }
    const BYTES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let what = match name {
        "memory" => "memory resource",
        "ephemeral-storage" => "local ephemeral storage resource",
        _ if name.starts_with("hugepages-") => "hugepages resource",
        _ => return,
    };
    if !BYTES.contains(&given) {
        let all = BYTES.join(", ");
        divisor.invalid_value(resource, format!("only divisor's values {all} are supported with the {what}"));
    }
}
