//! Resource requirements, of containers and of the pod as a whole.

use meta::field::Error;
use meta::names;
use meta::quantity::Quantity;

use crate::C;
use crate::resources::quantity;

/// Whether requests may be lower than limits.
fn overcommit_allowed(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether a resource exists that has no domain in its name.
pub fn standard_resource_name(name: &str) -> bool {
    const STANDARD: [&str; 22] = [
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "storage",
        "requests.storage",
        "services.nodeports",
        "services.loadbalancers",
        "bindings",
        "podtemplates",
    ];
    STANDARD.contains(&name) || name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// Whether a resource is counted in whole numbers.
fn is_integer(name: &str) -> bool {
    const INTEGER: [&str; 8] = [
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
    ];
    INTEGER.contains(&name) || name == "services.loadbalancers" || is_extended(name)
}

/// A name in a container's requirements; findings are reported at the given place.
pub fn container_resource_name(at: &C, name: &str) {
    let findings = names::qualified_name(name);
    if !findings.is_empty() {
        for finding in findings {
            at.invalid_value(name, finding);
        }
        return;
    }
    if !name.contains('/') {
        if !standard_resource_name(name) {
            at.invalid_value(name, "must be a standard resource type or fully qualified");
        }
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
            at.invalid_value(name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        at.invalid_value(name, "doesn't follow extended resource name standard");
    }
}

/// A quantity that is not negative, and whole where the resource is.
pub fn quantity_value(at: &C, name: &str) -> Option<Quantity> {
    let value = quantity(at.value()?)?;
    if value.sign() < 0 {
        at.invalid("must be greater than or equal to 0");
    }
    if is_integer(name) && value.milli_value() % 1000 != 0 {
        at.invalid("must be an integer");
    }
    Some(value)
}

/// Requests and limits; `claims` are the names of the pod's resource claims, if they matter here.
pub fn requirements(resources: &C, claims: Option<&[&str]>) {
    list_pair(resources, container_resource_name);
    if let Some(claims) = claims {
        container_claims(&resources.get("claims"), claims);
    }
}

fn list_pair(resources: &C, name_rule: fn(&C, &str)) {
    let limits = resources.get("limits");
    let requests = resources.get("requests");
    let mut huge_pages = false;
    let mut basic = false;
    for (name, limit) in limits.entries() {
        name_rule(&limit, name);
        quantity_value(&limit, name);
        huge_pages |= name.starts_with("hugepages-");
        basic |= matches!(name, "cpu" | "memory");
    }
    for (name, request) in requests.entries() {
        name_rule(&request, name);
        let value = quantity_value(&request, name);
        huge_pages |= name.starts_with("hugepages-");
        basic |= matches!(name, "cpu" | "memory");
        let limit = limits.key(name);
        let bound = limit.value().and_then(quantity);
        match (value, bound) {
            (Some(value), Some(bound)) => {
                let word = if value != bound && !overcommit_allowed(name) {
                    "must be equal to"
                } else if value > bound {
                    "must be less than or equal to"
                } else {
                    continue;
                };
                requests.invalid_value(value.to_string(), format!("{word} {name} limit of {bound}"));
            }
            (_, None) if !limit.exists() && !overcommit_allowed(name) => {
                limits.missing("Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    if huge_pages && !basic {
        resources.forbidden("HugePages require cpu or memory");
    }
}

fn container_claims(used: &C, claims: &[&str]) {
    let mut seen = Vec::new();
    for claim in used.items() {
        let name = claim.get("name");
        if !name.required() {
            continue;
        }
        let request = claim.get("request");
        if !request.is_zero() {
            request.check(names::dns1123_label);
        }
        let key = (name.str(), request.str());
        if seen.contains(&key) {
            claim.sink().push(Error::duplicate(&claim.path(), name.str()));
        }
        seen.push(key);
        if !claims.contains(&name.str()) {
            claim.sink().push(Error::not_found(&claim.path(), name.str()));
        }
    }
}

/// `spec.resourceClaims`; gives their names.
pub fn pod_claims<'v>(list: &C<'_, 'v>) -> Vec<&'v str> {
    let mut all: Vec<&'v str> = Vec::new();
    for claim in list.items() {
        let name = claim.get("name");
        if !name.required() {
            continue;
        }
        if all.contains(&name.str()) {
            name.duplicate();
            continue;
        }
        name.check(names::dns1123_label);
        all.push(name.str());
        let (direct, template) = (claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
        let given = [&direct, &template].into_iter().filter(|c| c.exists()).count();
        if given != 1 {
            let word = if given == 0 {
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            } else {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            };
            claim.sink().push(Error::invalid(&claim.path(), claim.value_or_null(), word));
        }
        for reference in [direct, template].iter().filter(|c| c.exists()) {
            reference.check(names::dns1123_subdomain);
        }
    }
    all
}

/// Resources of the pod as a whole.
pub fn pod_level(resources: &C, spec: &C, _claims: &[&str]) {
    if !resources.exists() {
        return;
    }
    if spec.get("os.name").str() == "windows" {
        return resources.forbidden("may not be set for a windows pod");
    }
    if resources.get("claims").exists() {
        resources.get("claims").forbidden("claims may not be set for Resources at pod-level");
    }
    list_pair(resources, |at, name| {
        if !name.contains('/') && !standard_resource_name(name) {
            at.invalid_value(name, "must be a standard resource type or fully qualified");
        } else if !crate::core::pod_level_resources::is_pod_level(name) {
            at.sink().push(Error::not_supported(&at.path(), name, &["cpu", "hugepages-*", "memory"]));
        }
    });
    let limits = resources.get("limits");
    for list in ["containers", "initContainers"] {
        for container in spec.get(list).items() {
            let own = container.get("resources.limits");
            for (name, limit) in own.entries() {
                let whole = limits.key(name);
                if let (Some(own), Some(bound)) = (limit.value().and_then(quantity), whole.value().and_then(quantity))
                    && own > bound
                {
                    limit
                        .invalid_value(own.to_string(), format!("must be less than or equal to pod limits of {bound}"));
                }
            }
        }
    }
}
