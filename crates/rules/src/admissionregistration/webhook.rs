//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration.

use celx::admission::{Has, Want, compile, env};
use celx::{Env, Type};
use serde_json::json;

use crate::{C, Defaults, Rules, Tree, meta_v1};

/// Rules of ValidatingWebhookConfiguration.
pub const VALIDATING: Rules = Rules { default: default_validating, validate, ..Rules::NONE };
/// Rules of MutatingWebhookConfiguration.
pub const MUTATING: Rules = Rules { default: default_mutating, validate, ..Rules::NONE };

fn default_validating(body: &mut Tree) {
    for hook in body.each("webhooks") {
        webhook(hook);
    }
}

fn default_mutating(body: &mut Tree) {
    for hook in body.each("webhooks") {
        webhook(hook);
        hook.default_value("reinvocationPolicy", "Never");
    }
}

fn webhook(hook: &mut Tree) {
    hook.default_value("failurePolicy", "Fail");
    match_resources(hook);
    hook.default_value("timeoutSeconds", 10);
    if let Some(service) = hook.descend(&["clientConfig", "service"]) {
        service.default_value("port", 443);
    }
    default_scopes(hook, "rules");
}

/// The match policy and selectors that webhooks and policies share.
pub(super) fn match_resources(holder: &mut Tree) {
    holder.default_value("matchPolicy", "Equivalent");
    holder.default_value("namespaceSelector", json!({}));
    holder.default_value("objectSelector", json!({}));
}

/// Rules without a scope are about all scopes.
pub(super) fn default_scopes(holder: &mut Tree, list: &str) {
    for rule in holder.each(list) {
        rule.default_value("scope", "*");
    }
}

fn validate(configuration: &C) {
    let mut names: Vec<&str> = Vec::new();
    for hook in configuration.get("webhooks").items() {
        let name = hook.get("name");
        webhook_name(&name);
        if !name.is_zero() && names.contains(&name.str()) {
            name.duplicate();
        }
        names.push(name.str());
        for rule in hook.get("rules").items() {
            self::rule(&rule);
        }
        hook.get("failurePolicy").optional_one_of(&["Fail", "Ignore"]);
        hook.get("matchPolicy").optional_one_of(&["Equivalent", "Exact"]);
        let effects = hook.get("sideEffects");
        if effects.exists() {
            effects.one_of(&["None", "NoneOnDryRun"]);
        } else {
            effects.missing("must specify one of None, NoneOnDryRun");
        }
        let timeout = hook.get("timeoutSeconds");
        if timeout.exists() && !(1..=30).contains(&timeout.int()) {
            timeout.invalid("the timeout value must be between 1 and 30 seconds");
        }
        meta_v1::label_selector(&hook.get("namespaceSelector"));
        meta_v1::label_selector(&hook.get("objectSelector"));
        hook.get("reinvocationPolicy").optional_one_of(&["IfNeeded", "Never"]);
        client(&hook.get("clientConfig"));
        review_versions(&hook.get("admissionReviewVersions"));
        match_conditions(&hook.get("matchConditions"), false);
    }
}

/// A fully qualified name: at least three segments.
fn webhook_name(name: &C) {
    if name.is_zero() {
        return name.missing("");
    }
    for finding in meta::names::dns1123_subdomain(name.str()) {
        name.invalid(finding);
    }
    if meta::names::dns1123_subdomain(name.str()).is_empty() && name.str().split('.').count() < 3 {
        name.invalid("should be a domain with at least three segments separated by dots");
    }
}

/// A rule about operations and resources, also of admission policies.
pub(super) fn rule(rule: &C) {
    let wildcard_alone = |field: &str| {
        let list = rule.get(field);
        if list.len() > 1 && list.items().any(|v| v.str() == "*") {
            list.invalid("if '*' is present, must not specify other values");
        }
    };
    let operations = rule.get("operations");
    operations.required();
    for operation in operations.items() {
        operation.one_of(&["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]);
    }
    for field in ["operations", "apiGroups", "apiVersions"] {
        wildcard_alone(field);
    }
    for field in ["apiGroups", "apiVersions", "resources"] {
        rule.get(field).required();
    }
    for field in ["apiVersions", "resources"] {
        for value in rule.get(field).items() {
            value.required();
        }
    }
    let resources = rule.get("resources");
    let all = |value: &str| resources.items().any(|r| r.str() == value);
    if all("*/*") && resources.len() > 1 {
        resources.invalid("if '*/*' is present, must not specify other resources");
    }
    if all("*") && resources.len() > 1 && resources.items().any(|r| !r.str().contains('/') && r.str() != "*") {
        resources.invalid("if '*' is present, must not specify other resources without subresources");
    }
    let scope = rule.get("scope");
    scope.optional_one_of(&["*", "Cluster", "Namespaced"]);
}

fn client(config: &C) {
    let (url, service) = (config.get("url"), config.get("service"));
    match (url.exists(), service.exists()) {
        (true, false) => webhook_url(&url),
        (false, true) => {
            service.get("name").required();
            service.get("namespace").required();
            service.get("port").invalid_all(meta::names::port_num(service.get("port").int()));
            let path = service.get("path");
            if !path.is_zero() && !path.str().starts_with('/') {
                path.invalid("must start with a '/'");
            }
        }
        _ => config.missing("exactly one of url or service is required"),
    }
}

fn webhook_url(url: &C) {
    const FORM: &str = "; desired format: https://host[/path]";
    let text = url.str();
    let Some(rest) = text.strip_prefix("https://") else {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        return url.invalid_value(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    if host.is_empty() {
        url.invalid_value(host, format!("host must be specified{FORM}"));
    }
    if host.contains('@') {
        url.invalid_value(host, "user information is not permitted in the URL");
    }
    if text.contains('#') {
        url.invalid_value(text, "fragments are not permitted in the URL");
    }
    if text.contains('?') {
        url.invalid_value(text, "query parameters are not permitted in the URL");
    }
}

fn review_versions(versions: &C) {
    if versions.is_empty() {
        return versions.missing("must specify one of v1, v1beta1");
    }
    let mut seen: Vec<&str> = Vec::new();
    for version in versions.items() {
        if seen.contains(&version.str()) {
            version.invalid("duplicate version");
        }
        seen.push(version.str());
        for finding in meta::names::dns1035_label(version.str()) {
            version.invalid(finding);
        }
    }
    if !seen.iter().any(|v| matches!(*v, "v1" | "v1beta1")) {
        versions.invalid("must include at least one of v1, v1beta1");
    }
}

/// An expression that must compile; its type, when it does.
pub(super) fn compiles(env: &Env, expression: &C, want: Want) -> Option<Type> {
    match compile(env, expression.str(), want) {
        Ok(program) => Some(program.output().clone()),
        Err(detail) => {
            expression.invalid(detail);
            None
        }
    }
}

/// Named CEL conditions, also of admission policies.
pub(super) fn match_conditions(conditions: &C, params: bool) {
    const MOST: usize = 64;
    let mut names: Vec<&str> = Vec::new();
    conditions.max_items(MOST);
    if conditions.is_empty() {
        return;
    }
    let env = env(Has { params, authorizer: true, ..Has::default() }, Type::DYN, Type::DYN);
    for condition in conditions.items() {
        let expression = condition.get("expression");
        if expression.str().trim().is_empty() {
            expression.missing("");
        } else {
            compiles(&env, &expression, Want::Bool);
        }
        let name = condition.get("name");
        if name.is_zero() {
            name.missing("");
            continue;
        }
        name.check(meta::names::qualified_name);
        if names.contains(&name.str()) {
            name.duplicate();
        }
        names.push(name.str());
    }
}
