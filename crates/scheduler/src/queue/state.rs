//! What the queue keeps under its lock.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rt::time::Instant;
use rt::{HashMap, HashSet};

use super::{Helps, Queued};
use crate::events::ClusterEvent;
use crate::pod_info::PodInfo;

const STALE_AFTER: Duration = Duration::from_secs(300);
/// Most events remembered for pods in flight; beyond, such pods are tried again in any case.
const MAX_EVENTS: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Active,
    /// Waits, but may be tried when nothing else is to be done.
    Backoff,
    /// Waits after a failure of the scheduler.
    Failed,
    Unschedulable,
    /// Not to be tried at all until it changes (gates).
    Gated,
}

pub(super) struct Entry {
    pub(super) pod: Queued,
    pub(super) place: Place,
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

type Timers = BinaryHeap<Reverse<(Instant, u64, String)>>;

#[derive(Default)]
struct Hold {
    count: u32,
    missed: bool,
}

#[derive(Default)]
pub(super) struct State {
    entries: HashMap<String, Entry>,
    parked: HashSet<String>,
    gated: HashSet<String>,
    active: BinaryHeap<Rank>,
    /// Pods in back-off by its end; entries of this and the next heap may be outdated.
    backoff: Timers,
    /// Times at which pods leave the back-off after a failure, or grow stale.
    timers: Timers,
    tickets: u64,
    held: HashMap<String, Hold>,
    in_flight: HashMap<String, u64>,
    events: VecDeque<ClusterEvent>,
    first_event: u64,
}

impl State {
    pub(super) fn put(&mut self, pod: Queued, place: Place) {
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
            Place::Backoff => self.backoff.push(Reverse((pod.backoff_until, ticket, uid.clone()))),
            Place::Failed => self.timers.push(Reverse((pod.backoff_until, ticket, uid.clone()))),
            Place::Unschedulable => {
                self.parked.insert(uid.clone());
                self.timers.push(Reverse((Instant::now() + STALE_AFTER, ticket, uid.clone())));
            }
            Place::Gated => {
                self.gated.insert(uid.clone());
            }
        }
        self.entries.insert(uid, Entry { pod, place, ticket });
    }

    pub(super) fn forget(&mut self, uid: &str) -> Option<Entry> {
        self.parked.remove(uid);
        self.gated.remove(uid);
        self.entries.remove(uid)
    }

    fn is_current(&self, uid: &str, ticket: u64) -> bool {
        self.entries.get(uid).is_some_and(|e| e.ticket == ticket)
    }

    pub(super) fn take(&mut self) -> Option<Queued> {
        while let Some(rank) = self.active.pop() {
            if self.is_current(&rank.uid, rank.ticket.0) {
                return self.lift(&rank.uid);
            }
        }
        while let Some(Reverse((_, ticket, uid))) = self.backoff.pop() {
            if self.is_current(&uid, ticket) {
                return self.lift(&uid);
            }
        }
        None
    }

    pub(super) fn take_one(&mut self, uid: &str) -> Option<Queued> {
        let kept_out = self.gated.contains(uid) || self.held.contains_key(uid);
        if kept_out { None } else { self.lift(uid) }
    }

    fn lift(&mut self, uid: &str) -> Option<Queued> {
        let mut pod = self.forget(uid)?.pod;
        pod.attempts += 1;
        pod.taken_at = self.first_event + self.events.len() as u64;
        self.in_flight.insert(uid.to_owned(), pod.taken_at);
        Some(pod)
    }

    pub(super) fn ripen(&mut self, now: Instant) {
        for which in [0, 1] {
            loop {
                let timers = if which == 0 { &mut self.timers } else { &mut self.backoff };
                if timers.peek().is_none_or(|Reverse((at, _, _))| *at > now) {
                    break;
                }
                let Some(Reverse((_, ticket, uid))) = timers.pop() else { break };
                if self.is_current(&uid, ticket)
                    && let Some(entry) = self.forget(&uid)
                {
                    self.put(entry.pod, Place::Active);
                }
            }
        }
    }

    /// When something is to be done next. Pods in back-off are no reason to wait: they are taken when nothing else is.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _, _))| *at)
    }

    pub(super) fn is_in_flight(&self, uid: &str) -> bool {
        self.in_flight.contains_key(uid)
    }

    pub(super) fn is_parked(&self, uid: &str) -> bool {
        self.parked.contains(uid)
    }

    pub(super) fn land(&mut self, uid: &str) {
        self.in_flight.remove(uid);
        let end = self.first_event + self.events.len() as u64;
        let oldest = self.in_flight.values().copied().min().unwrap_or(end);
        // Events that no pod in flight can have missed are of no use any more.
        while self.first_event < oldest && self.events.pop_front().is_some() {
            self.first_event += 1;
        }
    }

    pub(super) fn remember(&mut self, event: ClusterEvent) {
        if self.in_flight.is_empty() {
            return;
        }
        self.events.push_back(event);
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
            self.first_event += 1;
        }
    }

    /// Whether an event that came while the pod was in flight may help it.
    pub(super) fn was_helped(&self, pod: &Queued, rejected_by: u64, helps: Helps<'_>) -> bool {
        let forgotten = pod.taken_at < self.first_event;
        let missed = usize::try_from(pod.taken_at.saturating_sub(self.first_event)).unwrap_or(usize::MAX);
        forgotten || self.events.iter().skip(missed).any(|event| helps(&pod.info, rejected_by, event))
    }

    /// The waiting pods that an event may help.
    pub(super) fn helped(&self, event: &ClusterEvent, helps: Helps<'_>) -> Vec<String> {
        let may = |uid: &&String| self.entries.get(*uid).is_some_and(|e| helps(&e.pod.info, e.pod.rejected_by, event));
        self.parked.iter().filter(may).cloned().collect()
    }

    /// The pods kept out that may come in now.
    pub(super) fn gated(&self, free: &dyn Fn(&PodInfo) -> bool) -> Vec<String> {
        let may = |uid: &&String| self.entries.get(*uid).is_some_and(|e| free(&e.pod.info));
        self.gated.iter().filter(may).cloned().collect()
    }

    pub(super) fn hold(&mut self, uid: &str) {
        self.held.entry(uid.to_owned()).or_default().count += 1;
    }

    /// Notes that a held pod would have come back; `false` when it is not held.
    pub(super) fn miss(&mut self, uid: &str) -> bool {
        self.held.get_mut(uid).map(|hold| hold.missed = true).is_some()
    }

    /// Ends a hold; whether it was the last one, and the pod is to come back.
    pub(super) fn release(&mut self, uid: &str, again: bool) -> bool {
        let Some(hold) = self.held.get_mut(uid) else { return again };
        hold.missed |= again;
        hold.count = hold.count.saturating_sub(1);
        if hold.count > 0 {
            return false;
        }
        self.held.remove(uid).is_some_and(|hold| hold.missed)
    }

    pub(super) fn counts(&self) -> (usize, usize, usize, usize) {
        let count = |places: &[Place]| self.entries.values().filter(|e| places.contains(&e.place)).count();
        (
            count(&[Place::Active]),
            count(&[Place::Backoff, Place::Failed]),
            count(&[Place::Unschedulable]),
            count(&[Place::Gated]),
        )
    }
}
