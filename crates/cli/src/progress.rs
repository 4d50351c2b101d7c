//! Progress lines with the time gone.

use std::time::Instant;

/// Prints what was reached, each line with the seconds since the start. To standard error, so that output stays clean.
pub(crate) struct Progress {
    start: Instant,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Something was reached.
    pub(crate) fn done(&self, what: impl std::fmt::Display) {
        eprintln!("[{:6.2} s] {what}", self.start.elapsed().as_secs_f64());
    }
}
