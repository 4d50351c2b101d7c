//! Seats, levels and queues.
//!
//! One lock holds all of it: its sections are short, and lending goes across levels.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use meta::Status;
use parking_lot::Mutex;
use rt::sync::oneshot;
use rt::time::{Instant, Timestamp};
use sha2::{Digest, Sha256};

use super::borrow::{Class, Demand, Figures, allocate};
use super::config::{LevelConfig, Queuing};
use super::metrics::FlowMetrics;

/// What a dump shows of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Details {
    pub user: String,
    pub verb: &'static str,
    pub path: String,
    pub namespace: String,
    pub name: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
}

/// A request that wants seats.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub schema: String,
    pub distinguisher: String,
    pub seats: u32,
    pub details: Details,
}

/// A request in a queue.
pub(super) struct Waiting {
    pub id: u64,
    pub arrival: Arc<Arrival>,
    pub arrived: Timestamp,
    grant: Option<oneshot::Sender<()>>,
}

/// One of a level's queues.
#[derive(Default)]
pub(super) struct Queue {
    pub waiting: VecDeque<Waiting>,
    pub executing: u32,
    pub seats: u32,
    /// Virtual time at which its next request begins: what it has had.
    pub start: f64,
}

/// Numbers for dumps.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub dispatched: u64,
    pub rejected: u64,
    pub timed_out: u64,
    pub cancelled: u64,
}

/// A request that runs, for dumps.
pub(super) struct Running {
    pub queue: Option<usize>,
    pub arrival: Arc<Arrival>,
    pub arrived: Timestamp,
    pub started: Timestamp,
}

/// A priority level.
pub(super) struct Level {
    pub config: LevelConfig,
    pub quiescing: bool,
    nominal: u32,
    /// Seats that are never lent.
    min: u32,
    max: u32,
    /// Seats that it may have now, with what is lent to it or by it.
    pub current: u32,
    demand: Demand,
    pub in_use: u32,
    pub waiting: u32,
    waiting_seats: u32,
    pub queues: Vec<Queue>,
    pub running: BTreeMap<u64, Running>,
    pub counts: Counts,
    now: f64,
}

impl Level {
    fn new(config: LevelConfig) -> Self {
        Self {
            config,
            quiescing: false,
            nominal: 0,
            min: 0,
            max: 0,
            current: 0,
            demand: Demand::new(Instant::now()),
            in_use: 0,
            waiting: 0,
            waiting_seats: 0,
            queues: Vec::new(),
            running: BTreeMap::new(),
            counts: Counts::default(),
            now: 0.0,
        }
    }

    pub fn idle(&self) -> bool {
        self.waiting == 0 && self.running.is_empty()
    }

    /// Notes what is wanted now.
    fn note(&mut self) {
        self.demand.set(f64::from(self.in_use) + f64::from(self.waiting_seats), Instant::now());
    }

    /// Whether a request may begin: within the limit of the moment. One wider than that begins when the level is idle.
    fn has_room(&self, seats: u32) -> bool {
        self.in_use == 0 || self.in_use.saturating_add(seats) <= self.current
    }

    /// The queue whose turn it is.
    fn next_queue(&self) -> Option<usize> {
        let busy = self.queues.iter().enumerate().filter(|(_, q)| !q.waiting.is_empty());
        busy.min_by(|(_, a), (_, b)| a.start.total_cmp(&b.start)).map(|(i, _)| i)
    }

    /// Sets the queues up; a change waits until nobody does.
    fn resize(&mut self) {
        let Queuing::Queue { queues, .. } = self.config.queuing else { return };
        if self.queues.len() < queues || self.idle() {
            self.queues.resize_with(queues, Queue::default);
        }
    }

    /// The shortest queue of the flow's hand.
    fn deal(&self, schema: &str, distinguisher: &str) -> usize {
        let Queuing::Queue { hand, .. } = self.config.queuing else { return 0 };
        let digest = Sha256::digest(format!("{schema}\0{distinguisher}"));
        let mut hash = digest.iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let mut dealt: Vec<usize> = Vec::with_capacity(hand);
        for i in 0..hand {
            let left = (self.queues.len() - i) as u64;
            let mut card = usize::try_from(hash % left).unwrap_or(0);
            hash /= left;
            // The card-th of those that were not dealt yet.
            let mut sorted = dealt.clone();
            sorted.sort_unstable();
            for seen in sorted {
                if card >= seen {
                    card += 1;
                }
            }
            dealt.push(card);
        }
        let load = |i: &usize| -> u32 {
            let queue = &self.queues[*i];
            queue.waiting.iter().map(|w| w.arrival.seats).sum::<u32>() + queue.seats
        };
        dealt.into_iter().min_by_key(load).unwrap_or(0)
    }
}

#[derive(Default)]
pub(super) struct Levels {
    pub by_name: BTreeMap<String, Level>,
    waiting: u32,
    last_id: u64,
}

/// The seats of the server.
pub(super) struct Pool {
    seats: u32,
    pub levels: Mutex<Levels>,
    metrics: FlowMetrics,
}

fn too_many() -> Status {
    Status::too_many_requests("Too many requests, please try again later.", 1)
}

/// Seats in use; given back when dropped.
pub(super) struct Ticket {
    pool: Arc<Pool>,
    level: String,
    id: u64,
    started: Instant,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pool.release(&self.level, self.id, self.started);
    }
}

/// A place in a queue; left when dropped before the grant was taken.
struct Place {
    pool: Arc<Pool>,
    level: String,
    id: u64,
    done: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.done && !self.pool.leave(&self.level, self.id, false) {
            self.pool.release(&self.level, self.id, Instant::now());
        }
    }
}

impl Pool {
    pub fn new(seats: u32) -> Self {
        Self { seats, levels: Mutex::default(), metrics: FlowMetrics::new() }
    }

    /// Takes a new configuration. Levels that are gone stay until they are idle.
    pub fn configure(&self, configs: &[LevelConfig]) {
        let mut levels = self.levels.lock();
        let total: u64 = configs.iter().map(|c| u64::from(c.shares)).sum::<u64>().max(1);
        for (name, level) in &mut levels.by_name {
            level.quiescing = !configs.iter().any(|c| c.name == *name);
        }
        for config in configs {
            let share = |part: u64, of: u64, whole: u64| u32::try_from((part * of).div_ceil(whole)).unwrap_or(u32::MAX);
            let nominal = share(u64::from(self.seats), u64::from(config.shares), total);
            let percent = |p: u32| u32::try_from((u64::from(nominal) * u64::from(p) + 50) / 100).unwrap_or(u32::MAX);
            let level = levels.by_name.entry(config.name.clone()).or_insert_with(|| Level::new(config.clone()));
            level.config = config.clone();
            level.nominal = nominal;
            level.min = nominal.saturating_sub(percent(config.lendable_percent));
            level.max = match config.borrowing_percent {
                None => self.seats.max(nominal),
                Some(p) => nominal.saturating_add(percent(p)),
            };
            level.resize();
            for (gauge, value) in self.metrics.limits.iter().zip([nominal, level.min, level.max]) {
                gauge.with(&[&config.name]).set(value.into());
            }
        }
        levels.by_name.retain(|_, level| !(level.quiescing && level.idle()));
        self.share_out(&mut levels);
        self.dispatch(&mut levels);
    }

    /// Ends a period: what levels may have is set anew by what they wanted.
    pub fn adjust(&self) {
        let mut levels = self.levels.lock();
        self.share_out(&mut levels);
        self.dispatch(&mut levels);
    }

    fn share_out(&self, levels: &mut Levels) {
        let now = Instant::now();
        let total: f64 = levels.by_name.values().map(|level| f64::from(level.nominal)).sum();
        let (mut left, mut min_sum, mut least_sum) = (total, 0.0, 0.0);
        let mut classes = Vec::new();
        let mut all: Vec<(&String, &mut Level, Figures)> = Vec::new();
        for (name, level) in &mut levels.by_name {
            let figures = level.demand.take(now);
            let min = f64::from(level.min);
            if level.config.exempt {
                left -= min.max(figures.highest);
            } else {
                let least = min.max(figures.highest.min(f64::from(level.nominal)));
                let most = f64::from(level.max).max(least);
                classes.push(Class { least, most, target: least.max(figures.smoothed) });
                min_sum += min;
                least_sum += least;
            }
            all.push((name, level, figures));
        }
        let (shares, fraction) = if left <= min_sum {
            (None, 0.0)
        } else if left <= least_sum {
            (Some(Err((left - min_sum) / (least_sum - min_sum))), 0.0)
        } else {
            match allocate(total, &classes) {
                Some((shares, fraction)) => (Some(Ok(shares)), fraction),
                None => return,
            }
        };
        self.metrics.fair_fraction.with(&[]).set(fraction.min(1e9).round() as i64);
        let mut at = 0;
        for (name, level, figures) in all {
            let (seats, target) = if level.config.exempt {
                let seats = f64::from(level.min).max(figures.highest);
                (seats, seats)
            } else {
                let (min, class) = (f64::from(level.min), classes[at]);
                let seats = match &shares {
                    None => min,
                    Some(Err(part)) => min + (class.least - min) * part,
                    Some(Ok(shares)) => shares[at],
                };
                at += 1;
                (seats, class.target)
            };
            level.current = seats.round().clamp(0.0, f64::from(u32::MAX)) as u32;
            self.metrics.adjusted(name, level.current, target, &figures);
        }
    }

    pub fn uid(&self, level: &str) -> String {
        self.levels.lock().by_name.get(level).map(|l| l.config.uid.clone()).unwrap_or_default()
    }

    /// Gets seats, after a wait where the level queues.
    pub async fn admit(self: &Arc<Self>, name: &str, arrival: Arrival, patience: Duration) -> Result<Ticket, Status> {
        let (arrival, asked) = (Arc::new(arrival), Instant::now());
        let schema = arrival.schema.clone();
        let (id, granted) = {
            let mut levels = self.levels.lock();
            levels.last_id += 1;
            let id = levels.last_id;
            let free = levels.by_name.get(name).is_some_and(|l| l.waiting == 0 && l.has_room(arrival.seats));
            let Some(level) = levels.by_name.get_mut(name) else { return Err(too_many()) };
            if level.config.exempt || free {
                self.begin(level, id, None, arrival, rt::time::now());
                (id, None)
            } else {
                let granted = self.enqueue(&mut levels, name, id, arrival)?;
                self.dispatch(&mut levels);
                (id, Some(granted))
            }
        };
        if let Some(granted) = granted {
            let mut place = Place { pool: self.clone(), level: name.to_owned(), id, done: false };
            let outcome = rt::time::timeout(patience, granted).await;
            let late = outcome.is_err() && self.leave(name, id, true);
            place.done = true;
            let waited = asked.elapsed().as_secs_f64();
            let executes = if late { "false" } else { "true" };
            self.metrics.wait.with(&[name, &schema, executes]).observe(waited);
            if late {
                self.metrics.rejected.with(&[name, &schema, "time-out"]).add(1);
                return Err(too_many());
            }
        }
        Ok(Ticket { pool: self.clone(), level: name.to_owned(), id, started: Instant::now() })
    }

    fn enqueue(
        &self,
        levels: &mut Levels,
        name: &str,
        id: u64,
        arrival: Arc<Arrival>,
    ) -> Result<oneshot::Receiver<()>, Status> {
        let schema = arrival.schema.clone();
        let Some(level) = levels.by_name.get_mut(name) else { return Err(too_many()) };
        let refuse = |level: &mut Level, reason: &str| {
            level.counts.rejected += 1;
            self.metrics.rejected.with(&[name, &schema, reason]).add(1);
            too_many()
        };
        let Queuing::Queue { length, .. } = level.config.queuing else {
            return Err(refuse(level, "concurrency-limit"));
        };
        let index = level.deal(&arrival.schema, &arrival.distinguisher);
        let now = level.now;
        let queue = &mut level.queues[index];
        if queue.waiting.len() >= length {
            return Err(refuse(level, "queue-full"));
        }
        if queue.waiting.is_empty() {
            queue.start = queue.start.max(now);
        }
        let (grant, granted) = oneshot::channel();
        let seats = arrival.seats;
        queue.waiting.push_back(Waiting { id, arrival, arrived: rt::time::now(), grant: Some(grant) });
        self.metrics.queue_length.with(&[name, &schema]).observe(queue.waiting.len() as f64);
        level.waiting += 1;
        level.waiting_seats += seats;
        level.note();
        levels.waiting += 1;
        self.metrics.in_queue.with(&[name, &schema]).add(1);
        self.metrics.in_queue_seats.with(&[name, &schema]).add(seats.into());
        Ok(granted)
    }

    /// Lets waiting requests begin as long as there are seats for one of them.
    fn dispatch(&self, levels: &mut Levels) {
        while levels.waiting > 0 {
            let ready = levels.by_name.iter().filter_map(|(name, level)| {
                let index = level.next_queue()?;
                let seats = level.queues[index].waiting.front()?.arrival.seats;
                let load = f64::from(level.in_use) / f64::from(level.current.max(1));
                level.has_room(seats).then(|| (load, name.clone(), index))
            });
            let Some((_, name, index)) = ready.min_by(|a, b| a.0.total_cmp(&b.0)) else { return };
            let Some(level) = levels.by_name.get_mut(&name) else { return };
            let Some(mut next) = level.queues[index].waiting.pop_front() else { return };
            let queue = &mut level.queues[index];
            level.now = level.now.max(queue.start);
            queue.start += f64::from(next.arrival.seats);
            level.waiting -= 1;
            level.waiting_seats = level.waiting_seats.saturating_sub(next.arrival.seats);
            let labels = [name.as_str(), next.arrival.schema.as_str()];
            self.metrics.in_queue.with(&labels).add(-1);
            self.metrics.in_queue_seats.with(&labels).add(-i64::from(next.arrival.seats));
            self.begin(level, next.id, Some(index), next.arrival, next.arrived);
            levels.waiting -= 1;
            // One that has gone away gives its seats back when its place is dropped.
            if let Some(grant) = next.grant.take() {
                let _ = grant.send(());
            }
        }
    }

    fn begin(&self, level: &mut Level, id: u64, queue: Option<usize>, arrival: Arc<Arrival>, arrived: Timestamp) {
        let labels = [level.config.name.as_str(), arrival.schema.as_str()];
        self.metrics.dispatched.with(&labels).add(1);
        self.metrics.executing.with(&labels).add(1);
        self.metrics.executing_seats.with(&labels).add(arrival.seats.into());
        self.metrics.estimated.with(&labels).observe(f64::from(arrival.seats));
        level.in_use += arrival.seats;
        level.note();
        level.counts.dispatched += 1;
        if let Some(queue) = queue.and_then(|i| level.queues.get_mut(i)) {
            queue.executing += 1;
            queue.seats += arrival.seats;
        }
        level.running.insert(id, Running { queue, arrival, arrived, started: rt::time::now() });
    }

    /// Takes a request out of its queue; false when it is not in one.
    fn leave(&self, name: &str, id: u64, late: bool) -> bool {
        let mut levels = self.levels.lock();
        let Some(level) = levels.by_name.get_mut(name) else { return false };
        for queue in &mut level.queues {
            let Some(at) = queue.waiting.iter().position(|w| w.id == id) else { continue };
            if let Some(gone) = queue.waiting.remove(at) {
                let labels = [name, gone.arrival.schema.as_str()];
                self.metrics.in_queue.with(&labels).add(-1);
                self.metrics.in_queue_seats.with(&labels).add(-i64::from(gone.arrival.seats));
                level.waiting_seats = level.waiting_seats.saturating_sub(gone.arrival.seats);
            }
            level.waiting -= 1;
            level.note();
            if late {
                level.counts.timed_out += 1;
            } else {
                level.counts.cancelled += 1;
            }
            levels.waiting -= 1;
            return true;
        }
        false
    }

    fn release(&self, name: &str, id: u64, started: Instant) {
        let mut levels = self.levels.lock();
        let Some(level) = levels.by_name.get_mut(name) else { return };
        let Some(gone) = level.running.remove(&id) else { return };
        let seats = gone.arrival.seats;
        level.in_use -= seats;
        level.note();
        if let Some(queue) = gone.queue.and_then(|i| level.queues.get_mut(i)) {
            queue.executing = queue.executing.saturating_sub(1);
            queue.seats = queue.seats.saturating_sub(seats);
        }
        let drop = level.quiescing && level.idle();
        let labels = [name, gone.arrival.schema.as_str()];
        self.metrics.executing.with(&labels).add(-1);
        self.metrics.executing_seats.with(&labels).add(-i64::from(seats));
        let kind = if gone.arrival.details.verb == "watch" { "watch" } else { "regular" };
        self.metrics.execution.with(&[labels[0], labels[1], kind]).observe(started.elapsed().as_secs_f64());
        if drop {
            levels.by_name.remove(name);
        }
        self.dispatch(&mut levels);
    }
}
