//! Job.

use meta::Object;
use registry::{Ctx, KindRow, SelectableField};
use serde_json::Value;

use super::GROUP;
use crate::printer::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, containers_and_images, format_selector, human, int_at, list, since,
    str_in, text,
};
use crate::standard::Standard;

static JOB: Standard = Standard {
    rules: rules::batch::job::RULES,
    status: true,
    generation: true,
    orphans: true,
    prepare_create,
    fields: &[SelectableField::path_or("status.successful", &["status", "succeeded"], "0")],
    columns: &[NAME, text("Status"), text("Completions"), text("Duration"), AGE, CONTAINERS, IMAGES, SELECTOR],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "Job", "jobs", JOB.main()).categories(&["all"]).status(JOB.status())
}

fn cells(job: &Object, now: i64) -> Vec<Value> {
    let [names, images] = containers_and_images(job, &["spec", "template", "spec", "containers"]);
    vec![
        job.name().into(),
        status(job).into(),
        completions(job).into(),
        duration(job, now).into(),
        age(job, now).into(),
        names,
        images,
        format_selector(job.get(&["spec", "selector"])).into(),
    ]
}

/// Without a manual selector, the job selects its pods by its own uid, and labels them with it.
fn prepare_create(_cx: &Ctx, job: &mut Object) {
    if job.get_bool(&["spec", "manualSelector"]) == Some(true) {
        return;
    }
    rules::batch::job::generate_selector(job);
}

fn status(job: &Object) -> &'static str {
    let has = |kind: &str| {
        let conditions = list(job, &["status", "conditions"]);
        conditions.iter().any(|c| str_in(c, "type") == kind && str_in(c, "status") == "True")
    };
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if job.deletion_timestamp().is_some() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Object) -> String {
    let done = int_at(job, &["status", "succeeded"]);
    let parallel = int_at(job, &["spec", "parallelism"]);
    match job.get_i64(&["spec", "completions"]) {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallel > 1 => format!("{done}/1 of {parallel}"),
        None => format!("{done}/1"),
    }
}

fn duration(job: &Object, now: i64) -> String {
    let start = job.get_str(&["status", "startTime"]);
    let Ok(started) = meta::time::parse(start) else { return String::new() };
    match meta::time::parse(job.get_str(&["status", "completionTime"])) {
        Ok(ended) => human(ended.as_second() - started.as_second()),
        Err(_) => since(start, now),
    }
}
