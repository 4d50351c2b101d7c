//! Node.

use meta::Object;
use registry::{KindRow, SelectableField, Sub};
use serde_json::Value;

use crate::gvk;
use crate::printer::{AGE, NAME, NONE, UNKNOWN, age, list, str_in, text};
use crate::standard::Standard;

static NODE: Standard = Standard {
    rules: rules::core::node::RULES,
    status: false,
    fields: &[SelectableField::path_or("spec.unschedulable", &["spec", "unschedulable"], "false")],
    columns: &[
        NAME,
        text("Status"),
        text("Roles"),
        AGE,
        text("Version"),
        text("Internal-IP").wide(),
        text("External-IP").wide(),
        text("OS-Image").wide(),
        text("Kernel-Version").wide(),
        text("Container-Runtime").wide(),
    ],
    cells,
    // Unlike most kinds, a node may be created with a status; an update keeps it.
    prepare_update: |_, node, old| crate::standard::keep(node, old, "status"),
    ..Standard::PLAIN
};

/// The row; nodes live under the key of their first name.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "Node", "nodes", NODE.main())
        .cluster_scoped()
        .short(&["no"])
        .prefix("/registry/minions")
        .status(NODE.status())
        .sub("proxy", super::PROXY_VERBS, Some(gvk("", "v1", "NodeProxyOptions")), Sub::Proxy)
}

fn cells(node: &Object, now: i64) -> Vec<Value> {
    let ready = list(node, &["status", "conditions"]).iter().find(|c| str_in(c, "type") == "Ready");
    let mut status = match ready.map(|c| str_in(c, "status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.get_bool(&["spec", "unschedulable"]) == Some(true) {
        status.push_str(",SchedulingDisabled");
    }
    let info = |field: &str| node.get_str(&["status", "nodeInfo", field]);
    let known = |text: &str| if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() };
    let mut kernel = known(info("kernelVersion"));
    if !info("architecture").is_empty() {
        kernel = format!("{kernel} ({})", info("architecture"));
    }
    vec![
        node.name().into(),
        status.into(),
        roles(node).into(),
        age(node, now).into(),
        info("kubeletVersion").into(),
        address(node, "InternalIP").into(),
        address(node, "ExternalIP").into(),
        known(info("osImage")).into(),
        kernel.into(),
        known(info("containerRuntimeVersion")).into(),
    ]
}

fn roles(node: &Object) -> String {
    let mut roles: Vec<&str> = node
        .labels()
        .filter_map(|(key, value)| match key {
            "kubernetes.io/role" => Some(value),
            _ => key.strip_prefix("node-role.kubernetes.io/"),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}

fn address<'a>(node: &'a Object, kind: &str) -> &'a str {
    let found = list(node, &["status", "addresses"]).iter().find(|a| str_in(a, "type") == kind);
    found.map_or(NONE, |a| str_in(a, "address"))
}
