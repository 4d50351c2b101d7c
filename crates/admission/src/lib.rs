//! The admission framework and its plugins.
//!
//! [`PLUGINS`] is the table in upstream's order, [`select`] reads the flags, [`Chain`] is what the pipeline calls through
//! [`registry::Admit`], [`RegistryLookup`] gives plugins, authenticators and authorizers their view of the storage.

mod chain;
mod lookup;
mod plugin;
mod plugins;
mod pod;
pub mod webhook;

pub use chain::{Chain, PLUGINS, PluginRow, select};
pub use lookup::RegistryLookup;
pub use plugin::{Deps, Plugin, Request, Settings};

#[cfg(test)]
mod tests;
