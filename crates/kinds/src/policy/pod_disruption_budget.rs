//! PodDisruptionBudget.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, int, int_at, text};
use crate::standard::Standard;

static BUDGET: Standard = Standard {
    rules: rules::policy::pod_disruption_budget::RULES,
    status: true,
    generation: true,
    unconditional_update: false,
    columns: &[NAME, text("Min Available"), text("Max Unavailable"), int("Allowed Disruptions"), AGE],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "PodDisruptionBudget", "poddisruptionbudgets", BUDGET.main())
        .short(&["pdb"])
        .status(BUDGET.status())
}

fn cells(budget: &Object, now: i64) -> Vec<Value> {
    let bound = |field: &str| match budget.get(&["spec", field]) {
        Some(Value::String(percent)) => percent.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "N/A".to_owned(),
    };
    vec![
        budget.name().into(),
        bound("minAvailable").into(),
        bound("maxUnavailable").into(),
        int_at(budget, &["status", "disruptionsAllowed"]).into(),
        age(budget, now).into(),
    ]
}
