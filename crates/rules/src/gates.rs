//! Feature gates that rules look at. They are of the process, as upstream's: defaults are filled in where no server is known.

use std::sync::atomic::{AtomicBool, Ordering};

/// A gate, off until a server says otherwise.
#[derive(Debug)]
pub struct Switch(AtomicBool);

impl Switch {
    const fn off() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Turns the gate on or off.
    pub fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// GenericWorkload: without it pods have no `schedulingGroup`.
pub static GENERIC_WORKLOAD: Switch = Switch::off();
