//! What the kubelets said, and the rates between two looks (upstream's metrics-server, its store).

use rt::HashMap;

use crate::text::lines;

/// A container must be at least this old for its start to serve as an earlier sample.
const YOUNGEST_MS: i64 = 1_000;
/// Older starts than this are no sample: the rate would be an average over its whole life.
const OLDEST_MS: i64 = 60_000;

/// One reading of a node or container.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Point {
    /// Milliseconds since 1970.
    pub(crate) time: i64,
    /// When the container started, 0 when that is not known.
    pub(crate) start: i64,
    /// Seconds of CPU since its start.
    pub(crate) cpu: f64,
    /// Working set in bytes.
    pub(crate) memory: u64,
    /// Whether both were told.
    whole: (bool, bool),
}

/// Usage over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// Thousand-millionths of a core.
    pub(crate) nano_cores: u64,
    /// Bytes.
    pub(crate) memory: u64,
    /// The window's end, in milliseconds since 1970.
    pub(crate) time: i64,
    /// The window, in milliseconds.
    pub(crate) window: i64,
}

/// The containers of a pod by name.
type Containers = std::collections::BTreeMap<String, Point>;

/// What one look at all nodes told.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    nodes: HashMap<String, Point>,
    pods: HashMap<(String, String), Containers>,
}

impl Batch {
    /// Takes in a kubelet's text; `now` is for samples without a time.
    pub(crate) fn read(&mut self, node: &str, text: &str, now: i64) {
        let mut own = Point::default();
        for line in lines(text) {
            let at = line.time.unwrap_or(now);
            match line.name {
                "node_cpu_usage_seconds_total" => {
                    (own.cpu, own.time, own.whole.0) = (line.value, at, true);
                }
                "node_memory_working_set_bytes" => (own.memory, own.whole.1) = (line.value as u64, true),
                "container_cpu_usage_seconds_total"
                | "container_memory_working_set_bytes"
                | "container_start_time_seconds" => {
                    let key = (line.label("namespace").to_owned(), line.label("pod").to_owned());
                    let point =
                        self.pods.entry(key).or_default().entry(line.label("container").to_owned()).or_default();
                    match line.name {
                        "container_cpu_usage_seconds_total" => {
                            (point.cpu, point.time, point.whole.0) = (line.value, at, true);
                        }
                        "container_memory_working_set_bytes" => {
                            (point.memory, point.whole.1) = (line.value as u64, true);
                        }
                        _ => point.start = (line.value * 1000.0) as i64,
                    }
                }
                _ => {}
            }
        }
        if own.whole == (true, true) {
            self.nodes.insert(node.to_owned(), own);
        }
    }
}

/// The last look and the one before.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    last: Batch,
    before: Batch,
}

fn usage(last: Point, before: Option<Point>) -> Option<Usage> {
    if last.whole != (true, true) {
        return None;
    }
    let same_run = |p: &Point| p.whole.0 && p.time < last.time && p.cpu <= last.cpu && p.start >= last.start;
    let (since, cpu) = match before.filter(same_run) {
        Some(before) => (before.time, before.cpu),
        // It began between the looks.
        None if last.start > 0 && (YOUNGEST_MS..OLDEST_MS).contains(&(last.time - last.start)) => (last.start, 0.0),
        None => return None,
    };
    let window = last.time - since;
    let nano_cores = ((last.cpu - cpu) * 1e12 / window as f64) as u64;
    Some(Usage { nano_cores, memory: last.memory, time: last.time, window })
}

impl Samples {
    /// Puts in a new look. What a kubelet told unchanged keeps its older counterpart.
    pub(crate) fn put(&mut self, mut new: Batch) {
        let keep = |new: &Point, last: Option<&Point>| last.is_some_and(|last| last.time >= new.time);
        let mut before = std::mem::take(&mut self.last);
        for (name, point) in &mut new.nodes {
            if keep(point, before.nodes.get(name))
                && let Some(older) = self.before.nodes.get(name)
            {
                before.nodes.insert(name.clone(), *older);
            }
        }
        for (key, containers) in &new.pods {
            for (name, point) in containers {
                let last = before.pods.get(key).and_then(|c| c.get(name));
                if keep(point, last)
                    && let Some(older) = self.before.pods.get(key).and_then(|c| c.get(name))
                {
                    before.pods.entry(key.clone()).or_default().insert(name.clone(), *older);
                }
            }
        }
        (self.last, self.before) = (new, before);
    }

    /// A node's usage.
    pub(crate) fn node(&self, name: &str) -> Option<Usage> {
        usage(*self.last.nodes.get(name)?, self.before.nodes.get(name).copied())
    }

    /// The usage of a pod's containers; none unless all of them are known.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Vec<(String, Usage)>> {
        let key = (namespace.to_owned(), name.to_owned());
        let (last, before) = (self.last.pods.get(&key)?, self.before.pods.get(&key));
        let found: Option<Vec<_>> = last
            .iter()
            .map(|(name, point)| Some((name.clone(), usage(*point, before.and_then(|b| b.get(name)).copied())?)))
            .collect();
        found.filter(|all| !all.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: f64, memory: u64, at: i64, start: f64) -> String {
        let labels = "container=\"c\",namespace=\"n\",pod=\"p\"";
        format!(
            "container_cpu_usage_seconds_total{{{labels}}} {seconds} {at}\n\
             container_memory_working_set_bytes{{{labels}}} {memory} {at}\n\
             container_start_time_seconds{{{labels}}} {start}\n\
             node_cpu_usage_seconds_total {seconds} {at}\nnode_memory_working_set_bytes {memory} {at}\n"
        )
    }

    fn after(looks: &[(f64, i64, f64)]) -> Samples {
        let mut samples = Samples::default();
        for (seconds, at, start) in looks {
            let mut batch = Batch::default();
            batch.read("one", &text(*seconds, 4096, *at, *start), 0);
            samples.put(batch);
        }
        samples
    }

    #[test]
    fn rates_between_two_looks() {
        let (old, young) = (1.0, 99.0);
        for (looks, want, why) in [
            (vec![(1.0, 100_000, old)], None, "one look at an old container"),
            (vec![(1.0, 101_000, young)], Some(500_000_000), "its start is the first look"),
            (vec![(1.0, 100_000, old), (3.0, 104_000, old)], Some(500_000_000), "two looks"),
            (vec![(1.0, 100_000, old), (3.0, 104_000, old), (3.0, 104_000, old)], Some(500_000_000), "told twice"),
            (vec![(9.0, 100_000, old), (1.0, 104_000, 102.0)], Some(500_000_000), "restarted in between"),
        ] {
            let found = after(&looks).pod("n", "p").map(|c| c[0].1.nano_cores);
            assert_eq!(found, want, "{why}");
        }
        let samples = after(&[(1.0, 100_000, old), (3.0, 104_000, old)]);
        assert_eq!(samples.node("one").map(|u| (u.window, u.memory)), Some((4000, 4096)));
        assert!(samples.pod("n", "other").is_none());
    }
}
