//! IngressClass.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, NONE, age, text};
use crate::standard::Standard;

static CLASS: Standard = Standard {
    rules: rules::networking::ingress_class::RULES,
    generation: true,
    columns: &[NAME, text("Controller"), text("Parameters"), AGE],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "IngressClass", "ingressclasses", CLASS.main()).cluster_scoped()
}

fn cells(class: &Object, now: i64) -> Vec<Value> {
    let part = |field: &str| class.get_str(&["spec", "parameters", field]);
    let parameters = match (class.get(&["spec", "parameters"]).is_some_and(Value::is_object), part("apiGroup")) {
        (false, _) => NONE.to_owned(),
        (true, "") => format!("{}/{}", part("kind"), part("name")),
        (true, group) => format!("{}.{group}/{}", part("kind"), part("name")),
    };
    let default = class.annotation("ingressclass.kubernetes.io/is-default-class") == Some("true");
    let name = if default { format!("{} (default)", class.name()) } else { class.name().to_owned() };
    vec![name.into(), class.get_str(&["spec", "controller"]).into(), parameters.into(), age(class, now).into()]
}
