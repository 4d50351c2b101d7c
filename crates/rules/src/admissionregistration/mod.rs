//! The group `admissionregistration.k8s.io`.

pub mod policy;
pub mod webhook;
