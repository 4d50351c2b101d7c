//! Validating and mutating admission policies and their bindings.

use super::webhook::{default_scopes, match_resources};
use crate::{Defaults, Rules, Tree};

/// Rules of ValidatingAdmissionPolicy and MutatingAdmissionPolicy.
pub const POLICY: Rules = Rules { default: default_policy, ..Rules::NONE };
/// Rules of ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding.
pub const BINDING: Rules = Rules { default: default_binding, ..Rules::NONE };

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
