//! Authorizers: RBAC and Node, always-allow and always-deny, and their union with `system:masters` in front.
//!
//! [`Authorizers::start`] builds the modes of `--authorization-mode` over an [`auth_api::Lookup`] and keeps their indexes fed
//! from its watches. [`bootstrap::reconcile`] writes upstream's bootstrap policy. [`rbac::Escalation`] answers whether a user
//! may write a role or a binding; the strategies or admission ask it.

pub mod bootstrap;
mod feed;
mod node;
pub mod rbac;
mod union;

pub use node::NodeAuthorizer;
pub use rbac::RbacAuthorizer;
pub use union::{Authorizers, Mode};

#[cfg(test)]
mod tests;
