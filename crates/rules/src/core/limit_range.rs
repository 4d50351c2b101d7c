//! LimitRange.

use serde_json::Value;

use crate::resources::{quantity, round_up_milli};
use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, ..Rules::NONE };

/// Of container limits, `default` follows `max`, and `defaultRequest` follows `default`, then `min`.
fn default(body: &mut Tree) {
    let Some(spec) = body.child("spec") else { return };
    for item in spec.each("limits") {
        if item.text("type") == "Container" {
            for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
                fill(item, from, to);
            }
        }
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            round_up_milli(item.child(list));
        }
    }
}

fn fill(item: &mut Tree, from: &str, to: &str) {
    let source = item.get(from).and_then(Value::as_object).cloned();
    for (name, value) in source.into_iter().flatten() {
        item.make(to).entry(name).or_insert(value);
    }
}

fn validate(range: &C) {
    let mut types: Vec<&str> = Vec::new();
    for item in range.get("spec.limits").items() {
        let kind = item.get("type");
        if kind.check(meta::names::qualified_name)
            && !kind.str().contains('/')
            && !matches!(kind.str(), "Pod" | "Container" | "PersistentVolumeClaim")
        {
            kind.invalid("must be a standard limit type or fully qualified");
        }
        if types.contains(&kind.str()) {
            kind.duplicate();
        }
        types.push(kind.str());
        if kind.str() == "Pod" {
            for list in ["default", "defaultRequest"] {
                if !item.get(list).is_empty() {
                    item.get(list).forbidden("may not be specified when `type` is 'Pod'");
                }
            }
        }
        if kind.str() == "PersistentVolumeClaim"
            && !item.get("min").key("storage").exists()
            && !item.get("max").key("storage").exists()
        {
            item.get("limits").missing("either minimum or maximum storage value is required, but neither was provided");
        }
        bounds(&item);
    }
}

/// Each list within the others, resource by resource.
fn bounds(item: &C) {
    let of = |list: &str, name: &str| item.get(list).key(name).value().and_then(quantity);
    let mut names: Vec<&str> = Vec::new();
    for list in ["min", "max", "default", "defaultRequest", "maxLimitRequestRatio"] {
        for (name, value) in item.get(list).entries() {
            if !name.contains('/') && !super::pod_spec::standard_resource_name(name) {
                value.invalid_value(name, "must be a standard resource type or fully qualified");
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    const PAIRS: [(&str, &str, &str, &str, &str); 6] = [
        ("min", "max", "min", "min value", "max value"),
        ("min", "defaultRequest", "defaultRequest", "min value", "default request value"),
        ("defaultRequest", "max", "defaultRequest", "default request value", "max value"),
        ("defaultRequest", "default", "defaultRequest", "default request value", "default limit value"),
        ("min", "default", "default", "min value", "default value"),
        ("default", "max", "default", "default value", "max value"),
    ];
    for name in names {
        for (low, high, at, low_word, high_word) in PAIRS {
            if let (Some(low), Some(high)) = (of(low, name), of(high, name))
                && low > high
            {
                let list = item.get(at);
                list.key(name).invalid(format!("{low_word} {low} is greater than {high_word} {high}"));
            }
        }
        if let Some(ratio) = of("maxLimitRequestRatio", name)
            && ratio < meta::quantity::Quantity::from_millis(1000)
        {
            let list = item.get("maxLimitRequestRatio");
            list.key(name).invalid(format!("ratio {ratio} is less than 1"));
        }
    }
}
