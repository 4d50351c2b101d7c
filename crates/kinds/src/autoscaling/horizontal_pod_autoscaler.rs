//! HorizontalPodAutoscaler.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, NONE, UNKNOWN, UNSET, age, int_at, list, str_in, text};
use crate::standard::Standard;

static AUTOSCALER: Standard = Standard {
    rules: rules::autoscaling::horizontal_pod_autoscaler::RULES,
    status: true,
    columns: &[NAME, text("Reference"), text("Targets"), text("MinPods"), text("MaxPods"), text("Replicas"), AGE],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", AUTOSCALER.main())
        .versions(&["v2", "v1"], rules::autoscaling::convert::convert)
        .short(&["hpa"])
        .categories(&["all"])
        .status(AUTOSCALER.status())
}

fn cells(autoscaler: &Object, now: i64) -> Vec<Value> {
    let target = |field: &str| autoscaler.get_str(&["spec", "scaleTargetRef", field]);
    let least = autoscaler.get_i64(&["spec", "minReplicas"]).map_or(UNSET.to_owned(), |n| n.to_string());
    vec![
        autoscaler.name().into(),
        format!("{}/{}", target("kind"), target("name")).into(),
        metrics(autoscaler).into(),
        least.into(),
        int_at(autoscaler, &["spec", "maxReplicas"]).into(),
        int_at(autoscaler, &["status", "currentReplicas"]).into(),
        age(autoscaler, now).into(),
    ]
}

/// How many metrics a row shows.
const SHOWN: usize = 2;

fn metrics(autoscaler: &Object) -> String {
    let specs = list(autoscaler, &["spec", "metrics"]);
    if specs.is_empty() {
        return NONE.to_owned();
    }
    let statuses = list(autoscaler, &["status", "currentMetrics"]);
    let all: Vec<String> = specs.iter().enumerate().map(|(i, spec)| metric(spec, statuses.get(i))).collect();
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN { format!("{shown} + {} more...", all.len() - SHOWN) } else { shown }
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let field = match str_in(spec, "type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let target = |name: &str| spec.get(field)?.get("target")?.get(name).filter(|v| !v.is_null());
    let current = |name: &str| status?.get(field)?.get("current")?.get(name).filter(|v| !v.is_null());
    let show = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => UNKNOWN.to_owned(),
    };
    let resource = matches!(field, "resource" | "containerResource");
    let name = spec.get(field).map_or("", |source| str_in(source, "name"));
    if target("averageValue").is_some() {
        let pair = format!("{}/{}", show(current("averageValue")), show(target("averageValue")));
        return match field {
            "pods" => pair,
            _ if resource => format!("{name}: {pair}"),
            _ => format!("{pair} (avg)"),
        };
    }
    if resource {
        let percent = |value: Option<&Value>, absent: &str| value.map_or(absent.to_owned(), |v| format!("{v}%"));
        let now = percent(current("averageUtilization"), UNKNOWN);
        return format!("{name}: {now}/{}", percent(target("averageUtilization"), "<auto>"));
    }
    format!("{}/{}", show(current("value")), show(target("value")))
}
