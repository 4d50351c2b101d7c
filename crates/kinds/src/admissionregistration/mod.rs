//! The group `admissionregistration.k8s.io`.

mod policy;
mod webhook;

use registry::KindRow;

/// The API group.
const GROUP: &str = "admissionregistration.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    let mut rows = policy::rows();
    rows.extend([webhook::mutating(), webhook::validating()]);
    rows
}
