//! Job.

use serde_json::Value;

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    if !spec.has("completions") && !spec.has("parallelism") {
        spec.default_value("completions", 1);
    }
    spec.default_value("parallelism", 1);
    let per_index = spec.has("backoffLimitPerIndex");
    spec.default_value("backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    spec.default_value("completionMode", "NonIndexed");
    spec.default_value("suspend", false);
    spec.default_value("manualSelector", false);
    let failure_policy = spec.has("podFailurePolicy");
    spec.default_value("podReplacementPolicy", if failure_policy { "Failed" } else { "TerminatingOrFailed" });
    default_template(spec);
    let labels = spec.get("template").and_then(|t| t.get("metadata")?.get("labels")).cloned();
    let metadata = body.make("metadata");
    if let Some(labels @ Value::Object(_)) = labels
        && metadata.unset("labels")
    {
        metadata.insert("labels".into(), labels);
    }
}

/// What a Job and a CronJob's job template have in common.
pub fn default_template(spec: &mut Tree) {
    if let Some(policy) = spec.child("podFailurePolicy") {
        for rule in policy.each("rules") {
            for pattern in rule.each("onPodConditions") {
                pattern.default_str("status", "True");
            }
        }
    }
    crate::core::pod_defaults::template(spec);
}

/// Labels that a job puts on its pods; the first two are the old names.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// Makes the selector of a job from its uid, and labels its pod template to match.
pub fn generate_selector(job: &mut meta::Object) {
    let (uid, name) = (job.uid().to_owned(), job.name().to_owned());
    let spec = job.spec_mut();
    let labels = spec.make("template").make("metadata").make("labels");
    for key in UID_LABELS {
        labels.default_str(key, &uid);
    }
    for key in NAME_LABELS {
        labels.default_str(key, &name);
    }
    let selector = spec.make("selector").make("matchLabels");
    selector.default_str(UID_LABELS[0], &uid);
}
