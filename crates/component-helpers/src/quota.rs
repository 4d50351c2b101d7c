//! Quota: what an object uses, and which quotas count it. Works on JSON trees, for admission and the quota controller alike.

use std::collections::{BTreeMap, BTreeSet};

use meta::quantity::{Format, Quantity};
use meta::selector::{LabelSelector, Operator, Requirement};
use meta::{Object, time};
use serde_json::Value;

/// Quantities by resource name.
pub type Usage = BTreeMap<String, Quantity>;

const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
const COMPUTE: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const POD_NAMES: [&str; 11] = [
    "count/pods",
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// How objects of one resource are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evaluator {
    /// Pods: number and compute resources.
    Pods,
    /// Services: number, load balancers, node ports.
    Services,
    /// Claims: number and storage, also by class.
    Claims,
    /// Everything else: the names under which one object counts one.
    Count(Vec<String>),
}

fn one() -> Quantity {
    Quantity::from_units(1, Format::DecimalSi)
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(value, |v, step| v.get(*step)).and_then(Value::as_str).unwrap_or("")
}

/// A quantity as JSON has it: text, or a bare number.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// A resource list; entries that are no quantities are left out.
pub fn resources(value: Option<&Value>) -> Usage {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

/// Adds quantities.
pub fn add(total: &mut Usage, other: &Usage) {
    for (name, quantity) in other {
        let sum = total.entry(name.clone()).or_default();
        *sum = sum.plus(*quantity);
    }
}

fn raise(total: &mut Usage, other: &Usage) {
    for (name, quantity) in other {
        let most = total.entry(name.clone()).or_insert(*quantity);
        if *most < *quantity {
            *most = *quantity;
        }
    }
}

fn own(holder: &Value, field: &str) -> Usage {
    resources(holder.get("resources").and_then(|r| r.get(field)))
}

fn at_pod_level(name: &str) -> bool {
    name == "cpu" || name == "memory" || name.starts_with("hugepages-")
}

fn total(spec: &Value, field: &str) -> Usage {
    let mut sum = Usage::new();
    for container in items(spec, "containers") {
        add(&mut sum, &own(container, field));
    }
    let (mut sidecars, mut peak) = (Usage::new(), Usage::new());
    for container in items(spec, "initContainers") {
        let mut need = own(container, field);
        if text(container, &["restartPolicy"]) == "Always" {
            add(&mut sum, &need);
            add(&mut sidecars, &need);
            need.clone_from(&sidecars);
        } else {
            add(&mut need, &sidecars);
        }
        raise(&mut peak, &need);
    }
    raise(&mut sum, &peak);
    sum.extend(own(spec, field).into_iter().filter(|(name, _)| at_pod_level(name)));
    sum
}

/// What a pod (its `spec`) requests; `overhead` says whether the runtime's overhead counts.
pub fn requests(spec: &Value, overhead: bool) -> Usage {
    let mut sum = total(spec, "requests");
    if overhead {
        add(&mut sum, &resources(spec.get("overhead")));
    }
    sum
}

/// What a pod (its `spec`) is limited to; overhead is added where there is a limit.
pub fn limits(spec: &Value, overhead: bool) -> Usage {
    let mut sum = total(spec, "limits");
    if overhead {
        for (name, quantity) in resources(spec.get("overhead")) {
            if let Some(limit) = sum.get_mut(&name) {
                *limit = limit.plus(quantity);
            }
        }
    }
    sum
}

/// Resources that quota never counts.
pub fn is_ignored(group: &str, resource: &str) -> bool {
    match group {
        "" => matches!(resource, "bindings" | "componentstatuses" | "events"),
        "events.k8s.io" => resource == "events",
        "authentication.k8s.io" | "authorization.k8s.io" => true,
        _ => false,
    }
}

fn is_extended_request(name: &str) -> bool {
    let Some(resource) = name.strip_prefix("requests.") else { return false };
    let native = !resource.contains('/') || resource.contains("kubernetes.io/");
    !native || resource.starts_with("deviceclass.resource.kubernetes.io/")
}

fn spec_of(object: &Object) -> &Value {
    const NONE: &Value = &Value::Null;
    object.body.get("spec").unwrap_or(NONE)
}

impl Evaluator {
    /// The evaluator of a resource.
    pub fn of(group: &str, resource: &str) -> Self {
        let count = if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") };
        match (group, resource) {
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::Claims,
            ("", "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets") => {
                Self::Count(vec![count, resource.to_owned()])
            }
            _ => Self::Count(vec![count]),
        }
    }

    /// Those of the names in a quota that this evaluator has to do with.
    pub fn matching(&self, hard: &Usage) -> BTreeSet<String> {
        hard.keys().filter(|name| self.is_mine(name)).cloned().collect()
    }

    fn is_mine(&self, name: &str) -> bool {
        match self {
            Self::Pods => {
                POD_NAMES.contains(&name)
                    || name.starts_with("hugepages-")
                    || name.starts_with("requests.hugepages-")
                    || is_extended_request(name)
            }
            Self::Services => {
                matches!(name, "count/services" | "services" | "services.nodeports" | "services.loadbalancers")
            }
            Self::Claims => {
                let plain = name.split_once(CLASS_SUFFIX).map_or(name, |(_, rest)| rest);
                matches!(plain, "persistentvolumeclaims" | "requests.storage") || name == "count/persistentvolumeclaims"
            }
            Self::Count(names) => names.iter().any(|n| n == name),
        }
    }

    /// What one object uses. `now` (seconds since 1970) ends the usage of pods that should be gone.
    pub fn usage(&self, object: &Object, now: i64) -> Usage {
        match self {
            Self::Pods => pod_usage(object, now),
            Self::Services => service_usage(spec_of(object)),
            Self::Claims => claim_usage(object),
            Self::Count(names) => names.iter().map(|name| (name.clone(), one())).collect(),
        }
    }

    /// Whether a quota (by `status.hard` and its scopes) counts an object.
    pub fn matches(&self, quota: &Object, object: &Object) -> bool {
        !self.matching(&resources(quota.get(&["status", "hard"]))).is_empty() && self.in_scope(quota, object)
    }

    /// Whether an object is in all scopes of a quota.
    pub fn in_scope(&self, quota: &Object, object: &Object) -> bool {
        let spec = spec_of(quota);
        let plain =
            items(spec, "scopes").filter_map(Value::as_str).all(|scope| self.is_in(scope, "Exists", &[], object));
        let selected = spec.get("scopeSelector").into_iter().flat_map(|s| items(s, "matchExpressions")).all(|e| {
            let values: Vec<String> = items(e, "values").filter_map(Value::as_str).map(str::to_owned).collect();
            self.is_in(text(e, &["scopeName"]), text(e, &["operator"]), &values, object)
        });
        plain && selected
    }

    fn is_in(&self, scope: &str, operator: &str, values: &[String], object: &Object) -> bool {
        let spec = spec_of(object);
        match (self, scope) {
            (Self::Pods, "Terminating") => is_terminating(spec),
            (Self::Pods, "NotTerminating") => !is_terminating(spec),
            (Self::Pods, "BestEffort") => is_best_effort(spec),
            (Self::Pods, "NotBestEffort") => !is_best_effort(spec),
            (Self::Pods, "PriorityClass") => named(text(spec, &["priorityClassName"]), operator, values),
            (Self::Pods, "CrossNamespacePodAffinity") => crosses_namespaces(spec),
            (Self::Claims, "VolumeAttributesClass") => {
                let classes = [
                    text(spec, &["volumeAttributesClassName"]),
                    object.get_str(&["status", "currentVolumeAttributesClassName"]),
                    object.get_str(&["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"]),
                ];
                let set: Vec<&str> = classes.into_iter().filter(|c| !c.is_empty()).collect();
                if set.is_empty() {
                    named("", operator, values)
                } else {
                    set.iter().any(|c| named(c, operator, values))
                }
            }
            _ => false,
        }
    }

    /// What the containers of a pod must name, as a quota on it demands.
    ///
    /// # Errors
    /// `must specify cpu for: a,b; memory for: c`.
    pub fn constraints(&self, required: &BTreeSet<String>, object: &Object) -> Result<(), String> {
        let spec = spec_of(object);
        let pod_level = spec.get("resources").is_some_and(|r| {
            ["requests", "limits"].iter().any(|f| resources(r.get(*f)).keys().any(|name| at_pod_level(name)))
        });
        if *self != Self::Pods || pod_level {
            return Ok(());
        }
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for container in items(spec, "containers").chain(items(spec, "initContainers")) {
            let has = compute_usage(&own(container, "requests"), &own(container, "limits"));
            for name in COMPUTE.iter().filter(|name| required.contains(**name) && !has.contains_key(**name)) {
                missing.entry(name).or_default().insert(text(container, &["name"]));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let parts: Vec<String> = missing
            .into_iter()
            .map(|(name, containers)| format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(",")))
            .collect();
        Err(format!("must specify {}", parts.join("; ")))
    }
}

/// A label-selector-like test of a name; the empty name is "not set".
fn named(name: &str, operator: &str, values: &[String]) -> bool {
    let operator = match operator {
        "Exists" => return !name.is_empty(),
        "DoesNotExist" => Operator::DoesNotExist,
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        _ => return false,
    };
    let Ok(requirement) = Requirement::new("name", operator, values.to_vec()) else { return false };
    let selector = LabelSelector { requirements: vec![requirement], nothing: false };
    selector.matches_with(|_| (!name.is_empty()).then_some(name))
}

fn is_terminating(spec: &Value) -> bool {
    spec.get("activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(spec: &Value) -> bool {
    let containers = items(spec, "containers").chain(items(spec, "initContainers"));
    !containers.chain([spec]).any(|holder| {
        ["requests", "limits"]
            .iter()
            .any(|field| own(holder, field).iter().any(|(name, q)| (name == "cpu" || name == "memory") && q.sign() > 0))
    })
}

fn crosses_namespaces(spec: &Value) -> bool {
    let Some(affinity) = spec.get("affinity") else { return false };
    let crosses = |term: &Value| {
        items(term, "namespaces").next().is_some() || term.get("namespaceSelector").is_some_and(|s| !s.is_null())
    };
    ["podAffinity", "podAntiAffinity"].iter().filter_map(|kind| affinity.get(*kind)).any(|rules| {
        items(rules, "requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || items(rules, "preferredDuringSchedulingIgnoredDuringExecution")
                .any(|weighted| weighted.get("podAffinityTerm").is_some_and(crosses))
    })
}

fn compute_usage(requests: &Usage, limits: &Usage) -> Usage {
    let mut usage = Usage::from([("pods".to_owned(), one())]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(request) = requests.get(name) {
            usage.insert(name.to_owned(), *request);
            usage.insert(format!("requests.{name}"), *request);
        }
        if let Some(limit) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *limit);
        }
    }
    for (name, request) in requests {
        let masked = format!("requests.{name}");
        if name.starts_with("hugepages-") {
            usage.insert(name.clone(), *request);
            usage.insert(masked, *request);
        } else if is_extended_request(&masked) {
            usage.insert(masked, *request);
        }
    }
    usage
}

fn pod_usage(pod: &Object, now: i64) -> Usage {
    let mut usage = Usage::from([("count/pods".to_owned(), one())]);
    let ended = matches!(pod.get_str(&["status", "phase"]), "Failed" | "Succeeded");
    let deleted = pod.deletion_timestamp().and_then(|t| time::parse(t).ok()).map(|t| t.as_second());
    let overdue = deleted.zip(pod.deletion_grace_period_seconds()).is_some_and(|(at, grace)| now > at + grace);
    if !ended && !overdue {
        let spec = spec_of(pod);
        add(&mut usage, &compute_usage(&requests(spec, true), &limits(spec, true)));
    }
    usage
}

fn service_usage(spec: &Value) -> Usage {
    let count = |n: usize| Quantity::from_units(i64::try_from(n).unwrap_or(i64::MAX), Format::DecimalSi);
    let ports = items(spec, "ports").count();
    let (node_ports, balancers) = match text(spec, &["type"]) {
        "NodePort" => (ports, 0),
        "LoadBalancer" if spec.get("allocateLoadBalancerNodePorts") == Some(&Value::Bool(false)) => {
            let set = |p: &&Value| p.get("nodePort").and_then(Value::as_i64).is_some_and(|n| n != 0);
            (items(spec, "ports").filter(set).count(), 1)
        }
        "LoadBalancer" => (ports, 1),
        _ => (0, 0),
    };
    Usage::from([
        ("count/services".to_owned(), one()),
        ("services".to_owned(), one()),
        ("services.nodeports".to_owned(), count(node_ports)),
        ("services.loadbalancers".to_owned(), count(balancers)),
    ])
}

fn claim_usage(claim: &Object) -> Usage {
    let mut usage =
        Usage::from([("persistentvolumeclaims".to_owned(), one()), ("count/persistentvolumeclaims".to_owned(), one())]);
    let class = claim.annotation("volume.beta.kubernetes.io/storage-class");
    let class = class.unwrap_or_else(|| claim.get_str(&["spec", "storageClassName"]));
    let asked = resources(claim.get(&["spec", "resources", "requests"])).get("storage").copied();
    let allocated = resources(claim.get(&["status", "allocatedResources"])).get("storage").copied();
    let storage = asked.map(|asked| allocated.filter(|a| *a > asked).unwrap_or(asked));
    if !class.is_empty() {
        usage.insert(format!("{class}{CLASS_SUFFIX}persistentvolumeclaims"), one());
    }
    if let Some(storage) = storage {
        usage.insert("requests.storage".to_owned(), storage);
        if !class.is_empty() {
            usage.insert(format!("{class}{CLASS_SUFFIX}requests.storage"), storage);
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_are_counted() {
        let pod = Object::from_value(json!({"spec": {"priorityClassName": "high", "containers": [
            {"name": "a", "resources": {"requests": {"cpu": "100m", "example.com/gpu": "2"}, "limits": {"memory": "1Gi"}}}]}}))
        .unwrap();
        let usage = Evaluator::Pods.usage(&pod, 0);
        assert_eq!(usage["requests.cpu"].to_string(), "100m");
        assert_eq!(usage["requests.example.com/gpu"].to_string(), "2");
        assert_eq!(usage["limits.memory"].to_string(), "1Gi");
        let quota = |scope: Value| {
            Object::from_value(
                json!({"spec": {"scopeSelector": {"matchExpressions": [scope]}}, "status": {"hard": {"pods": "1"}}}),
            )
            .unwrap()
        };
        let high = quota(json!({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}));
        let low = quota(json!({"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}));
        assert!(Evaluator::Pods.matches(&high, &pod));
        assert!(!Evaluator::Pods.matches(&low, &pod));
        let required = ["cpu", "limits.cpu"].map(str::to_owned).into();
        assert_eq!(Evaluator::Pods.constraints(&required, &pod).unwrap_err(), "must specify limits.cpu for: a");
    }

    #[test]
    fn names_are_sorted_out() {
        for (group, resource, name, mine) in [
            ("", "pods", "requests.example.com/gpu", true),
            ("", "pods", "requests.storage", false),
            ("", "services", "services.nodeports", true),
            ("", "persistentvolumeclaims", "gold.storageclass.storage.k8s.io/requests.storage", true),
            ("", "configmaps", "configmaps", true),
            ("apps", "deployments", "count/deployments.apps", true),
            ("apps", "deployments", "count/deployments", false),
        ] {
            assert_eq!(Evaluator::of(group, resource).is_mine(name), mine, "{resource} {name}");
        }
    }
}
