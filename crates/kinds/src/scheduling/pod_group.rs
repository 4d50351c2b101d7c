//! PodGroup.

use meta::Object;
use registry::{Ctx, KindRow};
use rules::Defaults;
use rules::scheduling::pod_group::drop_disabled;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static GROUP_OF_PODS: Standard = Standard {
    rules: rules::scheduling::pod_group::RULES,
    status: true,
    prepare_create: |_: &Ctx, new| drop_fields(new),
    prepare_update: |_: &Ctx, new, _| drop_fields(new),
    columns: &[NAME, text("Policy"), text("Workload"), text("Status"), AGE],
    cells,
    ..Standard::PLAIN
};

/// Metadata that an update of the status leaves alone.
const KEPT: &[&str] = &["labels", "annotations", "finalizers", "ownerReferences"];

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1alpha2", "PodGroup", "podgroups", GROUP_OF_PODS.main()).status(GROUP_OF_PODS.part(
        &["status"],
        KEPT,
        finish_status,
    ))
}

fn drop_fields(group: &mut Object) {
    group.body.child("spec").into_iter().for_each(drop_disabled);
}

/// Claims of groups (DRAWorkloadResourceClaims) are not here.
fn finish_status(group: &mut Object, _: &Object) {
    if let Some(status) = group.body.child("status") {
        status.remove("resourceClaimStatuses");
    }
}

fn cells(group: &Object, now: i64) -> Vec<Value> {
    let is_gang = group.get(&["spec", "schedulingPolicy", "gang"]).is_some_and(|gang| !gang.is_null());
    let conditions = group.get(&["status", "conditions"]).and_then(Value::as_array);
    let condition = |name: &str| conditions.into_iter().flatten().find(|c| c["type"] == name);
    let scheduled = match condition("PodGroupScheduled") {
        None => "Pending",
        Some(found) if found["status"] == "True" => "Scheduled",
        Some(_) => "Unschedulable",
    };
    let status = condition("DisruptionTarget").and_then(|c| c["reason"].as_str()).unwrap_or(scheduled);
    let workload = match group.get_str(&["spec", "podGroupTemplateRef", "workload", "workloadName"]) {
        "" => "<none>",
        name => name,
    };
    vec![
        group.name().into(),
        if is_gang { "Gang" } else { "Basic" }.into(),
        workload.into(),
        status.into(),
        age(group, now).into(),
    ]
}
