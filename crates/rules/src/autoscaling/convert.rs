//! Conversion of HorizontalPodAutoscalers between v1 and v2, the hub.
//!
//! v1 knows a CPU target only; everything else of v2 travels in annotations under upstream's keys, in upstream's
//! forms (metrics in v1's old field names, behaviour in the internal type's capitalised ones).

use meta::{GroupVersionKind, Object, Status};
use serde_json::{Value, json};

use crate::{Defaults, Tree};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// What upstream's v1 defaults a target without metrics to.
const DEFAULT_CPU_PERCENT: i64 = 80;

/// Converts either way.
///
/// # Errors
/// None today; malformed annotations are ignored, as upstream does.
pub fn convert(object: &mut Object, from: &GroupVersionKind, to: &GroupVersionKind) -> Result<(), Status> {
    match (from.version.as_str(), to.version.as_str()) {
        ("v2", "v1") => to_v1(&mut object.body),
        ("v1", "v2") => to_v2(&mut object.body),
        _ => {}
    }
    Ok(())
}

fn to_v1(body: &mut Tree) {
    drop_annotations(body);
    let mut notes: Vec<(&str, String)> = Vec::new();
    if let Some(spec) = body.child("spec") {
        let metrics = take_list(spec, "metrics");
        if let Some(cpu) = metrics.iter().find_map(cpu_target) {
            spec.insert("targetCPUUtilizationPercentage".into(), cpu);
        }
        let others: Vec<Value> =
            metrics.iter().filter(|m| cpu_target(m).is_none()).map(|m| metric_to_v1(m, false)).collect();
        if !others.is_empty() {
            notes.push((METRICS, Value::from(others).to_string()));
        }
        if let Some(behavior) = spec.remove("behavior").filter(|b| !b.is_null()) {
            notes.push((BEHAVIOR, recase(behavior, char::to_ascii_uppercase).to_string()));
        }
    }
    if let Some(status) = body.child("status") {
        status.default_value("currentReplicas", 0);
        status.default_value("desiredReplicas", 0);
        let metrics = take_list(status, "currentMetrics");
        let cpu = metrics
            .iter()
            .filter(|m| is_cpu(m))
            .find_map(|m| m["resource"]["current"].get("averageUtilization").filter(|v| !v.is_null()).cloned());
        if let Some(cpu) = cpu {
            status.insert("currentCPUUtilizationPercentage".into(), cpu);
        }
        if !metrics.is_empty() {
            let old: Vec<Value> = metrics.iter().map(|m| metric_to_v1(m, true)).collect();
            notes.push((CURRENT_METRICS, Value::from(old).to_string()));
        }
        let conditions = take_list(status, "conditions");
        if !conditions.is_empty() {
            notes.push((CONDITIONS, Value::from(conditions).to_string()));
        }
    }
    if !notes.is_empty() {
        let annotations = body.make("metadata").make("annotations");
        annotations.extend(notes.into_iter().map(|(key, text)| (key.to_owned(), Value::String(text))));
    }
}

fn to_v2(body: &mut Tree) {
    let note = |body: &Tree, key: &str| -> Option<Value> {
        serde_json::from_str(body.get("metadata")?.get("annotations")?.get(key)?.as_str()?).ok()
    };
    let metrics = note(body, METRICS);
    let behavior = note(body, BEHAVIOR);
    let current = note(body, CURRENT_METRICS);
    let conditions = note(body, CONDITIONS);
    let spec = body.make("spec");
    let mut all: Vec<Value> = list(metrics).iter().map(|m| metric_to_v2(m, false)).collect();
    let cpu = spec.remove("targetCPUUtilizationPercentage").filter(|v| !v.is_null());
    if cpu.is_some() || all.is_empty() {
        let percent = cpu.unwrap_or(DEFAULT_CPU_PERCENT.into());
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        all.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    spec.insert("metrics".into(), all.into());
    if let Some(behavior) = behavior.filter(Value::is_object) {
        spec.insert("behavior".into(), recase(behavior, char::to_ascii_lowercase));
    }
    if let Some(status) = body.child("status") {
        let cpu = status.remove("currentCPUUtilizationPercentage").filter(|v| !v.is_null());
        let mut all: Vec<Value> = list(current).iter().map(|m| metric_to_v2(m, true)).collect();
        if let Some(cpu) = cpu.filter(|_| all.is_empty()) {
            all.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": cpu}}}));
        }
        if !all.is_empty() {
            status.insert("currentMetrics".into(), all.into());
        }
        let conditions = list(conditions);
        if !conditions.is_empty() {
            status.insert("conditions".into(), conditions.into());
        }
    }
    drop_annotations(body);
}

fn drop_annotations(body: &mut Tree) {
    if let Some(metadata) = body.child("metadata")
        && let Some(annotations) = metadata.child("annotations")
    {
        for key in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
            annotations.remove(key);
        }
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}

fn take_list(holder: &mut Tree, field: &str) -> Vec<Value> {
    list(holder.remove(field))
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn cpu_target(metric: &Value) -> Option<Value> {
    let target = || metric["resource"]["target"].get("averageUtilization").filter(|v| !v.is_null()).cloned();
    if is_cpu(metric) { target() } else { None }
}

/// The field of a metric that holds its source, by type.
fn source_field(kind: &str) -> &'static str {
    match kind {
        "Object" => "object",
        "Pods" => "pods",
        "ContainerResource" => "containerResource",
        "External" => "external",
        _ => "resource",
    }
}

/// Old (v1) and new (v2) places of the parts of a metric source or status.
fn places(field: &str, current: bool) -> Vec<(&'static str, &'static [&'static str])> {
    match (field, current) {
        ("object", false) => vec![
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("averageValue", &["target", "averageValue"]),
        ],
        ("object", true) => vec![
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("averageValue", &["current", "averageValue"]),
        ],
        ("pods", false) => vec![
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        ("pods", true) => vec![
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
        ("external", false) => vec![
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        ("external", true) => vec![
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
        (_, false) => vec![
            ("name", &["name"]),
            ("container", &["container"]),
            ("targetAverageUtilization", &["target", "averageUtilization"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
        (_, true) => vec![
            ("name", &["name"]),
            ("container", &["container"]),
            ("currentAverageUtilization", &["current", "averageUtilization"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    }
}

fn metric_to_v1(metric: &Value, current: bool) -> Value {
    let kind = metric["type"].as_str().unwrap_or("");
    let field = source_field(kind);
    let mut old = Tree::new();
    for (name, path) in places(field, current) {
        let value = path.iter().try_fold(&metric[field], |v, step| v.get(*step)).filter(|v| !v.is_null());
        if let Some(value) = value {
            old.insert(name.to_owned(), value.clone());
        }
    }
    json!({"type": kind, field: old})
}

fn metric_to_v2(metric: &Value, current: bool) -> Value {
    let kind = metric["type"].as_str().unwrap_or("");
    let field = source_field(kind);
    let mut new = Object::default();
    for (name, path) in places(field, current) {
        if let Some(value) = metric[field].get(name).filter(|v| !v.is_null()) {
            new.set(path, value.clone());
        }
    }
    if !current {
        let target = new.get(&["target"]).cloned().unwrap_or(Value::Null);
        let has = |name: &str| target.get(name).is_some();
        let target_kind = match field {
            "pods" => "AverageValue",
            "object" if has("averageValue") => "AverageValue",
            "object" => "Value",
            "external" if has("value") => "Value",
            "external" => "AverageValue",
            _ if has("averageUtilization") => "Utilization",
            _ => "AverageValue",
        };
        new.set(&["target", "type"], target_kind.into());
    }
    json!({"type": kind, field: new.body})
}

/// Changes the first letter of every field name.
fn recase(value: Value, case: fn(&char) -> char) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(key, value)| {
                let mut letters = key.chars();
                let name: String = letters.next().iter().map(case).chain(letters).collect();
                (name, recase(value, case))
            })
            .collect::<Tree>()
            .into(),
        Value::Array(list) => list.into_iter().map(|v| recase(v, case)).collect(),
        other => other,
    }
}
