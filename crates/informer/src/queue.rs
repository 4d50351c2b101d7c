//! A queue of keys that works on each key once at a time.
//!
//! As upstream's work queue: a key that is added while it waits is not added again; one that is added while
//! it is worked on is worked on again afterwards. Its length is bounded by the number of distinct keys.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use rt::sync::Notify;
use rt::time::Instant;
use rt::{HashMap, HashSet};

const BASE_DELAY: Duration = Duration::from_millis(5);
const MAX_DELAY: Duration = Duration::from_secs(1000);

struct State<K> {
    ready: VecDeque<K>,
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
        Self { state: Mutex::new(state), wake: Notify::new() }
    }

    /// Adds a key.
    pub fn add(&self, key: K) {
        let mut state = self.state.lock();
        if state.add(key) {
            drop(state);
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
                if let Some(key) = state.ready.pop_front() {
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
            state.ready.push_back(key.clone());
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
        self.ready.push_back(key);
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
