//! Metrics of admission, under upstream's names.

use std::sync::OnceLock;
use std::time::Duration;

use registry::Operation;
use telemetry::metrics::{CounterVec, HistogramVec, counter_vec, histogram_vec};

use crate::plugin::Request;

const STEP: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOK: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const CONDITION: [f64; 7] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25];
const CHECK: [f64; 5] = [0.0000005, 0.001, 0.01, 0.1, 1.0];

/// Which half of admission, as labels say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Admit,
    Validate,
}

impl Step {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }

    /// Webhooks' metrics call the second half otherwise.
    fn of_webhook(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validating",
        }
    }
}

/// All metrics.
pub(crate) struct Metrics {
    step: HistogramVec,
    plugin: HistogramVec,
    webhook: HistogramVec,
    webhook_rejections: CounterVec,
    webhook_fail_open: CounterVec,
    webhook_requests: CounterVec,
    condition_errors: CounterVec,
    condition_exclusions: CounterVec,
    condition_seconds: HistogramVec,
    validating: (CounterVec, HistogramVec),
    mutating: (CounterVec, HistogramVec),
    pub(crate) pod_security: PodSecurity,
}

/// PodSecurity's.
pub(crate) struct PodSecurity {
    pub(crate) evaluations: CounterVec,
    pub(crate) exemptions: CounterVec,
    pub(crate) errors: CounterVec,
}

/// What came of asking a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It said yes.
    Allowed,
    /// It said no, with this code.
    Rejected(u16),
    /// It could not be asked.
    Failed,
    /// It could not be asked, by our own fault.
    Refused,
}

/// The process's metrics.
pub(crate) fn metrics() -> &'static Metrics {
    static ALL: OnceLock<Metrics> = OnceLock::new();
    ALL.get_or_init(Metrics::new)
}

impl Metrics {
    fn new() -> Self {
        let name = |tail: &str| format!("apiserver_admission_{tail}");
        let policy = |which: &str, what: &str, labels: &[&str]| {
            let counter = format!("apiserver_{which}_admission_policy_check_total");
            let seconds = format!("apiserver_{which}_admission_policy_check_duration_seconds");
            (
                counter_vec(
                    &counter,
                    &format!(
                        "{what} admission policy check total, labeled by policy and further identified by binding."
                    ),
                    labels,
                ),
                histogram_vec(
                    &seconds,
                    &format!(
                        "{what} admission latency for individual expressions in seconds, labeled by policy and binding."
                    ),
                    labels,
                    &CHECK,
                ),
            )
        };
        Self {
            step: histogram_vec(
                &name("step_admission_duration_seconds"),
                "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
                &["type", "operation", "rejected"],
                &STEP,
            ),
            plugin: histogram_vec(
                &name("controller_admission_duration_seconds"),
                "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
                &["name", "type", "operation", "rejected"],
                &STEP,
            ),
            webhook: histogram_vec(
                &name("webhook_admission_duration_seconds"),
                "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
                &["name", "type", "operation", "rejected"],
                &WEBHOOK,
            ),
            webhook_rejections: counter_vec(
                &name("webhook_rejection_count"),
                "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation.",
                &["name", "type", "operation", "error_type", "rejection_code"],
            ),
            webhook_fail_open: counter_vec(
                &name("webhook_fail_open_count"),
                "Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).",
                &["name", "type"],
            ),
            webhook_requests: counter_vec(
                &name("webhook_request_total"),
                "Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation.",
                &["name", "type", "operation", "code", "rejected"],
            ),
            condition_errors: counter_vec(
                &name("match_condition_evaluation_errors_total"),
                "Admission match condition evaluation errors count, identified by name of resource containing the match condition.",
                &["name", "kind", "type", "operation"],
            ),
            condition_exclusions: counter_vec(
                &name("match_condition_exclusions_total"),
                "Admission match condition evaluation exclusions count, identified by name of resource containing the match condition.",
                &["name", "kind", "type", "operation"],
            ),
            condition_seconds: histogram_vec(
                &name("match_condition_evaluation_seconds"),
                "Admission match condition evaluation time in seconds, identified by name.",
                &["name", "kind", "type", "operation"],
                &CONDITION,
            ),
            validating: policy(
                "validating",
                "Validation",
                &["policy", "policy_binding", "error_type", "enforcement_action"],
            ),
            mutating: policy("mutating", "Mutation", &["policy", "policy_binding", "error_type"]),
            pod_security: PodSecurity {
                evaluations: counter_vec(
                    "pod_security_evaluations_total",
                    "Number of policy evaluations that occurred, not counting ignored or exempt requests.",
                    &[
                        "decision",
                        "policy_level",
                        "policy_version",
                        "mode",
                        "request_operation",
                        "resource",
                        "subresource",
                    ],
                ),
                exemptions: counter_vec(
                    "pod_security_exemptions_total",
                    "Number of exempt requests, not counting ignored or out of scope requests.",
                    &["request_operation", "resource", "subresource"],
                ),
                errors: counter_vec(
                    "pod_security_errors_total",
                    "Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted profile being used for evaluation.",
                    &["fatal", "request_operation", "resource", "subresource"],
                ),
            },
        }
    }

    pub(crate) fn step(&self, step: Step, operation: Operation, rejected: bool, took: Duration) {
        self.step.with(&[step.label(), operation.as_str(), flag(rejected)]).observe(took.as_secs_f64());
    }

    pub(crate) fn plugin(&self, name: &str, step: Step, operation: Operation, rejected: bool, took: Duration) {
        self.plugin.with(&[name, step.label(), operation.as_str(), flag(rejected)]).observe(took.as_secs_f64());
    }

    /// One webhook was asked; `open` says that its failure did not matter.
    pub(crate) fn webhook(
        &self,
        name: &str,
        step: Step,
        operation: Operation,
        asked: Asked,
        open: bool,
        took: Duration,
    ) {
        let (kind, operation) = (step.of_webhook(), operation.as_str());
        let rejected = asked != Asked::Allowed && !open;
        self.webhook.with(&[name, kind, operation, flag(rejected)]).observe(took.as_secs_f64());
        let code = match asked {
            Asked::Allowed => 200,
            Asked::Rejected(code) => code.min(600),
            Asked::Failed | Asked::Refused => 0,
        };
        let shown = if open { 0 } else { code };
        self.webhook_requests.with(&[name, kind, operation, &shown.to_string(), flag(rejected)]).add(1);
        if open {
            self.webhook_fail_open.with(&[name, kind]).add(1);
        }
        if rejected {
            let error = match asked {
                Asked::Failed => "calling_webhook_error",
                Asked::Refused => "apiserver_internal_error",
                _ => "no_error",
            };
            self.webhook_rejections.with(&[name, kind, operation, error, &code.to_string()]).add(1);
        }
    }

    /// Match conditions of a webhook or policy were evaluated.
    pub(crate) fn conditions(
        &self,
        of: Conditioned<'_>,
        outcome: &Result<bool, crate::policy::Failure>,
        took: Duration,
    ) {
        let labels = [of.name, of.kind, of.step.of_webhook(), of.operation.as_str()];
        self.condition_seconds.with(&labels).observe(took.as_secs_f64());
        match outcome {
            Ok(true) => {}
            Ok(false) => self.condition_exclusions.with(&labels).add(1),
            Err(_) => self.condition_errors.with(&labels).add(1),
        }
    }

    /// A validation of a policy was evaluated and led to this action.
    pub(crate) fn validated(&self, policy: &str, binding: &str, error: &str, action: &str, took: Duration) {
        let labels = [policy, binding, error, action];
        self.validating.0.with(&labels).add(1);
        self.validating.1.with(&labels).observe(took.as_secs_f64());
    }

    /// A mutation of a policy was evaluated.
    pub(crate) fn mutated(&self, policy: &str, binding: &str, error: &str, took: Duration) {
        let labels = [policy, binding, error];
        self.mutating.0.with(&labels).add(1);
        self.mutating.1.with(&labels).observe(took.as_secs_f64());
    }
}

/// Whose match conditions.
#[derive(Clone, Copy)]
pub(crate) struct Conditioned<'a> {
    pub(crate) name: &'a str,
    /// `webhook` or `policy`.
    pub(crate) kind: &'static str,
    pub(crate) step: Step,
    pub(crate) operation: Operation,
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

impl PodSecurity {
    /// Operation, resource and subresource, as labels say them.
    pub(crate) fn labels<'a>(request: &'a Request<'_>) -> [&'a str; 3] {
        let operation = match request.operation {
            Operation::Create => "create",
            Operation::Update => "update",
            _ => "",
        };
        let resource = match request.is_any_of("", "pods") {
            true => "pod",
            false => "controller",
        };
        [operation, resource, request.subresource]
    }
}
