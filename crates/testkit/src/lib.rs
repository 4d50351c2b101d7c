//! Contract suites.

pub mod etcd;
pub mod store;
