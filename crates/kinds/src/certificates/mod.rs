//! The group `certificates.k8s.io`.

mod certificate_signing_request;

use registry::KindRow;

/// The API group.
const GROUP: &str = "certificates.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![certificate_signing_request::row()]
}
