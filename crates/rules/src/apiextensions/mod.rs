//! The groups `apiextensions.k8s.io` and `apiregistration.k8s.io`.

pub mod api_service;
pub mod convert;
pub mod custom_resource_definition;
mod expressions;
mod schema;
