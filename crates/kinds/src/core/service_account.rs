//! ServiceAccount.

use registry::{KindRow, Sub, Verbs};

use crate::gvk;
use crate::standard::Standard;

static SERVICE_ACCOUNT: Standard =
    Standard { rules: rules::core::service_account::RULES, return_deleted: true, ..Standard::PLAIN };

/// The row.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "ServiceAccount", "serviceaccounts", SERVICE_ACCOUNT.main()).short(&["sa"]).sub(
        "token",
        Verbs::CREATE,
        Some(gvk("authentication.k8s.io", "v1", "TokenRequest")),
        Sub::Token,
    )
}
