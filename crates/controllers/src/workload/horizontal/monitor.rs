//! The controller's metrics, by upstream's names.

use std::sync::Arc;
use std::time::Duration;

use rt::time::Instant;
use telemetry::metrics::{CounterVec, Gauge, GaugeVec, HistogramVec, counter_vec, gauge_vec, histogram_vec};

/// A failure's label: the autoscaler itself asks for what cannot be, or something else failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    None,
    Spec,
    Internal,
}

impl Failure {
    fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Spec => "spec",
            Self::Internal => "internal",
        }
    }
}

/// What the controller counts.
pub(super) struct Monitor {
    reconciliations: CounterVec,
    reconciliation_time: HistogramVec,
    computations: CounterVec,
    computation_time: HistogramVec,
    autoscalers: Arc<Gauge>,
    desired: GaugeVec,
}

fn action(from: i32, to: i32) -> &'static str {
    match to.cmp(&from) {
        std::cmp::Ordering::Greater => "scale_up",
        std::cmp::Ordering::Less => "scale_down",
        std::cmp::Ordering::Equal => "none",
    }
}

impl Monitor {
    pub(super) fn new() -> Self {
        // From a millisecond on, doubling.
        let bounds: Vec<f64> = (0..15).map(|power| 0.001 * f64::from(1 << power)).collect();
        let name = |rest: &str| format!("horizontal_pod_autoscaler_controller_{rest}");
        let (of_round, of_metric) = (["action", "error"], ["action", "error", "metric_type"]);
        let autoscalers = "Current number of controlled HPA objects.";
        Self {
            reconciliations: counter_vec(
                &name("reconciliations_total"),
                "Number of reconciliations of HPA controller.",
                &of_round,
            ),
            reconciliation_time: histogram_vec(
                &name("reconciliation_duration_seconds"),
                "The time(seconds) that the HPA controller takes to reconcile once.",
                &of_round,
                &bounds,
            ),
            computations: counter_vec(&name("metric_computation_total"), "Number of metric computations.", &of_metric),
            computation_time: histogram_vec(
                &name("metric_computation_duration_seconds"),
                "The time(seconds) that the HPA controller takes to calculate one metric.",
                &of_metric,
                &bounds,
            ),
            autoscalers: gauge_vec(&name("num_horizontal_pod_autoscalers"), autoscalers, &[]).with(&[]),
            desired: gauge_vec(
                &name("desired_replicas"),
                "Current desired replica count for HPA objects.",
                &["namespace", "hpa_name"],
            ),
        }
    }

    /// How many autoscalers there are.
    pub(super) fn autoscalers(&self, count: usize) {
        self.autoscalers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// What an autoscaler wants; 0 once it is gone.
    pub(super) fn desired(&self, namespace: &str, name: &str, replicas: i32) {
        self.desired.with(&[namespace, name]).set(i64::from(replicas));
    }

    /// One look at an autoscaler is done: the scale it changed, if it did.
    pub(super) fn reconciled(&self, change: Option<(i32, i32)>, failure: Failure, since: Instant) {
        let labels = [change.map_or("none", |(from, to)| action(from, to)), failure.label()];
        self.reconciliations.with(&labels).add(1);
        self.reconciliation_time.with(&labels).observe(since.elapsed().as_secs_f64());
    }

    /// One metric was worked out: the replicas there are, and those it asks for unless it failed.
    pub(super) fn computed(&self, current: i32, wanted: Result<i32, Failure>, kind: &str, took: Duration) {
        let labels = match wanted {
            Ok(wanted) => [action(current, wanted), "none", kind],
            Err(failure) => ["none", failure.label(), kind],
        };
        self.computations.with(&labels).add(1);
        self.computation_time.with(&labels).observe(took.as_secs_f64());
    }
}
