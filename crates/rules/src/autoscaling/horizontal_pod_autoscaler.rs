//! HorizontalPodAutoscaler (v2; v1 is converted).

use serde_json::json;

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, validate_status: status, ..Rules::NONE };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_value("minReplicas", 1);
    if spec.unset("metrics") {
        let cpu = json!([{"type": "Resource", "resource":
            {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        spec.insert("metrics".into(), cpu);
    }
    if let Some(behavior) = spec.child("behavior") {
        let up = behavior.make("scaleUp");
        up.default_value("selectPolicy", "Max");
        up.default_value("stabilizationWindowSeconds", 0);
        up.default_value(
            "policies",
            json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
        let down = behavior.make("scaleDown");
        down.default_value("selectPolicy", "Max");
        down.default_value("policies", json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
    }
}

fn validate(autoscaler: &C) {
    let spec = autoscaler.get("spec");
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    if least.exists() && least.int() < 1 {
        least.invalid("must be greater than or equal to 1");
    }
    if most.int() == 0 {
        most.missing("must be set and greater than 0");
    } else if most.int() < 0 {
        most.invalid("must be greater than or equal to 1");
    }
    if least.exists() && most.int() < least.int() {
        most.invalid_value(most.int(), "must be greater than or equal to `minReplicas`");
    }
    let target = spec.get("scaleTargetRef");
    for field in ["kind", "name"] {
        let value = target.get(field);
        if value.required() {
            value.check(meta::names::path_segment);
        }
    }
    let version = target.get("apiVersion");
    match version.str().split('/').collect::<Vec<_>>()[..] {
        [_, _] => {}
        [only] if only.is_empty() || target.get("kind").str() != "ReplicationController" || only != "v1" => {
            version.invalid_value(version.str(), "apiVersion must specify API group");
        }
        [_] => {}
        _ => version.invalid(format!("unexpected GroupVersion string: {}", version.str())),
    }
    for metric in spec.get("metrics").items() {
        self::metric(&metric);
    }
    for direction in ["scaleUp", "scaleDown"] {
        let behavior = spec.get("behavior");
        let rules = behavior.get(direction);
        if rules.exists() {
            scaling_rules(&rules);
        }
    }
}

/// The types of metrics with the field of each and what its target may be.
const METRICS: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

fn metric(metric: &C) {
    let kind = metric.get("type");
    if kind.is_zero() {
        kind.missing("must specify a metric source type");
    }
    kind.one_of(&METRICS.map(|(kind, _)| kind));
    let expected = METRICS.iter().find(|(name, _)| *name == kind.str()).map(|(_, field)| *field);
    // Of several sources only the first is looked into.
    let mut first = true;
    for field in ["object", "external", "pods", "resource", "containerResource"] {
        let source = metric.get(field);
        if source.exists() && std::mem::take(&mut first) {
            self::source(&source, field);
        }
        if Some(field) == expected && !source.exists() {
            source.missing("must populate information for the given metric source");
        } else if source.exists() && Some(field) != expected {
            source.forbidden("must populate the given metric source only");
        }
    }
}

fn source(source: &C, field: &str) {
    let resource = matches!(field, "resource" | "containerResource");
    if resource {
        if source.get("name").is_zero() {
            source.get("name").missing("must specify a resource name");
        }
    } else {
        let name = source.get("metric.name");
        if name.is_zero() {
            name.missing("must specify a metric name");
        }
    }
    let target = source.get("target");
    if target.get("type").is_zero() {
        target.get("type").missing("must specify a metric target type");
    }
    if !matches!(target.get("type").str(), "AverageValue" | "Utilization" | "Value") {
        target
            .get("type")
            .invalid_value(target.get("type").str(), "must be either Utilization, Value, or AverageValue");
    }
    let (utilization, value, average) =
        (target.get("averageUtilization"), target.get("value"), target.get("averageValue"));
    for quantity in [&value, &average] {
        if quantity.value().and_then(crate::resources::quantity).is_some_and(|q| q.sign() <= 0) {
            quantity.invalid("must be positive");
        }
    }
    if utilization.exists() && utilization.int() < 1 {
        utilization.invalid("must be greater than 0");
    }
    if resource {
        match (utilization.exists(), average.exists()) {
            (false, false) => utilization.missing("must set either a target raw value or a target utilization"),
            (true, true) => average.forbidden("may not set both a target raw value and a target utilization"),
            _ => {}
        }
    } else if field == "pods" {
        if !average.exists() {
            average.missing("must specify a positive target averageValue");
        }
    } else if !value.exists() && !average.exists() {
        average.missing("must set either a target value or averageValue");
    }
}

fn scaling_rules(rules: &C) {
    const HOUR: i64 = 3600;
    const HALF_HOUR: i64 = 1800;
    let window = rules.get("stabilizationWindowSeconds");
    if window.int() < 0 {
        window.invalid("must be greater than or equal to zero");
    }
    if window.int() > HOUR {
        window.invalid(format!("must be less than or equal to {HOUR}"));
    }
    rules.get("selectPolicy").optional_one_of(&["Disabled", "Max", "Min"]);
    let policies = rules.get("policies");
    if policies.is_empty() {
        policies.missing("must specify at least one Policy");
    }
    for policy in policies.items() {
        policy.get("type").one_of(&["Percent", "Pods"]);
        for field in ["value", "periodSeconds"] {
            let number = policy.get(field);
            if number.int() <= 0 {
                number.invalid_value(number.int(), "must be greater than zero");
            }
        }
        let period = policy.get("periodSeconds");
        if period.int() > HALF_HOUR {
            period.invalid(format!("must be less than or equal to {HALF_HOUR}"));
        }
    }
}

fn status(new: &C, _old: &C) {
    for counter in ["currentReplicas", "desiredReplicas"] {
        let status = new.get("status");
        status.get(counter).non_negative();
    }
}
