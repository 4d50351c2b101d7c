//! `KubeletConfiguration`: the settings that have an effect here; the others of upstream are taken with a warning, unknown
//! ones are an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{Error, Options, authorization, bytes, duration, reserve};
use crate::k8s::core::Taint;

/// Upstream's settings that change nothing here.
const WITHOUT_EFFECT: &[&str] = &[
    "enableServer",
    "syncFrequency",
    "fileCheckFrequency",
    "httpCheckFrequency",
    "tlsCipherSuites",
    "tlsCurvePreferences",
    "tlsMinVersion",
    "rotateCertificates",
    "registryPullQPS",
    "registryBurst",
    "imagePullCredentialsVerificationPolicy",
    "preloadedImagesVerificationAllowlist",
    "eventRecordQPS",
    "eventBurst",
    "enableDebuggingHandlers",
    "enableContentionProfiling",
    "healthzBindAddress",
    "oomScoreAdj",
    "streamingConnectionIdleTimeout",
    "imageMinimumGCAge",
    "volumeStatsAggPeriod",
    "kubeletCgroups",
    "systemCgroups",
    "cgroupsPerQOS",
    "cgroupDriver",
    "cpuManagerPolicy",
    "singleProcessOOMKill",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "memoryManagerPolicy",
    "topologyManagerPolicy",
    "topologyManagerScope",
    "topologyManagerPolicyOptions",
    "qosReserved",
    "runtimeRequestTimeout",
    "hairpinMode",
    "podPidsLimit",
    "runOnce",
    "cpuCFSQuota",
    "cpuCFSQuotaPeriod",
    "nodeStatusMaxImages",
    "maxOpenFiles",
    "contentType",
    "kubeAPIQPS",
    "kubeAPIBurst",
    "serializeImagePulls",
    "maxParallelImagePulls",
    "evictionHard",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "evictionPressureTransitionPeriod",
    "evictionMaxPodGracePeriod",
    "evictionMinimumReclaim",
    "mergeDefaultEvictionSettings",
    "podsPerCore",
    "enableControllerAttachDetach",
    "protectKernelDefaults",
    "makeIPTablesUtilChains",
    "iptablesMasqueradeBit",
    "iptablesDropBit",
    "featureGates",
    "failSwapOn",
    "memorySwap",
    "containerLogMaxWorkers",
    "containerLogMonitorInterval",
    "configMapAndSecretChangeDetectionStrategy",
    "reservedSystemCPUs",
    "showHiddenMetricsForVersion",
    "systemReservedCgroup",
    "kubeReservedCgroup",
    "enforceNodeAllocatable",
    "volumePluginDir",
    "kernelMemcgNotification",
    "logging",
    "enableSystemLogHandler",
    "enableSystemLogQuery",
    "shutdownGracePeriod",
    "shutdownGracePeriodCriticalPods",
    "shutdownGracePeriodByPodPriority",
    "reservedMemory",
    "enableProfilingHandler",
    "enableDebugFlagsHandler",
    "memoryThrottlingFactor",
    "memoryReservationPolicy",
    "tracing",
    "localStorageCapacityIsolation",
    "failCgroupV1",
    "userNamespaces",
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Switch {
    enabled: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct X509 {
    client_ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Authentication {
    anonymous: Switch,
    webhook: Switch,
    x509: X509,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Authorization {
    mode: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CrashLoop {
    max_container_restart_period: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    static_pod_path: Option<PathBuf>,
    pod_logs_dir: Option<PathBuf>,
    address: Option<String>,
    port: Option<u16>,
    read_only_port: Option<u16>,
    tls_cert_file: Option<PathBuf>,
    tls_private_key_file: Option<PathBuf>,
    authentication: Authentication,
    authorization: Authorization,
    healthz_port: Option<u16>,
    cluster_domain: Option<String>,
    #[serde(rename = "clusterDNS")]
    cluster_dns: Option<Vec<String>>,
    node_status_update_frequency: Option<String>,
    node_status_report_frequency: Option<String>,
    node_lease_duration_seconds: Option<u64>,
    #[serde(rename = "imageMaximumGCAge")]
    image_maximum_gc_age: Option<String>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high: Option<u8>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_gc_low: Option<u8>,
    cgroup_root: Option<String>,
    max_pods: Option<u32>,
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    resolv_conf: Option<PathBuf>,
    container_log_max_size: Option<String>,
    container_log_max_files: Option<usize>,
    system_reserved: Option<BTreeMap<String, String>>,
    kube_reserved: Option<BTreeMap<String, String>>,
    allowed_unsafe_sysctls: Option<Vec<String>>,
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
    crash_loop_back_off: CrashLoop,
    seccomp_default: Option<bool>,
    register_with_taints: Option<Vec<Taint>>,
    register_node: Option<bool>,
    container_runtime_endpoint: Option<String>,
    image_service_endpoint: Option<String>,
}

/// Names of the fields above, and of the file's own two.
const KNOWN: &[&str] = &[
    "apiVersion",
    "kind",
    "staticPodPath",
    "podLogsDir",
    "address",
    "port",
    "readOnlyPort",
    "tlsCertFile",
    "tlsPrivateKeyFile",
    "authentication",
    "authorization",
    "healthzPort",
    "clusterDomain",
    "clusterDNS",
    "nodeStatusUpdateFrequency",
    "nodeStatusReportFrequency",
    "nodeLeaseDurationSeconds",
    "imageMaximumGCAge",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "cgroupRoot",
    "maxPods",
    "podCIDR",
    "resolvConf",
    "containerLogMaxSize",
    "containerLogMaxFiles",
    "systemReserved",
    "kubeReserved",
    "allowedUnsafeSysctls",
    "providerID",
    "crashLoopBackOff",
    "seccompDefault",
    "registerWithTaints",
    "registerNode",
    "containerRuntimeEndpoint",
    "imageServiceEndpoint",
];

/// Applies a file's text to the options.
pub fn apply(text: &str, path: &Path, options: &mut Options) -> Result<(), Error> {
    let fail = |message: String| Error::File { path: path.to_path_buf(), message };
    let value: Value = serde_yaml_ng::from_str(text).map_err(|e| fail(e.to_string()))?;
    let fields = value.as_object().ok_or_else(|| fail("must be an object".to_owned()))?;
    if fields.get("kind").and_then(Value::as_str) != Some("KubeletConfiguration") {
        return Err(fail("kind must be KubeletConfiguration".to_owned()));
    }
    if fields.get("apiVersion").and_then(Value::as_str) != Some("kubelet.config.k8s.io/v1beta1") {
        return Err(fail("apiVersion must be kubelet.config.k8s.io/v1beta1".to_owned()));
    }
    for name in fields.keys().map(String::as_str).filter(|name| !KNOWN.contains(name)) {
        if !WITHOUT_EFFECT.contains(&name) {
            return Err(fail(format!("strict decoding error: unknown field {name:?}")));
        }
        tracing::warn!(setting = name, "this setting has no effect");
    }
    let file: File = serde_json::from_value(value).map_err(|e| fail(e.to_string()))?;
    plain(&file, options)?;
    parsed(file, path, options)
}

fn plain(file: &File, options: &mut Options) -> Result<(), Error> {
    fn set<T: Clone>(to: &mut T, from: Option<&T>) {
        from.cloned().into_iter().for_each(|value| *to = value);
    }
    set(&mut options.runtime_endpoint, file.container_runtime_endpoint.as_ref());
    set(&mut options.image_endpoint, file.image_service_endpoint.as_ref());
    let c = &mut options.config;
    c.static_pod_path =
        file.static_pod_path.clone().or_else(|| c.static_pod_path.take()).filter(|p| !p.as_os_str().is_empty());
    set(&mut c.pod_logs_dir, file.pod_logs_dir.as_ref());
    set(&mut c.server.port, file.port.as_ref());
    set(&mut c.server.read_only_port, file.read_only_port.as_ref());
    set(&mut c.server.healthz_port, file.healthz_port.as_ref());
    set(&mut c.cluster_domain, file.cluster_domain.as_ref());
    set(&mut c.cluster_dns, file.cluster_dns.as_ref());
    set(&mut c.image_gc_high, file.image_gc_high.as_ref());
    set(&mut c.image_gc_low, file.image_gc_low.as_ref());
    set(&mut c.cgroup_root, file.cgroup_root.as_ref());
    set(&mut c.max_pods, file.max_pods.as_ref());
    set(&mut c.pod_cidr, file.pod_cidr.as_ref());
    set(&mut c.resolv_conf, file.resolv_conf.as_ref());
    set(&mut c.log_max_files, file.container_log_max_files.as_ref());
    set(&mut c.allowed_unsafe_sysctls, file.allowed_unsafe_sysctls.as_ref());
    set(&mut c.provider_id, file.provider_id.as_ref());
    set(&mut c.seccomp_default, file.seccomp_default.as_ref());
    set(&mut c.taints, file.register_with_taints.as_ref());
    set(&mut c.register_node, file.register_node.as_ref());
    // In a file, upstream's defaults are the safe ones.
    let auth = &mut c.server.auth;
    auth.anonymous = file.authentication.anonymous.enabled.unwrap_or(false);
    auth.webhook_authentication = file.authentication.webhook.enabled.unwrap_or(true);
    auth.webhook_authorization = authorization(file.authorization.mode.as_deref().unwrap_or("Webhook"))?;
    Ok(())
}

fn parsed(file: File, path: &Path, options: &mut Options) -> Result<(), Error> {
    let c = &mut options.config;
    if let Some(address) = &file.address {
        let bad =
            |e: std::net::AddrParseError| Error::File { path: path.to_path_buf(), message: format!("address: {e}") };
        c.server.address = address.parse().map_err(bad)?;
    }
    if let Some(text) = &file.node_status_update_frequency {
        c.status_frequency = duration("nodeStatusUpdateFrequency", text)?;
    }
    if let Some(text) = &file.node_status_report_frequency {
        c.status_report = duration("nodeStatusReportFrequency", text)?;
    }
    if let Some(seconds) = file.node_lease_duration_seconds.filter(|s| *s > 0) {
        c.lease_duration = std::time::Duration::from_secs(seconds);
    }
    if let Some(text) = &file.image_maximum_gc_age {
        c.image_maximum_age = duration("imageMaximumGCAge", text)?;
    }
    if let Some(text) = &file.crash_loop_back_off.max_container_restart_period {
        c.max_container_restart_period = duration("maxContainerRestartPeriod", text)?;
    }
    if let Some(text) = &file.container_log_max_size {
        c.log_max_size = bytes("containerLogMaxSize", text)?;
    }
    for list in [file.kube_reserved, file.system_reserved].into_iter().flatten() {
        reserve(&mut c.reserved, list);
    }
    for (from, to) in [
        (file.authentication.x509.client_ca_file, &mut c.server.client_ca),
        (file.tls_cert_file, &mut c.server.certificate),
        (file.tls_private_key_file, &mut c.server.key),
    ] {
        if let Some(from) = from.filter(|p| !p.as_os_str().is_empty()) {
            *to = std::fs::read(&from).map_err(|source| Error::Read { path: from, source })?;
        }
    }
    Ok(())
}
