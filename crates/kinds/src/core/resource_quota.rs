//! ResourceQuota.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static QUOTA: Standard = Standard {
    rules: rules::core::resource_quota::RULES,
    status: true,
    columns: &[NAME, text("Request"), text("Limit"), AGE],
    cells,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "ResourceQuota", "resourcequotas", QUOTA.main()).short(&["quota"]).status(QUOTA.status())
}

fn cells(quota: &Object, now: i64) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard = quota.get(&["status", "hard"]).and_then(Value::as_object);
    for (name, hard) in hard.into_iter().flatten() {
        let used = match quota.get_str(&["status", "used", name]) {
            "" => "0",
            used => used,
        };
        let cell = format!("{name}: {used}/{}", hard.as_str().unwrap_or("0"));
        if name.starts_with("limits.") { limits.push(cell) } else { requests.push(cell) }
    }
    vec![quota.name().into(), requests.join(", ").into(), limits.join(", ").into(), age(quota, now).into()]
}
