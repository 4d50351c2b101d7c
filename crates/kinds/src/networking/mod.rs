//! The group `networking.k8s.io`.

mod ingress;
mod ingress_class;
mod ip_address;
mod network_policy;
mod service_cidr;

use registry::KindRow;

/// The API group.
const GROUP: &str = "networking.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![ingress_class::row(), ingress::row(), ip_address::row(), network_policy::row(), service_cidr::row()]
}
