//! The one list of controllers.

use futures::future::BoxFuture;

use crate::frame::Context;
use crate::{cluster, network, storage, workload};

/// A controller.
pub struct Entry {
    /// Upstream's name.
    pub name: &'static str,
    /// Its service account in `kube-system`.
    pub service_account: &'static str,
    /// Name that its events carry.
    pub component: &'static str,
    /// Whether `*` includes it.
    pub default: bool,
    /// Runs it until its shutdown.
    pub start: fn(Context) -> BoxFuture<'static, ()>,
}

macro_rules! entries {
    ($($name:literal, $account:literal, $component:literal, $default:literal, $run:path;)*) => {
        /// All controllers.
        pub static CONTROLLERS: &[Entry] = &[$(Entry {
            name: $name,
            service_account: $account,
            component: $component,
            default: $default,
            start: |context| Box::pin($run(context)),
        }),*];
    };
}

/// Names that upstream's `--controllers` takes as well, and what they mean.
pub static ALIASES: &[(&str, &str)] = &[
    ("bootstrapsigner", "bootstrap-signer-controller"),
    ("clusterrole-aggregation", "clusterrole-aggregation-controller"),
    ("cronjob", "cronjob-controller"),
    ("csrapproving", "certificatesigningrequest-approving-controller"),
    ("csrcleaner", "certificatesigningrequest-cleaner-controller"),
    ("csrsigning", "certificatesigningrequest-signing-controller"),
    ("daemonset", "daemonset-controller"),
    ("deployment", "deployment-controller"),
    ("disruption", "disruption-controller"),
    ("endpoint", "endpoints-controller"),
    ("endpointslice", "endpointslice-controller"),
    ("endpointslicemirroring", "endpointslice-mirroring-controller"),
    ("ephemeral-volume", "ephemeral-volume-controller"),
    ("garbagecollector", "garbage-collector-controller"),
    ("horizontalpodautoscaling", "horizontal-pod-autoscaler-controller"),
    ("job", "job-controller"),
    ("legacy-service-account-token-cleaner", "legacy-serviceaccount-token-cleaner-controller"),
    ("namespace", "namespace-controller"),
    ("nodeipam", "node-ipam-controller"),
    ("nodelifecycle", "node-lifecycle-controller"),
    ("attachdetach", "persistentvolume-attach-detach-controller"),
    ("persistentvolume-binder", "persistentvolume-binder-controller"),
    ("persistentvolume-expander", "persistentvolume-expander-controller"),
    ("podgc", "pod-garbage-collector-controller"),
    ("pv-protection", "persistentvolume-protection-controller"),
    ("pvc-protection", "persistentvolumeclaim-protection-controller"),
    ("replicaset", "replicaset-controller"),
    ("replicationcontroller", "replicationcontroller-controller"),
    ("resource-claim-controller", "resourceclaim-controller"),
    ("resourcequota", "resourcequota-controller"),
    ("root-ca-cert-publisher", "root-ca-certificate-publisher-controller"),
    ("serviceaccount", "serviceaccount-controller"),
    ("serviceaccount-token", "serviceaccount-token-controller"),
    ("statefulset", "statefulset-controller"),
    ("storage-version-gc", "storageversion-garbage-collector-controller"),
    ("svm", "storage-version-migrator-controller"),
    ("tokencleaner", "token-cleaner-controller"),
    ("ttl", "ttl-controller"),
    ("ttl-after-finished", "ttl-after-finished-controller"),
];

/// Upstream's controllers that need a cloud, or a feature that is off by default in 1.36: naming them is no mistake, but
/// there is nothing to run.
pub static ABSENT: &[&str] = &[
    "cloud-node-lifecycle-controller",
    "kube-apiserver-serving-clustertrustbundle-publisher-controller",
    "node-route-controller",
    "podcertificaterequest-cleaner-controller",
    "podgroup-protection-controller",
    "resourcepoolstatusrequest-controller",
    "selinux-warning-controller",
    "service-lb-controller",
    "storage-version-migrator-controller",
    "storageversion-garbage-collector-controller",
];

entries! {
    "replicaset-controller", "replicaset-controller", "replicaset-controller", true, workload::replicaset::run;
    "replicationcontroller-controller", "replication-controller", "replication-controller", true, workload::replicationcontroller::run;
    "deployment-controller", "deployment-controller", "deployment-controller", true, workload::deployment::run;
    "statefulset-controller", "statefulset-controller", "statefulset-controller", true, workload::statefulset::run;
    "daemonset-controller", "daemon-set-controller", "daemonset-controller", true, workload::daemonset::run;
    "job-controller", "job-controller", "job-controller", true, workload::job::run;
    "cronjob-controller", "cronjob-controller", "cronjob-controller", true, workload::cronjob::run;
    "ttl-after-finished-controller", "ttl-after-finished-controller", "ttl-after-finished-controller", true, workload::ttl_after_finished::run;
    "horizontal-pod-autoscaler-controller", "horizontal-pod-autoscaler", "horizontal-pod-autoscaler", true, workload::horizontal::run;
    "disruption-controller", "disruption-controller", "controllermanager", true, workload::disruption::run;
    "resourcequota-controller", "resourcequota-controller", "resourcequota-controller", true, cluster::resource_quota::run;
    "clusterrole-aggregation-controller", "clusterrole-aggregation-controller", "clusterrole-aggregation-controller", true, cluster::role_aggregation::run;
    "persistentvolumeclaim-protection-controller", "pvc-protection-controller", "pvc-protection-controller", true, storage::protection::run_claims;
    "persistentvolume-protection-controller", "pv-protection-controller", "pv-protection-controller", true, storage::protection::run_volumes;
    "volumeattributesclass-protection-controller", "volumeattributesclass-protection-controller", "vac-protection-controller", true, storage::protection::run_classes;
    "podgroup-protection-controller", "podgroup-protection-controller", "podgroup-protection-controller", true, cluster::pod_group_protection::run;
    "ephemeral-volume-controller", "ephemeral-volume-controller", "ephemeral_volume", true, storage::ephemeral::run;
    "persistentvolume-binder-controller", "persistent-volume-binder", "persistentvolume-controller", true, storage::binder::run;
    "certificatesigningrequest-approving-controller", "certificate-controller", "csrapproving", true, cluster::certificates::run_approver;
    "certificatesigningrequest-signing-controller", "certificate-controller", "csrsigning", true, cluster::certificates::run_signer;
    "certificatesigningrequest-cleaner-controller", "certificate-controller", "csrcleaner", true, cluster::certificates::run_cleaner;
    "serviceaccount-token-controller", "tokens-controller", "tokens-controller", true, cluster::account_tokens::run;
    "persistentvolume-attach-detach-controller", "attachdetach-controller", "attachdetach-controller", true, storage::attach_detach::run;
    "persistentvolume-expander-controller", "expand-controller", "volume_expand", true, storage::expander::run;
    "ttl-controller", "ttl-controller", "ttl-controller", true, cluster::ttl::run;
    "bootstrap-signer-controller", "bootstrap-signer", "bootstrap-signer", false, cluster::bootstrap::run_signer;
    "token-cleaner-controller", "token-cleaner", "token-cleaner", false, cluster::bootstrap::run_cleaner;
    "legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner", "legacy-service-account-token-cleaner", true, cluster::legacy_tokens::run;
    "resourceclaim-controller", "resource-claim-controller", "resource_claim", true, cluster::resource_claim::run;
    "device-taint-eviction-controller", "device-taint-eviction-controller", "device-taint-eviction-controller", true, cluster::device_taints::run;
    "local-path-provisioner-controller", "persistent-volume-binder", "corten.local/local-path", false, storage::local_path::run;
    "node-ip-load-balancer-controller", "service-controller", "service-lb-controller", false, network::service_lb::run;
    "endpointslice-controller", "endpointslice-controller", "endpoint-slice-controller", true, network::endpointslice::run;
    "endpointslice-mirroring-controller", "endpointslicemirroring-controller", "endpoint-slice-mirroring-controller", true, network::mirror::run;
    "service-cidr-controller", "service-cidrs-controller", "service-cidr-controller", true, network::service_cidr::run;
    "endpoints-controller", "endpoint-controller", "endpoint-controller", true, network::endpoints::run;
    "namespace-controller", "namespace-controller", "namespace-controller", true, cluster::namespace::run;
    "serviceaccount-controller", "service-account-controller", "serviceaccount-controller", true, cluster::service_account::run;
    "garbage-collector-controller", "generic-garbage-collector", "garbage-collector-controller", true, cluster::gc::run;
    "validatingadmissionpolicy-status-controller", "validatingadmissionpolicy-status-controller", "validatingadmissionpolicy-status-controller", true, cluster::policy_status::run;
    "root-ca-certificate-publisher-controller", "root-ca-cert-publisher", "root-ca-cert-publisher", true, cluster::root_ca::run;
    "node-lifecycle-controller", "node-controller", "node-controller", true, cluster::node_lifecycle::run;
    "taint-eviction-controller", "node-controller", "taint-eviction-controller", true, cluster::taint_eviction::run;
    "pod-garbage-collector-controller", "pod-garbage-collector", "pod-garbage-collector-controller", true, cluster::pod_gc::run;
    "node-ipam-controller", "node-controller", "cidrAllocator", true, cluster::node_ipam::run;
}
