//! LimitRanger: fills in a namespace's default requests and limits, and holds pods and claims to its bounds.

use std::sync::Arc;

use async_trait::async_trait;
use meta::quantity::Quantity;
use meta::{Object, Status};
use registry::Operation;
use serde_json::{Value, json};

use crate::plugin::{Plugin, Request, core};
use crate::pod::{self, Resources, items, resources, text};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The plugin.
pub struct LimitRanger;

async fn limit_ranges(request: &Request<'_>) -> Result<Vec<Arc<Object>>, Status> {
    request.deps.api.list(&core("limitranges"), request.namespace).await
}

/// The limits of a range as `(type, limit)`.
fn limits(range: &Object) -> Vec<(&str, &Value)> {
    items(pod::spec(range), "limits").map(|limit| (text(limit, &["type"]), limit)).collect()
}

/// Fills defaults into one container; gives the annotation's words.
fn fill(container: &mut serde_json::Map<String, Value>, defaults: &[(&str, &Value)], what: &str) -> Vec<String> {
    let name = container.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
    let mut words = Vec::new();
    for (field, source, word) in [("requests", "defaultRequest", "request"), ("limits", "default", "limit")] {
        let mut set = Vec::new();
        let wanted = defaults.iter().filter_map(|(_, limit)| limit.get(source)?.as_object()).flatten();
        for (resource, quantity) in wanted {
            let Some(holder) = container.entry("resources").or_insert_with(|| json!({})).as_object_mut() else {
                continue;
            };
            let Some(list) = holder.entry(field).or_insert_with(|| json!({})).as_object_mut() else { continue };
            if !list.contains_key(resource) {
                list.insert(resource.clone(), quantity.clone());
                set.push(resource.clone());
            }
        }
        if !set.is_empty() {
            set.sort();
            words.push(format!("{} {word} for {what} {name}", set.join(", ")));
        }
    }
    words
}

fn set_defaults(range: &Object, pod: &mut Object) {
    let defaults: Vec<(&str, &Value)> = limits(range).into_iter().filter(|(kind, _)| *kind == "Container").collect();
    if defaults.is_empty() {
        return;
    }
    let mut words = Vec::new();
    for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
        pod::each_container(pod, &[field], |container| words.extend(fill(container, &defaults, what)));
    }
    if !words.is_empty() {
        pod.set_annotation(ANNOTATION, &format!("LimitRanger plugin set: {}", words.join("; ")));
    }
}

/// What is asked for, and in whose name.
struct Asked<'a> {
    kind: &'a str,
    requests: &'a Resources,
    limits: &'a Resources,
}

impl Asked<'_> {
    fn min(&self, name: &str, bound: Quantity) -> Result<(), String> {
        let start = format!("minimum {name} usage per {} is {bound}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Err(format!("{start}.  No request is specified")),
            (Some(request), _) if *request < bound => Err(format!("{start}, but request is {request}")),
            (_, Some(limit)) if *limit < bound => Err(format!("{start}, but limit is {limit}")),
            _ => Ok(()),
        }
    }

    fn max(&self, name: &str, bound: Quantity) -> Result<(), String> {
        let start = format!("maximum {name} usage per {} is {bound}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Err(format!("{start}.  No limit is specified")),
            (_, Some(limit)) if *limit > bound => Err(format!("{start}, but limit is {limit}")),
            (Some(request), _) if *request > bound => Err(format!("{start}, but request is {request}")),
            _ => Ok(()),
        }
    }

    fn max_request(&self, name: &str, bound: Quantity) -> Result<(), String> {
        let start = format!("maximum {name} usage per {} is {bound}", self.kind);
        match self.requests.get(name) {
            None => Err(format!("{start}.  No request is specified")),
            Some(request) if *request > bound => Err(format!("{start}, but request is {request}")),
            Some(_) => Ok(()),
        }
    }

    fn ratio(&self, name: &str, bound: Quantity) -> Result<(), String> {
        let start = format!("{name} max limit to request ratio per {} is {bound}", self.kind);
        let Some(request) = self.requests.get(name).filter(|q| !q.is_zero()) else {
            return Err(format!("{start}, but no request is specified or request is 0"));
        };
        let Some(limit) = self.limits.get(name).filter(|q| !q.is_zero()) else {
            return Err(format!("{start}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.milli_value() as f64 / request.milli_value() as f64;
        if ratio * 1000.0 > bound.milli_value() as f64 {
            return Err(format!("{start}, but provided ratio is {ratio:.6}"));
        }
        Ok(())
    }

    fn check(&self, limit: &Value) -> Vec<String> {
        let each = |field: &str, test: &dyn Fn(&str, Quantity) -> Result<(), String>| -> Vec<String> {
            resources(limit.get(field)).iter().filter_map(|(name, bound)| test(name, *bound).err()).collect()
        };
        let mut errors = each("min", &|name, bound| self.min(name, bound));
        errors.extend(each("max", &|name, bound| self.max(name, bound)));
        errors.extend(each("maxLimitRequestRatio", &|name, bound| self.ratio(name, bound)));
        errors
    }
}

fn check_pod(range: &Object, object: &Object) -> Vec<String> {
    let spec = pod::spec(object);
    let mut errors = Vec::new();
    for (kind, limit) in limits(range) {
        match kind {
            "Container" => {
                for (_, container) in pod::containers(spec, &["containers", "initContainers"]) {
                    let own = |field: &str| resources(container.get("resources").and_then(|r| r.get(field)));
                    let asked = Asked { kind, requests: &own("requests"), limits: &own("limits") };
                    errors.extend(asked.check(limit));
                }
            }
            "Pod" => {
                let (requests, limits) = (pod::requests(spec, false), pod::limits(spec, false));
                errors.extend(Asked { kind, requests: &requests, limits: &limits }.check(limit));
            }
            _ => {}
        }
    }
    errors
}

fn check_claim(range: &Object, claim: &Object) -> Vec<String> {
    let requests = resources(claim.get(&["spec", "resources", "requests"]));
    let mut errors = Vec::new();
    for (kind, limit) in limits(range).into_iter().filter(|(kind, _)| *kind == "PersistentVolumeClaim") {
        let asked = Asked { kind, requests: &requests, limits: &Resources::new() };
        let bounds = |field: &str| resources(limit.get(field));
        errors.extend(bounds("min").iter().filter_map(|(name, bound)| asked.min(name, *bound).err()));
        errors.extend(bounds("max").iter().filter_map(|(name, bound)| asked.max_request(name, *bound).err()));
    }
    errors
}

/// Several errors in brackets, one bare, each once: Go's aggregate.
pub(crate) fn aggregate(mut errors: Vec<String>) -> Option<String> {
    let mut seen: Vec<String> = Vec::new();
    errors.retain(|error| {
        !seen.contains(error) && {
            seen.push(error.clone());
            true
        }
    });
    match errors.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn handles(&self, request: &Request<'_>) -> bool {
        let claim = matches!(request.operation, Operation::Create | Operation::Update)
            && request.is("", "persistentvolumeclaims");
        let resize =
            request.operation == Operation::Update && request.is_any_of("", "pods") && request.subresource == "resize";
        let live = request.old.is_none_or(|old| old.deletion_timestamp().is_none());
        live && (request.creates_pod() || claim || resize)
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(object) = object.filter(|_| request.is_any_of("", "pods")) else { return Ok(()) };
        for range in limit_ranges(request).await? {
            set_defaults(&range, object);
        }
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        for range in limit_ranges(request).await? {
            let errors = match request.resource.resource.as_str() {
                "pods" => check_pod(&range, object),
                _ => check_claim(&range, object),
            };
            if let Some(cause) = aggregate(errors) {
                return Err(request.forbidden(Some(object), cause));
            }
        }
        Ok(())
    }
}
