//! The role that metrics-server brings with it.

use api::k8s::rbac::v1::ClusterRole;
use client::{Client, Error, PatchKind};
use serde_json::json;

/// Makes the role that lets viewers, editors and admins read metrics.
///
/// # Errors
/// The API server does not take it.
pub async fn ensure_objects(client: &Client) -> Result<(), Error> {
    let kind = PatchKind::Apply { manager: "corten".into(), force: true };
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {
            "name": "system:aggregated-metrics-reader",
            "labels": {
                "rbac.authorization.k8s.io/aggregate-to-admin": "true",
                "rbac.authorization.k8s.io/aggregate-to-edit": "true",
                "rbac.authorization.k8s.io/aggregate-to-view": "true",
            },
        },
        "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
    });
    client.patch::<ClusterRole>("", "system:aggregated-metrics-reader", &kind, &role).await.map(drop)
}
