//! ControllerRevision.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, NONE, age, text};
use crate::standard::Standard;

static REVISION: Standard = Standard {
    rules: rules::apps::controller_revision::RULES,
    columns: &[NAME, text("Controller"), text("Revision"), AGE],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "ControllerRevision", "controllerrevisions", REVISION.main())
}

fn cells(revision: &Object, now: i64) -> Vec<Value> {
    let owner = revision.owner_references().into_iter().find(|owner| owner.controller == Some(true));
    let controller = owner.map_or(NONE.to_owned(), |owner| {
        let group = owner.api_version.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
        format!("{}{group}/{}", owner.kind.to_lowercase(), owner.name)
    });
    let number = revision.get_i64(&["revision"]).unwrap_or(0);
    vec![revision.name().into(), controller.into(), number.into(), age(revision, now).into()]
}
