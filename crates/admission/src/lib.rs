//! The admission framework and its plugins.
//!
//! [`PLUGINS`] is the table in upstream's order, [`select`] reads the flags, [`Chain`] is what the pipeline calls through
//! [`registry::Admit`]. Plugins see the storage through `registry::Access`.

mod chain;
mod config;
mod metrics;
mod plugin;
mod plugins;
mod pod;
mod policy;
pub mod webhook;

pub use chain::{Chain, PLUGINS, PluginRow, select};
pub use config::Configs;
pub use plugin::{Deps, Plugin, Request, Settings};

#[cfg(test)]
mod tests;
