//! Kinds of the group that are not stored: Binding and ComponentStatus.

use std::sync::Arc;

use meta::Object;
use registry::{Backing, KindRow, Plain, Verbs};
use serde_json::Value;

use crate::printer::{NAME, list, str_in, text};
use crate::standard::Standard;

static COMPONENT_STATUS: Standard =
    Standard { columns: &[NAME, text("Status"), text("Message"), text("Error")], cells, ..Standard::PLAIN };

/// `bindings`: binds a pod to a node.
pub fn binding() -> KindRow {
    KindRow::new("", "v1", "Binding", "bindings", Arc::new(Plain)).backing(Backing::Binding, Verbs::CREATE)
}

/// `componentstatuses`.
pub fn component_status() -> KindRow {
    KindRow::new("", "v1", "ComponentStatus", "componentstatuses", COMPONENT_STATUS.main())
        .cluster_scoped()
        .short(&["cs"])
        .backing(Backing::ComponentStatus, Verbs::GET.and(Verbs::LIST))
}

fn cells(component: &Object, _now: i64) -> Vec<Value> {
    let (mut status, mut message, mut error) = ("Unknown", "", "");
    for condition in list(component, &["conditions"]) {
        if str_in(condition, "type") == "Healthy" {
            status = if str_in(condition, "status") == "True" { "Healthy" } else { "Unhealthy" };
            message = str_in(condition, "message");
            error = str_in(condition, "error");
            break;
        }
    }
    vec![component.name().into(), status.into(), message.into(), error.into()]
}
