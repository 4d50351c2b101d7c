//! Typed kinds; the only user of k8s-openapi.
//!
//! Controllers, scheduler and kubelet work on these structs; the API server and its rules on
//! `meta::Object`. [`Kind`] joins a struct to its names.

mod kind;
pub mod prelude;

pub use k8s_openapi;
pub use k8s_openapi::api as k8s;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
pub use kind::{DecodeError, Kind, from_json, from_object, from_value, to_object};
