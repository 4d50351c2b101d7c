//! CertificateSigningRequest.

use meta::Object;
use registry::{Ctx, KindRow, SelectableField, Sub, Verbs};
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, NONE, age, human, list, or_none, str_in, text};
use crate::standard::Standard;

static REQUEST: Standard = Standard {
    rules: rules::certificates::certificate_signing_request::RULES,
    status: true,
    fields: &[SelectableField::path("spec.signerName", &["spec", "signerName"])],
    prepare_create,
    prepare_update: |_, request, old| crate::standard::keep(request, old, "spec"),
    columns: &[NAME, AGE, text("SignerName"), text("Requestor"), text("RequestedDuration"), text("Condition")],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "CertificateSigningRequest", "certificatesigningrequests", REQUEST.main())
        .cluster_scoped()
        .short(&["csr"])
        .status(REQUEST.part(&["status"], &[], keep_decisions))
        .sub("approval", Verbs::STATUS, None, Sub::Object(REQUEST.part(&["status"], &[], keep_certificate)))
}

fn cells(request: &Object, now: i64) -> Vec<Value> {
    let wanted = request.get_i64(&["spec", "expirationSeconds"]).map_or(NONE.to_owned(), human);
    vec![
        request.name().into(),
        age(request, now).into(),
        or_none(request.get_str(&["spec", "signerName"])),
        request.get_str(&["spec", "username"]).into(),
        wanted.into(),
        condition(request).into(),
    ]
}

/// Who asks is what the server saw, not what the client says.
fn prepare_create(cx: &Ctx, request: &mut Object) {
    let user = &cx.user;
    request.set(&["spec", "username"], user.name.clone().into());
    request.set(&["spec", "uid"], user.uid.clone().into());
    request.set(&["spec", "groups"], user.groups.clone().into());
    let extra: serde_json::Map<String, Value> =
        user.extra.iter().map(|(key, values)| (key.clone(), values.clone().into())).collect();
    if extra.is_empty() {
        request.remove(&["spec", "extra"]);
    } else {
        request.set(&["spec", "extra"], extra.into());
    }
}

/// The status endpoint may not approve or deny.
fn keep_decisions(request: &mut Object, old: &Object) {
    let decision = |c: &&Value| matches!(str_in(c, "type"), "Approved" | "Denied");
    let mut conditions: Vec<Value> =
        list(request, &["status", "conditions"]).iter().filter(|c| !decision(c)).cloned().collect();
    let old_ones = list(old, &["status", "conditions"]);
    conditions.splice(0..0, old_ones.iter().filter(decision).cloned());
    if conditions.is_empty() {
        request.remove(&["status", "conditions"]);
    } else {
        request.set(&["status", "conditions"], conditions.into());
    }
    date_conditions(request, old);
}

/// A condition that comes without times gets them: of its last change, if nothing but the words changed, else of now.
fn date_conditions(request: &mut Object, old: &Object) {
    let now = Value::from(meta::time::format_seconds(rt::time::now()));
    let before = list(old, &["status", "conditions"]).to_vec();
    let conditions = request.status_mut().get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let same = before
            .iter()
            .find(|b| b.get("type") == condition.get("type") && b.get("status") == condition.get("status"));
        let changed = same.and_then(|b| b.get("lastTransitionTime")).filter(|t| t.is_string()).unwrap_or(&now).clone();
        for (field, value) in [("lastTransitionTime", changed), ("lastUpdateTime", now.clone())] {
            if str_in(condition, field).is_empty() {
                condition[field] = value;
            }
        }
    }
}

/// The approval endpoint may not issue.
fn keep_certificate(request: &mut Object, old: &Object) {
    match old.get(&["status", "certificate"]).cloned() {
        Some(certificate) => request.set(&["status", "certificate"], certificate),
        None => {
            request.remove(&["status", "certificate"]);
        }
    }
    date_conditions(request, old);
}

fn condition(request: &Object) -> String {
    let has = |kind: &str| list(request, &["status", "conditions"]).iter().any(|c| str_in(c, "type") == kind);
    let mut text = if has("Denied") {
        "Denied".to_owned()
    } else if has("Approved") {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !request.get_str(&["status", "certificate"]).is_empty() {
        text.push_str(",Issued");
    }
    text
}
