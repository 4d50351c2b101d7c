//! Node.

use crate::resources::round_up_milli;
use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate, validate_update: update, validate_status: status, revalidate: false };

/// A node that names no allocatable resources offers its whole capacity.
fn default(body: &mut Tree) {
    if let Some(spec) = body.child("spec") {
        sync_first(spec, "podCIDR", "podCIDRs", None);
    }
    if let Some(status) = body.child("status") {
        if !status.has("allocatable")
            && let Some(capacity) = status.get("capacity").cloned()
        {
            status.insert("allocatable".into(), capacity);
        }
        round_up_milli(status.child("capacity"));
        round_up_milli(status.child("allocatable"));
    }
}

/// Keeps an old single field and the first of its new list the same. A single value alone makes the list; where both are
/// given the list decides, but for `wins`, which says that the single one does.
pub(super) fn sync_first(tree: &mut Tree, single: &str, list: &str, wins: Option<&str>) {
    let one = tree.text(single).to_owned();
    let entry = |value: &str| match wins {
        Some(field) => serde_json::json!({field: value}),
        None => value.into(),
    };
    let text = |value: &serde_json::Value| match wins {
        Some(field) => value.get(field).and_then(|v| v.as_str()).unwrap_or("").to_owned(),
        None => value.as_str().unwrap_or("").to_owned(),
    };
    let first = tree.get(list).and_then(|l| l.as_array()?.first()).map(text);
    match first {
        None if !one.is_empty() => {
            tree.insert(list.to_owned(), serde_json::json!([entry(&one)]));
        }
        Some(first) if one.is_empty() => {
            tree.insert(single.to_owned(), first.into());
        }
        Some(first) if first != one && wins.is_some() => {
            tree.insert(list.to_owned(), serde_json::json!([entry(&one)]));
        }
        _ => {}
    }
}

fn validate(node: &C) {
    taints(node);
    resources(node);
    let ranges = node.get("spec.podCIDRs");
    let mut families = Vec::new();
    for range in ranges.items() {
        if !super::service_validation::is_cidr(range.str()) {
            range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
        families.push(range.str().contains(':'));
    }
    if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
        ranges.invalid("may specify no more than one CIDR for each IP family");
    }
}

/// Upstream reports taints as if they stood in the metadata.
fn taints(node: &C) {
    let spec = node.get("spec.taints");
    let metadata = node.get("metadata");
    let place = metadata.get("taints");
    let Some(value) = spec.value() else { return };
    let list = place.with_value(value);
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for taint in list.items() {
        crate::meta_v1::label_name(&taint.get("key"));
        let value = taint.get("value");
        let findings = meta::names::label_value(value.str());
        if !findings.is_empty() {
            value.invalid_value(value.str(), findings.join(";"));
        }
        let effect = taint.get("effect");
        effect.required_one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        let key = (effect.str(), taint.get("key").str());
        if seen.contains(&key) {
            let mut error = meta::field::Error::duplicate(&taint.path(), taint.value_or_null());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            taint.sink().push(error);
        }
        seen.push(key);
    }
}

fn resources(node: &C) {
    for list in ["capacity", "allocatable"] {
        let status = node.get("status");
        for (name, quantity) in status.get(list).entries() {
            super::pod_spec::quantity_value(&quantity, name);
        }
    }
}

fn update(new: &C, old: &C) {
    resources(new);
    addresses(new);
    taints(new);
    let ranges = new.get("spec.podCIDRs");
    if !old.get("spec.podCIDRs").is_empty() && !ranges.same(&old.get("spec.podCIDRs")) {
        ranges.forbidden("node updates may not change podCIDR except from \"\" to valid");
    }
    let provider = new.get("spec.providerID");
    let before = old.get("spec.providerID");
    if !before.is_zero() && provider.str() != before.str() {
        provider.forbidden("node updates may not change providerID except from \"\" to valid");
    }
}

fn addresses(node: &C) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for address in node.get("status.addresses").items() {
        let key = (address.get("type").str(), address.get("address").str());
        if seen.contains(&key) {
            address.duplicate();
        }
        seen.push(key);
    }
}

fn status(new: &C, _old: &C) {
    resources(new);
    addresses(new);
}
