//! Request metrics with upstream's names.

use std::time::Duration;

use http::{Response, StatusCode};
use telemetry::metrics::{CounterVec, HistogramVec};
use wire::Body;

use crate::respond::bytes_response;
use crate::server::State;

/// Metrics of requests.
pub(crate) struct Metrics {
    requests: CounterVec,
    durations: HistogramVec,
}

const BUCKETS: [f64; 12] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 60.0];

impl Metrics {
    /// Registers the metrics with the process's registry.
    pub fn new() -> Self {
        Self {
            requests: telemetry::metrics::counter_vec(
                "apiserver_request_total",
                "Counter of apiserver requests broken out for each verb, group, version, resource, and HTTP response code.",
                &["verb", "group", "version", "resource", "subresource", "code"],
            ),
            durations: telemetry::metrics::histogram_vec(
                "apiserver_request_duration_seconds",
                "Response latency distribution in seconds for each verb, group, version and resource.",
                &["verb", "group", "version", "resource", "subresource"],
                &BUCKETS,
            ),
        }
    }

    /// Counts a finished request: (verb, resource, group, version, subresource).
    pub fn observe(&self, of: (&str, String, String, String, String), code: u16, took: Duration) {
        // Only names that are served become labels: a client must not be able to make new ones.
        let (verb, resource, group, version, subresource) = of;
        if code == 404 || resource.is_empty() {
            return;
        }
        let verb = verb.to_uppercase();
        let code = code.to_string();
        self.requests.with(&[&verb, &group, &version, &resource, &subresource, &code]).add(1);
        self.durations.with(&[&verb, &group, &version, &resource, &subresource]).observe(took.as_secs_f64());
    }
}

/// `/metrics`.
pub(crate) fn answer(state: &State) -> Response<Body> {
    let mut text = telemetry::metrics::render();
    text.push_str("# HELP apiserver_storage_objects Number of stored objects in the watch caches.\n");
    text.push_str("# TYPE apiserver_storage_objects gauge\n");
    for resource in state.registry.all() {
        if let Some(count) = resource.cached_objects() {
            text.push_str(&format!(
                "apiserver_storage_objects{{resource=\"{}\"}} {count}\n",
                resource.row.group_resource()
            ));
        }
    }
    bytes_response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}
