//! CSIDriver.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, UNSET, age, boolean, list, or_none, str_in, text};
use crate::standard::Standard;

static DRIVER: Standard = Standard {
    rules: rules::storage::csi_driver::RULES,
    unconditional_update: false,
    columns: &[
        NAME,
        boolean("AttachRequired"),
        boolean("PodInfoOnMount"),
        boolean("StorageCapacity"),
        text("TokenRequests"),
        boolean("RequiresRepublish"),
        text("Modes"),
        AGE,
    ],
    cells,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "CSIDriver", "csidrivers", DRIVER.main()).cluster_scoped()
}

fn cells(driver: &Object, now: i64) -> Vec<Value> {
    let flag = |field: &str, absent: bool| Value::from(driver.get_bool(&["spec", field]).unwrap_or(absent));
    let modes: Vec<&str> = list(driver, &["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str).collect();
    let requests = match driver.get(&["spec", "tokenRequests"]).and_then(Value::as_array) {
        Some(requests) => requests.iter().map(|r| str_in(r, "audience")).collect::<Vec<_>>().join(","),
        None => UNSET.to_owned(),
    };
    vec![
        driver.name().into(),
        flag("attachRequired", true),
        flag("podInfoOnMount", false),
        flag("storageCapacity", false),
        requests.into(),
        flag("requiresRepublish", false),
        or_none(&modes.join(",")),
        age(driver, now).into(),
    ]
}
