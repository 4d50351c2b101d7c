//! The queue: active, back-off and unschedulable pods.
//!
//! A pod that fits nowhere waits in *unschedulable* until an event that one of the plugins which rejected it asked for.
//! Events that come while a pod is being decided on are remembered, so that none is lost. A pod that failed before waits
//! its back-off out (1 s doubling to 10 s), or until nothing else is to be done: back-off keeps pods from crowding out
//! others, and an idle scheduler has no others; only failures of the scheduler itself wait in any case. After five
//! minutes a pod is tried again whatever happened, as upstream does against missing hints.
//!
//! A pod may be *held*: events that would help it are noted, and it comes back when the hold ends. Preemption holds its
//! pod while victims are being deleted, and the writer of a pod's status while the write is under way.

mod state;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rt::sync::Notify;
use rt::time::Instant;

use self::state::{Place, State};
use crate::events::ClusterEvent;
use crate::pod_info::PodInfo;

/// Times of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) initial: Duration,
    pub(crate) max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), max: Duration::from_secs(10) }
    }
}

impl Backoff {
    fn after(self, attempts: u32) -> Duration {
        let factor = 1u32.checked_shl(attempts.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.max)
    }
}

/// A pod in the queue.
#[derive(Clone)]
pub(crate) struct Queued {
    pub(crate) info: Arc<PodInfo>,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// When it came first.
    pub(crate) arrived: Instant,
    /// Since when it waits, for the order among equals.
    since: Instant,
    /// Until when it may not be tried.
    backoff_until: Instant,
    /// The plugins that rejected it last, one bit each by place in the profile.
    pub(crate) rejected_by: u64,
    /// The number of the first event that came after it was taken.
    taken_at: u64,
}

/// Decides whether an event may help a pod that the given plugins rejected.
pub(crate) type Helps<'a> = &'a dyn Fn(&PodInfo, u64, &ClusterEvent) -> bool;

/// See the module.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    backoff: Backoff,
}

impl Queue {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, ..Self::default() }
    }

    /// Adds a pod, or replaces its older state. `gated` keeps it out until it changes; `change` says what is new of a pod
    /// that is known, when it may matter.
    pub(crate) fn upsert(&self, info: Arc<PodInfo>, gated: bool, change: Option<ClusterEvent>, helps: Helps<'_>) {
        let mut state = self.state.lock();
        if state.is_in_flight(&info.uid) {
            if let Some(change) = change {
                state.remember(change);
            }
            return;
        }
        let now = Instant::now();
        let Some(known) = state.forget(&info.uid) else {
            let fresh =
                Queued { info, attempts: 0, arrived: now, since: now, backoff_until: now, rejected_by: 0, taken_at: 0 };
            state.put(fresh, if gated { Place::Gated } else { Place::Active });
            drop(state);
            self.wake.notify_one();
            return;
        };
        let place = match known.place {
            _ if gated => Place::Gated,
            Place::Gated => Place::Active,
            Place::Unschedulable => {
                let helped = change.is_some_and(|event| helps(&info, known.pod.rejected_by, &event));
                if helped && !state.miss(&info.uid) { back(&known.pod, now) } else { Place::Unschedulable }
            }
            place => place,
        };
        state.put(Queued { info, ..known.pod }, place);
        drop(state);
        self.wake.notify_one();
    }

    /// Forgets a pod.
    pub(crate) fn remove(&self, uid: &str) {
        self.state.lock().forget(uid);
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
                state.next_timer()
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

    /// Takes a pod out of its turn, wherever it waits; none when it is kept out, held, or not there.
    pub(crate) fn take_one(&self, uid: &str) -> Option<Queued> {
        self.state.lock().take_one(uid)
    }

    /// The pod is bound, or gone.
    pub(crate) fn done(&self, uid: &str) {
        self.state.lock().land(uid);
    }

    /// The pod fits nowhere, or the scheduler failed (`rejected_by` 0: tried again after its back-off).
    pub(crate) fn reject(&self, mut pod: Queued, rejected_by: u64, helps: Helps<'_>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        pod.since = now;
        pod.backoff_until = now + self.backoff.after(pod.attempts);
        pod.rejected_by = rejected_by;
        let helped = rejected_by != 0 && state.was_helped(&pod, rejected_by, helps);
        state.land(&pod.info.uid);
        let place = match rejected_by {
            0 => Place::Failed,
            _ if helped && !state.miss(&pod.info.uid) => Place::Backoff,
            _ => Place::Unschedulable,
        };
        state.put(pod, place);
        drop(state);
        self.wake.notify_one();
    }

    /// Something happened: pods that it may help are tried again.
    pub(crate) fn event(&self, event: ClusterEvent, helps: Helps<'_>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let mut any = false;
        for uid in state.helped(&event, helps) {
            if state.miss(&uid) {
                continue;
            }
            if let Some(entry) = state.forget(&uid) {
                let place = back(&entry.pod, now);
                state.put(entry.pod, place);
                any = true;
            }
        }
        state.remember(event);
        drop(state);
        if any {
            self.wake.notify_one();
        }
    }

    /// Lets pods in that were kept out and may come now.
    pub(crate) fn ungate(&self, free: &dyn Fn(&PodInfo) -> bool) {
        let mut state = self.state.lock();
        let freed: Vec<String> = state.gated(free);
        for uid in &freed {
            if let Some(entry) = state.forget(uid) {
                state.put(entry.pod, Place::Active);
            }
        }
        drop(state);
        if !freed.is_empty() {
            self.wake.notify_one();
        }
    }

    /// Keeps a pod from coming back until [`Queue::release`], as often as it was held.
    pub(crate) fn hold(&self, uid: &str) {
        self.state.lock().hold(uid);
    }

    /// Ends a hold. A pod that an event would have helped meanwhile, or that `again` is asked for, comes back.
    pub(crate) fn release(&self, uid: &str, again: bool) {
        let mut state = self.state.lock();
        if !state.release(uid, again) || !state.is_parked(uid) {
            return;
        }
        if let Some(entry) = state.forget(uid) {
            let place = back(&entry.pod, Instant::now());
            state.put(entry.pod, place);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// How many pods are in the queue, by place: active, back-off, unschedulable, gated.
    pub(crate) fn counts(&self) -> (usize, usize, usize, usize) {
        self.state.lock().counts()
    }
}

/// Where a pod goes that may be tried again.
fn back(pod: &Queued, now: Instant) -> Place {
    if pod.backoff_until > now { Place::Backoff } else { Place::Active }
}

#[cfg(test)]
mod tests;
