//! Defaults of `spec.resources`, the resources of the pod as a whole.

use std::collections::BTreeMap;

use meta::quantity::Quantity;
use serde_json::Value;

use crate::resources::quantity;
use crate::{Defaults, Tree};

type List = BTreeMap<String, Quantity>;

/// Fills pod-level huge page limits and requests, when the pod has some pod-level resources.
///
/// Must run after container requests have been taken from their limits.
pub fn default(spec: &mut Tree) {
    let Some(resources) = spec.get("resources").and_then(Value::as_object) else { return };
    let limits = read(resources.get("limits"));
    let requests = read(resources.get("requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let mut new_limits = limits.clone();
    for (name, value) in aggregate(spec, "limits") {
        if name.starts_with("hugepages-") && !requests.contains_key(&name) {
            new_limits.entry(name).or_insert(value);
        }
    }
    let mut new_requests = requests.clone();
    if !new_limits.is_empty() {
        for (name, value) in aggregate(spec, "requests") {
            if is_pod_level(&name) && !name.starts_with("hugepages-") {
                new_requests.entry(name).or_insert(value);
            }
        }
        for (name, value) in &new_limits {
            if is_pod_level(name) {
                new_requests.entry(name.clone()).or_insert(*value);
            }
        }
    }
    let resources = spec.make("resources");
    write(resources, "limits", new_limits);
    write(resources, "requests", new_requests);
}

/// Whether a resource may be set for the pod as a whole.
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn read(list: Option<&Value>) -> List {
    let entries = list.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

fn write(resources: &mut Tree, field: &str, list: List) {
    if !list.is_empty() {
        let list: Tree = list.into_iter().map(|(name, value)| (name, value.to_string().into())).collect();
        resources.insert(field.to_owned(), Value::Object(list));
    }
}

/// Sum over containers and sidecars, or what the heaviest moment of initialisation needs, whichever is more.
fn aggregate(spec: &Tree, field: &str) -> List {
    let containers = |list: &str| spec.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let of = |container: &Value| read(container.get("resources").and_then(|r| r.get(field)));
    let mut total = List::new();
    for container in containers("containers") {
        add(&mut total, of(container));
    }
    let (mut sidecars, mut peak) = (List::new(), List::new());
    for container in containers("initContainers") {
        let mut needed = of(container);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut total, needed.clone());
            add(&mut sidecars, needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, sidecars.clone());
        }
        raise(&mut peak, needed);
    }
    raise(&mut total, peak);
    total
}

fn add(to: &mut List, from: List) {
    for (name, value) in from {
        let sum = to.get(&name).map_or(value, |old| old.plus(value));
        to.insert(name, sum);
    }
}

fn raise(to: &mut List, from: List) {
    for (name, value) in from {
        let most = to.get(&name).map_or(value, |old| if *old < value { value } else { *old });
        to.insert(name, most);
    }
}
