//! Validation of pod specs, in pods and in the templates of workloads.

mod affinity;
mod container;
mod env;
mod probe;
mod resources;
mod security;
mod volume;

use std::collections::BTreeMap;

use meta::names;

use crate::C;
use crate::meta_v1;

pub use affinity::{node_selector_terms, tolerations};
pub use resources::{quantity_value, requirements, standard_resource_name};
pub use volume::{first_source, host_path};

/// Whether a spec stands in a pod or in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A pod, of which the whole truth is known.
    Pod,
    /// A template; defaults of pods are not in it yet.
    Template,
}

/// What containers must know of the spec around them.
pub struct Spec<'a, 'p, 'v> {
    /// The spec.
    spec: &'a C<'p, 'v>,
    /// Valid volumes by name; whether each is a claim.
    volumes: BTreeMap<&'v str, bool>,
    /// Names of `resourceClaims`.
    claims: Vec<&'v str>,
    grace: Option<i64>,
    host_users: bool,
    restart_policy: &'v str,
}

/// The group that the pod is scheduled with: a union with one member so far.
fn scheduling_group(name: &C) {
    if !name.exists() {
        name.invalid("must specify one of: `podGroupName`");
    } else {
        name.check(names::dns1123_subdomain);
    }
}

/// Validates a pod spec; `pod_name` is the pod's name where known.
pub fn validate(spec: &C, holder: Holder, pod_name: &str) {
    let grace = spec.get("terminationGracePeriodSeconds");
    grace.required();
    let volumes = volume::validate(&spec.get("volumes"), pod_name);
    let claims = resources::pod_claims(&spec.get("resourceClaims"));
    let around = Spec {
        spec,
        volumes,
        claims,
        grace: grace.i64(),
        host_users: spec.get("hostUsers").bool() != Some(false),
        restart_policy: spec.get("restartPolicy").str(),
    };
    let group = spec.get("schedulingGroup");
    if group.exists() {
        scheduling_group(&group.get("podGroupName"));
    }
    container::validate(&around, holder);
    resources::pod_level(&spec.get("resources"), spec, &around.claims);
    host_network_ports(spec, holder);
    spec.get("restartPolicy").required_one_of(&["Always", "OnFailure", "Never"]);
    spec.get("dnsPolicy").required_one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    meta_v1::labels(&spec.get("nodeSelector"));
    security::pod(spec);
    for secret in spec.get("imagePullSecrets").items() {
        secret.get("name").required();
    }
    affinity::validate(&spec.get("affinity"));
    dns_config(spec);
    for gate in spec.get("readinessGates").items() {
        gate.get("conditionType").check(names::qualified_name);
    }
    scheduling_gates(&spec.get("schedulingGates"));
    affinity::topology_spread(&spec.get("topologySpreadConstraints"));
    names_and_numbers(spec);
    host_name_override(spec);
    affinity::tolerations(&spec.get("tolerations"));
    for alias in spec.get("hostAliases").items() {
        alias.get("ip").check(names::ip);
        for host in alias.get("hostnames").items() {
            host.check(names::dns1123_subdomain);
        }
    }
    overhead(&spec.get("overhead"));
    security::operating_system(spec);
}

fn names_and_numbers(spec: &C) {
    let optional = |field: &str, rule: fn(&str) -> Vec<String>| {
        let value = spec.get(field);
        if !value.is_zero() {
            value.check(rule);
        }
    };
    optional("serviceAccountName", names::dns1123_subdomain);
    optional("nodeName", names::dns1123_subdomain);
    optional("hostname", names::dns1123_label);
    optional("subdomain", names::dns1123_label);
    optional("priorityClassName", names::dns1123_subdomain);
    let runtime = spec.get("runtimeClassName");
    if runtime.exists() {
        runtime.check(names::dns1123_subdomain);
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.exists() {
        deadline.in_range(1, i64::from(i32::MAX));
    }
    let preemption = spec.get("preemptionPolicy");
    if preemption.exists() {
        preemption.required_one_of(&["PreemptLowerPriority", "Never"]);
    }
}

/// Overhead, of pods and of runtime classes; upstream reports as if it were limits.
pub fn overhead(list: &C) {
    let at = list.get("limits");
    for (name, quantity) in list.entries() {
        let place = at.key(name);
        let place = quantity.value().map_or(place, |value| place.with_value(value));
        resources::container_resource_name(&place, name);
        resources::quantity_value(&place, name);
    }
}

fn host_name_override(spec: &C) {
    let name = spec.get("hostnameOverride");
    if !name.exists() {
        return;
    }
    if spec.get("setHostnameAsFQDN").is_true() {
        name.forbidden("may not be specified when setHostnameAsFQDN is true");
    }
    if spec.get("hostNetwork").is_true() {
        name.forbidden("may not be specified when hostNetwork is true");
    }
    name.max_len(64);
    name.check(names::dns1123_subdomain);
}

fn scheduling_gates(gates: &C) {
    let mut seen = Vec::new();
    for gate in gates.items() {
        let name = gate.get("name").str();
        for finding in names::qualified_name(name) {
            gate.invalid_value(name, finding);
        }
        if seen.contains(&name) {
            gate.sink().push(meta::field::Error::duplicate(&gate.path(), name));
        }
        seen.push(name);
    }
}

fn host_network_ports(spec: &C, holder: Holder) {
    if !spec.get("hostNetwork").is_true() {
        return;
    }
    for container in spec.get("containers").items() {
        for port in container.get("ports").items() {
            let host = port.get("hostPort");
            if (holder == Holder::Pod || host.int() != 0) && host.int() != port.get("containerPort").int() {
                host.invalid_value(host.int(), "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn dns_config(spec: &C) {
    const NAMESERVERS: usize = 3;
    const SEARCHES: usize = 32;
    const SEARCH_CHARS: usize = 2048;
    let config = spec.get("dnsConfig");
    let servers = config.get("nameservers");
    if spec.get("dnsPolicy").str() == "None" {
        if !config.exists() {
            return config.missing("must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            return servers.missing("must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if servers.len() > NAMESERVERS {
        servers.invalid(format!("must not have more than {NAMESERVERS} nameservers"));
    }
    for server in servers.items() {
        server.check(names::ip);
    }
    let searches = config.get("searches");
    if searches.len() > SEARCHES {
        searches.invalid(format!("must not have more than {SEARCHES} search paths"));
    }
    let chars = searches.items().map(|s| s.str().len() + 1).sum::<usize>().saturating_sub(1);
    if chars > SEARCH_CHARS {
        searches.invalid(format!(
            "must not have more than {SEARCH_CHARS} characters (including spaces) in the search list"
        ));
    }
    for search in searches.items().filter(|s| s.str() != ".") {
        let text = search.str().strip_suffix('.').unwrap_or(search.str());
        for finding in search_path(text) {
            search.invalid_value(text, finding);
        }
    }
    for option in config.get("options").items() {
        if option.get("name").is_zero() {
            option.missing("must not be empty");
        }
    }
}

/// A DNS subdomain in which underscores are allowed.
fn search_path(text: &str) -> Vec<String> {
    const WORD: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', \
         and must start and end with an alphanumeric character";
    let fine = names::dns1123_subdomain(&text.replace('_', "x")).is_empty();
    if fine {
        return Vec::new();
    }
    let regex = "[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*";
    vec![names::regex_error(WORD, regex, &["example.com"])]
}

/// Validates a pod template: metadata and spec.
pub fn template(template: &C) {
    let metadata = template.get("metadata");
    meta_v1::template_metadata(&metadata);
    let spec = template.get("spec");
    validate(&spec, Holder::Template, "");
    if !spec.get("ephemeralContainers").is_empty() {
        spec.get("ephemeralContainers").forbidden("ephemeral containers not allowed in pod template");
    }
}
