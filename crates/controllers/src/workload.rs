//! Controllers that make pods.

pub(crate) mod deployment;
pub(crate) mod pod_control;
pub(crate) mod replicas;
pub(crate) mod replicaset;
pub(crate) mod replicationcontroller;
