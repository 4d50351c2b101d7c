//! Pod fields and container resources as text, for environment variables and downward API files.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::k8s::core::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};
use crate::quantity::{ResourceList, parse};
use crate::{Error, Result};

/// What a pod's fields may refer to beyond its own object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The pod's addresses, the main one first.
    pub pod_ips: Vec<String>,
    /// The node's addresses, the main one first.
    pub host_ips: Vec<String>,
    /// The node's allocatable resources: the default of a missing limit.
    pub allocatable: ResourceList,
}

/// The value of a field. `env` allows the fields that only environment variables may use.
///
/// # Errors
/// [`Error::Invalid`] for a field that upstream does not offer in this place.
pub fn field(pod: &Pod, facts: &Facts, selector: &ObjectFieldSelector, env: bool) -> Result<String> {
    let path = selector.field_path.as_str();
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        return match map {
            "metadata.annotations" => Ok(lookup(meta.annotations.as_ref(), key)),
            "metadata.labels" => Ok(lookup(meta.labels.as_ref(), key)),
            _ => Err(Error::Invalid(format!("fieldPath {} does not support subscript", go_quote(path)))),
        };
    }
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "spec.nodeName" if env => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" if env => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" if env => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" if env => facts.host_ips.join(","),
        "status.podIP" if env => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" if env => facts.pod_ips.join(","),
        _ => return Err(Error::Invalid(format!("unsupported fieldPath: {path}"))),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let inner = path.strip_suffix("']")?;
    inner.split_once("['")
}

fn lookup(map: Option<&BTreeMap<String, String>>, key: &str) -> String {
    map.and_then(|map| map.get(key)).cloned().unwrap_or_default()
}

/// `key="value"` lines, sorted, values quoted as Go's `%q` does.
#[must_use]
pub fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    map.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value))).collect::<Vec<_>>().join("\n")
}

/// Quotes as Go's `strconv.Quote`.
#[must_use]
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a container's resource, rounded up in units of the divisor. A missing limit is the node's allocatable.
///
/// # Errors
/// [`Error::Invalid`] for a resource that upstream does not offer.
pub fn resource(container: &Container, facts: &Facts, selector: &ResourceFieldSelector) -> Result<String> {
    let unsupported = || Error::Invalid(format!("unsupported container resource : {}", selector.resource));
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let limit =
        || resources.and_then(|r| r.limits.as_ref()).and_then(|l| l.get(name)).or_else(|| facts.allocatable.get(name));
    let quantity = match kind {
        "limits" => limit(),
        "requests" => {
            let request = resources.and_then(|r| r.requests.as_ref()).and_then(|l| l.get(name));
            // The API server defaults requests to explicit limits; only static pods come without.
            request.or_else(|| resources.and_then(|r| r.limits.as_ref()).and_then(|l| l.get(name)))
        }
        _ => return Err(unsupported()),
    };
    let divisor = selector.divisor.as_ref().map(parse).filter(|d| !d.is_zero());
    let number = |cpu: bool| -> i64 {
        let Some(quantity) = quantity.map(parse) else { return 0 };
        let (amount, unit) = if cpu {
            (quantity.milli_value(), divisor.map_or(1000, |d| d.milli_value()))
        } else {
            (quantity.value(), divisor.map_or(1, |d| d.value()))
        };
        let unit = unit.max(1);
        amount / unit + i64::from(amount % unit > 0)
    };
    Ok(number(name == "cpu").to_string())
}

/// Finds a container of any kind by name.
#[must_use]
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "one\n\"x\""}},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "resources": {
                "limits": {"memory": "64Mi"}, "requests": {"cpu": "1250m"}}}]},
        }))
        .unwrap()
    }

    #[test]
    fn fields_are_read_and_refused_as_upstream() {
        let facts = Facts { pod_ips: vec!["10.0.0.2".to_owned(), "fd00::2".to_owned()], ..Facts::default() };
        for (path, env, expected) in [
            ("metadata.name", false, Some("p")),
            ("metadata.labels", false, Some("a=\"one\\n\\\"x\\\"\"\nb=\"2\"")),
            ("metadata.labels['b']", false, Some("2")),
            ("metadata.annotations['none']", true, Some("")),
            ("status.podIPs", true, Some("10.0.0.2,fd00::2")),
            ("status.podIP", false, None),
            ("spec.nodeName", true, Some("node")),
            ("spec.x", true, None),
        ] {
            let selector = ObjectFieldSelector { api_version: None, field_path: path.to_owned() };
            assert_eq!(field(&pod(), &facts, &selector, env).ok().as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn resources_round_up_and_fall_back_to_the_node() {
        let pod = pod();
        let mut facts = Facts::default();
        facts.allocatable.insert("cpu".to_owned(), crate::k8s::Quantity("2".to_owned()));
        for (name, divisor, expected) in [
            ("requests.cpu", None, Some("2")),
            ("requests.cpu", Some("1m"), Some("1250")),
            ("limits.cpu", None, Some("2")),
            ("limits.memory", None, Some("67108864")),
            ("limits.memory", Some("1Mi"), Some("64")),
            ("requests.memory", Some("1Mi"), Some("64")),
            ("limits.apples", None, None),
        ] {
            let selector = ResourceFieldSelector {
                container_name: None,
                divisor: divisor.map(|d| crate::k8s::Quantity(d.to_owned())),
                resource: name.to_owned(),
            };
            let container = container(&pod, "c").unwrap();
            assert_eq!(resource(container, &facts, &selector).ok().as_deref(), expected, "{name}");
        }
    }
}
