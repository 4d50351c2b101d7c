//! Metrics of authorization webhooks, under upstream's names.

use std::sync::OnceLock;
use std::time::Duration;

use telemetry::metrics::{CounterVec, HistogramVec, counter_vec, histogram_vec};

const SECONDS: [f64; 15] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 5.0, 10.0];
const CONDITION: [f64; 7] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25];

pub(crate) struct Metrics {
    asked: CounterVec,
    seconds: HistogramVec,
    open: CounterVec,
    condition_errors: CounterVec,
    condition_exclusions: CounterVec,
    condition_seconds: HistogramVec,
}

/// The process's metrics.
pub(crate) fn metrics() -> &'static Metrics {
    static ALL: OnceLock<Metrics> = OnceLock::new();
    ALL.get_or_init(|| {
        let name = |tail: &str| format!("apiserver_authorization_{tail}");
        let both = ["type", "name"];
        Metrics {
            asked: counter_vec(
                &name("webhook_evaluations_total"),
                "Round-trips to authorization webhooks.",
                &["name", "result"],
            ),
            seconds: histogram_vec(
                &name("webhook_duration_seconds"),
                "Request latency in seconds.",
                &["name", "result"],
                &SECONDS,
            ),
            open: counter_vec(
                &name("webhook_evaluations_fail_open_total"),
                "NoOpinion results due to webhook timeout or error.",
                &["name", "result"],
            ),
            condition_errors: counter_vec(
                &name("match_condition_evaluation_errors_total"),
                "Total number of errors when an authorization webhook encounters a match condition error split by authorizer type and name.",
                &both,
            ),
            condition_exclusions: counter_vec(
                &name("match_condition_exclusions_total"),
                "Total number of exclusions when an authorization webhook is skipped because match conditions exclude it.",
                &both,
            ),
            condition_seconds: histogram_vec(
                &name("match_condition_evaluation_seconds"),
                "Authorization match condition evaluation time in seconds, split by authorizer type and name.",
                &both,
                &CONDITION,
            ),
        }
    })
}

impl Metrics {
    /// A webhook was asked.
    pub(crate) fn asked(&self, name: &str, answered: bool, took: Duration) {
        let labels = [name, if answered { "success" } else { "error" }];
        self.asked.with(&labels).add(1);
        self.seconds.with(&labels).observe(took.as_secs_f64());
    }

    /// A webhook's failure counts as no opinion.
    pub(crate) fn fail_open(&self, name: &str) {
        self.open.with(&[name, "error"]).add(1);
    }

    /// Conditions were evaluated.
    pub(crate) fn conditions(&self, name: &str, outcome: &Result<bool, String>, took: Duration) {
        let labels = ["Webhook", name];
        self.condition_seconds.with(&labels).observe(took.as_secs_f64());
        match outcome {
            Ok(true) => {}
            Ok(false) => self.condition_exclusions.with(&labels).add(1),
            Err(_) => self.condition_errors.with(&labels).add(1),
        }
    }
}
