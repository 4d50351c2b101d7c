//! Authorizers: RBAC and Node, ABAC, webhooks, always-allow and always-deny, and their union with `system:masters` in front.
//!
//! [`Authorizers::start`] builds the modes of `--authorization-mode` over an [`auth_api::Lookup`] and keeps their indexes fed
//! from its watches. [`bootstrap::reconcile`] writes upstream's bootstrap policy. [`rbac::Escalation`] answers whether a user
//! may write a role or a binding; the strategies or admission ask it.

mod abac;
pub mod bootstrap;
pub mod config;
mod feed;
mod metrics;
mod node;
pub mod rbac;
mod union;
mod webhook;

pub use abac::Abac;
pub use node::NodeAuthorizer;
pub use rbac::RbacAuthorizer;
pub use union::{Authorizers, Member, Mode};
pub use webhook::{Webhook, WebhookOptions};

#[cfg(test)]
mod tests;
