//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration.

use serde_json::json;

use crate::{Defaults, Rules, Tree};

/// Rules of ValidatingWebhookConfiguration.
pub const VALIDATING: Rules = Rules { default: default_validating, ..Rules::NONE };
/// Rules of MutatingWebhookConfiguration.
pub const MUTATING: Rules = Rules { default: default_mutating, ..Rules::NONE };

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
