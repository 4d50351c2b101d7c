//! Which API group and version a Go package registers its kinds in.

/// The (group, version) pairs in which a kind of a package is known; empty for plain packages.
pub fn group_versions(package: &str, kind: &str) -> Vec<(String, String)> {
    let Some((path, version)) = package.rsplit_once('/') else { return Vec::new() };
    if !version.starts_with('v') || !version[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return Vec::new();
    }
    let one = |group: &str| vec![(group.to_owned(), version.to_owned())];
    if let Some(name) = path.strip_prefix("api/") {
        return match name {
            "core" => one(""),
            "apps" | "autoscaling" | "batch" | "extensions" | "policy" => one(name),
            "apiserverinternal" => one("internal.apiserver.k8s.io"),
            "flowcontrol" => one("flowcontrol.apiserver.k8s.io"),
            "rbac" => one("rbac.authorization.k8s.io"),
            _ => one(&format!("{name}.k8s.io")),
        };
    }
    match path {
        "apiextensions-apiserver/pkg/apis/apiextensions" => one("apiextensions.k8s.io"),
        "kube-aggregator/pkg/apis/apiregistration" => one("apiregistration.k8s.io"),
        "apimachinery/pkg/apis/meta" => meta_groups(version),
        "apiserver/pkg/apis/audit" => one("audit.k8s.io"),
        "apiserver/pkg/apis/apiserver" => match (version, kind) {
            ("v1", _) => one("apiserver.config.k8s.io"),
            (_, "AdmissionConfiguration" | "EgressSelectorConfiguration") => one("apiserver.k8s.io"),
            _ => one("apiserver.config.k8s.io"),
        },
        "client-go/pkg/apis/clientauthentication" => one("client.authentication.k8s.io"),
        "cloud-provider/config" => one("cloudcontrollermanager.config.k8s.io"),
        "controller-manager/config" => one("controllermanager.config.k8s.io"),
        "kube-controller-manager/config" => one("kubecontrollermanager.config.k8s.io"),
        "kube-proxy/config" => one("kubeproxy.config.k8s.io"),
        "kube-scheduler/config" => one("kubescheduler.config.k8s.io"),
        "kubelet/config" => one("kubelet.config.k8s.io"),
        "metrics/pkg/apis/metrics" => one("metrics.k8s.io"),
        "metrics/pkg/apis/custom_metrics" => one("custom.metrics.k8s.io"),
        "metrics/pkg/apis/external_metrics" => one("external.metrics.k8s.io"),
        "pod-security-admission/admission/api" => one("pod-security.admission.config.k8s.io"),
        _ => Vec::new(),
    }
}

/// The meta kinds stand in their own group and, unversioned, in the core group.
fn meta_groups(version: &str) -> Vec<(String, String)> {
    let mut groups = vec![("meta.k8s.io".to_owned(), version.to_owned())];
    if version == "v1" {
        groups.push((String::new(), version.to_owned()));
    }
    groups
}

/// Packages whose types are no part of any API: hubs, test types and runtime helpers.
pub fn skipped(package: &str) -> bool {
    package.contains("/testing")
        || package.contains("/testapigroup")
        || package.contains("/example")
        || package.ends_with("/unstructured")
        || matches!(
            package,
            "apimachinery/pkg/runtime"
                | "apimachinery/pkg/runtime/serializer/versioning"
                | "apiserver/pkg/apis/apiserver"
                | "client-go/tools/clientcmd/api"
                | "metrics/pkg/apis/custom_metrics"
                | "metrics/pkg/apis/external_metrics"
        )
}
