//! The proxy's metrics under upstream's names, as text.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Upper bounds of the sync histogram in seconds: powers of two from a millisecond, as upstream's.
const BUCKETS: usize = 15;

#[derive(Default)]
struct Histogram {
    counts: [u64; BUCKETS],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, seconds: f64) {
        self.count += 1;
        self.sum += seconds;
        for (i, slot) in self.counts.iter_mut().enumerate() {
            if seconds <= 0.001 * f64::from(1u32 << i) {
                *slot += 1;
            }
        }
    }

    fn text(&self, name: &str, out: &mut String) {
        let _ = writeln!(out, "# TYPE {name} histogram");
        for (i, n) in self.counts.iter().enumerate() {
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {n}", 0.001 * f64::from(1u32 << i));
        }
        let _ = writeln!(
            out,
            "{name}_bucket{{le=\"+Inf\"}} {}\n{name}_sum {}\n{name}_count {}",
            self.count, self.sum, self.count
        );
    }
}

#[derive(Default)]
struct Inner {
    sync: Histogram,
    full: Histogram,
    partial: Histogram,
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
}

/// All metrics of one proxy.
#[derive(Default)]
pub struct Metrics {
    inner: Mutex<Inner>,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Metrics {
    /// A sync took this long.
    pub fn synced(&self, took: Duration, full: bool) {
        let mut inner = self.inner.lock();
        let seconds = took.as_secs_f64();
        inner.sync.observe(seconds);
        if full {
            inner.full.observe(seconds)
        } else {
            inner.partial.observe(seconds)
        }
        inner.gauges.insert("kubeproxy_sync_proxy_rules_last_timestamp_seconds".into(), now());
    }

    /// A change came in.
    pub fn queued(&self) {
        self.inner.lock().gauges.insert("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds".into(), now());
    }

    /// Counts; the name carries its labels.
    pub fn count(&self, name: &str, by: u64) {
        *self.inner.lock().counters.entry(name.to_owned()).or_default() += by;
    }

    /// Sets a gauge; the name carries its labels.
    pub fn gauge(&self, name: &str, value: f64) {
        self.inner.lock().gauges.insert(name.to_owned(), value);
    }

    /// Prometheus' text form.
    pub fn text(&self) -> String {
        let inner = self.inner.lock();
        let mut out = String::new();
        inner.sync.text("kubeproxy_sync_proxy_rules_duration_seconds", &mut out);
        inner.full.text("kubeproxy_sync_full_proxy_rules_duration_seconds", &mut out);
        inner.partial.text("kubeproxy_sync_partial_proxy_rules_duration_seconds", &mut out);
        let mut family = "";
        let scalars = inner
            .counters
            .iter()
            .map(|(n, v)| (n, *v as f64, "counter"))
            .chain(inner.gauges.iter().map(|(n, v)| (n, *v, "gauge")));
        for (name, value, kind) in scalars {
            let base = name.split('{').next().unwrap_or(name);
            if base != family {
                let _ = writeln!(out, "# TYPE {base} {kind}");
                family = base;
            }
            let _ = writeln!(out, "{name} {value}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let metrics = Metrics::default();
        metrics.synced(Duration::from_millis(3), true);
        metrics.count("kubeproxy_proxy_healthz_total{code=\"200\"}", 2);
        let text = metrics.text();
        assert!(text.contains("kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.002\"} 0\n"), "{text}");
        assert!(text.contains("kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.004\"} 1\n"));
        assert!(
            text.contains(
                "# TYPE kubeproxy_proxy_healthz_total counter\nkubeproxy_proxy_healthz_total{code=\"200\"} 2\n"
            )
        );
    }
}
