//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, int, list};
use crate::standard::Standard;

static VALIDATING: Standard = Standard {
    rules: rules::admissionregistration::webhook::VALIDATING,
    generation: true,
    unconditional_update: false,
    columns: &[NAME, int("Webhooks"), AGE],
    cells,
    ..Standard::PLAIN
};

static MUTATING: Standard = Standard { rules: rules::admissionregistration::webhook::MUTATING, ..VALIDATING };

/// The row of ValidatingWebhookConfiguration.
pub fn validating() -> KindRow {
    row("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", &VALIDATING)
}

/// The row of MutatingWebhookConfiguration.
pub fn mutating() -> KindRow {
    row("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", &MUTATING)
}

fn row(kind: &str, plural: &str, standard: &'static Standard) -> KindRow {
    KindRow::new(GROUP, "v1", kind, plural, standard.main()).cluster_scoped().categories(&["api-extensions"])
}

fn cells(configuration: &Object, now: i64) -> Vec<Value> {
    let count = list(configuration, &["webhooks"]).len();
    vec![configuration.name().into(), count.into(), age(configuration, now).into()]
}
