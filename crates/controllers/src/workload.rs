//! Controllers that make pods.

pub(crate) mod cronjob;
pub(crate) mod daemonset;
pub(crate) mod deployment;
pub(crate) mod disruption;
pub(crate) mod follow;
pub(crate) mod history;
pub(crate) mod horizontal;
pub(crate) mod job;
pub(crate) mod pod_control;
pub(crate) mod replicas;
pub(crate) mod replicaset;
pub(crate) mod replicationcontroller;
pub(crate) mod share;
pub(crate) mod statefulset;
pub(crate) mod ttl_after_finished;
pub(crate) mod writes;
