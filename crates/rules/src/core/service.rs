//! Service.

use serde_json::{Value, json};

use crate::{Defaults, Rules, Tree};

use super::service_validation as validation;

/// Rules of the kind.
pub const RULES: Rules = Rules {
    default,
    validate: validation::create,
    validate_update: validation::update,
    validate_status: validation::status,
    revalidate: true,
};

/// Seconds that `ClientIP` affinity lasts.
const AFFINITY_SECONDS: i64 = 10_800;

/// Defaults; IP families and cluster IPs are the allocator's.
fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_str("sessionAffinity", "None");
    spec.default_str("type", "ClusterIP");
    default_affinity(spec);
    for port in spec.each("ports") {
        port.default_str("protocol", "TCP");
        if port.unset("targetPort") {
            let number = port.get("port").cloned().unwrap_or(Value::from(0));
            port.insert("targetPort".into(), number);
        }
    }
    let kind = spec.text("type").to_owned();
    let external =
        matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && !spec.unset("externalIPs"));
    if external {
        spec.default_str("externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        spec.default_value("internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        spec.default_value("allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = body.descend(&["status", "loadBalancer"]) {
            for ingress in balancer.each("ingress") {
                if !ingress.text("ip").is_empty() {
                    ingress.default_value("ipMode", "VIP");
                }
            }
        }
    }
}

fn default_affinity(spec: &mut Tree) {
    match spec.text("sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let given = spec.get("sessionAffinityConfig").and_then(|c| c.get("clientIP")?.get("timeoutSeconds"));
            if given.is_none_or(Value::is_null) {
                let config = json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
                spec.insert("sessionAffinityConfig".into(), config);
            }
        }
        _ => {}
    }
}
