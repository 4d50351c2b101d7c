//! A registry of metrics per process, with Prometheus' text output.
//!
//! Names are registered once; registering a name again gives the same metric, so that components started twice in one process
//! share it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets.
    pub fn set(&self, to: i64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// Adds (or subtracts).
    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A distribution.
#[derive(Debug)]
pub struct Histogram {
    bounds: Arc<[f64]>,
    counts: Box<[AtomicU64]>,
    sum: Mutex<f64>,
}

impl Histogram {
    fn new(bounds: Arc<[f64]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: Mutex::new(0.0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        *self.sum.lock() += value;
    }
}

/// Metrics of one name by label values.
#[derive(Debug)]
struct Family<M> {
    labels: Vec<String>,
    members: RwLock<BTreeMap<Vec<String>, Arc<M>>>,
    /// The same by the values joined, for look-ups without copies.
    joined: RwLock<HashMap<String, Arc<M>>>,
}

impl<M> Family<M> {
    fn with(&self, values: &[&str], make: impl FnOnce() -> M) -> Arc<M> {
        let joined = values.join("\0");
        if let Some(member) = self.joined.read().get(&joined) {
            return member.clone();
        }
        let key: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        let member = self.members.write().entry(key).or_insert_with(|| Arc::new(make())).clone();
        self.joined.write().insert(joined, member.clone());
        member
    }
}

/// Counters by labels.
#[derive(Debug, Clone)]
pub struct CounterVec(Arc<Family<Counter>>);

/// Gauges by labels.
#[derive(Debug, Clone)]
pub struct GaugeVec(Arc<Family<Gauge>>);

/// Histograms by labels.
#[derive(Debug, Clone)]
pub struct HistogramVec(Arc<Family<Histogram>>, Arc<[f64]>);

impl CounterVec {
    /// The counter with these label values, in the labels' order.
    pub fn with(&self, values: &[&str]) -> Arc<Counter> {
        self.0.with(values, Counter::default)
    }
}

impl GaugeVec {
    /// The gauge with these label values.
    pub fn with(&self, values: &[&str]) -> Arc<Gauge> {
        self.0.with(values, Gauge::default)
    }
}

impl HistogramVec {
    /// The histogram with these label values.
    pub fn with(&self, values: &[&str]) -> Arc<Histogram> {
        self.0.with(values, || Histogram::new(self.1.clone()))
    }
}

#[derive(Clone)]
enum Metric {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
}

fn all() -> &'static RwLock<BTreeMap<String, (String, Metric)>> {
    static ALL: OnceLock<RwLock<BTreeMap<String, (String, Metric)>>> = OnceLock::new();
    ALL.get_or_init(RwLock::default)
}

fn family<M>(labels: &[&str]) -> Arc<Family<M>> {
    Arc::new(Family {
        labels: labels.iter().map(|l| (*l).to_owned()).collect(),
        members: RwLock::default(),
        joined: RwLock::default(),
    })
}

fn register(name: &str, help: &str, metric: Metric) -> Metric {
    all().write().entry(name.to_owned()).or_insert_with(|| (help.to_owned(), metric)).1.clone()
}

/// Registers counters. A name that is taken by another type of metric gives one that is not shown.
pub fn counter_vec(name: &str, help: &str, labels: &[&str]) -> CounterVec {
    let fresh = CounterVec(family(labels));
    match register(name, help, Metric::Counter(fresh.clone())) {
        Metric::Counter(found) => found,
        _ => fresh,
    }
}

/// Registers gauges, as [`counter_vec`].
pub fn gauge_vec(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    let fresh = GaugeVec(family(labels));
    match register(name, help, Metric::Gauge(fresh.clone())) {
        Metric::Gauge(found) => found,
        _ => fresh,
    }
}

/// Registers histograms, as [`counter_vec`]. `bounds` ascend.
pub fn histogram_vec(name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> HistogramVec {
    let fresh = HistogramVec(family(labels), bounds.into());
    match register(name, help, Metric::Histogram(fresh.clone())) {
        Metric::Histogram(found) => found,
        _ => fresh,
    }
}

/// All metrics in Prometheus' text format.
pub fn render() -> String {
    let mut out = String::new();
    for (name, (help, metric)) in all().read().iter() {
        let kind = match metric {
            Metric::Counter(_) => "counter",
            Metric::Gauge(_) => "gauge",
            Metric::Histogram(_) => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        match metric {
            Metric::Counter(family) => family.0.members.read().iter().for_each(|(values, counter)| {
                let _ = writeln!(out, "{name}{} {}", labels(&family.0.labels, values, None), counter.get());
            }),
            Metric::Gauge(family) => family.0.members.read().iter().for_each(|(values, gauge)| {
                let _ = writeln!(out, "{name}{} {}", labels(&family.0.labels, values, None), gauge.get());
            }),
            Metric::Histogram(family) => family.0.members.read().iter().for_each(|(values, histogram)| {
                render_histogram(&mut out, name, &family.0.labels, values, histogram);
            }),
        }
    }
    out
}

fn render_histogram(out: &mut String, name: &str, names: &[String], values: &[String], histogram: &Histogram) {
    let mut total = 0;
    for (at, count) in histogram.counts.iter().enumerate() {
        total += count.load(Ordering::Relaxed);
        let bound = histogram.bounds.get(at).map_or("+Inf".to_owned(), f64::to_string);
        let _ = writeln!(out, "{name}_bucket{} {total}", labels(names, values, Some(&bound)));
    }
    let plain = labels(names, values, None);
    let _ = writeln!(out, "{name}_sum{plain} {}\n{name}_count{plain} {total}", *histogram.sum.lock());
}

fn labels(names: &[String], values: &[String], bound: Option<&str>) -> String {
    let mut pairs: Vec<String> = names
        .iter()
        .zip(values)
        .map(|(n, v)| format!("{n}=\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")))
        .collect();
    pairs.extend(bound.map(|b| format!("le=\"{b}\"")));
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn renders_every_type() {
        let counter = super::counter_vec("t_total", "Counts.", &["a"]);
        counter.with(&["x\"y"]).add(2);
        super::histogram_vec("t_seconds", "Takes.", &[], &[0.5, 1.0]).with(&[]).observe(0.7);
        let text = super::render();
        assert!(text.contains("t_total{a=\"x\\\"y\"} 2\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{le=\"0.5\"} 0\nt_seconds_bucket{le=\"1\"} 1\n"), "{text}");
        assert!(text.contains("t_seconds_count 1\n"), "{text}");
    }
}
