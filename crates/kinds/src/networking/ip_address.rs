//! IPAddress.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{NAME, NONE, text};
use crate::standard::Standard;

static ADDRESS: Standard = Standard {
    rules: rules::networking::ip_address::RULES,
    name: |name, _| rules::networking::ip_address::name(name),
    columns: &[NAME, text("ParentRef")],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "IPAddress", "ipaddresses", ADDRESS.main()).cluster_scoped().short(&["ip"])
}

fn cells(address: &Object, _now: i64) -> Vec<Value> {
    let part = |field: &str| address.get_str(&["spec", "parentRef", field]);
    let mut parent = part("resource").to_lowercase();
    if !part("group").is_empty() {
        parent = format!("{parent}.{}", part("group"));
    }
    if !part("namespace").is_empty() {
        parent = format!("{parent}/{}", part("namespace"));
    }
    let parent = if part("name").is_empty() { NONE.to_owned() } else { format!("{parent}/{}", part("name")) };
    vec![address.name().into(), parent.into()]
}
