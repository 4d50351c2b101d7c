//! A queue of keys that works on each key once at a time.
//!
//! As upstream's work queue: a key that is added while it waits is not added again; one that is added while
//! it is worked on is worked on again afterwards. Its length is bounded by the number of distinct keys.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rt::sync::Notify;
use rt::time::Instant;
use rt::{HashMap, HashSet};
use telemetry::metrics::{Counter, Gauge, Histogram, counter_vec, gauge_vec, histogram_vec};

const BASE_DELAY: Duration = Duration::from_millis(5);
const MAX_DELAY: Duration = Duration::from_secs(1000);

/// Upstream's metrics of a work queue.
struct Measures {
    adds: Arc<Counter>,
    depth: Arc<Gauge>,
    retries: Arc<Counter>,
    waited: Arc<Histogram>,
    worked: Arc<Histogram>,
}

impl Measures {
    fn new(name: &str) -> Self {
        // From ten nanoseconds to ten seconds, as upstream's.
        const BOUNDS: [f64; 10] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];
        let name = name.replace([' ', '-'], "_");
        let counter = |metric: &str, help: &str| counter_vec(metric, help, &["name"]).with(&[&name]);
        let histogram = |metric: &str, help: &str| histogram_vec(metric, help, &["name"], &BOUNDS).with(&[&name]);
        Self {
            adds: counter("workqueue_adds_total", "Total number of adds handled by workqueue"),
            depth: gauge_vec("workqueue_depth", "Current depth of workqueue", &["name"]).with(&[&name]),
            retries: counter("workqueue_retries_total", "Total number of retries handled by workqueue"),
            waited: histogram(
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested.",
            ),
            worked: histogram(
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes.",
            ),
        }
    }
}

struct State<K> {
    ready: VecDeque<(K, Instant)>,
    dirty: HashSet<K>,
    working: HashSet<K>,
    delayed: BinaryHeap<Reverse<(Instant, u64, K)>>,
    // The earliest time at which each delayed key is due; later entries of the heap are stale.
    due: HashMap<K, Instant>,
    sequence: u64,
    failures: HashMap<K, u32>,
    closed: bool,
}

/// A de-duplicating, delaying, rate-limiting queue.
pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    measures: OnceLock<Measures>,
}

impl<K: Clone + Eq + Hash + Ord + Send> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash + Ord + Send> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::default(),
            working: HashSet::default(),
            delayed: BinaryHeap::new(),
            due: HashMap::default(),
            sequence: 0,
            failures: HashMap::default(),
            closed: false,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), measures: OnceLock::new() }
    }

    /// Counts what happens from now on, under a name; the first name stays.
    pub fn measure(&self, name: &str) {
        self.measures.get_or_init(|| Measures::new(name));
    }

    /// Notes how long a key was worked on.
    pub fn worked(&self, took: Duration) {
        if let Some(measures) = self.measures.get() {
            measures.worked.observe(took.as_secs_f64());
        }
    }

    fn told(&self, depth: usize, added: bool) {
        if let Some(measures) = self.measures.get() {
            measures.depth.set(i64::try_from(depth).unwrap_or(i64::MAX));
            measures.adds.add(u64::from(added));
        }
    }

    /// Adds a key.
    pub fn add(&self, key: K) {
        let mut state = self.state.lock();
        let woken = state.add(key);
        let depth = state.ready.len();
        drop(state);
        self.told(depth, true);
        if woken {
            self.wake.notify_one();
        }
    }

    /// Adds a key after a time; of several times the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.state.lock();
        let at = Instant::now() + delay;
        if state.due.get(&key).is_some_and(|due| *due <= at) {
            return;
        }
        state.due.insert(key.clone(), at);
        state.sequence += 1;
        let sequence = state.sequence;
        state.delayed.push(Reverse((at, sequence, key)));
        drop(state);
        self.wake.notify_one();
    }

    /// Adds a key after its back-off: 5 ms, doubling with each failure since the last [`Queue::forget`].
    pub fn add_rate_limited(&self, key: K) {
        let failures = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures += 1;
            *failures
        };
        if let Some(measures) = self.measures.get() {
            measures.retries.add(1);
        }
        let factor = 1u32.checked_shl((failures - 1).min(24)).unwrap_or(u32::MAX);
        self.add_after(key, BASE_DELAY.saturating_mul(factor).min(MAX_DELAY));
    }

    /// Ends a key's back-off.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// How often the key failed since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// How many keys are ready.
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Whether no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next key, which must be given back by [`Queue::done`]; `None` once the queue is closed.
    /// Cancel-safe.
    pub async fn get(&self) -> Option<K> {
        loop {
            let notified = self.wake.notified();
            let next = {
                let mut state = self.state.lock();
                state.ripen(Instant::now());
                if let Some((key, since)) = state.ready.pop_front() {
                    if let Some(measures) = self.measures.get() {
                        measures.waited.observe(since.elapsed().as_secs_f64());
                    }
                    self.told(state.ready.len(), false);
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    let more = !state.ready.is_empty() || !state.delayed.is_empty();
                    drop(state);
                    if more {
                        // Another worker takes the rest, or waits for the delayed keys.
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                if state.closed {
                    drop(state);
                    self.wake.notify_one();
                    return None;
                }
                state.delayed.peek().map(|Reverse((at, _, _))| *at)
            };
            match next {
                None => notified.await,
                Some(at) => rt::select! {
                    () = notified => {}
                    () = rt::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// Gives a key back; it is ready again when it was added meanwhile.
    pub fn done(&self, key: &K) {
        let mut state = self.state.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back((key.clone(), Instant::now()));
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Ends the queue: keys that are ready are still handed out, then workers stop.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    /// Whether a worker is to be woken.
    fn add(&mut self, key: K) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) || self.working.contains(&key) {
            return false;
        }
        self.ready.push_back((key, Instant::now()));
        true
    }

    fn ripen(&mut self, now: Instant) {
        while let Some(Reverse((at, _, _))) = self.delayed.peek() {
            if *at > now {
                return;
            }
            let Some(Reverse((at, _, key))) = self.delayed.pop() else { return };
            if self.due.get(&key) == Some(&at) {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
