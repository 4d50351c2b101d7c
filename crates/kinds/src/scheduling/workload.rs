//! Workload.

use meta::Object;
use registry::{Ctx, KindRow};
use rules::Defaults;
use rules::scheduling::pod_group::drop_disabled;

use super::GROUP;
use crate::standard::Standard;

static WORKLOAD: Standard = Standard {
    rules: rules::scheduling::workload::RULES,
    prepare_create: |_: &Ctx, new| drop_fields(new),
    prepare_update: |_: &Ctx, new, _| drop_fields(new),
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1alpha2", "Workload", "workloads", WORKLOAD.main())
}

fn drop_fields(workload: &mut Object) {
    for template in workload.body.child("spec").into_iter().flat_map(|spec| spec.each("podGroupTemplates")) {
        drop_disabled(template);
    }
}
