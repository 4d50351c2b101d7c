//! Validating and mutating admission policies and their bindings.

use super::webhook::{default_scopes, match_conditions, match_resources, rule};
use crate::{C, Defaults, Rules, Tree, meta_v1};

/// Rules of ValidatingAdmissionPolicy and MutatingAdmissionPolicy.
pub const POLICY: Rules = Rules { default: default_policy, validate: policy, validate_status: status, ..Rules::NONE };
/// Rules of ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding.
pub const BINDING: Rules = Rules { default: default_binding, validate: binding, ..Rules::NONE };

fn default_policy(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_value("failurePolicy", "Fail");
    constraints(spec.child("matchConstraints"));
}

fn default_binding(body: &mut Tree) {
    constraints(body.make("spec").child("matchResources"));
}

fn constraints(holder: Option<&mut Tree>) {
    if let Some(holder) = holder {
        match_resources(holder);
        default_scopes(holder, "resourceRules");
        default_scopes(holder, "excludeResourceRules");
    }
}

fn policy(policy: &C) {
    let spec = policy.get("spec");
    spec.get("failurePolicy").required_one_of(&["Fail", "Ignore"]);
    let parameters = spec.get("paramKind");
    if parameters.exists() {
        let version = parameters.get("apiVersion");
        if version.required() {
            let text = version.str().rsplit('/').next().unwrap_or("");
            let findings = meta::names::dns1035_label(text);
            if !findings.is_empty() {
                version.invalid_value(text, findings.join(","));
            }
        }
        parameters.get("kind").required();
    }
    let matched = spec.get("matchConstraints");
    if matched.exists() {
        if matched.get("resourceRules").len() == 0 {
            matched.get("resourceRules").missing("");
        }
        resources(&matched);
    } else {
        matched.missing("");
    }
    match_conditions(&spec.get("matchConditions"));
    let mutating = policy.get("kind").str() == "MutatingAdmissionPolicy";
    let validations = spec.get("validations");
    if mutating {
        spec.get("mutations").required();
        spec.get("reinvocationPolicy").required_one_of(&["IfNeeded", "Never"]);
    } else if validations.len() == 0 && spec.get("auditAnnotations").len() == 0 {
        validations.missing("validations or auditAnnotations must be non-empty");
    }
    for validation in validations.items() {
        if validation.get("expression").str().trim().is_empty() {
            validation.get("expression").missing("expression is not specified");
        }
        let message = validation.get("message");
        if message.exists() && message.str().contains('\n') {
            message.invalid("message must not contain line breaks");
        }
        validation.get("reason").optional_one_of(&["Forbidden", "Invalid", "RequestEntityTooLarge"]);
    }
}

fn status(new: &C, _old: &C) {
    meta_v1::conditions(&new.get("status.conditions"));
}

fn resources(matched: &C) {
    meta_v1::label_selector(&matched.get("namespaceSelector"));
    meta_v1::label_selector(&matched.get("objectSelector"));
    matched.get("matchPolicy").optional_one_of(&["Equivalent", "Exact"]);
    for list in ["resourceRules", "excludeResourceRules"] {
        for entry in matched.get(list).items() {
            rule(&entry);
        }
    }
}

fn binding(binding: &C) {
    let spec = binding.get("spec");
    let policy = spec.get("policyName");
    if policy.required() {
        policy.check(meta::names::dns1123_subdomain);
    }
    let parameters = spec.get("paramRef");
    if parameters.exists() {
        let (name, selector) = (parameters.get("name"), parameters.get("selector"));
        match (name.is_zero(), selector.exists()) {
            (true, false) => parameters.missing("one of name or selector must be specified"),
            (false, true) => {
                name.forbidden("name and selector are mutually exclusive");
                selector.forbidden("name and selector are mutually exclusive");
            }
            _ => {}
        }
        meta_v1::label_selector(&selector);
        parameters.get("parameterNotFoundAction").required_one_of(&["Deny", "Allow"]);
    }
    let matched = spec.get("matchResources");
    if matched.exists() {
        resources(&matched);
    }
    if binding.get("kind").str() == "MutatingAdmissionPolicyBinding" {
        return;
    }
    let actions = spec.get("validationActions");
    actions.required();
    let mut seen: Vec<&str> = Vec::new();
    for action in actions.items() {
        action.one_of(&["Audit", "Deny", "Warn"]);
        if seen.contains(&action.str()) {
            action.duplicate();
        }
        seen.push(action.str());
    }
    if seen.contains(&"Deny") && seen.contains(&"Warn") {
        actions.invalid("must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
}
