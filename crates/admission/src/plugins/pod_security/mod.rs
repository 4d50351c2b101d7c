//! PodSecurity: a namespace's labels say which Pod Security Standard its pods must keep, and which to warn about.

mod checks;
mod level;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use meta::{Object, Status};
use registry::Operation;
use serde_json::Value;

use crate::plugin::{Plugin, Request, core};
use crate::pod::{self, items, text};
use checks::Violation;
use level::{Level, LevelVersion, Policy};

/// Pods of a namespace looked at when its level is raised.
const MAX_PODS: usize = 3000;

/// The plugin.
pub struct PodSecurity;

/// Resources with a pod template, and the way to it.
const TEMPLATES: [(&str, &str, &[&str]); 8] = [
    ("", "podtemplates", &["template"]),
    ("", "replicationcontrollers", &["spec", "template"]),
    ("apps", "replicasets", &["spec", "template"]),
    ("apps", "deployments", &["spec", "template"]),
    ("apps", "statefulsets", &["spec", "template"]),
    ("apps", "daemonsets", &["spec", "template"]),
    ("batch", "jobs", &["spec", "template"]),
    ("batch", "cronjobs", &["spec", "jobTemplate", "spec", "template"]),
];
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

fn detail(violations: &[Violation]) -> String {
    let parts: Vec<String> = violations
        .iter()
        .map(|v| if v.detail.is_empty() { v.reason.clone() } else { format!("{} ({})", v.reason, v.detail) })
        .collect();
    parts.join(", ")
}

fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|v| v.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// Whether an update brings a new image; nothing else of a pod's security can change.
fn is_significant(pod: &Object, old: &Object) -> bool {
    let images = |object: &Object, field: &str| -> Vec<(String, String)> {
        let all = items(pod::spec(object), field);
        all.map(|c| (text(c, &["name"]).to_owned(), text(c, &["image"]).to_owned())).collect()
    };
    let changed = |field: &str| {
        let (new, old) = (images(pod, field), images(old, field));
        new.len() != old.len() || new.iter().zip(&old).any(|(a, b)| a.1 != b.1)
    };
    let known = images(old, "ephemeralContainers");
    changed("containers")
        || changed("initContainers")
        || images(pod, "ephemeralContainers").iter().any(|container| !known.contains(container))
}

/// A namespace's warnings about its present pods when the level is raised to `enforce`.
fn warnings_for(namespace: &str, pods: &[std::sync::Arc<Object>], enforce: LevelVersion) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for pod in pods {
        let owner = pod.owner_references().into_iter().find(|o| o.controller == Some(true)).map(|o| o.uid);
        match owner {
            Some(uid) if !seen.insert(uid.clone()) => rest.push(pod),
            _ => first.push(pod),
        }
    }
    first.append(&mut rest);
    let total = first.len();
    first.truncate(MAX_PODS);
    let mut found: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for pod in &first {
        let violations = checks::evaluate(enforce, &pod.body, pod::spec(pod));
        if !violations.is_empty() {
            let entry = found.entry(reasons(&violations)).or_insert((pod.name(), 0));
            entry.0 = entry.0.min(pod.name());
            entry.1 += 1;
        }
    }
    let mut warnings = Vec::new();
    if first.len() < total {
        let checked = first.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        let level = enforce.to_string();
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {level:?}"
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reason, (name, count))| match count {
            1 => format!("{name}: {reason}"),
            2 => format!("{name} (and 1 other pod): {reason}"),
            _ => format!("{name} (and {} other pods): {reason}", count - 1),
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}

async fn check_namespace(request: &Request<'_>, object: &Object) -> Result<(), Status> {
    let (policy, errors) = Policy::of(object);
    let invalid = |errors: &[meta::field::Error]| Status::invalid(&request.kind.group_kind(), object.name(), errors);
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
        return if errors.is_empty() { Ok(()) } else { Err(invalid(&errors)) };
    };
    let (before, old_errors) = Policy::of(old);
    if !errors.is_empty() && errors != old_errors {
        return Err(invalid(&errors));
    }
    let (new, old) = (policy.enforce, before.enforce);
    let lowered = new.version == old.version && new.level <= old.level;
    if new == old || new.level == Level::Privileged || lowered {
        return Ok(());
    }
    let pods = request.deps.api.list(&core("pods"), object.name()).await?;
    warnings_for(object.name(), &pods, new).into_iter().for_each(|warning| request.warnings.add(warning));
    Ok(())
}

/// Evaluates a pod, or (not enforcing) a template.
fn evaluate(
    request: &Request<'_>,
    policy: &Policy,
    (object, body, spec): (&Object, &serde_json::Map<String, Value>, &Value),
    enforce: bool,
) -> Result<(), Status> {
    if enforce {
        let violations = checks::evaluate(policy.enforce, body, spec);
        if !violations.is_empty() {
            let level = policy.enforce.to_string();
            return Err(
                request.forbidden(Some(object), format!("violates PodSecurity {level:?}: {}", detail(&violations)))
            );
        }
    }
    let violations = checks::evaluate(policy.warn, body, spec);
    if !violations.is_empty() {
        let level = policy.warn.to_string();
        request.warnings.add(format!("would violate PodSecurity {level:?}: {}", detail(&violations)));
    }
    Ok(())
}

#[async_trait]
impl Plugin for PodSecurity {
    fn handles(&self, request: &Request<'_>) -> bool {
        let write = matches!(request.operation, Operation::Create | Operation::Update);
        let pods = request.is_any_of("", "pods") && !IGNORED.contains(&request.subresource);
        let template = TEMPLATES.iter().any(|(group, resource, _)| request.is(group, resource));
        write && (pods || template || request.is("", "namespaces"))
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        if request.is_any_of("", "namespaces") {
            return check_namespace(request, object).await;
        }
        let is_pod = request.is_any_of("", "pods");
        let Some(namespace) = request.core("namespaces", "", request.namespace).await? else {
            let failed = Status::internal(format!("failed to lookup namespace {:?}", request.namespace));
            return if is_pod { Err(failed) } else { Ok(()) };
        };
        let (policy, errors) = Policy::of(&namespace);
        if errors.is_empty() && policy.is_privileged() {
            return Ok(());
        }
        if is_pod {
            if request.old.is_some_and(|old| !is_significant(object, old)) {
                return Ok(());
            }
            return evaluate(request, &policy, (object, &object.body, pod::spec(object)), true);
        }
        let path = TEMPLATES.iter().find(|(group, resource, _)| request.is(group, resource)).map(|(_, _, path)| *path);
        let template = path.and_then(|path| object.get(path)).and_then(Value::as_object);
        let Some((template, spec)) = template.and_then(|t| Some((t, t.get("spec")?))) else { return Ok(()) };
        evaluate(request, &policy, (object, template, spec), false)
    }
}

#[cfg(test)]
mod tests;
