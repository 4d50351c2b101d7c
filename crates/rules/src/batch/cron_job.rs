//! CronJob.

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, ..Rules::NONE };

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
    let zone = spec.get("timeZone");
    if zone.exists() {
        if zone.is_zero() {
            zone.invalid("timeZone must be nil or non-empty string");
        } else if zone.str().eq_ignore_ascii_case("local") {
            zone.invalid("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
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
