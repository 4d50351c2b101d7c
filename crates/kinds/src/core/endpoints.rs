//! Endpoints.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use crate::printer::{AGE, NAME, NONE, age, list, str_in, text};
use crate::standard::Standard;

static ENDPOINTS: Standard = Standard {
    rules: rules::core::endpoints::RULES,
    create_on_update: true,
    columns: &[NAME, text("Endpoints"), AGE],
    cells,
    ..Standard::PLAIN
};

/// How many addresses a row shows.
const SHOWN: usize = 3;

/// The row.
pub fn row() -> KindRow {
    let mut row = KindRow::new("", "v1", "Endpoints", "endpoints", ENDPOINTS.main())
        .short(&["ep"])
        .prefix("/registry/services/endpoints");
    row.list_kind = "EndpointsList".into();
    row
}

fn cells(endpoints: &Object, now: i64) -> Vec<Value> {
    vec![endpoints.name().into(), addresses(endpoints).into(), age(endpoints, now).into()]
}

fn addresses(endpoints: &Object) -> String {
    let subsets = list(endpoints, &["subsets"]);
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let items = |subset: &Value, field: &str| subset.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = Vec::new();
    for subset in subsets {
        let ips = items(subset, "addresses");
        let ports = items(subset, "ports");
        if ports.is_empty() {
            all.extend(ips.iter().map(|a| str_in(a, "ip").to_owned()));
        }
        for port in &ports {
            let port = port.get("port").and_then(Value::as_i64).unwrap_or(0);
            all.extend(ips.iter().map(|a| join_host_port(str_in(a, "ip"), port)));
        }
    }
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    if all.len() > SHOWN { format!("{shown} + {} more...", all.len() - SHOWN) } else { shown }
}

fn join_host_port(host: &str, port: i64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
