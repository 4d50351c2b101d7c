//! What mutating webhooks remember between the two runs of the mutating chain.

use std::collections::BTreeSet;

use meta::Object;
use parking_lot::Mutex;

#[derive(Default)]
struct State {
    second: bool,
    changed: bool,
    /// Webhooks called so far that want to be called again after later changes.
    waiting: BTreeSet<String>,
    /// Webhooks to call in the second run.
    again: BTreeSet<String>,
    /// The object after the last webhook.
    output: Option<Object>,
}

/// One request's runs of the mutating chain: a first one, and a second one when a webhook changed the object.
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

    /// At the start of the webhooks' part: changes by other plugins since the first run count like those of webhooks.
    pub(super) fn enter(&self, object: Option<&Object>) {
        let mut state = self.0.lock();
        if state.second && state.output.as_ref() != object {
            let mut waiting = std::mem::take(&mut state.waiting);
            state.again.append(&mut waiting);
        }
    }

    /// Whether a webhook is to be called in this run.
    pub(super) fn wants(&self, webhook: &str) -> bool {
        let state = self.0.lock();
        !state.second || state.again.contains(webhook)
    }

    /// A webhook was called.
    pub(super) fn called(&self, webhook: &str, changed: bool, reinvoke: bool) {
        let mut state = self.0.lock();
        if changed {
            let mut waiting = std::mem::take(&mut state.waiting);
            state.again.append(&mut waiting);
            state.changed = true;
        }
        if reinvoke {
            state.waiting.insert(webhook.to_owned());
        }
    }

    /// At the end of the webhooks' part.
    pub(super) fn leave(&self, object: Option<&Object>) {
        let mut state = self.0.lock();
        // The copy is only needed to see what the second run finds.
        if state.changed && !state.second {
            state.output = object.cloned();
        }
    }
}
