//! Which webhooks a request concerns.

use meta::selector::LabelSelector;
use meta::{GroupVersionKind, GroupVersionResource, Object, Status};
use registry::Operation;
use serde_json::Value;

use super::config::{Hook, Rule};
use super::review::seen;
use crate::metrics::{Conditioned, Step};
use crate::plugin::{Request, core};
use crate::policy::Subject;

/// A call that is due: the resource and kind in which the webhook wants to see the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) resource: GroupVersionResource,
    pub(crate) kind: GroupVersionKind,
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

/// What a webhook, a policy or a binding is about.
#[derive(Debug, Clone)]
pub(crate) struct Criteria {
    pub(crate) rules: Vec<Rule>,
    pub(crate) exclude: Vec<Rule>,
    pub(crate) equivalent: bool,
    pub(crate) namespace_selector: Result<LabelSelector, String>,
    pub(crate) object_selector: Result<LabelSelector, String>,
}

/// An absent selector selects everything here.
pub(crate) fn selector(value: Option<&Value>) -> Result<LabelSelector, String> {
    match value.filter(|v| !v.is_null()) {
        None => Ok(LabelSelector::everything()),
        Some(value) => LabelSelector::from_value(Some(value)).map_err(|e| e.to_string()),
    }
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
    let by_name = rule.resource_names.as_ref().is_none_or(|names| {
        names.is_empty() || (!request.name.is_empty() && names.iter().any(|name| name == request.name))
    });
    in_scope
        && by_name
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

fn invocation(criteria: &Criteria, request: &Request<'_>) -> Option<Invocation> {
    let own = || Invocation { resource: request.resource.clone(), kind: request.kind.clone() };
    let rules = &criteria.rules;
    if rules.iter().any(|rule| rule_matches(rule, request, request.resource)) {
        return Some(own());
    }
    if !criteria.equivalent || rules.is_empty() {
        return None;
    }
    let others = equivalents(request);
    rules.iter().find_map(|rule| others.iter().find(|other| rule_matches(rule, request, &other.resource)).cloned())
}

fn is_excluded(criteria: &Criteria, request: &Request<'_>) -> bool {
    if criteria.exclude.is_empty() {
        return false;
    }
    let others = if criteria.equivalent { equivalents(request) } else { Vec::new() };
    criteria.exclude.iter().any(|rule| {
        rule_matches(rule, request, request.resource)
            || others.iter().any(|other| rule_matches(rule, request, &other.resource))
    })
}

/// Whether a request is what the criteria are about, and in which version. `any` says what no rules at all mean.
///
/// # Errors
/// A selector is malformed, or the namespace is absent.
pub(crate) async fn matched(
    criteria: &Criteria,
    any: bool,
    request: &Request<'_>,
    object: Option<&Object>,
) -> Result<Option<Invocation>, Status> {
    let found = match invocation(criteria, request) {
        None if any && criteria.rules.is_empty() => {
            Some(Invocation { resource: request.resource.clone(), kind: request.kind.clone() })
        }
        found => found,
    };
    let Some(invocation) = found.filter(|_| !is_excluded(criteria, request)) else { return Ok(None) };
    let selector = criteria.object_selector.as_ref().map_err(Status::internal)?;
    let selected = selector.is_everything() || [object, request.old].into_iter().flatten().any(|o| selector.matches(o));
    if !selected {
        return Ok(None);
    }
    let selector = criteria.namespace_selector.as_ref().map_err(Status::internal)?;
    Ok(namespace_selected(selector, request, object).await?.then_some(invocation))
}

/// The name of the namespace that the request is in, or that it is about.
pub(crate) fn namespace_of<'a>(request: &'a Request<'_>, object: Option<&'a Object>) -> &'a str {
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
/// A selector is malformed, the namespace is absent, or a condition failed and the webhook's policy is to fail.
pub(super) async fn should_call(
    hook: &Hook,
    request: &Request<'_>,
    object: Option<&Object>,
    step: Step,
) -> Result<Option<Invocation>, Status> {
    let Some(invocation) = matched(&hook.criteria, false, request, object).await? else { return Ok(None) };
    if hook.conditions.is_empty() {
        return Ok(Some(invocation));
    }
    let current = seen(request, object, &invocation.kind)?;
    let old = seen(request, request.old, &invocation.kind)?;
    let (current, old) = (current.as_deref(), old.as_deref());
    let subject = Subject { invocation: &invocation, object: current, old, namespace: None };
    let of = Conditioned { name: &hook.name, kind: "webhook", step, operation: request.operation };
    match hook.conditions.hold(request, &subject, None, of).await {
        Ok(true) => Ok(Some(invocation)),
        Ok(false) => Ok(None),
        Err(_) if hook.fail_open => Ok(None),
        Err(failure) => Err(request.forbidden(object, failure.message)),
    }
}
