//! Contract suites.

pub mod store;
