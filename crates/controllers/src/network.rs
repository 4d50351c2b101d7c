//! Controllers of Services.

pub(crate) mod backends;
pub(crate) mod endpoints;
pub(crate) mod endpointslice;
pub(crate) mod mirror;
pub(crate) mod service_cidr;
pub(crate) mod service_lb;
