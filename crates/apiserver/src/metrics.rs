//! Request metrics with upstream's stable names, labels and buckets.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use parking_lot::RwLock;
use telemetry::metrics::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec};
use wire::Body;

use crate::reqinfo::RequestInfo;
use crate::respond::bytes_response;
use crate::server::State;

const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// Powers of ten from a thousand on.
const SIZES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Labels of most of them, in the order in which values are given.
const LABELS: [&str; 7] = ["verb", "group", "version", "resource", "subresource", "scope", "component"];
/// Paths that become labels: a client must not be able to make new ones.
const PATHS: [&str; 9] =
    ["/healthz", "/livez", "/readyz", "/metrics", "/version", "/openapi/v2", "/openapi/v3", "/statusz", "/flagz"];

/// What distinguishes series of requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Series {
    verb: &'static str,
    dry_run: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

impl Series {
    /// The series of a request; `apply` says whether a patch is one.
    pub fn new(info: &RequestInfo, dry_run: bool, apply: bool) -> Self {
        let verb = match info.verb {
            "list" => "LIST",
            "watch" => "WATCH",
            "create" | "post" => "POST",
            "update" | "put" => "PUT",
            "patch" if apply => "APPLY",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            "get" | "head" => "GET",
            _ => "other",
        };
        let connect = matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy");
        let scope = match (info.resource_request, info.name.is_empty() && verb != "POST", info.namespace.is_empty()) {
            (false, ..) => "",
            (true, false, _) => "resource",
            (true, true, false) => "namespace",
            (true, true, true) => "cluster",
        };
        Self {
            verb: if connect { "CONNECT" } else { verb },
            dry_run: if dry_run { "All" } else { "" },
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: if info.resource_request { info.subresource.clone() } else { info.path.clone() },
            scope,
        }
    }

    fn values(&self) -> [&str; 7] {
        [self.verb, &self.group, &self.version, &self.resource, &self.subresource, self.scope, "apiserver"]
    }
}

/// The metrics of one series, found once.
struct Known {
    codes: RwLock<Vec<(u16, Arc<Counter>)>>,
    duration: Arc<Histogram>,
    size: Arc<Histogram>,
}

/// Metrics of requests.
pub(crate) struct Metrics {
    requests: CounterVec,
    durations: HistogramVec,
    sizes: HistogramVec,
    inflight: GaugeVec,
    long_running: GaugeVec,
    deprecated: GaugeVec,
    watch_events: CounterVec,
    checks: GaugeVec,
    checks_total: CounterVec,
    known: RwLock<rt::HashMap<Series, Arc<Known>>>,
}

/// Counts as one while it lives.
pub(crate) struct Held(Arc<Gauge>);

impl Held {
    fn new(gauge: Arc<Gauge>) -> Self {
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

fn with_code(labels: &[&'static str], more: &[&'static str]) -> Vec<&'static str> {
    labels.iter().chain(more).copied().collect()
}

impl Metrics {
    /// Registers the metrics with the process's registry.
    pub fn new() -> Self {
        use telemetry::metrics::{counter_vec, gauge_vec, histogram_vec};
        Self {
            requests: counter_vec(
                "apiserver_request_total",
                "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
                &with_code(&LABELS, &["dry_run", "code"]),
            ),
            durations: histogram_vec(
                "apiserver_request_duration_seconds",
                "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
                &with_code(&LABELS, &["dry_run"]),
                &DURATIONS,
            ),
            sizes: histogram_vec(
                "apiserver_response_sizes",
                "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.",
                &LABELS,
                &SIZES,
            ),
            inflight: gauge_vec(
                "apiserver_current_inflight_requests",
                "[STABLE] Number of requests being served, per request kind.",
                &["request_kind"],
            ),
            long_running: gauge_vec(
                "apiserver_longrunning_requests",
                "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
                &LABELS,
            ),
            deprecated: gauge_vec(
                "apiserver_requested_deprecated_apis",
                "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
                &["group", "version", "resource", "subresource", "removed_release"],
            ),
            watch_events: counter_vec(
                "apiserver_watch_events_total",
                "[ALPHA] Number of events sent in watch clients",
                &["group", "version", "resource"],
            ),
            checks: gauge_vec(
                "kubernetes_healthcheck",
                "[STABLE] This metric records the result of a single healthcheck.",
                &["name", "type"],
            ),
            checks_total: counter_vec(
                "kubernetes_healthchecks_total",
                "[STABLE] This metric records the results of all healthcheck.",
                &["name", "status", "type"],
            ),
            known: RwLock::default(),
        }
    }

    fn known(&self, series: &Series) -> Arc<Known> {
        if let Some(known) = self.known.read().get(series) {
            return known.clone();
        }
        let values = series.values();
        let known = Arc::new(Known {
            codes: RwLock::default(),
            duration: self.durations.with(&[&values[..], &[series.dry_run]].concat()),
            size: self.sizes.with(&values),
        });
        self.known.write().entry(series.clone()).or_insert(known).clone()
    }

    /// Counts a finished request. `size` is the answer's, when it is known.
    pub fn observe(&self, state: &State, series: &Series, code: u16, took: Duration, size: Option<u64>) {
        let served = if series.resource.is_empty() {
            PATHS.contains(&series.subresource.as_str())
        } else {
            let found = state.registry.get(&series.group, &series.resource);
            found.is_some_and(|r| {
                r.row.versions.contains(&series.version)
                    && (series.subresource.is_empty() || r.row.subresource(&series.subresource).is_some())
            })
        };
        if !served {
            return;
        }
        let known = self.known(series);
        let counter = known.codes.read().iter().find(|(c, _)| *c == code).map(|(_, counter)| counter.clone());
        let counter = counter.unwrap_or_else(|| {
            let counter = self.requests.with(&[&series.values()[..], &[series.dry_run, &code.to_string()]].concat());
            known.codes.write().push((code, counter.clone()));
            counter
        });
        counter.add(1);
        known.duration.observe(took.as_secs_f64());
        if let Some(size) = size.filter(|_| matches!(series.verb, "GET" | "LIST")) {
            known.size.observe(size as f64);
        }
    }

    /// Counts a request that is being served.
    pub fn in_flight(&self, read_only: bool) -> Held {
        Held::new(self.inflight.with(&[if read_only { "readOnly" } else { "mutating" }]))
    }

    /// Counts a long-running request of the registry's kinds.
    pub fn long_running(&self, info: &RequestInfo) -> Held {
        Held::new(self.long_running.with(&Series::new(info, false, false).values()))
    }

    /// Notes that a deprecated kind was asked for.
    pub fn deprecated(&self, info: &RequestInfo) {
        let RequestInfo { group, version, resource, subresource, .. } = info;
        self.deprecated.with(&[group, version, resource, subresource, ""]).set(1);
    }

    /// Counts events sent to watchers of one resource.
    pub fn watch_events(&self, info: &RequestInfo) -> Arc<Counter> {
        self.watch_events.with(&[&info.group, &info.version, &info.resource])
    }

    /// Notes the result of a check of `healthz`, `livez` or `readyz`.
    pub fn check(&self, name: &str, kind: &str, ok: bool) {
        self.checks.with(&[name, kind]).set(ok.into());
        self.checks_total.with(&[name, if ok { "success" } else { "error" }, kind]).add(1);
    }
}

fn gates(out: &mut String, gates: &features::Gates) {
    out.push_str("# HELP kubernetes_feature_enabled [BETA] This metric records the data about the stage and enablement of a k8s feature.\n# TYPE kubernetes_feature_enabled gauge\n");
    for gate in features::GATES {
        let stage = match gate.stage {
            features::Stage::Alpha => "ALPHA",
            features::Stage::Beta => "BETA",
            features::Stage::Ga => "",
            features::Stage::Deprecated => "DEPRECATED",
        };
        let on = u8::from(gates.enabled(gate.name));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "kubernetes_feature_enabled{{name=\"{}\",stage=\"{stage}\"}} {on}", gate.name);
    }
}

/// `/metrics`.
pub(crate) async fn answer(state: &State) -> Response<Body> {
    let mut text = telemetry::metrics::render();
    let (mut old, mut new) = (String::new(), String::new());
    for resource in state.registry.all() {
        if let Some(count) = resource.cached_objects() {
            let of = resource.row.group_resource();
            let _ = writeln!(old, "apiserver_storage_objects{{resource=\"{of}\"}} {count}");
            let _ = writeln!(
                new,
                "apiserver_resource_objects{{group=\"{}\",resource=\"{}\"}} {count}",
                resource.row.group, resource.row.plural
            );
        }
    }
    let _ = writeln!(
        text,
        "# HELP apiserver_storage_objects [STABLE] Number of stored objects in the watch caches.\n# TYPE apiserver_storage_objects gauge\n{}",
        old.trim_end()
    );
    let _ = writeln!(
        text,
        "# HELP apiserver_resource_objects [ALPHA] Number of stored objects in the watch caches.\n# TYPE apiserver_resource_objects gauge\n{}",
        new.trim_end()
    );
    if let Ok(status) = state.registry.store().status().await {
        let _ = writeln!(
            text,
            "# HELP apiserver_storage_size_bytes [STABLE] Size of the storage database file physically allocated in bytes.\n# TYPE apiserver_storage_size_bytes gauge\napiserver_storage_size_bytes{{storage_cluster_id=\"etcd-0\"}} {}",
            status.db_size
        );
    }
    gates(&mut text, &state.config.gates);
    let _ = writeln!(
        text,
        "# HELP kubernetes_build_info [BETA] A metric with a constant '1' value labeled by version.\n# TYPE kubernetes_build_info gauge\nkubernetes_build_info{{git_version=\"{}\",major=\"1\",minor=\"36\",platform=\"linux/{}\"}} 1",
        crate::VERSION,
        crate::discovery::architecture(),
    );
    bytes_response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}
