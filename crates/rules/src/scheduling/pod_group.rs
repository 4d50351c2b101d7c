//! PodGroup: pods that are scheduled together.

use meta::names;
use serde_json::Value;

use crate::{C, Defaults, Rules, Tree, meta_v1};

/// Rules of the kind. An update repeats nothing, as nothing in the spec may change.
pub const RULES: Rules = Rules {
    default,
    validate,
    validate_update: update,
    validate_status: |new, _| meta_v1::conditions(&new.get("status.conditions")),
    revalidate: false,
};

/// Fields of a group, or of a workload's template of one, whose gates are off by default and of things that are not here.
const GATED: [&str; 5] = ["schedulingConstraints", "resourceClaims", "disruptionMode", "priorityClassName", "priority"];

fn default(body: &mut Tree) {
    body.make("spec").default_str("disruptionMode", "Pod");
}

/// Drops the fields whose gates are off.
pub fn drop_disabled(group: &mut Tree) {
    for field in GATED {
        group.remove(field);
    }
}

/// A field that may not change at all.
pub(super) fn fixed(new: &C, old: &C, field: &str) {
    let (new, old) = (new.get(field), old.get(field));
    if !new.same(&old) {
        new.invalid_value(Value::Null, "field is immutable");
    }
}

/// Exactly one of the members is set.
pub(super) fn union(holder: &C, members: &[&str]) {
    let set: Vec<&str> = members.iter().copied().filter(|member| holder.get(member).exists()).collect();
    let all = members.iter().map(|member| format!("`{member}`")).collect::<Vec<_>>().join(", ");
    match set.len() {
        0 => holder.invalid_value("", format!("must specify one of: {all}")),
        1 => {}
        _ => {
            let set = set.iter().map(|member| format!("`{member}`")).collect::<Vec<_>>().join(", ");
            holder.invalid_value(format!("{{{set}}}"), format!("must specify exactly one of: {all}"));
        }
    }
}

/// A name that must be there and be well formed.
pub(super) fn named(name: &C, rule: impl Fn(&str) -> Vec<String>) {
    if name.required() {
        name.check(rule);
    }
}

/// How a group is scheduled: one by one, or all or nothing.
pub(super) fn policy(policy: &C) {
    union(policy, &["basic", "gang"]);
    let gang = policy.get("gang");
    if gang.exists() {
        let least = gang.get("minCount");
        if least.is_zero() {
            least.missing("");
        } else if least.int() < 1 {
            least.invalid("must be greater than or equal to 1");
        }
    }
}

fn validate(group: &C) {
    let spec = group.get("spec");
    let reference = spec.get("podGroupTemplateRef");
    if reference.exists() {
        union(&reference, &["workload"]);
        let workload = reference.get("workload");
        if workload.exists() {
            named(&workload.get("workloadName"), names::dns1123_subdomain);
            named(&workload.get("podGroupTemplateName"), names::dns1123_label);
        }
    }
    policy(&spec.get("schedulingPolicy"));
}

fn update(new: &C, old: &C) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    fixed(&spec, &before, "podGroupTemplateRef");
    fixed(&spec, &before, "schedulingPolicy");
}
