//! The store's engines against their contract, a model, and crashes.

mod contract;
mod crash;
mod model;
mod power_loss;
