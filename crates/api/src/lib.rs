//! Typed kinds; the only user of k8s-openapi.
//!
//! Controllers, scheduler and kubelet work on these structs; the API server and its rules on `meta::Object`. [`Kind`]
//! joins a struct to its names; [`Coded`] reads and writes it: straight from protobuf bytes ([`decode`]), from and to
//! trees ([`from_object`], [`to_object`]), to protobuf ([`encode_protobuf`]).

mod coded;
mod descriptions;
mod kind;
mod kinds;
pub mod prelude;

pub use coded::{Coded, DecodeError, decode, encode_protobuf, from_json, from_object, from_value, quantity, to_object};
pub use descriptions::Descriptions;
pub use k8s_openapi;
pub use k8s_openapi::api as k8s;
pub use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
pub use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
pub use kind::Kind;

#[cfg(test)]
mod tests;
