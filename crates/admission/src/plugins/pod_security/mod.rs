//! PodSecurity: a namespace's labels say which Pod Security Standard its pods must keep, and which to warn about.

mod checks;
mod config;
mod level;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use meta::{Object, Status};
use registry::Operation;
use serde_json::Value;

use crate::metrics::{PodSecurity as Labels, metrics};
use crate::plugin::{Plugin, Request, core};
use crate::pod::{self, items, text};
use checks::Violation;
use level::{Level, LevelVersion, Policy};

/// Pods of a namespace looked at when its level is raised.
const MAX_PODS: usize = 3000;

/// The plugin.
pub struct PodSecurity {
    defaults: Policy,
    exemptions: config::Exemptions,
}

pub use config::make;

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
fn warnings_for(namespace: &str, pods: &[&std::sync::Arc<Object>], enforce: LevelVersion) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for pod in pods.iter().copied() {
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

/// What is evaluated: the object that carries it, the pod or template, and its spec.
type Subject<'a> = (&'a Object, &'a serde_json::Map<String, Value>, &'a Value);

impl PodSecurity {
    async fn check_namespace(&self, request: &Request<'_>, object: &Object) -> Result<(), Status> {
        let (policy, errors) = Policy::of(object, &self.defaults);
        let invalid =
            |errors: &[meta::field::Error]| Status::invalid(&request.kind.group_kind(), object.name(), errors);
        let exempt = self.exemptions.namespaces.contains(object.name());
        let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
            if !errors.is_empty() {
                return Err(invalid(&errors));
            }
            if exempt {
                self.warn_of_exemption(request, object, &policy);
            }
            return Ok(());
        };
        let (before, old_errors) = Policy::of(old, &self.defaults);
        if !errors.is_empty() && errors != old_errors {
            return Err(invalid(&errors));
        }
        let (new, old) = (policy.enforce, before.enforce);
        let lowered = new.version == old.version && new.level <= old.level;
        if new == old || new.level == Level::Privileged || lowered {
            return Ok(());
        }
        if exempt {
            self.warn_of_exemption(request, object, &policy);
            return Ok(());
        }
        let pods = request.deps.api.list(&core("pods"), object.name()).await?;
        let pods: Vec<_> = pods.iter().filter(|pod| !self.exemptions.has_class(pod::spec(pod))).collect();
        warnings_for(object.name(), &pods, new).into_iter().for_each(|warning| request.warnings.add(warning));
        Ok(())
    }

    fn warn_of_exemption(&self, request: &Request<'_>, namespace: &Object, policy: &Policy) {
        if policy.is_privileged() || policy.is_equivalent(&self.defaults) {
            return;
        }
        let modes = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)];
        let set = |mode: &str| {
            let label = format!("pod-security.kubernetes.io/{mode}");
            namespace.label(&label).is_some() || namespace.label(&format!("{label}-version")).is_some()
        };
        let ignored: Vec<String> = modes
            .iter()
            .filter(|(mode, level)| level.level != Level::Privileged && set(mode))
            .map(|(mode, level)| format!("{mode}={level}"))
            .collect();
        request.warnings.add(format!(
            "namespace {:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            namespace.name(),
            ignored.join(", ")
        ));
    }

    /// Whether the request is exempt, which is counted and recorded.
    fn is_exempt(&self, request: &Request<'_>) -> bool {
        let reason = if self.exemptions.namespaces.contains(request.namespace) {
            "namespace"
        } else if self.exemptions.users.contains(&request.user.name) {
            "user"
        } else {
            return false;
        };
        exempted(request, reason);
        true
    }

    /// Evaluates a pod, or (not enforcing) a template.
    fn evaluate(
        &self,
        request: &Request<'_>,
        (policy, errors): (&Policy, &[meta::field::Error]),
        (object, body, spec): Subject<'_>,
        enforce: bool,
    ) -> Result<(), Status> {
        if self.exemptions.has_class(spec) {
            exempted(request, "runtimeClass");
            return Ok(());
        }
        if !errors.is_empty() {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let all = if all.len() == 1 { all.join("") } else { format!("[{}]", all.join(", ")) };
            annotate(request, "error", &format!("Failed to parse policy: {all}"));
            count_error(request, false);
        }
        let mut refusal = None;
        if enforce {
            let level = policy.enforce.to_string();
            annotate(request, "enforce-policy", &level);
            let violations = checks::evaluate(policy.enforce, body, spec);
            let allowed = violations.is_empty();
            count(request, if allowed { "allow" } else { "deny" }, policy.enforce, "enforce");
            if !allowed {
                let cause = format!("violates PodSecurity {level:?}: {}", detail(&violations));
                refusal = Some(request.forbidden(Some(object), cause));
            }
        }
        let would = |wanted: LevelVersion, violations: &[Violation]| {
            format!("would violate PodSecurity {:?}: {}", wanted.to_string(), detail(violations))
        };
        let violations = checks::evaluate(policy.audit, body, spec);
        if !violations.is_empty() {
            annotate(request, "audit-violations", &would(policy.audit, &violations));
            count(request, "deny", policy.audit, "audit");
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let violations = checks::evaluate(policy.warn, body, spec);
        if !violations.is_empty() {
            request.warnings.add(would(policy.warn, &violations));
            count(request, "deny", policy.warn, "warn");
        }
        Ok(())
    }
}

fn annotate(request: &Request<'_>, key: &str, value: &str) {
    request.warnings.annotate(&format!("pod-security.kubernetes.io/{key}"), value);
}

fn exempted(request: &Request<'_>, reason: &str) {
    annotate(request, "exempt", reason);
    metrics().pod_security.exemptions.with(&Labels::labels(request)).add(1);
}

fn count_error(request: &Request<'_>, fatal: bool) {
    let [operation, resource, subresource] = Labels::labels(request);
    let fatal = if fatal { "true" } else { "false" };
    metrics().pod_security.errors.with(&[fatal, operation, resource, subresource]).add(1);
}

fn count(request: &Request<'_>, decision: &str, policy: LevelVersion, mode: &str) {
    let [operation, resource, subresource] = Labels::labels(request);
    let (level, version) = policy.labels();
    metrics()
        .pod_security
        .evaluations
        .with(&[decision, level, &version, mode, operation, resource, subresource])
        .add(1);
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
            return self.check_namespace(request, object).await;
        }
        if self.is_exempt(request) {
            return Ok(());
        }
        let is_pod = request.is_any_of("", "pods");
        let Some(namespace) = request.core("namespaces", "", request.namespace).await? else {
            count_error(request, true);
            let failed = format!("failed to lookup namespace {:?}", request.namespace);
            if is_pod {
                return Err(Status::internal(failed));
            }
            annotate(request, "error", &failed);
            return Ok(());
        };
        let (policy, errors) = Policy::of(&namespace, &self.defaults);
        if is_pod {
            if errors.is_empty() && policy.is_privileged() {
                count(request, "allow", policy.enforce, "enforce");
                annotate(request, "enforce-policy", "privileged:latest");
                return Ok(());
            }
            if request.old.is_some_and(|old| !is_significant(object, old)) {
                return Ok(());
            }
            return self.evaluate(request, (&policy, &errors), (object, &object.body, pod::spec(object)), true);
        }
        let lax = policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged;
        if errors.is_empty() && lax {
            return Ok(());
        }
        let path = TEMPLATES.iter().find(|(group, resource, _)| request.is(group, resource)).map(|(_, _, path)| *path);
        let template = path.and_then(|path| object.get(path)).and_then(Value::as_object);
        let Some((template, spec)) = template.and_then(|t| Some((t, t.get("spec")?))) else { return Ok(()) };
        self.evaluate(request, (&policy, &errors), (object, template, spec), false)
    }
}

#[cfg(test)]
mod tests;
