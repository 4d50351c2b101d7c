//! Custom resources: definitions become rows of the registry.

mod codec;
mod columns;
mod controller;
mod convert;
mod jsonpath;
mod prune;
mod rules;
mod strategy;
mod validate;

pub(crate) use controller::start;
