//! Reading objects as trees.

use serde_json::Value;

/// A text, empty when absent.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// A number, when there is one.
pub fn number(value: &Value, path: &str) -> Option<i64> {
    value.pointer(path).and_then(Value::as_i64)
}

/// A list, empty when absent.
pub fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// `metadata.uid`.
pub fn uid(value: &Value) -> &str {
    text(value, "/metadata/uid")
}

/// `metadata.namespace`.
pub fn namespace(value: &Value) -> &str {
    text(value, "/metadata/namespace")
}

/// `namespace/name`, or the name.
pub fn name(value: &Value) -> String {
    let (namespace, name) = (namespace(value), text(value, "/metadata/name"));
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// Whether it is being deleted.
pub fn deleting(value: &Value) -> bool {
    value.pointer("/metadata/deletionTimestamp").is_some_and(|v| !v.is_null())
}

/// Whether a pod ended.
pub fn over(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether a pod counts for its controller.
pub fn active(pod: &Value) -> bool {
    !deleting(pod) && !over(pod)
}

/// Whether a condition is true.
pub fn is(value: &Value, condition: &str) -> bool {
    list(value, "/status/conditions").iter().any(|c| text(c, "/type") == condition && text(c, "/status") == "True")
}

/// The kind and uid of the owner that controls an object.
pub fn owner(value: &Value) -> Option<(&str, &str)> {
    let owners = list(value, "/metadata/ownerReferences");
    let owner = owners.iter().find(|o| o["controller"] == Value::Bool(true))?;
    Some((text(owner, "/kind"), text(owner, "/uid")))
}

/// Whether an object has all labels that a selector's map asks for.
pub fn selected(object: &Value, selector: &Value) -> bool {
    let Some(wanted) = selector.as_object().filter(|s| !s.is_empty()) else { return false };
    let labels = &object["metadata"]["labels"];
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// What a pod asks of processors, in thousandths.
pub fn millis(pod: &Value) -> i64 {
    let requests = list(pod, "/spec/containers").iter();
    requests.map(|c| cpu(text(c, "/resources/requests/cpu"))).sum()
}

/// A quantity of processors in thousandths.
pub fn cpu(quantity: &str) -> i64 {
    match quantity.strip_suffix('m') {
        Some(millis) => millis.parse().unwrap_or(0),
        None => quantity.parse::<i64>().unwrap_or(0) * 1000,
    }
}
