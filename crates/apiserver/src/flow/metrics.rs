//! Metrics of priority and fairness, under upstream's stable names.

use telemetry::metrics::{CounterVec, GaugeVec, HistogramVec, counter_vec, gauge_vec, histogram_vec};

const BUCKETS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const BOTH: [&str; 2] = ["priority_level", "flow_schema"];

/// What is counted.
pub(super) struct FlowMetrics {
    pub(super) dispatched: CounterVec,
    pub(super) rejected: CounterVec,
    pub(super) in_queue: GaugeVec,
    pub(super) executing: GaugeVec,
    pub(super) executing_seats: GaugeVec,
    /// With the name of the limit.
    pub(super) limits: [(GaugeVec, &'static str); 4],
    pub(super) wait: HistogramVec,
    pub(super) execution: HistogramVec,
}

fn limit(name: &'static str, help: &'static str) -> GaugeVec {
    gauge_vec(name, help, &["priority_level"])
}

impl FlowMetrics {
    /// Registers them.
    pub(super) fn new() -> Self {
        let gauge = |name, help| gauge_vec(name, help, &BOTH);
        let seconds = |name, help, labels: &[&'static str]| histogram_vec(name, help, labels, &BUCKETS);
        Self {
            dispatched: counter_vec(
                "apiserver_flowcontrol_dispatched_requests_total",
                "Requests that were begun",
                &BOTH,
            ),
            rejected: counter_vec(
                "apiserver_flowcontrol_rejected_requests_total",
                "Requests that were turned away, by why",
                &["priority_level", "flow_schema", "reason"],
            ),
            in_queue: gauge("apiserver_flowcontrol_current_inqueue_requests", "Requests that wait in queues"),
            executing: gauge("apiserver_flowcontrol_current_executing_requests", "Requests that hold seats"),
            executing_seats: gauge("apiserver_flowcontrol_current_executing_seats", "Seats that are held"),
            limits: [
                (limit("apiserver_flowcontrol_nominal_limit_seats", "Seats that a level has by its shares"), "nominal"),
                (limit("apiserver_flowcontrol_lower_limit_seats", "Seats that a level never lends"), "lower"),
                (limit("apiserver_flowcontrol_upper_limit_seats", "Seats that a level can have with loans"), "upper"),
                (limit("apiserver_flowcontrol_current_limit_seats", "Seats that a level can have now"), "current"),
            ],
            wait: seconds(
                "apiserver_flowcontrol_request_wait_duration_seconds",
                "How long requests waited in queues",
                &["priority_level", "flow_schema", "execute"],
            ),
            execution: seconds(
                "apiserver_flowcontrol_request_execution_seconds",
                "How long requests held their seats",
                &["priority_level", "flow_schema", "type"],
            ),
        }
    }
}
