//! Exponential back-off without a clock of its own.

use std::time::Duration;

/// Doubling delays with a cap and optional jitter, as upstream's `wait.Backoff`.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    jitter: f64,
    failures: u32,
}

impl Backoff {
    /// Starts at `base` and doubles up to `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, jitter: 0.0, failures: 0 }
    }

    /// Adds up to this fraction of the delay at random, so that many clients do not come back at once.
    #[must_use]
    pub fn with_jitter(mut self, fraction: f64) -> Self {
        self.jitter = fraction;
        self
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let factor = 1u32.checked_shl(self.failures.min(30)).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let delay = self.base.saturating_mul(factor).min(self.cap);
        delay + delay.mul_f64(self.jitter * crate::rand::fraction())
    }

    /// How many delays were taken since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_cap_and_resets() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(35));
        let delays: Vec<u128> = (0..4).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(delays, [10, 20, 35, 35]);
        backoff.reset();
        assert_eq!(backoff.next_delay().as_millis(), 10);
    }
}
