//! The clock: wall time for API objects, monotonic time for waiting.
//!
//! In a simulation the runtime's time is paused and wall time is an epoch plus the simulated time gone.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub use jiff::{SignedDuration, Timestamp};
pub use tokio::time::error::Elapsed;
pub use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at};

static EPOCH: OnceLock<(Timestamp, Instant)> = OnceLock::new();

/// Fixes wall time to `epoch` plus the runtime's time from now on. For simulations; once per process.
pub fn set_epoch(epoch: Timestamp) {
    // A second call changes nothing: a simulation has one epoch.
    let _ = EPOCH.set((epoch, Instant::now()));
}

/// How far simulated wall time has been set forward, in milliseconds.
static JUMPED: AtomicI64 = AtomicI64::new(0);

/// Sets simulated wall time forward, or back, as an operator or a time server does; waiting does not notice. Without an
/// epoch it does nothing.
pub fn jump(by: SignedDuration) {
    JUMPED.fetch_add(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::Relaxed);
}

/// Wall time.
pub fn now() -> Timestamp {
    match EPOCH.get() {
        None => Timestamp::now(),
        Some((epoch, start)) => {
            let gone = SignedDuration::try_from(start.elapsed()).unwrap_or(SignedDuration::MAX);
            let jumped = SignedDuration::from_millis(JUMPED.load(Ordering::Relaxed));
            epoch.checked_add(gone.saturating_add(jumped)).unwrap_or(Timestamp::MAX)
        }
    }
}

/// Wall time in whole seconds since 1970.
pub fn unix_seconds() -> i64 {
    now().as_second()
}

/// The time from `earlier` until `later`, zero when it is negative.
pub fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

/// The time since a moment of wall time, zero when it lies ahead.
pub fn since(earlier: Timestamp) -> Duration {
    between(earlier, now())
}
