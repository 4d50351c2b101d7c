//! The node agent: plan and act per pod.

pub mod k8s;
pub mod pod;
pub mod spec;
