//! ServiceAccount.

use meta::Object;
use registry::{KindRow, Sub, Verbs};
use serde_json::{Value, json};

use crate::gvk;
use crate::standard::Standard;

static SERVICE_ACCOUNT: Standard = Standard {
    rules: rules::core::service_account::RULES,
    return_deleted: true,
    prepare_create: |_, account| only_names(account),
    prepare_update: |_, account, _| only_names(account),
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "ServiceAccount", "serviceaccounts", SERVICE_ACCOUNT.main()).short(&["sa"]).sub(
        "token",
        Verbs::CREATE,
        Some(gvk("authentication.k8s.io", "v1", "TokenRequest")),
        Sub::Token,
    )
}

/// Of the references to secrets only the names count.
fn only_names(account: &mut Object) {
    let secrets = account.body.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten() {
        *secret = json!({"name": secret.get("name").cloned().unwrap_or_default()});
    }
}
