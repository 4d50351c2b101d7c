//! IngressClass.

use crate::{C, Defaults, Rules, Tree};

use meta::names;

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, validate_update: update, ..Rules::NONE };

fn default(body: &mut Tree) {
    if let Some(parameters) = body.descend(&["spec", "parameters"]) {
        parameters.default_value("scope", "Cluster");
    }
}

fn validate(class: &C) {
    let controller = class.get("spec.controller");
    controller.max_len(250);
    domain_prefixed_path(&controller);
    let parameters = class.get("spec.parameters");
    if !parameters.exists() {
        return;
    }
    let group = parameters.get("apiGroup");
    if group.exists() {
        group.check(names::dns1123_subdomain);
    }
    for field in ["kind", "name"] {
        let value = parameters.get(field);
        if value.required() {
            value.check(names::path_segment);
        }
    }
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    scope.one_of(&["Cluster", "Namespace"]);
    match (scope.str(), namespace.is_zero()) {
        ("Namespace", true) => namespace.missing("`parameters.scope` is set to 'Namespace'"),
        ("Cluster", false) => namespace.forbidden("`parameters.scope` is set to 'Cluster'"),
        _ => {}
    }
}

/// `domain/path`.
pub fn domain_prefixed_path(value: &C) {
    if !value.required() {
        return;
    }
    match value.str().split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            for finding in names::dns1123_subdomain(domain) {
                value.invalid(format!("prefix part {finding}"));
            }
        }
        _ => value.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

fn update(new: &C, old: &C) {
    new.get("spec.controller").immutable(&old.get("spec.controller"));
}
