//! CronJob.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{
    AGE, CONTAINERS, IMAGES, NAME, NONE, SELECTOR, UNSET, age, boolean, containers_and_images, format_selector, int,
    list, or_none, since, text,
};
use crate::standard::Standard;

static CRON_JOB: Standard = Standard {
    rules: rules::batch::cron_job::RULES,
    status: true,
    generation: true,
    columns: &[
        NAME,
        text("Schedule"),
        text("Timezone"),
        boolean("Suspend"),
        int("Active"),
        text("Last Schedule"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "CronJob", "cronjobs", CRON_JOB.main())
        .short(&["cj"])
        .categories(&["all"])
        .status(CRON_JOB.status())
}

fn cells(job: &Object, now: i64) -> Vec<Value> {
    let template = ["spec", "jobTemplate", "spec"];
    let [names, images] = containers_and_images(job, &[&template[..], &["template", "spec", "containers"]].concat());
    let last = match job.get_str(&["status", "lastScheduleTime"]) {
        "" => NONE.to_owned(),
        at => since(at, now),
    };
    let suspend = match job.get_bool(&["spec", "suspend"]) {
        Some(true) => "True",
        Some(false) => "False",
        None => UNSET,
    };
    vec![
        job.name().into(),
        job.get_str(&["spec", "schedule"]).into(),
        or_none(job.get_str(&["spec", "timeZone"])),
        suspend.into(),
        list(job, &["status", "active"]).len().into(),
        last.into(),
        age(job, now).into(),
        names,
        images,
        format_selector(job.get(&[&template[..], &["selector"]].concat())).into(),
    ]
}
