//! Service.

use std::sync::Arc;

use meta::Object;
use registry::{Ctx, KindRow, SelectableField, Sub};
use serde_json::Value;

use super::service_allocator::ServiceHooks;
use crate::gvk;
use crate::printer::{AGE, NAME, NONE, SELECTOR, age, format_map, list, str_in, text};
use crate::standard::Standard;

static SERVICE: Standard = Standard {
    rules: rules::core::service::RULES,
    status: true,
    name: registry::names::dns1123_label,
    create_on_update: true,
    fields: &[
        SelectableField::path("spec.clusterIP", &["spec", "clusterIP"]),
        SelectableField::path("spec.type", &["spec", "type"]),
    ],
    columns: &[NAME, text("Type"), text("Cluster-IP"), text("External-IP"), text("Port(s)"), AGE, SELECTOR],
    cells,
    prepare_create,
    prepare_update,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row; the hooks allocate cluster IPs and node ports.
pub fn row(hooks: Arc<ServiceHooks>) -> KindRow {
    KindRow::new("", "v1", "Service", "services", SERVICE.with_hooks(hooks))
        .short(&["svc"])
        .categories(&["all"])
        .prefix("/registry/services/specs")
        .status(SERVICE.status())
        .sub("proxy", super::PROXY_VERBS, Some(gvk("", "v1", "ServiceProxyOptions")), Sub::Proxy)
}

fn prepare_create(_cx: &Ctx, service: &mut Object) {
    rules::core::service_prepare::normalize_cluster_ips(service, None);
    drop_type_dependent(service);
}

fn prepare_update(_cx: &Ctx, service: &mut Object, old: &Object) {
    rules::core::service_prepare::normalize_cluster_ips(service, Some(old));
    rules::core::service_prepare::patch_allocated_values(service, old);
    rules::core::service_prepare::drop_type_dependent_fields(service, old);
    drop_type_dependent(service);
}

/// A service that is no load balancer has no load balancer's status.
fn drop_type_dependent(service: &mut Object) {
    if service.get_str(&["spec", "type"]) != "LoadBalancer" {
        service.remove(&["status", "loadBalancer"]);
    }
}

fn cells(service: &Object, now: i64) -> Vec<Value> {
    let cluster_ip = list(service, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or(NONE);
    let ports: Vec<String> = list(service, &["spec", "ports"]).iter().map(port).collect();
    vec![
        service.name().into(),
        service.get_str(&["spec", "type"]).into(),
        cluster_ip.into(),
        external_ip(service).into(),
        if ports.is_empty() { NONE.into() } else { ports.join(",").into() },
        age(service, now).into(),
        format_map(service.get(&["spec", "selector"])).into(),
    ]
}

fn port(port: &Value) -> String {
    let number = |field: &str| port.get(field).and_then(Value::as_i64).unwrap_or(0);
    let protocol = str_in(port, "protocol");
    match number("nodePort") {
        0 => format!("{}/{protocol}", number("port")),
        node => format!("{}:{node}/{protocol}", number("port")),
    }
}

fn external_ip(service: &Object) -> String {
    let given: Vec<&str> = list(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    match service.get_str(&["spec", "type"]) {
        "ClusterIP" | "NodePort" if given.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => given.join(","),
        "LoadBalancer" => {
            let balancers = super::balancer_addresses(service);
            let all: Vec<&str> = balancers.iter().map(String::as_str).chain(given).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => service.get_str(&["spec", "externalName"]).to_owned(),
        _ => crate::printer::UNKNOWN.to_owned(),
    }
}
