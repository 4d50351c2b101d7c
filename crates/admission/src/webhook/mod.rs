//! Admission webhooks: MutatingAdmissionWebhook and ValidatingAdmissionWebhook.

mod call;
pub(crate) mod config;
mod credentials;
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

fn caller(deps: &Deps, plugin: &str) -> Result<Arc<dyn Caller>, String> {
    let credentials = credentials::Credentials::of(&deps.settings.configs, plugin)?;
    let usual = || Arc::new(HttpCaller::with_credentials(deps.api.clone(), credentials)) as Arc<dyn Caller>;
    Ok(deps.webhooks.clone().unwrap_or_else(usual))
}

/// The plugin MutatingAdmissionWebhook.
///
/// # Errors
/// Its configuration cannot be used.
pub fn mutating(deps: &Deps) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(mutating::Mutating::new(caller(deps, "MutatingAdmissionWebhook")?)))
}

/// The plugin ValidatingAdmissionWebhook.
///
/// # Errors
/// Its configuration cannot be used.
pub fn validating(deps: &Deps) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(validating::Validating::new(caller(deps, "ValidatingAdmissionWebhook")?)))
}

#[cfg(test)]
mod tests;
