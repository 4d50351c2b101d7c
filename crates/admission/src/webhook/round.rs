//! What mutating webhooks and policies remember between the two runs of the mutating chain.

use std::collections::BTreeSet;

use meta::Object;
use parking_lot::Mutex;

/// Whose memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Webhooks,
    Policies,
}

#[derive(Default)]
struct Memory {
    /// Whether anything of this part ran.
    entered: bool,
    /// Called so far, wanting to be called again after later changes.
    waiting: BTreeSet<String>,
    /// To call in the second run.
    again: BTreeSet<String>,
    /// The object after the last call.
    output: Option<Object>,
}

#[derive(Default)]
struct State {
    second: bool,
    changed: bool,
    parts: [Memory; 2],
}

/// One request's runs of the mutating chain: a first one, and a second one when a webhook or a policy changed the
/// object.
#[derive(Default)]
pub struct Round(Mutex<State>);

impl Round {
    /// Whether a second run is due; begins it.
    pub(crate) fn begin_second(&self) -> bool {
        let mut state = self.0.lock();
        let due = state.changed && !state.second;
        state.second |= due;
        due
    }

    /// The run's number, from 0.
    pub(crate) fn number(&self) -> u8 {
        u8::from(self.0.lock().second)
    }

    /// At the start of a part: changes by others since the first run count like its own.
    pub(crate) fn enter(&self, part: Part, object: Option<&Object>) {
        let mut state = self.0.lock();
        let second = state.second;
        let memory = &mut state.parts[part as usize];
        if second && memory.entered && memory.output.as_ref() != object {
            let mut waiting = std::mem::take(&mut memory.waiting);
            memory.again.append(&mut waiting);
        }
        memory.entered = true;
    }

    /// Whether one is to be called in this run.
    pub(crate) fn wants(&self, part: Part, name: &str) -> bool {
        let state = self.0.lock();
        !state.second || state.parts[part as usize].again.contains(name)
    }

    /// One was called.
    pub(crate) fn called(&self, part: Part, name: &str, changed: bool, reinvoke: bool) {
        let mut state = self.0.lock();
        state.changed |= changed;
        let memory = &mut state.parts[part as usize];
        if changed {
            let mut waiting = std::mem::take(&mut memory.waiting);
            memory.again.append(&mut waiting);
        }
        if reinvoke {
            memory.waiting.insert(name.to_owned());
        }
    }

    /// At the end of a part.
    pub(crate) fn leave(&self, part: Part, object: Option<&Object>) {
        let mut state = self.0.lock();
        // The copy is only needed to see what the second run finds.
        if state.changed && !state.second {
            state.parts[part as usize].output = object.cloned();
        }
    }
}
