//! Predicates, pod requests, quota evaluation, tolerations and references to owners.
//!
//! Pure readings of typed objects that the scheduler, the kubelet and controllers must make alike.

pub mod node_affinity;
pub mod numbers;
pub mod owner;
pub mod pods;
pub mod quota;
pub mod requests;
pub mod tolerations;
pub mod tree;
pub mod trim;
