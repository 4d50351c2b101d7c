//! Predicates on the JSON tree of a pod, for the API server's strategies.

use meta::quantity::Quantity;
use serde_json::Value;

/// The quality of service class of a pod spec: `Guaranteed`, `Burstable` or `BestEffort`.
///
/// Only CPU and memory count, and resources of the pod as a whole, where given, stand for those of its containers.
pub fn qos_class(spec: &Value) -> &'static str {
    let whole = spec.get("resources").filter(|r| has_any(r));
    let holders: Vec<&Value> = match whole {
        Some(resources) => vec![resources],
        None => ["containers", "initContainers"]
            .iter()
            .flat_map(|list| spec.get(list).and_then(Value::as_array).into_iter().flatten())
            .map(|container| container.get("resources").unwrap_or(&Value::Null))
            .collect(),
    };
    if !holders.iter().any(|r| has_any(r)) {
        return "BestEffort";
    }
    let guaranteed = holders.iter().all(|r| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = amount(r, "limits", name);
            limit.is_some() && amount(r, "requests", name).is_none_or(|request| Some(request) == limit)
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

fn has_any(resources: &Value) -> bool {
    ["requests", "limits"]
        .iter()
        .any(|list| ["cpu", "memory"].iter().any(|name| amount(resources, list, name).is_some()))
}

/// A quantity that is there and not zero.
fn amount(resources: &Value, list: &str, name: &str) -> Option<Quantity> {
    let value: Quantity = resources.get(list)?.get(name)?.as_str()?.parse().ok()?;
    (!value.is_zero()).then_some(value)
}
