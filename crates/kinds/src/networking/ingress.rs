//! Ingress.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, list, or_none, str_in, text};
use crate::standard::Standard;

static INGRESS: Standard = Standard {
    rules: rules::networking::ingress::RULES,
    status: true,
    generation: true,
    columns: &[NAME, text("Class"), text("Hosts"), text("Address"), text("Ports"), AGE],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "Ingress", "ingresses", INGRESS.main())
        .short(&["ing"])
        .prefix("/registry/ingress")
        .status(INGRESS.status())
}

fn cells(ingress: &Object, now: i64) -> Vec<Value> {
    let addresses: Vec<String> = crate::core::balancer_addresses(ingress).into_iter().collect();
    let ports = if list(ingress, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        ingress.name().into(),
        or_none(ingress.get_str(&["spec", "ingressClassName"])),
        hosts(list(ingress, &["spec", "rules"])).into(),
        addresses.join(",").into(),
        ports.into(),
        age(ingress, now).into(),
    ]
}

/// How many hosts a row shows.
const SHOWN: usize = 3;

fn hosts(rules: &[Value]) -> String {
    let named: Vec<&str> = rules.iter().map(|rule| str_in(rule, "host")).filter(|host| !host.is_empty()).collect();
    if named.is_empty() {
        return "*".to_owned();
    }
    let shown = named.iter().take(SHOWN).copied().collect::<Vec<_>>().join(",");
    if named.len() >= SHOWN && rules.len() > SHOWN {
        format!("{shown} + {} more...", rules.len() - SHOWN)
    } else {
        shown
    }
}
