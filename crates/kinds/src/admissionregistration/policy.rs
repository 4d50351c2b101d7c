//! Validating and mutating admission policies and their bindings.

use meta::{GroupVersionKind, Object, Status};
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, UNSET, age, format_selector, int, list, text};
use crate::standard::Standard;

static VALIDATING: Standard = Standard {
    rules: rules::admissionregistration::policy::POLICY,
    status: true,
    generation: true,
    unconditional_update: false,
    columns: &[NAME, int("Validations"), text("ParamKind"), AGE],
    cells: |policy, now| policy_cells(policy, "validations", now),
    ..Standard::PLAIN
};

static MUTATING: Standard = Standard {
    status: false,
    columns: &[NAME, int("Mutations"), text("ParamKind"), AGE],
    cells: |policy, now| policy_cells(policy, "mutations", now),
    ..VALIDATING
};

static BINDING: Standard = Standard {
    rules: rules::admissionregistration::policy::BINDING,
    generation: true,
    unconditional_update: false,
    columns: &[NAME, text("PolicyName"), text("ParamRef"), AGE],
    cells: binding_cells,
    ..Standard::PLAIN
};

/// The rows of the four kinds. The mutating ones are new in v1 and still stored as v1beta1, which has the same fields.
pub fn rows() -> Vec<KindRow> {
    let row = |kind: &str, plural: &str, standard: &'static Standard| {
        KindRow::new(GROUP, "v1", kind, plural, standard.main()).cluster_scoped().categories(&["api-extensions"])
    };
    vec![
        row("MutatingAdmissionPolicy", "mutatingadmissionpolicies", &MUTATING).stored_as(
            GROUP,
            "v1beta1",
            "MutatingAdmissionPolicy",
            same,
        ),
        row("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", &BINDING).stored_as(
            GROUP,
            "v1beta1",
            "MutatingAdmissionPolicyBinding",
            same,
        ),
        row("ValidatingAdmissionPolicy", "validatingadmissionpolicies", &VALIDATING).status(VALIDATING.status_only()),
        row("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", &BINDING),
    ]
}

/// Both versions have the same fields.
fn same(_object: &mut Object, _from: &GroupVersionKind, _to: &GroupVersionKind) -> Result<(), Status> {
    Ok(())
}

fn policy_cells(policy: &Object, list_field: &str, now: i64) -> Vec<Value> {
    let part = |field: &str| policy.get_str(&["spec", "paramKind", field]);
    let parameters = match policy.get(&["spec", "paramKind"]).filter(|v| v.is_object()) {
        Some(_) => format!("{}/{}", part("apiVersion"), part("kind")),
        None => UNSET.to_owned(),
    };
    let count = list(policy, &["spec", list_field]).len();
    vec![policy.name().into(), count.into(), parameters.into(), age(policy, now).into()]
}

fn binding_cells(binding: &Object, now: i64) -> Vec<Value> {
    let part = |field: &str| binding.get_str(&["spec", "paramRef", field]);
    let selector = binding.get(&["spec", "paramRef", "selector"]).filter(|v| v.is_object());
    let parameters = match (part("namespace"), part("name")) {
        ("", "") => selector.map_or(UNSET.to_owned(), |s| format_selector(Some(s))),
        ("", name) => format!("*/{name}"),
        (_, "") => selector.map_or(UNSET.to_owned(), |s| format_selector(Some(s))),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    let policy = binding.get_str(&["spec", "policyName"]);
    vec![binding.name().into(), policy.into(), parameters.into(), age(binding, now).into()]
}
