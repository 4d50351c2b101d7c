//! Controllers of Services.

pub(crate) mod endpointslice;
