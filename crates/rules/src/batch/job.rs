//! Job.

use serde_json::Value;

use crate::apps::workload;
use crate::{C, Defaults, Rules, Tree};
use meta::selector::LabelSelector;

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate, validate_update: update, validate_status: status, revalidate: true };

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
    // Labels that were defaulted from the template are the same map upstream, and follow what is added here.
    let own = job.metadata().and_then(|m| m.get("labels")).filter(|l| l.is_object()).cloned();
    let shared = own.is_some() && own.as_ref() == job.get(&["spec", "template", "metadata", "labels"]);
    let spec = job.spec_mut();
    let labels = spec.make("template").make("metadata").make("labels");
    for key in UID_LABELS {
        labels.default_str(key, &uid);
    }
    for key in NAME_LABELS {
        labels.default_str(key, &name);
    }
    let labels = labels.clone();
    let selector = spec.make("selector").make("matchLabels");
    selector.default_str(UID_LABELS[0], &uid);
    if shared {
        job.metadata_mut().insert("labels".into(), Value::Object(labels));
    }
}

fn validate(job: &C) {
    let spec = job.get("spec");
    validate_spec(&spec);
    let selector = spec.get("selector");
    if !selector.exists() {
        return selector.missing("");
    }
    crate::meta_v1::label_selector(&selector);
    let labels = spec.get("template.metadata.labels");
    if let Ok(wanted) = LabelSelector::from_value(selector.value())
        && !wanted.matches_map(&workload::labels_of(&labels))
    {
        labels.invalid("`selector` does not match template `labels`");
    }
    if !spec.get("manualSelector").is_true() {
        generated_labels(job, &labels, &selector);
    }
}

/// The labels that the server put on the template must still be the job's.
fn generated_labels(job: &C, labels: &C, selector: &C) {
    let (uid, name) = (job.get("metadata.uid"), job.get("metadata.name"));
    let mut expected = std::collections::BTreeMap::new();
    for (keys, value) in [(UID_LABELS, uid.str()), (NAME_LABELS, name.str())] {
        for key in keys {
            let label = labels.key(key);
            if !label.exists() {
                labels.key(key).missing(&format!("must be '{value}'"));
            } else if label.str() != value {
                labels.key(key).invalid(format!("must be '{value}'"));
            }
            expected.insert(key.to_owned(), value.to_owned());
        }
    }
    if let Ok(wanted) = LabelSelector::from_value(selector.value())
        && !wanted.matches_map(&expected)
    {
        selector.invalid("`selector` not auto-generated");
    }
}

/// The most pods of an indexed job at once.
const MAX_INDEXED_PARALLELISM: i64 = 100_000;

/// Validates a job's spec, also in a CronJob's template.
pub fn validate_spec(spec: &C) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.get(field).non_negative();
    }
    let per_index = spec.get("backoffLimitPerIndex");
    let max_failed = spec.get("maxFailedIndexes");
    if max_failed.exists() && !per_index.exists() {
        per_index.missing("when maxFailedIndexes is specified");
    }
    let mode = spec.get("completionMode");
    mode.optional_one_of(&["NonIndexed", "Indexed"]);
    if mode.str() == "Indexed" {
        indexed(spec);
    } else if matches!(mode.str(), "" | "NonIndexed") {
        for field in [&per_index, &max_failed] {
            if field.exists() {
                field.invalid("requires indexed completion mode");
            }
        }
    }
    if mode.str() != "Indexed" && spec.get("successPolicy").exists() {
        spec.get("successPolicy").invalid("requires indexed completion mode");
    }
    let manager = spec.get("managedBy");
    if manager.exists() {
        crate::networking::ingress_class::domain_prefixed_path(&manager);
        manager.max_len(63);
    }
    let failure = spec.get("podFailurePolicy");
    failure_policy(&failure, spec);
    let replacement = spec.get("podReplacementPolicy");
    if replacement.exists() {
        let known: &[&str] = if failure.exists() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        replacement.one_of(known);
    }
    let template = spec.get("template");
    crate::core::pod_spec::template(&template);
    let policy = template.get("spec.restartPolicy");
    match policy.str() {
        "" | "Always" => policy.missing("valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if failure.exists() => {
            policy.invalid("only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        _ => policy.not_supported(&["OnFailure", "Never"]),
    }
}

fn indexed(spec: &C) {
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    if !completions.exists() {
        completions.missing("when completion mode is Indexed");
    }
    if parallelism.int() > MAX_INDEXED_PARALLELISM {
        parallelism.invalid(format!(
            "must be less than or equal to {MAX_INDEXED_PARALLELISM} when completion mode is Indexed"
        ));
    }
    let failed = spec.get("maxFailedIndexes");
    if completions.exists() && failed.int() > completions.int() {
        failed.invalid("must be less than or equal to completions");
    }
    let success = spec.get("successPolicy");
    if success.exists() {
        let rules = success.get("rules");
        if rules.is_empty() {
            rules.missing("at least one rules must be specified when the successPolicy is specified");
        }
        rules.max_items(20);
        for rule in rules.items() {
            let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
            if !count.exists() && !indexes.exists() {
                rule.missing("at least one of succeededCount or succeededIndexes must be specified");
            }
            if count.exists() {
                count.positive();
                if completions.exists() && count.int() > completions.int() {
                    count.invalid(format!(
                        "must be less than or equal to {} (the number of specified completions)",
                        completions.int()
                    ));
                }
            }
        }
    }
}

fn failure_policy(policy: &C, spec: &C) {
    let rules = policy.get("rules");
    rules.max_items(20);
    for rule in rules.items() {
        rule.get("action").required_one_of(&["Count", "FailIndex", "FailJob", "Ignore"]);
        let (codes, conditions) = (rule.get("onExitCodes"), rule.get("onPodConditions"));
        match (codes.exists(), !conditions.is_empty()) {
            (true, true) => rule.invalid_value(
                rule.value_or_null(),
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (false, false) => rule.invalid("specifying one of OnExitCodes and OnPodConditions is required"),
            _ => {}
        }
        if codes.exists() {
            let container = codes.get("containerName");
            let pod = spec.get("template.spec");
            let known = |list: &str| pod.get(list).items().any(|c| c.get("name").str() == container.str());
            if container.exists() && !known("containers") && !known("initContainers") {
                container.invalid("must be one of the container or initContainer names in the pod template");
            }
            codes.get("operator").required_one_of(&["In", "NotIn"]);
            let values = codes.get("values");
            if values.is_empty() {
                values.invalid("at least one value is required");
            }
            if codes.get("operator").str() == "In" {
                for value in values.items().filter(|v| v.int() == 0) {
                    value.invalid("must not be 0 for the In operator");
                }
            }
        }
        for condition in conditions.items() {
            condition.get("type").check(meta::names::qualified_name);
            condition.get("status").required_one_of(&["False", "True", "Unknown"]);
        }
    }
}

fn update(new: &C, old: &C) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    for field in
        ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        spec.get(field).immutable(&before.get(field));
    }
    let completions = spec.get("completions");
    let elastic = before.get("completionMode").str() == "Indexed"
        && completions.exists()
        && completions.same(&spec.get("parallelism"));
    if !elastic {
        completions.immutable(&before.get("completions"));
    }
    template_update(&spec, &before, old);
}

/// The template stays, but for where its pods may run (and what they need) while the job is suspended.
fn template_update(spec: &C, before: &C, old: &C) {
    let strip = |template: &C| {
        let mut template = template.value_or_null();
        if let Some(tree) = template.as_object_mut() {
            if let Some(annotations) = tree.child("metadata") {
                for field in ["annotations", "labels"] {
                    annotations.remove(field);
                }
            }
            if let Some(pod) = tree.child("spec") {
                for field in ["nodeSelector", "tolerations", "schedulingGates"] {
                    pod.remove(field);
                }
                if let Some(affinity) = pod.child("affinity") {
                    affinity.remove("nodeAffinity");
                }
                for container in pod.each("containers") {
                    container.remove("resources");
                }
                for container in pod.each("initContainers") {
                    container.remove("resources");
                }
            }
        }
        template
    };
    let (template, previous) = (spec.get("template"), before.get("template"));
    let started = old.get("status.startTime").exists();
    let suspended = before.get("suspend").is_true() && !started;
    let same = if suspended {
        crate::same_value(Some(&strip(&template)), Some(&strip(&previous)))
    } else {
        template.same(&previous)
    };
    if !same {
        // Upstream reports at the pod spec when that is what differs.
        let (pod, before) = (template.get("spec"), previous.get("spec"));
        if pod.same(&before) {
            template.invalid("field is immutable");
        } else {
            pod.invalid("field is immutable");
        }
    }
}

fn status(new: &C, old: &C) {
    let status = new.get("status");
    for counter in ["active", "succeeded", "failed", "ready", "terminating"] {
        status.get(counter).non_negative();
    }
    let finished = |job: &C, kind: &str| {
        let conditions = job.get("status.conditions");
        conditions.items().any(|c| c.get("type").str() == kind && c.get("status").str() == "True")
    };
    for kind in ["Complete", "Failed"] {
        if finished(old, kind) && !finished(new, kind) {
            status.get("conditions").invalid(format!("cannot disable the terminal {kind} condition"));
        }
    }
    if finished(new, "Complete") && finished(new, "Failed") {
        status.get("conditions").invalid("cannot set Complete=True and Failed=true conditions");
    }
}
