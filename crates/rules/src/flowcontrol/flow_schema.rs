//! FlowSchema.

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, ..Rules::NONE };

fn default(body: &mut Tree) {
    body.make("spec").default_nonzero("matchingPrecedence", 1000);
}

fn validate(schema: &C) {
    let spec = schema.get("spec");
    let precedence = spec.get("matchingPrecedence");
    if precedence.int() <= 0 {
        precedence.invalid_value(precedence.int(), "must be a positive value");
    }
    if precedence.int() > 10_000 {
        precedence.invalid("must not be greater than 10000");
    }
    let exempt = schema.get("metadata.name").str() == "exempt";
    if precedence.int() == 1 && !exempt {
        precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.get("distinguisherMethod");
    if method.exists() {
        method.get("type").one_of(&["ByNamespace", "ByUser"]);
    }
    let level = spec.get("priorityLevelConfiguration.name");
    if level.is_zero() {
        level.missing("must reference a priority level");
    } else {
        level.check(meta::names::dns1123_subdomain);
    }
    for rule in spec.get("rules").items() {
        let subjects = rule.get("subjects");
        if subjects.is_empty() {
            subjects.missing("subjects must contain at least one value");
        }
        for subject in subjects.items() {
            match subject.get("kind").str() {
                "ServiceAccount" => {
                    subject.get("serviceAccount.name").required();
                    subject.get("serviceAccount.namespace").required();
                }
                "User" => {
                    subject.get("user.name").required();
                }
                "Group" => {
                    subject.get("group.name").required();
                }
                _ => subject.get("kind").not_supported(&["Group", "ServiceAccount", "User"]),
            }
        }
        if rule.get("resourceRules").len() + rule.get("nonResourceRules").len() == 0 {
            rule.missing("at least one of resourceRules and nonResourceRules has to be non-empty");
        }
        for list in ["resourceRules", "nonResourceRules"] {
            for entry in rule.get(list).items() {
                if entry.get("verbs").is_empty() {
                    entry.get("verbs").missing("verbs must contain at least one value");
                }
            }
        }
    }
}
