//! The queue: active, back-off and unschedulable pods.
//!
//! A pod that fits nowhere waits in *unschedulable* until an event that one of the plugins which rejected it
//! asked for. Events that come while a pod is being decided on are remembered, so that none is lost. A pod
//! that failed before waits its back-off out (1 s doubling to 10 s) before it is tried again. After five minutes a
//! pod is tried again in any case, as upstream does against missing hints.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rt::HashMap;
use rt::sync::Notify;
use rt::time::Instant;

use crate::events::ClusterEvent;
use crate::pod_info::PodInfo;

const BASE_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
const STALE_AFTER: Duration = Duration::from_secs(300);
/// Most events remembered for pods in flight; beyond, such pods are tried again in any case.
const MAX_EVENTS: usize = 4096;

/// A pod in the queue.
#[derive(Clone)]
pub(crate) struct Queued {
    pub(crate) info: Arc<PodInfo>,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// Since when it waits, for the order among equals.
    since: Instant,
    /// Until when it may not be tried.
    backoff_until: Instant,
    /// The plugins that rejected it last, one bit each by place in the profile.
    pub(crate) rejected_by: u64,
    /// The number of the first event that came after it was taken.
    taken_at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    Backoff,
    Unschedulable,
    /// Not to be tried at all until it changes (gates).
    Gated,
}

struct Entry {
    pod: Queued,
    place: Place,
    ticket: u64,
}

#[derive(PartialEq, Eq)]
struct Rank {
    priority: i32,
    since: Reverse<Instant>,
    ticket: Reverse<u64>,
    uid: String,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.priority, self.since, self.ticket).cmp(&(other.priority, other.since, other.ticket))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    active: BinaryHeap<Rank>,
    /// Times at which pods leave back-off or grow stale; entries of the heap may be outdated.
    timers: BinaryHeap<Reverse<(Instant, u64, String)>>,
    tickets: u64,
    in_flight: HashMap<String, u64>,
    events: VecDeque<ClusterEvent>,
    first_event: u64,
}

/// Decides whether an event may help a pod that the given plugins rejected.
pub(crate) type Helps<'a> = &'a dyn Fn(&PodInfo, u64, &ClusterEvent) -> bool;

/// See the module.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

impl Queue {
    /// Adds a pod, or replaces its older state. `gated` keeps it out until it changes.
    pub(crate) fn upsert(&self, info: Arc<PodInfo>, gated: bool) {
        let mut state = self.state.lock();
        if state.in_flight.contains_key(&info.uid) {
            return;
        }
        let now = Instant::now();
        let known = state.entries.remove(&info.uid);
        let (pod, place) = match known {
            Some(entry) if entry.place == Place::Unschedulable && !gated => {
                let place = if entry.pod.backoff_until > now { Place::Backoff } else { Place::Active };
                (Queued { info, ..entry.pod }, place)
            }
            Some(entry) if entry.place == Place::Gated || gated => {
                (Queued { info, ..entry.pod }, if gated { Place::Gated } else { Place::Active })
            }
            Some(entry) => (Queued { info, ..entry.pod }, entry.place),
            None => {
                let fresh = Queued { info, attempts: 0, since: now, backoff_until: now, rejected_by: 0, taken_at: 0 };
                (fresh, if gated { Place::Gated } else { Place::Active })
            }
        };
        state.put(pod, place);
        drop(state);
        self.wake.notify_one();
    }

    /// Forgets a pod.
    pub(crate) fn remove(&self, uid: &str) {
        self.state.lock().entries.remove(uid);
    }

    /// Takes the next pod; it is in flight until [`Queue::done`] or [`Queue::reject`]. Cancel-safe.
    pub(crate) async fn pop(&self) -> Queued {
        loop {
            let notified = self.wake.notified();
            let next = {
                let mut state = self.state.lock();
                state.ripen(Instant::now());
                if let Some(pod) = state.take() {
                    return pod;
                }
                state.timers.peek().map(|Reverse((at, _, _))| *at)
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

    /// Takes the next pod if one is ready.
    pub(crate) fn try_pop(&self) -> Option<Queued> {
        let mut state = self.state.lock();
        state.ripen(Instant::now());
        state.take()
    }

    /// The pod is bound, or gone.
    pub(crate) fn done(&self, uid: &str) {
        let mut state = self.state.lock();
        state.in_flight.remove(uid);
        state.trim_events();
    }

    /// The pod fits nowhere, or its binding failed (`rejected_by` 0: tried again after its back-off).
    pub(crate) fn reject(&self, mut pod: Queued, rejected_by: u64, helps: Helps<'_>) {
        let mut state = self.state.lock();
        state.in_flight.remove(&pod.info.uid);
        let now = Instant::now();
        let factor = 1u32.checked_shl(pod.attempts.saturating_sub(1).min(8)).unwrap_or(u32::MAX);
        pod.backoff_until = now + BASE_BACKOFF.saturating_mul(factor).min(MAX_BACKOFF);
        pod.rejected_by = rejected_by;
        let forgotten = pod.taken_at < state.first_event;
        let missed = usize::try_from(pod.taken_at.saturating_sub(state.first_event)).unwrap_or(usize::MAX);
        let helped = state.events.iter().skip(missed).any(|event| helps(&pod.info, rejected_by, event));
        let place = if rejected_by == 0 || helped || forgotten { Place::Backoff } else { Place::Unschedulable };
        state.put(pod, place);
        state.trim_events();
        drop(state);
        self.wake.notify_one();
    }

    /// Something happened: pods that it may help are tried again.
    pub(crate) fn event(&self, event: ClusterEvent, helps: Helps<'_>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let helped: Vec<String> = state
            .entries
            .iter()
            .filter(|(_, e)| e.place == Place::Unschedulable && helps(&e.pod.info, e.pod.rejected_by, &event))
            .map(|(uid, _)| uid.clone())
            .collect();
        let any = !helped.is_empty();
        for uid in helped {
            if let Some(entry) = state.entries.remove(&uid) {
                let place = if entry.pod.backoff_until > now { Place::Backoff } else { Place::Active };
                state.put(entry.pod, place);
            }
        }
        if !state.in_flight.is_empty() {
            state.events.push_back(event);
            if state.events.len() > MAX_EVENTS {
                state.events.pop_front();
                state.first_event += 1;
            }
        }
        drop(state);
        if any {
            self.wake.notify_one();
        }
    }

    /// How many pods are in the queue, by place: active, back-off, unschedulable (gated ones included).
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let state = self.state.lock();
        let count = |place| state.entries.values().filter(|e| e.place == place).count();
        (count(Place::Active), count(Place::Backoff), count(Place::Unschedulable) + count(Place::Gated))
    }
}

impl State {
    fn put(&mut self, pod: Queued, place: Place) {
        self.tickets += 1;
        let ticket = self.tickets;
        let uid = pod.info.uid.clone();
        match place {
            Place::Active => self.active.push(Rank {
                priority: pod.info.priority,
                since: Reverse(pod.since),
                ticket: Reverse(ticket),
                uid: uid.clone(),
            }),
            Place::Backoff => self.timers.push(Reverse((pod.backoff_until, ticket, uid.clone()))),
            Place::Unschedulable => {
                self.timers.push(Reverse((Instant::now() + STALE_AFTER, ticket, uid.clone())));
            }
            Place::Gated => {}
        }
        self.entries.insert(uid, Entry { pod, place, ticket });
    }

    fn take(&mut self) -> Option<Queued> {
        while let Some(rank) = self.active.pop() {
            let current = self.entries.get(&rank.uid).is_some_and(|e| e.ticket == rank.ticket.0);
            if !current {
                continue;
            }
            let mut pod = self.entries.remove(&rank.uid)?.pod;
            pod.attempts += 1;
            pod.taken_at = self.first_event + self.events.len() as u64;
            self.in_flight.insert(rank.uid, pod.taken_at);
            return Some(pod);
        }
        None
    }

    fn ripen(&mut self, now: Instant) {
        while let Some(Reverse((at, _, _))) = self.timers.peek() {
            if *at > now {
                return;
            }
            let Some(Reverse((_, ticket, uid))) = self.timers.pop() else { return };
            if self.entries.get(&uid).is_some_and(|e| e.ticket == ticket)
                && let Some(entry) = self.entries.remove(&uid)
            {
                self.put(entry.pod, Place::Active);
            }
        }
    }

    /// Drops the events that no pod in flight can have missed.
    fn trim_events(&mut self) {
        let end = self.first_event + self.events.len() as u64;
        let oldest = self.in_flight.values().copied().min().unwrap_or(end);
        while self.first_event < oldest && self.events.pop_front().is_some() {
            self.first_event += 1;
        }
    }
}

#[cfg(test)]
mod tests;
