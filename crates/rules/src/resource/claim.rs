//! ResourceClaim and ResourceClaimTemplate.

use crate::{C, Defaults, Rules, Tree};

/// Rules of ResourceClaim.
pub const RULES: Rules = Rules { default, validate_update: update, ..Rules::NONE };
/// Rules of ResourceClaimTemplate.
pub const TEMPLATE: Rules = Rules { default: default_template, validate_update: update, ..Rules::NONE };

fn default(body: &mut Tree) {
    if let Some(spec) = body.child("spec") {
        default_spec(spec);
    }
    if let Some(devices) = body.descend(&["status", "allocation", "devices"]) {
        for result in devices.each("results") {
            default_tolerations(result);
        }
    }
}

fn default_template(body: &mut Tree) {
    if let Some(spec) = body.descend(&["spec", "spec"]) {
        default_spec(spec);
    }
}

fn default_spec(spec: &mut Tree) {
    let Some(devices) = spec.child("devices") else { return };
    for request in devices.each("requests") {
        if let Some(exactly) = request.child("exactly") {
            default_request(exactly);
        }
        for alternative in request.each("firstAvailable") {
            default_request(alternative);
        }
    }
}

fn default_request(request: &mut Tree) {
    request.default_str("allocationMode", "ExactCount");
    if request.text("allocationMode") == "ExactCount" {
        request.default_nonzero("count", 1);
    }
    default_tolerations(request);
}

fn default_tolerations(holder: &mut Tree) {
    for toleration in holder.each("tolerations") {
        toleration.default_str("operator", "Equal");
    }
}

/// What is asked for does not change.
fn update(new: &C, old: &C) {
    new.get("spec").immutable(&old.get("spec"));
}
