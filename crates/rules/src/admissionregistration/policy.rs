//! Validating and mutating admission policies and their bindings.

use celx::admission::{Has, Want, env, with_variable};
use celx::{Env, Type};

use super::webhook::{compiles, default_scopes, match_conditions, match_resources, rule};
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
        if matched.get("resourceRules").is_empty() {
            matched.get("resourceRules").missing("");
        }
        resources(&matched);
    } else {
        matched.missing("");
    }
    match_conditions(&spec.get("matchConditions"), parameters.exists());
    let mutating = policy.get("kind").str() == "MutatingAdmissionPolicy";
    let has = Has { params: parameters.exists(), authorizer: true, variables: true, mutations: mutating };
    let env = variables(&spec.get("variables"), env(has, Type::DYN, Type::DYN));
    if mutating {
        mutations(&spec, &env);
    } else {
        validations(policy, &spec, &env);
    }
}

/// The environment with the policy's variables, each of which sees those before it.
fn variables(list: &C, mut env: Env) -> Env {
    for variable in list.items() {
        let (name, expression) = (variable.get("name"), variable.get("expression"));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.str().trim().is_empty() {
            name.missing("name is not specified");
        } else if name.str().starts_with(|c: char| c.is_ascii_digit()) || !name.str().chars().all(plain) {
            name.invalid("must be a valid CEL identifier");
        }
        let ty = if expression.str().trim().is_empty() {
            expression.missing("expression is not specified");
            None
        } else {
            compiles(&env, &expression, Want::Any)
        };
        env = with_variable(env, name.str(), ty.unwrap_or(Type::DYN));
    }
    env
}

fn mutations(spec: &C, env: &Env) {
    for rule in spec.get("matchConstraints.resourceRules").items() {
        for operation in rule.get("operations").items() {
            operation.one_of(&["*", "CREATE", "UPDATE"]);
        }
    }
    let mutations = spec.get("mutations");
    if mutations.is_empty() {
        mutations.missing("mutations must contain at least one item");
    }
    for mutation in mutations.items() {
        if !mutation.get("patchType").required_one_of(&["ApplyConfiguration", "JSONPatch"]) {
            continue;
        }
        let kind = mutation.get("patchType").str();
        let (apply, patch) = (mutation.get("applyConfiguration"), mutation.get("jsonPatch"));
        let (given, other, want) =
            if kind == "JSONPatch" { (patch, apply, Want::Patches) } else { (apply, patch, Want::Object) };
        if other.exists() {
            other.invalid(format!("must not be specified when patchType is {kind}"));
        }
        if !given.exists() {
            given.missing(&format!("must be specified when patchType is {kind}"));
        } else if given.get("expression").str().trim().is_empty() {
            given.get("expression").missing("");
        } else {
            compiles(env, &given.get("expression"), want);
        }
    }
    spec.get("reinvocationPolicy").required_one_of(&["IfNeeded", "Never"]);
}

fn validations(policy: &C, spec: &C, env: &Env) {
    let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        for list in [&validations, &annotations] {
            list.missing("validations or auditAnnotations must contain at least one item");
        }
    }
    for validation in validations.items() {
        let (expression, message) = (validation.get("expression"), validation.get("message"));
        if expression.str().trim().is_empty() {
            expression.missing("expression is not specified");
        } else {
            compiles(env, &expression, Want::Bool);
        }
        let worded = validation.get("messageExpression");
        if !worded.is_zero() && worded.str().trim().is_empty() {
            worded.invalid("must be non-empty if specified");
        } else if !worded.is_zero() {
            compiles(env, &worded, Want::Text);
        }
        if !message.is_zero() && message.str().trim().is_empty() {
            message.invalid("must be non-empty if specified");
        } else if message.str().trim().contains('\n') {
            message.invalid("must not contain line breaks");
        }
        validation.get("reason").optional_one_of(&["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"]);
    }
    audit_annotations(policy, &annotations, env);
}

fn audit_annotations(policy: &C, annotations: &C, env: &Env) {
    const MOST: usize = 20;
    const LONGEST: usize = 5 * 1024;
    if annotations.len() > MOST {
        annotations.invalid(format!("must not have more than {MOST} auditAnnotations"));
    }
    let mut keys: Vec<&str> = Vec::new();
    for annotation in annotations.items() {
        let (key, expression) = (annotation.get("key"), annotation.get("valueExpression"));
        let full = format!("{}/{}", policy.get("metadata.name").str(), key.str());
        for finding in meta::names::qualified_name(&full) {
            key.invalid_value(full.as_str(), finding);
        }
        if keys.contains(&key.str()) {
            key.duplicate();
        }
        keys.push(key.str());
        if expression.str().trim().is_empty() {
            expression.missing("valueExpression is not specified");
        } else if expression.str().len() > LONGEST {
            expression.missing(&format!("must not exceed {LONGEST} bytes in length"));
        } else {
            compiles(env, &expression, Want::TextOrNull);
        }
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
