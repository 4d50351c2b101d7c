//! CronJob.

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate: create, validate_update: update, revalidate: false, ..Rules::NONE };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_str("concurrencyPolicy", "Allow");
    spec.default_value("suspend", false);
    spec.default_value("successfulJobsHistoryLimit", 3);
    spec.default_value("failedJobsHistoryLimit", 1);
    super::job::default_template(spec.make("jobTemplate").make("spec"));
}

/// The longest name: the job's own adds eleven characters, and 63 is the most.
const NAME_MAX: usize = 52;

fn create(job: &C) {
    validate(job);
    check_zone(&job.get("spec.timeZone"));
}

fn update(new: &C, old: &C) {
    validate(new);
    // A zone that was taken once stays, whatever today's data say.
    let (zone, before) = (new.get("spec.timeZone"), old.get("spec.timeZone"));
    if zone.value() != before.value() {
        check_zone(&zone);
    }
}

/// Names of files below a folder of zones, as upstream reads them: nothing that could lead out of it.
fn is_zone_path(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let fine = |part: &str| {
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.bytes().all(plain)
    };
    name.split('/').all(fine)
}

fn check_zone(zone: &C) {
    if !zone.exists() {
        return;
    }
    let name = zone.str();
    if name.is_empty() {
        zone.invalid("timeZone must be nil or non-empty string");
        return;
    }
    let unknown = || zone.invalid(format!("unknown time zone {name}"));
    if !is_zone_path(name) {
        unknown();
        return;
    }
    if name.eq_ignore_ascii_case("local") {
        zone.invalid("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    }
    // Names are files to upstream, so that their case counts; what Go always knows is "UTC" and "Local".
    let known = jiff::tz::TimeZone::get(name).is_ok_and(|found| found.iana_name() == Some(name));
    if !known && name != "Local" {
        unknown();
    }
}

fn validate(job: &C) {
    let name = job.get("metadata.name");
    if name.len() > NAME_MAX {
        name.invalid(format!("must be no more than {NAME_MAX} characters"));
    }
    let spec = job.get("spec");
    let schedule = spec.get("schedule");
    if schedule.required() {
        if schedule.str().contains("TZ") {
            schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        } else if let Err(reason) = super::schedule::check(schedule.str()) {
            schedule.invalid(reason);
        }
    }
    for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        spec.get(field).non_negative();
    }
    spec.get("concurrencyPolicy").required_one_of(&["Allow", "Forbid", "Replace"]);
    let template = spec.get("jobTemplate.spec");
    super::job::validate_spec(&template);
    if template.get("manualSelector").is_true() {
        let manual = template.get("manualSelector");
        manual.sink().push(meta::field::Error::not_supported(&manual.path(), true, &["nil", "false"]));
    }
    let selector = template.get("selector");
    if selector.exists() {
        selector.invalid("`selector` will be auto-generated");
    }
}
