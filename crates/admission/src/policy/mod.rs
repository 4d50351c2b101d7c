//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy, and the match conditions that webhooks share with them.
//!
//! A [`source::Source`] follows policies and bindings by watches and keeps them compiled, so that a request without a
//! matching policy costs a look at a list. Expressions are evaluated by crate `celx`; evaluation is synchronous, and when
//! it needs an answer of the authorizer it ends, the answer is fetched, and it begins again ([`answers`]).

mod answers;
mod apply;
mod compile;
mod conditions;
mod evaluate;
mod mutating;
mod params;
mod select;
mod source;
mod validating;

use std::sync::Arc;

use crate::plugin::{Deps, Plugin};

pub(crate) use conditions::Conditions;
pub(crate) use evaluate::{Failure, Subject};

/// The plugin ValidatingAdmissionPolicy.
pub fn validating(deps: &Deps) -> Arc<dyn Plugin> {
    Arc::new(validating::Validating::new(deps.api.clone()))
}

/// The plugin MutatingAdmissionPolicy.
pub fn mutating(deps: &Deps) -> Arc<dyn Plugin> {
    Arc::new(mutating::Mutating::new(deps.api.clone()))
}

#[cfg(test)]
mod tests;
