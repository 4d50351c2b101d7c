//! The group `autoscaling`.

pub mod convert;
pub mod horizontal_pod_autoscaler;
