//! Admission webhooks: MutatingAdmissionWebhook and ValidatingAdmissionWebhook.

mod call;
pub(crate) mod config;
mod http;
pub(crate) mod matching;
pub(crate) mod mutating;
pub(crate) mod review;
mod round;
mod validating;

use std::sync::Arc;

use crate::plugin::{Deps, Plugin};

pub use call::{CallError, Caller, Target};
pub use http::HttpCaller;
pub(crate) use round::Part;
pub use round::Round;

fn caller(deps: &Deps) -> Arc<dyn Caller> {
    deps.webhooks.clone().unwrap_or_else(|| Arc::new(HttpCaller::new(deps.api.clone())))
}

/// The plugin MutatingAdmissionWebhook.
pub fn mutating(deps: &Deps) -> Arc<dyn Plugin> {
    Arc::new(mutating::Mutating::new(caller(deps)))
}

/// The plugin ValidatingAdmissionWebhook.
pub fn validating(deps: &Deps) -> Arc<dyn Plugin> {
    Arc::new(validating::Validating::new(caller(deps)))
}

#[cfg(test)]
mod tests;
