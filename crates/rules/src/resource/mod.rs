//! The group `resource.k8s.io`.

pub mod claim;
pub mod device_class;
pub mod slice;
