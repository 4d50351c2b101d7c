//! What the API server itself puts into the store: namespaces, priority classes, the `kubernetes` Service and its endpoints, the
//! default ServiceCIDR.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use auth_api::{Edit, Lookup};
use futures::FutureExt;
use meta::{GroupVersionResource, Object, Status};
use registry::{Access, Registry};
use serde_json::{Value, json};

use crate::config::{Config, EndpointReconciler, PostStart};
use crate::server::{State, run_hook};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Starts the hooks.
pub(crate) fn start(state: &Arc<State>) {
    let registry = state.registry.clone();
    hook(state, "start-system-namespaces-controller", registry.clone(), |access| namespaces(access).boxed());
    hook(state, "scheduling/bootstrap-system-priority-classes", registry.clone(), |access| {
        priority_classes(access).boxed()
    });
    let wanted = Wanted::new(&state.config);
    if let Some(wanted) = wanted {
        hook(state, "bootstrap-controller", registry, move |access| kubernetes_service(access, wanted.clone()).boxed());
    }
}

fn hook<F>(state: &Arc<State>, name: &'static str, registry: Arc<Registry>, work: F)
where
    F: Fn(Access) -> futures::future::BoxFuture<'static, Result<(), Status>> + Send + Sync + 'static,
{
    let run = Box::new(move || work(Access::new(registry.clone())));
    run_hook(state, PostStart { name, run });
}

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap_or_default()
}

/// Creates what is missing; what somebody else made first is fine.
async fn ensure(access: &Access, gvr: &GroupVersionResource, wanted: Object) -> Result<(), Status> {
    if access.get(gvr, wanted.namespace(), wanted.name()).await?.is_some() {
        return Ok(());
    }
    match access.create(gvr, wanted).await {
        Err(status) if !status.is_already_exists() => Err(status),
        _ => Ok(()),
    }
}

async fn namespaces(access: Access) -> Result<(), Status> {
    let gvr = GroupVersionResource::new("", "v1", "namespaces");
    for name in NAMESPACES {
        let wanted = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(&access, &gvr, object(wanted)).await?;
    }
    Ok(())
}

async fn priority_classes(access: Access) -> Result<(), Status> {
    let gvr = GroupVersionResource::new("scheduling.k8s.io", "v1", "priorityclasses");
    let classes = [
        (
            "system-node-critical",
            2_000_001_000_i64,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    for (name, value, description) in classes {
        let wanted = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description,
        });
        ensure(&access, &gvr, object(wanted)).await?;
    }
    Ok(())
}

/// What the `kubernetes` Service shall be.
#[derive(Clone)]
struct Wanted {
    address: SocketAddr,
    cluster_ip: String,
    cidrs: Vec<String>,
    reconciler: EndpointReconciler,
}

impl Wanted {
    fn new(config: &Config) -> Option<Self> {
        Some(Self {
            address: config.advertise?,
            cluster_ip: config.kubernetes_service_ip?.to_string(),
            cidrs: config.service_cidrs.clone(),
            reconciler: config.endpoint_reconciler,
        })
    }
}

async fn kubernetes_service(access: Access, wanted: Wanted) -> Result<(), Status> {
    namespaces(access.clone()).await?;
    if !wanted.cidrs.is_empty() {
        let gvr = GroupVersionResource::new("networking.k8s.io", "v1", "servicecidrs");
        let cidr = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": wanted.cidrs},
        });
        ensure(&access, &gvr, object(cidr)).await?;
        mark_ready(&access, &gvr).await?;
    }
    let family = if wanted.address.is_ipv4() { "IPv4" } else { "IPv6" };
    let services = GroupVersionResource::new("", "v1", "services");
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": wanted.cluster_ip, "clusterIPs": [wanted.cluster_ip],
            "ipFamilies": [family], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": wanted.address.port()}],
        },
    });
    ensure(&access, &services, object(service)).await?;
    match wanted.reconciler {
        EndpointReconciler::Alone => publish(&access, wanted.address, &[wanted.address.ip()]).await,
        EndpointReconciler::MasterCount(count) => add(&access, wanted.address, count).await,
        // The one keeps the leases, the other wants nothing.
        EndpointReconciler::Lease | EndpointReconciler::None => Ok(()),
    }
}

/// Adds our address to those there are; of too many the first by order stay, ours among them.
async fn add(access: &Access, own: SocketAddr, count: usize) -> Result<(), Status> {
    let endpoints = GroupVersionResource::new("", "v1", "endpoints");
    let found = access.get_live(&endpoints, "default", "kubernetes").await?;
    let listed = found.as_ref().and_then(|e| e.get(&["subsets"])?.get(0)?.get("addresses")?.as_array().cloned());
    let mut ips: Vec<IpAddr> =
        listed.unwrap_or_default().iter().filter_map(|a| a["ip"].as_str()?.parse().ok()).collect();
    if !ips.contains(&own.ip()) {
        ips.push(own.ip());
    }
    ips.sort();
    while ips.len() > count {
        let Some(other) = ips.iter().position(|ip| *ip != own.ip()) else { break };
        ips.remove(other);
    }
    publish(access, own, &ips).await
}

/// Makes these addresses the `kubernetes` Service's endpoints.
///
/// # Errors
/// The writes'.
pub(crate) async fn publish(access: &Access, own: SocketAddr, ips: &[IpAddr]) -> Result<(), Status> {
    let family = if own.is_ipv4() { "IPv4" } else { "IPv6" };
    let port = json!([{"name": "https", "protocol": "TCP", "port": own.port()}]);
    let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": addresses, "ports": port}],
    });
    replace(access, &GroupVersionResource::new("", "v1", "endpoints"), object(endpoints), "subsets").await?;
    let ready: Vec<Value> =
        ips.iter().map(|ip| json!({"addresses": [ip.to_string()], "conditions": {"ready": true}})).collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": family,
        "endpoints": ready,
        "ports": port,
    });
    let slices = GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices");
    replace(access, &slices, object(slice), "endpoints").await
}

/// Says that the default ServiceCIDR is ready, once; of others the controller manager says it.
async fn mark_ready(access: &Access, gvr: &GroupVersionResource) -> Result<(), Status> {
    let Some(found) = access.get_live(gvr, "", "kubernetes").await? else { return Ok(()) };
    if found.get(&["status", "conditions"]).and_then(Value::as_array).is_some_and(|c| !c.is_empty()) {
        return Ok(());
    }
    let mut fresh = (*found).clone();
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": meta::time::format_seconds(rt::time::now()),
    });
    fresh.body.insert("status".into(), json!({"conditions": [condition]}));
    access.update_status(gvr, fresh).await.map(drop)
}

/// Creates the object, or puts its field right when it differs.
async fn replace(access: &Access, gvr: &GroupVersionResource, wanted: Object, field: &str) -> Result<(), Status> {
    let found = access.get_live(gvr, wanted.namespace(), wanted.name()).await?;
    let Some(found) = found else { return ensure(access, gvr, wanted).await };
    let mut fresh = (*found).clone();
    for field in [field, "ports"] {
        if let Some(value) = wanted.body.get(field) {
            fresh.body.insert(field.into(), value.clone());
        }
    }
    access.update(gvr, fresh).await.map(drop)
}
