//! What happened, as a hash and, when asked for, as lines.

use std::fmt::Arguments;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rt::time::Instant;

struct State {
    hash: u64,
    events: u64,
    print: bool,
    start: Instant,
}

static STATE: OnceLock<Mutex<State>> = OnceLock::new();

/// Begins the trace; once per process.
pub fn begin(print: bool) {
    let state = State { hash: 0xcbf2_9ce4_8422_2325, events: 0, print, start: Instant::now() };
    // A second beginning changes nothing.
    let _ = STATE.set(Mutex::new(state));
}

/// Notes an event with the simulated time.
pub fn note(what: Arguments<'_>) {
    let Some(state) = STATE.get() else { return };
    let mut state = state.lock();
    let line = format!("{:>11.6} {what}", state.start.elapsed().as_secs_f64());
    state.hash = line.bytes().fold(state.hash, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    state.events += 1;
    if state.print {
        println!("{line}");
    }
}

/// The hash of all events, and how many there were.
pub fn end() -> (u64, u64) {
    STATE.get().map(|state| state.lock()).map_or((0, 0), |state| (state.hash, state.events))
}

/// Simulated seconds since the beginning.
pub fn seconds() -> f64 {
    STATE.get().map_or(0.0, |state| state.lock().start.elapsed().as_secs_f64())
}

/// Notes an event: arguments as those of `format!`.
#[macro_export]
macro_rules! note {
    ($($arguments:tt)*) => { $crate::trace::note(format_args!($($arguments)*)) };
}
