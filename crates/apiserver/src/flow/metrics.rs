//! Metrics of priority and fairness, under upstream's stable names.

use super::borrow::Figures;
use telemetry::metrics::{CounterVec, GaugeVec, HistogramVec, counter_vec, gauge_vec, histogram_vec};

const BUCKETS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const LENGTHS: [f64; 9] = [0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 5000.0];
const BOTH: [&str; 2] = ["priority_level", "flow_schema"];

/// What is counted.
pub(super) struct FlowMetrics {
    pub(super) dispatched: CounterVec,
    pub(super) rejected: CounterVec,
    pub(super) in_queue: GaugeVec,
    pub(super) executing: GaugeVec,
    pub(super) executing_seats: GaugeVec,
    pub(super) in_queue_seats: GaugeVec,
    pub(super) queue_length: HistogramVec,
    pub(super) estimated: HistogramVec,
    pub(super) fair_fraction: GaugeVec,
    /// Nominal, lower and upper.
    pub(super) limits: [GaugeVec; 3],
    current: GaugeVec,
    target: GaugeVec,
    /// High watermark, average, deviation, smoothed.
    demand: [GaugeVec; 4],
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
            in_queue_seats: gauge("apiserver_flowcontrol_current_inqueue_seats", "Seats that waiting requests want"),
            queue_length: histogram_vec(
                "apiserver_flowcontrol_request_queue_length_after_enqueue",
                "Length of queue in this server, as seen by each request after it is enqueued",
                &BOTH,
                &LENGTHS,
            ),
            estimated: histogram_vec(
                "apiserver_flowcontrol_work_estimated_seats",
                "Number of estimated seats associated with requests",
                &BOTH,
                &[1.0, 2.0, 4.0, 10.0],
            ),
            fair_fraction: gauge_vec(
                "apiserver_flowcontrol_seat_fair_frac",
                "Fair fraction of server's concurrency to allocate to each priority level that can use it",
                &[],
            ),
            limits: [
                limit("apiserver_flowcontrol_nominal_limit_seats", "Seats that a level has by its shares"),
                limit("apiserver_flowcontrol_lower_limit_seats", "Seats that a level never lends"),
                limit("apiserver_flowcontrol_upper_limit_seats", "Seats that a level can have with loans"),
            ],
            current: limit("apiserver_flowcontrol_current_limit_seats", "Seats that a level can have now"),
            target: limit("apiserver_flowcontrol_target_seats", "Seat allocation targets"),
            demand: [
                limit(
                    "apiserver_flowcontrol_demand_seats_high_watermark",
                    "High watermark, over last adjustment period, of demand_seats",
                ),
                limit(
                    "apiserver_flowcontrol_demand_seats_average",
                    "Time-weighted average, over last adjustment period, of demand_seats",
                ),
                limit(
                    "apiserver_flowcontrol_demand_seats_stdev",
                    "Time-weighted standard deviation, over last adjustment period, of demand_seats",
                ),
                limit("apiserver_flowcontrol_demand_seats_smoothed", "Smoothed seat demands"),
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

    /// A level's limit was set anew; gauges have whole numbers.
    pub(super) fn adjusted(&self, level: &str, current: u32, target: f64, figures: &Figures) {
        self.current.with(&[level]).set(current.into());
        self.target.with(&[level]).set(target.round() as i64);
        let values = [figures.highest, figures.average, figures.deviation, figures.smoothed];
        for (gauge, value) in self.demand.iter().zip(values) {
            gauge.with(&[level]).set(value.round() as i64);
        }
    }
}
