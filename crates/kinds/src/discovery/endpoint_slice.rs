//! EndpointSlice.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, UNSET, age, list, text};
use crate::standard::Standard;

static SLICE: Standard = Standard {
    rules: rules::discovery::endpoint_slice::RULES,
    generation: true,
    prepare_create: |_, slice| drop_topology(slice),
    prepare_update: |_, slice, _| drop_topology(slice),
    columns: &[NAME, text("AddressType"), text("Ports"), text("Endpoints"), AGE],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "EndpointSlice", "endpointslices", SLICE.main())
}

fn cells(slice: &Object, now: i64) -> Vec<Value> {
    let ports =
        list(slice, &["ports"]).iter().map(|port| match (port.get("port").and_then(Value::as_i64), port.get("name")) {
            (Some(number), _) => number.to_string(),
            (None, Some(Value::String(name))) => name.clone(),
            _ => "*".to_owned(),
        });
    let addresses = list(slice, &["endpoints"])
        .iter()
        .flat_map(|endpoint| endpoint.get("addresses").and_then(Value::as_array).into_iter().flatten())
        .map(|address| address.as_str().unwrap_or("").to_owned());
    vec![
        slice.name().into(),
        slice.get_str(&["addressType"]).into(),
        shorten(ports.collect()).into(),
        shorten(addresses.collect()).into(),
        age(slice, now).into(),
    ]
}

/// How many ports and endpoints a row shows.
const SHOWN: usize = 3;

fn shorten(all: Vec<String>) -> String {
    if all.is_empty() {
        return UNSET.to_owned();
    }
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    if all.len() > SHOWN { format!("{shown} + {} more...", all.len() - SHOWN) } else { shown }
}

/// `deprecatedTopology` says nothing that the proper fields do not; v1 keeps no node or zone in it.
fn drop_topology(slice: &mut Object) {
    let endpoints = slice.body.get_mut("endpoints").and_then(Value::as_array_mut);
    for endpoint in endpoints.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(topology) = endpoint.get_mut("deprecatedTopology").and_then(Value::as_object_mut) {
            topology.remove("kubernetes.io/hostname");
            topology.remove("topology.kubernetes.io/zone");
            if topology.is_empty() {
                endpoint.remove("deprecatedTopology");
            }
        }
    }
}
