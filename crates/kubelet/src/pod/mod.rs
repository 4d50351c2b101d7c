//! Pods: what is wanted (`plan`, pure), what is there (`observed`), what is told (`status`), and the worker that acts.

pub mod backoff;
pub mod conditions;
pub mod labels;
pub mod observed;
pub mod phase;
pub mod plan;
mod plan_init;
pub mod qos;
pub mod restart;
pub mod status;
