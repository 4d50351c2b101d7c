//! Back-off as upstream's: 10 s doubling to 300 s, over after twice the maximum without a failure.

use std::time::Duration;

use rt::HashMap;
use rt::time::{Timestamp, between};

/// The first delay.
pub const BASE: Duration = Duration::from_secs(10);
/// The longest delay.
pub const MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Clone)]
struct Entry {
    delay: Duration,
    last: Timestamp,
}

/// Delays by key.
#[derive(Debug, Clone)]
pub struct Backoffs {
    base: Duration,
    max: Duration,
    entries: HashMap<String, Entry>,
}

impl Default for Backoffs {
    fn default() -> Self {
        Self::new(BASE, MAX)
    }
}

impl Backoffs {
    /// With other limits.
    #[must_use]
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base: base.min(max), max, entries: HashMap::default() }
    }

    /// While the key has to wait: until when, and the delay in force. `event` is when it failed last.
    #[must_use]
    pub fn waiting(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<(Timestamp, Duration)> {
        let entry = self.entries.get(key)?;
        if self.expired(entry, event) {
            return None;
        }
        let until = event.checked_add(entry.delay).unwrap_or(Timestamp::MAX);
        (now < until).then_some((until, entry.delay))
    }

    /// As [`Backoffs::waiting`], counted from the last [`Backoffs::next`].
    #[must_use]
    pub fn waiting_since_update(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.get(key)?;
        if self.expired(entry, now) {
            return None;
        }
        let until = entry.last.checked_add(entry.delay).unwrap_or(Timestamp::MAX);
        (now < until).then_some(until)
    }

    /// Counts a failure at `event`: the next one waits twice as long.
    pub fn next(&mut self, key: &str, event: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(key) {
            Some(entry) if !self.expired(entry, event) => (entry.delay * 2).min(self.max),
            _ => self.base,
        };
        self.entries.insert(key.to_owned(), Entry { delay, last: now });
    }

    /// Forgets a key.
    pub fn reset(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn expired(&self, entry: &Entry, event: Timestamp) -> bool {
        between(entry.last, event) > self.max * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn delays_double_to_the_maximum_and_start_over() {
        let mut backoffs = Backoffs::default();
        assert_eq!(backoffs.waiting("a", at(0), at(0)), None);
        let (mut delays, mut now) = (Vec::new(), 0);
        for _ in 0..7 {
            backoffs.next("a", at(now), at(now));
            let (until, delay) = backoffs.waiting("a", at(now), at(now)).unwrap();
            assert_eq!(until, at(now + i64::try_from(delay.as_secs()).unwrap()));
            delays.push(delay.as_secs());
            now = until.as_second() - 1_700_000_000;
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoffs.waiting("a", at(now + 601), at(now + 601)), None);
        backoffs.next("a", at(now + 601), at(now + 601));
        assert_eq!(backoffs.waiting("a", at(now + 601), at(now + 601)).unwrap().1.as_secs(), 10);
    }
}
