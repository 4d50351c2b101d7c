//! Which webhooks a request concerns.

use meta::selector::LabelSelector;
use meta::{GroupVersionKind, GroupVersionResource, Object, Status};
use registry::Operation;

use super::config::{Hook, Rule};
use crate::plugin::{Request, core};

/// A call that is due: the resource and kind in which the webhook wants to see the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invocation {
    pub(super) resource: GroupVersionResource,
    pub(super) kind: GroupVersionKind,
}

/// Configurations of admission are not themselves subject to webhooks: nobody could repair a wrong one.
pub(super) fn is_exempt(request: &Request<'_>) -> bool {
    request.resource.group == "admissionregistration.k8s.io"
        && matches!(
            request.resource.resource.as_str(),
            "validatingwebhookconfigurations"
                | "mutatingwebhookconfigurations"
                | "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
                | "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
        )
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn rule_matches(rule: &Rule, request: &Request<'_>, resource: &GroupVersionResource) -> bool {
    let namespaces = request.is_any_of("", "namespaces");
    let in_scope = match rule.scope.as_deref() {
        Some("Namespaced") => !namespaces && !request.namespace.is_empty(),
        Some("Cluster") => namespaces || request.namespace.is_empty(),
        _ => true,
    };
    let named = rule.resources.iter().any(|wanted| {
        let (head, tail) = wanted.split_once('/').unwrap_or((wanted, ""));
        (head == "*" || head == resource.resource) && (tail == "*" || tail == request.subresource)
    });
    in_scope
        && named
        && has(&rule.operations, request.operation.as_str())
        && has(&rule.api_groups, &resource.group)
        && has(&rule.api_versions, &resource.version)
}

/// The same objects under other versions of the resource.
fn equivalents(request: &Request<'_>) -> Vec<Invocation> {
    let Some(row) = request.registry.and_then(|r| r.get(&request.resource.group, &request.resource.resource)) else {
        return Vec::new();
    };
    let versions = row.row.versions.iter().filter(|version| **version != request.resource.version);
    versions
        .map(|version| Invocation {
            resource: GroupVersionResource { version: version.clone(), ..request.resource.clone() },
            // A subresource with a kind of its own (Scale, Eviction) keeps it.
            kind: if request.kind.group == request.resource.group && request.kind.version == request.resource.version {
                GroupVersionKind { version: version.clone(), ..request.kind.clone() }
            } else {
                request.kind.clone()
            },
        })
        .collect()
}

fn invocation(hook: &Hook, request: &Request<'_>) -> Option<Invocation> {
    if hook.rules.iter().any(|rule| rule_matches(rule, request, request.resource)) {
        return Some(Invocation { resource: request.resource.clone(), kind: request.kind.clone() });
    }
    if !hook.equivalent {
        return None;
    }
    let others = equivalents(request);
    hook.rules.iter().find_map(|rule| others.iter().find(|other| rule_matches(rule, request, &other.resource)).cloned())
}

/// The name of the namespace that the request is in, or that it is about.
pub(super) fn namespace_of<'a>(request: &'a Request<'_>, object: Option<&'a Object>) -> &'a str {
    match request.namespace {
        "" if request.is_any_of("", "namespaces") => match request.name {
            "" => object.map(Object::name).unwrap_or_default(),
            name => name,
        },
        namespace => namespace,
    }
}

async fn namespace_selected(
    selector: &LabelSelector,
    request: &Request<'_>,
    object: Option<&Object>,
) -> Result<bool, Status> {
    let namespaces = request.is_any_of("", "namespaces");
    if selector.is_everything() || (request.namespace.is_empty() && !namespaces) {
        return Ok(true);
    }
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if let Some(namespace) = object.filter(|_| namespaces && request.subresource.is_empty() && writes) {
        return Ok(selector.matches(namespace));
    }
    let name = namespace_of(request, object);
    match request.core("namespaces", "", name).await? {
        Some(namespace) => Ok(selector.matches(&namespace)),
        None => Err(Status::not_found(&core("namespaces").group_resource(), name)),
    }
}

/// Whether and how a webhook is to be called.
///
/// # Errors
/// A selector is malformed, the namespace is absent, or the webhook has conditions that cannot be evaluated.
pub(super) async fn should_call(
    hook: &Hook,
    request: &Request<'_>,
    object: Option<&Object>,
) -> Result<Option<Invocation>, Status> {
    let Some(invocation) = invocation(hook, request) else { return Ok(None) };
    let selector = hook.object_selector.as_ref().map_err(Status::internal)?;
    let selected = selector.is_everything() || [object, request.old].into_iter().flatten().any(|o| selector.matches(o));
    if !selected {
        return Ok(None);
    }
    let selector = hook.namespace_selector.as_ref().map_err(Status::internal)?;
    if !namespace_selected(selector, request, object).await? {
        return Ok(None);
    }
    if hook.has_conditions {
        // CEL is not there yet: a condition that cannot be evaluated is an evaluation error, which the failure policy decides.
        if hook.fail_open {
            return Ok(None);
        }
        let cause = format!("matchConditions of webhook {:?} cannot be evaluated: CEL is not supported", hook.name);
        return Err(request.forbidden(object, cause));
    }
    Ok(Some(invocation))
}
