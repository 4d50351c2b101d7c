//! What cluster DNS needs in the API.

use std::net::IpAddr;

use api::k8s::core::v1::Service;
use api::k8s::rbac::v1::{ClusterRole, ClusterRoleBinding};
use client::{Client, PatchKind};
use serde_json::json;

/// Makes what cluster DNS needs in the API: the Service `kube-dns` and the role of the servers' user. Every node answers
/// on the Service's address itself, so proxies leave it alone.
///
/// # Errors
/// The API server refuses or does not answer.
pub async fn ensure_objects(client: &Client, address: IpAddr) -> Result<(), client::Error> {
    let kind = PatchKind::Apply { manager: "corten".into(), force: true };
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/name": "CoreDNS",
                "service.kubernetes.io/service-proxy-name": "corten-dns",
            },
        },
        "spec": {
            "clusterIP": address.to_string(),
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    });
    client.patch::<Service>("kube-system", "kube-dns", &kind, &service).await?;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    });
    client.patch::<ClusterRole>("", "system:coredns", &kind, &role).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
    });
    client.patch::<ClusterRoleBinding>("", "system:coredns", &kind, &binding).await.map(drop)
}
